//! Claims, locks, failed sources and gaps, seen from a removal.

use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::ranges::RangeClaims;
use super::{TagRemoval, Violation};
use crate::domain::{
    Claim, Claims, Digest, Gap, GapTarget, Hold, Inventory, Mention, MentionedImage, Registry, RemovalMethod,
    Repository, RepositoryName, SourceOutcome, TagName, UnresolvedIndex, UnresolvedReference,
};

/// The held tags and the held digests of one repository.
pub(super) type RepositoryHolds<'a> = (HashSet<&'a TagName>, HashSet<&'a Digest>);

/// What speaks against removals in one registry.
pub(super) struct RegistryEvidence<'a> {
    pub(super) registry: &'a Registry,
    pub(super) failed: Option<String>,
    tags: HashMap<(&'a str, &'a TagName), Vec<&'a Claim>>,
    pub(super) digests: HashSet<&'a Digest>,
    /// The holds in force, by repository.
    holds: HashMap<&'a RepositoryName, Vec<&'a Hold>>,
    /// The claims on image ids that are no manifest's digest anywhere.
    ids: Vec<&'a Claim>,
    /// The claims on digests that neither a manifest nor a configuration of the registry has.
    incomparable: Vec<&'a Claim>,
    unresolved: UnresolvedIndex<'a, ()>,
    /// The claims on ranges of versions.
    ranges: Vec<&'a Claim>,
    /// The mentions, by repository.
    mentions: HashMap<&'a RepositoryName, RepositoryMentions<'a>>,
}

/// The first mention of each tag and of each digest of one repository.
#[derive(Default)]
struct RepositoryMentions<'a> {
    tags: HashMap<&'a TagName, &'a Mention>,
    digests: HashMap<&'a Digest, &'a Mention>,
}

/// Evidence that may speak of any image of one repository.
pub(super) struct UncertainEvidence<'a> {
    ids: Option<&'a Digest>,
    /// The first of each algorithm.
    incomparable: Vec<&'a Digest>,
    pub(super) unresolved: Option<String>,
    /// The claims on ranges of versions in the repository.
    pub(super) ranged: RangeClaims<'a>,
}

impl<'a> RegistryEvidence<'a> {
    pub(super) fn new(inventory: &Inventory, registry: &'a Registry, claims: &'a Claims, now: Timestamp) -> Self {
        let covering = || claims.sources.iter().filter(|source| source.covers(&registry.name));
        let mut tags: HashMap<_, Vec<&Claim>> = HashMap::new();
        let (mut digests, mut ids) = (HashSet::new(), Vec::new());
        for claim in covering().flat_map(SourceOutcome::claims) {
            digests.extend(&claim.image.digest);
            if claim.image.repository.is_none() {
                ids.push(claim);
            }
            if let Some(tag) = &claim.image.tag {
                for path in claim.image.repository_paths(registry.host_names()) {
                    tags.entry((path, tag)).or_default().push(claim);
                }
            }
        }
        let failed =
            covering().find(|source| source.has_failed()).map(|source| format!("source {} failed", source.name));
        for repository in inventory.registries.iter().flat_map(|registry| &registry.repositories) {
            ids.retain(|claim| {
                claim.image.digest.as_ref().is_some_and(|digest| !repository.manifests.contains_key(digest))
            });
        }
        let unresolved = covering().flat_map(SourceOutcome::unresolved).map(|one| ((), one));
        let unresolved = UnresolvedIndex::new(unresolved.collect());
        let ranges = covering().flat_map(SourceOutcome::claims).filter(|claim| claim.range().is_some()).collect();
        let mut mentions: HashMap<_, RepositoryMentions<'a>> = HashMap::new();
        for mention in covering().flat_map(SourceOutcome::mentions).filter(|one| one.registry == registry.name) {
            let here = mentions.entry(&mention.repository).or_default();
            match &mention.image {
                MentionedImage::Tag(tag) => here.tags.entry(tag).or_insert(mention),
                MentionedImage::Digest(digest) => here.digests.entry(digest).or_insert(mention),
            };
        }
        let mut holds: HashMap<_, Vec<&Hold>> = HashMap::new();
        for hold in &claims.holds {
            if hold.until > now && hold.endpoint.as_ref() == registry.endpoint.as_str() {
                holds.entry(&hold.repository).or_default().push(hold);
            }
        }
        let unplaced = Vec::new();
        let mut evidence =
            Self { registry, failed, tags, digests, holds, ids, incomparable: unplaced, unresolved, ranges, mentions };
        evidence.find_unplaced(claims);
        evidence
    }

    /// Finds the claims whose digests cannot be compared with all that the registry has.
    fn find_unplaced(&mut self, claims: &'a Claims) {
        let mut known: HashSet<&Digest> = HashSet::new();
        let mut names: HashSet<&str> = HashSet::new();
        for repository in &self.registry.repositories {
            names.extend(repository.tags.iter().filter_map(|tag| Some(tag.digest.as_ref()?.algorithm())));
            names.extend(repository.manifests.keys().map(Digest::algorithm));
        }
        if !self.digests.iter().any(|digest| names.iter().any(|name| *name != digest.algorithm())) {
            return;
        }
        for (digest, manifest) in self.registry.repositories.iter().flat_map(|repository| &repository.manifests) {
            known.insert(digest);
            known.extend(manifest.config.as_deref());
        }
        let covering = claims.sources.iter().filter(|source| source.covers(&self.registry.name));
        let unknown = |claim: &&Claim| claim.image.digest.as_ref().is_some_and(|digest| !known.contains(digest));
        self.incomparable = covering.flat_map(SourceOutcome::claims).filter(unknown).collect();
    }

    /// Finds the evidence that may speak of any image of a repository.
    pub(super) fn uncertain_evidence(&self, repository: &Repository) -> UncertainEvidence<'a> {
        let here = |claim: &&Claim| claim.may_match_repository(self.registry.host_names(), &repository.name);
        let digest = |claim: &'a Claim| claim.image.digest.as_ref();
        let naming = self.unresolved.matching(self.registry.host_names(), &repository.name);
        let tags: LazyCell<HashSet<&str>, _> =
            LazyCell::new(|| repository.tags.iter().map(|tag| tag.name.as_str()).collect());
        let known: LazyCell<Vec<String>, _> = LazyCell::new(|| {
            let tagged = repository.tags.iter().filter_map(|tag| tag.digest.as_ref());
            let mut known: Vec<String> = repository.manifests.keys().chain(tagged).map(Digest::hex).collect();
            known.sort_unstable();
            known
        });
        let settled = |one: &UnresolvedReference| {
            one.adjacent_words.iter().any(|word| {
                let digits = word.len() >= 12 && word.chars().all(|c| c.is_ascii_hexdigit());
                tags.contains(&**word) || digits && has_prefix(&known, &word.to_lowercase())
            })
        };
        let unresolved = naming.into_iter().map(|((), one)| one).find(|one| !settled(one));
        let ranges = self.ranges.iter().copied();
        let ranges =
            ranges.filter(|claim| claim.image.matches_repository(self.registry.host_names(), &repository.name));
        let mut algorithms = HashSet::new();
        let unplaced = self.incomparable.iter().copied().filter(here).filter_map(digest);
        let unplaced = unplaced.filter(|digest| algorithms.insert(digest.algorithm())).collect();
        UncertainEvidence {
            ranged: RangeClaims::new(ranges, repository),
            ids: self.ids.iter().copied().find(here).and_then(digest),
            incomparable: unplaced,
            unresolved: unresolved.map(|one| format!("{} may mean any image of its repository", one.text)),
        }
    }

    pub(super) fn check_removals(
        &self,
        repository: &Repository,
        going: &[TagRemoval<'_>],
        findings: &mut Vec<Violation>,
    ) {
        let gaps: Vec<&Gap> = self.registry.gaps.iter().chain(&repository.gaps).collect();
        let whole_image = self.registry.removal == RemovalMethod::DeleteManifest;
        let hides = |gap: &Gap| whole_image && matches!(gap.target, GapTarget::InvalidName(_));
        let unnamed = repository.gaps.iter().find(|gap| hides(gap));
        let blocking = gaps.iter().copied().find(|gap| gap.blocks_repository()).or(unnamed);
        let blocking = blocking.map(|gap| format!("unread: {}", gap.target));
        let vanished: HashSet<&TagName> = gaps
            .iter()
            .filter_map(|gap| match &gap.target {
                GapTarget::VanishedTag(tag) => Some(tag),
                _ => None,
            })
            .collect();
        let held_here = self.holds_in(repository);
        let loose = self.uncertain_evidence(repository);
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
                loose.ranged.claim_on(&one.tag.name),
                self.claim_inside(repository, one.digest, &loose),
                loose.unresolved.clone(),
                self.mention_of(repository, &one.tag.name),
                hold_on(&held_here, repository, &one.tag.name, one.digest),
            ];
            let by = held.into_iter().flatten();
            findings.extend(by.map(|by| Violation::ProtectedTag { image: one.image(), by }));
        }
    }

    pub(super) fn claim_on_tag(&self, repository: &Repository, tag: &TagName) -> Option<String> {
        let path = repository.name.as_str();
        let paths = [path, path.strip_prefix("library/").unwrap_or(path)];
        let mut claims = paths.iter().filter_map(|path| self.tags.get(&(*path, tag))).flatten();
        let claim =
            claims.find(|claim| claim.image.matches_repository(self.registry.host_names(), &repository.name))?;
        Some(format!("a claim on {}", claim.image))
    }

    pub(super) fn mention_of(&self, repository: &Repository, tag: &TagName) -> Option<String> {
        let found = self.mentions.get(&repository.name)?.tags.get(tag)?;
        Some(format!("the word {}, which may mean it", found.text))
    }

    /// Returns the word that may mean a digest.
    pub(super) fn mention_of_digest(&self, repository: &Repository, digest: &Digest) -> Option<&str> {
        self.mentions.get(&repository.name)?.digests.get(digest).map(|one| &*one.text)
    }

    /// The held tags and digests of a repository.
    pub(super) fn holds_in(&self, repository: &Repository) -> RepositoryHolds<'a> {
        let holds = || self.holds.get(&repository.name).into_iter().flatten();
        (holds().map(|hold| &hold.tag).collect(), holds().filter_map(|hold| hold.digest.as_ref()).collect())
    }

    /// A claimed digest in an image, or anywhere in an index: a manifest's or a configuration's.
    fn claim_inside(&self, repository: &Repository, digest: &Digest, loose: &UncertainEvidence<'_>) -> Option<String> {
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
            if let Some(word) = self.mention_of_digest(repository, next) {
                return Some(format!("the word {word}, which may mean {next}"));
            }
            let unread = repository.has_unknown_config(next);
            if let Some(claimed) = loose.may_match(next, config, unread) {
                return Some(format!("perhaps a claim on {claimed}"));
            }
            open.extend(manifest.into_iter().flat_map(|manifest| &manifest.children));
        }
        None
    }
}

/// Returns true if one of the sorted texts begins with `start`.
fn has_prefix(sorted: &[String], start: &str) -> bool {
    let at = sorted.partition_point(|text| text.as_str() < start);
    sorted.get(at).is_some_and(|text| text.starts_with(start))
}

/// A hold on a tag, or on a digest anywhere in its image.
fn hold_on(held: &RepositoryHolds<'_>, repository: &Repository, tag: &TagName, digest: &Digest) -> Option<String> {
    let (tags, digests) = held;
    if tags.contains(tag) {
        return Some(format!("a hold on {tag}"));
    }
    let mut seen = HashSet::new();
    let mut open = if digests.is_empty() { Vec::new() } else { vec![digest] };
    while let Some(next) = open.pop() {
        if digests.contains(next) {
            return Some(format!("a hold on {next}"));
        }
        let inner = repository.manifests.get(next).into_iter().flat_map(|manifest| &manifest.children);
        open.extend(inner.filter(|child| seen.insert(*child)));
    }
    None
}

impl UncertainEvidence<'_> {
    /// A claimed digest that may be that of an image, or of its configuration where that is not known.
    pub(super) fn may_match(&self, digest: &Digest, config: Option<&Digest>, unread: bool) -> Option<&Digest> {
        let other = |claimed: &&&Digest| {
            claimed.algorithm() != digest.algorithm()
                || config.is_some_and(|config| config.algorithm() != claimed.algorithm())
        };
        self.ids.filter(|_| unread).or_else(|| self.incomparable.iter().find(other).copied())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{Holder, PathPattern, SourceState, Tag};

    fn digest(start: &str) -> Digest {
        format!("sha256:{start:0<64}").parse().unwrap()
    }

    fn long_digest(start: &str) -> Digest {
        format!("sha512:{start:0<128}").parse().unwrap()
    }

    fn inventory() -> Inventory {
        let mut repository = Repository::empty("shop/api".parse().unwrap());
        let tags = [("v1", "1234567890ab"), ("v2", "dddddddddddd4"), ("v3", "dddddddddddd2")];
        let tag = |(name, start): (&str, &str)| Tag {
            name: name.parse().unwrap(),
            digest: Some(digest(start)),
            pushed_at: None,
            first_seen: None,
            lock: None,
        };
        repository.tags = tags.into_iter().map(tag).collect();
        let mut registry = Registry::empty("contoso".parse().unwrap(), "distribution");
        registry.repositories.push(repository);
        Inventory { registries: vec![registry] }
    }

    fn holder() -> Arc<Holder> {
        Arc::new(Holder::File { path: "values.yaml".into(), line: 7 })
    }

    fn said(claims: Vec<Claim>, unresolved: Vec<UnresolvedReference>) -> Claims {
        let state = SourceState::Complete { claims, unresolved, mentions: Vec::new(), as_of: None, notes: Vec::new() };
        let name = "apps".parse().unwrap();
        Claims {
            sources: vec![SourceOutcome { name, kind: "image-references", registries: None, state }],
            holds: Vec::new(),
        }
    }

    #[test]
    fn a_tag_or_twelve_digits_of_a_digest_settle_what_a_reference_means() {
        let inventory = inventory();
        let registry = &inventory.registries[0];
        for (beside, settled) in [
            (&[][..], false),
            (&["nothing"], false),
            (&["v1"], true),
            (&["V1"], false),
            (&["1234567890ab"], true),
            (&["1234567890AB"], true),
            (&["1234567890a"], false),
            (&["1234567890abz"], false),
            (&["234567890ab0"], false),
            (&["dddddddddddd"], true),
            (&["dddddddddddd2"], true),
            (&["dddddddddddd3"], false),
            (&["000000000000"], false),
            (&["ffffffffffff"], false),
            (&["ffffffffffff", "v2"], true),
        ] {
            let reference = UnresolvedReference {
                text: "${OPEN}".into(),
                host: None,
                path: PathPattern::of(&["shop/", ""]),
                adjacent_words: beside.iter().map(|&word| word.into()).collect(),
                holder: holder(),
            };
            let claims = said(Vec::new(), vec![reference]);
            let evidence = RegistryEvidence::new(&inventory, registry, &claims, Timestamp::UNIX_EPOCH);
            let loose = evidence.uncertain_evidence(&registry.repositories[0]);
            assert_eq!(loose.unresolved.is_none(), settled, "{beside:?}");
        }
    }

    #[test]
    fn a_claimed_digest_may_be_that_of_an_image_with_another_algorithm() {
        let inventory = inventory();
        let registry = &inventory.registries[0];
        let (first, last) = (digest("a"), long_digest("c"));
        let claimed = [first.clone(), digest("b"), last.clone(), long_digest("d")];
        let claims = claimed.iter().map(|digest| Claim::new(digest.to_string().parse().unwrap(), holder())).collect();
        let claims = said(claims, Vec::new());
        let evidence = RegistryEvidence::new(&inventory, registry, &claims, Timestamp::UNIX_EPOCH);
        let loose = evidence.uncertain_evidence(&registry.repositories[0]);
        let (short, long) = (digest("1234567890ab"), long_digest("e"));
        for (image, config, expected) in
            [(&short, None, &last), (&short, Some(&short), &last), (&short, Some(&long), &first), (&long, None, &first)]
        {
            assert_eq!(loose.may_match(image, config, false), Some(expected), "{image} {config:?}");
        }
    }
}
