//! The lease, and recovery from what an interrupted run left open.

use jiff::Timestamp;

use super::{App, RunError};
use crate::apply;
use crate::state::{Lease, LeaseScope, LeaseToken, StateErrorKind};

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
    pub(super) async fn recover(&self, lease: &Lease) -> Result<LeaseToken, RunError> {
        let token = self.settle(lease).await?;
        apply::fetch_missing_manifests(&self.store, &self.readers, self.undo_begin(), &self.stop).await?;
        Ok(token)
    }

    /// The time since which removals must be undoable.
    fn undo_begin(&self) -> Timestamp {
        self.now().checked_sub(self.settings.undo_window).unwrap_or(Timestamp::MIN)
    }

    /// Begins an epoch of the lease, and resolves what an interrupted run left open by reading the registries. Only
    /// under the lease: the open entries of another process are in flight, not interrupted.
    pub(super) async fn settle(&self, lease: &Lease) -> Result<LeaseToken, RunError> {
        // First, so that a process that lost the lease unknowingly cannot journal into the entries resolved here.
        let token = self.store.begin_epoch(lease, self.now()).await?;
        apply::recover(&self.store, &self.readers, &token, self.undo_begin(), self.now()).await?;
        Ok(token)
    }

    /// Resolves open entries without a held lease: if another process holds it, that one resolves them.
    pub(super) async fn recover_if_unleased(&self) -> Result<(), RunError> {
        if self.store.pending_entries().await?.is_empty() {
            return Ok(());
        }
        match self.lease("settling").await {
            Ok(lease) => self.settle(&lease).await.map(drop),
            Err(RunError::Store(error)) if error.kind == StateErrorKind::Leased => Ok(()),
            Err(error) => Err(error),
        }
    }
}
