//! GitLab's container registry by its own API: tags listed with their push times, sizes and referrers, removed alone, and put
//! back for as long as its garbage collection leaves the manifest.
//!
//! Tags are read from `/gitlab/v1`, which needs the registry's metadata database; manifests, removals and restores go by
//! `/v2`. Both take the same token of GitLab's token service, which also says what may be removed: protected and immutable
//! tags are patterns in it. Only the rules that GitLab itself cleans up by need its REST API. Wire facts are those of the
//! source of the registry at version 4.32.0, with its `docs/spec/gitlab/api.md`, and of GitLab's `doc/api`.

mod cleanup_policy;
mod expiration_policy;
mod reader;
mod repository_list;
mod rest;
mod settings;
mod tag_list;
mod token;
mod wire;
mod writer;

use std::sync::Arc;

use super::{Capabilities, Provider, ReferrersSupport, SettingProblem, SettingsDraft, Support, UntagSupport};
use crate::http_client::RetryPolicy;
use crate::registry::client::authenticator::Authenticator;
use crate::registry::client::challenge::host_and_port;
use crate::registry::{RegistryConnection, RegistryError, RegistrySettings};

use reader::GitlabReader;
use writer::GitlabWriter;

/// GitLab's container registry.
#[derive(Debug, Clone, Copy)]
pub struct Gitlab;

impl Provider for Gitlab {
    fn name(&self) -> &'static str {
        "gitlab"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            lists_untagged: Support::No,
            tags_of_manifest: Support::No,
            push_times: Support::Yes,
            pull_times: Support::No,
            locks: Support::Yes,
            referrers: ReferrersSupport::FallbackTag,
            cascades_referrers: Support::No,
            digest_in_removal: Support::No,
            rights: Support::Yes,
            replicas: Support::Unknown,
            untag: UntagSupport::Native,
            ..Capabilities::UNKNOWN
        }
    }

    fn check(&self, draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
        settings::check(draft)
    }

    fn warnings(&self, settings: &RegistrySettings) -> Vec<String> {
        let unlisted = !settings.namespaces.is_empty() && settings.api.is_none();
        let warning = format!(
            "registry `{}`: GitLab's registry lets nobody list `namespaces`; add `api`, the address of GitLab itself \
             with a token, or name the `repositories`",
            settings.name
        );
        unlisted.then_some(warning).into_iter().collect()
    }

    /// By challenge. GitLab's own address, where the settings have it, is that of its token service, too.
    fn authenticator(&self, settings: &RegistrySettings, _: RetryPolicy) -> Authenticator {
        let mut settings = settings.clone();
        settings.token_hosts.extend(settings.api.as_ref().map(|api| host_and_port(&api.endpoint)));
        Authenticator::by_challenge(&settings)
    }

    fn connect(&self, settings: RegistrySettings, retry: RetryPolicy) -> Result<RegistryConnection, RegistryError> {
        let reader = GitlabReader::new(settings, retry)?;
        let writer = GitlabWriter { http: reader.http.for_writer() };
        Ok(RegistryConnection::new(Arc::new(reader), Arc::new(writer)))
    }
}
