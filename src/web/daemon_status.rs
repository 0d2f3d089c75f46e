//! The daemon's status and metrics, shared between the daemon and the pages.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

use super::metrics::Metrics;
use super::status::StatusSnapshot;
use crate::report::{RunProgress, RunSummary};
use crate::state::{RunKind, RunRecord, StateFigures};
use crate::workflow::{RunError, RunResult};

/// The status that the daemon writes and the pages read, with the metrics.
#[derive(Debug)]
pub struct DaemonStatus {
    snapshot: watch::Sender<StatusSnapshot>,
    /// The progress of the last started run.
    progress: Mutex<Option<watch::Receiver<Option<RunProgress>>>>,
    metrics: Metrics,
}

impl DaemonStatus {
    /// Creates a daemon status that starts with `status`.
    #[must_use]
    pub fn new(status: StatusSnapshot) -> Self {
        let metrics = Metrics::new();
        if status.policies.problem.is_some() {
            metrics.count_policy_failure();
        }
        Self { snapshot: watch::Sender::new(status), progress: Mutex::default(), metrics }
    }

    /// Returns the status as of now.
    #[must_use]
    pub fn snapshot(&self) -> StatusSnapshot {
        self.snapshot.borrow().clone()
    }

    /// Shows the progress of a run from now on, instead of an earlier run's.
    pub fn follow(&self, progress: watch::Receiver<Option<RunProgress>>) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    /// Returns the progress of the current run; `None` while there is no run.
    pub(super) fn progress(&self) -> Option<RunProgress> {
        let followed = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        followed.as_ref()?.borrow().clone()
    }

    /// Changes the status. A problem of the policies that differs from the one before counts as one more.
    pub fn update(&self, change: impl FnOnce(&mut StatusSnapshot)) {
        self.snapshot.send_modify(|status| {
            let before = status.policies.problem.clone();
            change(status);
            if status.policies.problem.is_some() && status.policies.problem != before {
                self.metrics.count_policy_failure();
            }
        });
    }

    /// Counts a run by its result.
    pub fn record_run(
        &self,
        kind: RunKind,
        began_at: Timestamp,
        ended_at: Timestamp,
        result: &Result<RunResult, RunError>,
    ) {
        self.metrics.record_run(kind, ended_at.duration_since(began_at).as_secs_f64().max(0.0), ended_at, result);
    }

    /// Counts the runs that earlier processes recorded.
    pub(super) fn load_history(&self, recent: &[(RunRecord, RunSummary)]) {
        self.metrics.load_history(recent);
    }

    /// Sets the figures of the state.
    pub fn record_figures(&self, figures: &StateFigures) {
        self.metrics.record_figures(figures);
    }

    /// Returns all metrics as of now, in the OpenMetrics text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.metrics.render(&self.snapshot.borrow())
    }
}
