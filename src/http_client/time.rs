//! Time that no clock setting moves, and the time by other machines' clocks.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{AGE, DATE, HeaderMap};
use jiff::{SignedDuration, Timestamp};

/// The last time since the machine started that was read, and when that was by the clock of this process.
static LAST_READING: Mutex<Option<(Duration, Instant)>> = Mutex::new(None);

/// Returns the time since this machine started, suspension included where the system counts it. Setting the wall clock
/// does not move it, so what the two make of the same stretch tells whether the wall clock was set.
///
/// On Linux it is the first field of `/proc/uptime`, which is `CLOCK_BOOTTIME` in hundredths of a second. Elsewhere it is the
/// time since this was first asked, which leaves suspension out on some systems.
#[must_use]
pub fn uptime() -> Duration {
    let now = Instant::now();
    let mut last = LAST_READING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(uptime) = read_uptime() {
        *last = Some((uptime, now));
        return uptime;
    }
    // A file that cannot be read for once must not look like a clock that was set.
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
    /// By the answer that puts it earliest.
    pub earliest: Timestamp,
    /// By the answer that puts it latest.
    pub latest: Timestamp,
}

/// The `Date` headers of a server's answers, each as the time that its clock showed when [`uptime`] was zero.
#[derive(Debug, Default)]
pub(super) struct ServerDates {
    direct: Option<(Timestamp, Timestamp)>,
    /// The same of answers that came from a cache, in which `Age` says how long they were kept (RFC 9111, section 5.1).
    cached: Option<(Timestamp, Timestamp)>,
    /// The first header that was there and could not be read.
    invalid: Option<&'static str>,
}

impl ServerDates {
    /// Notes the `Date` of an answer whose head arrived at `arrived`.
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

    /// The header that is invalid, where no answer told the time.
    pub(super) fn invalid_header(&self) -> Option<&'static str> {
        self.invalid.filter(|_| self.direct.or(self.cached).is_none())
    }

    /// The server's time at `now`. What a cache kept counts only where nothing came from the server itself.
    pub(super) fn time_at(&self, now: Duration) -> Option<ServerTime> {
        let (earliest, latest) = self.direct.or(self.cached)?;
        Some(ServerTime { earliest: earliest.checked_add(now).ok()?, latest: latest.checked_add(now).ok()? })
    }
}
