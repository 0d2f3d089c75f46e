//! `tagwarden plan`: the decision about every tag, as a report.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::arguments::{ReportFormat, parse_time};
use super::context::{RefusalEffect, file_formats, open_app, print_report, report_outcome, run_until_stopped};
use super::progress::TerminalProgress;
use crate::workflow::RunError;

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// What to print
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
    /// Also write the report to a file, in the format of its extension (json, md, html, csv, txt); repeatable
    #[arg(long, value_name = "FILE")]
    out: Vec<PathBuf>,
    /// Decide as of that time, such as 2026-12-24T03:00:00Z or 2026-12-24; such a plan cannot be applied
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<Timestamp>,
}

/// Decides about every tag and prints the report.
pub(super) async fn plan(config: Option<&Path>, args: &PlanArgs) -> Result<u8, RunError> {
    let formats = file_formats(&args.out)?;
    let app = open_app(config).await?;
    let bar = TerminalProgress::new(app.progress());
    let result = run_until_stopped(&app, app.plan(args.at, &())).await;
    drop(bar);
    app.close().await;
    let result = result?;
    print_report(&result.document, args.format.into(), &formats)?;
    Ok(report_outcome(&result, RefusalEffect::DryRun))
}
