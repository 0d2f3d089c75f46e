//! Leadership: of several daemons with one state, one follows the schedule and the others stand by.
//!
//! The leader has the lease of the schedule, and each write of the schedules' progress proves it. A stand-by tries to
//! take that lease every few seconds. With a file as state there is one daemon, and none stands by.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

use super::event_loop::EventLoop;
use super::{DaemonOptions, is_shared};
use crate::domain::PolicyName;
use crate::state::{Lease, LeaseScope, RunKind, RunRecord, StateError, StateErrorKind};
use crate::web::Role;
use crate::workflow::{PolicyFilter, RunOutcome};

/// The interval at which a stand-by tries to take over, and a leader checks that it still has the lease.
const ATTENTION_INTERVAL: Duration = Duration::from_secs(3);
/// A run that was interrupted so recently, or begun at a schedule's time so recently, is resumed by the next leader.
const RESUME_WITHIN: SignedDuration = SignedDuration::from_mins(2);
/// Most runs in a row that are begun again because the database or the lease was lost.
const MAX_LOST_RUNS: u32 = 10;
/// The recorded runs among which an unfinished one is looked for.
const RECENT_RUNS: u32 = 50;

/// A run that another leader did not finish.
#[derive(Debug, Clone)]
pub(super) struct UnfinishedRun {
    /// Its policies.
    pub(super) policies: PolicyFilter,
    /// Its id; `None` if it was not recorded.
    pub(super) run: Option<Uuid>,
}

/// Each look at the lease asks the state for an unfinished run, for a while: the leader before may begin one, or record
/// its end, until it learns that it leads no longer.
#[derive(Debug, Clone)]
struct UnfinishedSearch {
    until: Instant,
    /// The times up to which the schedules were handled when it began: schedules that were written since are left out.
    handled: BTreeMap<String, Timestamp>,
}

/// The role of this daemon among those with the same state.
#[derive(Debug)]
pub(super) struct Leadership {
    /// The lease of the schedule; `None` in a stand-by.
    pub(super) lease: Option<Lease>,
    /// The description of the daemon that has it, if known.
    leader: Option<String>,
    /// The time of the next check of the lease; `None` if it cannot be lost.
    pub(super) attend_at: Option<Instant>,
    /// The search for a run that another leader did not finish, or this one because it lost the database or its lease.
    search: Option<UnfinishedSearch>,
    /// The last runs of this daemon that failed because it lost the database or its lease.
    lost_runs: u32,
}

impl Leadership {
    pub(super) fn new(lease: Option<Lease>) -> Self {
        Self { lease, leader: None, attend_at: None, search: None, lost_runs: 0 }
    }

    /// Notes how a run of this daemon ended. One that lost the database, or its lease, is begun again if this daemon still
    /// leads once that answers.
    pub(super) fn note_run_end(&mut self, failure: Option<StateErrorKind>, handled: &BTreeMap<String, Timestamp>) {
        if !matches!(failure, Some(StateErrorKind::Unavailable | StateErrorKind::LeaseLost)) {
            self.lost_runs = 0;
        } else if self.attend_at.is_some() && self.lost_runs < MAX_LOST_RUNS {
            self.lost_runs += 1;
            self.begin_search(handled);
        }
    }

    fn begin_search(&mut self, handled: &BTreeMap<String, Timestamp>) {
        let until = Instant::now() + RESUME_WITHIN.unsigned_abs();
        self.search = Some(UnfinishedSearch { until, handled: handled.clone() });
    }
}

/// The words by which others know this daemon.
pub(super) fn describe_holder(options: &DaemonOptions, now: Timestamp) -> String {
    format!("serve by {}, process {}, since {now}", options.by, std::process::id())
}

impl EventLoop {
    /// Returns true if this daemon follows the schedule.
    pub(super) fn leads(&self) -> bool {
        self.leadership.lease.as_ref().is_some_and(|lease| !lease.is_lost())
    }

    /// Returns the role of this daemon, for its status.
    pub(super) fn role(&self) -> Role {
        match (is_shared(&self.store), self.leads()) {
            (false, _) => Role::Single,
            (true, true) => Role::Leader,
            (true, false) => Role::StandBy { leader: self.leadership.leader.clone() },
        }
    }

    /// Begins to follow the schedule, or to stand by.
    pub(super) async fn begin_leading(&mut self, now: Timestamp) {
        if is_shared(&self.store) {
            self.leadership.attend_at = Some(Instant::now() + ATTENTION_INTERVAL);
        }
        if !self.leads() {
            self.stand_by().await;
            return;
        }
        if is_shared(&self.store) {
            self.leadership.begin_search(&self.handled);
        }
        // A write shows whether the state is writable.
        self.register_new_schedules(now).await;
    }

    /// Looks after the lease: a stand-by tries to take it, a leader that lost it stands by.
    pub(super) async fn attend(&mut self) {
        self.leadership.attend_at = Some(Instant::now() + ATTENTION_INTERVAL);
        let was_away = self.write_error.is_some() || !self.rules.is_compared();
        self.check_rules().await;
        if self.leads() {
            self.resume().await;
            if was_away && self.rules.is_compared() {
                // What became due meanwhile is not left to the next minute.
                self.tick().await;
            }
            return;
        }
        if self.leadership.lease.is_some() {
            self.step_down("another daemon took over the schedule: this one stands by");
        }
        if self.running.is_some() {
            // It ends before its next removal, and then this daemon may lead again.
            return;
        }
        if self.rules.yields() {
            self.stand_by().await;
            return;
        }
        let now = self.now();
        let holder = describe_holder(&self.options, now);
        match self.store.take_lease(LeaseScope::Daemon, &holder).await {
            Ok(lease) => match self.store.schedule_progress().await {
                Ok(handled) => {
                    tracing::info!("this daemon follows the schedule from now on");
                    self.leadership.lease = Some(lease);
                    self.leadership.leader = None;
                    self.handled = handled;
                    self.begin_leading(now).await;
                    self.resume().await;
                    self.tick().await;
                }
                Err(error) => self.report_write_error(&error),
            },
            Err(error) if error.kind == StateErrorKind::Leased => self.stand_by().await,
            Err(error) => self.report_write_error(&error),
        }
    }

    /// Finds out who leads, and logs it once.
    async fn stand_by(&mut self) {
        // Where that is not known this time, the next look tells.
        let Ok(Some(leader)) = self.store.daemon_holder().await else { return };
        if self.write_error.take().is_some() {
            tracing::info!("the state can be read again");
        }
        if self.leadership.leader.as_ref() != Some(&leader) {
            tracing::info!("standing by: {leader} follows the schedule");
            self.leadership.leader = Some(leader);
        }
    }

    /// Stops following the schedule. A run ends before its next removal and is left to the new leader.
    pub(super) fn step_down(&mut self, why: &str) {
        tracing::warn!("{why}");
        self.leadership.lease = None;
        self.leadership.search = None;
        if let Some(running) = &mut self.running {
            running.stop_for_good(Some("another daemon, which is to follow the schedule"));
        }
    }

    /// Begins the run again that was not finished. It goes on with the plan of that run; if there is none,
    /// it decides anew.
    pub(super) async fn resume(&mut self) {
        let Some(search) = self.leadership.search.clone() else { return };
        if self.running.is_some() || !self.leads() || !self.rules.is_compared() {
            return;
        }
        let now = self.now();
        // If the state does not answer, it is asked again when the lease is next looked after.
        let Ok(found) = self.find_unfinished(&search.handled, now).await else { return };
        if found.is_none() {
            self.leadership.search = Some(search).filter(|search| Instant::now() < search.until);
            return;
        }
        let removes = self.may_remove(now);
        // The lease to run may still be the other daemon's.
        let lease = if removes { self.take_lease(now).await } else { None };
        if removes && lease.is_none() {
            return;
        }
        // Another daemon may have taken the schedule meanwhile; and before the lease was this one's, it may have gone on
        // with that run, or finished it.
        if !self.save_handled(self.handled.clone()).await {
            return;
        }
        let Ok(Some(unfinished)) = self.find_unfinished(&search.handled, now).await else { return };
        self.start_again(now, unfinished.policies, lease, unfinished.run).await;
        if self.running.is_some() {
            tracing::warn!("a run that was begun and not finished is begun again");
            self.leadership.search = None;
        }
    }

    /// Returns the last scheduled run with its policies if it was not finished: its daemon died before its record was
    /// complete, or a moment ago it was told to stop, or lost its lease or the database. `handled` are the times up to
    /// which schedules were handled by then.
    async fn find_unfinished(
        &self,
        handled: &BTreeMap<String, Timestamp>,
        now: Timestamp,
    ) -> Result<Option<UnfinishedRun>, StateError> {
        let Some(last) = self.timetable.last_scheduled_time(now) else { return Ok(None) };
        let runs = self.store.runs(RECENT_RUNS).await?;
        let newest = runs.iter().find(|record| record.run.kind == RunKind::Run && record.run.started_at >= last);
        let is_recent = |at: Timestamp| now.duration_since(at) <= RESUME_WITHIN;
        let interrupted = RunOutcome::Interrupted.label();
        let ended = |record: &RunRecord| {
            record.end.as_ref().is_some_and(|end| end.outcome != interrupted || !is_recent(end.ended_at))
        };
        if newest.is_some_and(ended) || newest.is_none() && !is_recent(last) {
            return Ok(None);
        }
        let mut policies = BTreeSet::<PolicyName>::new();
        for entry in &self.timetable.entries {
            let due = last.checked_sub(entry.delay).unwrap_or(last);
            let before = due.checked_sub(SignedDuration::from_secs(1)).unwrap_or(due);
            let was_due = entry.cron.next(before, &self.timetable.timezone) == Some(due);
            // Without a record, only what was looked after as soon as it was due.
            let until = handled.get(&self.timetable.schedule_key(entry));
            let begun = newest.is_some() || until.is_some_and(|until| until.duration_since(due) <= RESUME_WITHIN);
            if was_due && begun && until.is_some_and(|until| *until >= due) {
                policies.extend(entry.policies.iter().cloned());
            }
        }
        let policies = match policies.len() {
            0 => return Ok(None),
            all if all == self.timetable.policy_count => PolicyFilter::All,
            _ => PolicyFilter::Only(policies),
        };
        Ok(Some(UnfinishedRun { policies, run: newest.map(|record| record.run.id) }))
    }

    /// Records the times up to which the schedules were handled. Returns true if they were written, which shows that
    /// the state is writable.
    pub(super) async fn save_handled(&mut self, handled: BTreeMap<String, Timestamp>) -> bool {
        // That is a tiny write, which fits even on a full disk; a run that fails at its end does more harm than none.
        let proven = if self.write_error.is_some() { self.store.verify_disk_space().await } else { Ok(()) };
        let noted = match proven {
            Ok(()) => match &self.leadership.lease {
                Some(lease) => self.store.record_leased_progress(lease, &handled).await,
                None => return false,
            },
            failed => failed,
        };
        match noted {
            Ok(()) => {
                self.handled = handled;
                if self.write_error.take().is_some() {
                    tracing::info!("the state can be written again");
                }
                true
            }
            // The next look at the lease says who has it.
            Err(error) if error.kind == StateErrorKind::LeaseLost => {
                tracing::warn!("nothing is begun: {}", error.chain());
                false
            }
            Err(error) => {
                self.report_write_error(&error);
                false
            }
        }
    }

    /// Records new schedules as handled up to now. Removed ones are kept until the next tick, because an edit may be
    /// reverted.
    pub(super) async fn register_new_schedules(&mut self, now: Timestamp) {
        let mut handled: BTreeMap<String, Timestamp> =
            self.timetable.entries.iter().map(|line| (self.timetable.schedule_key(line), now)).collect();
        handled.extend(self.handled.iter().map(|(key, until)| (key.clone(), *until)));
        self.save_handled(handled).await;
    }
}
