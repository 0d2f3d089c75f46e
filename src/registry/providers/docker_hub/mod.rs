//! Docker Hub by its own API (`hub.docker.com`): tags listed with push times, pull times, sizes, platforms and immutability,
//! and removed one by one; manifests and restores by the registry API.
//!
//! The lists are those of its published `OpenAPI` description (docker/docs, `content/reference/api/hub/latest.yaml`). The removal
//! of a tag is not in it: it is the request of Docker's hub-tool and of werf. What becomes of the image is documented nowhere,
//! so the first removal finds out. A look at a tag is a HEAD, which Docker Hub does not count as a pull.

mod api;
mod reader;
mod settings;
mod sign_in;
mod tags;
mod wire;
mod writer;

use std::sync::Arc;

use url::Url;

use super::{Capabilities, Provider, ReferrersSupport, SettingProblem, SettingsDraft, Support, UntagSupport};
use crate::domain::RepositoryName;
use crate::http_client::RetryPolicy;
use crate::registry::{RegistryConnection, RegistryError, RegistrySettings};

use api::HubApi;
use reader::HubReader;
use writer::HubWriter;

/// Docker Hub.
#[derive(Debug, Clone, Copy)]
pub struct DockerHub;

impl Provider for DockerHub {
    fn name(&self) -> &'static str {
        "docker-hub"
    }

    fn default_concurrency(&self) -> usize {
        4
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            lists_untagged: Support::No,
            tags_of_manifest: Support::No,
            push_times: Support::Yes,
            // Nothing says for how long a pull is remembered.
            pull_times: Support::Unknown,
            locks: Support::Yes,
            referrers: ReferrersSupport::Unknown,
            cascades_referrers: Support::Unknown,
            digest_in_removal: Support::No,
            rights: Support::Yes,
            replicas: Support::Unknown,
            untag: UntagSupport::Unknown,
            ..Capabilities::UNKNOWN
        }
    }

    fn check(&self, draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
        settings::check(draft)
    }

    fn connect(&self, settings: RegistrySettings, retry: RetryPolicy) -> Result<RegistryConnection, RegistryError> {
        let api = HubApi::new(settings, retry)?;
        let writer = HubWriter { api: api.for_writer() };
        Ok(RegistryConnection::new(Arc::new(HubReader { api }), Arc::new(writer)))
    }

    /// Always: it cannot be asked.
    fn missing_info(&self) -> Option<&'static str> {
        Some(
            "Docker Hub does not document what becomes of an image that lost its last tag, so it is not known for how long it \
             can be put back; its request to remove a tag is not in its published API, and may change",
        )
    }
}

/// The addresses of Docker Hub's API and of its registry. Any other host has both, as a copy for tests does.
fn addresses(endpoint: &Url) -> (Url, Url) {
    if !is_docker_hub(endpoint) {
        return (endpoint.clone(), endpoint.clone());
    }
    let at = |host: &str| {
        let mut url = endpoint.clone();
        // A plain host name is always valid.
        let _valid = url.set_host(Some(host));
        url
    };
    (at("hub.docker.com"), at("registry-1.docker.io"))
}

/// Returns true for an address of Docker Hub.
fn is_docker_hub(endpoint: &Url) -> bool {
    ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&endpoint.host_str().unwrap_or_default())
}

/// The namespace of a repository, and its name in it; `None` if it has not exactly these two.
fn namespace_and_name(repository: &RepositoryName) -> Option<(&str, &str)> {
    repository.as_str().split_once('/').filter(|(_, name)| !name.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_of_docker_hub_are_one_registry_and_one_api() {
        for (endpoint, api, registry) in [
            ("https://docker.io", "https://hub.docker.com/", "https://registry-1.docker.io/"),
            ("https://index.docker.io", "https://hub.docker.com/", "https://registry-1.docker.io/"),
            ("https://registry-1.docker.io", "https://hub.docker.com/", "https://registry-1.docker.io/"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000/", "http://127.0.0.1:5000/"),
        ] {
            let found = addresses(&endpoint.parse().unwrap());
            assert_eq!((found.0.as_str(), found.1.as_str()), (api, registry), "{endpoint}");
        }
    }
}
