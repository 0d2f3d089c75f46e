//! Putting tags back, byte for byte.

use crate::domain::{Action, Intent, Outcome, Skip};
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind};
use crate::store::{JournalEntry, StoreError, StoreErrorKind};

use super::foresee::{lost, without};
use super::{Hands, MOST_TRIES, Target};

/// What came of putting one tag back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The tag, its digest, and where it belongs.
    pub intent: Intent,
    /// What came of it.
    pub outcome: Outcome,
    /// Whether it was there already, at that digest.
    pub already_there: bool,
}

/// Puts back the tags of journaled removals.
///
/// A tag that somebody pushed again meanwhile is left alone. What fails is tried once more after the others, because an
/// index can only come back after the images in it.
///
/// # Errors
/// When the journal could not be read or written.
pub async fn restore(hands: &Hands, entries: Vec<JournalEntry>) -> Result<Vec<Restored>, StoreError> {
    let mut restored = Vec::new();
    let mut again = Vec::new();
    for entry in entries {
        let done = one(hands, &entry).await?;
        if matches!(done.outcome, Outcome::Failed(_)) {
            again.push(entry);
        } else {
            restored.push(done);
        }
    }
    for entry in again {
        restored.push(one(hands, &entry).await?);
    }
    Ok(restored)
}

async fn one(hands: &Hands, entry: &JournalEntry) -> Result<Restored, StoreError> {
    let removed = &entry.intent;
    let intent = Intent { action: Action::Restore, policy: None, ..removed.clone() };
    let Some(target) = hands.targets.get(&removed.registry) else {
        let why = format!("registry {} is not in the settings", removed.registry);
        return note(hands, intent, Outcome::Skipped(Skip::Stopped(why)), false).await;
    };
    if *hands.stop.borrow() {
        return note(hands, intent, Outcome::Skipped(Skip::Interrupted), false).await;
    }
    match target.reader.resolve(&removed.repository, &removed.tag).await {
        Ok(Some(now)) if now.digest == removed.digest => {
            let seen = Skip::Settled("the tag is there already, at that digest".to_owned());
            return note(hands, intent, Outcome::Skipped(seen), true).await;
        }
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
    let id = hands.store.intend(hands.run, &intent, &manifest, (hands.clock)()).await?;
    let outcome = match put(target, &intent, &manifest).await {
        Ok(()) => Outcome::Done(String::new()),
        Err(error) => Outcome::Failed(explain(target, &intent, &manifest, &error).await),
    };
    hands.store.settle(id, &outcome, (hands.clock)()).await?;
    Ok(Restored { intent, outcome, already_there: false })
}

/// Puts it, and looks whether it is there: an answer alone is no proof.
///
/// A put that the registry puts off is tried again, as long as nobody else has pushed the tag.
pub(super) async fn put(target: &Target, intent: &Intent, manifest: &RawManifest) -> Result<(), RegistryError> {
    let (repository, tag) = (&intent.repository, &intent.tag);
    let mut tries = 1;
    let there = loop {
        let put = target.writer.put_tag(repository, tag, manifest).await;
        let there = target.reader.resolve(repository, tag).await;
        match (put, there) {
            (Ok(()), there) => break there?,
            // It says that it failed, and did it.
            (Err(_), Ok(Some(now))) if now.digest == manifest.digest => break Some(now),
            (Err(error), Ok(None)) if error.kind == RegistryErrorKind::Throttled && tries < MOST_TRIES => tries += 1,
            (Err(error), _) => return Err(error),
        }
    };
    match there {
        Some(now) if now.digest == manifest.digest => Ok(()),
        _ => Err(RegistryError {
            kind: RegistryErrorKind::DigestMismatch,
            message: "the registry took the manifest, and the tag does not name it".to_owned(),
        }),
    }
}

/// What kept a tag from coming back: for an index the image in it that is gone, else the registry's own words.
async fn explain(target: &Target, intent: &Intent, manifest: &RawManifest, error: &RegistryError) -> String {
    if let Ok(Some(child)) = lost(&*target.reader, &intent.repository, &manifest.bytes).await {
        return format!("{}: {}", error.message, without(&child));
    }
    format!(
        "{}; if the registry has collected the image's blobs or manifests since, it cannot come back from here: push the \
         image again",
        error.message
    )
}

async fn note(hands: &Hands, intent: Intent, outcome: Outcome, already_there: bool) -> Result<Restored, StoreError> {
    hands.store.note(hands.run, &intent, &outcome, (hands.clock)()).await?;
    Ok(Restored { intent, outcome, already_there })
}
