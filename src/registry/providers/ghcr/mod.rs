//! GitHub Container Registry: versions of packages listed by GitHub's REST API with their tags, and deleted and restored by it;
//! tags and manifests read from the registry itself.
//!
//! GitHub removes no tag alone: a version goes with all of its tags. So nothing is removed unless the settings say that
//! manifests are to be deleted (`removal = "manifest"`). Wire facts are those of GitHub's published description of its API
//! (version 2022-11-28) and of its documentation.

mod address;
mod api;
mod auth;
mod contents;
mod deleted;
mod owners;
mod reader;
mod settings;
mod version_book;
mod versions;
mod wire;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use super::{
    Capabilities, FirstAnswer, ProductMatch, Provider, ReferrersSupport, SettingProblem, SettingsDraft, Support,
    UntagSupport,
};
use crate::domain::RemovalMethod;
use crate::http_client::RetryPolicy;
use crate::registry::client::authenticator::Authenticator;
use crate::registry::{Auth, RegistryConnection, RegistryError, RegistrySettings};

use address::ApiAddress;
use api::GhcrApi;
use reader::GhcrReader;
use writer::GhcrWriter;

/// The time for which GitHub restores a deleted version, as it documents.
const RESTORED_FOR: Duration = Duration::from_hours(30 * 24);

/// GitHub Container Registry.
#[derive(Debug, Clone, Copy)]
pub struct Ghcr;

impl Provider for Ghcr {
    fn name(&self) -> &'static str {
        "ghcr"
    }

    /// GitHub asks for few requests at once.
    fn default_concurrency(&self) -> usize {
        4
    }

    /// GitHub tells when a version was pushed and changed, and not when a tag was. Rights show only as scopes of some tokens.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            lists_untagged: Support::Yes,
            tags_of_manifest: Support::Yes,
            push_times: Support::No,
            pull_times: Support::No,
            locks: Support::No,
            referrers: ReferrersSupport::Unknown,
            cascades_referrers: Support::No,
            digest_in_removal: Support::No,
            rights: Support::Unknown,
            replicas: Support::Unknown,
            untag: UntagSupport::Unsupported,
            ..Capabilities::UNKNOWN
        }
    }

    /// Also by the addresses of GitHub Enterprise, which may be somebody else's.
    fn recognize(&self, answer: &FirstAnswer) -> ProductMatch {
        if answer.product_kind() == Some(self.name()) {
            ProductMatch::Mine
        } else if answer.product().is_none() && ApiAddress::of_registry(answer.endpoint()).is_some() {
            ProductMatch::Maybe
        } else {
            ProductMatch::NotMine
        }
    }

    fn check(&self, draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
        settings::check(draft)
    }

    fn deletion_undo(&self) -> Option<Duration> {
        Some(RESTORED_FOR)
    }

    fn describe_removal(&self, method: RemovalMethod) -> Option<&'static str> {
        match method {
            RemovalMethod::DeleteManifest => Some("a removal there deletes a package version with all of its tags"),
            RemovalMethod::Untag => None,
        }
    }

    fn warnings(&self, settings: &RegistrySettings) -> Vec<String> {
        let removes = settings.removal == RemovalMethod::DeleteManifest;
        let warning = || {
            format!(
                "registry `{}`: nothing can be removed: GitHub deletes a package version with all of its tags; write removal = \
                 \"manifest\" if that is meant",
                settings.name
            )
        };
        (!removes).then(warning).into_iter().collect()
    }

    /// By the token itself for the API, and by challenge for the registry.
    fn authenticator(&self, settings: &RegistrySettings, _: RetryPolicy) -> Authenticator {
        match &settings.auth {
            Auth::Token(token) => Authenticator::new(auth::bearer(token.clone())),
            _ => Authenticator::by_challenge(settings),
        }
    }

    fn connect(&self, settings: RegistrySettings, retry: RetryPolicy) -> Result<RegistryConnection, RegistryError> {
        let reader = GhcrReader { api: GhcrApi::new(settings, retry)? };
        let writer = GhcrWriter::new(reader.api.for_writer());
        Ok(RegistryConnection::new(Arc::new(reader), Arc::new(writer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn github_is_known_by_its_addresses() {
        for (endpoint, expected) in [
            ("https://ghcr.io", ProductMatch::Mine),
            ("https://containers.octo.ghe.com", ProductMatch::Mine),
            ("https://containers.github.contoso.example", ProductMatch::Maybe),
            ("https://registry.contoso.example", ProductMatch::NotMine),
            ("https://quay.io", ProductMatch::NotMine),
        ] {
            let answer = FirstAnswer::of_address(endpoint.parse().unwrap());
            assert_eq!(Ghcr.recognize(&answer), expected, "{endpoint}");
        }
    }
}
