//! Claims of which it cannot be said which image they mean, and what they hold.
//!
//! An image id is the digest of a configuration or of a manifest. Where manifests were only listed, their configurations
//! are unknown, and each may be the one that runs: in the repositories that the names beside the id may mean. A digest of
//! another algorithm than the registry's own may be that of any image there, and a reference without a tag means any.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::graph::{Graph, Node, index};
use super::reason_table::ReasonTable;
use crate::domain::{
    Claim, Claims, Digest, ImageNames, Inventory, Manifest, ManifestDetail, Naming, Reason, Registry, Repository,
    RetainReason, SourceName, SourceOutcome, UncertainClaimReason, Uncertainty, UnresolvedIndex, UnresolvedReason,
};

/// Most unresolved references that are named: they all keep the same, and one is enough.
const MAX_NAMED: usize = 4;

/// The doubtful claims of the sources that cover one registry.
pub(super) struct UncertainClaims<'a> {
    registry: &'a Registry,
    /// By source and digest.
    claims: Vec<UncertainClaim<'a>>,
    /// Positions in `claims`, by the paths that their names may mean.
    by_path: HashMap<&'a str, Vec<usize>>,
    /// Positions of those that may mean any repository.
    anywhere: Vec<usize>,
    unresolved: UnresolvedIndex<'a, &'a SourceName>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct UncertainClaim<'a> {
    source: &'a SourceName,
    digest: &'a Digest,
    uncertainty: Uncertainty,
    claim: &'a Claim,
}

/// The doubtful claims that may mean one repository.
pub(super) struct RepositoryUncertainClaims<'a> {
    repository: &'a Repository,
    /// The first of each source, kind of doubt and algorithm: those of one kind keep the same images.
    claims: Vec<Arc<UncertainClaimReason>>,
    /// The first of each source.
    unresolved: Vec<Arc<UnresolvedReason>>,
}

impl<'a> UncertainClaims<'a> {
    pub(super) fn new(inventory: &Inventory, registry: &'a Registry, claims: &'a Claims) -> Self {
        let covering = || claims.sources.iter().filter(|source| source.covers(&registry.name));
        let all = || {
            let of = |source: &'a SourceOutcome| source.claims().iter().map(move |claim| (&source.name, claim));
            covering().flat_map(of).filter_map(|(source, claim)| Some((source, claim, claim.image.digest.as_ref()?)))
        };
        let mut ids: HashSet<&Digest> =
            all().filter(|(_, claim, _)| claim.is_image_id()).map(|(.., digest)| digest).collect();
        for repository in inventory.registries.iter().flat_map(|registry| &registry.repositories) {
            if ids.is_empty() {
                break;
            }
            // A manifest's digest is no configuration's.
            ids.retain(|digest| !repository.manifests.contains_key(*digest));
        }
        let mut found: Vec<UncertainClaim<'a>> = all()
            .filter(|(_, claim, digest)| claim.is_image_id() && ids.contains(digest))
            .map(|(source, claim, digest)| {
                let paired = matches!(claim.naming, Naming::ContainerImageId(_));
                UncertainClaim {
                    source,
                    digest,
                    uncertainty: if paired { Uncertainty::ConfigUnread } else { Uncertainty::NoContainer },
                    claim,
                }
            })
            .collect();
        let algorithms = algorithms(registry);
        let foreign = |digest: &Digest| algorithms.iter().any(|known| *known != digest.algorithm());
        if all().any(|(.., digest)| foreign(digest)) {
            let placed = known_digests(registry);
            found.extend(all().filter(|(.., digest)| foreign(digest) && !placed.contains(digest)).map(
                |(source, claim, digest)| UncertainClaim {
                    source,
                    digest,
                    uncertainty: Uncertainty::OtherAlgorithm,
                    claim,
                },
            ));
        }
        found.sort();
        let (mut by_path, mut anywhere) = (HashMap::<_, Vec<usize>>::new(), Vec::new());
        for (at, UncertainClaim { claim, .. }) in found.iter().enumerate() {
            let names = if claim.image_id_names().is_empty() {
                std::slice::from_ref(&claim.image)
            } else {
                claim.image_id_names()
            };
            for name in names {
                let Some(path) = &name.repository else {
                    anywhere.push(at);
                    continue;
                };
                for path in name.repository_paths(registry.host_names()).chain([path.as_str()]) {
                    by_path.entry(path).or_default().push(at);
                }
            }
        }
        let unresolved = covering().flat_map(|source| source.unresolved().iter().map(|one| (&source.name, one)));
        let unresolved = UnresolvedIndex::new(unresolved.collect());
        Self { registry, claims: found, by_path, anywhere, unresolved }
    }

    /// Those that may mean a repository.
    pub(super) fn for_repository<'r>(&self, repository: &'r Repository) -> RepositoryUncertainClaims<'r> {
        let (hosts, path) = (self.registry.host_names(), repository.name.as_str());
        let paths = [Some(path), path.strip_prefix("library/")];
        let named = paths.into_iter().flatten().filter_map(|path| self.by_path.get(path)).flatten();
        let places: BTreeSet<usize> = named.chain(&self.anywhere).copied().collect();
        let mut seen = HashSet::new();
        let claims = places.into_iter().map(|at| self.claims[at]);
        let claims = claims.filter(|one| one.claim.may_match_repository(hosts, &repository.name));
        let claims =
            claims.filter(|one| seen.insert((one.source, one.uncertainty, one.digest.algorithm()))).map(|one| {
                let holder = Arc::clone(&one.claim.holder);
                let UncertainClaim { source, digest, uncertainty: doubt, .. } = one;
                Arc::new(UncertainClaimReason {
                    source: source.clone(),
                    digest: digest.clone(),
                    uncertainty: doubt,
                    holder,
                })
            });
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
        RepositoryUncertainClaims {
            repository,
            claims: claims.collect(),
            unresolved: unresolved.take(MAX_NAMED).collect(),
        }
    }
}

impl RepositoryUncertainClaims<'_> {
    fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.unresolved.is_empty()
    }

    /// Says of every tag that nothing else keeps which doubts keep it. To be asked before what stays is followed to what
    /// stays because of it.
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

    /// The listed manifests whose configurations would decide about tags that nothing but an image id keeps, in order.
    pub(super) fn needed_configurations(&self, graph: &Graph<'_>, found: &ReasonTable) -> Vec<Digest> {
        if !self.claims.iter().any(|one| one.uncertainty == Uncertainty::ConfigUnread) {
            return Vec::new();
        }
        let waiting: Vec<bool> = found.tags().map(|tag| found.needs_configurations(tag)).collect();
        let nodes = graph.nodes().filter(|&node| {
            let listed = graph.manifest(node).is_some_and(|manifest| manifest.detail != ManifestDetail::Full);
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

/// The tags of a manifest and of every index around it.
fn tags_containing<'g>(graph: &'g Graph<'_>, node: Node) -> impl Iterator<Item = u32> + 'g {
    std::iter::once(node).chain(graph.ancestors(node)).flat_map(|place| graph.tags(place).collect::<Vec<_>>())
}

/// The algorithms of the digests by which a registry knows images.
fn algorithms(registry: &Registry) -> BTreeSet<&'static str> {
    let of = |repository: &Repository| -> BTreeSet<&'static str> {
        let tagged = repository.tags.iter().filter_map(|tag| tag.digest.as_ref());
        repository.manifests.keys().chain(tagged).map(Digest::algorithm).collect()
    };
    registry.repositories.iter().flat_map(of).collect()
}

/// The digests of all manifests and configurations that were read of a registry.
fn known_digests(registry: &Registry) -> HashSet<&Digest> {
    let manifests = registry.repositories.iter().flat_map(|repository| &repository.manifests);
    manifests.flat_map(|(digest, manifest)| std::iter::once(digest).chain(manifest.config.as_deref())).collect()
}
