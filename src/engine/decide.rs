//! The decision about one repository.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::check::{self, CheckTotals, PlanHead, Violation, check_deletions_among};
use super::claims::claim_texts;
use super::coverage::RuleMatchCounter;
use super::deletions::assess_repository;
use super::evidence::{Evidence, UntaggedManifests};
use super::limits::{DeletionCounts, RemovalCounts, refuse_removals};
use super::mentions::RepositoryMentions;
use super::placed_digests::{AbsentDigest, PlacedDigests};
use super::plan::{RemovalPlanner, RepositoryRemovals};
use super::repository_cleanup::judges_all;
use super::same_content::ContentComparison;
use super::unmatched_rules::unmatched_refusals;
use super::{DeletionDependencies, Verdicts};
use crate::domain::{
    Claims, CoverageBasis, Deletions, Digest, Inventory, Mention, Plan, Registry, Removal, Repository, RuleHistory,
    Rules, SourceName, TagPosition,
};

/// What is decided about one repository. Positions are those of an inventory that has nothing else.
#[derive(Debug, Clone, Default)]
pub struct RepositoryDecision {
    /// The verdict on every tag, and the evidence that is still missing.
    pub verdicts: Verdicts,
    /// The removals that follow, before limits over several repositories are applied.
    pub removals: RepositoryRemovals,
    /// What becomes of manifests without a tag. Nothing is said of their bytes yet.
    pub deletions: Deletions,
    /// The manifests without a tag that are free, where policies with `untagged` speak of the repository.
    pub free: BTreeSet<Digest>,
    /// The dependencies of the deletions.
    pub deletion_dependencies: DeletionDependencies,
    /// The mentions that were found, each with its source.
    pub mentions: Vec<(SourceName, Mention)>,
    /// The same of texts whose mentions are only reported.
    pub reported_mentions: Vec<(SourceName, Mention)>,
    /// The claimed digests that were assumed to be in no repository, if that retains something. If another repository
    /// has one of them, this has to be decided again.
    pub assumed_absent: BTreeSet<AbsentDigest>,
    /// The violations that the second check found; a bug in this program.
    pub violations: Vec<Violation>,
}

/// The position of a repository that is decided by itself.
const FIRST: TagPosition = TagPosition { registry: 0, repository: 0, tag: 0 };

/// The verdicts on one repository, with their evidence and the manifests and configurations that are still to be read.
pub struct EvaluatedRepository<'e> {
    /// The verdict on every tag.
    pub verdicts: Verdicts,
    mentions: RepositoryMentions<'e>,
    assumed_absent: BTreeSet<AbsentDigest>,
}

/// Evaluates the tags of one repository.
#[must_use]
pub fn evaluate_repository<'e>(
    repository: &Repository,
    evidence: &Evidence<'e>,
    placed: &PlacedDigests,
) -> EvaluatedRepository<'e> {
    let former = evidence.untagged.get(&repository.name).map(Vec::as_slice).unwrap_or_default();
    let mentions = evidence.evaluation.mentions.in_repository(evidence.registry, repository, former);
    let mut verdicts = Verdicts::default();
    let assumed_absent = evidence.evaluation.evaluate_repository((repository, FIRST), &mentions, placed, &mut verdicts);
    verdicts.sort_drift();
    EvaluatedRepository { verdicts, mentions, assumed_absent }
}

/// Decides one repository whose tags were evaluated: plans removals and deletions, and checks all of it a second time.
/// `totals` collects facts that depend on all repositories.
#[must_use]
pub fn decide(
    repository: &Repository,
    evidence: &Evidence<'_>,
    placed: &PlacedDigests,
    evaluated: EvaluatedRepository<'_>,
    (planner, totals): (&mut RemovalPlanner<'_>, &mut CheckTotals<'_>),
) -> RepositoryDecision {
    let EvaluatedRepository { verdicts, mentions, assumed_absent } = evaluated;
    let removals = planner.plan_repository(evidence.registry, repository, &verdicts.tags);
    let mut decision = RepositoryDecision { verdicts, removals, assumed_absent, ..RepositoryDecision::default() };
    decide_deletions(repository, evidence, (&mentions, placed), &mut decision);
    let removals: Vec<&Removal> = decision.removals.removals.iter().collect();
    let checked =
        evidence.checker.check_repository(repository, (&mentions, placed), (&removals, &BTreeSet::new()), totals);
    decision.violations.extend(checked);
    decision.violations.extend(check::RegistryChecker::check_verdicts(repository, &decision.verdicts, &removals));
    decision.reported_mentions = evidence.reported_mentions(repository);
    decision.mentions = mentions.iter().map(|(source, mention)| (source.clone(), mention.clone())).collect();
    decision
}

/// Decides all repositories of an inventory in memory, with the limits over all of them and the rules that match
/// nothing. Untagged manifests are not decided.
#[must_use]
pub fn decide_inventory(
    rules: &Rules,
    inventory: &Inventory,
    claims: &Claims,
    at: Timestamp,
    (history, basis): (RuleHistory, CoverageBasis),
) -> InventoryDecision {
    let (texts, placed) = (claim_texts(claims), PlacedDigests::of(inventory, claims));
    let (mut planner, mut check) = (RemovalPlanner::new(rules, at), CheckTotals::new(rules));
    let (mut counts, mut matches) = (RemovalCounts::default(), RuleMatchCounter::new(rules));
    let mut contents = ContentComparison::new(inventory.registries.len());
    let mut found = InventoryDecision::default();
    let mut removals_by_place: Vec<(TagPosition, RepositoryRemovals)> = Vec::new();
    for (position, registry) in (0..).zip(&inventory.registries) {
        let evidence = Evidence::new(rules, registry, (claims, &texts), UntaggedManifests::default(), at);
        let names = registry.repositories.iter().map(|repository| repository.name.as_str());
        found.verdicts.drift.extend(evidence.missing_repositories(names));
        for (place, repository) in (0..).zip(&registry.repositories) {
            let first = TagPosition { registry: position, repository: place, tag: 0 };
            let evaluated = evaluate_repository(repository, &evidence, &placed);
            let decision = decide(repository, &evidence, &placed, evaluated, (&mut planner, &mut check));
            counts.add(registry, repository, &decision.removals.removals);
            matches.add(registry, repository);
            contents.add(registry, repository);
            found.violations.extend(decision.violations);
            found.verdicts.drift.extend(decision.verdicts.drift);
            found.verdicts.tags.extend(decision.verdicts.tags.into_iter().map(|mut verdict| {
                verdict.position = TagPosition { tag: verdict.position.tag, ..first };
                verdict
            }));
            removals_by_place.push((first, decision.removals));
        }
    }
    found.verdicts.sort_drift();
    let registries = &inventory.registries;
    let mut refusals = refuse_removals(rules, registries, &counts);
    let coverage = matches.coverage(registries, (history, basis), inventory);
    let deletions = DeletionCounts::default();
    refusals.extend(unmatched_refusals(rules, &coverage, &counts, &deletions).0);
    refusals.extend(contents.refusals(registries, (&counts, &deletions)).0);
    refusals.sort_by(|a, b| a.scope.cmp(&b.scope));
    let mut unenforced = BTreeMap::new();
    for (first, mut removals) in removals_by_place {
        if let (Some(one), changed) = (removals.removals.first().cloned(), removals.unenforce_dependents(&refusals)) {
            unenforced.insert((one.registry.clone(), one.repository.clone()), changed);
        }
        found.plan.removals.extend(removals.removals.into_iter().map(|mut removal| {
            removal.position = TagPosition { tag: removal.position.tag, ..first };
            removal
        }));
    }
    let head = PlanHead {
        accepted: &[],
        refusals: &refusals,
        deletions: &Deletions::default(),
        coverage: &coverage,
        unenforced: Some(&unenforced),
    };
    found.violations.extend(check.check(rules, registries, &head));
    found.plan = Plan { refusals, coverage, ..found.plan };
    found
}

/// The decision on an inventory.
#[derive(Debug, Default)]
pub struct InventoryDecision {
    /// The verdict on every tag.
    pub verdicts: Verdicts,
    /// The removals that follow, and the refusals that block them.
    pub plan: Plan,
    /// The violations that the second check found; a bug in this program.
    pub violations: Vec<Violation>,
}

fn decide_deletions(
    repository: &Repository,
    evidence: &Evidence<'_>,
    (mentions, placed): (&RepositoryMentions<'_>, &PlacedDigests),
    decision: &mut RepositoryDecision,
) {
    let untagged = evidence.untagged_in(&repository.name);
    let registry = evidence.registry;
    if untagged.is_empty() && !judges_all(evidence.rules, registry, repository) {
        return;
    }
    let apart = |digest: &Digest| {
        let place = (registry.name.clone(), repository.name.clone(), digest.clone());
        evidence.others.is_some_and(|others| others.contains(&place))
    };
    let found = &mut decision.deletions;
    let assessed = assess_repository(&evidence.evaluation, (repository, mentions, placed), &untagged, &apart, found);
    decision.assumed_absent.extend(assessed.assumed_absent);
    decision.free = assessed.free;
    found.eligible.sort_by(|a, b| a.digest.cmp(&b.digest));
    if found.deletable().next().is_none() {
        return;
    }
    decision.deletion_dependencies = DeletionDependencies::of_deletions(repository, &found.eligible);
    let registry = Registry { repositories: vec![repository.clone()], ..registry.clone() };
    let candidates: Vec<_> = untagged.into_values().cloned().collect();
    let (nowhere, inventory) = (BTreeSet::new(), Inventory { registries: vec![registry] });
    let others = evidence.others.unwrap_or(&nowhere);
    let facts = (&inventory, evidence.claims, placed);
    decision.violations.extend(check_deletions_among(
        evidence.rules,
        facts,
        (&candidates, others),
        &decision.deletions,
        evidence.at,
    ));
}
