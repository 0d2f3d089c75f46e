//! The dependencies between the manifests of one repository, by digest.

use foldhash::fast::RandomState;

use super::companion::Companion;
use crate::domain::{Digest, DigestMap, Manifest, Repository};

/// A digest that a repository mentions, as a number.
pub(super) type Node = u32;

/// The digests of one repository and the ties between them.
pub(super) struct Graph<'a> {
    nodes: DigestMap<&'a Digest, Node>,
    digests: Vec<&'a Digest>,
    manifests: Vec<Option<&'a Manifest>>,
    children: Edges,
    parents: Edges,
    referrers: Edges,
    companions: Edges,
    tags: Edges,
    tag_nodes: Vec<Option<Node>>,
}

/// The direction from a manifest to those that are retained because of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Traversal {
    /// To its children, its referrers and its companions.
    Down,
    /// Also from a referrer to its subject, if removing the last tag removes the manifest.
    DownAndToSubjects,
}

/// Sorted pairs.
#[derive(Default)]
struct Edges(Vec<(u32, u32)>);

impl Edges {
    fn new(mut pairs: Vec<(u32, u32)>) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        Self(pairs)
    }

    fn reversed(&self) -> Self {
        Self::new(self.0.iter().map(|&(from, to)| (to, from)).collect())
    }

    fn of(&self, from: u32) -> impl Iterator<Item = u32> {
        let start = self.0.partition_point(|edge| edge.0 < from);
        self.0[start..].iter().take_while(move |edge| edge.0 == from).map(|edge| edge.1)
    }
}

impl<'a> Graph<'a> {
    /// Creates the graph of a repository with its companions.
    pub(super) fn new(repository: &'a Repository, companions: &'a [Companion]) -> Self {
        let mut graph = Self::without_listed(repository, companions, repository.listed.len());
        for row in &repository.listed {
            graph.add(&row.digest);
        }
        graph
    }

    /// Creates a graph without manifests that are only listed: no tag names these, and no read manifest leads to them,
    /// so that they have no ties. They may be twice as many as all others.
    pub(super) fn of_read(repository: &'a Repository, companions: &'a [Companion]) -> Self {
        Self::without_listed(repository, companions, 0)
    }

    /// Creates such a graph with room for more nodes.
    fn without_listed(repository: &'a Repository, companions: &'a [Companion], more: usize) -> Self {
        let room = repository.manifests.len().max(repository.tags.len()) + more;
        let mut graph = Self {
            nodes: DigestMap::with_capacity_and_hasher(room, RandomState::default()),
            digests: Vec::with_capacity(room),
            manifests: Vec::with_capacity(room),
            children: Edges::default(),
            parents: Edges::default(),
            referrers: Edges::default(),
            companions: Edges::default(),
            tags: Edges::default(),
            tag_nodes: Vec::with_capacity(repository.tags.len()),
        };
        for (digest, manifest) in &repository.manifests {
            let node = graph.add(digest);
            graph.manifests[index(node)] = Some(manifest);
        }
        let (mut children, mut referrers) = (Vec::new(), Vec::new());
        for (node, manifest) in (0..).zip(repository.manifests.values()) {
            children.extend(manifest.children.iter().map(|child| (node, graph.add(child))));
            referrers.extend(manifest.subject.as_deref().into_iter().map(|subject| (graph.add(subject), node)));
        }
        graph.children = Edges::new(children);
        graph.parents = graph.children.reversed();
        graph.referrers = Edges::new(referrers);
        for tag in &repository.tags {
            let node = tag.digest.as_ref().map(|digest| graph.add(digest));
            graph.tag_nodes.push(node);
        }
        let tags = (0..).zip(&graph.tag_nodes).filter_map(|(tag, node)| Some(((*node)?, tag)));
        graph.tags = Edges::new(tags.collect());
        let companions = companions.iter().filter_map(|companion| {
            let subject = graph.add(&companion.subject);
            Some((subject, graph.tag_nodes[index(companion.tag)]?))
        });
        graph.companions = Edges::new(companions.collect());
        graph
    }

    fn add(&mut self, digest: &'a Digest) -> Node {
        let next = Node::try_from(self.digests.len()).expect("a repository mentions fewer than 2^32 digests");
        let node = *self.nodes.entry(digest).or_insert(next);
        if node == next {
            self.digests.push(digest);
            self.manifests.push(None);
        }
        node
    }

    /// Returns the node of a digest that the repository mentions.
    pub(super) fn node(&self, digest: &Digest) -> Option<Node> {
        self.nodes.get(digest).copied()
    }

    /// Returns all nodes.
    pub(super) fn nodes(&self) -> std::ops::Range<Node> {
        0..Node::try_from(self.digests.len()).unwrap_or(Node::MAX)
    }

    /// Returns the node that a tag names.
    pub(super) fn of_tag(&self, tag: u32) -> Option<Node> {
        self.tag_nodes.get(index(tag)).copied().flatten()
    }

    /// Returns the tags that name a node.
    pub(super) fn tags(&self, node: Node) -> impl Iterator<Item = u32> {
        self.tags.of(node)
    }

    /// Returns the digest of a node.
    pub(super) fn digest(&self, node: Node) -> &'a Digest {
        self.digests[index(node)]
    }

    /// Returns the manifest of a node, if it was read.
    pub(super) fn manifest(&self, node: Node) -> Option<&'a Manifest> {
        self.manifests[index(node)]
    }

    /// Returns the image that a node's manifest refers to.
    pub(super) fn subject(&self, node: Node) -> Option<Node> {
        self.node(self.manifest(node)?.subject.as_deref()?)
    }

    /// Returns the manifests that a node lists.
    pub(super) fn children(&self, node: Node) -> impl Iterator<Item = Node> {
        self.children.of(node)
    }

    /// Returns the indexes that list a node.
    pub(super) fn parents(&self, node: Node) -> impl Iterator<Item = Node> {
        self.parents.of(node)
    }

    /// Returns the manifests that refer to a node.
    pub(super) fn referrers(&self, node: Node) -> impl Iterator<Item = Node> {
        self.referrers.of(node)
    }

    /// Returns every index, at any height, that contains a node; not the node itself.
    pub(super) fn ancestors(&self, node: Node) -> Vec<Node> {
        let mut found = Vec::new();
        let mut seen = std::collections::HashSet::from([node]);
        let mut open = vec![node];
        while let Some(next) = open.pop() {
            for parent in self.parents.of(next) {
                if seen.insert(parent) {
                    found.push(parent);
                    open.push(parent);
                }
            }
        }
        found
    }

    /// Returns the indexes that are retained because a node is claimed: every one that contains it. A tagged index is
    /// retained by its tag, and needs none around it.
    pub(super) fn claimed_ancestors(&self, node: Node) -> Vec<Node> {
        if self.is_tagged_index(node) { Vec::new() } else { self.ancestors(node) }
    }

    /// Returns true for an index that a tag names.
    pub(super) fn is_tagged_index(&self, node: Node) -> bool {
        self.manifest(node).is_some_and(Manifest::is_index) && self.tags(node).next().is_some()
    }

    /// Returns true if `index` is the node itself or contains it at any depth.
    pub(super) fn contains(&self, index: Node, node: Node) -> bool {
        index == node || self.ancestors(node).contains(&index)
    }

    /// Returns true if any manifest has a child, a referrer or a companion.
    pub(super) fn has_ties(&self) -> bool {
        !(self.children.0.is_empty() && self.referrers.0.is_empty() && self.companions.0.is_empty())
    }

    /// Returns the nodes that are retained because of a node.
    pub(super) fn ties_of(&self, node: Node, ties: Traversal) -> impl Iterator<Item = Node> {
        let subject = if ties == Traversal::DownAndToSubjects { self.subject(node) } else { None };
        self.children.of(node).chain(self.referrers.of(node)).chain(self.companions.of(node)).chain(subject)
    }

    /// Returns the nodes that can be reached from some nodes, themselves included; by node.
    pub(super) fn reachable(&self, from: impl IntoIterator<Item = Node>, ties: Traversal) -> Vec<bool> {
        let mut reached = vec![false; self.digests.len()];
        self.walk(from, ties, |node| !std::mem::replace(&mut reached[index(node)], true));
        reached
    }

    /// Walks the ties from some nodes, onward from each node for which `enter` returns true.
    pub(super) fn walk(
        &self,
        from: impl IntoIterator<Item = Node>,
        ties: Traversal,
        mut enter: impl FnMut(Node) -> bool,
    ) {
        let bare = !self.has_ties();
        let mut open: Vec<Node> = Vec::new();
        for root in from {
            if !enter(root) || bare {
                continue;
            }
            open.push(root);
            while let Some(node) = open.pop() {
                open.extend(self.ties_of(node, ties).filter(|&next| enter(next)));
            }
        }
    }
}

/// Returns a node or tag position as an index.
pub(super) fn index(number: u32) -> usize {
    number as usize
}
