//! Sonatype Nexus Repository 3 by its own API: tags listed with their push times and downloads. Tagwarden only reads it.
//!
//! A tag is a component there, whose one asset is the manifest. Searches list the components of an image, fifty in a page;
//! nothing is downloaded for that. Wire facts are those of Sonatype's description of the REST API, as clients of others use it.
//!
//! What remains after the removal of a component depends on the tasks of that Nexus. There is no writer until that has been
//! verified on a live one.

mod auth;
mod reader;
mod settings;
mod wire;

use std::sync::Arc;

use super::keyed_reader::KeyedReader;
use super::{Capabilities, Provider, ReferrersSupport, SettingProblem, SettingsDraft, Support, UntagSupport};
use crate::http_client::RetryPolicy;
use crate::registry::client::authenticator::Authenticator;
use crate::registry::{Auth, RegistryConnection, RegistryError, RegistrySettings};

use reader::NexusSearch;

/// Sonatype Nexus Repository 3.
#[derive(Debug, Clone, Copy)]
pub struct Nexus;

impl Provider for Nexus {
    fn name(&self) -> &'static str {
        "nexus"
    }

    fn default_concurrency(&self) -> usize {
        4
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            lists_untagged: Support::No,
            tags_of_manifest: Support::No,
            push_times: Support::Yes,
            pull_times: Support::Unknown,
            locks: Support::No,
            referrers: ReferrersSupport::Unknown,
            cascades_referrers: Support::Unknown,
            digest_in_removal: Support::No,
            rights: Support::No,
            replicas: Support::Unknown,
            untag: UntagSupport::Unsupported,
            ..Capabilities::UNKNOWN
        }
    }

    fn check(&self, draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
        settings::check(draft)
    }

    fn read_only_reason(&self) -> Option<&'static str> {
        Some(
            "Tagwarden only reads Nexus so far: nobody has verified on a live one what the removal of a component leaves, and \
             what can be restored",
        )
    }

    fn authenticator(&self, settings: &RegistrySettings, _: RetryPolicy) -> Authenticator {
        let Some(api) = &settings.api else { return Authenticator::by_password(settings) };
        let (username, password) = auth::user_and_password(&api.token);
        let auth = Auth::Basic { username, password };
        Authenticator::by_password(&RegistrySettings { auth, ..settings.clone() })
    }

    fn connect(&self, settings: RegistrySettings, retry: RetryPolicy) -> Result<RegistryConnection, RegistryError> {
        Ok(RegistryConnection::read_only(Arc::new(KeyedReader(NexusSearch::new(settings, retry)?))))
    }
}
