//! Propagation of protection: children of indexes, referrers, companions.

use super::companion::Companion;
use super::graph::{Graph, Node, Traversal, index};
use super::reason_table::ReasonTable;
use crate::domain::{PolicyName, Reason, Registry, RemovalMethod, Repository};

/// Adds to the reasons of one repository's tags those that follow from retained tags, until nothing more follows.
///
/// A manifest is kept if a retained tag names it, if it is claimed, or if it depends on a kept one: as child of an
/// index, as referrer (including an untagged index), or under a companion's tag. If removing the last tag removes the
/// manifest, the subject of a kept referrer is kept as well. If the untag certainly leaves the manifest, the tag of an
/// image in a retained index is decided like any other. If the registry removes cosign's signatures with the last tag
/// of their image, the image of a retained signature keeps its tags. If it deletes a manifest with its last tag, and only
/// tags are to be removed, no manifest loses all of its tags.
pub(super) fn protect(
    repository: &Repository,
    graph: &Graph<'_>,
    companions: &[Companion],
    claimed: &[Node],
    registry: &Registry,
    found: &mut ReasonTable,
) {
    let (method, judged_alike) = (registry.removal, registry.certainly_keeps_untagged(repository));
    let mut is_companion = vec![false; repository.tags.len()];
    for companion in companions {
        is_companion[index(companion.tag)] = true;
    }
    let subjects = expirable_companions(graph, companions, &is_companion, found);

    if registry.deletes_with_last_tag && method == RemovalMethod::Untag {
        protect_last_tags(graph, found);
    }
    if registry.expires_companions {
        protect_subjects(graph, &subjects, found);
    }
    let ties = if method == RemovalMethod::DeleteManifest { Traversal::DownAndToSubjects } else { Traversal::Down };
    let staying = found.kept_tags().filter_map(|tag| graph.of_tag(tag));
    let kept = graph.reachable(staying.chain(claimed.iter().copied()), ties);

    for tag in found.tags() {
        let Some(node) = graph.of_tag(tag) else { continue };
        for parent in graph.parents(node).filter(|&parent| kept[index(parent)] && !judged_alike) {
            found.add(tag, Reason::ChildOfKept { index: graph.digest(parent).clone().into() });
        }
        if let Some(subject) = graph.subject(node).filter(|&subject| kept[index(subject)]) {
            found.add(tag, Reason::CompanionOfKept { subject: graph.digest(subject).clone().into() });
        }
    }
    for &(tag, subject) in &subjects {
        if kept[index(subject)] {
            found.add(tag, Reason::CompanionOfKept { subject: graph.digest(subject).clone().into() });
        }
    }
    if method == RemovalMethod::DeleteManifest {
        protect_shared_manifests(repository, graph, &kept, found);
    }
    expire_companions(graph, &subjects, found);
}

/// Returns the companions whose image may be removed, with that image; adds reasons to retain the others.
///
/// An image may be removed with its last tag. One that no tag reached before is not removed by Tagwarden, and a missing
/// one may be anywhere.
fn expirable_companions(
    graph: &Graph<'_>,
    companions: &[Companion],
    is_companion: &[bool],
    found: &mut ReasonTable,
) -> Vec<(u32, Node)> {
    if companions.is_empty() {
        return Vec::new();
    }
    let own = (0..).zip(is_companion).filter(|(_, companion)| !**companion).filter_map(|(tag, _)| graph.of_tag(tag));
    let tagged = graph.reachable(own, Traversal::Down);
    let mut subjects = Vec::new();
    for companion in companions {
        let subject = Box::new(companion.subject.clone());
        match graph.node(&companion.subject).filter(|&node| graph.manifest(node).is_some()) {
            None => found.add(companion.tag, Reason::CompanionOfUnknown { subject }),
            Some(node) if !tagged[index(node)] => found.add(companion.tag, Reason::CompanionOfKept { subject }),
            Some(node) => subjects.push((companion.tag, node)),
        }
    }
    subjects
}

/// Retains the tags of an image that would lose all of them beside a retained signature, if the last tag takes its
/// signatures along. That image may be a signature itself, whose own image is then retained as well.
fn protect_subjects(graph: &Graph<'_>, subjects: &[(u32, Node)], found: &mut ReasonTable) {
    loop {
        let mut added = false;
        for &(companion, subject) in subjects {
            let stays = found.is_kept(companion);
            let Some(referrer) = graph.of_tag(companion).filter(|_| stays) else { continue };
            if graph.tags(subject).any(|tag| found.is_kept(tag)) {
                continue;
            }
            for tag in graph.tags(subject) {
                found.add(tag, Reason::SubjectOfKept { referrer: graph.digest(referrer).clone().into() });
                added = true;
            }
        }
        if !added {
            return;
        }
    }
}

/// Retains all tags of a manifest of which none is retained so far: the removal of the last one would delete it. None of
/// them is chosen to stay for the others, because the manifest would stay either way.
fn protect_last_tags(graph: &Graph<'_>, found: &mut ReasonTable) {
    for node in graph.nodes() {
        if !graph.tags(node).any(|tag| found.is_kept(tag)) {
            graph.tags(node).for_each(|tag| found.add(tag, Reason::LastTag));
        }
    }
}

/// Retains each tag of a kept manifest if a manifest is removed with all its tags, with the affected manifest as the
/// reason.
fn protect_shared_manifests(repository: &Repository, graph: &Graph<'_>, kept: &[bool], found: &mut ReasonTable) {
    for node in graph.nodes().filter(|&node| kept[index(node)]) {
        let name = |tag: u32| repository.tags.get(index(tag)).map(|tag| &tag.name);
        let sharing = graph.tags(node).filter(|&tag| found.is_kept(tag)).filter_map(name).min().cloned();
        let going: Vec<u32> = graph.tags(node).filter(|&tag| !found.is_kept(tag)).collect();
        for tag in going {
            if let Some(sharing) = &sharing {
                found.add(tag, Reason::SharesManifest { tag: sharing.clone() });
            }
            for referrer in graph.referrers(node).filter(|&referrer| kept[index(referrer)]) {
                found.add(tag, Reason::SubjectOfKept { referrer: graph.digest(referrer).clone().into() });
            }
        }
    }
}

/// Expires each companion that nothing protects, by the first policy that expires a tag of its image.
fn expire_companions(graph: &Graph<'_>, subjects: &[(u32, Node)], found: &mut ReasonTable) {
    let going: Vec<(u32, Node)> = subjects.iter().copied().filter(|&(tag, _)| !found.is_kept(tag)).collect();
    if going.is_empty() {
        return;
    }
    let mut owners: Vec<Option<PolicyName>> = vec![None; graph.nodes().len()];
    for (policy, tags) in found.tags_not_kept() {
        let nodes = tags.into_iter().filter(|&tag| !found.is_kept(tag)).filter_map(|tag| graph.of_tag(tag));
        graph.walk(nodes, Traversal::Down, |node| {
            let free = owners[index(node)].is_none();
            if free {
                owners[index(node)] = Some(policy.clone());
            }
            free
        });
    }
    for (tag, node) in going {
        let subject = Box::new(graph.digest(node).clone());
        found.add(
            tag,
            match &owners[index(node)] {
                Some(policy) => Reason::CompanionOfExpired { subject, policy: policy.clone() },
                None => Reason::CompanionOfKept { subject },
            },
        );
    }
}
