//! The settings that zot refuses.

use crate::domain::RemovalMethod;
use crate::registry::providers::acr::refuse_azure_settings;
use crate::registry::providers::settings::refuse_product_settings;
use crate::registry::providers::{SettingProblem, SettingsDraft};

/// Returns the settings that zot refuses.
pub(super) fn check(draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
    let mut problems = refuse_azure_settings(draft);
    // Its garbage collection is such a retention, and it lists sizes.
    problems.retain(|problem| !["accept", "bytes"].contains(&problem.key));
    if draft.removal == Some(RemovalMethod::DeleteManifest) {
        problems.push(SettingProblem::new(
            "removal",
            "zot can untag since 2.1.2, so manifests are not deleted there",
            "leave `removal` out; zot's garbage collection deletes what has lost its last tag",
        ));
    }
    if draft.exact_bytes.is_some() {
        problems.push(SettingProblem::new(
            "bytes",
            "`bytes` is for Azure Container Registries: zot lists the size of each image",
            "leave `bytes` out",
        ));
    }
    problems.extend(refuse_product_settings(draft));
    problems
}
