//! Which untagged manifests go, with what hangs on them, and why the others stay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::claims::{ClaimIndex, Told, texts};
use super::companion::{companion_subject, companions};
use super::doubts::{Doubts, DoubtsHere};
use super::freed::freed;
use super::grace::{Grace, grace, speaks, voices};
use super::graph::{Graph, Node, Ties, index};
use super::holds::HoldIndex;
use super::mentions::MentionIndex;
use crate::domain::{
    Along, Claims, Deletion, Deletions, Digest, Gap, GapAt, Inventory, Locked, Manifest, PolicyMode, PolicyName,
    Registry, RegistryName, Repository, RepositoryName, Role, Rules, SourceName, Stay, TagName, Untagged,
};

/// Most reasons of one kind that are named: one is enough to stay.
const MOST_NAMED: usize = 4;

/// What becomes of untagged manifests at `now`.
///
/// `untagged` are those whose grace may be over; the inventory was read with them in mind, so that one which is not in it
/// is gone. `others` are the other manifests that Tagwarden took tags from, in the same repositories: none of them goes
/// along with anything. A manifest goes only if every policy with a say has it deleted, nothing tags it, claims it or
/// an image in it or a tag that it had, no index that stays lists it, and nothing that stays refers to it. Along go the
/// images of an index that nothing else holds, and what refers to what goes.
#[must_use]
pub fn deletions(
    rules: &Rules,
    inventory: &Inventory,
    claims: &Claims,
    untagged: &[Untagged],
    others: &BTreeSet<(RegistryName, RepositoryName, Digest)>,
    now: Timestamp,
) -> Deletions {
    let mut by_place: BTreeMap<(&RegistryName, &RepositoryName), BTreeMap<&Digest, &Untagged>> = BTreeMap::new();
    for one in untagged {
        by_place.entry((&one.registry, &one.repository)).or_default().insert(&one.digest, one);
    }
    let texts = texts(claims);
    let mut found = Deletions::default();
    for registry in &inventory.registries {
        let mut ground: Option<RegistryGround<'_>> = None;
        for repository in &registry.repositories {
            let Some(here) = by_place.get(&(&registry.name, &repository.name)) else { continue };
            let ground =
                ground.get_or_insert_with(|| RegistryGround::new(rules, inventory, registry, claims, &texts, now));
            let apart =
                |digest: &Digest| others.contains(&(registry.name.clone(), repository.name.clone(), digest.clone()));
            ground.judge(repository, here, &apart, now, &mut found);
        }
    }
    found.due.sort_by(|a, b| key(a).cmp(&key(b)));
    freed(inventory, &mut found.due);
    found
}

fn key(deletion: &Deletion) -> (&RegistryName, &RepositoryName, &Digest) {
    (&deletion.registry, &deletion.repository, &deletion.digest)
}

/// What is the same for all repositories of a registry.
struct RegistryGround<'a> {
    rules: &'a Rules,
    registry: &'a Registry,
    claims: ClaimIndex<'a>,
    holds: HoldIndex<'a>,
    mentions: MentionIndex<'a>,
    doubts: Doubts<'a>,
    failed: Vec<&'a SourceName>,
}

impl<'a> RegistryGround<'a> {
    fn new(
        rules: &'a Rules,
        inventory: &Inventory,
        registry: &'a Registry,
        claims: &'a Claims,
        texts: &'a [Arc<str>],
        now: Timestamp,
    ) -> Self {
        let failed = claims.sources.iter().filter(|source| source.failed() && source.covers(&registry.name));
        Self {
            rules,
            registry,
            claims: ClaimIndex::new(registry, claims, texts),
            holds: HoldIndex::new(registry, claims, now),
            mentions: MentionIndex::new(registry, claims),
            doubts: Doubts::new(inventory, registry, claims),
            failed: failed.map(|source| &source.name).collect(),
        }
    }

    fn judge(
        &self,
        repository: &'a Repository,
        untagged: &BTreeMap<&Digest, &'a Untagged>,
        apart: &dyn Fn(&Digest) -> bool,
        now: Timestamp,
        found: &mut Deletions,
    ) {
        let companions = companions(repository);
        let mut accompanied: BTreeMap<&Digest, Vec<u32>> = BTreeMap::new();
        for companion in &companions {
            accompanied.entry(&companion.subject).or_default().push(companion.tag);
        }
        let graph = Graph::new(repository, &companions);
        let site = Site { ground: self, repository, graph, accompanied, doubts: self.doubts.on(repository) };
        let mut looked: Vec<Looked<'_>> = Vec::new();
        let mut waiting = BTreeSet::new();
        for (&digest, &untagged) in untagged {
            let listed = repository.manifests.contains_key(digest);
            if !listed && self.registry.lists_untagged && !repository.gaps.iter().any(Gap::blocks_repository) {
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
            match grace(self.rules, untagged, changed_at, now) {
                Grace::NotAsked => {
                    waiting.insert(digest);
                }
                Grace::Until(until) => {
                    waiting.insert(digest);
                    found.wait(until);
                }
                Grace::Over(due_at) => {
                    looked.push(Looked { untagged, node, due_at, stays: site.stays(untagged, node) });
                }
            }
        }
        let mut going: BTreeSet<Node> =
            looked.iter().filter(|one| one.stays.is_empty()).filter_map(|one| one.node).collect();
        let held = |digest: &Digest| waiting.contains(digest) || apart(digest);
        // What stays may hold others, which then stay as well.
        let along = loop {
            let along = site.along(&looked, &going, &held);
            let before = going.len();
            for one in &mut looked {
                let Some(node) = one.node.filter(|node| going.contains(node)) else { continue };
                one.stays = site.held_by_others(one.untagged, node, &going, &along);
                if !one.stays.is_empty() {
                    going.remove(&node);
                }
            }
            if going.len() == before {
                break along;
            }
        };
        // What only goes on paper still holds what hangs on it and what it refers to, and so takes that along first.
        let on_paper = looked.iter().filter(|one| one.stays.is_empty() && !self.enforces(one.untagged));
        let held = site.held_on_paper(&looked, on_paper.filter_map(|one| one.node).collect());
        let mut looked: Vec<(bool, Looked<'_>)> = looked
            .into_iter()
            .map(|one| (self.enforces(one.untagged) && one.node.is_none_or(|node| !held[index(node)]), one))
            .collect();
        looked.sort_by_key(|(enforce, _)| *enforce);
        let mut taken = BTreeSet::new();
        for (enforce, one) in looked {
            found.due.extend(site.deletion(one, enforce, &along, &mut taken));
        }
    }
}

impl RegistryGround<'_> {
    /// Whether all policies with a say enforce.
    fn enforces(&self, untagged: &Untagged) -> bool {
        let enforced = |name: &PolicyName| {
            let mut policies = self.rules.policies.iter();
            policies.any(|policy| policy.name == *name && policy.mode == PolicyMode::Enforce)
        };
        voices(self.rules, untagged).into_iter().all(enforced)
    }
}

/// An untagged manifest whose grace is over, with why it stays as far as that is known.
struct Looked<'a> {
    untagged: &'a Untagged,
    node: Option<Node>,
    due_at: Timestamp,
    stays: Vec<Stay>,
}

/// One repository.
struct Site<'a, 'g> {
    ground: &'g RegistryGround<'a>,
    repository: &'a Repository,
    graph: Graph<'g>,
    /// The tags of signatures and the like, by the image that they accompany.
    accompanied: BTreeMap<&'g Digest, Vec<u32>>,
    doubts: DoubtsHere<'a>,
}

impl Site<'_, '_> {
    /// Why a manifest stays whatever becomes of the others.
    fn stays(&self, untagged: &Untagged, node: Option<Node>) -> Vec<Stay> {
        let mut stays = self.policies(untagged);
        let ground = self.ground;
        if !ground.registry.lists_untagged {
            stays.push(Stay::NotListed);
        }
        stays.extend(ground.failed.iter().take(MOST_NAMED).map(|&source| Stay::SourceFailed(source.clone())));
        let gaps = ground.registry.gaps.iter().chain(&self.repository.gaps);
        let gaps = gaps.filter(|gap| gap.hides_a_tag() || matches!(gap.at, GapAt::VanishedTag(_)));
        stays.extend(gaps.take(MOST_NAMED).map(|gap| Stay::Gap(Box::new(gap.at.clone()))));
        stays.extend(self.repository.lock.map(|lock| Stay::Locked { on: Locked::Repository, lock }));
        for tag in &untagged.tags {
            if tag.put_back {
                stays.push(Stay::PutBack(tag.name.clone()));
            }
        }
        let within: Vec<Node> = node.map(|node| self.within(node)).unwrap_or_default();
        let config = untagged.manifest.as_ref().and_then(|manifest| manifest.config.as_deref());
        let digests = within.iter().map(|&node| self.graph.digest(node)).chain(std::iter::once(&untagged.digest));
        let configs = within.iter().filter_map(|&node| self.graph.manifest(node)?.config.as_deref()).chain(config);
        let digests: Vec<&Digest> = digests.chain(configs).collect();
        let tags = || untagged.tags.iter().map(|tag| &tag.name);
        let held = ground.holds.on(&self.repository.name, tags(), digests.iter().copied());
        stays.extend(held.into_iter().take(MOST_NAMED).map(|hold| Stay::Held(Arc::clone(hold))));
        let claimed = ground.claims.on(ground.registry, self.repository, tags(), digests.iter().copied());
        stays.extend(claimed.into_iter().take(MOST_NAMED).map(Told::stay));
        let mentioned = ground.mentions.on(&self.repository.name, tags(), digests.iter().copied());
        stays.extend(mentioned.into_iter().take(MOST_NAMED).map(|mentioned| Stay::Mentioned(Box::new(mentioned))));
        let manifests: Vec<(&Digest, Option<&Manifest>)> = within
            .iter()
            .map(|&inner| {
                let known = untagged.manifest.as_ref().filter(|_| Some(inner) == node);
                (self.graph.digest(inner), known.or_else(|| self.graph.manifest(inner)))
            })
            .collect();
        stays.extend(self.doubts.stays(&manifests));
        let locks = within.iter().filter_map(|&inner| self.graph.manifest(inner)?.lock);
        stays.extend(locks.take(1).map(|lock| Stay::Locked { on: Locked::Manifest, lock }));
        let accompanied = self.accompanied.get(&untagged.digest).into_iter().flatten();
        stays.extend(accompanied.filter_map(|&tag| self.tag(tag)).map(Stay::Accompanied));
        stays.sort();
        stays.dedup();
        stays
    }

    /// What the policies with a say have against it.
    fn policies(&self, untagged: &Untagged) -> Vec<Stay> {
        let rules = self.ground.rules;
        let mut stays = Vec::new();
        for tag in &untagged.tags {
            if tag.policies.is_empty() && !tag.put_back {
                stays.push(Stay::Unrecorded(tag.name.clone()));
            }
            for name in &tag.policies {
                let policy = rules.policies.iter().find(|policy| policy.name == *name);
                let companion = companion_subject(&tag.name).is_some();
                if policy.is_some_and(|policy| !companion && !speaks(policy, untagged, tag)) {
                    stays.push(Stay::NotSelected(name.clone(), tag.name.clone()));
                }
            }
        }
        for name in voices(rules, untagged) {
            match rules.policies.iter().find(|policy| policy.name == *name) {
                None => stays.push(Stay::PolicyGone(name.clone())),
                Some(policy) if policy.delete_manifest_after.is_none() => stays.push(Stay::PolicySilent(name.clone())),
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
    fn subjects(&self, untagged: &Untagged, node: Node) -> Vec<Digest> {
        let said = untagged.manifest.as_ref().and_then(|manifest| manifest.subject.as_deref()).cloned();
        let listed = self.graph.manifest(node).and_then(|manifest| manifest.subject.as_deref()).cloned();
        let named = untagged.tags.iter().filter_map(|tag| companion_subject(&tag.name));
        said.into_iter().chain(listed).chain(named).collect()
    }

    /// Finds what reported-only deletions hold. An untagged signature refers to its image by a tag that it had, which
    /// the graph does not know.
    fn held_on_paper(&self, looked: &[Looked<'_>], mut on_paper: BTreeSet<Node>) -> Vec<bool> {
        loop {
            let held = self.graph.reach(on_paper.iter().copied(), Ties::DownAndToSubjects);
            let mut more = BTreeSet::new();
            for one in looked.iter().filter(|one| one.stays.is_empty()) {
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
    fn held_by_others(
        &self,
        untagged: &Untagged,
        node: Node,
        going: &BTreeSet<Node>,
        along: &BTreeSet<Node>,
    ) -> Vec<Stay> {
        let goes = |node: &Node| going.contains(node) || along.contains(node);
        let parents = self.graph.parents(node).filter(|parent| !goes(parent));
        let referrers = self.graph.referrers(node).filter(|referrer| !goes(referrer));
        let there = |digest: &Digest| {
            self.repository.manifests.contains_key(digest) && self.graph.node(digest).is_none_or(|node| !goes(&node))
        };
        let subjects = self.subjects(untagged, node).into_iter().filter(there);
        let digest = |node: Node| self.graph.digest(node).clone();
        let mut stays: Vec<Stay> = parents.take(MOST_NAMED).map(|parent| Stay::Contained(digest(parent))).collect();
        stays.extend(referrers.take(MOST_NAMED).map(|referrer| Stay::ReferredTo(digest(referrer))));
        stays.extend(subjects.map(Stay::RefersTo));
        stays.sort();
        stays.dedup();
        stays
    }

    /// What hangs on what goes, and on nothing else.
    fn along(&self, looked: &[Looked<'_>], going: &BTreeSet<Node>, held: &dyn Fn(&Digest) -> bool) -> BTreeSet<Node> {
        let judged: BTreeSet<Node> = looked.iter().filter_map(|one| one.node).collect();
        let mut along = BTreeSet::new();
        let mut open: Vec<Node> = going.iter().copied().collect();
        while let Some(next) = open.pop() {
            for hanging in self.graph.children(next).chain(self.graph.referrers(next)) {
                if !judged.contains(&hanging) && self.is_free(hanging, held) && along.insert(hanging) {
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
                    !others.iter().all(goes) || !self.hangs(node, &goes)
                })
                .collect();
            if bound.is_empty() {
                return along;
            }
            along.retain(|node| !bound.contains(node));
        }
    }

    /// Whether a manifest is in an index that goes, or refers to something that does.
    fn hangs(&self, node: Node, goes: &dyn Fn(&Node) -> bool) -> bool {
        self.graph.parents(node).chain(self.graph.subject(node)).any(|holder| goes(&holder))
    }

    /// Returns true if a manifest never judged by itself may go with another one: nobody tagged, claimed, mentioned or
    /// locked it, nor claimed, mentioned or locked an image in it.
    fn is_free(&self, node: Node, held: &dyn Fn(&Digest) -> bool) -> bool {
        let digest = self.graph.digest(node);
        if held(digest) || self.graph.manifest(node).is_none() {
            return false;
        }
        let ground = self.ground;
        let within = self.within(node);
        let manifests = || within.iter().map(|&inner| self.graph.manifest(inner));
        let configs = manifests().filter_map(|manifest| manifest?.config.as_deref());
        let digests = within.iter().map(|&inner| self.graph.digest(inner)).chain(configs);
        let digests: Vec<&Digest> = digests.collect();
        let held_here = ground.holds.on(&self.repository.name, std::iter::empty(), digests.iter().copied());
        let mentioned = ground.mentions.on(&self.repository.name, std::iter::empty(), digests.iter().copied());
        let claimed = ground.claims.on(ground.registry, self.repository, std::iter::empty(), digests.into_iter());
        let all: Vec<_> = within.iter().map(|&inner| (self.graph.digest(inner), self.graph.manifest(inner))).collect();
        let locked = manifests().flatten().any(|manifest| manifest.lock.is_some());
        let perhaps = !self.doubts.stays(&all).is_empty();
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
        looked: Looked<'_>,
        enforce: bool,
        along: &BTreeSet<Node>,
        taken: &mut BTreeSet<Node>,
    ) -> Option<Deletion> {
        let Looked { untagged, node, due_at, stays } = looked;
        let last = untagged.tags.iter().max_by(|a, b| (a.at, &b.name).cmp(&(b.at, &a.name)))?;
        let going = node.filter(|_| stays.is_empty());
        Some(Deletion {
            registry: untagged.registry.clone(),
            repository: untagged.repository.clone(),
            digest: untagged.digest.clone(),
            tag: last.name.clone(),
            untagged_at: last.at,
            due_at,
            policies: voices(self.ground.rules, untagged).into_iter().cloned().collect(),
            enforce,
            along: going.map(|node| self.along_of(node, along, taken)).unwrap_or_default(),
            freed: None,
            stays,
        })
    }

    /// What of `along` hangs on one manifest and was not taken along by another one already.
    fn along_of(&self, node: Node, along: &BTreeSet<Node>, taken: &mut BTreeSet<Node>) -> Vec<Along> {
        let mut found = Vec::new();
        let mut open = vec![node];
        while let Some(next) = open.pop() {
            let children = self.graph.children(next).map(|child| (Role::Child, child));
            let referrers = self.graph.referrers(next).map(|referrer| (Role::Referrer, referrer));
            for (role, hanging) in children.chain(referrers) {
                if along.contains(&hanging) && taken.insert(hanging) {
                    found.push(Along { role, digest: self.graph.digest(hanging).clone() });
                    open.push(hanging);
                }
            }
        }
        found.sort();
        found
    }
}
