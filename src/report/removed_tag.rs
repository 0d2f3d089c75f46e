//! A tag that Tagwarden removed: when, why, how to restore it, and the state of its manifest.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use super::ReasonView;
use super::humanize::sanitize;
use super::notation::{format_minute, short_digest};
use crate::state::JournalEntry;

/// A tag that Tagwarden removed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RemovedTagView {
    /// Always `tagwarden.removed-tag/1`.
    pub schema: &'static str,
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The digest that it had.
    pub digest: String,
    /// The run that removed it.
    pub run: String,
    /// Time of the removal.
    pub removed_at: Option<Timestamp>,
    /// The first by name of the policies that expired it.
    pub policy: Option<String>,
    /// The reasons from the plan.
    pub reasons: Vec<ReasonView>,
    /// The state of its manifest, in words.
    pub manifest: String,
}

impl RemovedTagView {
    /// Creates the view of a removal from its journal entry and the known state of the manifest.
    #[must_use]
    pub fn new(entry: &JournalEntry, manifest: String) -> Self {
        let intent = &entry.intent;
        Self {
            schema: "tagwarden.removed-tag/1",
            registry: intent.registry.to_string(),
            repository: intent.repository.to_string(),
            tag: intent.tag.to_string(),
            digest: intent.digest.to_string(),
            run: entry.run.to_string(),
            removed_at: entry.outcome.as_ref().map(|(_, at)| *at),
            policy: intent.policy.clone(),
            reasons: serde_json::from_str(&intent.evidence).unwrap_or_default(),
            manifest,
        }
    }

    /// Renders the view for the terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { registry, repository, tag, run, .. } = self;
        let when = self.removed_at.map(format_minute).unwrap_or_default();
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{registry}/{repository}:{tag} is gone: Tagwarden removed it {when}, in run {run}");
        let _ = writeln!(out, "  it was at {}", short_digest(&self.digest));
        for reason in &self.reasons {
            let _ = writeln!(out, "  {}", sanitize(&reason.sentence()));
        }
        let _ = writeln!(out, "  its manifest {}", sanitize(&self.manifest));
        let _ = writeln!(out, "  to put it back: tagwarden restore {registry}/{repository}:{tag}");
        out
    }
}
