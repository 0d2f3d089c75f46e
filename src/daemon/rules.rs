//! What the daemon goes by: settings and policies, as they were last found sound.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::{self, Settings};
use crate::domain::time_to_settle;
use crate::policy_file::{self, Diagnostic, PolicySet};
use crate::run::{self, RunError};

/// Settings and policies that fit each other.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) settings: Settings,
    pub(super) policies: PolicySet,
    /// The text of the settings file.
    text: String,
}

/// Reads both.
///
/// # Errors
/// When they cannot be gone by.
pub(super) fn load(file: &Path, environment: &[(String, String)]) -> Result<Rules, RunError> {
    // Read before: of a change in between it is better to hear twice than never.
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let (settings, policies) = run::load(file, environment.iter().cloned())?;
    Ok(Rules { settings, policies, text })
}

impl Rules {
    /// The time until the policy files count as written to their end.
    pub(super) fn wait(&self, now: Timestamp) -> Duration {
        time_until_settled(&self.policies, now)
    }

    /// Reads the policies again; nothing where they are what they were.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(super) fn changed_policies(&self) -> Result<Option<PolicySet>, Vec<Diagnostic>> {
        let policies = policy_file::load(&self.settings.policies).map_err(|error| error.diagnostics)?;
        if policies.files == self.policies.files && policies.commit == self.policies.commit {
            return Ok(None);
        }
        let mismatches = config::cross_check(&self.settings, &policies);
        if mismatches.is_empty() { Ok(Some(policies)) } else { Err(mismatches) }
    }

    /// The settings with the secrets that their files have now. Settings that were edited are not taken up: a person
    /// says when.
    pub(super) fn with_present_secrets(&self, environment: &[(String, String)]) -> Settings {
        let file = &self.settings.file;
        if std::fs::read_to_string(file).is_ok_and(|text| text == self.text) {
            match config::load(file, environment.iter().cloned()) {
                Ok(settings) => {
                    return Settings { state: self.settings.state.clone(), listen: self.settings.listen, ..settings };
                }
                Err(error) => tracing::warn!("secrets could not be read again, those of before are used: {error}"),
            }
        }
        self.settings.clone()
    }
}

/// The time until policy files count as written to their end.
pub(super) fn time_until_settled(policies: &PolicySet, now: Timestamp) -> Duration {
    policies.modified.map_or(Duration::ZERO, |modified| time_to_settle(modified, now))
}

/// What is wrong, one line for each.
pub(super) fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
