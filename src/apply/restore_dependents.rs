//! Manifests that were deleted with a manifest to be restored, and that the journal can restore.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::domain::{Digest, Intent, RepositoryName, is_index_type};
use crate::registry::{self, RawManifest, RegistryError, RegistryReader};
use crate::state::{JournalEntry, StateError, StateErrorKind, StateStore};

/// The images in an index that the registry no longer has.
#[derive(Debug, Default)]
pub(super) struct MissingChildren {
    /// Images that Tagwarden deleted and the journal still has, children first.
    pub(super) restorable: Vec<RawManifest>,
    /// The images that neither the registry nor the journal has.
    pub(super) lost: Vec<Digest>,
}

/// Why images in an index could not be looked up.
pub(super) enum ChildLookupError {
    Registry(RegistryError),
    Store(StateError),
}

/// Manifests that were seen in a registry, so that none is looked up twice. Each index with its images.
#[derive(Debug, Default)]
pub(super) struct KnownManifests(Mutex<BTreeMap<(RepositoryName, Digest), Vec<Child>>>);

/// A manifest that an index lists.
#[derive(Debug, Clone)]
struct Child {
    digest: Digest,
    is_index: bool,
}

impl KnownManifests {
    /// Returns what a manifest lists if it exists, which is nothing unless it is an index; and remembers that.
    ///
    /// # Errors
    /// Returns an error if the registry does not answer.
    async fn images_in(
        &self,
        reader: &dyn RegistryReader,
        repository: &RepositoryName,
        child: &Child,
    ) -> Result<Option<Vec<Child>>, RegistryError> {
        let place = (repository.clone(), child.digest.clone());
        if let Some(images) = self.seen().get(&place) {
            return Ok(Some(images.clone()));
        }
        let images = if child.is_index {
            reader.manifest(repository, &child.digest).await?.map(|index| children(&index.bytes).collect())
        } else {
            reader.has_manifest(repository, &child.digest).await?.then(Vec::new)
        };
        if let Some(images) = &images {
            self.seen().insert(place, images.clone());
        }
        Ok(images)
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<(RepositoryName, Digest), Vec<Child>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Step {
    Inspect(Child),
    Collect(RawManifest),
}

/// Returns the images in an index, and in indexes within it, that the registry no longer has; empty for anything that is
/// not an index.
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
        let child = match step {
            Step::Collect(manifest) => {
                found.restorable.push(manifest);
                continue;
            }
            Step::Inspect(child) => child,
        };
        if !seen.insert(child.digest.clone()) {
            continue;
        }
        let there = known.images_in(reader, &place.repository, &child).await.map_err(ChildLookupError::Registry)?;
        if let Some(inner) = there {
            open.extend(inner.into_iter().map(Step::Inspect));
            continue;
        }
        let deletion = store.last_deletion(&place.registry, &place.repository, &child.digest).await;
        let kept = match deletion.map_err(ChildLookupError::Store)? {
            Some(entry) => journaled_manifest(store, &entry).await.map_err(ChildLookupError::Store)?,
            None => None,
        };
        let Some(kept) = kept else {
            found.lost.push(child.digest);
            continue;
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
    let mut back: BTreeSet<Digest> = children(manifest).map(|child| child.digest).chain([digest.clone()]).collect();
    // Images may exist from an earlier attempt.
    let mut open: Vec<Digest> = back.iter().cloned().collect();
    while let Some(next) = open.pop() {
        let inner = left.get(&next).into_iter().flat_map(|index| children(&index.bytes)).map(|child| child.digest);
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
    children(&manifest.bytes).map(|child| child.digest).chain(subject.map(|subject| *subject)).collect()
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

/// Describes the images of an index that are lost; `None` if none is.
pub(super) fn describe_lost(lost: &[Digest]) -> Option<String> {
    let (first, others) = lost.split_first()?;
    let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    let (verb, them) = if others.is_empty() { ("is", "it") } else { ("are", "them") };
    Some(format!(
        "{first}{more} in its index {verb} neither in the registry nor in the journal; put {them} back or push {them} first"
    ))
}

/// Returns the children of an index; empty for anything else. Layers in the index of a build cache are not manifests.
fn children(manifest: &[u8]) -> impl Iterator<Item = Child> {
    let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let listed = manifest["manifests"].as_array().cloned().unwrap_or_default();
    let manifests = listed.into_iter().filter(|child| !child["mediaType"].as_str().is_some_and(registry::is_blob_type));
    manifests.filter_map(|child| {
        let is_index = child["mediaType"].as_str().is_some_and(is_index_type);
        Some(Child { digest: child["digest"].as_str()?.parse().ok()?, is_index })
    })
}
