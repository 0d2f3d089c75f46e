//! When something happens again and again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::Cause;

/// A cron expression of five fields (minute, hour, day, month, weekday), or a nickname such as `@daily`, of which it is
/// known that its time comes.
///
/// Where clocks change it does what people mean: a time that is left out comes at the first moment after, and a time
/// that comes twice counts once. Only where the hours or minutes are `*` or steps does it go by the clock alone, so that
/// `0 * * * *` comes every hour that passes.
#[derive(Debug, Clone)]
pub struct Cron {
    written: Arc<str>,
    /// More than one where minutes or hours are lists: each time of day is one of its own, because only of a single one
    /// it is known what was meant when clocks change.
    patterns: Vec<croner::Cron>,
}

/// Why a text is no cron expression that can be gone by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCron {
    /// It is none at all.
    #[error("cannot be understood")]
    Malformed(#[source] Cause),
    /// Such as the 30th of February.
    #[error("names a time that never comes")]
    NeverOccurs,
}

/// More times of day than this are taken as they are written; each is looked for on its own.
const MAX_TIMES_OF_DAY: usize = 96;

impl FromStr for Cron {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let written = text.trim();
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parse = |text: &str| {
            parser.parse(text).map_err(|error: croner::errors::CronError| InvalidCron::Malformed(error.into()))
        };
        let whole = parse(written)?;
        // From an arbitrary day on: what never comes then never comes.
        let start = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
        whole.find_next_occurrence(&start, true).map_err(|_| InvalidCron::NeverOccurs)?;
        let patterns = times_of_day(written).iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { written: written.into(), patterns: if patterns.is_empty() { vec![whole] } else { patterns } })
    }
}

impl Cron {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The first time after `after` at which it comes, by the clocks of `zone`; nothing where the calendar ends before.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        self.patterns.iter().filter_map(|pattern| next(pattern, after, zone)).min()
    }

    /// In words: `At 03:00.`
    #[must_use]
    pub fn describe(&self) -> String {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        parser.parse(&self.written).map(|cron| cron.describe()).unwrap_or_default()
    }
}

fn next(pattern: &croner::Cron, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let mut from = after;
    // A whole day that a calendar leaves out is more than croner steps over (Samoa had no 30 December 2011).
    for _ in 0..3 {
        match pattern.find_next_occurrence(&from.to_zoned(zone.clone()), false) {
            Ok(next) if next.timestamp() > after => return Some(next.timestamp()),
            Ok(_) => from = from.checked_add(1.second()).ok()?,
            Err(_) => from = from.checked_add(23.hours()).ok()?,
        }
    }
    None
}

/// The expression for each single time of day, where minutes and hours are plain lists of more than one; nothing
/// otherwise.
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

/// The numbers of a field such as `2,14` or `1-5`; nothing for one with `*` or a step in it.
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
