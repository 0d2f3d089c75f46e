//! What the daemon goes by: settings and policies, as they were last found sound.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::{self, Settings};
use crate::domain::{chain, time_until_stable};
use crate::policy::{self, Diagnostic, PolicySet};
use crate::workflow::{self, RunError};

/// Settings and policies that fit each other.
#[derive(Debug, Clone)]
pub(super) struct ActiveConfig {
    pub(super) settings: Settings,
    pub(super) policies: PolicySet,
    /// The text of the settings file.
    text: String,
}

/// Reads both.
///
/// # Errors
/// When they cannot be gone by.
pub(super) fn load(file: &Path, environment: &[(String, String)]) -> Result<ActiveConfig, RunError> {
    // Read before: of a change in between it is better to hear twice than never.
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let (settings, policies) = workflow::load(file, environment.iter().cloned())?;
    Ok(ActiveConfig { settings, policies, text })
}

impl ActiveConfig {
    /// The time until the policy files count as written to their end.
    pub(super) fn stabilization_delay(&self, now: Timestamp) -> Duration {
        stabilization_delay(&self.policies, now)
    }

    /// Reads the policies again; nothing where they are what they were.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(super) fn load_changed_policies(&self) -> Result<Option<PolicySet>, Vec<Diagnostic>> {
        let policies = policy::load(&self.settings.policies).map_err(|error| error.diagnostics)?;
        if policies.files == self.policies.files && policies.commit == self.policies.commit {
            return Ok(None);
        }
        let mismatches = config::cross_check(&self.settings, &policies);
        if mismatches.is_empty() { Ok(Some(policies)) } else { Err(mismatches) }
    }

    /// The settings with the secrets that their files have now. Settings that were edited are not taken up: a person
    /// says when.
    pub(super) fn with_current_secrets(&self, environment: &[(String, String)]) -> Settings {
        let file = &self.settings.file;
        if std::fs::read_to_string(file).is_ok_and(|text| text == self.text) {
            match config::load(file, environment.iter().cloned()) {
                Ok(settings) => {
                    return Settings { state: self.settings.state.clone(), listen: self.settings.listen, ..settings };
                }
                Err(error) => {
                    tracing::warn!("secrets could not be read again, those of before are used: {}", chain(&error));
                }
            }
        }
        self.settings.clone()
    }
}

/// The time until policy files count as written to their end.
pub(super) fn stabilization_delay(policies: &PolicySet, now: Timestamp) -> Duration {
    policies.modified.map_or(Duration::ZERO, |modified| time_until_stable(modified, now))
}

/// What is wrong, one line for each.
pub(super) fn format_diagnostics(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|problem| chain(problem)).collect::<Vec<_>>().join("\n")
}
