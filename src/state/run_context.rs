//! The context of a run besides its settings, and the time up to which each schedule was handled.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::{Lease, Schedules, SqliteState, StateError, WriteTransaction, format_time};

/// The context of a run besides its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunContext {
    /// The hash over all policy files.
    pub revision: Option<String>,
    /// The git commit of their folder, if it is a checkout.
    pub commit: Option<String>,
    /// The policies that can remove in it, by name, unless all can.
    pub enforced_policies: Option<String>,
    /// Why nothing is removed although settings and policies enforce, such as a freeze.
    pub blocked_by: Option<String>,
    /// A person's reason to override that.
    pub override_reason: Option<String>,
    /// The unfinished run whose plan this one goes on with.
    pub continues: Option<Uuid>,
    /// The signer whose signature of the applied plan was verified.
    pub signed_by: Option<String>,
}

#[async_trait]
impl Schedules for SqliteState {
    async fn schedule_progress(&self) -> Result<BTreeMap<String, Timestamp>, StateError> {
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT schedule, processed_until FROM schedules")
            .fetch_all(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error("read when the schedules were looked after", error))?;
        rows.into_iter().map(|(schedule, until)| Ok((schedule, self.read(&until)?))).collect()
    }

    async fn record_schedule_progress(&self, handled: &BTreeMap<String, Timestamp>) -> Result<(), StateError> {
        let doing = "remember when the schedules were looked after";
        let fault = |error: sqlx::Error| self.sqlx_error(doing, error);
        let mut write = self.write_durably().await?;
        sqlx::query("DELETE FROM schedules").execute(&mut *write.transaction).await.map_err(fault)?;
        for (schedule, until) in handled {
            sqlx::query("INSERT INTO schedules (schedule, processed_until) VALUES (?1, ?2)")
                .bind(schedule)
                .bind(format_time(*until))
                .execute(&mut *write.transaction)
                .await
                .map_err(fault)?;
        }
        write.commit(doing).await
    }

    async fn record_leased_progress(
        &self,
        _lease: &Lease,
        handled: &BTreeMap<String, Timestamp>,
    ) -> Result<(), StateError> {
        // The kernel gives the lock to nobody else while this process is alive.
        self.record_schedule_progress(handled).await
    }
}

impl WriteTransaction<'_> {
    pub(super) async fn insert_run_context(&mut self, run: Uuid, run_context: &RunContext) -> Result<(), sqlx::Error> {
        let RunContext { revision, commit, enforced_policies, blocked_by, override_reason, continues, signed_by } =
            run_context;
        sqlx::query(
            "INSERT INTO run_contexts (run, revision, git_commit, enforced_policies, blocked_by, override_reason, continues,
                                       signed_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .bind(run.to_string())
        .bind(revision)
        .bind(commit)
        .bind(enforced_policies)
        .bind(blocked_by)
        .bind(override_reason)
        .bind(continues.map(|run| run.to_string()))
        .bind(signed_by)
        .execute(&mut *self.transaction)
        .await
        .map(drop)
    }
}
