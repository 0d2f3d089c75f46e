//! Notifications about the runs of commands.

use std::path::Path;

use super::context::{current_user, environment, system_clock};
use crate::apply::Clock;
use crate::config::{self, Mode, Settings};
use crate::notify::{FINISH_TIMEOUT, Notifier, RunEvent};
use crate::state::RunKind;
use crate::workflow::{RunError, RunResult};

/// The sender of notifications about one run.
pub(super) struct RunNotifier {
    notifier: Notifier,
    mode: Mode,
    clock: Clock,
}

impl RunNotifier {
    pub(super) fn start(settings: &Settings) -> Self {
        let clock = system_clock();
        Self { notifier: Notifier::start(&settings.notify, &settings.state, &clock), mode: settings.mode, clock }
    }

    /// Starts to send the result; the rest of the command need not wait.
    pub(super) fn notify_run(&self, kind: RunKind, came: Result<&RunResult, &RunError>) {
        self.notifier.enqueue(RunEvent::new(kind, came, self.mode, &current_user(), (self.clock)()));
    }

    /// Waits for unsent messages, but not for long.
    pub(super) async fn finish(self) {
        self.notifier.finish(FINISH_TIMEOUT).await;
    }
}

/// Reports that a run could not start, if the settings themselves can be read, and returns the error.
pub(super) async fn notify_load_failure(config: Option<&Path>, error: RunError) -> RunError {
    let settings = config::find(config).and_then(|file| config::load(&file, environment()));
    let Ok(settings) = settings else { return error };
    let notifier = RunNotifier::start(&settings);
    notifier.notify_run(RunKind::Run, Err(&error));
    notifier.finish().await;
    error
}
