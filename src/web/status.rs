//! The status of the daemon at one time: its activity, the next runs, and its policies.

use jiff::Timestamp;

use crate::state::RunKind;

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
