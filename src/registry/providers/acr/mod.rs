//! Azure Container Registry (ACR): tags and manifests listed in bulk with their times and locks, tags removed alone,
//! and manifests by their digests.
//!
//! Wire facts are those of its data plane of api-version 2021-07-01 and of recorded traffic; no api-version is sent, as
//! Azure's own tools send none.

mod auth;
mod lists;
mod manifests;
mod metadata;
mod parallel_lists;
mod rate_limits;
mod reader;
mod registry_info;
mod settings;
mod token;
mod wire;
mod writer;

use std::sync::Arc;

use super::{
    Capabilities, FirstAnswer, ProductMatch, Provider, ReferrersSupport, SettingProblem, SettingsDraft, Support,
    UntagSupport, VerifyTool, shell,
};
use crate::domain::{Digest, Registry, Removal, RepositoryName, TagName};
use crate::http_client::RetryPolicy;
use crate::registry::client::authenticator::Authenticator;
use crate::registry::{RegistryConnection, RegistryError, RegistrySettings};

use auth::AcrAuthenticator;
use rate_limits::documented_limits;
pub use reader::AcrReader;
pub use registry_info::{RegistryResource, registry_info, storage_usage};
pub(super) use settings::{is_azure_host, refuse_azure_settings};
use writer::AcrWriter;

/// Azure Container Registry.
#[derive(Debug, Clone, Copy)]
pub struct Acr;

impl Provider for Acr {
    fn name(&self) -> &'static str {
        "acr"
    }

    /// The most that the service recommends for deletions (Azure/acr-cli, `maxPoolSize`).
    fn default_concurrency(&self) -> usize {
        32
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            lists_untagged: Support::Yes,
            tags_of_manifest: Support::Yes,
            push_times: Support::Yes,
            pull_times: Support::No,
            locks: Support::Yes,
            referrers: ReferrersSupport::Api,
            cascades_referrers: Support::Yes,
            digest_in_removal: Support::No,
            rights: Support::Yes,
            replicas: Support::Yes,
            untag: UntagSupport::Native,
            ..Capabilities::UNKNOWN
        }
    }

    /// By its domain, or behind a custom domain by the token service of its challenge.
    fn recognize(&self, answer: &FirstAnswer) -> ProductMatch {
        let service = answer.token_service().is_some_and(|service| is_azure_host(&service));
        if service || is_azure_host(answer.endpoint()) { ProductMatch::Mine } else { ProductMatch::NotMine }
    }

    fn check(&self, draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
        settings::check(draft)
    }

    fn authenticator(&self, settings: &RegistrySettings, retry: RetryPolicy) -> Authenticator {
        Authenticator::new(AcrAuthenticator::new(settings, retry))
    }

    fn connect(&self, settings: RegistrySettings, retry: RetryPolicy) -> Result<RegistryConnection, RegistryError> {
        let reader = AcrReader::new(settings, retry)?;
        let writer = AcrWriter { http: reader.http.for_writer() };
        Ok(RegistryConnection::new(Arc::new(reader), Arc::new(writer)))
    }

    /// Those of the Azure CLI, which ask for metadata and pull nothing.
    fn verify_commands(&self, registry: &Registry, removal: &Removal) -> Vec<String> {
        let Removal { repository, tag, digest, .. } = removal;
        let found = registry.info.as_ref();
        let name = shell::quote(found.map_or_else(|| resource_name(registry), |found| &found.resource));
        let of =
            found.map_or_else(String::new, |found| format!(" --subscription {}", shell::quote(&found.subscription)));
        vec![
            format!(
                "az acr repository show --name {name}{of} --image {}",
                shell::quote(&format!("{repository}:{tag}"))
            ),
            format!(
                "az acr manifest show-metadata --registry {name}{of} --name {}",
                shell::quote(&format!("{repository}@{digest}"))
            ),
        ]
    }

    fn verify_tool(&self) -> Option<VerifyTool> {
        Some(VerifyTool {
            command: "az",
            introduction: "These only read, and pull nothing; sign in with `az login` first. They show digest, times \
                           and locks of the first removal of each repository, and of its manifest. The JSON has them \
                           for each removal.",
        })
    }

    fn missing_info(&self) -> Option<&'static str> {
        Some(
            "whether it deletes untagged manifests by itself was not asked: name its `subscription` and \
             `resource_group` in the settings",
        )
    }
}

/// Returns the name of a registry in Azure by its login server, or its name in the settings if it answers at a custom
/// domain, whose first part says nothing.
fn resource_name(registry: &Registry) -> &str {
    let host = shell::host(registry);
    let labels = settings::DOMAINS.iter().find_map(|domain| host.strip_suffix(domain));
    // A login server with a hyphen has a hash behind it, which a registry's name cannot have.
    labels.and_then(|labels| labels.split(['.', '-']).next()).unwrap_or(registry.name.as_str())
}

/// The path of a repository's attributes.
fn repository_path(repository: &RepositoryName) -> String {
    format!("/acr/v1/{repository}")
}

/// The path of one tag.
fn tag_path(repository: &RepositoryName, tag: &TagName) -> String {
    format!("/acr/v1/{repository}/_tags/{tag}")
}

/// The path of what the registry says of one manifest.
fn manifest_path(repository: &RepositoryName, digest: &Digest) -> String {
    format!("/acr/v1/{repository}/_manifests/{digest}")
}
