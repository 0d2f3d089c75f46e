//! The dependencies of removals in one repository, independent of the facts, so that they outlive them.

use std::collections::HashSet;

use super::companion::companions;
use super::graph::{Graph, Node, Traversal, index};
use crate::domain::{Deletion, Removal, RemovalMethod, Repository, UnreadKind};

/// The ties between the removals of one repository: a removal is not enforced while a dependency of it is retained.
/// Empty if no removal depends on another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemovalDependencies {
    /// The position of a removal, and a manifest that is retained with it; sorted.
    manifests: Vec<(u32, Node)>,
    /// From a manifest to those that are retained because of it, sorted.
    ties: Vec<(Node, Node)>,
    /// The position of a removal, and a manifest that blocks it while retained; sorted.
    holders: Vec<(u32, Node)>,
}

/// The same of the deletions of untagged manifests.
pub type DeletionDependencies = RemovalDependencies;

impl RemovalDependencies {
    /// Returns those of the removals of a repository.
    pub(super) fn of(method: RemovalMethod, repository: &Repository, removals: &[Removal]) -> Self {
        let whole_manifests = method == RemovalMethod::DeleteManifest;
        if removals.len() < 2 {
            return Self::default();
        }
        let companions = companions(repository);
        let graph = Graph::of_read(repository, &companions);
        let unread: Vec<Node> = unread_indexes(repository, &graph);
        if !whole_manifests && !graph.has_ties() && unread.is_empty() {
            return Self::default();
        }
        let ties = if whole_manifests { Traversal::DownAndToSubjects } else { Traversal::Down };
        let node = |removal: &Removal| graph.of_tag(removal.position.tag);
        let reached = graph.reachable(removals.iter().filter_map(&node), ties);
        let mut holders = Vec::new();
        for (position, removal) in (0..).zip(removals) {
            let Some(node) = node(removal) else { continue };
            let image = removal.companion_of.as_deref().and_then(|subject| graph.node(subject));
            let above = graph.parents(node).chain(graph.subject(node)).chain(image);
            let along = Some(node).filter(|_| whole_manifests);
            holders
                .extend(above.chain(along).filter(|&holder| reached[index(holder)]).map(|holder| (position, holder)));
        }
        let unread: Vec<Node> = unread.into_iter().filter(|&node| reached[index(node)]).collect();
        // One node represents everything that an unread index may contain, which may be any image.
        let anything = graph.nodes().end;
        if !unread.is_empty() {
            holders.extend((0..).zip(removals).map(|(position, _)| (position, anything)));
        }
        if holders.is_empty() {
            return Self::default();
        }
        holders.sort_unstable();
        holders.dedup();
        let manifests = (0..).zip(removals).filter_map(|(position, removal)| Some((position, node(removal)?)));
        let mut ties = ties_among(&graph, &reached, ties);
        ties.extend(unread.into_iter().map(|index| (index, anything)));
        ties.sort_unstable();
        Self { manifests: manifests.collect(), ties, holders }
    }

    /// Returns those of deletions, each with its dependents: a retained one keeps its dependents and its subject.
    pub(super) fn of_deletions(repository: &Repository, deletions: &[Deletion]) -> Self {
        let companions = companions(repository);
        let graph = Graph::new(repository, &companions);
        let mut manifests = Vec::new();
        for (position, deletion) in (0..).zip(deletions) {
            let along = deletion.dependents.iter().map(|along| &along.digest);
            let all = std::iter::once(&deletion.digest).chain(along);
            manifests.extend(all.filter_map(|digest| Some((position, graph.node(digest)?))));
        }
        let reached = graph.reachable(manifests.iter().map(|(_, node)| *node), Traversal::DownAndToSubjects);
        let ties = ties_among(&graph, &reached, Traversal::DownAndToSubjects);
        Self { holders: manifests.clone(), manifests, ties }
    }

    /// Returns true if no removal depends on another.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// Returns the removals that something blocks, given the retained ones, both in the order of the removals.
    #[must_use]
    pub fn held_by(&self, stays: &[bool]) -> Vec<bool> {
        let mut held = vec![false; stays.len()];
        if self.is_empty() || !stays.contains(&true) {
            return held;
        }
        let mut kept = HashSet::new();
        let staying =
            self.manifests.iter().filter(|(position, _)| stays.get(index(*position)).is_some_and(|stays| *stays));
        let mut open: Vec<Node> = staying.map(|(_, manifest)| *manifest).collect();
        while let Some(next) = open.pop() {
            if kept.insert(next) {
                let from = self.ties.partition_point(|tie| tie.0 < next);
                open.extend(self.ties[from..].iter().take_while(|tie| tie.0 == next).map(|tie| tie.1));
            }
        }
        for (position, holder) in &self.holders {
            if let Some(held) = held.get_mut(index(*position)) {
                *held |= kept.contains(holder);
            }
        }
        held
    }
}

/// Returns the unread indexes that a known manifest leads to.
fn unread_indexes(repository: &Repository, graph: &Graph<'_>) -> Vec<Node> {
    let unread = repository.manifests.iter().filter(|(_, one)| one.unread_kind() == Some(UnreadKind::Index));
    unread.filter_map(|(digest, _)| graph.node(digest)).collect()
}

/// Returns the ties from the reached nodes.
fn ties_among(graph: &Graph<'_>, reached: &[bool], ties: Traversal) -> Vec<(Node, Node)> {
    let mut pairs: Vec<(Node, Node)> = Vec::new();
    for from in graph.nodes().filter(|&node| reached[index(node)]) {
        pairs.extend(graph.ties_of(from, ties).map(|to| (from, to)));
    }
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}
