//! `state` and `[postgres]`: the place of the state, and how to connect to it.

use std::path::Path;

use super::azure::{Azure, azure, own_identity};
use super::net::ca_file;
use super::reader::SettingsReader;
use super::secrets::{secret_at, secret_file};
use super::{ConfigError, layers, read_text};
use crate::azure::Credential;
use crate::domain::chain;
use crate::policy::{Fields, Node, Place, Problems, Value, fields};
use crate::registry::providers::PROVIDERS;
use crate::state::{InvalidPostgresUrl, PostgresLocation, PostgresPassword, StateLocation};

/// Where the state is unless the settings say otherwise.
const DEFAULT_STATE: &str = "tagwarden.db";

const STATE_HELP: &str = "`state` must be `sqlite:` and the path of a file, or `postgres://` and a database";
const URL_HELP: &str = "write state = \"postgres://HOST/DATABASE?user=USER\"";
const PASSWORD_HELP: &str = "name a file that holds it: password_file = \"…\" below `[postgres]`";

/// `[postgres]`, as far as it can be read.
#[derive(Default)]
struct PostgresTable {
    password: PostgresPassword,
    ca_file: Option<std::path::PathBuf>,
}

/// Reads `state` and `[postgres]`.
pub(super) fn state(
    (node, table): (Option<&Node>, Option<&Node>),
    azure: &Azure,
    reader: &mut SettingsReader,
) -> Option<StateLocation> {
    let table = match table {
        Some(table) => postgres(table, azure, reader)?,
        None => PostgresTable::default(),
    };
    let Some(node) = node else { return Some(StateLocation::File(reader.folder.join(DEFAULT_STATE))) };
    let written = fields::text("state", node, &mut reader.problems)?;
    location(written, &reader.folder.clone(), table, |message, help| {
        reader.problems.add(&node.at, message).help(help);
    })
}

fn postgres(node: &Node, azure: &Azure, reader: &mut SettingsReader) -> Option<PostgresTable> {
    let before = reader.problems.count();
    let mut fields = Fields::of(node, "`[postgres]` table", &mut reader.problems)?;
    let ca = fields.get("ca_file").map(|node| ca_file(node, reader));
    let (inline, file) = (fields.get("password"), fields.get("password_file"));
    let identity = fields.get("auth");
    let password = match (inline, file) {
        _ if identity.is_some() && (inline.is_some() || file.is_some()) => {
            let problem = reader.problems.add(fields.key_at("auth"), "both `auth` and a password are set");
            problem.help("keep one of the two");
            None
        }
        (None, None) => match identity {
            None => Some(PostgresPassword::None),
            Some(node) => own_identity("POSTGRES", node, reader).map(|identity| {
                let credential = Credential { identity, environment: azure.surroundings.clone() };
                PostgresPassword::Entra(Box::new(credential))
            }),
        },
        (None, Some(node)) => {
            // Read now so that its problems are told with all others, and again whenever it is needed.
            let read = secret_file("password_file", node, reader);
            let Value::Text(written) = &node.value else { return None };
            read.map(|_| PostgresPassword::File(reader.folder.join(written)))
        }
        _ => secret_at("POSTGRES", &mut fields, "password", "password_file", reader).map(PostgresPassword::Secret),
    };
    fields.finish(hint, &mut reader.problems);
    if reader.problems.count() > before {
        return None;
    }
    Some(PostgresTable { password: password?, ca_file: ca.flatten() })
}

fn hint(key: &str) -> Option<&'static str> {
    match key {
        "host" | "port" | "user" | "username" | "database" | "sslmode" => {
            Some("it belongs into `state = \"postgres://HOST/DATABASE?user=USER&sslmode=…\"`")
        }
        "sslrootcert" => Some("write `ca_file`"),
        _ => None,
    }
}

/// Makes a location of a text, or tells what is wrong with it and what to write.
fn location(
    written: &str,
    folder: &Path,
    table: PostgresTable,
    mut tell: impl FnMut(String, &'static str),
) -> Option<StateLocation> {
    if written.starts_with("postgres:") || written.starts_with("postgresql:") {
        return match PostgresLocation::parse(written) {
            Ok(database) => Some(database.with_password(table.password).with_ca_file(table.ca_file).into()),
            Err(error) => {
                let help = if error == InvalidPostgresUrl::Password { PASSWORD_HELP } else { URL_HELP };
                tell(format!("`state`: {}", chain(&error)), help);
                None
            }
        };
    }
    let path = sqlite_file(written);
    if path.is_none() {
        tell(STATE_HELP.to_owned(), "write state = \"sqlite:tagwarden.db\"");
    }
    path.map(|path| StateLocation::File(folder.join(path)))
}

/// Returns the path in `sqlite:PATH`.
fn sqlite_file(written: &str) -> Option<&str> {
    let path = written.strip_prefix("sqlite:").filter(|path| !path.is_empty() && !path.contains([':', '?']))?;
    Some(path.strip_prefix("//").unwrap_or(path)).filter(|path| !path.is_empty())
}

/// Returns the place of the state of these settings, whatever else is wrong with them.
///
/// # Errors
/// When the settings cannot be read, or `state` or `[postgres]` is invalid.
pub fn state_location(path: &Path, environment: &[(String, String)]) -> Result<StateLocation, ConfigError> {
    let text = read_text(path).map_err(|error| ConfigError::unreadable(path, error))?;
    read_partly(path, &text, environment, |settings, reader| {
        let azure = azure_of(settings, reader);
        state((settings.get("state"), settings.get("postgres")), &azure, reader)
    })
}

fn azure_of(settings: &mut Fields<'_>, reader: &mut SettingsReader) -> Azure {
    settings.get("azure").and_then(|node| azure(node, reader)).unwrap_or_default()
}

/// Makes a location of a text of the command line: `postgres://…`, `sqlite:PATH`, or a path. A database is connected to by
/// what `[postgres]` of these settings says, if there are any.
///
/// # Errors
/// When it is not a place of a state, or `[postgres]` is invalid.
pub fn parse_state_location(
    written: &str,
    settings: Option<&Path>,
    environment: &[(String, String)],
) -> Result<StateLocation, ConfigError> {
    let wrong = |message: String, help: &str| {
        let mut problem = crate::policy::Diagnostic::new("the command line", message);
        problem.help = Some(help.to_owned());
        ConfigError { diagnostics: vec![problem] }
    };
    if !written.contains(':') {
        return Ok(StateLocation::File(written.into()));
    }
    let table = match settings {
        Some(path) if written.starts_with("postgres") => {
            let text = read_text(path).map_err(|error| ConfigError::unreadable(path, error))?;
            read_partly(path, &text, environment, |settings, reader| match settings.get("postgres") {
                Some(table) => {
                    let azure = azure_of(settings, reader);
                    postgres(table, &azure, reader)
                }
                None => Some(PostgresTable::default()),
            })?
        }
        _ => PostgresTable::default(),
    };
    let mut told = None;
    location(written, Path::new(""), table, |message, help| told = Some(wrong(message, help)))
        .ok_or_else(|| told.unwrap_or_else(|| wrong(STATE_HELP.to_owned(), URL_HELP)))
}

/// Reads a part of settings; what is wrong with other parts does not matter.
fn read_partly<T>(
    path: &Path,
    text: &str,
    environment: &[(String, String)],
    read: impl FnOnce(&mut Fields<'_>, &mut SettingsReader) -> Option<T>,
) -> Result<T, ConfigError> {
    let mut environment = environment.to_vec();
    environment.sort();
    let mut reader = SettingsReader {
        folder: path.parent().map(Path::to_owned).unwrap_or_default(),
        environment: &environment,
        problems: Problems::of_toml(&path.display().to_string(), text, &super::TOP_KEYS),
        providers: PROVIDERS,
        unread_secrets: None,
        warnings: Vec::new(),
    };
    let root = layers::merge_layers(text, &environment, &mut reader.problems);
    let found = root.as_ref().and_then(|root| {
        let mut fields = Fields::of(root, "settings file", &mut reader.problems)?;
        read(&mut fields, &mut reader)
    });
    if let Some(found) = found {
        return Ok(found);
    }
    if reader.problems.count() == 0 {
        reader.problems.add(&Place::File, "the settings could not be understood");
    }
    Err(ConfigError { diagnostics: reader.problems.into_diagnostics() })
}
