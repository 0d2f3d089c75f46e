//! What of the journal's values goes into which columns, and back.

use jiff::Timestamp;

use super::stored;
use crate::domain::{Action, Date, DateOrigin, Original, Outcome, RemovalMethod, Skip, Undated};

/// The action with that label.
pub(super) fn action(label: &str) -> Option<Action> {
    let all = [
        Action::Remove(RemovalMethod::Untag),
        Action::Remove(RemovalMethod::DeleteManifest),
        Action::Restore,
        Action::RestoreManifest,
        Action::DeleteUntagged,
    ];
    all.into_iter().find(|action| action.label() == label)
}

/// What of a date goes into the columns `dated_at` and `dated_by`. A restored tag keeps the time that it had first.
pub(super) fn date_columns(date: Date) -> (Option<String>, Option<&'static str>) {
    match date.into() {
        Original::At(at, origin) => (Some(stored(at.timestamp())), Some(origin.label())),
        Original::Unknown => (None, Some("unknown")),
    }
}

/// What of an outcome goes into the columns `skip` and `detail`.
pub(super) fn columns(outcome: &Outcome) -> (Option<&'static str>, Option<String>) {
    let Outcome::Skipped(skip) = outcome else {
        let (Outcome::Done(text) | Outcome::Failed(text)) = outcome else { return (None, None) };
        return (None, Some(text.clone()));
    };
    let detail = match skip {
        Skip::Moved { to } => Some(to.to_string()),
        Skip::Kept(text)
        | Skip::Held(text)
        | Skip::Locked(text)
        | Skip::Refused(text)
        | Skip::Postponed(text)
        | Skip::Stopped(text)
        | Skip::Settled(text)
        | Skip::Blocked(text)
        | Skip::PutBack(text) => Some(text.clone()),
        Skip::Gone | Skip::DryRun | Skip::Interrupted => None,
    };
    (Some(skip.label()), detail)
}

/// The way back from [`columns`].
pub(super) fn outcome(label: &str, skip: Option<&str>, detail: String) -> Option<Outcome> {
    let skip = match (label, skip) {
        ("done", None) => return Some(Outcome::Done(detail)),
        ("failed", None) => return Some(Outcome::Failed(detail)),
        ("skipped", Some(skip)) => skip,
        _ => return None,
    };
    Some(Outcome::Skipped(match skip {
        "moved" => Skip::Moved { to: detail.parse().ok()? },
        "gone" => Skip::Gone,
        "kept" => Skip::Kept(detail),
        "held" => Skip::Held(detail),
        "locked" => Skip::Locked(detail),
        "policy-dry-run" => Skip::DryRun,
        "refused" => Skip::Refused(detail),
        "stopped" => Skip::Stopped(detail),
        "put-back" => Skip::PutBack(detail),
        "postponed" => Skip::Postponed(detail),
        "held-back" => Skip::Blocked(detail),
        "interrupted" => Skip::Interrupted,
        "settled" => Skip::Settled(detail),
        _ => return None,
    }))
}

/// The way back from [`date_columns`]: the date, `None` for an entry without one, or an error for one that cannot be.
pub(super) fn date(at: Option<Timestamp>, by: Option<&str>) -> Result<Option<Date>, InvalidDate> {
    Ok(match (at, by) {
        (_, None) => None,
        (None, Some("unknown")) => Some(Date::Unknown(Undated::Missing)),
        (Some(at), Some(by)) => Some(match DateOrigin::of_label(by).ok_or(InvalidDate)? {
            DateOrigin::Pushed => Date::Pushed(at),
            DateOrigin::Created => Date::Created(at),
            DateOrigin::FirstSeen => Date::FirstSeen(at),
        }),
        (None, Some(_)) => return Err(InvalidDate),
    })
}

/// A journaled date that cannot be.
pub(super) struct InvalidDate;
