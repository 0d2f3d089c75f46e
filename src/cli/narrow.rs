//! The flags that narrow a plan or a run.

use clap::Args;

use crate::config::Settings;
use crate::domain::{Failure, Globs};
use crate::policy::PolicySet;
use crate::workflow::{Narrowing, RunError, unknown_name};

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Narrowing (a narrowed plan removes nothing that the whole plan would keep)")]
pub(super) struct NarrowArgs {
    /// Narrow to a registry, by its name in the settings; repeatable
    ///
    /// Everything is read and decided all the same, and limits count the whole plan: what keeps a tag may stand anywhere.
    #[arg(long = "registry", value_name = "NAME")]
    registries: Vec<String>,
    /// Narrow to repositories that match a glob; repeatable
    ///
    /// As in policies: `*` stays inside one path segment, `**` does not, `!` excludes.
    #[arg(long = "repository", value_name = "GLOB")]
    repositories: Vec<String>,
    /// Narrow to a policy; repeatable
    ///
    /// A tag that another policy expires, too, is only reported.
    #[arg(long = "policy", value_name = "NAME")]
    policies: Vec<String>,
}

impl NarrowArgs {
    /// What the flags say, with names that the settings and policies have.
    ///
    /// # Errors
    /// [`RunError::Usage`] for an unknown name, with the one that was probably meant, and for an invalid glob.
    pub(super) fn narrowing(&self, settings: &Settings, policies: &PolicySet) -> Result<Narrowing, RunError> {
        let mut found = Narrowing::default();
        for name in &self.registries {
            let known = settings.registries.iter().map(|one| &one.name).find(|known| known.as_str() == name);
            found.registries.insert(known.cloned().ok_or_else(|| {
                let names: Vec<&str> = settings.registries.iter().map(|one| one.name.as_str()).collect();
                unknown_name("registry", name, &names)
            })?);
        }
        for name in &self.policies {
            let known = policies.policies.iter().map(|one| &one.name).find(|known| known.as_str() == name);
            found.policies.insert(known.cloned().ok_or_else(|| {
                let names: Vec<&str> = policies.policies.iter().map(|one| one.name.as_str()).collect();
                unknown_name("policy", name, &names)
            })?);
        }
        if !self.repositories.is_empty() {
            let mut globs = self.repositories.clone();
            // Exclusions alone are taken from everything.
            if globs.iter().all(|glob| glob.starts_with('!')) {
                globs.insert(0, "**".to_owned());
            }
            let compiled = Globs::new(&globs).map_err(|(at, error)| {
                let glob = globs.get(at).map(String::as_str).unwrap_or_default();
                let failure = Failure::new((), format!("--repository {glob}: invalid glob")).caused_by(error);
                RunError::Usage(failure.with_help("`*` stays inside one path segment, `**` does not"))
            })?;
            found.repositories = Some(compiled);
        }
        Ok(found)
    }
}
