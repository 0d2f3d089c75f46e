//! Immediate detection of changed policy files. Changes missed here are found by the next check of the files.

use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Watches until it is dropped.
pub(super) struct PolicyWatch {
    /// The watched path.
    pub(super) path: PathBuf,
    _watcher: RecommendedWatcher,
}

/// Sends into `changed` whenever something at or below `path` changed.
pub(super) fn watch(path: &Path, changed: mpsc::Sender<()>) -> notify::Result<PolicyWatch> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the files does not change them, but is reported, too.
        let kind = event.map_or(EventKind::Any, |event| event.kind);
        if !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write)) {
            // A pending notification is enough.
            let _ = changed.try_send(());
        }
    })?;
    // Editors replace the old file with a new one, so a file is watched by its folder.
    match (path.is_dir(), path.parent()) {
        (false, Some(folder)) => watcher.watch(folder, RecursiveMode::NonRecursive)?,
        _ => watcher.watch(path, RecursiveMode::Recursive)?,
    }
    Ok(PolicyWatch { path: path.to_owned(), _watcher: watcher })
}
