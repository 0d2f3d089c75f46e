//! The content of a registry: blobs once for the whole registry, and for each repository its manifests, tags and pushed
//! blobs. Independent of HTTP, so that any dialect can use it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use axum::body::Bytes;
use jiff::Timestamp;

use self::deletion_rules::DeletionSchedule;
use self::generated::GeneratedContent;
use self::repository::Repository;
use crate::demo::blob::Blob;
use crate::demo::image::Image;
use crate::domain::Digest;

mod deletion_rules;
mod generated;
mod manifest;
mod repository;
mod time_ordered_map;

pub use deletion_rules::DeletionRules;
pub(super) use deletion_rules::RestoreError;
pub use generated::GeneratedWorld;
pub(super) use generated::{GeneratedRepository, ManifestRow};
pub use manifest::{Child, Manifest};
pub use repository::Tag;
pub use time_ordered_map::Order;

/// The whole content of a registry.
#[derive(Debug, Default)]
pub struct Content {
    blobs: BTreeMap<Digest, Blob>,
    repositories: BTreeMap<String, Repository>,
    /// Repositories that are computed on request.
    generated: Option<Box<GeneratedContent>>,
    now: Timestamp,
    pub(super) deletions: DeletionSchedule,
}

/// Permitted operations on a tag, a manifest or a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "Azure has these four, each of which can be switched by itself")]
pub struct Attributes {
    /// True if it may be deleted.
    pub delete: bool,
    /// True if it may be written to. If false, it may not be deleted either.
    pub write: bool,
    /// True if it may be pulled.
    pub read: bool,
    /// True if it is listed.
    pub list: bool,
}

/// An object with attributes in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// The repository itself.
    Repository,
    /// A tag.
    Tag(&'a str),
    /// A manifest.
    Manifest(&'a Digest),
}

/// Why a manifest was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestError {
    /// It is not a manifest.
    Invalid(String),
    /// Its digest is not the one it was pushed by.
    DigestMismatch(Digest),
    /// Blobs or manifests that it names are missing in the repository.
    Unknown(Vec<Digest>),
    /// It was deleted; it can be restored, but not pushed.
    SoftDeleted(Digest),
}

/// The content that garbage collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectedGarbage {
    /// Manifests.
    pub manifests: usize,
    /// Blobs.
    pub blobs: usize,
    /// Bytes of both.
    pub bytes: u64,
}

/// The reference by which a manifest is put or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// By tag.
    Tag(String),
    /// By digest.
    Digest(Digest),
}

impl Default for Attributes {
    fn default() -> Self {
        Self { delete: true, write: true, read: true, list: true }
    }
}

impl Attributes {
    /// Returns true if it may be deleted: a lock on writing is one on deleting, too.
    #[must_use]
    pub fn is_deletable(self) -> bool {
        self.delete && self.write
    }
}

impl Content {
    /// Returns the names of the repositories, in order.
    pub fn repositories(&self) -> impl Iterator<Item = &str> {
        self.repositories_after("").map(|(name, _)| name)
    }

    /// Returns the repositories whose names come after `last` in order.
    pub(super) fn repositories_after(&self, last: &str) -> impl Iterator<Item = (&str, &Repository)> {
        let range = self.repositories.range::<str, _>((Bound::Excluded(last), Bound::Unbounded));
        range.map(|(name, repository)| (name.as_str(), repository))
    }

    pub(super) fn repository(&self, name: &str) -> Option<&Repository> {
        self.repositories.get(name)
    }

    /// Returns the names of a repository's tags that come after `last` in order.
    pub(super) fn tags_after<'a>(&'a self, repository: &str, last: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.repositories.get(repository).into_iter();
        found.flat_map(move |found| found.tags.rows_after(Order::Name, Some(last))).map(|(name, _)| &**name)
    }

    /// Returns true if the repository exists.
    #[must_use]
    pub fn has_repository(&self, repository: &str) -> bool {
        self.repositories.contains_key(repository)
    }

    /// Returns the tags of a repository, in order; empty if it does not exist.
    #[must_use]
    pub fn tags(&self, repository: &str) -> BTreeMap<String, Digest> {
        let tags = self.repositories.get(repository).into_iter().flat_map(|found| found.tags.iter());
        tags.map(|(name, tag)| (name.to_string(), tag.digest.clone())).collect()
    }

    /// Returns a tag.
    #[must_use]
    pub fn tag(&self, repository: &str, tag: &str) -> Option<&Tag> {
        self.repositories.get(repository)?.tags.get(tag)
    }

    /// Returns the digest that a reference names, if its manifest exists.
    #[must_use]
    pub fn resolve(&self, repository: &str, reference: &Reference) -> Option<Digest> {
        let repository = self.repositories.get(repository)?;
        let digest = match reference {
            Reference::Tag(tag) => &repository.tags.get(tag.as_str())?.digest,
            Reference::Digest(digest) => digest,
        };
        repository.manifests.contains(digest).then(|| digest.clone())
    }

    /// Returns a manifest of a repository.
    #[must_use]
    pub fn manifest(&self, repository: &str, digest: &Digest) -> Option<&Manifest> {
        self.repositories.get(repository)?.manifests.get(digest)
    }

    /// Returns the manifests of a repository, by digest.
    pub fn manifests(&self, repository: &str) -> impl Iterator<Item = (&Digest, &Manifest)> {
        self.repositories.get(repository).into_iter().flat_map(|found| found.manifests.iter())
    }

    /// Returns the manifests of a repository that refer to `subject`, by digest.
    pub fn referrers<'a>(
        &'a self,
        repository: &str,
        subject: &'a Digest,
    ) -> impl Iterator<Item = (&'a Digest, &'a Manifest)> {
        let found = self.repositories.get(repository);
        let referrers = found.and_then(|found| found.referrers.get(subject)).into_iter().flatten();
        referrers.filter_map(move |digest| found?.manifests.get_key_value(digest))
    }

    /// Returns a blob, if it was pushed to that repository.
    #[must_use]
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<&Blob> {
        self.repositories.get(repository)?.blobs.get(digest).and_then(|digest| self.blobs.get(digest))
    }

    /// Returns the bytes in the registry's store: each blob once, and each repository's manifests.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        let manifests = self.repositories.values().flat_map(|repository| repository.manifests.iter());
        let manifests = manifests.map(|(_, manifest)| manifest.bytes.len() as u64);
        self.blobs.values().map(Blob::length).sum::<u64>() + manifests.sum::<u64>()
    }

    /// Sets the time of all following events, and runs the automatic actions that are due until then. A registry with a
    /// clock sets it before each request and each access to its content, so that content dated in the past comes after
    /// this within one access.
    pub fn set_now(&mut self, now: Timestamp) {
        self.now = now;
        self.run_due_deletions();
    }

    /// Returns the current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Dates a tag. Returns false if it does not exist.
    pub fn date_tag(&mut self, repository: &str, tag: &str, created: Timestamp, updated: Timestamp) -> bool {
        let Some(found) = self.repositories.get_mut(repository) else { return false };
        let Some((name, old)) = found.tags.get_key_value(tag).map(|(name, tag)| (name.clone(), tag.clone())) else {
            return false;
        };
        found.tags.insert(name, Tag { created, updated, ..old });
        true
    }

    /// Returns the attributes of an object for modification; `None` if it does not exist.
    pub fn attributes_mut(&mut self, repository: &str, target: Target<'_>) -> Option<&mut Attributes> {
        let found = self.repositories.get_mut(repository)?;
        match target {
            Target::Repository => Some(&mut found.attributes),
            Target::Tag(tag) => found.tags.get_mut(tag).map(|tag| &mut tag.attributes),
            Target::Manifest(digest) => found.manifests.get_mut(digest).map(|manifest| &mut manifest.attributes),
        }
    }

    /// Stores a blob in a repository, which is created if new.
    pub fn put_blob(&mut self, repository: &str, blob: &Blob) {
        self.blobs.entry(blob.digest().clone()).or_insert_with(|| blob.clone());
        self.repository_mut(repository).blobs.insert(blob.digest().clone());
    }

    fn repository_mut(&mut self, name: &str) -> &mut Repository {
        let now = self.now;
        self.repositories.entry(name.to_owned()).or_insert_with(|| Repository::new(now))
    }

    /// Mounts a blob of one repository in another. Returns false if the first does not have it.
    pub fn mount_blob(&mut self, from: &str, to: &str, digest: &Digest) -> bool {
        let Some(blob) = self.blob(from, digest).cloned() else { return false };
        self.put_blob(to, &blob);
        true
    }

    /// Stores a manifest, and points the tag at it if it is put by tag.
    ///
    /// # Errors
    /// Returns an error if it is not a manifest, does not have its digest, or names missing content (a `subject` may be
    /// missing, as the distribution specification allows), or if it was deleted and can be restored.
    pub fn put_manifest(
        &mut self,
        repository: &str,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest, ManifestError> {
        let digest = match reference {
            Reference::Tag(_) => Digest::of(&bytes),
            Reference::Digest(digest) if digest.matches(&bytes) => digest.clone(),
            Reference::Digest(_) => return Err(ManifestError::DigestMismatch(Digest::of(&bytes))),
        };
        if self.deletions.is_soft_deleted(repository, &digest) {
            return Err(ManifestError::SoftDeleted(digest));
        }
        let mut manifest = Manifest::read(media_type, bytes, self.now)?;
        let known = self.repositories.get(repository);
        let blobs = manifest.blobs.iter().filter(|blob| !known.is_some_and(|known| known.blobs.contains(*blob)));
        let children = manifest.children.iter().map(|child| &child.digest);
        let children = children.filter(|child| !known.is_some_and(|known| known.manifests.contains(*child)));
        let missing: Vec<Digest> = blobs.chain(children).cloned().collect();
        if !missing.is_empty() {
            return Err(ManifestError::Unknown(missing));
        }
        manifest.measure(|blob| self.blobs.get(blob), |child| known?.manifests.get(child));
        self.repository_mut(repository).put_manifest(&digest, manifest);
        if let Reference::Tag(tag) = reference {
            self.move_tag(repository, tag, &digest);
        }
        Ok(digest)
    }

    /// Stores an image with everything that it needs, under a tag or only by its digest. Existing content is shared.
    ///
    /// # Panics
    /// If the image does not have its digest, which no builder produces, or was deleted and can be restored.
    pub fn put_image(&mut self, repository: &str, tag: Option<&str>, image: &Image) {
        for blob in &image.blobs {
            self.put_blob(repository, blob);
        }
        for child in &image.children {
            self.put_image(repository, None, child);
        }
        let reference =
            tag.map_or_else(|| Reference::Digest(image.digest.clone()), |tag| Reference::Tag(tag.to_owned()));
        self.put_manifest(repository, &reference, image.media_type, image.bytes.clone())
            .expect("an image carries all that its manifest names");
    }

    /// Points a tag, new or old, at a manifest of the repository. Returns false if the manifest does not exist.
    pub fn move_tag(&mut self, repository: &str, tag: &str, digest: &Digest) -> bool {
        let now = self.now;
        let Some(found) = self.repositories.get_mut(repository) else { return false };
        if !found.manifests.contains(digest) {
            return false;
        }
        let left = found.point_tag(tag, digest, now);
        self.record_untagged(repository, left);
        true
    }

    /// Removes a tag and leaves its manifest. Returns false if the tag does not exist.
    pub fn delete_tag(&mut self, repository: &str, tag: &str) -> bool {
        let Some(found) = self.repositories.get_mut(repository) else { return false };
        let Some((removed, left)) = found.untag(tag) else { return false };
        self.deletions.soft_delete_tag(repository, tag, &removed, self.now);
        self.record_untagged(repository, left);
        true
    }

    /// Removes a manifest and every tag that names it. Returns false if the manifest does not exist.
    pub fn delete_manifest(&mut self, repository: &str, digest: &Digest) -> bool {
        let now = self.now;
        let Some(found) = self.repositories.get_mut(repository) else { return false };
        let Some((manifest, tags)) = found.remove_manifest(digest) else { return false };
        let referrers = found.referrers.get(digest).filter(|_| self.deletions.rules.delete_referrers);
        let hanging = referrers.cloned().unwrap_or_default();
        let empty = found.manifests.len() == 0;
        for (name, tag) in &tags {
            self.deletions.soft_delete_tag(repository, name, tag, now);
        }
        self.deletions.soft_delete_manifest(repository, digest, manifest, now);
        for referrer in hanging {
            self.delete_manifest(repository, &referrer);
        }
        if empty && self.deletions.rules.delete_empty_repositories {
            self.repositories.remove(repository);
        }
        true
    }

    /// Removes a repository with everything in it.
    pub fn delete_repository(&mut self, repository: &str) {
        let digests: Vec<Digest> = self.manifests(repository).map(|(digest, _)| digest.clone()).collect();
        for digest in &digests {
            self.delete_manifest(repository, digest);
        }
        self.repositories.remove(repository);
    }

    /// Removes manifests that no tag reaches, directly, through an index, or as a referrer; then the blobs that no
    /// manifest names.
    pub fn collect_garbage(&mut self) -> CollectedGarbage {
        let mut freed = CollectedGarbage::default();
        for repository in self.repositories.values_mut() {
            let held = repository.reachable_manifests();
            repository.referrers.values_mut().for_each(|referrers| referrers.retain(|digest| held.contains(digest)));
            let loose = repository.manifests.iter().map(|(digest, _)| digest).filter(|digest| !held.contains(*digest));
            for digest in loose.cloned().collect::<Vec<_>>() {
                if let Some((manifest, _)) = repository.remove_manifest(&digest) {
                    freed.manifests += 1;
                    freed.bytes += manifest.bytes.len() as u64;
                }
            }
            repository.blobs = repository.manifests.iter().flat_map(|(_, manifest)| manifest.blobs.clone()).collect();
        }
        let named: BTreeSet<&Digest> = self.repositories.values().flat_map(|repository| &repository.blobs).collect();
        self.blobs.retain(|digest, blob| {
            let keep = named.contains(digest);
            if !keep {
                freed.blobs += 1;
                freed.bytes += blob.length();
            }
            keep
        });
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::image::{Format, ImageSpec, artifact, index, media_type};

    fn image(name: &str) -> Image {
        ImageSpec { layers: vec![Blob::layer("base", 9000), Blob::layer(name, 700)], ..ImageSpec::default() }.build()
    }

    #[test]
    fn garbage_is_what_no_tag_holds() {
        let mut content = Content::default();
        let (kept, gone) = (image("kept"), image("gone"));
        let list = index(Format::Oci, &[index(Format::Oci, std::slice::from_ref(&kept))]);
        let note = |subject| artifact("a/note", (media_type::SPDX, Blob::of("note")), Some(subject), &[]);
        let (on_kept, on_gone) = (note(&kept), note(&gone));
        content.put_image("shop/api", Some("list"), &list);
        content.put_image("shop/api", Some("gone"), &gone);
        content.put_image("shop/api", None, &on_kept);
        content.put_image("shop/api", None, &on_gone);
        assert_eq!(content.collect_garbage(), CollectedGarbage::default());

        let before = content.stored_bytes();
        assert!(content.delete_tag("shop/api", "gone"));
        assert_eq!(content.stored_bytes(), before, "untagging frees nothing");
        let freed = content.collect_garbage();
        assert_eq!((freed.manifests, freed.blobs), (2, 2), "the image and its referrer, its layer and its config");
        assert_eq!(freed.bytes, before - content.stored_bytes());
        for digest in [&list.digest, &list.children[0].digest, &kept.digest, &on_kept.digest] {
            assert!(content.manifest("shop/api", digest).is_some());
        }
        assert!(content.blob("shop/api", Blob::layer("base", 9000).digest()).is_some(), "shared with what is kept");
        assert!(content.blob("shop/api", Blob::layer("gone", 700).digest()).is_none());
    }

    #[test]
    fn a_blob_stays_while_another_repository_needs_it() {
        let mut content = Content::default();
        content.put_image("a", Some("1"), &image("same"));
        content.put_image("b", Some("1"), &image("same"));
        content.delete_tag("a", "1");
        let freed = content.collect_garbage();
        assert_eq!((freed.manifests, freed.blobs), (1, 0));
        assert_eq!(freed.bytes, image("same").bytes.len() as u64);
    }
}
