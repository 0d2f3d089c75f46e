//! What the daemon lets be seen of itself: where it is in its work, and what came of it.

use jiff::Timestamp;
use tokio::sync::watch;

use super::metrics::Metrics;
use super::views::RunCounts;
use crate::run::{Ended, RunError};
use crate::store::{RunKind, RunRecord};

/// Where the daemon is in its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// When it started.
    pub started_at: Timestamp,
    /// Whether it goes by its schedule: the state is open and policies were loaded.
    pub ready: bool,
    /// What it does now.
    pub doing: Doing,
    /// The next runs, the earliest first.
    pub next: Vec<NextRun>,
    /// When a run was due last by the schedule; nothing where none ever was, or nothing is scheduled.
    pub last_due: Option<Timestamp>,
    /// Why runs remove nothing right now, such as a freeze.
    pub blocked_by: Option<String>,
    /// The policies that it goes by.
    pub policies: PolicyState,
}

/// What the daemon does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    /// It waits for the next run.
    Nothing,
    /// A run.
    Run {
        /// Its kind.
        kind: RunKind,
        /// When it began.
        since: Timestamp,
        /// What it goes over, such as `all policies`.
        what: String,
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
    pub what: String,
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
pub struct Board {
    status: watch::Sender<Status>,
    metrics: Metrics,
}

impl Board {
    /// A board that shows `status`.
    #[must_use]
    pub fn new(status: Status) -> Self {
        let metrics = Metrics::new();
        if status.policies.problem.is_some() {
            metrics.policies_failed();
        }
        Self { status: watch::Sender::new(status), metrics }
    }

    /// What it shows now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Changes what it shows. A problem of the policies that is not the one shown before counts as one more.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(|status| {
            let before = status.policies.problem.clone();
            change(status);
            if status.policies.problem.is_some() && status.policies.problem != before {
                self.metrics.policies_failed();
            }
        });
    }

    /// Notes what came of a run.
    pub fn run_ended(&self, kind: RunKind, began_at: Timestamp, ended_at: Timestamp, came: &Result<Ended, RunError>) {
        self.metrics.run_ended(kind, ended_at.duration_since(began_at).as_secs_f64().max(0.0), ended_at, came);
    }

    /// Notes what earlier processes left on record.
    pub(super) fn recall(&self, recent: &[(RunRecord, RunCounts)]) {
        self.metrics.recall(recent);
    }

    /// All numbers as of now.
    pub(super) fn metrics(&self) -> String {
        self.metrics.text(&self.status.borrow())
    }
}
