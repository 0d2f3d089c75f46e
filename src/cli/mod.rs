//! The commands, as people and scripts call them. Data goes to stdout, messages to stderr.

mod apply;
mod arguments;
mod check;
mod collector;
mod completions;
mod context;
#[cfg(feature = "demo")]
mod demo;
mod demo_folder;
mod diff;
mod examples;
mod explain;
mod findings;
mod health;
mod hold;
mod import;
mod init;
mod init_files;
mod inventory;
mod logging;
mod man;
mod narrow;
mod notify;
mod outcome_text;
mod output;
mod paint;
mod plan;
mod progress;
mod reference;
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

use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueHint};

use crate::domain::chain;
use crate::policy::{self, redact_message};
use crate::workflow::RunError;
use logging::LogDefaults;
use output::{ColorChoice, Verbosity, is_color_enabled, print_stderr, print_stderr_as};
use sanitize::OutputKind;

/// Remove expired container image tags, and keep whatever is in use or in doubt
///
/// Tagwarden reads registries, release records and running workloads, decides about every tag with a reason, and removes
/// nothing unless settings and policies both allow it. Where it is not sure, it keeps the tag and says why.
#[derive(Debug, Parser)]
#[command(name = "tagwarden", version, max_term_width = 100)]
struct Cli {
    /// Use this settings file [default: ./tagwarden.toml, then /etc/tagwarden/tagwarden.toml]
    ///
    /// The variable `TAGWARDEN_CONFIG` names it, too; the flag comes first.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print errors and results only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Log more: -v each step, -vv each request
    ///
    /// Overrides the variable `TAGWARDEN_LOG`.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Use colors: auto, always or never
    ///
    /// `auto` uses them on a terminal, unless the variable `NO_COLOR` is set. `CLICOLOR_FORCE` asks for them elsewhere.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto, hide_possible_values = true)]
    color: ColorChoice,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create the first files for a registry, and plan
    ///
    /// Asks the registry for its product, and on a terminal asks for what you leave out. Writes `tagwarden.toml`,
    /// `policies/builds.yaml` and `releases/example.json`, and overwrites nothing. Then checks the files and prints the first
    /// plan.
    Init(init::InitArgs),
    /// Demonstrate everything on an embedded sample registry
    ///
    /// Needs no settings and no registry. Leaves a folder with settings, policies, evidence and reports to look at.
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
    /// Validate and lint settings and policies (offline)
    ///
    /// Reports every problem with file, line and remedy, and policies that are probably not meant as they are written.
    Check(check::CheckArgs),
    /// Decide about every tag and report; remove nothing
    ///
    /// A dry run: it sends nothing that can change a registry, and works with credentials that can only read.
    Plan(plan::PlanArgs),
    /// Apply an approved plan, or less of it
    ///
    /// Removes what the plan lists, as far as current evidence still allows it. Skips what has changed, with the reason.
    /// Refused in mode `dry-run`, and if the plan expired or was edited, or settings or policies changed since.
    Apply(apply::ApplyArgs),
    /// Decide and remove once, as the daemon does
    ///
    /// Removes only where the settings and every policy of a tag say `enforce`.
    Run(run::RunArgs),
    /// Run the daemon until SIGTERM
    ///
    /// Runs by the schedule, reloads edited policies, and serves the status page, health and metrics.
    Serve,
    /// List the next scheduled runs, and what blocks removals then
    Schedule(schedule::ScheduleArgs),
    /// Explain why a tag stays or is removed, and when
    ///
    /// Without a tag, shows all tags of the repository on a timeline.
    Explain(explain::ExplainArgs),
    /// Show evidence sources and the tags they protect
    Sources(sources::SourcesArgs),
    /// Show what each registry is, can do and allows
    Registries(registries::RegistriesArgs),
    /// List past runs, or show one
    Runs(runs::RunsArgs),
    /// Put removed tags back, and hold them
    Restore(restore::RestoreArgs),
    /// Protect a tag and its image until a time
    ///
    /// A hold keeps both the tag and the digest that it has now, whatever the policies say.
    Hold(hold::HoldArgs),
    /// List the holds in force
    Holds(hold::HoldsArgs),
    /// End the holds on a tag
    Unhold(hold::UnholdArgs),
    /// Show what an edit of policies changes
    ///
    /// Compares the decisions by old and new policies on the real inventory, or on a recorded one.
    Diff(diff::DiffArgs),
    /// Translate another tool's retention rules into policies
    Import(import::ImportArgs),
    /// Record registries and sources for `diff --inventory`
    Inventory(inventory::InventoryArgs),
    /// Run the tests beside the policies (offline)
    ///
    /// Reads the files `*.test.yaml`.
    Test(test::TestArgs),
    /// Send a test notification
    Notify(notify::NotifyArgs),
    /// Query the local daemon's health (exit code 0 or 1)
    Health(health::HealthArgs),
    /// Back up, copy and check the state
    State(state::StateArgs),
    /// Print the JSON schema of policy files
    Schema(schema::SchemaArgs),
    /// Print the completion script of a shell
    Completions(completions::CompletionsArgs),
    /// Print or write the manual pages
    Man(man::ManArgs),
}

impl Command {
    /// Returns the log settings of the command: one line for each step of those that change something.
    fn log_defaults(&self) -> LogDefaults {
        LogDefaults {
            filter: if matches!(self, Self::Run(_) | Self::Serve) { "warn,tagwarden=info" } else { "warn" },
            has_progress_bar: !matches!(self, Self::Serve | Self::Restore(_) | Self::Explain(_)),
        }
    }
}

/// The definition of all commands and flags, with examples and exit codes in the help of each.
#[must_use]
pub fn command() -> clap::Command {
    examples::add_to(without_file_names(Cli::command()))
}

/// Marks the values that are names, so that shells do not propose files for them.
fn without_file_names(command: clap::Command) -> clap::Command {
    let marked = |argument: clap::Arg| {
        let is_name = argument.get_action().takes_values() && argument.get_value_hint() == ValueHint::Unknown;
        if is_name { argument.value_hint(ValueHint::Other) } else { argument }
    };
    command.mut_args(marked).mut_subcommands(without_file_names)
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    output::set_color(output::requested_color());
    let parsed =
        command().color(output::clap_color()).try_get_matches().and_then(|found| Cli::from_arg_matches(&found));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(asked) => return ExitCode::from(output::print_help(&asked)),
    };
    output::set_color(cli.color);
    output::set_verbosity(Verbosity::of(cli.quiet, cli.verbose));
    logging::init_logging(cli.command.log_defaults());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_stderr(&format!("cannot start: {}", chain(&error)));
            return ExitCode::FAILURE;
        }
    };
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(dispatch(cli))));
    // Background reads of files or sockets are no longer needed.
    runtime.shutdown_background();
    if let Ok(code) = done {
        return ExitCode::from(output::final_exit_code(code));
    }
    print_stderr("this is a fault in tagwarden; please report it with the lines above");
    ExitCode::FAILURE
}

/// Runs one command and returns its exit code.
async fn dispatch(cli: Cli) -> u8 {
    let config = cli.config.or_else(context::config_variable);
    let config = config.as_deref();
    let done = match cli.command {
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::demo(&args).await,
        Command::Init(args) => Box::pin(init::init(&args)).await,
        Command::Check(args) => check::check(config, &args).await,
        Command::Plan(args) => Box::pin(plan::plan(config, &args)).await,
        Command::Apply(args) => apply::apply(config, &args).await,
        Command::Run(args) => Box::pin(run::run(config, &args)).await,
        Command::Serve => serve::serve(config).await,
        Command::State(args) => state::state(config, &args).await,
        Command::Schedule(args) => schedule::schedule(config, &args),
        Command::Explain(args) => Box::pin(explain::explain(config, &args)).await,
        Command::Sources(args) => sources::sources(config, &args).await,
        Command::Registries(args) => Box::pin(registries::registries(config, &args)).await,
        Command::Runs(args) => Box::pin(runs::runs(config, &args)).await,
        Command::Restore(args) => restore::restore(config, &args).await,
        Command::Hold(args) => hold::hold(config, &args).await,
        Command::Holds(args) => hold::holds(config, &args).await,
        Command::Unhold(args) => hold::unhold(config, &args).await,
        Command::Notify(args) => notify::notify(config, &args).await,
        Command::Health(args) => health::health(config, &args).await,
        Command::Diff(args) => diff::diff(config, &args).await,
        Command::Inventory(args) => inventory::inventory(config, &args).await,
        Command::Import(args) => import::import(&args),
        Command::Test(args) => test::test(config, &args),
        Command::Schema(args) => {
            schema::schema(&args);
            Ok(0)
        }
        Command::Completions(args) => Ok(completions::completions(&args)),
        Command::Man(args) => man::man(&args),
    };
    collector::finish().await;
    done.unwrap_or_else(|error| {
        report_error(&error);
        error.exit_code()
    })
}

fn report_error(error: &RunError) {
    let diagnostics = error.diagnostics();
    if diagnostics.is_empty() {
        // Messages from outside may have several lines, and arguments may contain a user and a password.
        print_stderr(&format!("error: {}", redact_message(&chain(error)).replace('\n', "\n  ")));
        return;
    }
    let output = if is_color_enabled() { OutputKind::Colored } else { OutputKind::Plain };
    let shown = policy::render(diagnostics, is_color_enabled());
    print_stderr_as(output, redact_message(&shown).trim_end());
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
