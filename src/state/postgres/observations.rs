//! When tags were first seen.

use async_trait::async_trait;
use jiff::Timestamp;

use super::PostgresState;
use crate::state::observations::{
    Changes, ObservationTables, Presence, READ_FIRST_READ, READ_SIGHTS, RECORD_FIRST_READ, RECORD_PENDING,
    RECORD_SIGHTS, RENAME_KEY, SightRow,
};
use crate::state::{StateError, format_time};

#[async_trait]
impl ObservationTables for PostgresState {
    async fn has_first_read(&self, key: &str) -> Result<bool, StateError> {
        let query = sqlx::query_as("SELECT endpoint FROM first_reads WHERE endpoint = $1").bind(key);
        Ok(self.row::<(String,)>(READ_FIRST_READ, query).await?.is_some())
    }

    async fn rename_key(&self, old: &str, new: &str) -> Result<(), StateError> {
        let mut unit = self.write(RENAME_KEY).await?;
        // A repository that is known by its endpoint already keeps what is known so.
        for statement in [
            "DELETE FROM observed_repositories WHERE endpoint = $1
             AND repository IN (SELECT repository FROM observed_repositories WHERE endpoint = $2)",
            "UPDATE observed_repositories SET endpoint = $2 WHERE endpoint = $1",
            "INSERT INTO first_reads (endpoint, first_read_at)
             SELECT $2, first_read_at FROM first_reads WHERE endpoint = $1
             ON CONFLICT (endpoint) DO NOTHING",
            "DELETE FROM first_reads WHERE endpoint = $1 AND $2 = $2",
        ] {
            unit.execute(sqlx::query(statement).bind(old).bind(new)).await?;
        }
        unit.commit().await
    }

    async fn record_first_read(&self, key: &str, now: Timestamp) -> Result<(), StateError> {
        let mut unit = self.write_relaxed(RECORD_FIRST_READ).await?;
        let statement = sqlx::query(
            "UPDATE observations SET presence = 1
             WHERE presence = 2 AND repository_id IN (SELECT id FROM observed_repositories WHERE endpoint = $1)",
        );
        unit.execute(statement.bind(key)).await?;
        let statement =
            sqlx::query("INSERT INTO first_reads (endpoint, first_read_at) VALUES ($1, $2) ON CONFLICT DO NOTHING");
        unit.execute(statement.bind(key).bind(format_time(now))).await?;
        unit.commit().await
    }

    async fn observed_repository(&self, key: &str, repository: &str) -> Result<Option<(i64, bool)>, StateError> {
        let query =
            sqlx::query_as("SELECT id, pending FROM observed_repositories WHERE endpoint = $1 AND repository = $2");
        self.row(READ_SIGHTS, query.bind(key).bind(repository)).await
    }

    async fn sights(&self, repository: i64) -> Result<Vec<SightRow>, StateError> {
        let query =
            sqlx::query_as("SELECT tag, digest, first_seen, presence FROM observations WHERE repository_id = $1");
        self.rows(READ_SIGHTS, query.bind(repository)).await
    }

    async fn record_pending(&self, key: &str, repository: &str, now: Timestamp) -> Result<(), StateError> {
        let statement = sqlx::query(
            "INSERT INTO observed_repositories (endpoint, repository, first_read_at, pending) VALUES ($1, $2, $3, TRUE)
             ON CONFLICT DO NOTHING",
        );
        let statement = statement.bind(key).bind(repository).bind(format_time(now));
        self.execute_relaxed(RECORD_PENDING, statement).await.map(drop)
    }

    async fn record_changes(
        &self,
        key: &str,
        repository: &str,
        changes: &Changes,
        now: Timestamp,
        presence: Presence,
    ) -> Result<(), StateError> {
        let now = format_time(now);
        let mut unit = self.write_relaxed(RECORD_SIGHTS).await?;
        // Another process may have looked for the first time just now; then this changes nothing.
        let query = sqlx::query_as(
            "INSERT INTO observed_repositories (endpoint, repository, first_read_at) VALUES ($1, $2, $3)
             ON CONFLICT (endpoint, repository) DO UPDATE SET pending = FALSE RETURNING id",
        );
        let ids: Vec<(i64,)> = unit.rows(query.bind(key).bind(repository).bind(&now)).await?;
        for (id,) in ids {
            let statement = sqlx::query("DELETE FROM observations WHERE repository_id = $1 AND tag = ANY($2)");
            unit.execute(statement.bind(id).bind(&changes.missing)).await?;
            let (tags, digests): (Vec<&str>, Vec<&str>) =
                changes.seen.iter().map(|[tag, digest]| (tag.as_str(), digest.as_str())).unzip();
            let statement = sqlx::query(
                "INSERT INTO observations (repository_id, tag, digest, first_seen, presence)
                 SELECT $1, tag, digest, $4, $5 FROM unnest($2::text[], $3::text[]) AS new (tag, digest)
                 ON CONFLICT (repository_id, tag) DO UPDATE
                 SET digest = excluded.digest, first_seen = excluded.first_seen, presence = excluded.presence",
            );
            unit.execute(statement.bind(id).bind(tags).bind(digests).bind(&now).bind(presence as i64)).await?;
        }
        unit.commit().await
    }
}
