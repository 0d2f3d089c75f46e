//! The status of the daemon at one time: its activity, the next runs, and its policies.

use jiff::Timestamp;

use crate::report::AttentionView;
use crate::state::{RunKind, StateError};

/// The current status of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSnapshot {
    /// Time of its start.
    pub started_at: Timestamp,
    /// True if it follows its schedule: the state is open and policies were loaded.
    pub ready: bool,
    /// Its role among the daemons with the same state.
    pub role: Role,
    /// Why it removes nothing although settings and policies enforce: its policies or settings are older than those of
    /// another daemon with the same state.
    pub outdated: Option<String>,
    /// The current activity.
    pub activity: Activity,
    /// The next runs, the earliest first.
    pub next: Vec<NextRun>,
    /// The last time at which a run was due by the schedule; `None` if there was none, or nothing is scheduled.
    pub last_scheduled_time: Option<Timestamp>,
    /// Why runs remove nothing now, such as a freeze.
    pub blocked_by: Option<String>,
    /// The error for which nothing can be recorded, and so nothing runs.
    pub write_error: Option<StateError>,
    /// The plans in the folder of approved plans that are refused or cannot be read.
    pub approved_plans: Vec<AttentionView>,
    /// The policies in force.
    pub policies: PolicyState,
}

/// The role of a daemon among those with the same state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The only daemon: its state is a file.
    Single,
    /// It follows the schedule.
    Leader,
    /// Another daemon follows the schedule.
    StandBy {
        /// The description of that daemon; `None` while it is unknown.
        leader: Option<String>,
    },
}

/// The activity of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    /// It waits for the next run.
    Idle,
    /// A run.
    Run {
        /// Its kind.
        kind: RunKind,
        /// Time of its start.
        since: Timestamp,
        /// Its scope, such as `all policies`.
        description: String,
    },
    /// It completes its work, to stop.
    Stopping,
}

/// An upcoming run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextRun {
    /// Its time.
    pub at: Timestamp,
    /// Its scope, such as `all policies`.
    pub description: String,
    /// Why it will remove nothing, if so: the mode of the settings, a window, a freeze.
    pub blocked_by: Option<String>,
}

/// The policies in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyState {
    /// The hash over all policy files.
    pub revision: String,
    /// The git commit of their folder, if it is a checkout.
    pub commit: Option<String>,
    /// Time of their loading.
    pub loaded_at: Timestamp,
    /// The number of policies.
    pub count: usize,
    /// The problem of a later edit, which is not in force.
    pub problem: Option<PolicyProblem>,
}

/// An invalid edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblem {
    /// Time of its detection.
    pub since: Timestamp,
    /// All of its problems, by file and line.
    pub text: String,
}
