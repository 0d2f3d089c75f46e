//! A past run as text, and the choice of its format.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;

use super::csv::write_run_csv;
use super::entry_list::{EntryLine, entry_list};
use super::html::run_html;
use super::humanize::sanitize;
use super::journal_entry::{EntryView, correlation_id, policy_suffix};
use super::markdown::run_markdown;
use super::notation::short_digest;
use super::skips::fold_skips;
use super::text::needs_attention;
use super::ticket::run_ticket;
use super::{Format, PlanDocument, RunView};

/// Renders a run for the terminal: its context, then a line for each tag.
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
    let entries = run.entries_by_name();
    let (listed, folded) = fold_skips(&entries, |entry| entry.skipped());
    let line = |entry: &&&EntryView| EntryLine {
        label: format!("{:<8} {:<15}", entry.outcome_label(), entry.action),
        name: entry.name(),
        digest: short_digest(&entry.digest),
        words: entry.outcome_text().to_owned(),
        policy: policy_suffix(entry).trim_start().to_owned(),
        until: entry.undo_until,
    };
    let listed: Vec<EntryLine> = listed.iter().map(line).collect();
    let has_ids = listed.iter().any(|line| correlation_id(&line.words).is_some());
    let list = entry_list(listed, "can be undone until");
    out.push_str(&list);
    if has_ids && correlation_id(&list).is_none() {
        out.push_str("the id of each request in the registry's log: `--format json` or `csv`\n");
    }
    for group in &folded {
        let _ = writeln!(out, "skipped  {}", sanitize(&group.sentence()));
    }
    if !folded.is_empty() {
        out.push_str("each skipped tag: `--format json` or `csv`\n");
    }
    if !run.entries().is_empty() {
        let _ = writeln!(out, "{}", run.describe_counts());
        let _ = writeln!(out, "{}", run.restore_instructions());
    }
    out
}

/// A run as a JSON document.
#[derive(Serialize)]
struct RunDocument<'r> {
    schema: &'static str,
    #[serde(flatten)]
    run: &'r RunView,
}

/// Writes a run in a format, ending in a line break; `plan` is the plan that it made or applied, if it is still stored.
///
/// # Errors
/// Returns an error if writing fails.
pub fn write_run(
    run: &RunView,
    plan: Option<&PlanDocument>,
    format: Format,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    match format {
        Format::Text => out.write_all(run_text(run).as_bytes()),
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, &RunDocument { schema: "tagwarden.run/1", run })?;
            out.write_all(b"\n")
        }
        Format::Markdown => out.write_all(run_markdown(run, plan).as_bytes()),
        Format::Html => out.write_all(run_html(run, plan).as_bytes()),
        Format::Csv => write_run_csv(run, plan, out),
        Format::Ticket(dialect) => out.write_all(run_ticket(run, dialect).as_bytes()),
    }
}
