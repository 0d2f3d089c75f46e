//! First sights of each tag at its digest, for registries without push times.
//!
//! Sights belong to the registry itself, identified by its endpoint: another name in the settings is not another
//! registry. The age of everything that exists at the first read of a *registry* is unknown; a repository that is
//! listed later is new.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use jiff::Timestamp;

use super::restored_tags::{RestoredTables, fill_originals};
use super::{ManifestCache, Observations, StateError};
use crate::domain::{Endpoint, GapTarget, Inventory, Registry, RegistryName, Repository};

/// The context of one read of the registries.
#[derive(Debug, Clone, Default)]
pub struct ObservationContext {
    /// Time of the read.
    pub now: Timestamp,
    /// True if the registries' repositories were listed: only then can it be a first read.
    pub catalogue_read: bool,
    /// True if a registry's clock agreed with `now`. A sight recorded for a later time is wrong then, and counts as of
    /// now.
    pub clock_confirmed: bool,
    /// The registries for which nothing may be recorded, because their clock and this machine's differ.
    pub clock_skewed: BTreeSet<RegistryName>,
}

impl ObservationContext {
    /// Creates the context of a full read at that time.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { now, catalogue_read: true, clock_confirmed: false, clock_skewed: BTreeSet::new() }
    }
}

/// A read of one registry in progress.
#[derive(Debug, Clone)]
pub struct RegistryObservation {
    endpoint: String,
    /// The key of its records.
    key: String,
    unseen_tags: UnseenTags,
    is_recorded: bool,
    /// True if tags of it were restored.
    has_restored: bool,
}

impl RegistryObservation {
    /// Returns true if tags of the registry were restored, so that their dates are recorded.
    #[must_use]
    pub fn has_restored(&self) -> bool {
        self.has_restored
    }

    /// Returns a copy that records nothing.
    #[must_use]
    pub fn unrecorded(&self) -> Self {
        Self { is_recorded: false, ..self.clone() }
    }
}

/// A recorded tag.
struct Record {
    digest: String,
    first_seen: Timestamp,
    presence: Presence,
}

/// The knowledge of the time since which a tag exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It came when it was first seen.
    SinceFirstSeen = 0,
    /// It existed at the first read of the registry.
    AtFirstRead = 1,
    /// It existed at a read that could not list all repositories, before the first one that could. Until then its age
    /// counts from its first sight.
    BeforeFirstRead = 2,
}

/// The meaning of a read for tags of unknown repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnseenTags {
    /// There was a first read, so they appeared since.
    New,
    /// This is the first read.
    Preexisting,
    /// It would be the first read, if all repositories could be listed.
    Undetermined,
    /// Only some repositories are read, and there was no first read: nothing is recorded.
    Unrecorded,
}

/// The records to write for a repository.
#[derive(Default)]
pub(super) struct Changes {
    /// Tag and digest, both new to the record.
    pub(super) seen: Vec<[String; 2]>,
    /// Tags that are no more.
    pub(super) missing: Vec<String>,
}

/// A tag, its digest, its first sight, and the number of its [`Presence`].
pub(super) type SightRow = (String, String, String, i64);

/// The tables of sights in a backend, below what they mean. Registries are named by their keys.
#[async_trait]
pub(super) trait ObservationTables: RestoredTables + ManifestCache {
    /// Returns true if a registry had its first look.
    async fn has_first_read(&self, key: &str) -> Result<bool, StateError>;

    /// Takes up what is recorded under one key under another. Durable when it returns.
    async fn rename_key(&self, old: &str, new: &str) -> Result<(), StateError>;

    /// Remembers that a registry had its first look: what was there at earlier, incomplete ones was there before it.
    async fn record_first_read(&self, key: &str, now: Timestamp) -> Result<(), StateError>;

    /// Reads the number of a repository, and whether its tags are yet to be listed for the first time.
    async fn observed_repository(&self, key: &str, repository: &str) -> Result<Option<(i64, bool)>, StateError>;

    /// Reads the sights of a repository by its number.
    async fn sights(&self, repository: i64) -> Result<Vec<SightRow>, StateError>;

    /// Remembers that a repository is there whose tags could not be listed.
    async fn record_pending(&self, key: &str, repository: &str, now: Timestamp) -> Result<(), StateError>;

    /// Writes what changed in a repository. New sights get this time and this presence.
    async fn record_changes(
        &self,
        key: &str,
        repository: &str,
        changes: &Changes,
        now: Timestamp,
        presence: Presence,
    ) -> Result<(), StateError>;
}

/// The names of what is done with these tables, as failures say.
pub(super) const READ_FIRST_READ: &str = "read when a registry was first looked at";
pub(super) const RENAME_KEY: &str = "record where a registry is";
pub(super) const RECORD_FIRST_READ: &str = "record the first look at a registry";
pub(super) const READ_SIGHTS: &str = "read when tags were first seen";
pub(super) const RECORD_PENDING: &str = "record that a repository is there";
pub(super) const RECORD_SIGHTS: &str = "record when tags were first seen";

/// How the tags of one repository are looked at.
#[derive(Clone, Copy)]
struct RepositoryObservation {
    now: Timestamp,
    /// True if its list of tags is complete.
    complete: bool,
    /// The knowledge of tags that were not seen before.
    unseen_tags: Presence,
    /// True for the registry's first read.
    first_read: bool,
    confirmed: bool,
}

#[async_trait]
impl<T: ObservationTables> Observations for T {
    async fn observe(&self, inventory: &mut Inventory, now: Timestamp) -> Result<(), StateError> {
        self.observe_at(inventory, &ObservationContext::at(now)).await
    }

    async fn observe_at(&self, inventory: &mut Inventory, look: &ObservationContext) -> Result<(), StateError> {
        for registry in &mut inventory.registries {
            let observation = self.begin_observation(registry, look).await?;
            for repository in &mut registry.repositories {
                self.observe_repository(&observation, repository, look).await?;
            }
            self.finish_observation(&observation, look).await?;
        }
        Ok(())
    }

    async fn begin_observation(
        &self,
        registry: &Registry,
        look: &ObservationContext,
    ) -> Result<RegistryObservation, StateError> {
        self.flush_cache().await;
        let (by_name, key) = (name_key(registry), key(registry));
        // Takes up what an older version recorded by a registry's name, now that its endpoint is known.
        if by_name != key && self.has_first_read(&by_name).await? {
            self.rename_key(&by_name, &key).await?;
        }
        let looked = self.has_first_read(&key).await?;
        let whole = look.catalogue_read && !registry.gaps.iter().any(|gap| gap.target == GapTarget::Catalogue);
        let unseen_tags = match (looked, whole, look.catalogue_read) {
            (true, ..) => UnseenTags::New,
            (false, true, _) => UnseenTags::Preexisting,
            (false, false, true) => UnseenTags::Undetermined,
            (false, false, false) => UnseenTags::Unrecorded,
        };
        Ok(RegistryObservation {
            is_recorded: !look.clock_skewed.contains(&registry.name),
            has_restored: self.has_restored(&registry.endpoint).await?,
            endpoint: registry.endpoint.clone(),
            key,
            unseen_tags,
        })
    }

    async fn observe_repository(
        &self,
        registry: &RegistryObservation,
        repository: &mut Repository,
        look: &ObservationContext,
    ) -> Result<(), StateError> {
        fill_first_seen(self, registry, repository, look).await?;
        if registry.has_restored {
            let complete = !repository.gaps.iter().any(|gap| gap.target == GapTarget::TagList);
            fill_originals(self, &registry.endpoint, repository, complete, look.now).await?;
        }
        Ok(())
    }

    async fn finish_observation(
        &self,
        registry: &RegistryObservation,
        look: &ObservationContext,
    ) -> Result<(), StateError> {
        if registry.unseen_tags == UnseenTags::Preexisting && registry.is_recorded {
            self.record_first_read(&registry.key, look.now).await
        } else {
            Ok(())
        }
    }
}

async fn fill_first_seen(
    tables: &impl ObservationTables,
    registry: &RegistryObservation,
    repository: &mut Repository,
    look: &ObservationContext,
) -> Result<(), StateError> {
    let RegistryObservation { key: endpoint, unseen_tags: there, is_recorded: record, .. } = registry;
    let (there, record) = (*there, *record);
    let known = tables.observed_repository(endpoint, repository.name.as_str()).await?;
    let complete = !repository.gaps.iter().any(|gap| gap.target == GapTarget::TagList);
    // Its tags could not be listed at the registry's first look, so this is its own.
    let pending = known.is_some_and(|(_, pending)| pending);
    let newcomers = match known {
        Some(_) if !pending => Presence::SinceFirstSeen,
        None if there == UnseenTags::Unrecorded => return Ok(()),
        None if there == UnseenTags::New => Presence::SinceFirstSeen,
        // What an incomplete list leaves out would later pass for new.
        _ if !complete => {
            let listed = known.is_none() && there == UnseenTags::Preexisting;
            return if listed && record {
                tables.record_pending(endpoint, repository.name.as_str(), look.now).await
            } else {
                Ok(())
            };
        }
        None if there == UnseenTags::Undetermined => Presence::BeforeFirstRead,
        _ => Presence::AtFirstRead,
    };
    let records = match known {
        Some((id, _)) => records(tables, id).await?,
        None => HashMap::new(),
    };
    let first = there == UnseenTags::Preexisting;
    let glance = RepositoryObservation {
        now: look.now,
        complete,
        unseen_tags: newcomers,
        first_read: first,
        confirmed: look.clock_confirmed,
    };
    let changes = compare(repository, records, glance);
    let same = known.is_some() && !pending && changes.seen.is_empty() && changes.missing.is_empty();
    if same || !record {
        return Ok(());
    }
    tables.record_changes(endpoint, repository.name.as_str(), &changes, look.now, newcomers).await
}

async fn records(tables: &impl ObservationTables, repository: i64) -> Result<HashMap<String, Record>, StateError> {
    let rows = tables.sights(repository).await?;
    rows.into_iter()
        .map(|(tag, digest, first_seen, presence)| {
            let known = match presence {
                0 => Presence::SinceFirstSeen,
                2 => Presence::BeforeFirstRead,
                _ => Presence::AtFirstRead,
            };
            Ok((tag, Record { digest, first_seen: tables.read(&first_seen)?, presence: known }))
        })
        .collect()
}

/// Fills in the facts about each tag, and returns the records to write.
fn compare(repository: &mut Repository, mut known: HashMap<String, Record>, glance: RepositoryObservation) -> Changes {
    let RepositoryObservation { now, complete, unseen_tags: newcomers, first_read: first, confirmed } = glance;
    let mut changes = Changes::default();
    // The latest of several: no tag without a first sight appeared after it.
    let mut first_look: Option<Timestamp> = None;
    for tag in &mut repository.tags {
        let record = known.remove(tag.name.as_str());
        // A tag whose digest could not be read still exists: its record is kept.
        let Some(digest) = &tag.digest else { continue };
        if tag.pushed_at.is_some() {
            continue;
        }
        let digest = digest.to_string();
        match record {
            Some(record) if record.digest == digest && !(confirmed && record.is_ahead_of(now)) => {
                let nobody_knows =
                    record.presence == Presence::AtFirstRead || record.presence == Presence::BeforeFirstRead && first;
                tag.first_seen = (!nobody_knows).then(|| record.first_seen.into());
                first_look = first_look.max(nobody_knows.then_some(record.first_seen));
            }
            _ => {
                let nobody_knows = newcomers == Presence::AtFirstRead;
                tag.first_seen = (!nobody_knows).then(|| now.into());
                first_look = first_look.max(nobody_knows.then_some(now));
                changes.seen.push([tag.name.to_string(), digest]);
            }
        }
    }
    repository.first_read_at = first_look.map(Into::into);
    if complete {
        changes.missing = known.into_keys().collect();
    }
    changes
}

impl Record {
    /// Returns true if it was recorded by a clock that was ahead: the sight was at some time before `now`.
    fn is_ahead_of(&self, now: Timestamp) -> bool {
        self.presence != Presence::AtFirstRead && self.first_seen > now
    }
}

/// Returns the key of a registry's records: its endpoint.
pub(super) fn key(registry: &Registry) -> String {
    Endpoint::parse(&registry.endpoint).map_or_else(|| name_key(registry), |found| found.to_string())
}

/// Returns the key of a registry's records while its endpoint is unknown.
fn name_key(registry: &Registry) -> String {
    format!("registry:{}", registry.name)
}

pub(super) fn json<T: serde::Serialize>(rows: &[T]) -> String {
    serde_json::to_string(rows).expect("lists of strings are JSON")
}
