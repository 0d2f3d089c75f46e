//! Conversion of the journal's values to and from columns.

use jiff::Timestamp;

use super::format_time;
use crate::domain::{Action, Date, DateOrigin, OriginalDate, Outcome, RemovalMethod, SkipReason, UndatedCause};

/// Returns the action with that label.
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

/// Converts a date into the columns `dated_at` and `dated_by`. A restored tag keeps its original date.
pub(super) fn date_columns(date: Date) -> (Option<String>, Option<&'static str>) {
    match date.into() {
        OriginalDate::Known(at, origin) => (Some(format_time(at.timestamp())), Some(origin.label())),
        OriginalDate::Unknown => (None, Some("unknown")),
    }
}

/// Converts an outcome into the columns `skip` and `detail`.
pub(super) fn outcome_columns(outcome: &Outcome) -> (Option<&'static str>, Option<String>) {
    let Outcome::Skipped(skip) = outcome else {
        let (Outcome::Done(text) | Outcome::Failed(text)) = outcome else { return (None, None) };
        return (None, Some(text.clone()));
    };
    let detail = match skip {
        SkipReason::Moved { to } => Some(to.to_string()),
        SkipReason::Kept(text)
        | SkipReason::Held(text)
        | SkipReason::Locked(text)
        | SkipReason::Refused(text)
        | SkipReason::Postponed(text)
        | SkipReason::Stopped(text)
        | SkipReason::Recovered(text)
        | SkipReason::Present(text)
        | SkipReason::Superseded(text)
        | SkipReason::Blocked(text)
        | SkipReason::Reverted(text) => Some(text.clone()),
        SkipReason::Missing | SkipReason::DryRun | SkipReason::Interrupted => None,
    };
    (Some(skip.label()), detail)
}

/// Reverses [`outcome_columns`].
pub(super) fn outcome(label: &str, skip: Option<&str>, detail: String) -> Option<Outcome> {
    let skip = match (label, skip) {
        ("done", None) => return Some(Outcome::Done(detail)),
        ("failed", None) => return Some(Outcome::Failed(detail)),
        ("skipped", Some(skip)) => skip,
        _ => return None,
    };
    Some(Outcome::Skipped(match SkipReason::current_label(skip) {
        "moved" => SkipReason::Moved { to: detail.parse().ok()? },
        "missing" => SkipReason::Missing,
        "kept" => SkipReason::Kept(detail),
        "held" => SkipReason::Held(detail),
        "locked" => SkipReason::Locked(detail),
        "policy-dry-run" => SkipReason::DryRun,
        "refused" => SkipReason::Refused(detail),
        "stopped" => SkipReason::Stopped(detail),
        "reverted" => SkipReason::Reverted(detail),
        "postponed" => SkipReason::Postponed(detail),
        "blocked" => SkipReason::Blocked(detail),
        "interrupted" => SkipReason::Interrupted,
        "recovered" => SkipReason::Recovered(detail),
        "superseded" => SkipReason::Superseded(detail),
        "present" => SkipReason::Present(detail),
        _ => return None,
    }))
}

/// Reverses [`date_columns`]: returns the date, `None` for an entry without one, or an error for an invalid one.
pub(super) fn date(at: Option<Timestamp>, by: Option<&str>) -> Result<Option<Date>, InvalidDate> {
    Ok(match (at, by) {
        (_, None) => None,
        (None, Some("unknown")) => Some(Date::Unknown(UndatedCause::Missing)),
        (Some(at), Some(by)) => Some(match DateOrigin::from_label(by).ok_or(InvalidDate)? {
            DateOrigin::Pushed => Date::Pushed(at),
            DateOrigin::Created => Date::Created(at),
            DateOrigin::FirstSeen => Date::FirstSeen(at),
        }),
        (None, Some(_)) => return Err(InvalidDate),
    })
}

/// Error for an invalid date in the journal.
pub(super) struct InvalidDate;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_are_read_in_both_spellings() {
        for (old, skip) in [
            ("gone", SkipReason::Missing),
            ("put-back", SkipReason::Reverted("why".to_owned())),
            ("held-back", SkipReason::Blocked("why".to_owned())),
            ("settled", SkipReason::Recovered("why".to_owned())),
        ] {
            assert_ne!(old, skip.label());
            for label in [old, skip.label()] {
                let expected = Some(Outcome::Skipped(skip.clone()));
                assert_eq!(outcome("skipped", Some(label), "why".to_owned()), expected, "{label}");
            }
        }
        assert_eq!(outcome("skipped", Some("forgotten"), String::new()), None);
    }
}
