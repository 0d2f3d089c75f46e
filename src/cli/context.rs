//! Shared parts of commands: clocks and environment, settings, the app, and output of reports.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::collector;
use super::demo_folder::require_sample_registry;
use super::output::{print_note, print_report_as, print_stderr, try_writing, write_file};
use super::sanitize::{OutputKind, sanitize};
use super::signals::listen_for_stop;
use super::user;
use crate::apply::Clock;
use crate::config::{self, Settings};
use crate::domain::{Failure, decode_text};
use crate::policy::{self, PolicySet};
use crate::registry::{self, RetryPolicy};
use crate::report::{self, AttentionKind, AttentionView, Format, PlanDocument};
use crate::state::{StateErrorKind, StateStore};
use crate::workflow::{self, App, ConfigFiles, MonotonicClock, RunError, RunOutcome, RunResult};

/// Returns the wall clock.
#[expect(clippy::disallowed_methods, reason = "a way in: the one place where commands read the clock")]
pub(super) fn system_clock() -> Clock {
    Arc::new(Timestamp::now)
}

/// Returns the monotonic clock: the time since the machine started, which cannot be set.
pub(super) fn monotonic_clock() -> MonotonicClock {
    Arc::new(registry::uptime)
}

/// Returns the variables of the environment that are text.
#[expect(clippy::disallowed_methods, reason = "a way in: settings come from the file and the environment")]
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Returns the user of this process, as `user@host`.
#[expect(clippy::disallowed_methods, reason = "a way in: the audit record names the user")]
pub(super) fn current_user() -> String {
    user::describe_user(|name| std::env::var(name).ok(), Path::new("/"))
}

/// Settings, policies, and their files.
pub(super) type LoadedConfig = ((Settings, PolicySet), ConfigFiles);

/// Loads settings and policies, and prints the warnings about them.
pub(super) fn load(config: Option<&Path>) -> Result<LoadedConfig, RunError> {
    let (loaded, files) = ConfigFiles::load(&config::find(config)?, environment())?;
    collector::start(loaded.0.telemetry.as_ref());
    for warning in &loaded.0.warnings {
        print_note(&report::sanitize(&format!("warning: {warning}")));
    }
    Ok((loaded, files))
}

/// Returns the path of the policies in the settings, or the default path without settings: tests need nothing else.
pub(super) fn configured_policies_path(config: Option<&Path>) -> Result<PathBuf, RunError> {
    match config::find(config) {
        Ok(file) => {
            let environment: Vec<(String, String)> = environment().collect();
            config::policies_path(&file, &environment).ok_or_else(|| {
                RunError::usage(format!(
                    "{} does not say where its policies are; name them: `tagwarden test PATH`",
                    file.display()
                ))
            })
        }
        Err(_) if config.is_none() => Ok(PathBuf::from("policies")),
        Err(error) => Err(error.into()),
    }
}

/// Loads settings and policies and opens the app.
pub(super) async fn open_app(config: Option<&Path>) -> Result<App, RunError> {
    open_loaded_app(load(config)?).await
}

/// Opens the app on settings and policies that were loaded before.
pub(super) async fn open_loaded_app((loaded, files): LoadedConfig) -> Result<App, RunError> {
    require_sample_registry(&loaded.0)?;
    Ok(App::open(loaded, current_user(), system_clock(), listen_for_stop())
        .await?
        .with_monotonic_clock(monotonic_clock())
        .with_config_files(files))
}

/// Opens the app for a command that asks registries and sources and changes nothing: where there is no state, none is
/// created. A state that is there remembers what was read.
pub(super) async fn open_app_to_look(config: Option<&Path>) -> Result<App, RunError> {
    let (loaded, files) = load(config)?;
    require_sample_registry(&loaded.0)?;
    if loaded.0.state.is_to_be_created() {
        let state = &loaded.0.state;
        print_note(&format!("note: there is no state at {state} yet, so no holds and no earlier sightings are known"));
    }
    let store = match StateStore::open_or_temporary(&loaded.0.state).await {
        // What it knows is needed most then; nothing of it has to be written to answer.
        Err(error) if matches!(error.kind, StateErrorKind::Full | StateErrorKind::ReadOnly | StateErrorKind::Io) => {
            let Ok(store) = StateStore::open_to_read(&loaded.0.state).await else { return Err(error.into()) };
            print_note(&report::sanitize(&format!("warning: {}; it is only read", error.chain())));
            store
        }
        opened => opened?,
    };
    Ok(app_with(loaded, store)?.with_config_files(files))
}

/// Opens the app on a state that is only read, for a command that asks registries as well.
pub(super) async fn open_existing_to_read(config: Option<&Path>) -> Result<App, RunError> {
    let (loaded, files) = load(config)?;
    Ok(open_to_read(loaded).await?.with_config_files(files))
}

/// Opens the app for a command that corrects or undoes what is on record.
pub(super) async fn open_existing(config: Option<&Path>) -> Result<App, RunError> {
    let loaded = load(config)?;
    require_state(&loaded.0.0)?;
    open_loaded_app(loaded).await
}

/// Makes sure that there is a state to read: an empty answer would sound like a fact.
///
/// # Errors
/// [`RunError::Usage`].
fn require_state(settings: &Settings) -> Result<(), RunError> {
    if !settings.state.is_to_be_created() {
        return Ok(());
    }
    let (state, file) = (&settings.state, settings.file.display());
    let missing = Failure::new((), format!("there is no state at {state} yet (`state` in {file})"));
    Err(RunError::Usage(missing.with_help("the first plan, run or hold creates it; if there was one, correct `state`")))
}

/// Loads settings and policies for a command that asks no registry and no source: their secrets are not read, so that
/// somebody who must not have them can use it. A database of the state is signed in to.
pub(super) fn load_without_secrets(config: Option<&Path>) -> Result<(Settings, PolicySet), RunError> {
    let file = config::find(config)?;
    let environment: Vec<(String, String)> = environment().collect();
    let ((mut settings, _), policies) = workflow::load_without_secrets(&file, environment.iter().cloned())?;
    settings.state = config::state_location(&file, &environment)?;
    for warning in &settings.warnings {
        print_note(&report::sanitize(&format!("warning: {warning}")));
    }
    Ok((settings, policies))
}

/// Opens the app for the history of a tag: without the secrets of its registry, that is not asked, if they cannot be read.
pub(super) async fn open_for_history(config: Option<&Path>) -> Result<App, RunError> {
    let error = match load(config) {
        Ok((loaded, files)) => return Ok(open_to_read(loaded).await?.with_config_files(files)),
        Err(error) => error,
    };
    let Ok(loaded) = load_without_secrets(config) else { return Err(error) };
    print_note("the registry is not asked whether the tag is there now: its secrets cannot be read here");
    Ok(open_to_read(loaded).await?.without_registries())
}

/// Opens the app on a state that is only read, possibly on a read-only file system. Registries are not to be asked.
pub(super) async fn open_read_only(config: Option<&Path>) -> Result<App, RunError> {
    open_to_read(load_without_secrets(config)?).await
}

async fn open_to_read(loaded: (Settings, PolicySet)) -> Result<App, RunError> {
    require_state(&loaded.0)?;
    let store = StateStore::open_to_read(&loaded.0.state).await?;
    app_with(loaded, store)
}

fn app_with(loaded: (Settings, PolicySet), store: StateStore) -> Result<App, RunError> {
    let app =
        App::with_store(loaded, store, current_user(), system_clock(), listen_for_stop(), RetryPolicy::default())?;
    Ok(app.with_monotonic_clock(monotonic_clock()))
}

/// Runs work that only reads, until it completes or is interrupted.
pub(super) async fn run_until_stopped<T>(
    app: &App,
    work: impl Future<Output = Result<T, RunError>>,
) -> Result<T, RunError> {
    let mut stop = app.stop.clone();
    tokio::select! {
        done = work => done,
        _ = stop.wait_for(|stopped| *stopped) => Err(RunError::Interrupted),
    }
}

/// The effect of refusals on a run.
#[derive(Debug, Clone, Copy)]
pub(super) enum RefusalEffect {
    /// The refused removals were left out.
    Enforced,
    /// It would be, if the run enforced.
    DryRun,
}

/// Prints the reason of the exit code on stderr, so that the log of a script explains itself.
pub(super) fn report_outcome(result: &RunResult, refused: RefusalEffect) -> u8 {
    match result.outcome {
        RunOutcome::Done => {}
        RunOutcome::Interrupted => {
            let by = result.interrupted_by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
            print_stderr(&format!("interrupted{by}: what had not begun was left as it is"));
        }
        RunOutcome::Refused => {
            let first = first_of(&result.attention(), &[AttentionKind::Refused, AttentionKind::WouldBeRefused]);
            let effect = match refused {
                RefusalEffect::Enforced => "this run skipped the refused removals (see REFUSED)",
                RefusalEffect::DryRun => "an enforcing run would skip the refused removals (see REFUSED)",
            };
            print_stderr(&format!("{}; {effect}", first.unwrap_or_else(|| "refused".to_owned())));
        }
        RunOutcome::Failed => {
            print_stderr(&format!("some removals failed; `tagwarden runs show {}` has them", result.run));
        }
        RunOutcome::EvidenceMissing => {
            print_stderr(&missing_evidence(&result.attention(), result.document.summary.undecided));
        }
    }
    result.outcome.exit_code()
}

/// Describes missing evidence on one line: the first thing that could not be read, with its cause, and the effect.
pub(super) fn missing_evidence(attention: &[AttentionView], undecided: u64) -> String {
    let kinds = [AttentionKind::RegistryUnread, AttentionKind::SourceFailed, AttentionKind::RegistryPartlyUnread];
    let first = first_of(attention, &kinds);
    let first = first.unwrap_or_else(|| "a source or a registry could not be read".to_owned());
    let effect = match undecided {
        0 => String::new(),
        1 => "; 1 tag is undecided and stays".to_owned(),
        tags => format!("; {} tags are undecided and stay", report::format_count(tags)),
    };
    format!("evidence is missing: {first}{effect}")
}

/// Returns the message of the first item of these kinds, and the number of the others.
fn first_of(attention: &[AttentionView], kinds: &[AttentionKind]) -> Option<String> {
    let mut found = attention.iter().filter(|item| item.is_one_of(kinds));
    let first = found.next()?.message.clone();
    Some(match found.count() {
        0 => first,
        more => format!("{first}; and {} more", report::format_count(more as u64)),
    })
}

/// Pairs each file with the format that its extension names.
///
/// # Errors
/// Returns a usage error for an unknown format or a file that cannot be written, before work that may take hours.
pub(super) fn file_formats(files: &[PathBuf]) -> Result<Vec<(&Path, Format)>, RunError> {
    files
        .iter()
        .map(|file| {
            if file == Path::new(STANDARD) {
                let words = "`--out -`: the report goes to standard output anyway; `--format` chooses its format";
                return Err(RunError::usage(words.to_owned()));
            }
            let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            let format = Format::from_extension(extension).ok_or_else(|| {
                RunError::usage(format!(
                    "{}: name it .json, .md, .html, .csv, .txt, .jira or .servicenow",
                    file.display()
                ))
            })?;
            require_writable(file)?;
            Ok((file.as_path(), format))
        })
        .collect()
}

/// Prints the report of a plan and writes it into the files.
pub(super) fn print_report(
    document: &mut PlanDocument,
    format: Format,
    files: &[(&Path, Format)],
) -> Result<(), RunError> {
    let plan = files.iter().find(|(_, format)| *format == Format::Json);
    document.written_to = plan.map(|(file, _)| shell_word(file));
    let document = &*document;
    write_files(files, |format, out| report::write(document, format, out))?;
    print_report_as(format, |out| report::write(document, format, out));
    Ok(())
}

/// Formats a path as one word of a shell.
fn shell_word(file: &Path) -> String {
    let file = file.to_string_lossy();
    let is_plain = |found: char| found.is_alphanumeric() || "/._-+:@%,=".contains(found);
    // A name that looks like an option is one for the command.
    let file = if file.starts_with('-') { format!("./{file}") } else { file.into_owned() };
    if file.chars().all(is_plain) { file } else { format!("'{}'", file.replace('\'', r"'\''")) }
}

/// Makes sure that a file can be written, before the work whose result it gets.
///
/// # Errors
/// [`RunError::Usage`].
pub(super) fn require_writable(file: &Path) -> Result<(), RunError> {
    try_writing(file).map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "create its folder, or name a file in another one",
            io::ErrorKind::IsADirectory => "name a file in it",
            _ => "name a file in a folder that this user may write to",
        };
        let failure = Failure::new((), format!("cannot write {}", file.display())).caused_by(error);
        RunError::Usage(failure.with_help(help))
    })
}

/// Makes sure that a new file can be created, before the work whose result it gets. Nothing is overwritten.
///
/// # Errors
/// [`RunError::Usage`].
pub(super) fn require_new(file: &Path) -> Result<(), RunError> {
    if file == Path::new(STANDARD) {
        return Err(RunError::usage("`-`: this cannot be written to standard output; name a file".to_owned()));
    }
    if file.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
        let failure = Failure::new((), format!("cannot write {}: something is there already", file.display()));
        let help = "nothing is overwritten: name another file, or remove this one";
        return Err(RunError::Usage(failure.with_help(help)));
    }
    require_writable(file)
}

/// Returns the error of a file that cannot be written.
pub(super) fn unwritable(file: &Path, error: io::Error) -> RunError {
    let help = write_help(&error);
    RunError::Output(Failure::new((), format!("cannot write {}", file.display())).caused_by(error).with_help(help))
}

/// Returns the remedy for a file that cannot be written; empty if it is not known.
fn write_help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "name a folder that you may write to",
        io::ErrorKind::StorageFull => "make room there, or name another folder",
        _ => "",
    }
}

/// Writes a report into each file, in its format.
pub(super) fn write_files(
    files: &[(&Path, Format)],
    write: impl Fn(Format, &mut dyn io::Write) -> io::Result<()>,
) -> Result<(), RunError> {
    report::set_table_width(None);
    for (file, format) in files {
        write_file(file, |out| write(*format, out)).map_err(|error| unwritable(file, error))?;
        print_note(&format!("wrote {}", file.display()));
    }
    Ok(())
}

/// The name of standard input and output among files.
pub(super) const STANDARD: &str = "-";

/// Reads a file that somebody named; `-` is standard input.
///
/// # Errors
/// Returns an error if it cannot be read or is not text.
pub(super) fn read_input(file: &Path) -> Result<String, RunError> {
    decode_text(read_input_bytes(file)?).map_err(|invalid| unreadable(file, invalid.into()))
}

/// Reads the bytes of a file that somebody named; `-` is standard input.
///
/// # Errors
/// Returns an error if it cannot be read.
pub(super) fn read_input_bytes(file: &Path) -> Result<Vec<u8>, RunError> {
    let mut bytes = Vec::new();
    let read = if file == Path::new(STANDARD) {
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    read.map_err(|error| unreadable(file, error))
}

fn unreadable(file: &Path, error: io::Error) -> RunError {
    let help = match error.kind() {
        io::ErrorKind::IsADirectory => "name a file in it",
        _ => policy::read_help(&error),
    };
    let failure = Failure::new((), format!("cannot read {}", describe_input(file))).caused_by(error);
    RunError::Usage(failure.with_help(help))
}

/// The name of an input in messages.
pub(super) fn describe_input(file: &Path) -> String {
    if file == Path::new(STANDARD) { "standard input".to_owned() } else { file.display().to_string() }
}

/// Returns true if `docker login` was given something for that host: its file is in `DOCKER_CONFIG`, else in the home
/// folder.
pub(super) fn has_docker_login(environment: impl Iterator<Item = (String, String)>, host: &str) -> bool {
    let variables: std::collections::BTreeMap<String, String> = environment.collect();
    let own = variables.get("DOCKER_CONFIG").map(PathBuf::from);
    let home = || variables.get("HOME").map(|home| Path::new(home).join(".docker"));
    let file = own.or_else(home).map(|folder| folder.join("config.json"));
    let text = file.and_then(|file| std::fs::read(file).ok());
    text.is_some_and(|text| registry::docker_config_names_host(&text, host))
}

/// The settings file that the environment names.
#[expect(clippy::disallowed_methods, reason = "a way in: the variable stands for the flag --config")]
pub(super) fn config_variable() -> Option<PathBuf> {
    std::env::var_os("TAGWARDEN_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Refuses a word that is not one of the known ones, and names the one that was probably meant.
///
/// # Errors
/// [`RunError::Usage`].
pub(super) fn reject_unknown(what: &str, word: &str, known: &[&str]) -> Result<(), RunError> {
    if known.contains(&word) {
        return Ok(());
    }
    Err(workflow::unknown_name(what, word, known))
}

/// Formats a JSON document with its schema for stdout.
pub(super) fn json_document(schema: &str, mut value: serde_json::Value) -> String {
    value["schema"] = schema.into();
    pretty_json(&value)
}

/// Formats JSON for stdout.
pub(super) fn pretty_json(value: &serde_json::Value) -> String {
    sanitize(OutputKind::Json, &format!("{value:#}\n"))
}
