//! The audit record of runs.

use std::collections::BTreeMap;

use async_trait::async_trait;
use uuid::Uuid;

use super::{PostgresState, storable};
use crate::state::row_reader::RowReader as _;
use crate::state::runs::{RunContextRow, RunRow, TotalsRow, journal_totals, only_run, select_runs};
use crate::state::{
    JournalTotals, NewRun, RunContext, RunEnd, RunRecord, Runs, StateError, StateErrorKind, format_time,
};

const READ: &str = "read the runs";

impl PostgresState {
    async fn run_records(&self, query: super::unit::RowQuery<'_, RunRow>) -> Result<Vec<RunRecord>, StateError> {
        self.rows(READ, query).await?.into_iter().map(|row| row.into_record(self)).collect()
    }
}

#[async_trait]
impl Runs for PostgresState {
    async fn begin_run(&self, run: &NewRun) -> Result<(), StateError> {
        self.begin_run_with_context(run, &RunContext::default()).await
    }

    async fn begin_run_with_context(&self, run: &NewRun, context: &RunContext) -> Result<(), StateError> {
        let mut unit = self.write("record a run").await?;
        let statement = sqlx::query(
            "INSERT INTO runs (id, kind, mode, started_at, started_by, version, approved_by, ticket)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        );
        let statement = statement
            .bind(run.id.to_string())
            .bind(run.kind.label())
            .bind(&run.mode)
            .bind(format_time(run.started_at))
            .bind(storable(&run.started_by))
            .bind(&run.version)
            .bind(run.approved_by.as_deref().map(storable))
            .bind(run.ticket.as_deref().map(storable));
        unit.execute(statement).await?;
        if *context != RunContext::default() {
            let RunContext { revision, commit, enforced_policies, blocked_by, override_reason, continues, signed_by } =
                context;
            let statement = sqlx::query(
                "INSERT INTO run_contexts (run, revision, git_commit, enforced_policies, blocked_by, override_reason,
                                           continues, signed_by)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            );
            let statement = statement
                .bind(run.id.to_string())
                .bind(revision)
                .bind(commit)
                .bind(enforced_policies)
                .bind(blocked_by.as_deref().map(storable))
                .bind(override_reason.as_deref().map(storable))
                .bind(continues.map(|run| run.to_string()))
                .bind(signed_by.as_deref().map(storable));
            unit.execute(statement).await?;
        }
        unit.commit().await
    }

    async fn finish_run(&self, run: Uuid, end: &RunEnd) -> Result<(), StateError> {
        let doing = "record the end of a run";
        let statement = sqlx::query(
            "UPDATE runs SET ended_at = $2, outcome = $3, exit_code = $4, summary = $5, error = $6 WHERE id = $1",
        );
        let statement = statement
            .bind(run.to_string())
            .bind(format_time(end.ended_at))
            .bind(&end.outcome)
            .bind(i64::from(end.exit_code))
            .bind(storable(&end.summary))
            .bind(end.error.as_deref().map(storable));
        if self.execute(doing, statement).await? == 0 {
            return Err(self.error(StateErrorKind::Missing, format_args!("cannot {doing}: it has no run {run}")));
        }
        Ok(())
    }

    async fn runs(&self, limit: u32) -> Result<Vec<RunRecord>, StateError> {
        let query = sqlx::query_as(select_runs!("ORDER BY number DESC LIMIT $1"));
        self.run_records(query.bind(i64::from(limit))).await
    }

    async fn runs_before(&self, before: Option<Uuid>, limit: u32) -> Result<Vec<RunRecord>, StateError> {
        let Some(before) = before else { return self.runs(limit).await };
        let query = sqlx::query_as(select_runs!(
            "WHERE number < (SELECT number FROM runs WHERE id = $1) ORDER BY number DESC LIMIT $2"
        ));
        self.run_records(query.bind(before.to_string()).bind(i64::from(limit))).await
    }

    async fn run(&self, id_prefix: &str) -> Result<Option<RunRecord>, StateError> {
        let prefix = storable(id_prefix.trim()).to_ascii_lowercase();
        let query = sqlx::query_as(select_runs!("WHERE starts_with(id, $1) ORDER BY id LIMIT 5"));
        only_run(self, &prefix, self.rows(READ, query.bind(&prefix)).await?)
    }

    async fn run_context(&self, run: Uuid) -> Result<RunContext, StateError> {
        let query = sqlx::query_as(
            "SELECT revision, git_commit, enforced_policies, blocked_by, override_reason, continues, signed_by
             FROM run_contexts WHERE run = $1",
        );
        let row: Option<RunContextRow> = self.row("read what a run went by", query.bind(run.to_string())).await?;
        row.unwrap_or_default().into_context(self)
    }

    async fn journal_totals(&self, runs: &[Uuid]) -> Result<BTreeMap<Uuid, JournalTotals>, StateError> {
        let ids: Vec<String> = runs.iter().map(Uuid::to_string).collect();
        // Putting something back is the purpose of a restore, and a repair in any other run.
        let query = sqlx::query_as(
            "SELECT run, count(*) FILTER (WHERE done AND action IN ('untag', 'delete-manifest')),
                    count(*) FILTER (WHERE done AND action = 'delete-untagged'),
                    count(*) FILTER (WHERE done AND puts_back),
                    count(*) FILTER (WHERE of_purpose AND outcome = 'skipped'),
                    count(*) FILTER (WHERE of_purpose AND outcome = 'failed')
             FROM (SELECT journal.run, action, journal.outcome, journal.outcome = 'done' AS done,
                          action IN ('restore', 'restore-manifest') AS puts_back,
                          (action IN ('restore', 'restore-manifest')) = (kind = 'restore') AS of_purpose
                   FROM journal JOIN runs ON runs.id = journal.run
                   WHERE journal.outcome IS NOT NULL AND journal.run = ANY($1)) AS settled
             GROUP BY run",
        );
        let rows: Vec<TotalsRow> = self.rows("count what was done in runs", query.bind(ids)).await?;
        journal_totals(self, rows)
    }

    async fn runs_applying(&self, plan_id: &str) -> Result<Vec<RunRecord>, StateError> {
        let query = sqlx::query_as(select_runs!("WHERE plan_id = $1 AND kind = 'apply' ORDER BY number"));
        self.run_records(query.bind(storable(plan_id))).await
    }

    async fn was_refused(&self, ticket: &str, error: &str) -> Result<bool, StateError> {
        let query = sqlx::query_as(
            "SELECT id FROM runs WHERE kind = 'apply' AND outcome = 'refused' AND ticket = $1 AND error = $2 LIMIT 1",
        );
        let query = query.bind(storable(ticket)).bind(storable(error));
        Ok(self.row::<(String,)>("look for refused plans", query).await?.is_some())
    }
}
