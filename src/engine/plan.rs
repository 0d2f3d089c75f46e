//! From verdicts to removals and what stands against them.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::Verdicts;
use super::companion::companions;
use super::date::tag_date;
use super::expired_tags::{expiring_policies, first_repository};
use super::graph::{Graph, Node, Traversal, index};
use super::limits::refuse_removals;
use crate::domain::{
    Inventory, Plan, Policy, PolicyMode, PolicyName, Reason, Refusal, RefusalScope, Removal, RemovalMethod, Repository,
    Rules, TagPosition, TagVerdict, Verdict,
};

/// The removals that follow from the verdicts on an inventory, and the limits that forbid them.
///
/// A removal is enforced only if every policy that let it go says so, and if it would go as well were the tags that are
/// not enforced, or that a policy's own limit holds back, to stay: a dry run of an index's policy is no licence to take
/// its children away.
#[must_use]
pub fn plan(rules: &Rules, inventory: &Inventory, verdicts: &Verdicts, now: Timestamp) -> Plan {
    let policies: HashMap<&PolicyName, &Policy> = rules.policies.iter().map(|policy| (&policy.name, policy)).collect();
    let mut expired: Vec<&TagVerdict> =
        verdicts.tags.iter().filter(|found| found.verdict == Verdict::Expired).collect();
    expired.sort_by(|a, b| by_name(inventory, a.position, b.position));
    let mut removals = Vec::with_capacity(expired.len());
    let mut lists = PolicyLists::default();
    expired.retain(|found| {
        let removal = removal(inventory, found, &policies, &mut lists, now);
        let goes = removal.is_some();
        removals.extend(removal.map(Arc::new));
        goes
    });
    unenforce_dependents(inventory, &expired, &mut removals, &[]);
    let refusals = refuse_removals(rules, inventory, &expired, &removals);
    unenforce_dependents(inventory, &expired, &mut removals, &refusals);
    Plan { removals, refusals, ..Plan::default() }
}

/// The order of the plan: by name, whatever the order of the inventory.
fn by_name(inventory: &Inventory, a: TagPosition, b: TagPosition) -> Ordering {
    let registry = |at: TagPosition| inventory.registries.get(index(at.registry));
    let repository = |at: TagPosition| registry(at)?.repositories.get(index(at.repository));
    let tag = |at: TagPosition| Some(&repository(at)?.tags.get(index(at.tag))?.name);
    let place = |at: TagPosition| (registry(at).map(|there| &there.name), repository(at).map(|there| &there.name));
    let beside = (a.registry, a.repository) == (b.registry, b.repository);
    let places = if beside { Ordering::Equal } else { place(a).cmp(&place(b)) };
    places.then_with(|| tag(a).cmp(&tag(b))).then(a.cmp(&b))
}

/// Lists of policies, each held once: there are many removals, and few different lists.
#[derive(Default)]
struct PolicyLists(Vec<Arc<[PolicyName]>>);

impl PolicyLists {
    /// Returns the list of these policies, sorted. Removals of a repository mostly share the latest one.
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

/// The removal of an expired tag; nothing where the verdict is not of this inventory, or the tag let go by nobody.
fn removal(
    inventory: &Inventory,
    found: &TagVerdict,
    modes: &HashMap<&PolicyName, &Policy>,
    lists: &mut PolicyLists,
    now: Timestamp,
) -> Option<Removal> {
    let registry = inventory.registries.get(index(found.position.registry))?;
    let repository = registry.repositories.get(index(found.position.repository))?;
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

/// Takes `enforce` from what hangs on a tag that will not really go: by being a dry run, or by a policy's refusal.
/// (Refusals of a repository or more cover all that could hang on each other.)
pub(super) fn unenforce_dependents(
    inventory: &Inventory,
    mut expired: &[&TagVerdict],
    mut removals: &mut [Arc<Removal>],
    refusals: &[Refusal],
) {
    let (mut anywhere, mut somewhere) = (HashSet::new(), HashSet::new());
    for refusal in refusals.iter().filter(|refusal| refusal.binding) {
        match &refusal.scope {
            RefusalScope::Policy(policy) => {
                anywhere.insert(policy);
            }
            RefusalScope::PolicyInRepository(policy, registry, repository) => {
                somewhere.insert((policy, registry, repository));
            }
            RefusalScope::Run | RefusalScope::Registry(_) | RefusalScope::Repository(..) => {}
        }
    }
    while let Some((registry, repository, count)) = first_repository(inventory, expired) {
        let (going, others) = removals.split_at_mut(count);
        (_, expired) = expired.split_at(count);
        removals = others;
        if going.iter().any(|removal| removal.enforce) {
            let refused =
                |policy| anywhere.contains(policy) || somewhere.contains(&(policy, &registry.name, &repository.name));
            let refused: Vec<bool> = going.iter().map(|removal| removal.policies.iter().any(refused)).collect();
            unenforce_in_repository(registry.removal, repository, going, &refused);
        }
    }
}

fn unenforce_in_repository(
    method: RemovalMethod,
    repository: &Repository,
    going: &mut [Arc<Removal>],
    refused: &[bool],
) {
    let held = going.iter().zip(refused).filter(|(removal, refused)| !removal.enforce || **refused);
    let held: Vec<u32> = held.map(|(removal, _)| removal.position.tag).collect();
    if held.is_empty() {
        return;
    }
    let companions = companions(repository);
    let graph = Graph::new(repository, &companions);
    let whole_manifests = method == RemovalMethod::DeleteManifest;
    let ties = if whole_manifests { Traversal::DownAndToSubjects } else { Traversal::Down };
    let kept = graph.reachable(held.into_iter().filter_map(|tag| graph.of_tag(tag)), ties);
    let is_kept = |node: Node| kept[index(node)];
    for (removal, _) in going.iter_mut().zip(refused).filter(|(_, refused)| !**refused) {
        let Some(node) = graph.of_tag(removal.position.tag) else { continue };
        let image = removal.companion_of.as_deref().and_then(|subject| graph.node(subject));
        let hangs = graph.parents(node).chain(graph.subject(node)).chain(image).any(is_kept);
        let goes_along = whole_manifests && is_kept(node);
        if removal.enforce && (hangs || goes_along) {
            Arc::make_mut(removal).enforce = false;
        }
    }
}
