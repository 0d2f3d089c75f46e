//! Refusals by unmatched rules: an enforcing run does not remove what such a rule might have protected.

use super::graph::index;
use super::limits::{AffectedScopes, DeletionCounts, RemovalCounts};
use super::plan::RepositoryRemovals;
use super::removal_dependencies::{DeletionDependencies, RemovalDependencies};
use crate::domain::{
    Coverage, Deletion, Inventory, Plan, Policy, Refusal, RefusalReason, RefusalScope, Registry, RegistryName, Removal,
    Repository, RepositoryName, RuleEffect, RuleKey, Rules, UnmatchedRule,
};

/// Refuses the removals and deletions that unmatched rules might have forbidden, and retains their dependents.
///
/// An exclusion or a `matching` glob covers what its own policy expires. A rule of a policy with `keep: all` covers
/// everything that expires in the registries and repositories that the rest of its selector names.
#[must_use]
pub fn refuse_unmatched(rules: &Rules, inventory: &Inventory, mut plan: Plan, coverage: Coverage) -> Plan {
    let (mut removals, mut deletions) = (RemovalCounts::default(), DeletionCounts::default());
    for (registry, repository, here) in removals_by_repository(inventory, &plan.removals) {
        removals.add(registry, repository, here);
    }
    deletions.add(plan.deletions.deletable());
    let (against_removals, against_deletions) = unmatched_refusals(rules, &coverage, &removals, &deletions);
    let refuses = !against_removals.is_empty();
    plan.refusals.extend(against_removals);
    plan.refusals.sort_by(|a, b| a.scope.cmp(&b.scope));
    plan.deletions.refusals.extend(against_deletions);
    plan.deletions.refusals.sort_by(|a, b| a.scope.cmp(&b.scope));
    plan.coverage = coverage;
    if refuses {
        let mut unenforced = Vec::with_capacity(plan.removals.len());
        for (registry, repository, here) in removals_by_repository(inventory, &plan.removals) {
            let dependencies = RemovalDependencies::of(registry.removal, repository, here);
            let mut found = RepositoryRemovals { removals: here.to_vec(), dependencies };
            found.unenforce_dependents(&plan.refusals);
            unenforced.extend(found.removals);
        }
        plan.removals = unenforced;
    }
    unenforce_deletions(inventory, &mut plan);
    plan
}

/// Returns the refusals of removals and of deletions that follow from unmatched rules.
#[must_use]
pub fn unmatched_refusals(
    rules: &Rules,
    coverage: &Coverage,
    removals: &RemovalCounts,
    deletions: &DeletionCounts,
) -> (Vec<Refusal>, Vec<Refusal>) {
    let (removals, deletions) = (AffectedScopes::of_removals(removals), AffectedScopes::of_deletions(deletions));
    let (mut against_removals, mut against_deletions) = (Vec::new(), Vec::new());
    for unmatched in coverage.unmatched.iter().filter(|unmatched| unmatched.blocks_removals()) {
        let Some(policy) = rules.policies.iter().find(|policy| policy.name == unmatched.rule.policy) else { continue };
        against_removals.extend(removals.refuse(policy, unmatched));
        against_deletions.extend(deletions.refuse(policy, unmatched));
    }
    (against_removals, against_deletions)
}

/// Returns the removals of a plan, repository by repository.
fn removals_by_repository<'a>(
    inventory: &'a Inventory,
    removals: &'a [Removal],
) -> impl Iterator<Item = (&'a Registry, &'a Repository, &'a [Removal])> {
    let place = |removal: &Removal| (removal.position.registry, removal.position.repository);
    removals.chunk_by(move |a, b| place(a) == place(b)).filter_map(|here| {
        let registry = inventory.registries.get(index(here[0].position.registry))?;
        Some((registry, registry.repositories.get(index(here[0].position.repository))?, here))
    })
}

impl AffectedScopes<'_> {
    fn refuse(&self, policy: &Policy, unmatched: &UnmatchedRule) -> Vec<Refusal> {
        let refusal = |scope, binding: bool| {
            let why = RefusalReason::UnmatchedRule(Box::new(unmatched.clone()));
            Refusal { scope, reason: why, binding }
        };
        let key = unmatched.rule.key;
        if unmatched.effect != RuleEffect::KeepsAll {
            let found = self.policies.get(&policy.name);
            return found
                .map(|&enforced| refusal(RefusalScope::Policy(policy.name.clone()), enforced))
                .into_iter()
                .collect();
        }
        // A name that no registry has may refer to any of them.
        let named = |registry: &RegistryName| key == RuleKey::Registries || policy.covers(registry);
        if key == RuleKey::Repositories || policy.select.repositories.is_none() {
            let found = self.registries.iter().filter(|(registry, _)| named(registry));
            return found.map(|(&name, &enforced)| refusal(RefusalScope::Registry(name.clone()), enforced)).collect();
        }
        let named = |(registry, repository): &(&RegistryName, &RepositoryName)| {
            let globs = policy.select.repositories.as_ref();
            named(registry) && globs.is_none_or(|globs| globs.matches(repository.as_str()))
        };
        let found = self.places.iter().filter(|(place, _)| named(place));
        found
            .map(|(&(registry, repository), &enforced)| {
                refusal(RefusalScope::Repository(registry.clone(), repository.clone()), enforced)
            })
            .collect()
    }
}

/// Clears `enforce` for deletions of manifests that a refused one needs or refers to: it is retained with them.
fn unenforce_deletions(inventory: &Inventory, plan: &mut Plan) {
    let refusals = std::mem::take(&mut plan.deletions.refusals);
    let place = |one: &Deletion| (one.registry.clone(), one.repository.clone());
    for here in plan.deletions.eligible.chunk_by_mut(|a, b| place(a) == place(b)) {
        let (registry, repository) = place(&here[0]);
        let found = inventory.registry(registry.as_str()).and_then(|found| found.repository(repository.as_str()));
        let Some(found) = found else { continue };
        unenforce_deletions_among(here, &DeletionDependencies::of_deletions(found, here), [&plan.refusals, &refusals]);
    }
    plan.deletions.refusals = refusals;
}

/// Clears `enforce` for the deletions of one repository that depend on refused ones. `refusals` are those of removals
/// and those of deletions.
pub fn unenforce_deletions_among(
    deletions: &mut [Deletion],
    dependencies: &DeletionDependencies,
    refusals: [&[Refusal]; 2],
) {
    let covers = |one: &Deletion| {
        let mut refusals = refusals.into_iter().flatten();
        refusals.any(|refusal| refusal.binding && refusal.scope.covers_deletion(one))
    };
    let refused: Vec<bool> = deletions.iter().map(|one| one.is_deletable() && covers(one)).collect();
    if !refused.contains(&true) {
        return;
    }
    let held = dependencies.held_by(&refused);
    for ((one, refused), held) in deletions.iter_mut().zip(refused).zip(held) {
        if !refused && held {
            one.enforce = false;
        }
    }
}
