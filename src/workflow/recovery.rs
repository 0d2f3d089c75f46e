//! The lease, and recovery from what an interrupted run left open.

use std::collections::BTreeSet;

use jiff::Timestamp;
use uuid::Uuid;

use super::{App, RunError, RunOutcome};
use crate::apply;
use crate::report::RunSummary;
use crate::state::{Lease, LeaseScope, LeaseToken, RunEnd, RunKind, RunRecord, StateErrorKind};

/// The last runs, among which those are that a killed process left without an end.
const RECENT_RUNS: u32 = 100;

impl App {
    /// Acquires the lease.
    ///
    /// # Errors
    /// When another process has it, or the state cannot be used.
    pub async fn lease(&self, command: &str) -> Result<Lease, RunError> {
        let holder = format!("{command} by {}, process {}, since {}", self.by, std::process::id(), self.now());
        Ok(self.store.take_lease(LeaseScope::Run, &holder).await?)
    }

    /// Does the work of [`App::settle`], and completes the journal: reads the manifests that earlier runs could not.
    pub(super) async fn recover(&self, lease: &Lease, run: Uuid) -> Result<LeaseToken, RunError> {
        let token = self.settle(lease, Some(run)).await?;
        apply::fetch_missing_manifests(&self.store, &self.readers, self.undo_begin(), &self.stop).await?;
        Ok(token)
    }

    /// The time since which removals must be undoable.
    fn undo_begin(&self) -> Timestamp {
        self.now().checked_sub(self.settings.undo_window).unwrap_or(Timestamp::MIN)
    }

    /// Begins an epoch of the lease, and resolves what an interrupted run left open by reading the registries. Only
    /// under the lease: the open entries of another process are in flight, not interrupted. `run` is the one under way.
    pub(super) async fn settle(&self, lease: &Lease, run: Option<Uuid>) -> Result<LeaseToken, RunError> {
        // First, so that a process that lost the lease unknowingly cannot journal into the entries resolved here.
        let token = self.store.begin_epoch(lease, self.now()).await?;
        apply::recover(&self.store, &self.readers, &token, self.undo_begin(), self.now()).await?;
        self.end_dead_runs(run).await?;
        Ok(token)
    }

    /// Records the end of each `apply` and `restore` whose process ended without that, unless entries of its are open still.
    /// Only under the lease, which whoever removes or restores has. A dry run needs none, so it may be alive; and a daemon
    /// that leads goes on with a run that has no end.
    async fn end_dead_runs(&self, current: Option<Uuid>) -> Result<(), RunError> {
        let open: BTreeSet<Uuid> = self.store.pending_entries().await?.iter().map(|entry| entry.run).collect();
        for RunRecord { run, end, .. } in &self.store.runs(RECENT_RUNS).await? {
            let may_live = matches!(run.kind, RunKind::Plan | RunKind::Run) || Some(run.id) == current;
            if end.is_some() || may_live || open.contains(&run.id) {
                continue;
            }
            let end = RunEnd {
                ended_at: self.now(),
                outcome: RunOutcome::Interrupted.label().to_owned(),
                exit_code: RunOutcome::Interrupted.exit_code(),
                // Without counts: these are those of its journal.
                summary: RunSummary::default().to_json(),
                error: Some("interrupted: its process ended before it did; a later command recorded that".to_owned()),
            };
            tracing::warn!(run = %run.id, "its process ended before it did, so it counts as interrupted");
            self.store.finish_run(run.id, &end).await?;
        }
        Ok(())
    }

    /// Resolves open entries without a held lease: if another process holds it, that one resolves them.
    pub(super) async fn recover_if_unleased(&self) -> Result<(), RunError> {
        if self.store.pending_entries().await?.is_empty() {
            return Ok(());
        }
        match self.lease("settling").await {
            Ok(lease) => self.settle(&lease, None).await.map(drop),
            Err(RunError::Store(error)) if error.kind == StateErrorKind::Leased => Ok(()),
            Err(error) => Err(error),
        }
    }
}
