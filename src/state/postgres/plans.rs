//! The plans of runs: chunks first, and the plan last, which makes them visible.

use std::io;

use async_trait::async_trait;
use uuid::Uuid;

use super::PostgresState;
use super::unit::Unit;
use crate::domain::Digest;
use crate::state::compression::compress;
use crate::state::plans::{
    ChunkRow, InfoRow, KEEP_PLAN, count, is_of_now, next_batch, read_head, repository_plans, select_chunks,
    select_repository_plans, unkept_plan,
};
use crate::state::row_reader::RowReader as _;
use crate::state::{PlanChunk, PlanChunkInfo, Plans, RepositoryPlan, StateError};

const READ: &str = "read a plan";
const FIND: &str = "look for a plan";

#[async_trait]
impl Plans for PostgresState {
    async fn save_plan(
        &self,
        run: Uuid,
        id: &str,
        head: &str,
        chunks: &mut (dyn Iterator<Item = io::Result<PlanChunk>> + Send),
    ) -> Result<(), StateError> {
        let run = run.to_string();
        let mut ordinal = 0;
        loop {
            // Made before the transaction begins: nobody waits for it.
            let (batch, is_last) = next_batch(chunks).map_err(|error| unkept_plan(self, error))?;
            let mut unit = self.write(KEEP_PLAN).await?;
            if ordinal == 0 {
                unit.forget_unfinished(&run).await?;
            }
            for chunk in batch {
                unit.insert_chunk(&run, ordinal, chunk).await?;
                ordinal += 1;
            }
            if is_last {
                unit.publish(&run, id, head).await?;
                unit.forget_older_kept(&run).await?;
            }
            unit.commit().await?;
            if is_last {
                return Ok(());
            }
        }
    }

    async fn plan_head(&self, run: Uuid) -> Result<Option<String>, StateError> {
        let query = sqlx::query_as("SELECT head FROM plans WHERE run = $1").bind(run.to_string());
        let packed: Option<(Vec<u8>,)> = self.row(READ, query).await?;
        packed.map(|(packed,)| read_head(self, run, &packed)).transpose()
    }

    async fn plan_chunks(&self, run: Uuid) -> Result<Vec<PlanChunkInfo>, StateError> {
        let query = sqlx::query_as(select_chunks!("$1", "", "ORDER BY plan_chunks.ordinal"));
        let rows: Vec<InfoRow> = self.rows(READ, query.bind(run.to_string())).await?;
        Ok(rows.into_iter().map(PlanChunkInfo::from).collect())
    }

    async fn plan_chunk(&self, run: Uuid, ordinal: u32) -> Result<Option<PlanChunk>, StateError> {
        let query = sqlx::query_as(select_chunks!(
            "$1",
            ", removals, kept_lists.bytes AS kept",
            "AND plan_chunks.ordinal = $2"
        ));
        let row: Option<ChunkRow> = self.row(READ, query.bind(run.to_string()).bind(i64::from(ordinal))).await?;
        Ok(row.map(PlanChunk::from))
    }

    async fn find_plan(&self, plan_id: &str) -> Result<Option<Uuid>, StateError> {
        let query =
            sqlx::query_as("SELECT run FROM plans JOIN runs ON id = run WHERE plan_id = $1 ORDER BY number LIMIT 1");
        let found: Option<(String,)> = self.row(FIND, query.bind(super::storable(plan_id))).await?;
        found.map(|(run,)| self.read(&run)).transpose()
    }

    async fn last_whole_plan(&self) -> Result<Option<Uuid>, StateError> {
        let query =
            sqlx::query_as("SELECT run FROM plans JOIN runs ON id = run WHERE whole ORDER BY number DESC LIMIT 1");
        let found: Option<(String,)> = self.row(FIND, query).await?;
        found.map(|(run,)| self.read(&run)).transpose()
    }

    async fn plans_of_repository(&self, registry: &str, repository: &str) -> Result<Vec<RepositoryPlan>, StateError> {
        let query = sqlx::query_as(select_repository_plans!("$1", "$2"))
            .bind(super::storable(registry))
            .bind(super::storable(repository));
        let rows = self.rows(FIND, query).await?;
        repository_plans(self, rows)
    }
}

impl Unit<'_> {
    /// Forgets the plan of a run, and chunks that runs left which failed or were killed before their plan was whole. One
    /// of the last few runs may still be writing.
    async fn forget_unfinished(&mut self, run: &str) -> Result<(), StateError> {
        self.execute(sqlx::query("DELETE FROM plans WHERE run = $1").bind(run)).await?;
        let statement = sqlx::query(
            "DELETE FROM plan_chunks WHERE run = $1 OR run IN (
                 SELECT id FROM runs WHERE NOT EXISTS (SELECT 1 FROM plans WHERE plans.run = runs.id)
                 AND (ended_at IS NOT NULL OR number < (SELECT number FROM runs AS this WHERE this.id = $1) - 16))",
        );
        self.execute(statement.bind(run)).await.map(drop)
    }

    async fn insert_chunk(&mut self, run: &str, ordinal: i64, chunk: PlanChunk) -> Result<(), StateError> {
        let statement = sqlx::query(
            "INSERT INTO plan_chunks (run, ordinal, registry, repository, expired, retained, protected, undecided,
                                      out_of_scope, reclaimable_bytes, shared_bytes, unknown_bytes_removals, hash, removals)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        );
        let statement = statement
            .bind(run)
            .bind(ordinal)
            .bind(chunk.registry)
            .bind(chunk.repository)
            .bind(count(chunk.counts.expired))
            .bind(count(chunk.counts.retained))
            .bind(count(chunk.counts.protected))
            .bind(count(chunk.counts.undecided))
            .bind(count(chunk.counts.out_of_scope))
            .bind(count(chunk.counts.reclaimable_bytes))
            .bind(count(chunk.counts.shared_bytes))
            .bind(count(chunk.counts.unknown_bytes_removals))
            .bind(chunk.hash)
            .bind(chunk.removals);
        self.execute(statement).await?;
        if chunk.kept.is_empty() {
            return Ok(());
        }
        let hash = Digest::of(&chunk.kept).hex();
        // The row is locked, so that nobody forgets the list before it is named below.
        let statement = sqlx::query(
            "INSERT INTO kept_lists (hash, bytes) VALUES ($1, $2) ON CONFLICT (hash) DO UPDATE SET hash = excluded.hash",
        );
        self.execute(statement.bind(&hash).bind(chunk.kept)).await?;
        let statement = sqlx::query("INSERT INTO plan_kept (run, ordinal, list) VALUES ($1, $2, $3)");
        self.execute(statement.bind(run).bind(ordinal).bind(&hash)).await.map(drop)
    }

    /// Makes a plan visible whose chunks are all there.
    async fn publish(&mut self, run: &str, id: &str, head: &str) -> Result<(), StateError> {
        let statement = sqlx::query(
            "INSERT INTO plans (run, plan_id, head, whole)
             VALUES ($1, $2, $3, $4 AND EXISTS (SELECT 1 FROM runs WHERE id = $1 AND kind IN ('plan', 'run')))",
        );
        let statement = statement.bind(run).bind(id).bind(compress(head.as_bytes())).bind(is_of_now(head));
        self.execute(statement).await.map(drop)
    }

    /// Forgets the lists of tags that stay, but for those of a run's plan, of the last plan of everything, and of plans
    /// that are still being written.
    async fn forget_older_kept(&mut self, run: &str) -> Result<(), StateError> {
        let statement = sqlx::query(
            "DELETE FROM plan_kept WHERE run <> $1 AND run IN (SELECT run FROM plans) AND run <> coalesce(
                 (SELECT run FROM plans JOIN runs ON id = run WHERE whole ORDER BY number DESC LIMIT 1), '')",
        );
        self.execute(statement.bind(run)).await?;
        let statement =
            "DELETE FROM kept_lists WHERE NOT EXISTS (SELECT 1 FROM plan_kept WHERE list = kept_lists.hash)";
        self.execute(sqlx::query(statement)).await.map(drop)
    }
}
