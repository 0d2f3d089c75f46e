//! Lease tokens: the proof, needed for every change of a registry, that this process holds the lease of a state.

use std::fmt;
use std::sync::Arc;

/// The proof that this process holds the lease of a state, and how often that was taken before.
///
/// A registry's connection hands out its writer for one, intents are journaled by it, and only the state makes it. So
/// code that changes a registry during a dry run does not compile.
#[derive(Debug, Clone)]
pub struct LeaseToken {
    epoch: i64,
    /// The lease is not given back as long as somebody can journal by it.
    _held: Arc<dyn fmt::Debug + Send + Sync>,
}

impl LeaseToken {
    /// The proof for the holder of a lease, which is held at least as long as the token. For the state alone:
    /// `tests/it/source_rules.rs` allows no other caller.
    pub(crate) fn granted(epoch: i64, held: Arc<impl fmt::Debug + Send + Sync + 'static>) -> Self {
        Self { epoch, _held: held }
    }

    /// How often the lease had been taken when this was made, this time included. Later holders have higher ones.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }
}
