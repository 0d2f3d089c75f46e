//! `tagwarden sources`: the claims and protected tags of each source, one in detail, and the acceptance of doubted
//! answers.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;

use super::arguments::DataFormat;
use super::context::{
    json_document, missing_evidence, open_app_to_look, open_existing, pretty_json, run_until_stopped,
};
use super::output::{print, print_stderr};
use super::progress::TerminalProgress;
use crate::domain::Failure;
use crate::report;
use crate::workflow::{RunError, RunOutcome};

#[derive(Debug, Args)]
pub(super) struct SourcesArgs {
    #[command(subcommand)]
    command: Option<SourcesCommand>,
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = DataFormat::Text, global = true)]
    format: DataFormat,
}

#[derive(Debug, Subcommand)]
enum SourcesCommand {
    /// Show one source's claims, mentions and unresolved references
    ///
    /// With the place of each, and the tags that it protects.
    Show {
        /// Name the source, as in the settings
        name: String,
        /// Show long lists in full; JSON always has all
        #[arg(long)]
        all: bool,
    },
    /// Accept the answer of a source that lost most of its claims
    ///
    /// A source that claims less than half of what it claimed before counts as failed until a person accepts it.
    Accept {
        /// Name the source, as in the settings
        name: String,
    },
}

/// Shows sources, or accepts the answer of one.
pub(super) async fn sources(config: Option<&Path>, args: &SourcesArgs) -> Result<u8, RunError> {
    match &args.command {
        None => list_sources(config, args.format).await,
        Some(SourcesCommand::Show { name, all }) => show_source(config, name, *all, args.format).await,
        Some(SourcesCommand::Accept { name }) => {
            let app = open_existing(config).await?;
            let accepted = app.accept_source(name).await;
            app.close().await;
            print(&format!("source {name} is believed again, with {}\n", report::counted(accepted?, "claim")));
            Ok(0)
        }
    }
}

async fn list_sources(config: Option<&Path>, format: DataFormat) -> Result<u8, RunError> {
    let app = open_app_to_look(config).await?;
    let bar = TerminalProgress::new(app.progress());
    let decision = run_until_stopped(&app, app.decide_sources(&())).await;
    drop(bar);
    app.close().await;
    let document = decision?.document;
    match format {
        DataFormat::Text => print(&report::sources_text(&document)),
        DataFormat::Json => {
            print(&json_document("tagwarden.sources/1", json!({ "sources": to_json(&document.sources)? })));
        }
    }
    if document.evidence_missing() {
        print_stderr(&missing_evidence(&document.attention, 0));
    }
    Ok(exit_code(document.evidence_missing()))
}

async fn show_source(config: Option<&Path>, name: &str, all: bool, format: DataFormat) -> Result<u8, RunError> {
    let app = open_app_to_look(config).await?;
    let bar = TerminalProgress::new(app.progress());
    let detail = run_until_stopped(&app, app.source_detail(name, &())).await;
    drop(bar);
    app.close().await;
    let detail = detail?;
    match format {
        DataFormat::Text => print(&report::source_detail_text(&detail, all)),
        DataFormat::Json => print(&pretty_json(&to_json(&detail)?)),
    }
    Ok(exit_code(detail.error.is_some()))
}

fn exit_code(failed: bool) -> u8 {
    if failed { RunOutcome::EvidenceMissing.exit_code() } else { 0 }
}

fn to_json(value: &impl serde::Serialize) -> Result<serde_json::Value, RunError> {
    serde_json::to_value(value)
        .map_err(|error| RunError::Output(Failure::new((), "the view cannot be written as JSON").caused_by(error)))
}
