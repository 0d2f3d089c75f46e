//! The pauses that servers ask for, in all forms of the field.

use std::time::Duration;

use http::header::{HeaderMap, HeaderName, RETRY_AFTER};
use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::date;

/// A request to retry, and the pause before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryHint {
    /// The pause that the server requested.
    pub(crate) after: Option<Duration>,
    pub(crate) throttled: bool,
}

/// Returns the pause that a response requests; the longest of several. Docker Hub writes `X-Retry-After`.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let told = date(headers);
    let wishes = [RETRY_AFTER, HeaderName::from_static("x-retry-after")].map(|name| {
        headers.get_all(name).iter().filter_map(|value| parse_delay(value.to_str().ok()?.trim(), told)).max()
    });
    wishes.into_iter().flatten().next()
}

/// Numbers from here on are times since 1970 and not pauses: as a pause it would be 31 years, as a time 2001.
const MIN_EPOCH_SECONDS: f64 = 1e9;
/// The same in milliseconds.
const MIN_EPOCH_MILLIS: f64 = 1e12;

/// Parses a pause in seconds or until a date (RFC 9110, 10.2.3), or in formats found in practice: with a fraction, as
/// seconds or milliseconds since 1970, as a date in another of the old formats. A date is relative to the response's
/// own `Date`, so that two clocks need not agree; without that it is ignored. Invalid texts and negative pauses are
/// ignored, and the usual pauses apply.
pub(super) fn parse_delay(wanted: &str, told: Option<Timestamp>) -> Option<Duration> {
    let until = match wanted.parse::<f64>() {
        Ok(seconds) if !(0.0..f64::INFINITY).contains(&seconds) => return None,
        Ok(seconds) if seconds < MIN_EPOCH_SECONDS => return Some(Duration::from_secs_f64(seconds.ceil())),
        Ok(moment) => {
            let seconds = if moment < MIN_EPOCH_MILLIS { moment } else { moment / 1000.0 };
            // A pause beyond the representable range exceeds every retry policy.
            let Ok(since) = SignedDuration::try_from_secs_f64(seconds.ceil()) else { return Some(Duration::MAX) };
            Timestamp::from_duration(since).unwrap_or(Timestamp::MAX)
        }
        Err(_) => parse_time(wanted)?,
    };
    Some(Duration::try_from(until.duration_since(told?)).unwrap_or_default())
}

/// Parses a time in one of the three formats of RFC 9110, 5.6.7, or in that of RFC 3339.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = rfc2822::parse(text) {
        return Some(time.timestamp());
    }
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let forms = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let civil = forms.iter().find_map(|form| DateTime::strptime(form, text).ok())?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}
