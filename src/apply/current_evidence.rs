//! Current evidence, which is checked before each removal: a run may remove for hours after its decision.

use async_trait::async_trait;
use tokio::sync::watch;

use super::ApplyContext;
use crate::domain::{Deletion, Removal, SkipReason};

/// Evidence that is kept fresh while a run removes. It can only retain more than the decision did.
#[async_trait]
pub trait CurrentEvidence: Send + Sync {
    /// Returns why a tag may no longer be removed, or `None` if it still may.
    async fn check_removal(&self, removal: &Removal) -> Option<SkipReason>;

    /// Returns why an untagged manifest and its dependents may no longer be deleted, or `None` if they still may.
    async fn check_deletion(&self, deletion: &Deletion) -> Option<SkipReason>;
}

impl ApplyContext {
    /// Returns why current evidence retains a tag, or `None`.
    pub(super) async fn check_removal_evidence(&self, removal: &Removal) -> Option<SkipReason> {
        let evidence = self.evidence.as_deref()?;
        unless_stopped(self.stop.clone(), evidence.check_removal(removal)).await
    }

    /// Returns why current evidence retains an untagged manifest, or `None`.
    pub(super) async fn check_deletion_evidence(&self, deletion: &Deletion) -> Option<SkipReason> {
        let evidence = self.evidence.as_deref()?;
        unless_stopped(self.stop.clone(), evidence.check_deletion(deletion)).await
    }
}

/// Awaits a check, but not after a stop: sources may take minutes.
async fn unless_stopped(
    mut stop: watch::Receiver<bool>,
    asking: impl Future<Output = Option<SkipReason>>,
) -> Option<SkipReason> {
    tokio::select! {
        against = asking => against,
        Ok(_) = stop.wait_for(|stop| *stop) => Some(SkipReason::Interrupted),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_run_that_is_stopped_waits_for_no_source() {
        let (stop, stopped) = watch::channel(false);
        let kept = || Some(SkipReason::Kept("a release".to_owned()));
        assert_eq!(unless_stopped(stopped.clone(), ready(kept())).await, kept());
        assert_eq!(unless_stopped(stopped.clone(), ready(None)).await, None);
        let waiting = tokio::spawn(unless_stopped(stopped.clone(), pending()));
        stop.send_replace(true);
        assert_eq!(waiting.await.unwrap(), Some(SkipReason::Interrupted));
        // The sender is gone, so no stop can come.
        let (_, orphaned) = watch::channel(false);
        assert_eq!(unless_stopped(orphaned, ready(None)).await, None);
    }
}
