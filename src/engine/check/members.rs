//! The tags that a policy selects, and the times of their images and periods.

use std::collections::BTreeMap;

use foldhash::fast::RandomState;
use jiff::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;

use super::version::ParsedVersion;
use crate::domain::{CompactTime, Digest, DigestMap, Period, Tag};

/// A tag that a policy selects. There may be a hundred thousand of them.
pub(super) struct Member<'a> {
    pub(super) tag: &'a Tag,
    pub(super) version: Option<Box<ParsedVersion>>,
    pub(super) position: u32,
    pub(super) time: Option<CompactTime>,
    /// Without a date, the latest that it can have.
    pub(super) latest_possible: Option<CompactTime>,
}

impl<'a> Member<'a> {
    pub(super) fn digest(&self) -> Option<&'a Digest> {
        self.tag.digest.as_ref()
    }

    pub(super) fn time(&self) -> Option<Timestamp> {
        self.time.map(CompactTime::timestamp)
    }

    pub(super) fn latest_possible(&self) -> Option<Timestamp> {
        self.latest_possible.map(CompactTime::timestamp)
    }
}

/// Returns the newest time of each image.
pub(super) fn image_times<'a>(members: &[Member<'a>]) -> DigestMap<&'a Digest, Timestamp> {
    // Growing would hold two tables for a moment, and most tags have an image of their own.
    let mut times: DigestMap<&Digest, Timestamp> =
        DigestMap::with_capacity_and_hasher(members.len(), RandomState::default());
    for member in members {
        if let (Some(digest), Some(time)) = (member.digest(), member.time()) {
            let newest = times.entry(digest).or_insert(time);
            *newest = (*newest).max(time);
        }
    }
    times
}

/// The times of the images, the newest first.
pub(super) fn newest_image_times(times: &DigestMap<&Digest, Timestamp>) -> Vec<Timestamp> {
    let mut all: Vec<Timestamp> = times.values().copied().collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    all
}

/// The dated tags by their periods.
pub(super) fn periods_of<'m, 'a>(
    members: &'m [Member<'a>],
    period: Period,
    timezone: &TimeZone,
) -> BTreeMap<civil::Date, Vec<&'m Member<'a>>> {
    let mut periods: BTreeMap<civil::Date, Vec<&Member<'_>>> = BTreeMap::new();
    for member in members.iter().filter(|member| member.digest().is_some()) {
        if let Some(time) = member.time() {
            periods.entry(first_day(period, timezone.to_datetime(time).date())).or_default().push(member);
        }
    }
    periods
}

/// Returns the day on which a period begins.
fn first_day(period: Period, day: civil::Date) -> civil::Date {
    match period {
        Period::Day => day,
        Period::Week => {
            let since_monday = i64::from(day.weekday().to_monday_zero_offset());
            day.saturating_sub(jiff::Span::new().days(since_monday))
        }
        Period::Month => day.first_of_month(),
        Period::Year => day.first_of_year(),
    }
}
