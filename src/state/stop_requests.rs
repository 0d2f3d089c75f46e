//! Requests to a running enforcement to stop before its next removal.

use jiff::Timestamp;

use super::{StateError, StateStore, format_time};

/// The number of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopRequestId(i64);

impl StateStore {
    /// Asks whoever removes with this state to stop before the next removal. The request holds until `until`, so that one
    /// whose author was killed stops nothing for good.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn request_stop(&self, asked_by: &str, until: Timestamp) -> Result<StopRequestId, StateError> {
        let doing = "ask a run to stop";
        let mut write = self.write_durably().await?;
        let done = sqlx::query("INSERT INTO interruptions (asked_by, until) VALUES (?1, ?2)")
            .bind(asked_by)
            .bind(format_time(until))
            .execute(&mut *write.transaction)
            .await
            .map_err(|error| self.sqlx_error(doing, &error))?;
        write.commit(doing).await?;
        Ok(StopRequestId(done.last_insert_rowid()))
    }

    /// Takes a request back, and with it those that hold no more.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn withdraw_stop_request(&self, id: StopRequestId, now: Timestamp) -> Result<(), StateError> {
        let doing = "take back the request to stop";
        let mut write = self.write_durably().await?;
        sqlx::query("DELETE FROM interruptions WHERE id = ?1 OR until <= ?2")
            .bind(id.0)
            .bind(format_time(now))
            .execute(&mut *write.transaction)
            .await
            .map_err(|error| self.sqlx_error(doing, &error))?;
        write.commit(doing).await
    }

    /// Who asks for no more removals right now, or `None`.
    ///
    /// # Errors
    /// When it could not be read.
    pub async fn stop_request(&self, now: Timestamp) -> Result<Option<String>, StateError> {
        sqlx::query_scalar("SELECT asked_by FROM interruptions WHERE until > ?1 ORDER BY id LIMIT 1")
            .bind(format_time(now))
            .fetch_optional(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error("read who asks to stop", &error))
    }
}
