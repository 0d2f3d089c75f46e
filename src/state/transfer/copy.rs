//! A state copied into another database, and read back.

use std::path::Path;

use async_trait::async_trait;
use tempfile::TempPath;

use super::postgres_rows::PostgresRows;
use super::sqlite_rows::SqliteRows;
use super::tables::{TABLES, Table};
use super::{Row, RowSink, RowSource, RowTarget, TableHash, error_at};
use crate::state::file::folder;
use crate::state::location::PostgresLocation;
use crate::state::{
    Backup, LeaseScope, SqliteState, StateError, StateErrorKind, StateLocation, StateStore, Storage as _,
};

/// A copy that was made and read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateCopy {
    /// Tables with the number of their rows.
    pub tables: Vec<(&'static str, u64)>,
}

impl StateCopy {
    /// The rows of a table, by its name.
    #[must_use]
    pub fn rows_of(&self, name: &str) -> u64 {
        self.tables.iter().find(|(table, _)| *table == name).map(|(_, rows)| *rows).unwrap_or_default()
    }

    /// The rows of all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|(_, rows)| rows).sum()
    }
}

impl StateStore {
    /// Copies the state at one place to another, which must be empty: a file that does not exist, or a database without
    /// rows. Nobody may work with the state meanwhile. What was written is read back and compared, table by table, before
    /// it counts.
    ///
    /// # Errors
    /// [`Leased`](StateErrorKind::Leased) when a daemon or a run works with the state,
    /// [`Exists`](StateErrorKind::Exists) when there is something at the target; otherwise when either cannot be used, or
    /// the copy is not the same. The target is as it was then, but for tables without rows.
    pub async fn copy(from: &StateLocation, to: &StateLocation) -> Result<StateCopy, StateError> {
        if from.is_missing() {
            return Err(error_at(StateErrorKind::Open, from, "it does not exist"));
        }
        let store = Self::open(from).await?;
        let copied = copy_leased(&store, from, to).await;
        store.close().await;
        copied
    }
}

async fn copy_leased(store: &StateStore, from: &StateLocation, to: &StateLocation) -> Result<StateCopy, StateError> {
    let holder = format!("state copy, process {}", std::process::id());
    let _run = store.take_lease(LeaseScope::Run, &holder).await?;
    let _daemon = store.take_lease(LeaseScope::Daemon, &holder).await?;
    match from {
        StateLocation::File(path) => {
            let mut source = SqliteRows::read_from(path).await?;
            let copied = copy_to(&mut source, from, to).await;
            source.close().await.and(copied)
        }
        StateLocation::Postgres(database) => {
            let mut source = PostgresRows::read_from(database).await?;
            copy_to(&mut source, from, to).await
        }
    }
}

/// Copies a state in PostgreSQL into a new file of SQLite, as of one instant and beside whoever works with it.
///
/// # Errors
/// As [`StateStore::back_up`].
pub(in crate::state) async fn back_up_postgres(
    database: PostgresLocation,
    target: &Path,
) -> Result<Backup, StateError> {
    let (from, to) = (StateLocation::from(database.clone()), StateLocation::from(target));
    if target.symlink_metadata().is_ok() {
        let what = format_args!("cannot be backed up to {}: something is there already", target.display());
        return Err(error_at(StateErrorKind::Exists, &from, what));
    }
    // Its tables must be those of this version.
    StateStore::open_to_read(&from).await?.close().await;
    let mut source = PostgresRows::read_from(&database).await?;
    let copy = copy_to(&mut source, &from, &to).await?;
    let bytes = target.metadata().map(|data| data.len()).unwrap_or_default();
    Ok(Backup { bytes, runs: copy.rows_of("runs"), entries: copy.rows_of("journal") })
}

async fn copy_to(
    source: &mut dyn RowSource,
    from: &StateLocation,
    to: &StateLocation,
) -> Result<StateCopy, StateError> {
    match to {
        StateLocation::Postgres(database) => {
            StateStore::open(to).await?.close().await;
            let mut target = PostgresRows::write_into(database).await?;
            copy_rows(source, from, &mut target, to).await
        }
        StateLocation::File(path) => copy_to_file(source, from, path).await,
    }
}

/// Fills a new file under another name, which gets its own once all of it is on the disk.
async fn copy_to_file(source: &mut dyn RowSource, from: &StateLocation, path: &Path) -> Result<StateCopy, StateError> {
    let exists = || StateError::about(StateErrorKind::Exists, path, "cannot copy into it: something is there already");
    if path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let failed = |error: std::io::Error| StateError::from_io(path, "make it", error);
    let beside = tempfile::Builder::new().prefix(".tagwarden-copy-").tempdir_in(folder(path)).map_err(failed)?;
    let new = beside.path().join("state.db");
    SqliteState::open(&new).await?.close().await;
    let mut target = SqliteRows::write_into(&new).await?;
    let copied = copy_rows(source, from, &mut target, &StateLocation::from(path)).await;
    target.close().await?;
    let copied = copied?;
    std::fs::File::open(&new).and_then(|file| file.sync_all()).map_err(failed)?;
    let new = TempPath::try_from_path(new).map_err(failed)?;
    new.persist_noclobber(path).map_err(|refused| match refused.error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(),
        _ => failed(refused.error),
    })?;
    // The name must survive a power cut as the content does. Where folders cannot be opened, nothing can be done.
    if let Ok(folder) = std::fs::File::open(folder(path)) {
        folder.sync_all().map_err(failed)?;
    }
    Ok(copied)
}

async fn copy_rows(
    source: &mut dyn RowSource,
    from: &StateLocation,
    target: &mut dyn RowTarget,
    to: &StateLocation,
) -> Result<StateCopy, StateError> {
    let mut hashes = Vec::with_capacity(TABLES.len());
    for table in TABLES {
        let mut copying = Copying { target: &mut *target, hash: TableHash::default() };
        source.read(table, &mut copying).await?;
        hashes.push(copying.hash);
    }
    let mut tables = Vec::with_capacity(TABLES.len());
    for (table, hash) in TABLES.iter().zip(hashes) {
        let mut written = TableHash::default();
        target.read(table, &mut written).await?;
        if !written.agrees_with(&hash) {
            let what = format_args!(
                "the copy of table {} from {from} is not the same: {} rows of {}",
                table.name, written.rows, hash.rows
            );
            return Err(error_at(StateErrorKind::Corrupt, to, what));
        }
        tables.push((table.name, hash.rows));
    }
    target.commit().await?;
    Ok(StateCopy { tables })
}

/// Writes rows into a target, and hashes them on the way.
struct Copying<'a> {
    target: &'a mut dyn RowTarget,
    hash: TableHash,
}

#[async_trait]
impl RowSink for Copying<'_> {
    async fn take(&mut self, table: &'static Table, rows: Vec<Row>) -> Result<(), StateError> {
        for row in &rows {
            self.hash.add(row);
        }
        self.target.write(table, rows).await
    }
}
