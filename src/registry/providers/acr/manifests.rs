//! What is behind the tags: mostly what the registry lists, and a manifest's own bytes only where something needs them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, stream};
use jiff::Timestamp;

use super::reader::{AcrReader, parse_response};
use super::wire::{WireManifest, WireOneManifest};
use super::{lists, manifest_path};
use crate::domain::{Digest, Gap, GapTarget, Lock, Manifest, ManifestDetail, RepositoryName, Tag};
use crate::registry::manifest_graph::ManifestReader;
use crate::registry::{ContentCache, RegistryError, RegistryErrorKind};

/// A manifest as it is listed.
#[derive(Debug)]
pub(super) struct ListedManifest {
    digest: Digest,
    media_type: Option<Arc<str>>,
    image_size: Option<u64>,
    lock: Option<Lock>,
    kind: ManifestKind,
}

/// What the registry's list tells of a manifest's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ManifestKind {
    /// An image for one platform: it lists no other manifests and refers to none.
    Image,
    /// Something that may refer to an image, but lists none: an artifact.
    Artifact,
    /// An index, or something that may be one.
    Index,
}

impl lists::Row for ListedManifest {
    type Key = Digest;

    fn key(&self) -> &Digest {
        &self.digest
    }
}

/// Manifests that are looked for by their digest, with when those that were met last changed: aside, because a list may
/// have a hundred thousand rows, and these are few.
#[derive(Debug)]
pub(super) struct WantedManifests<'a> {
    digests: &'a BTreeSet<Digest>,
    found: Mutex<BTreeMap<Digest, Option<Timestamp>>>,
}

impl<'a> WantedManifests<'a> {
    pub(super) fn new(digests: &'a BTreeSet<Digest>) -> Self {
        Self { digests, found: Mutex::default() }
    }

    /// Notes when a manifest last changed, if it is one of these.
    pub(super) fn record(&self, row: &ListedManifest, changed_at: impl FnOnce() -> Option<Timestamp>) {
        if self.digests.contains(&row.digest) {
            let mut met = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            met.insert(row.digest.clone(), changed_at());
        }
    }

    /// Those that are among these manifests.
    pub(super) fn found_in(self, manifests: &BTreeMap<Digest, Manifest>) -> BTreeMap<Digest, Option<Timestamp>> {
        let mut met = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        met.retain(|digest, _| manifests.contains_key(digest));
        met
    }
}

/// Everything behind the tags of a repository.
pub(super) struct RepositoryManifests {
    pub(super) manifests: BTreeMap<Digest, Manifest>,
    /// Those of them that indexes list for no platform, and that have no tag.
    pub(super) attached: BTreeSet<Digest>,
    /// Those that tags name and the registry does not have.
    pub(super) missing: BTreeSet<Digest>,
    pub(super) gaps: Vec<Gap>,
}

impl AcrReader {
    /// The manifests behind the tags and those that are sought, and everything that may hold one of them or refer to one
    /// that is sought.
    pub(super) async fn read_manifests(
        &self,
        repository: &RepositoryName,
        tags: &[Tag],
        mut rows: Vec<ListedManifest>,
        sought: &WantedManifests<'_>,
        cache: &dyn ContentCache,
    ) -> RepositoryManifests {
        let tagged: BTreeSet<&Digest> = tags.iter().filter_map(|tag| tag.digest.as_ref()).collect();
        rows.sort_unstable_by(compare_digests);
        // Pushed between the two lists, or hidden from one of them.
        let unlisted: Vec<Digest> =
            tagged.iter().filter(|digest| find_row(&rows, digest).is_none()).map(|&digest| digest.clone()).collect();
        let found: Vec<_> = stream::iter(unlisted)
            .map(|digest| async move {
                let row = self.fetch_row(repository, &digest, sought).await;
                (digest, row)
            })
            .buffer_unordered(self.http.settings.concurrency.max(1))
            .collect()
            .await;
        let (mut gaps, mut missing) = (Vec::new(), BTreeSet::new());
        for (digest, found) in found {
            match found {
                Ok(Some(row)) => rows.push(row),
                Ok(None) => drop(missing.insert(digest)),
                Err(error) => gaps.push(error.into_gap(GapTarget::Manifest(digest))),
            }
        }
        rows.sort_unstable_by(compare_digests);
        let exact = self.http.settings.exact_bytes;
        let needed = rows.iter().filter(|row| match row.kind {
            _ if exact => true,
            ManifestKind::Image => false,
            // One without a tag matters only to what it may refer to, when that is to be deleted.
            ManifestKind::Artifact => tagged.contains(&row.digest) || !sought.digests.is_empty(),
            // Tagged or not: a workload may run an index by its digest, and so hold a tagged image in it.
            ManifestKind::Index => true,
        });
        let needed: Vec<Digest> = needed.map(|row| row.digest.clone()).collect();
        let reading = ManifestReader { http: &self.http, referrers: &self.referrers, repository, cache };
        let reading = &reading;
        let read: Vec<_> = stream::iter(needed)
            .map(|digest| async move {
                let parsed = reading.read_manifest(&digest).await;
                (digest, parsed)
            })
            .buffer_unordered(self.http.settings.concurrency.max(1))
            .collect()
            .await;
        let mut manifests: BTreeMap<Digest, Manifest> = BTreeMap::new();
        let mut children: BTreeSet<Digest> = BTreeSet::new();
        let mut attached: BTreeSet<Digest> = BTreeSet::new();
        for (digest, parsed) in read {
            let row = find_row(&rows, &digest);
            match parsed {
                Ok(Some(parsed)) => {
                    for child in parsed.children {
                        let set = if child.is_image { &mut children } else { &mut attached };
                        set.insert(child.digest);
                    }
                    let lock = row.and_then(|row| row.lock);
                    manifests.insert(digest, Manifest { lock, created_at: None, ..parsed.manifest });
                }
                // Deleted since it was listed. What tags still name it say so themselves.
                Ok(None) if !tagged.contains(&digest) => {}
                Ok(None) => match self.fetch_row(repository, &digest, sought).await {
                    Ok(None) => drop(missing.insert(digest)),
                    Ok(Some(_)) => gaps.push(withheld_error(repository, &digest).into_gap(GapTarget::Manifest(digest))),
                    Err(error) => gaps.push(error.into_gap(GapTarget::Manifest(digest))),
                },
                Err(error) => gaps.push(error.into_gap(GapTarget::Manifest(digest))),
            }
        }
        rows.retain(|row| {
            let digest = &row.digest;
            let inside = children.contains(digest) || attached.contains(digest);
            let wanted = inside || tagged.contains(digest) || sought.digests.contains(digest);
            wanted && row.kind == ManifestKind::Image && !manifests.contains_key(&row.digest)
        });
        rows.shrink_to_fit();
        let listed = rows.into_iter().map(|row| (row.digest.clone(), unpulled_manifest(row)));
        let manifests =
            if manifests.is_empty() { listed.collect() } else { manifests.into_iter().chain(listed).collect() };
        attached.retain(|digest| !children.contains(digest) && !tagged.contains(digest));
        RepositoryManifests { manifests, attached, missing, gaps }
    }

    /// Returns what the registry says of one manifest, or `None` if it does not have it.
    async fn fetch_row(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        sought: &WantedManifests<'_>,
    ) -> Result<Option<ListedManifest>, RegistryError> {
        let Some(response) = self.fetch_metadata(name, &manifest_path(name, digest)).await? else { return Ok(None) };
        let wire: WireOneManifest<WireManifest> = parse_response(&response)?;
        let row = listed_manifest(&wire.manifest, &mut Vec::new()).map_err(|why| response.malformed(&why))?;
        sought.record(&row, || wire.manifest.changed_at());
        Ok(Some(row))
    }
}

fn compare_digests(a: &ListedManifest, b: &ListedManifest) -> Ordering {
    a.digest.cmp(&b.digest)
}

/// The row of a digest among some in the order of their digests.
fn find_row<'r>(rows: &'r [ListedManifest], digest: &Digest) -> Option<&'r ListedManifest> {
    rows.binary_search_by(|row| row.digest.cmp(digest)).ok().and_then(|at| rows.get(at))
}

/// A listed manifest in the domain's words. `types` holds the media types met so far, each once.
pub(super) fn listed_manifest(wire: &WireManifest, types: &mut Vec<Arc<str>>) -> Result<ListedManifest, String> {
    let digest = wire.digest.parse().map_err(|error: crate::domain::InvalidDigest| error.to_string())?;
    let media_type = wire.media_type.as_deref().map(|text| {
        types.iter().find(|known| ***known == *text).cloned().unwrap_or_else(|| {
            let new: Arc<str> = text.into();
            types.push(Arc::clone(&new));
            new
        })
    });
    let nature = manifest_kind(wire.media_type.as_deref(), wire.config_media_type.as_deref(), wire.has_platform());
    Ok(ListedManifest { digest, media_type, image_size: wire.image_size, lock: wire.lock(), kind: nature })
}

/// What a manifest is by the types that the registry lists. A type that is not known may be anything, and an OCI image
/// manifest carries all kinds of things: it is an image if its configuration is one, or the registry found a platform in
/// it (not every version of the service lists both).
fn manifest_kind(media_type: Option<&str>, config: Option<&str>, platform: bool) -> ManifestKind {
    let image = match config {
        Some(config) => matches!(
            config,
            "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
        ),
        None => platform,
    };
    match media_type {
        Some(
            "application/vnd.docker.distribution.manifest.v2+json"
            | "application/vnd.docker.distribution.manifest.v1+prettyjws"
            | "application/vnd.docker.distribution.manifest.v1+json",
        ) => ManifestKind::Image,
        Some("application/vnd.oci.image.manifest.v1+json") if image => ManifestKind::Image,
        Some(
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.oci.artifact.manifest.v1+json"
            | "application/vnd.cncf.oras.artifact.manifest.v1+json",
        ) => ManifestKind::Artifact,
        _ => ManifestKind::Index,
    }
}

fn unpulled_manifest(row: ListedManifest) -> Manifest {
    Manifest {
        media_type: row.media_type.unwrap_or_else(|| "".into()),
        size: 0,
        config: None,
        blobs: [].into(),
        children: Vec::new(),
        subject: None,
        created_at: None,
        lock: row.lock,
        detail: ManifestDetail::Listed { image_size: row.image_size },
    }
}

/// The registry has it and does not give it, as it does with images in quarantine. It may be an index.
fn withheld_error(repository: &RepositoryName, digest: &Digest) -> RegistryError {
    RegistryError {
        kind: RegistryErrorKind::NotFound,
        message: format!(
            "{repository}: the registry lists {digest} and answers that there is no such manifest; is it in quarantine?"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_tell_what_need_not_be_pulled() {
        const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
        const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
        const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
        for (media_type, config, platform, expected) in [
            (Some(DOCKER), None, false, ManifestKind::Image),
            (Some("application/vnd.docker.distribution.manifest.v1+prettyjws"), None, false, ManifestKind::Image),
            (Some(OCI), Some(CONFIG), false, ManifestKind::Image),
            (Some(OCI), None, true, ManifestKind::Image),
            (Some(OCI), None, false, ManifestKind::Artifact),
            (Some(OCI), Some("application/vnd.oci.empty.v1+json"), true, ManifestKind::Artifact),
            (Some(OCI), Some("application/vnd.cncf.helm.config.v1+json"), false, ManifestKind::Artifact),
            (Some("application/vnd.cncf.oras.artifact.manifest.v1+json"), None, false, ManifestKind::Artifact),
            (Some("application/vnd.oci.image.index.v1+json"), None, false, ManifestKind::Index),
            (Some("application/vnd.docker.distribution.manifest.list.v2+json"), None, false, ManifestKind::Index),
            (Some("application/vnd.example.v9+json"), Some(CONFIG), true, ManifestKind::Index),
            (None, None, true, ManifestKind::Index),
        ] {
            assert_eq!(manifest_kind(media_type, config, platform), expected, "{media_type:?} {config:?} {platform}");
        }
    }
}
