//! `tagwarden runs`: the audit record, and one run in detail.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::arguments::ReportFormat;
use super::context::{file_formats, open_read_only, pretty_json, write_files};
use super::outcome_text;
use super::output::{fit_terminal, print, print_report_as};
use crate::report::{self, Format, RunView};
use crate::workflow::{self, App, RunError};

#[derive(Debug, Args)]
pub(super) struct RunsArgs {
    #[command(subcommand)]
    command: Option<RunsCommand>,
    /// Choose the format; the list is text or json only
    #[arg(long, value_enum, default_value_t = ReportFormat::Text, global = true)]
    format: ReportFormat,
    /// List this many runs
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Debug, Subcommand)]
enum RunsCommand {
    /// Show one run with everything it did
    Show {
        /// Name the run: its id, a unique prefix, or `last`
        id: String,
        /// Print the policies that it used, with their texts
        ///
        /// As text or json. The state keeps them as long as the run.
        #[arg(long, conflicts_with = "out")]
        policies: bool,
        /// Also write the report to a file; repeatable
        ///
        /// The extension chooses the format: json, md, html, csv, txt, jira or servicenow.
        #[arg(long, value_name = "FILE")]
        out: Vec<PathBuf>,
    },
}

/// Lists runs, or shows one.
pub(super) async fn runs(config: Option<&Path>, args: &RunsArgs) -> Result<u8, RunError> {
    let format = args.format.into();
    match &args.command {
        None => {
            let app = open_read_only(config).await?;
            let listed = list_runs(&app, args.limit).await;
            app.close().await;
            let runs = listed?;
            match format {
                Format::Text => {
                    fit_terminal();
                    print(&outcome_text::runs_text(&runs));
                }
                Format::Json => print(&pretty_json(&json!(runs))),
                other => {
                    return Err(RunError::usage(format!("the list of runs is text or json, not {}", other.label())));
                }
            }
        }
        Some(RunsCommand::Show { id, policies: true, .. }) => {
            let app = open_read_only(config).await?;
            let found = app.run_policies(id).await;
            app.close().await;
            let found = found?;
            match format {
                Format::Text => print(&found.text()),
                Format::Json => print(&pretty_json(&json!(found))),
                other => {
                    let message = format!("the policies of a run are text or json, not {}", other.label());
                    return Err(RunError::usage(message));
                }
            }
        }
        Some(RunsCommand::Show { id, out, .. }) => {
            let files = file_formats(out)?;
            let app = open_read_only(config).await?;
            let shown = app.run_report(id).await;
            app.close().await;
            let (view, plan) = shown?;
            let write = |format, out: &mut dyn io::Write| report::write_run(&view, plan.as_ref(), format, out);
            write_files(&files, write)?;
            print_report_as(format, |out| write(format, out));
        }
    }
    Ok(0)
}

/// Reads the last runs, the latest first.
async fn list_runs(app: &App, limit: u32) -> Result<Vec<RunView>, RunError> {
    let records = app.store.runs(limit).await?;
    Ok(workflow::run_views(&app.store, &records).await?)
}
