//! Results that depend on all repositories: limits, rules that match nothing, and bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::RunError;
use super::blob_spool::SettledBlobs;
use super::manifest_cleanup::CleanupCandidates;
use super::untagged_history::FreeManifestTally;
use super::walk::{Walk, spool_error};
use crate::domain::{
    Acceptance, AcceptanceScope, AcceptedRefusal, CoverageBasis, Deletion, DeletionReclaim, Drift, Plan, Policy,
    ReclaimSum, Refusal, Registry, RegistryName, RegistryReclaim, Repository, RepositoryName, RuleHistory, Rules,
    SourceName, TagPosition, UntaggedManifest,
};
use crate::engine::{self, InventoryNames, PlanHead, RemovalDependencies, RepositoryDecision, Verdicts, Violation};
use crate::registry::RegistryHead;
use crate::report::{DriftView, PlanSpool, PlanTally, SpooledPlan};
use crate::state::CachedContent;

/// A complete walk.
pub(super) struct Conclusion<'a> {
    pub(super) plan: Plan,
    pub(super) spool: SpooledPlan,
    pub(super) tally: PlanTally<'a>,
    pub(super) drift: Vec<Drift>,
    pub(super) findings: Vec<DriftView>,
    pub(super) reclaim: Vec<RegistryReclaim>,
    pub(super) violations: Vec<Violation>,
    pub(super) mentioning: BTreeSet<SourceName>,
    /// The facts that were kept, by registry, and the verdicts on them.
    pub(super) repositories: Vec<Vec<Repository>>,
    pub(super) verdicts: Verdicts,
    /// The dependencies of these repositories' removals.
    pub(super) dependencies: BTreeMap<(RegistryName, RepositoryName), RemovalDependencies>,
    pub(super) externally_deleted: Vec<UntaggedManifest>,
    /// What was found of manifests without a tag, by registry.
    pub(super) free_manifests: Vec<FreeManifestTally>,
    pub(super) has_gaps: bool,
    pub(super) unused_cache: Option<CachedContent>,
}

impl<'a> Walk<'a> {
    /// Applies limits and rules to the removals of all repositories, settles their bytes, and assembles the retained
    /// facts.
    pub(super) fn conclude(
        self,
        (rules, heads, registries): (&Rules, &[RegistryHead], &[Registry]),
        candidates: &CleanupCandidates,
        (history, basis): (RuleHistory, CoverageBasis),
    ) -> Result<Conclusion<'a>, RunError> {
        let mut refusals = engine::refuse_removals(rules, registries, &self.removal_counts);
        let mut deletion_refusals = engine::refuse_deletions(rules, registries, &self.deletion_counts);
        let names = WalkedNames { heads, spool: &self.spool };
        let coverage = self.rules.coverage(registries, (history, basis), &names);
        let (against_removals, against_deletions) =
            engine::unmatched_refusals(rules, &coverage, &self.removal_counts, &self.deletion_counts);
        let of_copies = self.contents.refusals(registries, (&self.removal_counts, &self.deletion_counts));
        for (against_removals, against_deletions) in [(against_removals, against_deletions), of_copies] {
            add_refusals(&mut refusals, against_removals);
            add_refusals(&mut deletion_refusals, against_deletions);
        }
        let mut accepted = Acceptance::take(self.acceptances, &mut refusals);
        accepted.extend(Acceptance::take(self.acceptances, &mut deletion_refusals));
        warn_of_unused(self.acceptances, &accepted);

        let (mut unenforced, mut by_place): (_, BTreeMap<_, Vec<u32>>) = (BTreeMap::new(), self.left_out);
        for (number, mut removals) in self.dependent {
            let changed = removals.unenforce_dependents(&refusals);
            if let (Some(one), false) = (removals.removals.first(), changed.is_empty()) {
                let place = (one.registry.clone(), one.repository.clone());
                by_place.entry(place).or_default().extend(changed.iter().copied());
                unenforced.insert(number, changed);
            }
        }
        let mut deletions = candidates.undecided();
        let mut by_number = BTreeMap::new();
        for (number, (mut found, dependencies)) in self.deletions {
            engine::unenforce_deletions_among(&mut found.eligible, &dependencies, [&refusals, &deletion_refusals]);
            deletions.add_counts(&found);
            by_number.insert(number, found.eligible);
        }
        let bytes = Bytes::settle(self.blobs, heads, by_number).map_err(spool_error)?;
        let (spool, bytes) = bytes.fill(self.spool, &unenforced).map_err(spool_error)?;
        deletions.eligible = bytes.deletions.into_values().flatten().collect();
        deletions.refusals = deletion_refusals;

        let mut violations = self.violations;
        let head = PlanHead {
            refusals: &refusals,
            accepted: &accepted,
            deletions: &deletions,
            coverage: &coverage,
            unenforced: Some(&by_place),
        };
        violations.extend(self.check.check(rules, registries, &head));
        // After the check, which counts everything, too.
        refusals.retain(|refusal| self.narrowing.covers(&refusal.scope));
        deletions.refusals.retain(|refusal| self.narrowing.covers(&refusal.scope));
        let findings = self.used.finish(heads, self.findings);
        let mut drift = Verdicts { drift: self.drift, ..Verdicts::default() };
        drift.sort_drift();
        accepted.retain(|one| self.narrowing.covers(&one.refusal.scope));
        let mut plan = Plan { removals: Vec::new(), refusals, accepted, deletions, coverage };
        let (repositories, verdicts, dependencies) = put_together(heads, self.kept, &mut plan);
        Ok(Conclusion {
            plan,
            spool,
            tally: self.tally,
            drift: drift.drift,
            findings,
            reclaim: bytes.sums.into_iter().filter(|sum| !sum.repositories.is_empty()).collect(),
            violations,
            mentioning: self.mentioning,
            repositories,
            verdicts,
            dependencies,
            externally_deleted: self.externally_deleted,
            free_manifests: self.free_manifests,
            has_gaps: self.has_gaps,
            unused_cache: self.unused_cache,
        })
    }
}

/// Warns of a kind that a person accepted although nothing is refused so. A scope without a refusal is an error of the
/// command. The refusals that an approved plan accepted may no longer exist.
fn warn_of_unused(acceptances: &[Acceptance], accepted: &[AcceptedRefusal]) {
    let kinds = acceptances.iter().filter(|one| one.bound.is_none() && one.scope == AcceptanceScope::Any);
    for one in kinds {
        if !accepted.iter().any(|found| one.accepts(&found.refusal)) {
            tracing::warn!("nothing to accept: this plan has no refusal `{}`", one.kind);
        }
    }
}

fn add_refusals(refusals: &mut Vec<Refusal>, others: Vec<Refusal>) {
    refusals.extend(others);
    refusals.sort_by(|a, b| a.scope.cmp(&b.scope));
}

/// The names that a walk visited, from its spool.
struct WalkedNames<'w> {
    heads: &'w [RegistryHead],
    spool: &'w PlanSpool,
}

impl InventoryNames for WalkedNames<'_> {
    fn find_repository(&self, policy: &Policy, is_meant: &mut dyn FnMut(&str) -> bool) -> Option<String> {
        let heads = self.heads.iter().filter(|head| policy.covers(&head.registry.name));
        let mut names = heads.flat_map(|head| &head.names).map(RepositoryName::as_str);
        names.find(|name| is_meant(name)).map(ToOwned::to_owned)
    }

    fn find_tag(&self, policy: &Policy, is_meant: &mut dyn FnMut(&str) -> bool) -> Option<String> {
        let is_companion = |tag: &str| tag.parse().is_ok_and(|tag| engine::companion_subject(&tag).is_some());
        let found = self.spool.find_tag(|registry| policy.covers(registry), |tag| !is_companion(tag) && is_meant(tag));
        // It is only a hint: without it the rule is reported all the same.
        found.unwrap_or_default()
    }
}

/// The bytes of removals and deletions, repository by repository.
struct Bytes {
    /// By registry: the number after that of its last repository, and its bytes.
    registries: Vec<(u32, SettledBlobs)>,
    names: Vec<RepositoryName>,
    deletions: BTreeMap<u32, Vec<Deletion>>,
    /// By registry.
    sums: Vec<RegistryReclaim>,
    /// The numbers of repositories with deletions whose bytes are not known yet.
    open: BTreeSet<u32>,
}

impl Bytes {
    fn settle(
        blobs: Vec<super::blob_spool::BlobSpool>,
        heads: &[RegistryHead],
        deletions: BTreeMap<u32, Vec<Deletion>>,
    ) -> io::Result<Self> {
        let mut end = 0_u32;
        let (mut registries, mut sums) = (Vec::new(), Vec::new());
        for (spool, head) in blobs.into_iter().zip(heads) {
            end = end.saturating_add(u32::try_from(head.names.len()).unwrap_or(u32::MAX));
            let settled = spool.settle()?;
            sums.push(RegistryReclaim {
                registry: head.registry.name.clone(),
                estimated: settled.is_estimated(),
                repositories: Vec::new(),
            });
            registries.push((end, settled));
        }
        let names = heads.iter().flat_map(|head| head.names.iter().cloned()).collect();
        let open = deletions.keys().copied().collect();
        Ok(Self { registries, names, deletions, sums, open })
    }

    /// Writes the bytes of removals and their final state into the spool, and fills in those of the deletions.
    fn fill(mut self, spool: PlanSpool, unenforced: &BTreeMap<u32, Vec<u32>>) -> io::Result<(SpooledPlan, Self)> {
        let plan = spool.finish(|number, removals| {
            while let Some(first) = self.open.first().copied().filter(|first| *first < number) {
                self.take(first, 0)?;
            }
            let bytes = self.take(number, removals)?;
            Ok((bytes, unenforced.get(&number).cloned().unwrap_or_default()))
        })?;
        while let Some(first) = self.open.first().copied() {
            self.take(first, 0)?;
        }
        Ok((plan, self))
    }

    /// Returns the bytes of one repository's removals, and fills in those of its deletions.
    fn take(&mut self, number: u32, removals: usize) -> io::Result<Vec<Option<crate::domain::ReclaimBytes>>> {
        self.open.remove(&number);
        let at = self.registries.partition_point(|(end, _)| *end <= number);
        let Some((_, settled)) = self.registries.get_mut(at) else { return Ok(vec![None; removals]) };
        let estimated = settled.is_estimated();
        let deletions = self.deletions.get_mut(&number).map(Vec::as_mut_slice).unwrap_or_default();
        let found = settled.next_repository(number, removals, deletions.len())?;
        for (deletion, bytes) in deletions.iter_mut().zip(found.deletions) {
            deletion.reclaim =
                bytes.filter(|_| deletion.is_deletable()).map(|bytes| DeletionReclaim { bytes, estimated });
        }
        if removals > 0
            && let (Some(sum), Some(name)) = (self.sums.get_mut(at), self.names.get(number as usize))
        {
            let bytes = found.removals.iter().map(|bytes| ReclaimSum::from(*bytes));
            sum.repositories.push((name.clone(), bytes.fold(ReclaimSum::default(), ReclaimSum::plus)));
        }
        Ok(found.removals)
    }
}

/// The dependencies of each repository's removals.
type DependenciesByPlace = BTreeMap<(RegistryName, RepositoryName), RemovalDependencies>;

/// Assembles the retained facts, with verdicts and removals at their positions among them.
fn put_together(
    heads: &[RegistryHead],
    kept: BTreeMap<(usize, RepositoryName), (Repository, RepositoryDecision)>,
    plan: &mut Plan,
) -> (Vec<Vec<Repository>>, Verdicts, DependenciesByPlace) {
    let mut repositories: Vec<Vec<Repository>> = heads.iter().map(|_| Vec::new()).collect();
    let (mut verdicts, mut dependencies) = (Verdicts::default(), BTreeMap::new());
    for ((at, _), (repository, decision)) in kept {
        let Some(there) = repositories.get_mut(at) else { continue };
        let (registry, number) =
            (u32::try_from(at).unwrap_or(u32::MAX), u32::try_from(there.len()).unwrap_or(u32::MAX));
        let placed = |position: TagPosition| TagPosition { registry, repository: number, ..position };
        let RepositoryDecision { verdicts: found, removals, .. } = decision;
        verdicts.tags.extend(found.tags.into_iter().map(|mut found| {
            found.position = placed(found.position);
            found
        }));
        verdicts.drift.extend(found.drift);
        let mut removals = removals;
        removals.unenforce_dependents(&plan.refusals);
        plan.removals.extend(removals.removals.into_iter().map(|mut removal| {
            removal.position = placed(removal.position);
            removal
        }));
        if let (Some(head), false) = (heads.get(at), removals.dependencies.is_empty()) {
            dependencies.insert((head.registry.name.clone(), repository.name.clone()), removals.dependencies);
        }
        there.push(repository);
    }
    verdicts.sort_drift();
    (repositories, verdicts, dependencies)
}
