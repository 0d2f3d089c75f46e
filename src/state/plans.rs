//! The plans of runs: a head, and chunks by repository that are compressed independently.
//!
//! Chunks are written first and the plan's row last, which makes them visible: a process that is killed leaves no half
//! plan. Retained tags are most of a plan, and those of old plans are not needed. So the last full plan keeps their
//! list and older ones keep the counts, and lists that are unchanged from one plan to the next are not written again.

use std::io;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::compression::{compress, decompress};
use super::row_reader::RowReader;
use super::{SqliteState, StateError, StateErrorKind};
use crate::domain::Digest;

/// Most tags in one chunk. A repository with more has several chunks, one after the other.
pub const MAX_CHUNK_TAGS: usize = 2_000;

/// Minimum bytes of one transaction, if there are as many: other writes come in between.
const TRANSACTION_BYTES: usize = 4 << 20;

/// Tags of one chunk of a plan by verdict, and the bytes of its removals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChunkCounts {
    /// Expired tags.
    pub expired: u64,
    /// Tags that a keep rule keeps.
    pub retained: u64,
    /// Tags that a claim, a lock, an index or a referrer protects.
    pub protected: u64,
    /// Tags with missing information.
    pub undecided: u64,
    /// Tags that no policy selects.
    pub out_of_scope: u64,
    /// Bytes needed only by removed images.
    pub reclaimable_bytes: u64,
    /// Bytes of removed images that remain because a retained manifest needs them too.
    pub shared_bytes: u64,
    /// Removals whose bytes cannot be known.
    pub unknown_bytes_removals: u64,
}

/// One repository's part of a plan, or a piece of that if it has more than [`MAX_CHUNK_TAGS`] tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanChunk {
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The counts of its tags.
    pub counts: ChunkCounts,
    /// SHA-256 in hex over the hashes of the two JSON arrays, see [`PlanChunk::hash_of`].
    pub hash: String,
    /// The views of the removals, as a compressed JSON array; empty if there are none.
    pub removals: Vec<u8>,
    /// The views of the retained tags, as a compressed JSON array; empty if there are none or they are no longer
    /// stored.
    pub kept: Vec<u8>,
}

/// A chunk of a plan without its views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanChunkInfo {
    /// Its position in the plan, from zero.
    pub ordinal: u32,
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The counts of its tags.
    pub counts: ChunkCounts,
    /// As [`PlanChunk::hash`].
    pub hash: String,
    /// False if it has retained tags whose views are no longer stored.
    pub has_kept: bool,
}

/// A full plan that is still stored, with its chunks of one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryPlan {
    /// Its run.
    pub run: Uuid,
    /// The start of that run.
    pub started_at: Timestamp,
    /// The ordinals of the repository's chunks that have removals, or retained tags whose views are still stored.
    pub chunks: Vec<u32>,
}

/// The plans of runs.
#[async_trait]
pub trait Plans: Send + Sync {
    /// Stores the plan that a run made or applies, replacing one that it has already. `head` is the plan's JSON with
    /// its two long lists empty, and `chunks` are in the plan's order. The plan can be read once all of it is durable,
    /// when this returns; older plans lose their lists of retained tags, except for the last full plan.
    ///
    /// # Errors
    /// Returns an error if a chunk cannot be made or something cannot be written. The run has no plan then.
    async fn save_plan(
        &self,
        run: Uuid,
        id: &str,
        head: &str,
        chunks: &mut (dyn Iterator<Item = io::Result<PlanChunk>> + Send),
    ) -> Result<(), StateError>;

    /// Returns the plan of a run as JSON with its two long lists empty, if it is still stored.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    async fn plan_head(&self, run: Uuid) -> Result<Option<String>, StateError>;

    /// Returns the chunks of a run's plan in order, without their views; empty if it has no plan.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn plan_chunks(&self, run: Uuid) -> Result<Vec<PlanChunkInfo>, StateError>;

    /// Returns one chunk of a run's plan.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    async fn plan_chunk(&self, run: Uuid, ordinal: u32) -> Result<Option<PlanChunk>, StateError>;

    /// Returns the first run that stored the plan with that id.
    ///
    /// # Errors
    /// Returns an error if the plans cannot be read.
    async fn find_plan(&self, plan_id: &str) -> Result<Option<Uuid>, StateError>;

    /// Returns the last run with a full plan, as of its own time, that is still stored.
    ///
    /// # Errors
    /// Returns an error if the plans cannot be read.
    async fn last_whole_plan(&self) -> Result<Option<Uuid>, StateError>;

    /// Returns all full plans, as of their own time, that are still stored, the oldest first, with their chunks of one
    /// repository.
    ///
    /// # Errors
    /// Returns an error if the plans cannot be read.
    async fn plans_of_repository(&self, registry: &str, repository: &str) -> Result<Vec<RepositoryPlan>, StateError>;
}

/// The part of a head that tells a plan of everything, as of its own time.
#[derive(Deserialize)]
struct HeadScope {
    hypothetical: bool,
    narrowed: Option<serde::de::IgnoredAny>,
}

/// The columns of a chunk without its views.
#[derive(sqlx::FromRow)]
pub(super) struct InfoRow {
    ordinal: i64,
    registry: String,
    repository: String,
    expired: i64,
    retained: i64,
    protected: i64,
    undecided: i64,
    out_of_scope: i64,
    reclaimable_bytes: i64,
    shared_bytes: i64,
    unknown_bytes_removals: i64,
    hash: String,
    has_kept: bool,
}

/// The columns of a chunk with its views.
#[derive(sqlx::FromRow)]
pub(super) struct ChunkRow {
    #[sqlx(flatten)]
    info: InfoRow,
    removals: Vec<u8>,
    kept: Option<Vec<u8>>,
}

/// A query for chunks of a plan that is visible, with the columns of [`InfoRow`] and more. `$run` stands for the run.
macro_rules! select_chunks {
    ($run:literal, $more:literal, $rest:literal) => {
        concat!(
            "SELECT plan_chunks.ordinal, registry, repository, expired, retained, protected, undecided, out_of_scope, ",
            "reclaimable_bytes, shared_bytes, unknown_bytes_removals, plan_chunks.hash, ",
            "list IS NOT NULL OR retained + protected + undecided + out_of_scope = 0 AS has_kept",
            $more,
            " FROM plan_chunks
              LEFT JOIN plan_kept ON plan_kept.run = plan_chunks.run AND plan_kept.ordinal = plan_chunks.ordinal
              LEFT JOIN kept_lists ON kept_lists.hash = plan_kept.list
              WHERE plan_chunks.run = ",
            $run,
            " AND EXISTS (SELECT 1 FROM plans WHERE plans.run = ",
            $run,
            ") ",
            $rest
        )
    };
}
pub(super) use select_chunks;

/// A query for the full plans with their chunks of one repository, as [`repository_plans`] reads them. The names stand
/// for the registry and the repository. Chunks with removals are found by an index of their own. Lists of retained tags
/// are those of very few plans, so these are read first (`CROSS JOIN` says so to `SQLite`).
macro_rules! select_repository_plans {
    ($registry:literal, $repository:literal) => {
        concat!(
            "SELECT plans.run, runs.started_at, found.ordinal
             FROM plans JOIN runs ON runs.id = plans.run
             LEFT JOIN (
                 SELECT run, ordinal FROM plan_chunks WHERE expired > 0 AND registry = ",
            $registry,
            " AND repository = ",
            $repository,
            " UNION SELECT plan_kept.run, plan_kept.ordinal FROM plan_kept CROSS JOIN plan_chunks
                 WHERE plan_chunks.run = plan_kept.run AND plan_chunks.ordinal = plan_kept.ordinal AND registry = ",
            $registry,
            " AND repository = ",
            $repository,
            ") AS found ON found.run = plans.run
             WHERE plans.whole AND plans.head IS NOT NULL ORDER BY runs.number, found.ordinal"
        )
    };
}
pub(super) use select_repository_plans;

impl ChunkCounts {
    /// Returns the number of retained tags.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.retained + self.protected + self.undecided + self.out_of_scope
    }

    /// Counts a retained tag, by the label of its verdict.
    pub fn add_kept(&mut self, verdict: &str) {
        let count = match verdict {
            "retained" => &mut self.retained,
            "protected" => &mut self.protected,
            "undecided" => &mut self.undecided,
            _ => &mut self.out_of_scope,
        };
        *count += 1;
    }
}

impl PlanChunk {
    /// Creates a chunk of these two JSON arrays.
    #[must_use]
    pub fn new(registry: String, repository: String, counts: ChunkCounts, removals: &[u8], kept: &[u8]) -> Self {
        let list = |json: &[u8]| if json == b"[]" { Vec::new() } else { compress(json) };
        let hash = Self::hash_of(&Digest::of(removals), &Digest::of(kept));
        Self { registry, repository, counts, hash, removals: list(removals), kept: list(kept) }
    }

    /// Returns the hash of a chunk from those of its JSON arrays: of the removals, and of the retained tags.
    #[must_use]
    pub fn hash_of(removals: &Digest, kept: &Digest) -> String {
        Digest::of(format!("{removals}\n{kept}").as_bytes()).hex()
    }

    /// Returns the JSON array in one of its compressed lists.
    ///
    /// # Errors
    /// Returns an error if it is damaged.
    pub fn json(list: &[u8]) -> io::Result<Vec<u8>> {
        if list.is_empty() { Ok(b"[]".to_vec()) } else { decompress(list) }
    }
}

impl From<InfoRow> for PlanChunkInfo {
    fn from(row: InfoRow) -> Self {
        let counts = ChunkCounts {
            expired: row.expired.unsigned_abs(),
            retained: row.retained.unsigned_abs(),
            protected: row.protected.unsigned_abs(),
            undecided: row.undecided.unsigned_abs(),
            out_of_scope: row.out_of_scope.unsigned_abs(),
            reclaimable_bytes: row.reclaimable_bytes.unsigned_abs(),
            shared_bytes: row.shared_bytes.unsigned_abs(),
            unknown_bytes_removals: row.unknown_bytes_removals.unsigned_abs(),
        };
        Self {
            ordinal: row.ordinal.try_into().unwrap_or(u32::MAX),
            registry: row.registry,
            repository: row.repository,
            counts,
            hash: row.hash,
            has_kept: row.has_kept,
        }
    }
}

impl From<ChunkRow> for PlanChunk {
    fn from(ChunkRow { info, removals, kept }: ChunkRow) -> Self {
        let PlanChunkInfo { registry, repository, counts, hash, .. } = info.into();
        Self { registry, repository, counts, hash, removals, kept: kept.unwrap_or_default() }
    }
}

/// Reads the rows of [`select_repository_plans`]: run, its start, and the ordinal of a chunk, if the plan has any.
pub(super) fn repository_plans(
    reader: &impl RowReader,
    rows: Vec<(String, String, Option<i64>)>,
) -> Result<Vec<RepositoryPlan>, StateError> {
    let mut plans: Vec<RepositoryPlan> = Vec::new();
    for (run, started_at, ordinal) in rows {
        let run: Uuid = reader.read(&run)?;
        if plans.last().is_none_or(|last| last.run != run) {
            plans.push(RepositoryPlan { run, started_at: reader.read(&started_at)?, chunks: Vec::new() });
        }
        let ordinal = ordinal.and_then(|ordinal| u32::try_from(ordinal).ok());
        plans.last_mut().expect("one was added").chunks.extend(ordinal);
    }
    Ok(plans)
}

/// Reads a head that was stored.
pub(super) fn read_head(reader: &impl RowReader, run: Uuid, packed: &[u8]) -> Result<String, StateError> {
    let text = decompress(packed).and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
    text.map_err(|error| {
        reader.error(StateErrorKind::Corrupt, format_args!("the plan of run {run} is damaged")).caused_by(error)
    })
}

/// A plan that could not be kept because a chunk of it could not be made.
pub(super) fn unkept_plan(reader: &impl RowReader, error: io::Error) -> StateError {
    reader.error(StateErrorKind::Io, format_args!("cannot {KEEP_PLAN}")).caused_by(error)
}

/// The name of the write, as failures of it say.
pub(super) const KEEP_PLAN: &str = "keep a plan";

#[async_trait]
impl Plans for SqliteState {
    async fn save_plan(
        &self,
        run: Uuid,
        id: &str,
        head: &str,
        chunks: &mut (dyn Iterator<Item = io::Result<PlanChunk>> + Send),
    ) -> Result<(), StateError> {
        let fault = |error: sqlx::Error| self.sqlx_error(KEEP_PLAN, error);
        let run = run.to_string();
        let mut ordinal = 0;
        loop {
            // Made before the transaction begins: others write meanwhile.
            let (batch, is_last) = next_batch(chunks).map_err(|error| unkept_plan(self, error))?;
            let mut write = self.write_durably().await?;
            if ordinal == 0 {
                forget_unfinished(&mut write.transaction, &run).await.map_err(fault)?;
            }
            for chunk in batch {
                insert_chunk(&mut write.transaction, &run, ordinal, chunk).await.map_err(fault)?;
                ordinal += 1;
            }
            if is_last {
                publish(&mut write.transaction, &run, id, head).await.map_err(fault)?;
                forget_older_kept(&mut write.transaction, &run).await.map_err(fault)?;
            }
            write.commit(KEEP_PLAN).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    async fn plan_head(&self, run: Uuid) -> Result<Option<String>, StateError> {
        let packed: Option<Vec<u8>> = sqlx::query_scalar("SELECT head FROM plans WHERE run = ?1 AND head IS NOT NULL")
            .bind(run.to_string())
            .fetch_optional(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error("read a plan", error))?;
        let Some(packed) = packed else { return Ok(None) };
        read_head(self, run, &packed).map(Some)
    }

    async fn plan_chunks(&self, run: Uuid) -> Result<Vec<PlanChunkInfo>, StateError> {
        let rows: Vec<InfoRow> = sqlx::query_as(select_chunks!("?1", "", "ORDER BY plan_chunks.ordinal"))
            .bind(run.to_string())
            .fetch_all(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error("read a plan", error))?;
        Ok(rows.into_iter().map(PlanChunkInfo::from).collect())
    }

    async fn plan_chunk(&self, run: Uuid, ordinal: u32) -> Result<Option<PlanChunk>, StateError> {
        let row: Option<ChunkRow> = sqlx::query_as(select_chunks!(
            "?1",
            ", removals, kept_lists.bytes AS kept",
            "AND plan_chunks.ordinal = ?2"
        ))
        .bind(run.to_string())
        .bind(ordinal)
        .fetch_optional(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error("read a plan", error))?;
        Ok(row.map(PlanChunk::from))
    }

    async fn find_plan(&self, plan_id: &str) -> Result<Option<Uuid>, StateError> {
        let found: Option<String> = sqlx::query_scalar(
            "SELECT run FROM plans JOIN runs ON id = run WHERE plan_id = ?1 ORDER BY number LIMIT 1",
        )
        .bind(plan_id)
        .fetch_optional(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error("look for a plan", error))?;
        found.map(|run| self.read(&run)).transpose()
    }

    async fn last_whole_plan(&self) -> Result<Option<Uuid>, StateError> {
        let found: Option<String> =
            sqlx::query_scalar("SELECT run FROM plans JOIN runs ON id = run WHERE whole ORDER BY number DESC LIMIT 1")
                .fetch_optional(&self.0.readers)
                .await
                .map_err(|error| self.sqlx_error("look for a plan", error))?;
        found.map(|run| self.read(&run)).transpose()
    }

    async fn plans_of_repository(&self, registry: &str, repository: &str) -> Result<Vec<RepositoryPlan>, StateError> {
        let rows = sqlx::query_as(select_repository_plans!("?1", "?2"))
            .bind(registry)
            .bind(repository)
            .fetch_all(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error("look for a plan", error))?;
        repository_plans(self, rows)
    }
}

/// Takes as many chunks as one transaction writes, and says whether these are the last.
pub(super) fn next_batch(
    chunks: &mut (dyn Iterator<Item = io::Result<PlanChunk>> + Send),
) -> io::Result<(Vec<PlanChunk>, bool)> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < TRANSACTION_BYTES {
        let Some(chunk) = chunks.next().transpose()? else { return Ok((batch, true)) };
        bytes += chunk.removals.len() + chunk.kept.len();
        batch.push(chunk);
    }
    Ok((batch, false))
}

/// Deletes the plan of a run, and chunks of runs that failed or were killed before their plan was complete. One of the
/// last few runs may still be writing.
async fn forget_unfinished(connection: &mut SqliteConnection, run: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM plans WHERE run = ?1").bind(run).execute(&mut *connection).await?;
    sqlx::query(
        "DELETE FROM plan_chunks WHERE run = ?1 OR run IN (
             SELECT id FROM runs WHERE NOT EXISTS (SELECT 1 FROM plans WHERE plans.run = runs.id)
             AND (ended_at IS NOT NULL OR number < (SELECT number FROM runs AS this WHERE this.id = ?1) - 16))",
    )
    .bind(run)
    .execute(&mut *connection)
    .await
    .map(drop)
}

pub(super) async fn insert_chunk(
    connection: &mut SqliteConnection,
    run: &str,
    ordinal: u32,
    chunk: PlanChunk,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO plan_chunks (run, ordinal, registry, repository, expired, retained, protected, undecided,
                                  out_of_scope, reclaimable_bytes, shared_bytes, unknown_bytes_removals, hash, removals)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )
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
    .bind(chunk.removals)
    .execute(&mut *connection)
    .await?;
    if chunk.kept.is_empty() {
        return Ok(());
    }
    let hash = Digest::of(&chunk.kept).hex();
    sqlx::query("INSERT INTO kept_lists (hash, bytes) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
        .bind(&hash)
        .bind(chunk.kept)
        .execute(&mut *connection)
        .await?;
    sqlx::query("INSERT INTO plan_kept (run, ordinal, list) VALUES (?1, ?2, ?3)")
        .bind(run)
        .bind(ordinal)
        .bind(&hash)
        .execute(&mut *connection)
        .await
        .map(drop)
}

/// A count as it is stored.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Makes a plan visible whose chunks are all there.
async fn publish(connection: &mut SqliteConnection, run: &str, id: &str, head: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO plans (run, plan_id, head, whole)
         VALUES (?1, ?2, ?3, ?4 AND EXISTS (SELECT 1 FROM runs WHERE id = ?1 AND kind IN ('plan', 'run')))",
    )
    .bind(run)
    .bind(id)
    .bind(compress(head.as_bytes()))
    .bind(is_of_now(head))
    .execute(&mut *connection)
    .await
    .map(drop)
}

/// Returns whether a head says that its plan is not narrowed, and was evaluated as of its own time.
pub(super) fn is_of_now(head: &str) -> bool {
    serde_json::from_str::<HeadScope>(head).is_ok_and(|head| !head.hypothetical && head.narrowed.is_none())
}

/// Deletes the lists of retained tags, except for those of a run's plan, of the last full plan, and of plans that are
/// still being written.
pub(super) async fn forget_older_kept(connection: &mut SqliteConnection, run: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM plan_kept WHERE run <> ?1 AND run IN (SELECT run FROM plans) AND run <> coalesce(
             (SELECT run FROM plans JOIN runs ON id = run WHERE whole ORDER BY number DESC LIMIT 1), '')",
    )
    .bind(run)
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM kept_lists WHERE NOT EXISTS (SELECT 1 FROM plan_kept WHERE list = kept_lists.hash)")
        .execute(&mut *connection)
        .await
        .map(drop)
}
