//! Putting tags back, byte for byte.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::{Action, Digest, Hold, HoldOrigin, Intent, OriginalDate, Outcome, SkipReason};
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind};
use crate::state::{JournalEntry, JournalId, RestoreRecord, StateError, StateErrorKind};

use super::restore_dependents::{self, ChildLookupError, MissingChildren};
use super::{ApplyContext, MAX_DEFERRALS, RegistryHandle};

/// The result of restoring one tag, or a manifest that was removed with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreResult {
    /// The tag, its digest, and where it belongs; for a manifest put by its digest, the tag is that of what it belongs to.
    pub intent: Intent,
    /// Its outcome.
    pub outcome: Outcome,
    /// Whether it was there already, at that digest.
    pub already_there: bool,
}

/// A hold on everything that is put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreHold {
    /// The person who restores: `user@host`.
    pub by: String,
    /// Its duration.
    pub duration: Duration,
}

/// Puts back the tags of journaled removals.
///
/// A tag that somebody pushed again meanwhile is left alone. What fails is tried once more after the others, because an
/// index can only come back after the images in it. What Tagwarden deleted with a manifest comes back with it, by its
/// digest: the images of an index before it, what referred to it afterwards.
///
/// Each tag counts by the time that it had when it was removed, and is held as `hold` says; both are in the state before
/// the tag is put. `impossible` names entries that cannot be put back, with the reason.
///
/// # Errors
/// When the journal could not be read or written.
pub async fn restore(
    context: &ApplyContext,
    entries: Vec<JournalEntry>,
    hold: Option<&RestoreHold>,
    impossible: &BTreeMap<JournalId, String>,
) -> Result<Vec<RestoreResult>, StateError> {
    let mut restored = Vec::new();
    let mut again = Vec::new();
    for entry in entries {
        if let Some(why) = impossible.get(&entry.id) {
            let intent = intent(context, &entry);
            restored.push(journal_result(context, intent, Outcome::Failed(why.clone()), false).await?);
            continue;
        }
        let done = restore_entry(context, &entry, hold, &mut restored).await?;
        if matches!(done.outcome, Outcome::Failed(_)) {
            again.push(entry);
        } else {
            restored.push(done);
        }
    }
    for entry in again {
        let done = restore_entry(context, &entry, hold, &mut restored).await?;
        restored.push(done);
    }
    Ok(restored)
}

/// The intent to put back what an entry removed.
fn intent(context: &ApplyContext, entry: &JournalEntry) -> Intent {
    let removed = &entry.intent;
    let endpoint = context.address(&removed.registry);
    Intent { action: Action::Restore, policy: None, date: None, endpoint, ..removed.clone() }
}

/// Puts back one tag; what comes back along with it is added to `along`.
async fn restore_entry(
    context: &ApplyContext,
    entry: &JournalEntry,
    hold: Option<&RestoreHold>,
    along: &mut Vec<RestoreResult>,
) -> Result<RestoreResult, StateError> {
    let removed = &entry.intent;
    let intent = intent(context, entry);
    let Some(target) = context.registries.get(&removed.registry) else {
        let why = format!("registry {} is not in the settings", removed.registry);
        return journal_result(context, intent, Outcome::Skipped(SkipReason::Stopped(why)), false).await;
    };
    if *context.stop.borrow() {
        return journal_result(context, intent, Outcome::Skipped(SkipReason::Interrupted), false).await;
    }
    match target.reader.resolve(&removed.repository, &removed.tag).await {
        Ok(Some(now)) if now.digest == removed.digest => {
            return journal_result(context, intent, already_there_outcome(), true).await;
        }
        Ok(Some(now)) => {
            return journal_result(context, intent, Outcome::Skipped(SkipReason::Moved { to: now.digest }), false)
                .await;
        }
        Err(error) => return journal_result(context, intent, Outcome::Failed(error.message), false).await,
        Ok(None) => {}
    }
    let manifest = match context.store.manifest_of(entry).await {
        Ok(manifest) => manifest,
        // One that is damaged keeps none of the others from coming back.
        Err(error) if matches!(error.kind, StateErrorKind::Missing | StateErrorKind::Corrupt) => {
            return journal_result(context, intent, Outcome::Failed(error.message), false).await;
        }
        Err(error) => return Err(error),
    };
    let within =
        match restore_dependents::missing_children(&context.store, &*target.reader, removed, &manifest.bytes).await {
            Ok(within) => within,
            Err(ChildLookupError::Registry(error)) => {
                return journal_result(context, intent, Outcome::Failed(error.message), false).await;
            }
            Err(ChildLookupError::Store(error)) => return Err(error),
        };
    // Where one is lost the others would be put for nothing.
    for child in within.restorable.iter().filter(|_| within.unrecoverable.is_none()) {
        let child = put_dependent(context, target, removed, child).await?;
        if let Outcome::Failed(why) = &child.outcome {
            let why = format!("{}, which is in it, could not be put back: {why}", child.intent.digest);
            return journal_result(context, intent, Outcome::Failed(why), false).await;
        }
        along.push(child);
    }
    let deletion = restore_dependents::deletion_since(&context.store, entry).await?;
    let now = (context.clock)();
    let restoring = RestoreRecord {
        original: Some(entry.intent.date.map_or(OriginalDate::Unknown, OriginalDate::from)),
        hold: hold.and_then(|hold| restore_hold(context, &intent, hold, now)),
    };
    let journaled =
        context.store.intend_restore(&context.lease, context.run, &intent, &manifest, restoring, now).await?;
    let mut left_at = None;
    let outcome = match put_tag(target, &intent, &manifest, ExistenceCheck::Required).await {
        PutResult::Done(time) => {
            left_at = time;
            Outcome::Done(String::new())
        }
        PutResult::AlreadyThere => already_there_outcome(),
        PutResult::Moved(to) => Outcome::Skipped(SkipReason::Moved { to }),
        PutResult::Failed(error) => Outcome::Failed(describe_failure(&error, &within, deletion.as_ref())),
        // The tag may still come: it stays held, and the entry open.
        PutResult::Unknown(why) => {
            let outcome = Outcome::Failed(format!("{why}; settled at the next start"));
            return Ok(RestoreResult { intent, outcome, already_there: false });
        }
    };
    context.store.record_restore_outcome(journaled.id(), &outcome, left_at, (context.clock)()).await?;
    if deletion.is_some() && matches!(outcome, Outcome::Done(_)) {
        for referrer in restore_dependents::deleted_referrers(&context.store, entry, &manifest.bytes).await? {
            along.extend(put_referrer(context, target, removed, &referrer).await?);
        }
    }
    let already_there = outcome == already_there_outcome();
    Ok(RestoreResult { intent, outcome, already_there })
}

/// The outcome for a tag that is as it was to be.
fn already_there_outcome() -> Outcome {
    Outcome::Skipped(SkipReason::Recovered("the tag is there already, at that digest".to_owned()))
}

/// The hold on a tag that is about to be put back.
fn restore_hold(context: &ApplyContext, intent: &Intent, hold: &RestoreHold, now: Timestamp) -> Option<Hold> {
    Some(Hold {
        registry: intent.registry.clone(),
        endpoint: intent.endpoint.clone()?,
        repository: intent.repository.clone(),
        tag: intent.tag.clone(),
        digest: Some(intent.digest.clone()),
        reason: format!("restored in run {}", context.run),
        by: hold.by.clone(),
        since: now,
        until: now.checked_add(hold.duration).unwrap_or(Timestamp::MAX),
        origin: HoldOrigin::Restore,
    })
}

/// Puts what referred to a manifest that is back, with the images in it where it is an index.
async fn put_referrer(
    context: &ApplyContext,
    target: &RegistryHandle,
    place: &Intent,
    referrer: &RawManifest,
) -> Result<Vec<RestoreResult>, StateError> {
    // What the registry does not say is found out by trying.
    if let Ok(true) = target.reader.has_manifest(&place.repository, &referrer.digest).await {
        return Ok(Vec::new());
    }
    let within =
        match restore_dependents::missing_children(&context.store, &*target.reader, place, &referrer.bytes).await {
            Err(ChildLookupError::Store(error)) => return Err(error),
            within => within.unwrap_or_default(),
        };
    let mut put = Vec::new();
    for manifest in within.restorable.iter().chain([referrer]) {
        put.push(put_dependent(context, target, place, manifest).await?);
    }
    Ok(put)
}

/// Puts a manifest by its digest, because what is put back under a tag needs it or was accompanied by it.
async fn put_dependent(
    context: &ApplyContext,
    target: &RegistryHandle,
    place: &Intent,
    manifest: &RawManifest,
) -> Result<RestoreResult, StateError> {
    let (digest, media_type) = (manifest.digest.clone(), manifest.media_type.clone());
    let intent = Intent { action: Action::RestoreManifest, policy: None, digest, media_type, ..place.clone() };
    let journaled = context.store.intend(&context.lease, context.run, &intent, manifest, (context.clock)()).await?;
    let outcome = match put_by_digest(target, &intent, manifest).await {
        Ok(()) => Outcome::Done(String::new()),
        Err(error) => Outcome::Failed(format!("{}; {PUSH_AGAIN}", error.message)),
    };
    context.store.record_outcome(journaled.id(), &outcome, (context.clock)()).await?;
    Ok(RestoreResult { intent, outcome, already_there: false })
}

/// Puts it by its digest, and looks whether it is there.
async fn put_by_digest(target: &RegistryHandle, intent: &Intent, manifest: &RawManifest) -> Result<(), RegistryError> {
    let mut tries = 1;
    loop {
        let put = target.writer.put_manifest(&intent.repository, manifest).await;
        let there = target.reader.has_manifest(&intent.repository, &manifest.digest).await;
        match (put, there) {
            // It may say that it failed, and have done it.
            (_, Ok(true)) => return Ok(()),
            (Err(error), Ok(false)) if error.requires_recheck() && tries < MAX_DEFERRALS => tries += 1,
            (Err(error), _) | (Ok(()), Err(error)) => return Err(error),
            (Ok(()), Ok(false)) => {
                let message = "the registry took the manifest, and does not have it".to_owned();
                return Err(RegistryError { kind: RegistryErrorKind::DigestMismatch, message });
            }
        }
    }
}

/// The result of putting a tag.
pub(super) enum PutResult {
    /// It is there now. The registry's own time of it, where it tells one.
    Done(Option<Timestamp>),
    /// It was there already at that digest, so nothing was put.
    AlreadyThere,
    /// Somebody else's push is what the tag names.
    Moved(Digest),
    /// It is not there.
    Failed(RegistryError),
    /// It is not known whether it will be there. The text says why.
    Unknown(String),
}

/// Whether a tag is only put after a look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExistenceCheck {
    /// It is: without a look nothing is put.
    Required,
    /// If the registry answers: it was seen to be gone a moment ago.
    BestEffort,
}

/// Puts a tag, and looks whether it is there: an answer alone is no proof.
///
/// A push of somebody else must not be overwritten, and the registry has no way to put a tag only if it is not there. So the
/// look comes after every wait, right before each request. A put that the registry puts off is tried again.
pub(super) async fn put_tag(
    target: &RegistryHandle,
    intent: &Intent,
    manifest: &RawManifest,
    first: ExistenceCheck,
) -> PutResult {
    let (repository, tag) = (&intent.repository, &intent.tag);
    let mut tries = 1;
    loop {
        let clearance = match target.writer.acquire_put_permit(repository).await {
            Ok(clearance) => clearance,
            Err(error) => return PutResult::Failed(error),
        };
        match target.reader.resolve(repository, tag).await {
            Ok(None) => {}
            Ok(Some(now)) if now.digest == manifest.digest && tries > 1 => return PutResult::Done(now.pushed_at),
            Ok(Some(now)) if now.digest == manifest.digest => return PutResult::AlreadyThere,
            Ok(Some(now)) => return PutResult::Moved(now.digest),
            Err(_) if first == ExistenceCheck::BestEffort && tries == 1 => {}
            Err(error) => return PutResult::Failed(error),
        }
        let put = target.writer.put_tag(repository, tag, manifest, clearance).await;
        let there = target.reader.resolve(repository, tag).await;
        return match (put, there) {
            // It may say that it failed, and have done it.
            (_, Ok(Some(now))) if now.digest == manifest.digest => PutResult::Done(now.pushed_at),
            (_, Ok(Some(now))) => PutResult::Moved(now.digest),
            (Err(error), Ok(None)) if error.requires_recheck() && tries < MAX_DEFERRALS => {
                tries += 1;
                continue;
            }
            // The request may still be on its way.
            (Err(error), Ok(None)) if error.kind == RegistryErrorKind::Connection => PutResult::Unknown(error.message),
            (Err(error), Ok(None)) => PutResult::Failed(error),
            (Ok(()), Ok(None)) => {
                PutResult::Unknown("the registry took the manifest, and the tag does not name it".to_owned())
            }
            (Ok(()), Err(error)) => PutResult::Unknown(format!("looking at the tag failed: {}", error.message)),
            (Err(error), Err(second)) => {
                PutResult::Unknown(format!("{}; then looking at the tag failed: {}", error.message, second.message))
            }
        };
    }
}

const PUSH_AGAIN: &str = "if the registry has collected the image's blobs or manifests since, it cannot come back from here: push the image \
     again";

/// What kept a tag from coming back: for an index the image in it that is gone, else the registry's own words.
fn describe_failure(error: &RegistryError, within: &MissingChildren, deletion: Option<&JournalEntry>) -> String {
    if let Some(child) = &within.unrecoverable {
        return format!("{}: {}", error.message, restore_dependents::describe_missing_child(child));
    }
    let deleted =
        deletion.map_or_else(String::new, |deletion| format!("; {}", restore_dependents::describe_deletion(deletion)));
    format!("{}{deleted}; {PUSH_AGAIN}", error.message)
}

async fn journal_result(
    context: &ApplyContext,
    intent: Intent,
    outcome: Outcome,
    already_there: bool,
) -> Result<RestoreResult, StateError> {
    context.store.record_not_attempted(&context.lease, context.run, &intent, &outcome, (context.clock)()).await?;
    Ok(RestoreResult { intent, outcome, already_there })
}
