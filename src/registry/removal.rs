//! Changing a registry by the distribution API: untag, delete, put back.

use async_trait::async_trait;
use http::{Method, StatusCode};

use super::auth::Grant;
use super::http::{Clearance, RegistryHttp};
use super::{
    Probed, RawManifest, RegistryError, RegistryErrorKind, RegistrySettings, RegistryWriter, Removed, Requests, probe,
    pull,
};
use crate::domain::{Digest, RemovalMethod, RepositoryName, TagName};
use crate::transport::{Answer, Ask, ERROR_LIMIT, Patience, Repeat};

/// Changes a registry by the distribution API.
#[derive(Debug)]
pub struct DistributionWriter {
    http: RegistryHttp,
}

impl DistributionWriter {
    /// A writer by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// When the settings cannot work, such as a CA file that cannot be read.
    pub fn new(settings: RegistrySettings) -> Result<Self, RegistryError> {
        Self::with_patience(settings, Patience::default())
    }

    /// The same, with another patience for what fails.
    ///
    /// # Errors
    /// As [`DistributionWriter::new`].
    pub fn with_patience(settings: RegistrySettings, patience: Patience) -> Result<Self, RegistryError> {
        Ok(Self { http: RegistryHttp::changing(settings, patience)? })
    }
}

#[async_trait]
impl RegistryWriter for DistributionWriter {
    fn requests(&self) -> Requests {
        self.http.requests()
    }

    async fn ready_to_put(&self, repository: &RepositoryName) -> Result<Clearance, RegistryError> {
        self.http.clear_push(repository).await
    }

    async fn ready(&self, repository: &RepositoryName) -> Result<Clearance, RegistryError> {
        self.http.clear_deletion(repository).await
    }

    async fn untag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        clearance: Clearance,
    ) -> Result<Removed, RegistryError> {
        delete(&self.http, repository, tag.as_str(), clearance).await
    }

    async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        clearance: Clearance,
    ) -> Result<Removed, RegistryError> {
        delete(&self.http, repository, &digest.to_string(), clearance).await
    }

    async fn probe(&self, repository: &RepositoryName, method: RemovalMethod) -> Option<Probed> {
        Some(probe::probe(&self.http, repository, method).await)
    }

    async fn put_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        manifest: &RawManifest,
        clearance: Clearance,
    ) -> Result<(), RegistryError> {
        put_tag(&self.http, repository, tag, manifest, clearance).await
    }

    async fn put_manifest(&self, repository: &RepositoryName, manifest: &RawManifest) -> Result<(), RegistryError> {
        put_manifest(&self.http, repository, manifest).await
    }
}

/// Deletes by the distribution API: a manifest by its digest, with every tag that names it, or a tag by its name.
pub(super) async fn delete(
    http: &RegistryHttp,
    repository: &RepositoryName,
    reference: &str,
    clearance: Clearance,
) -> Result<Removed, RegistryError> {
    let url = http.url(&format!("/v2/{repository}/manifests/{reference}"));
    let answer = http.send_cleared(&Grant::Delete(repository.clone()), &Ask::delete(url), clearance).await?;
    removed(&answer)
}

/// Puts a manifest under a tag by the distribution API, and sees that it was stored under its own digest.
pub(super) async fn put_tag(
    http: &RegistryHttp,
    repository: &RepositoryName,
    tag: &TagName,
    manifest: &RawManifest,
    clearance: Clearance,
) -> Result<(), RegistryError> {
    let answer = put(http, repository, tag.as_str(), manifest, Some(clearance)).await?;
    let stored = match pull::content_digest(&answer)? {
        Some(digest) => Some(digest),
        None => pull::resolve(http, repository, tag).await?,
    };
    stored_as_itself(&answer, stored, manifest)
}

/// Puts a manifest by its digest, without a tag, and sees that it is there.
pub(super) async fn put_manifest(
    http: &RegistryHttp,
    repository: &RepositoryName,
    manifest: &RawManifest,
) -> Result<(), RegistryError> {
    let answer = put(http, repository, &manifest.digest.to_string(), manifest, None).await?;
    let stored = match pull::content_digest(&answer)? {
        Some(digest) => Some(digest),
        None => pull::has_manifest(http, repository, &manifest.digest).await?.then(|| manifest.digest.clone()),
    };
    stored_as_itself(&answer, stored, manifest)
}

async fn put(
    http: &RegistryHttp,
    repository: &RepositoryName,
    reference: &str,
    manifest: &RawManifest,
    clearance: Option<Clearance>,
) -> Result<Answer, RegistryError> {
    let ask = Ask {
        method: Method::PUT,
        content: Some((manifest.media_type.clone(), manifest.bytes.clone())),
        repeat: Repeat::LookFirst,
        ..Ask::get(http.url(&format!("/v2/{repository}/manifests/{reference}")), "*/*", ERROR_LIMIT)
    };
    let grant = Grant::Push(repository.clone());
    let answer = match clearance {
        Some(clearance) => http.send_cleared(&grant, &ask, clearance).await?,
        None => http.send(&grant, &ask).await?,
    };
    match answer.status.as_u16() {
        201 => Ok(answer),
        409 | 412 | 423 => Err(answer.error(RegistryErrorKind::Locked)),
        400 | 405 if names_a_lock(&answer) => Err(answer.error(RegistryErrorKind::Locked)),
        _ => Err(answer.refusal()),
    }
}

fn stored_as_itself(answer: &Answer, stored: Option<Digest>, manifest: &RawManifest) -> Result<(), RegistryError> {
    if stored.as_ref() == Some(&manifest.digest) {
        return Ok(());
    }
    let stored = stored.map_or_else(|| "nothing".to_owned(), |digest| digest.to_string());
    Err(RegistryError {
        kind: RegistryErrorKind::DigestMismatch,
        message: format!("{} stored {stored} instead of {}; look at it by hand", answer.asked, manifest.digest),
    })
}

/// What came of a deletion.
pub(super) fn removed(answer: &Answer) -> Result<Removed, RegistryError> {
    match answer.status.as_u16() {
        200 | 202 | 204 if answer.looks_like_a_page() => Err(answer.malformed("no registry answers a deletion so")),
        200 | 202 | 204 => Ok(Removed::Done { evidence: evidence(answer), named: None }),
        404 if answer.is_absence() => Ok(Removed::AlreadyGone),
        409 | 412 | 423 => Err(answer.error(RegistryErrorKind::Locked)),
        400 | 403 | 405 if names_a_lock(answer) => Err(answer.error(RegistryErrorKind::Locked)),
        // The page of a proxy or a firewall is no word of the registry's about what it removes.
        400 | 403 | 405 if answer.looks_like_a_page() => Err(answer.malformed("a registry refuses in its own words")),
        400 | 405 => Err(answer.error(RegistryErrorKind::Unsupported)),
        401 => Err(answer.error(RegistryErrorKind::Unauthenticated)),
        _ => Err(answer.refusal()),
    }
}

/// Whether a refusal is about this one tag or manifest, by the words that registries use for locks: zot's `DENIED` with
/// 405, Azure's `REGISTRY_DISALLOWED_OPERATION`, Harbor's and Quay's immutable tags.
fn names_a_lock(answer: &Answer) -> bool {
    let Some(code) = answer.code() else { return false };
    let code = code.to_ascii_uppercase();
    let denied = code == "DENIED" && answer.status != StatusCode::FORBIDDEN;
    denied || ["DISALLOWED", "IMMUTABLE", "LOCKED", "PRECONDITION"].iter().any(|word| code.contains(word))
}

/// What the registry gave by which its operators find this request again.
fn evidence(answer: &Answer) -> String {
    ["x-ms-correlation-request-id", "x-request-id"]
        .iter()
        .find_map(|name| Some(format!("{name}: {}", answer.header(name)?)))
        .unwrap_or_default()
}
