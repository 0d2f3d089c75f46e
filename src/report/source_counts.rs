//! Sources in numbers: the tags that their claims and mentions protect, and those that their unresolved references keep
//! undecided.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::{HolderView, UndecidedView};
use crate::domain::{
    Claims, Holder, ImageNames, Inventory, PathPattern, Reason, SourceName, SourceOutcome, UnresolvedIndex,
    UnresolvedReason, UnresolvedReference, Verdict,
};
use crate::engine::Verdicts;

/// A repository by its position: that of the registry, and its own.
pub(super) type RepositoryAt = (u32, u32);

/// One source in numbers.
#[derive(Debug, Default)]
pub(super) struct SourceCounts {
    /// The tags that its claims and mentions protect.
    pub(super) protects: u64,
    /// The words that protect tags which it does not claim.
    pub(super) mentions: u64,
    /// The references that leave a tag open.
    pub(super) unresolved: u64,
    pub(super) undecided: Option<UndecidedView>,
}

/// The repositories that a reference without a tag means.
#[derive(Debug, Default)]
pub(super) struct MatchedRepositories {
    /// Those in which it leaves open which image it means.
    pub(super) ambiguous_in: Vec<RepositoryAt>,
    /// True where a word beside it names a tag of one.
    pub(super) is_resolved: bool,
}

/// Counts for every source.
pub(super) fn source_counts<'a>(
    inventory: &Inventory,
    claims: &'a Claims,
    verdicts: &'a Verdicts,
) -> BTreeMap<&'a SourceName, SourceCounts> {
    let mut found: BTreeMap<&SourceName, SourceVerdicts<'a>> = BTreeMap::new();
    for verdict in &verdicts.tags {
        let mut protecting: BTreeSet<&SourceName> = BTreeSet::new();
        for reason in &verdict.reasons {
            match reason {
                Reason::Claimed(claimed) => drop(protecting.insert(&claimed.source)),
                Reason::Mentioned(mentioned) => {
                    protecting.insert(&mentioned.source);
                    let words = &mut found.entry(&mentioned.source).or_default().words;
                    words.insert((&*mentioned.holder, &*mentioned.text));
                }
                Reason::UnresolvedReference(one) if verdict.verdict == Verdict::Undecided => {
                    let open = &mut found.entry(&one.source).or_default().open;
                    let open =
                        open.get_or_insert_with(|| UndecidedTags { first: one, tags: 0, places: BTreeSet::new() });
                    open.tags += 1;
                    open.places.insert((verdict.position.registry, verdict.position.repository));
                }
                _ => {}
            }
        }
        for source in protecting {
            found.entry(source).or_default().protects += 1;
        }
    }
    let of = |source: &'a SourceOutcome| {
        let tally = found.remove(&source.name).unwrap_or_default();
        let open =
            matched_repositories(inventory, source).iter().filter(|meaning| !meaning.ambiguous_in.is_empty()).count();
        let counts = SourceCounts {
            protects: tally.protects,
            mentions: tally.words.len() as u64,
            unresolved: open as u64,
            undecided: tally.open.as_ref().map(undecided),
        };
        (&source.name, counts)
    };
    claims.sources.iter().map(of).collect()
}

/// Everything that verdicts say of one source.
#[derive(Default)]
struct SourceVerdicts<'a> {
    protects: u64,
    words: BTreeSet<(&'a Holder, &'a str)>,
    open: Option<UndecidedTags<'a>>,
}

/// The tags that unresolved references keep undecided.
struct UndecidedTags<'a> {
    first: &'a UnresolvedReason,
    tags: u64,
    places: BTreeSet<RepositoryAt>,
}

fn undecided(open: &UndecidedTags<'_>) -> UndecidedView {
    UndecidedView {
        tags: open.tags,
        repositories: open.places.len() as u64,
        text: open.first.text.to_string(),
        place: HolderView::from(&*open.first.holder).describe(),
    }
}

/// Finds the repositories that each unresolved reference of a source means, in the order of the references.
pub(super) fn matched_repositories(inventory: &Inventory, source: &SourceOutcome) -> Vec<Rc<MatchedRepositories>> {
    type Key<'k> = (&'k Option<String>, &'k PathPattern, &'k [Box<str>]);
    // The same text stands in many files.
    let mut known: HashMap<Key<'_>, usize> = HashMap::new();
    let mut distinct = Vec::new();
    let mut numbers = Vec::new();
    for one in source.unresolved() {
        let UnresolvedReference { host, path, adjacent_words: beside, .. } = one;
        let number = *known.entry((host, path, &**beside)).or_insert(distinct.len());
        if number == distinct.len() {
            distinct.push((number, one));
        }
        numbers.push(number);
    }
    let found: Vec<Rc<MatchedRepositories>> =
        distinct_matches(inventory, source, distinct).into_iter().map(Rc::new).collect();
    numbers.into_iter().map(|number| Rc::clone(&found[number])).collect()
}

/// Finds the repositories that numbered references of a source mean, in the order of the numbers.
fn distinct_matches(
    inventory: &Inventory,
    source: &SourceOutcome,
    references: Vec<(usize, &UnresolvedReference)>,
) -> Vec<MatchedRepositories> {
    let mut found: Vec<MatchedRepositories> = references.iter().map(|_| MatchedRepositories::default()).collect();
    let index = UnresolvedIndex::new(references);
    for (at, registry) in (0..).zip(&inventory.registries).filter(|(_, registry)| source.covers(&registry.name)) {
        for (place, repository) in (0..).zip(&registry.repositories) {
            let images = ImageNames::of(repository);
            for &(number, one) in index.matching(registry.host_names(), &repository.name) {
                if one.is_open(&images) {
                    found[number].ambiguous_in.push((at, place));
                } else {
                    found[number].is_resolved = true;
                }
            }
        }
    }
    found
}
