//! A complete copy of the state, made while other processes use it.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::file::{folder, regular_file};
use super::{BUSY_TIMEOUT, SqliteState, StateError, StateErrorKind, check_message, creation, verify_database};
use crate::domain::{Cause, Failure};

/// A backup that was written and read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backup {
    /// Bytes of the file.
    pub bytes: u64,
    /// Runs in it.
    pub runs: u64,
    /// Journal entries in it.
    pub entries: u64,
}

/// The endings of the files that stand beside a state: those of SQLite, and the locks.
const ENDINGS: [&str; 6] = ["", "-wal", "-shm", "-journal", ".lock", ".daemon.lock"];

impl SqliteState {
    /// Returns true if a path is the state's own, or that of a file beside it, which need not exist. `SQLite` would take a
    /// backup by such a name for a part of the state.
    #[must_use]
    pub fn is_part_of(state: &Path, path: &Path) -> bool {
        let state = state.canonicalize().unwrap_or_else(|_| state.to_owned());
        let place = |path: &Path| Some((folder(path).canonicalize().ok()?, path.file_name()?.to_owned()));
        let (Some((home, name)), Some((other, file))) = (place(&state), place(path)) else { return false };
        let ending = file.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
        home == other && ending.is_some_and(|ending| ENDINGS.iter().any(|known| known.as_bytes() == ending))
    }

    /// Copies the state at `state` into the new file `target`, as of one instant and including the write-ahead log.
    /// Other processes can use the state meanwhile. The file appears under its name only once it is completely on the
    /// disk and was read back, readable for its owner alone. Does not migrate old tables.
    ///
    /// # Errors
    /// Returns [`StateErrorKind::Exists`] if there is something at `target`. Returns another error if the state is
    /// missing, damaged or another kind of file, or if the copy cannot be written or is unsound. Nothing is left at
    /// `target` then.
    pub async fn back_up(state: &Path, target: &Path) -> Result<Backup, StateError> {
        let exists = || {
            let what = format_args!("cannot be backed up to {}: something is there already", target.display());
            StateError::about(StateErrorKind::Exists, state, what)
        };
        let failed = |doing: &str, cause: Cause| {
            let what = format_args!("cannot {doing} {}", target.display());
            StateError::about(StateErrorKind::Backup, state, what).caused_by(cause)
        };
        if target.symlink_metadata().is_ok() {
            return Err(exists());
        }
        let missing = || StateError::about(StateErrorKind::Open, state, "it does not exist");
        let size = regular_file(state)?.ok_or_else(missing)?.len();
        if size == 0 {
            return Err(creation::empty_file_error(state));
        }
        let options = |path: &Path| {
            SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT).disable_statement_logging()
        };
        let fault = |error: sqlx::Error| StateError::from_sqlx(state, "copy it", error);
        verify_database(state, size, &options(state)).await?;

        let folder = folder(target);
        let copy = tempfile::Builder::new().prefix(".tagwarden-backup-").tempfile_in(folder);
        let copy = copy.map_err(|error| failed("write beside", error.into()))?;
        let name = copy
            .path()
            .to_str()
            .ok_or_else(|| failed("write", Failure::new((), "its name is not valid UTF-8").into()))?;
        let mut connection = options(state).connect().await.map_err(fault)?;
        // SQLite's message would report a full disk as if it were that of the state.
        let copied = sqlx::query("VACUUM INTO ?1").bind(name).execute(&mut connection).await;
        copied.map_err(|error| failed("write", error.into()))?;
        connection.close().await.map_err(fault)?;

        copy.as_file().sync_all().map_err(|error| failed("write", error.into()))?;
        let (runs, entries) =
            verify_copy(&options(copy.path())).await.map_err(|error| failed("read back", error.into()))?;
        let bytes = copy.as_file().metadata().map_err(|error| failed("read back", error.into()))?.len();
        copy.persist_noclobber(target).map_err(|error| match error.error.kind() {
            std::io::ErrorKind::AlreadyExists => exists(),
            _ => failed("write", error.error.into()),
        })?;
        // The name must survive a power cut as the content does. If folders cannot be opened, nothing can be done.
        if let Ok(folder) = std::fs::File::open(folder) {
            folder.sync_all().map_err(|error| failed("write", error.into()))?;
        }
        Ok(Backup { bytes, runs, entries })
    }
}

/// A copy that is not a usable backup.
#[derive(Debug, thiserror::Error)]
enum UnsoundCopy {
    #[error(transparent)]
    Unreadable(#[from] sqlx::Error),
    #[error("the copy is damaged: {0}")]
    Damaged(String),
}

/// Counts the runs and the journal of a copy, and verifies that it is sound.
async fn verify_copy(options: &SqliteConnectOptions) -> Result<(u64, u64), UnsoundCopy> {
    let mut connection = options.clone().read_only(true).connect().await?;
    let finding: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut connection).await?;
    if finding != "ok" {
        return Err(UnsoundCopy::Damaged(check_message(&finding).to_owned()));
    }
    let counts: (i64, i64) = sqlx::query_as("SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM journal)")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok((counts.0.unsigned_abs(), counts.1.unsigned_abs()))
}
