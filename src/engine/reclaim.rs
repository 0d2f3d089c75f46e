//! The bytes that removing a plan's tags would free, blob by blob.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::Verdicts;
use super::blob_ledger::BlobLedger;
use super::blob_uses::{ClaimedDigests, blob_uses, was_read_completely};
use super::graph::index;
use crate::domain::{
    Claims, Inventory, Plan, Reclaim, ReclaimBytes, ReclaimSum, RegistryName, RegistryReclaim, Removal, RepositoryName,
};

/// Returns the bytes that each removal of a plan would free once the registry collects them, and those that remain
/// because a retained manifest needs them.
///
/// Blobs are counted over all repositories of a registry, which stores each of them once, and so are manifests. If
/// anything of a registry could not be read, its bytes are unknown: the unread part may share them. Manifests that no
/// tag reached before are not freed by removing tags, so they count as kept.
///
/// If manifests were only listed, their images count as a whole, each digest once. That counts layers that they share
/// with each other and with retained images, so the registry's figures are marked as estimated.
#[must_use]
pub fn reclaim(inventory: &Inventory, claims: &Claims, verdicts: &Verdicts, plan: &Plan) -> Reclaim {
    let mut order: Vec<usize> = (0..plan.removals.len()).collect();
    order.sort_by_key(|&at| plan.removals[at].position);
    let sorted: Vec<Removal> = order.iter().map(|&at| plan.removals[at].clone()).collect();
    let mut removals = vec![None; plan.removals.len()];
    let mut estimated = HashSet::new();
    for verdicts in verdicts.tags.chunk_by(|a, b| a.position.registry == b.position.registry) {
        let place = verdicts[0].position.registry;
        let Some(registry) = inventory.registries.get(index(place)) else { continue };
        if range_of(&sorted, &place, |removal| removal.position.registry).is_empty()
            || !registry.repositories.iter().all(|repository| was_read_completely(registry, repository))
        {
            continue;
        }
        let removals_in = |repository: u32| {
            range_of(&sorted, &(place, repository), |removal| (removal.position.registry, removal.position.repository))
        };
        let claimed = ClaimedDigests::of(claims, &registry.name);
        let mut ledger = BlobLedger::default();
        for (number, repository) in (0..).zip(&registry.repositories) {
            let here = &verdicts[range_of(verdicts, &number, |found| found.position.repository)];
            let blobs = blob_uses(registry, repository, &claimed, here, &sorted[removals_in(number)], &[]);
            ledger.add(number, &blobs);
        }
        let settled = ledger.settle();
        if settled.is_estimated() {
            estimated.insert(&registry.name);
        }
        for (number, _) in (0..).zip(&registry.repositories) {
            let range = removals_in(number);
            let found = settled.repository(number, range.len(), 0);
            for (&at, bytes) in order[range].iter().zip(found.removals) {
                removals[at] = bytes;
            }
        }
    }
    Reclaim { registries: sums(plan, &removals, &estimated), removals }
}

/// Returns the entries with that key in a list sorted by it.
fn range_of<T, K: Ord>(sorted: &[T], key: &K, key_of: impl Fn(&T) -> K) -> Range<usize> {
    let start = sorted.partition_point(|entry| key_of(entry) < *key);
    start..start + sorted[start..].partition_point(|entry| key_of(entry) <= *key)
}

/// Returns the bytes of the removals by registry and repository.
fn sums(plan: &Plan, removals: &[Option<ReclaimBytes>], estimated: &HashSet<&RegistryName>) -> Vec<RegistryReclaim> {
    let mut sums: BTreeMap<&RegistryName, BTreeMap<&RepositoryName, ReclaimSum>> = BTreeMap::new();
    let mut from = 0;
    for there in plan.removals.chunk_by(|a, b| a.registry == b.registry && a.repository == b.repository) {
        let here = removals[from..from + there.len()].iter().map(|bytes| ReclaimSum::from(*bytes));
        from += there.len();
        let sum = sums.entry(&there[0].registry).or_default().entry(&there[0].repository).or_default();
        *sum = here.fold(*sum, ReclaimSum::plus);
    }
    let of_registry =
        |(registry, repositories): (&RegistryName, BTreeMap<&RepositoryName, ReclaimSum>)| RegistryReclaim {
            registry: registry.clone(),
            estimated: estimated.contains(registry),
            repositories: repositories.into_iter().map(|(repository, sum)| (repository.clone(), sum)).collect(),
        };
    sums.into_iter().map(of_registry).collect()
}
