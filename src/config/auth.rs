//! `auth = { kind = … }` of a registry. Secrets come from files or the environment; no message shows one.

use std::path::{Path, PathBuf};

use super::aws;
use super::azure;
use super::google;
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
    Aws(aws::Kind),
    Google(google::Kind),
}

const KINDS: [(&str, Kind); 12] = [
    ("anonymous", Kind::Anonymous),
    ("basic", Kind::Basic),
    ("token", Kind::Token),
    ("docker-config", Kind::DockerConfig),
    ("managed-identity", Kind::Entra(azure::Kind::Managed)),
    ("workload-identity", Kind::Entra(azure::Kind::Workload)),
    ("client-secret", Kind::Entra(azure::Kind::ClientSecret)),
    ("azure-cli", Kind::Entra(azure::Kind::AzureCli)),
    ("aws", Kind::Aws(aws::Kind::Environment)),
    ("aws-keys", Kind::Aws(aws::Kind::Keys)),
    ("google", Kind::Google(google::Kind::Environment)),
    ("google-credentials", Kind::Google(google::Kind::File)),
];

/// Parses the authentication with a registry; `path` is the prefix of its variables, as in `REGISTRIES__CONTOSO`.
pub(super) fn auth(
    path: &str,
    node: &Node,
    surroundings: &AzureEnvironment,
    reader: &mut SettingsReader,
) -> Option<Auth> {
    if let Value::Text(word) = &node.value {
        let words: Vec<&str> = KINDS.iter().map(|(word, _)| *word).collect();
        let meant = fields::nearest(word, &words).unwrap_or("anonymous");
        let help = format!("write auth = {{ kind = \"{meant}\" }}");
        reader.problems.add(&node.at, "`auth` must be a table, not a text").help(help);
        return None;
    }
    let mut fields = Fields::of(node, "sign-in", &mut reader.problems)?;
    let at = fields.at();
    let kind = reader
        .kind(&mut fields, at)
        .and_then(|node| fields::choice_beside_secrets("kind", node, &KINDS, &[], &mut reader.problems))?;
    let auth = match kind {
        Kind::Anonymous => Some(Auth::Anonymous),
        Kind::Basic => {
            let username = reader
                .required(&mut fields, "username", at)
                .and_then(|node| fields::text("username", node, &mut reader.problems));
            let password = secret(path, &mut fields, "password", "password_file", reader);
            username.zip(password).map(|(username, password)| Auth::Basic { username: username.to_owned(), password })
        }
        Kind::Token => secret(path, &mut fields, "token", "token_file", reader).map(Auth::Token),
        Kind::DockerConfig => {
            let path = fields.get("path");
            docker_config(path, at, reader).map(Auth::DockerConfig)
        }
        Kind::Entra(kind) => azure::identity(kind, path, &mut fields, reader)
            .map(|identity| Auth::Entra(Box::new(Credential { identity, environment: surroundings.clone() }))),
        Kind::Aws(kind) => aws::identity(kind, path, &mut fields, reader).map(|identity| Auth::Aws(Box::new(identity))),
        Kind::Google(kind) => {
            google::identity(kind, &mut fields, reader).map(|identity| Auth::Google(Box::new(identity)))
        }
    };
    fields.finish(|_| None, &mut reader.problems);
    auth
}

/// Returns the files that `docker login` and `podman login` write: the configured one, else the existing ones at the
/// default places, in Podman's order (<https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md>).
fn docker_config(path: Option<&Node>, at: &Place, reader: &mut SettingsReader) -> Option<Vec<PathBuf>> {
    if let Some(node) = path {
        let file = reader.folder.join(fields::text("path", node, &mut reader.problems)?);
        return existing_files(vec![file], &node.at, reader);
    }
    if let Some(file) = reader.variable("REGISTRY_AUTH_FILE") {
        return existing_files(vec![PathBuf::from(file)], at, reader);
    }
    let below = |variable: &str, rest: &str| reader.variable(variable).map(|folder| Path::new(folder).join(rest));
    let places = [
        below("XDG_RUNTIME_DIR", "containers/auth.json"),
        below("XDG_CONFIG_HOME", "containers/auth.json").or_else(|| below("HOME", ".config/containers/auth.json")),
        below("DOCKER_CONFIG", "config.json").or_else(|| below("HOME", ".docker/config.json")),
    ];
    let places: Vec<PathBuf> = places.into_iter().flatten().collect();
    if places.is_empty() {
        reader.problems.add(at, "no home folder to look for docker's settings in").help("name the file: path = \"…\"");
        return None;
    }
    existing_files(places, at, reader)
}

/// Returns the existing files among these.
fn existing_files(mut files: Vec<PathBuf>, at: &Place, reader: &mut SettingsReader) -> Option<Vec<PathBuf>> {
    let named = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
    files.retain(|file| file.is_file());
    if files.is_empty() {
        let message = format!("{named}: no such file");
        let help = "sign in with `docker login` or `podman login`, or name another file with `path`";
        reader.problems.add(at, message).help(help);
        return None;
    }
    Some(files)
}
