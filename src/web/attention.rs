//! Items that need a person's attention now: those of the last runs, and those that the daemon knows itself.

use jiff::{SignedDuration, Timestamp};

use super::dto::is_complete;
use super::status::{Activity, StatusSnapshot};
use crate::report::{self, AttentionKind, AttentionView, RunSummary, format_minute};
use crate::state::{RunKind, RunRecord, StateError, StateStore};

/// The delay after which a due run counts as overdue.
const STALE_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// Returns the failure because of which the state is of no use now: that of the last write, or that of its file.
pub(super) fn state_failure(status: &StatusSnapshot, store: &StateStore) -> Option<StateError> {
    status.write_error.clone().or_else(|| store.verify_file().err())
}

/// Returns all items, the most urgent first. `recent` are the last runs, the newest first.
pub(super) fn attention(
    status: &StatusSnapshot,
    recent: &[(RunRecord, RunSummary)],
    state_failure: Option<&StateError>,
    now: Timestamp,
) -> Vec<AttentionView> {
    let unusable =
        |failure: &StateError| AttentionView::new(AttentionKind::StateUnusable, "state", &failure.chain(), None);
    let mut found: Vec<AttentionView> = state_failure.map(unusable).into_iter().collect();
    found.extend(stale_schedule(status, recent, now));
    found.extend(status.approved_plans.iter().cloned());
    let ended = || recent.iter().filter(|(record, _)| record.run.kind != RunKind::Restore && record.end.is_some());
    // The last run shows the latest failures; the last full one shows the current situation.
    let last = ended().next();
    let complete = ended().find(|(record, counts)| is_complete(record, counts));
    for (record, summary) in last.into_iter().chain(complete) {
        for item in report::run_attention(record, summary) {
            if !found.contains(&item) {
                found.push(item);
            }
        }
    }
    if let Some(problem) = &status.policies.problem {
        let since = format_minute(problem.since);
        let message = format!("invalid edit since {since}, the previous version stays in force: {}", problem.text);
        found.push(AttentionView::new(AttentionKind::InvalidEdit, "settings and policies", &message, None));
    }
    found
}

/// Returns an item if the last complete run is older than the schedule allows.
fn stale_schedule(
    status: &StatusSnapshot,
    recent: &[(RunRecord, RunSummary)],
    now: Timestamp,
) -> Option<AttentionView> {
    let due = status.last_scheduled_time?;
    let waiting = matches!(status.activity, Activity::Idle);
    if !waiting || now.duration_since(due) < STALE_AFTER || due < status.policies.loaded_at {
        return None;
    }
    let whole = recent.iter().find(|(record, counts)| is_complete(record, counts) && record.run.kind == RunKind::Run);
    let last = whole.map(|(record, _)| record.run.started_at);
    if last.is_some_and(|last| last >= due) {
        return None;
    }
    let last = last.map_or_else(
        || "there has been no whole run".to_owned(),
        |last| format!("the last whole run began {}", format_minute(last)),
    );
    let message = format!("{last}, and one was due {}", format_minute(due));
    let remedy = "look into the log of the daemon; `tagwarden run` runs now".to_owned();
    Some(AttentionView::new(AttentionKind::Stale, "schedule", &message, Some(remedy)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::status::PolicyState;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn status(last_due: Option<&str>, doing: Activity) -> StatusSnapshot {
        StatusSnapshot {
            role: crate::web::Role::Single,
            outdated: None,
            started_at: at("2026-11-20T00:00:00Z"),
            ready: true,
            activity: doing,
            next: Vec::new(),
            last_scheduled_time: last_due.map(at),
            blocked_by: None,
            write_error: None,
            approved_plans: Vec::new(),
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
            (None, Activity::Idle, false),
            (Some("2026-11-23T03:00:00Z"), Activity::Idle, true),
            (Some("2026-11-23T11:50:00Z"), Activity::Idle, false),
            (Some("2026-11-19T03:00:00Z"), Activity::Idle, false),
            (
                Some("2026-11-23T03:00:00Z"),
                Activity::Run { kind: RunKind::Run, since: now, description: String::new() },
                false,
            ),
        ] {
            let found = attention(&status(due, doing), &[], None, now);
            assert_eq!(found.iter().any(|item| item.is_one_of(&[AttentionKind::Stale])), stale, "{due:?}: {found:?}");
        }
    }
}
