//! The manifests without a tag of one repository: what keeps each of them, and what goes with which.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::claims::SourcedClaim;
use super::companion::{Companion, companion_subject};
use super::evaluate::RegistryEvaluation;
use super::free_manifests::{FreeManifests, ManifestTies};
use super::grace::{Grace, GraceFacts, governing_policies, grace_period, selects_removed_tag};
use super::graph::{Graph, Node, Traversal, index};
use super::mentions::RepositoryMentions;
use super::placed_digests::PlacedDigests;
use super::uncertain_claims::RepositoryUncertainClaims;
use crate::domain::{
    Deletion, Deletions, Dependent, DependentRole, Digest, Gap, GapTarget, LockTarget, Manifest, Policy, PolicyMode,
    PolicyName, Registry, RemovedTag, Repository, RetainReason, Rules, TagName, UnreadKind, UntaggedManifest,
};

/// Most reasons of one kind that are named: one is enough to stay.
const MAX_NAMED: usize = 4;

/// A manifest without a tag that may be deleted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) digest: &'a Digest,
    pub(super) node: Option<Node>,
    /// What the journal tells, where Tagwarden took tags from it.
    pub(super) record: Option<&'a UntaggedManifest>,
}

impl<'a> Candidate<'a> {
    /// The tags that Tagwarden took from it.
    fn removed_tags(&self) -> &'a [RemovedTag] {
        self.record.map(|record| record.tags.as_slice()).unwrap_or_default()
    }

    /// What its bytes say, as the journal keeps them.
    fn recorded_manifest(&self) -> Option<&'a Manifest> {
        self.record.and_then(|record| record.manifest.as_ref())
    }
}

/// A manifest without a tag whose grace is over, with why it stays as far as that is known.
pub(super) struct EligibleManifest<'a> {
    pub(super) candidate: Candidate<'a>,
    pub(super) eligible_at: Timestamp,
    pub(super) retain_reasons: Vec<RetainReason>,
}

/// Returns true for an index, and for what may be one by its type.
fn may_be_index(manifest: &Manifest) -> bool {
    manifest.is_index() || manifest.unread_kind() == Some(UnreadKind::Index)
}

/// One repository.
pub(super) struct RepositoryCleanup<'a, 'e> {
    pub(super) evaluation: &'a RegistryEvaluation<'e>,
    pub(super) mentions: &'a RepositoryMentions<'e>,
    pub(super) repository: &'a Repository,
    pub(super) graph: Graph<'a>,
    /// The tags of signatures and the like, by the image that they accompany.
    pub(super) accompanied: BTreeMap<&'a Digest, Vec<u32>>,
    pub(super) doubts: RepositoryUncertainClaims<'a, 'e>,
    /// What keeps every manifest of the repository.
    pub(super) common_reasons: Vec<RetainReason>,
    /// Whether policies with `untagged` speak of it, so that each manifest without a tag is judged by itself.
    pub(super) judges_all: bool,
}

impl<'a, 'e> RepositoryCleanup<'a, 'e> {
    /// Prepares what is the same for all manifests of a repository.
    pub(super) fn new(
        evaluation: &'a RegistryEvaluation<'e>,
        (repository, companions): (&'a Repository, &'a [Companion]),
        mentions: &'a RepositoryMentions<'e>,
        placed: &'a PlacedDigests,
    ) -> Self {
        let mut accompanied: BTreeMap<&Digest, Vec<u32>> = BTreeMap::new();
        for companion in companions {
            accompanied.entry(&companion.subject).or_default().push(companion.tag);
        }
        let mut site = Self {
            evaluation,
            repository,
            graph: Graph::new(repository, companions),
            accompanied,
            mentions,
            doubts: evaluation.doubts.for_repository(repository, placed),
            common_reasons: Vec::new(),
            judges_all: judges_all(evaluation.rules, evaluation.registry, repository),
        };
        site.common_reasons = site.common_reasons();
        site
    }
}

/// Returns true if every manifest without a tag of a repository is judged by itself: policies with `untagged` speak of it, and
/// what they go by is known.
pub(super) fn judges_all(rules: &Rules, registry: &Registry, repository: &Repository) -> bool {
    registry.lists_untagged
        && repository.untagged_history.is_some()
        && rules.delete_untagged_in(&registry.name, &repository.name)
}

impl<'a> RepositoryCleanup<'a, '_> {
    /// The manifests to judge, in order: those that Tagwarden took tags from, and the others without a tag where all are
    /// judged.
    pub(super) fn candidates<'c>(
        &self,
        recorded: &BTreeMap<&'c Digest, &'c UntaggedManifest>,
        apart: &dyn Fn(&Digest) -> bool,
    ) -> Vec<Candidate<'c>>
    where
        'a: 'c,
    {
        let mut found: BTreeMap<&'c Digest, Candidate<'c>> = BTreeMap::new();
        let is_whole = || !self.repository.gaps.iter().any(Gap::blocks_repository);
        for (&digest, &record) in recorded {
            let listed = self.repository.manifests.contains_key(digest);
            if !listed && self.evaluation.registry.lists_untagged && is_whole() {
                continue;
            }
            let node = self.graph.node(digest);
            // Tagged again, it is judged by its tags.
            if node.is_none_or(|node| self.graph.tags(node).next().is_none()) {
                found.insert(digest, Candidate { digest, node, record: Some(record) });
            }
        }
        if self.judges_all {
            let repository: &'a Repository = self.repository;
            for digest in repository.digests_without_tag().filter(|digest| !apart(digest)) {
                let node = self.graph.node(digest);
                found.entry(digest).or_insert(Candidate { digest, node, record: None });
            }
        }
        found.into_values().collect()
    }

    pub(super) fn grace(&self, candidate: &Candidate<'_>) -> Grace {
        let Candidate { digest, .. } = *candidate;
        let children = candidate.recorded_manifest().into_iter().flat_map(|manifest| &manifest.children);
        let changes = std::iter::once(digest).chain(children);
        let changed_at = changes.filter_map(|digest| *self.repository.untagged.get(digest)?).max();
        let history = self.repository.untagged_history.as_deref();
        let facts = GraceFacts {
            registry: &self.evaluation.registry.name,
            repository: &self.repository.name,
            tags: candidate.removed_tags(),
            changed_at: changed_at.max(history.and_then(|history| history.changed_at.get(digest).copied())),
            // Nobody knows since when: it begins now.
            free_since: Some(history.map_or(self.evaluation.now, |history| history.series_start(digest))),
        };
        grace_period(self.evaluation.rules, &facts, self.evaluation.now)
    }

    /// Whether all policies with a say enforce.
    pub(super) fn enforces(&self, candidate: &Candidate<'_>) -> bool {
        let rules = self.evaluation.rules;
        let enforced = |name: &PolicyName| {
            let mut policies = rules.policies.iter();
            policies.any(|policy| policy.name == *name && policy.mode == PolicyMode::Enforce)
        };
        self.governing_policies(candidate).into_iter().all(enforced)
    }

    pub(super) fn governing_policies<'c>(&'c self, candidate: &Candidate<'c>) -> BTreeSet<&'c PolicyName> {
        let (registry, repository) = (&self.evaluation.registry.name, &self.repository.name);
        governing_policies(self.evaluation.rules, registry, repository, candidate.removed_tags())
    }

    /// The manifests on which one depends.
    pub(super) fn ties(&self, candidate: &Candidate<'_>, node: Node) -> ManifestTies {
        let is_there = |digest: &Digest| self.repository.manifests.contains_key(digest);
        let subjects = self.subjects(candidate, node);
        let subjects = subjects.iter().filter(|digest| is_there(digest)).filter_map(|digest| self.graph.node(digest));
        ManifestTies {
            above: self.graph.parents(node).chain(subjects).collect(),
            referrers: self.graph.referrers(node).collect(),
        }
    }

    /// What keeps every manifest of the repository: nobody can know that one is free.
    fn common_reasons(&self) -> Vec<RetainReason> {
        let ground = self.evaluation;
        let mut stays = Vec::new();
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
        stays
    }

    /// The tags that a manifest had, as far as anybody knows.
    fn former_tags<'c>(&'c self, candidate: &Candidate<'c>) -> impl Iterator<Item = &'c TagName> {
        let history = self.repository.untagged_history.as_deref();
        let digest = candidate.digest;
        let elsewhere = history.into_iter().flat_map(move |history| history.former_tags_of(digest));
        candidate.removed_tags().iter().map(|tag| &tag.name).chain(elsewhere)
    }

    /// Why a manifest is not free whatever becomes of the others.
    pub(super) fn use_reasons(&self, candidate: &Candidate<'_>) -> Vec<RetainReason> {
        let Candidate { node, record, digest } = *candidate;
        let mut stays = self.common_reasons.clone();
        // Nobody asks for more reasons of what was never found free.
        if !stays.is_empty() && record.is_none() {
            return stays;
        }
        let ground = self.evaluation;
        for tag in candidate.removed_tags().iter().filter(|tag| tag.restored) {
            stays.push(RetainReason::Restored(tag.name.clone()));
        }
        let within: Vec<Node> = node.map(|node| self.within(node)).unwrap_or_default();
        let recorded = candidate.recorded_manifest();
        let config = recorded.and_then(|manifest| manifest.config.as_deref());
        let digests = within.iter().map(|&node| self.graph.digest(node)).chain(std::iter::once(digest));
        let configs = within.iter().filter_map(|&node| self.graph.manifest(node)?.config.as_deref()).chain(config);
        let digests: Vec<&Digest> = digests.chain(configs).collect();
        let tags = || self.former_tags(candidate);
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
                let known = recorded.filter(|_| Some(inner) == node);
                (self.graph.digest(inner), known.or_else(|| self.graph.manifest(inner)))
            })
            .collect();
        stays.extend(self.doubts.retain_reasons(&manifests));
        let mut own = recorded.into_iter().chain(node.and_then(|node| self.graph.manifest(node)));
        if ground.registry.deletes_index_contents && own.any(may_be_index) {
            stays.push(RetainReason::IndexContents);
        }
        let locks = within.iter().filter_map(|&inner| self.graph.manifest(inner)?.lock);
        stays.extend(locks.take(1).map(|lock| RetainReason::Locked { on: LockTarget::Manifest, lock }));
        let accompanied = self.accompanied.get(digest).into_iter().flatten();
        stays.extend(accompanied.filter_map(|&tag| self.tag(tag)).map(RetainReason::HasCompanionTag));
        stays.sort();
        stays.dedup();
        stays
    }

    /// Why a manifest whose time is over stays whatever becomes of the others.
    pub(super) fn retain_reasons(
        &self,
        candidate: &Candidate<'_>,
        mut stays: Vec<RetainReason>,
        free: &FreeManifests,
    ) -> Vec<RetainReason> {
        stays.extend(self.policy_reasons(candidate));
        if candidate.node.is_some_and(|node| free.is_cyclic(node)) {
            stays.push(RetainReason::Cyclic);
        }
        stays.sort();
        stays.dedup();
        stays
    }

    /// What keeps a manifest from being free, in one word.
    pub(super) fn kept_label(
        &self,
        candidate: &Candidate<'_>,
        kept: &[RetainReason],
        free: &BTreeSet<Node>,
    ) -> &'static str {
        let held = candidate.node.map(|node| self.dependency_reasons(candidate, node, free, &BTreeSet::new()));
        let first = kept.first().or(held.as_ref().and_then(|held| held.first()));
        first.map_or(RetainReason::Cyclic.label(), RetainReason::label)
    }

    /// Takes out what only waits for something else that is free: it is not kept, it has to wait longer.
    pub(super) fn postpone<'c>(
        &self,
        looked: Vec<EligibleManifest<'c>>,
        waiting: &BTreeMap<&Digest, Option<Timestamp>>,
        free: &FreeManifests,
        found: &mut Deletions,
    ) -> Vec<EligibleManifest<'c>> {
        let hangs = |reason: &RetainReason| {
            matches!(
                reason,
                RetainReason::ListedByRetained(_)
                    | RetainReason::ReferredToByRetained(_)
                    | RetainReason::RefersToRetained(_)
            )
        };
        let mut left = Vec::with_capacity(looked.len());
        for one in looked {
            let node = one.candidate.node.filter(|&node| free.contains(node));
            let node = node.filter(|_| !one.retain_reasons.is_empty() && one.retain_reasons.iter().all(hangs));
            let awaited = node.map(|node| free.awaited_by(node)).unwrap_or_default();
            let until = awaited.into_iter().filter_map(|other| *waiting.get(self.graph.digest(other))?).max();
            match until {
                Some(until) => found.add_pending(until),
                None => left.push(one),
            }
        }
        left
    }

    /// What the policies with a say have against it.
    fn policy_reasons(&self, candidate: &Candidate<'_>) -> Vec<RetainReason> {
        let rules = self.evaluation.rules;
        let (registry, repository) = (&self.evaluation.registry.name, &self.repository.name);
        let mut stays = Vec::new();
        for tag in candidate.removed_tags() {
            if tag.policies.is_empty() && !tag.restored {
                stays.push(RetainReason::Unrecorded(tag.name.clone()));
            }
            for name in &tag.policies {
                let policy = rules.policies.iter().find(|policy| policy.name == *name);
                let companion = companion_subject(&tag.name).is_some();
                let selects = |policy: &Policy| selects_removed_tag(policy, registry, repository, tag);
                if policy.is_some_and(|policy| !companion && !selects(policy)) {
                    stays.push(RetainReason::NotSelected(name.clone(), tag.name.clone()));
                }
            }
        }
        for name in self.governing_policies(candidate) {
            match rules.policies.iter().find(|policy| policy.name == *name) {
                None => stays.push(RetainReason::PolicyMissing(name.clone())),
                Some(policy) if policy.delete_manifest_after.is_none() && policy.untagged_after().is_none() => {
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
    fn subjects(&self, candidate: &Candidate<'_>, node: Node) -> Vec<Digest> {
        let said = candidate.recorded_manifest().and_then(|manifest| manifest.subject.as_deref()).cloned();
        let listed = self.graph.manifest(node).and_then(|manifest| manifest.subject.as_deref()).cloned();
        let named = self.former_tags(candidate).filter_map(companion_subject);
        said.into_iter().chain(listed).chain(named).collect()
    }

    /// Finds what reported-only deletions hold. An untagged signature refers to its image by a tag that it had, which
    /// the graph does not know.
    pub(super) fn pinned_by_dry_run(&self, looked: &[EligibleManifest<'_>], mut on_paper: BTreeSet<Node>) -> Vec<bool> {
        loop {
            let held = self.graph.reachable(on_paper.iter().copied(), Traversal::DownAndToSubjects);
            let mut more = BTreeSet::new();
            for one in looked.iter().filter(|one| one.retain_reasons.is_empty()) {
                let Some(node) = one.candidate.node else { continue };
                for subject in self.subjects(&one.candidate, node).iter().filter_map(|digest| self.graph.node(digest)) {
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
    pub(super) fn dependency_reasons(
        &self,
        candidate: &Candidate<'_>,
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
        let subjects = self.subjects(candidate, node).into_iter().filter(there);
        let digest = |node: Node| self.graph.digest(node).clone();
        let mut stays: Vec<RetainReason> =
            parents.take(MAX_NAMED).map(|parent| RetainReason::ListedByRetained(digest(parent))).collect();
        stays.extend(referrers.take(MAX_NAMED).map(|referrer| RetainReason::ReferredToByRetained(digest(referrer))));
        stays.extend(subjects.map(RetainReason::RefersToRetained));
        stays.sort();
        stays.dedup();
        stays
    }

    /// The dependents of removed manifests alone.
    pub(super) fn find_dependents(
        &self,
        looked: &[EligibleManifest<'_>],
        going: &BTreeSet<Node>,
        held: &dyn Fn(&Digest) -> bool,
    ) -> BTreeSet<Node> {
        let judged: BTreeSet<Node> = looked.iter().filter_map(|one| one.candidate.node).collect();
        let mut along = BTreeSet::new();
        let mut open: Vec<Node> = going.iter().copied().collect();
        while let Some(next) = open.pop() {
            for hanging in self.graph.children(next).chain(self.graph.referrers(next)) {
                if !judged.contains(&hanging) && self.is_unprotected(hanging, held) && along.insert(hanging) {
                    open.push(hanging);
                }
            }
        }
        // What something else holds as well stays, and then holds what depends on it.
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

    pub(super) fn deletion(
        &self,
        looked: EligibleManifest<'_>,
        enforce: bool,
        along: &BTreeSet<Node>,
        taken: &mut BTreeSet<Node>,
    ) -> Deletion {
        let EligibleManifest { candidate, eligible_at, retain_reasons } = looked;
        let last = candidate.removed_tags().iter().max_by(|a, b| (a.at, &b.name).cmp(&(b.at, &a.name)));
        let going = candidate.node.filter(|_| retain_reasons.is_empty());
        let history = self.repository.untagged_history.as_deref().filter(|_| self.judges_all);
        let free_since = history.and_then(|history| history.free_since.get(candidate.digest).copied());
        Deletion {
            registry: self.evaluation.registry.name.clone(),
            repository: self.repository.name.clone(),
            digest: candidate.digest.clone(),
            tag: last.map_or_else(TagName::none, |last| last.name.clone()),
            untagged_at: last.map(|last| last.at).or(free_since).unwrap_or(eligible_at),
            free_since,
            eligible_at,
            policies: self.governing_policies(&candidate).into_iter().cloned().collect(),
            enforce,
            dependents: going.map(|node| self.dependents_of(node, along, taken)).unwrap_or_default(),
            reclaim: None,
            retain_reasons,
        }
    }

    /// What of `along` depends on one manifest and was not taken along by another one already.
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
