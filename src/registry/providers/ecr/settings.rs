//! The settings that Amazon ECR refuses, and those that it needs.

use super::address::{ENDPOINT_HELP, RegistryPlace};
use crate::registry::providers::acr::refuse_azure_settings;
use crate::registry::providers::settings::refuse_product_settings;
use crate::registry::providers::{SettingProblem, SettingsDraft};
use crate::registry::{Auth, is_loopback};

/// Returns the settings that Amazon ECR refuses.
pub(super) fn check(draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
    let mut problems = refuse_azure_settings(draft);
    // Its lifecycle policies are such a retention, and it lists sizes.
    problems.retain(|problem| !["accept", "bytes", "auth"].contains(&problem.key));
    if let Some(endpoint) = draft.endpoint {
        if RegistryPlace::of(endpoint, draft.aliases.unwrap_or_default()).is_none() {
            let message = "the address tells neither the account nor the region of a registry of Amazon ECR";
            problems.push(SettingProblem::new("endpoint", message, ENDPOINT_HELP));
        } else if endpoint.scheme() != "https" && !is_loopback(endpoint) {
            problems.push(SettingProblem::new("endpoint", "Amazon ECR answers at `https://` only", ENDPOINT_HELP));
        }
    }
    match draft.auth {
        None | Some(Auth::Aws(_)) => {}
        Some(_) => problems.push(SettingProblem::new(
            "auth",
            "the API of Amazon ECR takes requests that are signed with the keys of an AWS identity; `docker login` does not \
             reach it",
            "write auth = { kind = \"aws\" } for the identity of the environment, or `aws-keys` with keys of your own",
        )),
    }
    if draft.exact_bytes.is_some() {
        problems.push(SettingProblem::new(
            "bytes",
            "`bytes` is for Azure Container Registries: Amazon ECR lists the size of each image",
            "leave `bytes` out",
        ));
    }
    problems.extend(refuse_product_settings(draft));
    problems
}
