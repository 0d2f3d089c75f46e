//! Claims, locks, failed sources and gaps, seen from a removal.

use std::collections::{HashMap, HashSet};

use super::{Finding, Going};
use crate::domain::{Claim, Claims, Depth, Digest, Gap, GapAt, Inventory, Registry, Repository, SourceAnswer, TagName};

/// What speaks against removals in one registry.
pub(super) struct Evidence<'a> {
    pub(super) registry: &'a Registry,
    pub(super) failed: Option<String>,
    tags: HashMap<(&'a str, &'a TagName), Vec<&'a Claim>>,
    pub(super) digests: HashSet<&'a Digest>,
    /// A claimed digest that may be any unread configuration's.
    pub(super) loose: Option<&'a Digest>,
}

impl<'a> Evidence<'a> {
    pub(super) fn new(inventory: &Inventory, registry: &'a Registry, claims: &'a Claims) -> Self {
        let covering = || claims.sources.iter().filter(|source| source.covers(&registry.name));
        let mut tags: HashMap<_, Vec<&Claim>> = HashMap::new();
        let (mut digests, mut nameless) = (HashSet::new(), HashSet::new());
        for claim in covering().flat_map(SourceAnswer::claims) {
            digests.extend(&claim.image.digest);
            if claim.image.repository.is_none() {
                nameless.extend(&claim.image.digest);
            }
            if let (Some(path), Some(tag)) = (&claim.image.repository, &claim.image.tag) {
                tags.entry((path.as_str(), tag)).or_default().push(claim);
            }
        }
        let failed = covering().find(|source| source.failed()).map(|source| format!("source {} failed", source.name));
        for repository in inventory.registries.iter().flat_map(|registry| &registry.repositories) {
            nameless.retain(|digest| !repository.manifests.contains_key(*digest));
        }
        Self { registry, failed, tags, digests, loose: nameless.into_iter().next() }
    }

    pub(super) fn look(&self, repository: &Repository, going: &[Going<'_>], findings: &mut Vec<Finding>) {
        let gaps: Vec<&Gap> = self.registry.gaps.iter().chain(&repository.gaps).collect();
        let blocking = gaps.iter().find(|gap| gap.blocks_repository()).map(|gap| format!("unread: {}", gap.at));
        let vanished: HashSet<&TagName> = gaps
            .iter()
            .filter_map(|gap| match &gap.at {
                GapAt::VanishedTag(tag) => Some(tag),
                _ => None,
            })
            .collect();
        for one in going {
            let manifest = repository.manifests.get(one.digest);
            let held = [
                self.failed.clone(),
                blocking.clone(),
                vanished.contains(&one.tag.name).then(|| "it vanished".to_owned()),
                repository.lock.map(|_| "a lock on its repository".to_owned()),
                one.tag.lock.map(|_| "a lock on it".to_owned()),
                manifest.and_then(|manifest| manifest.lock).map(|_| "a lock on its manifest".to_owned()),
                self.claim_on_tag(repository, &one.tag.name),
                self.claim_inside(repository, one.digest),
            ];
            let by = held.into_iter().flatten();
            findings.extend(by.map(|by| Finding::Held { image: one.image(), by }));
        }
    }

    pub(super) fn claim_on_tag(&self, repository: &Repository, tag: &TagName) -> Option<String> {
        let path = repository.name.as_str();
        let paths = [path, path.strip_prefix("library/").unwrap_or(path)];
        let mut claims = paths.iter().filter_map(|path| self.tags.get(&(*path, tag))).flatten();
        let claim = claims.find(|claim| claim.image.names(&self.registry.hosts, &repository.name))?;
        Some(format!("a claim on {}", claim.image))
    }

    /// A claimed digest in an image, or anywhere in an index: a manifest's or a configuration's.
    fn claim_inside(&self, repository: &Repository, digest: &Digest) -> Option<String> {
        let mut seen = HashSet::new();
        let mut open = vec![digest];
        while let Some(next) = open.pop() {
            if !seen.insert(next) {
                continue;
            }
            let manifest = repository.manifests.get(next);
            let config = manifest.and_then(|manifest| manifest.config.as_deref());
            if let Some(claimed) = [Some(next), config].into_iter().flatten().find(|d| self.digests.contains(*d)) {
                return Some(format!("a claim on {claimed}"));
            }
            if let (Some(Depth::Listed { .. }), Some(loose)) = (manifest.map(|manifest| manifest.depth), self.loose) {
                return Some(format!("perhaps a claim on {loose}"));
            }
            open.extend(manifest.into_iter().flat_map(|manifest| &manifest.children));
        }
        None
    }
}
