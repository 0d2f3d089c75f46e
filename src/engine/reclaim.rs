//! What removing a plan's tags would free, blob by blob.

use std::collections::{HashMap, HashSet};

use super::Verdicts;
use super::graph::{Graph, Node, Ties, index};
use crate::domain::{
    Claims, Depth, Digest, Gap, GapAt, Inventory, Manifest, Plan, Reclaim, Registry, RegistryName, Repository,
    SourceAnswer, TagAt, TagVerdict, Verdict,
};

/// The bytes that each removal of a plan would free once the registry collects what nothing needs any more.
///
/// Blobs are counted over all repositories of a registry, which stores each of them once, and so are manifests. Where
/// anything of a registry could not be read, nothing is said of its bytes: what was not read may share them. Manifests
/// that no tag reached in the first place are not freed by removing tags, so they count as kept.
///
/// Where manifests were only listed, their images count as wholes, each digest once: that is too much by what they share
/// among each other and with what stays, and the figure says that it is estimated.
#[must_use]
pub fn reclaim(inventory: &Inventory, claims: &Claims, verdicts: &Verdicts, plan: &Plan) -> Reclaim {
    let mut positions: Vec<(TagAt, usize)> =
        plan.removals.iter().zip(0..).map(|(removal, at)| (removal.at, at)).collect();
    positions.sort_unstable();
    let mut result = Reclaim { removals: vec![None; plan.removals.len()], ..Reclaim::default() };
    for there in verdicts.tags.chunk_by(|a, b| a.at.registry == b.at.registry) {
        let Some(registry) = inventory.registries.get(index(there[0].at.registry)) else { continue };
        if wholly_read(registry) {
            let claimed = claimed(claims, &registry.name);
            count(registry, there, &positions, &claimed, &mut result);
        }
    }
    result
}

fn wholly_read(registry: &Registry) -> bool {
    let hides = |gap: &Gap| gap.blocks_repository() || gap.at == GapAt::Catalogue;
    let read = |repository: &Repository| {
        let mut named = repository.tags.iter().filter_map(|tag| tag.digest.as_ref());
        !repository.gaps.iter().any(hides) && named.all(|digest| repository.manifests.contains_key(digest))
    };
    !registry.gaps.iter().any(hides) && registry.repositories.iter().all(read)
}

fn claimed<'a>(claims: &'a Claims, registry: &RegistryName) -> HashSet<&'a Digest> {
    let sources = claims.sources.iter().filter(|source| source.covers(registry));
    sources.flat_map(SourceAnswer::claims).filter_map(|claim| claim.image.digest.as_ref()).collect()
}

/// A blob of a manifest that goes.
struct Freed {
    size: u64,
    removal: usize,
    shared: bool,
}

fn count(
    registry: &Registry,
    verdicts: &[TagVerdict],
    positions: &[(TagAt, usize)],
    claimed: &HashSet<&Digest>,
    result: &mut Reclaim,
) {
    let mut freed: HashMap<&Digest, Freed> = HashMap::new();
    let mut gone: HashMap<u32, HashSet<&Digest>> = HashMap::new();
    let mut unsized_removals: HashSet<usize> = HashSet::new();
    for there in verdicts.chunk_by(|a, b| a.at.repository == b.at.repository) {
        let position = there[0].at.repository;
        let Some(repository) = registry.repositories.get(index(position)) else { continue };
        let position_of = |at| Some(positions[positions.binary_search_by_key(&at, |&(at, _)| at).ok()?].1);
        let going = |found: &TagVerdict| position_of(found.at).filter(|_| found.verdict == Verdict::Expired);
        if !there.iter().any(|found| going(found).is_some()) {
            continue;
        }
        let graph = Graph::new(repository, &[]);
        let staying =
            there.iter().filter(|found| going(found).is_none()).filter_map(|found| graph.of_tag(found.at.tag));
        let claimed = graph.nodes().filter(|&node| is_claimed(&graph, node, claimed));
        let mut settled = graph.reach(staying.chain(claimed), Ties::Down);
        let gone = gone.entry(position).or_default();
        for found in there {
            let Some(removal) = going(found) else { continue };
            result.removals[removal] = Some(0);
            graph.spread(graph.of_tag(found.at.tag), Ties::Down, |node| {
                let goes = !std::mem::replace(&mut settled[index(node)], true);
                if let (true, Some(manifest)) = (goes, graph.manifest(node)) {
                    gone.insert(graph.digest(node));
                    if manifest.depth == (Depth::Listed { image_size: None }) {
                        unsized_removals.insert(removal);
                    }
                    for (digest, size) in stored(graph.digest(node), manifest) {
                        freed.entry(digest).or_insert(Freed { size, removal, shared: false });
                    }
                }
                goes
            });
        }
    }
    for (position, repository) in (0..).zip(&registry.repositories) {
        let gone = gone.get(&position);
        for (digest, manifest) in &repository.manifests {
            if gone.is_none_or(|gone| !gone.contains(digest)) {
                for (digest, _) in stored(digest, manifest) {
                    freed.entry(digest).and_modify(|blob| blob.shared = true);
                }
            }
        }
    }
    let manifests = || registry.repositories.iter().flat_map(|repository| repository.manifests.values());
    result.estimated |= !gone.is_empty() && manifests().any(|manifest| manifest.depth != Depth::Whole);
    for &removal in &unsized_removals {
        result.removals[removal] = None;
    }
    for Freed { size, removal, shared } in freed.into_values().filter(|blob| !unsized_removals.contains(&blob.removal))
    {
        let sum = if shared { &mut result.shared_bytes } else { &mut result.reclaimable_bytes };
        *sum = sum.saturating_add(size);
        if let (false, Some(bytes)) = (shared, &mut result.removals[removal]) {
            *bytes = bytes.saturating_add(size);
        }
    }
}

fn is_claimed(graph: &Graph<'_>, node: Node, claimed: &HashSet<&Digest>) -> bool {
    let config = graph.manifest(node).and_then(|manifest| manifest.config.as_deref());
    claimed.contains(graph.digest(node)) || config.is_some_and(|config| claimed.contains(config))
}

/// What a registry stores for a manifest: its own bytes, its configuration and its layers. Of one that was only listed,
/// all of that in one piece.
fn stored<'a>(digest: &'a Digest, manifest: &'a Manifest) -> impl Iterator<Item = (&'a Digest, u64)> {
    let own = match manifest.depth {
        Depth::Whole => manifest.size,
        Depth::Listed { image_size } => image_size.unwrap_or(0),
    };
    std::iter::once((digest, own)).chain(manifest.blobs.iter().map(|blob| (&blob.digest, blob.size)))
}
