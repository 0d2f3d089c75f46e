//! What deleting untagged manifests would free, blob by blob.

use super::blob_ledger::BlobLedger;
use super::blob_uses::{ClaimedDigests, blob_uses, was_read_completely};
use crate::domain::{Deletion, DeletionReclaim, Inventory, RepositoryName};

/// Says of each deletion that goes which bytes only it and what goes along need. A blob counts once in a registry, for
/// the first of them that needs it. Where anything of a registry could not be read, nothing is said of its bytes; where
/// manifests were only listed, their images count as wholes, and the figure is an estimate.
///
/// The deletions are sorted by registry, repository and digest.
pub(super) fn add_deletion_reclaim(inventory: &Inventory, deletions: &mut [Deletion]) {
    for registry in &inventory.registries {
        let start = deletions.partition_point(|deletion| deletion.registry < registry.name);
        let there = &mut deletions[start..];
        let end = there.partition_point(|deletion| deletion.registry == registry.name);
        let there = &mut there[..end];
        if !there.iter().any(Deletion::is_deletable)
            || !registry.repositories.iter().all(|repository| was_read_completely(registry, repository))
        {
            continue;
        }
        let mut ledger = BlobLedger::default();
        for (number, repository) in (0..).zip(&registry.repositories) {
            let here = deletions_in(there, &repository.name);
            ledger.add(number, &blob_uses(registry, repository, &ClaimedDigests::default(), &[], &[], here));
        }
        let settled = ledger.settle();
        let estimated = settled.is_estimated();
        for (number, repository) in (0..).zip(&registry.repositories) {
            let here = deletions_in(there, &repository.name);
            let found = settled.repository(number, 0, here.len());
            for (deletion, bytes) in here.iter_mut().zip(found.deletions) {
                deletion.reclaim = bytes.map(|bytes| DeletionReclaim { bytes, estimated });
            }
        }
    }
}

/// The deletions of one repository among those of its registry.
fn deletions_in<'a>(there: &'a mut [Deletion], repository: &RepositoryName) -> &'a mut [Deletion] {
    let start = there.partition_point(|deletion| deletion.repository < *repository);
    let here = &mut there[start..];
    let end = here.partition_point(|deletion| deletion.repository == *repository);
    &mut here[..end]
}
