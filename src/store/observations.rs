//! When each tag was first seen at its digest, for registries that have no push times.

use std::collections::HashMap;

use jiff::Timestamp;

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
    /// Records the tags of an inventory and fills in when each was first seen at its digest, and by which time restored
    /// ones count.
    ///
    /// Of the tags that are there at the first look at a repository nobody knows for how long, so they get no time. An
    /// incomplete list of tags is no first look, and forgets no tag. Tags with a push time need no record. Each
    /// repository is a write of its own, and one without changes is none, so that others can write in between.
    ///
    /// # Errors
    /// When the record could not be read or written. The inventory may then lack times, and must not be decided on.
    pub async fn observe(&self, inventory: &mut Inventory, now: Timestamp) -> Result<(), StoreError> {
        self.flush_cache().await;
        for registry in &mut inventory.registries {
            let restored = self.has_restored(&registry.endpoint).await?;
            for repository in &mut registry.repositories {
                self.observe_repository(&registry.name, repository, now).await?;
                if restored {
                    let complete = !repository.gaps.iter().any(|gap| gap.at == GapAt::TagList);
                    self.fill_originals(&registry.endpoint, repository, complete, now).await?;
                }
            }
        }
        Ok(())
    }

    async fn observe_repository(
        &self,
        registry: &RegistryName,
        repository: &mut Repository,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let doing = "record when tags were first seen";
        let fault = |error: sqlx::Error| self.fault(doing, &error);
        let complete = !repository.gaps.iter().any(|gap| gap.at == GapAt::TagList);
        let look: Option<i64> = sqlx::query_scalar("SELECT id FROM looks WHERE registry = ?1 AND repository = ?2")
            .bind(registry.as_str())
            .bind(repository.name.as_str())
            .fetch_optional(&self.0.readers)
            .await
            .map_err(fault)?;
        let (known, first) = match look {
            Some(look) => (self.records(look).await?, false),
            None if complete => (HashMap::new(), true),
            None => return Ok(()),
        };
        let changes = compare(repository, known, complete, first, now);
        if !first && changes.seen.is_empty() && changes.gone.is_empty() {
            return Ok(());
        }
        let mut write = self.write_relaxed().await?;
        // Another process may have looked for the first time just now; then this changes nothing.
        sqlx::query(
            "INSERT INTO looks (registry, repository, first_look_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )
        .bind(registry.as_str())
        .bind(repository.name.as_str())
        .bind(stored(now))
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        sqlx::query(
            "DELETE FROM observations WHERE look = (SELECT id FROM looks WHERE registry = ?1 AND repository = ?2)
             AND tag IN (SELECT value FROM json_each(?3))",
        )
        .bind(registry.as_str())
        .bind(repository.name.as_str())
        .bind(json(&changes.gone))
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        sqlx::query(
            "INSERT OR REPLACE INTO observations (look, tag, digest, first_seen, at_first_look)
             SELECT looks.id, value ->> 0, value ->> 1, ?4, ?5 FROM looks, json_each(?3)
             WHERE registry = ?1 AND repository = ?2",
        )
        .bind(registry.as_str())
        .bind(repository.name.as_str())
        .bind(json(&changes.seen))
        .bind(stored(now))
        .bind(first)
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        write.commit(doing).await
    }

    async fn records(&self, look: i64) -> Result<HashMap<String, Record>, StoreError> {
        let rows: Vec<(String, String, String, bool)> =
            sqlx::query_as("SELECT tag, digest, first_seen, at_first_look FROM observations WHERE look = ?1")
                .bind(look)
                .fetch_all(&self.0.readers)
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
                tag.first_seen = (!record.at_first_look).then(|| record.first_seen.into());
            }
            _ => {
                tag.first_seen = (!first).then(|| now.into());
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
