//! Telling of runs that commands do, and trying out how it is told.

use std::path::Path;

use super::commands::{current_user, environment, system_clock};
use super::output::print;
use crate::apply::Clock;
use crate::config::{self, Mode, Settings};
use crate::notify::{self, FINISH_TIMEOUT, Notifier, RunEvent};
use crate::state::RunKind;
use crate::workflow::{RunError, RunResult};

/// Tells of one run, as the settings say.
pub(super) struct CommandNotifier {
    notifier: Notifier,
    mode: Mode,
    clock: Clock,
}

impl CommandNotifier {
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
    let telling = CommandNotifier::start(&settings);
    telling.notify_run(RunKind::Run, Err(&error));
    telling.finish().await;
    error
}

/// Sends a test message to one of those that the settings name.
pub(super) async fn send_test(config: Option<&Path>, name: &str) -> Result<u8, RunError> {
    let settings = config::load(&config::find(config)?, environment())?;
    let Some(one) = settings.notify.iter().find(|one| one.name == name) else {
        let known: Vec<&str> = settings.notify.iter().map(|one| one.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(RunError::Usage(format!("the settings have no [notify.{name}]; there is: {known}")));
    };
    notify::send_test(one, &current_user(), (system_clock())())
        .await
        .map_err(|error| RunError::Output(error.to_string()))?;
    print(&format!("sent a test message to {name} ({})\n", one.channel.label()));
    Ok(0)
}
