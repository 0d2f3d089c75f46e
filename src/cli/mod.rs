//! The commands, as people and scripts call them. Data goes to stdout, words to stderr.

mod commands;
mod diff;
mod explain;
mod health;
mod hold;
mod notify;
mod outcome_text;
mod output;
mod policy_commands;
mod progress;
mod registries;
mod sanitize;
mod schedule;
mod serve;
mod signals;
mod sources;
mod state;
mod user;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use url::Url;

use crate::report::Format;

/// Retention and cleanup for container image tags: keeps what runs, what was released, and whatever it is not sure about.
#[derive(Debug, Parser)]
#[command(name = "tagwarden", version, about, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    /// The settings [default: ./tagwarden.toml, then /etc/tagwarden/tagwarden.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 unexpected failure, 2 usage, settings or policy error, 3 refused, \
    4 some removals failed, 5 evidence missing. Logs go to stderr; TAGWARDEN_LOG sets how much (`info`, `debug`), \
    TAGWARDEN_LOG_FORMAT=json that each line is an object.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole job on an embedded sample registry: nothing to install, nothing to configure
    Demo(DemoArgs),
    /// Check settings and policies and tell every problem, and what of the policies is hardly meant; reaches nothing
    /// outside
    Check(policy_commands::CheckArgs),
    /// Decide about every tag and report; nothing is removed
    Plan(PlanArgs),
    /// Apply an approved plan, exactly or less
    Apply(ApplyArgs),
    /// One whole run now, as the daemon would do it; removes only where settings and policy both say `enforce`
    Run(RunArgs),
    /// The daemon: runs by the schedule, takes up edits of policies, shows what it does; until SIGTERM
    Serve,
    /// Tell when the daemon runs next, and what would be held back
    Schedule(ScheduleArgs),
    /// Say why a tag stays or goes, and when; of a repository, all tags on a timeline
    Explain(explain::ExplainArgs),
    /// Show what each source says and protects right now, or one in detail; or accept an answer that was doubted
    Sources(sources::SourcesArgs),
    /// Show what each registry is, can do and allows; or accept a list of repositories that was doubted
    Registries(registries::RegistriesArgs),
    /// List the audit record, or show one run
    Runs(RunsArgs),
    /// Put back tags that were removed, and hold them
    Restore(RestoreArgs),
    /// Protect a tag, and the image that it has, until a time, whatever the policies say
    Hold(hold::HoldArgs),
    /// List the holds in force
    Holds(hold::HoldsArgs),
    /// End the holds on a tag
    Unhold(hold::UnholdArgs),
    /// Say what an edit of policies changes, on the real inventory or on a recorded one
    Diff(diff::DiffArgs),
    /// Record what registries and sources say, for `diff --inventory`
    Inventory(diff::InventoryArgs),
    /// Run the tests that live beside the policies (`*.test.yaml`); reaches nothing outside
    Test(policy_commands::TestArgs),
    /// Try out how people are told of runs
    Notify(NotifyArgs),
    /// Ask the daemon on this machine whether it is well: exit code 0 or 1
    Health(HealthArgs),
    /// Back up the state, or tell it that the clock is right
    State(StateArgs),
    /// Print the JSON schema of policy files
    Schema(policy_commands::SchemaArgs),
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Where to leave settings, policies, evidence and reports [default: ./tagwarden-demo]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Keep the sample registry up afterwards, to play with
    #[arg(long)]
    serve: bool,
}

#[derive(Debug, Args)]
struct PlanArgs {
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

#[derive(Debug, Args)]
struct RunArgs {
    /// What to print
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
    /// Also write the report to a file, in the format of its extension; repeatable
    #[arg(long, value_name = "FILE")]
    out: Vec<PathBuf>,
    /// Remove although a window or a freeze holds removals back; the reason goes into the audit record
    #[arg(long, value_name = "REASON", value_parser = parse_reason)]
    despite_freeze: Option<String>,
}

#[derive(Debug, Args)]
struct ScheduleArgs {
    /// How many runs to tell of
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    /// What to print
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    format: DataFormat,
}

#[derive(Debug, Args)]
struct ApplyArgs {
    /// The plan, as `plan --out FILE.json` wrote it
    #[arg(value_name = "PLAN.json")]
    plan: PathBuf,
    /// Who approved it, for the audit record
    #[arg(long, value_name = "WHO")]
    approved_by: Option<String>,
    /// The change ticket, for the audit record
    #[arg(long, value_name = "REF")]
    ticket: Option<String>,
    /// Apply it although a window or a freeze holds removals back; the reason goes into the audit record
    #[arg(long, value_name = "REASON", value_parser = parse_reason)]
    despite_freeze: Option<String>,
    /// The plan's signature by minisign or SSH [default: PLAN.json.minisig, then PLAN.json.sig]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// What to print
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    format: DataFormat,
}

#[derive(Debug, Args)]
struct RunsArgs {
    #[command(subcommand)]
    command: Option<RunsCommand>,
    /// What to print; the list is text or json only
    #[arg(long, value_enum, default_value_t = ReportFormat::Text, global = true)]
    format: ReportFormat,
    /// How many to list
    #[arg(long, default_value_t = 30)]
    limit: u32,
}

#[derive(Debug, Subcommand)]
enum RunsCommand {
    /// Show one run with everything it did
    Show {
        /// The run's id, a unique beginning of it, or `last`
        id: String,
        /// Also write the report to a file, in the format of its extension (json, md, html, csv, txt); repeatable
        #[arg(long, value_name = "FILE")]
        out: Vec<PathBuf>,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct RestoreTarget {
    /// All tags that this run removed: its id, a unique beginning of it, or `last`
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// All tags that were removed from this repository and are not back: REGISTRY/REPOSITORY
    #[arg(long, value_name = "REGISTRY/REPOSITORY")]
    repository: Option<String>,
    /// One tag: HOST/REPOSITORY:TAG, or REGISTRY/REPOSITORY:TAG
    image: Option<String>,
}

#[derive(Debug, Args)]
struct RestoreArgs {
    #[command(flatten)]
    target: RestoreTarget,
    /// Of a repository only what was removed since then
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with_all = ["run", "image"])]
    since: Option<Timestamp>,
    /// Only say what would come back, until when, and what cannot and why
    #[arg(long)]
    dry_run: bool,
    /// Hold what is put back for so long [default: `undo_window` of the settings]
    #[arg(long = "for", value_name = "TIME", value_parser = hold::parse_duration)]
    hold_for: Option<Duration>,
    /// Do not hold what is put back
    #[arg(long, conflicts_with = "hold_for")]
    no_hold: bool,
    /// What to print
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    format: DataFormat,
}

#[derive(Debug, Args)]
struct NotifyArgs {
    #[command(subcommand)]
    command: NotifyCommand,
}

#[derive(Debug, Subcommand)]
enum NotifyCommand {
    /// Send a test message
    Test {
        /// The name in the settings, as in [notify.NAME]
        name: String,
    },
}

#[derive(Debug, Args)]
struct StateArgs {
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Debug, Subcommand)]
enum StateCommand {
    /// Copy the state into a new file, also beside a running daemon
    Backup {
        /// The file to write; it must not exist
        file: PathBuf,
    },
    /// Trust the present time although the state has recorded a later one
    AcceptClock {
        /// Why the recorded time is wrong, for the record
        #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
        reason: String,
    },
}

#[derive(Debug, Args)]
struct HealthArgs {
    /// Ask whether it goes by its schedule (/readyz), not only whether it is alive (/healthz)
    #[arg(long, conflicts_with = "url")]
    ready: bool,
    /// The address to ask [default: that of `listen` in the settings]
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DataFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    Text,
    Json,
    Markdown,
    Html,
    Csv,
}

impl From<ReportFormat> for Format {
    fn from(format: ReportFormat) -> Self {
        match format {
            ReportFormat::Text => Self::Text,
            ReportFormat::Json => Self::Json,
            ReportFormat::Markdown => Self::Markdown,
            ReportFormat::Html => Self::Html,
            ReportFormat::Csv => Self::Csv,
        }
    }
}

/// A time as `2026-12-24T03:00:00Z`, or a day, which means its beginning in UTC.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let day: jiff::civil::Date = text
        .parse()
        .map_err(|_| "expected a time such as 2026-12-24T03:00:00Z, or a day such as 2026-12-24".to_owned())?;
    let start = day.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| error.to_string())?;
    Ok(start.timestamp())
}

/// A reason that says something.
fn parse_reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("say why".to_owned()) } else { Ok(text.to_owned()) }
}

/// The definition of all commands and flags, for completion and for checking the documentation.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(asked) => return ExitCode::from(output::print_help(&asked)),
    };
    output::init_logging(&cli.command);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::print_stderr(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(commands::dispatch(cli))));
    // Whatever still reads files or sockets in the background is of no use to anyone now.
    runtime.shutdown_background();
    if let Ok(code) = done {
        return ExitCode::from(output::final_exit_code(code));
    }
    output::print_stderr("this is a fault in tagwarden; please report it with the lines above");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn days_and_times_are_read() {
        assert_eq!(parse_time("2026-12-24").unwrap().to_string(), "2026-12-24T00:00:00Z");
        assert_eq!(parse_time("2026-12-24T03:00:00+01:00").unwrap().to_string(), "2026-12-24T02:00:00Z");
        assert!(parse_time("tomorrow").is_err());
    }
}
