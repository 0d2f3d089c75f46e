//! Reading of a state that cannot be written.

use std::cmp::Ordering;
use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;

use super::{SqliteState, StateError, StateErrorKind, StateLocation, creation, verify_database};

impl StateLocation {
    /// Returns true if opening it would create a file. False if a part of a state is there, and always for a database.
    #[must_use]
    pub fn is_to_be_created(&self) -> bool {
        self.path().is_some_and(|path| path.symlink_metadata().is_err() && creation::leftover_wal(path).is_none())
    }
}

impl SqliteState {
    /// Opens a state for reading, possibly on a read-only file system or a full disk. Writes to it fail there. Creates
    /// no file.
    ///
    /// # Errors
    /// Fails as [`SqliteState::open`] does, and if there is no file; if it cannot be written, also if it is incomplete
    /// without its write-ahead log, or of another version.
    pub async fn open_to_read(path: &Path) -> Result<Self, StateError> {
        if StateLocation::from(path).is_to_be_created() {
            return Err(StateError::about(StateErrorKind::Open, path, "it does not exist"));
        }
        match Self::open(path).await {
            Err(error) if error.kind == StateErrorKind::ReadOnly && path.exists() => Self::open_immutable(path).await,
            // Even the index of the log needs room. The first error says more than why this way is closed, too.
            Err(full) if full.kind == StateErrorKind::Full && path.exists() => {
                Self::open_immutable(path).await.map_err(|_| full)
            }
            opened => opened,
        }
    }

    /// Opens an empty state in a temporary folder, which is deleted with it.
    ///
    /// # Errors
    /// Returns an error if that cannot be created.
    pub async fn open_temporary() -> Result<Self, StateError> {
        let made = tempfile::Builder::new().prefix("tagwarden-").tempdir();
        let folder =
            made.map_err(|error| StateError::from_io(&tempfile::env::temp_dir(), "create a folder in it", error))?;
        let state = Self::open(&folder.path().join("tagwarden.db")).await?;
        // The first and only time.
        let _ = state.0.temporary.set(folder);
        Ok(state)
    }

    /// Opens a file as immutable, because reading a log requires writing its index.
    async fn open_immutable(path: &Path) -> Result<Self, StateError> {
        let read_only = |what: &dyn std::fmt::Display| StateError::about(StateErrorKind::ReadOnly, path, what);
        if let Some(rest) = creation::leftover_wal(path) {
            return Err(read_only(&format_args!(
                "its last changes stand in {}, which can only be read where it can be written beside it",
                rest.display()
            )));
        }
        let size = creation::length(path)?;
        let options = SqliteConnectOptions::new().filename(path).immutable(true).read_only(true);
        let options = options.pragma("temp_store", "memory");
        verify_database(path, size, &options).await?;
        let store = Self::assemble(path, &options)?;
        let version: Result<Option<i64>, sqlx::Error> =
            sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&store.0.readers).await;
        let version = version.map_err(|error| store.sqlx_error("read its version", error))?.unwrap_or_default();
        match version.cmp(&creation::newest_schema()) {
            Ordering::Equal => Ok(store),
            Ordering::Greater => Err(creation::newer_schema_error(path, version)),
            Ordering::Less => Err(read_only(&"an older Tagwarden wrote it, and its tables must be brought up to date")),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::file::sibling_path;
    use super::super::{NewRun, RunKind, Runs as _, Storage as _};
    use super::*;

    #[tokio::test]
    async fn a_state_that_nobody_can_write_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let run = |number| NewRun {
            id: uuid::Uuid::from_u128(number),
            kind: RunKind::Run,
            mode: "enforce".into(),
            started_at: Timestamp::UNIX_EPOCH,
            started_by: "ada@here".into(),
            version: String::new(),
            approved_by: None,
            ticket: None,
        };
        let store = SqliteState::open(&path).await.unwrap();
        store.begin_run(&run(1)).await.unwrap();
        let error = SqliteState::open_immutable(&path).await.unwrap_err();
        assert_eq!(error.kind, StateErrorKind::ReadOnly, "{error}");
        assert!(error.chain().contains("its last changes stand in"), "{error}");
        store.close().await;

        let before = std::fs::read(&path).unwrap();
        let store = SqliteState::open_immutable(&path).await.unwrap();
        assert_eq!(store.runs(10).await.unwrap().len(), 1);
        assert_eq!(store.begin_run(&run(2)).await.unwrap_err().kind, StateErrorKind::ReadOnly);
        store.verify_file().unwrap();
        assert!(!sibling_path(&path, "-wal").exists() && !sibling_path(&path, "-shm").exists());
        store.close().await;
        assert!(std::fs::read(&path).unwrap() == before, "it was changed");
    }

    #[tokio::test]
    async fn tables_of_another_version_are_not_read_there() {
        use sqlx::{ConnectOptions as _, Connection as _};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        SqliteState::open(&path).await.unwrap().close().await;
        let cases = [
            ("DELETE FROM _sqlx_migrations WHERE version > 1", StateErrorKind::ReadOnly, "an older Tagwarden wrote it"),
            ("UPDATE _sqlx_migrations SET version = 999", StateErrorKind::NewerSchema, "version 999"),
        ];
        for (statement, kind, words) in cases {
            let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
            sqlx::query(statement).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            let error = SqliteState::open_immutable(&path).await.unwrap_err();
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.chain().contains(words), "{error}");
        }
    }
}
