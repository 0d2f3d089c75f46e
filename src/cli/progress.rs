//! A progress bar on a terminal, nothing elsewhere.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

use crate::domain::{RegistryName, RepositoryName};
use crate::registry::Progress;

/// Repositories read so far, of all registries.
pub(super) struct TerminalProgress(ProgressBar);

impl TerminalProgress {
    pub(super) fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {pos}/{len} repositories {bar:30} {wide_msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Drop for TerminalProgress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Progress for TerminalProgress {
    fn on_repositories_listed(&self, _registry: &RegistryName, repositories: usize) {
        self.0.inc_length(repositories as u64);
    }

    fn on_repository_read(&self, registry: &RegistryName, repository: &RepositoryName, tags: usize) {
        self.0.set_message(format!("{registry}/{repository}: {tags} tags"));
        self.0.inc(1);
    }
}
