//! Recovery after a crash: every intent without an outcome is resolved by reading from the registry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::absence;
use crate::domain::{Action, Intent, JournalId, Outcome, RegistryName, SkipReason, TagState};
use crate::registry::{RegistryError, RegistryReader};
use crate::state::{JournalEntry, LeaseToken, StateError, StateErrorKind, StateStore};

/// Resolves what an earlier run left open, and returns the entries with their outcomes.
///
/// A tag that does not exist was removed. One that is still there is `superseded`: whoever began its removal may be alive
/// and send the request late. If it is found gone at a later start, and no other entry says why, a new entry attributes
/// that to the superseded one, as long as that was closed at `since` or later. The same applies to a manifest that was
/// deleted by its digest; a tag or manifest that was to be put and does not exist was not put. A 404 counts only if the
/// repository itself answers as well, because it may be transient. If a registry cannot answer, the entry stays open
/// until the next start; so does one so recent that its request may still be carried out.
///
/// # Errors
/// Returns an error if the journal cannot be read or written.
pub async fn recover(
    store: &StateStore,
    readers: &BTreeMap<RegistryName, Arc<dyn RegistryReader>>,
    lease: &LeaseToken,
    since: Timestamp,
    now: Timestamp,
) -> Result<Vec<(JournalEntry, Outcome)>, StateError> {
    let mut settled = Vec::new();
    // The last first: of several intents for one tag, that one was carried out.
    for entry in store.pending_entries().await?.into_iter().rev() {
        let intent = &entry.intent;
        let Some(reader) = reader_of(readers, intent) else { continue };
        let unsettled = |why: &str| {
            tracing::warn!(registry = %intent.registry, repository = %intent.repository, tag = %intent.tag, why,
                "cannot settle yet");
        };
        let found = match observe(reader, intent).await {
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
                superseded("the tag is still there at its digest")
            }
            (Action::Restore | Action::RestoreManifest, Some(found)) if found == intent.digest => {
                Outcome::Done("found put back at the next start".to_owned())
            }
            (Action::DeleteUntagged, Some(_)) | (Action::Restore | Action::RestoreManifest, None) if young => continue,
            (Action::DeleteUntagged, Some(_)) => superseded("the manifest is still there"),
            (Action::Remove(_), Some(to)) => superseded(&format!("the tag is still there, and names {to} now")),
            (Action::Restore | Action::RestoreManifest, Some(to)) => Outcome::Skipped(SkipReason::Moved { to }),
            (Action::RestoreManifest, None) => {
                Outcome::Skipped(SkipReason::Recovered("the manifest is not there".to_owned()))
            }
            (Action::Restore, None) => Outcome::Skipped(SkipReason::Recovered("the tag is not there".to_owned())),
        };
        match store.record_restore_outcome(entry.id, &outcome, left_at, now).await {
            // The process that began it lives, and has settled it since the list was read.
            Err(error) if error.kind == StateErrorKind::LeaseLost => continue,
            recorded => recorded?,
        }
        tracing::warn!(run = %entry.run, registry = %intent.registry, repository = %intent.repository, tag = %intent.tag,
            outcome = outcome.label(), "settled what an interrupted run left open");
        settled.push((entry, outcome));
    }
    settled.extend(attribute_absences(store, readers, lease, since, now).await?);
    Ok(settled)
}

/// Returns the reader of the registry that an entry names, if it is still at the same address.
fn reader_of<'a>(
    readers: &'a BTreeMap<RegistryName, Arc<dyn RegistryReader>>,
    intent: &Intent,
) -> Option<&'a dyn RegistryReader> {
    let Some(reader) = readers.get(&intent.registry) else {
        tracing::warn!(registry = %intent.registry, tag = %intent.tag, "cannot settle: no such registry in the settings");
        return None;
    };
    if intent.endpoint.as_deref().is_some_and(|endpoint| endpoint != reader.settings().address()) {
        tracing::warn!(registry = %intent.registry, tag = %intent.tag, was = intent.endpoint.as_deref(),
            is = reader.settings().address(), "cannot settle: it was begun at another address");
        return None;
    }
    Some(&**reader)
}

fn superseded(seen: &str) -> Outcome {
    Outcome::Skipped(SkipReason::Superseded(seen.to_owned()))
}

/// The outcome of an entry that attributes a removal to a superseded one.
pub(super) fn attribution(superseded: JournalId, evidence: &str) -> String {
    let what = format!("attributed to entry {superseded}, which a takeover had closed as superseded");
    if evidence.is_empty() { what } else { format!("{evidence}; {what}") }
}

/// Looks at the tags and manifests of superseded entries that nothing explains yet, and adds an entry of the same run for
/// each that is gone. A registry that does not answer is asked again at the next start.
async fn attribute_absences(
    store: &StateStore,
    readers: &BTreeMap<RegistryName, Arc<dyn RegistryReader>>,
    lease: &LeaseToken,
    since: Timestamp,
    now: Timestamp,
) -> Result<Vec<(JournalEntry, Outcome)>, StateError> {
    let mut attributed = Vec::new();
    let mut seen = BTreeSet::new();
    // The last first: of several entries for one tag, that one gets it.
    for entry in store.superseded_entries(since).await?.into_iter().rev() {
        let intent = &entry.intent;
        let manifest = (intent.action == Action::DeleteUntagged).then(|| intent.digest.clone());
        if !seen.insert((intent.registry.clone(), intent.repository.clone(), intent.tag.clone(), manifest)) {
            continue;
        }
        let Some(reader) = reader_of(readers, intent) else { continue };
        match observe(reader, intent).await {
            Ok(ObservedState::Absent) => {}
            Ok(ObservedState::Present(_) | ObservedState::NotFound) => continue,
            Err(error) => {
                tracing::warn!(registry = %intent.registry, repository = %intent.repository, tag = %intent.tag,
                    error = %error.chain(), "cannot see yet whether a superseded removal was carried out");
                continue;
            }
        }
        let outcome = Outcome::Done(attribution(entry.id, "found gone"));
        store.record_not_attempted(lease, entry.run, intent, &outcome, now).await?;
        tracing::warn!(run = %entry.run, registry = %intent.registry, repository = %intent.repository, tag = %intent.tag,
            entry = %entry.id, "attributed a missing tag to a superseded entry");
        attributed.push((entry, outcome));
    }
    Ok(attributed)
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
