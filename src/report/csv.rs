//! A plan or a run as one row for each tag, for a spreadsheet.

use std::borrow::Cow;
use std::io;

use super::{EndedHoldView, HistoryEntryView, HoldView, PlanDocument, ReasonView, RunView};

const HEADER: [&str; 14] = [
    "registry",
    "repository",
    "tag",
    "digest",
    "verdict",
    "policy",
    "enforce",
    "dated_at",
    "dated_by",
    "age_seconds",
    "reclaimable_bytes",
    "bytes",
    "reasons",
    // Newer columns come last, so that readers by position keep working.
    "shared_bytes",
];

/// Returns the plan as CSV (RFC 4180, CRLF line ends): first removals, then retained tags.
///
/// A cell that a spreadsheet would take for a formula begins with an apostrophe. `enforce`, `reclaimable_bytes`, `bytes`
/// (`exact` or `estimated`) and `shared_bytes` are empty for what stays; its `policy` lists all that have a say in it.
/// Last come manifests without a tag, by the tag that Tagwarden took from them last, if any: `delete-untagged` or
/// `keep-untagged`.
#[must_use]
pub fn csv(document: &PlanDocument) -> String {
    let mut out = Vec::new();
    // Writing to memory cannot fail.
    let _ = write_csv(document, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Writes the same text as [`csv`], row by row.
pub(super) fn write_csv(document: &PlanDocument, out: &mut dyn io::Write) -> io::Result<()> {
    row(out, &HEADER.map(Cow::Borrowed))?;
    for removal in document.removals.iter() {
        row(
            out,
            &[
                escape_formula(&removal.registry),
                escape_formula(&removal.repository),
                escape_formula(&removal.tag),
                escape_formula(&removal.digest),
                "expired".into(),
                escape_formula(&removal.policy),
                removal.enforce.to_string().into(),
                number(removal.dated_at),
                escape_formula(&removal.dated_by),
                number(removal.age_seconds),
                number(removal.reclaimable_bytes),
                removal.reclaimable_bytes.map_or("", |_| document.bytes_label(&removal.registry)).into(),
                escape_formula(&sentences(&removal.reasons)),
                number(removal.shared_bytes),
            ],
        )?;
    }
    for kept in document.kept.iter() {
        let mut policies: Vec<&str> = kept.reasons.iter().filter_map(ReasonView::policy).collect();
        policies.dedup();
        let age = kept.dated_at.map(|time| document.evaluated_at.duration_since(time).as_secs());
        row(
            out,
            &[
                escape_formula(&kept.registry),
                escape_formula(&kept.repository),
                escape_formula(&kept.tag),
                escape_formula(kept.digest.as_deref().unwrap_or_default()),
                escape_formula(&kept.verdict),
                escape_formula(&policies.join("; ")),
                "".into(),
                number(kept.dated_at),
                escape_formula(&kept.dated_by),
                number(age),
                "".into(),
                "".into(),
                escape_formula(&sentences(&kept.reasons)),
                "".into(),
            ],
        )?;
    }
    for found in document.deletions.sorted() {
        row(
            out,
            &[
                escape_formula(&found.registry),
                escape_formula(&found.repository),
                escape_formula(&found.tag),
                escape_formula(&found.digest),
                if found.deletable { "delete-untagged" } else { "keep-untagged" }.into(),
                escape_formula(&found.policies.join("; ")),
                found.is_enforceable().to_string().into(),
                found.untagged_at.to_string().into(),
                if found.tag.is_empty() { "found-free" } else { "untagged" }.into(),
                document.evaluated_at.duration_since(found.untagged_at).as_secs().to_string().into(),
                number(found.bytes),
                found.bytes.map_or("", |_| &*found.bytes_are).into(),
                escape_formula(&found.describe()),
                "".into(),
            ],
        )?;
    }
    Ok(())
}

const RUN_HEADER: [&str; 19] = [
    "run",
    "time",
    "action",
    "registry",
    "repository",
    "tag",
    "digest",
    "policy",
    "outcome",
    "skip",
    "detail",
    "undo_until",
    "approved_by",
    "ticket",
    "policy_file",
    "policy_revision",
    "policies_commit",
    // Newer columns come last, so that readers by position keep working.
    "reasons",
    "signed_by",
];

/// Writes a run, one row for each entry of its journal; a run without entries is written as its plan.
pub(super) fn write_run_csv(run: &RunView, plan: Option<&PlanDocument>, out: &mut dyn io::Write) -> io::Result<()> {
    if let (true, Some(plan)) = (run.entries().is_empty(), plan) {
        return write_csv(plan, out);
    }
    row(out, &RUN_HEADER.map(Cow::Borrowed))?;
    for entry in run.entries_by_name() {
        row(
            out,
            &[
                escape_formula(&run.id),
                entry.intended_at.to_string().into(),
                escape_formula(&entry.action),
                escape_formula(&entry.registry),
                escape_formula(&entry.repository),
                escape_formula(&entry.tag),
                escape_formula(&entry.digest),
                or_empty(entry.policy.as_deref()),
                escape_formula(entry.outcome_label()),
                or_empty(entry.skip.as_deref()),
                escape_formula(entry.outcome_text()),
                number(entry.undo_until),
                or_empty(run.approved_by.as_deref()),
                or_empty(run.ticket.as_deref()),
                or_empty(entry.policy_file.as_deref()),
                or_empty(entry.policy_revision.as_deref()),
                or_empty(entry.policies_commit.as_deref()),
                escape_formula(&sentences(&entry.reason_views())),
                or_empty(run.signed_by.as_deref()),
            ],
        )?;
    }
    Ok(())
}

const JOURNAL_HEADER: [&str; 24] = [
    "time",
    "run",
    "command",
    "mode",
    "by",
    "approved_by",
    "signed_by",
    "ticket",
    "action",
    "registry",
    "repository",
    "tag",
    "digest",
    "policy",
    "outcome",
    "skip",
    "reasons",
    "detail",
    "correlation_id",
    "resolved_at",
    "undo_until",
    "policy_file",
    "policy_revision",
    "policies_commit",
];

/// Writes entries of the journals of several runs, one row for each.
///
/// # Errors
/// Returns an error if it cannot be written.
pub fn write_journal_csv(entries: &[HistoryEntryView], out: &mut dyn io::Write) -> io::Result<()> {
    row(out, &JOURNAL_HEADER.map(Cow::Borrowed))?;
    for view in entries {
        let entry = &view.entry;
        let reasons = sentences(&entry.reason_views());
        let cells = [
            entry.intended_at.to_string().into(),
            escape_formula(&entry.run),
            escape_formula(&view.command),
            escape_formula(&view.mode),
            escape_formula(&view.by),
            or_empty(view.approved_by.as_deref()),
            or_empty(view.signed_by.as_deref()),
            or_empty(view.ticket.as_deref()),
            escape_formula(&entry.action),
            escape_formula(&entry.registry),
            escape_formula(&entry.repository),
            escape_formula(&entry.tag),
            escape_formula(&entry.digest),
            or_empty(entry.policy.as_deref()),
            escape_formula(entry.outcome_label()),
            or_empty(entry.skip.as_deref()),
            escape_formula(&reasons),
            escape_formula(entry.outcome_text()),
            or_empty(entry.correlation_id.as_deref()),
            number(entry.resolved_at),
            number(entry.undo_until),
            or_empty(entry.policy_file.as_deref()),
            or_empty(entry.policy_revision.as_deref()),
            or_empty(entry.policies_commit.as_deref()),
        ];
        row(out, &cells)?;
    }
    Ok(())
}

const RUNS_HEADER: [&str; 17] = [
    "run",
    "command",
    "mode",
    "started_at",
    "ended_at",
    "by",
    "approved_by",
    "ticket",
    "outcome",
    "exit_code",
    "removed",
    "deleted",
    "restored",
    "skipped",
    "failed",
    "plan",
    "error",
];

/// Writes a list of runs, one row for each.
///
/// # Errors
/// Returns an error if it cannot be written.
pub fn write_runs_csv(runs: &[RunView], out: &mut dyn io::Write) -> io::Result<()> {
    row(out, &RUNS_HEADER.map(Cow::Borrowed))?;
    for run in runs {
        let summary = &run.summary;
        let cells = [
            escape_formula(&run.id),
            escape_formula(&run.kind),
            escape_formula(&run.mode),
            run.started_at.to_string().into(),
            number(run.ended_at),
            escape_formula(&run.by),
            or_empty(run.approved_by.as_deref()),
            or_empty(run.ticket.as_deref()),
            escape_formula(&run.outcome),
            number(run.exit_code),
            number(summary.removed),
            number(summary.deleted),
            number(summary.restored),
            number(summary.skipped),
            number(summary.failed),
            or_empty(run.plan_id.as_deref()),
            or_empty(run.error.as_deref()),
        ];
        row(out, &cells)?;
    }
    Ok(())
}

const HOLDS_HEADER: [&str; 12] = [
    "registry",
    "repository",
    "tag",
    "digest",
    "since",
    "until",
    "by",
    "origin",
    "reason",
    "ended_at",
    "ended_by",
    "in_force",
];

/// Writes holds, one row for each: first those in force.
///
/// # Errors
/// Returns an error if it cannot be written.
pub fn write_holds_csv(holds: &[HoldView], ended: &[EndedHoldView], out: &mut dyn io::Write) -> io::Result<()> {
    row(out, &HOLDS_HEADER.map(Cow::Borrowed))?;
    let in_force = holds.iter().map(|hold| (hold, None));
    for (hold, end) in in_force.chain(ended.iter().map(|ended| (&ended.hold, Some(ended)))) {
        let cells = [
            escape_formula(&hold.registry),
            escape_formula(&hold.repository),
            escape_formula(&hold.tag),
            or_empty(hold.digest.as_deref()),
            hold.since.to_string().into(),
            hold.until.to_string().into(),
            escape_formula(&hold.by),
            escape_formula(&hold.origin),
            escape_formula(&hold.reason),
            number(end.map(|ended| ended.ended_at)),
            or_empty(end.and_then(|ended| ended.ended_by.as_deref())),
            end.is_none().to_string().into(),
        ];
        row(out, &cells)?;
    }
    Ok(())
}

fn or_empty(text: Option<&str>) -> Cow<'_, str> {
    escape_formula(text.unwrap_or_default())
}

fn sentences(reasons: &[ReasonView]) -> String {
    reasons.iter().map(ReasonView::sentence).collect::<Vec<_>>().join("; ")
}

fn number<T: ToString>(value: Option<T>) -> Cow<'static, str> {
    value.map_or_else(String::new, |value| value.to_string()).into()
}

/// Returns text that spreadsheets do not run as a formula. Full-width signs count too: some spreadsheets treat them as
/// the plain ones. Control characters for terminals are replaced.
fn escape_formula(text: &str) -> Cow<'_, str> {
    let steers = |found: char| found.is_control() && !matches!(found, '\t' | '\r' | '\n');
    if text.contains(steers) {
        return escape_formula(&text.replace(steers, "\u{fffd}")).into_owned().into();
    }
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']) {
        format!("'{text}").into()
    } else {
        text.into()
    }
}

fn row(out: &mut dyn io::Write, cells: &[Cow<'_, str>]) -> io::Result<()> {
    let mut row = String::new();
    for (position, cell) in cells.iter().enumerate() {
        if position > 0 {
            row.push(',');
        }
        if cell.contains([',', '"', '\r', '\n']) {
            row.push('"');
            row.push_str(&cell.replace('"', "\"\""));
            row.push('"');
        } else {
            row.push_str(cell);
        }
    }
    row.push_str("\r\n");
    out.write_all(row.as_bytes())
}
