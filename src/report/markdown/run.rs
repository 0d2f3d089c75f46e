//! A run as Markdown: its context, its actions, how to restore them, and its evidence.

use super::escape::{MAX_BYTES, code, escape, folded, lines, row, section};
use super::plan::{basis, markdown, needs_attention};
use crate::report::humanize::counted;
use crate::report::notation::{format_minute, short_digest};
use crate::report::{EntryView, PlanDocument, RunView, fold_skips};

const MOST_NOT_DONE: usize = 12_000;
const MOST_SKIPS: usize = 4_000;
const MOST_FACTS: usize = 4_000;
const HEADER: &str = "| time | what | tag | digest | policy | outcome | can be undone until |\n\
                      | :-- | :-- | :-- | :-- | :-- | :-- | :-- |\n";

/// Renders a run with everything that a ticket needs, below 60,000 characters. A run without actions shows its whole
/// plan.
pub(in crate::report) fn run_markdown(run: &RunView, plan: Option<&PlanDocument>) -> String {
    let head = head(run);
    match plan {
        Some(plan) if run.entries().is_empty() => head + "\n" + &markdown(plan, MOST_FACTS),
        plan => {
            let basis = plan.map(basis).unwrap_or_default();
            let before = [head, incomplete_entries(run)].concat();
            let after = [section("To undo", &format!("{}\n", run.restore_instructions())), basis].concat();
            let rest = MAX_BYTES.saturating_sub(before.len() + after.len());
            [before, completed_entries(run, rest), after].concat()
        }
    }
}

fn head(run: &RunView) -> String {
    let facts = run.facts();
    let rows = facts.iter().map(|(what, value)| row(&[(*what).to_owned(), escape(value)]));
    let mut out =
        format!("## {}\n\n| | |\n| :-- | :-- |\n{}", escape(&run.headline()), lines(MOST_FACTS, facts.len(), rows));
    out.push_str(&needs_attention(&run.attention));
    if !run.entries().is_empty() {
        out.extend(["\n**", &run.describe_counts(), "**\n"]);
    }
    out
}

fn table(entries: &[&EntryView], most: usize) -> String {
    let rows = entries.iter().map(|entry| {
        row(&[
            entry.intended_at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            code(&entry.action),
            code(&entry.name()),
            code(&short_digest(&entry.digest)),
            policy(entry),
            format!("**{}** {}", escape(entry.outcome_label()), escape(entry.outcome_text())),
            entry.undo_until.map(format_minute).unwrap_or_default(),
        ])
    });
    HEADER.to_owned() + &lines(most, entries.len(), rows)
}

/// Formats the policy as code, with its file and revision.
fn policy(entry: &EntryView) -> String {
    let name = code(entry.policy.as_deref().unwrap_or_default());
    match (&entry.policy_file, &entry.policy_revision) {
        (Some(file), Some(revision)) => format!("{name} ({} at {})", code(file), code(&short_digest(revision))),
        _ => name,
    }
}

/// Renders the entries that were skipped, failed or are still open, each with its reason.
fn incomplete_entries(run: &RunView) -> String {
    let mut entries = run.entries_by_name();
    entries.retain(|entry| entry.outcome_label() != "done");
    if entries.is_empty() {
        return String::new();
    }
    let (listed, skips) = fold_skips(&entries, |entry| entry.skipped());
    let listed: Vec<&EntryView> = listed.into_iter().copied().collect();
    let mut out =
        lines(MOST_SKIPS, skips.len(), skips.iter().map(|group| format!("- skipped: {}", escape(&group.sentence()))));
    if !listed.is_empty() {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&table(&listed, MOST_NOT_DONE - MOST_SKIPS));
    }
    section("Not done, and why", &out)
}

fn completed_entries(run: &RunView, most: usize) -> String {
    let mut entries = run.entries_by_name();
    entries.retain(|entry| entry.outcome_label() == "done");
    if entries.is_empty() {
        return String::new();
    }
    let title = counted(entries.len() as u64, if run.deleted_count() > 0 { "entry" } else { "tag" });
    let frame = section("Done", &folded(&title, HEADER)).len() + 60;
    section("Done", &folded(&title, &table(&entries, most.saturating_sub(frame))))
}
