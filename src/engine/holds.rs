//! Matching of holds with tags.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::graph::{Graph, Node};
use super::reason_table::ReasonTable;
use crate::domain::{
    Claims, Digest, Drift, Hold, HoldMatch, HoldReason, Holder, ImageReference, Reason, Registry, Repository,
    RepositoryName, SourceName, TagName,
};

/// The holds in force in one registry, by repository.
#[derive(Default)]
pub(super) struct HoldIndex<'a>(HashMap<&'a RepositoryName, Vec<&'a Arc<Hold>>>);

impl<'a> HoldIndex<'a> {
    /// Indexes the holds on the registry's endpoint, whatever its name was when they were set.
    pub(super) fn new(registry: &Registry, claims: &'a Claims, now: Timestamp) -> Self {
        let mut found = Self::default();
        for hold in claims.holds.iter().filter(|hold| *hold.endpoint == *registry.endpoint && hold.is_in_force(now)) {
            found.0.entry(&hold.repository).or_default().push(hold);
        }
        found
    }

    /// Adds the holds as reasons to the tags of a repository, and the tags that have moved since. Returns the nodes of
    /// held digests.
    pub(super) fn add_reasons(
        &self,
        registry: &Registry,
        repository: &Repository,
        graph: &Graph<'_>,
        found: &mut ReasonTable,
        drift: &mut Vec<Drift>,
    ) -> Vec<Node> {
        let Some(holds) = self.0.get(&repository.name) else { return Vec::new() };
        let tags: HashMap<&TagName, u32> = repository.tags.iter().map(|tag| &tag.name).zip(0..).collect();
        let mut held = Vec::new();
        for &hold in holds {
            let own = tags.get(&hold.tag).copied();
            let actual = own.and_then(|own| repository.tags.get(own as usize)?.digest.as_ref());
            let moved = hold.digest.is_some() && actual != hold.digest.as_ref();
            if let Some(own) = own {
                found.add(
                    own,
                    reason(hold, if moved && actual.is_some() { HoldMatch::DriftedTag } else { HoldMatch::Tag }),
                );
            }
            if moved {
                drift.push(hold_drift(hold, registry, actual));
            }
            let Some(node) = hold.digest.as_ref().and_then(|digest| graph.node(digest)) else { continue };
            held.push(node);
            for tag in graph.tags(node).filter(|tag| Some(*tag) != own) {
                found.add(tag, reason(hold, HoldMatch::Digest));
            }
            for tag in graph.claimed_ancestors(node).into_iter().flat_map(|index| graph.tags(index)) {
                found.add(tag, reason(hold, HoldMatch::IndexContains(graph.digest(node).clone())));
            }
        }
        held
    }

    /// Returns true if a held digest may be that of content of a repository that is not listed.
    pub(super) fn may_name_unlisted(&self, repository: &Repository, graph: &Graph<'_>) -> bool {
        let mut held = self.0.get(&repository.name).into_iter().flatten().filter_map(|hold| hold.digest.as_ref());
        held.any(|digest| graph.node(digest).is_none())
    }

    /// Returns the holds on tags of a repository, by name alone, and on digests, in order.
    pub(super) fn matching<'b>(
        &self,
        repository: &RepositoryName,
        tags: impl Iterator<Item = &'b TagName>,
        digests: impl Iterator<Item = &'b Digest>,
    ) -> Vec<&'a Arc<Hold>> {
        let Some(holds) = self.0.get(repository) else { return Vec::new() };
        let (tags, digests): (BTreeSet<&TagName>, BTreeSet<&Digest>) = (tags.collect(), digests.collect());
        let covers = |hold: &Hold| {
            tags.contains(&hold.tag) || hold.digest.as_ref().is_some_and(|digest| digests.contains(digest))
        };
        holds.iter().copied().filter(|hold| covers(hold)).collect()
    }
}

fn reason(hold: &Arc<Hold>, by: HoldMatch) -> Reason {
    Reason::Held(Box::new(HoldReason { by, hold: Arc::clone(hold) }))
}

/// Returns the drift of a held tag from its digest.
fn hold_drift(hold: &Hold, registry: &Registry, actual: Option<&Digest>) -> Drift {
    let Hold { repository, tag, digest, by, reason, until, .. } = hold;
    Drift {
        source: holds_source_name(),
        holder: Arc::new(Holder::Hold { by: by.clone(), reason: reason.clone(), until: *until }),
        reference: ImageReference {
            host: registry.hosts.first().cloned(),
            repository: Some(repository.clone()),
            tag: Some(tag.clone()),
            digest: digest.clone(),
        },
        registry: registry.name.clone(),
        repository: repository.clone(),
        actual: actual.cloned(),
    }
}

/// Returns the source name for the drift of held tags.
fn holds_source_name() -> SourceName {
    "hold".parse().expect("it is a valid name")
}
