//! Lease tokens: the proof, needed for every change of a registry, that this process holds the lease of a state.

use std::fmt;
use std::sync::Arc;

/// The proof that this process holds the lease of a state, with the lease's epoch.
///
/// A registry's connection provides its writer only for a token, intents are journaled by it, and only the state
/// creates it. So code that changes a registry during a dry run does not compile.
#[derive(Debug, Clone)]
pub struct LeaseToken {
    epoch: i64,
    /// Keeps the lease until nobody can journal by it anymore.
    _held: Arc<dyn fmt::Debug + Send + Sync>,
}

impl LeaseToken {
    /// Creates the proof for the holder of a lease, which lasts at least as long as the token. For the state alone:
    /// `tests/it/source_rules.rs` allows no other caller.
    pub(crate) fn granted(epoch: i64, held: Arc<impl fmt::Debug + Send + Sync + 'static>) -> Self {
        Self { epoch, _held: held }
    }

    /// Returns the number of times that the lease had been acquired when this was made, this time included. Later
    /// holders have higher numbers.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }
}
