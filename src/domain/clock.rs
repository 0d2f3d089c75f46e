//! What a machine's clocks say, and why the time that they say may be wrong.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The wall clock and the time since the machine started, read at the same instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockReading {
    /// The time by the wall clock.
    pub wall: Timestamp,
    /// The time since some fixed instant, which nobody can set.
    pub monotonic: Duration,
}

impl ClockReading {
    /// Returns by how much the wall clock was set forward between this reading and a later one; negative where it was set
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
        /// That time.
        newest: Timestamp,
        /// By how many seconds.
        seconds: i64,
    },
    /// The clock was set during the run.
    Stepped {
        /// By how many seconds; negative where it was set back.
        seconds: i64,
    },
    /// The registry does not tell its time, and no other registry of the run confirms this machine's.
    Unconfirmed,
    /// The same, because a header of its answers is invalid.
    InvalidHeader {
        /// `Date`, or `Age`, which says how old the `Date` is.
        header: &'static str,
    },
}
