//! What was done, as text and JSON. Writing to a `String` cannot fail, so those results are dropped.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::apply::Restored;
use crate::domain::{Intent, Outcome};
use crate::report;
use crate::run::{Ended, RestoreEnded};
use crate::store::{JournalEntry, RunRecord};

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
    })
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
                let summary: Value = serde_json::from_str(&end.summary).unwrap_or_default();
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
        "summary": end.and_then(|end| serde_json::from_str::<Value>(&end.summary).ok()),
        "plan": record.plan_id,
    })
}

pub(super) fn run_text(record: &RunRecord, journal: &[JournalEntry]) -> String {
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
    let words = [("plan", &record.plan_id), ("approved", &run.approved_by), ("ticket", &run.ticket)];
    for (label, value) in words {
        if let Some(value) = value {
            let _ = writeln!(out, "{label:<8} {value}");
        }
    }
    for entry in journal {
        let intent = &entry.intent;
        let (label, words) = match &entry.outcome {
            Some((outcome, _)) => (outcome.label(), outcome_words(outcome)),
            None => ("open", "begun, and not known yet how it ended; the next run finds out".to_owned()),
        };
        let _ = writeln!(
            out,
            "{} {label:<8} {:<15} {}/{}:{} {} {words}",
            entry.intended_at.strftime("%Y-%m-%d %H:%M:%S"),
            intent.action.label(),
            intent.registry,
            intent.repository,
            intent.tag,
            intent.digest.short(),
        );
    }
    out
}

pub(super) fn journal_json(journal: &[JournalEntry]) -> Value {
    journal
        .iter()
        .map(|entry| {
            let mut value = intent_json(&entry.intent);
            value["intended_at"] = json!(entry.intended_at);
            value["settled_at"] = json!(entry.outcome.as_ref().map(|(_, at)| at));
            add_outcome(&mut value, entry.outcome.as_ref().map(|(outcome, _)| outcome));
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
    value["detail"] = json!(outcome.map(outcome_words));
}

fn outcome_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(evidence) => evidence.clone(),
        Outcome::Skipped(skip) => skip.to_string(),
        Outcome::Failed(error) => error.clone(),
    }
}
