//! The audit record of runs.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::observations;
use super::row_reader::RowReader;
use super::{RunContext, Runs, SqliteState, StateError, StateErrorKind, format_time};

/// A run that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// A `UUIDv7`, so that ids are ordered by time.
    pub id: Uuid,
    /// Its command.
    pub kind: RunKind,
    /// The mode in force, as the settings write it.
    pub mode: String,
    /// Time of its start.
    pub started_at: Timestamp,
    /// The user who started it: `user@host`.
    pub started_by: String,
    /// The version of Tagwarden.
    pub version: String,
    /// The approver of the plan, if stated.
    pub approved_by: Option<String>,
    /// The change ticket, if given.
    pub ticket: Option<String>,
}

/// The commands that leave an audit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// A dry run.
    Plan,
    /// A complete run.
    Run,
    /// An approved plan is applied.
    Apply,
    /// A restore of tags.
    Restore,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// Time of the end.
    pub ended_at: Timestamp,
    /// A short label, such as `planned`, `applied`, `refused`.
    pub outcome: String,
    /// Its exit code.
    pub exit_code: u8,
    /// Counts and sums, as JSON text.
    pub summary: String,
    /// The error, if any.
    pub error: Option<String>,
}

/// A run as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// The facts at its start.
    pub run: NewRun,
    /// The plan that it made or applied, if it got that far.
    pub plan_id: Option<String>,
    /// The signer whose signature of the applied plan was verified.
    pub signed_by: Option<String>,
    /// Its end; `None` if it is still running or was killed.
    pub end: Option<RunEnd>,
}

/// The counts of a run, by its journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalTotals {
    /// Tags that were removed.
    pub removed: u64,
    /// Manifests that were deleted after they had been untagged.
    pub deleted: u64,
    /// Restored tags and manifests.
    pub restored: u64,
    /// Skipped tags and manifests of a restore; of other runs, skipped removals and deletions.
    pub skipped: u64,
    /// The same that failed.
    pub failed: u64,
}

impl RunKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Plan, Self::Run, Self::Apply, Self::Restore];

    /// Returns the label used in the record and in reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Run => "run",
            Self::Apply => "apply",
            Self::Restore => "restore",
        }
    }

    fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }
}

/// A query in both databases for the existence of a run that was allowed to remove.
pub(super) const HAS_RUN_THAT_MAY_REMOVE: &str =
    "SELECT EXISTS (SELECT 1 FROM runs WHERE kind = 'apply' OR (kind = 'run' AND mode = 'enforce'))";

/// A query for runs, with the columns of [`RunRow`].
macro_rules! select_runs {
    ($rest:literal) => {
        concat!(
            "SELECT id, kind, mode, started_at, started_by, version, approved_by, ticket, plan_id, ended_at, outcome, ",
            "exit_code, summary, error, signed_by FROM runs LEFT JOIN plans ON plans.run = runs.id ",
            "LEFT JOIN run_contexts ON run_contexts.run = runs.id ",
            $rest
        )
    };
}

pub(super) use select_runs;

/// A run as it is stored.
#[derive(sqlx::FromRow)]
pub(super) struct RunRow {
    id: String,
    kind: String,
    mode: String,
    started_at: String,
    started_by: String,
    version: String,
    approved_by: Option<String>,
    ticket: Option<String>,
    plan_id: Option<String>,
    ended_at: Option<String>,
    outcome: Option<String>,
    exit_code: Option<i64>,
    summary: Option<String>,
    error: Option<String>,
    signed_by: Option<String>,
}

#[async_trait]
impl Runs for SqliteState {
    async fn begin_run(&self, run: &NewRun) -> Result<(), StateError> {
        self.begin_run_with_context(run, &RunContext::default()).await
    }

    async fn begin_run_with_context(&self, run: &NewRun, run_context: &RunContext) -> Result<(), StateError> {
        let doing = "record the beginning of a run";
        let mut write = self.write_durably().await?;
        sqlx::query(
            "INSERT INTO runs (id, kind, mode, started_at, started_by, version, approved_by, ticket, number)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, (SELECT coalesce(max(number), 0) + 1 FROM runs))",
        )
        .bind(run.id.to_string())
        .bind(run.kind.label())
        .bind(&run.mode)
        .bind(format_time(run.started_at))
        .bind(&run.started_by)
        .bind(&run.version)
        .bind(&run.approved_by)
        .bind(&run.ticket)
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(doing, error))?;
        if *run_context != RunContext::default() {
            write.insert_run_context(run.id, run_context).await.map_err(|error| self.sqlx_error(doing, error))?;
        }
        write.commit(doing).await
    }

    async fn finish_run(&self, run: Uuid, end: &RunEnd) -> Result<(), StateError> {
        let doing = "record the end of a run";
        let mut write = self.write_durably().await?;
        let done = sqlx::query(
            "UPDATE runs SET ended_at = ?2, outcome = ?3, exit_code = ?4, summary = ?5, error = ?6 WHERE id = ?1",
        )
        .bind(run.to_string())
        .bind(format_time(end.ended_at))
        .bind(&end.outcome)
        .bind(end.exit_code)
        .bind(&end.summary)
        .bind(&end.error)
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(doing, error))?;
        if done.rows_affected() == 0 {
            return Err(self.error(StateErrorKind::Missing, format_args!("cannot {doing}: it has no run {run}")));
        }
        write.commit(doing).await?;
        self.checkpoint().await;
        Ok(())
    }

    async fn runs(&self, limit: u32) -> Result<Vec<RunRecord>, StateError> {
        let rows: Vec<RunRow> = sqlx::query_as(select_runs!("ORDER BY number DESC LIMIT ?1"))
            .bind(limit)
            .fetch_all(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error("read the runs", error))?;
        rows.into_iter().map(|row| row.into_record(self)).collect()
    }

    async fn runs_before(&self, before: Option<Uuid>, limit: u32) -> Result<Vec<RunRecord>, StateError> {
        let Some(before) = before else { return self.runs(limit).await };
        let rows: Vec<RunRow> = sqlx::query_as(select_runs!(
            "WHERE number < (SELECT number FROM runs WHERE id = ?1) ORDER BY number DESC LIMIT ?2"
        ))
        .bind(before.to_string())
        .bind(limit)
        .fetch_all(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error("read the runs", error))?;
        rows.into_iter().map(|row| row.into_record(self)).collect()
    }

    async fn journal_totals(&self, runs: &[Uuid]) -> Result<BTreeMap<Uuid, JournalTotals>, StateError> {
        let ids: Vec<String> = runs.iter().map(Uuid::to_string).collect();
        // Putting something back is the purpose of a restore, and a repair in any other run.
        let rows: Vec<TotalsRow> = sqlx::query_as(
            "SELECT run, count(*) FILTER (WHERE done AND action IN ('untag', 'delete-manifest')),
                    count(*) FILTER (WHERE done AND action = 'delete-untagged'),
                    count(*) FILTER (WHERE done AND puts_back),
                    count(*) FILTER (WHERE of_purpose AND outcome = 'skipped'),
                    count(*) FILTER (WHERE of_purpose AND outcome = 'failed')
             FROM (SELECT journal.run, action, journal.outcome, journal.outcome = 'done' AS done,
                          action IN ('restore', 'restore-manifest') AS puts_back,
                          (action IN ('restore', 'restore-manifest')) = (kind = 'restore') AS of_purpose
                   FROM journal JOIN runs ON runs.id = journal.run
                   WHERE journal.outcome IS NOT NULL AND journal.run IN (SELECT value FROM json_each(?1)))
             GROUP BY run",
        )
        .bind(observations::json(&ids))
        .fetch_all(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error("count what was done in runs", error))?;
        journal_totals(self, rows)
    }

    async fn run(&self, id_prefix: &str) -> Result<Option<RunRecord>, StateError> {
        let prefix = id_prefix.trim().to_ascii_lowercase();
        let rows: Vec<RunRow> =
            sqlx::query_as(select_runs!("WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT 5"))
                .bind(&prefix)
                .fetch_all(&self.0.readers)
                .await
                .map_err(|error| self.sqlx_error("read the runs", error))?;
        only_run(self, &prefix, rows)
    }

    async fn runs_applying(&self, plan_id: &str) -> Result<Vec<RunRecord>, StateError> {
        let rows: Vec<RunRow> = sqlx::query_as(select_runs!("WHERE plan_id = ?1 AND kind = 'apply' ORDER BY number"))
            .bind(plan_id)
            .fetch_all(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error("look for applications of a plan", error))?;
        rows.into_iter().map(|row| row.into_record(self)).collect()
    }

    async fn was_refused(&self, ticket: &str, error: &str) -> Result<bool, StateError> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM runs WHERE kind = 'apply' AND outcome = 'refused' AND ticket = ?1 AND error = ?2)",
        )
        .bind(ticket)
        .bind(error)
        .fetch_one(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error("look for refused plans", error))
    }

    async fn run_context(&self, run: Uuid) -> Result<RunContext, StateError> {
        let row: Option<RunContextRow> = sqlx::query_as(
            "SELECT revision, git_commit, enforced_policies, blocked_by, override_reason, continues, signed_by
             FROM run_contexts WHERE run = ?1",
        )
        .bind(run.to_string())
        .fetch_optional(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error("read what a run went by", error))?;
        row.unwrap_or_default().into_context(self)
    }
}

impl RunRow {
    /// Makes the record of a row.
    pub(super) fn into_record(self, reader: &impl RowReader) -> Result<RunRecord, StateError> {
        let kind = RunKind::from_label(&self.kind).ok_or_else(|| {
            reader.error(StateErrorKind::Corrupt, format_args!("it holds a run of kind `{}`", self.kind))
        })?;
        let end = match self.ended_at {
            None => None,
            Some(ended_at) => Some(RunEnd {
                ended_at: reader.read(&ended_at)?,
                outcome: self.outcome.unwrap_or_default(),
                exit_code: self.exit_code.and_then(|code| code.try_into().ok()).unwrap_or(1),
                summary: self.summary.unwrap_or_default(),
                error: self.error,
            }),
        };
        Ok(RunRecord {
            run: NewRun {
                id: reader.read(&self.id)?,
                kind,
                mode: self.mode,
                started_at: reader.read(&self.started_at)?,
                started_by: self.started_by,
                version: self.version,
                approved_by: self.approved_by,
                ticket: self.ticket,
            },
            plan_id: self.plan_id,
            signed_by: self.signed_by,
            end,
        })
    }
}

/// Makes the record of the one run whose id begins with `prefix`; an error where there are several.
pub(super) fn only_run(
    reader: &impl RowReader,
    prefix: &str,
    rows: Vec<RunRow>,
) -> Result<Option<RunRecord>, StateError> {
    if rows.len() > 1 {
        let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        let what = format_args!("more than one run begins with `{prefix}`: {}", ids.join(", "));
        return Err(reader.error(StateErrorKind::Ambiguous, what));
    }
    rows.into_iter().next().map(|row| row.into_record(reader)).transpose()
}

/// A run, and how much it removed, deleted, restored, skipped and failed to do.
pub(super) type TotalsRow = (String, i64, i64, i64, i64, i64);

/// Makes the counts of rows.
pub(super) fn journal_totals(
    reader: &impl RowReader,
    rows: Vec<TotalsRow>,
) -> Result<BTreeMap<Uuid, JournalTotals>, StateError> {
    let mut totals = BTreeMap::new();
    for (run, removed, deleted, restored, skipped, failed) in rows {
        let counts = [removed, deleted, restored, skipped, failed].map(i64::unsigned_abs);
        let [removed, deleted, restored, skipped, failed] = counts;
        totals.insert(reader.read::<Uuid>(&run)?, JournalTotals { removed, deleted, restored, skipped, failed });
    }
    Ok(totals)
}

/// The context of a run as it is stored.
#[derive(Default, sqlx::FromRow)]
pub(super) struct RunContextRow {
    revision: Option<String>,
    git_commit: Option<String>,
    enforced_policies: Option<String>,
    blocked_by: Option<String>,
    override_reason: Option<String>,
    continues: Option<String>,
    signed_by: Option<String>,
}

impl RunContextRow {
    /// Makes the context of a row.
    pub(super) fn into_context(self, reader: &impl RowReader) -> Result<RunContext, StateError> {
        Ok(RunContext {
            revision: self.revision,
            commit: self.git_commit,
            enforced_policies: self.enforced_policies,
            blocked_by: self.blocked_by,
            override_reason: self.override_reason,
            continues: self.continues.map(|run| reader.read(&run)).transpose()?,
            signed_by: self.signed_by,
        })
    }
}
