//! `tagwarden runs`: the audit record, and one run in detail.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::arguments::{ReportFormat, listed, parse_limit, parse_run_kind, parse_time};
use super::context::{file_formats, json_document, open_read_only, pretty_json, system_clock, write_files};
use super::outcome_text;
use super::output::{fit_terminal, print, print_report_as};
use crate::domain::Failure;
use crate::report::{self, Format};
use crate::state::RunKind;
use crate::workflow::{RunError, RunQuery};

#[derive(Debug, Args)]
pub(super) struct RunsArgs {
    #[command(subcommand)]
    command: Option<RunsCommand>,
    /// Choose the format; the list is text, json or csv only
    #[arg(long, value_enum, default_value_t = ReportFormat::Text, global = true)]
    format: ReportFormat,
    /// List this many runs
    #[arg(long, default_value_t = 30, value_parser = parse_limit)]
    limit: u32,
    /// List only runs that began since, such as 7d or 2026-12-24
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    since: Option<Timestamp>,
    /// List only runs that began before, such as 1h or 2026-12-24
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    until: Option<Timestamp>,
    /// List only runs of this command: plan, run, apply or restore; repeatable
    #[arg(
        long,
        value_name = "COMMAND",
        value_parser = listed(RunKind::ALL.map(RunKind::label), parse_run_kind),
        hide_possible_values = true
    )]
    kind: Vec<RunKind>,
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
    /// List everything that was removed or restored in a period
    ///
    /// One row for each tag, of all runs, with who ran it and who approved it. As text, json or csv.
    Journal {
        /// List only what happened since, such as 30d or 2026-12-24
        #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
        since: Option<Timestamp>,
        /// List only what happened before, such as 1h or 2026-12-24
        #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
        until: Option<Timestamp>,
        /// List only what runs of this command did: run, apply or restore; repeatable
        #[arg(
            long,
            value_name = "COMMAND",
            value_parser = listed(RunKind::ALL.map(RunKind::label), parse_run_kind),
            hide_possible_values = true
        )]
        kind: Vec<RunKind>,
    },
}

/// Lists runs, or shows one.
pub(super) async fn runs(config: Option<&Path>, args: &RunsArgs) -> Result<u8, RunError> {
    let format = args.format.into();
    match &args.command {
        None => {
            verify_period(args.since, args.until)?;
            let app = open_read_only(config).await?;
            let query = RunQuery { since: args.since, until: args.until, kinds: args.kind.clone() };
            let listed = app.list_runs(&query, args.limit).await;
            app.close().await;
            let (runs, more) = listed?;
            match format {
                Format::Text => {
                    fit_terminal();
                    if runs.is_empty() && query != RunQuery::default() {
                        print("no runs match\n");
                        return Ok(0);
                    }
                    print(&outcome_text::runs_text(&runs));
                    print(&outcome_text::more_runs_text(runs.len(), more));
                }
                Format::Json => print(&json_document("tagwarden.runs/1", json!({ "runs": runs, "more": more }))),
                Format::Csv => print_report_as(Format::Csv, |out| report::write_runs_csv(&runs, out)),
                other => {
                    let message = format!("the list of runs is text, json or csv, not {}", other.label());
                    return Err(RunError::usage(message));
                }
            }
        }
        Some(RunsCommand::Journal { since, until, kind }) => {
            let query = RunQuery { since: *since, until: *until, kinds: kind.clone() };
            journal(config, &query, format).await?;
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

/// Lists the journal of a period.
async fn journal(config: Option<&Path>, query: &RunQuery, format: Format) -> Result<(), RunError> {
    verify_period(query.since, query.until)?;
    if !matches!(format, Format::Text | Format::Json | Format::Csv) {
        return Err(RunError::usage(format!("the journal of a period is text, json or csv, not {}", format.label())));
    }
    let app = open_read_only(config).await?;
    let entries = app.journal_of_period(query).await;
    app.close().await;
    let entries = entries?;
    match format {
        Format::Json => {
            let value = json!({ "since": query.since, "until": query.until, "entries": entries });
            print(&json_document("tagwarden.journal/1", value));
        }
        Format::Csv => print_report_as(Format::Csv, |out| report::write_journal_csv(&entries, out)),
        _ => {
            fit_terminal();
            print(&outcome_text::journal_text(&entries));
        }
    }
    Ok(())
}

/// Makes sure that a period can contain something.
///
/// # Errors
/// Returns a usage error for an end before the beginning, and for a beginning in the future.
fn verify_period(since: Option<Timestamp>, until: Option<Timestamp>) -> Result<(), RunError> {
    let Some(since) = since else { return Ok(()) };
    if let Some(until) = until.filter(|until| *until <= since) {
        let words = format!(
            "the period is empty: `--since` ({}) is not before `--until` ({})",
            report::format_minute(since),
            report::format_minute(until)
        );
        return Err(RunError::Usage(Failure::new((), words).with_help("`7d` means 7 days ago; exchange the two")));
    }
    if since > system_clock()() {
        let words = format!("`--since` is in the future ({})", report::format_minute(since));
        return Err(RunError::Usage(Failure::new((), words).with_help("`7d` means 7 days ago, and `+7d` in 7 days")));
    }
    Ok(())
}
