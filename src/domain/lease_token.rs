//! Lease tokens: the proof, needed for every change of a registry, that this process holds the lease of a state.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A held lease, as its tokens see it.
pub(crate) trait HeldLease: fmt::Debug + Send + Sync {
    /// Returns false once the lease may be another process's, unless the state says otherwise.
    fn is_current(&self) -> bool;

    /// Takes note that the state confirmed it until that time, by a clock that counts suspension.
    fn confirm(&self, until: Duration);
}

/// The proof that this process holds the lease of a state, with the lease's epoch.
///
/// A registry's connection provides its writer only for a token, intents are journaled by it, and only the state
/// creates it. So code that changes a registry during a dry run does not compile.
#[derive(Debug, Clone)]
pub struct LeaseToken {
    epoch: i64,
    /// Keeps the lease until nobody can journal by it anymore.
    held: Arc<dyn HeldLease>,
}

impl LeaseToken {
    /// Creates the proof for the holder of a lease, which lasts at least as long as the token. For the state alone:
    /// `tests/it/source_rules.rs` allows no other caller.
    pub(crate) fn granted(epoch: i64, held: Arc<dyn HeldLease>) -> Self {
        Self { epoch, held }
    }

    /// Returns the number of times that the lease had been acquired when this was made, this time included. Later
    /// holders have higher numbers.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Returns false once the lease may be another process's: it expired by a clock that counts suspension, from before
    /// the last time that the state was asked to renew it. Checked immediately before each removal is sent, since it
    /// asks nobody; the state may still know better ([`Leases::confirm_lease`](crate::state::Leases::confirm_lease)).
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.held.is_current()
    }

    /// Takes note that the state confirmed it until that time, by a clock that counts suspension. For the state alone.
    pub(crate) fn confirm(&self, until: Duration) {
        self.held.confirm(until);
    }
}
