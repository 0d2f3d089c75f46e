//! `tagwarden state`: backups, copies and checks of the state, and its record of time.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::arguments::parse_reason;
use super::context::{current_user, environment, json_document, require_new, system_clock};
use super::output::{print, print_note, print_stderr};
use crate::config;
use crate::domain::Failure;
use crate::policy;
use crate::report;
use crate::state::{Backup, Sighting, SqliteState, StateCheck, StateLocation, StateStore};
use crate::workflow::{self, LoadedRules, RunError};

#[derive(Debug, Args)]
pub(super) struct StateArgs {
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Debug, Subcommand)]
enum StateCommand {
    /// Copy the state into a new file of SQLite
    ///
    /// Safe beside a running daemon.
    Backup {
        /// Write to this file; it must not exist
        file: PathBuf,
    },
    /// Copy a state into an empty place, in the same or another database
    #[command(after_help = COPY_HELP)]
    Copy {
        /// Copy from this state: `sqlite:PATH` or `postgres://USER@HOST/DATABASE`
        from: String,
        /// Write to a file that does not exist, or a database without rows
        to: String,
    },
    /// Read all of the state and compare content with its digests
    Check {
        /// Choose the format on standard output
        #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
        format: CheckFormat,
    },
    /// Put these settings and policies in force for all daemons
    ///
    /// Daemons with one database follow the newest settings and policies that any of them has had. This puts the files of
    /// this machine in force although newer ones are known. Files that are newer and appear later replace them again.
    AcceptRules {
        /// Say why older ones are to be in force, for the record
        #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
        reason: String,
    },
    /// Trust the present time, although a later one was recorded
    AcceptClock {
        /// Say why the recorded time is wrong, for the record
        #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
        reason: String,
    },
}

/// The message of a command that accepted nothing.
const ALREADY_IN_FORCE: &str = "the settings and policies here are in force already; nothing was to be accepted";

const COPY_HELP: &str = "Stop the daemon first. Nothing else may work with the state meanwhile. A database is connected to as \
                         `[postgres]` in the settings says; no password belongs into its URL. What was written is read back \
                         and compared before it counts.";

/// The formats of a check.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum CheckFormat {
    Text,
    Json,
}

/// Backs up, copies or checks the state, or corrects what it knows of the time. Only `state` and `[postgres]` are read of the
/// settings: a backup is wanted most when something else is wrong.
pub(super) async fn state(config: Option<&Path>, args: &StateArgs) -> Result<u8, RunError> {
    let environment: Vec<(String, String)> = environment().collect();
    if let StateCommand::Copy { from, to } = &args.command {
        // There need be no settings.
        let settings = match config::find(config) {
            Ok(settings) => Some(settings),
            Err(_) if config.is_none() => None,
            Err(error) => return Err(error.into()),
        };
        let place = |written: &str| config::parse_state_location(written, settings.as_deref(), &environment);
        return copy(&place(from)?, &place(to)?).await;
    }
    let settings = config::find(config)?;
    let state = config::state_location(&settings, &environment)?;
    match &args.command {
        StateCommand::Backup { file } => backup(&state, file).await,
        StateCommand::Check { format } => check(&state, *format).await,
        StateCommand::AcceptClock { reason } => accept_clock(&state, reason).await,
        StateCommand::AcceptRules { reason } => accept_rules(&settings, &environment, &state, reason).await,
        StateCommand::Copy { .. } => Ok(0),
    }
}

async fn backup(state: &StateLocation, file: &Path) -> Result<u8, RunError> {
    require_backup_target(state, file)?;
    let Backup { bytes, runs, entries } = StateStore::back_up(state, file).await?;
    print_note(&format!(
        "backed up {state} to {}: {}, {}, {}",
        file.display(),
        report::counted(runs, "run"),
        counted_entries(entries),
        report::format_bytes(bytes),
    ));
    Ok(0)
}

/// Makes sure of the target of a backup before the state is read, which may take long.
fn require_backup_target(state: &StateLocation, file: &Path) -> Result<(), RunError> {
    if let StateLocation::File(state) = state
        && SqliteState::is_part_of(state, file)
    {
        let words = format!("cannot write {}: the state itself is there, or keeps a file by that name", file.display());
        return Err(RunError::Usage(Failure::new((), words).with_help("name a file in another folder")));
    }
    require_new(file)
}

async fn copy(from: &StateLocation, to: &StateLocation) -> Result<u8, RunError> {
    if let StateLocation::File(file) = to {
        require_new(file)?;
    }
    let copied = StateStore::copy(from, to).await?;
    print_stderr(&format!(
        "copied {from} to {to}: {}, {}, {} in {}; counts and hashes of all tables agree",
        report::counted(copied.rows_of("runs"), "run"),
        counted_entries(copied.rows_of("journal")),
        report::counted(copied.rows(), "row"),
        report::counted(copied.tables.len() as u64, "table"),
    ));
    Ok(0)
}

/// Looks the state over. The exit code is 1 if something is wrong with it.
async fn check(state: &StateLocation, format: CheckFormat) -> Result<u8, RunError> {
    let found = StateStore::check(state).await?;
    match format {
        CheckFormat::Text => print(&check_text(state, &found)),
        CheckFormat::Json => print(&json_document("tagwarden.state-check/1", check_json(state, &found))),
    }
    if found.findings.is_empty() {
        return Ok(0);
    }
    print_stderr("the state is damaged: put back a backup, or find out what happened to it first");
    Ok(1)
}

fn check_text(state: &StateLocation, found: &StateCheck) -> String {
    let mut text = format!("state {state}: {}\n\n", report::format_bytes(found.bytes));
    for table in found.tables.iter().filter(|table| table.rows > 0) {
        let bytes = table.bytes.map(|bytes| format!("  {:>10}", report::format_bytes(bytes))).unwrap_or_default();
        let rows = report::counted(table.rows, "row");
        let _ = writeln!(text, "{:22} {rows:>16}{bytes}", table.name);
    }
    let _ = writeln!(text, "\nopen journal entries: {}", found.pending.len());
    for entry in &found.pending {
        let intent = &entry.intent;
        let _ = writeln!(
            text,
            "  {} {} {}/{}:{}, begun {} by run {}",
            entry.id,
            intent.action.label(),
            intent.registry,
            intent.repository,
            intent.tag,
            entry.intended_at,
            entry.run
        );
    }
    let _ = writeln!(text, "damage: {}", if found.findings.is_empty() { "none found" } else { "found" });
    for finding in &found.findings {
        let _ = writeln!(text, "  {finding}");
    }
    text
}

fn check_json(state: &StateLocation, found: &StateCheck) -> serde_json::Value {
    let tables =
        found.tables.iter().map(|table| json!({ "name": table.name, "rows": table.rows, "bytes": table.bytes }));
    let pending = found.pending.iter().map(|entry| {
        json!({
            "id": entry.id.0,
            "run": entry.run.to_string(),
            "action": entry.intent.action.label(),
            "registry": entry.intent.registry.as_str(),
            "repository": entry.intent.repository.as_str(),
            "tag": entry.intent.tag.as_str(),
            "digest": entry.intent.digest.to_string(),
            "intended_at": entry.intended_at.to_string(),
        })
    });
    json!({
        "state": state.to_string(),
        "bytes": found.bytes,
        "sound": found.findings.is_empty(),
        "findings": found.findings,
        "pending": pending.collect::<Vec<_>>(),
        "tables": tables.collect::<Vec<_>>(),
    })
}

fn counted_entries(entries: u64) -> String {
    if entries == 1 {
        "1 journal entry".to_owned()
    } else {
        format!("{} journal entries", report::format_count(entries))
    }
}

/// Puts the settings and policies of these files in force.
async fn accept_rules(
    file: &Path,
    environment: &[(String, String)],
    state: &StateLocation,
    reason: &str,
) -> Result<u8, RunError> {
    if matches!(state, StateLocation::File(_)) {
        let failure = Failure::new((), format!("{state} has one daemon, which goes by its own settings and policies"));
        return Err(RunError::Usage(failure.with_help("reload or restart it instead")));
    }
    // Before loading: a later commit has later files.
    let commit = policy::find_commit(file);
    let (settings, policies) = workflow::load(file, environment.iter().cloned())?;
    let loaded = LoadedRules::new(&settings, &policies, commit);
    let store = StateStore::open(state).await?;
    let (by, at) = (current_user(), system_clock()());
    let accepted = workflow::accept_rules(&store, &loaded, Sighting { by: &by, at }, reason).await?;
    store.close().await;
    for (revision, replaced) in &accepted {
        let instead = replaced.as_ref().map_or_else(String::new, |replaced| {
            format!(" instead of {}", workflow::describe_revision(&replaced.revision))
        });
        let (part, new) = (revision.part.label(), workflow::describe_revision(revision));
        print_stderr(&format!("from now on, the {part} of {new} are in force{instead}"));
    }
    if accepted.is_empty() {
        print_stderr(ALREADY_IN_FORCE);
    }
    Ok(0)
}

/// Takes the present time for right.
async fn accept_clock(state: &StateLocation, reason: &str) -> Result<u8, RunError> {
    if state.is_missing() {
        return Err(RunError::usage(format!("there is no state at {state}")));
    }
    let (store, now) = (StateStore::open(state).await?, system_clock()());
    let before = store.newest_time().await?;
    store.accept_time(now, &current_user(), reason).await?;
    let later = before.confirmed.max(before.recorded).filter(|time| *time > now);
    print_stderr(&match later {
        Some(later) => format!("from now on, {now} counts as the newest time instead of {later}"),
        None => format!("the state knows no time after {now}; nothing was to be corrected"),
    });
    store.close().await;
    Ok(0)
}
