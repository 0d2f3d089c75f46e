//! What `docker login` left: `config.json` and the credential helpers that it names.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{RegistryError, RegistryErrorKind};

/// Credentials as a docker configuration holds them.
#[derive(Debug, Clone)]
pub(super) enum Stored {
    /// User name and password.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// A refresh token for the token service.
    Identity(SecretString),
}

/// A docker configuration file and where its helpers are found.
#[derive(Debug, Clone)]
pub(super) struct DockerConfig {
    /// The file.
    pub(super) file: PathBuf,
    /// Where to look for helpers instead of `PATH`.
    pub(super) helpers: Option<OsString>,
    /// How long a helper may take.
    pub(super) patience: Duration,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireConfig {
    auths: HashMap<String, WireAuth>,
    creds_store: Option<String>,
    cred_helpers: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireAuth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireHelped {
    username: String,
    secret: String,
}

/// The key by which Docker stores credentials of Docker Hub.
const DOCKER_HUB: &str = "index.docker.io";

impl DockerConfig {
    /// The credentials for `host` (with its port where it has one): from the host's own helper, else from the store that
    /// serves all hosts, else from the file itself.
    ///
    /// # Errors
    /// When there are none, or the file or a helper failed. A registry that is meant to be read with credentials and is
    /// read without them may show only a part.
    pub(super) async fn credentials(&self, host: &str) -> Result<Stored, RegistryError> {
        let file = self.file.display();
        let text = tokio::fs::read(&self.file)
            .await
            .map_err(|error| settings(format!("docker configuration {file} cannot be read: {error}")))?;
        // The error's own words could quote a secret; its place is enough.
        let config: WireConfig = serde_json::from_slice(&text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            settings(format!("docker configuration {file} is not understood, at line {line}, column {column}"))
        })?;
        let wanted = canonical(host);
        let own = config.cred_helpers.iter().find(|(key, _)| canonical(key) == wanted);
        if let Some((key, helper)) = own {
            return self.ask(helper, key).await?.ok_or_else(|| self.nothing(host));
        }
        let entry = config.auths.iter().find(|(key, _)| canonical(key) == wanted);
        if let Some(store) = config.creds_store.as_deref().filter(|store| !store.is_empty()) {
            // Helpers find credentials by the exact key that `docker login` stored.
            let mut keys: Vec<String> = entry.iter().map(|(key, _)| (*key).clone()).collect();
            keys.push(if wanted == DOCKER_HUB { format!("https://{DOCKER_HUB}/v1/") } else { host.to_owned() });
            keys.dedup();
            for key in keys {
                if let Some(found) = self.ask(store, &key).await? {
                    return Ok(found);
                }
            }
        }
        match entry {
            Some((key, auth)) => inline(auth)
                .map_err(|why| settings(format!("docker configuration {file}: the entry `{key}` {why}")))?
                .ok_or_else(|| self.nothing(host)),
            None => Err(self.nothing(host)),
        }
    }

    fn nothing(&self, host: &str) -> RegistryError {
        settings(format!(
            "docker configuration {} has no credentials for {host}; run `docker login {host}`, or choose another `auth`",
            self.file.display()
        ))
    }

    /// Runs `docker-credential-NAME get`, the protocol of docker's credential helpers; nothing if it knows none.
    async fn ask(&self, helper: &str, key: &str) -> Result<Option<Stored>, RegistryError> {
        let program = format!("docker-credential-{helper}");
        if helper.contains(['/', '\\']) {
            return Err(settings(format!("`{program}` is no name of a credential helper: it is a path")));
        }
        let failed = |why: String| settings(format!("credential helper `{program}` for {key} {why}"));
        let mut command = Command::new(&program);
        if let Some(path) = &self.helpers {
            command.env("PATH", path);
        }
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| failed(format!("cannot be run: {error}")))?;
        let answer = async {
            if let Some(mut input) = child.stdin.take() {
                // A helper that exits before it reads says why on its own.
                let _ = input.write_all(key.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(self.patience, answer)
            .await
            .map_err(|_| failed(format!("did not answer within {} seconds", self.patience.as_secs())))?
            .map_err(|error| failed(format!("failed: {error}")))?;
        if !output.status.success() {
            // The protocol has errors on stdout, as one line; the one that is no failure has this text.
            let said = String::from_utf8_lossy(&output.stdout);
            if said.contains("credentials not found") {
                return Ok(None);
            }
            return Err(failed(format!("failed ({})", output.status)));
        }
        let answered: WireHelped =
            serde_json::from_slice(&output.stdout).map_err(|_| failed("answered what is no credential".into()))?;
        if answered.secret.is_empty() {
            return Ok(None);
        }
        let secret = SecretString::from(answered.secret);
        Ok(Some(match answered.username.as_str() {
            "<token>" => Stored::Identity(secret),
            _ => Stored::Password { username: answered.username, password: secret },
        }))
    }
}

/// The credentials in an entry of the file itself; nothing where a store keeps them.
fn inline(auth: &WireAuth) -> Result<Option<Stored>, &'static str> {
    if let Some(token) = auth.identitytoken.as_deref().filter(|token| !token.is_empty()) {
        return Ok(Some(Stored::Identity(token.into())));
    }
    if let Some(encoded) = auth.auth.as_deref().filter(|encoded| !encoded.is_empty()) {
        let decoded = STANDARD.decode(encoded.trim()).map_err(|_| "has an `auth` that is no base64")?;
        let decoded = String::from_utf8(decoded).map_err(|_| "has an `auth` that is no text")?;
        let (username, password) = decoded.split_once(':').ok_or("has an `auth` without a colon")?;
        // Docker pads with NUL characters in some versions.
        let password = password.trim_end_matches('\0');
        return Ok(Some(Stored::Password { username: username.into(), password: password.into() }));
    }
    match (&auth.username, &auth.password) {
        (Some(username), Some(password)) if !username.is_empty() => {
            Ok(Some(Stored::Password { username: username.clone(), password: password.as_str().into() }))
        }
        _ => Ok(None),
    }
}

/// The host of a key, in whatever form it was stored: `host`, `https://host`, `https://host/v1/`. Docker Hub has many
/// names and one key.
fn canonical(key: &str) -> String {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = key.split('/').next().unwrap_or_default().to_ascii_lowercase();
    match host.as_str() {
        "docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        _ => host,
    }
}

fn settings(message: String) -> RegistryError {
    RegistryError { kind: RegistryErrorKind::Settings, message }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use secrecy::ExposeSecret;

    use super::*;

    fn config(folder: &Path, json: &serde_json::Value) -> DockerConfig {
        let file = folder.join("config.json");
        fs::write(&file, json.to_string()).unwrap();
        DockerConfig { file, helpers: Some(folder.into()), patience: Duration::from_secs(20) }
    }

    fn helper(folder: &Path, name: &str, script: &str) {
        let path = folder.join(format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn shown(found: Result<Stored, RegistryError>) -> String {
        match found {
            Ok(Stored::Password { username, password }) => format!("{username} / {}", password.expose_secret()),
            Ok(Stored::Identity(token)) => format!("token {}", token.expose_secret()),
            Err(error) => format!("error {}", error.message),
        }
    }

    #[tokio::test]
    async fn entries_of_the_file_are_found_in_every_form() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(
            folder.path(),
            &serde_json::json!({"auths": {
                "plain.example": {"auth": STANDARD.encode("ada:se:cr:et")},
                "https://slash.example/v1/": {"auth": STANDARD.encode("bob:b\0\0")},
                "port.example:5000": {"username": "cy", "password": "c"},
                "https://index.docker.io/v1/": {"auth": STANDARD.encode("dora:d")},
                "token.example": {"auth": STANDARD.encode("<token>:"), "identitytoken": "refresh"},
                "empty.example": {},
                "bad.example": {"auth": "%%%secret%%%"},
            }}),
        );
        for (host, expected) in [
            ("plain.example", "ada / se:cr:et"),
            ("slash.example", "bob / b"),
            ("port.example:5000", "cy / c"),
            ("registry-1.docker.io", "dora / d"),
            ("docker.io", "dora / d"),
            ("token.example", "token refresh"),
        ] {
            assert_eq!(shown(config.credentials(host).await), expected);
        }
        for host in ["port.example", "empty.example", "unknown.example", "evilplain.example", "bad.example"] {
            let said = shown(config.credentials(host).await);
            assert!(said.starts_with("error ") && !said.contains("secret"), "{host}: {said}");
        }
    }

    /// One test for all helpers: another thread that starts a process could hold a script open that was just written, and
    /// what is open for writing cannot be run.
    #[tokio::test]
    async fn helpers_are_asked() {
        each_for_its_hosts().await;
        a_store_for_all_hosts_and_the_file_for_what_it_does_not_have().await;
        no_longer_than_patience_lasts().await;
    }

    async fn each_for_its_hosts() {
        let folder = tempfile::tempdir().unwrap();
        helper(
            folder.path(),
            "fake",
            r#"[ "$1" = get ] || exit 2
read -r host
case "$host" in
  own.example) echo '{"ServerURL":"own.example","Username":"ada","Secret":"a:b"}' ;;
  token.example) echo '{"ServerURL":"x","Username":"<token>","Secret":"refresh"}' ;;
  broken.example) echo 'secret words'; exit 0 ;;
  failing.example) echo 'the secret keyring is locked'; exit 1 ;;
  *) echo 'credentials not found in native keychain'; exit 1 ;;
esac"#,
        );
        let config = config(
            folder.path(),
            &serde_json::json!({
                "credHelpers": {
                    "own.example": "fake", "token.example": "fake", "broken.example": "fake",
                    "failing.example": "fake", "none.example": "fake", "absent.example": "absent",
                    "path.example": "../fake",
                },
                "auths": {"own.example": {"auth": STANDARD.encode("not:this")}},
            }),
        );
        assert_eq!(shown(config.credentials("own.example").await), "ada / a:b");
        assert_eq!(shown(config.credentials("token.example").await), "token refresh");
        for (host, words) in [
            ("broken.example", "answered what is no credential"),
            ("failing.example", "failed (exit status: 1)"),
            ("none.example", "has no credentials for none.example"),
            ("absent.example", "cannot be run"),
            ("path.example", "is a path"),
        ] {
            let said = shown(config.credentials(host).await);
            assert!(said.contains(words) && !said.contains("secret"), "{host}: {said}");
        }
    }

    async fn a_store_for_all_hosts_and_the_file_for_what_it_does_not_have() {
        let folder = tempfile::tempdir().unwrap();
        helper(
            folder.path(),
            "store",
            r#"read -r host
case "$host" in
  https://index.docker.io/v1/) echo '{"Username":"hub","Secret":"h"}' ;;
  https://kept.example) echo '{"Username":"kept","Secret":"k"}' ;;
  *) echo 'credentials not found in native keychain'; exit 1 ;;
esac"#,
        );
        let config = config(
            folder.path(),
            &serde_json::json!({
                "credsStore": "store",
                "auths": {"https://kept.example": {}, "file.example": {"auth": STANDARD.encode("file:f")}},
            }),
        );
        assert_eq!(shown(config.credentials("registry-1.docker.io").await), "hub / h");
        assert_eq!(shown(config.credentials("kept.example").await), "kept / k");
        assert_eq!(shown(config.credentials("file.example").await), "file / f");
        assert!(shown(config.credentials("none.example").await).starts_with("error "));
    }

    async fn no_longer_than_patience_lasts() {
        let folder = tempfile::tempdir().unwrap();
        helper(folder.path(), "slow", "exec /bin/sleep 60");
        let config = config(folder.path(), &serde_json::json!({"credHelpers": {"slow.example": "slow"}}));
        let config = DockerConfig { patience: Duration::from_millis(50), ..config };
        assert!(shown(config.credentials("slow.example").await).contains("did not answer"));
    }
}
