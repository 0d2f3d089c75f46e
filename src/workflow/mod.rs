//! The whole walk, from settings to report: this file alone knows the order of it.
//!
//! [`App::open`] gets ready, [`App::decide`] reads and decides, [`App::plan`], [`App::run`] and [`App::apply`]
//! are what the commands do with that, [`App::restore_run`] takes it back. All of them leave an audit record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use crate::apply::{self, Clock, DeletionResult, RemovalResult};
use crate::config::{Mode, Settings};
use crate::domain::{
    Action, Claims, CoverageBasis, Inventory, Outcome, Plan, RegistryName, RepositoryName, Rules, UntaggedManifest,
};
use crate::engine::{self, Verdicts};
use crate::policy::PolicySet;
use crate::registry::{self, CollectScope, Progress, RegistryReader, RetryPolicy};
use crate::report::{self, AttentionView, Basis, PlanDocument};
use crate::state::{JournalEntry, Lease, NewRun, PruneCounts, RunContext, RunEnd, RunKind, StateErrorKind, StateStore};

mod ability;
mod admission;
mod apply_context;
mod approvals_folder;
mod audit;
mod catalogue_check;
mod clock;
mod config_files;
mod diff;
mod drift;
mod enforce;
mod evidence;
mod evidence_refresh;
mod explain;
mod heartbeat;
mod history;
mod holds;
mod image_configurations;
mod interruption;
mod inventory_file;
mod lint;
mod lookup;
mod manifest_cleanup;
mod outcome;
mod policy_tests;
mod registries;
mod removal_size;
mod restore;
mod result;
mod signature;
mod storage_change;

use ability::Purpose;
pub use audit::RegistryCounts;
pub use catalogue_check::describe_repository_count;
pub use clock::{ClockCheck, MonotonicClock};
pub use config_files::{ConfigFiles, load};
pub use diff::DecisionInput;
pub use enforce::{PolicyFilter, RunOptions};
use evidence::Recording;
use evidence_refresh::{GatherTime, ReevaluationInput};
pub use explain::PastRun;
pub use heartbeat::LOG_TARGET as PROGRESS;
pub use holds::{HoldRequest, HoldResult, HoldUntil};
pub use interruption::StopResult;
pub use lint::{lint_with_last_plan, lint_with_plan};
pub use lookup::TagRef;
pub use outcome::{RestoreRunResult, RunError, RunOutcome};
pub use policy_tests::test_policies;
pub use registries::ProbeResult;
pub use restore::{RestoreCandidate, RestoreSelection};
use result::{CountedRefusals, run_result};
pub use signature::find_signature_file;
pub use storage_change::StorageChange;

/// Everything that a run needs, ready.
pub struct App {
    /// The settings.
    pub settings: Settings,
    /// The policies.
    pub policies: PolicySet,
    /// The state.
    pub store: StateStore,
    /// Who runs it: `user@host`.
    pub by: String,
    /// The time.
    pub clock: Clock,
    /// Becomes true when no further removal may begin.
    pub stop: watch::Receiver<bool>,
    /// How long `restore` and `hold` wait for a running enforcement to stop.
    pub stop_timeout: Duration,
    readers: BTreeMap<RegistryName, Arc<dyn RegistryReader>>,
    retry_policy: RetryPolicy,
    removal_retry_policy: apply::RemovalRetryPolicy,
    monotonic_clock: Option<MonotonicClock>,
    config_files: Option<ConfigFiles>,
    request_counter: Mutex<audit::RequestCounter>,
    heartbeat: Arc<heartbeat::Heartbeat>,
}

/// What was read and decided for one time.
#[derive(Debug)]
pub struct Decision {
    /// What the registries hold.
    pub inventory: Arc<Inventory>,
    /// What the sources say.
    pub claims: Claims,
    /// The verdict on every tag.
    pub verdicts: Arc<Verdicts>,
    /// What follows.
    pub plan: Arc<Plan>,
    /// Manifests that Tagwarden untagged and somebody else deleted since.
    pub externally_deleted: Vec<UntaggedManifest>,
    /// Whether the time can be trusted by which it was decided.
    pub clock: ClockCheck,
    /// All of it as people and scripts read it.
    pub document: PlanDocument,
}

/// A run that ended, and what it did.
#[derive(Debug)]
pub struct RunResult {
    /// The run's id.
    pub run: Uuid,
    /// The plan that it made or applied.
    pub document: PlanDocument,
    /// What was done or skipped; empty for a dry run.
    pub applied: Vec<RemovalResult>,
    /// What was deleted of what was untagged before, or not; empty for a dry run.
    pub deleted: Vec<DeletionResult>,
    /// The registries from which something was removed.
    pub storage_changes: Vec<StorageChange>,
    /// What it found and asked for, by registry.
    pub by_registry: BTreeMap<String, RegistryCounts>,
    /// What it went by besides its settings.
    pub context: RunContext,
    /// How many removals wait for the turn of a policy with a schedule of its own.
    pub pending_schedule: u64,
    /// What was forgotten of old runs; `None` where that was not asked for or not possible.
    pub forgotten: Option<PruneCounts>,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Who interrupted it, where it was not a signal to its process.
    pub interrupted_by: Option<String>,
    /// The sources that failed while it removed.
    pub failed_sources: Vec<AttentionView>,
}

impl RunResult {
    /// What came of everything that was to be removed or deleted.
    pub fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.applied.iter().map(|one| &one.outcome).chain(self.deleted.iter().map(|one| &one.outcome))
    }
}

/// Who approved what, for the audit record.
#[derive(Debug, Clone, Default)]
pub struct Approval {
    /// Who.
    pub approved_by: Option<String>,
    /// In which change ticket.
    pub ticket: Option<String>,
    /// Why it is applied in spite of a window or a freeze.
    pub override_reason: Option<String>,
    /// The text of a signature of the plan's file, by minisign or SSH.
    pub signature: Option<String>,
}

impl Approval {
    /// The same with the name of whoever signed, which counts more than what was said.
    fn with_signer(&self, signer: &Result<Option<String>, RunError>) -> Self {
        let mut approval = self.clone();
        if let Ok(Some(signer)) = signer {
            approval.approved_by = Some(match &self.approved_by {
                Some(said) if said != signer => format!("{said} (signed by {signer})"),
                _ => signer.clone(),
            });
        }
        approval
    }
}

impl App {
    /// Opens the state and makes the registries' readers. Reaches no registry yet.
    ///
    /// # Errors
    /// When the state cannot be opened or a registry's settings cannot work.
    pub async fn open(
        (settings, policies): (Settings, PolicySet),
        by: String,
        clock: Clock,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, RunError> {
        Self::open_with((settings, policies), by, clock, stop, RetryPolicy::default()).await
    }

    /// The same, with another patience for registries that fail.
    ///
    /// # Errors
    /// As [`App::open`].
    pub async fn open_with(
        (settings, policies): (Settings, PolicySet),
        by: String,
        clock: Clock,
        stop: watch::Receiver<bool>,
        patience: RetryPolicy,
    ) -> Result<Self, RunError> {
        let store = StateStore::open(&settings.state).await?;
        Self::with_store((settings, policies), store, by, clock, stop, patience)
    }

    /// The same with a state that is open already.
    ///
    /// # Errors
    /// When a registry's settings cannot work.
    pub fn with_store(
        (settings, policies): (Settings, PolicySet),
        store: StateStore,
        by: String,
        clock: Clock,
        stop: watch::Receiver<bool>,
        patience: RetryPolicy,
    ) -> Result<Self, RunError> {
        let mut readers = BTreeMap::new();
        for settings in &settings.registries {
            readers.insert(settings.name.clone(), registry::reader(settings.clone(), patience)?);
        }
        Ok(Self {
            settings,
            policies,
            store,
            by,
            clock,
            stop,
            stop_timeout: interruption::STOP_TIMEOUT,
            readers,
            retry_policy: patience,
            removal_retry_policy: patience.into(),
            monotonic_clock: None,
            config_files: None,
            request_counter: Mutex::default(),
            heartbeat: Arc::default(),
        })
    }

    /// The same, with another way to wait for a registry while removing.
    #[must_use]
    pub fn with_removal_retry_policy(self, waiting: apply::RemovalRetryPolicy) -> Self {
        Self { removal_retry_policy: waiting, ..self }
    }

    /// Closes the state.
    pub async fn close(self) {
        self.store.close().await;
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn rules(&self) -> Rules {
        Rules {
            policies: self.policies.policies.clone(),
            limits: self.settings.limits,
            timezone: self.settings.schedule.timezone.clone(),
            undo_window: self.settings.undo_window,
        }
    }

    /// Settles what an interrupted run left open, by looking at the registries. Only under the lease: what another
    /// process has open is in flight, not interrupted.
    async fn recover(&self, _lease: &Lease) -> Result<(), RunError> {
        apply::recover(&self.store, &self.readers, self.now()).await?;
        Ok(())
    }

    /// The same, for whoever holds no lease: if another process holds it, that one settles.
    async fn recover_if_unleased(&self) -> Result<(), RunError> {
        if self.store.pending_entries().await?.is_empty() {
            return Ok(());
        }
        match self.lease("settling") {
            Ok(lease) => self.recover(&lease).await,
            Err(RunError::Store(error)) if error.kind == StateErrorKind::Leased => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads registries and sources and decides. `at` is another time than now to decide for.
    ///
    /// # Errors
    /// When the state could not be written, or our own check finds fault with the plan.
    pub async fn decide(
        &self,
        scope: &CollectScope,
        at: Option<Timestamp>,
        progress: &dyn Progress,
    ) -> Result<Decision, RunError> {
        Ok(self.decide_filtered(scope, at, (&PolicyFilter::All, Purpose::Report), progress).await?.0)
    }

    /// The same where only some policies may remove, or where removals follow, with the grounds to decide again.
    async fn decide_filtered(
        &self,
        scope: &CollectScope,
        at: Option<Timestamp>,
        (due, purpose): (&PolicyFilter, Purpose),
        progress: &dyn Progress,
    ) -> Result<(Decision, ReevaluationInput), RunError> {
        // Once: everything is decided by this time, and nothing is compared with a later one.
        let start = self.read_clocks();
        let now = start.wall;
        let evaluated_at = at.unwrap_or(now);
        let rules = due.restrict(self.rules());
        let readers: Vec<_> = self.readers.values().cloned().collect();
        let considered = self.cleanup_candidates(scope, &rules, evaluated_at).await?;
        let _beat = self.start_heartbeat(None);
        self.heartbeat.start_reading(readers.iter().map(|reader| reader.settings().name.to_string()));
        let progress = heartbeat::ProgressTee { heartbeat: &self.heartbeat, progress };
        let mut inventory =
            registry::collect(&readers, scope, &considered.extra_manifests, &self.store, &progress).await;
        let read = self.check_clock(start, None, &mut inventory).await?;
        self.verify_catalogues(&mut inventory, scope, now).await?;
        self.record_observations(&mut inventory, scope, &read).await?;
        for registry in &mut inventory.registries {
            registry.refused_tags = self.store.refused_tags(&registry.endpoint).await?;
        }
        let whole = *scope == CollectScope::All && at.is_none() && read.doubt.is_none() && read.differing.is_empty();
        let remember = if whole { Recording::Enabled } else { Recording::Disabled };
        self.heartbeat.start_gathering(self.settings.sources.len());
        self.record_tags(&inventory, now, remember).await;
        let asked = self.read_clocks();
        let claims = self.gather((&inventory, considered.untagged()), (now, evaluated_at), remember).await?;
        let gathered = GatherTime::between(asked, self.read_clocks());
        self.heartbeat.enter_phase(heartbeat::Phase::Deciding);
        let verdicts = self.evaluate(&rules, &mut inventory, &claims, evaluated_at).await;
        let mut deletions = considered.decide(&rules, &inventory, &claims, evaluated_at);
        self.determine_abilities(&mut inventory, &verdicts, &deletions, purpose).await?;
        // Sources and abilities took their time, in which the clock may have been set.
        let clock = self.check_clock(start, read.doubt, &mut inventory).await?;
        Self::log_clock(&clock, &inventory);
        deletions.refusals = engine::refuse_deletions(&rules, &inventory, &deletions);
        let plan = Plan { deletions, ..engine::plan(&rules, &inventory, &verdicts, evaluated_at) };
        let basis =
            if *scope == CollectScope::All { CoverageBasis::FullInventory } else { CoverageBasis::LastFullPlan };
        let coverage = engine::rule_coverage(&rules, &inventory, self.store.rule_history().await?, basis);
        if remember == Recording::Enabled {
            self.store.record_rules(&coverage, now).await?;
        }
        let plan = engine::refuse_unmatched(&rules, &inventory, &verdicts, plan, coverage);
        let mut findings = engine::check(&rules, &inventory, &claims, &verdicts, &plan, evaluated_at);
        findings.extend(considered.check(&rules, &inventory, &claims, &plan.deletions, evaluated_at));
        if !findings.is_empty() {
            return Err(RunError::Check(findings));
        }
        let reclaim = Arc::new(engine::reclaim(&inventory, &claims, &verdicts, &plan));
        let (inventory, verdicts, plan) = (Arc::new(inventory), Arc::new(verdicts), Arc::new(plan));
        let whole = *scope == CollectScope::All;
        let findings = drift::find_drift(&self.readers, &inventory, &claims, &verdicts, whole).await;
        let document = report::document(&Basis {
            // As they are written: a policy that is not due is none that only tries.
            rules: &self.rules(),
            mode: self.settings.mode.label(),
            settings: &self.settings.revision,
            inventory: &inventory,
            claims: &claims,
            verdicts: &verdicts,
            plan: &plan,
            reclaim: &reclaim,
            drift: &findings,
            created_at: now,
            evaluated_at,
            hypothetical: at.is_some(),
            valid_for: self.settings.plan_ttl,
        });
        audit::log_warnings(&document);
        let collected =
            if *scope == CollectScope::All { considered.externally_deleted(&inventory) } else { Vec::new() };
        let decision = Decision { inventory, claims, verdicts, plan, externally_deleted: collected, clock, document };
        Ok((decision, ReevaluationInput { rules, candidates: considered, evaluated_at, gathered }))
    }

    /// One dry run.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn plan(&self, at: Option<Timestamp>, progress: &dyn Progress) -> Result<RunResult, RunError> {
        let run = self.begin_run(RunKind::Plan, &Approval::default(), &self.policy_context()).await?;
        let _beat = self.start_heartbeat(Some(run));
        let walked = async {
            self.recover_if_unleased().await?;
            let decision = self.decide(&CollectScope::All, at, progress).await?;
            self.record_confirmed_time(run, &decision).await?;
            self.save_plan(run, &decision.document).await?;
            Ok(run_result(run, decision.document, Vec::new(), Vec::new(), CountedRefusals::All))
        };
        self.finish_run(run, walked.await).await
    }

    /// Applies an approved plan, exactly or less.
    ///
    /// # Errors
    /// [`RunError::Refused`] when the plan may not be applied at all; see [`RunError`] for the rest.
    pub async fn apply(&self, text: &str, approval: &Approval, progress: &dyn Progress) -> Result<RunResult, RunError> {
        let signer = signature::verify_signer(&self.settings.approvals, text.as_bytes(), approval.signature.as_deref());
        let circumstances = RunContext { override_reason: approval.override_reason.clone(), ..self.policy_context() };
        let run = self.begin_run(RunKind::Apply, &approval.with_signer(&signer), &circumstances).await?;
        let _beat = self.start_heartbeat(Some(run));
        let walked = async {
            let approved = report::read_plan(text).map_err(|broken| RunError::Refused(broken.to_string()))?;
            signer?;
            admission::admit(&approved, &self.settings, &self.policies, self.now())?;
            admission::check_schedule(&self.settings, approval.override_reason.as_deref(), self.now())?;
            let removals = admission::approved_removals(&approved)?;
            let lease = self.lease("apply")?;
            let requests = self.stop_requests(true);
            self.until_stopped(self.recover(&lease)).await?;
            let earlier = self.removed_earlier(&approved.id).await?;
            self.save_plan(run, &approved).await?;
            let mut scope = admission::scope(&removals);
            manifest_cleanup::extend_scope(&approved, &mut scope)?;
            let decide = self.decide_filtered(&scope, None, (&PolicyFilter::All, Purpose::Enforce), progress);
            let (decision, grounds) =
                requests.with_requester(self.until_signal(requests.stop.clone(), decide).await)?;
            self.record_confirmed_time(run, &decision).await?;
            if let Some(doubt) = &decision.clock.doubt {
                return Err(RunError::Refused(report::describe_clock_doubt(doubt)));
            }
            let (orders, skipped) = admission::intersect(&approved, &removals, &decision, &earlier);
            admission::enforce_limits(&orders, &decision, &self.rules())?;
            let (deletions, not_deleted) = manifest_cleanup::intersect(&approved, &decision);
            manifest_cleanup::enforce_limit(&deletions, &self.rules())?;
            if !orders.is_empty() || !deletions.is_empty() {
                requests.with_requester(self.until_signal(requests.stop.clone(), self.verify_config_files()).await)?;
            }
            let lacks_rights = ability::any_skipped_for_rights(&decision.inventory, &skipped, &not_deleted);
            let mut hands = self.apply_context(run, &decision.inventory)?;
            hands.deadline = self.removal_deadline(approval.override_reason.as_deref());
            hands.stop = requests.stop.clone();
            self.heartbeat.start_tasks(heartbeat::Phase::Removing, orders.len() + deletions.len());
            let watch = self.clock_watch(&decision);
            hands.clock_guard = watch.as_ref().map(clock::ClockWatch::guard);
            let evidence = self.fresh_evidence(&decision, grounds);
            hands.evidence = Some(evidence.clone());
            let mut deleted = apply::journal_skipped_deletions(&hands, not_deleted).await?;
            deleted.extend(apply::delete(&hands, deletions).await?);
            let mut applied = apply::journal_skipped_removals(&hands, skipped).await?;
            applied.extend(apply::apply(&hands, orders, &decision.inventory).await?);
            applied.sort_by_cached_key(|applied| removal_name(&applied.removal));
            let aftermath = self.storage_changes(&decision, &applied).await;
            let evidence_missing = decision.document.evidence_missing();
            let by_clock = decision.document.is_refused_by_clock();
            let mut ended = RunResult {
                storage_changes: aftermath,
                context: circumstances,
                ..run_result(run, approved, applied, deleted, CountedRefusals::Complete)
            };
            if ended.outcome == RunOutcome::Done && evidence_missing {
                ended.outcome = RunOutcome::EvidenceMissing;
            }
            if lacks_rights {
                ended.outcome = ended.outcome.min(RunOutcome::Refused);
            }
            if by_clock && ended.outcome != RunOutcome::Interrupted {
                ended.outcome = RunOutcome::Refused;
            }
            let ended = evidence_refresh::with_failed_sources(ended, Some(&evidence));
            let ended = clock::refuse_if_clock_changed(ended, watch.as_ref());
            Ok(self.with_interrupter(&requests, ended).await)
        };
        self.finish_run(run, walked.await).await
    }

    /// Decides about one repository, to explain a tag of it.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn decide_repository(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        at: Option<Timestamp>,
    ) -> Result<Decision, RunError> {
        let only = BTreeMap::from([(registry.clone(), BTreeSet::from([repository.clone()]))]);
        self.decide(&CollectScope::Repositories(only), at, &()).await
    }

    /// Takes the right to change registries.
    ///
    /// # Errors
    /// When another process has it, or the state cannot be used.
    pub fn lease(&self, command: &str) -> Result<Lease, RunError> {
        let holder = format!("{command} by {}, process {}, since {}", self.by, std::process::id(), self.now());
        Ok(Lease::take(&self.settings.state, &holder)?)
    }

    /// What was removed by earlier applications of a plan, by name and with the run.
    async fn removed_earlier(&self, plan: &str) -> Result<BTreeMap<String, Uuid>, RunError> {
        let mut removed = BTreeMap::new();
        for record in self.store.runs_applying(plan).await? {
            admission::check_reapplication(plan, &record)?;
            for entry in self.store.journal(record.run.id).await?.iter().filter(|entry| was_removed(entry)) {
                removed.insert(entry.intent.name(), record.run.id);
            }
        }
        Ok(removed)
    }

    async fn begin_run(
        &self,
        kind: RunKind,
        approval: &Approval,
        circumstances: &RunContext,
    ) -> Result<Uuid, RunError> {
        let id = Uuid::now_v7();
        let run = NewRun {
            id,
            kind,
            mode: self.settings.mode.label().to_owned(),
            started_at: self.now(),
            started_by: self.by.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            approved_by: approval.approved_by.clone(),
            ticket: approval.ticket.clone(),
        };
        self.record_policies(circumstances).await?;
        self.store.begin_run_with_context(&run, circumstances).await?;
        self.store.warn_if_new(kind == RunKind::Apply || kind == RunKind::Run && self.settings.mode == Mode::Enforce);
        Ok(id)
    }

    async fn save_plan(&self, run: Uuid, document: &PlanDocument) -> Result<(), RunError> {
        let whole = document.clone();
        let write = move |out: &mut dyn std::io::Write| serde_json::to_writer(out, &whole).map_err(Into::into);
        Ok(self.store.save_plan_streaming(run, &document.id, write).await?)
    }

    /// Records how a run ended, whichever way it did.
    async fn finish_run(&self, run: Uuid, walked: Result<RunResult, RunError>) -> Result<RunResult, RunError> {
        match walked {
            Ok(mut ended) => {
                ended.by_registry = audit::counts_by_registry(&ended.document, &self.take_request_counts());
                let outcome = ended.outcome;
                tracing::info!("{}", audit::summary_line(&ended, self.settings.mode, self.policies.policies.len()));
                let why = ended.interrupted_by.as_ref().map(|by| format!("interrupted by {by}"));
                self.record_end(run, outcome.label(), outcome.exit_code(), audit::summary_json(&ended), why).await?;
                Ok(ended)
            }
            Err(error) => {
                let code = error.exit_code();
                let label = match &error {
                    RunError::Interrupted | RunError::InterruptedBy(_) => RunOutcome::Interrupted.label(),
                    _ if code == RunOutcome::Refused.exit_code() => RunOutcome::Refused.label(),
                    _ => "error",
                };
                let counts = self.failed_run_summary(run).await;
                // The failure itself is what the caller must hear of, also where the record cannot be written.
                if let Err(second) = self.record_end(run, label, code, counts, Some(error.to_string())).await {
                    tracing::error!(%run, error = %second, "the end of the run could not be recorded");
                }
                Err(error)
            }
        }
    }

    async fn record_end(
        &self,
        run: Uuid,
        outcome: &str,
        exit_code: u8,
        summary: String,
        error: Option<String>,
    ) -> Result<(), RunError> {
        let end = RunEnd { ended_at: self.now(), outcome: outcome.to_owned(), exit_code, summary, error };
        Ok(self.store.finish_run(run, &end).await?)
    }
}

fn removal_name(removal: &crate::domain::Removal) -> String {
    format!("{}/{}:{}", removal.registry, removal.repository, removal.tag)
}

/// Whether an entry is of a removal that was done.
fn was_removed(entry: &JournalEntry) -> bool {
    matches!(entry.intent.action, Action::Remove(_)) && matches!(entry.outcome, Some((Outcome::Done(_), _)))
}
