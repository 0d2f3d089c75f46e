//! Intents, as a removal journals them.

use super::ApplyContext;
use crate::domain::{Intent, JournaledIntent, SkipReason};
use crate::registry::RawManifest;
use crate::state::{StateError, StateErrorKind};

impl ApplyContext {
    /// Journals an intent, or returns why it may not be carried out: a hold covers it, or a stop was requested.
    pub(super) async fn journal_intent(
        &self,
        intent: &Intent,
        manifest: &RawManifest,
    ) -> Result<Result<JournaledIntent, SkipReason>, StateError> {
        obstacle(self.store.intend(&self.lease, self.run, intent, manifest, (self.clock)()).await)
    }

    /// Does what [`ApplyContext::journal_intent`] does for an untag that leaves its manifest, without the manifest's
    /// content. Returns `None` if the content is needed to rule out a hold.
    pub(super) async fn journal_intent_without_manifest(
        &self,
        intent: &Intent,
    ) -> Result<Option<Result<JournaledIntent, SkipReason>>, StateError> {
        match self.store.intend_without_manifest(&self.lease, self.run, intent, (self.clock)()).await {
            Err(error) if error.kind == StateErrorKind::Missing => Ok(None),
            journaled => obstacle(journaled).map(Some),
        }
    }
}

/// Separates a reason against a removal from a failure of the journal.
fn obstacle(journaled: Result<JournaledIntent, StateError>) -> Result<Result<JournaledIntent, SkipReason>, StateError> {
    match journaled {
        Ok(journaled) => Ok(Ok(journaled)),
        Err(error) if error.kind == StateErrorKind::Held => Ok(Err(SkipReason::Held(error.chain()))),
        Err(error) if error.kind == StateErrorKind::Interrupted => Ok(Err(SkipReason::Interrupted)),
        Err(error) => Err(error),
    }
}
