//! Indexes and artifacts that were not read: the tags that they could protect, and those to be read to decide.
//!
//! An index that contains a manifest, or a referrer of one, only ever adds a reason to retain. So an unread manifest
//! matters only if a tag would be removed without it. Such a tag is undecided here, and the reader gets the manifests
//! that would decide it: reading them and deciding again can only turn `undecided` into a decision. Three rules
//! describe the possible effect of an unread index:
//!
//! 1. it is retained, and leads to the tag's manifest by its images, their referrers and their companions;
//! 2. it lies between the tag and an image in use, which may not be listed at all;
//! 3. it shows that a signature, an attestation or the like belongs to an expiring image, and may be removed with it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::companion::Companion;
use super::graph::{Graph, Node, Traversal, index};
use super::reason_table::ReasonTable;
use crate::domain::{
    Digest, GapTarget, Manifest, PolicyName, Reason, Registry, RemovalMethod, Repository, UnlistedContent, UnreadCause,
    UnreadKind, is_docker_list_type, is_index_type,
};

/// The facts about a repository when its tags are decided.
pub(super) struct UnreadFacts<'a, 'g> {
    pub(super) registry: &'a Registry,
    pub(super) repository: &'a Repository,
    pub(super) graph: &'a Graph<'g>,
    pub(super) companions: &'a [Companion],
    /// The nodes that are claimed, held or mentioned by a digest.
    pub(super) claimed: &'a [Node],
    /// True if an image id may be that of any image whose configuration is unknown.
    pub(super) may_be_configuration: bool,
    /// Returns true if something is claimed, held or mentioned that may be in the repository, and is not listed.
    pub(super) names_unlisted: &'a dyn Fn(UnlistedContent) -> bool,
    /// Returns true if a policy enforces.
    pub(super) enforcing: &'a dyn Fn(&PolicyName) -> bool,
}

/// A manifest whose children and subject are unknown.
#[derive(Clone, Copy)]
struct UnreadNode {
    kind: UnreadKind,
    /// False for Docker's own indexes, which have no subject.
    may_refer: bool,
    /// True if it may accompany an image: an artifact, or a manifest of unknown type.
    may_accompany: bool,
}

/// The search for evidence that could retain the expiring tags.
struct Search<'a, 'g> {
    facts: &'a UnreadFacts<'a, 'g>,
    unread: BTreeMap<Node, UnreadNode>,
    /// The manifests that may contain something in use that is not listed.
    hiding: Vec<Node>,
    /// The tags that nothing known retains.
    expiring: Vec<u32>,
    /// True for those that an unread index could retain, by tag.
    held: Vec<bool>,
    /// The manifests that could retain them.
    holding: BTreeSet<Node>,
    /// The manifests to be read, with the first cause.
    needed: BTreeMap<Node, UnreadCause>,
}

/// Adds [`Reason::IndexUnread`] to every tag that only an unread manifest could retain, and returns the manifests to be
/// read to decide the repository. One that could not be read in this run is not requested again: it is a gap.
pub(super) fn hold_unread(facts: &UnreadFacts<'_, '_>, found: &mut ReasonTable) -> BTreeMap<Digest, UnreadCause> {
    // To find a manifest free, as much must be known as to delete it: what contained it yesterday may be gone tomorrow.
    let due = !facts.repository.untagged.is_empty() || facts.repository.untagged_history.is_some();
    let expiring: Vec<u32> = found.tags().filter(|&tag| !found.is_kept(tag)).collect();
    if expiring.is_empty() && facts.companions.is_empty() && !due {
        return BTreeMap::new();
    }
    let unread = unread_nodes(facts);
    let hiding = if expiring.is_empty() { Vec::new() } else { hiding_nodes(facts) };
    if unread.is_empty() && hiding.is_empty() {
        return BTreeMap::new();
    }
    let mut search = Search {
        facts,
        unread,
        hiding,
        expiring,
        held: vec![false; facts.repository.tags.len()],
        holding: BTreeSet::new(),
        needed: BTreeMap::new(),
    };
    if !search.expiring.is_empty() {
        let kept = search.known_kept(found);
        search.hold_by_kept(&kept);
        search.hold_by_artifacts();
        search.hold_by_claims();
        search.hold_dependents();
    }
    search.resolve_companions(found);
    search.resolve_dry_runs(found);
    if due {
        // Before a manifest is deleted, everything that may contain it or refer to it must be known.
        let all: Vec<Node> = search.unread.keys().copied().collect();
        for node in all {
            search.need(node, UnreadCause::Deletions);
        }
    }
    search.finish(found)
}

fn unread_nodes(facts: &UnreadFacts<'_, '_>) -> BTreeMap<Node, UnreadNode> {
    let UnreadFacts { registry, repository, graph, .. } = *facts;
    let met = repository
        .manifests
        .iter()
        .filter_map(|(digest, manifest)| Some((digest, &*manifest.media_type, manifest.unread_kind()?)));
    let listed = repository.listed.iter().map(|row| (&row.digest, &*row.media_type, row.kind.unread()));
    let listed = listed.filter_map(|(digest, media_type, kind)| Some((digest, media_type, kind?)));
    let nodes = met.chain(listed).filter_map(|(digest, media_type, kind)| {
        let (may_refer, may_accompany) = (!is_docker_list_type(media_type), !is_index_type(media_type));
        Some((graph.node(digest)?, UnreadNode { kind, may_refer, may_accompany }))
    });
    let mut nodes: BTreeMap<Node, UnreadNode> = nodes.collect();
    // An index within a listed index is not known. To delete a manifest that is one would break the index around it.
    if registry.removal == RemovalMethod::DeleteManifest {
        let partial = repository
            .manifests
            .iter()
            .filter(|(_, manifest)| repository.unlisted_content(manifest) == Some(UnlistedContent::Indexes));
        let whole = UnreadNode { kind: UnreadKind::Index, may_refer: false, may_accompany: false };
        nodes.extend(partial.filter_map(|(digest, _)| Some((graph.node(digest)?, whole))));
    }
    nodes
}

/// Returns the manifests that may contain something in use, although the lists do not say so.
///
/// That is so where evidence names what is not listed, and where something in use is listed that nothing leads to: what
/// a registry says of an index without its bytes may leave out a part of it.
fn hiding_nodes(facts: &UnreadFacts<'_, '_>) -> Vec<Node> {
    let UnreadFacts { repository, graph, names_unlisted, .. } = *facts;
    let nodes = |hides: &dyn Fn(&Manifest) -> bool| -> Vec<Node> {
        graph.nodes().filter(|&node| graph.manifest(node).is_some_and(hides)).collect()
    };
    let hiding = |wanted: UnlistedContent| {
        let found = nodes(&|manifest| repository.unlisted_content(manifest) == Some(wanted));
        if found.is_empty() || !names_unlisted(wanted) { Vec::new() } else { found }
    };
    let unexplained = |&node: &Node| {
        graph.tags(node).next().is_none() && graph.parents(node).next().is_none() && graph.subject(node).is_none()
    };
    let partial = if facts.claimed.iter().any(unexplained) { nodes(&Manifest::is_index_by_list) } else { Vec::new() };
    [hiding(UnlistedContent::Anything), hiding(UnlistedContent::Indexes), partial].concat()
}

impl Search<'_, '_> {
    /// Returns true if removing a tag here removes the manifest, with all its tags.
    fn removes_manifests(&self) -> bool {
        self.facts.registry.removal == RemovalMethod::DeleteManifest
    }

    fn ties(&self) -> Traversal {
        if self.removes_manifests() { Traversal::DownAndToSubjects } else { Traversal::Down }
    }

    /// Returns everything that is known to be retained; by node.
    fn known_kept(&self, found: &ReasonTable) -> Vec<bool> {
        let staying = found.kept_tags().filter_map(|tag| self.facts.graph.of_tag(tag));
        self.facts.graph.reachable(staying.chain(self.facts.claimed.iter().copied()), self.ties())
    }

    /// Returns the expiring tags that a retained index could protect.
    ///
    /// If the untag certainly leaves the manifest, the tag of an image in an index is decided like any other. A
    /// signature or the like is still retained with its image, which may be in an index.
    fn sensitive(&self) -> Vec<u32> {
        let UnreadFacts { registry, repository, graph, companions, .. } = self.facts;
        if !registry.certainly_keeps_untagged(repository) {
            return self.expiring.clone();
        }
        let companions: HashSet<u32> = companions.iter().map(|companion| companion.tag).collect();
        let accompanies = |tag: u32| {
            let node = graph.of_tag(tag);
            let refers = node.is_some_and(|node| {
                let artifact = self.unread.get(&node).is_some_and(|one| one.may_accompany);
                artifact || graph.subject(node).is_some()
            });
            refers || companions.contains(&tag)
        };
        self.expiring.iter().copied().filter(|&tag| accompanies(tag)).collect()
    }

    /// Applies rule 1. A retained index may contain anything but itself, and lead to anything. An untagged one that may
    /// refer to a retained manifest is retained with it. If the manifest is removed with the tag, everything has to be
    /// known: its indexes and referrers would be broken, even if they were to be removed later.
    fn hold_by_kept(&mut self, kept: &[bool]) {
        let sensitive = self.sensitive();
        if sensitive.is_empty() {
            return;
        }
        let (graph, whole) = (self.facts.graph, self.removes_manifests());
        let may_keep = |node: Node, one: UnreadNode| match one.kind {
            UnreadKind::Index => whole || kept[index(node)] || one.may_refer && graph.tags(node).next().is_none(),
            UnreadKind::Artifact => whole,
        };
        let keeping: Vec<Node> =
            self.unread.iter().filter(|&(&node, &one)| may_keep(node, one)).map(|(&node, _)| node).collect();
        let claimed: HashSet<Node> = self.facts.claimed.iter().copied().collect();
        for &node in &keeping {
            self.need(node, if claimed.contains(&node) { UnreadCause::Claimed } else { UnreadCause::Kept });
        }
        self.hold(&sensitive, keeping);
    }

    /// Applies rule 1 to artifacts, which may refer to a retained manifest: their tags, referrers and companions are
    /// then retained as well.
    fn hold_by_artifacts(&mut self) {
        let graph = self.facts.graph;
        let expiring: HashSet<u32> = self.expiring.iter().copied().collect();
        let artifacts = self.unread.iter().filter(|(_, one)| one.may_accompany);
        let artifacts: Vec<Node> = artifacts.map(|(&node, _)| node).collect();
        for node in artifacts {
            let mut seen = HashSet::new();
            graph.walk([node], Traversal::Down, |next| seen.insert(next));
            let tags = seen.into_iter().flat_map(|next| graph.tags(next)).filter(|tag| expiring.contains(tag));
            let tags: Vec<u32> = tags.collect();
            if !tags.is_empty() {
                self.need(node, UnreadCause::Companions);
                self.hold(&tags, vec![node]);
            }
        }
    }

    /// Applies rule 2. A claim on an image protects every tag whose index contains it, at any depth. A claimed index
    /// with a tag is retained by that tag, and protects no further. What is not listed may be in any index.
    fn hold_by_claims(&mut self) {
        let UnreadFacts { graph, claimed, may_be_configuration, .. } = *self.facts;
        let none_inside = !may_be_configuration && claimed.iter().all(|&node| graph.is_tagged_index(node));
        if none_inside && self.hiding.is_empty() {
            return;
        }
        // A manifest that is listed as an artifact may be an image, and have the searched configuration.
        let counts = |one: &UnreadNode| !none_inside && one.kind == UnreadKind::Index || may_be_configuration;
        let unread = self.unread.iter().filter(|(_, one)| counts(one)).map(|(&node, _)| node);
        let unread: BTreeSet<Node> = unread.chain(self.hiding.iter().copied()).collect();
        let leading = spread(graph, unread.iter().copied(), |node| graph.parents(node));
        let leads = |tag: u32| graph.of_tag(tag).is_some_and(|node| leading[index(node)]);
        let tags: Vec<u32> = self.expiring.iter().copied().filter(|&tag| leads(tag)).collect();
        let inside = spread(graph, self.expiring_nodes(), |node| graph.children(node));
        let between: Vec<Node> = unread.into_iter().filter(|&node| inside[index(node)]).collect();
        for &node in &between {
            self.need(node, UnreadCause::Claimed);
        }
        self.hold(&tags, between);
    }

    /// Applies rule 3. A companion is retained forever if nothing known leads to its image, although that image may be
    /// in an expiring index, or refer to one. Marks nothing as retained, because the companion is. Other manifests may
    /// be retained with it meanwhile, so only independent retention counts.
    fn resolve_companions(&mut self, found: &ReasonTable) {
        let UnreadFacts { repository, graph, companions, claimed, .. } = *self.facts;
        let accompanying: HashSet<u32> = companions.iter().map(|companion| companion.tag).collect();
        let own = found.tags().filter(|tag| !accompanying.contains(tag)).filter_map(|tag| graph.of_tag(tag));
        let tagged = graph.reachable(own, Traversal::Down);
        let by_itself = |tag: &u32| found.is_kept(*tag) && !found.is_kept_by_dependency(*tag);
        let staying = found.tags().filter(by_itself).filter_map(|tag| graph.of_tag(tag));
        let kept = graph.reachable(staying.chain(claimed.iter().copied()), self.ties());
        let waiting = companions.iter().filter(|companion| found.is_kept_by_dependency(companion.tag));
        let images = waiting.filter_map(|companion| {
            let node = graph.node(&companion.subject)?;
            let there = graph.manifest(node).is_some() || repository.listed_manifest(&companion.subject).is_some();
            (there && !tagged[index(node)] && !kept[index(node)]).then_some(node)
        });
        let images: Vec<Node> = images.collect();
        let open: Vec<u32> = found.tags().filter(|tag| !by_itself(tag)).collect();
        // If no image may be removed, no companion is removed with one.
        if images.is_empty() || open.iter().all(|tag| accompanying.contains(tag)) {
            return;
        }
        let below = graph.reachable(open.iter().filter_map(|&tag| graph.of_tag(tag)), Traversal::Down);
        let above = spread(graph, images.into_iter(), |node| graph.parents(node).chain(graph.subject(node)));
        let telling = |node: Node, one: UnreadNode| {
            let loose = one.may_refer && graph.tags(node).next().is_none();
            above[index(node)] || one.kind == UnreadKind::Index && (below[index(node)] || loose)
        };
        let telling: Vec<Node> =
            self.unread.iter().filter(|&(&node, &one)| telling(node, one)).map(|(&node, _)| node).collect();
        for node in telling {
            self.need(node, UnreadCause::Companions);
        }
    }

    /// Resolves dry runs: a dry-run removal keeps the content of its index from really being removed, so the index has
    /// to be known if other tags are really removed. Marks nothing as retained: the plan enforces nothing that an
    /// unread index could contain.
    fn resolve_dry_runs(&mut self, found: &ReasonTable) {
        let UnreadFacts { graph, companions, enforcing, .. } = *self.facts;
        let expiring: HashSet<u32> = self.expiring.iter().copied().collect();
        let tried = found.tags_not_kept().into_iter().filter(|(policy, _)| !enforcing(policy));
        let tried: HashSet<u32> = tried.flat_map(|(_, tags)| tags).filter(|tag| expiring.contains(tag)).collect();
        let accompanying: HashSet<u32> = companions.iter().map(|companion| companion.tag).collect();
        let really = |tag: &u32| !tried.contains(tag) && !accompanying.contains(tag);
        if tried.is_empty() || !expiring.iter().any(really) {
            return;
        }
        let reached = graph.reachable(tried.iter().filter_map(|&tag| graph.of_tag(tag)), self.ties());
        let unread = self.unread.iter().filter(|(node, one)| one.kind == UnreadKind::Index && reached[index(**node)]);
        let unread: Vec<Node> = unread.map(|(&node, _)| node).collect();
        for node in unread {
            self.need(node, UnreadCause::Kept);
        }
    }

    /// Marks the dependents of tags that may be retained, and everything that an unread index among them may contain.
    fn hold_dependents(&mut self) {
        let UnreadFacts { registry, repository, graph, companions, .. } = *self.facts;
        let (whole, ties, sensitive) = (self.removes_manifests(), self.ties(), self.sensitive());
        let judged_alike = registry.certainly_keeps_untagged(repository);
        while self.held.contains(&true) {
            let held = self.expiring.iter().filter(|&&tag| self.held[index(tag)]);
            let reached = graph.reachable(held.filter_map(|&tag| graph.of_tag(tag)), ties);
            let open = |tag: &u32| !self.held[index(*tag)];
            let unknown = self
                .unread
                .iter()
                .filter(|(node, one)| reached[index(**node)] && (whole || one.kind == UnreadKind::Index));
            let unknown: Vec<Node> = unknown.map(|(&node, _)| node).collect();
            let hangs = |tag: &u32| {
                let Some(node) = graph.of_tag(*tag) else { return false };
                let contained = !judged_alike && graph.parents(node).any(|parent| reached[index(parent)]);
                let refers = graph.subject(node).is_some_and(|subject| reached[index(subject)]);
                contained || refers || whole && reached[index(node)]
            };
            let accompanying = companions
                .iter()
                .filter(|companion| graph.node(&companion.subject).is_some_and(|subject| reached[index(subject)]));
            let accompanying: HashSet<u32> = accompanying.map(|companion| companion.tag).collect();
            let more = self.expiring.iter().copied().filter(open);
            let mut more: Vec<u32> = more.filter(|tag| hangs(tag) || accompanying.contains(tag)).collect();
            if !unknown.is_empty() {
                more.extend(sensitive.iter().copied().filter(open));
            }
            if more.is_empty() {
                return;
            }
            for tag in more {
                self.held[index(tag)] = true;
            }
            self.holding.extend(unknown);
        }
    }

    /// Returns the nodes of the expiring tags.
    fn expiring_nodes(&self) -> impl Iterator<Item = Node> {
        self.expiring.iter().filter_map(|&tag| self.facts.graph.of_tag(tag))
    }

    fn need(&mut self, node: Node, cause: UnreadCause) {
        self.needed.entry(node).or_insert(cause);
    }

    /// Records that tags may be retained because of unread manifests; no effect without any.
    fn hold(&mut self, tags: &[u32], holding: Vec<Node>) {
        if !holding.is_empty() {
            for &tag in tags {
                self.held[index(tag)] = true;
            }
            self.holding.extend(holding);
        }
    }

    fn finish(self, found: &mut ReasonTable) -> BTreeMap<Digest, UnreadCause> {
        let UnreadFacts { repository, graph, .. } = *self.facts;
        let first = self.holding.iter().map(|&node| graph.digest(node)).min();
        if let Some(first) = first {
            let count = u32::try_from(self.holding.len()).unwrap_or(u32::MAX);
            for tag in self.expiring.iter().copied().filter(|&tag| self.held[index(tag)]) {
                found.add(tag, Reason::IndexUnread { index: first.clone().into(), count });
            }
        }
        let failed = repository.gaps.iter().filter_map(|gap| match &gap.target {
            GapTarget::Manifest(digest) => Some(digest),
            _ => None,
        });
        let failed: HashSet<&Digest> = failed.collect();
        let needed = self.needed.into_iter().map(|(node, cause)| (graph.digest(node), cause));
        needed.filter(|(digest, _)| !failed.contains(digest)).map(|(digest, cause)| (digest.clone(), cause)).collect()
    }
}

/// Returns everything that ties lead to from some nodes, themselves included; by node.
fn spread<I: Iterator<Item = Node>>(
    graph: &Graph<'_>,
    from: impl Iterator<Item = Node>,
    ties: impl Fn(Node) -> I,
) -> Vec<bool> {
    let mut reached = vec![false; graph.nodes().len()];
    let mut open: Vec<Node> = from.collect();
    while let Some(node) = open.pop() {
        if !std::mem::replace(&mut reached[index(node)], true) {
            open.extend(ties(node));
        }
    }
    reached
}
