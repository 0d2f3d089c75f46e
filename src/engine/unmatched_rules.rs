//! What an enforcing run leaves alone because a rule that might have protected it matches nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::Verdicts;
use super::companion::companions;
use super::graph::{Graph, Traversal, index};
use super::plan::unenforce_dependents;
use crate::domain::{
    Coverage, Inventory, Plan, Policy, PolicyName, Refusal, RefusalReason, RefusalScope, RegistryName, RepositoryName,
    RuleEffect, RuleKey, Rules, TagVerdict, UnmatchedRule,
};

/// Refuses the removals and deletions that unmatched rules might have forbidden, and holds what hangs on these.
///
/// An exclusion or a `matching` glob covers what its own policy lets go. A rule of a policy with `keep: all` covers
/// whatever goes in the registries and repositories that the rest of its selector names.
#[must_use]
pub fn refuse_unmatched(
    rules: &Rules,
    inventory: &Inventory,
    verdicts: &Verdicts,
    mut plan: Plan,
    coverage: Coverage,
) -> Plan {
    let expired: Vec<Option<&TagVerdict>> = plan.removals.iter().map(|removal| verdicts.at(removal.position)).collect();
    let mut removals = AffectedRemovals::default();
    for removal in &plan.removals {
        removals.add((&removal.registry, &removal.repository), removal.policies.iter(), removal.enforce);
    }
    let mut deletions = AffectedRemovals::default();
    for deletion in plan.deletions.deletable() {
        deletions.add((&deletion.registry, &deletion.repository), deletion.policies.iter(), deletion.enforce);
    }
    let (mut against_removals, mut against_deletions) = (Vec::new(), Vec::new());
    for unmatched in coverage.unmatched.iter().filter(|unmatched| unmatched.blocks_removals()) {
        let Some(policy) = rules.policies.iter().find(|policy| policy.name == unmatched.rule.policy) else { continue };
        against_removals.extend(removals.refuse(policy, unmatched));
        against_deletions.extend(deletions.refuse(policy, unmatched));
    }
    let refuses = !against_removals.is_empty();
    plan.refusals.extend(against_removals);
    plan.refusals.sort_by(|a, b| a.scope.cmp(&b.scope));
    plan.deletions.refusals.extend(against_deletions);
    plan.deletions.refusals.sort_by(|a, b| a.scope.cmp(&b.scope));
    plan.coverage = coverage;
    if refuses && let Some(expired) = expired.into_iter().collect::<Option<Vec<&TagVerdict>>>() {
        unenforce_dependents(inventory, &expired, &mut plan.removals, &plan.refusals);
    }
    unenforce_deletions(inventory, &mut plan);
    plan
}

/// Removals or deletions by what rules may cover, and whether some of them would be enforced.
#[derive(Default)]
struct AffectedRemovals<'a> {
    policies: BTreeMap<&'a PolicyName, bool>,
    registries: BTreeMap<&'a RegistryName, bool>,
    places: BTreeMap<(&'a RegistryName, &'a RepositoryName), bool>,
}

impl<'a> AffectedRemovals<'a> {
    fn add(
        &mut self,
        place: (&'a RegistryName, &'a RepositoryName),
        policies: impl Iterator<Item = &'a PolicyName>,
        enforced: bool,
    ) {
        policies.for_each(|policy| *self.policies.entry(policy).or_default() |= enforced);
        *self.registries.entry(place.0).or_default() |= enforced;
        *self.places.entry(place).or_default() |= enforced;
    }

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
        // A name that no registry has may be meant for any of them.
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

/// Takes `enforce` from deletions of what a refused one holds, or refers to: it stays, and needs them.
fn unenforce_deletions(inventory: &Inventory, plan: &mut Plan) {
    let refused: Vec<bool> = plan
        .deletions
        .eligible
        .iter()
        .map(|one| one.is_deletable() && plan.refusal_for_deletion(one).is_some())
        .collect();
    let places: BTreeSet<(RegistryName, RepositoryName)> = plan
        .deletions
        .eligible
        .iter()
        .zip(&refused)
        .filter(|(_, refused)| **refused)
        .map(|(one, _)| (one.registry.clone(), one.repository.clone()))
        .collect();
    for (registry, repository) in places {
        let found = inventory.registry(registry.as_str()).and_then(|found| found.repository(repository.as_str()));
        let Some(found) = found else { continue };
        let companions = companions(found);
        let graph = Graph::new(found, &companions);
        let here = |one: &crate::domain::Deletion| one.registry == registry && one.repository == repository;
        let held = plan.deletions.eligible.iter().zip(&refused).filter(|(one, refused)| **refused && here(one));
        let all = held
            .flat_map(|(one, _)| std::iter::once(&one.digest).chain(one.dependents.iter().map(|along| &along.digest)));
        let kept = graph.reachable(all.filter_map(|digest| graph.node(digest)), Traversal::DownAndToSubjects);
        for (one, _) in
            plan.deletions.eligible.iter_mut().zip(&refused).filter(|(one, refused)| !**refused && here(one))
        {
            let mut all = std::iter::once(&one.digest).chain(one.dependents.iter().map(|along| &along.digest));
            if all.any(|digest| graph.node(digest).is_some_and(|node| kept[index(node)])) {
                one.enforce = false;
            }
        }
    }
}
