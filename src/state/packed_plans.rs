//! Migration of plans that older versions stored in one piece.

use std::borrow::Cow;
use std::io::{self, Read as _};
use std::mem;
use std::path::Path;

use serde::Deserialize;
use sqlx::{Connection as _, SqliteConnection};

use super::StateError;
use super::compression::{Decompressor, compress};
use super::plan_splitter::{PlanList, PlanSplitter};
use super::plans::{ChunkCounts, MAX_CHUNK_TAGS, PlanChunk, insert_chunk, is_of_now};
use crate::domain::chain;

/// Bytes that are decompressed at once.
const PIECE: usize = 64 << 10;

/// Why a plan is not migrated.
enum Failure {
    /// It is damaged, or in a format that this version does not know.
    Unreadable(io::Error),
    Sqlite(sqlx::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Splits plans that are stored in one piece into chunks, the newest first, one transaction each: after a kill it
/// continues at the next start. An unreadable one is dropped with a warning.
///
/// # Errors
/// Returns an error if the state cannot be read or written.
pub(super) async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), StateError> {
    let fault = |error: sqlx::Error| StateError::from_sqlx(path, "bring its plans up to date", error);
    loop {
        let next: Option<String> = sqlx::query_scalar(
            "SELECT id FROM runs WHERE id IN (SELECT run FROM plan_parts) ORDER BY number DESC LIMIT 1",
        )
        .fetch_optional(&mut *connection)
        .await
        .map_err(fault)?;
        let Some(run) = next else { return Ok(()) };
        match migrate_plan(connection, &run).await {
            Ok(()) => {}
            Err(Failure::Sqlite(error)) => return Err(fault(error)),
            Err(Failure::Unreadable(error)) => {
                let state = path.display();
                tracing::warn!(%state, %run, "its plan cannot be read and is dropped: {}", chain(&error));
                sqlx::query("DELETE FROM plans WHERE run = ?1 AND head IS NULL")
                    .bind(&run)
                    .execute(&mut *connection)
                    .await
                    .map_err(fault)?;
            }
        }
    }
}

async fn migrate_plan(connection: &mut SqliteConnection, run: &str) -> Result<(), Failure> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let parts: Vec<Vec<u8>> = sqlx::query_scalar("SELECT bytes FROM plan_parts WHERE run = ?1 ORDER BY part")
        .bind(run)
        .fetch_all(&mut *transaction)
        .await?;
    if parts.is_empty() {
        // Another process was faster.
        return Ok(());
    }
    // The newest full plan comes first, and older ones are stored without retained tags.
    let keeps: bool =
        sqlx::query_scalar("SELECT NOT EXISTS (SELECT 1 FROM plans WHERE whole)").fetch_one(&mut *transaction).await?;
    let (mut reader, mut splitter) = (Decompressor::new(parts.concat()), PlanSplitter::default());
    drop(parts);
    let (mut head, mut chunks, mut room) = (Vec::new(), Chunks::default(), vec![0; PIECE]);
    let mut ordinal = 0;
    loop {
        let read = reader.read(&mut room)?;
        if read == 0 {
            chunks.finish();
        } else {
            splitter.feed(&room[..read], &mut head, &mut |list, tag: &[u8]| chunks.add(list, tag))?;
        }
        for chunk in mem::take(&mut chunks.ready) {
            let kept = if keeps { chunk.kept } else { Vec::new() };
            insert_chunk(&mut transaction, run, ordinal, PlanChunk { kept, ..chunk }).await?;
            ordinal += 1;
        }
        if read == 0 {
            break;
        }
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    serde_json::from_str::<serde::de::IgnoredAny>(&head).map_err(io::Error::from)?;
    sqlx::query(
        "UPDATE plans SET head = ?2,
             whole = ?3 AND EXISTS (SELECT 1 FROM runs WHERE id = ?1 AND kind IN ('plan', 'run')) WHERE run = ?1",
    )
    .bind(run)
    .bind(compress(head.as_bytes()))
    .bind(is_of_now(&head))
    .execute(&mut *transaction)
    .await?;
    sqlx::query("DELETE FROM plan_parts WHERE run = ?1").bind(run).execute(&mut *transaction).await?;
    transaction.commit().await.map_err(Failure::from)
}

/// The chunks being built, from tags in the order of a plan.
#[derive(Default)]
struct Chunks {
    /// The list, the registry and the repository of the tags below.
    of: Option<(PlanList, String, String)>,
    /// The JSON of tags, with a comma before each but the first.
    tags: Vec<u8>,
    number: usize,
    counts: ChunkCounts,
    ready: Vec<PlanChunk>,
}

/// The part of a tag for counting.
#[derive(Deserialize)]
struct TagHead<'a> {
    #[serde(borrow)]
    registry: Cow<'a, str>,
    #[serde(borrow)]
    repository: Cow<'a, str>,
    #[serde(borrow)]
    verdict: Option<Cow<'a, str>>,
    reclaimable_bytes: Option<u64>,
    shared_bytes: Option<u64>,
}

impl Chunks {
    fn add(&mut self, list: PlanList, tag: &[u8]) -> io::Result<()> {
        let head: TagHead<'_> = serde_json::from_slice(tag)?;
        let goes_on = self.of.as_ref().is_some_and(|(of, registry, repository)| {
            *of == list && *registry == head.registry && *repository == head.repository
        });
        if !goes_on || self.number == MAX_CHUNK_TAGS {
            self.finish();
            self.of = Some((list, head.registry.into_owned(), head.repository.into_owned()));
        }
        if self.number > 0 {
            self.tags.push(b',');
        }
        self.tags.extend_from_slice(tag);
        self.number += 1;
        match list {
            PlanList::Removals => {
                self.counts.expired += 1;
                self.counts.reclaimable_bytes += head.reclaimable_bytes.unwrap_or_default();
                self.counts.shared_bytes += head.shared_bytes.unwrap_or_default();
                self.counts.unknown_bytes_removals += u64::from(head.reclaimable_bytes.is_none());
            }
            PlanList::Kept => self.counts.add_kept(head.verdict.as_deref().unwrap_or_default()),
        }
        Ok(())
    }

    /// Completes a chunk of the tags so far.
    fn finish(&mut self) {
        let Some((list, registry, repository)) = self.of.take() else { return };
        let tags = [&b"["[..], &mem::take(&mut self.tags), b"]"].concat();
        let (removals, kept): (&[u8], &[u8]) = match list {
            PlanList::Removals => (&tags, b"[]"),
            PlanList::Kept => (b"[]", &tags),
        };
        self.number = 0;
        let counts = mem::take(&mut self.counts);
        self.ready.push(PlanChunk::new(registry, repository, counts, removals, kept));
    }
}
