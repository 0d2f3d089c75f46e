//! The tables of sights in SQLite.

use async_trait::async_trait;
use jiff::Timestamp;

use super::observations::{
    Changes, ObservationTables, Presence, READ_FIRST_READ, READ_SIGHTS, RECORD_FIRST_READ, RECORD_PENDING,
    RECORD_SIGHTS, RENAME_KEY, SightRow, json,
};
use super::{SqliteState, StateError, format_time};

#[async_trait]
impl ObservationTables for SqliteState {
    async fn has_first_read(&self, key: &str) -> Result<bool, StateError> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM first_reads WHERE endpoint = ?1)")
            .bind(key)
            .fetch_one(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error(READ_FIRST_READ, error))
    }

    async fn rename_key(&self, old: &str, new: &str) -> Result<(), StateError> {
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
                .bind(old)
                .bind(new)
                .execute(&mut *write.transaction)
                .await
                .map_err(|error| self.sqlx_error(RENAME_KEY, error))?;
        }
        write.commit(RENAME_KEY).await
    }

    async fn record_first_read(&self, key: &str, now: Timestamp) -> Result<(), StateError> {
        let fault = |error: sqlx::Error| self.sqlx_error(RECORD_FIRST_READ, error);
        let mut write = self.write_relaxed().await?;
        sqlx::query(
            "UPDATE observations SET presence = 1
             WHERE presence = 2 AND repository_id IN (SELECT id FROM observed_repositories WHERE endpoint = ?1)",
        )
        .bind(key)
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        sqlx::query("INSERT INTO first_reads (endpoint, first_read_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
            .bind(key)
            .bind(format_time(now))
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        write.commit(RECORD_FIRST_READ).await
    }

    async fn observed_repository(&self, key: &str, repository: &str) -> Result<Option<(i64, bool)>, StateError> {
        sqlx::query_as("SELECT id, pending FROM observed_repositories WHERE endpoint = ?1 AND repository = ?2")
            .bind(key)
            .bind(repository)
            .fetch_optional(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error(READ_SIGHTS, error))
    }

    async fn sights(&self, repository: i64) -> Result<Vec<SightRow>, StateError> {
        sqlx::query_as("SELECT tag, digest, first_seen, presence FROM observations WHERE repository_id = ?1")
            .bind(repository)
            .fetch_all(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error(READ_SIGHTS, error))
    }

    async fn record_pending(&self, key: &str, repository: &str, now: Timestamp) -> Result<(), StateError> {
        let mut write = self.write_relaxed().await?;
        sqlx::query(
            "INSERT INTO observed_repositories (endpoint, repository, first_read_at, pending) VALUES (?1, ?2, ?3, 1)
             ON CONFLICT DO NOTHING",
        )
        .bind(key)
        .bind(repository)
        .bind(format_time(now))
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(RECORD_PENDING, error))?;
        write.commit(RECORD_PENDING).await
    }

    async fn record_changes(
        &self,
        key: &str,
        repository: &str,
        changes: &Changes,
        now: Timestamp,
        presence: Presence,
    ) -> Result<(), StateError> {
        let fault = |error: sqlx::Error| self.sqlx_error(RECORD_SIGHTS, error);
        let mut write = self.write_relaxed().await?;
        // Another process may have looked for the first time just now; then this changes nothing.
        sqlx::query(
            "INSERT INTO observed_repositories (endpoint, repository, first_read_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (endpoint, repository) DO UPDATE SET pending = 0",
        )
        .bind(key)
        .bind(repository)
        .bind(format_time(now))
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        sqlx::query(
            "DELETE FROM observations
             WHERE repository_id = (SELECT id FROM observed_repositories WHERE endpoint = ?1 AND repository = ?2)
             AND tag IN (SELECT value FROM json_each(?3))",
        )
        .bind(key)
        .bind(repository)
        .bind(json(&changes.missing))
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        sqlx::query(
            "INSERT OR REPLACE INTO observations (repository_id, tag, digest, first_seen, presence)
             SELECT observed_repositories.id, value ->> 0, value ->> 1, ?4, ?5 FROM observed_repositories, json_each(?3)
             WHERE endpoint = ?1 AND repository = ?2",
        )
        .bind(key)
        .bind(repository)
        .bind(json(&changes.seen))
        .bind(format_time(now))
        .bind(presence as i64)
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        write.commit(RECORD_SIGHTS).await
    }
}
