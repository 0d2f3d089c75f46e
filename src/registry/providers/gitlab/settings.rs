//! The settings that GitLab's registry refuses.

use crate::domain::{RemovalMethod, RepositoryName};
use crate::registry::providers::acr::refuse_azure_settings;
use crate::registry::providers::{SettingProblem, SettingsDraft};

/// Returns the settings that GitLab's registry refuses.
pub(super) fn check(draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
    let mut problems = refuse_azure_settings(draft);
    // Its garbage collection is such a retention, and it lists sizes.
    problems.retain(|problem| !["accept", "bytes"].contains(&problem.key));
    if draft.removal == Some(RemovalMethod::DeleteManifest) {
        problems.push(SettingProblem::new(
            "removal",
            "GitLab can untag, so manifests are not deleted there",
            "leave `removal` out; GitLab's garbage collection deletes what has lost its last tag",
        ));
    }
    if draft.exact_bytes.is_some() {
        problems.push(SettingProblem::new(
            "bytes",
            "`bytes` is for Azure Container Registries: GitLab lists the size of each image",
            "leave `bytes` out",
        ));
    }
    if let (Some([_, ..]), Some([_, ..])) = (draft.namespaces, draft.repositories) {
        problems.push(SettingProblem::new(
            "namespaces",
            "`namespaces` lists repositories, and `repositories` names them",
            "leave one of the two out",
        ));
    }
    let mut named = draft.repositories.unwrap_or_default().iter().map(RepositoryName::as_str);
    if let Some(name) = named.find(|name| !name.contains('/')) {
        problems.push(SettingProblem::new(
            "repositories",
            format!("`{name}` has no group"),
            format!("write it as in image references, such as \"contoso/{name}\""),
        ));
    }
    problems
}
