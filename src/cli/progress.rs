//! A progress bar on a terminal. Elsewhere the log has the same, once a minute.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::output::is_quiet;
use crate::report::RunProgress;

/// The shortest time between two changes of the bar.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);

/// The bar and the task that updates it, until this is dropped.
pub(super) struct TerminalProgress(Option<(ProgressBar, JoinHandle<()>)>);

impl TerminalProgress {
    /// Shows the progress of an app, if stderr is a terminal.
    pub(super) fn new(progress: watch::Receiver<Option<RunProgress>>) -> Self {
        if !std::io::stderr().is_terminal() || is_quiet() {
            return Self(None);
        }
        let bar = ProgressBar::new(1);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:20} {wide_msg}") {
            bar.set_style(style);
        }
        let task = tokio::spawn(update(bar.clone(), progress));
        Self(Some((bar, task)))
    }
}

impl Drop for TerminalProgress {
    fn drop(&mut self) {
        if let Some((bar, task)) = self.0.take() {
            task.abort();
            bar.finish_and_clear();
        }
    }
}

async fn update(bar: ProgressBar, mut progress: watch::Receiver<Option<RunProgress>>) {
    loop {
        let latest = progress.borrow_and_update().clone();
        if let Some(latest) = latest {
            let (done, total) = latest.steps().unwrap_or((0, 1));
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(latest.describe());
        }
        tokio::time::sleep(UPDATE_INTERVAL).await;
        if progress.changed().await.is_err() {
            return;
        }
    }
}
