//! The outcome of a deletion as far as the registry tells.

use crate::domain::{Outcome, SkipReason};

/// The state of one manifest after a request, as far as the registry says.
pub(super) enum ObservedOutcome {
    Known(Outcome),
    /// The registry does not say: the entry stays open until the next start. The text says why.
    Unknown(String),
}

impl ObservedOutcome {
    pub(super) fn kept(why: String) -> Self {
        Self::Known(Outcome::Skipped(SkipReason::Kept(why)))
    }

    /// Returns true if the manifest does not exist any more.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Known(Outcome::Done(_) | Outcome::Skipped(SkipReason::Missing)))
    }
}
