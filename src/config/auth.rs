//! `auth = { kind = … }` of a registry. Secrets come from files or the environment; no message shows one.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::reader::SettingsReader;
use super::{azure, text_encoding};
use crate::azure::{AzureEnvironment, Credential};
use crate::policy::{Fields, Node, Place, Value, fields};
use crate::registry::Auth;

#[derive(Clone, Copy)]
enum Kind {
    Anonymous,
    Basic,
    Token,
    DockerConfig,
    Entra(azure::Kind),
}

const KINDS: [(&str, Kind); 8] = [
    ("anonymous", Kind::Anonymous),
    ("basic", Kind::Basic),
    ("token", Kind::Token),
    ("docker-config", Kind::DockerConfig),
    ("managed-identity", Kind::Entra(azure::Kind::Managed)),
    ("workload-identity", Kind::Entra(azure::Kind::Workload)),
    ("client-secret", Kind::Entra(azure::Kind::ClientSecret)),
    ("azure-cli", Kind::Entra(azure::Kind::AzureCli)),
];

/// How to sign in to a registry; `path` is where its variables start, as in `REGISTRIES__CONTOSO`.
pub(super) fn auth(
    path: &str,
    node: &Node,
    surroundings: &AzureEnvironment,
    reading: &mut SettingsReader,
) -> Option<Auth> {
    if let Value::Text(word) = &node.value {
        let words: Vec<&str> = KINDS.iter().map(|(word, _)| *word).collect();
        let meant = fields::nearest(word, &words).unwrap_or("anonymous");
        let help = format!("write auth = {{ kind = \"{meant}\" }}");
        reading.problems.add(&node.at, "`auth` must be a table, not a text").help(help);
        return None;
    }
    let mut fields = Fields::of(node, "sign-in", &mut reading.problems)?;
    let at = fields.at();
    let kind =
        reading.kind(&mut fields, at).and_then(|node| fields::choice("kind", node, &KINDS, &mut reading.problems))?;
    let auth = match kind {
        Kind::Anonymous => Some(Auth::Anonymous),
        Kind::Basic => {
            let username = reading
                .required(&mut fields, "username", at)
                .and_then(|node| fields::text("username", node, &mut reading.problems));
            let password = secret(path, &mut fields, "password", "password_file", reading);
            username.zip(password).map(|(username, password)| Auth::Basic { username: username.to_owned(), password })
        }
        Kind::Token => secret(path, &mut fields, "token", "token_file", reading).map(Auth::Token),
        Kind::DockerConfig => {
            let path = fields.get("path");
            docker_config(path, at, reading).map(Auth::DockerConfig)
        }
        Kind::Entra(kind) => azure::identity(kind, path, &mut fields, reading)
            .map(|identity| Auth::Entra(Box::new(Credential { identity, environment: surroundings.clone() }))),
    };
    fields.finish(|_| None, &mut reading.problems);
    auth
}

/// A secret of a sign-in, whose registry's or cloud's variables start with `path`.
pub(super) fn secret(
    path: &str,
    fields: &mut Fields<'_>,
    key: &'static str,
    file_key: &'static str,
    reading: &mut SettingsReader,
) -> Option<SecretString> {
    secret_at(&format!("{path}__AUTH"), fields, key, file_key, reading)
}

/// A secret from the file that `file_key` names, or from the environment under `key`, in the table at `path`.
pub(super) fn secret_at(
    path: &str,
    fields: &mut Fields<'_>,
    key: &'static str,
    file_key: &'static str,
    reading: &mut SettingsReader,
) -> Option<SecretString> {
    let (inline, file) = (fields.get(key), fields.get(file_key));
    let variable = format!("TAGWARDEN__{path}__{key}").to_uppercase();
    let help = format!("name a file that holds it: {file_key} = \"…\", or set {variable}");
    match (inline.map(|node| (&node.value, &node.at)), file) {
        (Some((Value::Text(secret), Place::Variable(_))), None) => {
            Some(secret.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']).into())
        }
        (Some((_, at @ Place::Variable(_))), _) => {
            reading.problems.add(at, format!("both `{key}` and `{file_key}` are set")).help("keep one of the two");
            None
        }
        (Some(_), _) => {
            reading.problems.add(fields.key_at(key), format!("`{key}` stands in the settings file")).help(help);
            None
        }
        (None, Some(file)) => secret_file(file_key, file, reading),
        (None, None) => {
            reading.problems.add(fields.at(), format!("a {} without `{file_key}`", fields.map_name())).help(help);
            None
        }
    }
}

/// More than any secret is, and little enough to read a wrong file by mistake.
const MAX_SECRET_BYTES: usize = 64 * 1024;
const SECRET_HELP: &str = "it holds the secret and nothing else";

/// A secret from the file that a key names.
pub(super) fn secret_file(key: &str, node: &Node, reading: &mut SettingsReader) -> Option<SecretString> {
    let written = fields::text(key, node, &mut reading.problems)?;
    let path = reading.folder.join(written);
    let (problem, help) = match std::fs::read(&path) {
        Ok(bytes) if bytes.len() > MAX_SECRET_BYTES => {
            (format!("`{written}` is too large to be a secret"), SECRET_HELP)
        }
        Ok(bytes) => match text_encoding::decode(bytes).as_ref().map(|text| text.trim_end_matches(['\r', '\n'])) {
            Some("") => (format!("`{written}` is empty"), SECRET_HELP),
            Some(secret) => {
                if readable_by_all(&path) {
                    let message = format!("{} can be read by every user of this machine", path.display());
                    reading.warnings.push(message);
                }
                return Some(secret.into());
            }
            None => (format!("`{written}` is not text"), SECRET_HELP),
        },
        // Whoever wrote the secret itself there must not find it in a log.
        Err(error) if written.contains(['/', '.', '\\']) => {
            (format!("`{written}` cannot be read: {error}"), "paths are relative to the settings file")
        }
        Err(error) => (
            format!("the file that `{key}` names cannot be read: {error}"),
            "it names a file that holds the secret; paths are relative to the settings file",
        ),
    };
    reading.problems.add(&node.at, problem).help(help);
    None
}

#[cfg(unix)]
fn readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn readable_by_all(_: &Path) -> bool {
    false
}

/// The files that `docker login` and `podman login` write: the one given, else those at the default places that are
/// there, in the order in which Podman asks them
/// (<https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md>).
fn docker_config(path: Option<&Node>, at: &Place, reading: &mut SettingsReader) -> Option<Vec<PathBuf>> {
    if let Some(node) = path {
        let file = reading.folder.join(fields::text("path", node, &mut reading.problems)?);
        return existing_files(vec![file], &node.at, reading);
    }
    if let Some(file) = reading.variable("REGISTRY_AUTH_FILE") {
        return existing_files(vec![PathBuf::from(file)], at, reading);
    }
    let below = |variable: &str, rest: &str| reading.variable(variable).map(|folder| Path::new(folder).join(rest));
    let places = [
        below("XDG_RUNTIME_DIR", "containers/auth.json"),
        below("XDG_CONFIG_HOME", "containers/auth.json").or_else(|| below("HOME", ".config/containers/auth.json")),
        below("DOCKER_CONFIG", "config.json").or_else(|| below("HOME", ".docker/config.json")),
    ];
    let places: Vec<PathBuf> = places.into_iter().flatten().collect();
    if places.is_empty() {
        reading.problems.add(at, "no home folder to look for docker's settings in").help("name the file: path = \"…\"");
        return None;
    }
    existing_files(places, at, reading)
}

/// Those of the files that are there.
fn existing_files(mut files: Vec<PathBuf>, at: &Place, reading: &mut SettingsReader) -> Option<Vec<PathBuf>> {
    let named = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
    files.retain(|file| file.is_file());
    if files.is_empty() {
        let message = format!("{named}: no such file");
        let help = "sign in with `docker login` or `podman login`, or name another file with `path`";
        reading.problems.add(at, message).help(help);
        return None;
    }
    Some(files)
}
