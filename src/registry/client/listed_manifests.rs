//! Manifests that a list of tags describes and that are read one by one where a decision needs them, for every registry that
//! lists no manifests without tags.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, stream};

use super::list_gaps;
use super::manifest_graph::read_cached_manifest;
use super::wire::Child;
use crate::domain::{Digest, GapTarget, Manifest, ManifestDetail, Repository, UnlistedManifests, UnreadKind};
use crate::registry::{ContentCache, ParsedManifest, RegistryReader};

/// Reads manifests that a repository lists, from the cache or by [`RegistryReader::manifest`]. Failures become gaps.
pub(in crate::registry) async fn read_listed(
    reader: &dyn RegistryReader,
    repository: &mut Repository,
    digests: &BTreeSet<Digest>,
    cache: &dyn ContentCache,
) {
    let name = &repository.name.clone();
    let read: Vec<_> = stream::iter(digests.iter().cloned().collect::<Vec<_>>())
        .map(|digest| async move {
            let parsed = read_cached_manifest(cache, (name, &digest), reader.manifest(name, &digest)).await;
            (digest, parsed)
        })
        .buffer_unordered(reader.settings().concurrency.max(1))
        .collect()
        .await;
    let mut missing = BTreeSet::new();
    for (digest, parsed) in read {
        match parsed {
            Ok(Some(parsed)) => {
                add_inner_indexes(repository, &parsed.children);
                let read = Manifest { created_at: None, ..parsed.manifest };
                repository.artifact_types.insert(digest.clone(), parsed.artifact_type);
                repository.manifests.insert(digest, read);
            }
            Ok(None) => drop(missing.insert(digest)),
            Err(error) => repository.gaps.push(error.into_gap(GapTarget::Manifest(digest))),
        }
    }
    add_children(repository);
    list_gaps::drop_missing_manifests(reader, repository, missing).await;
}

/// Puts manifests that were read into the facts of a repository, with what they list. Pushes and locks are those of the
/// list.
pub(in crate::registry) fn store_read(repository: &mut Repository, read: Vec<(Digest, ParsedManifest)>) {
    let children = repository.manifests.values().flat_map(|manifest| &manifest.children);
    // What one index lists as an image is one, whatever another lists it as.
    let mut images: BTreeSet<Digest> =
        children.filter(|child| !repository.attached.contains(*child)).cloned().collect();
    let mut attached = BTreeSet::new();
    let mut inner = Vec::new();
    for (digest, parsed) in read {
        inner.extend(parsed.children.iter().filter(|child| child.may_be_index).cloned());
        for child in parsed.children {
            let set = if child.is_image { &mut images } else { &mut attached };
            set.insert(child.digest);
        }
        let known = repository.manifests.get(&digest);
        let (lock, created_at) = known.map_or((None, None), |known| (known.lock, known.created_at));
        let subject = parsed.manifest.subject.clone().or_else(|| known.and_then(|known| known.subject.clone()));
        repository.artifact_types.insert(digest.clone(), parsed.artifact_type);
        repository.manifests.insert(digest, Manifest { subject, created_at, lock, ..parsed.manifest });
    }
    let subjects = repository.manifests.values().filter_map(|manifest| manifest.subject.as_deref().cloned()).collect();
    for digests in [&images, &attached, &subjects] {
        repository.include_listed(digests);
    }
    add_inner_indexes(repository, &inner);
    images.extend(repository.tags.iter().filter_map(|tag| tag.digest.clone()));
    repository.attached.extend(attached);
    repository.attached.retain(|digest| !images.contains(digest));
}

/// Puts the indexes that an index lists among the repository's, to be read where a decision needs them. One of which
/// nothing but its digest is known was taken for an image. Where every manifest is listed, their types are known.
pub(in crate::registry) fn add_inner_indexes(repository: &mut Repository, children: &[Child]) {
    if repository.unlisted == UnlistedManifests::None {
        return;
    }
    let unread = ManifestDetail::Unread { image_size: None, kind: UnreadKind::Index };
    for child in children.iter().filter(|child| child.may_be_index) {
        let known = repository.manifests.entry(child.digest.clone()).or_insert_with(|| listed_manifest("", unread));
        let is_bare = known.media_type.is_empty() && known.children.is_empty();
        if is_bare && matches!(known.detail, ManifestDetail::Listed { .. }) {
            known.detail = unread;
        }
    }
}

/// Puts the manifests that indexes list among the repository's: images of one platform, of which nothing else is known.
pub(in crate::registry) fn add_children(repository: &mut Repository) {
    let children: Vec<Digest> =
        repository.manifests.values().flat_map(|manifest| &manifest.children).cloned().collect();
    for digest in children {
        let detail = ManifestDetail::Listed { image_size: None };
        repository.manifests.entry(digest).or_insert_with(|| listed_manifest("", detail));
    }
}

/// The media types of a list, each of them once.
#[derive(Debug, Default)]
pub(in crate::registry) struct MediaTypes(BTreeSet<Arc<str>>);

impl MediaTypes {
    /// Returns the shared text of a media type; empty for none.
    pub(in crate::registry) fn intern(&mut self, text: Option<&str>) -> Arc<str> {
        let text = text.unwrap_or_default();
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}

/// Returns a manifest of which only its type and what a list tells of it is known.
pub(in crate::registry) fn listed_manifest(media_type: &str, detail: ManifestDetail) -> Manifest {
    Manifest {
        media_type: media_type.into(),
        size: 0,
        config: None,
        blobs: Box::default(),
        children: Vec::new(),
        subject: None,
        created_at: None,
        lock: None,
        detail,
    }
}
