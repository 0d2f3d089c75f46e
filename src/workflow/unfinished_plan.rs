//! A run that goes on with the plan of one that was not finished: its daemon died, or gave up the schedule.
//!
//! What is left of the plan is removed as far as it still follows, and nothing else. So however often daemons die, they
//! remove together what one run may.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::clock::{ClockWatch, refuse_if_clock_changed};
use super::decision::EarlierEvidence;
use super::enforcement::{PlannedRemovals, Unenforced};
use super::heartbeat::Phase;
use super::result::{PlanIssues, run_result};
use super::{App, Approval, RunError, RunOptions, RunOutcome, RunResult, admission, manifest_cleanup, was_removed};
use crate::apply;
use crate::config::Mode;
use crate::domain::chain;
use crate::registry::Progress;
use crate::report::{self, PlanDocument, PlanLoadError};
use crate::state::{RunContext, RunKind};

/// Most runs in a row that died over one plan.
const MAX_RUNS: usize = 1000;

/// A plan that was not carried out in full.
pub(super) struct UnfinishedPlan {
    document: PlanDocument,
    /// The runs that removed by it, the last one first.
    runs: Vec<Uuid>,
}

impl App {
    /// Returns the plan with which a run is to go on; `None` if it decides anew: it does not remove, the run that died
    /// had no plan yet or did not remove, or its plan expired.
    pub(super) async fn find_unfinished_plan(&self, options: &RunOptions) -> Result<Option<UnfinishedPlan>, RunError> {
        let removes = self.settings.mode == Mode::Enforce
            && options.blocked_by.is_none()
            && self.blocked_by(options.override_reason.as_deref()).is_none();
        let Some(mut run) = options.continues.filter(|_| removes) else { return Ok(None) };
        let (mut document, mut runs) = (None, Vec::new());
        while runs.len() < MAX_RUNS && !runs.contains(&run) {
            let context = self.store.run_context(run).await?;
            let was_enforced = context.blocked_by.is_none()
                && self
                    .store
                    .run(&run.to_string())
                    .await?
                    .is_some_and(|record| record.run.mode == Mode::Enforce.label());
            if !was_enforced {
                break;
            }
            runs.push(run);
            // All of them have the same plan, but one that died early has no copy.
            if document.is_none() {
                document = match report::load_plan(&self.store, run).await {
                    Err(PlanLoadError::State(error)) => return Err(error.into()),
                    Err(error @ PlanLoadError::Unreadable { .. }) => {
                        tracing::warn!("the plan of an unfinished run is not used: {}", chain(&error));
                        return Ok(None);
                    }
                    Ok(found) => found,
                };
            }
            match context.continues {
                Some(before) => run = before,
                None => break,
            }
        }
        let usable = |document: &PlanDocument| {
            let now = self.now();
            document.mode == Mode::Enforce.label() && !document.hypothetical && now < document.expires_at
        };
        Ok(document.filter(usable).map(|document| UnfinishedPlan { document, runs }))
    }

    /// Removes what is left of the plan of an unfinished run.
    pub(super) async fn finish_plan(
        &self,
        options: RunOptions,
        unfinished: UnfinishedPlan,
        progress: &dyn Progress,
    ) -> Result<RunResult, RunError> {
        let RunOptions { policies: due, override_reason, lease, continues, .. } = options;
        let run_context =
            RunContext { enforced_policies: due.names(), override_reason, continues, ..self.policy_context() };
        let run = self.begin_run(RunKind::Run, &Approval::default(), &run_context).await?;
        let _beat = self.start_heartbeat(Some(run));
        let walked = async {
            let UnfinishedPlan { document, runs } = unfinished;
            tracing::warn!(%run, "it goes on with the plan of run {}, which was not finished", runs[0]);
            let lease = match lease {
                None => self.lease("run").await?,
                Some(lease) => lease,
            };
            let requests = self.stop_requests(true);
            let recover = self.until_signal(requests.stop.clone(), self.recover(&lease, run));
            let token = requests.with_requester(recover.await)?;
            self.save_plan(run, &document, None).await?;
            admission::enforce_limits(&document, &self.rules())?;
            manifest_cleanup::enforce_limit(&document, &self.rules())?;
            let start = self.read_clocks();
            let mut context = self.apply_context(run, token);
            context.deadline = self.removal_deadline(run_context.override_reason.as_deref());
            context.stop = requests.stop.clone();
            context.retry_refused = apply::RetryRefused::WhenDue;
            let watch = self.clock_watch(start);
            context.clock_guard = watch.as_ref().map(ClockWatch::guard);
            let earlier = self.removed_by(&runs).await?;
            let left = admission::count_enforced(&document).saturating_sub(earlier.len() as u64);
            self.heartbeat.start_tasks(Phase::Removing, left);
            let planned = PlannedRemovals {
                document: &document,
                earlier,
                policies: due.clone(),
                unenforced: Unenforced::LeftOut,
                tag_counts: admission::tag_counts(&document),
                earlier_evidence: EarlierEvidence::default(),
            };
            let mut done = self.enforce(&context, planned, &requests, progress).await?;
            let storage_changes = self.storage_changes(&done.registries, &done.applied).await;
            let (applied, deleted) = (std::mem::take(&mut done.applied), std::mem::take(&mut done.deleted));
            let issues = PlanIssues::of_approved(&document);
            let mut result = RunResult {
                storage_changes,
                missing_manifests: self.store.count_missing_manifests(run).await?,
                context: run_context,
                failed_sources: std::mem::take(&mut done.failed_sources),
                ..run_result(run, document, applied, deleted, issues)
            };
            if result.outcome == RunOutcome::Done && (done.lacks_evidence || !result.failed_sources.is_empty()) {
                result.outcome = RunOutcome::EvidenceMissing;
            }
            done.refuse(&mut result);
            let result = refuse_if_clock_changed(result, watch.as_ref());
            Ok(self.with_interrupter(&requests, result).await)
        };
        self.finish_run(run, Box::pin(walked).await).await
    }

    /// Returns the completed removals of some runs, by name and with the run.
    async fn removed_by(&self, runs: &[Uuid]) -> Result<BTreeMap<String, Uuid>, RunError> {
        let mut removed = BTreeMap::new();
        for run in runs {
            for entry in self.store.journal(*run).await?.iter().filter(|entry| was_removed(entry)) {
                removed.insert(entry.intent.name(), *run);
            }
        }
        Ok(removed)
    }
}
