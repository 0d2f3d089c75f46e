//! Tags as Docker Hub lists them, as tags and manifests of a repository.

use serde_json::Value;

use super::wire::WireTag;
use crate::domain::{
    CompactTime, Digest, Lock, Manifest, ManifestDetail, PullTime, Repository, Tag, TagName, UnreadKind, is_index_type,
};
use crate::registry::client::listed_manifests::{MediaTypes, listed_manifest};
use crate::registry::client::tag_pattern::TagPattern;
use crate::registry::client::{list_gaps, tag_rows};

/// Puts the rows of a list into a repository.
pub(super) struct TagList<'a> {
    pub(super) repository: &'a mut Repository,
    pub(super) types: MediaTypes,
    /// The patterns of immutable tags.
    pub(super) immutable: &'a [TagPattern],
    /// True if pull times are on record and may be relied on.
    pub(super) records_pulls: bool,
    /// Tags of which the list does not say what they name.
    pub(super) without_digest: Vec<TagName>,
}

impl TagList<'_> {
    /// Adds a row. One that is not understood is in doubt by itself.
    pub(super) fn add_row(&mut self, row: Value) {
        let (name, row): (TagName, WireTag) = match tag_rows::parse(row) {
            Ok(row) => row,
            Err(odd) => return self.repository.gaps.push(list_gaps::invalid_tag(&odd.name, &odd.why)),
        };
        let digest: Option<Digest> = row.digest.as_deref().and_then(|text| text.parse().ok());
        match &digest {
            Some(digest) => self.add_image(digest, &row),
            None => self.without_digest.push(name.clone()),
        }
        if self.records_pulls {
            match row.pulled_at() {
                Ok(Some(at)) => self.repository.set_pull_time(name.clone(), PullTime::At(at.into())),
                Ok(None) => self.repository.set_pull_time(name.clone(), PullTime::Never),
                Err(_) => {}
            }
        }
        let lock = self.immutable.iter().any(|pattern| pattern.covers(&name)).then_some(Lock::DeleteAndWrite);
        let pushed_at = row.pushed_at().map(CompactTime::from);
        self.repository.tags.push(Tag { name, digest, pushed_at, first_seen: None, lock });
    }

    fn add_image(&mut self, digest: &Digest, row: &WireTag) {
        let parts: Vec<Option<Digest>> = row.images.iter().map(|image| image.digest.as_deref()?.parse().ok()).collect();
        let media_type = row.media_type.as_deref().unwrap_or_default();
        let is_alone = matches!(&*parts, [Some(only)] if only == digest);
        let is_index = is_index_type(media_type) || !is_alone && !parts.is_empty();
        let mut children: Vec<Digest> = Vec::new();
        for (image, child) in row.images.iter().zip(&parts).filter(|_| is_index) {
            let Some(child) = child.clone().filter(|child| child != digest && !children.contains(child)) else {
                continue;
            };
            if image.is_attestation() {
                self.repository.attached.insert(child.clone());
            }
            let detail = ManifestDetail::Listed { image_size: image.size };
            self.repository.manifests.entry(child.clone()).or_insert_with(|| listed_manifest("", detail));
            children.push(child);
        }
        let is_image = row.content_type.as_deref().is_none_or(|kind| kind == "image");
        let detail = match (is_index, is_alone) {
            // The sizes are those of the images in it. One that is not told may be anything.
            (true, _) if !children.is_empty() && children.len() == parts.len() => {
                ManifestDetail::Listed { image_size: Some(0) }
            }
            // Nothing says what several manifests under one tag are.
            (true, _) | (false, false) => ManifestDetail::Unread { image_size: row.full_size, kind: UnreadKind::Index },
            (false, true) if is_image => ManifestDetail::Listed { image_size: row.full_size },
            (false, true) => ManifestDetail::Unread { image_size: row.full_size, kind: UnreadKind::Artifact },
        };
        // Of a single image the list has the type of its configuration.
        let media_type = self.types.intern(Some(media_type).filter(|kind| is_index_type(kind)));
        let known = self.repository.manifests.remove(digest);
        let subject = known.and_then(|known| known.subject);
        let manifest = Manifest { media_type, children, subject, ..listed_manifest("", detail) };
        self.repository.manifests.insert(digest.clone(), manifest);
    }
}
