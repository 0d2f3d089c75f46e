//! The commands `hold`, `holds` and `unhold`.

use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use super::arguments::{DataFormat, ListFormat, parse_duration, parse_reason, parse_time};
use super::context::{open_app, open_existing, open_read_only, pretty_json};
use super::output::{fit_terminal, print, print_report_as, print_stderr};
use crate::domain::{Hold, HoldOrigin};
use crate::report::{self, EndedHoldView, Format, HoldView};
use crate::workflow::{HoldRequest, HoldResult, HoldUntil, RunError, StopResult};

/// The default duration of a hold.
const DEFAULT_DURATION: Duration = Duration::from_hours(14 * 24);

#[derive(Debug, Args)]
pub(super) struct HoldArgs {
    /// Name the tag: REGISTRY/REPOSITORY:TAG or HOST/REPOSITORY:TAG
    image: String,
    /// Hold for this long, such as 36h or 30d [default: 14d]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, conflicts_with = "until")]
    hold_for: Option<Duration>,
    /// Hold until this time, such as +3d or 2026-12-24
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    until: Option<Timestamp>,
    /// Say why; reports show it
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    reason: String,
    /// Hold the name even if the registry has no such tag now
    #[arg(long)]
    anyway: bool,
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    format: DataFormat,
}

#[derive(Debug, Args)]
pub(super) struct HoldsArgs {
    /// List the holds that have ended, too
    ///
    /// With the time of their end, and who ended them.
    #[arg(long)]
    all: bool,
    /// List only holds that were set since, such as 7d or 2026-12-24
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    since: Option<Timestamp>,
    /// List only holds of people, or only those of restored tags
    #[arg(long, value_enum, value_name = "ORIGIN")]
    origin: Option<Origin>,
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    format: ListFormat,
}

/// Who set a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Origin {
    Person,
    Restore,
}

impl HoldsArgs {
    fn includes(&self, hold: &Hold) -> bool {
        let origin = self.origin.map(|origin| match origin {
            Origin::Person => HoldOrigin::Person,
            Origin::Restore => HoldOrigin::Restore,
        });
        self.since.is_none_or(|since| hold.since >= since) && origin.is_none_or(|origin| hold.origin == origin)
    }
}

#[derive(Debug, Args)]
pub(super) struct UnholdArgs {
    /// Name the tag: REGISTRY/REPOSITORY:TAG or HOST/REPOSITORY:TAG
    image: String,
}

/// Sets a hold.
pub(super) async fn hold(config: Option<&Path>, args: &HoldArgs) -> Result<u8, RunError> {
    let app = open_app(config).await?;
    let until = args.until.map_or_else(|| HoldUntil::For(args.hold_for.unwrap_or(DEFAULT_DURATION)), HoldUntil::At);
    let (image, reason) = (args.image.clone(), args.reason.clone());
    let set = app.hold(&HoldRequest { image, until, reason, allow_missing: args.anyway }).await;
    app.close().await;
    let HoldResult { hold, is_earlier: earlier, stop_result: stopped } = set?;
    let view = HoldView::from(&hold);
    match &stopped {
        StopResult::NotRunning => {}
        StopResult::Stopped(holder) => print_stderr(&format!("stopped: {holder}; the next run decides with this hold")),
        StopResult::StillRunning(holder) => print_stderr(&format!(
            "not stopped yet: {holder}; it leaves this tag and image alone, and may still remove what depends on them"
        )),
    }
    if earlier {
        print_stderr("an earlier hold lasts longer and stays as it is; `tagwarden unhold` ends it");
    }
    match args.format {
        DataFormat::Text => {
            print(&format!("{} {}\n", report::sanitize(&view.name()), report::sanitize(&view.describe())));
        }
        DataFormat::Json => print(&pretty_json(&json!(view))),
    }
    Ok(0)
}

/// Lists the holds in force, and those that are over if that is asked for.
pub(super) async fn holds(config: Option<&Path>, args: &HoldsArgs) -> Result<u8, RunError> {
    let app = open_read_only(config).await?;
    let holds = app.holds().await;
    let ended = if args.all { app.ended_holds().await.map(Some) } else { Ok(None) };
    app.close().await;
    let views: Vec<HoldView> = holds?.iter().filter(|hold| args.includes(hold)).map(HoldView::from).collect();
    let ended: Option<Vec<EndedHoldView>> =
        ended?.map(|ended| ended.iter().filter(|ended| args.includes(&ended.hold)).map(EndedHoldView::from).collect());
    match args.format {
        ListFormat::Text => {
            fit_terminal();
            print(&report::holds_text(&views));
            if let Some(ended) = &ended {
                print(&format!("\n{}", report::ended_holds_text(ended)));
            }
        }
        ListFormat::Csv => {
            let ended = ended.unwrap_or_default();
            print_report_as(Format::Csv, |out| report::write_holds_csv(&views, &ended, out));
        }
        ListFormat::Json => {
            let mut document = json!({ "schema": "tagwarden.holds/1", "holds": views });
            if let Some(ended) = ended {
                document["ended"] = json!(ended);
            }
            print(&pretty_json(&document));
        }
    }
    Ok(0)
}

/// Ends the holds on a tag.
pub(super) async fn unhold(config: Option<&Path>, args: &UnholdArgs) -> Result<u8, RunError> {
    let app = open_existing(config).await?;
    let result = app.unhold(&args.image).await;
    app.close().await;
    let (name, _) = result?;
    print(&format!("{} is no longer held\n", report::sanitize(&name)));
    Ok(0)
}
