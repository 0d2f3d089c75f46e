//! Argument values that several commands share.

use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{PossibleValue, TypedValueParser};
use jiff::Timestamp;

use crate::domain::{ACCEPTABLE, AcceptanceScope};
use crate::policy::fields::nearest;
use crate::report::{Format, TicketDialect};
use crate::state::RunKind;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum DataFormat {
    #[default]
    Text,
    Json,
}

/// A parser with the words that a shell proposes. Its own messages name the word that was probably meant.
#[derive(Clone)]
pub(super) struct Listed<T> {
    words: Vec<&'static str>,
    parse: fn(&str) -> Result<T, String>,
}

/// Returns a parser that proposes those words.
pub(super) fn listed<T>(words: impl Into<Vec<&'static str>>, parse: fn(&str) -> Result<T, String>) -> Listed<T> {
    Listed { words: words.into(), parse }
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Listed<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<T, clap::Error> {
        self.parse.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.words.iter().copied().map(PossibleValue::new)))
    }
}

/// Parses a number of times.
pub(super) fn parse_count(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=1000).contains(count))
        .ok_or_else(|| "write a number from 1 to 1000".to_owned())
}

/// Parses a number of rows.
pub(super) fn parse_limit(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "write a number from 1 on".to_owned())
}

/// The formats of lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ListFormat {
    #[default]
    Text,
    Json,
    Csv,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    #[default]
    Text,
    Json,
    Markdown,
    Html,
    Csv,
    /// The decision in Jira's wiki markup
    Jira,
    /// The decision as a journal entry of ServiceNow
    Servicenow,
}

impl From<ReportFormat> for Format {
    fn from(format: ReportFormat) -> Self {
        match format {
            ReportFormat::Text => Self::Text,
            ReportFormat::Json => Self::Json,
            ReportFormat::Markdown => Self::Markdown,
            ReportFormat::Html => Self::Html,
            ReportFormat::Csv => Self::Csv,
            ReportFormat::Jira => Self::Ticket(TicketDialect::Jira),
            ReportFormat::Servicenow => Self::Ticket(TicketDialect::ServiceNow),
        }
    }
}

/// A time: absolute, a day, `+14d` from now, or `1h` ago.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    parse_time_from(text, super::context::system_clock()())
}

fn parse_time_from(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    if let Ok(day) = text.parse::<jiff::civil::Date>() {
        let start = day.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| error.to_string())?;
        return Ok(start.timestamp());
    }
    if text == "now" {
        return Ok(now);
    }
    if let Some((year, _)) = text.split_once('-')
        && year.len() == 4
        && year.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err("no such day; write YYYY-MM-DD, such as 2026-12-24, or 2026-12-24T03:00:00Z".to_owned());
    }
    let (later, duration) = match text.strip_prefix('+') {
        Some(duration) => (true, duration),
        None => (false, text.strip_prefix('-').unwrap_or(text)),
    };
    if !duration.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(
            "expected a time such as 2026-12-24T03:00:00Z, a day such as 2026-12-24, `+14d` from now, or `1h` ago"
                .to_owned(),
        );
    }
    let duration = parse_duration(duration)?;
    let found = if later { now.checked_add(duration) } else { now.checked_sub(duration) };
    found.map_err(|_| format!("`{text}` is beyond the calendar"))
}

/// Parses a non-empty reason.
pub(super) fn parse_reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("it is empty; say why".to_owned()) } else { Ok(text.to_owned()) }
}

/// Parses the non-empty name of a person who approved something.
pub(super) fn parse_approver(text: &str) -> Result<String, String> {
    parse_reason(text).map_err(|_| "it is empty; say who approved it".to_owned())
}

/// Parses the command of a run.
pub(super) fn parse_run_kind(text: &str) -> Result<RunKind, String> {
    let known = RunKind::ALL.map(RunKind::label);
    RunKind::ALL.into_iter().find(|kind| kind.label() == text).ok_or_else(|| {
        let meant = nearest(text, &known).map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
        format!("{meant}(known: {})", known.join(", "))
    })
}

/// Parses the non-empty reference of a change ticket.
pub(super) fn parse_ticket(text: &str) -> Result<String, String> {
    parse_reason(text).map_err(|_| "it is empty; name the ticket, such as CHG-1024".to_owned())
}

/// A refusal that is accepted: its kind, and the part of the plan where.
pub(super) fn parse_acceptance(text: &str) -> Result<(&'static str, AcceptanceScope), String> {
    let (word, scope) = text.split_once('@').map_or((text, None), |(word, scope)| (word, Some(scope)));
    let Some(kind) = ACCEPTABLE.into_iter().find(|kind| *kind == word) else {
        let why = match word {
            "clock" => "the clock cannot be accepted: no tag's age can be trusted; set it, then plan again",
            "removal-impossible" | "rights" => {
                "missing rights cannot be accepted: the registry would refuse the removals; grant them, then plan again"
            }
            "untagged-retention" | "registry-settings-unread" | "retention" => {
                "a registry's retention cannot be accepted in a plan, because removals could not be undone; set \
                 `accept = [\"untagged-retention\"]` for the registry, or lower `undo_window`"
            }
            "same-content" => {
                "a registry that may be another under a second name cannot be accepted in a plan; set \
                 `accept = [\"same-content\"]` for the registry if it is a copy"
            }
            "evidence-missing" | "evidence" => {
                "missing evidence cannot be accepted: what could be in use stays; repair the source, then plan again"
            }
            _ => "",
        };
        if !why.is_empty() {
            return Err(why.to_owned());
        }
        let meant = nearest(word, &ACCEPTABLE).map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
        return Err(format!("unknown kind `{word}`{meant} (known: {})", ACCEPTABLE.join(", ")));
    };
    let invalid =
        |scope: &str| format!("invalid scope `{scope}`: write `run`, `policy:NAME`, REGISTRY or REGISTRY/REPOSITORY");
    let scope = match scope {
        None => AcceptanceScope::Any,
        Some("run") => AcceptanceScope::Run,
        Some(scope) => match (scope.strip_prefix("policy:"), scope.split_once('/')) {
            (Some(policy), _) => AcceptanceScope::Policy(policy.parse().map_err(|_| invalid(scope))?),
            (None, Some((registry, repository))) => {
                let place = registry.parse().ok().zip(repository.parse().ok());
                let (registry, repository) = place.ok_or_else(|| invalid(scope))?;
                AcceptanceScope::Repository(registry, repository)
            }
            (None, None) => AcceptanceScope::Registry(scope.parse().map_err(|_| invalid(scope))?),
        },
    };
    Ok((kind, scope))
}

/// Parses a duration with its unit. `M` and bare numbers are refused: `30M` could mean minutes or months.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.contains('M') {
        return Err("write a duration such as `36h`, `14d` or `2weeks`; `M` is ambiguous".to_owned());
    }
    match humantime::parse_duration(text.trim()) {
        Ok(duration) if duration.is_zero() => Err("the duration must not be zero".to_owned()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("invalid duration; write a number and a unit, such as `36h`, `14d` or `2weeks`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_times_are_read() {
        assert_eq!(parse_time("2026-12-24").unwrap().to_string(), "2026-12-24T00:00:00Z");
        assert_eq!(parse_time("2026-12-24T03:00:00+01:00").unwrap().to_string(), "2026-12-24T02:00:00Z");
        assert!(parse_time("tomorrow").is_err());
        for text in ["2026-13-01", "2026-02-30", "2026-1-1", "2026-12-24T25:00:00Z"] {
            let why = parse_time(text).unwrap_err();
            assert!(why.starts_with("no such day; write YYYY-MM-DD, such as 2026-12-24"), "{text}: {why}");
        }
    }

    #[test]
    fn times_may_be_relative() {
        let now = "2026-11-30T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("+14d", Some("2026-12-14T12:00:00Z")),
            ("1h", Some("2026-11-30T11:00:00Z")),
            ("-90min", Some("2026-11-30T10:30:00Z")),
            ("now", Some("2026-11-30T12:00:00Z")),
            ("+0s", None),
            ("+1M", None),
            ("14", None),
            ("+999999999d", None),
            ("--1h", None),
            ("++1h", None),
            ("+", None),
        ] {
            let found = parse_time_from(text, now).ok().map(|time| time.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_are_never_months() {
        assert_eq!(parse_duration("14d"), Ok(Duration::from_hours(14 * 24)));
        assert_eq!(parse_duration(" 90min "), Ok(Duration::from_mins(90)));
        for text in ["", "14", "0s", "1M", "-3d", "soon"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
