//! `auth = { kind = … }` of a registry. Secrets come from files or the environment; no message shows one.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::azure;
use super::reading::Reading;
use crate::azure::{Credential, Surroundings};
use crate::policy_file::{Fields, Node, Place, Value, read};
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
pub(super) fn auth(path: &str, node: &Node, surroundings: &Surroundings, reading: &mut Reading) -> Option<Auth> {
    if let Value::Text(word) = &node.value {
        let words: Vec<&str> = KINDS.iter().map(|(word, _)| *word).collect();
        let meant = read::nearest(word, &words).unwrap_or("anonymous");
        let help = format!("write auth = {{ kind = \"{meant}\" }}");
        reading.problems.add(&node.at, "`auth` must be a table, not a text").help(help);
        return None;
    }
    let mut fields = Fields::of(node, "sign-in", &mut reading.problems)?;
    let at = fields.at();
    let kind = reading
        .required(&mut fields, "kind", at)
        .and_then(|node| read::choice("kind", node, &KINDS, &mut reading.problems))?;
    let auth = match kind {
        Kind::Anonymous => Some(Auth::Anonymous),
        Kind::Basic => {
            let username = reading
                .required(&mut fields, "username", at)
                .and_then(|node| read::text("username", node, &mut reading.problems));
            let password = secret(path, &mut fields, "password", "password_file", reading);
            username.zip(password).map(|(username, password)| Auth::Basic { username: username.to_owned(), password })
        }
        Kind::Token => secret(path, &mut fields, "token", "token_file", reading).map(Auth::Token),
        Kind::DockerConfig => {
            let path = fields.get("path");
            docker_config(path, at, reading).map(Auth::DockerConfig)
        }
        Kind::Entra(kind) => azure::identity(kind, path, &mut fields, reading)
            .map(|identity| Auth::Entra(Box::new(Credential { identity, surroundings: surroundings.clone() }))),
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
    reading: &mut Reading,
) -> Option<SecretString> {
    secret_at(&format!("{path}__AUTH"), fields, key, file_key, reading)
}

/// A secret from the file that `file_key` names, or from the environment under `key`, in the table at `path`.
pub(super) fn secret_at(
    path: &str,
    fields: &mut Fields<'_>,
    key: &'static str,
    file_key: &'static str,
    reading: &mut Reading,
) -> Option<SecretString> {
    let (inline, file) = (fields.get(key), fields.get(file_key));
    let variable = format!("TAGWARDEN__{path}__{key}").to_uppercase();
    let help = format!("name a file that holds it: {file_key} = \"…\", or set {variable}");
    match (inline.map(|node| (&node.value, &node.at)), file) {
        (Some((Value::Text(secret), Place::Variable(_))), None) => Some(secret.as_str().into()),
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
            reading.problems.add(fields.at(), format!("a {} without `{file_key}`", fields.what())).help(help);
            None
        }
    }
}

/// More than any secret is, and little enough to read a wrong file by mistake.
const LARGEST: usize = 64 * 1024;
const SECRET_HELP: &str = "it holds the secret and nothing else";

/// A secret from the file that a key names.
pub(super) fn secret_file(key: &str, node: &Node, reading: &mut Reading) -> Option<SecretString> {
    let written = read::text(key, node, &mut reading.problems)?;
    let path = reading.folder.join(written);
    let (problem, help) = match std::fs::read(&path) {
        Ok(bytes) if bytes.len() > LARGEST => (format!("`{written}` is too large to be a secret"), SECRET_HELP),
        Ok(bytes) => match std::str::from_utf8(&bytes).map(|text| text.trim_end_matches(['\r', '\n'])) {
            Ok("") => (format!("`{written}` is empty"), SECRET_HELP),
            Ok(secret) => {
                if readable_by_all(&path) {
                    let message = format!("{} can be read by every user of this machine", path.display());
                    reading.warnings.push(message);
                }
                return Some(secret.into());
            }
            Err(_) => (format!("`{written}` is no text"), SECRET_HELP),
        },
        Err(error) => (format!("`{written}` cannot be read: {error}"), "paths are relative to the settings file"),
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

/// The file that `docker login` writes: the one given, else that of `$DOCKER_CONFIG`, else that of the home folder.
fn docker_config(path: Option<&Node>, at: &Place, reading: &mut Reading) -> Option<PathBuf> {
    let (file, at) = match path {
        Some(node) => (reading.folder.join(read::text("path", node, &mut reading.problems)?), &node.at),
        None => match (reading.variable("DOCKER_CONFIG"), reading.variable("HOME")) {
            (Some(folder), _) => (Path::new(folder).join("config.json"), at),
            (None, Some(home)) => (Path::new(home).join(".docker/config.json"), at),
            (None, None) => {
                reading
                    .problems
                    .add(at, "no home folder to look for docker's settings in")
                    .help("name the file: path = \"…\"");
                return None;
            }
        },
    };
    if !file.is_file() {
        let message = format!("{} is not there", file.display());
        reading.problems.add(at, message).help("sign in with `docker login`, or name another file with `path`");
        return None;
    }
    Some(file)
}
