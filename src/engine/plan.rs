//! Derivation of removals and refusals from verdicts.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::Verdicts;
use super::date::tag_date;
use super::expired_tags::expiring_policies;
use super::graph::index;
use super::limits::{DeletionCounts, RemovalCounts, refuse_removals};
use super::removal_dependencies::RemovalDependencies;
use super::same_content::ContentComparison;
use crate::domain::{
    Inventory, Plan, Policy, PolicyMode, PolicyName, Reason, Refusal, RefusalScope, Registry, Removal, Repository,
    Rules, TagVerdict, Verdict,
};

/// Returns the removals that follow from the verdicts on an inventory, and the limits that forbid them.
///
/// A removal is enforced only if every policy that expires it says so. It must also follow if the tags that are not
/// enforced, or that a policy's own limit refuses, are retained: a dry run of an index's policy must not permit the
/// removal of its children.
#[must_use]
pub fn plan(rules: &Rules, inventory: &Inventory, verdicts: &Verdicts, now: Timestamp) -> Plan {
    let mut planner = RemovalPlanner::new(rules, now);
    let place = |found: &TagVerdict| (found.position.registry, found.position.repository);
    let mut places: Vec<(&Registry, &Repository, &[TagVerdict])> = verdicts
        .tags
        .chunk_by(|a, b| place(a) == place(b))
        .filter_map(|here| {
            let registry = inventory.registries.get(index(here[0].position.registry))?;
            Some((registry, registry.repositories.get(index(here[0].position.repository))?, here))
        })
        .collect();
    places.sort_by(|a, b| (&a.0.name, &a.1.name).cmp(&(&b.0.name, &b.1.name)));
    let mut counts = RemovalCounts::default();
    let mut by_repository: Vec<RepositoryRemovals> = Vec::new();
    for (registry, repository, here) in places {
        let found = planner.plan_repository(registry, repository, here);
        if !found.removals.is_empty() {
            counts.add(registry, repository, &found.removals);
            by_repository.push(found);
        }
    }
    let mut contents = ContentComparison::new(inventory.registries.len());
    for registry in &inventory.registries {
        registry.repositories.iter().for_each(|repository| contents.add(registry, repository));
    }
    let mut refusals = refuse_removals(rules, &inventory.registries, &counts);
    refusals.extend(contents.refusals(&inventory.registries, (&counts, &DeletionCounts::default())).0);
    refusals.sort_by(|a, b| a.scope.cmp(&b.scope));
    for found in &mut by_repository {
        found.unenforce_dependents(&refusals);
    }
    Plan { removals: by_repository.into_iter().flat_map(|found| found.removals).collect(), refusals, ..Plan::default() }
}

/// Plans the removals of verdicts, repository by repository.
pub struct RemovalPlanner<'a> {
    policies: HashMap<&'a PolicyName, &'a Policy>,
    lists: PolicyLists,
    now: Timestamp,
}

/// The removals of one repository, by tag, and their dependencies.
#[derive(Debug, Clone, Default)]
pub struct RepositoryRemovals {
    /// The removals.
    pub removals: Vec<Removal>,
    /// The dependencies that may keep some of them from being enforced.
    pub dependencies: RemovalDependencies,
}

impl<'a> RemovalPlanner<'a> {
    /// Creates a planner with the modes of these policies.
    #[must_use]
    pub fn new(rules: &'a Rules, now: Timestamp) -> Self {
        let policies = rules.policies.iter().map(|policy| (&policy.name, policy)).collect();
        Self { policies, lists: PolicyLists::default(), now }
    }

    /// Plans the removals of the expired tags of one repository. Dependents of a tag that is only reported are only
    /// reported, too; limits are not applied yet.
    #[must_use]
    pub fn plan_repository(
        &mut self,
        registry: &Registry,
        repository: &Repository,
        verdicts: &[TagVerdict],
    ) -> RepositoryRemovals {
        let expired = verdicts.iter().filter(|found| found.verdict == Verdict::Expired);
        let mut removals = Vec::with_capacity(expired.clone().count());
        removals.extend(
            expired.filter_map(|found| removal(registry, repository, found, &self.policies, &mut self.lists, self.now)),
        );
        // In place, because there may be a hundred thousand: no two have the same position.
        removals.sort_unstable_by(|a, b| (&a.tag, a.position).cmp(&(&b.tag, b.position)));
        let dependencies = RemovalDependencies::of(registry.removal, repository, &removals);
        let mut found = RepositoryRemovals { removals, dependencies };
        found.unenforce_dependents(&[]);
        found
    }
}

impl RepositoryRemovals {
    /// Clears `enforce` for dependents of a tag that is not really removed, because of a dry run or of a policy's
    /// refusal. (Refusals of a repository or more cover everything that could depend on each other.)
    ///
    /// Returns the positions of those that were enforced before.
    pub fn unenforce_dependents(&mut self, refusals: &[Refusal]) -> Vec<u32> {
        let Self { removals, dependencies } = self;
        if dependencies.is_empty() {
            return Vec::new();
        }
        let mut refusals = refusals.iter().filter(|refusal| {
            let of_policy = matches!(refusal.scope, RefusalScope::Policy(_) | RefusalScope::PolicyInRepository(..));
            refusal.binding && of_policy
        });
        let scopes: Vec<&RefusalScope> = refusals.by_ref().map(|refusal| &refusal.scope).collect();
        let refused: Vec<bool> =
            removals.iter().map(|removal| scopes.iter().any(|scope| scope.covers(removal))).collect();
        let stays: Vec<bool> =
            removals.iter().zip(&refused).map(|(removal, refused)| !removal.enforce || *refused).collect();
        let held = dependencies.held_by(&stays);
        let mut changed = Vec::new();
        for (position, ((removal, refused), held)) in (0..).zip(removals.iter_mut().zip(refused).zip(held)) {
            if removal.enforce && !refused && held {
                removal.enforce = false;
                changed.push(position);
            }
        }
        changed
    }
}

/// Interned lists of policies: there are many removals, and few different lists.
#[derive(Default)]
struct PolicyLists(Vec<Arc<[PolicyName]>>);

impl PolicyLists {
    /// Returns the interned list of these policies, sorted. Removals of a repository usually share the latest one.
    fn share(&mut self, mut policies: Vec<&PolicyName>) -> Arc<[PolicyName]> {
        policies.sort_unstable();
        policies.dedup();
        let known = self.0.iter().rev().find(|list| list.iter().eq(policies.iter().copied()));
        if let Some(list) = known {
            return Arc::clone(list);
        }
        let list: Arc<[PolicyName]> = policies.into_iter().cloned().collect();
        self.0.push(Arc::clone(&list));
        list
    }
}

/// Returns the removal of an expired tag; `None` if the verdict is not of this repository, or no policy expires the
/// tag.
fn removal(
    registry: &Registry,
    repository: &Repository,
    found: &TagVerdict,
    modes: &HashMap<&PolicyName, &Policy>,
    lists: &mut PolicyLists,
    now: Timestamp,
) -> Option<Removal> {
    let tag = repository.tags.get(index(found.position.tag))?;
    let digest = tag.digest.as_ref()?;
    let policies = lists.share(expiring_policies(found).collect());
    let policy = policies.first()?.clone();
    let companion_of = found.reasons.iter().find_map(|reason| match reason {
        Reason::CompanionOfExpired { subject, .. } => Some(subject.clone()),
        _ => None,
    });
    let enforced = |name| modes.get(name).is_some_and(|policy| policy.mode == PolicyMode::Enforce);
    Some(Removal {
        position: found.position,
        registry: registry.name.clone(),
        repository: repository.name.clone(),
        tag: tag.name.clone(),
        digest: digest.clone(),
        policy,
        method: registry.removal,
        enforce: companion_of.is_some() || policies.iter().all(enforced),
        policies,
        date: tag_date(repository, tag, now),
        companion_of,
    })
}
