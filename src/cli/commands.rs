//! What each command does: call the walk, print what came of it, give the exit code.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::notify::CommandNotifier;
use super::output::{is_color_enabled, print, print_as, print_stderr, print_stderr_as, write_file};
use super::progress::TerminalProgress;
use super::sanitize::{OutputKind, sanitize};
use super::signals::listen_for_stop;
use super::{
    ApplyArgs, Cli, Command, DataFormat, DemoArgs, NotifyArgs, NotifyCommand, PlanArgs, RestoreArgs, RunArgs, RunsArgs,
    RunsCommand, diff, explain, health, hold, notify, outcome_text, policy_commands, registries, sources, user,
};
use crate::apply::{Clock, ExpectedRestore};
use crate::config::{self, Mode, Settings};
use crate::demo::DemoOptions;
use crate::policy::{self, PolicySet};
use crate::registry::{self, RetryPolicy};
use crate::report::{self, Format, PlanDocument};
use crate::state::{RunKind, RunRecord, StateStore};
use crate::workflow::{
    self, App, Approval, ConfigFiles, MonotonicClock, RestoreSelection, RunError, RunOptions, RunResult,
};

/// Runs one command and gives its exit code.
pub(super) async fn dispatch(cli: Cli) -> u8 {
    let config = cli.config.as_deref();
    let done = match cli.command {
        Command::Demo(args) => demo(&args).await,
        Command::Check(args) => policy_commands::check(config, &args).await,
        Command::Plan(args) => plan(config, &args).await,
        Command::Apply(args) => apply(config, &args).await,
        Command::Run(args) => run(config, &args).await,
        Command::Serve => super::serve::serve(config).await,
        Command::State(args) => super::state::state(config, &args).await,
        Command::Schedule(args) => super::schedule::schedule(config, &args),
        Command::Explain(args) => explain::explain(config, &args).await,
        Command::Sources(args) => sources::sources(config, &args).await,
        Command::Registries(args) => registries::registries(config, &args).await,
        Command::Runs(args) => runs(config, &args).await,
        Command::Restore(args) => restore(config, &args).await,
        Command::Hold(args) => hold::hold(config, &args).await,
        Command::Holds(args) => hold::holds(config, &args).await,
        Command::Unhold(args) => hold::unhold(config, &args).await,
        Command::Notify(NotifyArgs { command: NotifyCommand::Test { name } }) => notify::send_test(config, &name).await,
        Command::Health(args) => health::health(config, &args).await,
        Command::Diff(args) => diff::diff(config, &args, environment()).await,
        Command::Inventory(args) => diff::inventory(config, &args).await,
        Command::Test(args) => policy_commands::test(config, &args, environment()),
        Command::Schema(args) => {
            policy_commands::schema(&args);
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
        print_stderr(&format!("error: {}", error.to_string().replace('\n', "\n  ")));
        return;
    }
    let output = if is_color_enabled() { OutputKind::Colored } else { OutputKind::Plain };
    print_stderr_as(output, policy::render(diagnostics, is_color_enabled()).trim_end());
    let problems =
        if diagnostics.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", diagnostics.len()) };
    print_stderr(&problems);
}

#[expect(clippy::disallowed_methods, reason = "a way in: the one place where commands read the clock")]
pub(super) fn system_clock() -> Clock {
    Arc::new(Timestamp::now)
}

/// The time that nobody can set.
pub(super) fn monotonic_clock() -> MonotonicClock {
    Arc::new(registry::uptime)
}

#[expect(clippy::disallowed_methods, reason = "a way in: settings come from the file and the environment")]
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Who runs this: `user@host`.
#[expect(clippy::disallowed_methods, reason = "a way in: the audit record names the user")]
pub(super) fn current_user() -> String {
    user::describe_user(|name| std::env::var(name).ok(), Path::new("/"))
}

pub(super) async fn open_app(config: Option<&Path>) -> Result<App, RunError> {
    open_loaded_app(load(config)?).await
}

/// Settings, policies, and the files that they stand in.
type LoadedConfig = ((Settings, PolicySet), ConfigFiles);

/// Settings and policies, with the warnings about them said.
fn load(config: Option<&Path>) -> Result<LoadedConfig, RunError> {
    let (loaded, files) = ConfigFiles::load(&config::find(config)?, environment())?;
    for warning in &loaded.0.warnings {
        print_stderr(&report::sanitize(&format!("warning: {warning}")));
    }
    Ok((loaded, files))
}

async fn open_loaded_app((loaded, files): LoadedConfig) -> Result<App, RunError> {
    Ok(App::open(loaded, current_user(), system_clock(), listen_for_stop())
        .await?
        .with_monotonic_clock(monotonic_clock())
        .with_config_files(files))
}

/// The same for what only reads what is recorded, also where the state cannot be written.
pub(super) async fn open_read_only(config: Option<&Path>) -> Result<App, RunError> {
    let (loaded, files) = load(config)?;
    let store = StateStore::open_to_read(&loaded.0.state).await?;
    let house =
        App::with_store(loaded, store, current_user(), system_clock(), listen_for_stop(), RetryPolicy::default())?;
    Ok(house.with_monotonic_clock(monotonic_clock()).with_config_files(files))
}

/// Runs what only reads until it is done or somebody interrupts it.
pub(super) async fn run_until_stopped<T>(
    house: &App,
    work: impl Future<Output = Result<T, RunError>>,
) -> Result<T, RunError> {
    let mut stop = house.stop.clone();
    tokio::select! {
        done = work => done,
        _ = stop.wait_for(|stopped| *stopped) => Err(RunError::Interrupted),
    }
}

async fn demo(args: &DemoArgs) -> Result<u8, RunError> {
    let narrate = |words: &str| print(&format!("{words}\n"));
    let folder = args.folder.as_deref();
    let (clock, by, stop) = (system_clock(), current_user(), listen_for_stop());
    crate::demo::run_demo(DemoOptions { folder, serve: args.serve, clock, by, stop, narrate: &narrate }).await?;
    Ok(0)
}

async fn plan(config: Option<&Path>, args: &PlanArgs) -> Result<u8, RunError> {
    let formats = file_formats(&args.out)?;
    let house = open_app(config).await?;
    let bar = TerminalProgress::new();
    let ended = run_until_stopped(&house, house.plan(args.at, &bar)).await;
    drop(bar);
    house.close().await;
    let ended = ended?;
    print_report(&ended.document, args.format.into(), &formats)?;
    Ok(report_outcome(&ended, RefusalEffect::DryRun))
}

async fn run(config: Option<&Path>, args: &RunArgs) -> Result<u8, RunError> {
    let formats = file_formats(&args.out)?;
    let loaded = match load(config) {
        Ok(loaded) => loaded,
        Err(error) => return Err(notify::notify_load_failure(config, error).await),
    };
    let telling = CommandNotifier::start(&loaded.0.0);
    let came = async {
        let house = open_loaded_app(loaded).await?;
        let bar = TerminalProgress::new();
        let turn = RunOptions { override_reason: args.despite_freeze.clone(), ..RunOptions::default() };
        let ended = house.run_with(turn, &bar).await;
        drop(bar);
        house.close().await;
        ended
    };
    let came = came.await;
    telling.notify_run(RunKind::Run, came.as_ref());
    let shown = came.and_then(|ended| {
        print_report(&ended.document, args.format.into(), &formats)?;
        if ended.outcomes().next().is_some() {
            print_stderr(outcome_text::applied_text(&ended).trim_end());
        }
        if let Some(why) = &ended.context.blocked_by {
            print_stderr(&format!("nothing was removed: {why}; `--despite-freeze REASON` removes all the same"));
        }
        let enforced = ended.document.mode == Mode::Enforce.label() && ended.context.blocked_by.is_none();
        Ok(report_outcome(&ended, if enforced { RefusalEffect::Enforced } else { RefusalEffect::DryRun }))
    });
    telling.finish().await;
    shown
}

/// The effect of refusals on a run.
#[derive(Debug, Clone, Copy)]
enum RefusalEffect {
    /// The refused removals were left out.
    Enforced,
    /// It would be, if the run enforced.
    DryRun,
}

/// Says the exit code's reason on stderr, so that a script's log explains itself.
fn report_outcome(ended: &RunResult, refused: RefusalEffect) -> u8 {
    match ended.outcome {
        workflow::RunOutcome::Done => {}
        workflow::RunOutcome::Interrupted => {
            let by = ended.interrupted_by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
            print_stderr(&format!("interrupted{by}: what had not begun was left as it is"));
        }
        workflow::RunOutcome::Refused => print_stderr(match refused {
            RefusalEffect::Enforced => "refused: this run left out what the refusals in the report cover",
            RefusalEffect::DryRun => "refused: an enforcing run would leave out what the refusals in the report cover",
        }),
        workflow::RunOutcome::Failed => print_stderr("some removals failed; `tagwarden runs show` has them"),
        workflow::RunOutcome::EvidenceMissing => {
            print_stderr("evidence is missing: a source or a registry could not be read, so some tags are undecided");
        }
    }
    ended.outcome.exit_code()
}

fn file_formats(files: &[std::path::PathBuf]) -> Result<Vec<(&Path, Format)>, RunError> {
    files
        .iter()
        .map(|file| {
            let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            let format = Format::from_extension(extension).ok_or_else(|| {
                RunError::Usage(format!("{}: name it .json, .md, .html, .csv or .txt", file.display()))
            })?;
            Ok((file.as_path(), format))
        })
        .collect()
}

fn print_report(document: &PlanDocument, format: Format, files: &[(&Path, Format)]) -> Result<(), RunError> {
    write_files(files, |format, out| report::write(document, format, out))?;
    print_as(format.into(), |out| report::write(document, format, out));
    Ok(())
}

/// Writes a report into each file, in its format.
fn write_files(
    files: &[(&Path, Format)],
    write: impl Fn(Format, &mut dyn std::io::Write) -> std::io::Result<()>,
) -> Result<(), RunError> {
    for (file, format) in files {
        write_file(file, |out| write(*format, out))
            .map_err(|error| RunError::Output(format!("cannot write {}: {error}", file.display())))?;
        print_stderr(&format!("wrote {}", file.display()));
    }
    Ok(())
}

async fn apply(config: Option<&Path>, args: &ApplyArgs) -> Result<u8, RunError> {
    let text = std::fs::read_to_string(&args.plan)
        .map_err(|error| RunError::Usage(format!("cannot read {}: {error}", args.plan.display())))?;
    let loaded = load(config)?;
    // One that lies beside the plan counts where somebody's signature does.
    let wanted = !loaded.0.0.approvals.signers.is_empty();
    let file = args.signature.clone().or_else(|| workflow::find_signature_file(&args.plan).filter(|_| wanted));
    let signature = file.map(|file| {
        std::fs::read_to_string(&file)
            .map_err(|error| RunError::Usage(format!("cannot read {}: {error}", file.display())))
    });
    let approval = Approval {
        approved_by: args.approved_by.clone(),
        ticket: args.ticket.clone(),
        override_reason: args.despite_freeze.clone(),
        signature: signature.transpose()?,
    };
    let telling = CommandNotifier::start(&loaded.0.0);
    let came = async {
        let house = open_loaded_app(loaded).await?;
        let bar = TerminalProgress::new();
        let ended = house.apply(&text, &approval, &bar).await;
        drop(bar);
        house.close().await;
        ended
    };
    let came = came.await;
    telling.notify_run(RunKind::Apply, came.as_ref());
    let shown = came.map(|ended| {
        match args.format {
            DataFormat::Text => print(&outcome_text::applied_text(&ended)),
            DataFormat::Json => print(&pretty_json(&outcome_text::applied_json(&ended))),
        }
        report_outcome(&ended, RefusalEffect::Enforced)
    });
    telling.finish().await;
    shown
}

async fn runs(config: Option<&Path>, args: &RunsArgs) -> Result<u8, RunError> {
    let format = args.format.into();
    match &args.command {
        None => {
            let house = open_read_only(config).await?;
            let listed = list_runs(&house, args.limit).await;
            house.close().await;
            let (runs, done) = listed?;
            match format {
                Format::Text => print(&outcome_text::runs_text(&runs, &done)),
                Format::Json => print(&pretty_json(&outcome_text::runs_json(&runs, &done))),
                other => {
                    return Err(RunError::Usage(format!("the list of runs is text or json, not {}", other.label())));
                }
            }
        }
        Some(RunsCommand::Show { id, out }) => {
            let files = file_formats(out)?;
            let house = open_read_only(config).await?;
            let shown = house.run_report(id).await;
            house.close().await;
            let (view, plan) = shown?;
            let write = |format, out: &mut dyn std::io::Write| report::write_run(&view, plan.as_ref(), format, out);
            write_files(&files, write)?;
            print_as(format.into(), |out| write(format, out));
        }
    }
    Ok(0)
}

/// The last runs, with what was done in those whose record does not say it.
async fn list_runs(house: &App, limit: u32) -> Result<(Vec<RunRecord>, outcome_text::DoneCountsByRun), RunError> {
    let runs = house.store.runs(limit).await?;
    let done = house.store.journal_totals(&outcome_text::runs_without_counts(&runs)).await?;
    Ok((runs, done))
}

async fn restore(config: Option<&Path>, args: &RestoreArgs) -> Result<u8, RunError> {
    let house = open_app(config).await?;
    let what = match (&args.target.run, &args.target.repository, &args.target.image) {
        (Some(run), _, _) => Ok(RestoreSelection::Run(run.clone())),
        (_, Some(name), _) => Ok(RestoreSelection::Repository { name: name.clone(), since: args.since }),
        (_, _, Some(image)) => Ok(RestoreSelection::Image(image.clone())),
        _ => {
            Err(RunError::Usage("name a run with `--run ID`, a repository with `--repository`, or an image".to_owned()))
        }
    }?;
    if args.dry_run {
        let foreseen = house.preview_restore(&what).await;
        house.close().await;
        let foreseen = foreseen?;
        match args.format {
            DataFormat::Text => print(&outcome_text::preview_text(&foreseen)),
            DataFormat::Json => print(&pretty_json(&outcome_text::preview_json(&foreseen))),
        }
        let lost = foreseen.iter().any(|one| matches!(one.preview.expected, ExpectedRestore::Impossible(_)));
        return Ok(if lost { workflow::RunOutcome::Failed.exit_code() } else { 0 });
    }
    let hold = (!args.no_hold).then(|| args.hold_for.unwrap_or(house.settings.undo_window));
    let ended = house.restore_with_hold(&what, hold).await;
    house.close().await;
    let ended = ended?;
    match args.format {
        DataFormat::Text => print(&outcome_text::restored_text(&ended, hold)),
        DataFormat::Json => print(&pretty_json(&outcome_text::restored_json(&ended))),
    }
    Ok(ended.outcome().exit_code())
}

/// JSON for stdout.
pub(super) fn pretty_json(value: &serde_json::Value) -> String {
    sanitize(OutputKind::Json, &format!("{value:#}\n"))
}
