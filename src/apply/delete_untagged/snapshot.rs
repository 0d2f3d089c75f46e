//! A repository right before a deletion in it, and the reasons in it to retain a manifest.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use super::{ManifestTask, ObservedOutcome};
use crate::domain::{Digest, Lock, Repository, RepositoryName, SkipReason, TagName};
use crate::engine::companion_subject;
use crate::registry::{ContentCache, RegistryReader};

/// The state of a repository right before a deletion in it.
pub(super) struct Snapshot {
    /// The time at which it was read.
    pub(super) read_at: Timestamp,
    /// The manifests removed since.
    pub(super) removed: BTreeSet<Digest>,
    /// The manifests that may have been removed: the registry does not show it.
    pub(super) possibly_removed: BTreeSet<Digest>,
    repository: Repository,
    tags: HashMap<Digest, TagName>,
    /// The tags of signatures and the like, by the prefix of their names.
    companions: HashMap<String, TagName>,
    indexes: HashMap<Digest, Vec<Digest>>,
    referrers: HashMap<Digest, Vec<Digest>>,
}

/// Returns the prefix of the tags of signatures and the like of an image: a longer digest is cut to 64 digits.
fn companion_prefix(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{}-{}", digest.algorithm(), hex.get(..64).unwrap_or(&hex))
}

/// Reads a repository with everything that lists a manifest or refers to one, as far as it can be read.
pub(super) async fn read_whole(
    reader: &dyn RegistryReader,
    name: &RepositoryName,
    meant: &BTreeSet<Digest>,
    cache: &dyn ContentCache,
) -> Repository {
    let mut repository = reader.repository(name, meant, cache).await;
    let mut requested: BTreeSet<Digest> = BTreeSet::new();
    loop {
        let open = repository.unread().map(|(digest, _)| digest).filter(|digest| !requested.contains(*digest));
        let open: BTreeSet<Digest> = open.cloned().collect();
        if open.is_empty() {
            return repository;
        }
        reader.read_manifests(&mut repository, &open, cache).await;
        requested.extend(open);
    }
}

impl Snapshot {
    /// Creates a snapshot as of that time. Manifests removed before stay removed.
    pub(super) fn new(repository: Repository, at: Timestamp, before: Option<Self>) -> Self {
        let (mut indexes, mut referrers) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (digest, manifest) in &repository.manifests {
            for child in &manifest.children {
                indexes.entry(child.clone()).or_default().push(digest.clone());
            }
            if let Some(subject) = manifest.subject.as_deref() {
                referrers.entry(subject.clone()).or_default().push(digest.clone());
            }
        }
        let named = repository.tags.iter().filter_map(|tag| Some((tag.digest.clone()?, tag.name.clone())));
        let companions = repository
            .tags
            .iter()
            .filter_map(|tag| Some((companion_prefix(&companion_subject(&tag.name)?), tag.name.clone())));
        let (tags, companions) = (named.collect(), companions.collect());
        let (gone, unknown) = before.map_or_else(Default::default, |before| (before.removed, before.possibly_removed));
        Self { read_at: at, removed: gone, possibly_removed: unknown, repository, tags, companions, indexes, referrers }
    }

    /// Records the outcome of a manifest.
    pub(super) fn record(&mut self, digest: &Digest, fate: &ObservedOutcome) {
        if fate.is_absent() {
            self.removed.insert(digest.clone());
        } else if matches!(fate, ObservedOutcome::Unknown(_)) {
            self.possibly_removed.insert(digest.clone());
        }
    }

    /// Returns the manifest that another one refers to.
    pub(super) fn subject(&self, digest: &Digest) -> Option<&Digest> {
        self.repository.manifests.get(digest)?.subject.as_deref()
    }

    /// Returns the time of a manifest's last change, as the registry reports it.
    pub(super) fn changed_at(&self, digest: &Digest) -> Option<Timestamp> {
        self.repository.untagged.get(digest).copied().flatten()
    }

    fn contains(&self, digest: &Digest) -> bool {
        !self.removed.contains(digest) && self.repository.manifests.contains_key(digest)
    }

    /// Returns the existing manifests that must be deleted before one: the indexes that list it, and its subject.
    pub(super) fn parents<'a>(&'a self, one: &'a ManifestTask) -> impl Iterator<Item = &'a Digest> {
        let accompanied = companion_subject(&one.deletion.tag).filter(|_| one.role.is_none());
        let accompanied = accompanied.and_then(|subject| self.stored_digest(&subject));
        let indexes = self.indexes.get(&one.digest).into_iter().flatten();
        indexes.chain(self.subject(&one.digest)).chain(accompanied).filter(|digest| self.contains(digest))
    }

    fn stored_digest(&self, digest: &Digest) -> Option<&Digest> {
        self.repository.manifests.get_key_value(digest).map(|(digest, _)| digest)
    }

    /// Returns a manifest that another one depends on and that may have been removed.
    pub(super) fn possibly_removed_parent<'a>(&'a self, one: &'a ManifestTask) -> Option<&'a Digest> {
        self.parents(one).find(|above| self.possibly_removed.contains(*above))
    }

    /// Takes the direct and indirect referrers of a manifest out of `ones`, in the order of their deletion.
    pub(super) fn take_referrers(
        &self,
        digest: &Digest,
        ones: &mut HashMap<Digest, ManifestTask>,
    ) -> Vec<ManifestTask> {
        let (mut found, mut open): (Vec<ManifestTask>, _) = (Vec::new(), vec![digest.clone()]);
        while let Some(next) = open.pop() {
            for referrer in self.referrers.get(&next).into_iter().flatten() {
                if let Some(one) = ones.remove(referrer) {
                    open.push(one.digest.clone());
                    found.push(one);
                }
            }
        }
        found
    }

    /// Returns why a manifest is retained now. `with` is itself and the referrers that are deleted with it, perhaps by
    /// the registry: a reason to retain one of these retains it.
    pub(super) fn keep_reason(&self, one: &ManifestTask, with: &BTreeSet<Digest>) -> Option<SkipReason> {
        if let Some(lock) = self.repository.lock {
            return Some(SkipReason::Locked(format!("its repository has a {} lock", lock.label())));
        }
        if let Some(above) = self.parents(one).next() {
            return Some(SkipReason::Kept(format!("{above}, which lists it or which it refers to, stays")));
        }
        with.iter().find_map(|digest| self.keep_reason_of(digest, with))
    }

    fn keep_reason_of(&self, digest: &Digest, with: &BTreeSet<Digest>) -> Option<SkipReason> {
        if let Some(tag) = self.tags.get(digest) {
            return Some(SkipReason::Kept(format!("tag {tag} names {digest}")));
        }
        if let Some(tag) = self.companions.get(&companion_prefix(digest)) {
            return Some(SkipReason::Kept(format!("tag {tag} accompanies {digest}")));
        }
        if let Some((locked, lock)) = self.find_lock(digest) {
            return Some(SkipReason::Locked(format!("{locked} has a {} lock", lock.label())));
        }
        let other = |digest: &&Digest| !with.contains(*digest) && self.contains(digest);
        if let Some(index) = self.indexes.get(digest).into_iter().flatten().find(other) {
            return Some(SkipReason::Kept(format!("{index}, which lists {digest}, stays")));
        }
        let referrer = self.referrers.get(digest).into_iter().flatten().find(other)?;
        Some(SkipReason::Kept(format!("{referrer} refers to {digest}, and is not to be deleted")))
    }

    /// Returns a lock on a manifest or on an image in it.
    fn find_lock<'a>(&'a self, digest: &'a Digest) -> Option<(&'a Digest, Lock)> {
        let (mut seen, mut open) = (BTreeSet::from([digest]), vec![digest]);
        while let Some(next) = open.pop() {
            let Some(manifest) = self.repository.manifests.get(next) else { continue };
            if let Some(lock) = manifest.lock {
                return Some((next, lock));
            }
            open.extend(manifest.children.iter().filter(|child| seen.insert(child)));
        }
        None
    }
}
