//! The settings that Artifact Registry refuses, and those that it needs.

use super::address::{ENDPOINT_HELP, RegistryPlace};
use crate::domain::RemovalMethod;
use crate::registry::providers::acr::refuse_azure_settings;
use crate::registry::providers::settings::refuse_api;
use crate::registry::providers::{SettingProblem, SettingsDraft};
use crate::registry::{Auth, is_loopback};

/// Returns the settings that Artifact Registry refuses.
pub(super) fn check(draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
    let mut problems = refuse_azure_settings(draft);
    // Its cleanup policies are such a retention, and it lists sizes.
    problems.retain(|problem| !["accept", "bytes", "auth"].contains(&problem.key));
    let place = draft.endpoint.and_then(|endpoint| RegistryPlace::of(endpoint, draft.aliases.unwrap_or_default()));
    if let Some(endpoint) = draft.endpoint {
        if place.is_none() {
            let message = "the address does not tell the location of an Artifact Registry for images";
            problems.push(SettingProblem::new("endpoint", message, ENDPOINT_HELP));
        } else if endpoint.scheme() != "https" && !is_loopback(endpoint) {
            problems.push(SettingProblem::new(
                "endpoint",
                "Artifact Registry answers at `https://` only",
                ENDPOINT_HELP,
            ));
        }
    }
    match draft.auth {
        None | Some(Auth::Google(_) | Auth::Token(_)) => {}
        Some(_) => problems.push(SettingProblem::new(
            "auth",
            "the API of Artifact Registry takes an access token of Google; `docker login` does not reach it",
            "write auth = { kind = \"google\" } for the identity of the environment, or `google-credentials` with a \
             credentials file",
        )),
    }
    if draft.removal == Some(RemovalMethod::DeleteManifest) {
        problems.push(SettingProblem::new(
            "removal",
            "Artifact Registry can untag, so manifests are not deleted with their tags there",
            "leave `removal` out; a policy with `untagged` deletes images that have no tag",
        ));
    }
    if draft.exact_bytes.is_some() {
        problems.push(SettingProblem::new(
            "bytes",
            "`bytes` is for Azure Container Registries: Artifact Registry lists the size of each image",
            "leave `bytes` out",
        ));
    }
    problems.extend(refuse_api(draft));
    if let Some(place) = place {
        problems.extend(check_names(draft, &place));
    }
    problems
}

/// Returns the refusals of names that are not those of projects, repositories or images at that place.
fn check_names(draft: &SettingsDraft<'_>, place: &RegistryPlace) -> Vec<SettingProblem> {
    let mut problems = Vec::new();
    let (namespaces, repositories) = (draft.namespaces, draft.repositories);
    let namespace =
        if place.legacy.is_some() { "write \"PROJECT\"" } else { "write \"PROJECT\" or \"PROJECT/REPOSITORY\"" };
    match (namespaces, repositories) {
        (Some([_, ..]), Some([_, ..])) => problems.push(SettingProblem::new(
            "namespaces",
            "`namespaces` lists repositories, and `repositories` names them",
            "leave one of the two out",
        )),
        (Some([]), Some([])) => problems.push(SettingProblem::new(
            "namespaces",
            "Artifact Registry lists the repositories of a project, and the settings name none",
            "write namespaces = [\"PROJECT\"] with your projects, or name single `repositories`",
        )),
        _ => {}
    }
    let wrong = namespaces.unwrap_or_default().iter().find(|text| place.namespace(text).is_none());
    problems.extend(wrong.map(|text| {
        SettingProblem::new("namespaces", format!("`{text}` is not a valid project or repository"), namespace)
    }));
    let short = repositories.unwrap_or_default().iter().find(|name| place.image(name).is_none());
    problems.extend(short.map(|name| {
        SettingProblem::new(
            "repositories",
            format!("`{name}` does not name an image of a repository"),
            "write it as in image references, such as \"acme-prod/shop/api\"",
        )
    }));
    problems
}
