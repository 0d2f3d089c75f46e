//! The write-ahead log, and the proof that committed data is still in the file with that name.
//!
//! SQLite keeps the log open and does not check its name again. If the file is deleted, replaced or emptied, SQLite
//! continues to write into an unnamed file, or behind a hole, and the next process finds none of that, or damage.
//! SQLite itself deletes the log only with the last connection of all processes, restarts it at its beginning once all
//! of it is in the main file, and shortens it only to the part in use. Another process's checkpoint of the kind
//! `TRUNCATE` empties it legitimately: then the log's index shows that it has no frame, which only SQLite itself can
//! report. <https://www.sqlite.org/walformat.html>

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::SqliteConnection;

use super::file::FileId;
use super::{SqliteState, StateError, StateErrorKind};

/// Bytes of the log's header, and of that of each frame.
const HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

/// The first four bytes of a log, but for the last bit.
const MAGIC: u32 = 0x377f_0682;

/// The name of inspecting the log, for errors.
const INSPECT: &str = "look at its write-ahead log";

/// The log that the durable connection was seen to write. Known as long as that connection lives: once it is closed,
/// SQLite may delete the log and begin another.
#[derive(Debug, Clone, Default)]
pub(super) struct WatchedLog(Arc<Mutex<Option<FileId>>>);

impl WatchedLog {
    /// Forgets it, because the connection is closed or about to be.
    pub(super) fn forget(&self) {
        self.set(None);
    }

    fn get(&self) -> Option<FileId> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, file: Option<FileId>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }
}

/// The current file of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LogFile {
    file: FileId,
    length: u64,
    /// Bytes of a page, by the header; `None` without a valid header.
    page: Option<u64>,
}

/// The ways to lose a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Deleted,
    Replaced,
    Shortened,
}

impl Loss {
    fn description(self) -> &'static str {
        match self {
            Self::Deleted => "was deleted while it was open",
            Self::Replaced => "was replaced by another file while it was open",
            Self::Shortened => "was emptied, shortened or overwritten while it was open",
        }
    }
}

/// Inspects the log at that path; `None` if nothing is there. SQLite holds no lock on it that closing it would release.
fn inspect(path: &Path) -> io::Result<Option<LogFile>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let data = file.metadata()?;
    let mut header = Vec::new();
    file.take(HEADER).read_to_end(&mut header)?;
    Ok(Some(LogFile { file: FileId::of(&data), length: data.len(), page: page_size(&header) }))
}

/// Returns the page size in the header of a log, or `None` if the header is not valid.
fn page_size(header: &[u8]) -> Option<u64> {
    let word = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    (word(0)? & !1 == MAGIC).then_some(())?;
    word(8).map(u64::from)
}

/// Detects the loss of a log with `frames` frames; `seen` is the file that they were written to.
fn detect_loss(seen: Option<FileId>, found: Option<LogFile>, frames: u64) -> Option<Loss> {
    let Some(found) = found else {
        return (seen.is_some() || frames > 0).then_some(Loss::Deleted);
    };
    if seen.is_some_and(|seen| seen != found.file) {
        return Some(Loss::Replaced);
    }
    let holds_all = |page: u64| found.length >= frames.saturating_mul(FRAME_HEADER + page).saturating_add(HEADER);
    (frames > 0 && !found.page.is_some_and(holds_all)).then_some(Loss::Shortened)
}

impl SqliteState {
    /// Verifies that the log at its path is the one that was written. Only [`SqliteState::verify_log`] can tell whether
    /// it is complete.
    pub(super) fn verify_log_file(&self) -> Result<(), StateError> {
        self.check_log(0).map(drop)
    }

    /// Verifies that everything that was committed and is not in the main file yet is in the log, and returns the log,
    /// if it has content. `connection` must not be inside a transaction.
    ///
    /// # Errors
    /// Returns [`StateErrorKind::Replaced`] if the log was deleted, replaced or shortened. Nothing may be written then,
    /// since it would be lost or damage existing data.
    pub(super) async fn verify_log(&self, connection: &mut SqliteConnection) -> Result<Option<FileId>, StateError> {
        match self.verify_log_once(connection).await {
            // Another process may have restarted or emptied it between the two checks.
            Err(error) if error.kind == StateErrorKind::Replaced => self.verify_log_once(connection).await,
            judged => judged,
        }
    }

    async fn verify_log_once(&self, connection: &mut SqliteConnection) -> Result<Option<FileId>, StateError> {
        // Of SQLite 3.51, which is bundled. An older one would take `NOOP` for a passive checkpoint.
        let index: Result<(i64, i64, i64), sqlx::Error> =
            sqlx::query_as("PRAGMA wal_checkpoint(NOOP)").fetch_one(&mut *connection).await;
        let (_, frames, _) = index.map_err(|error| self.sqlx_error(INSPECT, error))?;
        // Negative if the file system does not support the log.
        self.check_log(u64::try_from(frames).unwrap_or_default())
    }

    /// Remembers the log once something durable was committed to it.
    pub(super) async fn watch_log(&self, connection: &mut SqliteConnection) -> Result<(), StateError> {
        if let Some(file) = self.verify_log(connection).await? {
            self.0.watched_log.set(Some(file));
        }
        Ok(())
    }

    /// Returns true if closing would do harm. The last connection to close copies the log into the main file: from a
    /// deleted log this rescues everything, from an overwritten one it copies damage. And it deletes the file with that
    /// name, which may belong to another process.
    pub(super) async fn is_harmed_by_closing(&self) -> bool {
        if self.0.watched_log.get().is_none() {
            return false;
        }
        let Ok(mut connection) = self.0.durable.acquire().await else { return false };
        // SQLite cannot copy from an empty one.
        let has_content = || inspect(&self.0.log).is_ok_and(|found| found.is_some_and(|found| found.length > 0));
        self.verify_log(&mut connection).await.is_err() && has_content()
    }

    fn check_log(&self, frames: u64) -> Result<Option<FileId>, StateError> {
        let found = inspect(&self.0.log).map_err(|error| StateError::from_io(&self.0.path, INSPECT, error))?;
        match detect_loss(self.0.watched_log.get(), found, frames) {
            None => Ok(found.filter(|_| frames > 0).map(|found| found.file)),
            Some(loss) => {
                let what = format_args!("its write-ahead log {} {}", self.0.log.display(), loss.description());
                Err(self.error(StateErrorKind::Replaced, what))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::{NewRun, RegistryExperience as _, RunKind, Runs as _, Storage as _};
    use super::*;

    #[test]
    fn a_log_is_lost_where_less_stands_in_it_than_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, length: u64| {
            let path = folder.path().join(name);
            let mut header = [0_u8; 32];
            header[..4].copy_from_slice(&(MAGIC | 1).to_be_bytes());
            header[8..12].copy_from_slice(&4096_u32.to_be_bytes());
            std::fs::write(&path, header).unwrap();
            File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
            inspect(&path).unwrap().unwrap()
        };
        let two = 32 + 2 * (24 + 4096);
        let (log, other) = (file("log", two), file("other", two));
        let cut = file("cut", two - 1);
        assert_eq!(log.page, Some(4096));
        let empty = LogFile { length: 0, page: None, ..log };
        let hole = LogFile { page: None, ..log };
        assert_eq!(inspect(&folder.path().join("none")).unwrap(), None);

        let seen = Some(log.file);
        let cases = [
            (None, None, 0, None),
            (None, None, 2, Some(Loss::Deleted)),
            (seen, None, 0, Some(Loss::Deleted)),
            (seen, Some(log), 2, None),
            (seen, Some(log), 1, None),
            (seen, Some(log), 3, Some(Loss::Shortened)),
            (Some(cut.file), Some(cut), 2, Some(Loss::Shortened)),
            (seen, Some(hole), 2, Some(Loss::Shortened)),
            (seen, Some(empty), 2, Some(Loss::Shortened)),
            // Emptied by a checkpoint.
            (seen, Some(empty), 0, None),
            (None, Some(other), 2, None),
            #[cfg(unix)]
            (seen, Some(other), 2, Some(Loss::Replaced)),
        ];
        for (number, (seen, found, frames, expected)) in cases.into_iter().enumerate() {
            assert_eq!(detect_loss(seen, found, frames), expected, "case {number}");
        }
    }

    /// SQLite shortens its log, and deletes it with the last connection, which a cancelled write closes.
    #[tokio::test]
    async fn what_sqlite_does_to_its_own_log_is_no_loss() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tagwarden.db");
        let limit = |options: sqlx::sqlite::SqliteConnectOptions| options.pragma("journal_size_limit", "20000");
        let store = SqliteState::open_with(&path, limit).await.unwrap();
        let mark = async |name: &str| store.mark_untag_destructive(&name.parse().unwrap(), Timestamp::UNIX_EPOCH).await;
        let large = NewRun {
            id: uuid::Uuid::from_u128(1),
            kind: RunKind::Run,
            mode: "enforce".into(),
            started_at: Timestamp::UNIX_EPOCH,
            started_by: "x".repeat(200_000),
            version: String::new(),
            approved_by: None,
            ticket: None,
        };
        let length = || std::fs::metadata(&store.0.log).unwrap().len();
        store.begin_run(&large).await.unwrap();
        let before = length();
        store.checkpoint().await;
        mark("a").await.unwrap();
        assert!(length() < before, "{} bytes were {before}", length());
        mark("b").await.unwrap();
        assert!(store.0.watched_log.get().is_some(), "it is watched");

        drop(store.write_durably().await.unwrap());
        store.verify_file().unwrap();
        mark("c").await.unwrap();
        store.verify_file().unwrap();
        assert!(store.0.watched_log.get().is_some(), "the new one is watched, too");
    }
}
