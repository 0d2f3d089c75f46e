//! `tagwarden restore`: restores removed tags and holds them.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::arguments::{DataFormat, parse_duration, parse_time};
use super::context::{json_document, open_existing, open_existing_to_read};
use super::outcome_text;
use super::output::print;
use crate::apply::ExpectedRestore;
use crate::workflow::{RestoreSelection, RunError, RunOutcome};

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct RestoreTarget {
    /// Restore all tags of a run: its id, a unique prefix, or `last` for the last run that removed any
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// Restore all tags that were removed from a repository
    #[arg(long, value_name = "REGISTRY/REPOSITORY")]
    repository: Option<String>,
    /// Restore one tag: REGISTRY/REPOSITORY:TAG or HOST/REPOSITORY:TAG
    image: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    target: RestoreTarget,
    /// Restore only what was removed since, such as 1h or 2026-12-24
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true, conflicts_with_all = ["run", "image"])]
    since: Option<Timestamp>,
    /// Only show what can be restored, what cannot, and why
    #[arg(long)]
    dry_run: bool,
    /// Hold restored tags for this long [default: `undo_window`]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    hold_for: Option<Duration>,
    /// Do not hold restored tags
    #[arg(long, conflicts_with = "hold_for")]
    no_hold: bool,
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    format: DataFormat,
}

/// Restores removed tags, or previews that.
pub(super) async fn restore(config: Option<&Path>, args: &RestoreArgs) -> Result<u8, RunError> {
    let app = if args.dry_run { open_existing_to_read(config).await? } else { open_existing(config).await? };
    let what = match (&args.target.run, &args.target.repository, &args.target.image) {
        (Some(run), _, _) => Ok(RestoreSelection::Run(run.clone())),
        (_, Some(name), _) => Ok(RestoreSelection::Repository { name: name.clone(), since: args.since }),
        (_, _, Some(image)) => Ok(RestoreSelection::Image(image.clone())),
        _ => {
            Err(RunError::usage("name a run with `--run ID`, a repository with `--repository`, or an image".to_owned()))
        }
    }?;
    if args.dry_run {
        let previews = app.preview_restore(&what).await;
        app.close().await;
        let previews = previews?;
        match args.format {
            DataFormat::Text => print(&outcome_text::preview_text(&previews)),
            DataFormat::Json => {
                print(&json_document("tagwarden.restore-preview/1", outcome_text::preview_json(&previews)));
            }
        }
        let expects = |found: fn(&ExpectedRestore) -> bool| previews.iter().any(|one| found(&one.preview.expected));
        return Ok(if expects(|one| matches!(one, ExpectedRestore::Impossible(_) | ExpectedRestore::Incomplete(_))) {
            RunOutcome::Failed.exit_code()
        } else if expects(|one| matches!(one, ExpectedRestore::Unknown(_))) {
            RunOutcome::EvidenceMissing.exit_code()
        } else {
            0
        });
    }
    let hold = (!args.no_hold).then(|| args.hold_for.unwrap_or(app.settings.undo_window));
    let result = app.restore_with_hold(&what, hold).await;
    app.close().await;
    let result = result?;
    match args.format {
        DataFormat::Text => print(&outcome_text::restored_text(&result, hold)),
        DataFormat::Json => print(&json_document("tagwarden.restore/1", outcome_text::restored_json(&result))),
    }
    Ok(result.outcome().exit_code())
}
