//! Drift and orphans: the sources' claims compared with the registries' contents.
//!
//! No decision depends on it. It reports nothing about what was not read, and looks up a digest that the inventory does
//! not show before reporting it as missing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt as _, stream};

use crate::domain::{
    Claim, Claims, Digest, GapTarget, Holder, Inventory, Manifest, Prereleases, Reason, Registry, Repository,
    RepositoryName, SourceName, Tag, TagName, TagPosition, UnreadKind, VersionRange, is_index_type,
};
use crate::engine::Verdicts;
use crate::registry::{RegistryHead, RegistryReader};
use crate::report::{DriftKind, DriftView, HolderView};

/// Most digests that one run looks up in the registries.
const MAX_LOOKUPS: usize = 500;
/// Lookups in flight at once; the registry's own rate limit applies as well.
const MAX_CONCURRENT_LOOKUPS: usize = 8;

/// The same image used by the same source: one finding, however many holders it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct UsedImage<'a> {
    /// Position of the registry.
    registry: usize,
    repository: &'a str,
    tag: Option<&'a TagName>,
    digest: Option<&'a Digest>,
    range: Option<&'a VersionRange>,
    source: &'a SourceName,
}

type Holders<'a> = BTreeMap<UsedImage<'a>, Vec<&'a Arc<Holder>>>;

/// Digests that are not in the inventory, with true if the registry has them. Digests without an entry were not looked
/// up.
type DigestLookups = BTreeMap<(usize, RepositoryName, Digest), bool>;

/// The images that sources use, by repository, to be compared with one repository after another.
pub(super) struct UsedImages<'a> {
    holders: Holders<'a>,
    /// The number of lookups left.
    lookups_left: usize,
}

impl<'a> UsedImages<'a> {
    /// Collects the images that sources use from registries with these repositories. `whole` is true if these are all
    /// repositories.
    pub(super) fn new(heads: &'a [RegistryHead], claims: &'a Claims, whole: bool) -> Self {
        let mut holders = Holders::new();
        for source in &claims.sources {
            for (position, RegistryHead { registry, names }) in heads.iter().enumerate() {
                if !source.covers(&registry.name) {
                    continue;
                }
                // A guess that does not exist is not reported as missing.
                for claim in source.claims().iter().filter(|claim| !claim.is_guess()) {
                    let Claim { image, holder, .. } = claim;
                    // Without a host it may refer to another registry.
                    if !image.may_match_registry(registry.host_names()) || image.host.is_none() && heads.len() > 1 {
                        continue;
                    }
                    let paths = || image.repository_paths(registry.host_names());
                    let Some(path) = paths().next() else { continue };
                    let library = format!("library/{path}");
                    let named = |path: &str| {
                        let found = names.binary_search_by(|name| name.as_str().cmp(path)).ok()?;
                        names.get(found).filter(|name| image.matches_repository(registry.host_names(), name))
                    };
                    let there = paths().find_map(named).or_else(|| named(&library));
                    let unread = !whole || registry.gaps.iter().any(|gap| gap.target == GapTarget::Catalogue);
                    if there.is_none() && unread {
                        continue;
                    }
                    let used = UsedImage {
                        registry: position,
                        repository: there.map_or(path, RepositoryName::as_str),
                        tag: image.tag.as_ref(),
                        digest: image.digest.as_ref(),
                        range: claim.range().map(|(range, _)| &**range),
                        source: &source.name,
                    };
                    holders.entry(used).or_default().push(holder);
                }
            }
        }
        Self { holders, lookups_left: if whole { MAX_LOOKUPS } else { 0 } }
    }

    /// Returns the findings in one repository, decided by itself: `verdicts` have its position in a registry with no
    /// other repository.
    pub(super) async fn find_in(
        &mut self,
        (position, head): (usize, &RegistryHead),
        reader: &Arc<dyn RegistryReader>,
        repository: Repository,
        verdicts: &Verdicts,
    ) -> (Repository, Vec<DriftView>) {
        let here = |used: &&UsedImage<'_>| used.registry == position && used.repository == repository.name.as_str();
        let mut used = Holders::new();
        let first = UsedImage {
            registry: position,
            repository: repository.name.as_str(),
            tag: None,
            digest: None,
            range: None,
            source: match self.holders.keys().next() {
                Some(first) => first.source,
                None if verdicts.drift.is_empty() => return (repository, Vec::new()),
                None => &verdicts.drift[0].source,
            },
        };
        // Keys are ordered by registry and repository.
        let from = UsedImage { source: first.source, ..first };
        for (one, holders) in
            self.holders.iter().skip_while(|(one, _)| (one.registry, one.repository) < (from.registry, from.repository))
        {
            if !here(&one) {
                break;
            }
            used.insert(UsedImage { registry: 0, ..*one }, holders.clone());
        }
        if used.is_empty() && verdicts.drift.is_empty() {
            drop(used);
            return (repository, Vec::new());
        }
        let registry = Registry { repositories: vec![repository], ..head.registry.clone() };
        let mut inventory = Inventory { registries: vec![registry] };
        let asked = look_up_digests(reader, &inventory, &used, &mut self.lookups_left).await;
        let found = detect_drift(&inventory, verdicts, &used, &asked);
        drop(used);
        let repository = inventory.registries.remove(0).repositories.remove(0);
        (repository, found)
    }

    /// Adds the findings about missing repositories, and returns all in order, warnings first.
    pub(super) fn finish(&self, heads: &[RegistryHead], mut found: Vec<DriftView>) -> Vec<DriftView> {
        let missing = |used: &UsedImage<'_>| {
            let names = heads.get(used.registry).map(|head| &head.names);
            names.is_some_and(|names| names.binary_search_by(|name| name.as_str().cmp(used.repository)).is_err())
        };
        for (used, holders) in self.holders.iter().filter(|(used, _)| missing(used)) {
            let Some(head) = heads.get(used.registry) else { continue };
            let kind = if used.range.is_some() { DriftKind::NoVersionInRange } else { DriftKind::ImageMissing };
            found.push(DriftView::with_message(kind, drift_view(&head.registry, used, used.tag, None, holders)));
        }
        sort_findings(&mut found);
        found
    }
}

fn sort_findings(found: &mut Vec<DriftView>) {
    let warnings_first = |found: &DriftView| found.severity != "warning";
    found.sort_by(|a, b| (warnings_first(a), a).cmp(&(warnings_first(b), b)));
    found.dedup();
}

/// Looks up the used digests that the inventory does not show, within the remaining number.
async fn look_up_digests(
    reader: &Arc<dyn RegistryReader>,
    inventory: &Inventory,
    used: &Holders<'_>,
    lookups_left: &mut usize,
) -> DigestLookups {
    let mut open = BTreeSet::new();
    for used in used.keys() {
        let Some(registry) = inventory.registries.get(used.registry) else { continue };
        let (Some(digest), Some(repository)) = (used.digest, registry.repository(used.repository)) else {
            continue;
        };
        if !contains_digest(repository, digest) {
            open.insert((used.registry, &repository.name, digest));
        }
    }
    let questions = open.into_iter().take(*lookups_left).map(|(position, repository, digest)| {
        look_up_digest(Arc::clone(reader), position, repository.clone(), digest.clone())
    });
    let questions: Vec<_> = questions.collect();
    *lookups_left -= questions.len();
    let answers: Vec<_> = stream::iter(questions).buffer_unordered(MAX_CONCURRENT_LOOKUPS).collect().await;
    answers.into_iter().flatten().collect()
}

async fn look_up_digest(
    reader: Arc<dyn RegistryReader>,
    position: usize,
    repository: RepositoryName,
    digest: Digest,
) -> Option<((usize, RepositoryName, Digest), bool)> {
    match reader.has_manifest(&repository, &digest).await {
        Ok(there) => Some(((position, repository, digest), there)),
        Err(error) => {
            tracing::debug!(%repository, %digest, error = %error.chain(), "whether it is still there could not be found out");
            None
        }
    }
}

/// Returns true if a digest is that of a manifest or a configuration that was read.
fn contains_digest(repository: &Repository, digest: &Digest) -> bool {
    repository.manifests.contains_key(digest)
        || repository.listed_manifest(digest).is_some()
        || repository.tags.iter().any(|tag| tag.digest.as_ref() == Some(digest))
        || repository.manifests.values().any(|manifest| manifest.config.as_deref() == Some(digest))
}

/// The path to a used digest.
enum DigestPath<'a> {
    /// These tags.
    Tags(&'a [u32]),
    /// No tag, but it exists.
    Untagged,
    /// It does not exist.
    Missing,
    /// It could not be determined.
    Unknown,
}

/// One repository, indexed by the digests that its tags lead to.
struct RepositoryIndex<'a> {
    position: usize,
    repository: &'a Repository,
    tags: HashMap<&'a Digest, Vec<u32>>,
    /// True if something that could lead to a digest was not read.
    incomplete: bool,
    /// True if it has indexes that no decision needed, and that may lead to any image.
    has_unread_indexes: bool,
    /// True if some of its manifests may contain others that it does not list.
    has_unlisted: bool,
}

impl<'a> RepositoryIndex<'a> {
    fn new(position: usize, repository: &'a Repository) -> Self {
        let mut tags: HashMap<&Digest, Vec<u32>> = HashMap::new();
        for (at, tag) in (0..).zip(&repository.tags) {
            let mut open: Vec<&Digest> = tag.digest.iter().collect();
            let mut seen = HashSet::new();
            while let Some(digest) = open.pop() {
                if !seen.insert(digest) {
                    continue;
                }
                tags.entry(digest).or_default().push(at);
                if let Some(manifest) = repository.manifests.get(digest) {
                    open.extend(manifest.children.iter().chain(manifest.config.as_deref()));
                }
            }
        }
        let unread = repository.gaps.iter().any(|gap| {
            !matches!(gap.target, GapTarget::CreationTime(_) | GapTarget::Configuration(_) | GapTarget::Referrers(_))
        });
        let has_unread_indexes = repository.unread().any(|(_, kind)| kind == UnreadKind::Index);
        let has_unlisted = repository.manifests.values().any(|one| repository.unlisted_content(one).is_some());
        Self { position, repository, tags, incomplete: unread, has_unread_indexes, has_unlisted }
    }

    fn path_to(&self, registry: usize, digest: &Digest, asked: &DigestLookups) -> DigestPath<'_> {
        let hidden = self.may_be_hidden(digest);
        if let Some(tags) = self.tags.get(digest).filter(|_| !hidden) {
            return DigestPath::Tags(tags);
        }
        if self.incomplete || hidden {
            return DigestPath::Unknown;
        }
        match self.repository.manifests.get(digest) {
            // A manifest with a subject is not supposed to have a tag.
            Some(manifest) if manifest.subject.is_some() => DigestPath::Unknown,
            Some(_) => DigestPath::Untagged,
            None if self.repository.listed_manifest(digest).is_some() => DigestPath::Untagged,
            None => match asked.get(&(registry, self.repository.name.clone(), digest.clone())) {
                Some(true) => DigestPath::Untagged,
                Some(false) => DigestPath::Missing,
                None => DigestPath::Unknown,
            },
        }
    }
}

impl RepositoryIndex<'_> {
    /// Returns true if an unread index may lead to a manifest. An index is rarely inside another one, but an image
    /// often is.
    fn may_be_hidden(&self, digest: &Digest) -> bool {
        let met = self.repository.manifests.get(digest).map(Manifest::is_index);
        let listed = || self.repository.listed_manifest(digest).map(|row| is_index_type(&row.media_type));
        match met.or_else(listed) {
            Some(is_index) => self.has_unread_indexes && !is_index,
            None => self.has_unlisted,
        }
    }
}

fn detect_drift(
    inventory: &Inventory,
    verdicts: &Verdicts,
    used: &Holders<'_>,
    asked: &DigestLookups,
) -> Vec<DriftView> {
    let mut found: Vec<DriftView> = Vec::new();
    let mut drifted: BTreeMap<UsedImage<'_>, (&Digest, Vec<&Arc<Holder>>)> = BTreeMap::new();
    for drift in &verdicts.drift {
        let position = inventory.registries.iter().position(|registry| registry.name == drift.registry);
        if let (Some(registry), Some(actual)) = (position, &drift.actual) {
            let (tag, digest) = (drift.reference.tag.as_ref(), drift.reference.digest.as_ref());
            let repository = drift.repository.as_str();
            let used = UsedImage { registry, repository, tag, digest, range: None, source: &drift.source };
            drifted.entry(used).or_insert((actual, Vec::new())).1.push(&drift.holder);
        }
    }
    for (used, (actual, holders)) in &drifted {
        if let Some(registry) = inventory.registries.get(used.registry) {
            let found_there = drift_view(registry, used, used.tag, Some(actual), holders);
            found.push(DriftView::with_message(DriftKind::DigestChanged, found_there));
        }
    }
    let mut shown: Option<(usize, Option<RepositoryIndex<'_>>)> = None;
    let mut last: Option<(usize, &str)> = None;
    for (used, holders) in used {
        let Some(registry) = inventory.registries.get(used.registry) else { continue };
        // Uses are sorted by repository.
        if last.replace((used.registry, used.repository)) != Some((used.registry, used.repository)) {
            let at = registry.repositories.binary_search_by(|found| found.name.as_str().cmp(used.repository)).ok();
            let there = at.and_then(|at| Some(RepositoryIndex::new(at, registry.repositories.get(at)?)));
            shown = Some((used.registry, there));
        }
        let view =
            |kind, tag: Option<&TagName>| DriftView::with_message(kind, drift_view(registry, used, tag, None, holders));
        let Some((_, Some(shown))) = &shown else {
            let kind = if used.range.is_some() { DriftKind::NoVersionInRange } else { DriftKind::ImageMissing };
            found.push(view(kind, used.tag));
            continue;
        };
        if let Some(range) = used.range {
            let inside = |tag: &Tag| range.matches(tag.name.as_str(), Prereleases::InOrder);
            if !shown.incomplete && !shown.repository.tags.iter().any(inside) {
                found.push(view(DriftKind::NoVersionInRange, None));
            }
            continue;
        }
        let moved = drifted.contains_key(used);
        let tag = used.tag.map(|name| shown.repository.tag(name.as_str()));
        let (kind, about) = match (tag, used.digest) {
            (Some(None), None) if !shown.incomplete => (DriftKind::ImageMissing, used.tag),
            // A tag that is at its expected digest.
            (Some(Some(_)), _) if !moved => continue,
            (_, None) => continue,
            (tag, Some(digest)) => match shown.path_to(used.registry, digest, asked) {
                DigestPath::Missing => (DriftKind::ImageMissing, used.tag),
                DigestPath::Untagged => (DriftKind::Untagged, used.tag),
                DigestPath::Tags(tags) => {
                    if tag == Some(None) && !shown.incomplete {
                        found.push(view(DriftKind::TagMissing, used.tag));
                    }
                    match last_tag(verdicts, used, shown, tags) {
                        Some(tag) => (DriftKind::LastTag, Some(tag)),
                        None => continue,
                    }
                }
                DigestPath::Unknown => continue,
            },
        };
        found.push(view(kind, about));
    }
    sort_findings(&mut found);
    found
}

/// Returns the one tag that leads to a digest, if nothing but the claim on the digest retains it.
fn last_tag<'a>(
    verdicts: &Verdicts,
    used: &UsedImage<'_>,
    shown: &RepositoryIndex<'a>,
    tags: &[u32],
) -> Option<&'a TagName> {
    let &[tag] = tags else { return None };
    let at = TagPosition { registry: number(used.registry)?, repository: number(shown.position)?, tag };
    let reasons = &verdicts.at(at)?.reasons;
    let let_go = reasons.iter().any(|reason| matches!(reason, Reason::NotKept { .. }));
    let by_name = |reason: &Reason| match reason {
        Reason::Claimed(claimed) => matches!(claimed.by, crate::domain::ClaimMatch::Tag),
        Reason::Mentioned(_) => true,
        _ => false,
    };
    let named = reasons.iter().any(by_name);
    let tag = shown.repository.tags.get(usize::try_from(tag).ok()?)?;
    (let_go && !named).then_some(&tag.name)
}

fn number(position: usize) -> Option<u32> {
    u32::try_from(position).ok()
}

fn drift_view(
    registry: &Registry,
    used: &UsedImage<'_>,
    tag: Option<&TagName>,
    actual: Option<&Digest>,
    holders: &[&Arc<Holder>],
) -> DriftView {
    let first = holders.first().map(|holder| HolderView::from(&***holder).describe()).unwrap_or_default();
    let others = match holders.len() {
        0 | 1 => String::new(),
        number => format!(" and {} more", number - 1),
    };
    DriftView {
        severity: String::new(),
        kind: String::new(),
        registry: registry.name.to_string(),
        repository: used.repository.to_string(),
        tag: tag.map(ToString::to_string),
        digest: used.digest.map(ToString::to_string),
        range: used.range.map(ToString::to_string),
        actual: actual.map(ToString::to_string),
        source: used.source.to_string(),
        holder: first + &others,
        message: String::new(),
    }
}
