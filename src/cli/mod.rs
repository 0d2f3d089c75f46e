//! The commands, as people and scripts call them. Data goes to stdout, words to stderr.

mod apply;
mod arguments;
mod check;
mod context;
#[cfg(feature = "demo")]
mod demo;
mod diff;
mod explain;
mod health;
mod hold;
mod inventory;
mod notify;
mod outcome_text;
mod output;
mod plan;
mod progress;
mod registries;
mod restore;
mod run;
mod run_notifier;
mod runs;
mod sanitize;
mod schedule;
mod schema;
mod serve;
mod signals;
mod sources;
mod state;
mod test;
mod user;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::domain::chain;
use crate::policy;
use crate::workflow::RunError;
use output::{LogDefaults, is_color_enabled, print_stderr, print_stderr_as};
use sanitize::OutputKind;

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
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
    /// Check settings and policies and tell every problem, and what of the policies is hardly meant; reaches nothing
    /// outside
    Check(check::CheckArgs),
    /// Decide about every tag and report; nothing is removed
    Plan(plan::PlanArgs),
    /// Apply an approved plan, exactly or less
    Apply(apply::ApplyArgs),
    /// One whole run now, as the daemon would do it; removes only where settings and policy both say `enforce`
    Run(run::RunArgs),
    /// The daemon: runs by the schedule, takes up edits of policies, shows what it does; until SIGTERM
    Serve,
    /// Tell when the daemon runs next, and what would be held back
    Schedule(schedule::ScheduleArgs),
    /// Say why a tag stays or goes, and when; of a repository, all tags on a timeline
    Explain(explain::ExplainArgs),
    /// Show what each source says and protects right now, or one in detail; or accept an answer that was doubted
    Sources(sources::SourcesArgs),
    /// Show what each registry is, can do and allows; or accept a list of repositories that was doubted
    Registries(registries::RegistriesArgs),
    /// List the audit record, or show one run
    Runs(runs::RunsArgs),
    /// Put back tags that were removed, and hold them
    Restore(restore::RestoreArgs),
    /// Protect a tag, and the image that it has, until a time, whatever the policies say
    Hold(hold::HoldArgs),
    /// List the holds in force
    Holds(hold::HoldsArgs),
    /// End the holds on a tag
    Unhold(hold::UnholdArgs),
    /// Say what an edit of policies changes, on the real inventory or on a recorded one
    Diff(diff::DiffArgs),
    /// Record what registries and sources say, for `diff --inventory`
    Inventory(inventory::InventoryArgs),
    /// Run the tests that live beside the policies (`*.test.yaml`); reaches nothing outside
    Test(test::TestArgs),
    /// Try out how people are told of runs
    Notify(notify::NotifyArgs),
    /// Ask the daemon on this machine whether it is well: exit code 0 or 1
    Health(health::HealthArgs),
    /// Back up the state, or tell it that the clock is right
    State(state::StateArgs),
    /// Print the JSON schema of policy files
    Schema(schema::SchemaArgs),
}

impl Command {
    /// The logs of the command: one line for each step where something is done.
    fn log_defaults(&self) -> LogDefaults {
        LogDefaults {
            filter: if matches!(self, Self::Run(_) | Self::Serve) { "warn,tagwarden=info" } else { "warn" },
            has_progress_bar: !matches!(self, Self::Serve | Self::Restore(_) | Self::Explain(_)),
        }
    }
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
    output::init_logging(cli.command.log_defaults());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_stderr(&format!("cannot start: {}", chain(&error)));
            return ExitCode::FAILURE;
        }
    };
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(dispatch(cli))));
    // Whatever still reads files or sockets in the background is of no use to anyone now.
    runtime.shutdown_background();
    if let Ok(code) = done {
        return ExitCode::from(output::final_exit_code(code));
    }
    print_stderr("this is a fault in tagwarden; please report it with the lines above");
    ExitCode::FAILURE
}

/// Runs one command and returns its exit code.
async fn dispatch(cli: Cli) -> u8 {
    let config = cli.config.as_deref();
    let done = match cli.command {
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::demo(&args).await,
        Command::Check(args) => check::check(config, &args).await,
        Command::Plan(args) => plan::plan(config, &args).await,
        Command::Apply(args) => apply::apply(config, &args).await,
        Command::Run(args) => run::run(config, &args).await,
        Command::Serve => serve::serve(config).await,
        Command::State(args) => state::state(config, &args).await,
        Command::Schedule(args) => schedule::schedule(config, &args),
        Command::Explain(args) => explain::explain(config, &args).await,
        Command::Sources(args) => sources::sources(config, &args).await,
        Command::Registries(args) => registries::registries(config, &args).await,
        Command::Runs(args) => runs::runs(config, &args).await,
        Command::Restore(args) => restore::restore(config, &args).await,
        Command::Hold(args) => hold::hold(config, &args).await,
        Command::Holds(args) => hold::holds(config, &args).await,
        Command::Unhold(args) => hold::unhold(config, &args).await,
        Command::Notify(args) => notify::notify(config, &args).await,
        Command::Health(args) => health::health(config, &args).await,
        Command::Diff(args) => diff::diff(config, &args).await,
        Command::Inventory(args) => inventory::inventory(config, &args).await,
        Command::Test(args) => test::test(config, &args),
        Command::Schema(args) => {
            schema::schema(&args);
            Ok(0)
        }
    };
    done.unwrap_or_else(|error| {
        report_error(&error);
        error.exit_code()
    })
}

fn report_error(error: &RunError) {
    let diagnostics = error.diagnostics();
    if diagnostics.is_empty() {
        // What others said may have lines of its own.
        print_stderr(&format!("error: {}", chain(error).replace('\n', "\n  ")));
        return;
    }
    let output = if is_color_enabled() { OutputKind::Colored } else { OutputKind::Plain };
    print_stderr_as(output, policy::render(diagnostics, is_color_enabled()).trim_end());
    let problems =
        if diagnostics.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", diagnostics.len()) };
    print_stderr(&problems);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }
}
