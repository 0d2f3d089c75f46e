//! Enforced rate limits: a bucket of calls for each kind of operation, which refills over time.

use std::time::Duration;

use axum::http::Method;
use tokio::time::Instant;

/// The limits for each kind of call; `None` means unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerRateLimits {
    /// `GET` and `HEAD`.
    pub read: Option<Rate>,
    /// `PUT`, `PATCH` and `POST`.
    pub write: Option<Rate>,
    /// `DELETE`.
    pub delete: Option<Rate>,
    /// Everything below `/oauth2`.
    pub oauth: Option<Rate>,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls a minute, at least one.
    pub per_minute: u32,
    /// Calls that may burst after a pause.
    pub capacity: u32,
}

impl Rate {
    /// Creates a rate of that many calls a minute, all of which may burst, as with the documented limits.
    #[must_use]
    pub fn per_minute(per_minute: u32) -> Self {
        Self { per_minute, capacity: per_minute }
    }
}

/// The decision on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RateDecision {
    /// It is admitted, with that many calls remaining.
    Allowed { remaining: u32 },
    /// It must wait that many seconds.
    Throttled { retry_after: u64 },
}

/// The buckets of one registry.
#[derive(Debug)]
pub(super) struct Buckets {
    read: Option<Bucket>,
    write: Option<Bucket>,
    delete: Option<Bucket>,
    oauth: Option<Bucket>,
}

/// A bucket of time: each call takes the time in which one call is refilled.
#[derive(Debug)]
struct Bucket {
    interval: Duration,
    capacity: Duration,
    level: Duration,
    updated_at: Instant,
}

impl Buckets {
    /// Creates full buckets.
    pub(super) fn new(limits: ServerRateLimits) -> Self {
        let bucket = |rate: Option<Rate>| rate.map(Bucket::new);
        Self {
            read: bucket(limits.read),
            write: bucket(limits.write),
            delete: bucket(limits.delete),
            oauth: bucket(limits.oauth),
        }
    }

    /// Admits or throttles a call; `None` if its kind has no limit.
    pub(super) fn take(&mut self, method: &Method, path: &str) -> Option<RateDecision> {
        let bucket = match *method {
            _ if path.starts_with("/oauth2/") => &mut self.oauth,
            Method::GET | Method::HEAD => &mut self.read,
            Method::DELETE => &mut self.delete,
            _ => &mut self.write,
        };
        bucket.as_mut().map(|bucket| bucket.take(Instant::now()))
    }
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        let each = Duration::from_mins(1) / rate.per_minute.max(1);
        let most = each * rate.capacity.max(1);
        Self { interval: each, capacity: most, level: most, updated_at: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> RateDecision {
        self.level = self.capacity.min(self.level + now.saturating_duration_since(self.updated_at));
        self.updated_at = now;
        let Some(left) = self.level.checked_sub(self.interval) else {
            let wait = self.interval.saturating_sub(self.level);
            return RateDecision::Throttled { retry_after: wait.as_secs() + u64::from(wait.subsec_nanos() > 0) };
        };
        self.level = left;
        let remaining = left.as_nanos() / self.interval.as_nanos().max(1);
        RateDecision::Allowed { remaining: u32::try_from(remaining).unwrap_or(u32::MAX) }
    }
}

/// Formats the header with the remaining calls of this minute: per second, with six decimals.
pub(super) fn format_per_second(remaining: u32) -> String {
    let millionths = u64::from(remaining) * 1_000_000 / 60;
    format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_runs_dry_and_fills_up_again() {
        let mut bucket = Bucket::new(Rate { per_minute: 30, capacity: 3 });
        let start = bucket.updated_at;
        let take = |bucket: &mut Bucket, millis| bucket.take(start + Duration::from_millis(millis));
        assert_eq!(take(&mut bucket, 0), RateDecision::Allowed { remaining: 2 });
        assert_eq!(take(&mut bucket, 0), RateDecision::Allowed { remaining: 1 });
        assert_eq!(take(&mut bucket, 0), RateDecision::Allowed { remaining: 0 });
        assert_eq!(take(&mut bucket, 500), RateDecision::Throttled { retry_after: 2 });
        assert_eq!(take(&mut bucket, 1999), RateDecision::Throttled { retry_after: 1 });
        assert_eq!(take(&mut bucket, 2000), RateDecision::Allowed { remaining: 0 });
        assert_eq!(take(&mut bucket, 600_000), RateDecision::Allowed { remaining: 2 }, "never more than its capacity");
    }

    #[test]
    fn the_rest_is_told_as_recorded() {
        assert_eq!(format_per_second(9999), "166.650000");
        assert_eq!(format_per_second(480), "8.000000");
        assert_eq!(format_per_second(0), "0.000000");
    }
}
