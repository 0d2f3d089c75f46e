//! The state's file: which one it is, whatever names lead to it.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use super::{Store, StoreError, StoreErrorKind};

/// A file apart from its name: device and inode. Equal for all files on systems that do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId([u64; 2]);

impl FileId {
    /// Returns which file is at that path, symlinks followed.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        path.metadata().map(|data| Self(id(&data)))
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

/// The names that a file has. SQLite and the lease find a file by its name, so a second one is a second state to them
/// (<https://www.sqlite.org/howtocorrupt.html>, section 2.5).
#[cfg(unix)]
fn names(data: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(data)
}

#[cfg(not(unix))]
fn names(_: &Metadata) -> u64 {
    1
}

impl Store {
    /// Makes sure that the file that is open is still the one at the state's path.
    ///
    /// # Errors
    /// [`StoreErrorKind::Replaced`] when it was deleted or replaced. What would be written then would go into a file that
    /// has no name any more, so nothing may be removed.
    pub fn verify_file(&self) -> Result<(), StoreError> {
        let what = match FileId::at(&self.0.path) {
            Ok(found) if found == self.0.file => return Ok(()),
            Ok(_) => "another file has taken its place since it was opened".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "it was deleted while it was open".to_owned(),
            Err(error) => format!("it cannot be found any more: {error}"),
        };
        Err(self.error(StoreErrorKind::Replaced, what))
    }
}

/// Returns the path of the file itself, symlinks resolved; of a file that does not exist yet, the path that it will have.
///
/// # Errors
/// When it has several names: each would have a lease and a write-ahead log of its own.
pub(super) fn real_path(path: &Path) -> Result<PathBuf, StoreError> {
    let Ok(real) = path.canonicalize() else {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let real = folder.canonicalize().ok().zip(path.file_name()).map(|(folder, name)| folder.join(name));
        return Ok(real.unwrap_or_else(|| path.to_owned()));
    };
    match real.metadata().map(|data| names(&data)) {
        Ok(names) if names > 1 => {
            let what = format_args!(
                "the file has {names} names (hard links), and SQLite would keep a log of its own for each; leave it one"
            );
            Err(StoreError::new(StoreErrorKind::Open, path, what))
        }
        _ => Ok(real),
    }
}
