//! Readings of a machine's clocks, and the reasons not to trust them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The wall clock and the time since the machine started, read at the same instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockReading {
    /// The time by the wall clock.
    pub wall: Timestamp,
    /// Time since a fixed instant, from a clock that cannot be set.
    pub monotonic: Duration,
}

impl ClockReading {
    /// Returns by how much the wall clock was set forward between this reading and a later one; negative if it was set
    /// back.
    #[must_use]
    pub fn wall_clock_step(self, later: Self) -> SignedDuration {
        later.wall.duration_since(self.wall).saturating_sub(elapsed(self.monotonic, later.monotonic))
    }
}

/// Returns the time between two instants.
fn elapsed(from: Duration, to: Duration) -> SignedDuration {
    let signed = |time: Duration| SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    signed(to).saturating_sub(signed(from))
}

/// Why the time by which a run decides cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockIssue {
    /// It is before a time that the state has recorded.
    BehindState {
        /// The newest recorded time.
        newest: Timestamp,
        /// The difference in seconds.
        seconds: i64,
    },
    /// The clock was set during the run.
    Stepped {
        /// The step in seconds; negative if the clock was set back.
        seconds: i64,
    },
    /// The registry does not report its time, and no other registry of the run confirms this machine's.
    Unconfirmed,
    /// The same, because a header of its answers is invalid.
    InvalidHeader {
        /// `Date`, or `Age`, the age of the `Date`.
        header: &'static str,
    },
}
