//! When each tag was first seen at its digest, for registries that have no push times.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{Store, StoreError, stored};
use crate::domain::{GapAt, Inventory, RegistryName, Repository};

/// A tag as it was recorded.
struct Record {
    digest: String,
    first_seen: Timestamp,
    at_first_look: bool,
}

/// What is to be recorded of a repository.
#[derive(Default)]
struct Changes {
    /// Tag and digest, both new to the record.
    seen: Vec<[String; 2]>,
    /// Tags that are no more.
    gone: Vec<String>,
}

impl Store {
    /// Records the tags of an inventory and fills in when each was first seen at its digest.
    ///
    /// Of the tags that are there at the first look at a repository nobody knows for how long, so they get no time. An
    /// incomplete list of tags is no first look, and forgets no tag. Tags with a push time need no record.
    ///
    /// # Errors
    /// When the record could not be read or written. The inventory may then lack times, and must not be decided on.
    pub async fn observe(&self, inventory: &mut Inventory, now: Timestamp) -> Result<(), StoreError> {
        self.flush_cache().await;
        let doing = "record when tags were first seen";
        let mut write = self.write_relaxed().await?;
        for registry in &mut inventory.registries {
            for repository in &mut registry.repositories {
                self.observe_repository(&mut write.transaction, &registry.name, repository, now).await?;
            }
        }
        write.commit(doing).await
    }

    async fn observe_repository(
        &self,
        connection: &mut SqliteConnection,
        registry: &RegistryName,
        repository: &mut Repository,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let complete = !repository.gaps.iter().any(|gap| gap.at == GapAt::TagList);
        let fault = |error: sqlx::Error| self.fault("record when tags were first seen", &error);
        let look: Option<i64> = sqlx::query_scalar("SELECT id FROM looks WHERE registry = ?1 AND repository = ?2")
            .bind(registry.as_str())
            .bind(repository.name.as_str())
            .fetch_optional(&mut *connection)
            .await
            .map_err(fault)?;
        let first = look.is_none();
        let look = match look {
            Some(look) => look,
            None if !complete => return Ok(()),
            None => sqlx::query("INSERT INTO looks (registry, repository, first_look_at) VALUES (?1, ?2, ?3)")
                .bind(registry.as_str())
                .bind(repository.name.as_str())
                .bind(stored(now))
                .execute(&mut *connection)
                .await
                .map_err(fault)?
                .last_insert_rowid(),
        };
        let known = if first { HashMap::new() } else { self.records(&mut *connection, look).await? };
        let changes = compare(repository, known, complete, first, now);
        if !changes.gone.is_empty() {
            sqlx::query("DELETE FROM observations WHERE look = ?1 AND tag IN (SELECT value FROM json_each(?2))")
                .bind(look)
                .bind(json(&changes.gone))
                .execute(&mut *connection)
                .await
                .map_err(fault)?;
        }
        if !changes.seen.is_empty() {
            sqlx::query(
                "INSERT OR REPLACE INTO observations (look, tag, digest, first_seen, at_first_look)
                 SELECT ?1, value ->> 0, value ->> 1, ?3, ?4 FROM json_each(?2)",
            )
            .bind(look)
            .bind(json(&changes.seen))
            .bind(stored(now))
            .bind(first)
            .execute(&mut *connection)
            .await
            .map_err(fault)?;
        }
        Ok(())
    }

    async fn records(
        &self,
        connection: &mut SqliteConnection,
        look: i64,
    ) -> Result<HashMap<String, Record>, StoreError> {
        let rows: Vec<(String, String, String, bool)> =
            sqlx::query_as("SELECT tag, digest, first_seen, at_first_look FROM observations WHERE look = ?1")
                .bind(look)
                .fetch_all(connection)
                .await
                .map_err(|error| self.fault("read when tags were first seen", &error))?;
        rows.into_iter()
            .map(|(tag, digest, first_seen, at_first_look)| {
                Ok((tag, Record { digest, first_seen: self.read(&first_seen)?, at_first_look }))
            })
            .collect()
    }
}

/// Fills in what is known of each tag, and finds what is to be recorded.
fn compare(
    repository: &mut Repository,
    mut known: HashMap<String, Record>,
    complete: bool,
    first: bool,
    now: Timestamp,
) -> Changes {
    let mut changes = Changes::default();
    for tag in &mut repository.tags {
        let record = known.remove(tag.name.as_str());
        // A tag whose digest could not be read is still there: what is recorded of it stays.
        let Some(digest) = &tag.digest else { continue };
        if tag.pushed_at.is_some() {
            continue;
        }
        let digest = digest.to_string();
        match record {
            Some(record) if record.digest == digest => {
                tag.first_seen = (!record.at_first_look).then_some(record.first_seen);
            }
            _ => {
                tag.first_seen = (!first).then_some(now);
                changes.seen.push([tag.name.to_string(), digest]);
            }
        }
    }
    if complete {
        changes.gone = known.into_keys().collect();
    }
    changes
}

fn json<T: serde::Serialize>(rows: &[T]) -> String {
    serde_json::to_string(rows).expect("lists of strings are JSON")
}
