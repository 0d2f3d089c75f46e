//! Drift and orphans: what sources say is used, held against what the registries have.
//!
//! Nothing is decided by it. Where something was not read it says nothing, and a digest that the inventory does not show
//! is asked for before it is called gone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt as _, stream};

use crate::domain::{
    Claim, Claims, Digest, GapAt, Holder, Inventory, Prereleases, Reason, Registry, RegistryName, Repository,
    RepositoryName, SourceName, Tag, TagAt, TagName, VersionRange,
};
use crate::engine::Verdicts;
use crate::registry::RegistryReader;
use crate::report::{FindingKind, FindingView, HolderView};

/// Most digests that one run asks the registries for.
const MOST_ASKED: usize = 500;
/// Questions in flight at once; the registry's own pace holds besides.
const AT_ONCE: usize = 8;

/// The same image used by the same source: one thing to tell, however many hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Used<'a> {
    /// Position of the registry.
    registry: usize,
    repository: &'a str,
    tag: Option<&'a TagName>,
    digest: Option<&'a Digest>,
    range: Option<&'a VersionRange>,
    source: &'a SourceName,
}

type Holders<'a> = BTreeMap<Used<'a>, Vec<&'a Arc<Holder>>>;

/// Which digests are in the registries although the inventory does not show them. One that is not in it was not asked for.
type Asked = BTreeMap<(usize, RepositoryName, Digest), bool>;

/// What was found, warnings first. `whole` says whether all repositories were read, not only some.
pub(super) async fn findings(
    readers: &BTreeMap<RegistryName, Arc<dyn RegistryReader>>,
    inventory: &Inventory,
    claims: &Claims,
    verdicts: &Verdicts,
    whole: bool,
) -> Vec<FindingView> {
    let used = used(inventory, claims, whole);
    let asked = if whole { ask(readers, inventory, &used).await } else { Asked::new() };
    look(inventory, verdicts, &used, &asked)
}

/// Who uses what of the registries that were read.
fn used<'a>(inventory: &'a Inventory, claims: &'a Claims, whole: bool) -> Holders<'a> {
    let mut found = Holders::new();
    for source in &claims.sources {
        for (position, registry) in inventory.registries.iter().enumerate() {
            if !source.covers(&registry.name) {
                continue;
            }
            // What a text was probably meant to be is not missed where it is not.
            for claim in source.claims().iter().filter(|claim| !claim.is_guess()) {
                let Claim { image, holder, .. } = claim;
                // Without a host it may mean another registry.
                if !image.may_name_registry(registry.names()) || image.host.is_none() && inventory.registries.len() > 1
                {
                    continue;
                }
                let paths = || image.paths_in(registry.names());
                let Some(path) = paths().next() else { continue };
                let library = format!("library/{path}");
                let named = |path: &str| {
                    registry.repository(path).filter(|repository| image.names(registry.names(), &repository.name))
                };
                let there = paths().find_map(named).or_else(|| named(&library));
                let unread = !whole || registry.gaps.iter().any(|gap| gap.at == GapAt::Catalogue);
                if there.is_none() && unread {
                    continue;
                }
                let repository = there.map_or(path, |repository| repository.name.as_str());
                let used = Used {
                    registry: position,
                    repository,
                    tag: image.tag.as_ref(),
                    digest: image.digest.as_ref(),
                    range: claim.range().map(|(range, _)| &**range),
                    source: &source.name,
                };
                found.entry(used).or_default().push(holder);
            }
        }
    }
    found
}

/// Asks for the used digests that the inventory does not show.
async fn ask(
    readers: &BTreeMap<RegistryName, Arc<dyn RegistryReader>>,
    inventory: &Inventory,
    used: &Holders<'_>,
) -> Asked {
    let mut open = BTreeSet::new();
    for used in used.keys() {
        let Some(registry) = inventory.registries.get(used.registry) else { continue };
        let (Some(digest), Some(repository)) = (used.digest, registry.repository(used.repository)) else {
            continue;
        };
        if !mentions(repository, digest) {
            open.insert((used.registry, &repository.name, digest));
        }
    }
    let questions = open.into_iter().take(MOST_ASKED).filter_map(|(position, repository, digest)| {
        let reader = Arc::clone(readers.get(&inventory.registries.get(position)?.name)?);
        Some(is_there(reader, position, repository.clone(), digest.clone()))
    });
    let questions: Vec<_> = questions.collect();
    let answers: Vec<_> = stream::iter(questions).buffer_unordered(AT_ONCE).collect().await;
    answers.into_iter().flatten().collect()
}

async fn is_there(
    reader: Arc<dyn RegistryReader>,
    position: usize,
    repository: RepositoryName,
    digest: Digest,
) -> Option<((usize, RepositoryName, Digest), bool)> {
    match reader.has_manifest(&repository, &digest).await {
        Ok(there) => Some(((position, repository, digest), there)),
        Err(error) => {
            tracing::debug!(%repository, %digest, %error, "whether it is still there could not be found out");
            None
        }
    }
}

/// Whether a digest is one of a manifest or a configuration that was read.
fn mentions(repository: &Repository, digest: &Digest) -> bool {
    repository.manifests.contains_key(digest)
        || repository.tags.iter().any(|tag| tag.digest.as_ref() == Some(digest))
        || repository.manifests.values().any(|manifest| manifest.config.as_deref() == Some(digest))
}

/// What leads to a used digest.
enum Leads<'a> {
    /// These tags.
    Tags(&'a [u32]),
    /// No tag, but it is there.
    None,
    /// It is not there.
    Gone,
    /// Nobody could say.
    Unknown,
}

/// One repository, by what its tags lead to.
struct Shown<'a> {
    position: usize,
    repository: &'a Repository,
    tags: HashMap<&'a Digest, Vec<u32>>,
    /// Whether something that could lead to a digest was not read.
    unread: bool,
}

impl<'a> Shown<'a> {
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
        let unread = repository
            .gaps
            .iter()
            .any(|gap| !matches!(gap.at, GapAt::Created(_) | GapAt::Configuration(_) | GapAt::Referrers(_)));
        Self { position, repository, tags, unread }
    }

    fn leads(&self, registry: usize, digest: &Digest, asked: &Asked) -> Leads<'_> {
        if let Some(tags) = self.tags.get(digest) {
            return Leads::Tags(tags);
        }
        if self.unread {
            return Leads::Unknown;
        }
        match self.repository.manifests.get(digest) {
            // What refers to something else is not meant to have a tag.
            Some(manifest) if manifest.subject.is_some() => Leads::Unknown,
            Some(_) => Leads::None,
            None => match asked.get(&(registry, self.repository.name.clone(), digest.clone())) {
                Some(true) => Leads::None,
                Some(false) => Leads::Gone,
                None => Leads::Unknown,
            },
        }
    }
}

fn look(inventory: &Inventory, verdicts: &Verdicts, used: &Holders<'_>, asked: &Asked) -> Vec<FindingView> {
    let mut found: Vec<FindingView> = Vec::new();
    let mut drifted: BTreeMap<Used<'_>, (&Digest, Vec<&Arc<Holder>>)> = BTreeMap::new();
    for drift in &verdicts.drift {
        let position = inventory.registries.iter().position(|registry| registry.name == drift.registry);
        if let (Some(registry), Some(actual)) = (position, &drift.actual) {
            let (tag, digest) = (drift.reference.tag.as_ref(), drift.reference.digest.as_ref());
            let repository = drift.repository.as_str();
            let used = Used { registry, repository, tag, digest, range: None, source: &drift.source };
            drifted.entry(used).or_insert((actual, Vec::new())).1.push(&drift.holder);
        }
    }
    for (used, (actual, holders)) in &drifted {
        if let Some(registry) = inventory.registries.get(used.registry) {
            let found_there = raw(registry, used, used.tag, Some(actual), holders);
            found.push(FindingView::worded(FindingKind::Drift, found_there));
        }
    }
    let mut shown: Option<(usize, Option<Shown<'_>>)> = None;
    let mut last: Option<(usize, &str)> = None;
    for (used, holders) in used {
        let Some(registry) = inventory.registries.get(used.registry) else { continue };
        // The uses come repository by repository.
        if last.replace((used.registry, used.repository)) != Some((used.registry, used.repository)) {
            let at = registry.repositories.binary_search_by(|found| found.name.as_str().cmp(used.repository)).ok();
            let there = at.and_then(|at| Some(Shown::new(at, registry.repositories.get(at)?)));
            shown = Some((used.registry, there));
        }
        let view = |kind, tag: Option<&TagName>| FindingView::worded(kind, raw(registry, used, tag, None, holders));
        let Some((_, Some(shown))) = &shown else {
            let kind = if used.range.is_some() { FindingKind::RangeEmpty } else { FindingKind::ImageGone };
            found.push(view(kind, used.tag));
            continue;
        };
        if let Some(range) = used.range {
            let inside = |tag: &Tag| range.matches(tag.name.as_str(), Prereleases::InOrder);
            if !shown.unread && !shown.repository.tags.iter().any(inside) {
                found.push(view(FindingKind::RangeEmpty, None));
            }
            continue;
        }
        let moved = drifted.contains_key(used);
        let tag = used.tag.map(|name| shown.repository.tag(name.as_str()));
        let (kind, about) = match (tag, used.digest) {
            (Some(None), None) if !shown.unread => (FindingKind::ImageGone, used.tag),
            // A tag that is where it should be.
            (Some(Some(_)), _) if !moved => continue,
            (_, None) => continue,
            (tag, Some(digest)) => match shown.leads(used.registry, digest, asked) {
                Leads::Gone => (FindingKind::ImageGone, used.tag),
                Leads::None => (FindingKind::NoTagLeft, used.tag),
                Leads::Tags(tags) => {
                    if tag == Some(None) && !shown.unread {
                        found.push(view(FindingKind::TagGone, used.tag));
                    }
                    match last_tag(verdicts, used, shown, tags) {
                        Some(tag) => (FindingKind::LastTag, Some(tag)),
                        None => continue,
                    }
                }
                Leads::Unknown => continue,
            },
        };
        found.push(view(kind, about));
    }
    let warnings_first = |found: &FindingView| found.severity != "warning";
    found.sort_by(|a, b| (warnings_first(a), a).cmp(&(warnings_first(b), b)));
    found.dedup();
    found
}

/// The one tag that leads to a digest, where nothing but the claim on the digest keeps it.
fn last_tag<'a>(verdicts: &Verdicts, used: &Used<'_>, shown: &Shown<'a>, tags: &[u32]) -> Option<&'a TagName> {
    let &[tag] = tags else { return None };
    let at = TagAt { registry: number(used.registry)?, repository: number(shown.position)?, tag };
    let reasons = &verdicts.at(at)?.reasons;
    let let_go = reasons.iter().any(|reason| matches!(reason, Reason::LetGo { .. }));
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

fn raw(
    registry: &Registry,
    used: &Used<'_>,
    tag: Option<&TagName>,
    actual: Option<&Digest>,
    holders: &[&Arc<Holder>],
) -> FindingView {
    let first = holders.first().map(|holder| HolderView::from(&***holder).words()).unwrap_or_default();
    let others = match holders.len() {
        0 | 1 => String::new(),
        number => format!(" and {} more", number - 1),
    };
    FindingView {
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
