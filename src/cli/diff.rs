//! `tagwarden diff`: the effect of an edit of policies, on the real inventory or on a recorded one.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::arguments::parse_time;
use super::context::{
    STANDARD, configured_policies_path, describe_input, open_app, pretty_json, read_input, run_until_stopped,
};
use super::output::{print, print_stderr};
use super::progress::TerminalProgress;
use crate::domain::{Failure, Policy};
use crate::policy;
use crate::report::{self, DiffView};
use crate::workflow::{DecisionInput, RunError, RunOutcome};

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// Compare with these policies: a file, a folder, or `-`
    ///
    /// For example those of the main branch. `-` reads one policy file from standard input.
    #[arg(long, value_name = "OLD_POLICIES")]
    against: PathBuf,
    /// Use these new policies [default: those of the settings]
    #[arg(long, value_name = "PATH")]
    policies: Option<PathBuf>,
    /// Decide on a recorded inventory (offline); `-` is standard input
    ///
    /// `tagwarden inventory --out FILE.json` records one.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// Decide as of this time, such as 2026-12-24 or +14d
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    at: Option<Timestamp>,
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = DiffFormat::Text)]
    format: DiffFormat,
    /// Exit with 1 if the policies decide differently
    ///
    /// If a tag newly expires, no longer expires, or would now be removed instead of reported.
    #[arg(long)]
    exit_code: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DiffFormat {
    Text,
    Json,
    Markdown,
}

/// Prints the effects of an edit of policies.
pub(super) async fn diff(config: Option<&Path>, args: &DiffArgs) -> Result<u8, RunError> {
    let inputs = [Some(&args.against), args.policies.as_ref(), args.inventory.as_ref()];
    if inputs.into_iter().flatten().filter(|path| path.as_os_str() == STANDARD).count() > 1 {
        return Err(RunError::usage("only one of the inputs can be `-`, standard input".to_owned()));
    }
    let old = load_policies(&args.against)?;
    let view = if let Some(file) = &args.inventory {
        let path = match &args.policies {
            Some(path) => path.clone(),
            None => configured_policies_path(config)?,
        };
        read_inventory_file(file)?.diff(old, load_policies(&path)?, args.at)
    } else {
        let new = args.policies.as_deref().map(load_policies).transpose()?;
        let app = open_app(config).await?;
        let bar = TerminalProgress::new(app.progress());
        let facts = run_until_stopped(&app, app.read_decision_input(args.at, &())).await;
        drop(bar);
        let new = new.unwrap_or_else(|| app.policies.policies.clone());
        app.close().await;
        facts?.diff(old, new, args.at)
    };
    print(&match args.format {
        DiffFormat::Text => report::diff_text(&view),
        DiffFormat::Markdown => report::diff_markdown(&view),
        DiffFormat::Json => pretty_json(&serde_json::json!(view)),
    });
    Ok(report_exit_code(args, &view))
}

fn report_exit_code(args: &DiffArgs, view: &DiffView) -> u8 {
    if args.exit_code && view.has_changes() {
        return 1;
    }
    if view.evidence_missing {
        print_stderr("evidence is missing: a source or a registry could not be read, so some tags are undecided");
        return RunOutcome::EvidenceMissing.exit_code();
    }
    0
}

fn load_policies(path: &Path) -> Result<Vec<Policy>, RunError> {
    if path.as_os_str() == STANDARD {
        return policy::parse("standard input", &read_input(path)?).map_err(RunError::Invalid);
    }
    match policy::load(path) {
        Ok(set) => Ok(set.policies),
        Err(error) => Err(RunError::Invalid(error.diagnostics)),
    }
}

fn read_inventory_file(file: &Path) -> Result<DecisionInput, RunError> {
    let failure = |what: &str| Failure::new((), format!("{}: {what}", describe_input(file)));
    let text = read_input(file)?;
    DecisionInput::from_json(&text).map_err(|error| {
        let failure = failure("not a recorded inventory").caused_by(error);
        RunError::Usage(failure.with_help("record one with `tagwarden inventory --out FILE`"))
    })
}
