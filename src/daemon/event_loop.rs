//! The loop of the daemon.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch as watch_channel};
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use super::active_config::ActiveConfig;
use super::active_run::{ActiveRun, RunCompletion};
use super::approved_plans::ApprovalsWatch;
use super::file_access::Unresponsive;
use super::leadership::Leadership;
use super::reload::{FileReads, ReloadProblems};
use super::rules::RuleStanding;
use super::schedule::{Timetable, build_timetable, find_scheduled};
use super::watch::PolicyWatch;
use super::{Daemon, DaemonOptions, Events, host, systemd};
use crate::config::{Mode, Settings};
use crate::domain::chain;
use crate::notify::{Notifier, RunEvent};
use crate::state::{Lease, LeaseScope, RunKind, StateError, StateErrorKind, StateStore};
use crate::web::{self, Activity, DaemonStatus, WebContext};
use crate::workflow::{App, PolicyFilter, RunError, RunOptions};

/// The debounce time for edits of several files.
const EDIT_DEBOUNCE: Duration = Duration::from_millis(300);
/// The time for the removal in flight when the daemon is stopped. systemd waits for 90 seconds.
const RUN_STOP_TIMEOUT: Duration = Duration::from_secs(75);
/// The time for open HTTP requests when the daemon is stopped.
const WEB_STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// The time for notifications about the last run when the daemon is stopped.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval of self-checks without a watchdog.
const DEFAULT_WATCHDOG_INTERVAL: Duration = Duration::from_mins(1);

/// The running daemon.
pub(super) struct EventLoop {
    pub(super) options: DaemonOptions,
    pub(super) config: ActiveConfig,
    /// The settings in force, for the pages.
    pub(super) shown_settings: watch_channel::Sender<Arc<Settings>>,
    pub(super) timetable: Timetable,
    pub(super) store: StateStore,
    pub(super) status: Arc<DaemonStatus>,
    pub(super) stop: watch_channel::Receiver<bool>,
    /// The time up to which each schedule was handled.
    pub(super) handled: BTreeMap<String, Timestamp>,
    pub(super) leadership: Leadership,
    /// The standing of its policies and settings among those of other daemons.
    pub(super) rules: RuleStanding,
    pub(super) running: Option<ActiveRun>,
    /// The problems of the settings and the policies since they were last valid.
    pub(super) problems: ReloadProblems,
    /// Why the state cannot be written.
    pub(super) write_error: Option<StateError>,
    /// True if it was logged that a run waits for another process.
    deferral_logged: bool,
    /// The folder of approved plans.
    pub(super) approvals: ApprovalsWatch,
    /// Time of the last pruning of old records.
    pruned_at: Option<Timestamp>,
    pub(super) edit_sender: mpsc::Sender<()>,
    pub(super) watch: Option<PolicyWatch>,
    pub(super) notifier: Notifier,
    pub(super) file_reads: FileReads,
    /// Time of the next check of the policies.
    pub(super) reload_at: Option<Instant>,
    /// True if a tick waits for policy files to become stable.
    tick_pending: bool,
    /// The last status that was sent to systemd.
    pub(super) systemd_status: String,
}

impl Daemon {
    /// Runs until it is stopped: then the removal in flight is completed and recorded, and nothing else begins.
    pub async fn run(self, events: Events) {
        let Events { mut ticks, mut reload, mut stop } = events;
        let (edit_sender, mut edits) = mpsc::channel(1);
        let Self { options, config, store, status, listener, address, handled, lease } = self;
        let (web_stop_sender, web_stop) = watch_channel::channel(false);
        let (shown_settings, settings) = watch_channel::channel(Arc::new(config.settings.clone()));
        let context = WebContext {
            status: Arc::clone(&status),
            store: store.clone(),
            settings,
            clock: Arc::clone(&options.clock),
        };
        let mut pages = tokio::spawn(web::serve(listener, context, web_stop));
        let timetable = build_timetable(&config.settings.schedule, &config.policies.policies, host(&options.by));
        let notifier = Notifier::start_with_store(&config.settings.notify, &store, &options.clock);
        let mut event_loop = EventLoop {
            options,
            config,
            shown_settings,
            timetable,
            store,
            status,
            stop: stop.clone(),
            handled,
            leadership: Leadership::new(lease),
            rules: RuleStanding::default(),
            running: None,
            problems: ReloadProblems::default(),
            write_error: None,
            deferral_logged: false,
            approvals: ApprovalsWatch::default(),
            pruned_at: None,
            edit_sender,
            watch: None,
            notifier,
            file_reads: FileReads::default(),
            reload_at: None,
            tick_pending: false,
            systemd_status: String::new(),
        };
        event_loop.start_up(address).await;
        event_loop.resume().await;
        // Runs missed during downtime start without waiting for the next minute.
        event_loop.tick().await;
        event_loop.publish_status();

        let mut alive = tokio::time::interval(systemd::watchdog_interval().unwrap_or(DEFAULT_WATCHDOG_INTERVAL));
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The failure of the HTTP server is reported once.
        let mut pages_up = true;
        loop {
            let look_at = event_loop.reload_at;
            let attend_at = event_loop.leadership.attend_at;
            tokio::select! {
                biased;
                () = wait_for_stop(&mut stop) => break,
                _ = alive.tick() => systemd::ping_watchdog(),
                came = event_loop.wait_for_run() => event_loop.handle_completion(&came).await,
                Some(()) = reload.recv() => event_loop.reload().await,
                Some(()) = edits.recv() => event_loop.reload_at = Some(Instant::now() + EDIT_DEBOUNCE),
                () = sleep_until(look_at), if look_at.is_some() => {
                    event_loop.reload_at = None;
                    if event_loop.reload_policies().await && std::mem::take(&mut event_loop.tick_pending) {
                        event_loop.tick().await;
                    }
                }
                Some(()) = ticks.recv() => event_loop.tick().await,
                () = sleep_until(attend_at), if attend_at.is_some() => event_loop.attend().await,
                came = &mut pages, if pages_up => {
                    pages_up = false;
                    tracing::error!(?came, "HTTP server exited; scheduled runs continue");
                }
            }
            event_loop.publish_status();
        }

        event_loop.shut_down().await;
        // Only now, so that requests in the meantime show that it is stopping.
        web_stop_sender.send_replace(true);
        if pages_up && tokio::time::timeout(WEB_STOP_TIMEOUT, &mut pages).await.is_err() {
            pages.abort();
        }
        event_loop.notifier.finish(NOTIFY_TIMEOUT).await;
        // First, because a database is told so over the connections that are closed here.
        event_loop.leadership.lease = None;
        if event_loop.running.is_none() {
            event_loop.store.close().await;
        }
        tracing::info!("stopped");
    }
}

/// Waits for a stop, or for the sender to be dropped, after which no stop could ever come.
async fn wait_for_stop(stop: &mut watch_channel::Receiver<bool>) {
    // Either result means stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Sleeps until that time; forever without one.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl EventLoop {
    pub(super) fn now(&self) -> Timestamp {
        (self.options.clock)()
    }

    async fn start_up(&mut self, address: SocketAddr) {
        let now = self.now();
        self.watch_policies();
        self.check_rules().await;
        self.begin_leading(now).await;
        self.publish_status();
        let settings = &self.config.settings;
        if let Err(error) = self.store.warn_if_new(settings.mode != Mode::DryRun).await {
            // The first write reports it as well.
            tracing::warn!(error = %error.chain(), "not known whether the state is new");
        }
        tracing::info!(
            revision = self.config.policies.revision(),
            "listening on http://{address}, mode {}, policies: {}",
            settings.mode.label(),
            self.config.policies.policies.len(),
        );
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        if self.timetable.entries.is_empty() {
            tracing::warn!("no schedule, neither in the settings nor in a policy: nothing runs by itself");
        }
        systemd::notify_ready();
    }

    /// Resolves, concurrently, what a crash left open. Entries from just before it are too young for that, so this is
    /// retried.
    async fn recover(&mut self) {
        if self.store.pending_entries().await.is_ok_and(|open| open.is_empty()) {
            return;
        }
        let Ok(app) = self.open_app(self.stop.clone()).await else { return };
        tokio::spawn(async move {
            match app.recover_interrupted().await {
                Ok(()) | Err(RunError::Interrupted) => {}
                Err(error) => {
                    tracing::warn!("what an interrupted run left open could not be settled: {}", chain(&error));
                }
            }
        });
    }

    /// Opens the environment of a run, with the current secrets of their files.
    pub(super) async fn open_app(&mut self, stop: watch_channel::Receiver<bool>) -> Result<App, RunError> {
        let (rules, from, store) = (self.config.clone(), self.options.clone(), self.store.clone());
        let make = move || {
            let loaded = (rules.with_current_secrets(&from.environment), rules.policies);
            let app = App::with_store(loaded, store, from.by, from.clock, stop, from.retry_policy)?;
            Ok(match from.monotonic_clock {
                Some(steady) => app.with_monotonic_clock(steady),
                None => app,
            })
        };
        let opened = self.file_reads.secrets.run(&self.stop, make).await;
        opened.unwrap_or_else(|Unresponsive| {
            let what = "the settings and the files that they name do not answer; are they on a share that is down?";
            Err(RunError::failed(what.to_owned()))
        })
    }

    /// Handles the passing of a minute.
    pub(super) async fn tick(&mut self) {
        if !self.reload_policies().await {
            self.tick_pending = true;
            return;
        }
        if self.running.is_some() || !self.leads() {
            return;
        }
        if let Err(error) = self.store.verify_file() {
            self.report_write_error(&error);
            return;
        }
        // Rules that cannot be compared may be older than those of another daemon.
        if !self.check_rules().await || !self.leads() {
            return;
        }
        let now = self.now();
        let due = find_scheduled(&self.timetable, &self.handled, now);
        let removes = self.may_remove(now);
        let lease = if removes && !due.policies.is_empty() {
            match self.take_lease(now).await {
                Some(lease) => Some(lease),
                None => return,
            }
        } else {
            None
        };
        if (due.handled != self.handled || self.write_error.is_some()) && !self.save_handled(due.handled).await {
            return;
        }
        for note in &due.warnings {
            tracing::warn!("{note}");
        }
        if due.policies.is_empty() {
            if !self.apply_approved_plans(now).await {
                self.recover().await;
            }
            return;
        }
        let what = self.timetable.describe_policies(&due.policies);
        let all = due.policies.len() == self.timetable.policy_count;
        let policies = if all { PolicyFilter::All } else { PolicyFilter::Only(due.policies) };
        let tidy = self.is_prune_pending(now);
        let options = RunOptions { policies, lease, prune: tidy, ..RunOptions::default() };
        self.start_run(now, what, options).await;
    }

    /// Acquires the lease; `None` if the run must be deferred. A request to stop removals takes precedence.
    pub(super) async fn take_lease(&mut self, now: Timestamp) -> Option<Lease> {
        if let Ok(Some(by)) = self.store.stop_request(now).await {
            if !std::mem::replace(&mut self.deferral_logged, true) {
                tracing::warn!("a run is due and put off: {by} asks for no more removals");
            }
            return None;
        }
        let holder = format!("serve by {}, process {}, since {now}", self.options.by, std::process::id());
        match self.store.take_lease(LeaseScope::Run, &holder).await {
            Ok(lease) => {
                self.deferral_logged = false;
                Some(lease)
            }
            Err(error) if error.kind == StateErrorKind::Leased => {
                if !std::mem::replace(&mut self.deferral_logged, true) {
                    tracing::warn!("a run is due and put off until another one is over: {}", error.chain());
                }
                None
            }
            Err(error) => {
                self.report_write_error(&error);
                None
            }
        }
    }

    pub(super) fn report_write_error(&mut self, error: &StateError) {
        let before = self.write_error.replace(error.clone());
        if before.is_none_or(|before| before.kind != error.kind) {
            let kind = error.kind.label();
            tracing::error!(
                kind,
                "nothing can be recorded, so nothing runs; the next minute tries again: {}",
                error.chain()
            );
        }
    }

    async fn start_run(&mut self, now: Timestamp, what: String, turn: RunOptions) {
        let turn = RunOptions { blocked_by: self.rules.outdated(), ..turn };
        let (halt, halted) = watch_channel::channel(false);
        match self.open_app(halted).await {
            Ok(app) => {
                tracing::debug!(what, "a run begins");
                let again = Some(turn.policies.clone());
                self.status.follow(app.progress());
                let stop_reason = app.stop_reason();
                let task = tokio::spawn(async move { vec![app.run_with(turn, &()).await] });
                self.running = Some(ActiveRun {
                    kind: RunKind::Run,
                    task,
                    started_at: now,
                    description: what,
                    stop_sender: halt,
                    stop_reason,
                    rerun: again,
                });
            }
            Err(error) => tracing::error!("no run is possible: {}", chain(&error)),
        }
    }

    /// Repeats a run that was stopped because the rules changed, under the new ones.
    async fn rerun(&mut self, due: PolicyFilter) {
        let now = self.now();
        let removes = self.may_remove(now);
        let lease = if removes { self.take_lease(now).await } else { None };
        if !removes || lease.is_some() {
            self.start_again(now, due, lease, None).await;
        }
    }

    /// Starts a run for policies that were due before, under the lease that it needs if it may remove.
    pub(super) async fn start_again(
        &mut self,
        now: Timestamp,
        due: PolicyFilter,
        lease: Option<Lease>,
        continues: Option<Uuid>,
    ) {
        let what = match &due {
            PolicyFilter::All => "all policies".to_owned(),
            PolicyFilter::Only(names) => self.timetable.describe_policies(names),
        };
        let tidy = self.is_prune_pending(now);
        let options = RunOptions { policies: due, lease, prune: tidy, continues, ..RunOptions::default() };
        self.start_run(now, what, options).await;
    }

    /// Waits for the result of the current run; forever without one.
    async fn wait_for_run(&mut self) -> Vec<RunCompletion> {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        match (&mut running.task).await {
            Ok(came) => came,
            Err(panicked) => vec![Err(RunError::failed(format!("a run ended by a fault in tagwarden: {panicked}")))],
        }
    }

    /// Handles the end of a run, and then what waited for it: approved plans first, because with runs every minute no
    /// tick would process them, and else what became due meanwhile, which is not left to the next minute.
    async fn handle_completion(&mut self, came: &[RunCompletion]) {
        let result = self.running.as_mut();
        let kind = result.as_ref().map(|running| running.kind);
        let again = result.and_then(|running| running.rerun.take().filter(|_| running.is_stopped()));
        self.record_completion(came);
        if let Some(due) = again {
            self.rerun(due).await;
            return;
        }
        let now = self.now();
        match kind {
            Some(RunKind::Run) if self.apply_approved_plans(now).await => return,
            // A refusal is shown at once. What still waits, such as a stopped plan, is left to the next minute.
            Some(RunKind::Apply) => drop(self.look_for_approved_plans().await),
            _ => {}
        }
        if !find_scheduled(&self.timetable, &self.handled, now).policies.is_empty() {
            self.tick().await;
        }
    }

    fn record_completion(&mut self, all: &[RunCompletion]) {
        let Some(running) = self.running.take() else { return };
        let now = self.now();
        for came in all {
            let failure = match came {
                Err(RunError::Store(error)) => Some(error.kind),
                _ => None,
            };
            self.leadership.note_run_end(failure, &self.handled);
            match came {
                Ok(result) if result.forgotten.is_some() => self.pruned_at = Some(now),
                Ok(_) => {}
                Err(error @ (RunError::Interrupted | RunError::InterruptedBy(_))) => {
                    tracing::info!("run ended: {}", chain(error));
                }
                Err(RunError::Store(error))
                    if matches!(error.kind, StateErrorKind::Leased | StateErrorKind::LeaseLost) =>
                {
                    tracing::warn!("put off until another run is over: {}", error.chain());
                }
                Err(RunError::Store(error)) => self.report_write_error(error),
                Err(error) => tracing::error!(exit_code = error.exit_code(), "a run failed: {}", chain(error)),
            }
            self.status.record_run(running.kind, running.started_at, now, came);
            let (mode, by) = (self.config.settings.mode, &self.options.by);
            self.notifier.enqueue(RunEvent::new(running.kind, came.as_ref(), mode, by, now));
        }
    }

    /// Returns true if the next run should prune old records: once a day, and by a time that the run can confirm.
    fn is_prune_pending(&self, now: Timestamp) -> bool {
        let fresh = |at: Timestamp| at <= now && now.duration_since(at).as_hours() < 24;
        !self.pruned_at.is_some_and(fresh)
    }

    /// Waits for the current work to end.
    async fn shut_down(&mut self) {
        systemd::notify_stopping();
        self.status.update(|status| status.activity = Activity::Stopping);
        systemd::set_status("Stopping");
        let Some(running) = &mut self.running else { return };
        running.stop_for_good(None);
        tracing::info!("stopping: the removal in flight is finished, no further one begins");
        if let Ok(came) = tokio::time::timeout(RUN_STOP_TIMEOUT, self.wait_for_run()).await {
            self.record_completion(&came);
        } else {
            tracing::warn!("a run did not end in time; what it left open is settled at the next start");
        }
    }
}
