//! `tagwarden notify`: a test message to a channel of the settings.

use std::path::Path;

use clap::{Args, Subcommand};

use super::context::{current_user, environment, system_clock};
use super::output::print;
use crate::config;
use crate::domain::Failure;
use crate::notify;
use crate::workflow::{self, RunError};

#[derive(Debug, Args)]
pub(super) struct NotifyArgs {
    #[command(subcommand)]
    command: NotifyCommand,
}

#[derive(Debug, Subcommand)]
enum NotifyCommand {
    /// Send a test message
    Test {
        /// Name the receiver, as in `[notify.NAME]` of the settings
        name: String,
    },
}

/// Sends a test message.
pub(super) async fn notify(config: Option<&Path>, args: &NotifyArgs) -> Result<u8, RunError> {
    let NotifyCommand::Test { name } = &args.command;
    send_test(config, name).await
}

/// Sends a test message to one of the configured receivers.
async fn send_test(config: Option<&Path>, name: &str) -> Result<u8, RunError> {
    let settings = config::load(&config::find(config)?, environment())?;
    let Some(one) = settings.notify.iter().find(|one| one.name == name) else {
        if settings.notify.is_empty() {
            let failure = Failure::new((), format!("unknown receiver `{name}`: the settings have no receivers"));
            let help = format!("add `[notify.{name}]` to {}", settings.file.display());
            return Err(RunError::Usage(failure.with_help(help)));
        }
        let known: Vec<&str> = settings.notify.iter().map(|one| one.name.as_str()).collect();
        return Err(workflow::unknown_name("receiver", name, &known));
    };
    notify::send_test(one, &current_user(), (system_clock())())
        .await
        .map_err(|error| RunError::Output(error.with_kind(())))?;
    print(&format!("sent a test message to {name} ({})\n", one.channel.label()));
    Ok(0)
}
