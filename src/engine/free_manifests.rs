//! Which manifests without a tag are free: nothing keeps them, and they depend on nothing that stays.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::Node;

/// The manifests on which one without a tag depends.
#[derive(Debug, Clone, Default)]
pub(super) struct ManifestTies {
    /// The indexes that list it and what it refers to, as far as these are there: they must go before it.
    pub(super) above: Vec<Node>,
    /// What refers to it: a registry may delete that with it.
    pub(super) referrers: Vec<Node>,
}

/// The manifests of a repository that nothing keeps.
#[derive(Debug, Default)]
pub(super) struct FreeManifests {
    ties: BTreeMap<Node, ManifestTies>,
    /// Those that depend on each other, so that none can go before the other.
    cyclic: BTreeSet<Node>,
}

impl FreeManifests {
    /// Finds those that are free among some that nothing keeps by itself: one stays with whatever it depends on.
    ///
    /// A manifest in an index that is free itself, or referred to by something that is, is free with it: an old index, its
    /// images and their signatures go together, each when its own time is over.
    pub(super) fn among(ties: BTreeMap<Node, ManifestTies>) -> Self {
        let mut found = Self { ties, cyclic: BTreeSet::new() };
        loop {
            found.remove_held();
            let cyclic = found.unordered();
            if cyclic.is_empty() {
                return found;
            }
            found.ties.retain(|node, _| !cyclic.contains(node));
            found.cyclic.extend(cyclic);
        }
    }

    /// Returns true if a manifest is free.
    pub(super) fn contains(&self, node: Node) -> bool {
        self.ties.contains_key(&node)
    }

    /// Returns true if a manifest stays because it and others depend on each other.
    pub(super) fn is_cyclic(&self, node: Node) -> bool {
        self.cyclic.contains(&node)
    }

    /// The free manifests.
    pub(super) fn iter(&self) -> impl Iterator<Item = Node> {
        self.ties.keys().copied()
    }

    /// Everything that a free manifest waits for, itself included: what must go before it or with it, and so on.
    pub(super) fn awaited_by(&self, node: Node) -> BTreeSet<Node> {
        let mut found = BTreeSet::from([node]);
        let mut open = vec![node];
        while let Some(next) = open.pop() {
            let Some(ties) = self.ties.get(&next) else { continue };
            open.extend(ties.above.iter().chain(&ties.referrers).copied().filter(|&other| found.insert(other)));
        }
        found
    }

    /// Removes those that depend on something that stays, until none does.
    fn remove_held(&mut self) {
        loop {
            let is_held = |ties: &ManifestTies| {
                ties.above.iter().chain(&ties.referrers).any(|other| !self.ties.contains_key(other))
            };
            let held: Vec<Node> = self.ties.iter().filter(|(_, ties)| is_held(ties)).map(|(node, _)| *node).collect();
            if held.is_empty() {
                return;
            }
            for node in held {
                self.ties.remove(&node);
            }
        }
    }

    /// Those that can be put into no order in which each goes after what it depends on.
    fn unordered(&self) -> BTreeSet<Node> {
        let mut open: BTreeMap<Node, usize> = BTreeMap::new();
        let mut below: BTreeMap<Node, Vec<Node>> = BTreeMap::new();
        for (&node, ties) in &self.ties {
            let above: BTreeSet<Node> = ties.above.iter().copied().collect();
            open.insert(node, above.len());
            for other in above {
                below.entry(other).or_default().push(node);
            }
        }
        let mut ready: Vec<Node> = open.iter().filter(|(_, count)| **count == 0).map(|(node, _)| *node).collect();
        while let Some(next) = ready.pop() {
            open.remove(&next);
            for node in below.get(&next).into_iter().flatten() {
                if let Some(count) = open.get_mut(node) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(*node);
                    }
                }
            }
        }
        open.into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ties: &[(Node, &[Node], &[Node])]) -> Vec<Node> {
        let ties = ties.iter().map(|&(node, above, referrers)| {
            (node, ManifestTies { above: above.to_vec(), referrers: referrers.to_vec() })
        });
        FreeManifests::among(ties.collect()).iter().collect()
    }

    #[test]
    fn what_hangs_on_something_that_stays_is_not_free() {
        // An index with two images, one of them signed; the signature of the signature.
        assert_eq!(
            found(&[(1, &[], &[]), (2, &[1], &[4]), (3, &[1], &[]), (4, &[2], &[5]), (5, &[4], &[])]),
            [1, 2, 3, 4, 5]
        );
        // The index stays, and with it everything.
        assert_eq!(found(&[(2, &[1], &[4]), (3, &[1], &[]), (4, &[2], &[])]), [] as [Node; 0]);
        // A signature stays, and with it its image, but not the index around it.
        assert_eq!(found(&[(1, &[], &[]), (2, &[1], &[4]), (3, &[1], &[])]), [1, 3]);
    }

    #[test]
    fn what_goes_round_in_a_circle_stays() {
        assert_eq!(found(&[(1, &[2], &[2]), (2, &[1], &[1]), (3, &[], &[])]), [3]);
        // What depends on the circle stays, too.
        assert_eq!(found(&[(1, &[2], &[]), (2, &[1], &[]), (3, &[2], &[]), (4, &[], &[])]), [4]);
        assert_eq!(found(&[(1, &[1], &[])]), [] as [Node; 0]);
    }
}
