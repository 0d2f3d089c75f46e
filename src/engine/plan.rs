//! From verdicts to removals and what stands against them.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::Verdicts;
use super::companion::companions;
use super::date::date;
use super::graph::{Graph, Node, Ties, index};
use super::limits::refusals;
use crate::domain::{
    Inventory, Plan, Policy, PolicyMode, PolicyName, Reason, Refusal, Registry, Removal, RemovalMethod, Repository,
    Rules, Scope, TagAt, TagVerdict, Verdict,
};

/// A removal with the policies that let it go, by name.
pub(super) struct Going<'a> {
    pub(super) removal: Removal,
    pub(super) policies: Vec<&'a PolicyName>,
}

/// The removals that follow from the verdicts on an inventory, and the limits that forbid them.
///
/// A removal is enforced only if every policy that let it go says so, and if it would go as well were the tags that are
/// not enforced, or that a policy's own limit holds back, to stay: a dry run of an index's policy is no licence to take
/// its children away.
#[must_use]
pub fn plan(rules: &Rules, inventory: &Inventory, verdicts: &Verdicts, now: Timestamp) -> Plan {
    let policies: HashMap<&PolicyName, &Policy> = rules.policies.iter().map(|policy| (&policy.name, policy)).collect();
    let mut going: Vec<Going<'_>> = verdicts
        .tags
        .iter()
        .filter(|found| found.verdict == Verdict::Expired)
        .filter_map(|found| removal(inventory, found, &policies, now))
        .collect();
    going.sort_by(|a, b| key(&a.removal).cmp(&key(&b.removal)));
    hold_dependents(inventory, &mut going, &[]);
    let refusals = refusals(rules, inventory, &going);
    hold_dependents(inventory, &mut going, &refusals);
    Plan { removals: going.into_iter().map(|going| going.removal).collect(), refusals }
}

fn key(removal: &Removal) -> impl Ord + '_ {
    (&removal.registry, &removal.repository, &removal.tag, removal.at)
}

/// The facts behind a position, where the inventory has it.
pub(super) fn locate(inventory: &Inventory, at: TagAt) -> Option<(&Registry, &Repository)> {
    let registry = inventory.registries.get(index(at.registry))?;
    Some((registry, registry.repositories.get(index(at.repository))?))
}

fn removal<'a>(
    inventory: &Inventory,
    found: &'a TagVerdict,
    policies: &HashMap<&PolicyName, &Policy>,
    now: Timestamp,
) -> Option<Going<'a>> {
    let (registry, repository) = locate(inventory, found.at)?;
    let tag = repository.tags.get(index(found.at.tag))?;
    let let_go = found.reasons.iter().filter_map(|reason| match reason {
        Reason::LetGo { policy, .. } | Reason::CompanionOfExpired { policy, .. } => Some(policy),
        _ => None,
    });
    let let_go: Vec<&PolicyName> = let_go.collect();
    let companion_of = found.reasons.iter().find_map(|reason| match reason {
        Reason::CompanionOfExpired { subject, .. } => Some((**subject).clone()),
        _ => None,
    });
    let enforced = |name: &&PolicyName| policies.get(name).is_some_and(|policy| policy.mode == PolicyMode::Enforce);
    Some(Going {
        removal: Removal {
            at: found.at,
            registry: registry.name.clone(),
            repository: repository.name.clone(),
            tag: tag.name.clone(),
            digest: tag.digest.clone()?,
            policy: (*let_go.iter().min()?).clone(),
            method: registry.removal,
            enforce: companion_of.is_some() || let_go.iter().all(enforced),
            date: date(repository, tag, now),
            companion_of,
        },
        policies: let_go,
    })
}

/// Takes `enforce` from what hangs on a tag that will not really go: by being a dry run, or by a policy's refusal.
/// (Refusals of a repository or more cover all that could hang on each other.)
fn hold_dependents(inventory: &Inventory, going: &mut [Going<'_>], refusals: &[Refusal]) {
    let (mut anywhere, mut somewhere) = (HashSet::new(), HashSet::new());
    for refusal in refusals.iter().filter(|refusal| refusal.binding) {
        match &refusal.scope {
            Scope::Policy(policy) => {
                anywhere.insert(policy);
            }
            Scope::PolicyInRepository(policy, registry, repository) => {
                somewhere.insert((policy, registry, repository));
            }
            Scope::Run | Scope::Registry(_) | Scope::Repository(..) => {}
        }
    }
    let refused = |Going { removal, policies }: &Going<'_>| {
        let here = |policy| somewhere.contains(&(policy, &removal.registry, &removal.repository));
        policies.iter().any(|&policy| anywhere.contains(policy) || here(policy))
    };
    let held = |going: &Going<'_>| !going.removal.enforce || refused(going);
    for there in going.chunk_by_mut(|a, b| same_repository(a.removal.at, b.removal.at)) {
        let holds: HashSet<u32> = there.iter().filter(|going| held(going)).map(|going| going.removal.at.tag).collect();
        let Some((registry, repository)) = locate(inventory, there[0].removal.at) else { continue };
        if holds.is_empty() || !there.iter().any(|going| going.removal.enforce) {
            continue;
        }
        let companions = companions(repository);
        let graph = Graph::new(repository, &companions);
        let whole_manifests = registry.removal == RemovalMethod::DeleteManifest;
        let ties = if whole_manifests { Ties::DownAndToSubjects } else { Ties::Down };
        let kept = graph.reach(holds.iter().filter_map(|&tag| graph.of_tag(tag)), ties);
        let is_kept = |node: Node| kept[index(node)];
        for going in there.iter_mut().filter(|going| !refused(going)) {
            let Some(node) = graph.of_tag(going.removal.at.tag) else { continue };
            let image = going.removal.companion_of.as_ref().and_then(|subject| graph.node(subject));
            let hangs = graph.parents(node).chain(graph.subject(node)).chain(image).any(is_kept);
            let goes_along = whole_manifests && is_kept(node);
            going.removal.enforce &= !(hangs || goes_along);
        }
    }
}

fn same_repository(a: TagAt, b: TagAt) -> bool {
    (a.registry, a.repository) == (b.registry, b.repository)
}
