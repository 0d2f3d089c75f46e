//! A plan or a run as one row for each tag, for a spreadsheet.

use std::borrow::Cow;
use std::io;

use super::{PlanDocument, ReasonView, RunView};

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
    // Later ones come last, so that whoever goes by positions finds the others where they were.
    "shared_bytes",
];

/// The plan as CSV (RFC 4180, lines end in CRLF): first what goes, then what stays.
///
/// A cell that a spreadsheet would take for a formula begins with an apostrophe. `enforce`, `reclaimable_bytes`, `bytes`
/// (`exact` or `estimated`) and `shared_bytes` are empty for what stays; its `policy` lists all that have a say in it.
/// Last come manifests that were untagged before, by the tag that they lost last: `delete-untagged` or `keep-untagged`.
#[must_use]
pub fn csv(document: &PlanDocument) -> String {
    let mut out = Vec::new();
    // Writing to memory cannot fail.
    let _ = write_csv(document, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Writes what [`csv`] gives, row by row.
pub(super) fn write_csv(document: &PlanDocument, out: &mut dyn io::Write) -> io::Result<()> {
    row(out, &HEADER.map(Cow::Borrowed))?;
    for removal in document.removals.iter() {
        row(
            out,
            &[
                defused(&removal.registry),
                defused(&removal.repository),
                defused(&removal.tag),
                defused(&removal.digest),
                "expired".into(),
                defused(&removal.policy),
                removal.enforce.to_string().into(),
                number(removal.dated_at),
                defused(&removal.dated_by),
                number(removal.age_seconds),
                number(removal.reclaimable_bytes),
                removal.reclaimable_bytes.map_or("", |_| document.bytes_label(&removal.registry)).into(),
                defused(&sentences(&removal.reasons)),
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
                defused(&kept.registry),
                defused(&kept.repository),
                defused(&kept.tag),
                defused(kept.digest.as_deref().unwrap_or_default()),
                defused(&kept.verdict),
                defused(&policies.join("; ")),
                "".into(),
                number(kept.dated_at),
                defused(&kept.dated_by),
                number(age),
                "".into(),
                "".into(),
                defused(&sentences(&kept.reasons)),
                "".into(),
            ],
        )?;
    }
    for found in document.deletions.shown() {
        row(
            out,
            &[
                defused(&found.registry),
                defused(&found.repository),
                defused(&found.tag),
                defused(&found.digest),
                if found.goes { "delete-untagged" } else { "keep-untagged" }.into(),
                defused(&found.policies.join("; ")),
                found.would_be_done().to_string().into(),
                found.untagged_at.to_string().into(),
                "untagged".into(),
                document.evaluated_at.duration_since(found.untagged_at).as_secs().to_string().into(),
                number(found.bytes),
                found.bytes.map_or("", |_| &*found.bytes_are).into(),
                defused(&found.words()),
                "".into(),
            ],
        )?;
    }
    Ok(())
}

const RUN_HEADER: [&str; 17] = [
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
];

/// Writes a run, a row for each entry of its journal; one that has none is written as its plan.
pub(super) fn write_run_csv(run: &RunView, plan: Option<&PlanDocument>, out: &mut dyn io::Write) -> io::Result<()> {
    if let (true, Some(plan)) = (run.journal.is_empty(), plan) {
        return write_csv(plan, out);
    }
    let or_nothing = |text: &Option<String>| defused(text.as_deref().unwrap_or_default()).into_owned();
    row(out, &RUN_HEADER.map(Cow::Borrowed))?;
    for entry in &run.journal {
        row(
            out,
            &[
                defused(&run.id),
                entry.intended_at.to_string().into(),
                defused(&entry.action),
                defused(&entry.registry),
                defused(&entry.repository),
                defused(&entry.tag),
                defused(&entry.digest),
                or_nothing(&entry.policy).into(),
                defused(entry.outcome_label()),
                or_nothing(&entry.skip).into(),
                defused(entry.words()),
                number(entry.undo_until),
                or_nothing(&run.approved_by).into(),
                or_nothing(&run.ticket).into(),
                or_nothing(&entry.policy_file).into(),
                or_nothing(&entry.policy_revision).into(),
                or_nothing(&entry.policies_commit).into(),
            ],
        )?;
    }
    Ok(())
}

fn sentences(reasons: &[ReasonView]) -> String {
    reasons.iter().map(ReasonView::sentence).collect::<Vec<_>>().join("; ")
}

fn number<T: ToString>(value: Option<T>) -> Cow<'static, str> {
    value.map_or_else(String::new, |value| value.to_string()).into()
}

/// Text that no spreadsheet runs. Full-width signs count too: some spreadsheets read them as the plain ones.
/// Nothing in it steers a terminal on which the file is shown.
fn defused(text: &str) -> Cow<'_, str> {
    let steers = |found: char| found.is_control() && !matches!(found, '\t' | '\r' | '\n');
    if text.contains(steers) {
        return defused(&text.replace(steers, "\u{fffd}")).into_owned().into();
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
