//! The settings that Harbor refuses, and those that it needs.

use crate::domain::RemovalMethod;
use crate::registry::Auth;
use crate::registry::providers::acr::refuse_azure_settings;
use crate::registry::providers::settings::{check_namespaced_names, refuse_api};
use crate::registry::providers::{SettingProblem, SettingsDraft};

/// Returns the settings that Harbor refuses.
pub(super) fn check(draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
    let mut problems = refuse_azure_settings(draft);
    // Its garbage collection is such a retention, and it lists sizes.
    problems.retain(|problem| !["accept", "bytes", "auth"].contains(&problem.key));
    match draft.auth {
        None | Some(Auth::Basic { .. } | Auth::DockerConfig(_)) => {}
        Some(_) => problems.push(SettingProblem::new(
            "auth",
            "the API of Harbor takes a robot account, or a user with its password or CLI secret",
            "write auth = { kind = \"basic\", username = \"robot$tagwarden\", password_file = \"harbor-secret\" }",
        )),
    }
    if draft.removal == Some(RemovalMethod::DeleteManifest) {
        problems.push(SettingProblem::new(
            "removal",
            "Harbor can untag, so manifests are not deleted with their tags there",
            "leave `removal` out; Harbor's garbage collection deletes untagged artifacts where it is told to",
        ));
    }
    if draft.exact_bytes.is_some() {
        problems.push(SettingProblem::new(
            "bytes",
            "`bytes` is for Azure Container Registries: Harbor lists the size of each artifact",
            "leave `bytes` out",
        ));
    }
    problems.extend(refuse_api(draft));
    problems.extend(check_namespaced_names(draft));
    problems
}
