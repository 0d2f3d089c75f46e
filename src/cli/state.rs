//! `tagwarden state`: backups of the state, and its record of time.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::arguments::parse_reason;
use super::context::{current_user, environment, system_clock};
use super::output::{print_note, print_stderr};
use crate::config;
use crate::report;
use crate::state::{Backup, StateStore};
use crate::workflow::RunError;

#[derive(Debug, Args)]
pub(super) struct StateArgs {
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Debug, Subcommand)]
enum StateCommand {
    /// Copy the state into a new file
    ///
    /// Safe beside a running daemon.
    Backup {
        /// Write to this file; it must not exist
        file: PathBuf,
    },
    /// Trust the present time, although a later one was recorded
    AcceptClock {
        /// Say why the recorded time is wrong, for the record
        #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
        reason: String,
    },
}

/// Backs up the state or corrects what it knows of the time. Only `state` is read of the settings: a
/// backup is wanted most when something else is wrong.
pub(super) async fn state(config: Option<&Path>, args: &StateArgs) -> Result<u8, RunError> {
    let settings = config::find(config)?;
    let environment: Vec<(String, String)> = environment().collect();
    let state = config::state_path(&settings, &environment)?;
    let file = match &args.command {
        StateCommand::Backup { file } => file,
        StateCommand::AcceptClock { reason } => return accept_clock(&state, reason).await,
    };
    let Backup { bytes, runs, entries } = StateStore::back_up(&state, file).await?;
    print_note(&format!(
        "backed up {} to {}: {}, {}, {}",
        state.display(),
        file.display(),
        report::counted(runs, "run"),
        if entries == 1 {
            "1 journal entry".to_owned()
        } else {
            format!("{} journal entries", report::format_count(entries))
        },
        report::format_bytes(bytes),
    ));
    Ok(0)
}

/// Takes the present time for right.
async fn accept_clock(state: &Path, reason: &str) -> Result<u8, RunError> {
    if !state.exists() {
        return Err(RunError::usage(format!("there is no state at {}", state.display())));
    }
    let (store, now) = (StateStore::open(state).await?, system_clock()());
    let before = store.newest_time().await?;
    store.accept_time(now, &current_user(), reason).await?;
    let later = before.confirmed.max(before.recorded).filter(|time| *time > now);
    print_stderr(&match later {
        Some(later) => format!("from now on, {now} counts as the newest time instead of {later}"),
        None => format!("the state knows no time after {now}; nothing was to be corrected"),
    });
    store.close().await;
    Ok(0)
}
