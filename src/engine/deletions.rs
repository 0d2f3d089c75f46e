//! Which untagged manifests go, with what hangs on them, and why the others stay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::claims::{SourcedClaim, claim_texts};
use super::companion::{companion_subject, companions};
use super::deletion_reclaim::add_deletion_reclaim;
use super::evaluate::RegistryEvaluation;
use super::grace::{Grace, governing_policies, grace_period, selects_removed_tag};
use super::graph::{Graph, Node, Traversal, index};
use super::mentions::{RepositoryMentions, former_manifests};
use super::placed_digests::{AbsentDigest, PlacedDigests};
use super::uncertain_claims::RepositoryUncertainClaims;
use crate::domain::{
    Claims, Deletion, Deletions, Dependent, DependentRole, Digest, Gap, GapTarget, Inventory, LockTarget, Manifest,
    PolicyMode, PolicyName, RegistryName, Repository, RepositoryName, RetainReason, Rules, TagName, UntaggedManifest,
};

/// Most reasons of one kind that are named: one is enough to stay.
const MAX_NAMED: usize = 4;

/// What becomes of untagged manifests at `now`.
///
/// `untagged` are those whose grace may be over; the inventory was read with them in mind, so that one which is not in it
/// is gone. `others` are the other manifests that Tagwarden took tags from, in the same repositories: none of them goes
/// along with anything. A manifest goes only if every policy with a say has it deleted, nothing tags it, claims it or
/// an image in it or a tag that it had, no index that stays lists it, and nothing that stays refers to it. Along go the
/// images of an index that nothing else holds, and what refers to what goes.
#[must_use]
pub fn plan_deletions(
    rules: &Rules,
    inventory: &Inventory,
    claims: &Claims,
    untagged: &[UntaggedManifest],
    others: &BTreeSet<(RegistryName, RepositoryName, Digest)>,
    now: Timestamp,
) -> Deletions {
    let mut by_place: BTreeMap<(&RegistryName, &RepositoryName), BTreeMap<&Digest, &UntaggedManifest>> =
        BTreeMap::new();
    for one in untagged {
        by_place.entry((&one.registry, &one.repository)).or_default().insert(&one.digest, one);
    }
    let (texts, placed) = (claim_texts(claims), PlacedDigests::of(inventory, claims));
    let former = former_manifests(untagged);
    let mut found = Deletions::default();
    for registry in &inventory.registries {
        let mut ground: Option<RegistryEvaluation<'_>> = None;
        for repository in &registry.repositories {
            let Some(here) = by_place.get(&(&registry.name, &repository.name)) else { continue };
            let ground = ground.get_or_insert_with(|| RegistryEvaluation::new(rules, registry, (claims, &texts), now));
            let apart =
                |digest: &Digest| others.contains(&(registry.name.clone(), repository.name.clone(), digest.clone()));
            let former = former.get(&(&registry.name, &repository.name)).map(Vec::as_slice).unwrap_or_default();
            let mentions = ground.mentions.in_repository(registry, repository, former);
            assess_repository(ground, (repository, &mentions, &placed), here, &apart, &mut found);
        }
    }
    found.eligible.sort_by(|a, b| key(a).cmp(&key(b)));
    add_deletion_reclaim(inventory, &mut found.eligible);
    found
}

fn key(deletion: &Deletion) -> (&RegistryName, &RepositoryName, &Digest) {
    (&deletion.registry, &deletion.repository, &deletion.digest)
}

/// Adds what becomes of the untagged manifests of one repository, and returns the claimed digests that were taken to be in no
/// repository.
pub(super) fn assess_repository<'a>(
    evaluation: &RegistryEvaluation<'_>,
    (repository, mentions, placed): (&'a Repository, &RepositoryMentions<'_>, &PlacedDigests),
    untagged: &BTreeMap<&Digest, &'a UntaggedManifest>,
    apart: &dyn Fn(&Digest) -> bool,
    found: &mut Deletions,
) -> BTreeSet<AbsentDigest> {
    let now = evaluation.now;
    let companions = companions(repository);
    let mut accompanied: BTreeMap<&Digest, Vec<u32>> = BTreeMap::new();
    for companion in &companions {
        accompanied.entry(&companion.subject).or_default().push(companion.tag);
    }
    let graph = Graph::new(repository, &companions);
    let site = RepositoryCleanup {
        evaluation,
        repository,
        graph,
        accompanied,
        mentions,
        doubts: evaluation.doubts.for_repository(repository, placed),
    };
    let mut looked: Vec<EligibleManifest<'_>> = Vec::new();
    let mut waiting = BTreeSet::new();
    for (&digest, &untagged) in untagged {
        let listed = repository.manifests.contains_key(digest);
        if !listed && evaluation.registry.lists_untagged && !repository.gaps.iter().any(Gap::blocks_repository) {
            continue;
        }
        // Tagged again, it is judged by its tags.
        let node = site.graph.node(digest);
        if node.is_some_and(|node| site.graph.tags(node).next().is_some()) {
            continue;
        }
        let children = untagged.manifest.iter().flat_map(|manifest| &manifest.children);
        let changes = std::iter::once(digest).chain(children);
        let changed_at = changes.filter_map(|digest| *repository.untagged.get(digest)?).max();
        match grace_period(evaluation.rules, untagged, changed_at, now) {
            Grace::NotRequested => {
                waiting.insert(digest);
            }
            Grace::Until(until) => {
                waiting.insert(digest);
                found.add_pending(until);
            }
            Grace::Over(due_at) => {
                looked.push(EligibleManifest {
                    untagged,
                    node,
                    eligible_at: due_at,
                    retain_reasons: site.retain_reasons(untagged, node),
                });
            }
        }
    }
    let mut going: BTreeSet<Node> =
        looked.iter().filter(|one| one.retain_reasons.is_empty()).filter_map(|one| one.node).collect();
    let held = |digest: &Digest| waiting.contains(digest) || apart(digest);
    // What stays may hold others, which then stay as well.
    let along = loop {
        let along = site.find_dependents(&looked, &going, &held);
        let before = going.len();
        for one in &mut looked {
            let Some(node) = one.node.filter(|node| going.contains(node)) else { continue };
            one.retain_reasons = site.dependency_reasons(one.untagged, node, &going, &along);
            if !one.retain_reasons.is_empty() {
                going.remove(&node);
            }
        }
        if going.len() == before {
            break along;
        }
    };
    // What only goes on paper still holds what hangs on it and what it refers to, and so takes that along first.
    let on_paper = looked.iter().filter(|one| one.retain_reasons.is_empty() && !evaluation.enforces(one.untagged));
    let held = site.pinned_by_dry_run(&looked, on_paper.filter_map(|one| one.node).collect());
    let mut looked: Vec<(bool, EligibleManifest<'_>)> = looked
        .into_iter()
        .map(|one| (evaluation.enforces(one.untagged) && one.node.is_none_or(|node| !held[index(node)]), one))
        .collect();
    looked.sort_by_key(|(enforce, _)| *enforce);
    let mut taken = BTreeSet::new();
    for (enforce, one) in looked {
        found.eligible.extend(site.deletion(one, enforce, &along, &mut taken));
    }
    let retains = found.eligible.iter().any(|one| !one.retain_reasons.is_empty());
    if retains { site.doubts.assumed_absent() } else { BTreeSet::new() }
}

impl RegistryEvaluation<'_> {
    /// Whether all policies with a say enforce.
    fn enforces(&self, untagged: &UntaggedManifest) -> bool {
        let enforced = |name: &PolicyName| {
            let mut policies = self.rules.policies.iter();
            policies.any(|policy| policy.name == *name && policy.mode == PolicyMode::Enforce)
        };
        governing_policies(self.rules, untagged).into_iter().all(enforced)
    }
}

/// An untagged manifest whose grace is over, with why it stays as far as that is known.
struct EligibleManifest<'a> {
    untagged: &'a UntaggedManifest,
    node: Option<Node>,
    eligible_at: Timestamp,
    retain_reasons: Vec<RetainReason>,
}

/// One repository.
struct RepositoryCleanup<'a, 'g, 'e> {
    evaluation: &'g RegistryEvaluation<'e>,
    mentions: &'g RepositoryMentions<'e>,
    repository: &'a Repository,
    graph: Graph<'g>,
    /// The tags of signatures and the like, by the image that they accompany.
    accompanied: BTreeMap<&'g Digest, Vec<u32>>,
    doubts: RepositoryUncertainClaims<'a, 'a>,
}

impl RepositoryCleanup<'_, '_, '_> {
    /// Why a manifest stays whatever becomes of the others.
    fn retain_reasons(&self, untagged: &UntaggedManifest, node: Option<Node>) -> Vec<RetainReason> {
        let mut stays = self.policy_reasons(untagged);
        let ground = self.evaluation;
        if !ground.registry.lists_untagged {
            stays.push(RetainReason::NotListed);
        }
        stays.extend(ground.failed.iter().take(MAX_NAMED).map(|&source| RetainReason::SourceFailed(source.clone())));
        let gaps = ground.registry.gaps.iter().chain(&self.repository.gaps);
        let gaps = gaps.filter(|gap| gap.may_hide_tag() || matches!(gap.target, GapTarget::VanishedTag(_)));
        stays.extend(gaps.take(MAX_NAMED).map(|gap| RetainReason::Gap(Box::new(gap.target.clone()))));
        // What was not read may list it, or refer to it.
        let unread = self.repository.unread().take(MAX_NAMED).map(|(digest, _)| GapTarget::Manifest(digest.clone()));
        stays.extend(unread.map(|unread| RetainReason::Gap(Box::new(unread))));
        stays.extend(self.repository.lock.map(|lock| RetainReason::Locked { on: LockTarget::Repository, lock }));
        for tag in &untagged.tags {
            if tag.restored {
                stays.push(RetainReason::Restored(tag.name.clone()));
            }
        }
        let within: Vec<Node> = node.map(|node| self.within(node)).unwrap_or_default();
        let config = untagged.manifest.as_ref().and_then(|manifest| manifest.config.as_deref());
        let digests = within.iter().map(|&node| self.graph.digest(node)).chain(std::iter::once(&untagged.digest));
        let configs = within.iter().filter_map(|&node| self.graph.manifest(node)?.config.as_deref()).chain(config);
        let digests: Vec<&Digest> = digests.chain(configs).collect();
        let tags = || untagged.tags.iter().map(|tag| &tag.name);
        let held = ground.holds.matching(&self.repository.name, tags(), digests.iter().copied());
        stays.extend(held.into_iter().take(MAX_NAMED).map(|hold| RetainReason::Held(Arc::clone(hold))));
        let claimed = ground.claims.matching(ground.registry, self.repository, tags(), digests.iter().copied());
        stays.extend(claimed.into_iter().take(MAX_NAMED).map(SourcedClaim::retain_reason));
        let mentioned = self.mentions.matching(tags(), digests.iter().copied());
        stays.extend(
            mentioned.into_iter().take(MAX_NAMED).map(|mentioned| RetainReason::Mentioned(Box::new(mentioned))),
        );
        let manifests: Vec<(&Digest, Option<&Manifest>)> = within
            .iter()
            .map(|&inner| {
                let known = untagged.manifest.as_ref().filter(|_| Some(inner) == node);
                (self.graph.digest(inner), known.or_else(|| self.graph.manifest(inner)))
            })
            .collect();
        stays.extend(self.doubts.retain_reasons(&manifests));
        let locks = within.iter().filter_map(|&inner| self.graph.manifest(inner)?.lock);
        stays.extend(locks.take(1).map(|lock| RetainReason::Locked { on: LockTarget::Manifest, lock }));
        let accompanied = self.accompanied.get(&untagged.digest).into_iter().flatten();
        stays.extend(accompanied.filter_map(|&tag| self.tag(tag)).map(RetainReason::HasCompanionTag));
        stays.sort();
        stays.dedup();
        stays
    }

    /// What the policies with a say have against it.
    fn policy_reasons(&self, untagged: &UntaggedManifest) -> Vec<RetainReason> {
        let rules = self.evaluation.rules;
        let mut stays = Vec::new();
        for tag in &untagged.tags {
            if tag.policies.is_empty() && !tag.restored {
                stays.push(RetainReason::Unrecorded(tag.name.clone()));
            }
            for name in &tag.policies {
                let policy = rules.policies.iter().find(|policy| policy.name == *name);
                let companion = companion_subject(&tag.name).is_some();
                if policy.is_some_and(|policy| !companion && !selects_removed_tag(policy, untagged, tag)) {
                    stays.push(RetainReason::NotSelected(name.clone(), tag.name.clone()));
                }
            }
        }
        for name in governing_policies(rules, untagged) {
            match rules.policies.iter().find(|policy| policy.name == *name) {
                None => stays.push(RetainReason::PolicyMissing(name.clone())),
                Some(policy) if policy.delete_manifest_after.is_none() => {
                    stays.push(RetainReason::DeletionNotRequested(name.clone()));
                }
                Some(_) => {}
            }
        }
        stays
    }

    /// A manifest and everything in it.
    fn within(&self, node: Node) -> Vec<Node> {
        let mut seen = BTreeSet::from([node]);
        let mut open = vec![node];
        while let Some(next) = open.pop() {
            open.extend(self.graph.children(next).filter(|&child| seen.insert(child)));
        }
        seen.into_iter().collect()
    }

    fn tag(&self, position: u32) -> Option<TagName> {
        self.repository.tags.get(index(position)).map(|tag| tag.name.clone())
    }

    /// The images that a manifest refers to or accompanies.
    fn subjects(&self, untagged: &UntaggedManifest, node: Node) -> Vec<Digest> {
        let said = untagged.manifest.as_ref().and_then(|manifest| manifest.subject.as_deref()).cloned();
        let listed = self.graph.manifest(node).and_then(|manifest| manifest.subject.as_deref()).cloned();
        let named = untagged.tags.iter().filter_map(|tag| companion_subject(&tag.name));
        said.into_iter().chain(listed).chain(named).collect()
    }

    /// Finds what reported-only deletions hold. An untagged signature refers to its image by a tag that it had, which
    /// the graph does not know.
    fn pinned_by_dry_run(&self, looked: &[EligibleManifest<'_>], mut on_paper: BTreeSet<Node>) -> Vec<bool> {
        loop {
            let held = self.graph.reachable(on_paper.iter().copied(), Traversal::DownAndToSubjects);
            let mut more = BTreeSet::new();
            for one in looked.iter().filter(|one| one.retain_reasons.is_empty()) {
                let Some(node) = one.node else { continue };
                for subject in self.subjects(one.untagged, node).iter().filter_map(|digest| self.graph.node(digest)) {
                    if held[index(node)] != held[index(subject)] {
                        more.extend([node, subject]);
                    }
                }
            }
            if more.is_empty() {
                return held;
            }
            on_paper.extend(more);
        }
    }

    /// Why a manifest that nothing else keeps stays because of what stays.
    fn dependency_reasons(
        &self,
        untagged: &UntaggedManifest,
        node: Node,
        going: &BTreeSet<Node>,
        along: &BTreeSet<Node>,
    ) -> Vec<RetainReason> {
        let goes = |node: &Node| going.contains(node) || along.contains(node);
        let parents = self.graph.parents(node).filter(|parent| !goes(parent));
        let referrers = self.graph.referrers(node).filter(|referrer| !goes(referrer));
        let there = |digest: &Digest| {
            self.repository.manifests.contains_key(digest) && self.graph.node(digest).is_none_or(|node| !goes(&node))
        };
        let subjects = self.subjects(untagged, node).into_iter().filter(there);
        let digest = |node: Node| self.graph.digest(node).clone();
        let mut stays: Vec<RetainReason> =
            parents.take(MAX_NAMED).map(|parent| RetainReason::ListedByRetained(digest(parent))).collect();
        stays.extend(referrers.take(MAX_NAMED).map(|referrer| RetainReason::ReferredToByRetained(digest(referrer))));
        stays.extend(subjects.map(RetainReason::RefersToRetained));
        stays.sort();
        stays.dedup();
        stays
    }

    /// What hangs on what goes, and on nothing else.
    fn find_dependents(
        &self,
        looked: &[EligibleManifest<'_>],
        going: &BTreeSet<Node>,
        held: &dyn Fn(&Digest) -> bool,
    ) -> BTreeSet<Node> {
        let judged: BTreeSet<Node> = looked.iter().filter_map(|one| one.node).collect();
        let mut along = BTreeSet::new();
        let mut open: Vec<Node> = going.iter().copied().collect();
        while let Some(next) = open.pop() {
            for hanging in self.graph.children(next).chain(self.graph.referrers(next)) {
                if !judged.contains(&hanging) && self.is_unprotected(hanging, held) && along.insert(hanging) {
                    open.push(hanging);
                }
            }
        }
        // What something else holds as well stays, and then holds what hangs on it.
        loop {
            let goes = |node: &Node| going.contains(node) || along.contains(node);
            let bound: BTreeSet<Node> = along
                .iter()
                .copied()
                .filter(|&node| {
                    let subject = self.graph.subject(node);
                    let others = self.graph.parents(node).chain(self.graph.referrers(node)).chain(subject);
                    let others: Vec<Node> = others.collect();
                    !others.iter().all(goes) || !self.is_dependent(node, &goes)
                })
                .collect();
            if bound.is_empty() {
                return along;
            }
            along.retain(|node| !bound.contains(node));
        }
    }

    /// Whether a manifest is in an index that goes, or refers to something that does.
    fn is_dependent(&self, node: Node, goes: &dyn Fn(&Node) -> bool) -> bool {
        self.graph.parents(node).chain(self.graph.subject(node)).any(|holder| goes(&holder))
    }

    /// Returns true if a manifest never judged by itself may go with another one: nobody tagged, claimed, mentioned or
    /// locked it, nor claimed, mentioned or locked an image in it.
    fn is_unprotected(&self, node: Node, held: &dyn Fn(&Digest) -> bool) -> bool {
        let digest = self.graph.digest(node);
        if held(digest) || self.graph.manifest(node).is_none() {
            return false;
        }
        let ground = self.evaluation;
        let within = self.within(node);
        let manifests = || within.iter().map(|&inner| self.graph.manifest(inner));
        let configs = manifests().filter_map(|manifest| manifest?.config.as_deref());
        let digests = within.iter().map(|&inner| self.graph.digest(inner)).chain(configs);
        let digests: Vec<&Digest> = digests.collect();
        let held_here = ground.holds.matching(&self.repository.name, std::iter::empty(), digests.iter().copied());
        let mentioned = self.mentions.matching(std::iter::empty(), digests.iter().copied());
        let claimed = ground.claims.matching(ground.registry, self.repository, std::iter::empty(), digests.into_iter());
        let all: Vec<_> = within.iter().map(|&inner| (self.graph.digest(inner), self.graph.manifest(inner))).collect();
        let locked = manifests().flatten().any(|manifest| manifest.lock.is_some());
        let perhaps = !self.doubts.retain_reasons(&all).is_empty();
        claimed.is_empty()
            && mentioned.is_empty()
            && held_here.is_empty()
            && !locked
            && !perhaps
            && self.graph.tags(node).next().is_none()
            && !self.accompanied.contains_key(digest)
    }

    fn deletion(
        &self,
        looked: EligibleManifest<'_>,
        enforce: bool,
        along: &BTreeSet<Node>,
        taken: &mut BTreeSet<Node>,
    ) -> Option<Deletion> {
        let EligibleManifest { untagged, node, eligible_at: due_at, retain_reasons: stays } = looked;
        let last = untagged.tags.iter().max_by(|a, b| (a.at, &b.name).cmp(&(b.at, &a.name)))?;
        let going = node.filter(|_| stays.is_empty());
        Some(Deletion {
            registry: untagged.registry.clone(),
            repository: untagged.repository.clone(),
            digest: untagged.digest.clone(),
            tag: last.name.clone(),
            untagged_at: last.at,
            eligible_at: due_at,
            policies: governing_policies(self.evaluation.rules, untagged).into_iter().cloned().collect(),
            enforce,
            dependents: going.map(|node| self.dependents_of(node, along, taken)).unwrap_or_default(),
            reclaim: None,
            retain_reasons: stays,
        })
    }

    /// What of `along` hangs on one manifest and was not taken along by another one already.
    fn dependents_of(&self, node: Node, along: &BTreeSet<Node>, taken: &mut BTreeSet<Node>) -> Vec<Dependent> {
        let mut found = Vec::new();
        let mut open = vec![node];
        while let Some(next) = open.pop() {
            let children = self.graph.children(next).map(|child| (DependentRole::Child, child));
            let referrers = self.graph.referrers(next).map(|referrer| (DependentRole::Referrer, referrer));
            for (role, hanging) in children.chain(referrers) {
                if along.contains(&hanging) && taken.insert(hanging) {
                    found.push(Dependent { role, digest: self.graph.digest(hanging).clone() });
                    open.push(hanging);
                }
            }
        }
        found.sort();
        found
    }
}
