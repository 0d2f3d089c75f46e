//! The outcomes of commands, as text and JSON. Writing to a `String` cannot fail, so those results are dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::apply::{self, RestorePreview, RestoreResult};
use crate::domain::{Action, DependentRole, Intent, Outcome, SkipReason};
use crate::report::{
    self, EntryLine, RunView, SkipGroup, SkippedAction, TextTable, entry_list, fold_skips, sanitize,
};
use crate::state::RunKind;
use crate::workflow::{RestoreCandidate, RestoreRunResult, RunResult, StorageChange};

/// Returns the skip of an action with that name, if it was skipped.
fn skipped(name: String, outcome: &Outcome) -> Option<SkippedAction> {
    match outcome {
        Outcome::Skipped(skip) => {
            Some(SkippedAction { label: skip.label().to_owned(), name, why: report::describe_outcome(outcome) })
        }
        Outcome::Done(_) | Outcome::Failed(_) => None,
    }
}

/// Renders one line for each change, one for many skips of one reason, and the counts. What was done is left out where a
/// log has it already. `left_out` is the number of refused removals that are not among the outcomes.
pub(super) fn applied_text(result: &RunResult, is_logged: bool, left_out: u64) -> String {
    let mut out = String::new();
    let shown = |outcome: &Outcome| !(is_logged && matches!(outcome, Outcome::Done(_)));
    let (listed, folded) = fold_skips(&result.applied, |applied| {
        let removal = &applied.removal;
        skipped(format!("{}/{}:{}", removal.registry, removal.repository, removal.tag), &applied.outcome)
    });
    for applied in listed.into_iter().filter(|applied| shown(&applied.outcome)) {
        let removal = &applied.removal;
        let name = format!("{}/{}:{}", removal.registry, removal.repository, removal.tag);
        let words = sanitize(&report::describe_outcome(&applied.outcome));
        let line = format!("{:<8} {name} {} {words}", applied.outcome.label(), removal.digest.short());
        let _ = writeln!(out, "{}", line.trim_end());
    }
    write_folded(&mut out, &folded);
    let (listed, folded) = fold_skips(&result.deleted, |one| {
        let deletion = &one.deletion;
        skipped(format!("{}/{}@{}", deletion.registry, deletion.repository, one.digest.short()), &one.outcome)
    });
    for one in listed.into_iter().filter(|one| shown(&one.outcome)) {
        let deletion = &one.deletion;
        let name = format!("{}/{}@{}", deletion.registry, deletion.repository, one.digest.short());
        let what = match one.role {
            Some(role) => format!("{} of what was {}", role.label(), deletion.tag),
            None if deletion.tag.is_none() => "left by others".to_owned(),
            None => format!("was {}", deletion.tag),
        };
        let label = if matches!(one.outcome, Outcome::Done(_)) { "deleted" } else { one.outcome.label() };
        let line = format!("{label:<8} {name} ({what}) {}", sanitize(&report::describe_outcome(&one.outcome)));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    write_folded(&mut out, &folded);
    out + &applied_summary(result, left_out)
}

/// Renders the counts, and how to undo.
fn applied_summary(result: &RunResult, left_out: u64) -> String {
    let mut out = String::new();
    let count = |label: &str| result.outcomes().filter(|outcome| outcome.label() == label).count() as u64;
    let removed = result.applied.iter().filter(|applied| matches!(applied.outcome, Outcome::Done(_))).count() as u64;
    let deleted = if result.deleted.is_empty() {
        String::new()
    } else {
        format!("{} deleted, ", report::counted(count("done") - removed, "untagged manifest"))
    };
    let is_refused = |outcome: &&Outcome| matches!(outcome, Outcome::Skipped(SkipReason::Refused(_)));
    let skipped_refused = result.outcomes().filter(is_refused).count() as u64;
    let refused = match skipped_refused + left_out {
        0 => String::new(),
        refused => format!("{} refused, ", report::format_count(refused)),
    };
    let _ = writeln!(
        out,
        "{} removed, {deleted}{refused}{} skipped, {} failed (run {})",
        report::format_count(removed),
        report::format_count(count("skipped") - skipped_refused),
        report::format_count(count("failed")),
        result.run
    );
    if removed > 0 {
        let _ = writeln!(out, "to undo: tagwarden restore --run {}", result.run);
    }
    let unknown = result.applied.iter().filter(|applied| apply::is_digest_unknown(&applied.outcome)).count() as u64;
    if unknown > 0 {
        let removals = report::counted(unknown, "removal");
        let _ = writeln!(
            out,
            "warning: of {removals} it is not known which digest the tag named then, so a push in that instant would be lost; \
             look at the tags in the registry: `tagwarden runs show {}` has each of them",
            result.run
        );
    }
    if result.missing_manifests > 0 {
        let removals = report::counted(result.missing_manifests, "removal");
        let _ = writeln!(out, "{removals} can be undone only while the registry keeps the manifest");
    }
    for found in &result.storage_changes {
        let StorageChange { registry, undo_seconds, stored_before, stored_after } = found;
        if let Some(seconds) = undo_seconds {
            let within = report::format_age(i64::try_from(*seconds).unwrap_or(i64::MAX));
            let _ = writeln!(out, "{registry}: each removal can be undone for {within}");
        }
        if let (Some(before), Some(after)) = (stored_before, stored_after) {
            let _ = writeln!(out, "{registry}: {}", report::describe_stored_bytes(*before, *after));
        }
    }
    out
}

fn write_folded(out: &mut String, groups: &[SkipGroup]) {
    for group in groups {
        let _ = writeln!(out, "{:<8} {}", "skipped", sanitize(&group.sentence()));
    }
}

pub(super) fn applied_json(result: &RunResult) -> Value {
    let applied: Vec<Value> = result
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
    let deleted = result.deleted.iter().map(|one| {
        let deletion = &one.deletion;
        let mut value = json!({
            "registry": deletion.registry.as_str(),
            "repository": deletion.repository.as_str(),
            "digest": one.digest.to_string(),
            "parent_digest": deletion.digest.to_string(),
            "role": one.role.map(DependentRole::label),
            "tag": deletion.tag.as_str(),
            "policies": deletion.policies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        add_outcome(&mut value, Some(&one.outcome));
        value
    });
    json!({
        "run": result.run.to_string(),
        "plan": result.document.id,
        "outcome": result.outcome.label(),
        "removals": applied,
        "deletions": deleted.collect::<Vec<_>>(),
        "storage": result.storage_changes.iter().map(StorageChange::summary_entry).collect::<BTreeMap<_, _>>(),
    })
}

pub(super) fn restored_text(result: &RestoreRunResult, hold: Option<Duration>) -> String {
    let line = |restored: &RestoreResult| {
        let RestoreResult { intent, outcome, .. } = restored;
        let by_digest = intent.action == Action::RestoreManifest;
        let label = if matches!(outcome, Outcome::Done(_)) { "restored" } else { outcome.label() };
        EntryLine {
            label: format!("{label:<8}"),
            name: if by_digest { format!("{}, with it", intent.name()) } else { intent.name() },
            digest: intent.digest.short(),
            words: report::describe_outcome(outcome),
            ..EntryLine::default()
        }
    };
    let mut out = entry_list(result.restored.iter().map(line).collect(), "");
    let count = |label: &str| result.restored.iter().filter(|one| one.outcome.label() == label).count() as u64;
    let _ = writeln!(
        out,
        "{} restored, {} skipped, {} failed (run {})",
        report::format_count(count("done")),
        report::format_count(count("skipped")),
        report::format_count(count("failed")),
        result.run
    );
    if count("done") > 0 {
        let _ = match hold {
            Some(hold) => writeln!(
                out,
                "what was restored is held for {} and counts by its original time; `tagwarden holds` lists it",
                report::format_age(i64::try_from(hold.as_secs()).unwrap_or(i64::MAX))
            ),
            None => writeln!(out, "what was restored is not held, and counts by its original time"),
        };
    }
    out
}

/// Renders one line for each removal, and the number that would be restored.
pub(super) fn preview_text(previews: &[RestoreCandidate]) -> String {
    let line = |found: &RestoreCandidate| {
        let intent = &found.preview.entry.intent;
        EntryLine {
            name: intent.name(),
            digest: intent.digest.short(),
            words: found.preview.expected.describe(),
            until: found.undo_until,
            ..EntryLine::default()
        }
    };
    let mut out = entry_list(previews.iter().map(line).collect(), "surely until");
    let count = |label: &str| previews.iter().filter(|one| one.preview.expected.label() == label).count() as u64;
    let _ = writeln!(
        out,
        "{} would come back, {} may, {} cannot, {} left as they are, {} not known; nothing was changed",
        report::format_count(count("returns") + count("only-in-registry")),
        report::format_count(count("uncertain")),
        report::format_count(count("impossible")),
        report::format_count(count("already-present") + count("moved")),
        report::format_count(count("unknown")),
    );
    out
}

pub(super) fn preview_json(previews: &[RestoreCandidate]) -> Value {
    let json = |one: &RestoreCandidate| {
        let RestorePreview { entry, expected } = &one.preview;
        let mut value = intent_json(&entry.intent);
        value["removed_at"] = json!(entry.outcome.as_ref().map(|(_, at)| at));
        value["run"] = json!(entry.run.to_string());
        value["expected"] = json!(expected.label());
        value["detail"] = json!(expected.describe());
        value["undo_until"] = json!(one.undo_until);
        value
    };
    json!({ "previews": previews.iter().map(json).collect::<Vec<_>>() })
}

pub(super) fn restored_json(result: &RestoreRunResult) -> Value {
    let restored: Vec<Value> = result
        .restored
        .iter()
        .map(|restored| {
            let mut value = intent_json(&restored.intent);
            add_outcome(&mut value, Some(&restored.outcome));
            value["already_present"] = json!(restored.already_there);
            value
        })
        .collect();
    json!({ "run": result.run.to_string(), "restored": restored })
}

/// Renders a list of runs. Where the whole ids do not fit, as much of them as tells these runs apart.
pub(super) fn runs_text(runs: &[RunView]) -> String {
    if runs.is_empty() {
        return "no runs yet\n".to_owned();
    }
    let table = runs_table(runs, false);
    let short: BTreeSet<&str> = runs.iter().filter_map(|run| run.id.get(..SHORT_ID)).collect();
    if !table.fits() && short.len() == runs.len() { runs_table(runs, true).text(0) } else { table.text(0) }
}

/// Characters of a run's id that hold its time to the millisecond.
const SHORT_ID: usize = 13;

fn runs_table(runs: &[RunView], is_narrow: bool) -> TextTable {
    let started = if is_narrow { "STARTED, UTC" } else { "STARTED" };
    let any_approved = runs.iter().any(|run| run.approved_by.is_some());
    let header = ["RUN", "COMMAND", "MODE", started, "BY", "OUTCOME", "REMOVED"].into_iter();
    let mut table = TextTable::new(header.chain(any_approved.then_some("APPROVED BY")));
    for run in runs {
        let count = |number: Option<u64>| report::format_count(number.unwrap_or_default());
        let mut removed = if run.kind == RunKind::Restore.label() {
            format!("{} restored", count(run.summary.restored))
        } else {
            count(run.summary.removed)
        };
        if run.summary.deleted > Some(0) {
            let _ = write!(removed, ", {} deleted", count(run.summary.deleted));
        }
        let id = if is_narrow { run.id.chars().take(SHORT_ID).collect() } else { run.id.clone() };
        let time = if is_narrow { "%Y-%m-%d %H:%M" } else { "%Y-%m-%d %H:%M:%S UTC" };
        let mut cells = vec![
            id,
            run.kind.clone(),
            run.mode.clone(),
            run.started_at.strftime(time).to_string(),
            sanitize(&run.by),
            run.outcome.clone(),
            removed,
        ];
        let approval = run.describe_approval().map(|approval| sanitize(&approval));
        cells.extend(any_approved.then(|| approval.unwrap_or_default()));
        table.add_row(cells);
    }
    table
}

/// Says how many runs a list leaves out; empty if it leaves out none.
pub(super) fn more_runs_text(listed: usize, more: u64) -> String {
    match more {
        0 => String::new(),
        more => {
            let all = listed as u64 + more;
            format!("and {} before them: `--limit {all}` lists all\n", report::counted(more, "run"))
        }
    }
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
        "reasons": report::journaled_evidence(intent),
    })
}

fn add_outcome(value: &mut Value, outcome: Option<&Outcome>) {
    value["outcome"] = json!(outcome.map(Outcome::label));
    let skip = match outcome {
        Some(Outcome::Skipped(skip)) => Some(skip.label()),
        _ => None,
    };
    value["skip"] = json!(skip);
    let words = outcome.map(report::describe_outcome);
    value["correlation_id"] = json!(words.as_deref().and_then(report::correlation_id));
    value["detail"] = json!(words);
}
