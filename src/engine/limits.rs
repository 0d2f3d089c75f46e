//! Limits on removals. A limit refuses; it never selects.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::clock::exceeds_clock_skew;
use super::companion::companion_subject;
use crate::domain::{
    Deletion, GapTarget, Limits, PolicyLimits, PolicyName, Refusal, RefusalReason, RefusalScope, Registry,
    RegistryName, Removal, RemovalAbility, RemovalMethod, Repository, RepositoryName, RetentionDays, Rules,
};

/// The number of removals, and of enforced ones.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    all: u32,
    enforced: u32,
}

impl Count {
    fn add(&mut self, enforced: bool) {
        self.all = self.all.saturating_add(1);
        self.enforced = self.enforced.saturating_add(u32::from(enforced));
    }

    fn merge(&mut self, other: Self) {
        self.all = self.all.saturating_add(other.all);
        self.enforced = self.enforced.saturating_add(other.enforced);
    }

    /// Returns the refusal that `why` makes of the enforced removals; failing that, of all of them.
    fn refuse(self, scope: RefusalScope, why: impl Fn(u32) -> Option<RefusalReason>) -> Option<Refusal> {
        match why(self.enforced) {
            Some(why) => Some(Refusal { scope, reason: why, binding: true }),
            None => why(self.all).map(|why| Refusal { scope, reason: why, binding: false }),
        }
    }
}

type Place = (RegistryName, RepositoryName);

/// Removals by the scopes of limits, counted repository by repository. Companions count as removals of a run and of a
/// policy. In a repository they do not count, so that signatures do not pass for remaining images.
#[derive(Debug, Clone, Default)]
pub struct RemovalCounts {
    run: Count,
    policies: BTreeMap<PolicyName, Count>,
    registries: BTreeMap<RegistryName, Count>,
    /// Removals, and the number of tags.
    repositories: BTreeMap<Place, (Count, u32)>,
    /// The same with the companions.
    repositories_with_companions: BTreeMap<Place, Count>,
    policies_by_repository: BTreeMap<(PolicyName, Place), Count>,
}

impl RemovalCounts {
    /// Counts the removals of one repository.
    pub fn add(&mut self, registry: &Registry, repository: &Repository, removals: &[Removal]) {
        if removals.is_empty() {
            return;
        }
        let tags = repository.tags.iter().filter(|tag| companion_subject(&tag.name).is_none());
        let place = (registry.name.clone(), repository.name.clone());
        let there = self.repositories.entry(place.clone()).or_default();
        there.1 = u32::try_from(tags.count()).unwrap_or(u32::MAX);
        let mut all = Count::default();
        let mut by_policy: Vec<(&PolicyName, Count, Count)> = Vec::new();
        for removal in removals {
            let itself = removal.companion_of.is_none();
            all.add(removal.enforce);
            if itself {
                there.0.add(removal.enforce);
            }
            for policy in &*removal.policies {
                let at = by_policy.iter().position(|known| known.0 == policy).unwrap_or(by_policy.len());
                if at == by_policy.len() {
                    by_policy.push((policy, Count::default(), Count::default()));
                }
                by_policy[at].1.add(removal.enforce);
                if itself {
                    by_policy[at].2.add(removal.enforce);
                }
            }
        }
        self.run.merge(all);
        self.registries.entry(registry.name.clone()).or_default().merge(all);
        self.repositories_with_companions.entry(place.clone()).or_default().merge(all);
        for (policy, count, own) in by_policy {
            self.policies.entry(policy.clone()).or_default().merge(count);
            self.policies_by_repository.insert((policy.clone(), place.clone()), own);
        }
    }
}

/// Deletions of untagged manifests by the scopes of limits, dependents included.
#[derive(Debug, Clone, Default)]
pub struct DeletionCounts {
    run: Count,
    policies: BTreeMap<PolicyName, Count>,
    registries: BTreeMap<RegistryName, Count>,
    places: BTreeMap<Place, Count>,
}

impl DeletionCounts {
    /// Counts deletions.
    pub fn add<'d>(&mut self, deletions: impl IntoIterator<Item = &'d Deletion>) {
        for deletion in deletions {
            let mut count = Count::default();
            (0..=deletion.dependents.len()).for_each(|_| count.add(deletion.enforce));
            self.run.merge(count);
            self.registries.entry(deletion.registry.clone()).or_default().merge(count);
            self.places.entry((deletion.registry.clone(), deletion.repository.clone())).or_default().merge(count);
            for policy in &deletion.policies {
                self.policies.entry(policy.clone()).or_default().merge(count);
            }
        }
    }
}

/// Removals or deletions by the scopes of rules, each with true if some of them would be enforced.
#[derive(Debug, Default)]
pub(super) struct AffectedScopes<'a> {
    pub(super) policies: BTreeMap<&'a PolicyName, bool>,
    pub(super) registries: BTreeMap<&'a RegistryName, bool>,
    pub(super) places: BTreeMap<(&'a RegistryName, &'a RepositoryName), bool>,
}

impl<'a> AffectedScopes<'a> {
    pub(super) fn of_removals(counts: &'a RemovalCounts) -> Self {
        Self::of(&counts.policies, &counts.registries, &counts.repositories_with_companions)
    }

    pub(super) fn of_deletions(counts: &'a DeletionCounts) -> Self {
        Self::of(&counts.policies, &counts.registries, &counts.places)
    }

    fn of(
        policies: &'a BTreeMap<PolicyName, Count>,
        registries: &'a BTreeMap<RegistryName, Count>,
        places: &'a BTreeMap<Place, Count>,
    ) -> Self {
        Self {
            policies: policies.iter().map(|(policy, count)| (policy, count.enforced > 0)).collect(),
            registries: registries.iter().map(|(registry, count)| (registry, count.enforced > 0)).collect(),
            places: places.iter().map(|(place, count)| ((&place.0, &place.1), count.enforced > 0)).collect(),
        }
    }
}

/// Returns the refusals of removals of expired tags, in order.
#[must_use]
pub fn refuse_removals(rules: &Rules, registries: &[Registry], counts: &RemovalCounts) -> Vec<Refusal> {
    let policy_limits: HashMap<&PolicyName, PolicyLimits> =
        rules.policies.iter().map(|policy| (&policy.name, policy.limits)).collect();
    let limits_of = |policy: &PolicyName| policy_limits.get(policy).copied().unwrap_or_default();
    let Limits { untag, percent, leave, .. } = rules.limits;

    let mut found: Vec<Refusal> = Vec::new();
    found.extend(counts.run.refuse(RefusalScope::Run, over_limit(untag)));
    for (policy, count) in &counts.policies {
        if let Some(allowed) = limits_of(policy).untag {
            found.extend(count.refuse(RefusalScope::Policy(policy.clone()), over_limit(allowed)));
        }
    }
    for ((policy, place), count) in &counts.policies_by_repository {
        if let (Some(allowed), Some(&(_, tags))) = (limits_of(policy).percent, counts.repositories.get(place)) {
            let scope = RefusalScope::PolicyInRepository(policy.clone(), place.0.clone(), place.1.clone());
            found.extend(count.refuse(scope, over_percent(tags, allowed)));
        }
    }
    for ((registry, repository), &(count, tags)) in &counts.repositories {
        let scope = || RefusalScope::Repository(registry.clone(), repository.clone());
        found.extend(count.refuse(scope(), over_percent(tags, percent)));
        found.extend(count.refuse(scope(), too_few(tags, leave)));
    }
    found.extend(refuse_by_registry(rules, registries, &counts.registries, &counts.repositories_with_companions));
    found.sort_by(|a, b| a.scope.cmp(&b.scope));
    found
}

/// Returns the refusals of deletions of untagged manifests, in order.
#[must_use]
pub fn refuse_deletions(rules: &Rules, registries: &[Registry], counts: &DeletionCounts) -> Vec<Refusal> {
    let allowed = rules.limits.delete;
    let too_many = |found| (found > allowed).then_some(RefusalReason::Delete { found, allowed });
    let mut found: Vec<Refusal> = counts.run.refuse(RefusalScope::Run, too_many).into_iter().collect();
    found.extend(refuse_by_registry(rules, registries, &counts.registries, &counts.places));
    found.sort_by(|a, b| a.scope.cmp(&b.scope));
    found
}

/// Returns the refusals by registries, and repositories of them, whatever the number.
fn refuse_by_registry(
    rules: &Rules,
    registries: &[Registry],
    by_registry: &BTreeMap<RegistryName, Count>,
    by_place: &BTreeMap<Place, Count>,
) -> Vec<Refusal> {
    let mut found = Vec::new();
    for registry in registries {
        if let Some(count) = by_registry.get(&registry.name) {
            let any = |why| count.refuse(RefusalScope::Registry(registry.name.clone()), if_any(why));
            found.extend(registry_obstacles(registry, rules.undo_window).filter_map(any));
        }
        for (repository, obstacle) in &registry.obstacles {
            if let Some(count) = by_place.get(&(registry.name.clone(), repository.clone())) {
                let scope = RefusalScope::Repository(registry.name.clone(), repository.clone());
                found.extend(count.refuse(scope, if_any(RefusalReason::Impossible(obstacle.clone()))));
            }
        }
    }
    found
}

/// Returns the reasons that forbid any removal from a registry.
fn registry_obstacles(registry: &Registry, undo_window: Duration) -> impl Iterator<Item = RefusalReason> {
    let impossible = match &registry.ability {
        RemovalAbility::Impossible(obstacle) => Some(RefusalReason::Impossible(obstacle.clone())),
        RemovalAbility::Able | RemovalAbility::Unknown | RemovalAbility::NotChecked => None,
    };
    let unread = registry.gaps.iter().any(|gap| gap.target == GapTarget::RegistryInfo);
    let ahead = registry.clock_ahead.filter(|ahead| exceeds_clock_skew(*ahead));
    let clock = match (registry.clock_issue, ahead) {
        (Some(doubt), _) => Some(RefusalReason::ClockIssue(doubt)),
        (None, ahead) => ahead.map(|ahead| RefusalReason::ClockSkew { ahead_seconds: ahead.as_secs() }),
    };
    [impossible, retention(registry, undo_window), unread.then_some(RefusalReason::RegistryInfoUnread), clock]
        .into_iter()
        .flatten()
}

/// Returns a reason if the registry deletes untagged manifests before the undo window ends. Its policy exempts some
/// manifests (those of OCI types and locked ones, by its documentation); that is not relied on here.
fn retention(registry: &Registry, undo_window: Duration) -> Option<RefusalReason> {
    if registry.removal != RemovalMethod::Untag || registry.accepts_retention {
        return None;
    }
    let days = match registry.info.as_ref()?.untagged_retention {
        RetentionDays::Days(days) if days_to_duration(days) < undo_window => Some(days),
        RetentionDays::Unknown => None,
        RetentionDays::Days(_) | RetentionDays::Off => return None,
    };
    Some(RefusalReason::Retention { days, undo_window })
}

fn days_to_duration(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 24 * 60 * 60)
}

fn if_any(why: RefusalReason) -> impl Fn(u32) -> Option<RefusalReason> {
    move |found| (found > 0).then(|| why.clone())
}

fn over_limit(allowed: u32) -> impl Fn(u32) -> Option<RefusalReason> {
    move |found| (found > allowed).then_some(RefusalReason::Untag { found, allowed })
}

fn over_percent(tags: u32, allowed: u32) -> impl Fn(u32) -> Option<RefusalReason> {
    move |found| {
        let passed = u64::from(found) * 100 > u64::from(tags) * u64::from(allowed);
        passed.then_some(RefusalReason::Percent { found, tags, allowed })
    }
}

fn too_few(tags: u32, allowed: u32) -> impl Fn(u32) -> Option<RefusalReason> {
    move |found| {
        let left = tags.saturating_sub(found);
        (found > 0 && left < allowed).then_some(RefusalReason::Leave { left, allowed })
    }
}
