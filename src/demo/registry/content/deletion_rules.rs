//! Rules for untagged and deleted content: Azure's retention policy for untagged manifests, and its soft delete.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{Content, Manifest, Tag};
use crate::demo::image::media_type;
use crate::domain::Digest;

/// The automatic actions of a registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeletionRules {
    /// True if a repository is deleted with its last manifest.
    pub delete_empty_repositories: bool,
    /// True if a manifest's referrers are deleted with it.
    pub delete_referrers: bool,
    /// Deletes a manifest that many days after it lost its last tag: only Docker media types, only if the tag was lost
    /// while this was set, and only if not locked.
    pub retention_days: Option<u16>,
    /// Days during which deleted content can be restored.
    pub soft_delete_days: Option<u16>,
}

/// Content that awaits its deletion, or can be restored.
#[derive(Debug, Default)]
pub(in crate::demo::registry) struct DeletionSchedule {
    pub(super) rules: DeletionRules,
    /// Manifests without tags, by the time at which they lost the last one.
    untagged: BTreeSet<(Timestamp, String, Digest)>,
    bins: BTreeMap<String, RecycleBin>,
    /// The lower bound of times in the bins.
    oldest: Option<Timestamp>,
}

/// The deleted content of one repository.
#[derive(Debug, Default)]
pub(in crate::demo::registry) struct RecycleBin {
    /// Time of the deletion of a tag with that digest.
    pub(in crate::demo::registry) tags: BTreeMap<(String, Digest), Timestamp>,
    pub(in crate::demo::registry) manifests: BTreeMap<Digest, (Manifest, Timestamp)>,
}

/// Why something deleted was not restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::demo::registry) enum RestoreError {
    /// It does not exist.
    Unknown,
    /// The tag names another manifest now.
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

    /// Returns the deleted content that can be restored, by repository.
    pub(in crate::demo::registry) fn bins(&self) -> impl Iterator<Item = (&str, &RecycleBin)> {
        self.bins.iter().map(|(name, bin)| (name.as_str(), bin))
    }

    /// Returns the deleted content of a repository that can be restored.
    pub(in crate::demo::registry) fn bin_of(&self, repository: &str) -> Option<&RecycleBin> {
        self.bins.get(repository)
    }

    /// Purges expired content from the bins.
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

    /// Returns the next manifest whose period without a tag is over.
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
    /// Changes the automatic actions. Manifests that lost their tags before a retention policy are kept.
    pub fn set_rules(&mut self, rules: DeletionRules) {
        if self.deletions.rules.retention_days.is_none() {
            self.deletions.untagged.clear();
        }
        self.deletions.rules = rules;
        self.run_due_deletions();
    }

    /// Returns the automatic actions.
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
                // A manifest that was tagged again in between has a later time, and a later turn.
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

    /// Restores a deleted manifest, under a tag. Its children and referrers are not restored.
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
