//! The state in SQLite: audit record, journal, observations and the cache of what never changes.
//!
//! Two connections write. One waits until the disk has what it wrote, for what must never be lost (runs, plans, the
//! journal, marks); the other does not, for what can be read again (cache, observations). A write of either kind is one
//! transaction that begins as a writer, so that it never fails half-way for want of the lock. Journal entries that
//! callers make at the same time share one.

mod addresses;
mod cache;
mod circumstances;
mod columns;
mod error;
mod experience;
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
mod untagged;

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Sqlite, SqliteConnection, Transaction};
use tokio::sync::mpsc;

pub use circumstances::Circumstances;
pub use error::{StoreError, StoreErrorKind};
pub use experience::{DeletionAnswer, Experience, REFUSAL_BELIEVED, UntagExperience};
pub use interruptions::InterruptionId;
pub use journal::{JournalCount, JournalEntry, JournalId, JournalOf};
pub use lease::Lease;
pub use pack::Unpacker;
pub use policies::RecordedPolicy;
pub use refused::MetRefusal;
pub use restored::Restoring;
pub use rosters::LastSeen;
pub use runs::{NewRun, RunEnd, RunKind, RunRecord};
pub use sources::LastAnswer;
pub use tidy::KeepSince;
pub use untagged::Told;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a write waits for the writers of other processes.
const BUSY: Duration = Duration::from_secs(15);

/// Up to this size the whole file is checked when it is opened; damage in larger ones shows when it is read.
const CHECKED_WHOLE: u64 = 32 << 20;

/// The state of one Tagwarden, open. Cheap to clone; all clones share its connections.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
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

/// A write under way.
struct Write<'a> {
    transaction: Transaction<'static, Sqlite>,
    path: &'a Path,
    _turn: tokio::sync::MutexGuard<'a, ()>,
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
        let options = adjust(options.journal_mode(SqliteJournalMode::Wal).pragma("temp_store", "memory"));
        let pool = |size, synchronous| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .connect_lazy_with(options.clone().synchronous(synchronous))
        };
        let store = Self(Arc::new_cyclic(|inner| Inner {
            path: path.to_owned(),
            durable: pool(1, SqliteSynchronous::Full),
            relaxed: pool(1, SqliteSynchronous::Normal),
            readers: pool(4, SqliteSynchronous::Normal),
            writing: tokio::sync::Mutex::default(),
            pending: Mutex::default(),
            journal: group::start(inner.clone()),
        }));
        store.migrate().await?;
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
        let mut write = self.write(&self.0.durable).await?;
        let connection: &mut SqliteConnection = &mut write.transaction;
        match MIGRATIONS.run_direct(None, connection, false).await {
            Ok(()) => write.commit("bring its tables up to date").await,
            Err(MigrateError::VersionMissing(version)) => {
                let newest = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
                let what = format_args!("its tables are at version {version}, this Tagwarden knows {newest}");
                Err(self.error(StoreErrorKind::NewerSchema, what))
            }
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                Err(self.fault("bring its tables up to date", &error))
            }
            Err(error) => {
                Err(self.error(StoreErrorKind::Open, format_args!("cannot bring its tables up to date: {error}")))
            }
        }
    }

    /// Begins a write that the disk has before it counts as done.
    async fn write_durably(&self) -> Result<Write<'_>, StoreError> {
        self.write(&self.0.durable).await
    }

    /// Begins a write that a power cut may undo.
    async fn write_relaxed(&self) -> Result<Write<'_>, StoreError> {
        self.write(&self.0.relaxed).await
    }

    async fn write(&self, pool: &SqlitePool) -> Result<Write<'_>, StoreError> {
        let turn = self.0.writing.lock().await;
        let begun = pool.begin_with("BEGIN IMMEDIATE").await;
        let transaction = begun.map_err(|error| self.fault("write to it", &error))?;
        Ok(Write { transaction, path: &self.0.path, _turn: turn })
    }

    fn fault(&self, doing: &str, error: &sqlx::Error) -> StoreError {
        StoreError::of(&self.0.path, doing, error)
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

impl Write<'_> {
    async fn commit(self, doing: &str) -> Result<(), StoreError> {
        let path = self.path;
        self.transaction.commit().await.map_err(|error| StoreError::of(path, doing, &error))
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
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_or_unwritable_disk_says_so_and_keeps_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tagwarden.db");
        let run = |number| NewRun {
            id: uuid::Uuid::from_u128(number),
            kind: RunKind::Run,
            mode: "enforce".into(),
            started_at: Timestamp::UNIX_EPOCH,
            by: "x".repeat(5000),
            version: String::new(),
            approved_by: None,
            ticket: None,
        };
        let full = Store::open_with(&path, |options| options.pragma("max_page_count", "60")).await.unwrap();
        let mut recorded = 0;
        let error = loop {
            match full.begin_run(&run(recorded)).await {
                Ok(()) => recorded += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind, StoreErrorKind::Full);
        assert!(error.message.contains("make room"), "{error}");
        assert_eq!(full.runs(1000).await.unwrap().len() as u128, recorded);

        let unwritable = |options: SqliteConnectOptions| options.pragma("query_only", "on");
        let error = Store::open_with(&path, unwritable).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::ReadOnly, "{error}");
        assert_eq!(Store::open(&path).await.unwrap().runs(1000).await.unwrap().len() as u128, recorded);
    }

    #[tokio::test]
    async fn a_full_disk_fails_every_entry_of_a_write_and_loses_none_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tagwarden.db");
        let store = Store::open_with(&path, |options| options.pragma("max_page_count", "120")).await.unwrap();
        let run = uuid::Uuid::from_u128(1);
        let begun = NewRun {
            id: run,
            kind: RunKind::Run,
            mode: "enforce".into(),
            started_at: Timestamp::UNIX_EPOCH,
            by: String::new(),
            version: String::new(),
            approved_by: None,
            ticket: None,
        };
        store.begin_run(&begun).await.unwrap();
        let bytes: Arc<[u8]> = b"{}".as_slice().into();
        let manifest = crate::registry::RawManifest {
            digest: crate::domain::Digest::of(&bytes),
            media_type: "application/json".into(),
            bytes,
        };
        let intent = |number: usize| crate::domain::Intent {
            action: crate::domain::Action::Restore,
            registry: "contoso".parse().unwrap(),
            repository: "shop/api".parse().unwrap(),
            tag: format!("t-{number}").parse().unwrap(),
            digest: manifest.digest.clone(),
            media_type: Arc::clone(&manifest.media_type),
            policy: None,
            endpoint: None,
            date: None,
            proof: "x".repeat(3000),
        };
        let write = async |number| (number, store.intend(run, &intent(number), &manifest, Timestamp::UNIX_EPOCH).await);
        let (mut there, mut failed) = (Vec::new(), 0);
        for start in (0..).step_by(16) {
            for (number, written) in futures::future::join_all((start..start + 16).map(write)).await {
                match written {
                    Ok(_) => there.push(format!("t-{number}")),
                    Err(error) => {
                        assert_eq!(error.kind, StoreErrorKind::Full, "{error}");
                        failed += 1;
                    }
                }
            }
            if failed > 0 {
                break;
            }
        }
        assert!(failed > 1, "those that shared the write failed together: {failed}");
        let mut journaled: Vec<String> =
            store.journal(run).await.unwrap().iter().map(|e| e.intent.tag.to_string()).collect();
        journaled.sort();
        there.sort();
        assert_eq!(journaled, there);
    }
}
