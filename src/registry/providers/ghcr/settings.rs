//! The settings that GitHub's registry refuses, and those that it needs.

use secrecy::ExposeSecret as _;

use super::address::{ApiAddress, ENDPOINT_HELP};
use crate::registry::providers::acr::refuse_azure_settings;
use crate::registry::providers::settings::check_namespaced_names;
use crate::registry::providers::{SettingProblem, SettingsDraft};
use crate::registry::{Auth, CanUntag, is_loopback};

/// Returns the settings that GitHub's registry refuses.
pub(super) fn check(draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
    let mut problems = refuse_azure_settings(draft);
    problems.retain(|problem| !["bytes", "auth"].contains(&problem.key));
    if let Some(endpoint) = draft.endpoint {
        if endpoint.scheme() != "https" && !is_loopback(endpoint) {
            problems.push(SettingProblem::new("endpoint", "GitHub answers at `https://` only", ENDPOINT_HELP));
        } else if !draft.has_api && ApiAddress::of_registry(endpoint).is_none() {
            let message = "the address is not that of a container registry of GitHub";
            problems.push(SettingProblem::new("endpoint", message, ENDPOINT_HELP));
        }
    }
    problems.extend(draft.auth.and_then(refuse_auth));
    if draft.can_untag == CanUntag::Yes {
        problems.push(SettingProblem::new(
            "can_untag",
            "GitHub has no removal of a tag alone: it deletes a package version with all of its tags",
            "leave `can_untag` out, and write removal = \"manifest\" if that is meant",
        ));
    }
    if draft.exact_bytes.is_some() {
        problems.push(SettingProblem::new(
            "bytes",
            "`bytes` is for Azure Container Registries: GitHub tells no sizes, so they are those of the manifests that were read",
            "leave `bytes` out",
        ));
    }
    if let (Some([]), Some([])) = (draft.namespaces, draft.repositories) {
        problems.push(SettingProblem::new(
            "namespaces",
            "GitHub lists packages by their owner only",
            "write namespaces = [\"OWNER\"] with organizations or users, or name packages in `repositories`",
        ));
    }
    let mut owners = draft.namespaces.unwrap_or_default().iter();
    problems.extend(owners.find(|owner| owner.contains('/')).map(|owner| {
        SettingProblem::new(
            "namespaces",
            format!("`{owner}` is not the name of an owner"),
            "write the organization or user alone, such as \"contoso\"",
        )
    }));
    problems.extend(check_namespaced_names(draft));
    problems
}

/// Returns the refusal of a sign-in that GitHub's packages do not take.
fn refuse_auth(auth: &Auth) -> Option<SettingProblem> {
    const HELP: &str = "write auth = { kind = \"token\", token_file = \"…\" } with a personal access token (classic)";
    let token = match auth {
        Auth::Token(token) => token,
        Auth::Basic { password, .. } => password,
        Auth::Anonymous => {
            return Some(SettingProblem::new("auth", "GitHub's API for packages answers nobody without a token", HELP));
        }
        Auth::DockerConfig(_) | Auth::Entra(_) | Auth::Aws(_) | Auth::Google(_) => {
            let message = "GitHub's API takes a token from a file or the environment; `docker login` does not reach it";
            return Some(SettingProblem::new("auth", message, HELP));
        }
    };
    token.expose_secret().trim().starts_with("github_pat_").then(|| {
        let message = "it is a fine-grained token, and GitHub has no permission for packages in these";
        SettingProblem::new("auth", message, HELP)
    })
}
