//! The identity of the state's file, independent of its names.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use async_trait::async_trait;

use super::runs::HAS_RUN_THAT_MAY_REMOVE;
use super::{ManifestCache as _, NEW_STATE, SqliteState, StateError, StateErrorKind, StateLocation, Storage};

/// The identity of a file: device and inode. Equal for all files on systems without these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId([u64; 2]);

impl FileId {
    /// Returns the identity of the file at that path, symlinks followed.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        path.metadata().map(|data| Self::of(&data))
    }

    /// Returns the identity in these metadata.
    pub(super) fn of(data: &Metadata) -> Self {
        Self(id(data))
    }
}

#[cfg(unix)]
fn id(data: &Metadata) -> [u64; 2] {
    use std::os::unix::fs::MetadataExt as _;
    [data.dev(), data.ino()]
}

#[cfg(not(unix))]
fn id(_: &Metadata) -> [u64; 2] {
    [0, 0]
}

/// Returns the number of names of a file. SQLite and the lease find a file by its name, so a second name is a second
/// state to them (<https://www.sqlite.org/howtocorrupt.html>, section 2.5).
#[cfg(unix)]
fn names(data: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(data)
}

#[cfg(not(unix))]
fn names(_: &Metadata) -> u64 {
    1
}

/// Returns the metadata of the file at that path, symlinks followed, or `None` if nothing is there.
///
/// # Errors
/// Returns an error if something else than a file is there. Opening a pipe would wait for its writer.
pub(super) fn regular_file(path: &Path) -> Result<Option<Metadata>, StateError> {
    let what = match path.metadata() {
        Ok(data) if data.is_file() => return Ok(Some(data)),
        Ok(data) if data.is_dir() => "a folder",
        Ok(_) => "a pipe, a socket or a device",
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StateError::from_io(path, "open it", error)),
    };
    Err(StateError::about(StateErrorKind::Open, path, format_args!("it is {what}, not a regular file")))
}

/// Returns the folder of a file.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns the path of a file beside the state's own, such as `<state>.lock`.
pub(super) fn sibling_path(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[async_trait]
impl Storage for SqliteState {
    fn location(&self) -> &StateLocation {
        &self.0.location
    }

    async fn warn_if_new(&self, removes: bool) -> Result<(), StateError> {
        if !removes || self.0.warned_as_new.load(Ordering::Relaxed) {
            return Ok(());
        }
        let known: Result<bool, sqlx::Error> =
            sqlx::query_scalar(HAS_RUN_THAT_MAY_REMOVE).fetch_one(&self.0.readers).await;
        if known.map_err(|error| self.sqlx_error("read the runs", error))? {
            return Ok(());
        }
        if !self.0.warned_as_new.swap(true, Ordering::Relaxed) {
            tracing::warn!(state = %self.0.path.display(), "{NEW_STATE}");
        }
        Ok(())
    }

    async fn verify_disk_space(&self) -> Result<(), StateError> {
        self.write_test_bytes().await
    }

    async fn close(&self) {
        self.flush_cache().await;
        if self.is_harmed_by_closing().await {
            tracing::error!(state = %self.0.path.display(), "its write-ahead log is not the one that was written to, and is \
                left as it is");
            // Until the process ends, as if it were killed.
            std::mem::forget(self.clone());
            return;
        }
        self.0.readers.close().await;
        self.0.relaxed.close().await;
        self.0.durable.close().await;
    }

    fn verify_file(&self) -> Result<(), StateError> {
        self.verify_main_file()?;
        self.verify_log_file()
    }
}

impl SqliteState {
    /// Verifies the file alone.
    pub(super) fn verify_main_file(&self) -> Result<(), StateError> {
        let what = match FileId::at(&self.0.path) {
            Ok(found) if found == self.0.file => return Ok(()),
            Ok(_) => "another file has taken its place since it was opened",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "it was deleted while it was open",
            Err(error) => {
                return Err(self.error(StateErrorKind::Replaced, "it cannot be found any more").caused_by(error));
            }
        };
        Err(self.error(StateErrorKind::Replaced, what))
    }
}

/// Returns the path of the file itself, symlinks resolved; of a file that does not exist yet, its future path.
///
/// # Errors
/// Returns an error if it is not a regular file, or has several names: each would have its own lease and write-ahead
/// log.
pub(super) fn real_path(path: &Path) -> Result<PathBuf, StateError> {
    let Ok(real) = path.canonicalize() else {
        let real = folder(path).canonicalize().ok().zip(path.file_name()).map(|(folder, name)| folder.join(name));
        return Ok(real.unwrap_or_else(|| path.to_owned()));
    };
    match regular_file(&real)?.map(|data| names(&data)) {
        Some(names) if names > 1 => {
            let what = format_args!(
                "the file has {names} names (hard links), and SQLite would keep a log of its own for each; leave it one"
            );
            Err(StateError::about(StateErrorKind::Open, path, what))
        }
        _ => Ok(real),
    }
}
