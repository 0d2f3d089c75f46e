//! Quay (quay.io and Red Hat Quay) by its own API: tags listed with their push times, sizes and immutability, removed
//! alone into the time machine, and put back from there.
//!
//! Everything is asked of `/api/v1` with an OAuth access token. Its manifests come without a pull, so neither pull
//! statistics nor audit logs count Tagwarden as a user of an image. Wire facts are those of the source of quay/quay at
//! commit ffba0c70.

mod cleanup_rules;
mod history;
mod reader;
mod settings;
mod tag_list;
mod wire;
mod writer;

use std::sync::Arc;

use super::{
    Capabilities, FirstAnswer, ProductMatch, Provider, ReferrersSupport, SettingProblem, SettingsDraft, Support,
    UntagSupport, VerifyTool,
};
use crate::domain::{Registry, Removal, RepositoryName, TagName};
use crate::http_client::RetryPolicy;
use crate::registry::providers::shell;
use crate::registry::{RegistryConnection, RegistryError, RegistrySettings};

use reader::QuayReader;
use writer::QuayWriter;

/// Quay.
#[derive(Debug, Clone, Copy)]
pub struct Quay;

impl Provider for Quay {
    fn name(&self) -> &'static str {
        "quay"
    }

    fn reads_configurations(&self) -> bool {
        false
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            lists_untagged: Support::No,
            tags_of_manifest: Support::No,
            push_times: Support::Yes,
            pull_times: Support::No,
            locks: Support::Yes,
            referrers: ReferrersSupport::Unknown,
            cascades_referrers: Support::No,
            digest_in_removal: Support::No,
            rights: Support::Yes,
            replicas: Support::Unknown,
            untag: UntagSupport::Native,
            ..Capabilities::UNKNOWN
        }
    }

    /// By the host of the service, or by the token service of its challenge, which no other product has.
    fn recognize(&self, answer: &FirstAnswer) -> ProductMatch {
        let service = answer.token_service().is_some_and(|service| service.path() == "/v2/auth");
        if service || answer.product_kind() == Some("quay") { ProductMatch::Mine } else { ProductMatch::NotMine }
    }

    fn check(&self, draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
        settings::check(draft)
    }

    fn connect(&self, settings: RegistrySettings, retry: RetryPolicy) -> Result<RegistryConnection, RegistryError> {
        let reader = QuayReader::new(settings, retry)?;
        let writer = QuayWriter { http: reader.http.for_writer() };
        Ok(RegistryConnection::new(Arc::new(reader), Arc::new(writer)))
    }

    /// A look at the tag by the API, which pulls nothing.
    fn verify_commands(&self, registry: &Registry, removal: &Removal) -> Vec<String> {
        let Removal { repository, tag, .. } = removal;
        let url =
            format!("{}/api/v1/{}?specificTag={tag}&onlyActiveTags=true", registry.endpoint, tags_path(repository));
        vec![format!("curl -H @quay-token.txt {}", shell::quote(&url))]
    }

    fn verify_tool(&self) -> Option<VerifyTool> {
        Some(VerifyTool {
            command: "curl",
            introduction: "These only read, and pull nothing; `quay-token.txt` holds the line `Authorization: Bearer …` \
                           with an access token of scope `repo:read`. They show digest, push time and immutability of \
                           the first removal of each repository. The JSON has them for each removal.",
        })
    }
}

/// The path of a repository, below `/api/v1/`.
fn repository_path(repository: &RepositoryName) -> String {
    format!("repository/{repository}")
}

/// The path of a repository's tags. Without the slash at its end Quay redirects.
fn tags_path(repository: &RepositoryName) -> String {
    format!("repository/{repository}/tag/")
}

/// The path of one tag.
fn tag_path(repository: &RepositoryName, tag: &TagName) -> String {
    format!("repository/{repository}/tag/{tag}")
}

/// The namespace of a repository: the part before its first slash. Quay takes `library` where there is none.
fn namespace_of(repository: &RepositoryName) -> &str {
    repository.as_str().split_once('/').map_or("library", |(namespace, _)| namespace)
}
