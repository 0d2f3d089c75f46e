//! Noticing at once that a policy file changed. What is missed here is found by the next look at the files.

use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Watches until it is dropped.
pub(super) struct PolicyWatch {
    /// What is watched for.
    pub(super) path: PathBuf,
    _watcher: RecommendedWatcher,
}

/// Sends into `changed` whenever something at or below `path` changed.
pub(super) fn watch(path: &Path, changed: mpsc::Sender<()>) -> notify::Result<PolicyWatch> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading them is no change of them, though the system tells it, too.
        let kind = event.map_or(EventKind::Any, |event| event.kind);
        if !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write)) {
            // Whoever is told already needs not be told twice.
            let _ = changed.try_send(());
        }
    })?;
    // Editors put a new file in the place of the old one, so a file is watched from its folder.
    match (path.is_dir(), path.parent()) {
        (false, Some(folder)) => watcher.watch(folder, RecursiveMode::NonRecursive)?,
        _ => watcher.watch(path, RecursiveMode::Recursive)?,
    }
    Ok(PolicyWatch { path: path.to_owned(), _watcher: watcher })
}
