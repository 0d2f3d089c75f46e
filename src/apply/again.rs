//! What went along with a manifest that is to be put back, and can be put again from the journal.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::domain::{Digest, Intent};
use crate::registry::{self, RawManifest, RegistryError, RegistryReader};
use crate::store::{JournalEntry, Store, StoreError, StoreErrorKind};

/// The images in an index that the registry no longer has.
#[derive(Debug, Default)]
pub(super) struct Within {
    /// Those that Tagwarden deleted and the journal still has, what others contain first.
    pub(super) kept: Vec<RawManifest>,
    /// The first that nobody has any more.
    pub(super) lost: Option<Digest>,
}

/// Why images in an index could not be looked up.
pub(super) enum Unread {
    Registry(RegistryError),
    Store(StoreError),
}

enum Step {
    Look(Digest),
    Take(RawManifest),
}

/// The images in an index that the registry no longer has; none for anything that is no index.
pub(super) async fn within(
    store: &Store,
    reader: &dyn RegistryReader,
    place: &Intent,
    manifest: &[u8],
) -> Result<Within, Unread> {
    let mut found = Within::default();
    let mut seen = BTreeSet::new();
    let mut open: Vec<Step> = children(manifest).map(Step::Look).collect();
    while let Some(step) = open.pop() {
        let digest = match step {
            Step::Take(manifest) => {
                found.kept.push(manifest);
                continue;
            }
            Step::Look(digest) => digest,
        };
        let there = reader.has_manifest(&place.repository, &digest);
        if !seen.insert(digest.clone()) || there.await.map_err(Unread::Registry)? {
            continue;
        }
        let deletion = store.last_deletion(&place.registry, &place.repository, &digest).await.map_err(Unread::Store)?;
        let kept = match deletion {
            Some(entry) => bytes(store, &entry).await.map_err(Unread::Store)?,
            None => None,
        };
        let Some(kept) = kept else {
            found.lost = Some(digest);
            return Ok(found);
        };
        let inner: Vec<Step> = children(&kept.bytes).map(Step::Look).collect();
        open.push(Step::Take(kept));
        open.extend(inner);
    }
    Ok(found)
}

/// What referred to a manifest or to an image in it and was deleted with it, each after what it refers to. `entry` is the
/// removal of its tag.
///
/// # Errors
/// When the journal could not be read.
pub(super) async fn referrers(
    store: &Store,
    entry: &JournalEntry,
    manifest: &[u8],
) -> Result<Vec<RawManifest>, StoreError> {
    let Intent { registry, repository, tag, digest, .. } = &entry.intent;
    let mut left: BTreeMap<Digest, RawManifest> = BTreeMap::new();
    for deletion in store.deletions_under(registry, repository, tag, entry.id).await? {
        if let Some(manifest) = bytes(store, &deletion).await? {
            left.insert(manifest.digest.clone(), manifest);
        }
    }
    let mut back: BTreeSet<Digest> = children(manifest).chain([digest.clone()]).collect();
    // Images may be back from an earlier try.
    let mut open: Vec<Digest> = back.iter().cloned().collect();
    while let Some(next) = open.pop() {
        let inner = left.get(&next).into_iter().flat_map(|index| children(&index.bytes));
        open.extend(inner.filter(|child| back.insert(child.clone())));
    }
    left.retain(|digest, _| !back.contains(digest));
    let mut found = Vec::new();
    loop {
        let refers = |manifest: &RawManifest| {
            let parsed = registry::parse(manifest).ok();
            parsed.and_then(|parsed| parsed.manifest.subject).is_some_and(|subject| back.contains(&*subject))
        };
        let Some(next) = left.iter().find(|(_, manifest)| refers(manifest)).map(|(digest, _)| digest.clone()) else {
            return Ok(found);
        };
        found.extend(left.remove(&next));
        back.insert(next);
    }
}

/// The bytes that the journal keeps of a manifest; nothing where they are damaged or were never kept.
async fn bytes(store: &Store, entry: &JournalEntry) -> Result<Option<RawManifest>, StoreError> {
    match store.manifest_of(entry).await {
        Ok(manifest) => Ok(Some(manifest)),
        Err(error) if matches!(error.kind, StoreErrorKind::Missing | StoreErrorKind::Corrupt) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tagwarden's own deletion of a manifest since its tag was removed.
///
/// # Errors
/// When the journal could not be read.
pub(super) async fn deletion_since(store: &Store, entry: &JournalEntry) -> Result<Option<JournalEntry>, StoreError> {
    let Intent { registry, repository, digest, .. } = &entry.intent;
    let last = store.last_deletion(registry, repository, digest).await?;
    Ok(last.filter(|last| last.id > entry.id))
}

/// When and in which run a manifest was deleted.
pub(super) fn deleted(entry: &JournalEntry) -> String {
    let at = entry.outcome.as_ref().map_or(entry.intended_at, |(_, at)| *at);
    format!("Tagwarden deleted its manifest on {} (run {})", at.strftime("%Y-%m-%d %H:%M UTC"), entry.run)
}

/// Why an index cannot come back without one of its images.
pub(super) fn without(child: &Digest) -> String {
    format!("the registry has collected {child}, which is in it; put that back or push it first")
}

/// The manifests that an index lists; none of anything else. Layers in the index of a build cache are not manifests.
fn children(manifest: &[u8]) -> impl Iterator<Item = Digest> {
    let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let listed = manifest["manifests"].as_array().cloned().unwrap_or_default();
    let manifests = listed.into_iter().filter(|child| !child["mediaType"].as_str().is_some_and(registry::is_blob_type));
    manifests.filter_map(|child| child["digest"].as_str()?.parse().ok())
}
