//! `tagwarden plan`: the decision about every tag, as a report.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::arguments::{ReportFormat, parse_time};
use super::context::{RefusalEffect, file_formats, open_app, print_report, report_outcome, run_until_stopped};
use super::narrow::NarrowArgs;
use super::progress::TerminalProgress;
use crate::workflow::{PlanOptions, RunError};

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
    /// Also write the report to a file; repeatable
    ///
    /// The extension chooses the format: json, md, html, csv or txt.
    #[arg(long, value_name = "FILE")]
    out: Vec<PathBuf>,
    /// Decide as of this time, such as +14d; such a plan cannot be applied
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true, long_help = AT_HELP)]
    at: Option<Timestamp>,
    #[command(flatten)]
    narrow: NarrowArgs,
}

/// The long help of `--at`.
pub(super) const AT_HELP: &str = "Decide as of this time, such as +14d; such a plan cannot be applied\n\n\
    A time is `2026-12-24T03:00:00Z`, a day such as `2026-12-24` (its beginning in UTC), `+14d` from now, or `1h` ago.";

/// Decides about every tag and prints the report.
pub(super) async fn plan(config: Option<&Path>, args: &PlanArgs) -> Result<u8, RunError> {
    let formats = file_formats(&args.out)?;
    let app = open_app(config).await?;
    let bar = TerminalProgress::new(app.progress());
    let result = match args.narrow.narrowing(&app.settings, &app.policies) {
        Ok(narrowing) => {
            let options = PlanOptions { at: args.at, narrowing, ..PlanOptions::default() };
            run_until_stopped(&app, app.plan_with(options, &())).await
        }
        Err(error) => Err(error),
    };
    drop(bar);
    app.close().await;
    let result = result?;
    print_report(&result.document, args.format.into(), &formats)?;
    Ok(report_outcome(&result, RefusalEffect::DryRun))
}
