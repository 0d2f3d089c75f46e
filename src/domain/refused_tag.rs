//! Tags that a registry refuses to remove, and the times of retries.

use std::time::Duration;

use jiff::Timestamp;

use super::{Digest, RepositoryName, TagName};

/// A tag that a registry refused to remove although it removes others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedTag {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: TagName,
    /// The digest that it named then. The refusal does not apply to other digests.
    pub digest: Digest,
    /// The number of runs that met the refusal.
    pub refusal_count: u32,
    /// Time of the last refusal.
    pub last_at: Timestamp,
    /// The registry's message at the last refusal.
    pub message: String,
}

/// The longest pause, in days.
const MAX_PAUSE_DAYS: u32 = 30;
/// Slack for a nightly run that reaches the tag a little earlier than the night before.
const START_TIME_TOLERANCE: Duration = Duration::from_hours(4);

impl RefusedTag {
    /// Returns the time of the next retry: by the next night, then after 2, 4, 8, 16 and at most 30 days.
    #[must_use]
    pub fn next_retry_at(&self) -> Timestamp {
        let doublings = self.refusal_count.saturating_sub(1).min(MAX_PAUSE_DAYS.ilog2() + 1);
        let days = (1_u32 << doublings).min(MAX_PAUSE_DAYS);
        let pause = Duration::from_hours(u64::from(days) * 24).saturating_sub(START_TIME_TOLERANCE);
        self.last_at.checked_add(pause).unwrap_or(Timestamp::MAX)
    }

    /// Returns true if a removal of the tag at that digest has to wait. A refusal in the future was recorded by a wrong
    /// clock and does not block.
    #[must_use]
    pub fn blocks_removal(&self, digest: &Digest, now: Timestamp) -> bool {
        self.digest == *digest && self.last_at <= now && now < self.next_retry_at()
    }

    /// Describes the refusals so far, such as `refused by the registry 3 times, next try on 2026-12-01`.
    #[must_use]
    pub fn describe(&self) -> String {
        let times = match self.refusal_count {
            0 | 1 => "once".to_owned(),
            times => format!("{times} times"),
        };
        format!("refused by the registry {times}, next try on {}", self.next_retry_at().strftime("%Y-%m-%d"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(times: u32, last_at: Timestamp) -> RefusedTag {
        RefusedTag {
            repository: "app".parse().unwrap(),
            tag: "v1".parse().unwrap(),
            digest: Digest::of(b"one"),
            refusal_count: times,
            last_at,
            message: String::new(),
        }
    }

    /// The nights after the first refusal in which it is retried, each refused again.
    #[test]
    fn a_refused_tag_is_tried_less_and_less_often() {
        let begin: Timestamp = "2026-11-01T03:20:00Z".parse().unwrap();
        let mut tag = refused(1, begin);
        let mut nights = Vec::new();
        for night in 1..=130_u64 {
            // Some nights are slower than others.
            let now = begin + Duration::from_hours(24 * night) - Duration::from_mins(7 * (night % 3));
            if !tag.blocks_removal(&Digest::of(b"one"), now) {
                nights.push(night);
                tag = refused(tag.refusal_count + 1, now);
            }
        }
        assert_eq!(nights, [1, 3, 7, 15, 31, 61, 91, 121]);
    }

    #[test]
    fn another_digest_and_a_refusal_of_the_future_hold_nothing_back() {
        let now: Timestamp = "2026-11-01T03:20:00Z".parse().unwrap();
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        assert!(refused(5, now).blocks_removal(&one, now));
        assert!(!refused(5, now).blocks_removal(&other, now));
        assert!(!refused(5, now + Duration::from_hours(1)).blocks_removal(&one, now));
        assert!(refused(u32::MAX, now).next_retry_at() < now + Duration::from_hours(31 * 24));
        assert!(!refused(u32::MAX, Timestamp::MAX).blocks_removal(&one, now));
        assert_eq!(refused(3, now).describe(), "refused by the registry 3 times, next try on 2026-11-04");
    }
}
