//! One complete run: the policies that may remove in it, and the windows and freezes that block it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tracing::field::Empty;
use uuid::Uuid;

use super::clock::{ClockWatch, refuse_if_clock_changed};
use super::decision::DecideOptions;
use super::enforcement::{EnforcementResult, PlannedRemovals, Unenforced};
use super::heartbeat::Phase;
use super::run_record::report_unrecorded;
use super::{
    App, Approval, Decision, Narrowing, PlanIssues, Purpose, RunError, RunOutcome, RunResult, admission, run_result,
};
use crate::apply::{self, Deadline};
use crate::config::Mode;
use crate::domain::{PolicyMode, PolicyName, Rules};
use crate::registry::Progress;
use crate::report::{RemovalView, SpooledPlan};
use crate::state::{Lease, PruneCounts, RetentionCutoffs, RunContext, RunKind, StateError};

/// The options of a run.
#[derive(Debug, Default)]
pub struct RunOptions {
    /// The policies that may remove.
    pub policies: PolicyFilter,
    /// The reason that a person gave to override windows and freezes.
    pub override_reason: Option<String>,
    /// The lease, if already acquired.
    pub lease: Option<Lease>,
    /// True to prune records of images that no longer exist, too.
    pub prune: bool,
    /// What the run's plan is narrowed to.
    pub narrowing: Narrowing,
    /// The unfinished run whose plan it is to go on with, if that has one.
    pub continues: Option<Uuid>,
    /// Why it may not remove, besides the mode, windows and freezes.
    pub blocked_by: Option<String>,
}

/// The policies that may remove in a run. All of them are evaluated in every run, and always keep what they keep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PolicyFilter {
    /// All.
    #[default]
    All,
    /// Only these: a tag that another policy also expires waits for that policy's schedule.
    Only(BTreeSet<PolicyName>),
}

impl PolicyFilter {
    fn includes(&self, policy: &PolicyName) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(policy),
        }
    }

    /// Returns the names, unless they are all.
    #[must_use]
    pub fn names(&self) -> Option<String> {
        match self {
            Self::All => None,
            Self::Only(names) => Some(names.iter().map(PolicyName::as_str).collect::<Vec<_>>().join(", ")),
        }
    }

    /// Returns the rules with every other policy switched to dry run, so that neither its removals nor its limits
    /// count.
    pub(super) fn restrict(&self, mut rules: Rules) -> Rules {
        for policy in &mut rules.policies {
            if !self.includes(&policy.name) {
                policy.mode = PolicyMode::DryRun;
            }
        }
        rules
    }
}

impl App {
    /// Runs all policies once; removes only if settings and policies both say `enforce`.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn run(&self, progress: &dyn Progress) -> Result<RunResult, RunError> {
        self.run_with(RunOptions::default(), progress).await
    }

    /// Runs the policies of the options once. Removals that a window or a freeze blocks are only reported.
    ///
    /// # Errors
    /// See [`RunError`].
    #[tracing::instrument(name = "run", skip_all, fields(run = Empty, outcome = Empty, error = Empty, otel.status_code = Empty))]
    pub async fn run_with(&self, turn: RunOptions, progress: &dyn Progress) -> Result<RunResult, RunError> {
        if let Some(unfinished) = self.find_unfinished_plan(&turn).await? {
            return Box::pin(self.finish_plan(turn, unfinished, progress)).await;
        }
        let RunOptions { policies: due, override_reason: despite, lease, prune: tidy, narrowing, blocked_by, .. } =
            turn;
        let blocked_by = blocked_by.or_else(|| self.blocked_by(despite.as_deref()));
        let run_context = RunContext {
            enforced_policies: due.names(),
            blocked_by: blocked_by.clone(),
            override_reason: despite,
            ..self.policy_context()
        };
        let run = self.begin_run(RunKind::Run, &Approval::default(), &run_context).await?;
        let _beat = self.start_heartbeat(Some(run));
        let enforce = self.settings.mode == Mode::Enforce && blocked_by.is_none();
        let walked = async {
            let lease = match lease {
                None if enforce => Some(self.lease("run").await?),
                lease => lease,
            };
            let _dry = (!enforce).then(|| self.begin_dry_run());
            let requests = self.stop_requests(enforce);
            let decide = async {
                let token = if let Some(lease) = &lease {
                    Some(self.recover(lease, run).await?)
                } else {
                    self.unless_lost(self.recover_if_unleased()).await?;
                    None
                };
                let purpose = if enforce { Purpose::Enforce } else { Purpose::Report };
                let options = DecideOptions {
                    policies: due.clone(),
                    purpose,
                    find_unused_cache: tidy,
                    narrowing,
                    blocked_by: blocked_by.clone(),
                    ..DecideOptions::default()
                };
                let decided = self.decide_with(options, progress).await?;
                Ok::<_, RunError>((decided, token.filter(|_| enforce)))
            };
            let (decision, token) = requests.with_requester(self.until_signal(requests.stop.clone(), decide).await)?;
            match self.record_plan(run, &decision).await {
                recorded if enforce => recorded?,
                recorded => report_unrecorded(run, recorded)?,
            }
            let watch = self.clock_watch(decision.clock.start);
            let mut done = EnforcementResult::default();
            if let Some(token) = token {
                self.journal_externally_deleted(&token, run, &decision.externally_deleted).await?;
                let enforced = admission::count_enforced(&decision.document);
                if enforced > 0 {
                    let mut context = self.apply_context(run, token);
                    context.deadline = self.removal_deadline(run_context.override_reason.as_deref());
                    context.stop = requests.stop.clone();
                    self.heartbeat.start_tasks(Phase::Removing, enforced);
                    context.retry_refused = apply::RetryRefused::WhenDue;
                    context.clock_guard = watch.as_ref().map(ClockWatch::guard);
                    let planned = PlannedRemovals {
                        document: &decision.document,
                        earlier: BTreeMap::new(),
                        policies: due.clone(),
                        unenforced: Unenforced::LeftOut,
                        tag_counts: decision.spool.as_ref().map(SpooledPlan::tag_counts).unwrap_or_default(),
                        earlier_evidence: decision.evidence(),
                    };
                    done = self.enforce(&context, planned, &requests, progress).await?;
                }
            }
            let aftermath = self.storage_changes(&decision.document.registries, &done.applied).await;
            let tidy = tidy && !self.has_lost_state();
            let forgotten = if tidy { self.prune_state(&decision).await } else { None };
            let pending_schedule = self.count_pending_schedule(&decision);
            let (applied, deleted) = (std::mem::take(&mut done.applied), std::mem::take(&mut done.deleted));
            let issues = PlanIssues::of_enforcement(&decision);
            let result = run_result(run, decision.document, applied, deleted, issues);
            let mut result = RunResult {
                storage_changes: aftermath,
                missing_manifests: self.unless_lost(self.store.count_missing_manifests(run)).await?.unwrap_or_default(),
                context: run_context,
                pending_schedule,
                forgotten,
                failed_sources: std::mem::take(&mut done.failed_sources),
                ..result
            };
            if result.outcome == RunOutcome::Done && (done.lacks_evidence || !result.failed_sources.is_empty()) {
                result.outcome = RunOutcome::EvidenceMissing;
            }
            done.refuse(&mut result);
            let result = refuse_if_clock_changed(result, watch.as_ref());
            Ok(self.with_interrupter(&requests, result).await)
        };
        let walked = Box::pin(walked).await;
        if enforce { self.finish_run(run, walked).await } else { self.finish_dry_run(run, walked).await }
    }

    /// Returns the window or freeze that blocks removals now; `None` if there is none, or the settings do not enforce.
    pub(super) fn blocked_by(&self, despite: Option<&str>) -> Option<String> {
        let removes = self.settings.mode == Mode::Enforce && despite.is_none();
        self.settings.schedule.blocked_by(self.now()).filter(|_| removes).map(|block| block.to_string())
    }

    /// The window or freeze that would hold back removals that begin now, in words, by a run or an approved plan; `None` in
    /// mode `dry-run`.
    pub(super) fn removal_block(&self, override_reason: Option<&str>) -> Option<String> {
        let removes = self.settings.mode != Mode::DryRun && override_reason.is_none();
        self.settings.schedule.blocked_by(self.now()).filter(|_| removes).map(|block| block.to_string())
    }

    /// When no further removal may begin.
    pub(super) fn removal_deadline(&self, despite: Option<&str>) -> Option<Deadline> {
        let (at, block) = self.settings.schedule.next_block(self.now()).filter(|_| despite.is_none())?;
        Some(Deadline { at, reason: block.to_string() })
    }

    /// Returns the policies in force, for the record.
    pub(super) fn policy_context(&self) -> RunContext {
        let (revision, commit) = (Some(self.policies.revision()), self.policies.commit.clone());
        RunContext { revision, commit, ..RunContext::default() }
    }

    /// Returns the number of removals that only wait for the schedule of an enforcing policy.
    fn count_pending_schedule(&self, decision: &Decision) -> u64 {
        let enforcing = self.policies.policies.iter().filter(|policy| policy.mode == PolicyMode::Enforce);
        let enforcing: BTreeSet<&str> = enforcing.map(|policy| policy.name.as_str()).collect();
        let waits = |removal: &RemovalView| {
            let mut policies = removal.policies().chain([removal.policy.as_str()]);
            !removal.enforce && policies.all(|policy| enforcing.contains(policy))
        };
        if decision.document.narrowed.is_some() {
            // They wait for a run that is not narrowed.
            return 0;
        }
        decision.document.removals.groups().filter(|(removal, _)| waits(removal)).map(|(_, count)| count).sum()
    }

    /// Prunes records that are old enough, by a time that a registry confirms. A failure is retried another day.
    async fn prune_state(&self, decision: &Decision) -> Option<PruneCounts> {
        if !decision.clock.is_confirmed() || self.clock_was_set(&decision.clock) {
            tracing::warn!("nothing is forgotten: no registry confirms this machine's clock, or one contradicts it");
            return None;
        }
        let forgotten = self.delete_expired_records(decision).await;
        let failed = |error: &StateError| {
            tracing::warn!(error = %error.chain(), kind = error.kind.label(), "the state could not be tidied up");
        };
        let forgotten = forgotten.inspect_err(failed).ok()?;
        if forgotten != PruneCounts::default() {
            let PruneCounts { runs, plans, entries, manifests } = forgotten;
            tracing::info!(runs, plans, entries, manifests, "forgot what was kept for long enough");
        }
        Some(forgotten)
    }

    async fn delete_expired_records(&self, decision: &Decision) -> Result<PruneCounts, StateError> {
        let now = decision.clock.start.wall;
        let before = |keep: Duration| now.checked_sub(keep).unwrap_or(Timestamp::MIN);
        let records = self.settings.records;
        if let Some(unused) = &decision.unused_cache {
            self.store.collect_garbage(unused, &decision.heads, now, before(records.keep)).await?;
        }
        // Records within the undo window are kept whatever the settings say.
        let runs = before(records.keep.max(self.settings.undo_window));
        self.store.prune(RetentionCutoffs { runs, plans: before(records.plans) }).await
    }

    /// Runs work that only reads until it completes or a stop is requested.
    pub(super) async fn until_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, RunError>>,
    ) -> Result<T, RunError> {
        self.until_signal(self.stop.clone(), work).await
    }

    /// Runs such work with another stop signal.
    pub(super) async fn until_signal<T>(
        &self,
        mut stop: tokio::sync::watch::Receiver<bool>,
        work: impl Future<Output = Result<T, RunError>>,
    ) -> Result<T, RunError> {
        let stopped = async move {
            // The sender is gone, so no stop can be requested.
            if stop.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            done = work => done,
            () = stopped => Err(RunError::Interrupted),
        }
    }

    /// Resolves what an interrupted run left open, unless another process is doing so.
    ///
    /// # Errors
    /// Returns an error if the state cannot be read or written.
    pub async fn recover_interrupted(&self) -> Result<(), RunError> {
        self.until_stopped(self.recover_if_unleased()).await
    }
}
