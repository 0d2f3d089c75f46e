//! The daemon: it waits, starts due runs, reloads edits, and serves its status.
//!
//! [`Daemon::open`] prepares, [`Daemon::run`] is the loop. Ticks, reloads and the stop come from outside, so that all
//! of it can be tested at any time of any clock. Runs are separate tasks, and none begins while another is in progress.

mod active_config;
mod active_run;
mod approved_plans;
mod event_loop;
mod file_access;
pub mod heartbeat;
mod leadership;
mod reload;
mod rules;
mod schedule;
mod status;
mod systemd;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch as watch_channel};

use crate::apply::Clock;
use crate::config::{Mode, Settings, TelemetrySettings};
use crate::domain::{Failure, Policy, PolicyMode, PolicyName};
use crate::policy::PolicySet;
use crate::registry::RetryPolicy;
use crate::state::{Lease, LeaseScope, StateErrorKind, StateLocation, StateStore};
use crate::web::{Activity, DaemonStatus, NextRun, PolicyState, Role, StatusSnapshot};
use crate::workflow::{MonotonicClock, RunError};

use active_config::ActiveConfig;
pub use schedule::{
    ScheduleWarning, ScheduledPolicies, ScheduledRun, Timetable, TimetableEntry, build_timetable, find_scheduled,
};

/// The start options of a daemon.
#[derive(Clone)]
pub struct DaemonOptions {
    /// The settings file.
    pub file: PathBuf,
    /// The environment, which overrides it.
    pub environment: Vec<(String, String)>,
    /// The user that runs it: `user@host`.
    pub by: String,
    /// The time.
    pub clock: Clock,
    /// The monotonic clock; without it the wall clock counts as never set.
    pub monotonic_clock: Option<MonotonicClock>,
    /// Retry policy for registry requests.
    pub retry_policy: RetryPolicy,
}

/// The external events of a daemon.
pub struct Events {
    /// A minute has passed.
    pub ticks: mpsc::Receiver<()>,
    /// Settings and policies are to be reloaded.
    pub reload: mpsc::Receiver<()>,
    /// Becomes true when it is to stop.
    pub stop: watch_channel::Receiver<bool>,
}

/// A prepared daemon.
pub struct Daemon {
    options: DaemonOptions,
    config: ActiveConfig,
    store: StateStore,
    status: Arc<DaemonStatus>,
    listener: TcpListener,
    address: SocketAddr,
    handled: BTreeMap<String, Timestamp>,
    /// The lease of the schedule; `None` while another daemon has it.
    lease: Option<Lease>,
}

/// Why a daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Settings, policies or the state are unusable.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Its address cannot be bound.
    #[error(transparent)]
    Listen(Failure<()>),
}

impl DaemonError {
    /// Returns the label used in logs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Listen(_) => "listen",
        }
    }
}

impl Daemon {
    /// Loads settings and policies, acquires the daemon's lease, opens the state, and listens.
    ///
    /// # Errors
    /// Returns an error if any of that fails. If another daemon holds the state and it is a file, the error names it, and
    /// its start; with PostgreSQL this one stands by.
    pub async fn open(options: DaemonOptions) -> Result<Self, DaemonError> {
        let now = (options.clock)();
        let config = active_config::load(&options.file, &options.environment)?;
        let holder = leadership::describe_holder(&options, now);
        let store = StateStore::open(&config.settings.state).await.map_err(RunError::from)?;
        let lease = match store.take_lease(LeaseScope::Daemon, &holder).await {
            Err(error) if error.kind == StateErrorKind::Leased && is_shared(&store) => None,
            taken => Some(taken.map_err(RunError::from)?),
        };
        let handled = store.schedule_progress().await.map_err(RunError::from)?;
        let address = config.settings.listen;
        let listen_error = |error: std::io::Error| {
            let help = match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "another process listens there, maybe another Tagwarden: stop it, or set `listen` to another port"
                }
                std::io::ErrorKind::PermissionDenied => "set `listen` to a port from 1024 on",
                _ => "set `listen` to an address of this machine",
            };
            let failure = Failure::new((), format!("cannot listen on {address}")).caused_by(error);
            DaemonError::Listen(failure.with_help(help))
        };
        let listener = TcpListener::bind(address).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let status = Arc::new(DaemonStatus::new(StatusSnapshot {
            started_at: now,
            ready: false,
            role: Role::Single,
            outdated: None,
            activity: Activity::Idle,
            next: Vec::new(),
            last_scheduled_time: None,
            blocked_by: None,
            write_error: None,
            approved_plans: Vec::new(),
            policies: policy_state(&config.policies, now),
        }));
        Ok(Self { options, config, store, status, listener, address, handled, lease })
    }

    /// Returns its published status.
    #[must_use]
    pub fn status(&self) -> Arc<DaemonStatus> {
        Arc::clone(&self.status)
    }

    /// Returns the collector of its traces and metrics, if the settings name one.
    #[must_use]
    pub fn telemetry(&self) -> Option<&TelemetrySettings> {
        self.config.settings.telemetry.as_ref()
    }

    /// Returns its listening address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns remarks for people although nothing is wrong.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.config.settings.warnings
    }
}

/// Returns true if daemons on other machines may use the same state, so that leases expire.
fn is_shared(store: &StateStore) -> bool {
    matches!(store.location(), StateLocation::Postgres(_))
}

fn policy_state(policies: &PolicySet, loaded_at: Timestamp) -> PolicyState {
    PolicyState {
        revision: policies.revision(),
        commit: policies.commit.clone(),
        loaded_at,
        count: policies.policies.len(),
        problem: None,
    }
}

/// Returns the host of `user@host`.
#[must_use]
pub fn host(by: &str) -> &str {
    by.rsplit_once('@').map_or(by, |(_, host)| host)
}

/// Returns the next runs, the earliest first, each with the reason that blocks its removals.
#[must_use]
pub fn next_runs(settings: &Settings, policies: &PolicySet, host: &str, now: Timestamp, count: usize) -> Vec<NextRun> {
    let table = build_timetable(&settings.schedule, &policies.policies, host);
    let coming = table.scheduled_runs(now, count).into_iter();
    coming
        .map(|ScheduledRun { at, policies: names }| NextRun {
            at,
            description: table.describe_policies(&names),
            blocked_by: blocked_by(settings, &policies.policies, |name| names.contains(name), at),
        })
        .collect()
}

/// Returns why a run of those policies at that time removes nothing.
fn blocked_by(
    settings: &Settings,
    policies: &[Policy],
    is_selected: impl Fn(&PolicyName) -> bool,
    at: Timestamp,
) -> Option<String> {
    let enforces = |policy: &Policy| policy.mode == PolicyMode::Enforce && is_selected(&policy.name);
    match settings.mode {
        Mode::DryRun => Some("mode `dry-run` of the settings: nothing is ever removed".to_owned()),
        Mode::Approved if settings.approvals.folder.is_some() => {
            Some("mode `approved` of the settings: only approved plans are applied".to_owned())
        }
        Mode::Approved => Some("mode `approved` of the settings: only `tagwarden apply` removes".to_owned()),
        Mode::Enforce if !policies.iter().any(enforces) => {
            Some("mode `dry-run` of every policy whose turn it is".to_owned())
        }
        Mode::Enforce => settings.schedule.blocked_by(at).map(|block| block.to_string()),
    }
}
