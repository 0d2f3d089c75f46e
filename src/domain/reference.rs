//! Image references as people and machines write them.

use std::fmt;
use std::str::FromStr;

use super::{Digest, RepositoryName, TagName};

/// A reference to an image: `[host/]repository[:tag][@digest]`, or a bare digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    /// The registry's host, lower case, with the port where one is written. Nothing where the reference names none.
    pub host: Option<String>,
    /// The repository; nothing for a bare digest.
    pub repository: Option<RepositoryName>,
    /// The tag; `latest` where neither a tag nor a digest is written.
    pub tag: Option<TagName>,
    /// The digest.
    pub digest: Option<Digest>,
}

/// A text that is no image reference. Shows the text and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no image reference: {problem}")]
pub struct InvalidReference {
    /// What was read, cut after 300 characters.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

impl ImageReference {
    /// Whether it names that repository of a registry known by `hosts` (lower case).
    ///
    /// A reference without a host names the repository of that path in *every* registry: container runtimes would read
    /// it as Docker Hub's, but people write release records by hand, and a kept tag costs little. Docker Hub's own
    /// short names (`nginx` for `library/nginx`) count for registries that are Docker Hub.
    #[must_use]
    pub fn names(&self, hosts: &[String], repository: &RepositoryName) -> bool {
        let Some(path) = &self.repository else { return false };
        match &self.host {
            Some(host) => path == repository && hosts.contains(host),
            None => {
                path == repository
                    || (hosts.iter().any(|host| is_docker_hub(host))
                        && repository.as_str().strip_prefix("library/") == Some(path.as_str()))
            }
        }
    }

    /// Whether it names a registry known by `hosts` (lower case), or could because it names none.
    #[must_use]
    pub fn may_name_registry(&self, hosts: &[String]) -> bool {
        self.host.as_ref().is_none_or(|host| hosts.contains(host))
    }
}

fn is_docker_hub(host: &str) -> bool {
    matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

impl FromStr for ImageReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        parse(text.trim()).map_err(|problem| InvalidReference { text: text.chars().take(300).collect(), problem })
    }
}

/// The prefixes that container runtimes and tools put before a reference.
const PREFIXES: [&str; 5] = ["docker-pullable://", "docker://", "oci://", "https://", "http://"];

fn parse(text: &str) -> Result<ImageReference, String> {
    let text = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if let Ok(digest) = text.parse::<Digest>() {
        return Ok(ImageReference { host: None, repository: None, tag: None, digest: Some(digest) });
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|error| error.to_string())?)),
        None => (text, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag.parse::<TagName>().map_err(|e| e.to_string())?)),
        _ => (rest, None),
    };
    let (host, repository) = match path.split_once('/') {
        Some((first, rest)) if is_host(first) => (Some(first.to_ascii_lowercase()), rest),
        _ => (None, path),
    };
    let repository: RepositoryName = repository.parse().map_err(|error: super::InvalidName| error.to_string())?;
    let tag = match (tag, &digest) {
        (None, None) => Some("latest".parse().map_err(|error: super::InvalidName| error.to_string())?),
        (tag, _) => tag,
    };
    Ok(ImageReference { host, repository: Some(repository), tag, digest })
}

/// The first segment of a reference is a host if it has a dot or a port, is `localhost`, or has an upper-case letter
/// (which no repository has), as in the reference grammar of distribution.
fn is_host(segment: &str) -> bool {
    segment.contains(['.', ':']) || segment == "localhost" || segment.bytes().any(|b| b.is_ascii_uppercase())
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut started = false;
        if let Some(host) = &self.host {
            write!(f, "{host}/")?;
        }
        if let Some(repository) = &self.repository {
            write!(f, "{repository}")?;
            started = true;
        }
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) if started => write!(f, "@{digest}"),
            Some(digest) => write!(f, "{digest}"),
            None => Ok(()),
        }
    }
}
