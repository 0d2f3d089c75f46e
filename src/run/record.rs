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
    let what = if ended.applied.is_empty() && mode != Mode::Enforce { "dry run" } else { "run" };
    format!(
        "{what} {} of {policies} policies: {} tags, {} would go ({}{} reclaimable), {} protected, {} retained, {} undecided, \
         {done} removed",
        ended.run,
        report::count(summary.tags),
        report::count(summary.expired),
        if summary.estimated() { "about " } else { "" },
        report::bytes(summary.reclaimable_bytes),
        report::count(summary.protected),
        report::count(summary.retained),
        report::count(summary.undecided),
    )
}
