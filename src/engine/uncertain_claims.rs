//! Claims that may refer to different images, and the tags that they protect.
//!
//! An image id is the digest of a configuration or of a manifest. If manifests were only listed, their configurations
//! are unknown, and each may be the running one, in the repositories that match the names beside the id. A digest of
//! another algorithm than the registry's own may be that of any image there, and a reference without a tag may refer to
//! any.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::graph::{Graph, Node, index};
use super::placed_digests::{AbsentDigest, PlacedDigests};
use super::reason_table::ReasonTable;
use crate::domain::{
    Claim, Claims, Digest, ImageNames, Manifest, ManifestDetail, Naming, Reason, Registry, Repository, RetainReason,
    SourceName, SourceOutcome, UncertainClaimReason, Uncertainty, UnresolvedIndex, UnresolvedReason,
};

/// Most unresolved references that are listed: they all keep the same tags, and one is enough.
const MAX_NAMED: usize = 4;

/// The doubtful claims of the sources that cover one registry.
pub(super) struct UncertainClaims<'a> {
    registry: &'a Registry,
    /// By source and digest.
    claims: Vec<UncertainClaim<'a>>,
    kinds: BTreeMap<ClaimKind<'a>, ClaimPositions<'a>>,
    unresolved: UnresolvedIndex<'a, &'a SourceName>,
}

/// Claims of one kind keep the same images: source, doubt, and the algorithm of their digests.
type ClaimKind<'a> = (&'a SourceName, Uncertainty, &'static str);

/// Positions of claims by the repositories that they may refer to, each list in order.
#[derive(Default)]
struct ClaimPositions<'a> {
    /// By path.
    by_path: HashMap<&'a str, Vec<usize>>,
    /// Claims that may refer to any repository.
    anywhere: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct UncertainClaim<'a> {
    source: &'a SourceName,
    digest: &'a Digest,
    uncertainty: Uncertainty,
    claim: &'a Claim,
}

/// The doubtful claims that may refer to one repository.
pub(super) struct RepositoryUncertainClaims<'r, 'a> {
    registry: &'a Registry,
    repository: &'r Repository,
    /// The first of each kind.
    claims: Vec<Arc<UncertainClaimReason>>,
    /// The first of each source.
    unresolved: Vec<Arc<UnresolvedReason>>,
    open: OpenClaims<'r, 'a>,
}

/// The claims on digests that no repository is known to have.
struct OpenClaims<'r, 'a> {
    index: &'r UncertainClaims<'a>,
    repository: &'r Repository,
    placed: &'r PlacedDigests,
    /// The algorithms of the repository's digests.
    algorithms: BTreeSet<&'static str>,
}

impl<'a> UncertainClaims<'a> {
    pub(super) fn new(registry: &'a Registry, claims: &'a Claims) -> Self {
        let covering = || claims.sources.iter().filter(|source| source.covers(&registry.name));
        let of = |source: &'a SourceOutcome| source.claims().iter().map(move |claim| (&source.name, claim));
        let all = covering().flat_map(of).filter_map(|(source, claim)| {
            let uncertainty = if matches!(claim.naming, Naming::ContainerImageId(_)) {
                Uncertainty::ConfigUnread
            } else {
                Uncertainty::NoContainer
            };
            Some(UncertainClaim { source, digest: claim.image.digest.as_ref()?, uncertainty, claim })
        });
        let mut found: Vec<UncertainClaim<'a>> = Vec::new();
        for one in all {
            found.extend(one.claim.is_image_id().then_some(one));
            found.push(UncertainClaim { uncertainty: Uncertainty::OtherAlgorithm, ..one });
        }
        found.sort();
        let mut kinds: BTreeMap<ClaimKind<'a>, ClaimPositions<'a>> = BTreeMap::new();
        for (at, UncertainClaim { source, claim, digest, uncertainty }) in found.iter().enumerate() {
            let positions = kinds.entry((source, *uncertainty, digest.algorithm())).or_default();
            let names = if claim.image_id_names().is_empty() {
                std::slice::from_ref(&claim.image)
            } else {
                claim.image_id_names()
            };
            for name in names {
                let Some(path) = &name.repository else {
                    positions.anywhere.push(at);
                    continue;
                };
                for path in name.repository_paths(registry.host_names()).chain([path.as_str()]) {
                    positions.by_path.entry(path).or_default().push(at);
                }
            }
        }
        let unresolved = covering().flat_map(|source| source.unresolved().iter().map(|one| (&source.name, one)));
        let unresolved = UnresolvedIndex::new(unresolved.collect());
        Self { registry, claims: found, kinds, unresolved }
    }

    /// Returns the claims that may refer to a repository, unless `placed` locates their digests elsewhere.
    pub(super) fn for_repository<'r>(
        &'r self,
        repository: &'r Repository,
        placed: &'r PlacedDigests,
    ) -> RepositoryUncertainClaims<'r, 'a> {
        let hosts = self.registry.host_names();
        let algorithms = if self.kinds.is_empty() { BTreeSet::new() } else { algorithms(repository) };
        let open = OpenClaims { index: self, repository, placed, algorithms };
        let claims = open.first_of_each_kind().into_iter().map(|one| {
            Arc::new(UncertainClaimReason {
                source: one.source.clone(),
                digest: one.digest.clone(),
                uncertainty: one.uncertainty,
                holder: Arc::clone(&one.claim.holder),
            })
        });
        let claims = claims.collect();
        let mut told = HashSet::new();
        let images = ImageNames::of(repository);
        let unresolved = self.unresolved.matching(hosts, &repository.name).into_iter();
        // One of each source is enough.
        let unresolved =
            unresolved.filter(|(source, one)| !told.contains(*source) && one.is_open(&images) && told.insert(*source));
        let unresolved = unresolved.map(|(source, one)| {
            let (text, holder) = (Arc::clone(&one.text), Arc::clone(&one.holder));
            Arc::new(UnresolvedReason { source: (*source).clone(), text, holder })
        });
        let unresolved = unresolved.take(MAX_NAMED).collect();
        RepositoryUncertainClaims { registry: self.registry, repository, claims, unresolved, open }
    }
}

impl<'a> OpenClaims<'_, 'a> {
    /// Returns the lists of positions of the claims that may refer to the repository, by kind.
    fn positions(&self) -> impl Iterator<Item = impl Iterator<Item = &[usize]>> {
        let path = self.repository.name.as_str();
        // A digest of an algorithm that the repository has alone is compared with all of its digests.
        let comparable = |algorithm: &str| self.algorithms.iter().all(|known| *known == algorithm);
        let kinds = self.index.kinds.iter().filter(move |((_, uncertainty, algorithm), _)| {
            *uncertainty != Uncertainty::OtherAlgorithm || !comparable(algorithm)
        });
        kinds.map(move |(_, positions)| {
            let paths = [Some(path), path.strip_prefix("library/")].into_iter().flatten();
            let named = paths.filter_map(|path| positions.by_path.get(path).map(Vec::as_slice));
            named.chain([positions.anywhere.as_slice()])
        })
    }

    fn is_open(&self, one: &UncertainClaim<'_>) -> bool {
        let registry = self.index.registry;
        let is_placed = match one.uncertainty {
            Uncertainty::ConfigUnread | Uncertainty::NoContainer => self.placed.is_manifest(one.digest),
            Uncertainty::OtherAlgorithm => self.placed.is_known(&registry.name, one.digest),
        };
        !is_placed && one.claim.may_match_repository(registry.host_names(), &self.repository.name)
    }

    /// Returns the first claim of each kind, in order. There may be many, and usually one of the first is open.
    fn first_of_each_kind(&self) -> Vec<UncertainClaim<'a>> {
        let claims = &self.index.claims;
        let first = |positions: &[usize]| positions.iter().copied().find(|at| self.is_open(&claims[*at]));
        let mut found: Vec<usize> = self.positions().filter_map(|lists| lists.filter_map(first).min()).collect();
        found.sort_unstable();
        found.into_iter().map(|at| claims[at]).collect()
    }

    fn all(&self) -> impl Iterator<Item = UncertainClaim<'a>> {
        let positions = self.positions().flatten().flatten();
        positions.map(|at| self.index.claims[*at]).filter(|one| self.is_open(one))
    }
}

impl RepositoryUncertainClaims<'_, '_> {
    /// Returns the claimed digests that were assumed to be in no repository. If another one has them, this has to be
    /// decided again.
    pub(super) fn assumed_absent(&self) -> BTreeSet<AbsentDigest> {
        let absent = self.open.all().map(|one| {
            let place = (one.uncertainty == Uncertainty::OtherAlgorithm).then(|| self.registry.name.clone());
            (place, one.digest.clone())
        });
        absent.collect()
    }

    fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.unresolved.is_empty()
    }

    /// Adds the doubts as reasons to every tag that nothing else retains. Must be called before protection is
    /// propagated.
    pub(super) fn add_reasons(&self, graph: &Graph<'_>, found: &mut ReasonTable) {
        if self.is_empty() {
            return;
        }
        let free: Vec<bool> = found.tags().map(|tag| !found.is_kept(tag)).collect();
        for (tag, _) in (0..).zip(&free).filter(|(_, free)| **free) {
            for one in &self.unresolved {
                found.add(tag, Reason::UnresolvedReference(Arc::clone(one)));
            }
        }
        for one in &self.claims {
            let nodes = graph.nodes().filter(|&node| self.may_match(one, graph.digest(node), graph.manifest(node)));
            let tags: BTreeSet<u32> = nodes.flat_map(|node| tags_containing(graph, node)).collect();
            for tag in tags.into_iter().filter(|&tag| free[index(tag)]) {
                found.add(tag, Reason::MaybeClaimed(Arc::clone(one)));
            }
        }
    }

    /// Returns true if an image id may be that of an image of the repository whose configuration is unknown.
    pub(super) fn may_be_configuration(&self) -> bool {
        self.claims.iter().any(|one| matches!(one.uncertainty, Uncertainty::ConfigUnread | Uncertainty::NoContainer))
    }

    /// Returns the listed manifests whose configurations would decide tags that only an image id retains, in order.
    pub(super) fn needed_configurations(&self, graph: &Graph<'_>, found: &ReasonTable) -> Vec<Digest> {
        if !self.claims.iter().any(|one| one.uncertainty == Uncertainty::ConfigUnread) {
            return Vec::new();
        }
        let waiting: Vec<bool> = found.tags().map(|tag| found.needs_configurations(tag)).collect();
        let nodes = graph.nodes().filter(|&node| {
            let listed = |manifest: &Manifest| matches!(manifest.detail, ManifestDetail::Listed { .. });
            let listed = graph.manifest(node).is_some_and(listed);
            let hidden = listed && self.repository.has_unknown_config(graph.digest(node));
            hidden && tags_containing(graph, node).any(|tag| waiting[index(tag)])
        });
        let mut needed: Vec<Digest> = nodes.map(|node| graph.digest(node).clone()).collect();
        needed.sort();
        needed
    }

    /// Returns the doubts that keep an untagged manifest: `within` are the digests of it and of everything in it, each with
    /// its manifest.
    pub(super) fn retain_reasons(&self, within: &[(&Digest, Option<&Manifest>)]) -> Vec<RetainReason> {
        let held = self.claims.iter().filter(|one| {
            let absent = one.uncertainty != Uncertainty::OtherAlgorithm;
            within
                .iter()
                .any(|&(digest, manifest)| absent && manifest.is_none() || self.may_match(one, digest, manifest))
        });
        let held = held.map(|one| RetainReason::MaybeClaimed(Arc::clone(one)));
        held.chain(self.unresolved.iter().map(|one| RetainReason::UnresolvedReference(Arc::clone(one)))).collect()
    }

    /// Returns true if a doubtful claim may be on an image.
    fn may_match(&self, claimed: &UncertainClaimReason, digest: &Digest, manifest: Option<&Manifest>) -> bool {
        match claimed.uncertainty {
            Uncertainty::ConfigUnread | Uncertainty::NoContainer => {
                manifest.is_some_and(Manifest::has_unknown_config) && !self.repository.attached.contains(digest)
            }
            Uncertainty::OtherAlgorithm => {
                let config = manifest.and_then(|manifest| manifest.config.as_deref());
                std::iter::once(digest).chain(config).any(|known| known.algorithm() != claimed.digest.algorithm())
            }
        }
    }
}

/// Returns the tags of a manifest and of every index around it.
fn tags_containing<'g>(graph: &'g Graph<'_>, node: Node) -> impl Iterator<Item = u32> + 'g {
    std::iter::once(node).chain(graph.ancestors(node)).flat_map(|place| graph.tags(place).collect::<Vec<_>>())
}

/// Returns the algorithms of the digests by which a repository knows images.
fn algorithms(repository: &Repository) -> BTreeSet<&'static str> {
    let tagged = repository.tags.iter().filter_map(|tag| tag.digest.as_ref());
    let listed = repository.listed.iter().map(|row| &row.digest);
    let inner = repository.manifests.values().flat_map(|manifest| {
        manifest.children.iter().chain(manifest.config.as_deref()).chain(manifest.subject.as_deref())
    });
    let mut found = BTreeSet::new();
    let mut last = "";
    for algorithm in repository.manifests.keys().chain(tagged).chain(listed).chain(inner).map(Digest::algorithm) {
        if algorithm != last {
            found.insert(algorithm);
            last = algorithm;
        }
    }
    found
}
