//! Proposals for names that are incomplete or misspelt: the full names that were probably meant.

use std::collections::BTreeSet;

use super::lookup::RECENT_RUNS;
use super::{App, RunError};
use crate::domain::{Failure, RegistryName, RepositoryName, TagName};
use crate::policy::fields::{nearest, quoted_list};
use crate::report::{self, PlanLoadError};
use crate::state::RunKind;

/// Most names that a message proposes.
const MOST_PROPOSED: usize = 5;

/// Most runs whose journal is searched for a tag.
const MOST_JOURNALS: usize = 100;

impl App {
    /// Returns the tags with that very name which the last complete plan or the latest removals know, as
    /// `registry/repository:tag`.
    ///
    /// # Errors
    /// Returns an error if the state cannot be read.
    pub async fn tags_named(&self, tag: &str) -> Result<Vec<String>, RunError> {
        let Ok(tag) = tag.parse::<TagName>() else { return Ok(Vec::new()) };
        let mut found = BTreeSet::new();
        if let Some(run) = self.store.last_whole_plan().await? {
            let document = match report::load_plan(&self.store, run).await {
                Err(PlanLoadError::State(error)) => return Err(error.into()),
                Err(PlanLoadError::Unreadable { .. }) | Ok(None) => None,
                Ok(Some(document)) => Some(document),
            };
            if let Some(document) = &document {
                let removals = document.removals.iter().filter(|one| one.tag == tag.as_str());
                found.extend(removals.map(|one| one.name()));
                let kept = document.kept.iter().filter(|one| one.tag == tag.as_str());
                found.extend(kept.map(|one| one.name()));
            }
        }
        let records = self.store.runs(RECENT_RUNS).await?.into_iter();
        for record in records.filter(|record| record.run.kind != RunKind::Plan).take(MOST_JOURNALS) {
            let journal = self.store.journal(record.run.id).await?;
            found.extend(journal.iter().filter(|entry| entry.intent.tag == tag).map(|entry| entry.intent.name()));
        }
        Ok(found.into_iter().collect())
    }

    /// Returns a better error for a word that names no registry and repository: the registry that it is, or the tags of
    /// that name; else the same error.
    ///
    /// # Errors
    /// Returns an error if the state cannot be read.
    pub async fn explain_bare_word(&self, word: &str, error: RunError) -> Result<RunError, RunError> {
        if word.contains(['/', ':', '@']) {
            return Ok(error);
        }
        if self.settings.registries.iter().any(|settings| settings.name.as_str() == word) {
            let failure = Failure::new((), format!("`{word}` names a registry, and nothing in it"));
            let help = format!("write `{word}/REPOSITORY`, or `{word}/REPOSITORY:TAG`; `tagwarden plan` lists them");
            return Ok(RunError::Usage(failure.with_help(help)));
        }
        let meant = self.tags_named(word).await?;
        if meant.is_empty() {
            return Ok(error);
        }
        let failure = Failure::new((), format!("`{word}` names a tag without its registry and repository"));
        Ok(RunError::Usage(failure.with_help(propose(&meant))))
    }

    /// Proposes tags for one that was never removed: a similar one that was removed from the repository, or that very
    /// tag of another repository; empty if there is none.
    pub(super) async fn propose_removed(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<String, RunError> {
        let removed = self.store.removals_in(registry, repository, None).await?;
        let tags: Vec<&str> = removed.iter().map(|entry| entry.intent.tag.as_str()).collect();
        if let Some(meant) = nearest(tag.as_str(), &tags) {
            return Ok(propose(&[format!("{registry}/{repository}:{meant}")]));
        }
        let this = format!("{registry}/{repository}:{tag}");
        let mut meant = self.tags_named(tag.as_str()).await?;
        meant.retain(|name| *name != this);
        Ok(propose(&meant))
    }
}

/// Proposes names; empty without any.
#[must_use]
pub fn propose(meant: &[String]) -> String {
    let first: Vec<&str> = meant.iter().take(MOST_PROPOSED).map(String::as_str).collect();
    match meant.len().saturating_sub(MOST_PROPOSED) {
        0 if first.is_empty() => String::new(),
        0 => format!("did you mean {}?", quoted_list(&first)),
        more => format!("did you mean one of {} and {more} more?", quoted_list(&first)),
    }
}
