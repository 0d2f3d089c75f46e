//! The shapes of the API of Artifact Registry, by the names of its published description (`artifactregistry.v1`), and what
//! its refusals mean.

use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::http_client::Response;
use crate::registry::client::wire::lenient;
use crate::registry::{RegistryError, RegistryErrorKind};

/// `Repository`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireRepository {
    pub(super) name: String,
    #[serde(default)]
    pub(super) format: String,
    /// `STANDARD_REPOSITORY`, `REMOTE_REPOSITORY` or `VIRTUAL_REPOSITORY`.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) mode: String,
    #[serde(default)]
    docker_config: Option<WireDockerConfig>,
    #[serde(default)]
    pub(super) cleanup_policies: Option<Value>,
    #[serde(default)]
    pub(super) cleanup_policy_dry_run: bool,
    #[serde(default, deserialize_with = "lenient")]
    size_bytes: String,
}

/// `DockerRepositoryConfig`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDockerConfig {
    #[serde(default)]
    immutable_tags: bool,
}

impl WireRepository {
    /// Returns true if tags can neither be moved nor removed.
    pub(super) fn has_immutable_tags(&self) -> bool {
        self.docker_config.as_ref().is_some_and(|config| config.immutable_tags)
    }

    pub(super) fn stored_bytes(&self) -> Option<u64> {
        self.size_bytes.parse().ok()
    }
}

/// The time of an upload. One that is not understood makes an image undated, and hides nothing else of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum UploadTime {
    #[default]
    Missing,
    Known(Timestamp),
    /// Something else, as the registry writes it.
    Odd(String),
}

impl UploadTime {
    pub(super) fn known(&self) -> Option<Timestamp> {
        match self {
            Self::Known(at) => Some(*at),
            Self::Missing | Self::Odd(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for UploadTime {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(input)?;
        let parsed = value.as_str().and_then(|text| text.parse().ok());
        Ok(match (parsed, value) {
            (Some(at), _) => Self::Known(at),
            (None, Value::Null) => Self::Missing,
            (None, other) => Self::Odd(other.as_str().map_or_else(|| other.to_string(), str::to_owned)),
        })
    }
}

/// `DockerImage`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireDockerImage {
    pub(super) name: String,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    #[serde(default)]
    pub(super) upload_time: UploadTime,
    #[serde(default)]
    pub(super) update_time: Option<Timestamp>,
    #[serde(flatten)]
    pub(super) details: WireDetails,
}

/// The properties of an image besides its name and times. In the metadata of a version they have the same names.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireDetails {
    #[serde(default, deserialize_with = "lenient")]
    image_size_bytes: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) media_type: String,
    /// Never empty for a manifest that refers to another one.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) artifact_type: String,
    /// Of an index, the images that it lists.
    #[serde(default)]
    pub(super) image_manifests: Vec<WireImageManifest>,
}

impl WireDetails {
    pub(super) fn image_size(&self) -> Option<u64> {
        self.image_size_bytes.parse().ok()
    }
}

/// `ImageManifest`.
#[derive(Debug, Deserialize)]
pub(super) struct WireImageManifest {
    #[serde(default)]
    pub(super) digest: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) os: String,
}

/// `Version`, in its full view.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireVersion {
    pub(super) name: String,
    #[serde(default)]
    pub(super) create_time: UploadTime,
    #[serde(default)]
    pub(super) update_time: Option<Timestamp>,
    /// A hundred at most.
    #[serde(default)]
    pub(super) related_tags: Vec<WireTag>,
    #[serde(default)]
    pub(super) metadata: Option<WireDetails>,
}

/// Most tags that a version tells by itself.
pub(super) const MAX_RELATED_TAGS: usize = 100;

/// `Tag`.
#[derive(Debug, Deserialize)]
pub(super) struct WireTag {
    pub(super) name: String,
    #[serde(default)]
    pub(super) version: String,
}

/// `TestIamPermissionsResponse`.
#[derive(Debug, Deserialize)]
pub(super) struct WirePermissions {
    #[serde(default)]
    pub(super) permissions: Vec<String>,
}

/// `Operation`.
#[derive(Debug, Deserialize)]
pub(super) struct WireOperation {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) done: bool,
    #[serde(default)]
    pub(super) error: Option<WireStatus>,
}

/// `Status`.
#[derive(Debug, Deserialize)]
pub(super) struct WireStatus {
    /// A code of gRPC.
    #[serde(default)]
    pub(super) code: i64,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) message: String,
}

/// A permission of Google Cloud's access management that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    ListRepositories,
    GetRepository,
    ListPackages,
    ListImages,
    ListVersions,
    GetVersion,
    ListTags,
    GetTag,
    DeleteTag,
    CreateTag,
    DeleteVersion,
}

impl Right {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ListRepositories => "artifactregistry.repositories.list",
            Self::GetRepository => "artifactregistry.repositories.get",
            Self::ListPackages => "artifactregistry.packages.list",
            Self::ListImages => "artifactregistry.dockerimages.list",
            Self::ListVersions => "artifactregistry.versions.list",
            Self::GetVersion => "artifactregistry.versions.get",
            Self::ListTags => "artifactregistry.tags.list",
            Self::GetTag => "artifactregistry.tags.get",
            Self::DeleteTag => "artifactregistry.tags.delete",
            Self::CreateTag => "artifactregistry.tags.create",
            Self::DeleteVersion => "artifactregistry.versions.delete",
        }
    }

    /// The predefined role that has it.
    fn role(self) -> &'static str {
        match self {
            Self::DeleteTag | Self::DeleteVersion => "roles/artifactregistry.repoAdmin",
            Self::CreateTag => "roles/artifactregistry.writer",
            _ => "roles/artifactregistry.reader",
        }
    }

    fn is_change(self) -> bool {
        matches!(self, Self::DeleteTag | Self::CreateTag | Self::DeleteVersion)
    }

    pub(super) fn help(self) -> String {
        format!("the identity needs `{}`, which `{}` has", self.name(), self.role())
    }
}

/// The body of a refusal: `{"error": {"code": 403, "message": "…", "status": "PERMISSION_DENIED"}}`.
#[derive(Deserialize)]
struct WireRefusal {
    error: WireError,
}

#[derive(Deserialize)]
struct WireError {
    #[serde(default, deserialize_with = "lenient")]
    status: String,
}

/// Returns the status in the body of a refusal, such as `PERMISSION_DENIED`, or `None` if it is not in Google's words.
pub(super) fn status(response: &Response) -> Option<String> {
    let wire: WireRefusal = serde_json::from_slice(&response.body).ok()?;
    Some(wire.error.status).filter(|status| !status.is_empty())
}

/// Returns true if Artifact Registry says that something does not exist.
pub(super) fn is_absence(response: &Response) -> bool {
    response.status == StatusCode::NOT_FOUND && status(response).as_deref() == Some("NOT_FOUND")
}

/// Returns the error that a response without status 200 means.
pub(super) fn refusal(response: &Response, right: Right) -> RegistryError {
    let (kind, help) = match status(response).as_deref() {
        Some("NOT_FOUND") => (RegistryErrorKind::NotFound, String::new()),
        Some("PERMISSION_DENIED") => (RegistryErrorKind::Denied, right.help()),
        Some("UNAUTHENTICATED") => {
            let kind = if right.is_change() { RegistryErrorKind::Unauthenticated } else { RegistryErrorKind::Denied };
            (kind, "Google does not accept the token: check `auth`".to_owned())
        }
        Some("RESOURCE_EXHAUSTED") => {
            let help = "lower the registry's `concurrency` or `rates`, or have the project's quota raised";
            (RegistryErrorKind::Throttled, help.to_owned())
        }
        Some("FAILED_PRECONDITION") if right == Right::DeleteVersion => {
            (RegistryErrorKind::Locked, "it has a tag, or an index lists it".to_owned())
        }
        Some("FAILED_PRECONDITION") if right.is_change() => {
            (RegistryErrorKind::Locked, "the tags of the repository are immutable".to_owned())
        }
        Some("ALREADY_EXISTS") => (RegistryErrorKind::Locked, "somebody else made the tag meanwhile".to_owned()),
        // The page of a proxy or a firewall says nothing of the registry.
        None if !response.status.is_server_error() => {
            let help = "these are not the words of Artifact Registry: check `endpoint`";
            (RegistryErrorKind::Malformed, help.to_owned())
        }
        _ => return response.status_error(),
    };
    RegistryError::new(kind, response.description()).with_help(help)
}
