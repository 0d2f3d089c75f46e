//! The loop of the daemon.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch as watched};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::due::{Timetable, due, timetable};
use super::file_access::Unresponsive;
use super::reload::{Files, Problems};
use super::rules::Rules;
use super::watch::Watch;
use super::{Daemon, Events, Start, host, next_runs, systemd};
use crate::config::Mode;
use crate::http::{self, Board, Doing, PolicyProblem, Site};
use crate::notify::{Notifier, RunNews};
use crate::run::{Due, Ended, House, RunError, Turn};
use crate::store::{Lease, RunKind, Store, StoreError, StoreErrorKind};

/// Whoever edits files changes several within so much time.
const QUIET: Duration = Duration::from_millis(300);
/// The removal in flight may take so long when the daemon is told to stop. systemd waits for 90 seconds.
const STOP_WITHIN: Duration = Duration::from_secs(75);
/// Requests that are being answered then may take so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// What came of the last run may take so long to be told.
const TELL_WITHIN: Duration = Duration::from_secs(5);
/// How often it looks at itself where no watchdog says how often.
const SELDOM: Duration = Duration::from_mins(1);
/// So many runs to come are shown.
const SHOWN: usize = 10;

/// The daemon while it lives.
pub(super) struct Living {
    pub(super) start: Start,
    pub(super) rules: Rules,
    pub(super) table: Timetable,
    store: Store,
    pub(super) board: Arc<Board>,
    pub(super) stop: watched::Receiver<bool>,
    /// Up to which time each schedule was looked after.
    handled: BTreeMap<String, Timestamp>,
    pub(super) running: Option<Running>,
    /// What is wrong with the settings, and with the policies, since they were last sound.
    pub(super) problems: Problems,
    /// Why the state cannot be written.
    unready: Option<StoreErrorKind>,
    /// Whether it was told that a run waits for another process.
    told_to_wait: bool,
    /// What was told of the folder of approved plans, where it cannot be read.
    told_of_folder: Option<String>,
    /// When old records were last forgotten.
    pruned_at: Option<Timestamp>,
    pub(super) changed: mpsc::Sender<()>,
    pub(super) watch: Option<Watch>,
    pub(super) notifier: Notifier,
    pub(super) files: Files,
    /// When policies are to be looked at.
    pub(super) look_at: Option<Instant>,
    /// Whether what a tick would do waits for policy files to settle.
    tick_waits: bool,
    /// What systemd was told last.
    told: String,
}

/// What came of a run.
type Came = Result<Ended, RunError>;

/// A run that goes on, or several approved plans that are applied one after the other.
pub(super) struct Running {
    pub(super) kind: RunKind,
    task: JoinHandle<Vec<Came>>,
    began_at: Timestamp,
    what: String,
    /// Becomes true when no further removal of it may begin.
    pub(super) halt: watched::Sender<bool>,
    /// The policies that have their turn again, by the rules of then, if the run ended because the rules changed.
    again: Option<Due>,
}

impl Running {
    /// Ends the run before its next removal. A scheduled run is repeated.
    pub(super) fn rules_changed(&self) {
        if !self.halt.send_replace(true) {
            let then =
                if self.again.is_some() { "it is repeated by the new ones" } else { "its plan has to be made again" };
            tracing::warn!(
                "the rules changed during a run of {}: it ends before its next removal, and {then}",
                self.what
            );
        }
    }
}

impl Daemon {
    /// Lives until it is told to stop: then the removal in flight is finished and recorded, and nothing else begins.
    pub async fn live(self, events: Events) {
        let Events { mut ticks, mut reload, mut stop } = events;
        let (changed, mut edits) = mpsc::channel(1);
        let Self { start, rules, store, board, listener, address, handled, _lease: lease } = self;
        let (hush, hushed) = watched::channel(false);
        let site = Site {
            board: Arc::clone(&board),
            store: store.clone(),
            settings: Arc::new(rules.settings.clone()),
            clock: Arc::clone(&start.clock),
        };
        let mut pages = tokio::spawn(http::serve(listener, site, hushed));
        let table = timetable(&rules.settings.schedule, &rules.policies.policies, host(&start.by));
        let notifier = Notifier::start(&rules.settings.notify, &rules.settings.state, &start.clock);
        let mut living = Living {
            start,
            rules,
            table,
            store,
            board,
            stop: stop.clone(),
            handled,
            running: None,
            problems: Problems::default(),
            unready: None,
            told_to_wait: false,
            told_of_folder: None,
            pruned_at: None,
            changed,
            watch: None,
            notifier,
            files: Files::default(),
            look_at: None,
            tick_waits: false,
            told: String::new(),
        };
        living.begin(address).await;
        // What was missed while nothing lived waits for no minute to pass.
        living.tick().await;
        living.show();

        let mut alive = tokio::time::interval(systemd::watchdog().unwrap_or(SELDOM));
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Nobody tells of the pages more than once that they are gone.
        let mut pages_up = true;
        loop {
            let look_at = living.look_at;
            tokio::select! {
                biased;
                () = told(&mut stop) => break,
                _ = alive.tick() => systemd::alive(),
                came = living.run_ended() => living.go_on(&came).await,
                Some(()) = reload.recv() => living.reload().await,
                Some(()) = edits.recv() => living.look_at = Some(Instant::now() + QUIET),
                () = sleep_until(look_at), if look_at.is_some() => {
                    living.look_at = None;
                    if living.look_at_policies().await && std::mem::take(&mut living.tick_waits) {
                        living.tick().await;
                    }
                }
                Some(()) = ticks.recv() => living.tick().await,
                came = &mut pages, if pages_up => {
                    pages_up = false;
                    tracing::error!(?came, "HTTP server exited; scheduled runs continue");
                }
            }
            living.show();
        }

        living.end().await;
        // Only now: whoever asks meanwhile is told that it stops.
        hush.send_replace(true);
        if pages_up && tokio::time::timeout(ANSWER_WITHIN, &mut pages).await.is_err() {
            pages.abort();
        }
        living.notifier.finish(TELL_WITHIN).await;
        if living.running.is_none() {
            living.store.close().await;
        }
        drop(lease);
        tracing::info!("stopped");
    }
}

/// Until it is told to stop, or nobody is left who could tell it, so that nothing ever would stop it.
async fn told(stop: &mut watched::Receiver<bool>) {
    // Either way.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// At that time; never, where there is none.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Living {
    pub(super) fn now(&self) -> Timestamp {
        (self.start.clock)()
    }

    async fn begin(&mut self, address: SocketAddr) {
        let now = self.now();
        self.watch_policies();
        // Whether the state can be written is known only once it was.
        self.remember_new_lines(now).await;
        self.show();
        let settings = &self.rules.settings;
        self.store.announce_new(settings.mode != Mode::DryRun);
        tracing::info!(
            revision = self.rules.policies.revision(),
            "listening on http://{address}, mode {}, policies: {}",
            settings.mode.label(),
            self.rules.policies.policies.len(),
        );
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        if self.table.lines.is_empty() {
            tracing::warn!("no schedule, neither in the settings nor in a policy: nothing runs by itself");
        }
        systemd::ready();
    }

    /// Looks, beside everything else, what became of what a crash left open. What was begun just before it is still too
    /// young for that, so this is tried again.
    async fn settle(&mut self) {
        if self.store.unsettled().await.is_ok_and(|open| open.is_empty()) {
            return;
        }
        let Ok(house) = self.house(self.stop.clone()).await else { return };
        tokio::spawn(async move {
            match house.settle_open().await {
                Ok(()) | Err(RunError::Interrupted) => {}
                Err(error) => tracing::warn!("what an interrupted run left open could not be settled: {error}"),
            }
        });
    }

    /// Everything that a run needs, with the secrets that their files have now.
    async fn house(&mut self, stop: watched::Receiver<bool>) -> Result<House, RunError> {
        let (rules, from, store) = (self.rules.clone(), self.start.clone(), self.store.clone());
        let make = move || {
            let loaded = (rules.with_present_secrets(&from.environment), rules.policies);
            let house = House::with(loaded, store, from.by, from.clock, stop, from.patience)?;
            Ok(match from.steady {
                Some(steady) => house.with_steady(steady),
                None => house,
            })
        };
        let opened = self.files.secrets.run(&self.stop, make).await;
        opened.unwrap_or_else(|Unresponsive| {
            let what = "the settings and the files that they name do not answer; are they on a share that is down?";
            Err(RunError::Failed(what.to_owned()))
        })
    }

    /// A minute has passed.
    async fn tick(&mut self) {
        if !self.look_at_policies().await {
            self.tick_waits = true;
            return;
        }
        if self.running.is_some() {
            return;
        }
        if let Err(error) = self.store.verify_file() {
            self.cannot_write(&error);
            return;
        }
        let now = self.now();
        let due = due(&self.table, &self.handled, now);
        let removes =
            self.rules.settings.mode == Mode::Enforce && self.rules.settings.schedule.blocked_by(now).is_none();
        let lease = if removes && !due.policies.is_empty() {
            match self.lease(now).await {
                Some(lease) => Some(lease),
                None => return,
            }
        } else {
            None
        };
        if (due.handled != self.handled || self.unready.is_some()) && !self.remember(due.handled).await {
            return;
        }
        for note in &due.notes {
            tracing::warn!("{note}");
        }
        if due.policies.is_empty() {
            if !self.apply_approved(now).await {
                self.settle().await;
            }
            return;
        }
        let what = self.table.words(&due.policies);
        let all = due.policies.len() == self.table.policies;
        let policies = if all { Due::All } else { Due::Only(due.policies) };
        let tidy = self.forgets(now);
        self.run(now, what, Turn { due: policies, despite: None, lease, tidy }).await;
    }

    /// Applies what lies in the folder of approved plans and is not applied yet. Gives whether there is such a plan.
    async fn apply_approved(&mut self, now: Timestamp) -> bool {
        let settings = &self.rules.settings;
        let removes = settings.mode != Mode::DryRun && settings.schedule.blocked_by(now).is_none();
        if !removes || settings.approvals.folder.is_none() || self.unready.is_some() {
            return false;
        }
        let (halt, halted) = watched::channel(false);
        let Ok(house) = self.house(halted).await else { return false };
        let house = Arc::new(house);
        let look = Arc::clone(&house);
        let found = self.files.approved.run_async(&self.stop, async move { look.approved_plans().await }).await;
        let found =
            found.unwrap_or_else(|Unresponsive| Err(RunError::Failed("their folder does not answer".to_owned())));
        match found {
            Ok(plans) => {
                self.told_of_folder = None;
                if plans.is_empty() {
                    return false;
                }
                // Each takes it for itself; where another process has it, none is begun.
                if self.lease(now).await.is_none() {
                    return true;
                }
                let what = if plans.len() == 1 {
                    "an approved plan".into()
                } else {
                    format!("{} approved plans", plans.len())
                };
                let task = tokio::spawn(async move {
                    match house.apply_folder(&()).await {
                        Ok(came) => came.into_iter().map(|(_, came)| came).collect(),
                        Err(error) => vec![Err(error)],
                    }
                });
                self.running = Some(Running { kind: RunKind::Apply, task, began_at: now, what, halt, again: None });
                true
            }
            Err(error) => {
                let error = error.to_string();
                if self.told_of_folder.as_ref() != Some(&error) && !*self.stop.borrow() {
                    tracing::error!("no approved plan can be applied: {error}");
                    self.told_of_folder = Some(error);
                }
                false
            }
        }
    }

    /// The right to change registries; nothing where the run must be put off. Whoever asks for no more removals comes first.
    async fn lease(&mut self, now: Timestamp) -> Option<Lease> {
        if let Ok(Some(by)) = self.store.asked_to_stop(now).await {
            if !std::mem::replace(&mut self.told_to_wait, true) {
                tracing::warn!("a run is due and put off: {by} asks for no more removals");
            }
            return None;
        }
        let holder = format!("serve by {}, process {}, since {now}", self.start.by, std::process::id());
        match Lease::take(&self.rules.settings.state, &holder) {
            Ok(lease) => {
                self.told_to_wait = false;
                Some(lease)
            }
            Err(error) if error.kind == StoreErrorKind::Leased => {
                if !std::mem::replace(&mut self.told_to_wait, true) {
                    tracing::warn!("a run is due and put off until another one is over: {error}");
                }
                None
            }
            Err(error) => {
                self.cannot_write(&error);
                None
            }
        }
    }

    /// Remembers up to when the schedules were looked after, and with that finds out whether the state can be written.
    async fn remember(&mut self, handled: BTreeMap<String, Timestamp>) -> bool {
        // That is a tiny write, which fits on a full disk, too; a run that fails at its end does more harm than none.
        let proven = if self.unready.is_some() { self.store.prove_room().await } else { Ok(()) };
        let noted = match proven {
            Ok(()) => self.store.note_handled(&handled).await,
            failed => failed,
        };
        match noted {
            Ok(()) => {
                self.handled = handled;
                if self.unready.take().is_some() {
                    tracing::info!("the state can be written again");
                }
                true
            }
            Err(error) => {
                self.cannot_write(&error);
                false
            }
        }
    }

    /// A schedule that is new is looked after from now on, and what is no longer one not forgotten before the next tick:
    /// an edit may be taken back.
    pub(super) async fn remember_new_lines(&mut self, now: Timestamp) {
        let mut handled: BTreeMap<String, Timestamp> =
            self.table.lines.iter().map(|line| (self.table.key(line), now)).collect();
        handled.extend(self.handled.iter().map(|(key, until)| (key.clone(), *until)));
        self.remember(handled).await;
    }

    fn cannot_write(&mut self, error: &StoreError) {
        if self.unready.replace(error.kind) != Some(error.kind) {
            let kind = error.kind.label();
            tracing::error!(kind, "nothing can be recorded, so nothing runs; the next minute tries again: {error}");
        }
    }

    async fn run(&mut self, now: Timestamp, what: String, turn: Turn) {
        let (halt, halted) = watched::channel(false);
        match self.house(halted).await {
            Ok(house) => {
                tracing::debug!(what, "a run begins");
                let again = Some(turn.due.clone());
                let task = tokio::spawn(async move { vec![house.run_turn(turn, &()).await] });
                self.running = Some(Running { kind: RunKind::Run, task, began_at: now, what, halt, again });
            }
            Err(error) => tracing::error!("no run is possible: {error}"),
        }
    }

    /// A run that ended because the rules changed has its turn again, by the new ones.
    async fn repeat(&mut self, due: Due) {
        let now = self.now();
        let removes =
            self.rules.settings.mode == Mode::Enforce && self.rules.settings.schedule.blocked_by(now).is_none();
        let lease = if removes { self.lease(now).await } else { None };
        if removes && lease.is_none() {
            return;
        }
        let what = match &due {
            Due::All => "all policies".to_owned(),
            Due::Only(names) => self.table.words(names),
        };
        let tidy = self.forgets(now);
        self.run(now, what, Turn { due, despite: None, lease, tidy }).await;
    }

    /// What came of the run that goes on; never, where none does.
    async fn run_ended(&mut self) -> Vec<Came> {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        match (&mut running.task).await {
            Ok(came) => came,
            Err(panicked) => vec![Err(RunError::Failed(format!("a run ended by a fault in tagwarden: {panicked}")))],
        }
    }

    /// After a run it is the turn of approved plans: where runs come every minute, no tick would be theirs.
    async fn go_on(&mut self, came: &[Came]) {
        let ended = self.running.as_mut();
        let scheduled = ended.as_ref().is_some_and(|running| running.kind == RunKind::Run);
        let again = ended.and_then(|running| running.again.take().filter(|_| *running.halt.borrow()));
        self.note(came);
        if let Some(due) = again {
            self.repeat(due).await;
        } else if scheduled {
            self.apply_approved(self.now()).await;
        }
    }

    fn note(&mut self, all: &[Came]) {
        let Some(running) = self.running.take() else { return };
        let now = self.now();
        for came in all {
            match came {
                Ok(ended) if ended.forgotten.is_some() => self.pruned_at = Some(now),
                Ok(_) => {}
                Err(error @ (RunError::Interrupted | RunError::InterruptedBy(_))) => {
                    tracing::info!("run ended: {error}");
                }
                Err(RunError::Store(error)) if error.kind == StoreErrorKind::Leased => {
                    tracing::warn!("put off until another run is over: {error}");
                }
                Err(RunError::Store(error)) => self.cannot_write(error),
                Err(error) => tracing::error!(exit_code = error.exit_code(), "a run failed: {error}"),
            }
            self.board.run_ended(running.kind, running.began_at, now, came);
            let (mode, by) = (self.rules.settings.mode, &self.start.by);
            self.notifier.run_ended(RunNews::of(running.kind, came.as_ref(), mode, by, now));
        }
    }

    /// Whether the next run forgets what was kept for long enough: once a day, and by a time that the run finds confirmed.
    fn forgets(&self, now: Timestamp) -> bool {
        let fresh = |at: Timestamp| at <= now && now.duration_since(at).as_hours() < 24;
        !self.pruned_at.is_some_and(fresh)
    }

    /// Shows where it is in its work.
    fn show(&mut self) {
        let now = self.now();
        let Rules { settings, policies, .. } = &self.rules;
        let next = next_runs(settings, policies, host(&self.start.by), now, SHOWN);
        let blocked_by = super::blocked_by(settings, &policies.policies, |_| true, now);
        let doing = match &self.running {
            Some(running) => Doing::Run { kind: running.kind, since: running.began_at, what: running.what.clone() },
            None => Doing::Nothing,
        };
        let problem = self.problems.settings.as_ref().or(self.problems.policies.as_ref()).cloned();
        let words = self.words(&doing, next.first(), problem.as_ref());
        if words != self.told {
            systemd::status(&words);
            self.told = words;
        }
        self.board.update(|status| {
            status.ready = self.unready.is_none();
            (status.doing, status.next, status.blocked_by) = (doing, next, blocked_by);
            status.last_due = self.table.last(now);
            status.policies.problem = problem;
        });
    }

    /// The same on one line.
    fn words(&self, doing: &Doing, next: Option<&http::NextRun>, problem: Option<&PolicyProblem>) -> String {
        let at =
            |time: Timestamp| time.to_zoned(self.table.timezone.clone()).strftime("%a %Y-%m-%d %H:%M %Z").to_string();
        let mut words = match (doing, next) {
            (Doing::Run { since, what, .. }, _) => format!("Run of {what} since {}", at(*since)),
            (Doing::Stopping, _) => "Stopping".to_owned(),
            (Doing::Nothing, Some(next)) => format!("Next run {}: {}", at(next.at), next.what),
            (Doing::Nothing, None) => "No schedule".to_owned(),
        };
        if let Some(kind) = self.unready {
            let _ = write!(words, "; the state cannot be written ({})", kind.label());
        }
        if let Some(problem) = problem {
            let first = problem.text.lines().next().unwrap_or_default();
            let _ = write!(words, "; an edit cannot be gone by: {first}");
        }
        words
    }

    /// Waits for what it was at.
    async fn end(&mut self) {
        systemd::stopping();
        self.board.update(|status| status.doing = Doing::Stopping);
        systemd::status("Stopping");
        let Some(running) = &mut self.running else { return };
        running.again = None;
        running.halt.send_replace(true);
        tracing::info!("stopping: the removal in flight is finished, no further one begins");
        if let Ok(came) = tokio::time::timeout(STOP_WITHIN, self.run_ended()).await {
            self.note(&came);
        } else {
            tracing::warn!("a run did not end in time; what it left open is settled at the next start");
        }
    }
}
