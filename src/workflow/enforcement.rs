//! The removals of a plan, part by part: the facts of some repositories are read and decided again, and the planned
//! removals that still follow are made.
//!
//! A run applies its own plan in the same way as `apply` does an approved one. So no removal depends on facts older
//! than the removals before it in the same part, nor on evidence older than ten minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::admission;
use super::decision::{DecideOptions, EarlierEvidence, Facts, Tracking};
use super::interruption::StopRequests;
use super::intersection::{self, Intersection, JournaledEvidence, LimitCounts};
use super::part_removals::{PartRemovals, unreadable_plan};
use super::{
    App, Decision, PolicyFilter, Purpose, Refused, RunError, RunOutcome, RunResult, ability, manifest_cleanup,
};
use crate::apply::{self, ApplyContext, DeletionResult, DeletionTask, RemovalResult, RemovalTask};
use crate::domain::{RegistryName, Removal, RepositoryName, SkipReason, SourceName, SourceState, chain};
use crate::registry::{CollectScope, Progress};
use crate::report::{self, AcceptedView, AttentionView, DeletionView, PlanDocument, RegistryView, RemovalView};

/// Most repositories whose facts are in memory at once, for each registry.
const MAX_REPOSITORIES: usize = 16;
/// Removals after which no further repository is added to a part.
const MIN_REMOVALS: usize = 5_000;
/// The same for tags, removed or retained.
const MIN_TAGS: u64 = 200_000;

/// A plan to be carried out.
pub(super) struct PlannedRemovals<'p> {
    pub(super) document: &'p PlanDocument,
    /// The removals that earlier runs of the plan made, by name.
    pub(super) earlier: BTreeMap<String, Uuid>,
    pub(super) policies: PolicyFilter,
    /// The handling of removals in the plan that are only reported or refused.
    pub(super) unenforced: Unenforced,
    /// The number of tags of each repository, as far as the plan shows it.
    pub(super) tag_counts: BTreeMap<(RegistryName, RepositoryName), u64>,
    /// The evidence of the decision that made the plan, if this process made it.
    pub(super) earlier_evidence: EarlierEvidence,
}

/// Removals of a plan that are only reported, or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unenforced {
    /// Left out: the plan has them.
    LeftOut,
    /// Journaled as skipped: a person approved them.
    Journaled,
}

/// The completed removals and deletions.
#[derive(Default)]
pub(super) struct EnforcementResult {
    pub(super) applied: Vec<RemovalResult>,
    pub(super) deleted: Vec<DeletionResult>,
    /// The registries as of their last decision.
    pub(super) registries: Vec<RegistryView>,
    /// True if something that the plan allows was refused when it was due, or the identity may not do it.
    is_refused: bool,
    pub(super) lacks_evidence: bool,
    pub(super) is_refused_by_clock: bool,
    pub(super) failed_sources: Vec<AttentionView>,
}

/// Some repositories of one registry, with the positions of their removals in the plan.
#[derive(Debug, Default)]
struct Part {
    repositories: BTreeSet<RepositoryName>,
    removals: Vec<Range<usize>>,
    tags: u64,
}

impl App {
    /// Carries out a plan, in all its registries at once.
    pub(super) async fn enforce(
        &self,
        context: &ApplyContext,
        planned: PlannedRemovals<'_>,
        requests: &StopRequests,
        progress: &dyn Progress,
    ) -> Result<EnforcementResult, RunError> {
        let parts = parts(&planned)?;
        let mut earlier = planned.earlier_evidence.clone();
        // They answered when the plan was made, in repositories that may not be read now.
        let answered = planned.document.sources.iter().filter(|source| source.state == "answered");
        earlier.mentioning.extend(answered.filter_map(|source| source.name.parse::<SourceName>().ok()));
        let shared = SharedState {
            evidence: Mutex::new(earlier),
            limits: LimitCounts::new(&self.rules())
                .accepting(planned.document)
                .after(planned.document, &planned.earlier),
            has_begun: AtomicBool::new(false),
        };
        let planned = &planned;
        let registries = parts.into_iter().map(|(registry, parts)| {
            let shared = &shared;
            let work = async move {
                let mut found = EnforcementResult::default();
                for part in parts {
                    let work = (&registry, part);
                    let done =
                        self.enforce_part(context, (planned, requests), work, shared, progress, &mut found).await;
                    // The other registries must not continue without a journal either; they complete what they have
                    // begun.
                    done.inspect_err(|error| context.breakers.trip_all(chain(error)))?;
                }
                Ok::<_, RunError>(found)
            };
            work.boxed()
        });
        let done = futures::future::join_all(registries).await;
        let done = done.into_iter().collect::<Result<Vec<_>, _>>()?;
        let since = self.now().checked_sub(self.settings.undo_window).unwrap_or(Timestamp::MIN);
        apply::fetch_missing_manifests(&self.store, &self.readers, since, &context.stop).await?;
        let mut all = done.into_iter().fold(EnforcementResult::default(), EnforcementResult::plus);
        let mut told = BTreeSet::new();
        all.failed_sources.retain(|source| told.insert(source.about.clone()));
        all.applied.sort_by(|a, b| name(&a.removal).cmp(&name(&b.removal)));
        Ok(all)
    }

    async fn enforce_part(
        &self,
        context: &ApplyContext,
        (planned, requests): (&PlannedRemovals<'_>, &StopRequests),
        (registry, part): (&RegistryName, Part),
        shared: &SharedState,
        progress: &dyn Progress,
        found: &mut EnforcementResult,
    ) -> Result<(), RunError> {
        let document = planned.document;
        let removals = planned.removals_of(&part)?;
        let deletions: Vec<&DeletionView> = document
            .deletions
            .deletable()
            .filter(|view| view.registry == registry.as_str())
            .filter(|view| part.repositories.iter().any(|repository| repository.as_str() == view.repository))
            .filter(|view| planned.unenforced == Unenforced::Journaled || view.enforce && view.refused.is_none())
            .collect();
        // Nothing is read if nothing may be removed anymore.
        let nothing = || {
            let any_deletion = deletions.iter().any(|view| view.enforce && view.refused.is_none());
            !any_deletion && !removals.may_remove()
        };
        let skip = context.skip_reason(registry).or_else(|| nothing().then_some(SkipReason::DryRun));
        let skip_all = (&removals, deletions.as_slice());
        if let Some(skip) = skip {
            return skip_part(context, skip_all, &skip, found).await;
        }
        let scope = BTreeMap::from([(registry.clone(), part.repositories)]);
        let options = DecideOptions {
            scope: CollectScope::Repositories(scope),
            policies: planned.policies.clone(),
            acceptances: document.accepted.iter().filter_map(AcceptedView::acceptance).collect(),
            purpose: Purpose::Enforce,
            facts: Facts::Kept,
            earlier: self.fresh_enough(&shared.evidence).await,
            tracking: Tracking::Hidden,
            ..DecideOptions::default()
        };
        let decide = self.until_signal(requests.stop.clone(), self.decide_with(options, progress));
        let decision = match requests.with_requester(decide.await) {
            Err(RunError::Interrupted | RunError::InterruptedBy(_)) => {
                return skip_part(context, skip_all, &SkipReason::Interrupted, found).await;
            }
            decided => decided?,
        };
        shared.evidence.lock().await.update(decision.evidence());
        self.record_confirmed_time(context.run, &decision).await?;
        found.add_failed_sources(document, &decision);
        if let Some(doubt) = &decision.clock.doubt {
            let skip = SkipReason::Refused(report::describe_clock_doubt(doubt));
            found.is_refused_by_clock = true;
            return skip_part(context, skip_all, &skip, found).await;
        }
        let verify = self.until_signal(requests.stop.clone(), self.verify_config_files());
        if let Err(error) = requests.with_requester(verify.await) {
            if !shared.has_begun.load(Ordering::Relaxed) {
                return Err(error);
            }
            let skip = match error {
                RunError::Interrupted | RunError::InterruptedBy(_) => SkipReason::Interrupted,
                RunError::Refused(Refused::FileChanged { file }) => {
                    SkipReason::Stopped(format!("{} has changed since this run loaded it", file.display()))
                }
                error => SkipReason::Stopped(chain(&error)),
            };
            return skip_part(context, skip_all, &skip, found).await;
        }
        let journaled = match planned.unenforced {
            Unenforced::Journaled => JournaledEvidence::Approved,
            Unenforced::LeftOut => JournaledEvidence::Present,
        };
        let grounds = (&planned.earlier, journaled, &shared.limits);
        let Intersection { tasks, skipped, is_refused } = intersection::intersect(&removals, &decision, grounds)?;
        drop(removals);
        found.is_refused |= is_refused;
        let (deletions, not_deleted) = manifest_cleanup::intersect(&deletions, &decision);
        found.is_refused |= ability::any_skipped_for_rights(&decision.inventory, &skipped, &not_deleted);
        found.lacks_evidence |= decision.lacks_evidence();
        found.is_refused_by_clock |= decision.is_refused_by_clock();
        let fresh = self.fresh_evidence(&decision);
        let context = ApplyContext { evidence: Some(fresh.clone()), ..context.clone() };
        shared.has_begun.fetch_or(!(tasks.is_empty() && deletions.is_empty()), Ordering::Relaxed);
        // First, while the evidence is freshest: deletions cannot be undone for certain.
        found.deleted.extend(apply::journal_skipped_deletions(&context, not_deleted).await?);
        found.deleted.extend(apply::delete(&context, deletions).await?);
        found.applied.extend(apply::journal_skipped_removals(&context, skipped).await?);
        found.applied.extend(apply::apply(&context, tasks, &decision.inventory).await?);
        found.failed_sources.extend(fresh.failed_sources());
        found.add_registries(decision.document.registries);
        Ok(())
    }

    /// Returns the evidence of the last decision, as long as it is fresh enough for another one.
    async fn fresh_enough(&self, evidence: &Mutex<EarlierEvidence>) -> EarlierEvidence {
        let now = self.read_clocks();
        let mut earlier = evidence.lock().await.clone();
        earlier.gathered = earlier.gathered.filter(|(_, gathered)| !gathered.is_stale(now));
        earlier
    }
}

impl Decision {
    /// Returns the evidence of the decision, for the next one.
    pub(super) fn evidence(&self) -> EarlierEvidence {
        EarlierEvidence {
            gathered: Some((self.claims.clone(), self.grounds.gathered)),
            mentioning: self.grounds.mentioning.clone(),
            placed: self.grounds.placed.clone(),
            budget: self.grounds.budget.clone(),
        }
    }
}

impl EarlierEvidence {
    /// Adopts the evidence of a later decision. Earlier findings remain.
    fn update(&mut self, later: Self) {
        (self.gathered, self.budget) = (later.gathered, later.budget);
        self.mentioning.extend(later.mentioning);
        self.placed.merge(later.placed);
    }
}

impl EnforcementResult {
    fn plus(mut self, other: Self) -> Self {
        self.applied.extend(other.applied);
        self.deleted.extend(other.deleted);
        self.failed_sources.extend(other.failed_sources);
        self.is_refused |= other.is_refused;
        self.lacks_evidence |= other.lacks_evidence;
        self.is_refused_by_clock |= other.is_refused_by_clock;
        self.add_registries(other.registries);
        self
    }

    /// Adds the sources that failed for a part and had not failed when the plan was made.
    fn add_failed_sources(&mut self, plan: &PlanDocument, decision: &Decision) {
        for source in &decision.claims.sources {
            let name = source.name.as_str();
            let answered = || plan.sources.iter().any(|then| then.name == name && then.state == "answered");
            if let SourceState::Failed { message, .. } = &source.state
                && answered()
            {
                let words = format!("source {name} failed while the run removed: {message}");
                self.failed_sources.push(report::source_failed(name, &words));
            }
        }
    }

    /// Marks a run as refused if refusals kept it from removing.
    pub(super) fn refuse(&self, result: &mut RunResult) {
        if self.is_refused {
            result.outcome = result.outcome.min(RunOutcome::Refused);
        }
        if self.is_refused_by_clock && result.outcome != RunOutcome::Interrupted {
            result.outcome = RunOutcome::Refused;
        }
    }

    /// Keeps the first view of each registry: the bytes that it stored before any removal.
    fn add_registries(&mut self, registries: Vec<RegistryView>) {
        for registry in registries {
            if !self.registries.iter().any(|known| known.name == registry.name) {
                self.registries.push(registry);
            }
        }
    }
}

/// The state shared by the parts of a plan.
struct SharedState {
    evidence: Mutex<EarlierEvidence>,
    limits: LimitCounts,
    /// True if anything may have been removed.
    has_begun: AtomicBool,
}

impl PlannedRemovals<'_> {
    /// Returns true if a removal is neither made nor journaled: it is only reported, or an unfinished run of the same
    /// plan made it.
    fn leaves_out(&self, view: &RemovalView) -> bool {
        self.unenforced == Unenforced::LeftOut
            && (!admission::is_enforced(self.document, view) || self.earlier.contains_key(&view.name()))
    }

    /// Returns the removals of a part.
    fn removals_of(&self, part: &Part) -> Result<PartRemovals<'_>, RunError> {
        let mut removals = PartRemovals::of(self.document);
        for position in part.removals.iter().flat_map(Clone::clone) {
            let view = self.document.removals.get(position).ok_or_else(unreadable_plan)?;
            if !self.leaves_out(&view) {
                removals.push(position, &view)?;
            }
        }
        Ok(removals)
    }
}

/// Splits the plan into parts for each registry. A repository is never divided.
fn parts(planned: &PlannedRemovals<'_>) -> Result<BTreeMap<RegistryName, Vec<Part>>, RunError> {
    let PlannedRemovals { document, unenforced, tag_counts, .. } = planned;
    let unenforced = *unenforced;
    let mut places: BTreeMap<(RegistryName, RepositoryName), Vec<Range<usize>>> = BTreeMap::new();
    let mut last: Option<(String, String)> = None;
    for position in 0..document.removals.len() {
        let view = document.removals.get(position).ok_or_else(unreadable_plan)?;
        if planned.leaves_out(&view) {
            continue;
        }
        let place = || view.registry.parse().ok().zip(view.repository.parse().ok());
        let invalid = || RunError::from(Refused::InvalidImage { name: view.name() });
        let same = last
            .as_ref()
            .is_some_and(|(registry, repository)| (registry, repository) == (&view.registry, &view.repository));
        let ranges = places.entry(place().ok_or_else(invalid)?).or_default();
        match ranges.last_mut().filter(|range| same && range.end == position) {
            Some(range) => range.end += 1,
            None => ranges.push(position..position + 1),
        }
        last = Some((view.registry.clone(), view.repository.clone()));
    }
    for view in document.deletions.deletable() {
        if unenforced == Unenforced::Journaled || view.enforce && view.refused.is_none() {
            places.entry(manifest_cleanup::deletion_place(view)?).or_default();
        }
    }
    let mut parts_by_registry: BTreeMap<RegistryName, Vec<Part>> = BTreeMap::new();
    for ((registry, repository), ranges) in places {
        let place = (registry, repository);
        let tags = tag_counts.get(&place).copied().unwrap_or_default();
        let (registry, repository) = place;
        let parts = parts_by_registry.entry(registry).or_default();
        let is_full = |part: &Part| {
            let removals: usize = part.removals.iter().map(ExactSizeIterator::len).sum();
            part.repositories.len() >= MAX_REPOSITORIES || removals >= MIN_REMOVALS || part.tags + tags > MIN_TAGS
        };
        if parts.last().is_none_or(is_full) {
            parts.push(Part::default());
        }
        if let Some(part) = parts.last_mut() {
            part.repositories.insert(repository);
            part.tags += tags;
            part.removals.extend(ranges);
        }
    }
    Ok(parts_by_registry)
}

/// Journals the skip of a whole part.
async fn skip_part(
    context: &ApplyContext,
    (removals, deletions): (&PartRemovals<'_>, &[&DeletionView]),
    skip: &SkipReason,
    found: &mut EnforcementResult,
) -> Result<(), RunError> {
    let document = removals.document();
    let mut skipped = Vec::new();
    for planned in removals.iter() {
        let (view, removal) = planned?;
        let task = RemovalTask { removal: Arc::clone(removal), evidence: intersection::journal_evidence(&view) };
        skipped.push((task, intersection::planned_skip(document, &view).unwrap_or_else(|| skip.clone())));
    }
    let deletions: Vec<(DeletionTask, SkipReason)> = deletions
        .iter()
        .filter_map(|view| {
            let planned = manifest_cleanup::planned_skip(view);
            Some((manifest_cleanup::task_from_view(view)?, planned.unwrap_or_else(|| skip.clone())))
        })
        .collect();
    found.deleted.extend(apply::journal_skipped_deletions(context, deletions).await?);
    found.applied.extend(apply::journal_skipped_removals(context, skipped).await?);
    Ok(())
}

fn name(removal: &Removal) -> (&RegistryName, &RepositoryName, &crate::domain::TagName) {
    (&removal.registry, &removal.repository, &removal.tag)
}

#[cfg(test)]
mod tests {
    use super::super::intersection::tests::decided;
    use super::*;

    /// A plan with these numbers of removals, one for each repository.
    fn plan(removals: &[usize]) -> PlanDocument {
        let mut plan = decided(|_| ()).document;
        let view = plan.removals.get(0).unwrap().into_owned();
        let of_repository = |(number, count): (usize, &usize)| {
            let view = RemovalView { repository: format!("app-{number:02}"), ..view.clone() };
            (0..*count).map(move |tag| RemovalView { tag: format!("v{tag}"), ..view.clone() })
        };
        plan.removals = removals.iter().enumerate().flat_map(of_repository).collect();
        plan
    }

    fn tag_counts(tags: &[u64]) -> BTreeMap<(RegistryName, RepositoryName), u64> {
        let place = |number| ("contoso".parse().unwrap(), format!("app-{number:02}").parse().unwrap());
        tags.iter().enumerate().map(|(number, tags)| (place(number), *tags)).collect()
    }

    #[test]
    fn a_part_ends_after_enough_repositories_removals_or_tags() {
        for (removals, tags, expected) in [
            (&[1; 16][..], &[1; 16][..], &[16][..]),
            (&[1; 17], &[1; 17], &[16, 1]),
            (&[4999, 1, 1], &[4999, 1, 1], &[2, 1]),
            (&[1, 1, 1], &[150_000, 50_000, 1], &[2, 1]),
            (&[1, 1, 1], &[1, 300_000, 1], &[1, 1, 1]),
        ] {
            let document = plan(removals);
            let planned = PlannedRemovals {
                document: &document,
                earlier: BTreeMap::new(),
                policies: PolicyFilter::All,
                unenforced: Unenforced::LeftOut,
                tag_counts: tag_counts(tags),
                earlier_evidence: EarlierEvidence::default(),
            };
            let parts = parts(&planned).unwrap();
            let found: Vec<usize> = parts.values().flatten().map(|part| part.repositories.len()).collect();
            assert_eq!(found, expected, "{removals:?} {tags:?}");
            let of_parts: Vec<_> = parts.values().flatten().map(|part| planned.removals_of(part).unwrap()).collect();
            let again = of_parts.iter().flat_map(PartRemovals::iter).map(|found| found.unwrap().0);
            assert!(again.eq(document.removals.iter()));
        }
    }
}
