//! The state: audit record, journal, observations and the cache of immutable content. It contains all durable data.
//!
//! Callers have a [`StateStore`], which is independent of a database: its methods are those of the traits in `backend`,
//! `audit_record` and `registry_record`. [`SqliteState`] implements them.
//!
//! Two connections to SQLite write. One waits until the disk has its writes, for data that must never be lost (runs,
//! plans, the journal, marks); the other does not, for data that can be read again (cache, observations). A write of
//! either kind is one transaction that begins as a writer, so that it never fails half-way for lack of the lock.
//! Simultaneous journal entries share one.

mod audit_record;
mod backend;
mod backup;
mod cache;
mod catalogues;
mod columns;
mod compression;
mod connection;
mod creation;
mod disk_space;
mod error;
mod experience;
mod figures;
mod file;
mod free_manifests;
mod gc;
mod group_commit;
mod holds;
mod journal;
mod journal_group;
mod journal_rows;
mod lease;
mod location;
mod missing_manifests;
mod network_share;
mod notifications;
mod observation_tables;
mod observations;
mod packed_plans;
mod plan_splitter;
mod plans;
mod policies;
mod postgres;
mod read_only;
mod refused_tags;
mod registry_addresses;
mod registry_record;
mod restored_tags;
mod row_reader;
mod rule_history;
mod rule_revisions;
mod run_context;
mod runs;
mod sources;
mod stop_requests;
mod tag_lists;
mod time;
mod transfer;
mod untagged_manifests;
mod write_ahead_log;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};
use tempfile::TempDir;
use tokio::sync::mpsc;

use connection::{LastFailure, WriteTransaction};
use file::FileId;
use row_reader::RowReader;
use write_ahead_log::WatchedLog;

pub use crate::domain::LeaseToken;
pub use audit_record::{Holds, Journal, PolicyRecords, RestoredTags, RuleMatches, Runs, UntaggedManifests};
pub use backend::{
    Backend, Leases, Maintenance, Notifications, RecordedTimes, Schedules, StateStore, StopRequests, Storage,
};
pub use backup::Backup;
pub use catalogues::{CatalogueNames, KnownCatalogue, SuspectCatalogue};
pub use compression::{compress, compress_fast, decompress};
pub use error::{StateError, StateErrorKind};
pub use experience::{DeletionResponse, Experience, REFUSAL_TTL, UntagExperience};
pub use figures::{Figures, JournalMark, LeaseRecord, StateFigures};
pub use free_manifests::{EndedSeries, FormerTag, FreeManifestChanges};
pub use gc::{CachedContent, PruneCounts, RetentionCutoffs};
pub use journal::{JournalCount, JournalEntry, JournalId, JournalScope};
pub use lease::{Lease, LeaseScope, RegistryLease};
pub use location::{InvalidPostgresUrl, PostgresLocation, PostgresPassword, StateLocation};
pub use missing_manifests::{MissingManifest, MissingManifests};
pub use observations::{ObservationContext, RegistryObservation};
pub use plan_splitter::{PlanList, list_places};
pub use plans::{ChunkCounts, MAX_CHUNK_TAGS, PlanChunk, PlanChunkInfo, Plans, RepositoryPlan};
pub use policies::RecordedPolicy;
pub use postgres::PostgresState;
pub use refused_tags::RemovalRefusal;
pub use registry_record::{
    Catalogues, FreeManifests, ManifestCache, Observations, RefusedTags, RegistryAddresses, RegistryExperience,
    SourceHistory, TagLists,
};
pub use restored_tags::RestoreRecord;
pub use rule_revisions::{KnownRevision, RulePart, RuleRevision, RuleRevisions, Sighting};
pub use run_context::RunContext;
pub use runs::{JournalTotals, NewRun, RunEnd, RunKind, RunRecord};
pub use sources::SourceBaseline;
pub use stop_requests::StopRequestId;
pub use tag_lists::LastSeen;
pub use time::NewestTime;
pub use transfer::{StateCheck, StateCopy, TableSize};
pub use untagged_manifests::UntagRecord;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The time that a write waits for the writers of other processes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);

/// Up to this size the whole file is checked when it is opened; damage in larger ones is found when it is read.
const MAX_FULL_CHECK_BYTES: u64 = 32 << 20;

/// Bytes of the write-ahead log that stay allocated on the disk after a checkpoint.
const WAL_SIZE_LIMIT: &str = "16777216";

/// The warning about a state with which nothing was ever removed.
const NEW_STATE: &str = "new state: no run could remove anything with it yet; holds, the journal and original times from \
                         before it are not known";

/// The open state in one SQLite file. Cheap to clone; all clones share its connections.
#[derive(Debug, Clone)]
pub struct SqliteState(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// The same, as callers know it.
    location: StateLocation,
    /// The file that was opened.
    file: FileId,
    /// The path of its write-ahead log.
    log: PathBuf,
    watched_log: WatchedLog,
    /// True once this process warned that it is new.
    warned_as_new: AtomicBool,
    /// The folder of a temporary state, which is deleted with it.
    temporary: OnceLock<TempDir>,
    failures: LastFailure,
    /// The connection whose commits wait for the disk.
    durable: SqlitePool,
    /// The connection whose commits do not.
    relaxed: SqlitePool,
    readers: SqlitePool,
    /// Acquired before either connection writes, because SQLite allows one write at a time and polls for its turn.
    write_lock: tokio::sync::Mutex<()>,
    pending_cache: Mutex<cache::PendingContent>,
    /// The channel to the task that writes the journal for all.
    journal: mpsc::Sender<group_commit::QueuedEntry>,
}

impl SqliteState {
    /// Opens the state in that file, creating it (readable for its owner alone) if it does not exist, and migrating its
    /// tables if needed.
    ///
    /// # Errors
    /// Returns an error if its folder is missing, it cannot be read or written, it is empty, damaged or another kind of
    /// file, or a newer Tagwarden wrote it. It is left unchanged then.
    pub async fn open(path: &Path) -> Result<Self, StateError> {
        Self::open_with(path, |options| options).await
    }

    async fn open_with(
        path: &Path,
        adjust: impl Fn(SqliteConnectOptions) -> SqliteConnectOptions,
    ) -> Result<Self, StateError> {
        creation::ensure_file(path).await?;
        let size = creation::length(path)?;
        let options = SqliteConnectOptions::new().filename(path).foreign_keys(true).busy_timeout(BUSY_TIMEOUT);
        verify_database(path, size, &options).await?;
        // A container may have no folder for temporary files.
        let options = adjust(
            options
                .journal_mode(SqliteJournalMode::Wal)
                .pragma("temp_store", "memory")
                .pragma("journal_size_limit", WAL_SIZE_LIMIT),
        );
        let store = Self::assemble(path, &options)?;
        store.migrate().await?;
        store.verify_file()?;
        store.checkpoint().await;
        Ok(store)
    }

    /// Assembles the parts for the file at that path, without opening a connection.
    fn assemble(path: &Path, options: &SqliteConnectOptions) -> Result<Self, StateError> {
        let file = FileId::at(path).map_err(|error| StateError::from_io(path, "find it again", error))?;
        // SQLite has its log beside the file itself, wherever a symlink to that is.
        let log = file::sibling_path(&path.canonicalize().unwrap_or_else(|_| path.to_owned()), "-wal");
        let (faults, seen_log) = (LastFailure::default(), WatchedLog::default());
        let pool = |size, synchronous, seen_log: &WatchedLog| {
            connection::pool(size, options.clone().synchronous(synchronous), &faults, seen_log)
        };
        let not_watched = WatchedLog::default();
        Ok(Self(Arc::new_cyclic(|inner| Inner {
            path: path.to_owned(),
            location: path.into(),
            file,
            log,
            watched_log: seen_log.clone(),
            warned_as_new: AtomicBool::new(false),
            temporary: OnceLock::new(),
            failures: faults.clone(),
            durable: pool(1, SqliteSynchronous::Full, &seen_log),
            relaxed: pool(1, SqliteSynchronous::Normal, &not_watched),
            readers: pool(4, SqliteSynchronous::Normal, &not_watched),
            write_lock: tokio::sync::Mutex::default(),
            pending_cache: Mutex::default(),
            journal: {
                let inner = inner.clone();
                group_commit::spawn_writer(move || inner.upgrade().map(SqliteState))
            },
        })))
    }

    async fn migrate(&self) -> Result<(), StateError> {
        let connection = self.0.durable.acquire().await;
        let mut connection = connection.map_err(|error| self.sqlx_error("bring its tables up to date", error))?;
        creation::migrate(&self.0.path, &mut connection).await
    }

    /// Begins a write that is on the disk before it counts as done.
    async fn write_durably(&self) -> Result<WriteTransaction<'_>, StateError> {
        WriteTransaction::begin(self, true).await
    }

    /// Begins a write that a power cut may undo.
    async fn write_relaxed(&self) -> Result<WriteTransaction<'_>, StateError> {
        WriteTransaction::begin(self, false).await
    }

    /// Copies the write-ahead log into the file, so that the file is never without content for long. A failure loses
    /// nothing: the log keeps what was not copied.
    async fn checkpoint(&self) {
        match self.copy_wal().await {
            Ok(()) => {}
            // The next write reports it.
            Err(error) if error.kind == StateErrorKind::Replaced => {}
            Err(error) => {
                tracing::warn!(error = %error.chain(), kind = error.kind.label(), "the state's file lags behind its log");
            }
        }
    }

    /// Copies the write-ahead log into the file, as far as no reader needs the log.
    async fn copy_wal(&self) -> Result<(), StateError> {
        let fault = |error: sqlx::Error| self.sqlx_error("copy the write-ahead log into it", error);
        let _turn = self.0.write_lock.lock().await;
        self.verify_main_file()?;
        let mut connection = self.0.durable.acquire().await.map_err(fault)?;
        self.verify_log(&mut connection).await?;
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut *connection).await.map(drop).map_err(fault)
    }

    /// Converts an error of SQLite during an operation. No connection is reused after it.
    fn sqlx_error(&self, doing: &str, error: sqlx::Error) -> StateError {
        let error = StateError::from_sqlx(&self.0.path, doing, error);
        if error.kind != StateErrorKind::Constraint {
            self.0.failures.note();
        }
        error
    }

    fn error(&self, kind: StateErrorKind, what: impl std::fmt::Display) -> StateError {
        StateError::about(kind, &self.0.path, what)
    }

    /// Parses a stored text; an invalid one is damage.
    fn read<T: FromStr>(&self, text: &str) -> Result<T, StateError>
    where
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        RowReader::read(self, text)
    }
}

impl RowReader for SqliteState {
    fn error(&self, kind: StateErrorKind, what: impl std::fmt::Display) -> StateError {
        StateError::about(kind, &self.0.path, what)
    }
}

/// Formats a time for storage: sortable as text, and lossless.
fn format_time(time: Timestamp) -> String {
    format!("{time:.9}")
}

/// Verifies that the file is a sound database and a Tagwarden state. Changes nothing in it.
async fn verify_database(path: &Path, size: u64, options: &SqliteConnectOptions) -> Result<(), StateError> {
    let fault = |error: sqlx::Error| StateError::from_sqlx(path, "read it", error);
    let mut connection = options.connect().await.map_err(fault)?;
    if size > 0 && size <= MAX_FULL_CHECK_BYTES {
        let finding: String =
            sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut connection).await.map_err(fault)?;
        if finding != "ok" {
            let what = format_args!("it is damaged: {}", check_message(&finding));
            return Err(StateError::about(StateErrorKind::Corrupt, path, what));
        }
    }
    let (tables, ours): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE name IN ('_sqlx_migrations', 'journaled_manifests'))
         FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(fault)?;
    connection.close().await.map_err(fault)?;
    if tables == 0 {
        return Err(creation::empty_file_error(path));
    }
    if ours < 2 {
        return Err(StateError::about(StateErrorKind::Open, path, "it is a database, but none of Tagwarden's"));
    }
    Ok(())
}

/// Returns the finding of a check of SQLite, without the heading that names the database.
fn check_message(text: &str) -> &str {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or(text)
}

/// Returns options for a file that only its owner can read.
fn owner_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(test)]
mod tests;
