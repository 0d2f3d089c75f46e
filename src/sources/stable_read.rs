//! Files that are being written: read repeatedly until they are stable.
//!
//! Half of a YAML file is often valid YAML, and half of a text is always a text. So a reading counts only if no file
//! changed during it, and none was too young ([`time_until_stable`]), or all were checked again after that time. A file
//! that is written elsewhere and renamed into place is never read halfway.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::time::Instant;

use super::glob_files::{self, Content, Expansion, GlobFile};
use super::{FileSet, SourceError, SourceEvidence};
use crate::domain::time_until_stable;

/// The pause after a reading during which a file changed.
const PAUSE: Duration = Duration::from_secs(2);

/// Readings before a file that keeps changing fails the source.
const MAX_PASSES: usize = 10;

/// The attributes of a file that change with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    length: u64,
    modified: Option<SystemTime>,
    /// The file itself: a rename replaces it with another one.
    inode: u64,
}

impl FileStamp {
    fn of(data: &fs::Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(data);
        #[cfg(not(unix))]
        let inode = 0;
        Self { length: data.len(), modified: data.modified().ok(), inode }
    }
}

/// One reading of all files of a set.
#[derive(Debug)]
pub(super) struct ReadPass {
    files: FileSet,
    stamps: BTreeMap<PathBuf, FileStamp>,
    /// The first file that changed while it was read.
    changed_file: Option<String>,
}

impl ReadPass {
    /// Returns all files that the globs match.
    pub(super) fn expand(&self) -> Result<Expansion, SourceError> {
        glob_files::expand(&self.files)
    }

    /// Reads a whole file.
    pub(super) fn read(&mut self, found: &GlobFile) -> Result<Content, SourceError> {
        let stamp = |data: io::Result<fs::Metadata>| data.ok().map(|data| FileStamp::of(&data));
        let before = stamp(fs::metadata(&found.path));
        let content = glob_files::read(found);
        let after = stamp(fs::metadata(&found.path));
        if before != after && self.changed_file.is_none() {
            self.changed_file = Some(found.display_path.clone());
        }
        self.stamps.extend(after.map(|after| (found.path.clone(), after)));
        content
    }

    /// Returns the time until every file is stable; zero if all are.
    fn stabilization_delay(&self, now: Timestamp) -> Duration {
        let modified = self.stamps.values().filter_map(|stamp| Timestamp::try_from(stamp.modified?).ok());
        modified.map(|modified| time_until_stable(modified, now)).max().unwrap_or_default()
    }

    /// Returns the first file that was changed, added or deleted.
    fn changed(&self) -> Option<String> {
        let Ok(Expansion { files: found, .. }) = self.expand() else { return Some(self.files.globs.join(", ")) };
        let stands = |found: &GlobFile| {
            let now = fs::metadata(&found.path).ok().map(|data| FileStamp::of(&data));
            now.as_ref() == self.stamps.get(&found.path)
        };
        if let Some(changed) = found.iter().find(|found| !stands(found)) {
            return Some(changed.display_path.clone());
        }
        let there: std::collections::BTreeSet<_> = found.iter().map(|found| &found.path).collect();
        self.stamps.keys().find(|path| !there.contains(path)).map(|path| path.display().to_string())
    }
}

/// Reads all files of a set by `read`, repeatedly until none changes, on a blocking thread.
///
/// # Errors
/// Returns those of `read`; `changing` if the files do not become stable.
pub(super) async fn read_stable(
    set: &FileSet,
    now: Timestamp,
    read: impl Fn(&mut ReadPass) -> Result<SourceEvidence, SourceError> + Clone + Send + 'static,
) -> Result<SourceEvidence, SourceError> {
    let begun = Instant::now();
    let mut last = String::new();
    for _ in 0..MAX_PASSES {
        let (read, files) = (read.clone(), set.clone());
        let (evidence, reading) = run_blocking(move || {
            let mut reading = ReadPass { files, stamps: BTreeMap::new(), changed_file: None };
            (read(&mut reading), reading)
        })
        .await?;
        let wait =
            if reading.changed_file.is_some() { PAUSE } else { reading.stabilization_delay(elapsed_since(now, begun)) };
        if wait.is_zero() {
            return evidence;
        }
        tokio::time::sleep(wait).await;
        let changed = run_blocking(move || reading.changed_file.clone().or_else(|| reading.changed())).await?;
        let Some(changed) = changed else { return evidence };
        last = changed;
    }
    let message =
        format!("{last} keeps changing while it is read; write it beside its place and rename it, or correct the glob");
    Err(SourceError::new("changing", message))
}

fn elapsed_since(now: Timestamp, begun: Instant) -> Timestamp {
    now.checked_add(begun.elapsed()).unwrap_or(now)
}

async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| SourceError::panicked())
}
