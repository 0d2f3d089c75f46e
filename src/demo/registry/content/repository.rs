//! One repository: its tags and manifests with their times and locks, and the blobs pushed to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::time_ordered_map::{TimeOrderedMap, UpdateTime};
use super::{Attributes, Manifest};
use crate::domain::Digest;

/// A tag.
#[derive(Debug, Clone)]
pub struct Tag {
    /// The manifest that it names.
    pub digest: Digest,
    /// Time of its first put.
    pub created: Timestamp,
    /// Time of its last put or move.
    pub updated: Timestamp,
    /// Its attributes.
    pub attributes: Attributes,
}

impl UpdateTime for Tag {
    fn updated(&self) -> Timestamp {
        self.updated
    }
}

#[derive(Debug)]
pub(in crate::demo::registry) struct Repository {
    pub(in crate::demo::registry) created: Timestamp,
    pub(in crate::demo::registry) updated: Timestamp,
    pub(in crate::demo::registry) attributes: Attributes,
    pub(in crate::demo::registry) tags: TimeOrderedMap<Arc<str>, Tag>,
    pub(in crate::demo::registry) manifests: TimeOrderedMap<Digest, Manifest>,
    /// The referrers of each manifest, which need not exist itself.
    pub(super) referrers: BTreeMap<Digest, BTreeSet<Digest>>,
    pub(super) blobs: BTreeSet<Digest>,
}

/// A manifest that was removed, and the tags removed with it.
pub(super) type RemovedManifest = (Manifest, Vec<(Arc<str>, Tag)>);

impl Repository {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            created: now,
            updated: now,
            attributes: Attributes::default(),
            tags: TimeOrderedMap::default(),
            manifests: TimeOrderedMap::default(),
            referrers: BTreeMap::new(),
            blobs: BTreeSet::new(),
        }
    }

    /// Stores a manifest, possibly again.
    pub(super) fn put_manifest(&mut self, digest: &Digest, mut manifest: Manifest) {
        if let Some(old) = self.manifests.remove(digest) {
            manifest.created = old.created;
            manifest.attributes = old.attributes;
            manifest.tags = old.tags;
            manifest.untagged_at = old.untagged_at;
        }
        self.updated = manifest.updated;
        if let Some(subject) = &manifest.subject {
            self.referrers.entry(subject.clone()).or_default().insert(digest.clone());
        }
        self.manifests.insert(digest.clone(), manifest);
    }

    /// Points a tag, new or old, at an existing manifest, and returns the manifest that lost its last tag by that.
    pub(super) fn point_tag(&mut self, name: &str, digest: &Digest, now: Timestamp) -> Option<Digest> {
        let old = self.tags.get_key_value(name).map(|(name, tag)| (Arc::clone(name), tag.clone()));
        let left = old.as_ref().and_then(|(name, tag)| self.detach_tag(name, &tag.digest));
        let (name, created, attributes) = match old {
            Some((name, tag)) => (name, tag.created, tag.attributes),
            None => (Arc::from(name), now, Attributes::default()),
        };
        self.manifests.get_mut(digest)?.tags.insert(Arc::clone(&name));
        self.tags.insert(name, Tag { digest: digest.clone(), created, updated: now, attributes });
        self.updated = now;
        left.filter(|left| left != digest)
    }

    /// Removes a tag, and returns the manifest that lost its last tag by that.
    pub(super) fn untag(&mut self, name: &str) -> Option<(Tag, Option<Digest>)> {
        let tag = self.tags.remove(name)?;
        let left = self.detach_tag(name, &tag.digest);
        Some((tag, left))
    }

    /// Returns the manifest, if this was its last tag.
    fn detach_tag(&mut self, name: &str, digest: &Digest) -> Option<Digest> {
        let manifest = self.manifests.get_mut(digest)?;
        manifest.tags.remove(name);
        manifest.tags.is_empty().then(|| digest.clone())
    }

    /// Removes a manifest and every tag that names it.
    pub(super) fn remove_manifest(&mut self, digest: &Digest) -> Option<RemovedManifest> {
        let manifest = self.manifests.remove(digest)?;
        let tags = manifest.tags.iter().filter_map(|name| Some((Arc::clone(name), self.tags.remove(&**name)?)));
        let tags = tags.collect();
        if let Some(referrers) = manifest.subject.as_ref().and_then(|subject| self.referrers.get_mut(subject)) {
            referrers.remove(digest);
        }
        Some((manifest, tags))
    }

    /// Returns the manifests that garbage collection keeps: those of tags, their children, their referrers, at any
    /// depth.
    pub(super) fn reachable_manifests(&self) -> BTreeSet<Digest> {
        let mut held = BTreeSet::new();
        let mut open: Vec<&Digest> = self.tags.iter().map(|(_, tag)| &tag.digest).collect();
        while let Some(digest) = open.pop() {
            let Some(manifest) = self.manifests.get(digest) else { continue };
            if held.insert(digest.clone()) {
                open.extend(manifest.children.iter().map(|child| &child.digest));
                open.extend(self.referrers.get(digest).into_iter().flatten());
            }
        }
        held
    }
}
