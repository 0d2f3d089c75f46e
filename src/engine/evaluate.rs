//! From rules, inventory and claims to one verdict for each tag.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use jiff::Timestamp;

use super::claims::{ClaimIndex, texts};
use super::companion::{Companion, companions};
use super::date::{date, no_later_than};
use super::doubts::Doubts;
use super::graph::{Graph, index};
use super::holds::HoldIndex;
use super::keep::weigh;
use super::mentions::MentionIndex;
use super::protect::protect;
use super::select::{Candidate, select, speaks_of};
use super::{UnreadConfiguration, Verdicts};
use crate::domain::{
    Claims, Doubt, Drift, Gap, GapAt, Inventory, Locked, Policy, PolicyName, Reason, Reasons, Registry, RemovalMethod,
    Repository, Rules, SourceName, TagAt, TagName, TagVerdict, Verdict,
};

/// Most gaps of other tags that each tag of a repository names. Beyond, only its own are added: one is enough to stay,
/// and a repository half unread has as many gaps as tags.
const GAPS_NAMED: usize = 8;

/// The label of the gap that a tag without a digest is, where the reader named none.
const UNREAD: &str = "unread";

/// What is decided about every tag at `now`, with all reasons, and which records no longer fit.
///
/// Total: whatever the inventory says, however it contradicts itself, each of its tags gets one verdict.
#[must_use]
pub fn evaluate(rules: &Rules, inventory: &Inventory, claims: &Claims, now: Timestamp) -> Verdicts {
    let texts = texts(claims);
    let mut policies: Vec<&Policy> = rules.policies.iter().collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    let mut verdicts = Verdicts { tags: Vec::with_capacity(inventory.tag_count()), ..Verdicts::default() };
    for (position, registry) in (0..).zip(&inventory.registries) {
        let scope = RegistryScope {
            rules,
            registry,
            now,
            policies: policies.iter().copied().filter(|policy| policy.covers(&registry.name)).collect(),
            claims: ClaimIndex::new(registry, claims, &texts),
            holds: HoldIndex::new(registry, claims, now),
            mentions: MentionIndex::new(registry, claims),
            doubts: Doubts::new(inventory, registry, claims),
            failed: claims
                .sources
                .iter()
                .filter(|source| source.failed() && source.covers(&registry.name))
                .map(|source| &source.name)
                .collect(),
        };
        scope.claims.repositories_gone(registry, &mut verdicts.drift);
        for (place, repository) in (0..).zip(&registry.repositories) {
            let first = TagAt { registry: position, repository: place, tag: 0 };
            scope.judge(repository, first, &mut verdicts);
        }
    }
    verdicts.drift.sort_by(|a, b| drift_key(a).cmp(&drift_key(b)));
    verdicts.drift.dedup();
    verdicts
}

fn drift_key(drift: &Drift) -> impl Ord + '_ {
    (&drift.source, &drift.registry, &drift.repository, &drift.reference, &drift.holder, &drift.actual)
}

/// What is the same for all repositories of a registry.
struct RegistryScope<'a> {
    rules: &'a Rules,
    registry: &'a Registry,
    now: Timestamp,
    policies: Vec<&'a Policy>,
    claims: ClaimIndex<'a>,
    holds: HoldIndex<'a>,
    mentions: MentionIndex<'a>,
    doubts: Doubts<'a>,
    failed: Vec<&'a SourceName>,
}

impl RegistryScope<'_> {
    fn judge(&self, repository: &Repository, first: TagAt, verdicts: &mut Verdicts) {
        let companions = companions(repository);
        let graph = Graph::new(repository, &companions);
        let mut found = Found::new(repository.tags.len());
        self.weigh_policies(repository, &graph, &companions, &mut found);
        locks(repository, &graph, &mut found);
        self.gaps(repository, &graph, &mut found);
        for source in &self.failed {
            found.say_everywhere(&Reason::SourceFailed { source: (*source).clone() });
        }
        let mut claimed = self.claims.reach(self.registry, repository, &graph, &mut found, &mut verdicts.drift);
        claimed.extend(self.holds.reach(self.registry, repository, &graph, &mut found, &mut verdicts.drift));
        claimed.extend(self.mentions.reach(repository, &graph, &mut found));
        let doubts = self.doubts.on(repository);
        doubts.say(&graph, &mut found);
        protect(repository, &graph, &companions, &claimed, self.registry.removal, &mut found);
        let TagAt { registry, repository, .. } = first;
        let unread = doubts.needed(&graph, &found).into_iter();
        verdicts.unread.extend(unread.map(|digest| UnreadConfiguration { registry, repository, digest }));
        found.into_verdicts(first, &mut verdicts.tags);
    }

    fn weigh_policies(&self, repository: &Repository, graph: &Graph<'_>, companions: &[Companion], found: &mut Found) {
        let candidates = candidates(repository, graph, companions, self.now);
        let mut spoken_of = vec![false; repository.tags.len()];
        for policy in self.policies.iter().filter(|policy| speaks_of(policy, self.registry, repository)) {
            let selected = select(policy, &candidates);
            for one in &selected {
                spoken_of[index(one.candidate.tag)] = true;
            }
            weigh(policy, &selected, &self.rules.timezone, self.now, found);
        }
        for candidate in candidates.iter().filter(|candidate| !spoken_of[index(candidate.tag)]) {
            found.say(candidate.tag, Reason::NotSelected);
        }
    }

    fn gaps(&self, repository: &Repository, graph: &Graph<'_>, found: &mut Found) {
        let reason = |gap: &Gap| Reason::Gap { at: Box::new(gap.at.clone()), kind: gap.kind };
        // A tag of an invalid name may name any image, and would go with it.
        let blocks = match self.registry.removal {
            RemovalMethod::Untag => Gap::blocks_repository,
            RemovalMethod::DeleteManifest => Gap::hides_a_tag,
        };
        let mut blocking: Vec<&Gap> = self.registry.gaps.iter().filter(|gap| gap.blocks_repository()).collect();
        blocking.extend(repository.gaps.iter().filter(|gap| blocks(gap)));
        blocking.sort();
        blocking.iter().take(GAPS_NAMED).for_each(|gap| found.say_everywhere(&reason(gap)));
        let mut named: HashMap<&TagName, Vec<&Gap>> = HashMap::new();
        for gap in &repository.gaps {
            match &gap.at {
                GapAt::VanishedTag(tag) | GapAt::Tag(tag) => named.entry(tag).or_default().push(gap),
                GapAt::Manifest(digest) | GapAt::Referrers(digest) => {
                    let tags = graph.node(digest).into_iter().flat_map(|node| graph.tags(node));
                    tags.for_each(|tag| found.say(tag, reason(gap)));
                }
                GapAt::Catalogue
                | GapAt::Particulars
                | GapAt::TagList
                | GapAt::ManifestList
                | GapAt::InvalidName(_)
                | GapAt::ListedDigest(_)
                | GapAt::Created(_)
                | GapAt::Configuration(_) => {}
            }
        }
        for (tag, facts) in (0..).zip(&repository.tags) {
            match named.get(&facts.name) {
                Some(gaps) => gaps.iter().for_each(|gap| found.say(tag, reason(gap))),
                None if facts.digest.is_none() => {
                    found.say(tag, Reason::Gap { at: Box::new(GapAt::Tag(facts.name.clone())), kind: UNREAD });
                }
                None => {}
            }
        }
    }
}

/// The tags that policies may speak of, in order.
pub(super) fn candidates<'a>(
    repository: &'a Repository,
    graph: &Graph<'_>,
    companions: &[Companion],
    now: Timestamp,
) -> Vec<Candidate<'a>> {
    let mut candidates = Vec::with_capacity(repository.tags.len());
    let mut skip = companions.iter().map(|companion| companion.tag).peekable();
    for (tag, facts) in (0..).zip(&repository.tags) {
        if skip.next_if_eq(&tag).is_none() {
            let date = date(repository, facts, now);
            let no_later_than = date.timestamp().map_or_else(|| no_later_than(repository, facts, now), |_| None);
            candidates.push(Candidate { tag, name: &facts.name, image: graph.of_tag(tag), date, no_later_than });
        }
    }
    candidates
}

fn locks(repository: &Repository, graph: &Graph<'_>, found: &mut Found) {
    if let Some(lock) = repository.lock {
        found.say_everywhere(&Reason::Locked { on: Locked::Repository, lock });
    }
    for (tag, facts) in (0..).zip(&repository.tags) {
        if let Some(lock) = facts.lock {
            found.say(tag, Reason::Locked { on: Locked::Tag, lock });
        }
        let manifest = graph.of_tag(tag).and_then(|node| graph.manifest(node));
        if let Some(lock) = manifest.and_then(|manifest| manifest.lock) {
            found.say(tag, Reason::Locked { on: Locked::Manifest, lock });
        }
    }
}

/// What was found so far about the tags of one repository, by position.
pub(super) struct Found(Vec<FoundOfTag>);

#[derive(Clone, Default)]
struct FoundOfTag {
    reasons: Reasons,
    stays: bool,
}

impl Found {
    fn new(tags: usize) -> Self {
        Self(vec![FoundOfTag::default(); tags])
    }

    /// Adds a reason for a tag; one that does not speak for expiry makes it stay.
    pub(super) fn say(&mut self, tag: u32, reason: Reason) {
        let found = &mut self.0[index(tag)];
        found.stays |= reason.speaks_for() != Verdict::Expired;
        found.reasons.push(reason);
    }

    fn say_everywhere(&mut self, reason: &Reason) {
        self.tags().for_each(|tag| self.say(tag, reason.clone()));
    }

    /// All tags, by position.
    pub(super) fn tags(&self) -> Range<u32> {
        0..u32::try_from(self.0.len()).expect("a repository has fewer than 2^32 tags")
    }

    /// Whether anything found makes a tag stay.
    pub(super) fn stays(&self, tag: u32) -> bool {
        self.0[index(tag)].stays
    }

    /// Returns true if a source claims a tag by its name.
    pub(super) fn is_claimed_by(&self, tag: u32, source: &SourceName) -> bool {
        let by_source = |reason: &Reason| matches!(reason, Reason::Claimed(claimed) if claimed.source == *source);
        self.0[index(tag)].reasons.iter().any(by_source)
    }

    /// Returns true if nothing keeps a tag but image ids that may be those of configurations which were not read.
    pub(super) fn waits_for_configurations(&self, tag: u32) -> bool {
        let of_an_id =
            |reason: &Reason| matches!(reason, Reason::MaybeClaimed(claimed) if claimed.doubt == Doubt::Unread);
        let mut keeping = self.0[index(tag)].reasons.iter().filter(|reason| reason.speaks_for() != Verdict::Expired);
        self.stays(tag) && keeping.all(of_an_id)
    }

    /// The tags that stay by what was found.
    pub(super) fn staying(&self) -> impl Iterator<Item = u32> {
        self.tags().filter(|&tag| self.stays(tag))
    }

    /// The tags that policies let go, whatever else holds them, by policy in the order of names.
    pub(super) fn let_go(&self) -> BTreeMap<PolicyName, Vec<u32>> {
        let mut by_policy: BTreeMap<PolicyName, Vec<u32>> = BTreeMap::new();
        for (tag, reason) in (0..).zip(&self.0).flat_map(|(tag, found)| found.reasons.iter().map(move |r| (tag, r))) {
            if let Reason::LetGo { policy, .. } = reason {
                by_policy.entry(policy.clone()).or_default().push(tag);
            }
        }
        by_policy
    }

    /// One verdict for each tag, its reasons in order and each once.
    fn into_verdicts(self, first: TagAt, verdicts: &mut Vec<TagVerdict>) {
        for (tag, FoundOfTag { mut reasons, .. }) in (0..).zip(self.0) {
            reasons.sort();
            let verdict = reasons.iter().map(Reason::speaks_for).min().unwrap_or(Verdict::OutOfScope);
            verdicts.push(TagVerdict { at: TagAt { tag, ..first }, verdict, reasons });
        }
    }
}
