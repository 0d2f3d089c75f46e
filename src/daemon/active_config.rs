//! The active configuration: settings and policies, as they were last valid.

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
    /// The git commit of the checkout around the settings file, if it is in one.
    pub(super) settings_commit: Option<String>,
    /// The content of the settings file.
    content: Vec<u8>,
}

/// Loads both.
///
/// # Errors
/// Returns an error if they are invalid.
pub(super) fn load(file: &Path, environment: &[(String, String)]) -> Result<ActiveConfig, RunError> {
    // Read before: a change in between is then reported twice rather than never.
    let content = std::fs::read(file).unwrap_or_default();
    let settings_commit = policy::find_commit(file);
    let (settings, policies) = workflow::load(file, environment.iter().cloned())?;
    Ok(ActiveConfig { settings, policies, settings_commit, content })
}

impl ActiveConfig {
    /// Returns the time until the policy files count as completely written.
    pub(super) fn stabilization_delay(&self, now: Timestamp) -> Duration {
        stabilization_delay(&self.policies, now)
    }

    /// Loads the policies again; `None` if they are unchanged.
    ///
    /// # Errors
    /// Returns all of their problems.
    pub(super) fn load_changed_policies(&self) -> Result<Option<PolicySet>, Vec<Diagnostic>> {
        let policies = policy::load(&self.settings.policies).map_err(|error| error.diagnostics)?;
        if policies.files == self.policies.files && policies.commit == self.policies.commit {
            return Ok(None);
        }
        let mismatches = config::cross_check(&self.settings, &policies);
        if mismatches.is_empty() { Ok(Some(policies)) } else { Err(mismatches) }
    }

    /// Returns the settings with the current secrets of their files. Edited settings are not applied: a person decides
    /// when.
    pub(super) fn with_current_secrets(&self, environment: &[(String, String)]) -> Settings {
        let file = &self.settings.file;
        if std::fs::read(file).is_ok_and(|content| content == self.content) {
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

/// Returns the time until policy files count as completely written.
pub(super) fn stabilization_delay(policies: &PolicySet, now: Timestamp) -> Duration {
    policies.modified.map_or(Duration::ZERO, |modified| time_until_stable(modified, now))
}

/// Formats problems, one line for each.
pub(super) fn format_diagnostics(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|problem| chain(problem)).collect::<Vec<_>>().join("\n")
}
