//! Monotonic time, and the time by other machines' clocks.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{AGE, DATE, HeaderMap};
use jiff::{SignedDuration, Timestamp};

/// The last reading of the time since the machine started, with the process clock at that time.
static LAST_READING: Mutex<Option<(Duration, Instant)>> = Mutex::new(None);

/// Returns the time since this machine started, suspension included if the system counts it. Setting the wall clock
/// does not affect it, so comparing the two over a period shows whether the wall clock was set.
///
/// On Linux it is the first field of `/proc/uptime`, which is `CLOCK_BOOTTIME` in hundredths of a second. Elsewhere it
/// is the time since the first call, which excludes suspension on some systems.
#[must_use]
pub fn uptime() -> Duration {
    let now = Instant::now();
    let mut last = LAST_READING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(uptime) = read_uptime() {
        *last = Some((uptime, now));
        return uptime;
    }
    // A single unreadable file must not look like a clock that was set.
    let (then, at) = *last.get_or_insert((Duration::ZERO, now));
    then + now.saturating_duration_since(at)
}

fn read_uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// A server's time at one instant, by its own clock, to a second: `Date` has no fractions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerTime {
    /// By the response with the earliest time.
    pub earliest: Timestamp,
    /// By the response with the latest time.
    pub latest: Timestamp,
}

/// The `Date` headers of a server's responses, each as its clock's time at which [`uptime`] was zero.
#[derive(Debug, Default)]
pub(super) struct ServerDates {
    direct: Option<(Timestamp, Timestamp)>,
    /// The same for responses from a cache, in which `Age` is their time in the cache (RFC 9111, section 5.1).
    cached: Option<(Timestamp, Timestamp)>,
    /// The first header that was present but invalid.
    invalid: Option<&'static str>,
}

impl ServerDates {
    /// Records the `Date` of a response whose head arrived at `arrived`.
    pub(super) fn record(&mut self, headers: &HeaderMap, arrived: Duration) {
        if !headers.contains_key(DATE) {
            return;
        }
        let Some(date) = super::date(headers) else {
            self.invalid.get_or_insert("Date");
            return;
        };
        let age = match headers.get(AGE) {
            None => Some(0),
            Some(age) => age.to_str().ok().and_then(|text| text.trim().parse::<u32>().ok()),
        };
        let Some(age) = age else {
            self.invalid.get_or_insert("Age");
            return;
        };
        let Ok(then) = date.checked_add(SignedDuration::from_secs(age.into())).and_then(|now| now.checked_sub(arrived))
        else {
            return;
        };
        let known = if age == 0 { &mut self.direct } else { &mut self.cached };
        *known = Some(known.map_or((then, then), |(earliest, latest)| (earliest.min(then), latest.max(then))));
    }

    /// Returns the invalid header, if no response contained the time.
    pub(super) fn invalid_header(&self) -> Option<&'static str> {
        self.invalid.filter(|_| self.direct.or(self.cached).is_none())
    }

    /// Returns the server's time at `now`. Cached responses count only if none came from the server itself.
    pub(super) fn time_at(&self, now: Duration) -> Option<ServerTime> {
        let (earliest, latest) = self.direct.or(self.cached)?;
        Some(ServerTime { earliest: earliest.checked_add(now).ok()?, latest: latest.checked_add(now).ok()? })
    }
}
