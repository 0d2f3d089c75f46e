//! Harbor by its own API (`/api/v2.0`): artifacts listed with tags, times, sizes, children, accessories and immutability;
//! tags removed on condition of their digest, and put back by their name.
//!
//! Everything but a manifest's bytes comes by that API, so a plan pulls nothing. Wire facts are those of the source of
//! goharbor/harbor at commit c50c7ddd, whose `api/v2.0/swagger.yaml` describes requests and answers.

mod api;
mod artifacts;
mod cleanup_rules;
mod keyset_list;
mod projects;
mod reader;
mod settings;
mod wire;
mod writer;

use std::sync::Arc;

use super::{
    Capabilities, Provider, ReferrersSupport, SettingProblem, SettingsDraft, Support, UntagSupport, VerifyTool,
};
use crate::domain::{Registry, Removal, RepositoryName};
use crate::http_client::RetryPolicy;
use crate::registry::client::authenticator::Authenticator;
use crate::registry::providers::shell;
use crate::registry::{RegistryConnection, RegistryError, RegistrySettings};

use api::HarborReader;
use writer::HarborWriter;

/// Harbor.
#[derive(Debug, Clone, Copy)]
pub struct Harbor;

impl Provider for Harbor {
    fn name(&self) -> &'static str {
        "harbor"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            lists_untagged: Support::Yes,
            tags_of_manifest: Support::Yes,
            push_times: Support::Yes,
            // Administrators can switch the recording off, and only they can see that.
            pull_times: Support::Unknown,
            locks: Support::Yes,
            referrers: ReferrersSupport::Api,
            cascades_referrers: Support::Yes,
            digest_in_removal: Support::Yes,
            rights: Support::Yes,
            replicas: Support::Unknown,
            untag: UntagSupport::Native,
            ..Capabilities::UNKNOWN
        }
    }

    fn check(&self, draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
        settings::check(draft)
    }

    /// By user name and password with each request: the API takes no tokens of the registry's token service.
    fn authenticator(&self, settings: &RegistrySettings, _: RetryPolicy) -> Authenticator {
        Authenticator::by_password(settings)
    }

    fn connect(&self, settings: RegistrySettings, retry: RetryPolicy) -> Result<RegistryConnection, RegistryError> {
        let reader = HarborReader::new(settings, retry)?;
        let writer = HarborWriter { http: reader.http.for_writer() };
        Ok(RegistryConnection::new(Arc::new(reader), Arc::new(writer)))
    }

    /// A look at the tag by the API, which pulls nothing.
    fn verify_commands(&self, registry: &Registry, removal: &Removal) -> Vec<String> {
        let Removal { repository, tag, .. } = removal;
        let path = artifact_path(repository, tag.as_str());
        let url = format!("{}{path}?with_tag=true&with_immutable_status=true", registry.endpoint);
        vec![format!("curl --netrc-file harbor-netrc {}", shell::quote(&url))]
    }

    fn verify_tool(&self) -> Option<VerifyTool> {
        Some(VerifyTool {
            command: "curl",
            introduction: "These only read, and pull nothing; `harbor-netrc` holds the line `machine HOST login USER \
                           password SECRET` of a user or robot account that may read. They show digest, push time and \
                           immutability of the first removal of each repository. The JSON has them for each removal.",
        })
    }
}

/// The path of the API.
const API: &str = "/api/v2.0";

/// The project of a repository, and the rest of its name. Harbor has no repository outside a project.
fn project_and_rest(repository: &RepositoryName) -> (&str, &str) {
    repository.as_str().split_once('/').unwrap_or((repository.as_str(), ""))
}

/// The path of a repository. Slashes in its name are encoded twice over: Harbor routes by the path that was decoded once.
fn repository_path(repository: &RepositoryName) -> String {
    let (project, rest) = project_and_rest(repository);
    format!("{API}/projects/{project}/repositories/{}", rest.replace('/', "%252F"))
}

/// The path of a repository's artifacts.
fn artifacts_path(repository: &RepositoryName) -> String {
    format!("{}/artifacts", repository_path(repository))
}

/// The path of an artifact by its digest or one of its tags.
fn artifact_path(repository: &RepositoryName, reference: &str) -> String {
    format!("{}/artifacts/{reference}", repository_path(repository))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_in_names_are_encoded_twice() {
        for (name, path) in [
            ("shop/api", "/api/v2.0/projects/shop/repositories/api/artifacts/v1"),
            ("shop/a/b", "/api/v2.0/projects/shop/repositories/a%252Fb/artifacts/v1"),
            ("my.shop/a/b/c", "/api/v2.0/projects/my.shop/repositories/a%252Fb%252Fc/artifacts/v1"),
        ] {
            let repository: RepositoryName = name.parse().unwrap();
            assert_eq!(artifact_path(&repository, "v1"), path);
            let mut url: url::Url = "https://harbor.example".parse().unwrap();
            url.set_path(&artifact_path(&repository, "v1"));
            assert_eq!(url.as_str(), format!("https://harbor.example{path}"), "a URL leaves it as it is");
        }
    }
}
