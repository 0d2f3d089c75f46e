//! What becomes of what was untagged or deleted: Azure's retention policy for untagged manifests, and its soft delete.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{Content, Manifest, Tag};
use crate::demo::image::media_type;
use crate::domain::Digest;

/// What a registry does of its own accord.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeletionRules {
    /// A repository goes with its last manifest.
    pub delete_empty_repositories: bool,
    /// A manifest's referrers go with it.
    pub delete_referrers: bool,
    /// A manifest is deleted so many days after it lost its last tag: only those of Docker's media types, only those
    /// that lost it while this was set, and not those that are locked.
    pub retention_days: Option<u16>,
    /// What is deleted can be restored for so many days.
    pub soft_delete_days: Option<u16>,
}

/// What waits for its end, or to be restored.
#[derive(Debug, Default)]
pub(in crate::demo::registry) struct DeletionSchedule {
    pub(super) rules: DeletionRules,
    /// Manifests without tags, by when they lost the last one.
    untagged: BTreeSet<(Timestamp, String, Digest)>,
    bins: BTreeMap<String, RecycleBin>,
    /// Nothing in the bins is older than this.
    oldest: Option<Timestamp>,
}

/// What was deleted in one repository.
#[derive(Debug, Default)]
pub(in crate::demo::registry) struct RecycleBin {
    /// When a tag of that digest was deleted.
    pub(in crate::demo::registry) tags: BTreeMap<(String, Digest), Timestamp>,
    pub(in crate::demo::registry) manifests: BTreeMap<Digest, (Manifest, Timestamp)>,
}

/// Why something deleted was not restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::demo::registry) enum RestoreError {
    /// It is not there.
    Unknown,
    /// The tag names something else now.
    TagInUse,
}

impl DeletionSchedule {
    pub(super) fn is_soft_deleted(&self, repository: &str, digest: &Digest) -> bool {
        self.bins.get(repository).is_some_and(|bin| bin.manifests.contains_key(digest))
    }

    pub(super) fn soft_delete_tag(&mut self, repository: &str, name: &str, tag: &Tag, now: Timestamp) {
        if self.rules.soft_delete_days.is_some() {
            self.bin(repository, now).tags.insert((name.to_owned(), tag.digest.clone()), now);
        }
    }

    pub(super) fn soft_delete_manifest(
        &mut self,
        repository: &str,
        digest: &Digest,
        manifest: Manifest,
        now: Timestamp,
    ) {
        if self.rules.soft_delete_days.is_some() {
            self.bin(repository, now).manifests.insert(digest.clone(), (manifest, now));
        }
    }

    fn bin(&mut self, repository: &str, now: Timestamp) -> &mut RecycleBin {
        self.oldest = Some(self.oldest.map_or(now, |oldest| oldest.min(now)));
        self.bins.entry(repository.to_owned()).or_default()
    }

    /// What was deleted and can be restored, by repository.
    pub(in crate::demo::registry) fn bins(&self) -> impl Iterator<Item = (&str, &RecycleBin)> {
        self.bins.iter().map(|(name, bin)| (name.as_str(), bin))
    }

    /// What was deleted in a repository and can be restored.
    pub(in crate::demo::registry) fn bin_of(&self, repository: &str) -> Option<&RecycleBin> {
        self.bins.get(repository)
    }

    /// Empties the bins of what is too old.
    fn purge(&mut self, now: Timestamp) {
        let Some(time) = self.rules.soft_delete_days.map(days) else { return };
        if self.oldest.is_none_or(|oldest| now < oldest + time) {
            return;
        }
        self.bins.retain(|_, bin| {
            bin.tags.retain(|_, deleted| now < *deleted + time);
            bin.manifests.retain(|_, (_, deleted)| now < *deleted + time);
            !bin.tags.is_empty() || !bin.manifests.is_empty()
        });
        let tags = self.bins.values().flat_map(|bin| bin.tags.values());
        let manifests = self.bins.values().flat_map(|bin| bin.manifests.values().map(|(_, deleted)| deleted));
        self.oldest = tags.chain(manifests).min().copied();
    }

    /// The next manifest whose time without a tag is over.
    fn next_expired(&mut self, now: Timestamp) -> Option<(Timestamp, String, Digest)> {
        let retention_days = self.rules.retention_days?;
        let (since, ..) = self.untagged.first()?;
        if now < *since + days(retention_days) {
            return None;
        }
        self.untagged.pop_first()
    }
}

impl Content {
    /// Changes what the registry does of its own accord. What lost its tags before a retention policy stays.
    pub fn set_rules(&mut self, rules: DeletionRules) {
        if self.deletions.rules.retention_days.is_none() {
            self.deletions.untagged.clear();
        }
        self.deletions.rules = rules;
        self.run_due_deletions();
    }

    /// What the registry does of its own accord.
    #[must_use]
    pub fn rules(&self) -> DeletionRules {
        self.deletions.rules
    }

    pub(super) fn record_untagged(&mut self, repository: &str, digest: Option<Digest>) {
        if let Some(digest) = digest.filter(|_| self.deletions.rules.retention_days.is_some()) {
            let found = self.repositories.get_mut(repository);
            if let Some(manifest) = found.and_then(|found| found.manifests.get_mut(&digest)) {
                manifest.untagged_at = Some(self.now);
            }
            self.deletions.untagged.insert((self.now, repository.to_owned(), digest));
            self.run_due_deletions();
        }
    }

    pub(super) fn run_due_deletions(&mut self) {
        self.deletions.purge(self.now);
        while let Some((since, repository, digest)) = self.deletions.next_expired(self.now) {
            let due = self.manifest(&repository, &digest).is_some_and(|manifest| {
                let docker =
                    matches!(manifest.media_type.as_str(), media_type::DOCKER_MANIFEST | media_type::DOCKER_LIST);
                // One that was tagged again in between has a later time, and a later turn.
                manifest.tags.is_empty()
                    && manifest.untagged_at == Some(since)
                    && docker
                    && manifest.attributes.is_deletable()
            });
            if due {
                self.delete_manifest(&repository, &digest);
            }
        }
    }

    /// Brings back what was deleted, under a tag. Its children and referrers stay where they are.
    pub(in crate::demo::registry) fn restore(
        &mut self,
        repository: &str,
        digest: &Digest,
        tag: &str,
        force: bool,
    ) -> Result<(), RestoreError> {
        let taken = self.tag(repository, tag).is_some_and(|tag| tag.digest != *digest);
        let Some(bin) = self.deletions.bins.get_mut(repository) else { return Err(RestoreError::Unknown) };
        let key = (tag.to_owned(), digest.clone());
        if !bin.manifests.contains_key(digest) && !bin.tags.contains_key(&key) {
            return Err(RestoreError::Unknown);
        }
        if taken && !force {
            return Err(RestoreError::TagInUse);
        }
        bin.tags.remove(&key);
        let manifest = bin.manifests.remove(digest);
        if bin.tags.is_empty() && bin.manifests.is_empty() {
            self.deletions.bins.remove(repository);
        }
        if let Some((mut manifest, _)) = manifest {
            manifest.tags.clear();
            manifest.updated = self.now;
            self.repository_mut(repository).put_manifest(digest, manifest);
        }
        if self.move_tag(repository, tag, digest) { Ok(()) } else { Err(RestoreError::Unknown) }
    }
}

fn days(days: u16) -> SignedDuration {
    SignedDuration::from_hours(24 * i64::from(days))
}
