//! The settings that Docker Hub refuses, and those that it needs.

use super::{is_docker_hub, namespace_and_name};
use crate::domain::RemovalMethod;
use crate::registry::providers::acr::refuse_azure_settings;
use crate::registry::providers::settings::{check_namespaced_names, refuse_api};
use crate::registry::providers::{SettingProblem, SettingsDraft};
use crate::registry::{Auth, is_loopback};

/// Returns the settings that Docker Hub refuses.
pub(super) fn check(draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
    let mut problems = refuse_azure_settings(draft);
    problems.retain(|problem| !["bytes", "auth"].contains(&problem.key));
    let foreign = |endpoint: &&url::Url| endpoint.scheme() != "https" || !is_docker_hub(endpoint);
    if draft.endpoint.filter(foreign).is_some_and(|endpoint| !is_loopback(endpoint)) {
        problems.push(SettingProblem::new(
            "endpoint",
            "Docker Hub has one address",
            "write endpoint = \"https://registry-1.docker.io\"; a cache of it is kind = \"distribution\"",
        ));
    }
    if !matches!(draft.auth, None | Some(Auth::Basic { .. } | Auth::Anonymous)) {
        problems.push(SettingProblem::new(
            "auth",
            "the API of Docker Hub takes a user or an organization with an access token; `docker login` does not reach it",
            "write auth = { kind = \"basic\", username = \"NAME\", password_file = \"docker-hub-token\" }",
        ));
    }
    if draft.removal == Some(RemovalMethod::DeleteManifest) {
        problems.push(SettingProblem::new(
            "removal",
            "Docker Hub removes tags, and has no published request that deletes a manifest",
            "leave `removal` out",
        ));
    }
    if draft.exact_bytes.is_some() {
        problems.push(SettingProblem::new(
            "bytes",
            "`bytes` is for Azure Container Registries: Docker Hub lists the size of each image",
            "leave `bytes` out",
        ));
    }
    problems.extend(refuse_api(draft));
    if let (Some([]), Some([])) = (draft.namespaces, draft.repositories) {
        problems.push(SettingProblem::new(
            "namespaces",
            "Docker Hub lists the repositories of a namespace, and the settings name none",
            "write namespaces = [\"NAME\"] with your user or organization, or name single `repositories`",
        ));
    }
    if let Some(name) = draft.namespaces.unwrap_or_default().iter().find(|name| name.contains('/')) {
        problems.push(SettingProblem::new(
            "namespaces",
            format!("`{name}` is not a valid namespace of Docker Hub"),
            "write the user or organization alone, such as \"contoso\"",
        ));
    }
    let names = check_namespaced_names(draft);
    let deep = draft.repositories.unwrap_or_default().iter();
    let mut deep = deep.filter(|name| name.as_str().contains('/') && namespace_and_name(name).is_none());
    problems.extend(deep.next().map(|name| {
        let message = format!("`{name}` is not a valid repository of Docker Hub");
        SettingProblem::new("repositories", message, "write namespace and name, such as \"contoso/api\"")
    }));
    problems.extend(names);
    problems
}
