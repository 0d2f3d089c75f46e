//! Files that are being written.

use std::time::Duration;

use jiff::Timestamp;

/// The age from which on a file counts as written to its end.
const STABLE_AFTER: Duration = Duration::from_secs(2);

/// Returns the time until a file that was modified at `modified` counts as complete; zero if it does already.
///
/// Half of a YAML file is often valid YAML, and half of a text file is always text, so younger files are not trusted. A
/// time far from `now` in either direction is old, or from another clock.
#[must_use]
pub fn time_until_stable(modified: Timestamp, now: Timestamp) -> Duration {
    STABLE_AFTER.saturating_sub(now.duration_since(modified).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_young_has_to_wait() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let half = Duration::from_millis(500);
        for (modified, wait) in [
            (now, Duration::from_secs(2)),
            (now - half, Duration::from_millis(1500)),
            (now + half, Duration::from_millis(1500)),
            (now - Duration::from_secs(2), Duration::ZERO),
            (now + Duration::from_hours(1), Duration::ZERO),
            (Timestamp::MIN, Duration::ZERO),
        ] {
            assert_eq!(time_until_stable(modified, now), wait, "{modified}");
        }
    }
}
