//! The maximum age of evidence before it is gathered again.

use std::time::Duration;

use crate::domain::ClockReading;

/// The age up to which evidence is never gathered again.
const MIN_REFRESH_AGE: Duration = Duration::from_secs(20);
/// The maximum age of evidence for a removal.
const MAX_EVIDENCE_AGE: Duration = Duration::from_mins(10);
/// Evidence is valid for this multiple of the time it took to gather: a run spends at most a tenth of its time on that.
const AGE_PER_GATHER_TIME: u32 = 10;

/// The time at which evidence was gathered, and how long that took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GatherTime {
    started: ClockReading,
    duration: Duration,
}

impl GatherTime {
    /// Creates a time from two readings. Evidence is as old as the beginning of its gathering, when the first source
    /// may have answered.
    pub(super) fn between(begun: ClockReading, result: ClockReading) -> Self {
        Self { started: begun, duration: elapsed(begun, result) }
    }

    /// Returns true if it must be gathered again before a removal.
    pub(super) fn is_stale(self, now: ClockReading) -> bool {
        elapsed(self.started, now) > max_age(self.duration)
    }
}

/// Returns the maximum age of evidence that took that long to gather. Even if that takes ten minutes, some time must be
/// left in which it is valid.
fn max_age(took: Duration) -> Duration {
    took.saturating_mul(AGE_PER_GATHER_TIME)
        .clamp(MIN_REFRESH_AGE, MAX_EVIDENCE_AGE)
        .max(took.saturating_add(MIN_REFRESH_AGE))
}

/// Returns the time between two readings by the clock that advanced more: the wall clock may have been set back.
fn elapsed(from: ClockReading, to: ClockReading) -> Duration {
    let wall = Duration::try_from(to.wall.duration_since(from.wall)).unwrap_or_default();
    to.monotonic.saturating_sub(from.monotonic).max(wall)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn reading(wall: i64, steady: u64) -> ClockReading {
        ClockReading { wall: Timestamp::from_second(1_000_000 + wall).unwrap(), monotonic: Duration::from_secs(steady) }
    }

    #[test]
    fn evidence_counts_ten_times_as_long_as_it_took_and_never_for_longer_than_ten_minutes() {
        for (took, longest) in [(0, 20), (1, 21), (2, 22), (3, 30), (59, 590), (60, 600), (300, 600), (580, 600)] {
            assert_eq!(max_age(Duration::from_secs(took)), Duration::from_secs(longest), "{took}");
        }
        // Some time must be left in which it is valid.
        assert_eq!(max_age(Duration::from_mins(15)), Duration::from_secs(920));
        assert_eq!(max_age(Duration::MAX), Duration::MAX);
    }

    /// Each case: begin and end of the gathering, the clocks now, and true if evidence is gathered again.
    #[test]
    fn evidence_is_as_old_as_the_clock_says_that_counted_more() {
        for (begun, result, now, old) in [
            (reading(0, 5), reading(0, 5), reading(0, 5), false),
            (reading(0, 5), reading(0, 5), reading(20, 25), false),
            (reading(0, 5), reading(0, 5), reading(21, 26), true),
            // The machine was suspended, and only one of its clocks counted that.
            (reading(0, 5), reading(0, 5), reading(3600, 5), true),
            (reading(0, 5), reading(0, 5), reading(0, 3605), true),
            // The wall clock was set back.
            (reading(0, 5), reading(0, 5), reading(-3600, 26), true),
            (reading(0, 5), reading(0, 5), reading(-3600, 25), false),
            // Age counts from the beginning of the gathering.
            (reading(0, 5), reading(30, 35), reading(300, 305), false),
            (reading(0, 5), reading(30, 35), reading(301, 306), true),
            (reading(0, 5), reading(200, 205), reading(600, 605), false),
            (reading(0, 5), reading(200, 205), reading(601, 606), true),
        ] {
            assert_eq!(GatherTime::between(begun, result).is_stale(now), old, "{begun:?} {result:?} {now:?}");
        }
    }
}
