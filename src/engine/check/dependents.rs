//! Indexes, referrers and companions, seen from a removal.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::evidence::RegistryEvidence;
use super::{RemovalPolicies, TagRemoval, Violation, accompanies, image};
use crate::domain::{Digest, Inventory, Plan, RefusalScope, Registry, Removal, RemovalMethod, Repository};

/// Looks whether removals would leave something behind that they belong to.
pub(super) fn check_dependents(
    registry: &Registry,
    repository: &Repository,
    going: &[TagRemoval<'_>],
    evidence: &RegistryEvidence<'_>,
    findings: &mut Vec<Violation>,
) {
    let positions: HashSet<u32> = going.iter().map(|one| one.removal.position.tag).collect();
    let (_, held) = evidence.holds_in(repository);
    let claimed = |digest: &Digest| {
        evidence.digests.contains(digest)
            || held.contains(digest)
            || evidence.mention_of_digest(repository, digest).is_some()
    };
    let after = RemainingContent::new(registry.removal, repository, &positions, claimed);
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

/// The same for those removals alone that would really be done.
pub(super) fn check_enforced_dependents(
    inventory: &Inventory,
    plan: &Plan,
    owners: &RemovalPolicies<'_>,
    findings: &mut Vec<Violation>,
) {
    let binding = plan.refusals.iter().filter(|refusal| refusal.binding).map(|refusal| &refusal.scope);
    let refused: BTreeSet<&RefusalScope> = binding.collect();
    let mut really: HashMap<(u32, u32), Vec<&Removal>> = HashMap::new();
    for removal in plan.removals.iter().filter(|removal| removal.enforce) {
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
        if !places.into_iter().chain(of_policies).any(|scope| refused.contains(&scope)) {
            really.entry((removal.position.registry, removal.position.repository)).or_default().push(removal);
        }
    }
    for (registry_at, registry) in (0..).zip(&inventory.registries) {
        for (repository_at, repository) in (0..).zip(&registry.repositories) {
            let Some(removals) = really.get(&(registry_at, repository_at)) else { continue };
            let positions: HashSet<u32> = removals.iter().map(|removal| removal.position.tag).collect();
            let after = RemainingContent::new(registry.removal, repository, &positions, |_| false);
            for removal in removals {
                if let Some(why) = after.retained_by(removal) {
                    findings.push(Violation::WronglyEnforced { image: image(removal), why });
                }
            }
        }
    }
}

/// What is kept in a repository once some of its tags are gone.
struct RemainingContent<'a> {
    repository: &'a Repository,
    whole_manifests: bool,
    kept: HashSet<&'a Digest>,
    contained: HashSet<&'a Digest>,
}

impl<'a> RemainingContent<'a> {
    fn new(
        method: RemovalMethod,
        repository: &'a Repository,
        gone: &HashSet<u32>,
        claimed: impl Fn(&Digest) -> bool,
    ) -> Self {
        let whole_manifests = method == RemovalMethod::DeleteManifest;
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
                contained.extend(&manifest.children);
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
