//! Indexes, referrers and companions, seen from a removal.

use std::collections::{BTreeSet, HashSet};

use super::evidence::RepositoryEvidence;
use super::ties::Ties;
use super::{PlanHead, RemovalPolicies, TagRemoval, TagSet, Violation, accompanies, image, unread};
use crate::domain::{
    Digest, DigestSet, PolicyName, RefusalScope, Registry, RegistryName, Removal, RemovalMethod, RepositoryName,
};

/// Checks that removals leave no dependents behind.
pub(super) fn check_dependents(
    registry: &Registry,
    ties: &Ties<'_>,
    going: &[TagRemoval<'_>],
    evidence: &RepositoryEvidence<'_, '_>,
    findings: &mut Vec<Violation>,
) {
    let repository = ties.repository;
    let gone = TagSet::of(repository, going.iter().map(|one| one.removal.position.tag));
    let (_, held) = evidence.holds_in(repository);
    let claimed = |digest: &Digest| {
        evidence.digests.contains(digest) || held.contains(digest) || evidence.mention_of_digest(digest).is_some()
    };
    let after = RemainingContent::new(registry, ties, &gone, claimed);
    let reached = reachable(ties, going);
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

/// Does the same for the enforced removals of a repository alone: no binding refusal of theirs is among these.
pub(super) fn check_enforced_dependents(
    registry: &Registry,
    ties: &Ties<'_>,
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
    unread::check_enforced_unread(registry, ties, (removals, &all), findings);
    let gone = TagSet::of(ties.repository, really.iter().map(|removal| removal.position.tag));
    let after = RemainingContent::new(registry, ties, &gone, |_| false);
    for removal in really {
        if let Some(why) = after.retained_by(removal) {
            findings.push(Violation::WronglyEnforced { image: image(removal), why });
        }
    }
}

/// Returns the removals of a repository that could not be made if everything that a policy expires stayed: positions
/// among the removals, by policy. Empty if all have the same policies, and without dependencies.
pub(super) fn held_by_policies(
    registry: &Registry,
    ties: &Ties<'_>,
    removals: &[&Removal],
    owners: &RemovalPolicies<'_>,
) -> Vec<HeldByPolicy> {
    let list_of = |removal: &Removal| owners.list_of(removal.position.tag);
    if removals.windows(2).all(|pair| list_of(pair[0]) == list_of(pair[1])) {
        return Vec::new();
    }
    // A removal may affect more than the tag, and retained manifests may need the rest.
    let takes_more = registry.removal == RemovalMethod::DeleteManifest || registry.expires_companions;
    let hanging = |removal: &Removal| takes_more || removal.companion_of.is_some() || ties.bind(&removal.digest);
    let hanging: Vec<(u32, &Removal)> = (0..).zip(removals.iter().copied()).filter(|(_, one)| hanging(one)).collect();
    if hanging.is_empty() {
        return Vec::new();
    }
    let repository = ties.repository;
    let owned = |removal: &Removal| owners.get(removal.position);
    let enforced = removals.iter().filter(|removal| removal.enforce);
    let policies: BTreeSet<&PolicyName> = enforced.flat_map(|removal| owned(removal)).copied().collect();
    let held = |policy: &PolicyName| {
        let stays = |removal: &Removal| !removal.enforce || owned(removal).contains(&policy);
        let gone = removals.iter().filter(|removal| !stays(removal)).map(|removal| removal.position.tag);
        let after = RemainingContent::new(registry, ties, &TagSet::of(repository, gone), |_| false);
        let held = hanging.iter().filter(|(_, one)| !stays(one) && after.retained_by(one).is_some());
        let held = held.map(|(at, one)| (*at, owned(one).iter().map(|&owner| owner.clone()).collect())).collect();
        HeldByPolicy {
            registry: registry.name.clone(),
            repository: repository.name.clone(),
            policy: policy.clone(),
            held,
        }
    };
    policies.into_iter().map(held).filter(|found| !found.held.is_empty()).collect()
}

/// Removals that depend on tags that one policy expires.
#[derive(Debug)]
pub(super) struct HeldByPolicy {
    registry: RegistryName,
    repository: RepositoryName,
    policy: PolicyName,
    /// Positions among the removals of the repository, and the policies that expire each.
    held: Vec<(u32, Vec<PolicyName>)>,
}

impl HeldByPolicy {
    /// Finds removals that would be enforced although a refusal keeps their dependencies.
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
            let why = format!("something that policy {policy} expires stays, and it depends on that");
            let image = format!("removal {position} of {registry}/{repository}");
            findings.push(Violation::WronglyEnforced { image, why });
        }
    }
}

/// The content of a repository that is retained after the removal of some of its tags.
struct RemainingContent<'t, 'a> {
    ties: &'t Ties<'a>,
    whole_manifests: bool,
    kept: DigestSet<&'a Digest>,
    /// The content of retained indexes; empty if an untag certainly leaves the manifest.
    contained: DigestSet<&'a Digest>,
    /// The manifests with a remaining tag, if the registry deletes those that have none and only tags are to be removed.
    tagged: Option<DigestSet<&'a Digest>>,
    /// Images without remaining tags beside a retained signature, if the registry would remove that with the last tag.
    unsigned: HashSet<String>,
}

impl<'t, 'a> RemainingContent<'t, 'a> {
    fn new(registry: &Registry, ties: &'t Ties<'a>, gone: &TagSet, claimed: impl Fn(&Digest) -> bool) -> Self {
        let repository = ties.repository;
        let whole_manifests = registry.removal == RemovalMethod::DeleteManifest;
        let staying = (0..).zip(&repository.tags).filter(|(position, _)| !gone.contains(*position));
        let mut open: Vec<&Digest> = staying.filter_map(|(_, tag)| tag.digest.as_ref()).collect();
        for (digest, manifest) in &repository.manifests {
            if claimed(digest) || manifest.config.as_deref().is_some_and(&claimed) {
                open.push(digest);
            }
            // An unread image may exist all the same, and its referrers matter to whoever claims it.
            open.extend(manifest.subject.as_deref().into_iter().filter(|subject| claimed(subject)));
        }
        let (mut kept, mut contained) = (DigestSet::default(), DigestSet::default());
        while let Some(digest) = open.pop() {
            if !kept.insert(digest) {
                continue;
            }
            open.extend(ties.held_by(digest, whole_manifests));
            if !registry.certainly_keeps_untagged(repository) {
                contained.extend(ties.tied.get(digest).into_iter().flat_map(|manifest| &manifest.children));
            }
        }
        let mut unsigned = HashSet::new();
        if registry.expires_companions {
            let staying = || (0..).zip(&repository.tags).filter(|(at, _)| !gone.contains(*at)).map(|(_, tag)| tag);
            let tagged: HashSet<String> = staying().filter_map(|tag| Some(tag.digest.as_ref()?.to_string())).collect();
            for tag in staying().filter(|tag| accompanies(&tag.name)) {
                let name = tag.name.as_str();
                let image = name.split_once('.').map_or(name, |(image, _)| image).replacen('-', ":", 1);
                unsigned.extend((!tagged.contains(&image)).then_some(image));
            }
        }
        let tagged = (registry.deletes_with_last_tag && !whole_manifests).then(|| {
            let staying = (0..).zip(&repository.tags).filter(|(position, _)| !gone.contains(*position));
            staying.filter_map(|(_, tag)| tag.digest.as_ref()).collect()
        });
        Self { ties, whole_manifests, kept, contained, tagged, unsigned }
    }

    fn retained_by(&self, removal: &Removal) -> Option<String> {
        let manifest = self.ties.tied.get(&removal.digest);
        let subject = manifest.and_then(|manifest| manifest.subject.as_deref());
        let mut images = [subject, removal.companion_of.as_deref()].into_iter().flatten();
        if self.contained.contains(&removal.digest) {
            Some("an index that stays contains its image".to_owned())
        } else if let Some(image) = images.find(|image| self.kept.contains(*image)) {
            Some(format!("its image {image} stays"))
        } else if !self.unsigned.is_empty() && self.unsigned.contains(&removal.digest.to_string()) {
            Some("a signature that stays would be removed with its last tag".to_owned())
        } else if self.tagged.as_ref().is_some_and(|tagged| !tagged.contains(&removal.digest)) {
            Some("its image would be removed with its last tag".to_owned())
        } else if self.whole_manifests && self.kept.contains(&removal.digest) {
            Some("its manifest stays for another".to_owned())
        } else {
            None
        }
    }
}

/// Returns everything that removed tags lead to, through indexes, referrers and companions that are removed as well.
fn reachable<'a>(ties: &Ties<'a>, going: &'a [TagRemoval<'a>]) -> DigestSet<&'a Digest> {
    let mut seen = DigestSet::default();
    if going.iter().all(|one| one.removal.companion_of.is_none()) {
        return seen;
    }
    let mut hanging = ties.referrers.clone();
    for one in going {
        if let Some(subject) = one.removal.companion_of.as_deref() {
            hanging.entry(subject).or_default().push(one.digest);
        }
    }
    let mut open: Vec<&Digest> = going.iter().filter(|one| !accompanies(&one.tag.name)).map(|one| one.digest).collect();
    while let Some(digest) = open.pop() {
        if seen.insert(digest) {
            open.extend(hanging.get(digest).into_iter().flatten());
            open.extend(ties.tied.get(digest).into_iter().flat_map(|manifest| &manifest.children));
        }
    }
    seen
}
