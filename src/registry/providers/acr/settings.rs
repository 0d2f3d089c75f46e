//! The settings that Azure Container Registry refuses, and those that only it has.

use url::Url;

use crate::domain::RemovalMethod;
use crate::registry::providers::settings::refuse_product_settings;
use crate::registry::providers::{SettingProblem, SettingsDraft};
use crate::registry::{Auth, is_loopback};

/// The domains of Azure Container Registries, in the public cloud and the sovereign ones.
pub(super) const DOMAINS: [&str; 3] = [".azurecr.io", ".azurecr.cn", ".azurecr.us"];

/// Returns true for the address of an Azure Container Registry, by its domain.
pub(in crate::registry::providers) fn is_azure_host(endpoint: &Url) -> bool {
    let host = endpoint.host_str().unwrap_or_default();
    DOMAINS.iter().any(|domain| host.ends_with(domain))
}

/// Returns the settings that Azure Container Registry refuses.
pub(super) fn check(draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
    let mut problems = Vec::new();
    if draft.endpoint.is_some_and(|endpoint| endpoint.scheme() != "https" && !is_loopback(endpoint)) {
        problems.push(SettingProblem::new(
            "endpoint",
            "Azure Container Registry answers at `https://` only",
            "write endpoint = \"https://NAME.azurecr.io\"",
        ));
    }
    problems.extend(refuse_foreign_identity(draft));
    if draft.removal == Some(RemovalMethod::DeleteManifest) {
        problems.push(SettingProblem::new(
            "removal",
            "Azure Container Registry can untag, so manifests are not deleted there",
            "leave `removal` out; the registry's own retention policy deletes manifests that lost their last tag",
        ));
    }
    problems.extend(refuse_product_settings(draft));
    problems
}

/// Returns the refusal of an identity of AWS or Google Cloud, for every product but that cloud's own.
fn refuse_foreign_identity(draft: &SettingsDraft<'_>) -> Option<SettingProblem> {
    let (message, kind) = match draft.auth? {
        Auth::Aws(_) => ("an identity of AWS signs in to Amazon ECR only", "ecr"),
        Auth::Google(_) => {
            ("an identity of Google Cloud signs in to Google Artifact Registry only", "artifact-registry")
        }
        _ => return None,
    };
    let help = format!("write kind = \"{kind}\" if it is one, or sign in by `basic`, `token` or `docker-config`");
    Some(SettingProblem::new("auth", message, help))
}

/// Returns the settings that only Azure Container Registry has, for every other product.
pub(in crate::registry::providers) fn refuse_azure_settings(draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
    let mut problems = Vec::new();
    if let Some(Auth::Entra(credential)) = draft.auth {
        problems.push(SettingProblem::new(
            "auth",
            format!("`{}` signs in to Azure Container Registries only", credential.identity.label()),
            "write kind = \"acr\" if it is one, or sign in by `basic`, `token` or `docker-config`",
        ));
    }
    problems.extend(refuse_foreign_identity(draft));
    if let Some(key) = draft.azure_key {
        problems.push(SettingProblem::new(
            key,
            "only Azure Container Registries have a subscription and a resource group",
            "write kind = \"acr\", or leave both out",
        ));
    }
    if draft.accepts_retention {
        problems.push(SettingProblem::new(
            "accept",
            "`untagged-retention` can only be accepted of registries that tell theirs (`acr`, `artifact-registry`, `ecr`, `gitlab`, `harbor`, `quay`, `zot`)",
            "leave `accept` out",
        ));
    }
    if draft.exact_bytes.is_some() {
        problems.push(SettingProblem::new(
            "bytes",
            "`bytes` is for Azure Container Registries: elsewhere every manifest is read, and bytes are exact",
            "leave `bytes` out",
        ));
    }
    problems
}
