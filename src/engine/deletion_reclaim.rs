//! The bytes that deletions of untagged manifests would free, blob by blob.

use std::collections::BTreeSet;

use super::blob_ledger::BlobLedger;
use super::blob_uses::{ClaimedDigests, blob_uses, stored_blobs, was_read_completely};
use crate::domain::{
    Deletion, DeletionForecast, DeletionReclaim, Digest, DigestSet, Inventory, ManifestDetail, Registry, Repository,
    RepositoryName,
};

/// Sets the bytes of each planned deletion that only it and its dependents need. A blob counts once in a registry, for
/// the first of them that needs it. If anything of a registry could not be read, its bytes are unknown; if manifests
/// were only listed, their images count as a whole, and the figure is an estimate.
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

/// Returns the deletions of one repository among those of its registry.
fn deletions_in<'a>(there: &'a mut [Deletion], repository: &RepositoryName) -> &'a mut [Deletion] {
    let start = there.partition_point(|deletion| deletion.repository < *repository);
    let here = &mut there[start..];
    let end = here.partition_point(|deletion| deletion.repository == *repository);
    &mut here[..end]
}

/// What deleting the manifests in `left` of one repository would free, once all that is `free` is gone. Layers that other
/// repositories use, too, are not freed: nothing is asked of these, so that it is the most that can be.
pub(super) fn forecast_deletions(
    (registry, repository): (&Registry, &Repository),
    free: &BTreeSet<Digest>,
    left: &BTreeSet<&Digest>,
) -> DeletionForecast {
    let manifests = left.len() as u64;
    if left.is_empty() || !was_read_completely(registry, repository) {
        return DeletionForecast { manifests, unsized_manifests: manifests, ..DeletionForecast::default() };
    }
    let mut found = DeletionForecast { manifests, ..DeletionForecast::default() };
    let mut needed: DigestSet<&Digest> = DigestSet::default();
    for (digest, manifest) in repository.manifests.iter().filter(|(digest, _)| !free.contains(*digest)) {
        needed.extend(stored_blobs(digest, manifest).map(|(blob, _)| blob));
    }
    for (digest, manifest) in repository.manifests.iter().filter(|(digest, _)| left.contains(digest)) {
        found.estimated |= manifest.detail != ManifestDetail::Full;
        found.unsized_manifests += u64::from(manifest.detail.is_unsized());
        for (blob, size) in stored_blobs(digest, manifest) {
            if needed.insert(blob) {
                found.bytes += size;
            }
        }
    }
    found
}
