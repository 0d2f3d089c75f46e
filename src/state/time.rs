//! The recorded times of the state, and which of them are confirmed.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::{RecordedTimes, SqliteState, StateError, format_time};

/// The newest times that a state has recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NewestTime {
    /// The newest one that a registry's `Date` confirmed.
    pub confirmed: Option<Timestamp>,
    /// The newest one of all runs, whatever their clock.
    pub recorded: Option<Timestamp>,
}

#[async_trait]
impl RecordedTimes for SqliteState {
    async fn newest_time(&self) -> Result<NewestTime, StateError> {
        let (confirmed, recorded): (Option<String>, Option<String>) = sqlx::query_as(
            "SELECT confirmed_at,
                    (SELECT max(max(started_at, coalesce(ended_at, started_at))) FROM runs WHERE number > accepted_after)
             FROM clock",
        )
        .fetch_one(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error("read the newest time", error))?;
        let read = |text: Option<String>| text.map(|text| self.read(&text)).transpose();
        Ok(NewestTime { confirmed: read(confirmed)?, recorded: read(recorded)? })
    }

    async fn confirm_time(&self, run: Uuid, at: Timestamp) -> Result<(), StateError> {
        let doing = "record that the time was confirmed";
        let fault = |error: sqlx::Error| self.sqlx_error(doing, error);
        let mut write = self.write_durably().await?;
        sqlx::query("UPDATE clock SET confirmed_at = max(coalesce(confirmed_at, ''), ?1)")
            .bind(format_time(at))
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        sqlx::query("UPDATE runs SET clock_confirmed = 1 WHERE id = ?1")
            .bind(run.to_string())
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        write.commit(doing).await
    }

    async fn accept_time(&self, now: Timestamp, by: &str, reason: &str) -> Result<(), StateError> {
        let doing = "record that the time is right";
        let mut write = self.write_durably().await?;
        sqlx::query(
            "UPDATE clock SET confirmed_at = CASE WHEN confirmed_at > ?1 THEN ?1 ELSE confirmed_at END,
                accepted_after = (SELECT coalesce(max(number), 0) FROM runs),
                accepted_at = ?1, accepted_by = ?2, accepted_reason = ?3",
        )
        .bind(format_time(now))
        .bind(by)
        .bind(reason)
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(doing, error))?;
        write.commit(doing).await
    }
}
