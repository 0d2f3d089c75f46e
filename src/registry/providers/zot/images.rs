//! Images as zot's search lists them, as tags and manifests of a repository.
//!
//! The time that stands where other registries have the creation of an image is that of its push, or of the making of its
//! youngest tag: zot tells no time at which a tag moved, so that one that was seen to move later counts from then.

use std::collections::BTreeMap;

use super::wire::{Pulls, WireImage, WireReferrer};
use crate::domain::{
    CompactTime, Digest, Gap, GapTarget, Manifest, ManifestDetail, PullTime, Repository, Tag, TagName, UnreadKind,
    is_index_type,
};
use crate::registry::client::list_gaps;
use crate::registry::client::listed_manifests::{MediaTypes, listed_manifest};

/// The types of configurations that images have, which refer to nothing unless that is listed.
const IMAGES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// Puts the images of tags into a repository, and the tags themselves.
pub(super) struct ImageList<'a> {
    pub(super) repository: &'a mut Repository,
    pub(super) types: MediaTypes,
    /// True if pull times are on record and may be relied on.
    pub(super) records_pulls: bool,
}

impl ImageList<'_> {
    /// Adds a tag with the row that lists it.
    pub(super) fn add(&mut self, name: TagName, row: &WireImage) {
        let digest: Option<Digest> = row.digest.as_deref().and_then(|text| text.parse().ok());
        if let Some(digest) = &digest {
            self.add_pulls(&name, row);
            self.add_image(digest, row);
        } else {
            let error = list_gaps::missing_digest(&self.repository.name, &name);
            self.repository.gaps.push(error.into_gap(GapTarget::Tag(name.clone())));
        }
        self.repository.tags.push(Tag { name, digest, pushed_at: None, first_seen: None, lock: None });
    }

    /// Adds a tag that the search does not list, with the type of its manifest.
    pub(super) fn add_unlisted(&mut self, name: TagName, digest: &Digest, media_type: &str) {
        let detail = match media_type {
            // Neither of Docker's image formats refers to anything.
            "application/vnd.docker.distribution.manifest.v2+json"
            | "application/vnd.docker.distribution.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v1+prettyjws" => {
                ManifestDetail::Listed { image_size: None }
            }
            "application/vnd.oci.image.manifest.v1+json" => {
                ManifestDetail::Unread { image_size: None, kind: UnreadKind::Artifact }
            }
            _ => ManifestDetail::Unread { image_size: None, kind: UnreadKind::Index },
        };
        let media_type = self.types.intern(Some(media_type));
        let listed = || Manifest { media_type, ..listed_manifest("", detail) };
        self.repository.manifests.entry(digest.clone()).or_insert_with(listed);
        let tag = Tag { name, digest: Some(digest.clone()), pushed_at: None, first_seen: None, lock: None };
        self.repository.tags.push(tag);
    }

    /// Adds a tag of which only its name is known.
    pub(super) fn add_gap(&mut self, name: TagName, gap: Gap) {
        self.repository.gaps.push(gap);
        self.repository.tags.push(Tag { name, digest: None, pushed_at: None, first_seen: None, lock: None });
    }

    fn add_pulls(&mut self, name: &TagName, row: &WireImage) {
        if !self.records_pulls {
            return;
        }
        match row.pulls() {
            Pulls::None => self.repository.set_pull_time(name.clone(), PullTime::Never),
            Pulls::Last(at) => self.repository.set_pull_time(name.clone(), PullTime::At(at.into())),
            Pulls::Unknown => {}
        }
    }

    fn add_image(&mut self, digest: &Digest, row: &WireImage) {
        let pushed_at = row.pushed_at().map(CompactTime::from);
        let media_type = self.types.intern(row.media_type.as_deref());
        let is_index = is_index_type(&media_type);
        self.add_referrers(digest, &row.referrers);
        let (mut children, mut is_whole) = (Vec::new(), true);
        for part in &row.manifests {
            let Some(child) = part.digest.as_deref().and_then(|text| text.parse::<Digest>().ok()) else {
                is_whole = false;
                continue;
            };
            self.add_referrers(&child, &part.referrers);
            if !is_index || children.contains(&child) {
                continue;
            }
            if part.is_attestation() {
                self.repository.attached.insert(child.clone());
            }
            let config = part.config_digest.as_deref().and_then(|text| text.parse().ok()).map(Box::new);
            let detail = ManifestDetail::Listed { image_size: part.size() };
            let listed = || Manifest { config, ..listed_manifest("", detail) };
            self.repository.manifests.entry(child.clone()).or_insert_with(listed);
            children.push(child);
        }
        let detail = match (is_index, is_whole && !children.is_empty()) {
            // The sizes are those of the images in it.
            (true, true) => ManifestDetail::Listed { image_size: Some(0) },
            (true, false) => ManifestDetail::Unread { image_size: row.size(), kind: UnreadKind::Index },
            (false, _) if is_image(row) => ManifestDetail::Listed { image_size: row.size() },
            (false, _) => ManifestDetail::Unread { image_size: row.size(), kind: UnreadKind::Artifact },
        };
        let config = row.manifests.first().filter(|_| !is_index).and_then(|part| part.config_digest.as_deref());
        let config = config.and_then(|text| text.parse().ok()).map(Box::new);
        let known = self.repository.manifests.remove(digest);
        let (subject, earlier) = known.map_or((None, None), |known| (known.subject, known.created_at));
        // Of several tags the youngest counts, and one without a time leaves its image without one.
        let is_known = self.repository.tags.iter().any(|tag| tag.digest.as_ref() == Some(digest));
        let created_at =
            if is_known { earlier.and_then(|earlier| pushed_at.map(|own| own.max(earlier))) } else { pushed_at };
        let listed = listed_manifest("", detail);
        let manifest = Manifest { media_type, config, children, subject, created_at, ..listed };
        self.repository.manifests.insert(digest.clone(), manifest);
    }

    fn add_referrers(&mut self, subject: &Digest, referrers: &[WireReferrer]) {
        for row in referrers {
            let Some(digest) = row.digest.as_deref().and_then(|text| text.parse::<Digest>().ok()) else { continue };
            let is_index = row.media_type.as_deref().is_none_or(is_index_type);
            let detail = if is_index {
                ManifestDetail::Unread { image_size: None, kind: UnreadKind::Index }
            } else {
                ManifestDetail::Listed { image_size: None }
            };
            let media_type = self.types.intern(row.media_type.as_deref());
            let listed = || Manifest { media_type, ..listed_manifest("", detail) };
            let entry = self.repository.manifests.entry(digest).or_insert_with(listed);
            entry.subject.get_or_insert_with(|| Box::new(subject.clone()));
            // What it refers to is all that was to be read of an artifact.
            if let ManifestDetail::Unread { image_size, kind: UnreadKind::Artifact } = entry.detail {
                entry.detail = ManifestDetail::Listed { image_size };
            }
        }
    }

    /// Puts right what only the whole list tells.
    pub(super) fn finish(self) {
        let repository = self.repository;
        for manifest in repository.manifests.values_mut().filter(|manifest| manifest.subject.is_some()) {
            if let ManifestDetail::Unread { image_size, kind: UnreadKind::Artifact } = manifest.detail {
                manifest.detail = ManifestDetail::Listed { image_size };
            }
        }
        for tag in &repository.tags {
            if let Some(digest) = &tag.digest {
                repository.attached.remove(digest);
            }
        }
        repository.tags.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        repository.gaps.sort();
    }
}

/// Returns true for an image by its type. What it refers to would be listed there.
fn is_image(row: &WireImage) -> bool {
    let media_type = row.media_type.as_deref().unwrap_or_default();
    media_type.starts_with("application/vnd.docker.")
        || row.artifact_type.as_deref().is_some_and(|kind| IMAGES.contains(&kind))
}

/// Returns the rows by their tags. A tag that was met twice, since the list moved under its reader, is looked up by itself.
pub(super) fn by_tag(rows: Vec<WireImage>) -> BTreeMap<String, WireImage> {
    let mut found = BTreeMap::new();
    let mut twice = Vec::new();
    for row in rows {
        let tag = row.tag.clone();
        let digest = row.digest.clone();
        if let Some(other) = found.insert(tag.clone(), row)
            && other.digest != digest
        {
            twice.push(tag);
        }
    }
    for tag in twice {
        found.remove(&tag);
    }
    found
}
