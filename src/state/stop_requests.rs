//! Requests to a running enforcement to stop before its next removal.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{SqliteState, StateError, StopRequests, format_time};

/// The number of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopRequestId(pub(super) i64);

#[async_trait]
impl StopRequests for SqliteState {
    async fn request_stop(&self, requested_by: &str, until: Timestamp) -> Result<StopRequestId, StateError> {
        let doing = "ask a run to stop";
        let mut write = self.write_durably().await?;
        let done = sqlx::query("INSERT INTO stop_requests (requested_by, until) VALUES (?1, ?2)")
            .bind(requested_by)
            .bind(format_time(until))
            .execute(&mut *write.transaction)
            .await
            .map_err(|error| self.sqlx_error(doing, error))?;
        write.commit(doing).await?;
        Ok(StopRequestId(done.last_insert_rowid()))
    }

    async fn withdraw_stop_request(&self, id: StopRequestId, now: Timestamp) -> Result<(), StateError> {
        let doing = "take back the request to stop";
        let mut write = self.write_durably().await?;
        sqlx::query("DELETE FROM stop_requests WHERE id = ?1 OR until <= ?2")
            .bind(id.0)
            .bind(format_time(now))
            .execute(&mut *write.transaction)
            .await
            .map_err(|error| self.sqlx_error(doing, error))?;
        write.commit(doing).await
    }

    async fn stop_request(&self, now: Timestamp) -> Result<Option<String>, StateError> {
        sqlx::query_scalar("SELECT requested_by FROM stop_requests WHERE until > ?1 ORDER BY id LIMIT 1")
            .bind(format_time(now))
            .fetch_optional(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error("read who asks to stop", error))
    }
}
