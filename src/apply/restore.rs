//! Putting tags back, byte for byte.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::{Action, Digest, Hold, HoldOrigin, Intent, Original, Outcome, Skip};
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind};
use crate::store::{JournalEntry, JournalId, Restoring, StoreError, StoreErrorKind};

use super::again::{self, Unread, Within};
use super::{Hands, MOST_TRIES, Target};

/// What came of putting one tag back, or a manifest that went along with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The tag, its digest, and where it belongs; for a manifest put by its digest, the tag is that of what it belongs to.
    pub intent: Intent,
    /// What came of it.
    pub outcome: Outcome,
    /// Whether it was there already, at that digest.
    pub already_there: bool,
}

/// A hold on everything that is put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldFor {
    /// Who restores: `user@host`.
    pub by: String,
    /// How long it lasts.
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
    hands: &Hands,
    entries: Vec<JournalEntry>,
    hold: Option<&HoldFor>,
    impossible: &BTreeMap<JournalId, String>,
) -> Result<Vec<Restored>, StoreError> {
    let mut restored = Vec::new();
    let mut again = Vec::new();
    for entry in entries {
        if let Some(why) = impossible.get(&entry.id) {
            let intent = intent(hands, &entry);
            restored.push(note(hands, intent, Outcome::Failed(why.clone()), false).await?);
            continue;
        }
        let done = one(hands, &entry, hold, &mut restored).await?;
        if matches!(done.outcome, Outcome::Failed(_)) {
            again.push(entry);
        } else {
            restored.push(done);
        }
    }
    for entry in again {
        let done = one(hands, &entry, hold, &mut restored).await?;
        restored.push(done);
    }
    Ok(restored)
}

/// The intent to put back what an entry removed.
fn intent(hands: &Hands, entry: &JournalEntry) -> Intent {
    let removed = &entry.intent;
    let endpoint = hands.address(&removed.registry);
    Intent { action: Action::Restore, policy: None, date: None, endpoint, ..removed.clone() }
}

/// Puts back one tag; what comes back along with it is added to `along`.
async fn one(
    hands: &Hands,
    entry: &JournalEntry,
    hold: Option<&HoldFor>,
    along: &mut Vec<Restored>,
) -> Result<Restored, StoreError> {
    let removed = &entry.intent;
    let intent = intent(hands, entry);
    let Some(target) = hands.targets.get(&removed.registry) else {
        let why = format!("registry {} is not in the settings", removed.registry);
        return note(hands, intent, Outcome::Skipped(Skip::Stopped(why)), false).await;
    };
    if *hands.stop.borrow() {
        return note(hands, intent, Outcome::Skipped(Skip::Interrupted), false).await;
    }
    match target.reader.resolve(&removed.repository, &removed.tag).await {
        Ok(Some(now)) if now.digest == removed.digest => return note(hands, intent, there(), true).await,
        Ok(Some(now)) => return note(hands, intent, Outcome::Skipped(Skip::Moved { to: now.digest }), false).await,
        Err(error) => return note(hands, intent, Outcome::Failed(error.message), false).await,
        Ok(None) => {}
    }
    let manifest = match hands.store.manifest_of(entry).await {
        Ok(manifest) => manifest,
        // One that is damaged keeps none of the others from coming back.
        Err(error) if matches!(error.kind, StoreErrorKind::Missing | StoreErrorKind::Corrupt) => {
            return note(hands, intent, Outcome::Failed(error.message), false).await;
        }
        Err(error) => return Err(error),
    };
    let within = match again::within(&hands.store, &*target.reader, removed, &manifest.bytes).await {
        Ok(within) => within,
        Err(Unread::Registry(error)) => return note(hands, intent, Outcome::Failed(error.message), false).await,
        Err(Unread::Store(error)) => return Err(error),
    };
    // Where one is lost the others would be put for nothing.
    for child in within.kept.iter().filter(|_| within.lost.is_none()) {
        let child = put_along(hands, target, removed, child).await?;
        if let Outcome::Failed(why) = &child.outcome {
            let why = format!("{}, which is in it, could not be put back: {why}", child.intent.digest);
            return note(hands, intent, Outcome::Failed(why), false).await;
        }
        along.push(child);
    }
    let deletion = again::deletion_since(&hands.store, entry).await?;
    let now = (hands.clock)();
    let restoring = Restoring {
        original: Some(entry.intent.date.map_or(Original::Unknown, Original::from)),
        hold: hold.and_then(|hold| held(hands, &intent, hold, now)),
    };
    let id = hands.store.intend_restore(hands.run, &intent, &manifest, restoring, now).await?;
    let mut left_at = None;
    let outcome = match put(target, &intent, &manifest, FirstLook::Needed).await {
        Put::Done(time) => {
            left_at = time;
            Outcome::Done(String::new())
        }
        Put::There => there(),
        Put::Moved(to) => Outcome::Skipped(Skip::Moved { to }),
        Put::Failed(error) => Outcome::Failed(explain(&error, &within, deletion.as_ref())),
        // The tag may still come: it stays held, and the entry open.
        Put::Unknown(why) => {
            let outcome = Outcome::Failed(format!("{why}; settled at the next start"));
            return Ok(Restored { intent, outcome, already_there: false });
        }
    };
    hands.store.settle_restore(id, &outcome, left_at, (hands.clock)()).await?;
    if deletion.is_some() && matches!(outcome, Outcome::Done(_)) {
        for referrer in again::referrers(&hands.store, entry, &manifest.bytes).await? {
            along.extend(put_referrer(hands, target, removed, &referrer).await?);
        }
    }
    let already_there = outcome == there();
    Ok(Restored { intent, outcome, already_there })
}

/// The outcome for a tag that is as it was to be.
fn there() -> Outcome {
    Outcome::Skipped(Skip::Settled("the tag is there already, at that digest".to_owned()))
}

/// The hold on a tag that is about to be put back.
fn held(hands: &Hands, intent: &Intent, hold: &HoldFor, now: Timestamp) -> Option<Hold> {
    Some(Hold {
        registry: intent.registry.clone(),
        endpoint: intent.endpoint.clone()?,
        repository: intent.repository.clone(),
        tag: intent.tag.clone(),
        digest: Some(intent.digest.clone()),
        reason: format!("restored in run {}", hands.run),
        by: hold.by.clone(),
        since: now,
        until: now.checked_add(hold.duration).unwrap_or(Timestamp::MAX),
        origin: HoldOrigin::Restore,
    })
}

/// Puts what referred to a manifest that is back, with the images in it where it is an index.
async fn put_referrer(
    hands: &Hands,
    target: &Target,
    place: &Intent,
    referrer: &RawManifest,
) -> Result<Vec<Restored>, StoreError> {
    // What the registry does not say is found out by trying.
    if let Ok(true) = target.reader.has_manifest(&place.repository, &referrer.digest).await {
        return Ok(Vec::new());
    }
    let within = match again::within(&hands.store, &*target.reader, place, &referrer.bytes).await {
        Err(Unread::Store(error)) => return Err(error),
        within => within.unwrap_or_default(),
    };
    let mut put = Vec::new();
    for manifest in within.kept.iter().chain([referrer]) {
        put.push(put_along(hands, target, place, manifest).await?);
    }
    Ok(put)
}

/// Puts a manifest by its digest, because what is put back under a tag needs it or was accompanied by it.
async fn put_along(
    hands: &Hands,
    target: &Target,
    place: &Intent,
    manifest: &RawManifest,
) -> Result<Restored, StoreError> {
    let (digest, media_type) = (manifest.digest.clone(), manifest.media_type.clone());
    let intent = Intent { action: Action::RestoreManifest, policy: None, digest, media_type, ..place.clone() };
    let id = hands.store.intend(hands.run, &intent, manifest, (hands.clock)()).await?;
    let outcome = match put_by_digest(target, &intent, manifest).await {
        Ok(()) => Outcome::Done(String::new()),
        Err(error) => Outcome::Failed(format!("{}; {PUSH_AGAIN}", error.message)),
    };
    hands.store.settle(id, &outcome, (hands.clock)()).await?;
    Ok(Restored { intent, outcome, already_there: false })
}

/// Puts it by its digest, and looks whether it is there.
async fn put_by_digest(target: &Target, intent: &Intent, manifest: &RawManifest) -> Result<(), RegistryError> {
    let mut tries = 1;
    loop {
        let put = target.writer.put_manifest(&intent.repository, manifest).await;
        let there = target.reader.has_manifest(&intent.repository, &manifest.digest).await;
        match (put, there) {
            // It may say that it failed, and have done it.
            (_, Ok(true)) => return Ok(()),
            (Err(error), Ok(false)) if error.wants_another_look() && tries < MOST_TRIES => tries += 1,
            (Err(error), _) | (Ok(()), Err(error)) => return Err(error),
            (Ok(()), Ok(false)) => {
                let message = "the registry took the manifest, and does not have it".to_owned();
                return Err(RegistryError { kind: RegistryErrorKind::DigestMismatch, message });
            }
        }
    }
}

/// What came of putting a tag.
pub(super) enum Put {
    /// It is there now. The registry's own time of it, where it tells one.
    Done(Option<Timestamp>),
    /// It was there already at that digest, so nothing was put.
    There,
    /// Somebody else's push is what the tag names.
    Moved(Digest),
    /// It is not there.
    Failed(RegistryError),
    /// It is not known whether it will be there. The text says why.
    Unknown(String),
}

/// Whether a tag is only put after a look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstLook {
    /// It is: without a look nothing is put.
    Needed,
    /// If the registry answers: it was seen to be gone a moment ago.
    IfPossible,
}

/// Puts a tag, and looks whether it is there: an answer alone is no proof.
///
/// A push of somebody else must not be overwritten, and the registry has no way to put a tag only if it is not there. So the
/// look comes after every wait, right before each request. A put that the registry puts off is tried again.
pub(super) async fn put(target: &Target, intent: &Intent, manifest: &RawManifest, first: FirstLook) -> Put {
    let (repository, tag) = (&intent.repository, &intent.tag);
    let mut tries = 1;
    loop {
        let clearance = match target.writer.ready_to_put(repository).await {
            Ok(clearance) => clearance,
            Err(error) => return Put::Failed(error),
        };
        match target.reader.resolve(repository, tag).await {
            Ok(None) => {}
            Ok(Some(now)) if now.digest == manifest.digest && tries > 1 => return Put::Done(now.pushed_at),
            Ok(Some(now)) if now.digest == manifest.digest => return Put::There,
            Ok(Some(now)) => return Put::Moved(now.digest),
            Err(_) if first == FirstLook::IfPossible && tries == 1 => {}
            Err(error) => return Put::Failed(error),
        }
        let put = target.writer.put_tag(repository, tag, manifest, clearance).await;
        let there = target.reader.resolve(repository, tag).await;
        return match (put, there) {
            // It may say that it failed, and have done it.
            (_, Ok(Some(now))) if now.digest == manifest.digest => Put::Done(now.pushed_at),
            (_, Ok(Some(now))) => Put::Moved(now.digest),
            (Err(error), Ok(None)) if error.wants_another_look() && tries < MOST_TRIES => {
                tries += 1;
                continue;
            }
            // The request may still be on its way.
            (Err(error), Ok(None)) if error.kind == RegistryErrorKind::Connection => Put::Unknown(error.message),
            (Err(error), Ok(None)) => Put::Failed(error),
            (Ok(()), Ok(None)) => {
                Put::Unknown("the registry took the manifest, and the tag does not name it".to_owned())
            }
            (Ok(()), Err(error)) => Put::Unknown(format!("looking at the tag failed: {}", error.message)),
            (Err(error), Err(second)) => {
                Put::Unknown(format!("{}; then looking at the tag failed: {}", error.message, second.message))
            }
        };
    }
}

const PUSH_AGAIN: &str = "if the registry has collected the image's blobs or manifests since, it cannot come back from here: push the image \
     again";

/// What kept a tag from coming back: for an index the image in it that is gone, else the registry's own words.
fn explain(error: &RegistryError, within: &Within, deletion: Option<&JournalEntry>) -> String {
    if let Some(child) = &within.lost {
        return format!("{}: {}", error.message, again::without(child));
    }
    let deleted = deletion.map_or_else(String::new, |deletion| format!("; {}", again::deleted(deletion)));
    format!("{}{deleted}; {PUSH_AGAIN}", error.message)
}

async fn note(hands: &Hands, intent: Intent, outcome: Outcome, already_there: bool) -> Result<Restored, StoreError> {
    hands.store.note(hands.run, &intent, &outcome, (hands.clock)()).await?;
    Ok(Restored { intent, outcome, already_there })
}
