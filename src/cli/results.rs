//! What was done, as text and JSON. Writing to a `String` cannot fail, so those results are dropped.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::apply::Restored;
use crate::domain::{Action, Intent, Outcome};
use crate::report;
use crate::run::{Aftermath, Ended, RestoreEnded};
use crate::store::{Circumstances, JournalEntry, RunRecord};

/// One line for each removal, and the counts.
pub(super) fn applied_text(ended: &Ended) -> String {
    let mut out = String::new();
    for applied in &ended.applied {
        let removal = &applied.removal;
        let name = format!("{}/{}:{}", removal.registry, removal.repository, removal.tag);
        let words = outcome_words(&applied.outcome);
        let _ = writeln!(out, "{:<8} {name} {} {words}", applied.outcome.label(), removal.digest.short());
    }
    let count = |label: &str| ended.applied.iter().filter(|applied| applied.outcome.label() == label).count() as u64;
    let _ = writeln!(
        out,
        "{} removed, {} skipped, {} failed (run {})",
        report::count(count("done")),
        report::count(count("skipped")),
        report::count(count("failed")),
        ended.run
    );
    if count("done") > 0 {
        let _ = writeln!(out, "to undo: tagwarden restore --run {}", ended.run);
    }
    for found in &ended.aftermath {
        let Aftermath { registry, undo_seconds, stored_before, stored_after } = found;
        if let Some(seconds) = undo_seconds {
            let within = report::age(i64::try_from(*seconds).unwrap_or(i64::MAX));
            let _ = writeln!(out, "{registry}: each removal can be undone for {within}");
        }
        if let (Some(before), Some(after)) = (stored_before, stored_after) {
            let _ = writeln!(out, "{registry}: {}", stored_words(*before, *after));
        }
    }
    out
}

pub(super) fn applied_json(ended: &Ended) -> Value {
    let applied: Vec<Value> = ended
        .applied
        .iter()
        .map(|applied| {
            let removal = &applied.removal;
            let mut value = json!({
                "registry": removal.registry.as_str(),
                "repository": removal.repository.as_str(),
                "tag": removal.tag.as_str(),
                "digest": removal.digest.to_string(),
                "policy": removal.policy.as_str(),
                "method": removal.method.label(),
            });
            add_outcome(&mut value, Some(&applied.outcome));
            value
        })
        .collect();
    json!({
        "run": ended.run.to_string(),
        "plan": ended.document.id,
        "outcome": ended.outcome.label(),
        "removals": applied,
        "registries": ended.aftermath.iter().map(Aftermath::json).collect::<Map<_, _>>(),
    })
}

/// What the registry itself says of its size before and after, and what that means.
fn stored_words(before: u64, after: u64) -> String {
    let reclaimed = match before.checked_sub(after) {
        None | Some(0) => "nothing reclaimed so far".to_owned(),
        Some(reclaimed) => format!("{} reclaimed so far", report::bytes(reclaimed)),
    };
    let (before, after) = (report::bytes(before), report::bytes(after));
    format!("{before} stored before, {after} after: {reclaimed} (measured by the registry, which lags)")
}

pub(super) fn restored_text(ended: &RestoreEnded) -> String {
    let mut out = String::new();
    for restored in &ended.restored {
        let Restored { intent, outcome, .. } = restored;
        let name = format!("{}/{}:{}", intent.registry, intent.repository, intent.tag);
        let words = outcome_words(outcome);
        let label = if matches!(outcome, Outcome::Done(_)) { "restored" } else { outcome.label() };
        let _ = writeln!(out, "{label:<8} {name} {} {words}", intent.digest.short());
    }
    let count = |label: &str| ended.restored.iter().filter(|one| one.outcome.label() == label).count() as u64;
    let _ = writeln!(
        out,
        "{} restored, {} skipped, {} failed (run {})",
        report::count(count("done")),
        report::count(count("skipped")),
        report::count(count("failed")),
        ended.run
    );
    out
}

pub(super) fn restored_json(ended: &RestoreEnded) -> Value {
    let restored: Vec<Value> = ended
        .restored
        .iter()
        .map(|restored| {
            let mut value = intent_json(&restored.intent);
            add_outcome(&mut value, Some(&restored.outcome));
            value["already_there"] = json!(restored.already_there);
            value
        })
        .collect();
    json!({ "run": ended.run.to_string(), "restored": restored })
}

pub(super) fn runs_text(runs: &[RunRecord]) -> String {
    if runs.is_empty() {
        return "no runs yet\n".to_owned();
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["RUN", "COMMAND", "MODE", "STARTED", "BY", "OUTCOME", "REMOVED"]);
    for record in runs {
        let (outcome, removed) = match &record.end {
            None => ("unfinished".to_owned(), String::new()),
            Some(end) => {
                let summary = summary(record);
                let done = ["removed", "restored"].iter().find_map(|key| summary[key].as_u64());
                (end.outcome.clone(), done.map(report::count).unwrap_or_default())
            }
        };
        table.add_row([
            record.run.id.to_string(),
            record.run.kind.label().to_owned(),
            record.run.mode.clone(),
            record.run.started_at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            record.run.by.clone(),
            outcome,
            removed,
        ]);
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

pub(super) fn run_json(record: &RunRecord) -> Value {
    let run = &record.run;
    let end = record.end.as_ref();
    json!({
        "id": run.id.to_string(),
        "command": run.kind.label(),
        "mode": run.mode,
        "by": run.by,
        "version": run.version,
        "approved_by": run.approved_by,
        "ticket": run.ticket,
        "started_at": run.started_at,
        "ended_at": end.map(|end| end.ended_at),
        "outcome": end.map(|end| &end.outcome),
        "exit_code": end.map(|end| end.exit_code),
        "error": end.and_then(|end| end.error.as_ref()),
        "summary": end.map(|_| summary(record)),
        "plan": record.plan_id,
    })
}

/// What a run went by besides its settings.
pub(super) fn circumstances_json(circumstances: &Circumstances) -> Value {
    let Circumstances { revision, commit, due, held_back, despite } = circumstances;
    json!({
        "policies_revision": revision,
        "policies_commit": commit,
        "due": due,
        "held_back": held_back,
        "despite": despite,
    })
}

pub(super) fn run_text(record: &RunRecord, circumstances: &Circumstances, journal: &[JournalEntry]) -> String {
    let run = &record.run;
    let mut out = format!(
        "run      {}\ncommand  {} in mode {}\nby       {} with tagwarden {}\nstarted  {}\n",
        run.id,
        run.kind.label(),
        run.mode,
        run.by,
        run.version,
        run.started_at
    );
    match &record.end {
        Some(end) => {
            let _ = writeln!(out, "ended    {}: {} (exit code {})", end.ended_at, end.outcome, end.exit_code);
            if let Some(error) = &end.error {
                let _ = writeln!(out, "error    {error}");
            }
        }
        None => out.push_str("ended    not yet, or it was killed\n"),
    }
    let Circumstances { revision, commit, due, held_back, despite } = circumstances;
    let words = [
        ("plan", &record.plan_id),
        ("approved", &run.approved_by),
        ("ticket", &run.ticket),
        ("policies", revision),
        ("commit", commit),
        ("due", due),
        ("held", held_back),
        ("despite", despite),
    ];
    for (label, value) in words {
        if let Some(value) = value {
            let _ = writeln!(out, "{label:<8} {value}");
        }
    }
    let summary = summary(record);
    if let Some(bytes) = summary["plan"]["reclaimable_bytes"].as_u64() {
        let about = if summary["plan"]["bytes"] == "estimated" { "about " } else { "" };
        let _ = writeln!(out, "bytes    {about}{} reclaimable by the whole plan, as computed", report::bytes(bytes));
    }
    for (registry, found) in summary["registries"].as_object().into_iter().flatten() {
        let stored = |key: &str| found[key].as_u64();
        if let (Some(before), Some(after)) = (stored("stored_bytes_before"), stored("stored_bytes_after")) {
            let _ = writeln!(out, "stored   {registry}: {}", stored_words(before, after));
        }
    }
    for entry in journal {
        let until = undo_until(&summary, entry).map_or_else(String::new, |until| {
            format!(" (can be undone until {})", until.strftime("%Y-%m-%d %H:%M UTC"))
        });
        let _ = writeln!(out, "{}{until}", entry_line(entry));
    }
    out
}

/// What was done about one tag, and how it ended.
pub(super) fn entry_line(entry: &JournalEntry) -> String {
    let intent = &entry.intent;
    let (label, words) = match &entry.outcome {
        Some((outcome, _)) => (outcome.label(), outcome_words(outcome)),
        None => ("open", "begun, and not known yet how it ended; the next run finds out".to_owned()),
    };
    format!(
        "{} {label:<8} {:<15} {}/{}:{} {} {words}",
        entry.intended_at.strftime("%Y-%m-%d %H:%M:%S"),
        intent.action.label(),
        intent.registry,
        intent.repository,
        intent.tag,
        intent.digest.short(),
    )
}

/// The counts and sums of a run's record.
fn summary(record: &RunRecord) -> Value {
    record.end.as_ref().and_then(|end| serde_json::from_str(&end.summary).ok()).unwrap_or_default()
}

/// Until when a removal can surely be undone; nothing where it was none, or that was not known then.
fn undo_until(summary: &Value, entry: &JournalEntry) -> Option<Timestamp> {
    let (Action::Remove(_), Some((Outcome::Done(_), at))) = (entry.intent.action, &entry.outcome) else { return None };
    let seconds = summary["registries"][entry.intent.registry.as_str()]["undo_seconds"].as_u64()?;
    at.checked_add(Duration::from_secs(seconds)).ok()
}

pub(super) fn journal_json(record: &RunRecord, journal: &[JournalEntry]) -> Value {
    let summary = summary(record);
    journal
        .iter()
        .map(|entry| {
            let mut value = intent_json(&entry.intent);
            value["intended_at"] = json!(entry.intended_at);
            value["settled_at"] = json!(entry.outcome.as_ref().map(|(_, at)| at));
            add_outcome(&mut value, entry.outcome.as_ref().map(|(outcome, _)| outcome));
            value["undo_until"] = json!(undo_until(&summary, entry));
            value
        })
        .collect()
}

fn intent_json(intent: &Intent) -> Value {
    json!({
        "action": intent.action.label(),
        "registry": intent.registry.as_str(),
        "repository": intent.repository.as_str(),
        "tag": intent.tag.as_str(),
        "digest": intent.digest.to_string(),
        "media_type": &*intent.media_type,
        "policy": intent.policy,
        "reasons": serde_json::from_str::<Value>(&intent.proof).unwrap_or_default(),
    })
}

fn add_outcome(value: &mut Value, outcome: Option<&Outcome>) {
    value["outcome"] = json!(outcome.map(Outcome::label));
    let skip = match outcome {
        Some(Outcome::Skipped(skip)) => Some(skip.label()),
        _ => None,
    };
    value["skip"] = json!(skip);
    let words = outcome.map(outcome_words);
    value["correlation_id"] = json!(words.as_deref().and_then(correlation_id));
    value["detail"] = json!(words);
}

/// The id by which a registry's own log knows the request, where its answer gave one.
fn correlation_id(words: &str) -> Option<&str> {
    let (_, id) = words.split_once("-request-id: ")?;
    id.split([' ', ',', ';', ')']).next().filter(|id| !id.is_empty())
}

fn outcome_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(evidence) => evidence.clone(),
        Outcome::Skipped(skip) => skip.to_string(),
        Outcome::Failed(error) => error.clone(),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Digest, RemovalMethod, Skip};
    use crate::store::{NewRun, RunEnd, RunKind};

    fn record(summary: &str) -> RunRecord {
        let at: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
        let run = NewRun {
            id: Uuid::nil(),
            kind: RunKind::Run,
            mode: "enforce".into(),
            started_at: at,
            by: "ada@here".into(),
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
            proof: "[]".into(),
        };
        let at: Timestamp = "2026-11-23T03:00:01Z".parse().unwrap();
        JournalEntry {
            id: crate::store::JournalId(1),
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
            entry(untag, Outcome::Skipped(Skip::Gone)),
            entry(untag, Outcome::Failed("500 (x-ms-correlation-request-id: 77, gave up)".into())),
            entry(Action::Restore, Outcome::Done(String::new())),
        ];
        let record = record(
            r#"{"plan": {"reclaimable_bytes": 44238000000, "bytes": "estimated"}, "registries": {"contoso":
            {"undo_seconds": 604800, "stored_bytes_before": 2147483648, "stored_bytes_after": 1073741824}}}"#,
        );
        let text = run_text(&record, &Circumstances::default(), &journal);
        for words in [
            "bytes    about 41.2 GiB reclaimable by the whole plan, as computed\n",
            "stored   contoso: 2.0 GiB stored before, 1.0 GiB after: 1.0 GiB reclaimed so far (measured by the registry, which lags)\n",
            "x-ms-correlation-request-id: 5f2b-11 (can be undone until 2026-11-30 03:00 UTC)\n",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert_eq!(text.matches("can be undone").count(), 1, "{text}");
        let json = journal_json(&record, &journal);
        let seen = |key: &str| json.as_array().unwrap().iter().map(|entry| entry[key].clone()).collect::<Vec<_>>();
        assert_eq!(seen("correlation_id"), [json!("5f2b-11"), Value::Null, json!("77"), Value::Null]);
        assert_eq!(seen("undo_until"), [json!("2026-11-30T03:00:01Z"), Value::Null, Value::Null, Value::Null]);
    }

    #[test]
    fn what_was_not_known_is_not_told() {
        let journal = [entry(Action::Remove(RemovalMethod::Untag), Outcome::Done(String::new()))];
        for summary in ["{}", "", r#"{"registries": {"contoso": {"undo_seconds": null}}}"#] {
            let text = run_text(&record(summary), &Circumstances::default(), &journal);
            assert!(!text.contains("undone") && !text.contains("stored") && !text.contains("bytes"), "{text}");
        }
    }
}
