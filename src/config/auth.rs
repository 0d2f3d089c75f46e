//! `auth = { kind = … }` of a registry. Secrets come from files or the environment; no message shows one.

use std::path::{Path, PathBuf};

use super::azure;
use super::reader::SettingsReader;
use super::secrets::secret;
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
