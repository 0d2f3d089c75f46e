//! What each command does: call the walk, print what came of it, give the exit code.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::inert::{Output, inert};
use super::output::{color, print, print_as, say, say_as, write_file};
use super::progress::Bar;
use super::signals::stop;
use super::telling::Telling;
use super::{
    ApplyArgs, Cli, Command, DataFormat, DemoArgs, NotifyArgs, NotifyCommand, PlanArgs, RestoreArgs, RunArgs, RunsArgs,
    RunsCommand, diff, explain, health, hold, person, policy_work, registries, results, sources, telling,
};
use crate::apply::{Clock, Outlook};
use crate::config::{self, Mode, Settings};
use crate::demo::Demo;
use crate::policy_file::{self, PolicySet};
use crate::registry::{self, Patience};
use crate::report::{self, Format, PlanDocument};
use crate::run::{self, Approval, Ended, House, RuleFiles, RunError, Steady, ToRestore, Turn};
use crate::store::{RunKind, RunRecord, Store};

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
        Command::Sources(args) => sources::sources(config, &args).await,
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

/// Settings, policies, and the files that they stand in.
type Loaded = ((Settings, PolicySet), RuleFiles);

/// Settings and policies, with the warnings about them said.
fn load(config: Option<&Path>) -> Result<Loaded, RunError> {
    let (loaded, files) = RuleFiles::load(&config::find(config)?, environment())?;
    for warning in &loaded.0.warnings {
        say(&report::plain(&format!("warning: {warning}")));
    }
    Ok((loaded, files))
}

async fn open_loaded((loaded, files): Loaded) -> Result<House, RunError> {
    Ok(House::open(loaded, by(), clock(), stop()).await?.with_steady(steady()).with_rule_files(files))
}

/// The same for what only reads what is recorded, also where the state cannot be written.
pub(super) async fn open_to_read(config: Option<&Path>) -> Result<House, RunError> {
    let (loaded, files) = load(config)?;
    let store = Store::open_to_read(&loaded.0.state).await?;
    let house = House::with(loaded, store, by(), clock(), stop(), Patience::default())?;
    Ok(house.with_steady(steady()).with_rule_files(files))
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
    Ok(exit(&ended, Refused::WouldBe))
}

async fn run_now(config: Option<&Path>, args: &RunArgs) -> Result<u8, RunError> {
    let formats = formats(&args.out)?;
    let loaded = match load(config) {
        Ok(loaded) => loaded,
        Err(error) => return Err(telling::not_begun(config, error).await),
    };
    let telling = Telling::start(&loaded.0.0);
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
        let enforced = ended.document.mode == Mode::Enforce.label() && ended.circumstances.blocked_by.is_none();
        Ok(exit(&ended, if enforced { Refused::Was } else { Refused::WouldBe }))
    });
    telling.finish().await;
    shown
}

/// The effect of refusals on a run.
#[derive(Debug, Clone, Copy)]
enum Refused {
    /// The refused removals were left out.
    Was,
    /// It would be, if the run enforced.
    WouldBe,
}

/// Says the exit code's reason on stderr, so that a script's log explains itself.
fn exit(ended: &Ended, refused: Refused) -> u8 {
    match ended.outcome {
        run::RunOutcome::Done => {}
        run::RunOutcome::Interrupted => {
            let by = ended.interrupted_by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
            say(&format!("interrupted{by}: what had not begun was left as it is"));
        }
        run::RunOutcome::Refused => say(match refused {
            Refused::Was => "refused: this run left out what the refusals in the report cover",
            Refused::WouldBe => "refused: an enforcing run would leave out what the refusals in the report cover",
        }),
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
    let wanted = !loaded.0.0.approvals.signers.is_empty();
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
    let telling = Telling::start(&loaded.0.0);
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
        exit(&ended, Refused::Was)
    });
    telling.finish().await;
    shown
}

async fn runs(config: Option<&Path>, args: &RunsArgs) -> Result<u8, RunError> {
    let format = args.format.into();
    match &args.command {
        None => {
            let house = open_to_read(config).await?;
            let listed = list_runs(&house, args.limit).await;
            house.close().await;
            let (runs, done) = listed?;
            match format {
                Format::Text => print(&results::runs_text(&runs, &done)),
                Format::Json => print(&pretty(&results::runs_json(&runs, &done))),
                other => {
                    return Err(RunError::Usage(format!("the list of runs is text or json, not {}", other.label())));
                }
            }
        }
        Some(RunsCommand::Show { id, out }) => {
            let files = formats(out)?;
            let house = open_to_read(config).await?;
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

/// The last runs, with what was done in those whose record does not say it.
async fn list_runs(house: &House, limit: u32) -> Result<(Vec<RunRecord>, results::Done), RunError> {
    let runs = house.store.runs(limit).await?;
    let done = house.store.done_counts(&results::uncounted(&runs)).await?;
    Ok((runs, done))
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
