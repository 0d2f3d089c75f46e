//! When each tag was first seen at its digest, for registries that have no push times.
//!
//! Sights belong to the registry itself, known by its endpoint: another name in the settings is no other registry. Of what
//! is there at the first look at a *registry* nobody knows for how long; a repository that is listed later is new.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{ManifestCache as _, Observations, SqliteState, StateError, format_time};
use crate::domain::{Endpoint, GapTarget, Inventory, Registry, RegistryName, Repository};

/// One look at registries.
#[derive(Debug, Clone, Default)]
pub struct ObservationContext {
    /// When it was.
    pub now: Timestamp,
    /// Whether the registries were asked for their repositories: only then can it be a first look.
    pub catalogue_read: bool,
    /// Whether some registry's clock agreed with `now`. A sight that was recorded for a later time is wrong then, and counts
    /// as of now.
    pub clock_confirmed: bool,
    /// The registries of which nothing may be recorded, because their clock and this machine's differ.
    pub clock_skewed: BTreeSet<RegistryName>,
}

impl ObservationContext {
    /// A look at everything at that time.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { now, catalogue_read: true, clock_confirmed: false, clock_skewed: BTreeSet::new() }
    }
}

/// A look at one registry that has begun.
#[derive(Debug, Clone)]
pub struct RegistryObservation {
    endpoint: String,
    /// By what it is recorded.
    key: String,
    unseen_tags: UnseenTags,
    is_recorded: bool,
    /// Whether tags of it were restored.
    has_restored: bool,
}

impl RegistryObservation {
    /// The same look, of which nothing is recorded.
    #[must_use]
    pub fn unrecorded(&self) -> Self {
        Self { is_recorded: false, ..self.clone() }
    }
}

/// A tag as it was recorded.
struct Record {
    digest: String,
    first_seen: Timestamp,
    presence: Presence,
}

/// What is known of the time since which a tag is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// It came when it was first seen.
    SinceFirstSeen = 0,
    /// It was there at the first look at the registry.
    AtFirstRead = 1,
    /// It was there at a look that could not list all repositories, before the first one that could. Until then it is as
    /// young as its first sight.
    BeforeFirstRead = 2,
}

/// What a look at a registry is, as far as tags of repositories that are not known yet are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnseenTags {
    /// There was a first look, so they came since.
    New,
    /// This is the first look.
    Preexisting,
    /// It would be the first look, but for repositories that could not be listed.
    Undetermined,
    /// Only some repositories are looked at, and there was no first look: nothing is recorded of them.
    Unrecorded,
}

/// What is to be recorded of a repository.
#[derive(Default)]
struct Changes {
    /// Tag and digest, both new to the record.
    seen: Vec<[String; 2]>,
    /// Tags that are no more.
    missing: Vec<String>,
}

/// How the tags of one repository are looked at.
#[derive(Clone, Copy)]
struct RepositoryObservation {
    now: Timestamp,
    /// Whether its list of tags is whole.
    complete: bool,
    /// What is known of tags that were not seen before.
    unseen_tags: Presence,
    /// Whether this is the registry's first look.
    first_read: bool,
    confirmed: bool,
}

#[async_trait]
impl Observations for SqliteState {
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
        let fault = |error: sqlx::Error| self.sqlx_error("read when a registry was first looked at", error);
        let (by_name, key) = (name_key(registry), key(registry));
        self.migrate_name_key(&by_name, &key).await?;
        let looked: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM first_reads WHERE endpoint = ?1)")
            .bind(&key)
            .fetch_one(&self.0.readers)
            .await
            .map_err(fault)?;
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
        self.fill_first_seen(registry, repository, look).await?;
        if registry.has_restored {
            let complete = !repository.gaps.iter().any(|gap| gap.target == GapTarget::TagList);
            self.fill_originals(&registry.endpoint, repository, complete, look.now).await?;
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

impl SqliteState {
    /// Takes up what an older version recorded by a registry's name, now that its endpoint is known.
    async fn migrate_name_key(&self, by_name: &str, endpoint: &str) -> Result<(), StateError> {
        let doing = "record where a registry is";
        let fault = |error: sqlx::Error| self.sqlx_error(doing, error);
        let nameless: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM first_reads WHERE endpoint = ?1)")
            .bind(by_name)
            .fetch_one(&self.0.readers)
            .await
            .map_err(fault)?;
        if !nameless || by_name == endpoint {
            return Ok(());
        }
        let mut write = self.write_durably().await?;
        // A repository that is known by its endpoint already keeps what is known so.
        for statement in [
            "UPDATE OR IGNORE observed_repositories SET endpoint = ?2 WHERE endpoint = ?1",
            "DELETE FROM observed_repositories WHERE endpoint = ?1 AND ?2 = ?2",
            "INSERT INTO first_reads (endpoint, first_read_at)
             SELECT ?2, first_read_at FROM first_reads WHERE endpoint = ?1
             ON CONFLICT (endpoint) DO NOTHING",
            "DELETE FROM first_reads WHERE endpoint = ?1 AND ?2 = ?2",
        ] {
            sqlx::query(statement)
                .bind(by_name)
                .bind(endpoint)
                .execute(&mut *write.transaction)
                .await
                .map_err(fault)?;
        }
        write.commit(doing).await
    }

    /// Remembers that a registry had its first look: what was there at earlier, incomplete ones was there before it.
    async fn record_first_read(&self, endpoint: &str, now: Timestamp) -> Result<(), StateError> {
        let doing = "record the first look at a registry";
        let fault = |error: sqlx::Error| self.sqlx_error(doing, error);
        let mut write = self.write_relaxed().await?;
        sqlx::query(
            "UPDATE observations SET presence = 1
             WHERE presence = 2 AND repository_id IN (SELECT id FROM observed_repositories WHERE endpoint = ?1)",
        )
        .bind(endpoint)
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        sqlx::query("INSERT INTO first_reads (endpoint, first_read_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
            .bind(endpoint)
            .bind(format_time(now))
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        write.commit(doing).await
    }

    async fn fill_first_seen(
        &self,
        registry: &RegistryObservation,
        repository: &mut Repository,
        look: &ObservationContext,
    ) -> Result<(), StateError> {
        let RegistryObservation { key: endpoint, unseen_tags: there, is_recorded: record, .. } = registry;
        let (there, record) = (*there, *record);
        let fault = |error: sqlx::Error| self.sqlx_error("read when tags were first seen", error);
        let known: Option<(i64, bool)> =
            sqlx::query_as("SELECT id, pending FROM observed_repositories WHERE endpoint = ?1 AND repository = ?2")
                .bind(endpoint)
                .bind(repository.name.as_str())
                .fetch_optional(&self.0.readers)
                .await
                .map_err(fault)?;
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
                    self.record_pending(endpoint, repository, look.now).await
                } else {
                    Ok(())
                };
            }
            None if there == UnseenTags::Undetermined => Presence::BeforeFirstRead,
            _ => Presence::AtFirstRead,
        };
        let records = match known {
            Some((id, _)) => self.records(id).await?,
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
        if same || !record { Ok(()) } else { self.record_changes(endpoint, repository, &changes, glance).await }
    }

    async fn record_pending(&self, endpoint: &str, repository: &Repository, now: Timestamp) -> Result<(), StateError> {
        let doing = "record that a repository is there";
        let mut write = self.write_relaxed().await?;
        sqlx::query(
            "INSERT INTO observed_repositories (endpoint, repository, first_read_at, pending) VALUES (?1, ?2, ?3, 1)
             ON CONFLICT DO NOTHING",
        )
        .bind(endpoint)
        .bind(repository.name.as_str())
        .bind(format_time(now))
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(doing, error))?;
        write.commit(doing).await
    }

    async fn record_changes(
        &self,
        endpoint: &str,
        repository: &Repository,
        changes: &Changes,
        glance: RepositoryObservation,
    ) -> Result<(), StateError> {
        let doing = "record when tags were first seen";
        let fault = |error: sqlx::Error| self.sqlx_error(doing, error);
        let mut write = self.write_relaxed().await?;
        // Another process may have looked for the first time just now; then this changes nothing.
        sqlx::query(
            "INSERT INTO observed_repositories (endpoint, repository, first_read_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (endpoint, repository) DO UPDATE SET pending = 0",
        )
        .bind(endpoint)
        .bind(repository.name.as_str())
        .bind(format_time(glance.now))
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        sqlx::query(
            "DELETE FROM observations
             WHERE repository_id = (SELECT id FROM observed_repositories WHERE endpoint = ?1 AND repository = ?2)
             AND tag IN (SELECT value FROM json_each(?3))",
        )
        .bind(endpoint)
        .bind(repository.name.as_str())
        .bind(json(&changes.missing))
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        sqlx::query(
            "INSERT OR REPLACE INTO observations (repository_id, tag, digest, first_seen, presence)
             SELECT observed_repositories.id, value ->> 0, value ->> 1, ?4, ?5 FROM observed_repositories, json_each(?3)
             WHERE endpoint = ?1 AND repository = ?2",
        )
        .bind(endpoint)
        .bind(repository.name.as_str())
        .bind(json(&changes.seen))
        .bind(format_time(glance.now))
        .bind(glance.unseen_tags as i64)
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        write.commit(doing).await
    }

    async fn records(&self, look: i64) -> Result<HashMap<String, Record>, StateError> {
        let rows: Vec<(String, String, String, i64)> =
            sqlx::query_as("SELECT tag, digest, first_seen, presence FROM observations WHERE repository_id = ?1")
                .bind(look)
                .fetch_all(&self.0.readers)
                .await
                .map_err(|error| self.sqlx_error("read when tags were first seen", error))?;
        rows.into_iter()
            .map(|(tag, digest, first_seen, presence)| {
                let known = match presence {
                    0 => Presence::SinceFirstSeen,
                    2 => Presence::BeforeFirstRead,
                    _ => Presence::AtFirstRead,
                };
                Ok((tag, Record { digest, first_seen: self.read(&first_seen)?, presence: known }))
            })
            .collect()
    }
}

/// Fills in what is known of each tag, and finds what is to be recorded.
fn compare(repository: &mut Repository, mut known: HashMap<String, Record>, glance: RepositoryObservation) -> Changes {
    let RepositoryObservation { now, complete, unseen_tags: newcomers, first_read: first, confirmed } = glance;
    let mut changes = Changes::default();
    // The latest of several: none of the tags without a first sight came after it.
    let mut first_look: Option<Timestamp> = None;
    for tag in &mut repository.tags {
        let record = known.remove(tag.name.as_str());
        // A tag whose digest could not be read is still there: what is recorded of it stays.
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
    /// Returns whether it was recorded by a clock that was ahead: the sight was at some time before `now`.
    fn is_ahead_of(&self, now: Timestamp) -> bool {
        self.presence != Presence::AtFirstRead && self.first_seen > now
    }
}

/// By what a registry is known: its endpoint.
pub(super) fn key(registry: &Registry) -> String {
    Endpoint::parse(&registry.endpoint).map_or_else(|| name_key(registry), |found| found.to_string())
}

/// By what it is known as long as nobody knows its endpoint.
fn name_key(registry: &Registry) -> String {
    format!("registry:{}", registry.name)
}

pub(super) fn json<T: serde::Serialize>(rows: &[T]) -> String {
    serde_json::to_string(rows).expect("lists of strings are JSON")
}
