//! The past of manifests that no tag references: what earlier runs found of them, and what this one adds.
//!
//! A series of runs that finds a manifest free begins with a run that looks at everything, by a clock that nothing speaks
//! against. Any run ends it that does not find the manifest free, or does not look: a dry run, one whose source failed, and
//! one of another set of policies, too.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{App, RunError};
use crate::domain::{Digest, RegistryName, Repository, RepositoryName, Rules, TagName, UntaggedHistory};
use crate::registry::{RegistryHead, RegistryReader};
use crate::state::{EndedSeries, FreeManifestChanges};

/// What the repositories of one registry add to the past of their manifests without a tag.
#[derive(Debug, Default)]
pub(super) struct FreeManifestTally {
    changes: Vec<FreeManifestChanges>,
    /// The repositories that were looked at.
    assessed: BTreeSet<RepositoryName>,
}

/// How much a decision records of the manifests that it finds free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeriesRecording {
    /// Series begin, go on and end.
    Everything,
    /// They only end: by this decision no waiting period begins.
    Ends,
    /// Nothing: it is about another time, or only tells.
    Nothing,
}

impl FreeManifestTally {
    /// Adds what was found in one repository. Where its past was not asked for, nothing was found free.
    pub(super) fn add(&mut self, repository: &Repository, free: &BTreeSet<Digest>, begins: bool) {
        let Some(history) = &repository.untagged_history else { return };
        self.assessed.insert(repository.name.clone());
        let known = &history.free_since;
        let begun = free.iter().filter(|digest| begins && !known.contains_key(digest));
        let ended = known.keys().filter(|digest| !free.contains(digest));
        let (begun, ended): (Vec<Digest>, Vec<Digest>) = (begun.cloned().collect(), ended.cloned().collect());
        if !begun.is_empty() || !ended.is_empty() {
            let repository = repository.name.clone();
            self.changes.push(FreeManifestChanges { repository, begun, ended: EndedSeries::Of(ended) });
        }
    }
}

impl App {
    /// Fills in what earlier runs know of the manifests of a repository that no tag references. `changed_at` is what the
    /// registry says of them.
    pub(super) async fn fill_untagged_history(
        &self,
        endpoint: &str,
        repository: &mut Repository,
        changed_at: BTreeMap<Digest, Timestamp>,
        now: Timestamp,
    ) -> Result<(), RunError> {
        let without_tag: BTreeSet<Digest> = repository.digests_without_tag().cloned().collect();
        // Without it nothing is found free.
        let recorded = self.unless_lost(self.store.free_since(endpoint, &repository.name)).await?;
        let Some(free_since) = recorded else { return Ok(()) };
        if without_tag.is_empty() && free_since.is_empty() {
            return Ok(());
        }
        let mut former_tags: BTreeMap<Digest, Vec<TagName>> = BTreeMap::new();
        let recorded = self.unless_lost(self.store.former_tags(endpoint, &repository.name)).await?;
        let Some(gone) = recorded else { return Ok(()) };
        if !gone.is_empty() {
            let mut by_digest: BTreeMap<String, Vec<TagName>> = BTreeMap::new();
            for former in gone {
                by_digest.entry(former.digest).or_default().push(former.tag);
            }
            for digest in &without_tag {
                if let Some(tags) = by_digest.get(&digest.short()) {
                    former_tags.insert(digest.clone(), tags.clone());
                }
            }
        }
        let history = UntaggedHistory { read_at: now, free_since, changed_at, former_tags };
        repository.untagged_history = Some(Box::new(history));
        Ok(())
    }

    /// Records what a decision found of the manifests without a tag. Durable before anything is removed.
    pub(super) async fn record_free_manifests(
        &self,
        heads: &[RegistryHead],
        tallies: Vec<FreeManifestTally>,
        recording: SeriesRecording,
        now: Timestamp,
    ) -> Result<(), RunError> {
        if recording == SeriesRecording::Nothing || self.has_lost_state() {
            return Ok(());
        }
        for (head, FreeManifestTally { mut changes, assessed }) in heads.iter().zip(tallies) {
            let endpoint = &head.registry.endpoint;
            if recording == SeriesRecording::Everything {
                let known = self.unless_lost(self.store.repositories_with_free_manifests(endpoint)).await?;
                let Some(known) = known else { return Ok(()) };
                changes.extend(
                    known.into_iter().filter(|repository| !assessed.contains(repository)).map(|repository| {
                        FreeManifestChanges { repository, begun: Vec::new(), ended: EndedSeries::All }
                    }),
                );
            }
            self.unless_lost(self.store.record_free_manifests(endpoint, &changes, now)).await?;
        }
        Ok(())
    }
}

/// Returns true if the past of manifests without a tag is asked for in a repository.
pub(super) fn needs_untagged_history(
    rules: &Rules,
    reader: &dyn RegistryReader,
    registry: &RegistryName,
    repository: &RepositoryName,
) -> bool {
    rules.delete_untagged_in(registry, repository) && reader.lists_untagged()
}
