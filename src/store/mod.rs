//! The state in SQLite: audit record, journal, observations and the cache of what never changes.
//!
//! Two connections write. One waits until the disk has what it wrote, for what must never be lost (runs, plans, the
//! journal, marks); the other does not, for what can be read again (cache, observations). A write of either kind is one
//! transaction that begins as a writer, so that it never fails half-way for want of the lock. Journal entries that
//! callers make at the same time share one.

mod addresses;
mod backup;
mod cache;
mod catalogues;
mod circumstances;
mod columns;
mod connection;
mod creation;
mod error;
mod experience;
mod file;
mod group;
mod holds;
mod interruptions;
mod journal;
mod lease;
mod log;
mod observations;
mod pack;
mod policies;
mod read_only;
mod refused;
mod restored;
mod room;
mod rosters;
mod rules;
mod runs;
mod sources;
mod tidy;
mod time;
mod untagged;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::mpsc;

use connection::{LastFault, Write};
use file::FileId;
use log::SeenLog;

pub use backup::Backup;
pub use catalogues::{DoubtedCatalogue, KnownCatalogue, Names};
pub use circumstances::Circumstances;
pub use error::{StoreError, StoreErrorKind};
pub use experience::{DeletionAnswer, Experience, REFUSAL_BELIEVED, UntagExperience};
pub use interruptions::InterruptionId;
pub use journal::{JournalCount, JournalEntry, JournalId, JournalOf};
pub use lease::Lease;
pub use observations::Look;
pub use pack::Unpacker;
pub use policies::RecordedPolicy;
pub use refused::MetRefusal;
pub use restored::Restoring;
pub use rosters::LastSeen;
pub use runs::{DoneCounts, NewRun, RunEnd, RunKind, RunRecord};
pub use sources::LastAnswer;
pub use tidy::{Forgotten, KeepSince};
pub use time::NewestTime;
pub use untagged::Told;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a write waits for the writers of other processes.
const BUSY: Duration = Duration::from_secs(15);

/// Up to this size the whole file is checked when it is opened; damage in larger ones shows when it is read.
const CHECKED_WHOLE: u64 = 32 << 20;

/// Bytes that the write-ahead log keeps on the disk once it was written into the file.
const LOG_KEEPS: &str = "16777216";

/// The state of one Tagwarden, open. Cheap to clone; all clones share its connections.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// The file that was opened.
    file: FileId,
    /// The path of its write-ahead log.
    log: PathBuf,
    seen_log: SeenLog,
    /// Opening it made it, and nobody was told yet.
    created: AtomicBool,
    faults: LastFault,
    /// Commits wait for the disk.
    durable: SqlitePool,
    /// Commits do not.
    relaxed: SqlitePool,
    readers: SqlitePool,
    /// Taken before either connection writes, because SQLite lets one write at a time and polls for its turn.
    writing: tokio::sync::Mutex<()>,
    pending: Mutex<cache::Pending>,
    /// To the task that writes the journal for all.
    journal: mpsc::Sender<group::Waiting>,
}

impl Store {
    /// Opens the state in that file, making it (readable for its owner alone) where there is none, and bringing its tables
    /// up to date where needed.
    ///
    /// # Errors
    /// When its folder is missing, it cannot be read or written, it is empty, damaged or something else's, or a newer
    /// Tagwarden wrote it. It is left as it is then.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, |options| options).await
    }

    async fn open_with(
        path: &Path,
        adjust: impl Fn(SqliteConnectOptions) -> SqliteConnectOptions,
    ) -> Result<Self, StoreError> {
        let created = creation::prepare(path).await?;
        let size = creation::length(path)?;
        let options = SqliteConnectOptions::new().filename(path).foreign_keys(true).busy_timeout(BUSY);
        examine(path, size, &options).await?;
        // A container may have no folder for what is sorted meanwhile.
        let options = adjust(
            options
                .journal_mode(SqliteJournalMode::Wal)
                .pragma("temp_store", "memory")
                .pragma("journal_size_limit", LOG_KEEPS),
        );
        let store = Self::assemble(path, &options, created)?;
        store.migrate().await?;
        store.verify_file()?;
        store.checkpoint().await;
        Ok(store)
    }

    /// Puts together what it takes to work with the file at that path. No connection is opened yet.
    fn assemble(path: &Path, options: &SqliteConnectOptions, created: bool) -> Result<Self, StoreError> {
        let file = FileId::at(path).map_err(|error| StoreError::of_io(path, "find it again", &error))?;
        // SQLite has its log beside the file itself, wherever a symlink to that is.
        let log = file::beside(&path.canonicalize().unwrap_or_else(|_| path.to_owned()), "-wal");
        let (faults, seen_log) = (LastFault::default(), SeenLog::default());
        let pool = |size, synchronous, seen_log: &SeenLog| {
            connection::pool(size, options.clone().synchronous(synchronous), &faults, seen_log)
        };
        let not_watched = SeenLog::default();
        Ok(Self(Arc::new_cyclic(|inner| Inner {
            path: path.to_owned(),
            file,
            log,
            seen_log: seen_log.clone(),
            created: AtomicBool::new(created),
            faults: faults.clone(),
            durable: pool(1, SqliteSynchronous::Full, &seen_log),
            relaxed: pool(1, SqliteSynchronous::Normal, &not_watched),
            readers: pool(4, SqliteSynchronous::Normal, &not_watched),
            writing: tokio::sync::Mutex::default(),
            pending: Mutex::default(),
            journal: group::start(inner.clone()),
        })))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Writes what the cache still holds in memory and closes all connections. Dropping the store instead loses at most
    /// a part of the cache.
    pub async fn close(self) {
        self.flush_cache().await;
        if self.is_harmed_by_closing().await {
            tracing::error!(state = %self.0.path.display(), "its write-ahead log is not the one that was written to, and is \
                left as it is");
            // Until the process ends, as if it were killed.
            std::mem::forget(self);
            return;
        }
        self.0.readers.close().await;
        self.0.relaxed.close().await;
        self.0.durable.close().await;
    }

    /// Says, once and only where removals may follow, that the state was made by opening it. It may have been deleted by
    /// accident, with everything that held removals back.
    pub fn announce_new(&self, removes: bool) {
        if self.0.created.swap(false, Ordering::Relaxed) && removes {
            tracing::warn!(
                state = %self.0.path.display(),
                "new state: holds, the journal and original times from before are not known"
            );
        }
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let connection = self.0.durable.acquire().await;
        let mut connection = connection.map_err(|error| self.fault("bring its tables up to date", &error))?;
        creation::migrate(&self.0.path, &mut connection).await
    }

    /// Begins a write that the disk has before it counts as done.
    async fn write_durably(&self) -> Result<Write<'_>, StoreError> {
        Write::begin(self, true).await
    }

    /// Begins a write that a power cut may undo.
    async fn write_relaxed(&self) -> Result<Write<'_>, StoreError> {
        Write::begin(self, false).await
    }

    /// Copies what the write-ahead log holds into the file, so that the file is never without content for long. A failure
    /// loses nothing: the log keeps what was not copied.
    async fn checkpoint(&self) {
        match self.copy_log().await {
            Ok(()) => {}
            // Whoever writes next says so.
            Err(error) if error.kind == StoreErrorKind::Replaced => {}
            Err(error) => {
                tracing::warn!(%error, kind = error.kind.label(), "the state's file lags behind its log");
            }
        }
    }

    /// Copies what the write-ahead log holds into the file, as far as no reader needs the log.
    async fn copy_log(&self) -> Result<(), StoreError> {
        let fault = |error: sqlx::Error| self.fault("copy the write-ahead log into it", &error);
        let _turn = self.0.writing.lock().await;
        self.verify_main_file()?;
        let mut connection = self.0.durable.acquire().await.map_err(fault)?;
        self.verify_log(&mut connection).await?;
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut *connection).await.map(drop).map_err(fault)
    }

    /// What SQLite said while something was done. No connection outlives it.
    fn fault(&self, doing: &str, error: &sqlx::Error) -> StoreError {
        let error = StoreError::of(&self.0.path, doing, error);
        if error.kind != StoreErrorKind::Rule {
            self.0.faults.note();
        }
        error
    }

    fn error(&self, kind: StoreErrorKind, what: impl std::fmt::Display) -> StoreError {
        StoreError::new(kind, &self.0.path, what)
    }

    /// Reads a stored text back; a text that does not read is damage.
    fn read<T: FromStr>(&self, text: &str) -> Result<T, StoreError>
    where
        T::Err: std::fmt::Display,
    {
        text.parse().map_err(|error| self.error(StoreErrorKind::Corrupt, format_args!("it holds `{text}`: {error}")))
    }
}

/// A time as it is stored: it sorts as text, and loses nothing.
fn stored(time: Timestamp) -> String {
    format!("{time:.9}")
}

/// Finds out whether the file is a sound database and ours. Changes nothing in it.
async fn examine(path: &Path, size: u64, options: &SqliteConnectOptions) -> Result<(), StoreError> {
    let fault = |error: sqlx::Error| StoreError::of(path, "read it", &error);
    let mut connection = options.connect().await.map_err(fault)?;
    if size > 0 && size <= CHECKED_WHOLE {
        let finding: String =
            sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut connection).await.map_err(fault)?;
        if finding != "ok" {
            let what = format_args!("it is damaged: {}", finding_of(&finding));
            return Err(StoreError::new(StoreErrorKind::Corrupt, path, what));
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
        return Err(creation::empty(path));
    }
    if ours < 2 {
        return Err(StoreError::new(StoreErrorKind::Open, path, "it is a database, but none of Tagwarden's"));
    }
    Ok(())
}

/// Returns the finding of a check of SQLite, without the heading that names the database.
fn finding_of(text: &str) -> &str {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or(text)
}

/// Options for a file that only its owner can read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(test)]
mod tests;
