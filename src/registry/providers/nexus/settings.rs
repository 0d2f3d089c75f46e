//! The settings that Nexus refuses.

use crate::registry::Auth;
use crate::registry::providers::acr::refuse_azure_settings;
use crate::registry::providers::keyed_images::{check_keys, refuse_removals};
use crate::registry::providers::{SettingProblem, SettingsDraft};

/// Returns the settings that Nexus refuses.
pub(super) fn check(draft: &SettingsDraft<'_>) -> Vec<SettingProblem> {
    let mut problems = refuse_azure_settings(draft);
    if let (Some(Auth::Anonymous | Auth::DockerConfig(_) | Auth::Token(_)), false) = (draft.auth, draft.has_api) {
        problems.push(SettingProblem::new(
            "auth",
            "the API of Nexus takes a user with a password, or a user token as such",
            "write auth = { kind = \"basic\", username = \"…\", password_file = \"…\" }",
        ));
    }
    problems.extend(refuse_removals("Nexus", draft));
    problems.extend(check_keys("Nexus", draft));
    problems
}
