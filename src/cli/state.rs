//! Looking after the state.

use std::path::Path;

use super::commands::environment;
use super::output::say;
use super::{StateArgs, StateCommand};
use crate::config;
use crate::report;
use crate::run::RunError;
use crate::store::{Backup, Store};

/// Backs up the state. Only `state` is read of the settings: a backup is wanted most when something else is wrong.
pub(super) async fn state(config: Option<&Path>, args: &StateArgs) -> Result<u8, RunError> {
    let settings = config::find(config)?;
    let environment: Vec<(String, String)> = environment().collect();
    let state = config::state_path(&settings, &environment)?;
    let StateCommand::Backup { file } = &args.command;
    let Backup { bytes, runs, entries } = Store::back_up(&state, file).await?;
    say(&format!(
        "backed up {} to {}: {}, {}, {}",
        state.display(),
        file.display(),
        report::counted(runs, "run"),
        if entries == 1 { "1 journal entry".to_owned() } else { format!("{} journal entries", report::count(entries)) },
        report::bytes(bytes),
    ));
    Ok(0)
}
