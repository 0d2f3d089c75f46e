//! `tagwarden sources`: what each source says and protects right now, one of them in detail, and a person's answer.

use std::path::Path;

use clap::{Args, Subcommand};

use super::DataFormat;
use super::commands::{interruptible, open, pretty};
use super::output::print;
use super::progress::Bar;
use crate::report;
use crate::run::{RunError, RunOutcome};

#[derive(Debug, Args)]
pub(super) struct SourcesArgs {
    #[command(subcommand)]
    command: Option<SourcesCommand>,
    /// What to print
    #[arg(long, value_enum, default_value_t = DataFormat::Text, global = true)]
    format: DataFormat,
}

#[derive(Debug, Subcommand)]
enum SourcesCommand {
    /// Show what a source claims, mentions and leaves unresolved, where, and the tags that each protects
    Show {
        /// The source's name in the settings
        name: String,
        /// Show long lists in full; JSON always has all
        #[arg(long)]
        all: bool,
    },
    /// Believe a source that claimed less than half of what it claimed before
    Accept {
        /// The source's name in the settings
        name: String,
    },
}

pub(super) async fn sources(config: Option<&Path>, args: &SourcesArgs) -> Result<u8, RunError> {
    match &args.command {
        None => list(config, args.format).await,
        Some(SourcesCommand::Show { name, all }) => show(config, name, *all, args.format).await,
        Some(SourcesCommand::Accept { name }) => {
            let house = open(config).await?;
            let accepted = house.accept_source(name).await;
            house.close().await;
            print(&format!("source {name} is believed again, with {}\n", report::counted(accepted?, "claim")));
            Ok(0)
        }
    }
}

async fn list(config: Option<&Path>, format: DataFormat) -> Result<u8, RunError> {
    let house = open(config).await?;
    let bar = Bar::new();
    let decision = interruptible(&house, house.sources(&bar)).await;
    drop(bar);
    house.close().await;
    let document = decision?.document;
    match format {
        DataFormat::Text => print(&report::sources_text(&document)),
        DataFormat::Json => print(&pretty(&json(&document.sources)?)),
    }
    Ok(exit(document.sources.iter().any(|source| source.error.is_some())))
}

async fn show(config: Option<&Path>, name: &str, all: bool, format: DataFormat) -> Result<u8, RunError> {
    let house = open(config).await?;
    let bar = Bar::new();
    let detail = interruptible(&house, house.source_detail(name, &bar)).await;
    drop(bar);
    house.close().await;
    let detail = detail?;
    match format {
        DataFormat::Text => print(&report::source_detail_text(&detail, all)),
        DataFormat::Json => print(&pretty(&json(&detail)?)),
    }
    Ok(exit(detail.error.is_some()))
}

fn exit(failed: bool) -> u8 {
    if failed { RunOutcome::EvidenceMissing.exit_code() } else { 0 }
}

fn json(value: &impl serde::Serialize) -> Result<serde_json::Value, RunError> {
    serde_json::to_value(value).map_err(|error| RunError::Output(error.to_string()))
}
