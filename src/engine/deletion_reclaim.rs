//! What deleting untagged manifests would free, blob by blob.

use std::collections::{HashMap, HashSet};

use super::reclaim::{has_full_manifests, stored_blobs};
use crate::domain::{Deletion, DeletionReclaim, Digest, Inventory, ManifestDetail, RegistryName, RepositoryName};

/// Says of each deletion that goes which bytes only it and what goes along need. A blob counts once in a registry, for the
/// first of them that needs it. Where anything of a registry could not be read, nothing is said of its bytes; where
/// manifests were only listed, their images count as wholes, and the figure is an estimate.
pub(super) fn add_deletion_reclaim(inventory: &Inventory, deletions: &mut [Deletion]) {
    for registry in inventory.registries.iter().filter(|registry| has_full_manifests(registry)) {
        let going = |deletion: &Deletion| deletion.registry == registry.name && deletion.is_deletable();
        if !deletions.iter().any(going) {
            continue;
        }
        let manifests = || {
            registry.repositories.iter().flat_map(|repository| {
                repository.manifests.iter().map(move |(digest, manifest)| (&repository.name, digest, manifest))
            })
        };
        let estimated = manifests().any(|(_, _, manifest)| manifest.detail != ManifestDetail::Full);
        let gone = deleted_manifests(&registry.name, deletions);
        let kept: HashSet<&Digest> = manifests()
            .filter(|(repository, digest, _)| !gone.contains(&((*repository).clone(), (*digest).clone())))
            .flat_map(|(_, digest, manifest)| stored_blobs(digest, manifest))
            .map(|(digest, _)| digest)
            .collect();
        let mut counted: HashSet<&Digest> = HashSet::new();
        let by_place: HashMap<_, _> =
            manifests().map(|(repository, digest, manifest)| ((repository, digest), manifest)).collect();
        for deletion in deletions.iter_mut().filter(|deletion| going(deletion)) {
            let mut bytes = Some(0_u64);
            let along = deletion.dependents.iter().map(|along| &along.digest);
            for digest in std::iter::once(&deletion.digest).chain(along) {
                let manifest = by_place.get(&(&deletion.repository, digest));
                let known =
                    manifest.filter(|manifest| manifest.detail != (ManifestDetail::Listed { image_size: None }));
                let Some((place, manifest)) = known.and_then(|manifest| {
                    let repository = registry.repository(deletion.repository.as_str())?;
                    Some((repository.manifests.get_key_value(digest)?.0, *manifest))
                }) else {
                    bytes = None;
                    break;
                };
                for (blob, size) in stored_blobs(place, manifest) {
                    if !kept.contains(blob) && counted.insert(blob) {
                        bytes = bytes.map(|bytes| bytes.saturating_add(size));
                    }
                }
            }
            deletion.reclaim = bytes.map(|bytes| DeletionReclaim { bytes, estimated });
        }
    }
}

/// Everything that goes from a registry.
fn deleted_manifests(registry: &RegistryName, deletions: &[Deletion]) -> HashSet<(RepositoryName, Digest)> {
    let there = deletions.iter().filter(|deletion| deletion.registry == *registry && deletion.is_deletable());
    there
        .flat_map(|deletion| {
            let along = deletion.dependents.iter().map(|along| &along.digest);
            let all = std::iter::once(&deletion.digest).chain(along);
            all.map(|digest| (deletion.repository.clone(), digest.clone()))
        })
        .collect()
}
