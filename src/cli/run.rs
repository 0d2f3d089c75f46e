//! `tagwarden run`: one complete run, as the daemon would do it.

use std::path::{Path, PathBuf};

use clap::Args;

use super::arguments::{ReportFormat, parse_reason};
use super::context::{LoadedConfig, RefusalEffect, file_formats, load, open_loaded_app, print_report, report_outcome};
use super::narrow::NarrowArgs;
use super::outcome_text;
use super::output::print_stderr;
use super::progress::TerminalProgress;
use super::run_notifier::{RunNotifier, notify_load_failure};
use crate::config::Mode;
use crate::report::{self, Format};
use crate::state::RunKind;
use crate::workflow::{Narrowing, PlanOptions, RunError, RunOptions};

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
    /// Also write the report to a file; repeatable
    ///
    /// The extension chooses the format: json, md, html, csv, txt, jira or servicenow.
    #[arg(long, value_name = "FILE")]
    out: Vec<PathBuf>,
    /// Only report what the run would do now; remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    narrow: NarrowArgs,
    /// Remove in spite of a window or freeze, for this reason
    ///
    /// The reason goes into the audit record.
    #[arg(long, value_name = "REASON", alias = "despite-freeze", value_parser = parse_reason)]
    override_freeze: Option<String>,
}

/// Decides, removes if enforced, and prints the report.
pub(super) async fn run(config: Option<&Path>, args: &RunArgs) -> Result<u8, RunError> {
    let formats = file_formats(&args.out)?;
    let loaded = match load(config) {
        Ok(loaded) => loaded,
        Err(error) => return Err(notify_load_failure(config, error).await),
    };
    let narrowing = args.narrow.narrowing(&loaded.0.0, &loaded.0.1)?;
    if args.dry_run {
        return Box::pin(dry_run(loaded, narrowing, args, &formats)).await;
    }
    let notifier = RunNotifier::start(&loaded.0.0);
    let result = async {
        let app = open_loaded_app(loaded).await?;
        let bar = TerminalProgress::new(app.progress());
        let options = RunOptions { override_reason: args.override_freeze.clone(), narrowing, ..RunOptions::default() };
        let ended = app.run_with(options, &()).await;
        drop(bar);
        app.close().await;
        ended
    };
    let result = Box::pin(result).await;
    notifier.notify_run(RunKind::Run, result.as_ref());
    let shown = result.and_then(|mut ended| {
        let has_outcomes = ended.outcomes().next().is_some();
        ended.document.is_applied = has_outcomes;
        print_report(&mut ended.document, args.format.into(), &formats)?;
        // A run leaves out what its plan refuses; `apply` skips it, because it was approved.
        let enforced = ended.document.mode == Mode::Enforce.label() && ended.context.blocked_by.is_none();
        let refused = if enforced { report::count_refused(&ended.document) } else { 0 };
        if has_outcomes || refused > 0 {
            // The log has a line for each removal already, unless it was turned off.
            let is_logged = tracing::event_enabled!(target: "tagwarden::apply", tracing::Level::INFO);
            let text = outcome_text::applied_text(&ended, is_logged, refused);
            print_stderr(text.trim_end());
        }
        if let Some(why) = &ended.context.blocked_by {
            print_stderr(&format!("nothing was removed: {why}; `--override-freeze REASON` removes all the same"));
        }
        Ok(report_outcome(&ended, if enforced { RefusalEffect::Enforced } else { RefusalEffect::DryRun }))
    });
    notifier.finish().await;
    shown
}

/// Reports what the run would do: a plan, and what would hold its removals back now. Nobody is notified: nothing happened.
async fn dry_run(
    loaded: LoadedConfig,
    narrowing: Narrowing,
    args: &RunArgs,
    formats: &[(&Path, Format)],
) -> Result<u8, RunError> {
    let app = open_loaded_app(loaded).await?;
    let bar = TerminalProgress::new(app.progress());
    let override_reason = args.override_freeze.clone();
    let options = PlanOptions { narrowing, override_reason, ..PlanOptions::default() };
    let result = app.plan_with(options, &()).await;
    drop(bar);
    app.close().await;
    let mut result = result?;
    print_report(&mut result.document, args.format.into(), formats)?;
    if let Some(why) = &result.document.blocked_by {
        print_stderr(&format!("a run would remove nothing now: {why}"));
    }
    Ok(report_outcome(&result, RefusalEffect::DryRun))
}
