//! Which manifests without a tag go, with what depends on them, and why the others stay: those that Tagwarden took the tags
//! from, and where policies with `untagged` speak of a repository, all of them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::claims::claim_texts;
use super::companion::companions;
use super::deletion_reclaim::{add_deletion_reclaim, forecast_deletions};
use super::evaluate::RegistryEvaluation;
use super::free_manifests::FreeManifests;
use super::grace::Grace;
use super::graph::{Node, Traversal, index};
use super::mentions::{RepositoryMentions, former_manifests};
use super::placed_digests::{AbsentDigest, PlacedDigests};
use super::repository_cleanup::{Candidate, EligibleManifest, RepositoryCleanup, judges_all};
use crate::domain::{
    Claims, Deletion, Deletions, Digest, Inventory, PolicyName, Registry, RegistryName, Repository, RepositoryName,
    RetainReason, Rules, UntaggedManifest,
};

/// What becomes of manifests without a tag at `now`.
///
/// `untagged` are those that Tagwarden took tags from and whose grace may be over; the inventory was read with them in mind,
/// so that one which is not in it is gone. `others` are the other manifests that Tagwarden took tags from, in the same
/// repositories: none of them goes along with anything. Where policies with `untagged` speak of a repository whose history is
/// known, every other manifest without a tag is judged, too. A manifest goes only if every policy with a say has it deleted,
/// nothing tags it, claims it or an image in it or a tag that it had, no index that stays lists it, and nothing that stays
/// refers to it. Along go the images of an index that nothing else holds, and what refers to what goes, unless these are
/// judged by themselves.
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
    let none = BTreeMap::new();
    for registry in &inventory.registries {
        let mut ground: Option<RegistryEvaluation<'_>> = None;
        for repository in &registry.repositories {
            let here = by_place.get(&(&registry.name, &repository.name));
            if here.is_none() && !judges_all(rules, registry, repository) {
                continue;
            }
            let ground = ground.get_or_insert_with(|| RegistryEvaluation::new(rules, registry, (claims, &texts), now));
            let apart =
                |digest: &Digest| others.contains(&(registry.name.clone(), repository.name.clone(), digest.clone()));
            let former = former.get(&(&registry.name, &repository.name)).map(Vec::as_slice).unwrap_or_default();
            let mentions = ground.mentions.in_repository(registry, repository, former);
            assess_repository(ground, (repository, &mentions, &placed), here.unwrap_or(&none), &apart, &mut found);
        }
    }
    found.eligible.sort_by(|a, b| key(a).cmp(&key(b)));
    add_deletion_reclaim(inventory, &mut found.eligible);
    found
}

fn key(deletion: &Deletion) -> (&RegistryName, &RepositoryName, &Digest) {
    (&deletion.registry, &deletion.repository, &deletion.digest)
}

/// What was found of the manifests without a tag in one repository, besides the deletions.
#[derive(Debug, Default)]
pub(super) struct Assessment {
    /// The claimed digests that were taken to be in no repository.
    pub(super) assumed_absent: BTreeSet<AbsentDigest>,
    /// The manifests that are free, where all of them are judged.
    pub(super) free: BTreeSet<Digest>,
}

/// Adds what becomes of the manifests without a tag of one repository. `recorded` are those that Tagwarden took tags from.
pub(super) fn assess_repository(
    evaluation: &RegistryEvaluation<'_>,
    (repository, mentions, placed): (&Repository, &RepositoryMentions<'_>, &PlacedDigests),
    recorded: &BTreeMap<&Digest, &UntaggedManifest>,
    apart: &dyn Fn(&Digest) -> bool,
    found: &mut Deletions,
) -> Assessment {
    let companions = companions(repository);
    let site = RepositoryCleanup::new(evaluation, (repository, &companions), mentions, placed);
    let (assessed, free) = assess_manifests(&site, recorded, apart);
    let free_nodes: BTreeSet<Node> = free.iter().collect();
    let mut looked: Vec<EligibleManifest<'_>> = Vec::new();
    let mut waiting: BTreeMap<&Digest, Option<Timestamp>> = BTreeMap::new();
    for AssessedManifest { candidate, grace, kept } in assessed {
        let until = match grace {
            Grace::Over(eligible_at) => {
                let retain_reasons = site.retain_reasons(&candidate, kept, &free);
                looked.push(EligibleManifest { candidate, eligible_at, retain_reasons });
                continue;
            }
            Grace::Until(until) => Some(until),
            Grace::NotRequested => None,
        };
        waiting.insert(candidate.digest, until);
        match until {
            None if site.judges_all => found.add_kept(NOT_REQUESTED),
            Some(_) if site.judges_all && !candidate.node.is_some_and(|node| free.contains(node)) => {
                found.add_kept(site.kept_label(&candidate, &kept, &free_nodes));
            }
            Some(until) => found.add_pending(until),
            None => {}
        }
    }
    let mut going: BTreeSet<Node> =
        looked.iter().filter(|one| one.retain_reasons.is_empty()).filter_map(|one| one.candidate.node).collect();
    let held = |digest: &Digest| waiting.contains_key(digest) || apart(digest);
    // What stays may hold others, which then stay as well.
    let along = loop {
        let along = site.find_dependents(&looked, &going, &held);
        let before = going.len();
        for one in &mut looked {
            let Some(node) = one.candidate.node.filter(|node| going.contains(node)) else { continue };
            one.retain_reasons = site.dependency_reasons(&one.candidate, node, &going, &along);
            if !one.retain_reasons.is_empty() {
                going.remove(&node);
            }
        }
        if going.len() == before {
            break along;
        }
    };
    let looked = site.postpone(looked, &waiting, &free, found);
    // What only goes on paper still holds what depends on it and what it refers to, and so takes that along first.
    let on_paper = looked.iter().filter(|one| one.retain_reasons.is_empty() && !site.enforces(&one.candidate));
    let held = site.pinned_by_dry_run(&looked, on_paper.filter_map(|one| one.candidate.node).collect());
    let mut looked: Vec<(bool, EligibleManifest<'_>)> = looked
        .into_iter()
        .map(|one| (site.enforces(&one.candidate) && one.candidate.node.is_none_or(|node| !held[index(node)]), one))
        .collect();
    looked.sort_by_key(|(enforce, _)| *enforce);
    let mut taken = BTreeSet::new();
    let deletions = looked.into_iter().map(|(enforce, one)| site.deletion(one, enforce, &along, &mut taken));
    let deletions: Vec<Deletion> = deletions.collect();
    if site.judges_all {
        // What no policy with a say wants deleted stays, however free it is, and holds what depends on it.
        let staying = waiting.iter().filter(|(_, until)| until.is_none());
        let staying: Vec<Node> = staying.filter_map(|(digest, _)| site.graph.node(digest)).collect();
        let stays = site.graph.reachable(staying, Traversal::DownAndToSubjects);
        let expected = free_nodes.iter().filter(|&&node| !stays[index(node)]);
        let expected: BTreeSet<Digest> = expected.map(|&node| site.graph.digest(node).clone()).collect();
        let deleted = deletions.iter().filter(|one| one.is_deletable()).map(|deletion| &deletion.digest);
        let deleted: BTreeSet<&Digest> = deleted.collect();
        let left = expected.iter().filter(|digest| !deleted.contains(digest)).collect();
        found.forecast.add(forecast_deletions((evaluation.registry, repository), &expected, &left));
    }
    let free: BTreeSet<Digest> = free_nodes.into_iter().map(|node| site.graph.digest(node).clone()).collect();
    let retains = deletions.iter().any(|one| !one.is_deletable()) || !found.kept.is_empty();
    found.eligible.extend(deletions);
    let assumed_absent = if retains { site.doubts.assumed_absent() } else { BTreeSet::new() };
    Assessment { assumed_absent, free }
}

/// Judges each manifest without a tag by itself, and finds those that are free where all are judged.
fn assess_manifests<'c>(
    site: &RepositoryCleanup<'c, '_>,
    recorded: &BTreeMap<&'c Digest, &'c UntaggedManifest>,
    apart: &dyn Fn(&Digest) -> bool,
) -> (Vec<AssessedManifest<'c>>, FreeManifests) {
    let mut assessed: Vec<AssessedManifest<'c>> = Vec::new();
    let mut ties = BTreeMap::new();
    for candidate in site.candidates(recorded, apart) {
        let grace = site.grace(&candidate);
        let judged = site.judges_all || matches!(grace, Grace::Over(_));
        let kept = if judged { site.use_reasons(&candidate) } else { Vec::new() };
        if let (true, true, Some(node)) = (site.judges_all, kept.is_empty(), candidate.node) {
            ties.insert(node, site.ties(&candidate, node));
        }
        assessed.push(AssessedManifest { candidate, grace, kept });
    }
    (assessed, FreeManifests::among(ties))
}

/// What is found of one manifest without a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestTrace {
    /// The state of its waiting period, as far as it is free.
    pub grace: Grace,
    /// The policies that have a say.
    pub policies: Vec<PolicyName>,
    /// Whether nothing keeps it.
    pub is_free: bool,
    /// Why it stays, in order; empty where it is free.
    pub retain_reasons: Vec<RetainReason>,
}

/// Explains what becomes of one manifest without a tag; `None` where it has a tag, is not there, or is not judged. The facts
/// are those of [`plan_deletions`].
#[must_use]
pub fn trace_manifest(
    rules: &Rules,
    (registry, repository): (&Registry, &Repository),
    claims: &Claims,
    (untagged, others): (&[UntaggedManifest], &BTreeSet<(RegistryName, RepositoryName, Digest)>),
    digest: &Digest,
    now: Timestamp,
) -> Option<ManifestTrace> {
    let alone = Registry { repositories: vec![repository.clone()], ..registry.clone() };
    let inventory = Inventory { registries: vec![alone] };
    let (texts, placed) = (claim_texts(claims), PlacedDigests::of(&inventory, claims));
    let here = untagged.iter().filter(|one| one.registry == registry.name && one.repository == repository.name);
    let recorded: BTreeMap<&Digest, &UntaggedManifest> = here.map(|one| (&one.digest, one)).collect();
    let former: Vec<&UntaggedManifest> = recorded.values().copied().collect();
    let evaluation = RegistryEvaluation::new(rules, registry, (claims, &texts), now);
    let mentions = evaluation.mentions.in_repository(registry, repository, &former);
    let companions = companions(repository);
    let site = RepositoryCleanup::new(&evaluation, (repository, &companions), &mentions, &placed);
    let apart = |digest: &Digest| others.contains(&(registry.name.clone(), repository.name.clone(), digest.clone()));
    let (assessed, free) = assess_manifests(&site, &recorded, &apart);
    let AssessedManifest { candidate, grace, kept } =
        assessed.into_iter().find(|one| one.candidate.digest == digest)?;
    let is_free = candidate.node.is_some_and(|node| free.contains(node));
    let mut retain_reasons = site.retain_reasons(&candidate, kept, &free);
    if let Some(node) = candidate.node.filter(|_| retain_reasons.is_empty()) {
        retain_reasons = site.dependency_reasons(&candidate, node, &free.iter().collect(), &BTreeSet::new());
    }
    let policies = site.governing_policies(&candidate).into_iter().cloned().collect();
    Some(ManifestTrace { grace, policies, is_free, retain_reasons })
}

/// A candidate with its time and what keeps it by itself, as far as that was asked.
struct AssessedManifest<'a> {
    candidate: Candidate<'a>,
    grace: Grace,
    kept: Vec<RetainReason>,
}

/// The label of manifests that no policy with a say wants deleted, although one with `untagged` speaks of them.
const NOT_REQUESTED: &str = "deletion-not-requested";
