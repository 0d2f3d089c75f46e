//! How much may go at once. A limit refuses; it never picks.

use std::collections::{BTreeMap, HashMap};

use super::companion::companion_subject;
use super::plan::{Going, locate};
use crate::domain::{
    Inventory, Limits, PolicyLimits, PolicyName, Refusal, RefusalReason, RegistryName, RemovalAbility, RepositoryName,
    Rules, Scope,
};

/// Removals, in all and those that would be enforced.
#[derive(Clone, Copy, Default)]
struct Count {
    all: u32,
    enforced: u32,
}

impl Count {
    fn add(&mut self, enforced: bool) {
        self.all = self.all.saturating_add(1);
        self.enforced = self.enforced.saturating_add(u32::from(enforced));
    }

    /// The refusal that `why` makes of the enforced removals; failing that, of all of them.
    fn refuse(self, scope: Scope, why: impl Fn(u32) -> Option<RefusalReason>) -> Option<Refusal> {
        match why(self.enforced) {
            Some(why) => Some(Refusal { scope, why, binding: true }),
            None => why(self.all).map(|why| Refusal { scope, why, binding: false }),
        }
    }
}

type Place<'a> = (&'a RegistryName, &'a RepositoryName);

/// Removals by what limits are set on. Companions count as removals of a run and of a policy. In a repository only the
/// tags that stand for themselves count, lest signatures pass for images that are left.
#[derive(Default)]
struct Counts<'a> {
    run: Count,
    policies: BTreeMap<&'a PolicyName, Count>,
    registries: BTreeMap<&'a RegistryName, Count>,
    repositories: BTreeMap<Place<'a>, (Count, u32)>,
    policies_there: BTreeMap<(&'a PolicyName, Place<'a>), Count>,
}

/// What stands against the removals, in order.
pub(super) fn refusals(rules: &Rules, inventory: &Inventory, going: &[Going<'_>]) -> Vec<Refusal> {
    let counts = count(inventory, going);
    let policy_limits: HashMap<&PolicyName, PolicyLimits> =
        rules.policies.iter().map(|policy| (&policy.name, policy.limits)).collect();
    let limits_of = |policy: &PolicyName| policy_limits.get(policy).copied().unwrap_or_default();
    let Limits { untag, percent, leave } = rules.limits;

    let mut found: Vec<Refusal> = Vec::new();
    found.extend(counts.run.refuse(Scope::Run, over(untag)));
    for (&policy, count) in &counts.policies {
        if let Some(allowed) = limits_of(policy).untag {
            found.extend(count.refuse(Scope::Policy(policy.clone()), over(allowed)));
        }
    }
    for (&(policy, place), count) in &counts.policies_there {
        if let (Some(allowed), Some(&(_, tags))) = (limits_of(policy).percent, counts.repositories.get(&place)) {
            let scope = Scope::PolicyInRepository(policy.clone(), place.0.clone(), place.1.clone());
            found.extend(count.refuse(scope, over_share(tags, allowed)));
        }
    }
    for (&(registry, repository), &(count, tags)) in &counts.repositories {
        let scope = || Scope::Repository(registry.clone(), repository.clone());
        found.extend(count.refuse(scope(), over_share(tags, percent)));
        found.extend(count.refuse(scope(), too_few(tags, leave)));
    }
    for registry in &inventory.registries {
        if let (RemovalAbility::Impossible(obstacle), Some(count)) =
            (&registry.ability, counts.registries.get(&registry.name))
        {
            let any = |found: u32| (found > 0).then(|| RefusalReason::Impossible(obstacle.clone()));
            found.extend(count.refuse(Scope::Registry(registry.name.clone()), any));
        }
    }
    found.sort_by(|a, b| a.scope.cmp(&b.scope));
    found
}

fn count<'a>(inventory: &'a Inventory, going: &'a [Going<'a>]) -> Counts<'a> {
    let mut counts = Counts::default();
    for Going { removal, policies } in going {
        let place = (&removal.registry, &removal.repository);
        let itself = removal.companion_of.is_none();
        counts.run.add(removal.enforce);
        counts.registries.entry(&removal.registry).or_default().add(removal.enforce);
        if itself {
            let tags = || {
                let tags = locate(inventory, removal.at).map(|(_, repository)| repository.tags.as_slice());
                let own = tags.unwrap_or_default().iter().filter(|tag| companion_subject(&tag.name).is_none());
                u32::try_from(own.count()).unwrap_or(u32::MAX)
            };
            counts.repositories.entry(place).or_insert_with(|| (Count::default(), tags())).0.add(removal.enforce);
        }
        for &policy in policies {
            counts.policies.entry(policy).or_default().add(removal.enforce);
            if itself {
                counts.policies_there.entry((policy, place)).or_default().add(removal.enforce);
            }
        }
    }
    counts
}

fn over(allowed: u32) -> impl Fn(u32) -> Option<RefusalReason> {
    move |found| (found > allowed).then_some(RefusalReason::Untag { found, allowed })
}

fn over_share(tags: u32, allowed: u32) -> impl Fn(u32) -> Option<RefusalReason> {
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
