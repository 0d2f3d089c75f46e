//! The policies that let a tag go.

use crate::domain::{PolicyName, Reason, TagVerdict};

/// The policies that let a tag go, by name.
pub(super) fn expiring_policies(found: &TagVerdict) -> impl Iterator<Item = &PolicyName> {
    found.reasons.iter().filter_map(|reason| match reason {
        Reason::NotKept { policy, .. } | Reason::CompanionOfExpired { policy, .. } => Some(policy),
        _ => None,
    })
}
