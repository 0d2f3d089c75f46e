//! What needs a person's attention now: what the last runs say, and what the daemon knows of itself.

use jiff::{SignedDuration, Timestamp};

use super::board::{Doing, Status};
use super::views::{RunCounts, shows_all};
use crate::report::{self, AttentionKind, AttentionView, minute};
use crate::store::{RunKind, RunRecord};

/// A run that was due may begin so much later.
const LATE: SignedDuration = SignedDuration::from_mins(15);

/// Everything that needs attention, the most urgent first. `recent` are the last runs, the newest first.
pub(super) fn attention(status: &Status, recent: &[(RunRecord, RunCounts)], now: Timestamp) -> Vec<AttentionView> {
    let mut found: Vec<AttentionView> = stale(status, recent, now).into_iter().collect();
    let ended = || recent.iter().filter(|(record, _)| record.run.kind != RunKind::Restore && record.end.is_some());
    // The last run says what went wrong last; the last one that looked at everything says how things stand.
    let last = ended().next();
    let standing = ended().find(|(record, counts)| shows_all(record, counts));
    for (record, _) in last.into_iter().chain(standing) {
        let summary = record.end.as_ref().and_then(|end| serde_json::from_str(&end.summary).ok());
        for item in report::attention_of(record, summary.as_ref()) {
            if !found.contains(&item) {
                found.push(item);
            }
        }
    }
    if let Some(problem) = &status.policies.problem {
        let since = minute(problem.since);
        let message = format!("invalid edit since {since}, the previous version stays in force: {}", problem.text);
        found.push(AttentionView::new(AttentionKind::InvalidEdit, "settings and policies", &message, None));
    }
    found
}

/// Whether the last whole run is older than the schedule says.
fn stale(status: &Status, recent: &[(RunRecord, RunCounts)], now: Timestamp) -> Option<AttentionView> {
    let due = status.last_due?;
    let waiting = matches!(status.doing, Doing::Nothing);
    if !waiting || now.duration_since(due) < LATE || due < status.policies.loaded_at {
        return None;
    }
    let whole = recent.iter().find(|(record, counts)| shows_all(record, counts) && record.run.kind == RunKind::Run);
    let last = whole.map(|(record, _)| record.run.started_at);
    if last.is_some_and(|last| last >= due) {
        return None;
    }
    let last = last.map_or_else(
        || "there has been no whole run".to_owned(),
        |last| format!("the last whole run began {}", minute(last)),
    );
    let message = format!("{last}, and one was due {}", minute(due));
    let remedy = "look into the log of the daemon; `tagwarden run` runs now".to_owned();
    Some(AttentionView::new(AttentionKind::Stale, "schedule", &message, Some(remedy)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::board::PolicyState;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn status(last_due: Option<&str>, doing: Doing) -> Status {
        Status {
            started_at: at("2026-11-20T00:00:00Z"),
            ready: true,
            doing,
            next: Vec::new(),
            last_due: last_due.map(at),
            blocked_by: None,
            policies: PolicyState {
                revision: String::new(),
                commit: None,
                loaded_at: at("2026-11-20T00:00:00Z"),
                count: 1,
                problem: None,
            },
        }
    }

    #[test]
    fn a_schedule_without_its_run_is_stale() {
        let now = at("2026-11-23T12:00:00Z");
        for (due, doing, stale) in [
            (None, Doing::Nothing, false),
            (Some("2026-11-23T03:00:00Z"), Doing::Nothing, true),
            (Some("2026-11-23T11:50:00Z"), Doing::Nothing, false),
            (Some("2026-11-19T03:00:00Z"), Doing::Nothing, false),
            (Some("2026-11-23T03:00:00Z"), Doing::Run { kind: RunKind::Run, since: now, what: String::new() }, false),
        ] {
            let found = attention(&status(due, doing), &[], now);
            assert_eq!(found.iter().any(|item| item.is_one_of(&[AttentionKind::Stale])), stale, "{due:?}: {found:?}");
        }
    }
}
