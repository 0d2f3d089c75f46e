//! Schedules, times, notifications, and the policies that runs went by.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::unit::Unit;
use super::{PostgresState, storable};
use crate::state::policies::{policy_list, recorded_policies};
use crate::state::row_reader::RowReader as _;
use crate::state::{
    Lease, NewestTime, Notifications, PolicyRecords, RecordedPolicy, RecordedTimes, Schedules, StateError, format_time,
};

impl PostgresState {
    /// Makes times by name of rows.
    fn times(&self, rows: Vec<(String, String)>) -> Result<BTreeMap<String, Timestamp>, StateError> {
        rows.into_iter().map(|(name, at)| Ok((name, self.read(&at)?))).collect()
    }
}

/// Two columns of names and times.
fn columns(times: &BTreeMap<String, Timestamp>) -> (Vec<String>, Vec<String>) {
    times.iter().map(|(name, at)| (storable(name).into_owned(), format_time(*at))).unzip()
}

#[async_trait]
impl Schedules for PostgresState {
    async fn schedule_progress(&self) -> Result<BTreeMap<String, Timestamp>, StateError> {
        let query = sqlx::query_as("SELECT schedule, processed_until FROM schedules");
        self.times(self.rows("read when the schedules were looked after", query).await?)
    }

    async fn record_schedule_progress(&self, handled: &BTreeMap<String, Timestamp>) -> Result<(), StateError> {
        let mut unit = self.write(RECORD_PROGRESS).await?;
        unit.replace_progress(handled).await?;
        unit.commit().await
    }

    async fn record_leased_progress(
        &self,
        lease: &Lease,
        handled: &BTreeMap<String, Timestamp>,
    ) -> Result<(), StateError> {
        let mut unit = self.write(RECORD_PROGRESS).await?;
        self.check_daemon_lease(&mut unit, lease).await?;
        unit.replace_progress(handled).await?;
        unit.commit().await
    }
}

const RECORD_PROGRESS: &str = "remember when the schedules were looked after";

impl Unit<'_> {
    async fn replace_progress(&mut self, handled: &BTreeMap<String, Timestamp>) -> Result<(), StateError> {
        let (names, times) = columns(handled);
        self.execute(sqlx::query("DELETE FROM schedules")).await?;
        let statement = sqlx::query(
            "INSERT INTO schedules (schedule, processed_until) SELECT * FROM unnest($1::text[], $2::text[])",
        );
        self.execute(statement.bind(names).bind(times)).await.map(drop)
    }
}

#[async_trait]
impl RecordedTimes for PostgresState {
    async fn newest_time(&self) -> Result<NewestTime, StateError> {
        let query = sqlx::query_as(
            "SELECT confirmed_at, (SELECT max(greatest(started_at, coalesce(ended_at, started_at))) FROM runs
                                   WHERE number > accepted_after)
             FROM clock",
        );
        let row: Option<(Option<String>, Option<String>)> = self.row("read the newest time", query).await?;
        let (confirmed, recorded) = row.unwrap_or_default();
        Ok(NewestTime {
            confirmed: self.read_optional(confirmed.as_deref())?,
            recorded: self.read_optional(recorded.as_deref())?,
        })
    }

    async fn confirm_time(&self, run: Uuid, at: Timestamp) -> Result<(), StateError> {
        let mut unit = self.write("record that the time was confirmed").await?;
        let statement = sqlx::query("UPDATE clock SET confirmed_at = greatest(confirmed_at, $1)");
        unit.execute(statement.bind(format_time(at))).await?;
        unit.execute(sqlx::query("UPDATE runs SET clock_confirmed = TRUE WHERE id = $1").bind(run.to_string())).await?;
        unit.commit().await
    }

    async fn accept_time(&self, now: Timestamp, by: &str, reason: &str) -> Result<(), StateError> {
        let statement = sqlx::query(
            "UPDATE clock SET confirmed_at = CASE WHEN confirmed_at > $1 THEN $1 ELSE confirmed_at END,
                accepted_after = (SELECT coalesce(max(number), 0) FROM runs),
                accepted_at = $1, accepted_by = $2, accepted_reason = $3",
        );
        let statement = statement.bind(format_time(now)).bind(storable(by)).bind(storable(reason));
        self.execute("record that the time is right", statement).await.map(drop)
    }
}

#[async_trait]
impl Notifications for PostgresState {
    async fn sent_notifications(&self, receiver: &str) -> Result<BTreeMap<String, Timestamp>, StateError> {
        let query = sqlx::query_as("SELECT problem, sent_at FROM notifications WHERE receiver = $1").bind(receiver);
        self.times(self.rows("read which notifications were sent", query).await?)
    }

    async fn record_sent_notifications(
        &self,
        receiver: &str,
        sent: &BTreeMap<String, Timestamp>,
    ) -> Result<(), StateError> {
        let (problems, times) = columns(sent);
        let mut unit = self.write_relaxed("record which notifications were sent").await?;
        unit.execute(sqlx::query("DELETE FROM notifications WHERE receiver = $1").bind(receiver)).await?;
        let statement = sqlx::query(
            "INSERT INTO notifications (receiver, problem, sent_at)
             SELECT $1, problem, sent_at FROM unnest($2::text[], $3::text[]) AS new (problem, sent_at)
             ON CONFLICT (receiver, problem) DO UPDATE SET sent_at = excluded.sent_at",
        );
        unit.execute(statement.bind(receiver).bind(problems).bind(times)).await?;
        unit.commit().await
    }
}

#[async_trait]
impl PolicyRecords for PostgresState {
    async fn record_policies(
        &self,
        revision: &str,
        policies: &[RecordedPolicy],
        texts: &BTreeMap<String, String>,
    ) -> Result<(), StateError> {
        let doing = "record the policies of a run";
        let known = sqlx::query_as("SELECT revision FROM policy_sets WHERE revision = $1").bind(revision);
        if self.row::<(String,)>(doing, known).await?.is_some() {
            return Ok(());
        }
        let list = policy_list(self, policies)?;
        let mut unit = self.write(doing).await?;
        let statement = "INSERT INTO policy_sets (revision, policies) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        unit.execute(sqlx::query(statement).bind(revision).bind(list)).await?;
        for (revision, text) in texts {
            let statement = "INSERT INTO policy_texts (revision, text) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            unit.execute(sqlx::query(statement).bind(revision).bind(storable(text))).await?;
        }
        unit.commit().await
    }

    async fn policies_of(&self, run: Uuid) -> Result<Vec<RecordedPolicy>, StateError> {
        let query = sqlx::query_as(
            "SELECT policies FROM policy_sets JOIN run_contexts USING (revision) WHERE run_contexts.run = $1",
        );
        let list: Option<(String,)> = self.row("read the policies of a run", query.bind(run.to_string())).await?;
        recorded_policies(self, run, list.map(|(list,)| list))
    }

    async fn policy_text(&self, revision: &str) -> Result<Option<String>, StateError> {
        let query = sqlx::query_as("SELECT text FROM policy_texts WHERE revision = $1").bind(revision);
        let text: Option<(String,)> = self.row("read the text of a policy file", query).await?;
        Ok(text.map(|(text,)| text))
    }
}
