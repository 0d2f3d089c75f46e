//! `tagwarden schedule`: the next runs of the daemon, and the blocked removals.

use std::fmt::Write as _;
use std::path::Path;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::arguments::{DataFormat, parse_count};
use super::context::{current_user, environment, json_document, system_clock};
use super::output::print;
use crate::config::{self, Settings};
use crate::daemon::{Timetable, build_timetable, host, next_runs};
use crate::domain::PolicyName;
use crate::web::NextRun;
use crate::workflow::{self, RunError};

#[derive(Debug, Args)]
pub(super) struct ScheduleArgs {
    /// List this many runs
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = parse_count)]
    count: u16,
    /// Choose the format on standard output
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    format: DataFormat,
}

/// Prints the next runs.
pub(super) fn schedule(config: Option<&Path>, args: &ScheduleArgs) -> Result<u8, RunError> {
    let file = config::find(config)?;
    let ((settings, _), policies) = workflow::load_without_secrets(&file, environment())?;
    let (now, by) = (system_clock()(), current_user());
    let table = build_timetable(&settings.schedule, &policies.policies, host(&by));
    let next = next_runs(&settings, &policies, host(&by), now, args.count.into());
    match args.format {
        DataFormat::Text => print(&schedule_text(&table, &settings, &next)),
        DataFormat::Json => print(&json_document("tagwarden.schedule/1", schedule_json(&table, &settings, &next, now))),
    }
    Ok(0)
}

fn schedule_text(table: &Timetable, settings: &Settings, next: &[NextRun]) -> String {
    let mut out = String::new();
    let zone = table.timezone.iana_name().unwrap_or("UTC");
    for line in &table.entries {
        let _ = write!(
            out,
            "{} {zone} (`{}`): {}",
            line.cron.describe(),
            line.cron,
            table.describe_policies(&line.policies)
        );
        let _ = match line.delay.as_secs() {
            0 => writeln!(out),
            delay => writeln!(out, ", {delay} seconds later on this machine"),
        };
    }
    let timed: usize = table.entries.iter().map(|line| line.policies.len()).sum();
    if table.entries.is_empty() {
        let _ = writeln!(
            out,
            "no schedule, neither in {} nor in a policy: nothing runs by itself",
            settings.file.display()
        );
        return out;
    }
    if timed < table.policy_count {
        let without = table.policy_count - timed;
        let _ = writeln!(out, "{without} of {} policies have no schedule and never have a turn", table.policy_count);
    }
    let _ = writeln!(out, "missed runs: {}\n", settings.schedule.missed.label());
    for run in next {
        let at = run.at.to_zoned(table.timezone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string();
        let _ = match &run.blocked_by {
            Some(why) => writeln!(out, "{at}  {}; removes nothing: {why}", run.description),
            None => writeln!(out, "{at}  {}", run.description),
        };
    }
    out
}

fn schedule_json(table: &Timetable, settings: &Settings, next: &[NextRun], now: Timestamp) -> Value {
    let lines = table.entries.iter().map(|line| {
        json!({
            "cron": line.cron.as_str(),
            "description": line.cron.describe(),
            "delay_seconds": line.delay.as_secs(),
            "policies": line.policies.iter().map(PolicyName::as_str).collect::<Vec<_>>(),
        })
    });
    let next = next.iter().map(|run| {
        json!({
            "at": run.at,
            "local": run.at.to_zoned(table.timezone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            "description": run.description,
            "blocked_by": run.blocked_by,
        })
    });
    json!({
        "now": now,
        "timezone": table.timezone.iana_name(),
        "missed": settings.schedule.missed.label(),
        "schedules": lines.collect::<Vec<_>>(),
        "blocked_by": settings.schedule.blocked_by(now).map(|block| block.to_string()),
        "next": next.collect::<Vec<_>>(),
    })
}
