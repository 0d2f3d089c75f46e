//! From rules, inventory and claims to one verdict for each tag.

use std::collections::HashMap;

use jiff::Timestamp;

use super::claims::{ClaimIndex, claim_texts};
use super::companion::{Companion, companions};
use super::date::{no_later_than, tag_date};
use super::graph::{Graph, index};
use super::holds::HoldIndex;
use super::keep::add_rule_reasons;
use super::mentions::MentionIndex;
use super::protect::protect;
use super::reason_table::ReasonTable;
use super::select::{Candidate, applies_to, select};
use super::uncertain_claims::UncertainClaims;
use super::{UnreadConfiguration, Verdicts};
use crate::domain::{
    Claims, Drift, Gap, GapTarget, Inventory, LockTarget, Policy, Reason, Registry, RemovalMethod, Repository, Rules,
    SourceName, TagName, TagPosition,
};

/// Most gaps of other tags that each tag of a repository names. Beyond, only its own are added: one is enough to stay,
/// and a repository half unread has as many gaps as tags.
const MAX_GAPS_NAMED: usize = 8;

/// The label of the gap that a tag without a digest is, where the reader named none.
const UNREAD: &str = "unread";

/// What is decided about every tag at `now`, with all reasons, and which records no longer fit.
///
/// Total: whatever the inventory says, however it contradicts itself, each of its tags gets one verdict.
#[must_use]
pub fn evaluate(rules: &Rules, inventory: &Inventory, claims: &Claims, now: Timestamp) -> Verdicts {
    let texts = claim_texts(claims);
    let mut policies: Vec<&Policy> = rules.policies.iter().collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    let mut verdicts = Verdicts { tags: Vec::with_capacity(inventory.tag_count()), ..Verdicts::default() };
    for (position, registry) in (0..).zip(&inventory.registries) {
        let scope = RegistryEvaluation {
            rules,
            registry,
            now,
            policies: policies.iter().copied().filter(|policy| policy.covers(&registry.name)).collect(),
            claims: ClaimIndex::new(registry, claims, &texts),
            holds: HoldIndex::new(registry, claims, now),
            mentions: MentionIndex::new(registry, claims),
            doubts: UncertainClaims::new(inventory, registry, claims),
            failed: claims
                .sources
                .iter()
                .filter(|source| source.has_failed() && source.covers(&registry.name))
                .map(|source| &source.name)
                .collect(),
        };
        scope.claims.add_missing_repositories(registry, &mut verdicts.drift);
        for (place, repository) in (0..).zip(&registry.repositories) {
            let first = TagPosition { registry: position, repository: place, tag: 0 };
            scope.evaluate_repository(repository, first, &mut verdicts);
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
struct RegistryEvaluation<'a> {
    rules: &'a Rules,
    registry: &'a Registry,
    now: Timestamp,
    policies: Vec<&'a Policy>,
    claims: ClaimIndex<'a>,
    holds: HoldIndex<'a>,
    mentions: MentionIndex<'a>,
    doubts: UncertainClaims<'a>,
    failed: Vec<&'a SourceName>,
}

impl RegistryEvaluation<'_> {
    fn evaluate_repository(&self, repository: &Repository, first: TagPosition, verdicts: &mut Verdicts) {
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
        claimed.extend(self.mentions.add_reasons(repository, &graph, &mut found));
        let doubts = self.doubts.for_repository(repository);
        doubts.add_reasons(&graph, &mut found);
        protect(repository, &graph, &companions, &claimed, self.registry.removal, &mut found);
        let TagPosition { registry, repository, .. } = first;
        let unread = doubts.needed_configurations(&graph, &found).into_iter();
        verdicts.unread.extend(unread.map(|digest| UnreadConfiguration { registry, repository, digest }));
        found.into_verdicts(first, &mut verdicts.tags);
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
        for policy in self.policies.iter().filter(|policy| applies_to(policy, self.registry, repository)) {
            let selected = select(policy, &candidates);
            for one in &selected {
                spoken_of[index(one.candidate.tag)] = true;
            }
            add_rule_reasons(policy, &selected, &self.rules.timezone, self.now, found);
        }
        for candidate in candidates.iter().filter(|candidate| !spoken_of[index(candidate.tag)]) {
            found.add(candidate.tag, Reason::NotSelected);
        }
    }

    fn add_gap_reasons(&self, repository: &Repository, graph: &Graph<'_>, found: &mut ReasonTable) {
        let reason = |gap: &Gap| Reason::Gap { target: Box::new(gap.target.clone()), kind: gap.kind };
        // A tag of an invalid name may name any image, and would go with it.
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
                | GapTarget::Configuration(_) => {}
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
            let date = tag_date(repository, facts, now);
            let no_later_than = date.timestamp().map_or_else(|| no_later_than(repository, facts, now), |_| None);
            candidates.push(Candidate { tag, name: &facts.name, image: graph.of_tag(tag), date, no_later_than });
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
