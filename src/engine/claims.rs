//! Matching of the sources' claims with tags.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::graph::{Graph, Node};
use super::reason_table::ReasonTable;
use crate::domain::{
    Claim, ClaimMatch, ClaimReason, Claims, Digest, DigestMap, DigestSet, Drift, GapTarget, Manifest, Prereleases,
    RangeSelection, Reason, Registry, Repository, RetainReason, SourceName, SourceOutcome, TagName, TagVersion,
    UnlistedContent, UnreadKind, VersionRange, is_index_type,
};

/// A claim with its source and its displayed text.
#[derive(Clone, Copy)]
pub(super) struct SourcedClaim<'a> {
    source: &'a SourceName,
    claim: &'a Claim,
    text: &'a Arc<str>,
}

impl SourcedClaim<'_> {
    fn reason(self, by: ClaimMatch) -> Reason {
        Reason::Claimed(Box::new(ClaimReason {
            source: self.source.clone(),
            by,
            reference: Arc::clone(self.text),
            holder: Arc::clone(&self.claim.holder),
        }))
    }

    /// Returns the claim as a reason to retain an untagged manifest.
    pub(super) fn retain_reason(self) -> RetainReason {
        RetainReason::Claimed {
            source: self.source.clone(),
            reference: Arc::clone(self.text),
            holder: Arc::clone(&self.claim.holder),
        }
    }

    fn drift(self, registry: &Registry, repository: &Repository, actual: Option<Digest>) -> Drift {
        Drift {
            source: self.source.clone(),
            holder: Arc::clone(&self.claim.holder),
            reference: self.claim.image.clone(),
            registry: registry.name.clone(),
            repository: repository.name.clone(),
            actual,
        }
    }
}

/// Returns the written form of every claim, in the order of the claims, so that each is rendered once.
#[must_use]
pub fn claim_texts(claims: &Claims) -> Vec<Arc<str>> {
    claims.sources.iter().flat_map(SourceOutcome::claims).map(|claim| claim.text().into()).collect()
}

type ClaimsByTag<'a> = HashMap<&'a TagName, Vec<SourcedClaim<'a>>>;

/// The claims that protect one registry, indexed by their target.
#[derive(Default)]
pub(super) struct ClaimIndex<'a> {
    by_path: HashMap<&'a str, ClaimsByTag<'a>>,
    by_digest: DigestMap<&'a Digest, Vec<SourcedClaim<'a>>>,
    /// The claims on ranges of versions, by path.
    ranges: HashMap<&'a str, Vec<SourcedClaim<'a>>>,
}

impl<'a> ClaimIndex<'a> {
    /// Indexes those of the sources that cover `registry`. A claim with a digest counts whatever host and repository it
    /// names: runtimes report digests under other names than those that were pulled.
    pub(super) fn new(registry: &Registry, claims: &'a Claims, texts: &'a [Arc<str>]) -> Self {
        let mut found = Self::default();
        let told = claims.sources.iter().flat_map(|source| source.claims().iter().map(move |claim| (source, claim)));
        for ((source, claim), text) in told.zip(texts).filter(|((source, _), _)| source.covers(&registry.name)) {
            let told = SourcedClaim { source: &source.name, claim, text };
            if let Some(digest) = &claim.image.digest {
                found.by_digest.entry(digest).or_default().push(told);
            }
            if let Some(tag) = &claim.image.tag {
                for path in claim.image.repository_paths(registry.host_names()) {
                    found.by_path.entry(path).or_default().entry(tag).or_default().push(told);
                }
            }
            if claim.range().is_some() {
                for path in claim.image.repository_paths(registry.host_names()) {
                    found.ranges.entry(path).or_default().push(told);
                }
            }
        }
        found
    }

    /// Adds the claims as reasons to the tags of a repository, and the records that its tags have drifted from. Returns
    /// the nodes that are claimed by their digest or their configuration's.
    pub(super) fn add_reasons(
        &self,
        registry: &Registry,
        repository: &Repository,
        graph: &Graph<'_>,
        found: &mut ReasonTable,
        drift: &mut Vec<Drift>,
    ) -> Vec<Node> {
        self.add_tag_reasons(registry, repository, graph, found, drift);
        self.add_range_reasons(registry, repository, found);
        self.add_digest_reasons(graph, found)
    }

    fn add_tag_reasons(
        &self,
        registry: &Registry,
        repository: &Repository,
        graph: &Graph<'_>,
        found: &mut ReasonTable,
        drift: &mut Vec<Drift>,
    ) {
        let path = repository.name.as_str();
        let short = path.strip_prefix("library/");
        for by_tag in [Some(path), short].into_iter().flatten().filter_map(|path| self.by_path.get(path)) {
            let names =
                |told: &&SourcedClaim<'a>| told.claim.image.matches_repository(registry.host_names(), &repository.name);
            let mut there = HashSet::new();
            for (position, tag) in (0..).zip(&repository.tags) {
                let Some(told) = by_tag.get(&tag.name) else { continue };
                there.insert(&tag.name);
                for told in told.iter().filter(names) {
                    match (&told.claim.image.digest, &tag.digest) {
                        (Some(recorded), Some(actual))
                            if !is_unchanged(graph, actual, recorded)
                                && !may_contain(repository, graph, actual, recorded) =>
                        {
                            found.add(position, told.reason(ClaimMatch::DriftedTag { recorded: recorded.clone() }));
                            drift.push(told.drift(registry, repository, Some(actual.clone())));
                        }
                        (Some(_), None) => {
                            found.add(position, told.reason(ClaimMatch::Tag));
                            drift.push(told.drift(registry, repository, None));
                        }
                        _ => found.add(position, told.reason(ClaimMatch::Tag)),
                    }
                }
            }
            let gone = by_tag.iter().filter(|(tag, _)| !there.contains(*tag)).flat_map(|(_, told)| told);
            let recorded = gone.filter(|told| told.claim.image.digest.is_some()).filter(names);
            drift.extend(recorded.map(|told| told.drift(registry, repository, None)));
        }
    }

    fn add_range_reasons(&self, registry: &Registry, repository: &Repository, found: &mut ReasonTable) {
        let told = self.ranges_for(registry, repository);
        if told.is_empty() {
            return;
        }
        let tags = (0..).zip(&repository.tags);
        let read: Vec<(u32, TagVersion)> =
            tags.filter_map(|(position, tag)| Some((position, TagVersion::read(tag.name.as_str())?))).collect();
        let versions = || read.iter().map(|(position, version)| (*position, version));
        // Many holders claim the same range.
        let mut picked: HashMap<(&VersionRange, RangeSelection), Vec<u32>> = HashMap::new();
        for told in told {
            let Some((range, ranges)) = told.claim.range() else { continue };
            let tags = picked.entry((&**range, ranges)).or_insert_with(|| range.pick(versions(), ranges));
            for &tag in &*tags {
                found.add(tag, told.reason(ClaimMatch::Range(Arc::clone(range), ranges)));
            }
        }
    }

    /// Returns the claims on ranges of versions in a repository.
    fn ranges_for(&self, registry: &Registry, repository: &Repository) -> Vec<SourcedClaim<'a>> {
        let path = repository.name.as_str();
        let paths = [Some(path), path.strip_prefix("library/")];
        let here = paths.into_iter().flatten().filter_map(|path| self.ranges.get(path)).flatten().copied();
        here.filter(|told| told.claim.image.matches_repository(registry.host_names(), &repository.name)).collect()
    }

    fn add_digest_reasons(&self, graph: &Graph<'_>, found: &mut ReasonTable) -> Vec<Node> {
        let mut claimed = Vec::new();
        if self.by_digest.is_empty() {
            return claimed;
        }
        for node in graph.nodes() {
            let direct = self.by_digest.get(graph.digest(node));
            let config = graph.manifest(node).and_then(|manifest| self.by_digest.get(manifest.config.as_deref()?));
            if direct.is_none() && config.is_none() {
                continue;
            }
            claimed.push(node);
            let inside = ClaimMatch::IndexContains(graph.digest(node).clone());
            let ancestors = graph.claimed_ancestors(node);
            for (told, own, above) in
                [(direct, ClaimMatch::Digest, inside), (config, ClaimMatch::Config, ClaimMatch::Config)]
            {
                let places = std::iter::once((node, &own)).chain(ancestors.iter().map(|&index| (index, &above)));
                for (tag, by) in places.flat_map(|(place, by)| graph.tags(place).map(move |tag| (tag, by))) {
                    for told in told.into_iter().flatten() {
                        found.add(tag, told.reason(by.clone()));
                    }
                }
            }
        }
        claimed
    }

    /// Returns true if a claim may be on content of a repository that is not listed: on a digest that is neither that of
    /// a manifest nor that of a known configuration there.
    pub(super) fn may_name_unlisted(
        &self,
        content: UnlistedContent,
        (registry, repository): (&Registry, &Repository),
        graph: &Graph<'_>,
    ) -> bool {
        let mut configurations: Option<DigestSet<&Digest>> = None;
        let mut is_configuration = |digest: &Digest| {
            let known = || repository.manifests.values().filter_map(|manifest| manifest.config.as_deref()).collect();
            configurations.get_or_insert_with(known).contains(digest)
        };
        let hosts = registry.host_names();
        let named = |told: &SourcedClaim<'_>| told.claim.may_name_unlisted(content, hosts, &repository.name);
        self.by_digest
            .iter()
            .any(|(digest, told)| told.iter().any(named) && graph.node(digest).is_none() && !is_configuration(digest))
    }

    /// Returns the claims on tags of a repository, by name alone, and on digests, in order.
    pub(super) fn matching<'b>(
        &self,
        registry: &Registry,
        repository: &Repository,
        tags: impl Iterator<Item = &'b TagName>,
        digests: impl Iterator<Item = &'b Digest>,
    ) -> Vec<SourcedClaim<'a>> {
        let path = repository.name.as_str();
        let paths = [Some(path), path.strip_prefix("library/")];
        let here: Vec<&ClaimsByTag<'a>> =
            paths.into_iter().flatten().filter_map(|path| self.by_path.get(path)).collect();
        let tags: Vec<&TagName> = tags.collect();
        let named =
            tags.iter().copied().flat_map(|tag| here.iter().filter_map(move |by_tag| by_tag.get(tag))).flatten();
        let named = named.filter(|told| told.claim.image.matches_repository(registry.host_names(), &repository.name));
        let digests = digests.filter_map(|digest| self.by_digest.get(digest)).flatten();
        let mut found: Vec<SourcedClaim<'a>> = named.chain(digests).copied().collect();
        let ranges = self.ranges_for(registry, repository).into_iter();
        found.extend(ranges.filter(|told| would_pick(told.claim, repository, &tags)));
        found.sort_by(|a, b| (a.source, a.claim).cmp(&(b.source, b.claim)));
        found.dedup_by(|a, b| (a.source, a.claim) == (b.source, b.claim));
        found
    }

    /// Adds the records of repositories that the registry no longer has, if its list of repositories is complete. A
    /// record without a host could refer to another registry, so it is ignored.
    pub(super) fn add_missing_repositories<'r>(
        &self,
        registry: &Registry,
        names: impl Iterator<Item = &'r str>,
        drift: &mut Vec<Drift>,
    ) {
        if registry.gaps.iter().any(|gap| gap.target == GapTarget::Catalogue) {
            return;
        }
        let there: HashSet<&str> = names.collect();
        let gone = self.by_path.iter().filter(|(path, _)| !there.contains(*path));
        let gone = gone.flat_map(|(path, by_tag)| by_tag.values().flatten().map(move |told| (path, told)));
        for (path, told) in gone {
            let image = &told.claim.image;
            if let (Some(_), Some(_), Ok(path)) = (&image.host, &image.digest, path.parse()) {
                drift.push(told.drift(registry, &Repository::empty(path), None));
            }
        }
    }
}

/// Returns true if a range would select one of the former tags beside the existing ones of a repository.
fn would_pick(claim: &Claim, repository: &Repository, former: &[&TagName]) -> bool {
    let Some((range, ranges)) = claim.range() else { return false };
    if !former.iter().any(|tag| range.matches(tag.as_str(), Prereleases::InOrder)) {
        return false;
    }
    let there = repository.tags.iter().map(|tag| (false, &tag.name));
    let all = there.chain(former.iter().map(|tag| (true, *tag)));
    let read: Vec<(bool, TagVersion)> =
        all.filter_map(|(former, tag)| Some((former, TagVersion::read(tag.as_str())?))).collect();
    range.pick(read.iter().map(|(former, version)| (*former, version)), ranges).contains(&true)
}

/// Returns true if a tag at `actual` leads to an unread index that may contain the recorded image. A known index is
/// hardly ever inside another one.
fn may_contain(repository: &Repository, graph: &Graph<'_>, actual: &Digest, recorded: &Digest) -> bool {
    let met = repository.manifests.get(recorded).map(Manifest::is_index);
    let listed = || repository.listed_manifest(recorded).map(|row| is_index_type(&row.media_type));
    if met.or_else(listed) != Some(false) {
        return false;
    }
    let (mut seen, mut open) = (HashSet::new(), Vec::from_iter(graph.node(actual)));
    while let Some(node) = open.pop() {
        let unread = graph.manifest(node).and_then(Manifest::unread_kind);
        if unread == Some(UnreadKind::Index) {
            return true;
        }
        open.extend(graph.children(node).filter(|child| seen.insert(*child)));
    }
    false
}

/// Returns true if a tag at `actual` still matches a record of `recorded`: that digest itself, an index with that image
/// in it, or an image with that configuration.
fn is_unchanged(graph: &Graph<'_>, actual: &Digest, recorded: &Digest) -> bool {
    let (Some(tag), recorded_node) = (graph.node(actual), graph.node(recorded)) else { return false };
    let has_config =
        |node: Node| graph.manifest(node).is_some_and(|manifest| manifest.config.as_deref() == Some(recorded));
    actual == recorded || recorded_node.is_some_and(|node| graph.contains(tag, node)) || has_config(tag)
}
