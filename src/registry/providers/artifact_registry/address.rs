//! Addresses of Artifact Registry: the host of image references, the names of images, and the resources that they are.

use std::fmt;

use url::Url;

use crate::domain::{Digest, RepositoryName, TagName};
use crate::registry::{RegistryError, RegistryErrorKind, RegistrySettings, is_loopback};

/// The address of the API.
const API: &str = "https://artifactregistry.googleapis.com";
/// The remedy for a wrong endpoint.
pub(super) const ENDPOINT_HELP: &str =
    "write endpoint = \"https://LOCATION-docker.pkg.dev\"; for an address of your own, name that host in `aliases`";
/// The hosts of Container Registry, which Artifact Registry serves from a repository of that name
/// (<https://cloud.google.com/artifact-registry/docs/transition/gcr-repositories>).
const LEGACY: [(&str, &str); 4] =
    [("gcr.io", "us"), ("us.gcr.io", "us"), ("eu.gcr.io", "europe"), ("asia.gcr.io", "asia")];

/// The location that a host stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RegistryPlace {
    /// A region, such as `europe-west3`, or a multi-region, such as `europe`.
    pub(super) location: String,
    /// The one repository that each project has at a host of Container Registry.
    pub(super) legacy: Option<&'static str>,
}

impl RegistryPlace {
    /// Reads the host of image references, such as `europe-west3-docker.pkg.dev` or `eu.gcr.io`.
    pub(super) fn parse(host: &str) -> Option<Self> {
        let host = host.to_ascii_lowercase();
        if let Some((name, location)) = LEGACY.into_iter().find(|(name, _)| *name == host) {
            return Some(Self { location: location.to_owned(), legacy: Some(name) });
        }
        let location = host.strip_suffix("-docker.pkg.dev")?;
        let valid = !location.is_empty()
            && location.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        valid.then(|| Self { location: location.to_owned(), legacy: None })
    }

    /// Returns the place of a registry by its endpoint, or by the first of its aliases that tells it.
    pub(super) fn of(endpoint: &Url, aliases: &[String]) -> Option<Self> {
        endpoint.host_str().into_iter().chain(aliases.iter().map(String::as_str)).find_map(Self::parse)
    }

    /// Returns the image that a repository of image references is, or `None` if the name has too few parts for one.
    pub(super) fn image(&self, name: &RepositoryName) -> Option<Image> {
        let (project, rest) = split_project(name.as_str());
        let (repository, package) = match self.legacy {
            Some(repository) => (repository, rest?),
            None => rest?.split_once('/')?,
        };
        Some(Image {
            repository: Repository {
                project,
                location: self.location.clone(),
                name: repository.to_owned(),
                is_legacy: self.legacy.is_some(),
            },
            package: package.to_owned(),
        })
    }

    /// Returns what the settings name as a namespace: a project, or one of its repositories.
    pub(super) fn namespace(&self, text: &str) -> Option<Namespace> {
        let (project, rest) = split_project(text);
        let valid = |part: &str| !part.is_empty() && !part.contains('/');
        let repository = match (self.legacy, rest) {
            _ if !valid(&project) => return None,
            (None, None) => return Some(Namespace::Project(project)),
            (None, Some(repository)) if valid(repository) => repository,
            (Some(repository), None) => repository,
            _ => return None,
        };
        Some(Namespace::Repository(self.repository(project, repository)))
    }

    /// Returns a repository of a project at this place.
    pub(super) fn repository(&self, project: String, name: &str) -> Repository {
        let is_legacy = self.legacy.is_some();
        Repository { project, location: self.location.clone(), name: name.to_owned(), is_legacy }
    }

    /// Returns the resource whose repositories are listed.
    pub(super) fn parent(&self, project: &str) -> String {
        format!("projects/{project}/locations/{}", self.location)
    }
}

/// Splits a name into its project and the rest. A project of a domain, `example.com:shop`, is written with a slash.
fn split_project(name: &str) -> (String, Option<&str>) {
    let (first, rest) = name.split_once('/').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let Some(rest) = rest.filter(|_| first.contains('.')) else { return (first.to_owned(), rest) };
    let (second, rest) = rest.split_once('/').map_or((rest, None), |(second, rest)| (second, Some(rest)));
    (format!("{first}:{second}"), rest)
}

/// An entry of `namespaces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Namespace {
    /// All repositories of a project.
    Project(String),
    /// One of them.
    Repository(Repository),
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Project(project) => write!(f, "project {project}"),
            Self::Repository(repository) => write!(f, "repository {repository}"),
        }
    }
}

/// A repository of Artifact Registry: it holds many images. Displayed as in image references.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Repository {
    project: String,
    location: String,
    name: String,
    is_legacy: bool,
}

impl Repository {
    /// Returns the name of the resource.
    pub(super) fn resource(&self) -> String {
        let Self { project, location, name, .. } = self;
        format!("projects/{project}/locations/{location}/repositories/{name}")
    }

    /// Returns the name of one of its images in image references, or `None` if it is not valid there.
    pub(super) fn image_name(&self, package: &str) -> Option<RepositoryName> {
        format!("{self}/{package}").parse().ok()
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let project = self.project.replace(':', "/");
        if self.is_legacy { f.write_str(&project) } else { write!(f, "{project}/{}", self.name) }
    }
}

/// An image: what other registries call a repository, and Artifact Registry a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) repository: Repository,
    /// Its name there, which may have slashes.
    pub(super) package: String,
}

impl Image {
    /// Returns the name of the resource. Slashes in the last part are escaped.
    pub(super) fn resource(&self) -> String {
        format!("{}/packages/{}", self.repository.resource(), self.package.replace('/', "%2F"))
    }

    /// Returns the name of the resource of a manifest.
    pub(super) fn version(&self, digest: &Digest) -> String {
        format!("{}/versions/{digest}", self.resource())
    }

    /// Returns the name of the resource of a tag.
    pub(super) fn tag(&self, tag: &TagName) -> String {
        format!("{}/tags/{tag}", self.resource())
    }
}

/// Returns the last part of a resource's name, such as a package or a tag, without its escapes.
pub(super) fn last_part(resource: &str, kind: &str) -> Option<String> {
    let (_, part) = resource.split_once(&format!("/{kind}/"))?;
    let part = percent_encoding::percent_decode_str(part).decode_utf8().ok()?.into_owned();
    Some(part).filter(|part| !part.is_empty())
}

/// Returns the place of a registry and the address of its API: Google's, unless the endpoint is not a host of Artifact
/// Registry. Then both APIs are at the endpoint.
pub(super) fn locate(settings: &RegistrySettings) -> Result<(RegistryPlace, Url), RegistryError> {
    let endpoint = &settings.endpoint;
    let Some(place) = RegistryPlace::of(endpoint, &settings.aliases) else {
        let message = format!("registry `{}`: its endpoint does not tell its location", settings.name);
        return Err(RegistryError::new(RegistryErrorKind::InvalidSettings, message).with_help(ENDPOINT_HELP));
    };
    let named = endpoint.host_str().and_then(RegistryPlace::parse).is_some() && !is_loopback(endpoint);
    let api = if named { API.parse().expect("a constant address") } else { endpoint.clone() };
    Ok((place, api))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_tell_the_location() {
        for (host, location, legacy) in [
            ("europe-west3-docker.pkg.dev", "europe-west3", None),
            ("us-docker.pkg.dev", "us", None),
            ("gcr.io", "us", Some("gcr.io")),
            ("EU.gcr.io", "europe", Some("eu.gcr.io")),
            ("asia.gcr.io", "asia", Some("asia.gcr.io")),
        ] {
            let place = RegistryPlace::parse(host).unwrap();
            assert_eq!((&*place.location, place.legacy), (location, legacy));
        }
        for host in ["docker.pkg.dev", "us-npm.pkg.dev", "us-docker.pkg.dev.evil.example", "mirror.gcr.io", "127.0.0.1"]
        {
            assert_eq!(RegistryPlace::parse(host), None, "{host}");
        }
    }

    #[test]
    fn names_are_those_of_image_references() {
        let (place, legacy) =
            (RegistryPlace::parse("us-docker.pkg.dev").unwrap(), RegistryPlace::parse("eu.gcr.io").unwrap());
        for (place, name, resource) in [
            (&place, "acme/shop/api", "projects/acme/locations/us/repositories/shop/packages/api"),
            (&place, "acme/shop/a/b", "projects/acme/locations/us/repositories/shop/packages/a%2Fb"),
            (&place, "example.com/acme/shop/a", "projects/example.com:acme/locations/us/repositories/shop/packages/a"),
            (&legacy, "acme/api/v2", "projects/acme/locations/europe/repositories/eu.gcr.io/packages/api%2Fv2"),
        ] {
            let image = place.image(&name.parse().unwrap()).unwrap();
            assert_eq!(image.resource(), resource);
            let package = last_part(resource, "packages").unwrap();
            assert_eq!(image.repository.image_name(&package).unwrap().as_str(), name, "and back");
        }
        for (place, name) in [(&place, "acme/shop"), (&place, "example.com/acme/shop"), (&legacy, "acme")] {
            assert_eq!(place.image(&name.parse().unwrap()), None, "{name}");
        }
    }

    #[test]
    fn namespaces_are_projects_or_repositories() {
        let place = RegistryPlace::parse("us-docker.pkg.dev").unwrap();
        let legacy = RegistryPlace::parse("gcr.io").unwrap();
        for (place, text, expected) in [
            (&place, "acme", Some("project acme")),
            (&place, "acme/shop", Some("repository acme/shop")),
            (&place, "example.com/acme", Some("project example.com:acme")),
            (&place, "example.com/acme/shop", Some("repository example.com/acme/shop")),
            (&place, "acme/shop/api", None),
            (&place, "", None),
            (&legacy, "acme", Some("repository acme")),
            (&legacy, "acme/api", None),
        ] {
            let found = place.namespace(text).map(|namespace| namespace.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
