//! What the registry holds: blobs once for the whole registry, and for each repository its manifests, tags and which
//! blobs were pushed to it. Knows nothing of HTTP, so that any dialect can stand on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use axum::body::Bytes;
use serde::Deserialize;

use crate::demo::blob::Blob;
use crate::demo::image::Image;
use crate::domain::Digest;

/// Everything that a registry holds.
#[derive(Debug, Default)]
pub struct Content {
    blobs: BTreeMap<Digest, Blob>,
    repositories: BTreeMap<String, Repository>,
}

#[derive(Debug, Default)]
struct Repository {
    tags: BTreeMap<String, Digest>,
    manifests: BTreeMap<Digest, Manifest>,
    /// The manifests that refer to a manifest, which need not be there itself.
    referrers: BTreeMap<Digest, BTreeSet<Digest>>,
    blobs: BTreeSet<Digest>,
}

/// A manifest as it was pushed.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Its media type.
    pub media_type: String,
    /// Its exact bytes.
    pub bytes: Bytes,
    /// The manifest that it refers to.
    pub subject: Option<Digest>,
    /// The type of artifact that it is: its `artifactType`, else its configuration's media type.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    blobs: Vec<Digest>,
    children: Vec<Digest>,
}

/// Why a manifest was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestError {
    /// It is no manifest.
    Invalid(String),
    /// Its digest is not the one it was pushed by.
    DigestMismatch(Digest),
    /// Blobs or manifests that it names are not in the repository.
    Unknown(Vec<Digest>),
}

/// What garbage collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Manifests.
    pub manifests: usize,
    /// Blobs.
    pub blobs: usize,
    /// Bytes of both.
    pub bytes: u64,
}

/// Where a manifest is put or looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// By tag.
    Tag(String),
    /// By digest.
    Digest(Digest),
}

impl Content {
    /// The names of the repositories, in order.
    pub fn repositories(&self) -> impl Iterator<Item = &str> {
        self.repositories_after("")
    }

    /// The names of the repositories that come after `last` in order.
    pub(super) fn repositories_after(&self, last: &str) -> impl Iterator<Item = &str> {
        after(&self.repositories, last)
    }

    /// The names of a repository's tags that come after `last` in order.
    pub(super) fn tags_after(&self, repository: &str, last: &str) -> impl Iterator<Item = &str> {
        self.repositories.get(repository).into_iter().flat_map(move |found| after(&found.tags, last))
    }

    /// Whether there is such a repository.
    #[must_use]
    pub fn has_repository(&self, repository: &str) -> bool {
        self.repositories.contains_key(repository)
    }

    /// The tags of a repository, in order; none where there is no such repository.
    #[must_use]
    pub fn tags(&self, repository: &str) -> BTreeMap<String, Digest> {
        self.repositories.get(repository).map(|found| found.tags.clone()).unwrap_or_default()
    }

    /// The digest that a reference names, if its manifest is there.
    #[must_use]
    pub fn resolve(&self, repository: &str, reference: &Reference) -> Option<Digest> {
        let repository = self.repositories.get(repository)?;
        let digest = match reference {
            Reference::Tag(tag) => repository.tags.get(tag)?,
            Reference::Digest(digest) => digest,
        };
        repository.manifests.contains_key(digest).then(|| digest.clone())
    }

    /// A manifest of a repository.
    #[must_use]
    pub fn manifest(&self, repository: &str, digest: &Digest) -> Option<&Manifest> {
        self.repositories.get(repository)?.manifests.get(digest)
    }

    /// The manifests of a repository, by digest.
    pub fn manifests(&self, repository: &str) -> impl Iterator<Item = (&Digest, &Manifest)> {
        self.repositories.get(repository).into_iter().flat_map(|found| &found.manifests)
    }

    /// The manifests of a repository that refer to `subject`, by digest.
    pub fn referrers<'a>(
        &'a self,
        repository: &str,
        subject: &'a Digest,
    ) -> impl Iterator<Item = (&'a Digest, &'a Manifest)> {
        let found = self.repositories.get(repository);
        let referrers = found.and_then(|found| found.referrers.get(subject)).into_iter().flatten();
        referrers.filter_map(move |digest| found?.manifests.get_key_value(digest))
    }

    /// A blob, if it was pushed to that repository.
    #[must_use]
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<&Blob> {
        self.repositories.get(repository)?.blobs.get(digest).and_then(|digest| self.blobs.get(digest))
    }

    /// Bytes in the registry's store: each blob once, and each repository's manifests.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        let manifests = self.repositories.values().flat_map(|repository| repository.manifests.values());
        self.blobs.values().map(Blob::length).sum::<u64>() + manifests.map(|m| m.bytes.len() as u64).sum::<u64>()
    }

    /// Stores a blob in a repository, which is made where it is new.
    pub fn put_blob(&mut self, repository: &str, blob: &Blob) {
        self.blobs.entry(blob.digest().clone()).or_insert_with(|| blob.clone());
        self.repositories.entry(repository.to_owned()).or_default().blobs.insert(blob.digest().clone());
    }

    /// Makes a blob of one repository one of another as well. False if the first does not have it.
    pub fn mount_blob(&mut self, from: &str, to: &str, digest: &Digest) -> bool {
        let Some(blob) = self.blob(from, digest).cloned() else { return false };
        self.put_blob(to, &blob);
        true
    }

    /// Stores a manifest, and points the tag at it where it is put by tag.
    ///
    /// # Errors
    /// When it is no manifest, not the one that its digest names, or names what the repository does not have (a
    /// `subject` may be missing, as the distribution specification wants it).
    pub fn put_manifest(
        &mut self,
        repository: &str,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest, ManifestError> {
        let digest = match reference {
            Reference::Tag(_) => Digest::of(&bytes),
            Reference::Digest(digest) if digest.is_of(&bytes) => digest.clone(),
            Reference::Digest(_) => return Err(ManifestError::DigestMismatch(Digest::of(&bytes))),
        };
        let manifest = Manifest::read(media_type, bytes)?;
        let known = self.repositories.get(repository);
        let blobs = manifest.blobs.iter().filter(|blob| !known.is_some_and(|known| known.blobs.contains(*blob)));
        let children = manifest.children.iter();
        let children = children.filter(|child| !known.is_some_and(|known| known.manifests.contains_key(*child)));
        let missing: Vec<Digest> = blobs.chain(children).cloned().collect();
        if !missing.is_empty() {
            return Err(ManifestError::Unknown(missing));
        }
        let known = self.repositories.entry(repository.to_owned()).or_default();
        if let Some(subject) = &manifest.subject {
            known.referrers.entry(subject.clone()).or_default().insert(digest.clone());
        }
        known.manifests.insert(digest.clone(), manifest);
        if let Reference::Tag(tag) = reference {
            known.tags.insert(tag.clone(), digest.clone());
        }
        Ok(digest)
    }

    /// Stores an image with all that it needs, under a tag or only by its digest. What is there already is shared.
    ///
    /// # Panics
    /// If the image is not what its digest says, which no builder makes.
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

    /// Points a tag, new or old, at a manifest of the repository. False if there is no such manifest.
    pub fn move_tag(&mut self, repository: &str, tag: &str, digest: &Digest) -> bool {
        let Some(found) = self.repositories.get_mut(repository) else { return false };
        let known = found.manifests.contains_key(digest);
        if known {
            found.tags.insert(tag.to_owned(), digest.clone());
        }
        known
    }

    /// Removes a tag and leaves its manifest. False if there is no such tag.
    pub fn delete_tag(&mut self, repository: &str, tag: &str) -> bool {
        self.repositories.get_mut(repository).is_some_and(|found| found.tags.remove(tag).is_some())
    }

    /// Removes a manifest and every tag that names it. False if there is no such manifest.
    pub fn delete_manifest(&mut self, repository: &str, digest: &Digest) -> bool {
        let Some(found) = self.repositories.get_mut(repository) else { return false };
        let Some(manifest) = found.manifests.remove(digest) else { return false };
        found.tags.retain(|_, named| named != digest);
        if let Some(referrers) = manifest.subject.and_then(|subject| found.referrers.get_mut(&subject)) {
            referrers.remove(digest);
        }
        true
    }

    /// Removes manifests that no tag holds, directly, through an index, or as a referrer of one that is held; then the
    /// blobs that no manifest names.
    pub fn collect_garbage(&mut self) -> Freed {
        let mut freed = Freed::default();
        for repository in self.repositories.values_mut() {
            let held = repository.held();
            repository.referrers.values_mut().for_each(|referrers| referrers.retain(|digest| held.contains(digest)));
            repository.manifests.retain(|digest, manifest| {
                let keep = held.contains(digest);
                if !keep {
                    freed.manifests += 1;
                    freed.bytes += manifest.bytes.len() as u64;
                }
                keep
            });
            repository.blobs = repository.manifests.values().flat_map(|manifest| manifest.blobs.clone()).collect();
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

impl Repository {
    /// The manifests that stay: those of tags, their children, their referrers, to any depth.
    fn held(&self) -> BTreeSet<Digest> {
        let mut held = BTreeSet::new();
        let mut open: Vec<&Digest> = self.tags.values().collect();
        while let Some(digest) = open.pop() {
            let Some(manifest) = self.manifests.get(digest) else { continue };
            if held.insert(digest.clone()) {
                open.extend(&manifest.children);
                open.extend(self.referrers.get(digest).into_iter().flatten());
            }
        }
        held
    }
}

fn after<'a, T>(map: &'a BTreeMap<String, T>, last: &str) -> impl Iterator<Item = &'a str> + use<'a, T> {
    map.range::<str, _>((Bound::Excluded(last), Bound::Unbounded)).map(|(name, _)| name.as_str())
}

/// The parts of manifests and indexes of every kind that a registry looks at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    urls: Vec<String>,
}

impl Descriptor {
    fn digest(&self) -> Result<Digest, ManifestError> {
        self.digest.parse().map_err(|error: crate::domain::InvalidDigest| ManifestError::Invalid(error.to_string()))
    }
}

impl Manifest {
    fn read(media_type: &str, bytes: Bytes) -> Result<Self, ManifestError> {
        let shape: Shape = serde_json::from_slice(&bytes).map_err(|error| ManifestError::Invalid(error.to_string()))?;
        if let Some(own) = shape.media_type.filter(|own| own != media_type) {
            return Err(ManifestError::Invalid(format!("its mediaType is {own}, its Content-Type {media_type}")));
        }
        let stored = shape.config.iter().chain(&shape.layers).filter(|descriptor| descriptor.urls.is_empty());
        Ok(Self {
            media_type: media_type.to_owned(),
            blobs: stored.map(Descriptor::digest).collect::<Result<_, _>>()?,
            children: shape.manifests.iter().map(Descriptor::digest).collect::<Result<_, _>>()?,
            subject: shape.subject.as_ref().map(Descriptor::digest).transpose()?,
            artifact_type: shape.artifact_type.or_else(|| shape.config.map(|config| config.media_type)),
            annotations: shape.annotations,
            bytes,
        })
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
        assert_eq!(content.collect_garbage(), Freed::default());

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
