//! What a run goes by besides its settings, and up to which time each schedule was looked after.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::{StateError, StateStore, WriteTransaction, format_time};

/// What a run goes by besides its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunContext {
    /// The hash over all policy files.
    pub revision: Option<String>,
    /// The git commit of their folder, where it is a checkout.
    pub commit: Option<String>,
    /// The policies that can remove in it, by name, where those are not all.
    pub enforced_policies: Option<String>,
    /// Why nothing is removed although settings and policies enforce, such as a freeze.
    pub blocked_by: Option<String>,
    /// Why a person has it removed in spite of that.
    pub override_reason: Option<String>,
}

impl StateStore {
    /// The circumstances of a run; empty for one of before they were recorded.
    ///
    /// # Errors
    /// When they could not be read.
    pub async fn run_context(&self, run: Uuid) -> Result<RunContext, StateError> {
        type Row = (Option<String>, Option<String>, Option<String>, Option<String>, Option<String>);
        let row: Option<Row> =
            sqlx::query_as("SELECT revision, git_commit, due, held_back, despite FROM circumstances WHERE run = ?1")
                .bind(run.to_string())
                .fetch_optional(&self.0.readers)
                .await
                .map_err(|error| self.sqlx_error("read what a run went by", &error))?;
        let (revision, commit, due, blocked_by, despite) = row.unwrap_or_default();
        Ok(RunContext { revision, commit, enforced_policies: due, blocked_by, override_reason: despite })
    }

    /// Up to which time each schedule was looked after.
    ///
    /// # Errors
    /// When it could not be read.
    pub async fn schedule_progress(&self) -> Result<BTreeMap<String, Timestamp>, StateError> {
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT schedule, handled_until FROM schedules")
            .fetch_all(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error("read when the schedules were looked after", &error))?;
        rows.into_iter().map(|(schedule, until)| Ok((schedule, self.read(&until)?))).collect()
    }

    /// Remembers up to which time each schedule was looked after, and forgets schedules that are not among them.
    /// Durable when it returns.
    ///
    /// # Errors
    /// When it could not be written. Nothing must be removed by a schedule then.
    pub async fn record_schedule_progress(&self, handled: &BTreeMap<String, Timestamp>) -> Result<(), StateError> {
        let doing = "remember when the schedules were looked after";
        let fault = |error: sqlx::Error| self.sqlx_error(doing, &error);
        let mut write = self.write_durably().await?;
        sqlx::query("DELETE FROM schedules").execute(&mut *write.transaction).await.map_err(fault)?;
        for (schedule, until) in handled {
            sqlx::query("INSERT INTO schedules (schedule, handled_until) VALUES (?1, ?2)")
                .bind(schedule)
                .bind(format_time(*until))
                .execute(&mut *write.transaction)
                .await
                .map_err(fault)?;
        }
        write.commit(doing).await
    }
}

impl WriteTransaction<'_> {
    pub(super) async fn insert_run_context(&mut self, run: Uuid, run_context: &RunContext) -> Result<(), sqlx::Error> {
        let RunContext { revision, commit, enforced_policies: due, blocked_by, override_reason: despite } = run_context;
        sqlx::query(
            "INSERT INTO circumstances (run, revision, git_commit, due, held_back, despite)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(run.to_string())
        .bind(revision)
        .bind(commit)
        .bind(due)
        .bind(blocked_by)
        .bind(despite)
        .execute(&mut *self.transaction)
        .await
        .map(drop)
    }
}
