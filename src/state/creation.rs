//! Creation of a state: all of its tables are created in a file of another name, which gets its own only then.
//!
//! So an empty file is never the beginning of a state. It is the remainder of a state that was emptied, with its holds
//! and journal, and nothing may be removed by it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::error::create_beside;
use super::file::{folder, regular_file, sibling_path};
use super::network_share::refuse_network_share;
use super::{MIGRATIONS, StateError, StateErrorKind, packed_plans};

/// Endings of other files with parts of a state. SQLite would take them for parts of a new one.
const WAL_ENDINGS: [&str; 2] = ["-wal", "-journal"];

/// Ensures that there is a file at that path.
///
/// # Errors
/// Returns an error if something else is there, or a state cannot be created. Nothing new is left there then.
pub(super) async fn ensure_file(path: &Path) -> Result<(), StateError> {
    let folder = folder(path);
    if !folder.is_dir() {
        let what = format_args!("the folder {} does not exist", folder.display());
        return Err(StateError::about(StateErrorKind::Open, path, what));
    }
    refuse_network_share(path)?;
    if regular_file(path)?.is_some() {
        return Ok(());
    }
    let rest = leftover_wal(path);
    // Another process may be creating the state: its log comes after its file.
    if regular_file(path)?.is_some() {
        return Ok(());
    }
    if let Some(rest) = rest {
        let what = format_args!(
            "it does not exist, but {} does, in which the last changes of a state stand: put the state back, or move that \
             away, too, to start anew",
            rest.display()
        );
        return Err(StateError::about(StateErrorKind::Open, path, what));
    }
    create(path, folder).await
}

/// Returns a file with a part of the state at that path, if there is one.
pub(super) fn leftover_wal(path: &Path) -> Option<PathBuf> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let has_content = |file: &PathBuf| file.metadata().is_ok_and(|data| data.len() > 0);
    WAL_ENDINGS.into_iter().map(|ending| sibling_path(&real, ending)).find(has_content)
}

async fn create(path: &Path, folder: &Path) -> Result<(), StateError> {
    let failed = |error: io::Error| StateError::from_io(path, "make it", error);
    create_beside(path).map_err(failed)?;
    // Readable for its owner alone.
    let new = tempfile::Builder::new().prefix(".tagwarden-new-").tempfile_in(folder).map_err(failed)?;
    // Closed before SQLite opens it: closing it later would end SQLite's locks.
    let new = new.into_temp_path();
    let written = write_tables(path, &new).await;
    for ending in ["-wal", "-shm"] {
        // They exist only after a failure.
        let _ = std::fs::remove_file(sibling_path(&new, ending));
    }
    written?;
    if let Err(refused) = new.persist_noclobber(path) {
        if regular_file(path)?.is_some() {
            return Ok(());
        }
        if refused.error.kind() == io::ErrorKind::AlreadyExists {
            return Err(StateError::about(StateErrorKind::Open, path, "it is a symlink to a file that does not exist"));
        }
        // A file system may support neither hard links nor renaming without replacing.
        refused.path.persist(path).map_err(|refused| failed(refused.error))?;
    }
    // The name must survive a power cut as the content does. If folders cannot be opened, nothing can be done.
    if let Ok(folder) = File::open(folder) {
        folder.sync_all().map_err(failed)?;
    }
    Ok(())
}

/// Creates the tables of the state at `path` in the empty file `new`, all of them in that one file.
async fn write_tables(path: &Path, new: &Path) -> Result<(), StateError> {
    let fault = |error: sqlx::Error| StateError::from_sqlx(path, "make it", error);
    let options = SqliteConnectOptions::new()
        .filename(new)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .pragma("temp_store", "memory");
    let mut connection = options.connect().await.map_err(fault)?;
    let filled = fill(path, &mut connection).await;
    connection.close().await.map_err(fault).and(filled)
}

/// Creates the tables, and copies them from the log into the file itself.
async fn fill(path: &Path, connection: &mut SqliteConnection) -> Result<(), StateError> {
    migrate(path, connection).await?;
    let copied: Result<(i64, i64, i64), sqlx::Error> =
        sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
    let (busy, _, _) = copied.map_err(|error| StateError::from_sqlx(path, "make it", error))?;
    if busy != 0 {
        return Err(StateError::about(
            StateErrorKind::Locked,
            path,
            "cannot make it: another process reads it already",
        ));
    }
    Ok(())
}

/// Migrates tables, in one transaction so that two processes can start at once, and then the plans in them.
pub(super) async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), StateError> {
    let doing = "bring its tables up to date";
    let fault = |error: sqlx::Error| StateError::from_sqlx(path, doing, error);
    if is_up_to_date(connection).await {
        return packed_plans::migrate(path, connection).await;
    }
    // Begun by `sqlx` itself, which lets each migration be a savepoint in it.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(fault)?;
    let inner: &mut SqliteConnection = &mut transaction;
    match MIGRATIONS.run_direct(None, inner, false).await {
        Ok(()) => transaction.commit().await.map_err(fault)?,
        Err(MigrateError::VersionMissing(version)) => return Err(newer_schema_error(path, version)),
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => return Err(fault(error)),
        Err(error) => {
            return Err(StateError::about(StateErrorKind::Open, path, format_args!("cannot {doing}")).caused_by(error));
        }
    }
    packed_plans::migrate(path, connection).await
}

/// Returns true if exactly the migrations that this Tagwarden knows were applied. Then even a full disk can be read.
async fn is_up_to_date(connection: &mut SqliteConnection) -> bool {
    let applied: Result<Vec<(i64, bool, Vec<u8>)>, sqlx::Error> =
        sqlx::query_as("SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version")
            .fetch_all(connection)
            .await;
    // Where the table is missing or cannot be read, the migration itself says why.
    let Ok(applied) = applied else { return false };
    let known: Vec<(i64, bool, Vec<u8>)> =
        MIGRATIONS.iter().map(|migration| (migration.version, true, migration.checksum.to_vec())).collect();
    applied == known
}

/// Returns the error for tables that a newer Tagwarden migrated to that version.
pub(super) fn newer_schema_error(path: &Path, version: i64) -> StateError {
    let what = format_args!("its tables are at version {version}, this Tagwarden knows {}", newest_schema());
    StateError::about(StateErrorKind::NewerSchema, path, what)
}

/// Returns the version to which this Tagwarden migrates tables.
pub(super) fn newest_schema() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Verifies that the file at that path looks like a database, and returns its length.
pub(super) fn length(path: &Path) -> Result<u64, StateError> {
    let failed = |error: io::Error| StateError::from_io(path, "open it", error);
    let mut file = File::open(path).map_err(failed)?;
    let mut head = Vec::new();
    file.by_ref().take(16).read_to_end(&mut head).map_err(failed)?;
    if head.is_empty() {
        return Err(empty_file_error(path));
    }
    // <https://www.sqlite.org/fileformat.html>, section 1.3.
    if head != b"SQLite format 3\0" {
        return Err(StateError::about(StateErrorKind::Corrupt, path, "it is not an SQLite database"));
    }
    file.metadata().map(|data| data.len()).map_err(failed)
}

/// Returns the error for an empty file.
pub(super) fn empty_file_error(path: &Path) -> StateError {
    StateError::about(StateErrorKind::Corrupt, path, "it is empty")
}

#[cfg(test)]
mod tests {
    use super::super::{SqliteState, Storage as _};
    use super::*;

    /// A start that is killed or fails leaves no file that the next one would take for a state.
    #[tokio::test]
    async fn a_state_that_cannot_be_made_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        for ending in WAL_ENDINGS {
            std::fs::write(sibling_path(&path, ending), "frames of a state that was deleted").unwrap();
            let error = SqliteState::open(&path).await.unwrap_err();
            assert_eq!(error.kind, StateErrorKind::Open, "{error}");
            assert!(error.chain().contains(&format!("t.db{ending} does")), "{error}");
            assert!(!path.exists());
            std::fs::remove_file(sibling_path(&path, ending)).unwrap();
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("nowhere.db", &path).unwrap();
            let error = SqliteState::open(&path).await.unwrap_err();
            assert!(error.chain().contains("a symlink to a file that does not exist"), "{error}");
            std::fs::remove_file(&path).unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
        // An empty log does not count.
        std::fs::write(sibling_path(&path, "-wal"), "").unwrap();
        SqliteState::open(&path).await.unwrap().close().await;
    }

    /// Where all migrations were applied, opening writes nothing, so a full disk can be read.
    #[tokio::test]
    async fn tables_that_are_up_to_date_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        SqliteState::open(&path).await.unwrap().close().await;
        let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
        assert!(is_up_to_date(&mut connection).await);
        for change in [
            "UPDATE _sqlx_migrations SET success = 0 WHERE version = 1",
            "UPDATE _sqlx_migrations SET success = 1, checksum = x'00' WHERE version = 1",
            "DELETE FROM _sqlx_migrations WHERE version = 1",
            "DROP TABLE _sqlx_migrations",
        ] {
            sqlx::query(change).execute(&mut connection).await.unwrap();
            assert!(!is_up_to_date(&mut connection).await, "{change}");
        }
        connection.close().await.unwrap();
    }

    /// All of a new state is in its one file, before that has its name.
    #[tokio::test]
    async fn a_new_state_is_whole_from_the_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        ensure_file(&path).await.unwrap();
        let id = super::super::file::FileId::at(&path).unwrap();
        ensure_file(&path).await.unwrap();
        assert_eq!(super::super::file::FileId::at(&path).unwrap(), id, "it was there before");
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["t.db"]);
        assert!(length(&path).unwrap() > 4096, "its tables are in it");
    }
}
