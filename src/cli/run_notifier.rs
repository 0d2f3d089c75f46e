//! Notifications about the runs of commands.

use std::path::Path;

use super::context::{current_user, environment, system_clock};
use crate::apply::Clock;
use crate::config::{self, Mode, Settings};
use crate::notify::{FINISH_TIMEOUT, Notifier, RunEvent};
use crate::state::RunKind;
use crate::workflow::{RunError, RunResult};

/// Sender of notifications about one run, as the settings say.
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

    /// Begins to tell what came of it; the rest of the command need not wait.
    pub(super) fn notify_run(&self, kind: RunKind, came: Result<&RunResult, &RunError>) {
        self.notifier.enqueue(RunEvent::new(kind, came, self.mode, &current_user(), (self.clock)()));
    }

    /// Waits for what is still being sent, though not for long.
    pub(super) async fn finish(self) {
        self.notifier.finish(FINISH_TIMEOUT).await;
    }
}

/// Tells that a run could not even begin, where the settings themselves can be read, and gives the error back.
pub(super) async fn notify_load_failure(config: Option<&Path>, error: RunError) -> RunError {
    let settings = config::find(config).and_then(|file| config::load(&file, environment()));
    let Ok(settings) = settings else { return error };
    let notifier = RunNotifier::start(&settings);
    notifier.notify_run(RunKind::Run, Err(&error));
    notifier.finish().await;
    error
}
