//! The outcomes of commands, as text and JSON. Writing to a `String` cannot fail, so those results are dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::apply::{self, RestorePreview, RestoreResult};
use crate::domain::{Action, DependentRole, Intent, Outcome, SkipReason};
use crate::report::{
    self, EntryLine, HistoryEntryView, RunView, SkipGroup, SkippedAction, TextTable, entry_list, fold_skips, sanitize,
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
    let incomplete = result.restored.iter().filter(|one| one.is_incomplete).count() as u64;
    if incomplete > 0 {
        let tags = report::counted(incomplete, "restored tag");
        let _ = writeln!(
            out,
            "warning: images in the indexes of {tags} are gone, so who pulls those fails: push them again"
        );
    }
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
    let incomplete = match count("incomplete") {
        0 => String::new(),
        some => format!(", {} at most incomplete", report::format_count(some)),
    };
    let _ = writeln!(
        out,
        "{} would come back, {} may{incomplete}, {} cannot, {} left as they are, {} not known; nothing was changed",
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
            value["incomplete"] = json!(restored.is_incomplete);
            value
        })
        .collect();
    json!({ "run": result.run.to_string(), "restored": restored })
}

/// Renders a list of runs. Where it is wider than the terminal, ids are shortened to what tells these runs apart, columns
/// with the same in each row become a line below it, and then the approvers and the mode are left out.
pub(super) fn runs_text(runs: &[RunView]) -> String {
    if runs.is_empty() {
        return "no runs yet\n".to_owned();
    }
    let whole = runs_table(runs, Layout::default());
    if whole.fits() {
        return whole.text(0);
    }
    let short = Layout { id: short_id(runs), is_narrow: true, ..Layout::default() };
    let common = Layout { folds_common: true, ..short };
    let layouts = [
        short,
        common,
        Layout { without: &["APPROVED BY"], ..common },
        Layout { without: &["APPROVED BY", "MODE"], ..common },
    ];
    let fitting = layouts.into_iter().find(|layout| runs_table(runs, *layout).fits());
    let layout = fitting.unwrap_or(short);
    let mut out = runs_table(runs, layout).text(0);
    let columns = run_columns(runs, layout);
    for column in columns.iter().filter(|column| layout.is_common(column)) {
        let _ = writeln!(out, "all of them: {} {}", column.heading.to_lowercase(), column.cells[0]);
    }
    let left_out = columns.iter().filter(|column| layout.leaves_out(column) && !layout.is_common(column));
    let left_out: Vec<String> = left_out.map(|column| column.heading.to_lowercase()).collect();
    if !left_out.is_empty() {
        let _ = writeln!(out, "left out, so that it fits: {}; `--format csv` or json has it", left_out.join(" and "));
    }
    out
}

/// Characters of a run's id that hold its time to the millisecond.
const SHORT_ID: usize = 13;

/// Returns the number of characters of an id that tell these runs apart.
fn short_id(runs: &[RunView]) -> usize {
    let differ = |length: &usize| {
        let short: BTreeSet<&str> = runs.iter().filter_map(|run| run.id.get(..*length)).collect();
        short.len() == runs.len()
    };
    [SHORT_ID, 18, 23].into_iter().find(differ).unwrap_or(usize::MAX)
}

/// The columns of a list of runs that are shown, and how.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Characters of each id.
    id: usize,
    is_narrow: bool,
    /// True if a column with the same in each row becomes a line below the table.
    folds_common: bool,
    without: &'static [&'static str],
}

impl Default for Layout {
    fn default() -> Self {
        Self { id: usize::MAX, is_narrow: false, folds_common: false, without: &[] }
    }
}

impl Layout {
    fn is_common(&self, column: &RunColumn) -> bool {
        let can_be = self.folds_common && ["MODE", "BY"].contains(&column.heading) && column.cells.len() > 1;
        can_be && column.cells.windows(2).all(|pair| pair[0] == pair[1])
    }

    fn leaves_out(&self, column: &RunColumn) -> bool {
        self.without.contains(&column.heading)
    }
}

struct RunColumn {
    heading: &'static str,
    cells: Vec<String>,
}

fn runs_table(runs: &[RunView], layout: Layout) -> TextTable {
    let mut columns = run_columns(runs, layout);
    columns.retain(|column| !layout.is_common(column) && !layout.leaves_out(column));
    let mut table = TextTable::new(columns.iter().map(|column| column.heading));
    for row in 0..runs.len() {
        table.add_row(columns.iter().map(|column| column.cells[row].clone()));
    }
    table
}

fn run_columns(runs: &[RunView], layout: Layout) -> Vec<RunColumn> {
    let (started, time) =
        if layout.is_narrow { ("STARTED, UTC", "%Y-%m-%d %H:%M") } else { ("STARTED", "%Y-%m-%d %H:%M:%S UTC") };
    let column = |heading, cell: &dyn Fn(&RunView) -> String| RunColumn {
        heading,
        cells: runs.iter().map(|run| sanitize(&cell(run))).collect(),
    };
    let mut columns = vec![
        column("RUN", &|run| run.id.chars().take(layout.id).collect()),
        column("COMMAND", &|run| run.kind.clone()),
        column("MODE", &|run| run.mode.clone()),
        column(started, &|run| run.started_at.strftime(time).to_string()),
        column("BY", &|run| run.by.clone()),
        column("OUTCOME", &|run| run.outcome.clone()),
        column("REMOVED", &describe_removed),
    ];
    if runs.iter().any(|run| run.approved_by.is_some()) {
        columns.push(column("APPROVED BY", &|run| run.describe_approval().unwrap_or_default()));
    }
    columns
}

/// Describes what a run removed or restored, in numbers.
fn describe_removed(run: &RunView) -> String {
    let count = |number: Option<u64>| report::format_count(number.unwrap_or_default());
    let mut removed = if run.kind == RunKind::Restore.label() {
        format!("{} restored", count(run.summary.restored))
    } else {
        count(run.summary.removed)
    };
    if run.summary.deleted > Some(0) {
        let _ = write!(removed, ", {} deleted", count(run.summary.deleted));
    }
    removed
}

/// Renders entries of the journals of several runs.
pub(super) fn journal_text(entries: &[HistoryEntryView]) -> String {
    if entries.is_empty() {
        return "nothing was removed or restored then\n".to_owned();
    }
    let mut table = TextTable::new(["TIME, UTC", "OUTCOME", "ACTION", "TAG", "BY", "RUN"]);
    for HistoryEntryView { by, entry, .. } in entries {
        table.add_row([
            entry.intended_at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            entry.outcome_label().to_owned(),
            entry.action.clone(),
            sanitize(&entry.name()),
            sanitize(by),
            entry.run.chars().take(SHORT_ID).collect(),
        ]);
    }
    let runs: BTreeSet<&str> = entries.iter().map(|view| &*view.entry.run).collect();
    let done = entries.iter().filter(|view| view.entry.outcome_label() == "done").count() as u64;
    let all = match entries.len() as u64 {
        1 => "1 entry".to_owned(),
        all => format!("{} entries", report::format_count(all)),
    };
    let (runs, done) = (report::counted(runs.len() as u64, "run"), report::format_count(done));
    format!("{}{all} of {runs}, {done} done; `--format csv` has digests and reasons\n", table.text(0))
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::report::{RunSummary, set_table_width};
    use crate::state::{NewRun, RunEnd, RunRecord};

    fn run(number: u128, by: &str, approved_by: Option<&str>) -> RunView {
        let started_at = "2026-11-23T03:00:00Z".parse().unwrap();
        let run = NewRun {
            id: Uuid::from_u128(0x01a2_2a06_1234_7000_8000_0000_0000_0000 + (number << 80)),
            kind: RunKind::Apply,
            mode: "approved".into(),
            started_at,
            started_by: by.into(),
            version: "0.1.0".into(),
            approved_by: approved_by.map(Into::into),
            ticket: None,
        };
        let outcome = "evidence-missing".into();
        let end = RunEnd { ended_at: started_at, outcome, exit_code: 5, summary: "{}".into(), error: None };
        let record = RunRecord { run, plan_id: None, signed_by: None, end: Some(end) };
        RunView::new(&record, RunSummary::default())
    }

    /// Runs of one person, of several, and with approvers: each is a row of a table on a usual terminal.
    #[test]
    fn a_list_of_runs_fits_on_a_usual_terminal() {
        for (runs, below) in [
            (vec![run(1, "root@vm", None), run(2, "root@vm", None)], ""),
            (
                vec![run(1, "anna@build-7.example", None), run(2, "anna@build-7.example", None)],
                "all of them: mode approved\nall of them: by anna@build-7.example\n",
            ),
            (
                vec![run(1, "anna@vm", Some("Grace Hopper")), run(2, "root@vm", None)],
                "left out, so that it fits: approved by; `--format csv` or json has it\n",
            ),
        ] {
            set_table_width(Some(80));
            let text = runs_text(&runs);
            set_table_width(None);
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
            assert_eq!(text.lines().filter(|line| line.contains("evidence-missing")).count(), 2, "{text}");
            assert!(text.lines().next().unwrap().contains("COMMAND") && text.ends_with(below), "{text}");
        }
        let wide = runs_text(&[run(1, "root@vm", Some("Grace"))]);
        assert!(wide.contains("APPROVED BY") && wide.contains("UTC"), "{wide}");
    }
}
