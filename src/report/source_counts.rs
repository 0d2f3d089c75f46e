//! Counts of sources: the tags that their claims and mentions protect, and those that their unresolved references keep
//! undecided.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use super::{HolderView, UndecidedView};
use crate::domain::{
    Claims, ImageNames, Inventory, MentionReason, PathPattern, Reason, Registry, Repository, SourceName, SourceOutcome,
    TagVerdict, UnresolvedIndex, UnresolvedReason, UnresolvedReference, Verdict,
};

/// A repository by the positions of its registry and itself.
pub(super) type RepositoryAt = (u32, u32);

/// One source in numbers.
#[derive(Debug, Default)]
pub(super) struct SourceCounts {
    /// The tags that its claims and mentions protect.
    pub(super) protects: u64,
    /// The words that protect tags which it does not claim.
    pub(super) mentions: u64,
    /// The references that do not identify a tag.
    pub(super) unresolved: u64,
    pub(super) undecided: Option<UndecidedView>,
}

/// One source in one repository, in numbers.
#[derive(Debug, Default)]
pub(super) struct RepositorySource {
    /// The position of the source.
    source: u32,
    /// The tags that its claims and mentions protect.
    protects: u64,
    /// Hashes of the distinct words that protect tags. The words themselves, with their places, take far more memory.
    words: Box<[u64]>,
    /// The numbers of the references that do not identify a tag.
    ambiguous: Box<[u32]>,
    /// The tags that its references keep undecided, and the first of those references.
    undecided: Option<(u64, Arc<UnresolvedReason>)>,
}

/// Counts for all sources, one repository after another.
#[derive(Debug)]
pub(super) struct SourceCounter<'a> {
    /// The sources by position.
    references: Vec<SourceReferences<'a>>,
    positions: HashMap<&'a SourceName, u32>,
}

impl<'a> SourceCounter<'a> {
    pub(super) fn new(claims: &'a Claims) -> Self {
        Self {
            references: claims.sources.iter().map(SourceReferences::new).collect(),
            positions: claims.sources.iter().map(|source| &source.name).zip(0..).collect(),
        }
    }

    /// Counts in one repository. Sources without an effect on it are left out.
    pub(super) fn count(
        &self,
        registry: &Registry,
        repository: &Repository,
        verdicts: &[TagVerdict],
    ) -> Vec<RepositorySource> {
        let mut found = self.count_ambiguous(registry, repository);
        let mut words: Vec<Vec<u64>> = vec![Vec::new(); found.len()];
        let mut protecting: Vec<usize> = Vec::new();
        for verdict in verdicts {
            protecting.clear();
            for reason in &verdict.reasons {
                match reason {
                    Reason::Claimed(claimed) => protecting.extend(self.position(&claimed.source)),
                    Reason::Mentioned(mentioned) => {
                        if let Some(source) = self.position(&mentioned.source) {
                            protecting.push(source);
                            words[source].push(word_hash(mentioned));
                        }
                    }
                    Reason::UnresolvedReference(one) if verdict.verdict == Verdict::Undecided => {
                        if let Some(source) = self.position(&one.source) {
                            let (tags, _) = found[source].undecided.get_or_insert_with(|| (0, Arc::clone(one)));
                            *tags += 1;
                        }
                    }
                    _ => {}
                }
            }
            protecting.sort_unstable();
            protecting.dedup();
            for &source in &protecting {
                found[source].protects += 1;
            }
        }
        for (source, mut words) in found.iter_mut().zip(words) {
            words.sort_unstable();
            words.dedup();
            source.words = words.into();
        }
        found.retain(|source| source.protects > 0 || !source.ambiguous.is_empty() || source.undecided.is_some());
        found
    }

    /// Returns all sources by position, with the references that do not identify an image of a repository.
    fn count_ambiguous(&self, registry: &Registry, repository: &Repository) -> Vec<RepositorySource> {
        let images = ImageNames::of(repository);
        let of_source = |(source, references): (u32, &SourceReferences<'_>)| {
            let matching = references.matching(registry, repository, &images).into_iter();
            let ambiguous = matching.filter(|(_, is_open)| *is_open).map(|(number, _)| number).collect();
            RepositorySource { source, ambiguous, ..RepositorySource::default() }
        };
        (0..).zip(&self.references).map(of_source).collect()
    }

    fn position(&self, source: &SourceName) -> Option<usize> {
        self.positions.get(source).map(|position| *position as usize)
    }

    /// Sums the counts of repositories, given in the order of the plan.
    pub(super) fn totals<'c>(
        &self,
        repositories: impl Iterator<Item = &'c [RepositorySource]>,
    ) -> BTreeMap<&'a SourceName, SourceCounts> {
        let mut totals: Vec<SourceTotal<'_>> = self.references.iter().map(SourceTotal::new).collect();
        for counts in repositories.flatten() {
            if let Some(total) = totals.get_mut(counts.source as usize) {
                total.add(counts);
            }
        }
        let references = self.references.iter();
        references.zip(totals).map(|(of_source, total)| (&of_source.source.name, total.counts(of_source))).collect()
    }
}

/// Returns the hash of a word at its place.
fn word_hash(mentioned: &MentionReason) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&*mentioned.holder, &*mentioned.text).hash(&mut hasher);
    hasher.finish()
}

/// One source in all repositories.
struct SourceTotal<'c> {
    protects: u64,
    words: Vec<u64>,
    /// True for each reference, by number, that does not identify a tag.
    is_ambiguous: Vec<bool>,
    undecided: Option<UndecidedTags<'c>>,
}

/// The tags that unresolved references keep undecided.
struct UndecidedTags<'c> {
    first: &'c UnresolvedReason,
    tags: u64,
    repositories: u64,
}

impl<'c> SourceTotal<'c> {
    fn new(references: &SourceReferences<'_>) -> Self {
        let is_ambiguous = vec![false; references.distinct as usize];
        Self { protects: 0, words: Vec::new(), is_ambiguous, undecided: None }
    }

    fn add(&mut self, counts: &'c RepositorySource) {
        self.protects += counts.protects;
        self.words.extend(&counts.words);
        for &number in &counts.ambiguous {
            self.is_ambiguous[number as usize] = true;
        }
        if let Some((tags, first)) = &counts.undecided {
            let total = self.undecided.get_or_insert(UndecidedTags { first, tags: 0, repositories: 0 });
            total.tags += tags;
            total.repositories += 1;
        }
    }

    fn counts(mut self, references: &SourceReferences<'_>) -> SourceCounts {
        self.words.sort_unstable();
        self.words.dedup();
        let ambiguous = references.numbers.iter().filter(|number| self.is_ambiguous[**number as usize]);
        SourceCounts {
            protects: self.protects,
            mentions: self.words.len() as u64,
            unresolved: ambiguous.count() as u64,
            undecided: self.undecided.as_ref().map(undecided),
        }
    }
}

fn undecided(open: &UndecidedTags<'_>) -> UndecidedView {
    UndecidedView {
        tags: open.tags,
        repositories: open.repositories,
        text: open.first.text.to_string(),
        place: HolderView::from(&*open.first.holder).describe(),
    }
}

/// The unresolved references of one source, indexed by their target.
#[derive(Debug)]
struct SourceReferences<'a> {
    source: &'a SourceOutcome,
    /// The number of each reference. Equal references share one: the same text occurs in many files.
    numbers: Vec<u32>,
    /// The number of distinct references.
    distinct: u32,
    index: UnresolvedIndex<'a, u32>,
}

impl<'a> SourceReferences<'a> {
    fn new(source: &'a SourceOutcome) -> Self {
        type Key<'k> = (&'k Option<String>, &'k PathPattern, &'k [Box<str>]);
        let mut known: HashMap<Key<'_>, u32> = HashMap::new();
        let mut distinct = 0;
        let mut numbered = Vec::new();
        let mut numbers = Vec::new();
        for one in source.unresolved() {
            let UnresolvedReference { host, path, adjacent_words: beside, .. } = one;
            let number = *known.entry((host, path, &**beside)).or_insert(distinct);
            if number == distinct {
                numbered.push((number, one));
                distinct += 1;
            }
            numbers.push(number);
        }
        Self { source, numbers, distinct, index: UnresolvedIndex::new(numbered) }
    }

    /// Returns the numbers of the references that may refer to a repository, each with true if it does not identify an
    /// image.
    fn matching(&self, registry: &Registry, repository: &Repository, images: &ImageNames<'_>) -> Vec<(u32, bool)> {
        if self.numbers.is_empty() || !self.source.covers(&registry.name) {
            return Vec::new();
        }
        let matching = self.index.matching(registry.host_names(), &repository.name).into_iter();
        matching.map(|(number, one)| (*number, one.is_open(images))).collect()
    }
}

/// The repositories that a reference without a tag refers to.
#[derive(Debug, Default)]
pub(super) struct MatchedRepositories {
    /// The repositories in which it does not identify an image.
    pub(super) ambiguous_in: Vec<RepositoryAt>,
    /// True if an adjacent word names a tag of one.
    pub(super) is_resolved: bool,
}

/// Finds the repositories that each unresolved reference of a source refers to, in the order of the references.
pub(super) fn matched_repositories(inventory: &Inventory, source: &SourceOutcome) -> Vec<Rc<MatchedRepositories>> {
    let references = SourceReferences::new(source);
    let mut found: Vec<MatchedRepositories> =
        (0..references.distinct).map(|_| MatchedRepositories::default()).collect();
    for (at, registry) in (0..).zip(&inventory.registries) {
        for (place, repository) in (0..).zip(&registry.repositories) {
            for (number, is_open) in references.matching(registry, repository, &ImageNames::of(repository)) {
                let meaning = &mut found[number as usize];
                if is_open {
                    meaning.ambiguous_in.push((at, place));
                } else {
                    meaning.is_resolved = true;
                }
            }
        }
    }
    let found: Vec<Rc<MatchedRepositories>> = found.into_iter().map(Rc::new).collect();
    references.numbers.iter().map(|number| Rc::clone(&found[*number as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Holder, SourceState};

    fn reference(text: &str, line: u32) -> UnresolvedReference {
        UnresolvedReference {
            text: text.into(),
            host: None,
            path: PathPattern::of(&["shop/api"]),
            adjacent_words: [].into(),
            holder: Arc::new(Holder::File { path: "values.yaml".into(), line }),
        }
    }

    fn source(unresolved: Vec<UnresolvedReference>) -> SourceOutcome {
        let (claims, mentions, notes) = (Vec::new(), Vec::new(), Vec::new());
        SourceOutcome {
            name: "charts".parse().unwrap(),
            kind: "image-references",
            registries: None,
            state: SourceState::Complete { claims, unresolved, mentions, as_of: None, notes },
        }
    }

    fn registry(repositories: &[&str]) -> Registry {
        let repositories = repositories.iter().map(|name| Repository::empty(name.parse().unwrap())).collect();
        Registry { repositories, ..Registry::empty("contoso".parse().unwrap(), "distribution") }
    }

    #[test]
    fn references_that_name_the_same_are_looked_up_once_and_counted_each() {
        let claims = Claims {
            sources: vec![source(vec![reference("shop/api:$A", 1), reference("shop/api:$B", 2)])],
            ..Claims::default()
        };
        let registry = registry(&["shop/api", "shop/web"]);
        let counter = SourceCounter::new(&claims);
        let found: Vec<Vec<RepositorySource>> =
            registry.repositories.iter().map(|repository| counter.count(&registry, repository, &[])).collect();
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(*found[0][0].ambiguous, [0]);
        let totals = counter.totals(found.iter().map(Vec::as_slice));
        assert_eq!(totals.values().map(|counts| counts.unresolved).collect::<Vec<_>>(), [2]);
        let inventory = Inventory { registries: vec![registry] };
        let meanings = matched_repositories(&inventory, &claims.sources[0]);
        let places: Vec<&[RepositoryAt]> = meanings.iter().map(|meaning| &*meaning.ambiguous_in).collect();
        assert_eq!(places, [[(0, 0)], [(0, 0)]]);
    }

    #[test]
    fn a_word_is_counted_once_for_each_place() {
        let hash = |text: &str, line: u32| {
            let holder = Arc::new(Holder::File { path: "notes.md".into(), line });
            word_hash(&MentionReason { source: "notes".parse().unwrap(), text: text.into(), holder })
        };
        assert_eq!(hash("v2", 1), hash("v2", 1));
        assert_ne!(hash("v2", 1), hash("v2", 2));
        assert_ne!(hash("v2", 1), hash("v3", 1));
    }
}
