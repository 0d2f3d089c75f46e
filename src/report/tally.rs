//! The sums over a plan's tags for its head, added up repository by repository.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::IdleRepositoryView;
use super::idle::IdleTally;
use super::source_counts::{RepositorySource, SourceCounter, SourceCounts};
use crate::domain::{
    Claims, Gap, Inventory, PolicyName, Reason, Registry, RegistryName, Repository, RepositoryName, Rules, SourceName,
    TagVerdict, Verdict,
};
use crate::engine::{self, RepositoryDecision, Verdicts};

/// Counts of tags, policies, sources and gaps over the repositories of a plan. The tags themselves are not stored, so
/// memory grows with repositories, sources, policies, gaps and mentions, but not with tags.
///
/// Repositories may be added in any order with the same result.
#[derive(Debug)]
pub struct PlanTally<'a> {
    sources: SourceCounter<'a>,
    /// Positions of the policies by name.
    policies: HashMap<&'a PolicyName, u32>,
    policy_count: usize,
    rules: &'a Rules,
    evaluated_at: Timestamp,
    registries: BTreeMap<RegistryName, BTreeMap<RepositoryName, RepositoryTally>>,
}

/// The number of tags by verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerdictCounts {
    /// Tags to remove.
    pub expired: u64,
    /// Tags that a keep rule keeps.
    pub retained: u64,
    /// Tags that a claim, a lock, an index or a referrer protects.
    pub protected: u64,
    /// Tags with missing information.
    pub undecided: u64,
    /// Tags that no policy selects.
    pub out_of_scope: u64,
}

/// The counts of one repository.
#[derive(Debug)]
struct RepositoryTally {
    tags: u64,
    verdicts: VerdictCounts,
    /// The policies that select or expire a tag, with their positions.
    policies: Box<[(u32, PolicyCounts)]>,
    sources: Box<[RepositorySource]>,
    gaps: Box<[Gap]>,
    /// For each policy with `idle` that selects it or may select it.
    idle: Box<[IdleTally]>,
}

/// One policy in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PolicyCounts {
    /// The tags that it selects.
    pub(super) selected: u64,
    /// The expired tags that it does not keep.
    pub(super) expired: u64,
}

/// The counts of one registry.
#[derive(Debug, Default)]
pub(super) struct RegistryTally<'t> {
    pub(super) repositories: u64,
    pub(super) tags: u64,
    /// The gaps in its repositories, by name.
    pub(super) gaps: Vec<(&'t RepositoryName, &'t Gap)>,
}

impl<'a> PlanTally<'a> {
    /// Creates an empty tally for these sources and policies, and for the time of the evaluation.
    #[must_use]
    pub fn new(claims: &'a Claims, rules: &'a Rules, evaluated_at: Timestamp) -> Self {
        Self {
            sources: SourceCounter::new(claims),
            policies: rules.policies.iter().map(|policy| &policy.name).zip(0..).collect(),
            policy_count: rules.policies.len(),
            rules,
            evaluated_at,
            registries: BTreeMap::new(),
        }
    }

    /// Adds a repository and the decision on it, replacing an earlier addition.
    ///
    /// The repositories in `registry` are not used.
    pub fn add(&mut self, registry: &Registry, repository: &Repository, decision: &RepositoryDecision) {
        self.add_verdicts(registry, repository, &decision.verdicts.tags);
    }

    /// Adds all repositories of an inventory.
    pub(super) fn add_inventory(&mut self, inventory: &Inventory, verdicts: &Verdicts) {
        let mut rest = verdicts.tags.as_slice();
        for (at, registry) in (0_u32..).zip(&inventory.registries) {
            for (place, repository) in (0_u32..).zip(&registry.repositories) {
                let here = |found: &TagVerdict| (found.position.registry, found.position.repository) <= (at, place);
                let (found, after) = rest.split_at(rest.partition_point(here));
                self.add_verdicts(registry, repository, found);
                rest = after;
            }
        }
    }

    fn add_verdicts(&mut self, registry: &Registry, repository: &Repository, verdicts: &[TagVerdict]) {
        let mut counts = VerdictCounts::default();
        for found in verdicts {
            counts.add(found.verdict);
        }
        let tally = RepositoryTally {
            tags: repository.tags.len() as u64,
            verdicts: counts,
            policies: self.count_policies(verdicts),
            sources: self.sources.count(registry, repository, verdicts).into(),
            gaps: repository.gaps.as_slice().into(),
            idle: self.idle(registry, repository, verdicts),
        };
        self.registries.entry(registry.name.clone()).or_default().insert(repository.name.clone(), tally);
    }

    /// Returns what policies with `idle` make of a repository. One that the plan leaves out has no verdicts.
    fn idle(&self, registry: &Registry, repository: &Repository, verdicts: &[TagVerdict]) -> Box<[IdleTally]> {
        if verdicts.is_empty() {
            return Box::default();
        }
        let found = engine::idle_for(self.rules, registry, repository, self.evaluated_at);
        found.into_iter().map(|one| IdleTally::new(one, verdicts)).collect()
    }

    /// Returns the repositories that policies select by `idle`, or may select, by registry and name.
    pub(super) fn idle_repositories(&self) -> Vec<IdleRepositoryView> {
        let mut views = Vec::new();
        for (registry, repositories) in &self.registries {
            for (repository, tally) in repositories {
                views.extend(tally.idle.iter().map(|one| one.view(registry, repository)));
            }
        }
        views
    }

    fn count_policies(&self, verdicts: &[TagVerdict]) -> Box<[(u32, PolicyCounts)]> {
        let mut counts = vec![PolicyCounts::default(); self.policy_count];
        let mut named: Vec<usize> = Vec::new();
        for found in verdicts {
            self.name_policies(found, selecting_policy, &mut named);
            for &policy in &named {
                counts[policy].selected += 1;
            }
            if found.verdict == Verdict::Expired {
                self.name_policies(found, not_keeping_policy, &mut named);
                for &policy in &named {
                    counts[policy].expired += 1;
                }
            }
        }
        (0..).zip(counts).filter(|(_, counts)| *counts != PolicyCounts::default()).collect()
    }

    /// Collects the positions of the policies that a tag's reasons name into `named`, each once.
    fn name_policies(
        &self,
        found: &TagVerdict,
        policy: impl Fn(&Reason) -> Option<&PolicyName>,
        named: &mut Vec<usize>,
    ) {
        named.clear();
        let mentioned = found.reasons.iter().filter_map(policy);
        named.extend(mentioned.filter_map(|name| self.policies.get(name)).map(|position| *position as usize));
        named.sort_unstable();
        named.dedup();
    }

    /// Returns the verdicts in each repository, by registry and name.
    pub fn repositories(&self) -> impl Iterator<Item = (&RegistryName, &RepositoryName, VerdictCounts)> {
        self.registries.iter().flat_map(|(registry, repositories)| {
            repositories.iter().map(move |(repository, tally)| (registry, repository, tally.verdicts))
        })
    }

    /// Returns the verdicts in all repositories.
    #[must_use]
    pub fn verdicts(&self) -> VerdictCounts {
        self.tallies().map(|tally| tally.verdicts).fold(VerdictCounts::default(), VerdictCounts::plus)
    }

    fn tallies(&self) -> impl Iterator<Item = &RepositoryTally> {
        self.registries.values().flat_map(BTreeMap::values)
    }

    /// Returns the policies that select or expire a tag.
    pub(super) fn policies(&self) -> HashMap<&'a PolicyName, PolicyCounts> {
        let mut totals = vec![PolicyCounts::default(); self.policy_count];
        for (position, counts) in self.tallies().flat_map(|tally| &tally.policies) {
            let total = &mut totals[*position as usize];
            total.selected += counts.selected;
            total.expired += counts.expired;
        }
        self.policies.iter().map(|(name, position)| (*name, totals[*position as usize])).collect()
    }

    /// Returns the sources by name.
    pub(super) fn sources(&self) -> BTreeMap<&'a SourceName, SourceCounts> {
        self.sources.totals(self.tallies().map(|tally| &*tally.sources))
    }

    /// Returns the counts of a registry.
    pub(super) fn registry(&self, name: &RegistryName) -> RegistryTally<'_> {
        let mut found = RegistryTally::default();
        for (repository, tally) in self.registries.get(name).into_iter().flatten() {
            found.repositories += 1;
            found.tags += tally.tags;
            found.gaps.extend(tally.gaps.iter().map(|gap| (repository, gap)));
        }
        found
    }
}

impl VerdictCounts {
    /// Counts another tag.
    fn add(&mut self, verdict: Verdict) {
        let count = match verdict {
            Verdict::Expired => &mut self.expired,
            Verdict::Retained => &mut self.retained,
            Verdict::Protected => &mut self.protected,
            Verdict::Undecided => &mut self.undecided,
            Verdict::OutOfScope => &mut self.out_of_scope,
        };
        *count += 1;
    }

    /// Returns the number of all tags.
    #[must_use]
    pub fn total(self) -> u64 {
        self.expired + self.retained + self.protected + self.undecided + self.out_of_scope
    }

    /// Returns the sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            expired: self.expired + other.expired,
            retained: self.retained + other.retained,
            protected: self.protected + other.protected,
            undecided: self.undecided + other.undecided,
            out_of_scope: self.out_of_scope + other.out_of_scope,
        }
    }
}

/// Returns the policy that expires a tag by this reason.
fn not_keeping_policy(reason: &Reason) -> Option<&PolicyName> {
    match reason {
        Reason::NotKept { policy, .. } | Reason::CompanionOfExpired { policy, .. } => Some(policy),
        _ => None,
    }
}

/// Returns the policy that selects the tag and contributes this reason.
fn selecting_policy(reason: &Reason) -> Option<&PolicyName> {
    match reason {
        Reason::KeptAll { policy }
        | Reason::KeptNewest { policy, .. }
        | Reason::KeptWithin { policy, .. }
        | Reason::KeptBucket { policy, .. }
        | Reason::KeptVersion { policy, .. }
        | Reason::KeptMatching { policy, .. }
        | Reason::KeptImageWith { policy, .. }
        | Reason::KeptPulled { policy, .. }
        | Reason::PullTimeUnknown { policy }
        | Reason::Undated { policy, .. }
        | Reason::NotAVersion { policy }
        | Reason::SelectionUnknown { policy, .. }
        | Reason::NotKept { policy, .. } => Some(policy),
        Reason::NotSelected
        | Reason::Held(_)
        | Reason::Claimed(_)
        | Reason::Mentioned(_)
        | Reason::Locked { .. }
        | Reason::ChildOfKept { .. }
        | Reason::CompanionOfKept { .. }
        | Reason::CompanionOfUnknown { .. }
        | Reason::SubjectOfKept { .. }
        | Reason::SharesManifest { .. }
        | Reason::LastTag
        | Reason::SourceFailed { .. }
        | Reason::Gap { .. }
        | Reason::MaybeClaimed(_)
        | Reason::UnresolvedReference(_)
        | Reason::IndexUnread { .. }
        | Reason::CompanionOfExpired { .. } => None,
    }
}
