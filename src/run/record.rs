//! What the audit record says of a run.

use super::{Aftermath, Ended};
use crate::apply::Restored;
use crate::config::Mode;
use crate::domain::Outcome;
use crate::report;

/// The counts of a run for its record, as JSON.
pub(super) fn counts(ended: &Ended) -> String {
    let count = |label: &str| ended.applied.iter().filter(|applied| applied.outcome.label() == label).count();
    serde_json::json!({
        "plan": ended.document.summary,
        "removed": count("done"),
        "skipped": count("skipped"),
        "failed": count("failed"),
        "not_due": ended.not_due,
        "held_back": ended.circumstances.held_back,
        "registries": ended.aftermath.iter().map(Aftermath::json).collect::<serde_json::Map<_, _>>(),
    })
    .to_string()
}

pub(super) fn restore_counts(restored: &[Restored]) -> String {
    let count = |label: &str| restored.iter().filter(|one| one.outcome.label() == label).count();
    serde_json::json!({ "restored": count("done"), "skipped": count("skipped"), "failed": count("failed") }).to_string()
}

/// One line that says alone what a run was.
pub(super) fn line(ended: &Ended, mode: Mode, policies: usize) -> String {
    let summary = &ended.document.summary;
    let done = ended.applied.iter().filter(|applied| matches!(applied.outcome, Outcome::Done(_))).count();
    let held_back = ended.circumstances.held_back.as_deref();
    let what =
        if ended.applied.is_empty() && (mode != Mode::Enforce || held_back.is_some()) { "dry run" } else { "run" };
    let mut line = format!(
        "{what} {} of {policies} {}: {} tags, {} would go ({}{} reclaimable), {}, {} retained, {} undecided, {done} removed",
        ended.run,
        if policies == 1 { "policy" } else { "policies" },
        report::count(summary.tags),
        report::count(summary.expired),
        if summary.estimated() { "about " } else { "" },
        report::bytes(summary.reclaimable_bytes),
        protected(ended),
        report::count(summary.retained),
        report::count(summary.undecided),
    );
    if ended.not_due > 0 {
        line.push_str(&format!(", {} wait for the schedule of their policy", report::count(ended.not_due)));
    }
    if let Some(why) = held_back {
        line.push_str(&format!("; removals are held back, {why}"));
    }
    line
}

/// `41 protected (37 by aks-prod)`: a tag that several sources protect counts with each of them.
fn protected(ended: &Ended) -> String {
    let by = ended.document.sources.iter().filter(|source| source.protects > 0);
    let by: Vec<String> = by.map(|source| format!("{} by {}", report::count(source.protects), source.name)).collect();
    let by = if by.is_empty() { String::new() } else { format!(" ({})", by.join(", ")) };
    format!("{} protected{by}", report::count(ended.document.summary.protected))
}
