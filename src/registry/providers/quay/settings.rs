//! The settings that Quay refuses, and those that it needs.

use crate::domain::RemovalMethod;
use crate::registry::Auth;
use crate::registry::providers::acr::refuse_azure_settings;
use crate::registry::providers::settings::{check_namespaced_names, refuse_api};
use crate::registry::providers::{SettingProblem, SettingsDraft};

/// Returns the settings that Quay refuses.
pub(super) fn check(draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
    let mut problems = refuse_azure_settings(draft);
    // Its time machine is such a retention, and it lists sizes.
    problems.retain(|problem| !["accept", "bytes", "auth"].contains(&problem.key));
    match draft.auth {
        None | Some(Auth::Token(_)) => {}
        Some(_) => problems.push(SettingProblem::new(
            "auth",
            "the API of Quay takes an OAuth access token; users, robot accounts and `docker login` do not reach it",
            "write auth = { kind = \"token\", token_file = \"quay-token\" }, or kind = \"distribution\" for a robot account",
        )),
    }
    if draft.removal == Some(RemovalMethod::DeleteManifest) {
        problems.push(SettingProblem::new(
            "removal",
            "Quay can untag, so manifests are not deleted there",
            "leave `removal` out; Quay itself deletes what leaves the time machine of its namespace",
        ));
    }
    if draft.exact_bytes.is_some() {
        problems.push(SettingProblem::new(
            "bytes",
            "`bytes` is for Azure Container Registries: Quay lists the size of each image",
            "leave `bytes` out",
        ));
    }
    problems.extend(refuse_api(draft));
    if let Some(name) = draft.namespaces.unwrap_or_default().iter().find(|name| name.contains('/')) {
        problems.push(SettingProblem::new(
            "namespaces",
            format!("`{name}` is not a valid namespace of Quay"),
            "write the first part of the names of its repositories, such as `contoso`",
        ));
    }
    if let (Some([]), Some([])) = (draft.namespaces, draft.repositories) {
        problems.push(SettingProblem::new(
            "namespaces",
            "Quay lists the repositories of a namespace, and the settings name none",
            "write namespaces = [\"NAME\"] with your organizations, or name single `repositories`",
        ));
    }
    problems.extend(check_namespaced_names(draft));
    problems
}
