//! Putting tags back, byte for byte.

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

/// The age up to which a look at a tag counts while its intent is written.
const MAX_LOOK_AGE: Duration = Duration::from_secs(1);

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

/// Puts back the tags of journaled removals, in each registry as many at once as it may have requests.
///
/// A tag that somebody pushed again meanwhile is left alone. What an index lists comes back before it, and what fails is
/// tried once more after the others. What Tagwarden deleted with a manifest comes back with it, by its digest: the images
/// of an index before it, what referred to it afterwards.
///
/// Each tag counts by the time that it had when it was removed, and is held as `hold` says; both are in the state before
/// the tag is put. `impossible` names entries that cannot be put back, with the reason. Results are in the order of the
/// entries, each after what came back along with it.
///
/// # Errors
/// When the journal could not be read or written. Nothing further is put then.
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

/// The entries of one registry that are put back.
struct RegistryRestore<'a> {
    context: &'a ApplyContext,
    hold: Option<&'a RestoreHold>,
    impossible: &'a BTreeMap<JournalId, String>,
    concurrency: usize,
    /// One for each tag that is put at once, so that none waits between the look at it and its request.
    turns: Semaphore,
    /// Held by whoever puts manifests by their digests, so that none is put twice at once.
    dependents: Mutex<()>,
    /// Images in indexes that were seen in the registry.
    known: KnownManifests,
    /// Set once the journal fails in any registry; no further tag is put then.
    journal_failed: &'a AtomicBool,
}

/// The images that an index lacks, and the right to put them.
type LockedChildren<'a> = (MissingChildren, Option<MutexGuard<'a, ()>>);

/// The result of one try to put a tag back, with what came back along with it.
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

    /// Puts back tags that need nothing of each other.
    async fn restore_wave<'e>(&self, wave: Vec<TagEntries<'e>>) -> Result<Vec<Attempt<'e>>, StateError> {
        // Twice as many as have a turn at once: the others look for images in indexes, or write down what came of them.
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
                // Those that were begun are seen to their end.
                Some(Err(failure)) => {
                    self.journal_failed.store(true, Ordering::Relaxed);
                    error = error.or(Some(failure));
                }
                None => return error.map_or(Ok(attempts), Err),
            }
        }
    }

    /// Puts back the entries of one tag.
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

/// The intent to put back what an entry removed.
fn intent(context: &ApplyContext, entry: &JournalEntry) -> Intent {
    let removed = &entry.intent;
    let endpoint = context.address(&removed.registry);
    Intent { action: Action::Restore, policy: None, date: None, endpoint, ..removed.clone() }
}

impl RegistryRestore<'_> {
    /// Puts back one tag; what comes back along with it is added to `along`.
    ///
    /// The look at the tag comes before the intent, because one that is there keeps the record of an earlier restore.
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
        // Where one is lost the others would be put for nothing.
        if !within.restorable.is_empty() && within.unrecoverable.is_none() {
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
        self.put_entry(target, entry, (intent, &manifest, &within), along).await
    }

    /// Looks at the tag, journals the intent and puts the tag, with what referred to its manifest.
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
        // It may have been long in coming.
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
        let put = put_tag(target, &intent, manifest, ExistenceCheck::Required, permit).await;
        drop(turn);
        let (outcome, left_at) = match put_outcome(put, within, deletion.as_ref()) {
            (Ok(outcome), left_at) => (outcome, left_at),
            // The tag may still come: it stays held, and the entry open.
            (Err(why), _) => {
                let outcome = Outcome::Failed(format!("{why}; settled at the next start"));
                return Ok(RestoreResult { intent, outcome, already_there: false });
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
        Ok(RestoreResult { intent, outcome, already_there })
    }

    /// The images in an index that the registry no longer has. Where some can be put again, nobody else puts any as long
    /// as what is returned beside them is held.
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
                // Another tag may need the same ones, and have put them by the time that it is this one's turn.
                Ok(_) => lock = Some(self.dependents.lock().await),
                Err(ChildLookupError::Registry(error)) => return Ok(Err(error)),
                Err(ChildLookupError::Store(error)) => return Err(error),
            }
        }
    }
}

/// The manifest of an entry. One that the journal has no bytes of may still be in the registry. Returns the reason where
/// nobody has it; one that is damaged keeps none of the others from coming back.
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

/// Journals the failure of an entry, unless its tag names something.
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

/// The outcome for a tag that names something, or that cannot be looked at; nothing where it may be put.
async fn present_outcome(target: &RegistryHandle, intent: &Intent) -> Option<Outcome> {
    match target.reader.resolve(&intent.repository, &intent.tag).await {
        Ok(Some(now)) if now.digest == intent.digest => Some(already_there_outcome()),
        Ok(Some(now)) => Some(Outcome::Skipped(SkipReason::Moved { to: now.digest })),
        Ok(None) => None,
        Err(error) => Some(Outcome::Failed(error.chain())),
    }
}

/// The outcome of a put with the registry's own time of the tag, or why it is not known.
fn put_outcome(
    put: PutResult,
    within: &MissingChildren,
    deletion: Option<&JournalEntry>,
) -> (Result<Outcome, String>, Option<Timestamp>) {
    let outcome = match put {
        PutResult::Done(left_at) => return (Ok(Outcome::Done(String::new())), left_at),
        PutResult::AlreadyThere(_) => already_there_outcome(),
        PutResult::Moved(to) => Outcome::Skipped(SkipReason::Moved { to }),
        PutResult::Failed(error) => Outcome::Failed(describe_failure(&error, within, deletion)),
        PutResult::Unknown(why) => return (Err(why), None),
    };
    (Ok(outcome), None)
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
        Err(error) => Outcome::Failed(format!("{}; {PUSH_AGAIN}", error.chain())),
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
                return Err(RegistryError::new(RegistryErrorKind::DigestMismatch, message));
            }
        }
    }
}

/// The result of putting a tag.
pub(super) enum PutResult {
    /// It is there now. The registry's own time of it, where it tells one.
    Done(Option<Timestamp>),
    /// It was there already at that digest, so nothing was put. The registry's own time of it, where it tells one.
    AlreadyThere(Option<Timestamp>),
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

/// Waits for everything that a put may have to wait for, and looks whether the tag may be put. Returns the result where
/// it may not.
///
/// A push of somebody else must not be overwritten, and the registry has no way to put a tag only if it is not there. So the
/// look comes after every wait.
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

/// Puts a tag and verifies that it is there: a response alone proves nothing. `permit` is from [`clear_put`] a moment ago;
/// without it, and where the registry puts off a put, there is a new look right before each request.
pub(super) async fn put_tag(
    target: &RegistryHandle,
    intent: &Intent,
    manifest: &RawManifest,
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

/// What kept a tag from coming back: for an index the image in it that is gone, else the registry's own words.
fn describe_failure(error: &RegistryError, within: &MissingChildren, deletion: Option<&JournalEntry>) -> String {
    if let Some(child) = &within.unrecoverable {
        return format!("{}: {}", error.chain(), restore_dependents::describe_missing_child(child));
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
    Ok(RestoreResult { intent, outcome, already_there })
}
