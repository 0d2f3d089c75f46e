//! The second count of limits.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{RemovalPolicies, Violation, accompanies};
use crate::domain::{
    GapTarget, PolicyName, Refusal, RefusalScope, Registry, RegistryName, Removal, RemovalAbility, RemovalMethod,
    Repository, RepositoryName, RetentionDays, Rules,
};

/// Removals by the scopes of limits, counted repository by repository.
#[derive(Debug, Default)]
pub(super) struct LimitCounts {
    all: ScopeCounts,
    enforced: ScopeCounts,
    /// The number of tags of each repository, without companions.
    tags: HashMap<(RegistryName, RepositoryName), u64>,
}

#[derive(Debug, Default)]
struct ScopeCounts {
    removals: BTreeMap<RefusalScope, u64>,
    /// Without signatures and the like.
    alone: BTreeMap<RefusalScope, u64>,
}

impl LimitCounts {
    /// Counts the removals of one repository.
    pub(super) fn add(
        &mut self,
        (registry, repository): (&Registry, &Repository),
        removals: &[&Removal],
        owners: &RemovalPolicies<'_>,
    ) {
        if removals.is_empty() {
            return;
        }
        let own = repository.tags.iter().filter(|tag| !accompanies(&tag.name)).count();
        self.tags.insert((registry.name.clone(), repository.name.clone()), own as u64);
        self.all.add(removals, owners);
        let enforced: Vec<&Removal> = removals.iter().copied().filter(|removal| removal.enforce).collect();
        self.enforced.add(&enforced, owners);
    }

    /// Checks that each exceeded limit is refused, and no other.
    pub(super) fn check(
        &self,
        rules: &Rules,
        registries: &[Registry],
        refusals: &[&Refusal],
        findings: &mut Vec<Violation>,
    ) {
        // Limits on deletions are looked at elsewhere, and accepted ones stand among these. What two registries have in
        // common is not counted again: such a refusal only keeps.
        let elsewhere = [super::unmatched::LABEL, "delete-limit", "same-content"];
        let limits = refusals.iter().filter(|refusal| !elsewhere.contains(&refusal.reason.label()));
        let said: BTreeMap<_, bool> =
            limits.map(|refusal| ((&refusal.scope, refusal.reason.label()), refusal.binding)).collect();
        let all = self.exceeded(rules, registries, &self.all);
        let really = self.exceeded(rules, registries, &self.enforced);
        for limit in &all {
            let binding = said.get(&(&limit.0, limit.1));
            if binding.is_none_or(|binding| !binding && really.contains(limit)) {
                findings.push(Violation::MissingRefusal { scope: limit.0.clone(), limit: limit.1 });
            }
        }
        for (scope, limit) in said.into_keys() {
            if !all.contains(&(scope.clone(), limit)) {
                findings.push(Violation::UnfoundedRefusal { scope: scope.clone(), limit });
            }
        }
    }

    /// Returns the limits that these removals exceed.
    fn exceeded(
        &self,
        rules: &Rules,
        registries: &[Registry],
        counted: &ScopeCounts,
    ) -> BTreeSet<(RefusalScope, &'static str)> {
        let ScopeCounts { removals: counts, alone } = counted;
        let tags = &self.tags;
        let forbidden: BTreeSet<(RefusalScope, &'static str)> = registries
            .iter()
            .flat_map(|registry| registry_obstacles(registry, rules.undo_window.as_secs_f64()))
            .collect();
        let limits_of = |policy: &PolicyName| rules.policies.iter().find(|p| p.name == *policy).map(|p| p.limits);
        let mut passed = forbidden;
        passed.retain(|(scope, _)| counts.contains_key(scope));
        for (scope, &count) in counts {
            match scope {
                RefusalScope::Run if count > u64::from(rules.limits.untag) => {
                    passed.insert((scope.clone(), "untag-limit"));
                }
                RefusalScope::Policy(policy)
                    if limits_of(policy)
                        .and_then(|limits| limits.untag)
                        .is_some_and(|untag| count > u64::from(untag)) =>
                {
                    passed.insert((scope.clone(), "untag-limit"));
                }
                _ => {}
            }
        }
        for (scope, &count) in alone {
            let (percent, place) = match scope {
                RefusalScope::Repository(registry, repository) => (Some(rules.limits.percent), (registry, repository)),
                RefusalScope::PolicyInRepository(policy, registry, repository) => {
                    (limits_of(policy).and_then(|limits| limits.percent), (registry, repository))
                }
                _ => continue,
            };
            let tags = tags.get(&(place.0.clone(), place.1.clone())).copied().unwrap_or(0);
            if percent.is_some_and(|percent| count * 100 > tags * u64::from(percent)) {
                passed.insert((scope.clone(), "percent-limit"));
            }
            if matches!(scope, RefusalScope::Repository(..)) && tags < count + u64::from(rules.limits.leave) {
                passed.insert((scope.clone(), "leave-limit"));
            }
        }
        passed
    }
}

impl ScopeCounts {
    fn add(&mut self, removals: &[&Removal], owners: &RemovalPolicies<'_>) {
        // By the list of their policies: one of them, their number, and the number without companions.
        let mut lists: BTreeMap<usize, (&Removal, u64, u64)> = BTreeMap::new();
        for removal in removals {
            let (_, all, alone) = lists.entry(owners.list_of(removal.position.tag)).or_insert((removal, 0, 0));
            *all += 1;
            *alone += u64::from(!accompanies(&removal.tag));
        }
        for (first, all, alone) in lists.into_values() {
            let (registry, repository) = (&first.registry, &first.repository);
            let mut scopes = vec![RefusalScope::Run, RefusalScope::Registry(registry.clone())];
            scopes.push(RefusalScope::Repository(registry.clone(), repository.clone()));
            let mut local = vec![RefusalScope::Repository(registry.clone(), repository.clone())];
            for &policy in owners.get(first.position) {
                scopes.push(RefusalScope::Policy(policy.clone()));
                local.push(RefusalScope::PolicyInRepository(policy.clone(), registry.clone(), repository.clone()));
            }
            for scope in scopes {
                *self.removals.entry(scope).or_default() += all;
            }
            for scope in local.into_iter().filter(|_| alone > 0) {
                *self.alone.entry(scope).or_default() += alone;
            }
        }
    }
}

/// Returns what forbids removals from a registry, or from repositories of it, whatever their number.
fn registry_obstacles(registry: &Registry, undo_seconds: f64) -> BTreeSet<(RefusalScope, &'static str)> {
    let whole = RefusalScope::Registry(registry.name.clone());
    let mut found: BTreeSet<(RefusalScope, &'static str)> = BTreeSet::new();
    if let RemovalAbility::Impossible(_) = registry.ability {
        found.insert((whole.clone(), "removal-impossible"));
    }
    for repository in registry.obstacles.keys() {
        found.insert((RefusalScope::Repository(registry.name.clone(), repository.clone()), "removal-impossible"));
    }
    if let (RemovalMethod::Untag, false, Some(said)) = (registry.removal, registry.accepts_retention, &registry.info) {
        let too_soon = match said.untagged_retention {
            RetentionDays::Off => false,
            RetentionDays::Unknown => true,
            RetentionDays::Days(days) => f64::from(days) * 86_400.0 < undo_seconds,
        };
        if too_soon {
            found.insert((whole.clone(), "untagged-retention"));
        }
    }
    for gap in &registry.gaps {
        if let GapTarget::RegistryInfo = gap.target {
            found.insert((whole.clone(), "registry-settings-unread"));
        }
    }
    let seconds = registry.clock_ahead.map_or(0.0, |ahead| ahead.as_secs_f64());
    if registry.clock_issue.is_some() || !(-120.0..=120.0).contains(&seconds) {
        found.insert((whole, "clock"));
    }
    found
}
