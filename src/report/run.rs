//! A run that is past: who, when, with whose approval, and what came of each tag.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::attention::run_attention;
use super::csv::write_run_csv;
use super::html::run_html;
use super::humanize::{counted, format_bytes, format_count, sanitize};
use super::markdown::run_markdown;
use super::reason::format_minute;
use super::storage::describe_bytes;
use super::text::needs_attention;
use super::{AttentionView, Format, PlanDocument, ReasonView};
use crate::domain::{Action, Outcome, RemovalMethod};
use crate::state::{JournalEntry, RecordedPolicy, RunContext, RunKind, RunRecord};

/// A run as people and scripts read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunView {
    /// Its id.
    pub id: String,
    /// `plan`, `run`, `apply` or `restore`.
    pub command: String,
    /// The mode then in force.
    pub mode: String,
    /// Who started it.
    pub by: String,
    /// The version of Tagwarden.
    pub version: String,
    /// Who approved the plan, where that was said or signed.
    pub approved_by: Option<String>,
    /// The change ticket.
    pub ticket: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; nothing where it still runs or was killed.
    pub ended_at: Option<Timestamp>,
    /// How it ended, such as `done` or `refused`.
    pub outcome: Option<String>,
    /// The exit code that belongs to that.
    pub exit_code: Option<u8>,
    /// What went wrong.
    pub error: Option<String>,
    /// What needs a person's attention, the most urgent first.
    pub attention: Vec<AttentionView>,
    /// Counts and sums.
    pub summary: Option<Value>,
    /// The id of the plan that it made or applied.
    pub plan: Option<String>,
    /// What it went by besides its settings.
    pub circumstances: RunContextView,
    /// What was done to each tag, or not.
    pub journal: Vec<EntryView>,
}

/// What a run went by besides its settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RunContextView {
    /// The hash over all policy files.
    pub policies_revision: Option<String>,
    /// The git commit of their folder, where it is a checkout.
    pub policies_commit: Option<String>,
    /// The policies whose turn it was, where it was not that of all.
    pub due: Option<String>,
    /// Why it removed nothing although settings and policies say `enforce`.
    #[serde(rename = "held_back")]
    pub blocked_by: Option<String>,
    /// Why a person let it remove all the same.
    pub despite: Option<String>,
}

/// What was done to one tag, or why not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EntryView {
    /// `untag`, `delete-manifest`, `restore`, `restore-manifest` or `delete-untagged`. With the last two the tag is the last
    /// that the manifest had, or that what it hangs on had.
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
    /// The policy that let it go.
    pub policy: Option<String>,
    /// The file that this policy stood in; nothing for runs of an older version.
    pub policy_file: Option<String>,
    /// The hash of that file's content.
    pub policy_revision: Option<String>,
    /// The git commit of the policies folder, where it was a checkout.
    pub policies_commit: Option<String>,
    /// Why, as the plan gave it.
    pub reasons: Value,
    /// When it was written down.
    pub intended_at: Timestamp,
    /// When its outcome was.
    pub settled_at: Option<Timestamp>,
    /// `done`, `skipped` or `failed`; nothing where it is not known yet.
    pub outcome: Option<String>,
    /// Why it was skipped, as a label.
    pub skip: Option<String>,
    /// The id by which the registry's own log knows the request.
    pub correlation_id: Option<String>,
    /// What was said of the outcome.
    pub detail: Option<String>,
    /// Until when it can surely be undone, where that was known.
    pub undo_until: Option<Timestamp>,
}

impl RunView {
    /// The record of a run with its journal.
    #[must_use]
    pub fn new(record: &RunRecord, journal: &[JournalEntry]) -> Self {
        let (run, end) = (&record.run, record.end.as_ref());
        let summary: Option<Value> = end.map(|end| serde_json::from_str(&end.summary).unwrap_or_default());
        let error = end.and_then(|end| end.error.clone());
        Self {
            id: run.id.to_string(),
            command: run.kind.label().to_owned(),
            mode: run.mode.clone(),
            by: run.started_by.clone(),
            version: run.version.clone(),
            approved_by: run.approved_by.clone(),
            ticket: run.ticket.clone(),
            started_at: run.started_at,
            ended_at: end.map(|end| end.ended_at),
            outcome: end.map(|end| end.outcome.clone()),
            exit_code: end.map(|end| end.exit_code),
            attention: run_attention(record, summary.as_ref()),
            error,
            journal: journal
                .iter()
                .map(|entry| EntryView::new(entry, undo_until_by(summary.as_ref(), entry)))
                .collect(),
            summary,
            plan: record.plan_id.clone(),
            circumstances: RunContextView::default(),
        }
    }

    /// The same, with what it went by besides its settings.
    #[must_use]
    pub fn with_context(self, circumstances: RunContext) -> Self {
        let RunContext { revision, commit, enforced_policies: due, blocked_by, override_reason: despite } =
            circumstances;
        let circumstances =
            RunContextView { policies_revision: revision, policies_commit: commit, due, blocked_by, despite };
        Self { circumstances, ..self }
    }

    /// The same, with the policies that it went by in each entry.
    #[must_use]
    pub fn with_policies(mut self, policies: &[RecordedPolicy]) -> Self {
        let went_by = self.circumstances.clone();
        self.journal = self.journal.into_iter().map(|entry| entry.with_policies(policies, &went_by)).collect();
        self
    }

    /// What it was, in one line. Tags that were to stay and are lost come before all else.
    #[must_use]
    pub fn headline(&self) -> String {
        let outcome = self.outcome.as_deref().unwrap_or("not ended, or killed");
        let lost = match self.lost_tags().as_slice() {
            [] => String::new(),
            lost => format!("LOST: {} (went along with a removed image and could not be put back). ", lost.join(", ")),
        };
        format!("{lost}Tagwarden {} in mode {}: {outcome}", self.command, self.mode)
    }

    /// The tags that a removal took along although they were to stay, and that could not be put back at once.
    #[must_use]
    pub fn lost_tags(&self) -> Vec<String> {
        let removes = self.command != RunKind::Restore.label();
        let put_back = self.journal.iter().filter(|entry| removes && entry.action == Action::Restore.label());
        put_back.filter(|entry| entry.outcome_label() == "failed").map(EntryView::name).collect()
    }

    /// Whether it made a plan that is not kept any more.
    #[must_use]
    pub fn is_plan_pruned(&self) -> bool {
        self.plan.is_none() && self.summary.as_ref().is_some_and(|summary| summary["plan"].is_object())
    }

    /// How many tags came out so.
    #[must_use]
    pub fn count_outcome(&self, outcome: &str) -> u64 {
        // What another command than `restore` put back was a repair, and no removal.
        let counts = |entry: &&EntryView| !entry.is_deletion() && (self.command == "restore" || !entry.is_restore());
        let tags = self.journal.iter().filter(counts);
        tags.filter(|entry| entry.outcome_label() == outcome).count() as u64
    }

    /// How many manifests were deleted that had been untagged before.
    #[must_use]
    pub fn deleted_count(&self) -> u64 {
        let deletions = self.journal.iter().filter(|entry| entry.is_deletion());
        deletions.filter(|entry| entry.outcome_label() == "done").count() as u64
    }

    /// Everything to know of it but the tags, in order.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let ended = match (self.ended_at, &self.outcome, self.exit_code) {
            (Some(at), Some(outcome), Some(code)) => format!("{at}: {outcome} (exit code {code})"),
            _ => "not yet, or it was killed".to_owned(),
        };
        let mut facts = vec![
            ("run", self.id.clone()),
            ("command", format!("{} in mode {}", self.command, self.mode)),
            ("by", format!("{} with tagwarden {}", self.by, self.version)),
            ("started", self.started_at.to_string()),
            ("ended", ended),
        ];
        let went_by = &self.circumstances;
        let said = [
            ("error", &self.error),
            ("plan", &self.plan),
            ("approved", &self.approved_by),
            ("ticket", &self.ticket),
            ("policies", &went_by.policies_revision),
            ("commit", &went_by.policies_commit),
            ("due", &went_by.due),
            ("held", &went_by.blocked_by),
            ("despite", &went_by.despite),
        ];
        facts.extend(said.into_iter().filter_map(|(what, value)| Some((what, value.clone()?))));
        let Some(summary) = &self.summary else { return facts };
        if self.is_plan_pruned() {
            facts.push(("plan", "not kept any more (`records.plans`); this is what the journal says".to_owned()));
        }
        if let Some(fingerprint) = summary["fingerprint"].as_str() {
            facts.push(("same as", format!("plans with fingerprint {fingerprint}")));
        }
        if let Some(reclaimable) = summary["plan"]["reclaimable_bytes"].as_u64() {
            let about = if summary["plan"]["bytes"] == "estimated" { "about " } else { "" };
            facts.push((
                "bytes",
                format!("{about}{} reclaimable by the whole plan, as computed", format_bytes(reclaimable)),
            ));
        }
        for (registry, found) in summary["by_registry"].as_object().into_iter().flatten() {
            let number = |key: &str| found[key].as_u64().unwrap_or_default();
            if number("expired") > 0 {
                let unknown = number("unknown_bytes_removals");
                let (exclusive, shared) = (number("reclaimable_bytes"), number("shared_bytes"));
                let words = describe_bytes(exclusive, shared, unknown, found["bytes"] == "estimated");
                facts.push(("bytes", format!("{registry}: {words}, as computed")));
            }
        }
        for (registry, found) in summary["registries"].as_object().into_iter().flatten() {
            let stored = |key: &str| found[key].as_u64();
            if let (Some(before), Some(after)) = (stored("stored_bytes_before"), stored("stored_bytes_after")) {
                facts.push(("stored", format!("{registry}: {}", describe_stored_bytes(before, after))));
            }
        }
        facts
    }

    /// How it is taken back, or that there is nothing to take back.
    #[must_use]
    pub fn restore_instructions(&self) -> String {
        let mut removed = self.journal.iter().filter(|entry| entry.was_removed()).peekable();
        let deleted = match self.deleted_count() {
            0 => String::new(),
            number => format!(
                " {} that had been untagged before {} deleted: an image comes back by `tagwarden restore IMAGE` only while \
                 the registry still has its layers.",
                counted(number, "manifest"),
                if number == 1 { "was" } else { "were" }
            ),
        };
        if removed.peek().is_none() {
            let nothing = "It removed nothing, so there is nothing to undo.".to_owned();
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

impl EntryView {
    /// One entry of the journal.
    #[must_use]
    pub fn new(entry: &JournalEntry, undo_until: Option<Timestamp>) -> Self {
        let JournalEntry { intent, intended_at, outcome, .. } = entry;
        let detail = outcome.as_ref().map(|(outcome, _)| describe_outcome(outcome));
        Self {
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
            reasons: serde_json::from_str(&intent.evidence).unwrap_or_default(),
            intended_at: *intended_at,
            settled_at: outcome.as_ref().map(|(_, at)| *at),
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

    /// The same, with file, revision and commit of its policy.
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

    /// The policy with its file, revision and commit, as far as they are known; empty where there is no policy.
    #[must_use]
    pub fn describe_policy(&self) -> String {
        let Some(policy) = &self.policy else { return String::new() };
        let mut words = policy.clone();
        if let (Some(file), Some(revision)) = (&self.policy_file, &self.policy_revision) {
            let _ = write!(words, ", {file} at {}", super::reason::short_digest(revision));
        }
        if let Some(commit) = &self.policies_commit {
            let _ = write!(words, ", commit {}", super::humanize::truncate(commit, 15));
        }
        words
    }

    /// Its reasons; empty where they are of a version that this one does not know.
    #[must_use]
    pub fn reason_views(&self) -> Vec<ReasonView> {
        serde_json::from_value(self.reasons.clone()).unwrap_or_default()
    }

    /// `registry/repository:tag`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}:{}", self.registry, self.repository, self.tag)
    }

    /// The outcome's label, `open` where there is none yet.
    #[must_use]
    pub fn outcome_label(&self) -> &str {
        self.outcome.as_deref().unwrap_or("open")
    }

    /// What was said of the outcome, or that it is not known yet.
    #[must_use]
    pub fn outcome_text(&self) -> &str {
        match &self.outcome {
            Some(_) => self.detail.as_deref().unwrap_or_default(),
            None => "begun, and not known yet how it ended; the next run finds out",
        }
    }

    fn is_deletion(&self) -> bool {
        self.action == Action::DeleteUntagged.label()
    }

    fn is_restore(&self) -> bool {
        [Action::Restore, Action::RestoreManifest].iter().any(|action| self.action == action.label())
    }

    fn was_removed(&self) -> bool {
        let tag = [Action::Remove(RemovalMethod::Untag), Action::Remove(RemovalMethod::DeleteManifest)];
        tag.iter().any(|action| self.action == action.label()) && self.outcome.as_deref() == Some("done")
    }
}

/// Until when a removal of a run can surely be undone; nothing where it was none, or that was not known then.
#[must_use]
pub fn undo_until(record: &RunRecord, entry: &JournalEntry) -> Option<Timestamp> {
    let summary: Value = serde_json::from_str(&record.end.as_ref()?.summary).ok()?;
    undo_until_by(Some(&summary), entry)
}

fn undo_until_by(summary: Option<&Value>, entry: &JournalEntry) -> Option<Timestamp> {
    let (Action::Remove(_), Some((Outcome::Done(_), at))) = (entry.intent.action, &entry.outcome) else { return None };
    let seconds = summary?["registries"][entry.intent.registry.as_str()]["undo_seconds"].as_u64()?;
    at.checked_add(Duration::from_secs(seconds)).ok()
}

/// What the registry itself says of its size before and after, and what that means.
#[must_use]
pub fn describe_stored_bytes(before: u64, after: u64) -> String {
    let reclaimed = match before.checked_sub(after) {
        None | Some(0) => "nothing reclaimed so far".to_owned(),
        Some(reclaimed) => format!("{} reclaimed so far", format_bytes(reclaimed)),
    };
    let (before, after) = (format_bytes(before), format_bytes(after));
    format!("{before} stored before, {after} after: {reclaimed} (measured by the registry, which lags)")
}

/// The id by which a registry's own log knows the request, where its answer gave one.
#[must_use]
pub fn correlation_id(words: &str) -> Option<&str> {
    let (_, id) = words.split_once("-request-id: ")?;
    id.split([' ', ',', ';', ')']).next().filter(|id| !id.is_empty())
}

/// What was said of an outcome.
#[must_use]
pub fn describe_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(evidence) => evidence.clone(),
        Outcome::Skipped(skip) => skip.to_string(),
        Outcome::Failed(error) => error.clone(),
    }
}

/// What was done about one tag, in a line.
#[must_use]
pub fn entry_text(entry: &EntryView) -> String {
    sanitize(&format!(
        "{} {:<8} {:<15} {} {} {}",
        entry.intended_at.strftime("%Y-%m-%d %H:%M:%S"),
        entry.outcome_label(),
        entry.action,
        entry.name(),
        super::reason::short_digest(&entry.digest),
        entry.outcome_text(),
    ))
}

/// The policy by which something was done to a tag, behind [`entry_text`].
#[must_use]
pub fn policy_suffix(entry: &EntryView) -> String {
    let words = entry.describe_policy();
    if words.is_empty() { words } else { format!(" [policy {}]", sanitize(&words)) }
}

/// A run for the terminal: what it was, then a line for each tag.
#[must_use]
pub fn run_text(run: &RunView) -> String {
    let mut out = String::new();
    needs_attention(&mut out, &run.attention);
    if !out.is_empty() {
        out = out.trim_start().to_owned() + "\n";
    }
    for (label, value) in run.facts() {
        let _ = writeln!(out, "{label:<8} {}", sanitize(&value));
    }
    for entry in &run.journal {
        let until = entry
            .undo_until
            .map_or_else(String::new, |until| format!(" (can be undone until {})", format_minute(until)));
        let _ = writeln!(out, "{}{until}{}", entry_text(entry), policy_suffix(entry));
    }
    if !run.journal.is_empty() {
        let word = if run.command == "restore" { "restored" } else { "removed" };
        let [done, skipped, failed] = ["done", "skipped", "failed"].map(|label| format_count(run.count_outcome(label)));
        let _ = writeln!(out, "{done} {word}, {skipped} skipped, {failed} failed");
        let _ = writeln!(out, "{}", run.restore_instructions());
    }
    out
}

/// Writes a run in a format, ending in a line break; `plan` is the plan that it made or applied, where that is still
/// kept.
///
/// # Errors
/// When it cannot be written there.
pub fn write_run(
    run: &RunView,
    plan: Option<&PlanDocument>,
    format: Format,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    match format {
        Format::Text => out.write_all(run_text(run).as_bytes()),
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, run)?;
            out.write_all(b"\n")
        }
        Format::Markdown => out.write_all(run_markdown(run, plan).as_bytes()),
        Format::Html => out.write_all(run_html(run, plan).as_bytes()),
        Format::Csv => write_run_csv(run, plan, out),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Digest, Intent, RemovalMethod, SkipReason};
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
        RunRecord { run, plan_id: None, end: Some(end) }
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
            intent,
            intended_at: at,
            outcome: Some((outcome, at)),
        }
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
            r#"{"plan": {"reclaimable_bytes": 44238000000, "bytes": "estimated"}, "by_registry": {"contoso":
            {"expired": 3, "reclaimable_bytes": 1073741824, "shared_bytes": 1024, "unknown_bytes_removals": 2,
            "bytes": "estimated"}, "other": {"expired": 0}}, "registries": {"contoso":
            {"undo_seconds": 604800, "stored_bytes_before": 2147483648, "stored_bytes_after": 1073741824}}}"#,
        );
        let view = RunView::new(&record, &journal);
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
        let json = json!(view.journal);
        let seen = |key: &str| json.as_array().unwrap().iter().map(|entry| entry[key].clone()).collect::<Vec<_>>();
        assert_eq!(seen("correlation_id"), [json!("5f2b-11"), Value::Null, json!("77"), Value::Null]);
        assert_eq!(seen("undo_until"), [json!("2026-11-30T03:00:01Z"), Value::Null, Value::Null, Value::Null]);
    }

    #[test]
    fn what_was_not_known_is_not_told() {
        let journal = [entry(Action::Remove(RemovalMethod::Untag), Outcome::Done(String::new()))];
        for summary in ["{}", "", r#"{"registries": {"contoso": {"undo_seconds": null}}}"#] {
            let text = run_text(&RunView::new(&record(summary), &journal));
            assert!(!text.contains("undone") && !text.contains("stored") && !text.contains("bytes"), "{text}");
        }
    }
}
