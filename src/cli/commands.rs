//! What each command does: call the walk, print what came of it, give the exit code.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::inert::{Output, inert};
use super::output::{color, print, print_as, say, say_as, write_file};
use super::progress::Bar;
use super::telling::Telling;
use super::{
    ApplyArgs, Cli, Command, DataFormat, DemoArgs, NotifyArgs, NotifyCommand, PlanArgs, RestoreArgs, RunArgs, RunsArgs,
    RunsCommand, SourcesArgs, SourcesCommand, diff, explain, health, hold, person, policy_work, registries, results,
    telling,
};
use crate::apply::{Clock, Outlook};
use crate::config::{self, Settings};
use crate::demo::Demo;
use crate::policy_file::{self, PolicySet};
use crate::registry;
use crate::report::{self, Format, PlanDocument};
use crate::run::{self, Approval, Ended, House, RunError, Steady, ToRestore, Turn};
use crate::store::RunKind;

/// Runs one command and gives its exit code.
pub(super) async fn dispatch(cli: Cli) -> u8 {
    let config = cli.config.as_deref();
    let done = match cli.command {
        Command::Demo(args) => demo(&args).await,
        Command::Check(args) => policy_work::check(config, &args).await,
        Command::Plan(args) => plan(config, &args).await,
        Command::Apply(args) => apply(config, &args).await,
        Command::Run(args) => run_now(config, &args).await,
        Command::Serve => super::serve::serve(config).await,
        Command::State(args) => super::state::state(config, &args).await,
        Command::Schedule(args) => super::schedule::schedule(config, &args),
        Command::Explain(args) => explain::explain(config, &args).await,
        Command::Sources(args) => sources(config, &args).await,
        Command::Registries(args) => registries::registries(config, &args).await,
        Command::Runs(args) => runs(config, &args).await,
        Command::Restore(args) => restore(config, &args).await,
        Command::Hold(args) => hold::hold(config, &args).await,
        Command::Holds(args) => hold::holds(config, &args).await,
        Command::Unhold(args) => hold::unhold(config, &args).await,
        Command::Notify(NotifyArgs { command: NotifyCommand::Test { name } }) => telling::test(config, &name).await,
        Command::Health(args) => health::health(config, &args).await,
        Command::Diff(args) => diff::diff(config, &args, environment()).await,
        Command::Inventory(args) => diff::inventory(config, &args).await,
        Command::Test(args) => policy_work::test(config, &args, environment()),
        Command::Schema(args) => {
            policy_work::schema(&args);
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
        say(&format!("error: {}", error.to_string().replace('\n', "\n  ")));
        return;
    }
    let output = if color() { Output::Colored } else { Output::Words };
    say_as(output, policy_file::render(diagnostics, color()).trim_end());
    let problems =
        if diagnostics.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", diagnostics.len()) };
    say(&problems);
}

#[expect(clippy::disallowed_methods, reason = "a way in: the one place where commands read the clock")]
pub(super) fn clock() -> Clock {
    Arc::new(Timestamp::now)
}

/// The time that nobody can set.
pub(super) fn steady() -> Steady {
    Arc::new(registry::steady)
}

#[expect(clippy::disallowed_methods, reason = "a way in: settings come from the file and the environment")]
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Who runs this: `user@host`.
#[expect(clippy::disallowed_methods, reason = "a way in: the audit record names the user")]
pub(super) fn by() -> String {
    person::by(|name| std::env::var(name).ok(), Path::new("/"))
}

pub(super) async fn open(config: Option<&Path>) -> Result<House, RunError> {
    open_loaded(load(config)?).await
}

/// Settings and policies, with the warnings about them said.
fn load(config: Option<&Path>) -> Result<(Settings, PolicySet), RunError> {
    let loaded = run::load(&config::find(config)?, environment())?;
    for warning in &loaded.0.warnings {
        say(&report::plain(&format!("warning: {warning}")));
    }
    Ok(loaded)
}

async fn open_loaded(loaded: (Settings, PolicySet)) -> Result<House, RunError> {
    Ok(House::open(loaded, by(), clock(), stop()).await?.with_steady(steady()))
}

/// Becomes true at the first SIGINT or SIGTERM; the removal in flight is finished, no other begins.
fn stop() -> watch::Receiver<bool> {
    stop_saying(|| say("stopping: no further removal begins"))
}

/// The same, with other words for it.
pub(super) fn stop_saying(words: impl FnOnce() + Send + 'static) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        if signalled().await {
            words();
            // Nobody listens any more if the run has ended meanwhile.
            let _ = sender.send(true);
        }
        sender.closed().await;
    });
    receiver
}

#[cfg(unix)]
async fn signalled() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => true,
                interrupted = tokio::signal::ctrl_c() => interrupted.is_ok(),
            }
        }
        Err(_) => tokio::signal::ctrl_c().await.is_ok(),
    }
}

#[cfg(not(unix))]
async fn signalled() -> bool {
    tokio::signal::ctrl_c().await.is_ok()
}

/// Runs what only reads until it is done or somebody interrupts it.
pub(super) async fn interruptible<T>(
    house: &House,
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
    let (clock, by, stop) = (clock(), by(), stop());
    crate::demo::demo(Demo { folder, serve: args.serve, clock, by, stop, narrate: &narrate }).await?;
    Ok(0)
}

async fn plan(config: Option<&Path>, args: &PlanArgs) -> Result<u8, RunError> {
    let formats = formats(&args.out)?;
    let house = open(config).await?;
    let bar = Bar::new();
    let ended = interruptible(&house, house.plan(args.at, &bar)).await;
    drop(bar);
    house.close().await;
    let ended = ended?;
    show(&ended.document, args.format.into(), &formats)?;
    Ok(exit(&ended))
}

async fn run_now(config: Option<&Path>, args: &RunArgs) -> Result<u8, RunError> {
    let formats = formats(&args.out)?;
    let loaded = match load(config) {
        Ok(loaded) => loaded,
        Err(error) => return Err(telling::not_begun(config, error).await),
    };
    let telling = Telling::start(&loaded.0);
    let came = async {
        let house = open_loaded(loaded).await?;
        let bar = Bar::new();
        let turn = Turn { despite: args.despite_freeze.clone(), ..Turn::default() };
        let ended = house.run_turn(turn, &bar).await;
        drop(bar);
        house.close().await;
        ended
    };
    let came = came.await;
    telling.run_ended(RunKind::Run, came.as_ref());
    let shown = came.and_then(|ended| {
        show(&ended.document, args.format.into(), &formats)?;
        if ended.outcomes().next().is_some() {
            say(results::applied_text(&ended).trim_end());
        }
        if let Some(why) = &ended.circumstances.blocked_by {
            say(&format!("nothing was removed: {why}; `--despite-freeze REASON` removes all the same"));
        }
        Ok(exit(&ended))
    });
    telling.finish().await;
    shown
}

/// Says the exit code's reason on stderr, so that a script's log explains itself.
fn exit(ended: &Ended) -> u8 {
    match ended.outcome {
        run::RunOutcome::Done => {}
        run::RunOutcome::Interrupted => {
            let by = ended.interrupted_by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
            say(&format!("interrupted{by}: what had not begun was left as it is"));
        }
        run::RunOutcome::Refused => {
            say("refused: an enforcing run would leave out what the refusals in the report cover");
        }
        run::RunOutcome::Failed => say("some removals failed; `tagwarden runs show` has them"),
        run::RunOutcome::EvidenceMissing => {
            say("evidence is missing: a source or a registry could not be read, so some tags are undecided");
        }
    }
    ended.outcome.exit_code()
}

fn formats(files: &[std::path::PathBuf]) -> Result<Vec<(&Path, Format)>, RunError> {
    files
        .iter()
        .map(|file| {
            let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            let format = Format::of_extension(extension).ok_or_else(|| {
                RunError::Usage(format!("{}: name it .json, .md, .html, .csv or .txt", file.display()))
            })?;
            Ok((file.as_path(), format))
        })
        .collect()
}

fn show(document: &PlanDocument, format: Format, files: &[(&Path, Format)]) -> Result<(), RunError> {
    write_all(files, |format, out| report::write(document, format, out))?;
    print_as(format.into(), |out| report::write(document, format, out));
    Ok(())
}

/// Writes a report into each file, in its format.
fn write_all(
    files: &[(&Path, Format)],
    write: impl Fn(Format, &mut dyn std::io::Write) -> std::io::Result<()>,
) -> Result<(), RunError> {
    for (file, format) in files {
        write_file(file, |out| write(*format, out))
            .map_err(|error| RunError::Output(format!("cannot write {}: {error}", file.display())))?;
        say(&format!("wrote {}", file.display()));
    }
    Ok(())
}

async fn apply(config: Option<&Path>, args: &ApplyArgs) -> Result<u8, RunError> {
    let text = std::fs::read_to_string(&args.plan)
        .map_err(|error| RunError::Usage(format!("cannot read {}: {error}", args.plan.display())))?;
    let loaded = load(config)?;
    // One that lies beside the plan counts where somebody's signature does.
    let wanted = !loaded.0.approvals.signers.is_empty();
    let file = args.signature.clone().or_else(|| run::signature_beside(&args.plan).filter(|_| wanted));
    let signature = file.map(|file| {
        std::fs::read_to_string(&file)
            .map_err(|error| RunError::Usage(format!("cannot read {}: {error}", file.display())))
    });
    let approval = Approval {
        approved_by: args.approved_by.clone(),
        ticket: args.ticket.clone(),
        despite: args.despite_freeze.clone(),
        signature: signature.transpose()?,
    };
    let telling = Telling::start(&loaded.0);
    let came = async {
        let house = open_loaded(loaded).await?;
        let bar = Bar::new();
        let ended = house.apply(&text, &approval, &bar).await;
        drop(bar);
        house.close().await;
        ended
    };
    let came = came.await;
    telling.run_ended(RunKind::Apply, came.as_ref());
    let shown = came.map(|ended| {
        match args.format {
            DataFormat::Text => print(&results::applied_text(&ended)),
            DataFormat::Json => print(&pretty(&results::applied_json(&ended))),
        }
        exit(&ended)
    });
    telling.finish().await;
    shown
}

async fn sources(config: Option<&Path>, args: &SourcesArgs) -> Result<u8, RunError> {
    let house = open(config).await?;
    if let Some(SourcesCommand::Accept { name }) = &args.command {
        let accepted = house.accept_source(name).await;
        house.close().await;
        print(&format!("source {name} is believed again, with {}\n", report::counted(accepted?, "claim")));
        return Ok(0);
    }
    let bar = Bar::new();
    let decision = interruptible(&house, house.sources(&bar)).await;
    drop(bar);
    house.close().await;
    let document = decision?.document;
    match args.format {
        DataFormat::Text => print(&report::sources_text(&document)),
        DataFormat::Json => {
            let sources = serde_json::to_value(&document.sources);
            print(&pretty(&sources.map_err(|error| RunError::Output(error.to_string()))?));
        }
    }
    let failed = document.sources.iter().any(|source| source.error.is_some());
    Ok(if failed { run::RunOutcome::EvidenceMissing.exit_code() } else { 0 })
}

async fn runs(config: Option<&Path>, args: &RunsArgs) -> Result<u8, RunError> {
    let format = args.format.into();
    match &args.command {
        None => {
            let house = open(config).await?;
            let runs = house.store.runs(args.limit).await;
            house.close().await;
            let runs = runs?;
            match format {
                Format::Text => print(&results::runs_text(&runs)),
                Format::Json => print(&pretty(&results::runs_json(&runs))),
                other => {
                    return Err(RunError::Usage(format!("the list of runs is text or json, not {}", other.label())));
                }
            }
        }
        Some(RunsCommand::Show { id, out }) => {
            let files = formats(out)?;
            let house = open(config).await?;
            let shown = house.run_report(id).await;
            house.close().await;
            let (view, plan) = shown?;
            let write = |format, out: &mut dyn std::io::Write| report::write_run(&view, plan.as_ref(), format, out);
            write_all(&files, write)?;
            print_as(format.into(), |out| write(format, out));
        }
    }
    Ok(0)
}

async fn restore(config: Option<&Path>, args: &RestoreArgs) -> Result<u8, RunError> {
    let house = open(config).await?;
    let what = match (&args.what.run, &args.what.repository, &args.what.image) {
        (Some(run), _, _) => Ok(ToRestore::Run(run.clone())),
        (_, Some(name), _) => Ok(ToRestore::Repository { name: name.clone(), since: args.since }),
        (_, _, Some(image)) => Ok(ToRestore::Image(image.clone())),
        _ => {
            Err(RunError::Usage("name a run with `--run ID`, a repository with `--repository`, or an image".to_owned()))
        }
    }?;
    if args.dry_run {
        let foreseen = house.foresee_restore(&what).await;
        house.close().await;
        let foreseen = foreseen?;
        match args.format {
            DataFormat::Text => print(&results::foreseen_text(&foreseen)),
            DataFormat::Json => print(&pretty(&results::foreseen_json(&foreseen))),
        }
        let lost = foreseen.iter().any(|one| matches!(one.foreseen.outlook, Outlook::Impossible(_)));
        return Ok(if lost { run::RunOutcome::Failed.exit_code() } else { 0 });
    }
    let hold = (!args.no_hold).then(|| args.hold_for.unwrap_or(house.settings.undo_window));
    let ended = house.restore_for(&what, hold).await;
    house.close().await;
    let ended = ended?;
    match args.format {
        DataFormat::Text => print(&results::restored_text(&ended, hold)),
        DataFormat::Json => print(&pretty(&results::restored_json(&ended))),
    }
    Ok(ended.outcome().exit_code())
}

/// JSON for stdout.
pub(super) fn pretty(value: &serde_json::Value) -> String {
    inert(Output::Json, &format!("{value:#}\n"))
}
