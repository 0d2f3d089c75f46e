//! What restored tags count by.

use async_trait::async_trait;
use jiff::Timestamp;

use super::PostgresState;
use super::unit::Unit;
use crate::domain::{Intent, JournalId};
use crate::state::restored_tags::{
    FIND_RESTORED, READ_RESTORED, RestoredKey, RestoredRow, RestoredTables, UPDATE_RESTORED, original_columns,
};
use crate::state::{RestoreRecord, StateError, format_time};

#[async_trait]
impl RestoredTables for PostgresState {
    async fn has_restored(&self, endpoint: &str) -> Result<bool, StateError> {
        let query = sqlx::query_as("SELECT tag FROM restored_tags WHERE endpoint = $1 LIMIT 1").bind(endpoint);
        Ok(self.row::<(String,)>(FIND_RESTORED, query).await?.is_some())
    }

    async fn restored_rows(&self, endpoint: &str, repository: &str) -> Result<Vec<RestoredRow>, StateError> {
        let query = sqlx::query_as(
            "SELECT tag, digest, dated_at, dated_by, restored_at, complete, registry_time FROM restored_tags
             WHERE endpoint = $1 AND repository = $2",
        );
        self.rows(READ_RESTORED, query.bind(endpoint).bind(repository)).await
    }

    async fn write_registry_time(&self, restored: RestoredKey<'_>, time: Timestamp) -> Result<(), StateError> {
        let statement =
            "UPDATE restored_tags SET registry_time = $5 WHERE endpoint = $1 AND repository = $2 AND tag = $3 AND digest = $4
             AND complete AND registry_time IS NULL";
        self.update_restored(statement, restored, time).await
    }

    async fn delete_restored(&self, restored: RestoredKey<'_>, restored_at: Timestamp) -> Result<(), StateError> {
        let statement = "DELETE FROM restored_tags WHERE endpoint = $1 AND repository = $2 AND tag = $3 AND digest = $4
             AND complete AND restored_at = $5";
        self.update_restored(statement, restored, restored_at).await
    }
}

impl PostgresState {
    async fn update_restored(
        &self,
        statement: &'static str,
        restored: RestoredKey<'_>,
        time: Timestamp,
    ) -> Result<(), StateError> {
        let statement = sqlx::query(statement)
            .bind(restored.endpoint)
            .bind(restored.repository)
            .bind(restored.tag.as_str())
            .bind(restored.digest.to_string())
            .bind(format_time(time));
        self.execute(UPDATE_RESTORED, statement).await.map(drop)
    }
}

impl Unit<'_> {
    /// Writes down what a tag that is about to be put counts by, and the hold on it.
    pub(super) async fn write_restore_record(
        &mut self,
        id: JournalId,
        intent: &Intent,
        restoring: &RestoreRecord,
        now: Timestamp,
    ) -> Result<(), StateError> {
        if let Some(hold) = &restoring.hold {
            self.write_hold(hold, Some(id)).await?;
        }
        let (Some(original), Some(endpoint)) = (restoring.original, &intent.endpoint) else { return Ok(()) };
        let (dated_at, dated_by) = original_columns(original);
        let statement = sqlx::query(
            "INSERT INTO restored_tags
             (endpoint, repository, tag, digest, dated_at, dated_by, entry, restored_at, complete, registry_time)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, FALSE, NULL)
             ON CONFLICT (endpoint, repository, tag) DO UPDATE
             SET digest = excluded.digest, dated_at = excluded.dated_at, dated_by = excluded.dated_by,
                 entry = excluded.entry, restored_at = excluded.restored_at, complete = FALSE, registry_time = NULL",
        );
        let statement = statement
            .bind(&**endpoint)
            .bind(intent.repository.as_str())
            .bind(intent.tag.as_str())
            .bind(intent.digest.to_string())
            .bind(dated_at)
            .bind(dated_by)
            .bind(id.0)
            .bind(format_time(now));
        self.execute(statement).await.map(drop)
    }

    /// Completes what [`Unit::write_restore_record`] wrote: a tag is there, since the registry's own time of it; or it was not
    /// put, and neither counts nor is held. A removal ends it.
    pub(super) async fn complete_restore_records(
        &mut self,
        done: &[(i64, Option<Timestamp>)],
        undone: &[i64],
    ) -> Result<(), StateError> {
        if !done.is_empty() {
            let ids: Vec<i64> = done.iter().map(|(id, _)| *id).collect();
            let times: Vec<Option<String>> = done.iter().map(|(_, time)| time.map(format_time)).collect();
            let statement = sqlx::query(
                "UPDATE restored_tags SET complete = TRUE, registry_time = new.registry_time
                 FROM unnest($1::bigint[], $2::text[]) AS new (entry, registry_time)
                 WHERE restored_tags.entry = new.entry",
            );
            self.execute(statement.bind(&ids).bind(times)).await?;
            let statement = sqlx::query(
                "DELETE FROM restored_tags USING journal
                 WHERE journal.id = ANY($1) AND journal.action IN ('untag', 'delete-manifest')
                   AND restored_tags.endpoint = journal.endpoint AND restored_tags.repository = journal.repository
                   AND restored_tags.tag = journal.tag",
            );
            self.execute(statement.bind(&ids)).await?;
        }
        if !undone.is_empty() {
            for statement in
                ["DELETE FROM restored_tags WHERE entry = ANY($1)", "DELETE FROM holds WHERE entry = ANY($1)"]
            {
                self.execute(sqlx::query(statement).bind(undone)).await?;
            }
        }
        Ok(())
    }
}
