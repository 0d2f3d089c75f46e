//! `tagwarden run`: one whole run, as the daemon would do it.

use std::path::{Path, PathBuf};

use clap::Args;

use super::arguments::{ReportFormat, parse_reason};
use super::context::{RefusalEffect, file_formats, load, open_loaded_app, print_report, report_outcome};
use super::outcome_text;
use super::output::print_stderr;
use super::progress::TerminalProgress;
use super::run_notifier::{RunNotifier, notify_load_failure};
use crate::config::Mode;
use crate::state::RunKind;
use crate::workflow::{RunError, RunOptions};

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// What to print
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
    /// Also write the report to a file, in the format of its extension; repeatable
    #[arg(long, value_name = "FILE")]
    out: Vec<PathBuf>,
    /// Remove although a window or a freeze holds removals back; the reason goes into the audit record
    #[arg(long, value_name = "REASON", alias = "despite-freeze", value_parser = parse_reason)]
    override_freeze: Option<String>,
}

/// Decides, removes where that is enforced, and prints the report.
pub(super) async fn run(config: Option<&Path>, args: &RunArgs) -> Result<u8, RunError> {
    let formats = file_formats(&args.out)?;
    let loaded = match load(config) {
        Ok(loaded) => loaded,
        Err(error) => return Err(notify_load_failure(config, error).await),
    };
    let notifier = RunNotifier::start(&loaded.0.0);
    let result = async {
        let app = open_loaded_app(loaded).await?;
        let bar = TerminalProgress::new(app.progress());
        let options = RunOptions { override_reason: args.override_freeze.clone(), ..RunOptions::default() };
        let ended = app.run_with(options, &()).await;
        drop(bar);
        app.close().await;
        ended
    };
    let result = result.await;
    notifier.notify_run(RunKind::Run, result.as_ref());
    let shown = result.and_then(|ended| {
        print_report(&ended.document, args.format.into(), &formats)?;
        if ended.outcomes().next().is_some() {
            print_stderr(outcome_text::applied_text(&ended).trim_end());
        }
        if let Some(why) = &ended.context.blocked_by {
            print_stderr(&format!("nothing was removed: {why}; `--override-freeze REASON` removes all the same"));
        }
        let enforced = ended.document.mode == Mode::Enforce.label() && ended.context.blocked_by.is_none();
        Ok(report_outcome(&ended, if enforced { RefusalEffect::Enforced } else { RefusalEffect::DryRun }))
    });
    notifier.finish().await;
    shown
}
