//! Waits for registries whose work or answer is pending.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::registry::RetryPolicy;

/// A function that sleeps: for real, or virtually in a test.
pub type Sleep = Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// The waits and retries of removals.
#[derive(Clone)]
pub struct RemovalRetryPolicy {
    /// The first pause; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub max_pause: Duration,
    /// The period in which a read that still shows a removed tag may be stale.
    pub max_staleness: Duration,
    /// Most repetitions of one removal whose answer was lost.
    pub max_retries: usize,
    /// Most waiting for one removal whose answer was lost.
    pub max_wait: Duration,
    /// The function that sleeps.
    pub sleep: Sleep,
}

/// A read through a cache or from a replica shows removed tags for seconds, rarely for longer.
const MAX_STALENESS: Duration = Duration::from_mins(1);
/// Each repetition costs a request's whole timeout of waiting before it.
const MAX_RETRIES: usize = 3;

impl From<RetryPolicy> for RemovalRetryPolicy {
    /// Creates a policy with the same limits as for any other request to a registry.
    fn from(retry_policy: RetryPolicy) -> Self {
        Self {
            first_pause: retry_policy.initial_delay,
            max_pause: retry_policy.max_delay,
            max_staleness: MAX_STALENESS.min(retry_policy.max_total_delay),
            max_retries: retry_policy.max_retries.min(MAX_RETRIES),
            max_wait: retry_policy.max_total_delay,
            sleep: Arc::new(|time| Box::pin(tokio::time::sleep(time))),
        }
    }
}

impl RemovalRetryPolicy {
    /// Returns growing pauses that add up to `most`.
    pub(super) fn pauses(&self, most: Duration) -> impl Iterator<Item = Duration> + use<> {
        let longest = self.max_pause.max(Duration::from_millis(1));
        let (mut next, mut left) = (self.first_pause.clamp(Duration::from_millis(1), longest), most);
        std::iter::from_fn(move || {
            let pause = next.min(left);
            next = (next * 2).min(longest);
            left -= pause;
            (!pause.is_zero()).then_some(pause)
        })
    }
}

impl fmt::Debug for RemovalRetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            first_pause: first,
            max_pause: longest,
            max_staleness: stale,
            max_retries: retries,
            max_wait: total,
            sleep: _,
        } = self;
        f.debug_struct("Waiting")
            .field("first", first)
            .field("longest", longest)
            .field("stale", stale)
            .field("retries", retries)
            .field("total", total)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_come_to_what_is_allowed() {
        let waiting = RemovalRetryPolicy::from(RetryPolicy::default());
        let pauses: Vec<f64> = waiting.pauses(waiting.max_staleness).map(|pause| pause.as_secs_f64()).collect();
        assert_eq!(pauses, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 8.5]);
        assert_eq!(waiting.pauses(Duration::ZERO).count(), 0);
    }
}
