//! Recovery after a crash: every intent without an outcome is resolved by reading from the registry.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::absence;
use crate::domain::{Action, Intent, Outcome, RegistryName, SkipReason, TagState};
use crate::registry::{RegistryError, RegistryReader};
use crate::state::{JournalEntry, StateError, StateStore};

/// Resolves what an earlier run left open, and returns the entries with their outcomes.
///
/// A tag that does not exist was removed; one that is still at its digest was not. The same applies to a manifest that
/// was deleted or put by its digest. A 404 counts only if the repository itself answers as well, because it may be
/// transient. If a registry cannot answer, the entry stays open until the next start; so does one so recent that its
/// request may still be carried out.
///
/// # Errors
/// Returns an error if the journal cannot be read or written.
pub async fn recover(
    store: &StateStore,
    readers: &BTreeMap<RegistryName, Arc<dyn RegistryReader>>,
    now: Timestamp,
) -> Result<Vec<(JournalEntry, Outcome)>, StateError> {
    let mut settled = Vec::new();
    // The last first: of several intents for one tag, that one was carried out.
    for entry in store.pending_entries().await?.into_iter().rev() {
        let intent = &entry.intent;
        let Some(reader) = readers.get(&intent.registry) else {
            tracing::warn!(registry = %intent.registry, tag = %intent.tag, "cannot settle: no such registry in the settings");
            continue;
        };
        if intent.endpoint.as_deref().is_some_and(|endpoint| endpoint != reader.settings().address()) {
            tracing::warn!(registry = %intent.registry, tag = %intent.tag, was = intent.endpoint.as_deref(),
                is = reader.settings().address(), "cannot settle: it was begun at another address");
            continue;
        }
        let unsettled = |why: &str| {
            tracing::warn!(registry = %intent.registry, repository = %intent.repository, tag = %intent.tag, why,
                "cannot settle yet");
        };
        let found = match observe(&**reader, intent).await {
            Ok(ObservedState::Present(found)) => Some(found),
            Ok(ObservedState::Absent) => None,
            Ok(ObservedState::NotFound) => {
                unsettled("the registry does not find it, and its repository does not answer either");
                continue;
            }
            Err(error) => {
                unsettled(&error.chain());
                continue;
            }
        };
        let young = now.duration_since(entry.intended_at).unsigned_abs() < reader.settings().timeout;
        let left_at = found.as_ref().and_then(|found| found.pushed_at);
        let outcome = match (intent.action, found.map(|found| found.digest)) {
            (Action::Remove(_), None) if was_removed_later(store, &entry).await? => {
                Outcome::Skipped(SkipReason::Recovered("a later run removed the tag".to_owned()))
            }
            (Action::Remove(_) | Action::DeleteUntagged, None) => {
                Outcome::Done("found gone at the next start".to_owned())
            }
            (Action::Remove(_), Some(found)) if found == intent.digest => {
                if young {
                    continue;
                }
                Outcome::Skipped(SkipReason::Recovered("the tag is still there at its digest".to_owned()))
            }
            (Action::Restore | Action::RestoreManifest, Some(found)) if found == intent.digest => {
                Outcome::Done("found put back at the next start".to_owned())
            }
            (Action::DeleteUntagged, Some(_)) | (Action::Restore | Action::RestoreManifest, None) if young => continue,
            (Action::DeleteUntagged, Some(_)) => {
                Outcome::Skipped(SkipReason::Recovered("the manifest is still there".to_owned()))
            }
            (Action::Remove(_) | Action::Restore | Action::RestoreManifest, Some(to)) => {
                Outcome::Skipped(SkipReason::Moved { to })
            }
            (Action::RestoreManifest, None) => {
                Outcome::Skipped(SkipReason::Recovered("the manifest is not there".to_owned()))
            }
            (Action::Restore, None) => Outcome::Skipped(SkipReason::Recovered("the tag is not there".to_owned())),
        };
        store.record_restore_outcome(entry.id, &outcome, left_at, now).await?;
        tracing::warn!(run = %entry.run, registry = %intent.registry, repository = %intent.repository, tag = %intent.tag,
            outcome = outcome.label(), "settled what an interrupted run left open");
        settled.push((entry, outcome));
    }
    Ok(settled)
}

/// The current state of the tag or manifest that an intent names.
enum ObservedState {
    /// The tag's state; for a manifest by its digest, that it exists.
    Present(TagState),
    /// It does not exist, and its repository answers.
    Absent,
    /// It was not found, which may be transient.
    NotFound,
}

async fn observe(reader: &dyn RegistryReader, intent: &Intent) -> Result<ObservedState, RegistryError> {
    let Intent { repository, tag, digest, .. } = intent;
    let by_digest = matches!(intent.action, Action::DeleteUntagged | Action::RestoreManifest);
    let found = if by_digest {
        reader.has_manifest(repository, digest).await?.then(|| TagState {
            digest: digest.clone(),
            pushed_at: None,
            lock: None,
        })
    } else {
        reader.resolve(repository, tag).await?
    };
    let gone = match (found, intent.action) {
        (Some(found), _) => return Ok(ObservedState::Present(found)),
        (None, Action::Remove(_)) => absence::is_tag_absent(reader, repository, tag, digest).await?,
        (None, Action::DeleteUntagged) => absence::is_manifest_absent(reader, repository, digest).await?,
        // Its absence only shows that it was not put, and it may be put again.
        (None, Action::Restore | Action::RestoreManifest) => true,
    };
    Ok(if gone { ObservedState::Absent } else { ObservedState::NotFound })
}

/// Returns true if the journal has a later completed removal of the same tag: then this one was not carried out.
async fn was_removed_later(store: &StateStore, entry: &JournalEntry) -> Result<bool, StateError> {
    let intent = &entry.intent;
    let last = store.last_removal(&intent.registry, &intent.repository, &intent.tag).await?;
    Ok(last.is_some_and(|last| last.id > entry.id))
}
