//! Waiting for what a registry has not done, or not said, yet.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::registry::Patience;

/// A way to let time pass: a real one, or one of a test that need not wait.
pub type Sleep = Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// How long removals wait for a registry.
#[derive(Clone)]
pub struct Waiting {
    /// The first pause; each further one is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// How long a look that still shows what was removed may be a stale one.
    pub stale: Duration,
    /// Most repetitions of one removal whose answer was lost.
    pub retries: usize,
    /// Most waiting for one removal whose answer was lost.
    pub total: Duration,
    /// What lets the time pass.
    pub sleep: Sleep,
}

/// A look behind a cache or at a replica shows what was removed for seconds, rarely for longer.
const STALE: Duration = Duration::from_mins(1);
/// Each repetition costs a request's whole timeout of waiting before it.
const MOST_RETRIES: usize = 3;

impl From<Patience> for Waiting {
    /// As patient as with any other request to a registry.
    fn from(patience: Patience) -> Self {
        Self {
            first: patience.first,
            longest: patience.longest,
            stale: STALE.min(patience.total),
            retries: patience.retries.min(MOST_RETRIES),
            total: patience.total,
            sleep: Arc::new(|time| Box::pin(tokio::time::sleep(time))),
        }
    }
}

impl Waiting {
    /// Growing pauses that come to `most` in all.
    pub(super) fn pauses(&self, most: Duration) -> impl Iterator<Item = Duration> + use<> {
        let longest = self.longest.max(Duration::from_millis(1));
        let (mut next, mut left) = (self.first.clamp(Duration::from_millis(1), longest), most);
        std::iter::from_fn(move || {
            let pause = next.min(left);
            next = (next * 2).min(longest);
            left -= pause;
            (!pause.is_zero()).then_some(pause)
        })
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, longest, stale, retries, total, sleep: _ } = self;
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
        let waiting = Waiting::from(Patience::default());
        let pauses: Vec<f64> = waiting.pauses(waiting.stale).map(|pause| pause.as_secs_f64()).collect();
        assert_eq!(pauses, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 8.5]);
        assert_eq!(waiting.pauses(Duration::ZERO).count(), 0);
    }
}
