//! Google Artifact Registry by its own API: images listed with tags, uploads, sizes and children, a thousand in an answer;
//! tags removed alone, and put back at their versions.
//!
//! Manifests come by the registry API of the same host, where a decision needs their bytes. Wire facts are those of Google's
//! published description (`artifactregistry.v1`, revision 20261031, as in its client for Python) and of its documentation.

mod address;
mod api;
mod cleanup_policies;
mod identity;
mod image_lists;
mod images;
mod obstacles;
mod reader;
mod repositories;
mod settings;
mod sign_in;
mod tokens;
mod wire;
mod writer;

use std::sync::Arc;

use super::{
    Capabilities, Provider, ReferrersSupport, SettingProblem, SettingsDraft, Support, UntagSupport, VerifyTool,
};
use crate::domain::{Registry, Removal};
use crate::http_client::RetryPolicy;
use crate::registry::client::authenticator::Authenticator;
use crate::registry::providers::shell;
use crate::registry::{RegistryConnection, RegistryError, RegistrySettings};

use address::RegistryPlace;
use reader::ArtifactReader;
use sign_in::ApiSignIn;
use tokens::TokenSource;
use writer::ArtifactWriter;

pub use identity::{FederatedIdentity, GoogleIdentity};

/// Google Artifact Registry, repositories for images.
#[derive(Debug, Clone, Copy)]
pub struct ArtifactRegistry;

impl Provider for ArtifactRegistry {
    fn name(&self) -> &'static str {
        "artifact-registry"
    }

    /// Images are dated and tags are not, so there are no push times of tags.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            lists_untagged: Support::Yes,
            tags_of_manifest: Support::Yes,
            push_times: Support::No,
            pull_times: Support::No,
            locks: Support::Yes,
            digest_in_removal: Support::No,
            rights: Support::Yes,
            replicas: Support::No,
            referrers: ReferrersSupport::Unknown,
            untag: UntagSupport::Native,
            ..Capabilities::UNKNOWN
        }
    }

    fn check(&self, draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
        settings::check(draft)
    }

    /// That of the API. The registry API has its own, with the same tokens.
    fn authenticator(&self, settings: &RegistrySettings, retry: RetryPolicy) -> Authenticator {
        Authenticator::new(ApiSignIn(Arc::new(TokenSource::new(settings, retry))))
    }

    fn connect(&self, settings: RegistrySettings, retry: RetryPolicy) -> Result<RegistryConnection, RegistryError> {
        let reader = ArtifactReader::new(settings, retry)?;
        let writer = ArtifactWriter { api: reader.api.for_writer() };
        Ok(RegistryConnection::new(Arc::new(reader), Arc::new(writer)))
    }

    /// That of the Google Cloud CLI, which pulls nothing.
    fn verify_commands(&self, registry: &Registry, removal: &Removal) -> Vec<String> {
        let Some(host) = registry.hosts.iter().find(|host| RegistryPlace::parse(host).is_some()) else {
            return shell::skopeo_commands(registry, removal);
        };
        let image = format!("{host}/{}:{}", removal.repository, removal.tag);
        vec![format!("gcloud artifacts docker images describe {}", shell::quote(&image))]
    }

    fn verify_tool(&self) -> Option<VerifyTool> {
        Some(VerifyTool {
            command: "gcloud",
            introduction: "These only read, and pull nothing; they need `roles/artifactregistry.reader`. They show the \
                           digest of the first removal of each repository. The JSON has them for each removal.",
        })
    }
}
