//! One entry of the journal, as people and scripts read it.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::humanize::{sanitize, truncate};
use super::journal_evidence::journaled_evidence;
use super::notation::short_digest;
use super::{ReasonView, RunContextView, SkippedAction};
use crate::domain::{Action, Outcome, RemovalMethod};
use crate::state::{JournalEntry, RecordedPolicy};

/// An entry of the journal: an action on a tag, or why it was not done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EntryView {
    /// The number of the entry, ascending in the order in which entries were written.
    pub number: i64,
    /// The id of the run.
    pub run: String,
    /// `untag`, `delete-manifest`, `restore`, `restore-manifest` or `delete-untagged`. For the last two the tag is the
    /// last one of the manifest, or of the manifest that it depends on.
    pub action: String,
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// Its digest.
    pub digest: String,
    /// The media type of the manifest behind it.
    pub media_type: String,
    /// The policy that expired it.
    pub policy: Option<String>,
    /// The file of this policy; `None` for runs of an older version.
    pub policy_file: Option<String>,
    /// The hash of that file's content.
    pub policy_revision: Option<String>,
    /// The git commit of the policies folder, if it was a checkout.
    pub policies_commit: Option<String>,
    /// The reasons from the plan.
    pub reasons: Value,
    /// The time at which the intent was journaled.
    pub intended_at: Timestamp,
    /// The time of its outcome.
    pub resolved_at: Option<Timestamp>,
    /// `done`, `skipped` or `failed`; `None` if it is not known yet.
    pub outcome: Option<String>,
    /// The label of the reason why it was skipped.
    pub skip: Option<String>,
    /// The request's id in the registry's own log.
    pub correlation_id: Option<String>,
    /// The details of the outcome.
    pub detail: Option<String>,
    /// The time until which it can certainly be undone, if known.
    pub undo_until: Option<Timestamp>,
}

impl EntryView {
    /// Creates the view of a journal entry.
    #[must_use]
    pub fn new(entry: &JournalEntry, undo_until: Option<Timestamp>) -> Self {
        let JournalEntry { intent, intended_at, outcome, .. } = entry;
        let detail = outcome.as_ref().map(|(outcome, _)| describe_outcome(outcome)).filter(|detail| !detail.is_empty());
        Self {
            number: entry.id.number(),
            run: entry.run.to_string(),
            action: intent.action.label().to_owned(),
            registry: intent.registry.to_string(),
            repository: intent.repository.to_string(),
            tag: intent.tag.to_string(),
            digest: intent.digest.to_string(),
            media_type: intent.media_type.to_string(),
            policy: intent.policy.clone(),
            policy_file: None,
            policy_revision: None,
            policies_commit: None,
            reasons: journaled_evidence(intent),
            intended_at: *intended_at,
            resolved_at: outcome.as_ref().map(|(_, at)| *at),
            outcome: outcome.as_ref().map(|(outcome, _)| outcome.label().to_owned()),
            skip: match outcome {
                Some((Outcome::Skipped(skip), _)) => Some(skip.label().to_owned()),
                _ => None,
            },
            correlation_id: detail.as_deref().and_then(correlation_id).map(str::to_owned),
            detail,
            undo_until,
        }
    }

    /// Adds file, revision and commit of its policy.
    #[must_use]
    pub fn with_policies(mut self, policies: &[RecordedPolicy], went_by: &RunContextView) -> Self {
        let found = self.policy.as_ref().and_then(|name| policies.iter().find(|policy| policy.name == *name));
        if self.policy.is_some() {
            self.policies_commit.clone_from(&went_by.policies_commit);
        }
        if let Some(policy) = found {
            self.policy_file = Some(policy.file.clone());
            self.policy_revision = Some(policy.revision.clone());
        }
        self
    }

    /// Describes the policy with its file, revision and commit, as far as known; empty without a policy.
    #[must_use]
    pub fn describe_policy(&self) -> String {
        let Some(policy) = &self.policy else { return String::new() };
        let mut words = policy.clone();
        if let (Some(file), Some(revision)) = (&self.policy_file, &self.policy_revision) {
            let _ = write!(words, ", {file} at {}", short_digest(revision));
        }
        if let Some(commit) = &self.policies_commit {
            let _ = write!(words, ", commit {}", truncate(commit, 15));
        }
        words
    }

    /// Returns its reasons; empty if they are in the format of an unknown version.
    #[must_use]
    pub fn reason_views(&self) -> Vec<ReasonView> {
        serde_json::from_value(self.reasons.clone()).unwrap_or_default()
    }

    /// Returns `registry/repository:tag`.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { registry, repository, tag, .. } = self;
        if tag.is_empty() {
            format!("{registry}/{repository}@{}", short_digest(&self.digest))
        } else {
            format!("{registry}/{repository}:{tag}")
        }
    }

    /// Returns the outcome's label; `open` if there is none yet.
    #[must_use]
    pub fn outcome_label(&self) -> &str {
        self.outcome.as_deref().unwrap_or("open")
    }

    /// Returns the details of the outcome, or a text for an unknown one.
    #[must_use]
    pub fn outcome_text(&self) -> &str {
        match &self.outcome {
            Some(_) => self.detail.as_deref().unwrap_or_default(),
            None => "begun, and not known yet how it ended; the next run finds out",
        }
    }

    /// Returns the skip, if it was skipped.
    pub(super) fn skipped(&self) -> Option<SkippedAction> {
        let label = self.skip.clone()?;
        Some(SkippedAction { label, name: self.name(), why: self.outcome_text().to_owned() })
    }

    pub(super) fn is_deletion(&self) -> bool {
        self.action == Action::DeleteUntagged.label()
    }

    pub(super) fn is_restore(&self) -> bool {
        [Action::Restore, Action::RestoreManifest].iter().any(|action| self.action == action.label())
    }

    pub(super) fn was_removed(&self) -> bool {
        let tag = [Action::Remove(RemovalMethod::Untag), Action::Remove(RemovalMethod::DeleteManifest)];
        tag.iter().any(|action| self.action == action.label()) && self.outcome.as_deref() == Some("done")
    }
}

/// Returns the request's id in the registry's own log, if the answer contained one.
#[must_use]
pub fn correlation_id(words: &str) -> Option<&str> {
    let (_, id) = words.split_once("-request-id: ")?;
    id.split([' ', ',', ';', ')']).next().filter(|id| !id.is_empty())
}

/// Returns an answer without the request's id in the registry's own log.
pub(super) fn without_correlation_id(words: &str) -> String {
    let Some((before, after)) = words.split_once("-request-id: ") else { return words.to_owned() };
    let before = before.trim_end_matches(|found: char| found.is_ascii_alphanumeric() || found == '-');
    let after = after.trim_start_matches(|found| !matches!(found, ' ' | ',' | ';' | ')'));
    let after =
        if before.is_empty() || before.ends_with('(') { after.trim_start_matches([',', ';', ' ']) } else { after };
    format!("{before}{after}").replace(" ()", "").replace(", )", ")").trim().to_owned()
}

/// Returns the details of an outcome.
#[must_use]
pub fn describe_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(evidence) => evidence.clone(),
        Outcome::Skipped(skip) => skip.to_string(),
        Outcome::Failed(error) => error.clone(),
    }
}

/// Renders an entry as one line.
#[must_use]
pub fn entry_text(entry: &EntryView) -> String {
    let line = sanitize(&format!(
        "{} {:<8} {:<15} {} {} {}",
        entry.intended_at.strftime("%Y-%m-%d %H:%M:%S"),
        entry.outcome_label(),
        entry.action,
        entry.name(),
        short_digest(&entry.digest),
        entry.outcome_text(),
    ));
    line.trim_end().to_owned()
}

/// Describes the policy of an action on a tag, to be appended to [`entry_text`].
#[must_use]
pub fn policy_suffix(entry: &EntryView) -> String {
    let words = entry.describe_policy();
    if words.is_empty() { words } else { format!(" [policy {}]", sanitize(&words)) }
}
