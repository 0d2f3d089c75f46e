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
mod error;
mod experience;
mod file;
mod group;
mod holds;
mod interruptions;
mod journal;
mod lease;
mod observations;
mod pack;
mod policies;
mod refused;
mod restored;
mod rosters;
mod rules;
mod runs;
mod sources;
mod tidy;
mod time;
mod untagged;

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::mpsc;

use connection::{LastFault, Write};
use file::FileId;

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
pub use runs::{NewRun, RunEnd, RunKind, RunRecord};
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
    /// Opens the state in that file, creating the file (readable for its owner alone) and bringing its tables up to
    /// date where needed.
    ///
    /// # Errors
    /// When its folder is missing, it cannot be read or written, it is damaged or something else's, or a newer
    /// Tagwarden wrote it. It is left as it is then.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, |options| options).await
    }

    async fn open_with(
        path: &Path,
        adjust: impl Fn(SqliteConnectOptions) -> SqliteConnectOptions,
    ) -> Result<Self, StoreError> {
        let size = prepare_file(path)?;
        let options = SqliteConnectOptions::new().filename(path).foreign_keys(true).busy_timeout(BUSY);
        examine(path, size, &options).await?;
        // A container may have no folder for what is sorted meanwhile.
        let options = adjust(
            options
                .journal_mode(SqliteJournalMode::Wal)
                .pragma("temp_store", "memory")
                .pragma("journal_size_limit", LOG_KEEPS),
        );
        let file = FileId::at(path).map_err(|error| {
            StoreError::new(StoreErrorKind::Open, path, format_args!("cannot find it again: {error}"))
        })?;
        let faults = LastFault::default();
        let pool = |size, synchronous| connection::pool(size, options.clone().synchronous(synchronous), &faults);
        let store = Self(Arc::new_cyclic(|inner| Inner {
            path: path.to_owned(),
            file,
            faults: faults.clone(),
            durable: pool(1, SqliteSynchronous::Full),
            relaxed: pool(1, SqliteSynchronous::Normal),
            readers: pool(4, SqliteSynchronous::Normal),
            writing: tokio::sync::Mutex::default(),
            pending: Mutex::default(),
            journal: group::start(inner.clone()),
        }));
        store.migrate().await?;
        store.verify_file()?;
        store.checkpoint().await;
        Ok(store)
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
        self.0.readers.close().await;
        self.0.relaxed.close().await;
        self.0.durable.close().await;
    }

    /// Brings the tables up to date, in one transaction so that two processes can start at once.
    async fn migrate(&self) -> Result<(), StoreError> {
        let doing = "bring its tables up to date";
        let fault = |error: sqlx::Error| self.fault(doing, &error);
        let mut connection = self.0.durable.acquire().await.map_err(fault)?;
        // Begun by `sqlx` itself, which lets each migration be a savepoint in it.
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(fault)?;
        let inner: &mut SqliteConnection = &mut transaction;
        match MIGRATIONS.run_direct(None, inner, false).await {
            Ok(()) => transaction.commit().await.map_err(fault),
            Err(MigrateError::VersionMissing(version)) => {
                let newest = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
                let what = format_args!("its tables are at version {version}, this Tagwarden knows {newest}");
                Err(self.error(StoreErrorKind::NewerSchema, what))
            }
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Err(fault(error)),
            Err(error) => Err(self.error(StoreErrorKind::Open, format_args!("cannot {doing}: {error}"))),
        }
    }

    /// Begins a write that the disk has before it counts as done.
    async fn write_durably(&self) -> Result<Write<'_>, StoreError> {
        Write::begin(self, &self.0.durable).await
    }

    /// Begins a write that a power cut may undo.
    async fn write_relaxed(&self) -> Result<Write<'_>, StoreError> {
        Write::begin(self, &self.0.relaxed).await
    }

    /// Copies what the write-ahead log holds into the file, as far as no reader needs the log, so that the file is never
    /// without content for long. A failure loses nothing: the log keeps what was not copied.
    async fn checkpoint(&self) {
        let _turn = self.0.writing.lock().await;
        if self.verify_file().is_err() {
            return;
        }
        if let Err(error) = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&self.0.durable).await {
            let error = self.fault("copy the write-ahead log into it", &error);
            tracing::warn!(%error, kind = error.kind.label(), "the state's file lags behind its log");
        }
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

/// Makes sure that the file is there, private if it is new, and looks like a database. Says how long it is.
fn prepare_file(path: &Path) -> Result<u64, StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder
        && !folder.is_dir()
    {
        let what = format_args!("the folder {} does not exist", folder.display());
        return Err(StoreError::new(StoreErrorKind::Open, path, what));
    }
    let open = |error: io::Error| {
        let kind = match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::ReadOnly,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
            _ => StoreErrorKind::Open,
        };
        StoreError::new(kind, path, format_args!("cannot open it: {error}"))
    };
    match private().write(true).create_new(true).open(path) {
        Ok(_) => return Ok(0),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(open(error)),
    }
    let mut file = OpenOptions::new().read(true).open(path).map_err(open)?;
    let mut head = Vec::new();
    file.by_ref().take(16).read_to_end(&mut head).map_err(open)?;
    // <https://www.sqlite.org/fileformat.html>, section 1.3.
    if !head.is_empty() && head != b"SQLite format 3\0" {
        return Err(StoreError::new(StoreErrorKind::Corrupt, path, "it is no SQLite database"));
    }
    file.metadata().map(|data| data.len()).map_err(open)
}

/// Finds out whether the file is a sound database and ours. Changes nothing in it.
async fn examine(path: &Path, size: u64, options: &SqliteConnectOptions) -> Result<(), StoreError> {
    let fault = |error: sqlx::Error| StoreError::of(path, "read it", &error);
    let mut connection = options.connect().await.map_err(fault)?;
    if size > 0 && size <= CHECKED_WHOLE {
        let finding: String =
            sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut connection).await.map_err(fault)?;
        if finding != "ok" {
            return Err(StoreError::new(StoreErrorKind::Corrupt, path, format_args!("it is damaged: {finding}")));
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
    if tables > 0 && ours < 2 {
        return Err(StoreError::new(StoreErrorKind::Open, path, "it is a database, but none of Tagwarden's"));
    }
    Ok(())
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
