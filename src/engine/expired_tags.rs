//! The policies that expire a tag.

use crate::domain::{PolicyName, Reason, TagVerdict};

/// Returns the policies that expire a tag, by name.
pub(super) fn expiring_policies(found: &TagVerdict) -> impl Iterator<Item = &PolicyName> {
    found.reasons.iter().filter_map(|reason| match reason {
        Reason::NotKept { policy, .. } | Reason::CompanionOfExpired { policy, .. } => Some(policy),
        _ => None,
    })
}
