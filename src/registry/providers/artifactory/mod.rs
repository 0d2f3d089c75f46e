//! Artifactory by its own API: tags listed with their push times and downloads. Tagwarden only reads it.
//!
//! A tag is a folder there, `IMAGE/TAG`, with the manifest in it as a file. Searches in Artifactory's query language (AQL)
//! list these files; nothing is downloaded for that. Wire facts are those of the maker's documentation of AQL, of the REST API
//! and of the limits of searches.
//!
//! A removal there deletes the image. There is no writer until that has been verified on a live Artifactory.

mod aql;
mod reader;
mod settings;
mod wire;

use std::sync::Arc;

use super::keyed_reader::KeyedReader;
use super::{Capabilities, Provider, ReferrersSupport, SettingProblem, SettingsDraft, Support, UntagSupport};
use crate::http_client::RetryPolicy;
use crate::registry::client::authenticator::Authenticator;
use crate::registry::client::bearer::BearerToken;
use crate::registry::{Auth, RegistryConnection, RegistryError, RegistrySettings};

use reader::ArtifactorySearch;

/// Artifactory.
#[derive(Debug, Clone, Copy)]
pub struct Artifactory;

impl Provider for Artifactory {
    fn name(&self) -> &'static str {
        "artifactory"
    }

    /// Artifactory runs three searches at once by default, and refuses more.
    fn default_concurrency(&self) -> usize {
        3
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
            "Tagwarden only reads Artifactory so far: a removal there deletes the image, and nobody has verified on a live one \
             what can be restored",
        )
    }

    fn authenticator(&self, settings: &RegistrySettings, _: RetryPolicy) -> Authenticator {
        let token = match (&settings.api, &settings.auth) {
            (Some(api), _) => Some(api.token.clone()),
            (None, Auth::Token(token)) => Some(token.clone()),
            (None, _) => None,
        };
        match token {
            Some(token) => Authenticator::new(BearerToken::new(token, "an access token")),
            None => Authenticator::by_password(settings),
        }
    }

    fn connect(&self, settings: RegistrySettings, retry: RetryPolicy) -> Result<RegistryConnection, RegistryError> {
        Ok(RegistryConnection::read_only(Arc::new(KeyedReader(ArtifactorySearch::new(settings, retry)?))))
    }
}
