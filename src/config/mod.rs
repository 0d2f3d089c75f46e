//! Settings: `tagwarden.toml` and the environment to [`Settings`], with every problem reported at once, at its place.

mod acr_pulls;
mod approvals;
mod auth;
mod aws;
mod azure;
mod cross_check;
mod git_history;
mod google;
mod kubernetes;
mod layers;
mod listen;
mod net;
mod notify;
mod reader;
mod registries;
mod remote_sources;
mod revision;
mod schedule;
mod secrets;
mod sources;
mod state;
mod telemetry;
mod text_settings;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use crate::domain::{Failure, Limits, RegistryName, decode_text};
use crate::policy::{Diagnostic, Fields, Node, Problems, Value, fields};
use crate::registry::providers::PROVIDERS;
use crate::registry::{Provider, RegistrySettings};
use crate::sources::SourceSettings;
use crate::state::StateLocation;
pub use approvals::{Approvals, Signer, SignerKey};
pub use cross_check::{cross_check, lint};
pub use listen::listen_address;
pub use notify::{Channel, Email, Encryption, NotifyEvent, NotifySettings, Template};
use reader::SettingsReader;

pub use state::{parse_state_location, state_location};

pub use telemetry::TelemetrySettings;

pub use schedule::{Freeze, Missed, RemovalBlock, Schedule, Window};

/// All settings of a person except the policies, validated and with secrets loaded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file that they were read from.
    pub file: PathBuf,
    /// The mode of removals.
    pub mode: Mode,
    /// The policy file or the folder of policies.
    pub policies: PathBuf,
    /// The place of the state.
    pub state: StateLocation,
    /// Where the status page listens.
    pub listen: SocketAddr,
    /// The token that the status page requires, except for health; `None` means no authentication.
    pub listen_token: Option<SecretString>,
    /// The validity of a plan.
    pub plan_ttl: Duration,
    /// The period for which a removal must remain undoable.
    pub undo_window: Duration,
    /// The schedule of the daemon.
    pub schedule: Schedule,
    /// The retention of records.
    pub records: Records,
    /// The registries, by name; never empty.
    pub registries: Vec<RegistrySettings>,
    /// The sources, by name.
    pub sources: Vec<SourceSettings>,
    /// The limits of every run.
    pub limits: Limits,
    /// The receivers of notifications, by name.
    pub notify: Vec<NotifySettings>,
    /// The collector of traces and metrics; `None` if nothing is sent.
    pub telemetry: Option<TelemetrySettings>,
    /// The approvers of plans, and the folder of approved plans.
    pub approvals: Approvals,
    /// The hash over the settings that affect decisions, `sha256:…`. Independent of their notation.
    pub revision: String,
    /// Remarks for people although nothing is wrong.
    pub warnings: Vec<String>,
}

/// The mode of removals. A removal also needs its policies to say enforce.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is ever removed.
    #[default]
    DryRun,
    /// Only applying a plan removes.
    Approved,
    /// Runs remove, too.
    Enforce,
}

/// The retention of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Records {
    /// Runs and the journal. A removal without a journal entry cannot be undone by a command.
    pub keep: Duration,
    /// The plans of runs, which explain the decision on each tag.
    pub plans: Duration,
}

impl Default for Records {
    fn default() -> Self {
        Self { keep: Duration::from_hours(400 * 24), plans: Duration::from_hours(30 * 24) }
    }
}

/// Why settings cannot be loaded: every problem at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems, by place; never empty.
    pub diagnostics: Vec<Diagnostic>,
}

impl ConfigError {
    /// Returns the label used in metrics and the audit record.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        "settings"
    }

    fn of(path: &Path, message: impl Into<String>) -> Self {
        Self { diagnostics: vec![Diagnostic::new(path.display().to_string(), message)] }
    }

    fn unreadable(path: &Path, error: io::Error) -> Self {
        let help = crate::policy::read_help(&error);
        let failure = Failure::new((), "the settings cannot be read").caused_by(error).with_help(help);
        Self { diagnostics: vec![Diagnostic::of_failure(path.display().to_string(), failure)] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            f.write_str(separator)?;
            // Passes on `{:#}`, which shows causes.
            fmt::Display::fmt(diagnostic, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Mode {
    /// Returns the label used in settings and reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::DryRun => "dry-run",
            Self::Approved => "approved",
            Self::Enforce => "enforce",
        }
    }
}

const MODES: [(&str, Mode); 3] = [("dry-run", Mode::DryRun), ("approved", Mode::Approved), ("enforce", Mode::Enforce)];
/// The default period for which a removal must remain undoable.
const UNDO_WINDOW: Duration = Duration::from_hours(7 * 24);
/// The keys above the first table.
const TOP_KEYS: [&str; 7] = ["mode", "policies", "state", "listen", "listen_token_file", "plan_ttl", "undo_window"];
/// The default paths of the settings, in order.
const DEFAULT_PATHS: [&str; 2] = ["tagwarden.toml", "/etc/tagwarden/tagwarden.toml"];

/// Returns the settings file: the given one, else `./tagwarden.toml`, else `/etc/tagwarden/tagwarden.toml`.
///
/// # Errors
/// Returns an error if it does not exist.
pub fn find(explicit: Option<&Path>) -> Result<PathBuf, ConfigError> {
    if let Some(path) = explicit {
        let missing = || {
            let mut problem = Diagnostic::new(path.display().to_string(), "there is no such settings file");
            problem.help("correct `--config` or the variable `TAGWARDEN_CONFIG`, which name it");
            ConfigError { diagnostics: vec![problem] }
        };
        return path.exists().then(|| path.to_owned()).ok_or_else(missing);
    }
    DEFAULT_PATHS.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
        let mut problem = Diagnostic::new(DEFAULT_PATHS[0], "no settings file, neither here nor in /etc/tagwarden");
        let help =
            "write one with `tagwarden init ADDRESS`, or name one with `--config FILE`; `tagwarden demo` needs none";
        let alone = if Path::new("policies").is_dir() {
            "; `tagwarden check --policies policies` checks policies without settings"
        } else {
            ""
        };
        problem.help(format!("{help}{alone}"));
        ConfigError { diagnostics: vec![problem] }
    })
}

/// Loads the settings of a file, overridden by the variables `TAGWARDEN__…` of `environment`, and the secrets that they
/// name.
///
/// # Errors
/// Returns every problem, with file and line or with the variable.
pub fn load(path: &Path, environment: impl IntoIterator<Item = (String, String)>) -> Result<Settings, ConfigError> {
    load_with_providers(path, environment, PROVIDERS)
}

/// Does what [`load`] does, with other registry products than [`PROVIDERS`].
///
/// # Errors
/// Fails as [`load`] does.
pub fn load_with_providers(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    providers: &'static [&'static dyn Provider],
) -> Result<Settings, ConfigError> {
    load_as(path, environment, providers, None).map(|(settings, _)| settings)
}

/// Does what [`load`] does where the secrets are not: returns settings with stand-ins for them, which are good for
/// checks only, and the files and variables that were not read.
///
/// # Errors
/// Fails as [`load`] does.
pub fn load_without_secrets(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(Settings, Vec<String>), ConfigError> {
    load_as(path, environment, PROVIDERS, Some(Vec::new()))
}

fn load_as(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    providers: &'static [&'static dyn Provider],
    unread_secrets: Option<Vec<String>>,
) -> Result<(Settings, Vec<String>), ConfigError> {
    let mut environment: Vec<(String, String)> = environment.into_iter().collect();
    environment.sort();
    let text = read_text(path).map_err(|error| ConfigError::unreadable(path, error))?;
    let mut reader = SettingsReader {
        folder: path.parent().map(Path::to_owned).unwrap_or_default(),
        environment: &environment,
        problems: Problems::of_toml(&path.display().to_string(), &text, &TOP_KEYS),
        providers,
        warnings: layers::unread_variables(&environment),
        unread_secrets,
    };
    let settings = layers::merge_layers(&text, &environment, &mut reader.problems)
        .and_then(|root| settings(path, &root, &mut reader));
    match settings {
        Some(mut settings) if reader.problems.count() == 0 => {
            settings.revision = revision::revision(&settings);
            settings.warnings = reader.warnings;
            Ok((settings, reader.unread_secrets.unwrap_or_default()))
        }
        None if reader.problems.count() == 0 => Err(ConfigError::of(path, "the settings could not be understood")),
        _ => Err(ConfigError { diagnostics: reader.problems.into_diagnostics() }),
    }
}

/// Joins a path of the settings to their folder, without `..` where that is the same file, as it is not behind every
/// link.
fn resolve(folder: &Path, written: impl AsRef<Path>) -> PathBuf {
    let joined = folder.join(written);
    let mut plain = PathBuf::new();
    for part in joined.components() {
        match (part, plain.components().next_back()) {
            (Component::ParentDir, Some(Component::Normal(_))) => drop(plain.pop()),
            (Component::CurDir, _) => {}
            _ => plain.push(part),
        }
    }
    let is_same = matches!((joined.canonicalize(), plain.canonicalize()), (Ok(first), Ok(second)) if first == second);
    if is_same { plain } else { joined }
}

/// Reads a text file in any encoding that names itself.
fn read_text(path: &Path) -> io::Result<String> {
    Ok(decode_text(std::fs::read(path)?)?)
}

/// Returns the policies path of settings that may be invalid, to report problems of both at once.
#[must_use]
pub fn policies_path(path: &Path, environment: &[(String, String)]) -> Option<PathBuf> {
    let root: toml::Table = read_text(path).ok()?.parse().ok()?;
    let is_it = |name: &str| layers::key_of(name).is_some_and(|key| key.eq_ignore_ascii_case("policies"));
    let set = environment.iter().find(|(name, value)| is_it(name) && !value.is_empty());
    let named = match set {
        Some((_, value)) => value,
        None => root.get("policies").map_or(Some("policies"), toml::Value::as_str)?,
    };
    Some(resolve(path.parent().unwrap_or(Path::new("")), named))
}

fn settings(path: &Path, root: &Node, reader: &mut SettingsReader) -> Option<Settings> {
    let mut fields = Fields::of(root, "settings file", &mut reader.problems)?;
    let mode = fields
        .get("mode")
        .map_or(Some(Mode::default()), |node| fields::choice("mode", node, &MODES, &mut reader.problems));
    let policies =
        fields.get("policies").map_or(Some("policies"), |node| fields::text("policies", node, &mut reader.problems));
    let state = fields.get("state");
    let listen = listen::listen(&mut fields, reader);
    let plan_ttl = fields
        .get("plan_ttl")
        .map_or(Some(Duration::from_hours(24)), |node| fields::duration("plan_ttl", node, &mut reader.problems));
    let undo_window = fields
        .get("undo_window")
        .map_or(Some(UNDO_WINDOW), |node| fields::duration("undo_window", node, &mut reader.problems));
    let schedule = fields.get("schedule").map_or(Some(Schedule::default()), |node| schedule::schedule(node, reader));
    let records = fields.get("records").map_or(Some(Records::default()), |node| records(node, undo_window, reader));
    let registries_node = fields.get("registries");
    let azure = fields.get("azure").and_then(|node| azure::azure(node, reader)).unwrap_or_default();
    let state = state::state((state, fields.get("postgres")), &azure, reader);
    let registries = registries::registries(registries_node, &azure, reader);
    let names = registry_names(registries_node);
    let sources = sources::sources(fields.get("sources"), (&names, &registries), &azure, reader);
    let limits = fields.get("limits").map_or(Some(Limits::default()), |node| limits(node, reader));
    let notify = notify::channels(fields.get("notify"), reader);
    let telemetry = fields.get("telemetry").map(|node| telemetry::telemetry(node, reader));
    let approvals =
        fields.get("approvals").map_or(Some(Approvals::default()), |node| approvals::approvals(node, reader));
    fields.finish(hint, &mut reader.problems);
    Some(Settings {
        file: path.to_owned(),
        mode: mode?,
        policies: resolve(&reader.folder, policies?),
        state: state?,
        listen: listen.as_ref()?.address,
        listen_token: listen?.token,
        plan_ttl: plan_ttl?,
        undo_window: undo_window?,
        schedule: schedule?,
        records: records?,
        registries,
        sources,
        limits: limits?,
        notify,
        telemetry: telemetry.map_or(Some(None), |read| read.map(Some))?,
        approvals: approvals?,
        revision: String::new(),
        warnings: Vec::new(),
    })
}

/// Returns the names of all registries, including invalid ones.
fn registry_names(node: Option<&Node>) -> Vec<RegistryName> {
    match node.map(|node| &node.value) {
        Some(Value::Map(entries)) => entries.iter().filter_map(|entry| entry.key.parse().ok()).collect(),
        _ => Vec::new(),
    }
}

fn hint(key: &str) -> Option<&'static str> {
    match key {
        "dry_run" | "dryrun" | "enforce" => Some("write `mode = \"dry-run\"`, `\"approved\"` or `\"enforce\"`"),
        "listen_token" => Some("name a file that holds it: listen_token_file = \"…\""),
        "cron" | "timezone" | "missed" | "jitter" | "window" | "freeze" => Some("it belongs below `[schedule]`"),
        "untag" | "percent" | "leave" | "delete" => Some("it belongs below `[limits]`"),
        "require_signature" | "signers" => Some("it belongs below `[approvals]`"),
        "password" | "password_file" | "sslmode" => Some("how to connect to a database belongs below `[postgres]`"),
        "cloud" | "resource_manager" | "log_analytics" | "authority" => Some("it belongs below `[azure]`"),
        _ => None,
    }
}

fn records(node: &Node, undo_window: Option<Duration>, reader: &mut SettingsReader) -> Option<Records> {
    let default = Records::default();
    let mut fields = Fields::of(node, "records table", &mut reader.problems)?;
    let keep_node = fields.get("keep");
    let keep = keep_node.map_or(Some(default.keep), |node| fields::duration("keep", node, &mut reader.problems));
    let plans =
        fields.get("plans").map_or(Some(default.plans), |node| fields::duration("plans", node, &mut reader.problems));
    fields.finish(|_| None, &mut reader.problems);
    if let (Some(keep), Some(undo_window)) = (keep, undo_window)
        && keep < undo_window
    {
        let at = keep_node.map_or(&node.at, |node| &node.at);
        let help = "what is to be undoable for so long must be recorded for as long";
        reader.problems.add(at, "`keep` is shorter than `undo_window`").help(help);
        return None;
    }
    Some(Records { keep: keep?, plans: plans? })
}

fn limits(node: &Node, reader: &mut SettingsReader) -> Option<Limits> {
    let default = Limits::default();
    let mut fields = Fields::of(node, "limits table", &mut reader.problems)?;
    let mut limit = |key, default, most, problems: &mut Problems| {
        fields.get(key).map_or(Some(default), |node| fields::integer(key, node, 0..=most, problems))
    };
    let problems = &mut reader.problems;
    let untag = limit("untag", default.untag, u32::MAX, problems);
    let percent = limit("percent", default.percent, 100, problems);
    let leave = limit("leave", default.leave, u32::MAX, problems);
    let delete = limit("delete", default.delete, u32::MAX, problems);
    fields.finish(|_| None, problems);
    Some(Limits { untag: untag?, percent: percent?, leave: leave?, delete: delete? })
}
