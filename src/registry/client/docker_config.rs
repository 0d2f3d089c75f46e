//! Credentials of `docker login` and `podman login`: `config.json` or `auth.json`, and the credential helpers that they
//! name.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use super::wire::lenient;
use crate::domain::{RepositoryName, decode_text};
use crate::http_client::parse_json_lossy;
use crate::registry::{RegistryError, RegistryErrorKind};

/// Credentials as a docker configuration stores them.
#[derive(Debug, Clone)]
pub(in crate::registry) enum StoredCredentials {
    /// User name and password.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// A refresh token for the token service.
    IdentityToken(SecretString),
}

/// Docker configuration files and the location of their helpers.
#[derive(Debug)]
pub(in crate::registry) struct DockerConfig {
    /// The files in order of precedence.
    files: Vec<PathBuf>,
    /// The search path for helpers, instead of `PATH`.
    helper_path: Option<OsString>,
    /// The timeout of a helper.
    helper_timeout: Duration,
    configs: OnceCell<Vec<WireConfig>>,
    /// The found credentials, by the position of the file and the key.
    cache: AsyncMutex<HashMap<(usize, String), Option<StoredCredentials>>>,
}

/// Joins the files for messages.
pub(in crate::registry) fn join_paths(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireConfig {
    #[serde(deserialize_with = "nullable")]
    auths: BTreeMap<String, Option<WireAuth>>,
    creds_store: Option<String>,
    #[serde(deserialize_with = "nullable")]
    cred_helpers: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireAuth {
    #[serde(deserialize_with = "secret")]
    auth: Option<SecretString>,
    #[serde(deserialize_with = "lenient")]
    username: Option<String>,
    #[serde(deserialize_with = "secret")]
    password: Option<SecretString>,
    #[serde(deserialize_with = "secret")]
    identitytoken: Option<SecretString>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireHelperOutput {
    username: String,
    secret: String,
}

/// Deserializes a text as a secret. Another type counts as missing.
fn secret<'de, D: Deserializer<'de>>(input: D) -> Result<Option<SecretString>, D::Error> {
    lenient::<D, Option<String>>(input).map(|text| text.map(SecretString::from))
}

/// Deserializes `null`, which both programs write for empty values, as the default.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Option::deserialize(input).map(Option::unwrap_or_default)
}

/// The key by which Docker stores credentials of Docker Hub.
const DOCKER_HUB: &str = "index.docker.io";

impl DockerConfig {
    /// Creates a configuration without reading its files.
    pub(in crate::registry) fn new(files: Vec<PathBuf>, retry_policy: Duration) -> Self {
        Self {
            files,
            helper_path: None,
            helper_timeout: retry_policy,
            configs: OnceCell::new(),
            cache: AsyncMutex::default(),
        }
    }

    /// Returns the credentials for a repository at `host` (with its port if any); those for the host without a
    /// repository.
    ///
    /// Keys may have a path, as Podman writes them; the longest match wins
    /// (<https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md>). For each: the key's own
    /// helper, else the store for all hosts, else the file itself.
    ///
    /// # Errors
    /// Returns an error if there are none, or a file or a helper failed. Read without its credentials, a registry may
    /// show only a part.
    pub(in crate::registry) async fn credentials(
        &self,
        host: &str,
        repository: Option<&RepositoryName>,
    ) -> Result<StoredCredentials, RegistryError> {
        let configs = self.configs.get_or_try_init(|| self.read_files()).await?;
        for (position, config) in configs.iter().enumerate() {
            for place in lookup_keys(host, repository) {
                let mut found = self.cache.lock().await;
                let known = found.get(&(position, place.clone())).cloned();
                let stored = if let Some(known) = known {
                    known
                } else {
                    let stored = self.lookup(position, config, host, &place).await?;
                    found.insert((position, place.clone()), stored.clone());
                    stored
                };
                if let Some(stored) = stored {
                    return Ok(stored);
                }
            }
        }
        Err(settings_error(format!(
            "docker configuration {} has no credentials for {host}; run `docker login {host}`, or choose another `auth`",
            join_paths(&self.files)
        )))
    }

    async fn read_files(&self) -> Result<Vec<WireConfig>, RegistryError> {
        let mut configs = Vec::with_capacity(self.files.len());
        for path in &self.files {
            let file = path.display();
            let text = tokio::fs::read(path).await.map_err(|error| {
                settings_error(format!("docker configuration {file} cannot be read")).caused_by(error)
            })?;
            // PowerShell writes UTF-16. An odd letter somewhere does not hide the credentials.
            let text = decode_text(text.clone()).map_or(text, String::into_bytes);
            // The error's message could quote a secret; its position is enough.
            let config = parse_json_lossy(&text).map_err(|error| {
                let (line, column) = (error.line(), error.column());
                settings_error(format!(
                    "docker configuration {file} is not understood, at line {line}, column {column}"
                ))
            })?;
            configs.push(config);
        }
        Ok(configs)
    }

    /// Returns the credentials in one file for one key, or `None`.
    async fn lookup(
        &self,
        position: usize,
        config: &WireConfig,
        host: &str,
        place: &str,
    ) -> Result<Option<StoredCredentials>, RegistryError> {
        let mut helpers = config.cred_helpers.iter().filter(|(key, _)| canonical_key(key) == place);
        let own = helpers.find_map(|(key, helper)| Some((key, helper.as_deref().filter(|name| !name.is_empty())?)));
        if let Some((key, helper)) = own {
            return self.run_helper(helper, key).await;
        }
        let entry = config.auths.iter().find(|(key, _)| canonical_key(key) == place);
        let store = config.creds_store.as_deref().filter(|store| !store.is_empty() && !place.contains('/'));
        if let Some(store) = store {
            // Helpers find credentials by the exact key that `docker login` stored.
            let mut keys: Vec<String> = entry.iter().map(|(key, _)| (*key).clone()).collect();
            keys.push(if place == DOCKER_HUB { format!("https://{DOCKER_HUB}/v1/") } else { host.to_owned() });
            keys.dedup();
            for key in keys {
                if let Some(found) = self.run_helper(store, &key).await? {
                    return Ok(Some(found));
                }
            }
        }
        let Some((key, Some(auth))) = entry else { return Ok(None) };
        let file = self.files.get(position).map_or(Path::new(""), PathBuf::as_path).display();
        inline_credentials(auth)
            .map_err(|why| settings_error(format!("docker configuration {file}: the entry `{key}` {why}")))
    }

    /// Runs `docker-credential-NAME get`, the protocol of docker's credential helpers; `None` if it knows no
    /// credentials.
    async fn run_helper(&self, helper: &str, key: &str) -> Result<Option<StoredCredentials>, RegistryError> {
        let program = format!("docker-credential-{helper}");
        if helper.contains(['/', '\\']) {
            return Err(settings_error(format!("invalid credential helper `{program}`: a path instead of a name")));
        }
        let failed = |why: String| settings_error(format!("credential helper `{program}` for {key} {why}"));
        let mut command = Command::new(&program);
        if let Some(path) = &self.helper_path {
            command.env("PATH", path);
        }
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| failed("cannot be run".into()).caused_by(error))?;
        let response = async {
            if let Some(mut input) = child.stdin.take() {
                // A helper that exits before it reads reports the reason itself.
                let _ = input.write_all(key.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(self.helper_timeout, response)
            .await
            .map_err(|_| failed(format!("did not answer within {} seconds", self.helper_timeout.as_secs())))?
            .map_err(|error| failed("failed".into()).caused_by(error))?;
        if !output.status.success() {
            // The protocol has errors on stdout, as one line; "not found" has this text.
            let said = String::from_utf8_lossy(&output.stdout);
            if said.contains("credentials not found") {
                return Ok(None);
            }
            return Err(failed(format!("failed ({})", output.status)));
        }
        let answered: WireHelperOutput = serde_json::from_slice(&output.stdout)
            .map_err(|_| failed("did not answer with a valid credential".into()))?;
        if answered.secret.is_empty() {
            return Ok(None);
        }
        let secret = SecretString::from(answered.secret);
        Ok(Some(match answered.username.as_str() {
            "<token>" => StoredCredentials::IdentityToken(secret),
            _ => StoredCredentials::Password { username: answered.username, password: secret },
        }))
    }
}

/// Returns the credentials in an entry of the file itself; `None` if a store has them.
fn inline_credentials(auth: &WireAuth) -> Result<Option<StoredCredentials>, &'static str> {
    /// With padding or without: scripts that write such files omit it.
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let given = |secret: &Option<SecretString>| {
        secret.as_ref().map(|secret| secret.expose_secret().trim().to_owned()).filter(|text| !text.is_empty())
    };
    if let Some(token) = given(&auth.identitytoken) {
        return Ok(Some(StoredCredentials::IdentityToken(token.into())));
    }
    if let Some(encoded) = given(&auth.auth) {
        let decoded = BASE64.decode(encoded).map_err(|_| "has an invalid `auth`: it is not base64")?;
        let decoded = String::from_utf8(decoded).map_err(|_| "has an invalid `auth`: it is not text")?;
        let (username, password) = decoded.split_once(':').ok_or("has an `auth` without a colon")?;
        // Some versions of Docker pad with NUL characters; `echo` adds the end of a line.
        let password = password.trim_end_matches(['\0', '\r', '\n']);
        return Ok(Some(StoredCredentials::Password { username: username.into(), password: password.into() }));
    }
    match (&auth.username, &auth.password) {
        (Some(username), Some(password)) if !username.is_empty() => {
            Ok(Some(StoredCredentials::Password { username: username.clone(), password: password.clone() }))
        }
        _ => Ok(None),
    }
}

/// Returns the keys for a repository's credentials, the longest first: `host/shop/api`, `host/shop`, `host`.
fn lookup_keys(host: &str, repository: Option<&RepositoryName>) -> Vec<String> {
    let host = canonical_key(host);
    let mut path = repository.map(RepositoryName::as_str);
    let mut places = Vec::new();
    while let Some(inner) = path {
        places.push(format!("{host}/{inner}"));
        path = inner.rsplit_once('/').map(|(outer, _)| outer);
    }
    places.push(host);
    places
}

/// Returns the normal form of a stored key: `host`, `host/shop/api`, `https://host`, `https://host/v1/`. Docker Hub has
/// many names and one key.
fn canonical_key(key: &str) -> String {
    let (key, is_address) = key.split_once("://").map_or((key, false), |(_, rest)| (rest, true));
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let host = match host.to_ascii_lowercase().as_str() {
        "docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        other => other.to_owned(),
    };
    // Docker stores the address of the API.
    match path.trim_end_matches('/') {
        "" | "v1" | "v2" => host,
        _ if is_address => host,
        path => format!("{host}/{path}"),
    }
}

/// Returns true if a docker configuration names a host, under `auths` or `credHelpers`. A file that cannot be understood
/// names none.
pub(crate) fn names_host(text: &[u8], host: &str) -> bool {
    let Ok(config) = parse_json_lossy::<WireConfig>(text) else { return false };
    let host = canonical_key(host);
    let is_for_host = |key: &String| canonical_key(key).split('/').next() == Some(&*host);
    config.auths.keys().chain(config.cred_helpers.keys()).any(is_for_host)
}

fn settings_error(message: String) -> RegistryError {
    RegistryError::new(RegistryErrorKind::InvalidSettings, message)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config(folder: &Path, json: &serde_json::Value) -> DockerConfig {
        let file = folder.join("config.json");
        fs::write(&file, json.to_string()).unwrap();
        of(vec![file], folder)
    }

    fn of(files: Vec<PathBuf>, folder: &Path) -> DockerConfig {
        DockerConfig { helper_path: Some(folder.into()), ..DockerConfig::new(files, Duration::from_secs(20)) }
    }

    fn helper(folder: &Path, name: &str, script: &str) {
        let path = folder.join(format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn shown(found: Result<StoredCredentials, RegistryError>) -> String {
        match found {
            Ok(StoredCredentials::Password { username, password }) => {
                format!("{username} / {}", password.expose_secret())
            }
            Ok(StoredCredentials::IdentityToken(token)) => format!("token {}", token.expose_secret()),
            Err(error) => format!("error {}", error.chain()),
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
            assert_eq!(shown(config.credentials(host, None).await), expected);
        }
        for host in ["port.example", "empty.example", "unknown.example", "evilplain.example", "bad.example"] {
            let said = shown(config.credentials(host, None).await);
            assert!(said.starts_with("error ") && !said.contains("secret"), "{host}: {said}");
        }
    }

    #[tokio::test]
    async fn the_longest_path_that_fits_counts() {
        let folder = tempfile::tempdir().unwrap();
        let auth = |name: &str| serde_json::json!({"auth": STANDARD.encode(format!("{name}:p"))});
        let podman = config(
            folder.path(),
            &serde_json::json!({"auths": {
                "r.example": auth("host"), "r.example/shop": auth("shop"), "r.example/shop/api": auth("api"),
                "only.example/shop": auth("only"), "https://docker.example/v1/": auth("docker"),
                "docker.io/library/nginx": auth("nginx"), "docker.io": auth("hub"), "v2.example/v2": auth("v2"),
            }}),
        );
        for (host, repository, expected) in [
            ("r.example", Some("shop/api"), "api / p"),
            ("r.example", Some("shop/api/cache"), "api / p"),
            ("r.example", Some("shop/api2"), "shop / p"),
            ("r.example", Some("shop"), "shop / p"),
            ("r.example", Some("shopping"), "host / p"),
            ("R.example", None, "host / p"),
            ("only.example", Some("shop/x"), "only / p"),
            ("docker.example", Some("v1"), "docker / p"),
            ("registry-1.docker.io", Some("library/nginx"), "nginx / p"),
            ("registry-1.docker.io", Some("library/redis"), "hub / p"),
            ("v2.example", Some("x"), "v2 / p"),
        ] {
            let repository: Option<RepositoryName> = repository.map(|name| name.parse().unwrap());
            assert_eq!(shown(podman.credentials(host, repository.as_ref()).await), expected, "{host} {repository:?}");
        }
        for repository in [None, Some("other".parse().unwrap())] {
            let said = shown(podman.credentials("only.example", repository.as_ref()).await);
            assert!(said.starts_with("error "), "{said}");
        }
    }

    #[tokio::test]
    async fn what_is_null_or_empty_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for json in [
            "{}",
            r#"{"auths":null,"credHelpers":null,"credsStore":""}"#,
            r#"{"auths":{"r.example":null},"credHelpers":{"r.example":null},"credsStore":null}"#,
            r#"{"auths":{"r.example":{"auth":null}},"credHelpers":{"r.example":""}}"#,
            r#"{"auths":{"r.example":{"auth":"","username":7,"password":null}},"HttpHeaders":{"x":1},"psFormat":false}"#,
        ] {
            let file = folder.path().join("auth.json");
            fs::write(&file, format!("\u{feff}{json}\r\n")).unwrap();
            let said = shown(of(vec![file.clone()], folder.path()).credentials("r.example", None).await);
            assert!(said.contains("has no credentials for r.example"), "{json}: {said}");
            // The next file is then used.
            let other = folder.path().join("config.json");
            let auth = STANDARD_NO_PAD.encode("ada:sesame\n");
            fs::write(&other, serde_json::json!({"auths": {"r.example": {"auth": format!(" {auth}\n")}}}).to_string())
                .unwrap();
            let both = of(vec![file, other], folder.path());
            assert_eq!(shown(both.credentials("r.example", None).await), "ada / sesame", "{json}");
        }
    }

    /// One test for all helpers: another thread that starts a process could hold open a script that was just written,
    /// and a file open for writing cannot be executed.
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
        assert_eq!(shown(config.credentials("own.example", None).await), "ada / a:b");
        assert_eq!(shown(config.credentials("token.example", None).await), "token refresh");
        for (host, words) in [
            ("broken.example", "did not answer with a valid credential"),
            ("failing.example", "failed (exit status: 1)"),
            ("none.example", "has no credentials for none.example"),
            ("absent.example", "cannot be run"),
            ("path.example", "a path instead of a name"),
        ] {
            let said = shown(config.credentials(host, None).await);
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
        assert_eq!(shown(config.credentials("registry-1.docker.io", None).await), "hub / h");
        assert_eq!(shown(config.credentials("kept.example", None).await), "kept / k");
        assert_eq!(shown(config.credentials("file.example", None).await), "file / f");
        assert!(shown(config.credentials("none.example", None).await).starts_with("error "));
    }

    async fn no_longer_than_patience_lasts() {
        let folder = tempfile::tempdir().unwrap();
        helper(folder.path(), "slow", "exec /bin/sleep 60");
        let config = config(folder.path(), &serde_json::json!({"credHelpers": {"slow.example": "slow"}}));
        let config = DockerConfig { helper_timeout: Duration::from_millis(50), ..config };
        assert!(shown(config.credentials("slow.example", None).await).contains("did not answer"));
    }
}
