//! The run under way, and its end before its next removal.

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::state::RunKind;
use crate::workflow::{PolicyFilter, RunError, RunResult, StopReason};

/// The result of a run.
pub(super) type RunCompletion = Result<RunResult, RunError>;

/// A running run, or several approved plans that are applied one after the other.
pub(super) struct ActiveRun {
    pub(super) kind: RunKind,
    pub(super) task: JoinHandle<Vec<RunCompletion>>,
    pub(super) started_at: Timestamp,
    pub(super) description: String,
    /// Becomes true when no further removal of it may begin.
    pub(super) stop_sender: watch::Sender<bool>,
    /// Why, for its record.
    pub(super) stop_reason: StopReason,
    /// The policies to run again under the new rules, if the run was stopped because the rules changed.
    pub(super) rerun: Option<PolicyFilter>,
}

impl ActiveRun {
    /// Returns true if no further removal of it may begin.
    pub(super) fn is_stopped(&self) -> bool {
        *self.stop_sender.borrow()
    }

    /// Stops the run before its next removal. A scheduled run is repeated.
    pub(super) fn stop_for_new_config(&self) {
        self.stop_reason.set("an edit of the settings or policies");
        if !self.stop_sender.send_replace(true) {
            let then =
                if self.rerun.is_some() { "it is repeated by the new ones" } else { "its plan has to be made again" };
            tracing::warn!(
                "the rules changed during a run of {}: it ends before its next removal, and {then}",
                self.description
            );
        }
    }

    /// Stops the run before its next removal, and does not repeat it. Its record says that it was interrupted by
    /// `what`, unless it was stopped before; `None` if that is the end of its daemon.
    pub(super) fn stop_for_good(&mut self, what: Option<&str>) {
        if let Some(what) = what {
            self.stop_reason.set(what);
        }
        self.rerun = None;
        self.stop_sender.send_replace(true);
    }
}
