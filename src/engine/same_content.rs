//! Registries with the same content: probably one registry under two names, where evidence for one name does not protect
//! what is removed by the other.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher as _;

use foldhash::quality::FixedState;

use super::limits::{AffectedScopes, DeletionCounts, RemovalCounts};
use crate::domain::{Refusal, RefusalReason, RefusalScope, Registry, RegistryName, Repository, RepositoryName};

/// Most hashes of a sketch. Enough to tell half of the tags from most of them.
const SKETCH_SIZE: usize = 64;

/// The tags of a repository with their digests, reduced to the smallest of their hashes, in order. The share that two
/// sketches have in common estimates the share of the tags (bottom-k sampling), whatever their number.
#[derive(Debug, Clone, Default)]
struct Sketch {
    images: Vec<u64>,
    /// The same with the push times; `None` if the registry does not report all of them. A copy has push times of its own.
    pushes: Option<Vec<u64>>,
}

impl Sketch {
    fn of(repository: &Repository) -> Self {
        // The same everywhere, so that equal tags have equal hashes.
        let state = FixedState::default();
        // A tag without its digest could be any image.
        let known = || repository.tags.iter().filter_map(|tag| Some((tag, (tag.name.as_str(), tag.digest.as_ref()?))));
        let images = smallest(known().map(|(_, image)| state.hash_one(image)));
        let has_times = known().all(|(tag, _)| tag.pushed_at.is_some());
        let pushes = has_times.then(|| smallest(known().map(|(tag, image)| state.hash_one((image, tag.pushed_at)))));
        Self { images, pushes }
    }

    /// Returns true if at least half of the tags of both are the same, at the same digests, and at the same push times if
    /// both registries report them.
    fn is_similar_to(&self, other: &Self) -> bool {
        match (&self.pushes, &other.pushes) {
            (Some(mine), Some(others)) => share_half(mine, others),
            _ => share_half(&self.images, &other.images),
        }
    }
}

/// Returns the smallest hashes, in order.
fn smallest(hashes: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut hashes: Vec<u64> = hashes.collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes.truncate(SKETCH_SIZE);
    hashes.shrink_to_fit();
    hashes
}

/// Returns true if at least half of the smallest hashes of both together are in both.
fn share_half(one: &[u64], other: &[u64]) -> bool {
    let (one, other): (BTreeSet<u64>, BTreeSet<u64>) = (one.iter().copied().collect(), other.iter().copied().collect());
    let all: Vec<u64> = one.union(&other).copied().take(SKETCH_SIZE).collect();
    let shared = all.iter().filter(|hash| one.contains(hash) && other.contains(hash)).count();
    !all.is_empty() && shared * 2 >= all.len()
}

/// The content of several registries, repository by repository. Nothing is held of one registry alone.
#[derive(Debug, Clone, Default)]
pub struct ContentComparison {
    sketches: BTreeMap<RepositoryName, Vec<(RegistryName, Sketch)>>,
    has_several: bool,
}

impl ContentComparison {
    /// Creates a comparison of so many registries.
    #[must_use]
    pub fn new(registries: usize) -> Self {
        Self { sketches: BTreeMap::new(), has_several: registries > 1 }
    }

    /// Adds a repository that was read. One without tags says nothing.
    pub fn add(&mut self, registry: &Registry, repository: &Repository) {
        if self.has_several && !repository.tags.is_empty() {
            let sketch = (registry.name.clone(), Sketch::of(repository));
            self.sketches.entry(repository.name.clone()).or_default().push(sketch);
        }
    }

    /// Returns the refusals of removals and of deletions: everything in a registry that has the same content as another,
    /// unless the settings of one of them accept that.
    #[must_use]
    pub fn refusals(
        &self,
        registries: &[Registry],
        (removals, deletions): (&RemovalCounts, &DeletionCounts),
    ) -> (Vec<Refusal>, Vec<Refusal>) {
        let accepts = |name: &RegistryName| {
            registries.iter().any(|registry| registry.name == *name && registry.accepts_same_content)
        };
        let mut reasons: BTreeMap<&RegistryName, RefusalReason> = BTreeMap::new();
        for ((one, other), (same, common)) in self.pairs() {
            if same > 0 && same * 2 >= common && !accepts(one) && !accepts(other) {
                for (name, twin) in [(one, other), (other, one)] {
                    reasons.entry(name).or_insert(RefusalReason::SameContent { other: twin.clone(), same, common });
                }
            }
        }
        let refusals = |affected: AffectedScopes<'_>| -> Vec<Refusal> {
            let affected = affected.registries.into_iter();
            let refusal = |(name, binding): (&RegistryName, bool)| {
                let reason = reasons.get(name)?.clone();
                Some(Refusal { scope: RefusalScope::Registry(name.clone()), reason, binding })
            };
            affected.filter_map(refusal).collect()
        };
        (refusals(AffectedScopes::of_removals(removals)), refusals(AffectedScopes::of_deletions(deletions)))
    }

    /// Returns the numbers of similar and of common repositories, for each pair of registries that have any in common.
    fn pairs(&self) -> BTreeMap<(&RegistryName, &RegistryName), (u32, u32)> {
        let mut pairs: BTreeMap<_, (u32, u32)> = BTreeMap::new();
        for sketches in self.sketches.values() {
            for (at, (one, sketch)) in sketches.iter().enumerate() {
                for (other, of_other) in &sketches[at + 1..] {
                    let pair = if one <= other { (one, other) } else { (other, one) };
                    let (same, common) = pairs.entry(pair).or_default();
                    *same += u32::from(sketch.is_similar_to(of_other));
                    *common += 1;
                }
            }
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Digest, Tag};

    /// A repository whose tags are these numbers, each at the digest of its text with `salt`.
    fn repository(name: &str, tags: impl IntoIterator<Item = u32>, salt: &str) -> Repository {
        let tag = |number: u32| Tag {
            name: format!("v{number}").parse().unwrap(),
            digest: Some(Digest::of(format!("{number}{salt}").as_bytes())),
            pushed_at: None,
            first_seen: None,
            lock: None,
        };
        Repository { tags: tags.into_iter().map(tag).collect(), ..Repository::empty(name.parse().unwrap()) }
    }

    /// The same, each pushed at that time.
    fn pushed(at: &str, repository: Repository) -> Repository {
        let at: jiff::Timestamp = at.parse().unwrap();
        let tags = repository.tags.iter().cloned().map(|tag| Tag { pushed_at: Some(at.into()), ..tag });
        Repository { tags: tags.collect(), ..repository }
    }

    #[test]
    fn repositories_are_similar_if_half_of_their_tags_are_the_same() {
        for (what, one, other, similar) in [
            ("equal", repository("a", 0..3, ""), repository("a", 0..3, ""), true),
            ("a push in between", repository("a", 0..3, ""), repository("a", 0..4, ""), true),
            ("equal and large", repository("a", 0..5_000, ""), repository("a", 0..5_000, ""), true),
            ("most of a large one", repository("a", 0..5_000, ""), repository("a", 0..4_000, ""), true),
            ("the same names, other images", repository("a", 0..50, ""), repository("a", 0..50, "!"), false),
            ("the last tenth", repository("a", 0..5_000, ""), repository("a", 4_500..5_000, ""), false),
            ("nothing in common", repository("a", 0..50, ""), repository("a", 50..100, ""), false),
            ("one of four", repository("a", 0..4, ""), repository("a", 0..1, ""), false),
            (
                "pushed at the same time",
                pushed("2026-11-01T00:00:00Z", repository("a", 0..9, "")),
                pushed("2026-11-01T00:00:00Z", repository("a", 0..9, "")),
                true,
            ),
            (
                "one without push times",
                pushed("2026-11-01T00:00:00Z", repository("a", 0..9, "")),
                repository("a", 0..9, ""),
                true,
            ),
            (
                "a copy, pushed a moment later",
                pushed("2026-11-01T00:00:00Z", repository("a", 0..9, "")),
                pushed("2026-11-01T00:00:00.1Z", repository("a", 0..9, "")),
                false,
            ),
        ] {
            let (one, other) = (Sketch::of(&one), Sketch::of(&other));
            assert_eq!(one.is_similar_to(&other), similar, "{what}");
            assert_eq!(other.is_similar_to(&one), similar, "{what}, the other way round");
        }
        assert!(!Sketch::default().is_similar_to(&Sketch::default()));
    }

    #[test]
    fn pairs_count_what_registries_have_in_common() {
        let named = |name: &str| Registry::empty(name.parse().unwrap(), "distribution");
        let (a, b, c) = (named("a"), named("b"), named("c"));
        let mut comparison = ContentComparison::new(3);
        for (registry, name, salt) in
            [(&b, "x", ""), (&a, "x", ""), (&a, "y", ""), (&b, "y", "!"), (&c, "y", "!"), (&c, "z", "")]
        {
            comparison.add(registry, &repository(name, 0..9, salt));
        }
        let pairs = comparison.pairs();
        let pairs: Vec<_> = pairs.iter().map(|((a, b), found)| (a.as_str(), b.as_str(), *found)).collect();
        assert_eq!(pairs, [("a", "b", (1, 2)), ("a", "c", (0, 1)), ("b", "c", (1, 1))]);

        let mut alone = ContentComparison::new(1);
        alone.add(&a, &repository("x", 0..9, ""));
        assert!(alone.sketches.is_empty(), "of one registry nothing is held");
    }
}
