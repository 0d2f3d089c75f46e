//! The bound on the repositories that a walk holds in memory.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Repositories in memory at once, being read or waiting for their decision. Requests are bounded by each registry's
/// own `concurrency`; this bounds memory.
pub(super) const MAX_REPOSITORIES: u32 = 8;
/// Their tags, unless two repositories alone have more: one is read while another is decided, however large they are.
const MAX_TAGS: u32 = 40_000;

/// Lets as many repositories be read as their tags allow.
pub(super) struct ReadAhead {
    /// One for each tag.
    permits: Semaphore,
    /// The tags of the repository that was read last.
    latest: AtomicU32,
}

impl ReadAhead {
    pub(super) fn new() -> Self {
        Self { permits: Semaphore::new(MAX_TAGS as usize), latest: AtomicU32::new(u32::MAX) }
    }

    /// Waits for room for another repository. Its size is known only once it is read, so until then it counts like the
    /// one read last, and the first ones like the largest.
    ///
    /// The semaphore is never closed; without a permit, only memory would be higher.
    pub(super) async fn acquire(&self) -> Option<SemaphorePermit<'_>> {
        self.permits.acquire_many(permits_for(self.latest.load(Ordering::Relaxed))).await.ok()
    }

    /// Adjusts the permit of a repository to the number of its tags. What it takes more than was assumed is only taken if it
    /// is free: waiting would not make it smaller.
    pub(super) fn adjust<'a>(&'a self, permit: &mut Option<SemaphorePermit<'a>>, tags: usize) {
        let tags = u32::try_from(tags).unwrap_or(u32::MAX);
        self.latest.store(tags, Ordering::Relaxed);
        let Some(permit) = permit else { return };
        let (needed, taken) = (permits_for(tags), u32::try_from(permit.num_permits()).unwrap_or(u32::MAX));
        match needed.checked_sub(taken) {
            Some(more) => {
                if let Ok(more) = self.permits.try_acquire_many(more) {
                    permit.merge(more);
                }
            }
            None => drop(permit.split((taken - needed) as usize)),
        }
    }
}

/// The permits of a repository with that many tags.
fn permits_for(tags: u32) -> u32 {
    tags.clamp(MAX_TAGS / MAX_REPOSITORIES, MAX_TAGS / 2)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// Takes permits for repositories of that many tags until there is no room, and returns them.
    fn fill(ahead: &ReadAhead, tags: usize) -> Vec<Option<SemaphorePermit<'_>>> {
        std::iter::from_fn(|| {
            let mut permit = ahead.acquire().now_or_never()?;
            ahead.adjust(&mut permit, tags);
            Some(permit)
        })
        .collect()
    }

    #[test]
    fn fewer_large_repositories_are_held_than_small_ones() {
        for (tags, expected) in [(0, 8), (200, 8), (5_000, 8), (10_000, 4), (20_000, 2), (1_000_000, 2)] {
            assert_eq!(fill(&ReadAhead::new(), tags).len(), expected, "{tags}");
        }
    }

    #[test]
    fn unread_repositories_count_like_the_one_read_last() {
        let ahead = ReadAhead::new();
        let mut first = [(); 2].map(|()| ahead.acquire().now_or_never().expect("room for two of any size"));
        assert!(ahead.acquire().now_or_never().is_none(), "the first ones count like the largest");
        ahead.adjust(&mut first[0], 10);
        ahead.adjust(&mut first[1], 12_000);
        // 17,000 of 40,000 are taken.
        let third = ahead.acquire().now_or_never().expect("room for another like the second");
        assert!(ahead.acquire().now_or_never().is_none());
        drop((first, third));
        assert_eq!(ahead.permits.available_permits(), 40_000);
    }

    #[test]
    fn a_repository_that_is_larger_than_assumed_takes_what_is_free() {
        let ahead = ReadAhead::new();
        let mut small = ahead.acquire().now_or_never().flatten();
        ahead.adjust(&mut small, 10);
        let mut large = ahead.acquire().now_or_never().flatten();
        ahead.adjust(&mut large, 15_000);
        assert_eq!(ahead.permits.available_permits(), 40_000 - 5_000 - 15_000);
    }
}
