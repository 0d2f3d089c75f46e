//! What removing a plan's tags would free, blob by blob.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Verdicts;
use super::graph::{Graph, Node, Traversal, index};
use crate::domain::{
    Claims, Digest, Gap, GapTarget, Inventory, Manifest, ManifestDetail, Plan, Reclaim, ReclaimBytes, ReclaimSum,
    Registry, RegistryName, RegistryReclaim, Repository, RepositoryName, SourceOutcome, TagPosition, TagVerdict,
    Verdict,
};

/// The bytes that each removal of a plan would free once the registry collects what nothing needs any more, and those
/// that it would not, because something kept needs them.
///
/// Blobs are counted over all repositories of a registry, which stores each of them once, and so are manifests. Where
/// anything of a registry could not be read, nothing is said of its bytes: what was not read may share them. Manifests
/// that no tag reached in the first place are not freed by removing tags, so they count as kept.
///
/// Where manifests were only listed, their images count as wholes, each digest once: that is too much by what they share
/// among each other and with what stays, and the registry's figures say that they are estimated.
#[must_use]
pub fn reclaim(inventory: &Inventory, claims: &Claims, verdicts: &Verdicts, plan: &Plan) -> Reclaim {
    let mut positions: Vec<(TagPosition, usize)> =
        plan.removals.iter().zip(0..).map(|(removal, at)| (removal.position, at)).collect();
    positions.sort_unstable();
    let mut removals = vec![None; plan.removals.len()];
    let mut estimated = HashSet::new();
    for there in verdicts.tags.chunk_by(|a, b| a.position.registry == b.position.registry) {
        let Some(registry) = inventory.registries.get(index(there[0].position.registry)) else { continue };
        if has_full_manifests(registry) {
            let claimed = claimed_digests(claims, &registry.name);
            count(registry, there, &positions, &claimed, &mut removals);
            let manifests = || registry.repositories.iter().flat_map(|repository| repository.manifests.values());
            if manifests().any(|manifest| manifest.detail != ManifestDetail::Full) {
                estimated.insert(&registry.name);
            }
        }
    }
    Reclaim { registries: sums(plan, &removals, &estimated), removals }
}

/// The bytes of the removals by registry and repository.
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

pub(super) fn has_full_manifests(registry: &Registry) -> bool {
    let hides = |gap: &Gap| gap.may_hide_tag() || gap.target == GapTarget::Catalogue;
    let read = |repository: &Repository| {
        let mut named = repository.tags.iter().filter_map(|tag| tag.digest.as_ref());
        !repository.gaps.iter().any(hides) && named.all(|digest| repository.manifests.contains_key(digest))
    };
    !registry.gaps.iter().any(hides) && registry.repositories.iter().all(read)
}

fn claimed_digests<'a>(claims: &'a Claims, registry: &RegistryName) -> HashSet<&'a Digest> {
    let sources = claims.sources.iter().filter(|source| source.covers(registry));
    sources.flat_map(SourceOutcome::claims).filter_map(|claim| claim.image.digest.as_ref()).collect()
}

/// A blob of the image of a tag that goes.
struct BlobUse {
    size: u64,
    /// The first removal whose image needs it.
    removal: usize,
    /// Whether something kept needs it too.
    is_kept: bool,
}

fn count(
    registry: &Registry,
    verdicts: &[TagVerdict],
    positions: &[(TagPosition, usize)],
    claimed: &HashSet<&Digest>,
    removals: &mut [Option<ReclaimBytes>],
) {
    let mut blobs: HashMap<&Digest, BlobUse> = HashMap::new();
    let mut gone: HashMap<u32, HashSet<&Digest>> = HashMap::new();
    let mut unsized_removals: HashSet<usize> = HashSet::new();
    for there in verdicts.chunk_by(|a, b| a.position.repository == b.position.repository) {
        let position = there[0].position.repository;
        let Some(repository) = registry.repositories.get(index(position)) else { continue };
        let position_of = |at| Some(positions[positions.binary_search_by_key(&at, |&(at, _)| at).ok()?].1);
        let going = |found: &TagVerdict| position_of(found.position).filter(|_| found.verdict == Verdict::Expired);
        if !there.iter().any(|found| going(found).is_some()) {
            continue;
        }
        let graph = Graph::new(repository, &[]);
        let staying =
            there.iter().filter(|found| going(found).is_none()).filter_map(|found| graph.of_tag(found.position.tag));
        let claimed = graph.nodes().filter(|&node| is_claimed(&graph, node, claimed));
        let kept = graph.reachable(staying.chain(claimed), Traversal::Down);
        let mut seen = vec![false; kept.len()];
        let gone = gone.entry(position).or_default();
        for found in there {
            let Some(removal) = going(found) else { continue };
            removals[removal] = Some(ReclaimBytes::default());
            graph.walk(graph.of_tag(found.position.tag), Traversal::Down, |node| {
                let is_new = !std::mem::replace(&mut seen[index(node)], true);
                if let (true, Some(manifest)) = (is_new, graph.manifest(node)) {
                    if !kept[index(node)] {
                        gone.insert(graph.digest(node));
                    }
                    if manifest.detail == (ManifestDetail::Listed { image_size: None }) {
                        unsized_removals.insert(removal);
                    }
                    for (digest, size) in stored_blobs(graph.digest(node), manifest) {
                        blobs.entry(digest).or_insert(BlobUse { size, removal, is_kept: false });
                    }
                }
                is_new
            });
        }
    }
    for (position, repository) in (0..).zip(&registry.repositories) {
        let gone = gone.get(&position);
        for (digest, manifest) in &repository.manifests {
            if gone.is_none_or(|gone| !gone.contains(digest)) {
                for (digest, _) in stored_blobs(digest, manifest) {
                    blobs.entry(digest).and_modify(|blob| blob.is_kept = true);
                }
            }
        }
    }
    for removal in unsized_removals {
        removals[removal] = None;
    }
    for BlobUse { size, removal, is_kept: stays } in blobs.into_values() {
        if let Some(bytes) = &mut removals[removal] {
            let part = if stays { &mut bytes.shared } else { &mut bytes.exclusive };
            *part = part.saturating_add(size);
        }
    }
}

fn is_claimed(graph: &Graph<'_>, node: Node, claimed: &HashSet<&Digest>) -> bool {
    let config = graph.manifest(node).and_then(|manifest| manifest.config.as_deref());
    claimed.contains(graph.digest(node)) || config.is_some_and(|config| claimed.contains(config))
}

/// What a registry stores for a manifest: its own bytes, its configuration and its layers. Of one that was only listed,
/// all of that in one piece.
pub(super) fn stored_blobs<'a>(digest: &'a Digest, manifest: &'a Manifest) -> impl Iterator<Item = (&'a Digest, u64)> {
    let own = match manifest.detail {
        ManifestDetail::Full => manifest.size,
        ManifestDetail::Listed { image_size } => image_size.unwrap_or(0),
    };
    std::iter::once((digest, own)).chain(manifest.blobs.iter().map(|blob| (&blob.digest, blob.size)))
}
