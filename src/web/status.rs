//! What the daemon lets be seen of itself: where it is in its work, and what came of it.

use jiff::Timestamp;
use tokio::sync::watch;

use super::dto::RunCounts;
use super::metrics::Metrics;
use crate::state::{RunKind, RunRecord};
use crate::workflow::{RunError, RunResult};

/// Where the daemon is in its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSnapshot {
    /// When it started.
    pub started_at: Timestamp,
    /// Whether it goes by its schedule: the state is open and policies were loaded.
    pub ready: bool,
    /// What it does now.
    pub activity: Activity,
    /// The next runs, the earliest first.
    pub next: Vec<NextRun>,
    /// When a run was due last by the schedule; nothing where none ever was, or nothing is scheduled.
    pub last_scheduled_time: Option<Timestamp>,
    /// Why runs remove nothing right now, such as a freeze.
    pub blocked_by: Option<String>,
    /// The policies that it goes by.
    pub policies: PolicyState,
}

/// What the daemon does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    /// It waits for the next run.
    Idle,
    /// A run.
    Run {
        /// Its kind.
        kind: RunKind,
        /// When it began.
        since: Timestamp,
        /// What it goes over, such as `all policies`.
        description: String,
    },
    /// It finishes what it began, to end.
    Stopping,
}

/// A run to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextRun {
    /// When.
    pub at: Timestamp,
    /// What it goes over, such as `all policies`.
    pub description: String,
    /// Why it will remove nothing, if so: the mode of the settings, a window, a freeze.
    pub blocked_by: Option<String>,
}

/// The policies that the daemon goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyState {
    /// The hash over all policy files.
    pub revision: String,
    /// The git commit of their folder, where it is a checkout.
    pub commit: Option<String>,
    /// When they were loaded.
    pub loaded_at: Timestamp,
    /// How many there are.
    pub count: usize,
    /// What is wrong with a later edit, which is not gone by.
    pub problem: Option<PolicyProblem>,
}

/// An edit that cannot be gone by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblem {
    /// When it was found.
    pub since: Timestamp,
    /// All that is wrong with it, by file and line.
    pub text: String,
}

/// Where the daemon writes what may be seen, and others read it.
#[derive(Debug)]
pub struct DaemonStatus {
    snapshot: watch::Sender<StatusSnapshot>,
    metrics: Metrics,
}

impl DaemonStatus {
    /// A board that shows `status`.
    #[must_use]
    pub fn new(status: StatusSnapshot) -> Self {
        let metrics = Metrics::new();
        if status.policies.problem.is_some() {
            metrics.count_policy_failure();
        }
        Self { snapshot: watch::Sender::new(status), metrics }
    }

    /// What it shows now.
    #[must_use]
    pub fn snapshot(&self) -> StatusSnapshot {
        self.snapshot.borrow().clone()
    }

    /// Changes what it shows. A problem of the policies that is not the one shown before counts as one more.
    pub fn update(&self, change: impl FnOnce(&mut StatusSnapshot)) {
        self.snapshot.send_modify(|status| {
            let before = status.policies.problem.clone();
            change(status);
            if status.policies.problem.is_some() && status.policies.problem != before {
                self.metrics.count_policy_failure();
            }
        });
    }

    /// Notes what came of a run.
    pub fn record_run(
        &self,
        kind: RunKind,
        began_at: Timestamp,
        ended_at: Timestamp,
        came: &Result<RunResult, RunError>,
    ) {
        self.metrics.record_run(kind, ended_at.duration_since(began_at).as_secs_f64().max(0.0), ended_at, came);
    }

    /// Notes what earlier processes left on record.
    pub(super) fn load_history(&self, recent: &[(RunRecord, RunCounts)]) {
        self.metrics.load_history(recent);
    }

    /// All numbers as of now.
    pub(super) fn metrics(&self) -> String {
        self.metrics.render(&self.snapshot.borrow())
    }
}
