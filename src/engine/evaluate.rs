//! From rules, inventory and claims to one verdict for each tag.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::claims::{ClaimIndex, claim_texts};
use super::companion::{Companion, companions};
use super::date::{no_later_than, tag_date};
use super::graph::{Graph, index};
use super::holds::HoldIndex;
use super::keep::add_rule_reasons;
use super::lacking_facts::lacking_facts;
use super::mentions::{MentionIndex, RepositoryMentions};
use super::placed_digests::{AbsentDigest, PlacedDigests};
use super::protect::protect;
use super::reason_table::ReasonTable;
use super::select::{Candidate, Selection, SelectorFacts, applies_to, select};
use super::uncertain_claims::UncertainClaims;
use super::unread_indexes::{UnreadFacts, hold_unread};
use super::{UnreadConfiguration, UnreadManifest, UnreadTexts, Verdicts};
use crate::domain::{
    Claims, Gap, GapTarget, Inventory, LockTarget, Policy, PolicyMode, PolicyName, Reason, Registry, RemovalMethod,
    Repository, Rules, SourceName, TagName, TagPosition, UnreadCause,
};

/// Most gaps of other tags that are listed for each tag of a repository. Beyond that, only its own are added: one is
/// enough to retain it, and a half-read repository has as many gaps as tags.
const MAX_GAPS_NAMED: usize = 8;

/// The label of the gap of a tag without a digest, if the reader named none.
const UNREAD: &str = "unread";

/// Decides every tag at `now`, with all reasons, and finds the records that have drifted.
///
/// Total: however the inventory contradicts itself, each of its tags gets one verdict.
#[must_use]
pub fn evaluate(rules: &Rules, inventory: &Inventory, claims: &Claims, now: Timestamp) -> Verdicts {
    let (texts, placed) = (claim_texts(claims), PlacedDigests::of(inventory, claims));
    let mut verdicts = Verdicts { tags: Vec::with_capacity(inventory.tag_count()), ..Verdicts::default() };
    for (position, registry) in (0..).zip(&inventory.registries) {
        let scope = RegistryEvaluation::new(rules, registry, (claims, &texts), now);
        let names = registry.repositories.iter().map(|repository| repository.name.as_str());
        scope.claims.add_missing_repositories(registry, names, &mut verdicts.drift);
        for (place, repository) in (0..).zip(&registry.repositories) {
            let first = TagPosition { registry: position, repository: place, tag: 0 };
            let mentions = scope.mentions.in_repository(registry, repository, &[]);
            scope.evaluate_repository((repository, first), &mentions, &placed, &mut verdicts);
        }
    }
    verdicts.sort_drift();
    verdicts
}

/// The inputs shared by all repositories of a registry. The repositories in `registry` are not used.
pub(super) struct RegistryEvaluation<'a> {
    pub(super) rules: &'a Rules,
    pub(super) registry: &'a Registry,
    pub(super) now: Timestamp,
    policies: Vec<&'a Policy>,
    pub(super) claims: ClaimIndex<'a>,
    pub(super) holds: HoldIndex<'a>,
    pub(super) mentions: MentionIndex<'a>,
    pub(super) doubts: UncertainClaims<'a>,
    pub(super) failed: Vec<&'a SourceName>,
}

impl<'a> RegistryEvaluation<'a> {
    /// Prepares the evaluation of a registry. `claims` come with their displayed texts, see [`claim_texts`].
    pub(super) fn new(
        rules: &'a Rules,
        registry: &'a Registry,
        (claims, texts): (&'a Claims, &'a [Arc<str>]),
        now: Timestamp,
    ) -> Self {
        let mut policies: Vec<&Policy> = rules.policies.iter().filter(|policy| policy.covers(&registry.name)).collect();
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        let failed = claims.sources.iter().filter(|source| source.has_failed() && source.covers(&registry.name));
        Self {
            rules,
            registry,
            now,
            policies,
            claims: ClaimIndex::new(registry, claims, texts),
            holds: HoldIndex::new(registry, claims, now),
            mentions: MentionIndex::new(registry, claims),
            doubts: UncertainClaims::new(registry, claims),
            failed: failed.map(|source| &source.name).collect(),
        }
    }

    /// Adds the verdicts on one repository, and returns the claimed digests that were assumed to be in no repository.
    pub(super) fn evaluate_repository(
        &self,
        (repository, first): (&Repository, TagPosition),
        mentions: &RepositoryMentions<'_>,
        placed: &PlacedDigests,
        verdicts: &mut Verdicts,
    ) -> BTreeSet<AbsentDigest> {
        let companions = companions(repository);
        let graph = Graph::new(repository, &companions);
        let mut found = ReasonTable::new(repository.tags.len());
        self.add_policy_reasons(repository, &graph, &companions, &mut found);
        add_lock_reasons(repository, &graph, &mut found);
        self.add_gap_reasons(repository, &graph, &mut found);
        for source in &self.failed {
            found.add_to_all(&Reason::SourceFailed { source: (*source).clone() });
        }
        let mut claimed = self.claims.add_reasons(self.registry, repository, &graph, &mut found, &mut verdicts.drift);
        claimed.extend(self.holds.add_reasons(self.registry, repository, &graph, &mut found, &mut verdicts.drift));
        claimed.extend(mentions.add_reasons(repository, &graph, &mut found));
        let doubts = self.doubts.for_repository(repository, placed);
        doubts.add_reasons(&graph, &mut found);
        protect(repository, &graph, &companions, &claimed, self.registry, &mut found);
        let enforcing = |name: &PolicyName| {
            self.policies.iter().any(|policy| policy.name == *name && policy.mode == PolicyMode::Enforce)
        };
        let unread = UnreadFacts {
            registry: self.registry,
            repository,
            graph: &graph,
            companions: &companions,
            claimed: &claimed,
            may_be_configuration: doubts.may_be_configuration(),
            names_unlisted: &|content| {
                self.claims.may_name_unlisted(content, (self.registry, repository), &graph)
                    || self.holds.may_name_unlisted(repository, &graph)
                    || mentions.may_name_unlisted(content)
            },
            enforcing: &enforcing,
        };
        let mut unread = hold_unread(&unread, &mut found);
        let lacking = lacking_facts(&self.policies, repository, &found);
        for digest in lacking.types {
            unread.entry(digest).or_insert(UnreadCause::Types);
        }
        let TagPosition { registry, repository, .. } = first;
        let texts = lacking.texts.into_iter();
        verdicts.unread_texts.extend(texts.map(|(digest, kind)| UnreadTexts { registry, repository, digest, kind }));
        let unread = unread.into_iter().map(|(digest, cause)| UnreadManifest { registry, repository, digest, cause });
        verdicts.unread_indexes.extend(unread);
        let unread = doubts.needed_configurations(&graph, &found).into_iter();
        verdicts.unread.extend(unread.map(|digest| UnreadConfiguration { registry, repository, digest }));
        let start = verdicts.tags.len();
        found.into_verdicts(first, &mut verdicts.tags);
        // Most of the digests that are claimed anywhere may be absent, which matters only if it retains something.
        let uncertain = |reason: &Reason| matches!(reason, Reason::MaybeClaimed(_) | Reason::IndexUnread { .. });
        let keeps = verdicts.tags[start..].iter().any(|found| found.reasons.iter().any(uncertain));
        if keeps { doubts.assumed_absent() } else { BTreeSet::new() }
    }

    fn add_policy_reasons(
        &self,
        repository: &Repository,
        graph: &Graph<'_>,
        companions: &[Companion],
        found: &mut ReasonTable,
    ) {
        let candidates = candidates(repository, graph, companions, self.now);
        let mut spoken_of = vec![false; repository.tags.len()];
        let facts = SelectorFacts::new(repository, self.now);
        for policy in self.policies.iter().filter(|policy| applies_to(policy, self.registry, repository)) {
            let Selection { selected, unsure, .. } = select(policy, &candidates, &facts);
            for one in &selected {
                spoken_of[index(one.candidate.tag)] = true;
            }
            add_rule_reasons(policy, &candidates, &selected, &self.rules.timezone, self.now, found);
            for (tag, fact) in unsure {
                spoken_of[index(tag)] = true;
                found.add(tag, Reason::SelectionUnknown { policy: policy.name.clone(), fact });
            }
        }
        for candidate in candidates.iter().filter(|candidate| !spoken_of[index(candidate.tag)]) {
            found.add(candidate.tag, Reason::NotSelected);
        }
    }

    fn add_gap_reasons(&self, repository: &Repository, graph: &Graph<'_>, found: &mut ReasonTable) {
        let reason = |gap: &Gap| Reason::Gap { target: Box::new(gap.target.clone()), kind: gap.kind };
        // A tag with an invalid name may name any image, and would be removed with it.
        let blocks = match self.registry.removal {
            RemovalMethod::Untag => Gap::blocks_repository,
            RemovalMethod::DeleteManifest => Gap::may_hide_tag,
        };
        let mut blocking: Vec<&Gap> = self.registry.gaps.iter().filter(|gap| gap.blocks_repository()).collect();
        blocking.extend(repository.gaps.iter().filter(|gap| blocks(gap)));
        blocking.sort();
        blocking.iter().take(MAX_GAPS_NAMED).for_each(|gap| found.add_to_all(&reason(gap)));
        let mut named: HashMap<&TagName, Vec<&Gap>> = HashMap::new();
        for gap in &repository.gaps {
            match &gap.target {
                GapTarget::VanishedTag(tag) | GapTarget::Tag(tag) => named.entry(tag).or_default().push(gap),
                GapTarget::Manifest(digest) | GapTarget::Referrers(digest) => {
                    let tags = graph.node(digest).into_iter().flat_map(|node| graph.tags(node));
                    tags.for_each(|tag| found.add(tag, reason(gap)));
                }
                GapTarget::Catalogue
                | GapTarget::RegistryInfo
                | GapTarget::TagList
                | GapTarget::ManifestList
                | GapTarget::InvalidName(_)
                | GapTarget::ListedDigest(_)
                | GapTarget::CreationTime(_)
                | GapTarget::Configuration(_)
                | GapTarget::Records => {}
            }
        }
        for (tag, facts) in (0..).zip(&repository.tags) {
            match named.get(&facts.name) {
                Some(gaps) => gaps.iter().for_each(|gap| found.add(tag, reason(gap))),
                None if facts.digest.is_none() => {
                    found.add(tag, Reason::Gap { target: Box::new(GapTarget::Tag(facts.name.clone())), kind: UNREAD });
                }
                None => {}
            }
        }
    }
}

/// Returns the tags that policies may select, in order.
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
            let date = tag_date(repository, facts, now);
            let no_later_than = date.timestamp().map_or_else(|| no_later_than(repository, facts, now), |_| None);
            let (image, pulled) = (graph.of_tag(tag), repository.pull_times.get(&facts.name).copied());
            candidates.push(Candidate { tag, name: &facts.name, image, date, no_later_than, pulled });
        }
    }
    candidates
}

fn add_lock_reasons(repository: &Repository, graph: &Graph<'_>, found: &mut ReasonTable) {
    if let Some(lock) = repository.lock {
        found.add_to_all(&Reason::Locked { on: LockTarget::Repository, lock });
    }
    for (tag, facts) in (0..).zip(&repository.tags) {
        if let Some(lock) = facts.lock {
            found.add(tag, Reason::Locked { on: LockTarget::Tag, lock });
        }
        let manifest = graph.of_tag(tag).and_then(|node| graph.manifest(node));
        if let Some(lock) = manifest.and_then(|manifest| manifest.lock) {
            found.add(tag, Reason::Locked { on: LockTarget::Manifest, lock });
        }
    }
}
