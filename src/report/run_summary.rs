//! The counts of a run, for its record, reports, pages and the API.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::{AcceptedView, AttentionView, NarrowingView, RefusalView, SourceView, SummaryView};
use crate::domain::{Action, Outcome};
use crate::registry::RequestCounts;
use crate::state::{JournalEntry, JournalTotals, PruneCounts, RunKind, RunRecord};

/// The counts and sums of a run. Its record stores them as JSON text; those of an older version contain less.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSummary {
    /// The counts of its plan; `None` if it made none.
    #[serde(deserialize_with = "lenient")]
    pub plan: Option<SummaryView>,
    /// The fingerprint of its plan.
    pub fingerprint: Option<String>,
    /// The items that need a person's attention, the most urgent first; `None` in records of a version without such a
    /// list.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub attention: Option<Vec<AttentionView>>,
    /// True if it was evaluated as of a time that a person gave.
    pub hypothetical: bool,
    /// The part of everything that its plan was narrowed to; `None` for a whole plan.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub narrowed: Option<NarrowingView>,
    /// The refusals that a person accepted for its plan.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<AcceptedView>,
    /// The findings by registry.
    #[serde(deserialize_with = "lenient")]
    pub by_registry: BTreeMap<String, RegistryCounts>,
    /// The sources, with their outcomes.
    #[serde(deserialize_with = "lenient")]
    pub sources: Vec<SourceView>,
    /// The refusals of its plan.
    #[serde(deserialize_with = "lenient")]
    pub refusals: Vec<RefusalView>,
    /// The number of places that could not be read.
    pub gaps: u64,
    /// Removed tags; `None` in the record of a restore, and if no counts were recorded.
    pub removed: Option<u64>,
    /// Manifests that were deleted after they had been untagged.
    pub deleted: Option<u64>,
    /// Tags and manifests that a restore brought back.
    pub restored: Option<u64>,
    /// Removals, deletions or restores that were skipped.
    pub skipped: Option<u64>,
    /// The same that failed.
    pub failed: Option<u64>,
    /// Removals that wait for their policy's schedule.
    #[serde(alias = "not_due")]
    pub pending_schedule: u64,
    /// The reason why it removed nothing although settings and policies say `enforce`.
    #[serde(alias = "held_back")]
    pub blocked_by: Option<String>,
    /// The reason why a registry's time cannot be trusted.
    pub clock: Option<String>,
    /// The records that it dropped from the state.
    #[serde(alias = "forgotten", deserialize_with = "lenient")]
    pub pruned: Option<PrunedView>,
    /// The storage of each registry from which something was removed, before and after.
    #[serde(alias = "registries", deserialize_with = "lenient")]
    pub storage: BTreeMap<String, StorageChangeView>,
}

/// The findings of a run in one registry, and the requests that it made there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryCounts {
    /// The tags by verdict, and the bytes of the expired ones.
    #[serde(flatten)]
    pub summary: SummaryView,
    /// Expired tags that are only reported: a policy says `dry-run`, or a refusal covers them.
    #[serde(alias = "held_back")]
    pub reported_only: u64,
    /// The requests that the run made there.
    #[serde(skip)]
    pub requests: RequestCounts,
}

/// The storage of a registry from which something was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageChangeView {
    /// The seconds for which each removal can certainly be undone.
    pub undo_seconds: Option<u64>,
    /// Bytes stored as the registry reports them, before any removal.
    pub stored_bytes_before: Option<u64>,
    /// The same afterwards. The number lags: registries collect on their own schedule.
    pub stored_bytes_after: Option<u64>,
    /// The difference.
    pub reclaimed_bytes: Option<u64>,
}

/// The numbers of records that a run dropped from the state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrunedView {
    /// Runs.
    pub runs: u64,
    /// Plans, including those of the dropped runs.
    pub plans: u64,
    /// Journal entries.
    pub journal_entries: u64,
    /// Manifests that no journal entry names anymore.
    pub manifests: u64,
}

impl RunSummary {
    /// Parses the summary of a record; empty for a run without an end, or of a version with another format.
    #[must_use]
    pub fn from_record(record: &RunRecord) -> Self {
        record.end.as_ref().and_then(|end| serde_json::from_str(&end.summary).ok()).unwrap_or_default()
    }

    /// Returns the text that the record keeps.
    #[must_use]
    pub fn to_json(&self) -> String {
        json!(self).to_string()
    }

    /// Returns false if the run was killed, is still running, or failed under a version that did not count then.
    #[must_use]
    pub fn has_counts(&self) -> bool {
        self.removed.is_some() || self.restored.is_some()
    }

    /// Fills in missing counts: from the journal for a run without any, otherwise 0.
    #[must_use]
    pub fn with_counts(mut self, kind: RunKind, journal: JournalTotals) -> Self {
        let counts = match kind {
            _ if self.has_counts() => JournalTotals::default(),
            RunKind::Restore => JournalTotals { removed: 0, deleted: 0, ..journal },
            // A restore by another command was a repair.
            RunKind::Plan | RunKind::Run | RunKind::Apply => JournalTotals { restored: 0, ..journal },
        };
        self.removed.get_or_insert(counts.removed);
        self.deleted.get_or_insert(counts.deleted);
        self.restored.get_or_insert(counts.restored);
        self.skipped.get_or_insert(counts.skipped);
        self.failed.get_or_insert(counts.failed);
        self
    }

    /// Returns the bytes that the registries store less than before, or `None` if none of them measured it.
    #[must_use]
    pub fn reclaimed_bytes(&self) -> Option<u64> {
        self.storage.values().filter_map(|found| found.reclaimed_bytes).reduce(u64::saturating_add)
    }

    /// Returns the time until which an entry of the run's journal can certainly be undone. Returns `None` if it was not
    /// a completed removal, or the run did not know.
    #[must_use]
    pub fn undo_until(&self, entry: &JournalEntry) -> Option<Timestamp> {
        let (Action::Remove(_), Some((Outcome::Done(_), at))) = (entry.intent.action, &entry.outcome) else {
            return None;
        };
        let seconds = self.storage.get(entry.intent.registry.as_str())?.undo_seconds?;
        at.checked_add(Duration::from_secs(seconds)).ok()
    }
}

impl From<PruneCounts> for PrunedView {
    fn from(counts: PruneCounts) -> Self {
        let PruneCounts { runs, plans, entries, manifests } = counts;
        Self { runs, plans, journal_entries: entries, manifests }
    }
}

/// Returns the time until which a removal of a recorded run can certainly be undone; see [`RunSummary::undo_until`].
#[must_use]
pub fn undo_until(record: &RunRecord, entry: &JournalEntry) -> Option<Timestamp> {
    RunSummary::from_record(record).undo_until(entry)
}

/// Parses a part of a summary. A part in the format of another version counts as missing and does not hide the rest.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RunSummary {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn keys_of_the_version_before_are_read() {
        let counts = json!({
            "tags": 3, "expired": 2, "retained": 1, "protected": 0, "undecided": 0, "out_of_scope": 0,
            "reclaimable_bytes": 5, "shared_bytes": 0, "unknown_bytes_removals": 0, "bytes": "exact",
        });
        let mut of_registry = counts.clone();
        of_registry["held_back"] = json!(1);
        let old = json!({
            "plan": counts, "by_registry": { "contoso": of_registry }, "removed": 1, "not_due": 2, "held_back": "frozen",
            "forgotten": { "runs": 3, "plans": 2, "journal_entries": 1, "manifests": 0 },
            "registries": { "contoso": { "undo_seconds": 7 } },
        });
        let summary = read(&old.to_string());
        assert_eq!(summary.plan.as_ref().map(|plan| plan.expired), Some(2));
        assert_eq!(summary.by_registry["contoso"].reported_only, 1);
        assert_eq!((summary.removed, summary.pending_schedule), (Some(1), 2));
        assert_eq!(summary.blocked_by.as_deref(), Some("frozen"));
        assert_eq!(summary.pruned.as_ref().map(|pruned| (pruned.runs, pruned.plans)), Some((3, 2)));
        assert_eq!(summary.storage["contoso"].undo_seconds, Some(7));
        let text = summary.to_json();
        assert_eq!(read(&text), summary);
        assert!(
            !["not_due", "held_back", "registries", "forgotten"]
                .iter()
                .any(|key| text.contains(&format!("\"{key}\":"))),
            "{text}"
        );
    }

    #[test]
    fn a_part_of_another_version_does_not_hide_the_rest() {
        let summary = read(r#"{"plan": {"tags": "many"}, "sources": [7], "storage": null, "removed": 4}"#);
        assert_eq!(summary, RunSummary { removed: Some(4), ..RunSummary::default() });
        assert_eq!(summary.attention, None);
    }

    #[test]
    fn the_journal_counts_only_for_a_run_without_counts() {
        let journal = JournalTotals { removed: 1, deleted: 2, restored: 3, skipped: 4, failed: 5 };
        for (text, kind, expected) in [
            ("{}", RunKind::Run, [1, 2, 0, 4, 5]),
            ("{}", RunKind::Restore, [0, 0, 3, 4, 5]),
            (r#"{"removed": 9}"#, RunKind::Apply, [9, 0, 0, 0, 0]),
            (r#"{"restored": 0, "failed": 8}"#, RunKind::Restore, [0, 0, 0, 0, 8]),
        ] {
            let RunSummary { removed, deleted, restored, skipped, failed, .. } = read(text).with_counts(kind, journal);
            assert_eq!([removed, deleted, restored, skipped, failed], expected.map(Some), "{text}");
        }
    }
}
