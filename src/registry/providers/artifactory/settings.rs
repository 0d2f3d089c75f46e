//! The settings that Artifactory refuses.

use crate::registry::Auth;
use crate::registry::providers::acr::refuse_azure_settings;
use crate::registry::providers::keyed_images::{check_keys, refuse_removals};
use crate::registry::providers::{SettingProblem, SettingsDraft};

/// Returns the settings that Artifactory refuses.
pub(super) fn check(draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
    let mut problems = refuse_azure_settings(draft);
    if let (Some(Auth::Anonymous | Auth::DockerConfig(_)), false) = (draft.auth, draft.has_api) {
        problems.push(SettingProblem::new(
            "auth",
            "searches in Artifactory take a user with a password or an access token",
            "write auth = { kind = \"token\", token_file = \"token\" }, or kind = \"basic\"",
        ));
    }
    problems.extend(refuse_removals("Artifactory", draft));
    problems.extend(check_keys("Artifactory", draft));
    problems
}
