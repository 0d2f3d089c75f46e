//! Cron expressions.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::Cause;

/// A valid cron expression with at least one occurrence: five fields (minute, hour, day, month, weekday), or a nickname
/// such as `@daily`.
///
/// At clock changes, a skipped time fires at the first moment after the gap, and a repeated time fires once. Only
/// expressions whose hours or minutes are `*` or steps follow the clock alone, so that `0 * * * *` fires in every hour
/// that passes.
#[derive(Debug, Clone)]
pub struct Cron {
    written: Arc<str>,
    /// More than one pattern if minutes or hours are lists: one for each time of day. Only for a single time is it
    /// clear what to do when clocks change.
    patterns: Vec<croner::Cron>,
}

/// Error for a text that is not a valid cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCron {
    /// The text is not a cron expression.
    #[error("cannot be understood")]
    Malformed(#[source] Cause),
    /// It has another number of fields than five.
    #[error("needs five fields, and has {0}")]
    FieldCount(usize),
    /// One of its fields is invalid.
    #[error("has an invalid {name}, `{text}`: {range}")]
    Field {
        /// The name of the field.
        name: &'static str,
        /// Its text.
        text: String,
        /// The values that it may have.
        range: &'static str,
    },
    /// It never occurs, such as on the 30th of February.
    #[error("names a time that never comes")]
    NeverOccurs,
}

/// Longer lists of times of day are kept as one pattern, because each time would be searched for separately.
const MAX_TIMES_OF_DAY: usize = 96;

impl FromStr for Cron {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let written = text.trim();
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parse = |text: &str| {
            parser.parse(text).map_err(|error: croner::errors::CronError| InvalidCron::Malformed(error.into()))
        };
        let whole = parse(written).map_err(|malformed| name_field(written, parser).unwrap_or(malformed))?;
        // From an arbitrary day on: an expression without an occurrence after it has none at all.
        let start = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
        whole.find_next_occurrence(&start, true).map_err(|_| InvalidCron::NeverOccurs)?;
        let patterns = times_of_day(written).iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { written: written.into(), patterns: if patterns.is_empty() { vec![whole] } else { patterns } })
    }
}

/// The fields of an expression, with their values.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31"),
    ("month", "1 to 12, or JAN to DEC"),
    ("weekday", "0 to 7, or SUN to SAT"),
];

/// Returns the fault of a malformed expression in words of its own; `None` if its fields are valid one by one.
fn name_field(written: &str, parser: CronParser) -> Option<InvalidCron> {
    let texts: Vec<&str> = written.split_whitespace().collect();
    if written.starts_with('@') {
        return None;
    }
    if texts.len() != FIELDS.len() {
        return Some(InvalidCron::FieldCount(texts.len()));
    }
    let is_invalid = |position: usize, text: &str| {
        let mut alone = ["*"; FIELDS.len()];
        alone[position] = text;
        parser.parse(&alone.join(" ")).is_err()
    };
    let (position, text) = texts.iter().enumerate().find(|(position, text)| is_invalid(*position, text))?;
    let (name, range) = FIELDS[position];
    Some(InvalidCron::Field { name, text: text.chars().take(40).collect(), range })
}

impl Cron {
    /// Returns the expression as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Returns the first occurrence after `after` in the time zone `zone`, or `None` if the calendar ends before.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        self.patterns.iter().filter_map(|pattern| next(pattern, after, zone)).min()
    }

    /// Returns an English description: `At 03:00.`
    #[must_use]
    pub fn describe(&self) -> String {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        parser.parse(&self.written).map(|cron| cron.describe()).unwrap_or_default()
    }
}

fn next(pattern: &croner::Cron, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let mut from = after;
    // croner cannot step over a whole day that a calendar skips (Samoa had no 30 December 2011).
    for _ in 0..3 {
        match pattern.find_next_occurrence(&from.to_zoned(zone.clone()), false) {
            Ok(next) if next.timestamp() > after => return Some(next.timestamp()),
            Ok(_) => from = from.checked_add(1.second()).ok()?,
            Err(_) => from = from.checked_add(23.hours()).ok()?,
        }
    }
    None
}

/// Returns one expression for each time of day if minutes and hours are plain lists with more than one combination;
/// empty otherwise.
fn times_of_day(written: &str) -> Vec<String> {
    let fields: Vec<&str> = written.split_whitespace().collect();
    let [minutes, hours, rest @ ..] = fields.as_slice() else { return Vec::new() };
    let (Some(minutes), Some(hours)) = (parse_list(minutes), parse_list(hours)) else { return Vec::new() };
    if minutes.len() * hours.len() > MAX_TIMES_OF_DAY {
        return Vec::new();
    }
    let rest = rest.join(" ");
    hours
        .iter()
        .flat_map(|hour| minutes.iter().map(|minute| format!("{minute} {hour} {rest}")).collect::<Vec<_>>())
        .collect()
}

/// Returns the numbers of a field such as `2,14` or `1-5`, or `None` for a field with `*` or a step.
fn parse_list(field: &str) -> Option<Vec<u8>> {
    let mut numbers = Vec::new();
    for part in field.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.parse::<u8>().ok()?..=last.parse::<u8>().ok()?);
    }
    Some(numbers)
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Cron {}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}
