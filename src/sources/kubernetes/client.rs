//! The client of one API server: authentication, retries, and error messages.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use jiff::Timestamp;
use kube::client::{AuthError, Body, ClientBuilder};
use kube::config::{AuthInfo, ExecInteractiveMode, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::SourceError;
use crate::domain::{Cause, decode_text};
use crate::http_client::{Backoff, RetryHint, RetryPolicy, date, one_line, status_retry_hint};
use crate::policy::fields::{nearest, quoted_list};

/// The address of a cluster, and the identity for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// By kubeconfig files; the first one to set a value wins.
    Kubeconfig {
        /// The files.
        files: Vec<PathBuf>,
        /// The context in them; `None` means the current one.
        context: Option<String>,
    },
    /// As the service account of the pod that this process runs in.
    ServiceAccount {
        /// Address of the API server, from the pod's environment; `None` outside a pod.
        server: Option<String>,
        /// The folder with `token` and `ca.crt`.
        folder: PathBuf,
    },
}

/// Most bytes of one answer: a page of 500 objects is some megabytes, and no object is larger than three.
const MAX_RESPONSE_BYTES: usize = 256 << 20;

/// The path for access reviews.
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// One API server, used with one identity. Only ever reads.
pub(super) struct Cluster {
    access: Access,
    timeout: Duration,
    retry_policy: RetryPolicy,
    /// Grows with each sign-in.
    client: tokio::sync::Mutex<(u64, Client)>,
    date: Mutex<Option<Timestamp>>,
}

/// The kind of errors of requests without an answer.
const UNREACHABLE: &str = "unreachable";

/// A failed request.
#[derive(Debug)]
pub(super) struct ApiError {
    /// The status; `None` without an answer.
    pub(super) status: Option<StatusCode>,
    pub(super) error: SourceError,
}

impl From<ApiError> for SourceError {
    fn from(refusal: ApiError) -> Self {
        refusal.error
    }
}

/// The server's message about an error.
#[derive(Deserialize)]
struct WireStatus {
    message: Option<String>,
}

struct ApiResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Cluster {
    /// Prepares the authentication as far as possible without a request.
    pub(super) async fn connect(access: Access, timeout: Duration, patience: RetryPolicy) -> Result<Self, SourceError> {
        let client = authenticate(access.clone(), timeout).await?;
        Ok(Self {
            access,
            timeout,
            retry_policy: patience,
            client: tokio::sync::Mutex::new((0, client)),
            date: Mutex::default(),
        })
    }

    /// Returns the time of the first answer by the server's own clock.
    pub(super) fn date(&self) -> Option<Timestamp> {
        *self.date.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a GET, and parses its answer as JSON.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.request(Method::GET, path, "").await
    }

    /// Asks whether this identity may do something (`SelfSubjectAccessReview`). A POST that changes nothing, and may be
    /// repeated like a GET; the only one that this client sends.
    pub(super) async fn review<T: DeserializeOwned>(&self, content: &str) -> Result<T, ApiError> {
        self.request(Method::POST, ACCESS_REVIEWS, content).await
    }

    async fn request<T: DeserializeOwned>(&self, method: Method, path: &str, content: &str) -> Result<T, ApiError> {
        let asked = format!("{method} {}", path.split('?').next().unwrap_or_default());
        let evidence = self.send(&method, path, content, &asked).await?;
        if !evidence.status.is_success() {
            return Err(api_error(&asked, &evidence));
        }
        serde_json::from_slice(&evidence.body).map_err(|error| ApiError {
            status: Some(evidence.status),
            error: SourceError::new("malformed", format!("{asked} was answered with what cannot be understood"))
                .caused_by(Cause::foreign(error)),
        })
    }

    async fn send(&self, method: &Method, path: &str, content: &str, asked: &str) -> Result<ApiResponse, ApiError> {
        let mut pauses = Backoff::new(self.retry_policy);
        let mut renewed = false;
        loop {
            let (generation, client) = self.client.lock().await.clone();
            let sent = tokio::time::timeout(self.timeout, send_once(&client, method, path, content)).await;
            let outcome = sent.unwrap_or_else(|_| {
                let message = format!("took longer than {}", humantime::format_duration(self.timeout));
                Err(ConnectionFailure { error: SourceError::new(UNREACHABLE, message), is_transient: true })
            });
            let wish = match &outcome {
                Ok(evidence) if evidence.status == StatusCode::UNAUTHORIZED && !renewed => {
                    renewed = true;
                    self.reauthenticate(generation).await?;
                    continue;
                }
                Ok(evidence) => status_retry_hint(evidence.status, &evidence.headers, true),
                Err(cut) => cut.is_transient.then_some(RetryHint { after: None, throttled: false }),
            };
            if let Some(pause) = wish.and_then(|wish| pauses.next_delay(wish)) {
                tracing::debug!(request = asked, pause_ms = pause.as_millis(), "trying again");
                tokio::time::sleep(pause).await;
                continue;
            }
            let evidence = outcome.map_err(|cut| ApiError {
                status: None,
                error: cut
                    .error
                    .within(asked)
                    .with_help("check that the API server of this cluster is up and can be reached from here"),
            })?;
            let mut seen = self.date.lock().unwrap_or_else(PoisonError::into_inner);
            *seen = seen.or_else(|| date(&evidence.headers));
            return Ok(evidence);
        }
    }

    /// Authenticates again: rereads the token file, reruns the credential plugin. Once for all requests that were
    /// refused with the same credentials.
    async fn reauthenticate(&self, generation: u64) -> Result<(), ApiError> {
        let mut client = self.client.lock().await;
        if client.0 == generation {
            let fresh = authenticate(self.access.clone(), self.timeout).await;
            let fresh = fresh.map_err(|error| ApiError { status: Some(StatusCode::UNAUTHORIZED), error })?;
            *client = (generation + 1, fresh);
        }
        Ok(())
    }
}

/// A request without an answer.
struct ConnectionFailure {
    error: SourceError,
    /// True if a retry could help.
    is_transient: bool,
}

async fn send_once(
    client: &Client,
    method: &Method,
    path: &str,
    content: &str,
) -> Result<ApiResponse, ConnectionFailure> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("tagwarden/", env!("CARGO_PKG_VERSION")));
    if !content.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(Body::from(content.as_bytes().to_vec())).map_err(|error| ConnectionFailure {
        error: SourceError::new(UNREACHABLE, "no such request can be made").caused_by(error),
        is_transient: false,
    })?;
    let response = client.send(request).await.map_err(|error| match error {
        kube::Error::Auth(error) => ConnectionFailure { error: auth_error(UNREACHABLE, error), is_transient: false },
        error => ConnectionFailure {
            error: SourceError::new(UNREACHABLE, "got no answer").caused_by(error),
            is_transient: true,
        },
    })?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await.map_err(|error| {
        let too_large = error.is::<http_body_util::LengthLimitError>();
        ConnectionFailure {
            error: SourceError::new(UNREACHABLE, "was cut in the answer").caused_by(Cause::boxed(error)),
            is_transient: !too_large,
        }
    })?;
    Ok(ApiResponse { status: parts.status, headers: parts.headers, body: body.to_bytes().into() })
}

/// Reads the settings of a cluster and creates a client. Credential plugins run here, which may take a while.
async fn authenticate(access: Access, timeout: Duration) -> Result<Client, SourceError> {
    let mut config = match access {
        Access::Kubeconfig { files, context } => kubeconfig(files, context).await?,
        Access::ServiceAccount { server, folder } => service_account(server, &folder)?,
    };
    // This module's own retries apply.
    config.default_retry = false;
    config.connect_timeout = Some(timeout.min(Duration::from_secs(10)));
    let runtime = tokio::runtime::Handle::current();
    let client = tokio::task::spawn_blocking(move || {
        let _inside = runtime.enter();
        ClientBuilder::try_from(config).map(ClientBuilder::build)
    });
    let client = client.await.map_err(|_| SourceError::panicked())?;
    client.map_err(|error| {
        let failed = settings_error("no client for this cluster can be made".to_owned());
        match error {
            kube::Error::Auth(error) => failed.caused_by(auth_error("settings", error)),
            error => failed.caused_by(error),
        }
    })
}

async fn kubeconfig(files: Vec<PathBuf>, context: Option<String>) -> Result<Config, SourceError> {
    let shown = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
    let mut merged = Kubeconfig::default();
    for file in files {
        let failed = || settings_error(format!("kubeconfig {}", file.display()));
        // `kube` knows the same encodings, but panics at half a character, and has no remedy for the others.
        let text = std::fs::read(&file).and_then(|bytes| Ok(decode_text(bytes)?));
        text.map_err(|error| failed().caused_by(error))?;
        let read = Kubeconfig::read_from(&file).and_then(|next| merged.merge(next));
        merged = read.map_err(|error| failed().caused_by(error))?;
    }
    if let Some(context) = &context {
        require_context(context, &merged, &shown)?;
    }
    for named in &mut merged.auth_infos {
        if let Some(info) = &mut named.auth_info {
            decode_token_file(info);
        }
        // No person can answer a prompt.
        if let Some(exec) = named.auth_info.as_mut().and_then(|info| info.exec.as_mut()) {
            exec.interactive_mode = Some(ExecInteractiveMode::Never);
        }
    }
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(merged, &options).await;
    config.map_err(|error| settings_error(format!("kubeconfig {shown}")).caused_by(error).with_help("check `context`"))
}

/// Reads a token file that begins with a byte order mark, which `kube` would send as a part of the token. Other files are
/// left to `kube`, which reads them again from time to time.
fn decode_token_file(info: &mut AuthInfo) {
    let (None, Some(file)) = (&info.token, &info.token_file) else { return };
    let Ok(bytes) = std::fs::read(file) else { return };
    if let Ok(text) = decode_text(bytes.clone())
        && text.as_bytes() != bytes
    {
        info.token = Some(text.trim().into());
    }
}

/// Makes sure that the files have a context, and names those that they have.
fn require_context(context: &str, merged: &Kubeconfig, files: &str) -> Result<(), SourceError> {
    let known: Vec<&str> = merged.contexts.iter().map(|named| named.name.as_str()).collect();
    if known.contains(&context) {
        return Ok(());
    }
    let meant = nearest(context, &known).map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
    let list =
        if known.is_empty() { "it has no context".to_owned() } else { format!("known: {}", quoted_list(&known)) };
    Err(settings_error(format!("kubeconfig {files} has no context `{context}`{meant}")).with_help(list))
}

fn service_account(server: Option<String>, folder: &std::path::Path) -> Result<Config, SourceError> {
    let server = server.ok_or_else(|| {
        settings_error(
            "this process does not run in a pod, so there is no service account; give `kubeconfig` or `context`"
                .to_owned(),
        )
    })?;
    let address = server.parse().map_err(|error: http::uri::InvalidUri| {
        settings_error(format!("`{server}` is not a valid address")).caused_by(error)
    })?;
    let mut config = Config::new(address);
    for (name, what) in [("token", "the token"), ("ca.crt", "the certificate authority")] {
        let path = folder.join(name);
        std::fs::metadata(&path).map_err(|error| {
            let path = path.display();
            settings_error(format!("{what} of the service account cannot be read at {path}"))
                .caused_by(error)
                .with_help("does the pod say `automountServiceAccountToken: false`?")
        })?;
    }
    config.root_cert_file = Some(folder.join("ca.crt"));
    config.auth_info.token_file = Some(folder.join("token").display().to_string());
    Ok(config)
}

/// Returns the error of a failed authentication, without the output and the arguments of a credential plugin, which may
/// be secret.
fn auth_error(kind: &'static str, error: AuthError) -> SourceError {
    match error {
        AuthError::AuthExecRun { out, .. } => {
            SourceError::new(kind, format!("the credential plugin failed ({})", out.status))
                .with_help("run `kubectl` with this context to see why")
        }
        AuthError::AuthExecParse(_) => {
            SourceError::new(kind, "the credential plugin's output is not a valid credential")
        }
        error => SourceError::new(kind, "signing in failed").caused_by(error),
    }
}

fn settings_error(message: String) -> SourceError {
    SourceError::new("settings", message)
}

/// Describes a refusal, with the remedy.
fn api_error(asked: &str, evidence: &ApiResponse) -> ApiError {
    let status = evidence.status;
    let said = serde_json::from_slice::<WireStatus>(&evidence.body).ok().and_then(|said| said.message);
    let said = said.map(|said| format!(" ({})", one_line(&said))).unwrap_or_default();
    let (kind, advice) = match status.as_u16() {
        401 => ("denied", "the credentials of this source are not accepted, renewed ones neither: check them"),
        403 => {
            ("denied", "apply deploy/kubernetes/rbac.yaml, and bind its ClusterRole to whom this source signs in as")
        }
        410 => ("expired", "the list takes longer than the server keeps it: ask when the server is less busy"),
        429 => ("throttled", "run when the API server is less busy"),
        500..=599 => ("status", "run again when the API server is well"),
        300..=399 => ("status", "give the address that it redirects to"),
        _ => ("status", ""),
    };
    let message = format!("{asked} was answered with {status}{said}");
    ApiError { status: Some(status), error: SourceError::new(kind, message).with_help(advice) }
}
