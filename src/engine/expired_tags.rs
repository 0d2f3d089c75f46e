//! Expired tags in the order of a plan: their repositories, and the policies that let them go.

use super::graph::index;
use crate::domain::{Inventory, PolicyName, Reason, Registry, Repository, TagPosition, TagVerdict};

/// The repository of the first of some expired tags, and how many of them stand in it.
pub(super) fn first_repository<'a>(
    inventory: &'a Inventory,
    expired: &[&TagVerdict],
) -> Option<(&'a Registry, &'a Repository, usize)> {
    let first = expired.first()?.position;
    let registry = inventory.registries.get(index(first.registry))?;
    let repository = registry.repositories.get(index(first.repository))?;
    let place = |at: TagPosition| (at.registry, at.repository);
    let count = expired.iter().take_while(|found| place(found.position) == place(first)).count();
    Some((registry, repository, count))
}

/// The policies that let a tag go, by name.
pub(super) fn expiring_policies(found: &TagVerdict) -> impl Iterator<Item = &PolicyName> {
    found.reasons.iter().filter_map(|reason| match reason {
        Reason::NotKept { policy, .. } | Reason::CompanionOfExpired { policy, .. } => Some(policy),
        _ => None,
    })
}
