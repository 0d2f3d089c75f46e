//! When each tag was first seen at its digest, for registries that have no push times.
//!
//! Sights belong to the registry itself, known by its endpoint: another name in the settings is no other registry. Of what
//! is there at the first look at a *registry* nobody knows for how long; a repository that is listed later is new.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use super::{Store, StoreError, stored};
use crate::domain::{Endpoint, GapAt, Inventory, Registry, RegistryName, Repository};

/// One look at registries.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// When it was.
    pub now: Timestamp,
    /// Whether the registries were asked for their repositories: only then can it be a first look.
    pub catalogue: bool,
    /// Whether some registry's clock agreed with `now`. A sight that was recorded for a later time is wrong then, and counts
    /// as of now.
    pub confirmed: bool,
    /// The registries of which nothing may be recorded, because their clock and this machine's differ.
    pub unrecorded: BTreeSet<RegistryName>,
}

impl Look {
    /// A look at everything at that time.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { now, catalogue: true, confirmed: false, unrecorded: BTreeSet::new() }
    }
}

/// A tag as it was recorded.
struct Record {
    digest: String,
    first_seen: Timestamp,
    known: Known,
}

/// What is known of the time since which a tag is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It came when it was first seen.
    Since = 0,
    /// It was there at the first look at the registry.
    AtFirstLook = 1,
    /// It was there at a look that could not list all repositories, before the first one that could. Until then it is as
    /// young as its first sight.
    BeforeFirstLook = 2,
}

/// What a look at a registry is, as far as tags of repositories that are not known yet are concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Newcomers {
    /// There was a first look, so they came since.
    New,
    /// This is the first look.
    Old,
    /// It would be the first look, but for repositories that could not be listed.
    Unclear,
    /// Only some repositories are looked at, and there was no first look: nothing is recorded of them.
    Passed,
}

/// What is to be recorded of a repository.
#[derive(Default)]
struct Changes {
    /// Tag and digest, both new to the record.
    seen: Vec<[String; 2]>,
    /// Tags that are no more.
    gone: Vec<String>,
}

/// How the tags of one repository are looked at.
#[derive(Clone, Copy)]
struct Glance {
    now: Timestamp,
    /// Whether its list of tags is whole.
    complete: bool,
    /// What is known of tags that were not seen before.
    newcomers: Known,
    /// Whether this is the registry's first look.
    first: bool,
    confirmed: bool,
}

impl Store {
    /// Records the tags of an inventory and fills in when each was first seen at its digest, as a look at everything.
    ///
    /// # Errors
    /// As [`Store::observe_at`].
    pub async fn observe(&self, inventory: &mut Inventory, now: Timestamp) -> Result<(), StoreError> {
        self.observe_at(inventory, &Look::at(now)).await
    }

    /// Records the tags of an inventory and fills in when each was first seen at its digest, and by which time restored ones
    /// count.
    ///
    /// The tags that are there at the first look at a registry get no time; their repository gets that of the look. A
    /// look that could not list all repositories does not count, and an incomplete list of tags forgets no tag. Tags
    /// with a push time need no record. Each repository is a write of its own, and one without changes is none, so that
    /// others can write in between.
    ///
    /// # Errors
    /// When the record could not be read or written. The inventory may then lack times, and must not be decided on.
    pub async fn observe_at(&self, inventory: &mut Inventory, look: &Look) -> Result<(), StoreError> {
        self.flush_cache().await;
        for registry in &mut inventory.registries {
            self.observe_registry(registry, look).await?;
            if !self.has_restored(&registry.endpoint).await? {
                continue;
            }
            for repository in &mut registry.repositories {
                let complete = !repository.gaps.iter().any(|gap| gap.at == GapAt::TagList);
                self.fill_originals(&registry.endpoint, repository, complete, look.now).await?;
            }
        }
        Ok(())
    }

    async fn observe_registry(&self, registry: &mut Registry, look: &Look) -> Result<(), StoreError> {
        let fault = |error: sqlx::Error| self.fault("read when a registry was first looked at", &error);
        let (by_name, endpoint) = (name_key(registry), key(registry));
        let record = !look.unrecorded.contains(&registry.name);
        self.adopt(&by_name, &endpoint).await?;
        let looked: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM first_looks WHERE endpoint = ?1)")
            .bind(&endpoint)
            .fetch_one(&self.0.readers)
            .await
            .map_err(fault)?;
        let whole = look.catalogue && !registry.gaps.iter().any(|gap| gap.at == GapAt::Catalogue);
        let newcomers = match (looked, whole, look.catalogue) {
            (true, ..) => Newcomers::New,
            (false, true, _) => Newcomers::Old,
            (false, false, true) => Newcomers::Unclear,
            (false, false, false) => Newcomers::Passed,
        };
        for repository in &mut registry.repositories {
            self.observe_repository(&endpoint, repository, newcomers, look, record).await?;
        }
        if newcomers == Newcomers::Old && record { self.end_first_look(&endpoint, look.now).await } else { Ok(()) }
    }

    /// Takes up what an older version recorded by a registry's name, now that its endpoint is known.
    async fn adopt(&self, by_name: &str, endpoint: &str) -> Result<(), StoreError> {
        let doing = "record where a registry is";
        let fault = |error: sqlx::Error| self.fault(doing, &error);
        let nameless: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM first_looks WHERE endpoint = ?1)")
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
            "UPDATE OR IGNORE looks SET endpoint = ?2 WHERE endpoint = ?1",
            "DELETE FROM looks WHERE endpoint = ?1 AND ?2 = ?2",
            "INSERT INTO first_looks (endpoint, first_look_at)
             SELECT ?2, first_look_at FROM first_looks WHERE endpoint = ?1
             ON CONFLICT (endpoint) DO NOTHING",
            "DELETE FROM first_looks WHERE endpoint = ?1 AND ?2 = ?2",
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
    async fn end_first_look(&self, endpoint: &str, now: Timestamp) -> Result<(), StoreError> {
        let doing = "record the first look at a registry";
        let fault = |error: sqlx::Error| self.fault(doing, &error);
        let mut write = self.write_relaxed().await?;
        sqlx::query(
            "UPDATE observations SET at_first_look = 1
             WHERE at_first_look = 2 AND look IN (SELECT id FROM looks WHERE endpoint = ?1)",
        )
        .bind(endpoint)
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        sqlx::query("INSERT INTO first_looks (endpoint, first_look_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
            .bind(endpoint)
            .bind(stored(now))
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        write.commit(doing).await
    }

    async fn observe_repository(
        &self,
        endpoint: &str,
        repository: &mut Repository,
        there: Newcomers,
        look: &Look,
        record: bool,
    ) -> Result<(), StoreError> {
        let fault = |error: sqlx::Error| self.fault("read when tags were first seen", &error);
        let known: Option<(i64, bool)> =
            sqlx::query_as("SELECT id, pending FROM looks WHERE endpoint = ?1 AND repository = ?2")
                .bind(endpoint)
                .bind(repository.name.as_str())
                .fetch_optional(&self.0.readers)
                .await
                .map_err(fault)?;
        let complete = !repository.gaps.iter().any(|gap| gap.at == GapAt::TagList);
        // Its tags could not be listed at the registry's first look, so this is its own.
        let pending = known.is_some_and(|(_, pending)| pending);
        let newcomers = match known {
            Some(_) if !pending => Known::Since,
            None if there == Newcomers::Passed => return Ok(()),
            None if there == Newcomers::New => Known::Since,
            // What an incomplete list leaves out would later pass for new.
            _ if !complete => {
                let listed = known.is_none() && there == Newcomers::Old;
                return if listed && record { self.note_pending(endpoint, repository, look.now).await } else { Ok(()) };
            }
            None if there == Newcomers::Unclear => Known::BeforeFirstLook,
            _ => Known::AtFirstLook,
        };
        let records = match known {
            Some((id, _)) => self.records(id).await?,
            None => HashMap::new(),
        };
        let first = there == Newcomers::Old;
        let glance = Glance { now: look.now, complete, newcomers, first, confirmed: look.confirmed };
        let changes = compare(repository, records, glance);
        let same = known.is_some() && !pending && changes.seen.is_empty() && changes.gone.is_empty();
        if same || !record { Ok(()) } else { self.record_sights(endpoint, repository, &changes, glance).await }
    }

    async fn note_pending(&self, endpoint: &str, repository: &Repository, now: Timestamp) -> Result<(), StoreError> {
        let doing = "record that a repository is there";
        let mut write = self.write_relaxed().await?;
        sqlx::query(
            "INSERT INTO looks (endpoint, repository, first_look_at, pending) VALUES (?1, ?2, ?3, 1)
             ON CONFLICT DO NOTHING",
        )
        .bind(endpoint)
        .bind(repository.name.as_str())
        .bind(stored(now))
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.fault(doing, &error))?;
        write.commit(doing).await
    }

    async fn record_sights(
        &self,
        endpoint: &str,
        repository: &Repository,
        changes: &Changes,
        glance: Glance,
    ) -> Result<(), StoreError> {
        let doing = "record when tags were first seen";
        let fault = |error: sqlx::Error| self.fault(doing, &error);
        let mut write = self.write_relaxed().await?;
        // Another process may have looked for the first time just now; then this changes nothing.
        sqlx::query(
            "INSERT INTO looks (endpoint, repository, first_look_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (endpoint, repository) DO UPDATE SET pending = 0",
        )
        .bind(endpoint)
        .bind(repository.name.as_str())
        .bind(stored(glance.now))
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        sqlx::query(
            "DELETE FROM observations WHERE look = (SELECT id FROM looks WHERE endpoint = ?1 AND repository = ?2)
             AND tag IN (SELECT value FROM json_each(?3))",
        )
        .bind(endpoint)
        .bind(repository.name.as_str())
        .bind(json(&changes.gone))
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        sqlx::query(
            "INSERT OR REPLACE INTO observations (look, tag, digest, first_seen, at_first_look)
             SELECT looks.id, value ->> 0, value ->> 1, ?4, ?5 FROM looks, json_each(?3)
             WHERE endpoint = ?1 AND repository = ?2",
        )
        .bind(endpoint)
        .bind(repository.name.as_str())
        .bind(json(&changes.seen))
        .bind(stored(glance.now))
        .bind(glance.newcomers as i64)
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        write.commit(doing).await
    }

    async fn records(&self, look: i64) -> Result<HashMap<String, Record>, StoreError> {
        let rows: Vec<(String, String, String, i64)> =
            sqlx::query_as("SELECT tag, digest, first_seen, at_first_look FROM observations WHERE look = ?1")
                .bind(look)
                .fetch_all(&self.0.readers)
                .await
                .map_err(|error| self.fault("read when tags were first seen", &error))?;
        rows.into_iter()
            .map(|(tag, digest, first_seen, at_first_look)| {
                let known = match at_first_look {
                    0 => Known::Since,
                    2 => Known::BeforeFirstLook,
                    _ => Known::AtFirstLook,
                };
                Ok((tag, Record { digest, first_seen: self.read(&first_seen)?, known }))
            })
            .collect()
    }
}

/// Fills in what is known of each tag, and finds what is to be recorded.
fn compare(repository: &mut Repository, mut known: HashMap<String, Record>, glance: Glance) -> Changes {
    let Glance { now, complete, newcomers, first, confirmed } = glance;
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
                    record.known == Known::AtFirstLook || record.known == Known::BeforeFirstLook && first;
                tag.first_seen = (!nobody_knows).then(|| record.first_seen.into());
                first_look = first_look.max(nobody_knows.then_some(record.first_seen));
            }
            _ => {
                let nobody_knows = newcomers == Known::AtFirstLook;
                tag.first_seen = (!nobody_knows).then(|| now.into());
                first_look = first_look.max(nobody_knows.then_some(now));
                changes.seen.push([tag.name.to_string(), digest]);
            }
        }
    }
    repository.first_look = first_look.map(Into::into);
    if complete {
        changes.gone = known.into_keys().collect();
    }
    changes
}

impl Record {
    /// Returns whether it was recorded by a clock that was ahead: the sight was at some time before `now`.
    fn is_ahead_of(&self, now: Timestamp) -> bool {
        self.known != Known::AtFirstLook && self.first_seen > now
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
