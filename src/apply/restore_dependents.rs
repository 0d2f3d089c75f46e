//! Manifests that were deleted with a manifest to be restored, and that the journal can restore.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::domain::{Digest, Intent, RepositoryName};
use crate::registry::{self, RawManifest, RegistryError, RegistryReader};
use crate::state::{JournalEntry, StateError, StateErrorKind, StateStore};

/// The images in an index that the registry no longer has.
#[derive(Debug, Default)]
pub(super) struct MissingChildren {
    /// Images that Tagwarden deleted and the journal still has, children first.
    pub(super) restorable: Vec<RawManifest>,
    /// The first image that neither the registry nor the journal has.
    pub(super) unrecoverable: Option<Digest>,
}

/// Why images in an index could not be looked up.
pub(super) enum ChildLookupError {
    Registry(RegistryError),
    Store(StateError),
}

/// Manifests that were seen in a registry, so that none is looked up twice.
#[derive(Debug, Default)]
pub(super) struct KnownManifests(Mutex<BTreeSet<(RepositoryName, Digest)>>);

impl KnownManifests {
    /// Returns true if a manifest exists, and remembers those that do.
    ///
    /// # Errors
    /// Returns an error if the registry does not answer.
    async fn contains(
        &self,
        reader: &dyn RegistryReader,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        let place = (repository.clone(), digest.clone());
        if self.seen().contains(&place) {
            return Ok(true);
        }
        let there = reader.has_manifest(repository, digest).await?;
        if there {
            self.seen().insert(place);
        }
        Ok(there)
    }

    fn seen(&self) -> MutexGuard<'_, BTreeSet<(RepositoryName, Digest)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Step {
    Inspect(Digest),
    Collect(RawManifest),
}

/// Returns the images in an index that the registry no longer has; empty for anything that is not an index.
pub(super) async fn missing_children(
    store: &StateStore,
    reader: &dyn RegistryReader,
    place: &Intent,
    manifest: &[u8],
    known: &KnownManifests,
) -> Result<MissingChildren, ChildLookupError> {
    let mut found = MissingChildren::default();
    // The registry restores an index together with its children.
    if reader.hides_untagged() {
        return Ok(found);
    }
    let mut seen = BTreeSet::new();
    let mut open: Vec<Step> = children(manifest).map(Step::Inspect).collect();
    while let Some(step) = open.pop() {
        let digest = match step {
            Step::Collect(manifest) => {
                found.restorable.push(manifest);
                continue;
            }
            Step::Inspect(digest) => digest,
        };
        if !seen.insert(digest.clone())
            || known.contains(reader, &place.repository, &digest).await.map_err(ChildLookupError::Registry)?
        {
            continue;
        }
        let deletion =
            store.last_deletion(&place.registry, &place.repository, &digest).await.map_err(ChildLookupError::Store)?;
        let kept = match deletion {
            Some(entry) => journaled_manifest(store, &entry).await.map_err(ChildLookupError::Store)?,
            None => None,
        };
        let Some(kept) = kept else {
            found.unrecoverable = Some(digest);
            return Ok(found);
        };
        let inner: Vec<Step> = children(&kept.bytes).map(Step::Inspect).collect();
        open.push(Step::Collect(kept));
        open.extend(inner);
    }
    Ok(found)
}

/// Returns the manifests that referred to a manifest or to an image in it and were deleted with it, each after its
/// subject. `entry` is the removal of its tag.
///
/// # Errors
/// Returns an error if the journal cannot be read.
pub(super) async fn deleted_referrers(
    store: &StateStore,
    entry: &JournalEntry,
    manifest: &[u8],
) -> Result<Vec<RawManifest>, StateError> {
    let Intent { registry, repository, tag, digest, .. } = &entry.intent;
    let mut left: BTreeMap<Digest, RawManifest> = BTreeMap::new();
    for deletion in store.deletions_of_tag(registry, repository, tag, entry.id).await? {
        if let Some(manifest) = journaled_manifest(store, &deletion).await? {
            left.insert(manifest.digest.clone(), manifest);
        }
    }
    let mut back: BTreeSet<Digest> = children(manifest).chain([digest.clone()]).collect();
    // Images may exist from an earlier attempt.
    let mut open: Vec<Digest> = back.iter().cloned().collect();
    while let Some(next) = open.pop() {
        let inner = left.get(&next).into_iter().flat_map(|index| children(&index.bytes));
        open.extend(inner.filter(|child| back.insert(child.clone())));
    }
    left.retain(|digest, _| !back.contains(digest));
    let mut found = Vec::new();
    loop {
        let refers = |manifest: &RawManifest| {
            let parsed = registry::parse_manifest(manifest).ok();
            parsed.and_then(|parsed| parsed.manifest.subject).is_some_and(|subject| back.contains(&*subject))
        };
        let Some(next) = left.iter().find(|(_, manifest)| refers(manifest)).map(|(digest, _)| digest.clone()) else {
            return Ok(found);
        };
        found.extend(left.remove(&next));
        back.insert(next);
    }
}

/// Returns a manifest's content from the journal; `None` if it is damaged or was never stored.
pub(super) async fn journaled_manifest(
    store: &StateStore,
    entry: &JournalEntry,
) -> Result<Option<RawManifest>, StateError> {
    match store.manifest_of(entry).await {
        Ok(manifest) => Ok(Some(manifest)),
        Err(error) if matches!(error.kind, StateErrorKind::Missing | StateErrorKind::Corrupt) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the manifests that must exist before one is put: its children, and its subject.
pub(super) fn needed_manifests(manifest: &RawManifest) -> Vec<Digest> {
    let subject = registry::parse_manifest(manifest).ok().and_then(|parsed| parsed.manifest.subject);
    children(&manifest.bytes).chain(subject.map(|subject| *subject)).collect()
}

/// Returns Tagwarden's own deletion of a manifest since its tag was removed, or with it.
///
/// # Errors
/// Returns an error if the journal cannot be read.
pub(super) async fn deletion_since(
    store: &StateStore,
    entry: &JournalEntry,
) -> Result<Option<JournalEntry>, StateError> {
    let Intent { registry, repository, digest, .. } = &entry.intent;
    let last = store.last_deletion(registry, repository, digest).await?;
    Ok(last.filter(|last| last.id >= entry.id))
}

/// Describes the time and the run of a manifest's deletion.
pub(super) fn describe_deletion(entry: &JournalEntry) -> String {
    let at = entry.outcome.as_ref().map_or(entry.intended_at, |(_, at)| *at);
    format!("Tagwarden deleted its manifest on {} (run {})", at.strftime("%Y-%m-%d %H:%M UTC"), entry.run)
}

/// Describes why an index cannot be restored without one of its images.
pub(super) fn describe_missing_child(child: &Digest) -> String {
    format!("the registry has collected {child}, which is in it; put that back or push it first")
}

/// Returns the children of an index; empty for anything else. Layers in the index of a build cache are not manifests.
fn children(manifest: &[u8]) -> impl Iterator<Item = Digest> {
    let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let listed = manifest["manifests"].as_array().cloned().unwrap_or_default();
    let manifests = listed.into_iter().filter(|child| !child["mediaType"].as_str().is_some_and(registry::is_blob_type));
    manifests.filter_map(|child| child["digest"].as_str()?.parse().ok())
}
