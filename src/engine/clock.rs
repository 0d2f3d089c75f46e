//! The trust in times.

use jiff::{SignedDuration, Timestamp};

use crate::domain::{ClockIssue, ClockReading};

/// The largest acceptable difference of two clocks: less is irrelevant for ages, and `Date` headers are delayed.
const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(2);

/// Returns true if clocks differ too much for ages to be trusted.
#[must_use]
pub fn exceeds_clock_skew(by: SignedDuration) -> bool {
    by.unsigned_abs() > MAX_CLOCK_SKEW.unsigned_abs()
}

/// Returns why the time of a run that began at `start` cannot be trusted at `now`, whatever registries report. `newest`
/// is the newest recorded time in the state.
#[must_use]
pub fn clock_issue(start: ClockReading, now: ClockReading, newest: Option<Timestamp>) -> Option<ClockIssue> {
    let moved = start.wall_clock_step(now);
    if exceeds_clock_skew(moved) {
        return Some(ClockIssue::Stepped { seconds: moved.as_secs() });
    }
    let newest = newest?;
    let behind = newest.duration_since(start.wall);
    (behind > MAX_CLOCK_SKEW).then_some(ClockIssue::BehindState { newest, seconds: behind.as_secs() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reading(seconds: i64, steady: u64) -> ClockReading {
        ClockReading { wall: Timestamp::from_second(seconds).unwrap(), monotonic: Duration::from_secs(steady) }
    }

    #[test]
    fn only_what_time_itself_does_not_explain_is_doubted() {
        let day = 86_400;
        let start = reading(1000 * day, 7);
        let newest = |seconds: i64| Timestamp::from_second(1000 * day + seconds).unwrap();
        let cases = [
            (reading(1000 * day, 7), None, None),
            // It took a day, suspended most of the time, which the monotonic clock counts.
            (reading(1001 * day, 86_407), Some(0), None),
            (reading(1000 * day + 120, 7), None, None),
            (reading(1000 * day - 120, 7), None, None),
            (reading(1000 * day + 121, 7), None, Some(ClockIssue::Stepped { seconds: 121 })),
            // It was 60 days ahead, and was corrected.
            (reading(940 * day, 17), None, Some(ClockIssue::Stepped { seconds: -60 * day - 10 })),
            // It stood still.
            (reading(1000 * day, 207), None, Some(ClockIssue::Stepped { seconds: -200 })),
            (reading(1000 * day, 7), Some(120), None),
            (reading(1000 * day, 7), Some(-day), None),
            (reading(1000 * day, 7), Some(121), Some(ClockIssue::BehindState { newest: newest(121), seconds: 121 })),
        ];
        for (now, after, doubt) in cases {
            assert_eq!(clock_issue(start, now, after.map(newest)), doubt, "{now:?} {after:?}");
        }
    }
}
