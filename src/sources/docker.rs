//! The containers of one host, running or stopped, by the Docker Engine API, which Podman implements as well
//! (<https://docs.docker.com/reference/api/engine/>).

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::image_syntax::{ParsedImage, parse_image};
use super::{Source, SourceError, SourceEvidence, glob_files, truncate_messages};
use crate::domain::{Claim, Digest, Holder, ImageReference, InvalidDigest, Naming, UnresolvedReference, chain};
use crate::http_client::{ClientConfig, HttpClient, Request, RequestError, RequestErrorKind, RetryPolicy};

/// The socket of a host's engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerSocket {
    /// The Unix socket.
    pub path: PathBuf,
    /// The timeout of one request.
    pub timeout: Duration,
}

/// The containers of the host with an engine at a socket.
#[derive(Debug, Clone)]
pub struct Docker {
    socket: DockerSocket,
    retry_policy: RetryPolicy,
}

/// A container of the list. Podman containers that were created without an image have neither its name nor its id.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireContainer {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    /// The image it was created from: a reference, or an id if the reference names something else now.
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    /// The manifest of its platform, from engines that store indexes.
    #[serde(default)]
    image_manifest_descriptor: Option<WireDescriptor>,
}

#[derive(Deserialize)]
struct WireDescriptor {
    digest: String,
}

/// An image of the host.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireImage {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
}

impl Docker {
    /// Creates a source for that engine. It queries anew on each call.
    #[must_use]
    pub fn new(socket: DockerSocket, patience: RetryPolicy) -> Self {
        Self { socket, retry_policy: patience }
    }

    /// Checks that the engine is listening, before retries are spent on it.
    #[cfg(unix)]
    async fn check_listening(&self) -> Result<(), SourceError> {
        use std::io::ErrorKind;
        let path = self.socket.path.display();
        let Err(error) = tokio::net::UnixStream::connect(&self.socket.path).await else { return Ok(()) };
        let (kind, advice) = match error.kind() {
            ErrorKind::NotFound => {
                ("missing", "start Docker, or Podman's `podman.socket`, or name its socket with `socket`")
            }
            ErrorKind::PermissionDenied => {
                ("denied", "add this user to the group of the socket, which for Docker means to trust it like root")
            }
            ErrorKind::ConnectionRefused => ("connection", "nobody listens there: start Docker, or Podman's service"),
            _ => ("connection", "check that this is the socket of Docker or Podman"),
        };
        Err(SourceError::new(kind, format!("{path} cannot be reached")).caused_by(error).with_help(advice))
    }

    #[cfg(not(unix))]
    async fn knock(&self) -> Result<(), SourceError> {
        Ok(())
    }

    async fn list<T: DeserializeOwned>(&self, client: &HttpClient, path: &str) -> Result<Vec<T>, SourceError> {
        let limit = usize::try_from(glob_files::MAX_FILE_BYTES).unwrap_or(usize::MAX);
        let url = Url::parse(&format!("http://localhost{path}")).expect("the paths asked for are constants that parse");
        let here = |error: RequestError, advice: &'static str| {
            let place = self.socket.path.display().to_string();
            SourceError::new(error.kind.label(), place).caused_by(error).with_help(advice)
        };
        let sent = client.send(&Request::get(url, "application/json", limit), None).await;
        let response = sent.map_err(|error| here(error, "check that Docker or Podman is well"))?;
        if response.status != StatusCode::OK {
            let kind = response.status_error().kind;
            let advice = match kind {
                RequestErrorKind::Denied => "let whatever stands before the socket pass `GET` of containers and images",
                _ => "check that this is the socket of Docker or Podman, and that it is well",
            };
            return Err(here(RequestError::new(kind, response.description()), advice));
        }
        serde_json::from_slice(&response.body).map_err(|error| here(response.unparsable(error), ""))
    }
}

#[async_trait]
impl Source for Docker {
    async fn query(&self, _now: Timestamp) -> Result<SourceEvidence, SourceError> {
        self.check_listening().await?;
        let config = ClientConfig { name: "the engine".into(), ca_file: None, timeout: self.socket.timeout };
        let client = HttpClient::to_socket(&config, self.retry_policy, &self.socket.path)?;
        // The containers first: their images are then among those listed.
        let containers: Vec<WireContainer> = self.list(&client, "/containers/json?all=true").await?;
        let images: Vec<WireImage> = self.list(&client, "/images/json").await?;
        let images: HashMap<&str, &WireImage> = images.iter().map(|image| (hex(&image.id), image)).collect();
        let place = self.socket.path.display().to_string();
        let mut response = SourceEvidence::default();
        let mut problems = Vec::new();
        for container in &containers {
            let name = container.names.iter().flatten().next().map_or("", |name| name.trim_start_matches('/'));
            let name = if name.is_empty() { container.id.get(..12).unwrap_or(&container.id) } else { name };
            if container.image.is_empty() && hex(&container.image_id).is_empty() {
                response.notes.push(format!("container {name} was made from no image"));
                continue;
            }
            let holder = Arc::new(holder(&place, name));
            let first = response.claims.len();
            let mut found = ContainerClaims { evidence: &mut response, first_claim: first, name, holder };
            if let Err(what) = found.add_references(container, images.get(hex(&container.image_id)).copied()) {
                problems.push(format!("container {name}: {what}"));
            }
        }
        if problems.is_empty() {
            response.notes.sort();
            response.notes = truncate_messages(response.notes);
            return Ok(response);
        }
        problems.sort();
        Err(SourceError::new("malformed", truncate_messages(problems).join("\n")))
    }
}

fn holder(place: &str, name: &str) -> Holder {
    Holder::Workload {
        place: place.to_owned(),
        namespace: String::new(),
        kind: "container".to_owned(),
        name: name.to_owned(),
        container: String::new(),
    }
}

/// Returns the value of an id, with or without its algorithm, which older versions of Podman omit.
fn hex(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

/// An answer to which the claims of one container are added.
struct ContainerClaims<'a> {
    evidence: &'a mut SourceEvidence,
    /// The position of the container's first claim.
    first_claim: usize,
    name: &'a str,
    holder: Arc<Holder>,
}

impl ContainerClaims<'_> {
    /// Adds every identity of a container's image: the reference it was created from, the tags and digests by which the
    /// host knows the image, and its id, which is the digest of its configuration or of its manifest, depending on the
    /// host's image store.
    ///
    /// The host's names for the image accompany the id, so that the id does not match images of other names.
    ///
    /// # Errors
    /// Returns an error if the id is not a digest.
    fn add_references(&mut self, container: &WireContainer, image: Option<&WireImage>) -> Result<(), String> {
        let id = hex(&container.image_id);
        // The reference that a container was created from is usually one of the host's names for the image.
        let mut texts = BTreeSet::new();
        // People may have named the image by its id, or by the beginning of it.
        if !container.image.is_empty() && (id.is_empty() || !id.starts_with(hex(&container.image))) {
            texts.insert(container.image.as_str());
        }
        let tags = image.iter().flat_map(|image| image.repo_tags.iter().flatten());
        let digests = image.iter().flat_map(|image| image.repo_digests.iter().flatten());
        texts.extend(tags.chain(digests).map(String::as_str).filter(|text| !text.starts_with("<none>")));
        let names: BTreeSet<ImageReference> = texts.into_iter().filter_map(|text| self.add_text(text)).collect();
        let names: Arc<[ImageReference]> = names.into_iter().collect();
        let manifest = container.image_manifest_descriptor.as_ref().map(|descriptor| hex(&descriptor.digest));
        for text in manifest.into_iter().chain(Some(id)).filter(|text| !text.is_empty()) {
            let digest: Digest = format!("sha256:{text}")
                .parse()
                .map_err(|error: InvalidDigest| format!("its image: {}", chain(&error)))?;
            let image = ImageReference { host: None, repository: None, tag: None, digest: Some(digest) };
            let names = Arc::clone(&names);
            let naming = if names.is_empty() { Naming::ObjectImageId(names) } else { Naming::ContainerImageId(names) };
            self.evidence.claims.push(Claim { naming, ..Claim::new(image, Arc::clone(&self.holder)) });
        }
        Ok(())
    }

    /// Adds the image that a text names, and returns its name without tag and digest. An invalid text is reported:
    /// nothing was ever pulled by it.
    fn add_text(&mut self, text: &str) -> Option<ImageReference> {
        let holder = || Arc::clone(&self.holder);
        let (image, naming) = match parse_image(text) {
            ParsedImage::Image(image) => (image, Naming::Written),
            ParsedImage::Corrected(image, what) => {
                self.evidence.notes.push(format!("container {}: {what}", self.name));
                (image, Naming::Corrected)
            }
            ParsedImage::Unresolved(host, path, what) => {
                self.evidence.notes.push(format!("container {}: {what}", self.name));
                let unresolved =
                    UnresolvedReference { text: text.into(), host, path, adjacent_words: [].into(), holder: holder() };
                self.evidence.unresolved.push(unresolved);
                return None;
            }
            ParsedImage::Invalid(what) => {
                self.evidence.notes.push(format!("container {}: {what}", self.name));
                return None;
            }
        };
        let claim = Claim { naming, ..Claim::new(image.clone(), holder()) };
        // Two spellings of one reference claim the same image.
        if !self.evidence.claims[self.first_claim..].contains(&claim) {
            self.evidence.claims.push(claim);
        }
        image.repository.is_some().then_some(ImageReference { tag: None, digest: None, ..image })
    }
}
