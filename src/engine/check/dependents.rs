//! Indexes, referrers and companions, seen from a removal.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::evidence::RepositoryEvidence;
use super::{PlanHead, RemovalPolicies, TagRemoval, Violation, accompanies, image, unread};
use crate::domain::{
    Digest, PolicyName, RefusalScope, Registry, RegistryName, Removal, RemovalMethod, Repository, RepositoryName,
};

/// Looks whether removals would leave something behind that they belong to.
pub(super) fn check_dependents(
    registry: &Registry,
    repository: &Repository,
    going: &[TagRemoval<'_>],
    evidence: &RepositoryEvidence<'_, '_>,
    findings: &mut Vec<Violation>,
) {
    let positions: HashSet<u32> = going.iter().map(|one| one.removal.position.tag).collect();
    let (_, held) = evidence.holds_in(repository);
    let claimed = |digest: &Digest| {
        evidence.digests.contains(digest) || held.contains(digest) || evidence.mention_of_digest(digest).is_some()
    };
    let after = RemainingContent::new(registry, repository, &positions, claimed);
    let reached = reachable(repository, going);
    for one in going {
        if let Some(by) = after.retained_by(one.removal) {
            findings.push(Violation::ProtectedTag { image: one.image(), by });
        }
        let Some(subject) = one.removal.companion_of.as_deref() else { continue };
        let name = format!("{}-{}", subject.algorithm(), &subject.hex()[..64]);
        if !one.tag.name.as_str().starts_with(&name) {
            findings.push(Violation::FactMismatch { image: one.image(), what: "the image that it accompanies" });
        }
        if !reached.contains(subject) || !repository.manifests.contains_key(subject) {
            let by = format!("no removed tag leads to its image {subject}");
            findings.push(Violation::ProtectedTag { image: one.image(), by });
        }
    }
}

/// The same for those removals of a repository alone that would really be done: no binding refusal of theirs is among
/// these.
pub(super) fn check_enforced_dependents(
    registry: &Registry,
    repository: &Repository,
    removals: &[&Removal],
    refused: &BTreeSet<&RefusalScope>,
    owners: &RemovalPolicies<'_>,
    findings: &mut Vec<Violation>,
) {
    let is_refused = |removal: &Removal| {
        let (registry, repository) = (&removal.registry, &removal.repository);
        let of_policies = owners.get(removal.position).iter().flat_map(|&policy| {
            let here = RefusalScope::PolicyInRepository(policy.clone(), registry.clone(), repository.clone());
            [RefusalScope::Policy(policy.clone()), here]
        });
        let places = [
            RefusalScope::Run,
            RefusalScope::Registry(registry.clone()),
            RefusalScope::Repository(registry.clone(), repository.clone()),
        ];
        places.into_iter().chain(of_policies).any(|scope| refused.contains(&scope))
    };
    let enforced = removals.iter().filter(|removal| removal.enforce);
    let really: Vec<&&Removal> = enforced.filter(|removal| refused.is_empty() || !is_refused(removal)).collect();
    if really.is_empty() {
        return;
    }
    let all: Vec<&Removal> = really.iter().map(|removal| **removal).collect();
    unread::check_enforced_unread(registry, repository, (removals, &all), findings);
    let positions: HashSet<u32> = really.iter().map(|removal| removal.position.tag).collect();
    let after = RemainingContent::new(registry, repository, &positions, |_| false);
    for removal in really {
        if let Some(why) = after.retained_by(removal) {
            findings.push(Violation::WronglyEnforced { image: image(removal), why });
        }
    }
}

/// Removals of a repository that could not be done if all that a policy lets go stayed: positions among the removals, by
/// policy. Empty where the same policies let all go, and where nothing hangs on anything.
pub(super) fn held_by_policies(
    registry: &Registry,
    repository: &Repository,
    removals: &[&Removal],
    owners: &RemovalPolicies<'_>,
) -> Vec<HeldByPolicy> {
    let owned = |removal: &Removal| owners.get(removal.position);
    if removals.windows(2).all(|pair| owned(pair[0]) == owned(pair[1])) {
        return Vec::new();
    }
    let enforced = removals.iter().filter(|removal| removal.enforce);
    let policies: BTreeSet<&PolicyName> = enforced.flat_map(|removal| owned(removal)).copied().collect();
    let held = |policy: &PolicyName| {
        let stays = |removal: &Removal| !removal.enforce || owned(removal).contains(&policy);
        let gone = removals.iter().filter(|removal| !stays(removal)).map(|removal| removal.position.tag).collect();
        let after = RemainingContent::new(registry, repository, &gone, |_| false);
        let held = (0..).zip(removals).filter(|(_, one)| !stays(one) && after.retained_by(one).is_some());
        let held = held.map(|(at, one)| (at, owned(one).iter().map(|&owner| owner.clone()).collect())).collect();
        HeldByPolicy {
            registry: registry.name.clone(),
            repository: repository.name.clone(),
            policy: policy.clone(),
            held,
        }
    };
    policies.into_iter().map(held).filter(|found| !found.held.is_empty()).collect()
}

/// Removals that something holds which one policy lets go.
#[derive(Debug)]
pub(super) struct HeldByPolicy {
    registry: RegistryName,
    repository: RepositoryName,
    policy: PolicyName,
    /// Positions among the removals of the repository, and the policies that let each go.
    held: Vec<(u32, Vec<PolicyName>)>,
}

impl HeldByPolicy {
    /// Finds those that would be enforced although a refusal keeps what they hang on.
    pub(super) fn check(&self, plan: &PlanHead<'_>, findings: &mut Vec<Violation>) {
        let refuses = |policies: &[PolicyName]| {
            plan.refusals.iter().filter(|refusal| refusal.binding).any(|refusal| match &refusal.scope {
                RefusalScope::Policy(policy) => policies.contains(policy),
                RefusalScope::PolicyInRepository(policy, registry, repository) => {
                    policies.contains(policy) && (registry, repository) == (&self.registry, &self.repository)
                }
                RefusalScope::Run | RefusalScope::Registry(_) | RefusalScope::Repository(..) => false,
            })
        };
        if !refuses(std::slice::from_ref(&self.policy)) {
            return;
        }
        let place = (self.registry.clone(), self.repository.clone());
        let unenforced = plan.unenforced.and_then(|places| places.get(&place)).map(Vec::as_slice).unwrap_or_default();
        for (position, _) in
            self.held.iter().filter(|(position, owners)| !unenforced.contains(position) && !refuses(owners))
        {
            let (registry, repository, policy) = (&self.registry, &self.repository, &self.policy);
            let why = format!("something that policy {policy} lets go stays, and it hangs on that");
            let image = format!("removal {position} of {registry}/{repository}");
            findings.push(Violation::WronglyEnforced { image, why });
        }
    }
}

/// What is kept in a repository once some of its tags are gone.
struct RemainingContent<'a> {
    repository: &'a Repository,
    whole_manifests: bool,
    kept: HashSet<&'a Digest>,
    /// What is in an index that stays; nothing where an untag certainly leaves the manifest.
    contained: HashSet<&'a Digest>,
}

impl<'a> RemainingContent<'a> {
    fn new(
        registry: &Registry,
        repository: &'a Repository,
        gone: &HashSet<u32>,
        claimed: impl Fn(&Digest) -> bool,
    ) -> Self {
        let whole_manifests = registry.removal == RemovalMethod::DeleteManifest;
        let staying = (0..).zip(&repository.tags).filter(|(position, _)| !gone.contains(position));
        let mut open: Vec<&Digest> = staying.filter_map(|(_, tag)| tag.digest.as_ref()).collect();
        for (digest, manifest) in &repository.manifests {
            if claimed(digest) || manifest.config.as_deref().is_some_and(&claimed) {
                open.push(digest);
            }
            // An image that was not read may be there all the same, and what refers to it is of use to whoever claims it.
            open.extend(manifest.subject.as_deref().into_iter().filter(|subject| claimed(subject)));
        }
        let referrers = referrers(repository);
        let (mut kept, mut contained) = (HashSet::new(), HashSet::new());
        while let Some(digest) = open.pop() {
            if !kept.insert(digest) {
                continue;
            }
            open.extend(referrers.get(digest).into_iter().flatten());
            if let Some(manifest) = repository.manifests.get(digest) {
                if !registry.certainly_keeps_untagged(repository) {
                    contained.extend(&manifest.children);
                }
                open.extend(&manifest.children);
                open.extend(manifest.subject.as_deref().into_iter().filter(|_| whole_manifests));
            }
        }
        Self { repository, whole_manifests, kept, contained }
    }

    fn retained_by(&self, removal: &Removal) -> Option<String> {
        let manifest = self.repository.manifests.get(&removal.digest);
        let subject = manifest.and_then(|manifest| manifest.subject.as_deref());
        let mut images = [subject, removal.companion_of.as_deref()].into_iter().flatten();
        if self.contained.contains(&removal.digest) {
            Some("an index that stays contains its image".to_owned())
        } else if let Some(image) = images.find(|image| self.kept.contains(*image)) {
            Some(format!("its image {image} stays"))
        } else if self.whole_manifests && self.kept.contains(&removal.digest) {
            Some("its manifest stays for another".to_owned())
        } else {
            None
        }
    }
}

fn referrers(repository: &Repository) -> HashMap<&Digest, Vec<&Digest>> {
    let mut referrers: HashMap<&Digest, Vec<&Digest>> = HashMap::new();
    for (digest, manifest) in &repository.manifests {
        if let Some(subject) = manifest.subject.as_deref() {
            referrers.entry(subject).or_default().push(digest);
        }
    }
    referrers
}

/// Everything that removed tags lead to, through indexes, referrers and companions that go as well.
fn reachable<'a>(repository: &'a Repository, going: &'a [TagRemoval<'a>]) -> HashSet<&'a Digest> {
    let mut seen = HashSet::new();
    if going.iter().all(|one| one.removal.companion_of.is_none()) {
        return seen;
    }
    let mut hanging = referrers(repository);
    for one in going {
        if let Some(subject) = one.removal.companion_of.as_deref() {
            hanging.entry(subject).or_default().push(one.digest);
        }
    }
    let mut open: Vec<&Digest> = going.iter().filter(|one| !accompanies(&one.tag.name)).map(|one| one.digest).collect();
    while let Some(digest) = open.pop() {
        if seen.insert(digest) {
            open.extend(hanging.get(digest).into_iter().flatten());
            open.extend(repository.manifests.get(digest).into_iter().flat_map(|manifest| &manifest.children));
        }
    }
    seen
}
