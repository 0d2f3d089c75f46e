//! From verdicts to removals and what stands against them.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::Verdicts;
use super::companion::companions;
use super::date::date;
use super::graph::{Graph, Node, Ties, index};
use super::limits::refusals;
use crate::domain::{
    Digest, Inventory, Plan, Policy, PolicyMode, PolicyName, Reason, Refusal, Registry, Removal, RemovalMethod,
    Repository, Rules, Scope, Tag, TagAt, TagVerdict, Verdict,
};

/// The removals that follow from the verdicts on an inventory, and the limits that forbid them.
///
/// A removal is enforced only if every policy that let it go says so, and if it would go as well were the tags that are
/// not enforced, or that a policy's own limit holds back, to stay: a dry run of an index's policy is no licence to take
/// its children away.
#[must_use]
pub fn plan(rules: &Rules, inventory: &Inventory, verdicts: &Verdicts, now: Timestamp) -> Plan {
    let policies: HashMap<&PolicyName, &Policy> = rules.policies.iter().map(|policy| (&policy.name, policy)).collect();
    let expired = verdicts.tags.iter().filter(|found| found.verdict == Verdict::Expired);
    let mut expired: Vec<Expired<'_>> = expired.filter_map(|found| locate(inventory, found)).collect();
    expired.sort_by(|a, b| a.key().cmp(&b.key()));
    let mut removals: Vec<Removal> = expired.iter().map(|expired| removal(expired, &policies, now)).collect();
    hold_dependents(&expired, &mut removals, &[]);
    let refusals = refusals(rules, inventory, &expired, &removals);
    hold_dependents(&expired, &mut removals, &refusals);
    Plan { removals, refusals }
}

/// An expired tag with the facts at its place.
pub(super) struct Expired<'a> {
    found: &'a TagVerdict,
    registry: &'a Registry,
    pub(super) repository: &'a Repository,
    tag: &'a Tag,
    digest: &'a Digest,
    policy: &'a PolicyName,
}

impl<'a> Expired<'a> {
    fn key(&self) -> impl Ord + '_ {
        (&self.registry.name, &self.repository.name, &self.tag.name, self.found.at)
    }

    /// The policies that let it go, by name.
    pub(super) fn policies(&self) -> impl Iterator<Item = &'a PolicyName> {
        policies(self.found)
    }

    /// Whether another stands in the same repository.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        let place = |at: TagAt| (at.registry, at.repository);
        place(self.found.at) == place(other.found.at)
    }
}

fn policies(found: &TagVerdict) -> impl Iterator<Item = &PolicyName> {
    found.reasons.iter().filter_map(|reason| match reason {
        Reason::LetGo { policy, .. } | Reason::CompanionOfExpired { policy, .. } => Some(policy),
        _ => None,
    })
}

/// The facts about an expired tag; nothing where the verdict is not of this inventory, or let go by nobody.
fn locate<'a>(inventory: &'a Inventory, found: &'a TagVerdict) -> Option<Expired<'a>> {
    let registry = inventory.registries.get(index(found.at.registry))?;
    let repository = registry.repositories.get(index(found.at.repository))?;
    let tag = repository.tags.get(index(found.at.tag))?;
    let (digest, policy) = (tag.digest.as_ref()?, policies(found).min()?);
    Some(Expired { found, registry, repository, tag, digest, policy })
}

fn removal(expired: &Expired<'_>, policies: &HashMap<&PolicyName, &Policy>, now: Timestamp) -> Removal {
    let Expired { found, registry, repository, tag, digest, policy } = *expired;
    let companion_of = found.reasons.iter().find_map(|reason| match reason {
        Reason::CompanionOfExpired { subject, .. } => Some((**subject).clone()),
        _ => None,
    });
    let enforced = |name| policies.get(name).is_some_and(|policy| policy.mode == PolicyMode::Enforce);
    Removal {
        at: found.at,
        registry: registry.name.clone(),
        repository: repository.name.clone(),
        tag: tag.name.clone(),
        digest: digest.clone(),
        policy: policy.clone(),
        method: registry.removal,
        enforce: companion_of.is_some() || expired.policies().all(enforced),
        date: date(repository, tag, now),
        companion_of,
    }
}

/// Takes `enforce` from what hangs on a tag that will not really go: by being a dry run, or by a policy's refusal.
/// (Refusals of a repository or more cover all that could hang on each other.)
fn hold_dependents(mut expired: &[Expired<'_>], mut removals: &mut [Removal], refusals: &[Refusal]) {
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
    let refused = |expired: &Expired<'_>| {
        let (registry, repository) = (&expired.registry.name, &expired.repository.name);
        let here = |policy| somewhere.contains(&(policy, registry, repository));
        expired.policies().any(|policy| anywhere.contains(policy) || here(policy))
    };
    while let Some(first) = expired.first() {
        let count = expired.iter().take_while(|expired| expired.is_beside(first)).count();
        let (here, elsewhere) = expired.split_at(count);
        let (going, others) = removals.split_at_mut(count);
        (expired, removals) = (elsewhere, others);
        let refused: Vec<bool> = here.iter().map(refused).collect();
        if going.iter().any(|removal| removal.enforce) {
            hold_in_repository(first.registry.removal, first.repository, going, &refused);
        }
    }
}

fn hold_in_repository(method: RemovalMethod, repository: &Repository, going: &mut [Removal], refused: &[bool]) {
    let held = going.iter().zip(refused).filter(|(removal, refused)| !removal.enforce || **refused);
    let held: Vec<u32> = held.map(|(removal, _)| removal.at.tag).collect();
    if held.is_empty() {
        return;
    }
    let companions = companions(repository);
    let graph = Graph::new(repository, &companions);
    let whole_manifests = method == RemovalMethod::DeleteManifest;
    let ties = if whole_manifests { Ties::DownAndToSubjects } else { Ties::Down };
    let kept = graph.reach(held.into_iter().filter_map(|tag| graph.of_tag(tag)), ties);
    let is_kept = |node: Node| kept[index(node)];
    for (removal, _) in going.iter_mut().zip(refused).filter(|(_, refused)| !**refused) {
        let Some(node) = graph.of_tag(removal.at.tag) else { continue };
        let image = removal.companion_of.as_ref().and_then(|subject| graph.node(subject));
        let hangs = graph.parents(node).chain(graph.subject(node)).chain(image).any(is_kept);
        let goes_along = whole_manifests && is_kept(node);
        removal.enforce &= !(hangs || goes_along);
    }
}
