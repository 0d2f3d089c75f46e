//! The whole walk, from settings to report: this file alone knows the order of it.
//!
//! [`House::open`] gets ready, [`House::decide`] reads and decides, [`House::plan`], [`House::run`] and [`House::apply`]
//! are what the commands do with that, [`House::restore_run`] takes it back. All of them leave an audit record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use crate::apply::{self, Applied, Clock, Deleted};
use crate::config::{Mode, Settings};
use crate::domain::{
    Action, Claims, CoverageBasis, Inventory, Outcome, Plan, RegistryName, RepositoryName, Rules, Untagged,
};
use crate::engine::{self, Verdicts};
use crate::policy_file::PolicySet;
use crate::registry::{self, Patience, Progress, RegistryReader, Scope};
use crate::report::{self, AttentionView, Basis, PlanDocument};
use crate::store::{Circumstances, Forgotten, JournalEntry, Lease, NewRun, RunEnd, RunKind, Store, StoreErrorKind};

mod ability;
mod aftermath;
mod approved;
mod catalogues;
mod clock;
mod compare;
mod configurations;
mod current_evidence;
mod deletions;
mod ended;
mod evidence;
mod explained;
mod findings;
mod fixtures;
mod folder;
mod hands;
mod history;
mod holds;
mod interruption;
mod named;
mod outcome;
mod pulse;
mod record;
mod recorded;
mod registries;
mod remarks;
mod restoring;
mod rule_files;
mod signature;
mod size;
mod turn;

use ability::Purpose;
pub use aftermath::Aftermath;
pub use catalogues::repositories;
pub use clock::{ClockCheck, Steady};
pub use compare::Facts;
use current_evidence::{Gathered, Grounds};
use ended::{Refusals, ended};
use evidence::Remember;
pub use explained::Recalled;
pub use fixtures::test_policies;
pub use holds::{HoldRequest, HoldSet, HoldUntil};
pub use interruption::Stopped;
pub use named::Named;
pub use outcome::{RestoreEnded, RunError, RunOutcome};
pub use pulse::TARGET as PROGRESS;
pub use record::RegistryCounts;
pub use registries::Probe;
pub use remarks::{against, recorded_remarks};
pub use restoring::{Restorable, ToRestore};
pub use rule_files::{RuleFiles, load};
pub use signature::signature_beside;
pub use turn::{Due, Turn};

/// Everything that a run needs, ready.
pub struct House {
    /// The settings.
    pub settings: Settings,
    /// The policies.
    pub policies: PolicySet,
    /// The state.
    pub store: Store,
    /// Who runs it: `user@host`.
    pub by: String,
    /// The time.
    pub clock: Clock,
    /// Becomes true when no further removal may begin.
    pub stop: watch::Receiver<bool>,
    /// How long `restore` and `hold` wait for a running enforcement to stop.
    pub wait: Duration,
    readers: BTreeMap<RegistryName, Arc<dyn RegistryReader>>,
    patience: Patience,
    waiting: apply::Waiting,
    steady: Option<Steady>,
    rule_files: Option<RuleFiles>,
    asked: Mutex<record::Asked>,
    pulse: Arc<pulse::Pulse>,
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
    pub collected: Vec<Untagged>,
    /// Whether the time can be trusted by which it was decided.
    pub clock: ClockCheck,
    /// All of it as people and scripts read it.
    pub document: PlanDocument,
}

/// A run that ended, and what it did.
#[derive(Debug)]
pub struct Ended {
    /// The run's id.
    pub run: Uuid,
    /// The plan that it made or applied.
    pub document: PlanDocument,
    /// What was done or skipped; empty for a dry run.
    pub applied: Vec<Applied>,
    /// What was deleted of what was untagged before, or not; empty for a dry run.
    pub deleted: Vec<Deleted>,
    /// The registries from which something was removed.
    pub aftermath: Vec<Aftermath>,
    /// What it found and asked for, by registry.
    pub by_registry: BTreeMap<String, RegistryCounts>,
    /// What it went by besides its settings.
    pub circumstances: Circumstances,
    /// How many removals wait for the turn of a policy with a schedule of its own.
    pub not_due: u64,
    /// What was forgotten of old runs; `None` where that was not asked for or not possible.
    pub forgotten: Option<Forgotten>,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Who interrupted it, where it was not a signal to its process.
    pub interrupted_by: Option<String>,
    /// The sources that failed while it removed.
    pub lost_evidence: Vec<AttentionView>,
}

impl Ended {
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
    pub despite: Option<String>,
    /// The text of a signature of the plan's file, by minisign or SSH.
    pub signature: Option<String>,
}

impl Approval {
    /// The same with the name of whoever signed, which counts more than what was said.
    fn signed(&self, signer: &Result<Option<String>, RunError>) -> Self {
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

impl House {
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
        Self::open_with((settings, policies), by, clock, stop, Patience::default()).await
    }

    /// The same, with another patience for registries that fail.
    ///
    /// # Errors
    /// As [`House::open`].
    pub async fn open_with(
        (settings, policies): (Settings, PolicySet),
        by: String,
        clock: Clock,
        stop: watch::Receiver<bool>,
        patience: Patience,
    ) -> Result<Self, RunError> {
        let store = Store::open(&settings.state).await?;
        Self::with((settings, policies), store, by, clock, stop, patience)
    }

    /// The same with a state that is open already.
    ///
    /// # Errors
    /// When a registry's settings cannot work.
    pub fn with(
        (settings, policies): (Settings, PolicySet),
        store: Store,
        by: String,
        clock: Clock,
        stop: watch::Receiver<bool>,
        patience: Patience,
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
            wait: interruption::WAIT,
            readers,
            patience,
            waiting: patience.into(),
            steady: None,
            rule_files: None,
            asked: Mutex::default(),
            pulse: Arc::default(),
        })
    }

    /// The same, with another way to wait for a registry while removing.
    #[must_use]
    pub fn waiting(self, waiting: apply::Waiting) -> Self {
        Self { waiting, ..self }
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
    async fn settle(&self, _lease: &Lease) -> Result<(), RunError> {
        apply::settle(&self.store, &self.readers, self.now()).await?;
        Ok(())
    }

    /// The same, for whoever holds no lease: if another process holds it, that one settles.
    async fn settle_if_alone(&self) -> Result<(), RunError> {
        if self.store.unsettled().await?.is_empty() {
            return Ok(());
        }
        match self.lease("settling") {
            Ok(lease) => self.settle(&lease).await,
            Err(RunError::Store(error)) if error.kind == StoreErrorKind::Leased => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads registries and sources and decides. `at` is another time than now to decide for.
    ///
    /// # Errors
    /// When the state could not be written, or our own check finds fault with the plan.
    pub async fn decide(
        &self,
        scope: &Scope,
        at: Option<Timestamp>,
        progress: &dyn Progress,
    ) -> Result<Decision, RunError> {
        Ok(self.decide_due(scope, at, (&Due::All, Purpose::Report), progress).await?.0)
    }

    /// The same where only some policies may remove, or where removals follow, with the grounds to decide again.
    async fn decide_due(
        &self,
        scope: &Scope,
        at: Option<Timestamp>,
        (due, purpose): (&Due, Purpose),
        progress: &dyn Progress,
    ) -> Result<(Decision, Grounds), RunError> {
        // Once: everything is decided by this time, and nothing is compared with a later one.
        let start = self.reading();
        let now = start.wall;
        let evaluated_at = at.unwrap_or(now);
        let rules = due.of(self.rules());
        let readers: Vec<_> = self.readers.values().cloned().collect();
        let considered = self.considered(scope, &rules, evaluated_at).await?;
        let _beat = self.beat(None);
        self.pulse.read(readers.iter().map(|reader| reader.settings().name.to_string()));
        let progress = pulse::Both { pulse: &self.pulse, other: progress };
        let mut inventory = registry::collect(&readers, scope, &considered.look_for, &self.store, &progress).await;
        let read = self.check_clock(start, None, &mut inventory).await?;
        self.doubt_catalogues(&mut inventory, scope, now).await?;
        self.observe(&mut inventory, scope, &read).await?;
        for registry in &mut inventory.registries {
            registry.refused = self.store.refused_tags(&registry.endpoint).await?;
        }
        let whole = *scope == Scope::All && at.is_none() && read.doubt.is_none() && read.differing.is_empty();
        let remember = if whole { Remember::Yes } else { Remember::No };
        self.pulse.gather(self.settings.sources.len());
        self.note_tags(&inventory, now, remember).await;
        let asked = self.reading();
        let claims = self.gather((&inventory, considered.untagged()), (now, evaluated_at), remember).await?;
        let gathered = Gathered::between(asked, self.reading());
        self.pulse.enter(pulse::Phase::Deciding);
        let verdicts = self.evaluate(&rules, &mut inventory, &claims, evaluated_at).await;
        let mut deletions = considered.decide(&rules, &inventory, &claims, evaluated_at);
        self.ask_abilities(&mut inventory, &verdicts, &deletions, purpose).await?;
        // Sources and abilities took their time, in which the clock may have been set.
        let clock = self.check_clock(start, read.doubt, &mut inventory).await?;
        Self::tell_clock(&clock, &inventory);
        deletions.refusals = engine::refuse_deletions(&rules, &inventory, &deletions);
        let plan = Plan { deletions, ..engine::plan(&rules, &inventory, &verdicts, evaluated_at) };
        let basis = if *scope == Scope::All { CoverageBasis::Whole } else { CoverageBasis::LastWholePlan };
        let coverage = engine::coverage(&rules, &inventory, self.store.rule_history().await?, basis);
        if remember == Remember::Yes {
            self.store.note_rules(&coverage, now).await?;
        }
        let plan = engine::hold_unmatched(&rules, &inventory, &verdicts, plan, coverage);
        let mut findings = engine::check(&rules, &inventory, &claims, &verdicts, &plan, evaluated_at);
        findings.extend(considered.check(&rules, &inventory, &claims, &plan.deletions, evaluated_at));
        if !findings.is_empty() {
            return Err(RunError::Check(findings));
        }
        let reclaim = Arc::new(engine::reclaim(&inventory, &claims, &verdicts, &plan));
        let (inventory, verdicts, plan) = (Arc::new(inventory), Arc::new(verdicts), Arc::new(plan));
        let whole = *scope == Scope::All;
        let findings = findings::findings(&self.readers, &inventory, &claims, &verdicts, whole).await;
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
            findings: &findings,
            created_at: now,
            evaluated_at,
            hypothetical: at.is_some(),
            valid_for: self.settings.plan_ttl,
        });
        record::warn(&document);
        let collected = if *scope == Scope::All { considered.collected(&inventory) } else { Vec::new() };
        let decision = Decision { inventory, claims, verdicts, plan, collected, clock, document };
        Ok((decision, Grounds { rules, considered, evaluated_at, gathered }))
    }

    /// One dry run.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn plan(&self, at: Option<Timestamp>, progress: &dyn Progress) -> Result<Ended, RunError> {
        let run = self.begin(RunKind::Plan, &Approval::default(), &self.policies_gone_by()).await?;
        let _beat = self.beat(Some(run));
        let walked = async {
            self.settle_if_alone().await?;
            let decision = self.decide(&Scope::All, at, progress).await?;
            self.note_clock(run, &decision).await?;
            self.save(run, &decision.document).await?;
            Ok(ended(run, decision.document, Vec::new(), Vec::new(), Refusals::All))
        };
        self.finish(run, walked.await).await
    }

    /// Applies an approved plan, exactly or less.
    ///
    /// # Errors
    /// [`RunError::Refused`] when the plan may not be applied at all; see [`RunError`] for the rest.
    pub async fn apply(&self, text: &str, approval: &Approval, progress: &dyn Progress) -> Result<Ended, RunError> {
        let signer = signature::signer(&self.settings.approvals, text.as_bytes(), approval.signature.as_deref());
        let circumstances = Circumstances { despite: approval.despite.clone(), ..self.policies_gone_by() };
        let run = self.begin(RunKind::Apply, &approval.signed(&signer), &circumstances).await?;
        let _beat = self.beat(Some(run));
        let walked = async {
            let approved = report::open(text).map_err(|broken| RunError::Refused(broken.to_string()))?;
            signer?;
            approved::admit(&approved, &self.settings, &self.policies, self.now())?;
            approved::admit_now(&self.settings, approval.despite.as_deref(), self.now())?;
            let removals = approved::removals(&approved)?;
            let lease = self.lease("apply")?;
            let requests = self.stop_requests(true);
            self.unless_stopped(self.settle(&lease)).await?;
            let earlier = self.earlier(&approved.id).await?;
            self.save(run, &approved).await?;
            let mut scope = approved::scope(&removals);
            deletions::scope(&approved, &mut scope)?;
            let decide = self.decide_due(&scope, None, (&Due::All, Purpose::Enforce), progress);
            let (decision, grounds) = requests.name(self.unless(requests.stop.clone(), decide).await)?;
            self.note_clock(run, &decision).await?;
            if let Some(doubt) = &decision.clock.doubt {
                return Err(RunError::Refused(report::clock_doubt(doubt)));
            }
            let (orders, skipped) = approved::shrink(&approved, &removals, &decision, &earlier);
            approved::hold_to_limits(&orders, &decision, &self.rules())?;
            let (deletions, not_deleted) = deletions::shrink(&approved, &decision);
            deletions::hold_to_limit(&deletions, &self.rules())?;
            if !orders.is_empty() || !deletions.is_empty() {
                requests.name(self.unless(requests.stop.clone(), self.hold_to_rule_files()).await)?;
            }
            let lacks_rights = ability::lacks_rights(&decision.inventory, &skipped, &not_deleted);
            let mut hands = self.hands(run, &decision.inventory)?;
            hands.until = self.until(approval.despite.as_deref());
            hands.stop = requests.stop.clone();
            self.pulse.work(pulse::Phase::Removing, orders.len() + deletions.len());
            let watch = self.clock_watch(&decision);
            hands.clock_moved = watch.as_ref().map(clock::ClockWatch::shared);
            let evidence = self.fresh_evidence(&decision, grounds);
            hands.evidence = Some(evidence.clone());
            let mut deleted = apply::note_deletions(&hands, not_deleted).await?;
            deleted.extend(apply::delete(&hands, deletions).await?);
            let mut applied = apply::note_all(&hands, skipped).await?;
            applied.extend(apply::apply(&hands, orders, &decision.inventory).await?);
            applied.sort_by_cached_key(|applied| name(&applied.removal));
            let aftermath = self.aftermath(&decision, &applied).await;
            let evidence_missing = decision.document.evidence_missing();
            let by_clock = decision.document.is_refused_by_clock();
            let mut ended =
                Ended { aftermath, circumstances, ..ended(run, approved, applied, deleted, Refusals::OfEverything) };
            if ended.outcome == RunOutcome::Done && evidence_missing {
                ended.outcome = RunOutcome::EvidenceMissing;
            }
            if lacks_rights {
                ended.outcome = ended.outcome.min(RunOutcome::Refused);
            }
            if by_clock && ended.outcome != RunOutcome::Interrupted {
                ended.outcome = RunOutcome::Refused;
            }
            let ended = current_evidence::note_lost(ended, Some(&evidence));
            let ended = clock::refuse_by_clock(ended, watch.as_ref());
            Ok(self.name_interrupter(&requests, ended).await)
        };
        self.finish(run, walked.await).await
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
        self.decide(&Scope::Only(only), at, &()).await
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
    async fn earlier(&self, plan: &str) -> Result<BTreeMap<String, Uuid>, RunError> {
        let mut removed = BTreeMap::new();
        for record in self.store.applications(plan).await? {
            approved::admit_again(plan, &record)?;
            for entry in self.store.journal(record.run.id).await?.iter().filter(|entry| was_removed(entry)) {
                removed.insert(entry.intent.name(), record.run.id);
            }
        }
        Ok(removed)
    }

    async fn begin(&self, kind: RunKind, approval: &Approval, circumstances: &Circumstances) -> Result<Uuid, RunError> {
        let id = Uuid::now_v7();
        let run = NewRun {
            id,
            kind,
            mode: self.settings.mode.label().to_owned(),
            started_at: self.now(),
            by: self.by.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            approved_by: approval.approved_by.clone(),
            ticket: approval.ticket.clone(),
        };
        self.note_policies(circumstances).await?;
        self.store.begin_run_under(&run, circumstances).await?;
        self.store.announce_new(kind == RunKind::Apply || kind == RunKind::Run && self.settings.mode == Mode::Enforce);
        Ok(id)
    }

    async fn save(&self, run: Uuid, document: &PlanDocument) -> Result<(), RunError> {
        let whole = document.clone();
        let write = move |out: &mut dyn std::io::Write| serde_json::to_writer(out, &whole).map_err(Into::into);
        Ok(self.store.save_plan_as(run, &document.id, write).await?)
    }

    /// Records how a run ended, whichever way it did.
    async fn finish(&self, run: Uuid, walked: Result<Ended, RunError>) -> Result<Ended, RunError> {
        match walked {
            Ok(mut ended) => {
                ended.by_registry = record::by_registry(&ended.document, &self.requested());
                let outcome = ended.outcome;
                tracing::info!("{}", record::line(&ended, self.settings.mode, self.policies.policies.len()));
                let why = ended.interrupted_by.as_ref().map(|by| format!("interrupted by {by}"));
                self.end(run, outcome.label(), outcome.exit_code(), record::counts(&ended), why).await?;
                Ok(ended)
            }
            Err(error) => {
                let code = error.exit_code();
                let label = match &error {
                    RunError::Interrupted | RunError::InterruptedBy(_) => RunOutcome::Interrupted.label(),
                    _ if code == RunOutcome::Refused.exit_code() => RunOutcome::Refused.label(),
                    _ => "error",
                };
                let counts = self.counts_of_failed(run).await;
                // The failure itself is what the caller must hear of, also where the record cannot be written.
                if let Err(second) = self.end(run, label, code, counts, Some(error.to_string())).await {
                    tracing::error!(%run, error = %second, "the end of the run could not be recorded");
                }
                Err(error)
            }
        }
    }

    async fn end(
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

fn name(removal: &crate::domain::Removal) -> String {
    format!("{}/{}:{}", removal.registry, removal.repository, removal.tag)
}

/// Whether an entry is of a removal that was done.
fn was_removed(entry: &JournalEntry) -> bool {
    matches!(entry.intent.action, Action::Remove(_)) && matches!(entry.outcome, Some((Outcome::Done(_), _)))
}
