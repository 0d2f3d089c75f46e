//! Restores of tags, byte for byte.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::{Mutex, MutexGuard, Semaphore};

use crate::domain::{Action, Digest, Hold, HoldOrigin, Intent, OriginalDate, Outcome, RegistryName, SkipReason};
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind, WritePermit};
use crate::state::{JournalEntry, JournalId, RestoreRecord, StateError, StateErrorKind};

use super::restore_dependents::{self, ChildLookupError, KnownManifests, MissingChildren};
use super::restore_order::{self, PlacedEntry, TagEntries};
use super::{ApplyContext, MAX_DEFERRALS, RegistryHandle};

/// The maximum age of a check of a tag while its intent is written.
const MAX_LOOK_AGE: Duration = Duration::from_secs(1);

/// The result of restoring one tag, or a manifest that was removed with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreResult {
    /// The tag, its digest, and its place; for a manifest put by its digest, the tag is that of the manifest it belongs
    /// to.
    pub intent: Intent,
    /// Its outcome.
    pub outcome: Outcome,
    /// True if it existed already, at that digest.
    pub already_there: bool,
    /// True if it was put without images of its index, because neither the registry nor the journal has them.
    pub is_incomplete: bool,
}

/// A hold on everything that is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreHold {
    /// The person who restores: `user@host`.
    pub by: String,
    /// Its duration.
    pub duration: Duration,
}

/// Restores the tags of journaled removals, in each registry with as much concurrency as its requests have.
///
/// A tag that was pushed meanwhile is left alone. The children of an index are restored before it, and failures are
/// retried after the others. Manifests that Tagwarden deleted with a manifest are restored with it, by their digests:
/// the images of an index before it, its referrers afterwards.
///
/// Each tag keeps the date that it had when it was removed, and is held by `hold`; both are in the state before the tag
/// is put. `impossible` names entries that cannot be restored, with the reason. Results are in the order of the
/// entries, each after those restored along with it.
///
/// # Errors
/// Returns an error if the journal cannot be read or written. Nothing further is put then.
pub async fn restore(
    context: &ApplyContext,
    entries: Vec<JournalEntry>,
    hold: Option<&RestoreHold>,
    impossible: &BTreeMap<JournalId, String>,
) -> Result<Vec<RestoreResult>, StateError> {
    let mut by_registry: BTreeMap<&RegistryName, Vec<PlacedEntry<'_>>> = BTreeMap::new();
    for (place, entry) in entries.iter().enumerate() {
        by_registry.entry(&entry.intent.registry).or_default().push((place, entry));
    }
    let journal_failed = AtomicBool::new(false);
    let mut parts = Vec::with_capacity(by_registry.len());
    for (registry, entries) in by_registry {
        let target = context.registries.get(registry);
        let concurrency = target.map_or(1, |target| target.reader.settings().concurrency.max(1));
        let part = RegistryRestore {
            context,
            hold,
            impossible,
            concurrency,
            turns: Semaphore::new(concurrency),
            dependents: Mutex::default(),
            known: KnownManifests::default(),
            journal_failed: &journal_failed,
        };
        parts.push(async move { part.restore_all(entries).await });
    }
    let mut results: BTreeMap<usize, Vec<RestoreResult>> = BTreeMap::new();
    for part in futures::future::join_all(parts).await {
        results.extend(part?);
    }
    Ok(results.into_values().flatten().collect())
}

/// The restored entries of one registry.
struct RegistryRestore<'a> {
    context: &'a ApplyContext,
    hold: Option<&'a RestoreHold>,
    impossible: &'a BTreeMap<JournalId, String>,
    concurrency: usize,
    /// One permit for each concurrent put of a tag, so that none waits between its check and its request.
    turns: Semaphore,
    /// Held while manifests are put by their digests, so that none is put twice concurrently.
    dependents: Mutex<()>,
    /// Images in indexes that were seen in the registry.
    known: KnownManifests,
    /// True once the journal fails in any registry; no further tag is put then.
    journal_failed: &'a AtomicBool,
}

/// The missing images of an index, and the right to put them.
type LockedChildren<'a> = (MissingChildren, Option<MutexGuard<'a, ()>>);

/// The result of one attempt to restore a tag, with those restored along with it.
type Attempt<'a> = (PlacedEntry<'a>, Vec<RestoreResult>, RestoreResult);

impl RegistryRestore<'_> {
    /// Returns the results by the places of the entries.
    async fn restore_all(
        &self,
        entries: Vec<PlacedEntry<'_>>,
    ) -> Result<BTreeMap<usize, Vec<RestoreResult>>, StateError> {
        let mut results: BTreeMap<usize, Vec<RestoreResult>> = BTreeMap::new();
        let mut failed = Vec::new();
        for wave in restore_order::waves(&self.context.store, entries).await? {
            for (entry, along, done) in self.restore_wave(wave).await? {
                let results = results.entry(entry.0).or_default();
                results.extend(along);
                if matches!(done.outcome, Outcome::Failed(_)) && !self.impossible.contains_key(&entry.1.id) {
                    failed.push(entry);
                } else {
                    results.push(done);
                }
            }
        }
        for wave in restore_order::waves(&self.context.store, failed).await? {
            for (entry, along, done) in self.restore_wave(wave).await? {
                let results = results.entry(entry.0).or_default();
                results.extend(along);
                results.push(done);
            }
        }
        Ok(results)
    }

    /// Restores tags that are independent of each other.
    async fn restore_wave<'e>(&self, wave: Vec<TagEntries<'e>>) -> Result<Vec<Attempt<'e>>, StateError> {
        // Twice the number of permits: the others look up images in indexes, or journal their outcomes.
        let at_once = 2 * self.concurrency;
        let mut waiting = wave.into_iter();
        let mut under_way = FuturesUnordered::new();
        let (mut attempts, mut error) = (Vec::new(), None);
        loop {
            while under_way.len() < at_once
                && let Some(tag) = waiting.next()
            {
                under_way.push(self.restore_tag(tag));
            }
            match under_way.next().await {
                Some(Ok(done)) => attempts.extend(done),
                // Those already begun are completed.
                Some(Err(failure)) => {
                    self.journal_failed.store(true, Ordering::Relaxed);
                    error = error.or(Some(failure));
                }
                None => return error.map_or(Ok(attempts), Err),
            }
        }
    }

    /// Restores the entries of one tag.
    async fn restore_tag<'e>(&self, tag: TagEntries<'e>) -> Result<Vec<Attempt<'e>>, StateError> {
        let mut attempts = Vec::with_capacity(tag.len());
        for placed in tag {
            if self.journal_failed.load(Ordering::Relaxed) {
                break;
            }
            let entry = placed.1;
            let mut along = Vec::new();
            let done = match self.impossible.get(&entry.id) {
                Some(why) => {
                    let intent = intent(self.context, entry);
                    journal_result(self.context, intent, Outcome::Failed(why.clone()), false).await?
                }
                None => self.restore_entry(entry, &mut along).await?,
            };
            attempts.push((placed, along, done));
        }
        Ok(attempts)
    }
}

/// Returns the intent to restore what an entry removed.
fn intent(context: &ApplyContext, entry: &JournalEntry) -> Intent {
    let removed = &entry.intent;
    let endpoint = context.address(&removed.registry);
    Intent { action: Action::Restore, policy: None, date: None, endpoint, ..removed.clone() }
}

impl RegistryRestore<'_> {
    /// Restores one tag; results restored along with it are added to `along`.
    ///
    /// The tag is checked before the intent is journaled, because an existing one keeps the record of an earlier
    /// restore.
    async fn restore_entry(
        &self,
        entry: &JournalEntry,
        along: &mut Vec<RestoreResult>,
    ) -> Result<RestoreResult, StateError> {
        let context = self.context;
        let removed = &entry.intent;
        let intent = intent(context, entry);
        let Some(target) = context.registries.get(&removed.registry) else {
            let why = format!("registry {} is not in the settings", removed.registry);
            return journal_result(context, intent, Outcome::Skipped(SkipReason::Stopped(why)), false).await;
        };
        if *context.stop.borrow() {
            return journal_result(context, intent, Outcome::Skipped(SkipReason::Interrupted), false).await;
        }
        let manifest = match manifest_to_restore(context, target, entry).await? {
            Ok(manifest) => manifest,
            Err(why) => return journal_unless_present(context, target, intent, why).await,
        };
        let (within, lock) = match self.missing_children(target, removed, &manifest).await? {
            Ok(within) => within,
            Err(error) => return journal_result(context, intent, Outcome::Failed(error.chain()), false).await,
        };
        // If one is lost, the registry may not take the index, and the others would be put in vain: then it comes first.
        if within.lost.is_empty() && !within.restorable.is_empty() {
            if let Some(found) = present_outcome(target, &intent).await {
                let already_there = found == already_there_outcome();
                return journal_result(context, intent, found, already_there).await;
            }
            for child in &within.restorable {
                let child = put_dependent(context, target, removed, child).await?;
                if let Outcome::Failed(why) = &child.outcome {
                    let why = format!("{}, which is in it, could not be put back: {why}", child.intent.digest);
                    return journal_result(context, intent, Outcome::Failed(why), false).await;
                }
                along.push(child);
            }
        }
        drop(lock);
        let done = self.put_entry(target, entry, (intent, &manifest, &within), along).await?;
        if done.is_incomplete {
            let _lock = self.dependents.lock().await;
            for child in &within.restorable {
                // If the registry does not answer, the put itself will show it.
                if !matches!(target.reader.has_manifest(&removed.repository, &child.digest).await, Ok(true)) {
                    along.push(put_dependent(context, target, removed, child).await?);
                }
            }
        }
        Ok(done)
    }

    /// Checks the tag, journals the intent and puts the tag, with the referrers of its manifest.
    async fn put_entry(
        &self,
        target: &RegistryHandle,
        entry: &JournalEntry,
        (intent, manifest, within): (Intent, &RawManifest, &MissingChildren),
        along: &mut Vec<RestoreResult>,
    ) -> Result<RestoreResult, StateError> {
        let context = self.context;
        let deletion = restore_dependents::deletion_since(&context.store, entry).await?;
        let turn = self.turns.acquire().await.ok();
        // The wait may have been long.
        if *context.stop.borrow() {
            return journal_result(context, intent, Outcome::Skipped(SkipReason::Interrupted), false).await;
        }
        let permit = match clear_put(target, &intent, ExistenceCheck::Required).await {
            Ok(permit) => permit,
            Err(PutResult::Failed(error)) => {
                return journal_result(context, intent, Outcome::Failed(error.chain()), false).await;
            }
            Err(result) => {
                let (outcome, _) = put_outcome(result, within, deletion.as_ref());
                let outcome = outcome.unwrap_or_else(Outcome::Failed);
                let already_there = outcome == already_there_outcome();
                return journal_result(context, intent, outcome, already_there).await;
            }
        };
        let looked_at = (context.clock)();
        let restoring = RestoreRecord {
            original: Some(entry.intent.date.map_or(OriginalDate::Unknown, OriginalDate::from)),
            hold: self.hold.and_then(|hold| restore_hold(context, &intent, hold, looked_at)),
        };
        let journaled =
            context.store.intend_restore(&context.lease, context.run, &intent, manifest, restoring, looked_at).await?;
        let waited = (context.clock)().duration_since(looked_at).unsigned_abs();
        let permit = Some(permit).filter(|_| waited <= MAX_LOOK_AGE);
        let put = put_tag(target, &intent, Some(manifest), ExistenceCheck::Required, permit).await;
        drop(turn);
        let (outcome, left_at) = match put_outcome(put, within, deletion.as_ref()) {
            (Ok(outcome), left_at) => (outcome, left_at),
            // The tag may still appear: it stays held, and the entry open.
            (Err(why), _) => {
                let outcome = Outcome::Failed(format!("{why}; settled at the next start"));
                return Ok(RestoreResult { intent, outcome, already_there: false, is_incomplete: false });
            }
        };
        context.store.record_restore_outcome(journaled.id(), &outcome, left_at, (context.clock)()).await?;
        if deletion.is_some() && matches!(outcome, Outcome::Done(_)) {
            let _lock = self.dependents.lock().await;
            for referrer in restore_dependents::deleted_referrers(&context.store, entry, &manifest.bytes).await? {
                along.extend(put_referrer(context, target, &entry.intent, &referrer).await?);
            }
        }
        let already_there = outcome == already_there_outcome();
        let is_incomplete = matches!(outcome, Outcome::Done(_)) && !within.lost.is_empty();
        Ok(RestoreResult { intent, outcome, already_there, is_incomplete })
    }

    /// Returns the images in an index that the registry no longer has. If some can be put again, the returned lock
    /// keeps other tasks from putting any.
    async fn missing_children(
        &self,
        target: &RegistryHandle,
        removed: &Intent,
        manifest: &RawManifest,
    ) -> Result<Result<LockedChildren<'_>, RegistryError>, StateError> {
        let (store, reader) = (&self.context.store, &*target.reader);
        let mut lock = None;
        loop {
            match restore_dependents::missing_children(store, reader, removed, &manifest.bytes, &self.known).await {
                Ok(within) if within.restorable.is_empty() || lock.is_some() => return Ok(Ok((within, lock))),
                // Another tag may need the same ones, and have put them by the time the lock is acquired.
                Ok(_) => lock = Some(self.dependents.lock().await),
                Err(ChildLookupError::Registry(error)) => return Ok(Err(error)),
                Err(ChildLookupError::Store(error)) => return Err(error),
            }
        }
    }
}

/// Returns the manifest of an entry, from the journal or the registry. Returns the reason if neither has it; a damaged
/// one does not block the others.
async fn manifest_to_restore(
    context: &ApplyContext,
    target: &RegistryHandle,
    entry: &JournalEntry,
) -> Result<Result<RawManifest, String>, StateError> {
    let missing = match context.store.manifest_of(entry).await {
        Ok(manifest) => return Ok(Ok(manifest)),
        Err(error) if error.kind == StateErrorKind::Corrupt => return Ok(Err(error.chain())),
        Err(error) if error.kind == StateErrorKind::Missing => error.chain(),
        Err(error) => return Err(error),
    };
    Ok(match target.reader.manifest(&entry.intent.repository, &entry.intent.digest).await {
        Ok(Some(manifest)) => Ok(manifest),
        Ok(None) => Err(format!("{missing}, and the registry no longer has it; push the image again")),
        Err(error) => Err(format!("{missing}, and it could not be read from the registry: {}", error.chain())),
    })
}

/// Journals the failure of an entry, unless its tag exists.
async fn journal_unless_present(
    context: &ApplyContext,
    target: &RegistryHandle,
    intent: Intent,
    why: String,
) -> Result<RestoreResult, StateError> {
    let outcome = present_outcome(target, &intent).await.unwrap_or(Outcome::Failed(why));
    let already_there = outcome == already_there_outcome();
    journal_result(context, intent, outcome, already_there).await
}

/// Returns the outcome for a tag that exists or cannot be checked; `None` if it may be put.
async fn present_outcome(target: &RegistryHandle, intent: &Intent) -> Option<Outcome> {
    match target.reader.resolve(&intent.repository, &intent.tag).await {
        Ok(Some(now)) if now.digest == intent.digest => Some(already_there_outcome()),
        Ok(Some(now)) => Some(Outcome::Skipped(SkipReason::Moved { to: now.digest })),
        Ok(None) => None,
        Err(error) => Some(Outcome::Failed(error.chain())),
    }
}

/// Returns the outcome of a put, and the registry's own time of the tag, or why it is unknown.
fn put_outcome(
    put: PutResult,
    within: &MissingChildren,
    deletion: Option<&JournalEntry>,
) -> (Result<Outcome, String>, Option<Timestamp>) {
    let outcome = match put {
        PutResult::Done(left_at) => {
            let evidence = restore_dependents::describe_lost(&within.lost).map(|lost| format!("incomplete: {lost}"));
            return (Ok(Outcome::Done(evidence.unwrap_or_default())), left_at);
        }
        PutResult::AlreadyThere(_) => already_there_outcome(),
        PutResult::Moved(to) => Outcome::Skipped(SkipReason::Moved { to }),
        PutResult::Failed(error) => Outcome::Failed(describe_failure(&error, within, deletion)),
        PutResult::Unknown(why) => return (Err(why), None),
    };
    (Ok(outcome), None)
}

/// Returns the outcome for a tag that is already as it should be.
fn already_there_outcome() -> Outcome {
    Outcome::Skipped(SkipReason::Present("the tag is there already, at that digest".to_owned()))
}

/// Returns the hold on a tag that is about to be restored.
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

/// Puts the referrer of a restored manifest, with the images in it if it is an index.
async fn put_referrer(
    context: &ApplyContext,
    target: &RegistryHandle,
    place: &Intent,
    referrer: &RawManifest,
) -> Result<Vec<RestoreResult>, StateError> {
    // If the registry does not answer, the put itself will show it.
    if let Ok(true) = target.reader.has_manifest(&place.repository, &referrer.digest).await {
        return Ok(Vec::new());
    }
    let within = match restore_dependents::missing_children(
        &context.store,
        &*target.reader,
        place,
        &referrer.bytes,
        &KnownManifests::default(),
    )
    .await
    {
        Err(ChildLookupError::Store(error)) => return Err(error),
        within => within.unwrap_or_default(),
    };
    let mut put = Vec::new();
    for manifest in within.restorable.iter().chain([referrer]) {
        put.push(put_dependent(context, target, place, manifest).await?);
    }
    Ok(put)
}

/// Puts a manifest by its digest, because a restored tag needs it or was accompanied by it.
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
        Err(error) => Outcome::Failed(format!("{}; {PUSH_AGAIN}", error.chain())),
    };
    context.store.record_outcome(journaled.id(), &outcome, (context.clock)()).await?;
    Ok(RestoreResult { intent, outcome, already_there: false, is_incomplete: false })
}

/// Puts it by its digest, and verifies that it exists.
async fn put_by_digest(target: &RegistryHandle, intent: &Intent, manifest: &RawManifest) -> Result<(), RegistryError> {
    let mut tries = 1;
    loop {
        let put = target.writer.put_manifest(&intent.repository, manifest).await;
        let there = target.reader.has_manifest(&intent.repository, &manifest.digest).await;
        match (put, there) {
            // The registry may report a failure after carrying it out.
            (_, Ok(true)) => return Ok(()),
            (Err(error), Ok(false)) if error.requires_recheck() && tries < MAX_DEFERRALS => tries += 1,
            (Err(error), _) | (Ok(()), Err(error)) => return Err(error),
            (Ok(()), Ok(false)) => {
                let message = "the registry took the manifest, and does not have it".to_owned();
                return Err(RegistryError::new(RegistryErrorKind::DigestMismatch, message));
            }
        }
    }
}

/// The result of putting a tag.
pub(super) enum PutResult {
    /// It exists now. Contains the registry's own time of it, if reported.
    Done(Option<Timestamp>),
    /// It existed already at that digest, so nothing was put. Contains the registry's own time of it, if reported.
    AlreadyThere(Option<Timestamp>),
    /// The tag names an image that somebody else pushed.
    Moved(Digest),
    /// It does not exist.
    Failed(RegistryError),
    /// Its future state is unknown. The text says why.
    Unknown(String),
}

/// The need for a check before a tag is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExistenceCheck {
    /// Required: without a check nothing is put.
    Required,
    /// If the registry answers: the tag was absent a moment ago.
    BestEffort,
}

/// Waits for everything that a put may have to wait for, and checks that the tag may be put. Returns the result if it
/// may not.
///
/// An external push must not be overwritten, and the registry has no conditional put. So the check comes after every
/// wait.
pub(super) async fn clear_put(
    target: &RegistryHandle,
    intent: &Intent,
    check: ExistenceCheck,
) -> Result<WritePermit, PutResult> {
    let permit = target.writer.acquire_put_permit(&intent.repository).await.map_err(PutResult::Failed)?;
    match target.reader.resolve(&intent.repository, &intent.tag).await {
        Ok(None) => Ok(permit),
        Ok(Some(now)) if now.digest == intent.digest => Err(PutResult::AlreadyThere(now.pushed_at)),
        Ok(Some(now)) => Err(PutResult::Moved(now.digest)),
        Err(_) if check == ExistenceCheck::BestEffort => Ok(permit),
        Err(error) => Err(PutResult::Failed(error)),
    }
}

/// Puts a tag and verifies that it exists: a response alone proves nothing. A registry that hides manifests without tags
/// puts it back by the digest alone, so it needs no `manifest`. `permit` was just returned by [`clear_put`]; without it, and after a deferral by the registry, there is a new check right before each request.
pub(super) async fn put_tag(
    target: &RegistryHandle,
    intent: &Intent,
    manifest: Option<&RawManifest>,
    first: ExistenceCheck,
    mut permit: Option<WritePermit>,
) -> PutResult {
    let (repository, tag) = (&intent.repository, &intent.tag);
    let mut tries = 1;
    loop {
        let check = if tries == 1 { first } else { ExistenceCheck::Required };
        let clearance = match permit.take() {
            Some(permit) => permit,
            None => match clear_put(target, intent, check).await {
                Ok(permit) => permit,
                Err(PutResult::AlreadyThere(pushed_at)) if tries > 1 => return PutResult::Done(pushed_at),
                Err(result) => return result,
            },
        };
        let put = match manifest {
            Some(manifest) => target.writer.put_tag(repository, tag, manifest, clearance).await,
            None => target.writer.revive_tag(repository, tag, &intent.digest, clearance).await,
        };
        let there = target.reader.resolve(repository, tag).await;
        return match (put, there) {
            // The registry may report a failure after carrying it out.
            (_, Ok(Some(now))) if now.digest == intent.digest => PutResult::Done(now.pushed_at),
            (_, Ok(Some(now))) => PutResult::Moved(now.digest),
            (Err(error), Ok(None)) if error.requires_recheck() && tries < MAX_DEFERRALS => {
                tries += 1;
                continue;
            }
            // The request may still be in flight.
            (Err(error), Ok(None)) if error.kind == RegistryErrorKind::Connection => PutResult::Unknown(error.chain()),
            (Err(error), Ok(None)) => PutResult::Failed(error),
            (Ok(()), Ok(None)) => {
                PutResult::Unknown("the registry took the manifest, and the tag does not name it".to_owned())
            }
            (Ok(()), Err(error)) => PutResult::Unknown(format!("looking at the tag failed: {}", error.chain())),
            (Err(error), Err(second)) => {
                PutResult::Unknown(format!("{}; then looking at the tag failed: {}", error.chain(), second.chain()))
            }
        };
    }
}

const PUSH_AGAIN: &str = "if the registry has collected the image's blobs or manifests since, it cannot come back from here: push the image \
     again";

/// Describes why a tag was not restored: for an index the missing image in it, else the registry's own message.
fn describe_failure(error: &RegistryError, within: &MissingChildren, deletion: Option<&JournalEntry>) -> String {
    if let Some(lost) = restore_dependents::describe_lost(&within.lost) {
        return format!("{}: {lost}", error.chain());
    }
    let deleted =
        deletion.map_or_else(String::new, |deletion| format!("; {}", restore_dependents::describe_deletion(deletion)));
    format!("{}{deleted}; {PUSH_AGAIN}", error.chain())
}

async fn journal_result(
    context: &ApplyContext,
    intent: Intent,
    outcome: Outcome,
    already_there: bool,
) -> Result<RestoreResult, StateError> {
    context.store.record_not_attempted(&context.lease, context.run, &intent, &outcome, (context.clock)()).await?;
    Ok(RestoreResult { intent, outcome, already_there, is_incomplete: false })
}
