//! A past run: who started and approved it, when, and the outcome for each tag.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::AttentionView;
use super::attention::run_attention;
use super::humanize::{counted, format_bytes, format_count};
use super::journal_entry::EntryView;
use super::natural_order::natural_order;
use super::notation::format_minute;
use super::run_summary::{RegistryCounts, RunSummary};
use super::storage::describe_bytes;
use crate::domain::{Action, SkipReason};
use crate::state::{JournalCount, JournalEntry, RecordedPolicy, RunContext, RunKind, RunRecord};

/// The outcome of a run that is still running, or was killed.
pub const UNFINISHED: &str = "unfinished";

/// A run as people and scripts read it: the same on the command line, in reports and in the API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunView {
    /// Its id.
    pub id: String,
    /// `plan`, `run`, `apply` or `restore`.
    pub kind: String,
    /// The mode then in force.
    pub mode: String,
    /// The user who started it.
    pub by: String,
    /// The version of Tagwarden.
    pub version: String,
    /// The person who approved the plan, if stated or signed.
    pub approved_by: Option<String>,
    /// The signer of its plan, whose signature was verified.
    pub signed_by: Option<String>,
    /// The change ticket.
    pub ticket: Option<String>,
    /// The time at which it began.
    pub started_at: Timestamp,
    /// The time at which it ended; `None` if it still runs or was killed.
    pub ended_at: Option<Timestamp>,
    /// The seconds that it took.
    pub seconds: Option<i64>,
    /// The outcome, such as `done` or `refused`; [`UNFINISHED`] if no end is on record.
    pub outcome: String,
    /// The exit code of that outcome.
    pub exit_code: Option<u8>,
    /// The error that ended it.
    pub error: Option<String>,
    /// The id of the plan that it made or applied, while that is stored.
    pub plan_id: Option<String>,
    /// True if that plan is stored without its retained tags, as all but the last full plan are.
    #[serde(skip)]
    pub kept_pruned: bool,
    /// Bytes that the registries store less than before, as far as they measured it.
    pub reclaimed_bytes: Option<u64>,
    /// The things that need a person's attention, the most urgent first.
    pub attention: Vec<AttentionView>,
    /// Counts and sums.
    pub summary: RunSummary,
    /// The context besides its settings; `None` in lists of runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<RunContextView>,
    /// The entries of its journal by action and outcome, counted; `None` in lists of runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal_counts: Option<Vec<JournalCountView>>,
    /// The entries of its journal; `None` in lists of runs and in the API, which has it by pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<Vec<EntryView>>,
}

/// The context of a run besides its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RunContextView {
    /// The hash over all policy files.
    pub policies_revision: Option<String>,
    /// The git commit of their folder, if it is a checkout.
    pub policies_commit: Option<String>,
    /// The policies that could remove in it; `None` if all could.
    pub enforced_policies: Option<String>,
    /// The reason why it removed nothing although settings and policies say `enforce`.
    pub blocked_by: Option<String>,
    /// The reason that a person gave for an override.
    pub override_reason: Option<String>,
    /// The id of the unfinished run whose plan it went on with.
    pub continues: Option<String>,
}

impl From<RunContext> for RunContextView {
    fn from(context: RunContext) -> Self {
        // Every view of a run has the signer beside the stated approver.
        let RunContext { revision, commit, enforced_policies, blocked_by, override_reason, continues, signed_by: _ } =
            context;
        Self {
            policies_revision: revision,
            policies_commit: commit,
            enforced_policies,
            blocked_by,
            override_reason,
            continues: continues.map(|run| run.to_string()),
        }
    }
}

/// The number of journal entries with the same action and outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JournalCountView {
    /// As in [`EntryView::action`].
    pub action: String,
    /// As in [`EntryView::outcome`].
    pub outcome: Option<String>,
    /// As in [`EntryView::skip`].
    pub skip: Option<String>,
    /// The number of entries.
    pub count: u64,
}

impl From<&JournalCount> for JournalCountView {
    fn from(found: &JournalCount) -> Self {
        let JournalCount { action, outcome, skip, count } = found.clone();
        let skip = skip.map(|label| SkipReason::current_label(&label).to_owned());
        Self { action, outcome, skip, count: count.unsigned_abs() }
    }
}

impl RunView {
    /// Creates the view of a run's record with its counts; see [`RunSummary::with_counts`].
    #[must_use]
    pub fn new(record: &RunRecord, mut summary: RunSummary) -> Self {
        let (run, end) = (&record.run, record.end.as_ref());
        let attention = run_attention(record, &summary);
        // Shown once, with the error that ended the run.
        summary.attention = None;
        Self {
            id: run.id.to_string(),
            kind: run.kind.label().to_owned(),
            mode: run.mode.clone(),
            by: run.started_by.clone(),
            version: run.version.clone(),
            approved_by: run.approved_by.clone(),
            signed_by: record.signed_by.clone(),
            ticket: run.ticket.clone(),
            started_at: run.started_at,
            ended_at: end.map(|end| end.ended_at),
            seconds: end.map(|end| end.ended_at.duration_since(run.started_at).as_secs()),
            outcome: end.map_or_else(|| UNFINISHED.to_owned(), |end| end.outcome.clone()),
            exit_code: end.map(|end| end.exit_code),
            error: end.and_then(|end| end.error.clone()),
            plan_id: record.plan_id.clone(),
            kept_pruned: false,
            reclaimed_bytes: summary.reclaimed_bytes(),
            attention,
            summary,
            context: None,
            journal_counts: None,
            journal: None,
        }
    }

    /// Adds its journal.
    #[must_use]
    pub fn with_journal(mut self, journal: &[JournalEntry]) -> Self {
        let view = |entry| EntryView::new(entry, self.summary.undo_until(entry));
        let entries: Vec<EntryView> = journal.iter().map(view).collect();
        let mut counts: BTreeMap<_, u64> = BTreeMap::new();
        for EntryView { action, outcome, skip, .. } in &entries {
            *counts.entry((action.clone(), outcome.clone(), skip.clone())).or_default() += 1;
        }
        let count = |((action, outcome, skip), count)| JournalCountView { action, outcome, skip, count };
        self.journal_counts = Some(counts.into_iter().map(count).collect());
        self.journal = Some(entries);
        self
    }

    /// Adds the counts of its journal.
    #[must_use]
    pub fn with_journal_counts(self, counts: &[JournalCount]) -> Self {
        Self { journal_counts: Some(counts.iter().map(JournalCountView::from).collect()), ..self }
    }

    /// Describes the approver: as verified by a signature, or as somebody stated; `None` if nobody is named.
    #[must_use]
    pub fn describe_approval(&self) -> Option<String> {
        Some(describe_approval(self.approved_by.as_deref()?, self.signed_by.as_deref()))
    }

    /// Returns a copy without its journal, for lists of runs.
    #[must_use]
    pub fn without_journal(&self) -> Self {
        Self { journal: None, ..self.clone() }
    }

    /// Returns the entries of its journal; empty if it was read without.
    #[must_use]
    pub fn entries(&self) -> &[EntryView] {
        self.journal.as_deref().unwrap_or_default()
    }

    /// Returns the entries of its journal in the natural order of names, and those of one name in order of time.
    #[must_use]
    pub fn entries_by_name(&self) -> Vec<&EntryView> {
        let mut named: Vec<(String, &EntryView)> = self.entries().iter().map(|entry| (entry.name(), entry)).collect();
        named.sort_by(|(a, _), (b, _)| natural_order(a, b));
        named.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Adds its context besides the settings.
    #[must_use]
    pub fn with_context(self, run_context: RunContext) -> Self {
        Self { context: Some(run_context.into()), ..self }
    }

    /// Adds the policies to each entry.
    #[must_use]
    pub fn with_policies(mut self, policies: &[RecordedPolicy]) -> Self {
        let went_by = self.context.clone().unwrap_or_default();
        let with_policies = |entry: EntryView| entry.with_policies(policies, &went_by);
        self.journal = self.journal.map(|entries| entries.into_iter().map(with_policies).collect());
        self
    }

    /// Describes the run in one line. Lost tags that should have been retained come before all else.
    #[must_use]
    pub fn headline(&self) -> String {
        let outcome = if self.ended_at.is_some() { self.outcome.as_str() } else { "not ended, or killed" };
        let lost = match self.lost_tags().as_slice() {
            [] => String::new(),
            lost => format!("LOST: {} (went along with a removed image and could not be put back). ", lost.join(", ")),
        };
        format!("{lost}Tagwarden {} in mode {}: {outcome}", self.kind, self.mode)
    }

    /// Returns the tags that a removal took with it although they should have been retained, and that could not be
    /// restored at once.
    #[must_use]
    pub fn lost_tags(&self) -> Vec<String> {
        let removes = self.kind != RunKind::Restore.label();
        let put_back = self.entries().iter().filter(|entry| removes && entry.action == Action::Restore.label());
        put_back.filter(|entry| entry.outcome_label() == "failed").map(EntryView::name).collect()
    }

    /// Returns true if it made a plan that is no longer stored.
    #[must_use]
    pub fn is_plan_pruned(&self) -> bool {
        self.plan_id.is_none() && self.summary.plan.is_some()
    }

    /// Returns the number of entries with that outcome. Deletions of manifests that were done are counted apart, by
    /// [`RunView::deleted_count`].
    #[must_use]
    pub fn count_outcome(&self, outcome: &str) -> u64 {
        // A restore by another command than `restore` was a repair, and not a removal.
        let counts = |entry: &&EntryView| {
            (outcome != "done" || !entry.is_deletion()) && (self.kind == "restore" || !entry.is_restore())
        };
        let entries = self.entries().iter().filter(counts);
        entries.filter(|entry| entry.outcome_label() == outcome).count() as u64
    }

    /// Describes what became of all its entries, in numbers.
    #[must_use]
    pub fn describe_counts(&self) -> String {
        let [done, skipped, failed] =
            ["done", "skipped", "failed"].map(|label| format_count(self.count_outcome(label)));
        let word = if self.kind == "restore" { "restored" } else { "removed" };
        let deleted = match self.deleted_count() {
            0 => String::new(),
            number => format!(", {} deleted", counted(number, "untagged manifest")),
        };
        let open = match self.count_outcome("open") {
            0 => String::new(),
            number => format!(", {} with an outcome that the next run finds out", format_count(number)),
        };
        format!("{done} {word}{deleted}, {skipped} skipped, {failed} failed{open}")
    }

    /// How many manifests without a tag were deleted.
    #[must_use]
    pub fn deleted_count(&self) -> u64 {
        let deletions = self.entries().iter().filter(|entry| entry.is_deletion());
        deletions.filter(|entry| entry.outcome_label() == "done").count() as u64
    }

    /// Returns all facts about it except the tags, in order.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let ended = match (self.ended_at, self.exit_code) {
            (Some(at), Some(code)) => format!("{at}: {} (exit code {code})", self.outcome),
            _ => "not yet, or it was killed".to_owned(),
        };
        let mut facts = vec![
            ("run", self.id.clone()),
            ("command", format!("{} in mode {}", self.kind, self.mode)),
            ("by", format!("{} with tagwarden {}", self.by, self.version)),
            ("started", self.started_at.to_string()),
            ("ended", ended),
        ];
        let went_by = self.context.clone().unwrap_or_default();
        let continues = went_by.continues.as_ref().map(|run| format!("the plan of run {run}, which was not finished"));
        let said = [
            ("error", &self.error),
            ("plan", &self.plan_id),
            ("approved", &self.describe_approval()),
            ("ticket", &self.ticket),
            ("policies", &went_by.policies_revision),
            ("commit", &went_by.policies_commit),
            ("enforced", &went_by.enforced_policies),
            ("blocked", &went_by.blocked_by),
            ("override", &went_by.override_reason),
            ("continues", &continues),
        ];
        facts.extend(said.into_iter().filter_map(|(what, value)| Some((what, value.clone()?))));
        if self.is_plan_pruned() {
            facts.push(("plan", "not kept any more (`records.plans`); this is what the journal says".to_owned()));
        }
        if self.kept_pruned {
            let lost = "the details of tags that stay are stored for the last complete plan only";
            facts.push(("stays", lost.to_owned()));
        }
        let summary = &self.summary;
        if let Some(narrowed) = &summary.narrowed {
            facts.push(("narrowed", format!("to {}", narrowed.describe())));
        }
        facts.extend(summary.accepted.iter().map(|accepted| ("accepted", accepted.sentence())));
        if let Some(fingerprint) = &summary.fingerprint {
            facts.push(("same as", format!("plans with fingerprint {fingerprint}")));
        }
        if let Some(plan) = &summary.plan {
            let about = if plan.is_estimated() { "about " } else { "" };
            let reclaimable = format_bytes(plan.reclaimable_bytes);
            facts.push(("bytes", format!("{about}{reclaimable} reclaimable by the whole plan, as computed")));
        }
        for (registry, RegistryCounts { summary: found, .. }) in &summary.by_registry {
            if found.expired > 0 {
                let (exclusive, shared) = (found.reclaimable_bytes, found.shared_bytes);
                let words = describe_bytes(exclusive, shared, found.unknown_bytes_removals, found.is_estimated());
                facts.push(("bytes", format!("{registry}: {words}, as computed")));
            }
        }
        for (registry, found) in &summary.storage {
            if let (Some(before), Some(after)) = (found.stored_bytes_before, found.stored_bytes_after) {
                facts.push(("stored", format!("{registry}: {}", describe_stored_bytes(before, after))));
            }
        }
        facts
    }

    /// Describes how to restore it, or that there is nothing to restore.
    #[must_use]
    pub fn restore_instructions(&self) -> String {
        let mut removed = self.entries().iter().filter(|entry| entry.was_removed()).peekable();
        let untagged_by_others = self
            .entries()
            .iter()
            .filter(|entry| entry.is_deletion() && entry.tag.is_empty() && entry.outcome_label() == "done");
        let untagged_by_others = match untagged_by_others.count() as u64 {
            0 => String::new(),
            number => {
                format!(
                    " `tagwarden restore` leaves out {} of them, from which Tagwarden removed no tag.",
                    format_count(number)
                )
            }
        };
        let deleted = match self.deleted_count() {
            0 => String::new(),
            number => format!(
                " {} that no tag referenced {} deleted: an image comes back by `tagwarden restore IMAGE` only while \
                 the registry still has its layers.{untagged_by_others}",
                counted(number, "manifest"),
                if number == 1 { "was" } else { "were" }
            ),
        };
        if removed.peek().is_none() {
            let open = self.entries().iter().filter(|entry| entry.outcome.is_none()).count() as u64;
            let nothing = if open > 0 {
                let verb = if open == 1 { "has" } else { "have" };
                format!(
                    "{} {verb} no known outcome yet; the next run or restore finds it out.",
                    counted(open, "action")
                )
            } else {
                "It removed nothing, so there is nothing to undo.".to_owned()
            };
            return if deleted.is_empty() {
                nothing
            } else {
                format!("It removed no tag, so there is none to put back.{deleted}")
            };
        }
        let first = removed.filter_map(|entry| entry.undo_until).min();
        let until = match first {
            Some(until) => format!("The first removal can surely be undone until {}.", format_minute(until)),
            None => "Until when that is possible is not known: until the registry collects the manifests.".to_owned(),
        };
        format!(
            "`tagwarden restore --run {}` puts its tags back at their digests; with `--dry-run` it says what would come \
             back and what cannot. {until}{deleted}",
            self.id
        )
    }
}

/// Describes an approver: as verified by a signature if there is a signer, else as somebody stated.
#[must_use]
pub fn describe_approval(approved_by: &str, signed_by: Option<&str>) -> String {
    match signed_by {
        None => format!("{approved_by} (as stated; no signature)"),
        // With another name, it already says who signed.
        Some(_) => format!("{approved_by} (signature verified)"),
    }
}

/// Describes the registry's own size before and after, and its meaning.
#[must_use]
pub fn describe_stored_bytes(before: u64, after: u64) -> String {
    let reclaimed = match before.checked_sub(after) {
        None | Some(0) => "nothing reclaimed so far".to_owned(),
        Some(reclaimed) => format!("{} reclaimed so far", format_bytes(reclaimed)),
    };
    let (before, after) = (format_bytes(before), format_bytes(after));
    format!("{before} stored before, {after} after: {reclaimed} (measured by the registry, which lags)")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Digest, Intent, Outcome, RemovalMethod};
    use crate::report::run_text;
    use crate::state::{NewRun, RunEnd, RunKind};

    fn record(summary: &str) -> RunRecord {
        let at: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
        let run = NewRun {
            id: Uuid::nil(),
            kind: RunKind::Run,
            mode: "enforce".into(),
            started_at: at,
            started_by: "ada@here".into(),
            version: "0.1.0".into(),
            approved_by: None,
            ticket: None,
        };
        let end = RunEnd { ended_at: at, outcome: "done".into(), exit_code: 0, summary: summary.into(), error: None };
        RunRecord { run, plan_id: None, signed_by: None, end: Some(end) }
    }

    fn entry(action: Action, outcome: Outcome) -> JournalEntry {
        let intent = Intent {
            action,
            registry: "contoso".parse().unwrap(),
            repository: "shop/api".parse().unwrap(),
            tag: "v1".parse().unwrap(),
            digest: Digest::of(b"x"),
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            policy: None,
            evidence: "[]".into(),
            endpoint: None,
            date: None,
        };
        let at: Timestamp = "2026-11-23T03:00:01Z".parse().unwrap();
        JournalEntry {
            id: crate::state::JournalId(1),
            run: Uuid::nil(),
            epoch: None,
            intent,
            intended_at: at,
            outcome: Some((outcome, at)),
        }
    }

    fn view(record: &RunRecord, journal: &[JournalEntry]) -> RunView {
        RunView::new(record, RunSummary::from_record(record)).with_journal(journal)
    }

    #[test]
    fn a_run_shows_ids_and_sizes_and_until_when_each_removal_can_be_undone() {
        let untag = Action::Remove(RemovalMethod::Untag);
        let journal = [
            entry(untag, Outcome::Done("x-ms-correlation-request-id: 5f2b-11".into())),
            entry(untag, Outcome::Skipped(SkipReason::Missing)),
            entry(untag, Outcome::Failed("500 (x-ms-correlation-request-id: 77, gave up)".into())),
            entry(Action::Restore, Outcome::Done(String::new())),
        ];
        let record = record(
            r#"{"plan": {"tags": 3, "expired": 3, "retained": 0, "protected": 0, "undecided": 0, "out_of_scope": 0,
            "reclaimable_bytes": 44238000000, "shared_bytes": 0, "unknown_bytes_removals": 0, "bytes": "estimated"},
            "by_registry": {"contoso": {"tags": 3, "expired": 3, "retained": 0, "protected": 0, "undecided": 0,
            "out_of_scope": 0, "reclaimable_bytes": 1073741824, "shared_bytes": 1024, "unknown_bytes_removals": 2,
            "bytes": "estimated", "reported_only": 0}, "other": {"tags": 0, "expired": 0, "retained": 0, "protected": 0,
            "undecided": 0, "out_of_scope": 0, "reclaimable_bytes": 0, "shared_bytes": 0, "unknown_bytes_removals": 0,
            "bytes": "exact", "reported_only": 0}}, "storage": {"contoso":
            {"undo_seconds": 604800, "stored_bytes_before": 2147483648, "stored_bytes_after": 1073741824}}}"#,
        );
        let view = view(&record, &journal);
        let text = run_text(&view);
        for words in [
            "bytes    about 41.2 GiB reclaimable by the whole plan, as computed\n",
            "bytes    contoso: about 1.0 GiB reclaimable, about 1.0 KiB shared with what stays, 2 removals of unknown size, as computed\n",
            "stored   contoso: 2.0 GiB stored before, 1.0 GiB after: 1.0 GiB reclaimed so far (measured by the registry, which lags)\n",
            "x-ms-correlation-request-id: 5f2b-11 (can be undone until 2026-11-30 03:00 UTC)\n",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert_eq!(text.matches("can be undone").count(), 1, "{text}");
        assert!(!text.contains("other:"), "nothing goes from it: {text}");
        let counts: Vec<_> = view.journal_counts.iter().flatten().map(|found| (&*found.action, found.count)).collect();
        assert_eq!(counts, [("restore", 1), ("untag", 1), ("untag", 1), ("untag", 1)]);
        let json = json!(view.journal);
        let seen = |key: &str| json.as_array().unwrap().iter().map(|entry| entry[key].clone()).collect::<Vec<_>>();
        assert_eq!(seen("correlation_id"), [json!("5f2b-11"), Value::Null, json!("77"), Value::Null]);
        assert_eq!(seen("undo_until"), [json!("2026-11-30T03:00:01Z"), Value::Null, Value::Null, Value::Null]);
    }

    #[test]
    fn what_was_not_known_is_not_told() {
        let journal = [entry(Action::Remove(RemovalMethod::Untag), Outcome::Done(String::new()))];
        for summary in ["{}", "", r#"{"storage": {"contoso": {"undo_seconds": null}}}"#] {
            let text = run_text(&view(&record(summary), &journal));
            assert!(!text.contains("undone") && !text.contains("stored") && !text.contains("bytes"), "{text}");
        }
    }
}
