//! The files of settings and policies: loading, and detection of later edits.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{App, Refused, RunError};
use crate::config::{self, ConfigError, Settings};
use crate::domain::Digest;
use crate::policy::{self, PolicySet};

/// Loads settings and policies, and reports every problem of both.
///
/// # Errors
/// Returns an error if either is invalid, or they do not fit each other.
pub fn load(
    file: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(Settings, PolicySet), RunError> {
    let environment: Vec<(String, String)> = environment.into_iter().collect();
    let settings = config::load(file, environment.iter().cloned());
    let ((settings, ()), policies) = with_policies(file, &environment, settings.map(|settings| (settings, ())))?;
    Ok((settings, policies))
}

/// Loads settings and policies for a check without the secrets, as [`config::load_without_secrets`] does, and returns
/// the files and variables that were not read.
///
/// # Errors
/// Fails as [`load`] does.
pub fn load_without_secrets(
    file: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<((Settings, Vec<String>), PolicySet), RunError> {
    let environment: Vec<(String, String)> = environment.into_iter().collect();
    with_policies(file, &environment, config::load_without_secrets(file, environment.iter().cloned()))
}

/// Adds the policies to loaded settings, and reports every problem of both.
fn with_policies<T>(
    file: &Path,
    environment: &[(String, String)],
    settings: Result<(Settings, T), ConfigError>,
) -> Result<((Settings, T), PolicySet), RunError> {
    let ((settings, more), policies) = match settings {
        Ok((settings, more)) => {
            let policies = policy::load(&settings.policies);
            ((settings, more), policies.map_err(|error| RunError::Invalid(error.diagnostics))?)
        }
        Err(error) => {
            // The policies are checked in any case, so that every problem is reported at once.
            let policies = config::policies_path(file, environment).map(|path| policy::load(&path));
            let others = policies.and_then(Result::err).map(|error| error.diagnostics).unwrap_or_default();
            return Err(RunError::Invalid(error.diagnostics.into_iter().chain(others).collect()));
        }
    };
    let mismatches = config::cross_check(&settings, &policies);
    if mismatches.is_empty() { Ok(((settings, more), policies)) } else { Err(RunError::Invalid(mismatches)) }
}

/// The files that settings and policies were loaded from, by the hashes of their content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFiles {
    settings: PathBuf,
    /// `None` if it could not be read.
    settings_digest: Option<Digest>,
    policies: PathBuf,
    /// Each policy file with its hash, by name.
    files: Vec<(String, String)>,
}

impl ConfigFiles {
    /// Loads as [`load`] does, and remembers the content of the files.
    ///
    /// # Errors
    /// Fails as [`load`] does.
    pub fn load(
        file: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<((Settings, PolicySet), Self), RunError> {
        // Hashed before loading: a change in between is then noticed, and not missed.
        let settings_digest = digest(file);
        let (settings, policies) = load(file, environment)?;
        let loaded = Self {
            settings: file.to_owned(),
            settings_digest,
            policies: settings.policies.clone(),
            files: policies.files.clone(),
        };
        Ok(((settings, policies), loaded))
    }

    /// Returns the first file that was changed, added or deleted since it was loaded, or `None`.
    fn find_changed_file(&self) -> Option<PathBuf> {
        if digest(&self.settings) != self.settings_digest {
            return Some(self.settings.clone());
        }
        match policy::load(&self.policies) {
            Ok(now) => {
                let (then, now): (BTreeSet<_>, BTreeSet<_>) = (self.files.iter().collect(), now.files.iter().collect());
                let (name, _) = then.symmetric_difference(&now).next()?;
                let alone = self.policies.ends_with(name);
                Some(if alone { self.policies.clone() } else { self.policies.join(name) })
            }
            // They were valid when loaded.
            Err(error) => {
                let place = error.diagnostics.first().map(|diagnostic| PathBuf::from(&diagnostic.file));
                Some(place.unwrap_or_else(|| self.policies.clone()))
            }
        }
    }
}

fn digest(file: &Path) -> Option<Digest> {
    fs::read(file).ok().map(|bytes| Digest::of(&bytes))
}

impl App {
    /// Makes the app verify, before it removes, that settings and policies are still those in these files: they may
    /// have been loaded while somebody was writing them.
    #[must_use]
    pub fn with_config_files(self, files: ConfigFiles) -> Self {
        Self { config_files: Some(files), ..self }
    }

    /// Verifies that the files are unchanged. Without known files the caller handles edits, as the daemon does.
    ///
    /// # Errors
    /// Returns [`RunError::Refused`] if one of the files has changed.
    pub(super) async fn verify_config_files(&self) -> Result<(), RunError> {
        let Some(files) = self.config_files.clone() else { return Ok(()) };
        let panicked = |_| RunError::failed("reading settings and policies again broke off with a panic".to_owned());
        match tokio::task::spawn_blocking(move || files.find_changed_file()).await.map_err(panicked)? {
            None => Ok(()),
            Some(file) => Err(Refused::FileChanged { file }.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &str = "policies = \"policies\"\nstate = \"sqlite:tagwarden.db\"\n[registries.main]\n\
                            kind = \"distribution\"\nendpoint = \"https://registry.example\"\n";
    const POLICY: &str = "policies:\n  - { name: a, select: { tags: ['*'] }, keep: all }\n";

    type Row = (&'static str, fn(&Path), Option<&'static str>);

    #[test]
    fn any_change_of_what_was_loaded_is_seen() {
        let write = |folder: &Path, name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        let rows: Vec<Row> = vec![
            ("nothing", |_| (), None),
            ("written again", |folder| fs::write(folder.join("policies/a.yaml"), POLICY).unwrap(), None),
            ("a fixture", |folder| fs::write(folder.join("policies/a.test.yaml"), "tests: []\n").unwrap(), None),
            (
                "a comment",
                |folder| fs::write(folder.join("policies/a.yaml"), format!("{POLICY}# more\n")).unwrap(),
                Some("policies/a.yaml"),
            ),
            (
                "half of it",
                |folder| fs::write(folder.join("policies/a.yaml"), &POLICY[..POLICY.len() / 2]).unwrap(),
                Some("policies/a.yaml"),
            ),
            ("gone", |folder| fs::remove_file(folder.join("policies/b.yaml")).unwrap(), Some("policies/b.yaml")),
            (
                "another file",
                |folder| fs::write(folder.join("policies/c.yaml"), POLICY.replace("name: a", "name: c")).unwrap(),
                Some("policies/c.yaml"),
            ),
            (
                "the settings",
                |folder| fs::write(folder.join("tagwarden.toml"), format!("mode = \"approved\"\n{SETTINGS}")).unwrap(),
                Some("tagwarden.toml"),
            ),
            ("no settings", |folder| fs::remove_file(folder.join("tagwarden.toml")).unwrap(), Some("tagwarden.toml")),
        ];
        for (what, change, expected) in rows {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            fs::create_dir(folder.join("policies")).unwrap();
            write(folder, "tagwarden.toml", SETTINGS);
            write(folder, "policies/a.yaml", POLICY);
            write(folder, "policies/b.yaml", &POLICY.replace("name: a", "name: b"));
            let (_, files) = ConfigFiles::load(&folder.join("tagwarden.toml"), []).unwrap();
            change(folder);
            assert_eq!(files.find_changed_file(), expected.map(|name| folder.join(name)), "{what}");
        }
    }
}
