//! Claims, locks, failed sources and gaps, seen from a removal.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;

use super::super::mentions::RepositoryMentions;
use super::super::placed_digests::PlacedDigests;
use super::ranges::RangeClaims;
use super::{TagRemoval, TagSet, Violation};
use crate::domain::{
    Claim, Claims, Digest, DigestSet, Gap, GapTarget, Hold, Manifest, MentionedImage, Registry, RemovalMethod,
    Repository, RepositoryName, SourceOutcome, TagName, UnlistedContent, UnresolvedIndex, UnresolvedReference,
};

/// The held tags and the held digests of one repository.
pub(super) type RepositoryHolds<'a> = (HashSet<&'a TagName>, HashSet<&'a Digest>);

/// The evidence against removals in one registry.
pub(super) struct RegistryEvidence<'a> {
    pub(super) registry: &'a Registry,
    pub(super) failed: Option<String>,
    tags: HashMap<(&'a str, &'a TagName), Vec<&'a Claim>>,
    pub(super) digests: DigestSet<&'a Digest>,
    /// The algorithms of these.
    algorithms: BTreeSet<&'static str>,
    /// The holds in force, by repository.
    holds: HashMap<&'a RepositoryName, Vec<&'a Hold>>,
    /// The claims on image ids.
    ids: Vec<&'a Claim>,
    /// All claims on digests.
    by_digest: Vec<&'a Claim>,
    unresolved: UnresolvedIndex<'a, ()>,
    /// The claims on ranges of versions.
    ranges: Vec<&'a Claim>,
}

/// The evidence against removals in one repository.
pub(super) struct RepositoryEvidence<'e, 'a> {
    registry_evidence: &'e RegistryEvidence<'a>,
    /// The words that mention each tag.
    mentioned_tags: HashMap<TagName, Arc<str>>,
    /// The words that mention each digest.
    mentioned_digests: HashMap<Digest, Arc<str>>,
    /// True if a text may mention an image that the repository does not list.
    mentions_unlisted: bool,
}

/// Evidence that may concern any image of one repository.
pub(super) struct UncertainEvidence<'a> {
    ids: Option<&'a Digest>,
    /// The first of each algorithm.
    incomparable: Vec<&'a Digest>,
    pub(super) unresolved: Option<String>,
    /// The claims on ranges of versions in the repository.
    pub(super) ranged: RangeClaims<'a>,
}

impl<'a> RegistryEvidence<'a> {
    pub(super) fn new(registry: &'a Registry, claims: &'a Claims, now: Timestamp) -> Self {
        let covering = || claims.sources.iter().filter(|source| source.covers(&registry.name));
        let mut tags: HashMap<_, Vec<&Claim>> = HashMap::new();
        let (mut digests, mut ids, mut by_digest) = (DigestSet::default(), Vec::new(), Vec::new());
        let mut algorithms = BTreeSet::new();
        for claim in covering().flat_map(SourceOutcome::claims) {
            if let Some(digest) = &claim.image.digest {
                digests.insert(digest);
                algorithms.insert(digest.algorithm());
                by_digest.push(claim);
            }
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
        let unresolved = covering().flat_map(SourceOutcome::unresolved).map(|one| ((), one));
        let unresolved = UnresolvedIndex::new(unresolved.collect());
        let ranges = covering().flat_map(SourceOutcome::claims).filter(|claim| claim.range().is_some()).collect();
        let mut holds: HashMap<_, Vec<&Hold>> = HashMap::new();
        for hold in &claims.holds {
            if hold.until > now && hold.endpoint.as_ref() == registry.endpoint.as_str() {
                holds.entry(&hold.repository).or_default().push(hold);
            }
        }
        Self { registry, failed, tags, digests, algorithms, holds, ids, by_digest, unresolved, ranges }
    }

    /// Prepares the evidence for one repository, with its mentions.
    pub(super) fn in_repository<'e>(&'e self, mentions: &RepositoryMentions<'_>) -> RepositoryEvidence<'e, 'a> {
        let (mut tags, mut digests) = (HashMap::new(), HashMap::new());
        for (_, mention) in mentions.iter() {
            let text = || Arc::clone(&mention.text);
            match &mention.image {
                MentionedImage::Tag(tag) => {
                    tags.entry(tag.clone()).or_insert_with(text);
                }
                MentionedImage::Digest(digest) => {
                    digests.entry(digest.clone()).or_insert_with(text);
                }
            }
        }
        RepositoryEvidence {
            registry_evidence: self,
            mentioned_tags: tags,
            mentioned_digests: digests,
            mentions_unlisted: mentions.may_name_unlisted(UnlistedContent::Anything),
        }
    }

    /// Finds the evidence that may concern any image of a repository.
    pub(super) fn uncertain_evidence(&self, repository: &Repository, placed: &PlacedDigests) -> UncertainEvidence<'a> {
        let here = |claim: &&Claim| claim.may_match_repository(self.registry.host_names(), &repository.name);
        let digest = |claim: &'a Claim| claim.image.digest.as_ref();
        let naming = self.unresolved.matching(self.registry.host_names(), &repository.name);
        let tags: LazyCell<HashSet<&str>, _> =
            LazyCell::new(|| repository.tags.iter().map(|tag| tag.name.as_str()).collect());
        let known: LazyCell<Vec<String>, _> = LazyCell::new(|| {
            let tagged = repository.tags.iter().filter_map(|tag| tag.digest.as_ref());
            let listed = repository.listed.iter().map(|row| &row.digest);
            let mut known: Vec<String> =
                repository.manifests.keys().chain(tagged).chain(listed).map(Digest::hex).collect();
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
        let tagged = repository.tags.iter().filter_map(|tag| tag.digest.as_ref());
        let listed = repository.listed.iter().map(|row| &row.digest);
        let inner = repository.manifests.values().flat_map(|manifest| {
            manifest.children.iter().chain(manifest.config.as_deref()).chain(manifest.subject.as_deref())
        });
        let there = repository.manifests.keys().chain(tagged).chain(listed).chain(inner);
        // A claimed digest can be compared where all digests are of its algorithm.
        let only = self.algorithms.first().filter(|_| self.algorithms.len() == 1);
        let comparable =
            self.algorithms.is_empty() || only.is_some_and(|only| { there }.all(|digest| digest.algorithm() == *only));
        let mut algorithms = HashSet::new();
        let unplaced = self.by_digest.iter().copied().filter(|_| !comparable).filter(here).filter_map(digest);
        let unplaced = unplaced.filter(|digest| !placed.is_known(&self.registry.name, digest));
        let unplaced = unplaced.filter(|digest| algorithms.insert(digest.algorithm())).collect();
        let mut ids =
            self.ids.iter().copied().filter(|claim| digest(claim).is_some_and(|digest| !placed.is_manifest(digest)));
        UncertainEvidence {
            ranged: RangeClaims::new(ranges, repository),
            ids: ids.find(here).and_then(digest),
            incomparable: unplaced,
            unresolved: unresolved.map(|one| format!("{} may mean any image of its repository", one.text)),
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

    /// Returns the held tags and digests of a repository.
    pub(super) fn holds_in(&self, repository: &Repository) -> RepositoryHolds<'a> {
        let holds = || self.holds.get(&repository.name).into_iter().flatten();
        (holds().map(|hold| &hold.tag).collect(), holds().filter_map(|hold| hold.digest.as_ref()).collect())
    }
}

impl<'a> Deref for RepositoryEvidence<'_, 'a> {
    type Target = RegistryEvidence<'a>;

    fn deref(&self) -> &RegistryEvidence<'a> {
        self.registry_evidence
    }
}

impl RepositoryEvidence<'_, '_> {
    pub(super) fn check_removals(
        &self,
        repository: &Repository,
        placed: &PlacedDigests,
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
        let loose = self.uncertain_evidence(repository, placed);
        let gone = TagSet::of(repository, going.iter().map(|one| one.removal.position.tag));
        let staying = (0..).zip(&repository.tags).filter(|(at, _)| !gone.contains(*at));
        let staying: DigestSet<&Digest> = staying.filter_map(|(_, tag)| tag.digest.as_ref()).collect();
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
                self.claim_inside((repository, &staying), one.digest, &loose),
                loose.unresolved.clone(),
                self.mention_of(&one.tag.name),
                hold_on(&held_here, (repository, &staying), &one.tag.name, one.digest),
            ];
            let by = held.into_iter().flatten();
            findings.extend(by.map(|by| Violation::ProtectedTag { image: one.image(), by }));
        }
    }

    pub(super) fn mention_of(&self, tag: &TagName) -> Option<String> {
        let text = self.mentioned_tags.get(tag)?;
        Some(format!("the word {text}, which may mean it"))
    }

    /// Returns the word that may name a digest.
    pub(super) fn mention_of_digest(&self, digest: &Digest) -> Option<&str> {
        self.mentioned_digests.get(digest).map(|text| &**text)
    }

    /// Returns those kinds of content that may be claimed, held or mentioned although a repository does not list it.
    pub(super) fn unlisted_in_use(
        &self,
        repository: &Repository,
        mut kinds: BTreeSet<UnlistedContent>,
    ) -> BTreeSet<UnlistedContent> {
        if kinds.is_empty() {
            return kinds;
        }
        let mut listed: DigestSet<&Digest> = repository.tags.iter().filter_map(|tag| tag.digest.as_ref()).collect();
        listed.extend(repository.listed.iter().map(|row| &row.digest));
        for (digest, manifest) in &repository.manifests {
            let inside = manifest.children.iter().chain(manifest.config.as_deref()).chain(manifest.subject.as_deref());
            listed.extend(std::iter::once(digest).chain(inside));
        }
        let is_unlisted = |digest: &Option<Digest>| digest.as_ref().is_some_and(|digest| !listed.contains(digest));
        let hosts = self.registry.host_names();
        let claimed = |kind: UnlistedContent| {
            let may_be = |claim: &&Claim| claim.may_name_unlisted(kind, hosts, &repository.name);
            self.by_digest.iter().any(|claim| is_unlisted(&claim.image.digest) && may_be(claim))
        };
        let held = self.holds.get(&repository.name).into_iter().flatten().any(|hold| is_unlisted(&hold.digest));
        let mentioned = |kind| self.mentions_unlisted && kind == UnlistedContent::Anything;
        kinds.retain(|&kind| held || claimed(kind) || mentioned(kind));
        kinds
    }

    /// Returns a claimed digest in an image, or anywhere in an index: a manifest's or a configuration's. An index
    /// inside with a retained tag of its own needs no index around it.
    fn claim_inside(
        &self,
        (repository, staying): (&Repository, &DigestSet<&Digest>),
        digest: &Digest,
        loose: &UncertainEvidence<'_>,
    ) -> Option<String> {
        let mut seen = DigestSet::default();
        let (mut at, mut open) = (Some(digest), Vec::new());
        while let Some(next) = at {
            let manifest = repository.manifests.get(next);
            let children = manifest.into_iter().flat_map(|manifest| &manifest.children);
            open.extend(children.filter(|child| *child != digest && seen.insert(*child)));
            at = open.pop();
            let config = manifest.and_then(|manifest| manifest.config.as_deref());
            let unread = repository.has_unknown_config(next);
            if let Some(claimed) = loose.may_match(next, config, unread) {
                return Some(format!("perhaps a claim on {claimed}"));
            }
            if next != digest && stays_by_itself(repository, staying, next) {
                continue;
            }
            if let Some(claimed) = [Some(next), config].into_iter().flatten().find(|d| self.digests.contains(*d)) {
                return Some(format!("a claim on {claimed}"));
            }
            if let Some(word) = self.mention_of_digest(next) {
                return Some(format!("the word {word}, which may mean {next}"));
            }
        }
        None
    }
}

/// Returns true for an index that a retained tag names.
fn stays_by_itself(repository: &Repository, staying: &DigestSet<&Digest>, digest: &Digest) -> bool {
    staying.contains(digest) && repository.manifests.get(digest).is_some_and(Manifest::is_index)
}

/// Returns true if one of the sorted texts begins with `start`.
fn has_prefix(sorted: &[String], start: &str) -> bool {
    let at = sorted.partition_point(|text| text.as_str() < start);
    sorted.get(at).is_some_and(|text| text.starts_with(start))
}

/// Returns a hold on a tag, or on a digest anywhere in its image.
fn hold_on(
    held: &RepositoryHolds<'_>,
    (repository, staying): (&Repository, &DigestSet<&Digest>),
    tag: &TagName,
    digest: &Digest,
) -> Option<String> {
    let (tags, digests) = held;
    if tags.contains(tag) {
        return Some(format!("a hold on {tag}"));
    }
    let mut seen = HashSet::new();
    let mut open = if digests.is_empty() { Vec::new() } else { vec![digest] };
    while let Some(next) = open.pop() {
        if digests.contains(next) && (next == digest || !stays_by_itself(repository, staying, next)) {
            return Some(format!("a hold on {next}"));
        }
        let inner = repository.manifests.get(next).into_iter().flat_map(|manifest| &manifest.children);
        open.extend(inner.filter(|child| seen.insert(*child)));
    }
    None
}

impl UncertainEvidence<'_> {
    /// Returns a claimed digest that may be that of an image, or of its configuration if that is unknown.
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
    use crate::domain::{Holder, Inventory, PathPattern, SourceState, Tag};

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
            ..Claims::default()
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
            let evidence = RegistryEvidence::new(registry, &claims, Timestamp::UNIX_EPOCH);
            let loose = evidence.uncertain_evidence(&registry.repositories[0], &PlacedDigests::of(&inventory, &claims));
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
        let evidence = RegistryEvidence::new(registry, &claims, Timestamp::UNIX_EPOCH);
        let loose = evidence.uncertain_evidence(&registry.repositories[0], &PlacedDigests::of(&inventory, &claims));
        let (short, long) = (digest("1234567890ab"), long_digest("e"));
        for (image, config, expected) in
            [(&short, None, &last), (&short, Some(&short), &last), (&short, Some(&long), &first), (&long, None, &first)]
        {
            assert_eq!(loose.may_match(image, config, false), Some(expected), "{image} {config:?}");
        }
    }
}
