//! One whole run: what of it may remove, and what holds it back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::clock::{ClockWatch, refuse_by_clock};
use super::current_evidence::note_lost;
use super::pulse::Phase;
use super::{Approval, Decision, Ended, House, Purpose, Refusals, RunError, deletions, ended};
use crate::apply::{self, Order, Proof, Until};
use crate::config::Mode;
use crate::domain::{PolicyMode, PolicyName, Rules};
use crate::registry::{Progress, Scope};
use crate::store::{Circumstances, Forgotten, KeepSince, Lease, RunKind, StoreError};

/// What a run is to do.
#[derive(Debug, Default)]
pub struct Turn {
    /// The policies that may remove.
    pub due: Due,
    /// Why window and freezes do not hold it back: what a person gave as the reason.
    pub despite: Option<String>,
    /// The lease, where it was taken already.
    pub lease: Option<Lease>,
    /// Whether what the registries no longer hold is forgotten, too.
    pub tidy: bool,
}

/// The policies that may remove in a run. All of them are evaluated in every run, and keep in every run what they keep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Due {
    /// All.
    #[default]
    All,
    /// Only these: a tag that another policy lets go, too, waits for that one's turn.
    Only(BTreeSet<PolicyName>),
}

impl Due {
    fn includes(&self, policy: &PolicyName) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(policy),
        }
    }

    /// The names, where they are not all.
    #[must_use]
    pub fn names(&self) -> Option<String> {
        match self {
            Self::All => None,
            Self::Only(names) => Some(names.iter().map(PolicyName::as_str).collect::<Vec<_>>().join(", ")),
        }
    }

    /// The rules with every policy that is not due reduced to a trial, so that neither what it lets go nor its limits
    /// count for what is removed now.
    pub(super) fn of(&self, mut rules: Rules) -> Rules {
        for policy in &mut rules.policies {
            if !self.includes(&policy.name) {
                policy.mode = PolicyMode::DryRun;
            }
        }
        rules
    }
}

impl House {
    /// One whole run of all policies; removes only where settings and policies both say `enforce`.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn run(&self, progress: &dyn Progress) -> Result<Ended, RunError> {
        self.run_turn(Turn::default(), progress).await
    }

    /// The same, of the policies that are due. What a window or a freeze holds back is only reported.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn run_turn(&self, turn: Turn, progress: &dyn Progress) -> Result<Ended, RunError> {
        let Turn { due, despite, lease, tidy } = turn;
        let blocked_by = self.blocked_by(despite.as_deref());
        let circumstances =
            Circumstances { due: due.names(), blocked_by: blocked_by.clone(), despite, ..self.policies_gone_by() };
        let run = self.begin(RunKind::Run, &Approval::default(), &circumstances).await?;
        let _beat = self.beat(Some(run));
        let walked = async {
            let enforce = self.settings.mode == Mode::Enforce && blocked_by.is_none();
            let lease = match lease {
                None if enforce => Some(self.lease("run")?),
                lease => lease,
            };
            let requests = self.stop_requests(enforce);
            let decide = async {
                match &lease {
                    Some(lease) => self.settle(lease).await?,
                    None => self.settle_if_alone().await?,
                }
                let purpose = if enforce { Purpose::Enforce } else { Purpose::Report };
                self.decide_due(&Scope::All, None, (&due, purpose), progress).await
            };
            let (decision, grounds) = requests.name(self.unless(requests.stop.clone(), decide).await)?;
            self.note_clock(run, &decision).await?;
            self.save(run, &decision.document).await?;
            let watch = self.clock_watch(&decision);
            let (mut applied, mut deleted, mut evidence) = (Vec::new(), Vec::new(), None);
            if enforce {
                self.note_collected(run, &decision.collected).await?;
                let (orders, deletions) = (enforceable(&decision), deletions::enforceable(&decision));
                if !orders.is_empty() || !deletions.is_empty() {
                    requests.name(self.unless(requests.stop.clone(), self.hold_to_rule_files()).await)?;
                    let mut hands = self.hands(run, &decision.inventory)?;
                    hands.until = self.until(circumstances.despite.as_deref());
                    hands.stop = requests.stop.clone();
                    self.pulse.work(Phase::Removing, orders.len() + deletions.len());
                    hands.refused = apply::Refused::Wait;
                    hands.clock_moved = watch.as_ref().map(ClockWatch::shared);
                    let fresh = evidence.insert(self.fresh_evidence(&decision, grounds));
                    hands.evidence = Some(fresh.clone());
                    // First, while the evidence is as fresh as can be: they are the ones that cannot be taken back for sure.
                    deleted = apply::delete(&hands, deletions).await?;
                    applied = apply::apply(&hands, orders, &decision.inventory).await?;
                }
            }
            let aftermath = self.aftermath(&decision, &applied).await;
            let forgotten = if tidy { self.tidy(&decision).await } else { None };
            let not_due = self.not_due(&decision);
            let ended = ended(run, decision.document, applied, deleted, Refusals::Binding);
            let ended = Ended { aftermath, circumstances, not_due, forgotten, ..ended };
            let ended = refuse_by_clock(note_lost(ended, evidence.as_deref()), watch.as_ref());
            Ok(self.name_interrupter(&requests, ended).await)
        };
        self.finish(run, walked.await).await
    }

    /// The window or freeze that blocks removals now; `None` where there is none, or the settings do not enforce.
    pub(super) fn blocked_by(&self, despite: Option<&str>) -> Option<String> {
        let removes = self.settings.mode == Mode::Enforce && despite.is_none();
        self.settings.schedule.blocked_by(self.now()).filter(|_| removes).map(|block| block.to_string())
    }

    /// When no further removal may begin.
    pub(super) fn until(&self, despite: Option<&str>) -> Option<Until> {
        let (at, block) = self.settings.schedule.closes(self.now()).filter(|_| despite.is_none())?;
        Some(Until { at, why: block.to_string() })
    }

    /// The policies that this house goes by, for the record.
    pub(super) fn policies_gone_by(&self) -> Circumstances {
        let (revision, commit) = (Some(self.policies.revision()), self.policies.commit.clone());
        Circumstances { revision, commit, ..Circumstances::default() }
    }

    /// How many removals only wait for the turn of a policy that enforces.
    fn not_due(&self, decision: &Decision) -> u64 {
        let policies = &self.policies.policies;
        let enforces = |name: &str| {
            policies.iter().any(|policy| policy.name.as_str() == name && policy.mode == PolicyMode::Enforce)
        };
        let waits = |removal: &_| {
            let removal: &crate::report::RemovalView = removal;
            !removal.enforce && removal.policies().all(enforces)
        };
        decision.document.removals.iter().filter(|removal| waits(removal)).count() as u64
    }

    /// Forgets what was kept for long enough, by a time that a registry confirms. What cannot be forgotten now is forgotten
    /// another day.
    async fn tidy(&self, decision: &Decision) -> Option<Forgotten> {
        if !decision.clock.is_confirmed() || self.clock_was_set(&decision.clock) {
            tracing::warn!("nothing is forgotten: no registry confirms this machine's clock, or one contradicts it");
            return None;
        }
        let forgotten = self.forget(decision).await;
        let failed = |error: &StoreError| {
            tracing::warn!(%error, kind = error.kind.label(), "the state could not be tidied up");
        };
        let forgotten = forgotten.inspect_err(failed).ok()?;
        if forgotten != Forgotten::default() {
            let Forgotten { runs, plans, entries, manifests } = forgotten;
            tracing::info!(runs, plans, entries, manifests, "forgot what was kept for long enough");
        }
        Some(forgotten)
    }

    async fn forget(&self, decision: &Decision) -> Result<Forgotten, StoreError> {
        let now = decision.clock.start.wall;
        let before = |keep: Duration| now.checked_sub(keep).unwrap_or(Timestamp::MIN);
        let records = self.settings.records;
        self.store.tidy(&decision.inventory, now, before(records.keep)).await?;
        // What is to be undoable is kept whatever the settings say of records.
        let runs = before(records.keep.max(self.settings.undo_window));
        self.store.prune(KeepSince { runs, plans: before(records.plans) }).await
    }

    /// What only reads, until it is done or somebody stops it.
    pub(super) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, RunError>>,
    ) -> Result<T, RunError> {
        self.unless(self.stop.clone(), work).await
    }

    /// The same with another signal.
    pub(super) async fn unless<T>(
        &self,
        mut stop: tokio::sync::watch::Receiver<bool>,
        work: impl Future<Output = Result<T, RunError>>,
    ) -> Result<T, RunError> {
        let stopped = async move {
            // Where nobody is left who could stop it, nobody does.
            if stop.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            done = work => done,
            () = stopped => Err(RunError::Interrupted),
        }
    }

    /// Settles what an interrupted run left open, unless another process is at it.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub async fn settle_open(&self) -> Result<(), RunError> {
        self.unless_stopped(self.settle_if_alone()).await
    }
}

/// The removals that may really be done: all their policies enforce, and no refusal covers them.
fn enforceable(decision: &Decision) -> Vec<Order> {
    let views = decision.document.removals.iter();
    let fit = decision
        .plan
        .removals
        .iter()
        .zip(views)
        .filter(|(removal, view)| removal.enforce && decision.document.refused(view).is_none());
    let proof = || Proof::Decided(Arc::clone(&decision.verdicts));
    fit.map(|(removal, _)| Order { removal: Arc::clone(removal), proof: proof() }).collect()
}
