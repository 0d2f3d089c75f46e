//! Files that are being written: read again until they stand still.
//!
//! Half of a YAML file is often valid YAML, and half of a text always is a text. So what was read counts only if no file
//! changed meanwhile, and none was so young that it has to settle ([`time_until_stable`]), or all were looked at once more after that time.
//! Whoever writes a file beside its place and renames it is never read in between.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::time::Instant;

use super::glob_files::{self, Content, GlobFile};
use super::{FileSet, SourceError, SourceEvidence};
use crate::domain::time_until_stable;

/// The pause after a reading in which a file changed.
const PAUSE: Duration = Duration::from_secs(2);

/// Readings before a file that keeps changing fails the source.
const MAX_PASSES: usize = 10;

/// The traits of a file that a change of its content changes, too.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    length: u64,
    modified: Option<SystemTime>,
    /// The file itself: a rename puts another one in its place.
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
    /// All files that the globs find.
    pub(super) fn expand(&self) -> Result<Vec<GlobFile>, SourceError> {
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

    /// The time until every file has settled; zero where all have.
    fn stabilization_delay(&self, now: Timestamp) -> Duration {
        let modified = self.stamps.values().filter_map(|stamp| Timestamp::try_from(stamp.modified?).ok());
        modified.map(|modified| time_until_stable(modified, now)).max().unwrap_or_default()
    }

    /// The first file that is not what it was, was added, or is gone.
    fn changed(&self) -> Option<String> {
        let Ok(found) = self.expand() else { return Some(self.files.globs.join(", ")) };
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

/// Reads all files of a set by `read`, again and again until none changes, off the threads that must not wait.
///
/// # Errors
/// Those of `read`; `changing` where the files do not come to rest.
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
