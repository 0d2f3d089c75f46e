//! The requests of `azure_identity`, sent by our own HTTP client: its certificates, retries and words hold here, too.

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, HttpClient as AzureHttpClient, Request as AzureRequest};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, StatusCode};
use serde::Deserialize;

use crate::domain::Cause;
use crate::http_client::{
    HttpClient, MAX_ERROR_BYTES, Request, RequestError, RequestErrorKind, Response, RetryMode, RetryPolicy, one_line,
};

/// The authority, or the endpoint on this machine, that gives tokens. Trying again is its own business: the pipelines of
/// `azure_identity` see answers that hold a token and errors that are none of theirs to repeat.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) client: HttpClient,
    pub(super) retry_policy: RetryPolicy,
    /// As whom it is asked, in words.
    pub(super) identity: String,
}

#[async_trait]
impl AzureHttpClient for Authority {
    async fn execute_request(&self, request: &AzureRequest) -> azure_core::Result<AsyncRawResponse> {
        let response =
            self.request_token(request).await.map_err(|error| azure_core::Error::new(ErrorKind::Credential, error))?;
        Ok(AsyncRawResponse::from_bytes(response.status.as_u16().into(), Headers::new(), response.body))
    }
}

impl Authority {
    /// The answer, if it holds a token.
    async fn request_token(&self, request: &AzureRequest) -> Result<Response, RequestError> {
        let method = Method::from_bytes(request.method().as_ref().as_bytes());
        let ask = Request {
            method: method.map_err(|error| self.error(RequestErrorKind::InvalidSettings, error))?,
            url: request.url().clone(),
            accept: "application/json",
            max_bytes: MAX_ERROR_BYTES,
            content: form_content(request),
            retry_mode: RetryMode::Always,
            has_secret_path: false,
            gets_token: true,
        };
        let response = self.send_with_retries(&ask, &headers(request)).await.map_err(|error| match error.kind {
            RequestErrorKind::Connection => self.error(error.kind, error).with_help(unreachable_advice(&ask)),
            kind => self.error(kind, error),
        })?;
        if response.status.is_success() && has_token(&response.body) {
            return Ok(response);
        }
        Err(self.response_error(&response, &ask))
    }

    /// Virtual machines answer 404 and 410 while an identity is being assigned or their endpoint is being updated
    /// (<https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#error-handling>).
    async fn send_with_retries(&self, ask: &Request, headers: &HeaderMap) -> Result<Response, RequestError> {
        let mut pauses = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(self.retry_policy.initial_delay)
            .with_max_delay(self.retry_policy.max_delay)
            .with_max_times(self.retry_policy.max_retries)
            .build();
        loop {
            let response = self.client.send_with_headers(ask, headers).await?;
            let passing = is_local(ask) && matches!(response.status, StatusCode::NOT_FOUND | StatusCode::GONE);
            match if passing { pauses.next() } else { None } {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Ok(response),
            }
        }
    }

    fn response_error(&self, response: &Response, ask: &Request) -> RequestError {
        if response.status.is_success() {
            let error = response.malformed("no access token in it");
            return self.error(error.kind, error);
        }
        let kind = match response.status_error().kind {
            // Nothing that was asked for is absent: whoever asks for a token and gets none is denied.
            RequestErrorKind::Status(400..500) | RequestErrorKind::NotFound => RequestErrorKind::Denied,
            kind => kind,
        };
        let words = error_description(&response.body).map_or_else(
            || response.description(),
            |words| {
                format!(
                    "{} answered {} ({})",
                    response.request,
                    response.status,
                    one_line(&redact_secrets(&words, ask))
                )
            },
        );
        let advice = match kind {
            RequestErrorKind::Throttled => "it is asked too often; run when it is less busy",
            RequestErrorKind::Denied => advice(&words).unwrap_or(if is_local(ask) {
                "check that this machine has such an identity, and its `client_id`"
            } else {
                "check the ids and the secret of this sign-in"
            }),
            _ => "",
        };
        refused_authentication(&self.identity, kind, &words).with_help(advice)
    }

    fn error(&self, kind: RequestErrorKind, cause: impl Into<Cause>) -> RequestError {
        authentication_error(&self.identity, kind, cause)
    }
}

fn unreachable_advice(ask: &Request) -> &'static str {
    if is_local(ask) {
        "only machines in Azure have a managed identity: use another kind of `auth` elsewhere"
    } else {
        "check network, proxy and `ca_file`"
    }
}

/// An authentication failure and its cause.
pub(super) fn authentication_error(whom: &str, kind: RequestErrorKind, cause: impl Into<Cause>) -> RequestError {
    RequestError::new(kind, format!("signing in as {whom} failed")).caused_by(cause)
}

/// An authentication failure that words describe: those of the authority, of the Azure CLI or our own.
pub(super) fn refused_authentication(whom: &str, kind: RequestErrorKind, what: &str) -> RequestError {
    RequestError::new(kind, format!("signing in as {whom} failed: {what}"))
}

/// Managed identities are asked for with GET on this machine or its link; everything else is a POST to the authority.
fn is_local(ask: &Request) -> bool {
    ask.method == Method::GET
}

/// The headers of a request but those that the HTTP client sets itself.
fn headers(request: &AzureRequest) -> HeaderMap {
    let own = [ACCEPT, CONTENT_TYPE, USER_AGENT];
    let header = |name: &str, value: &str| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| !own.contains(name))?;
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    request.headers().iter().filter_map(|(name, value)| header(name.as_str(), value.as_str())).collect()
}

/// The form of a request, if it has one.
fn form_content(request: &AzureRequest) -> Option<(std::sync::Arc<str>, std::sync::Arc<[u8]>)> {
    match request.body() {
        Body::Bytes(bytes) if !bytes.is_empty() => Some(("application/x-www-form-urlencoded".into(), bytes[..].into())),
        _ => None,
    }
}

/// The little of an answer that must be right before its token is believed: `azure_identity` takes a body without a token
/// for an empty one.
#[derive(Deserialize)]
struct WireToken {
    access_token: String,
}

fn has_token(body: &[u8]) -> bool {
    serde_json::from_slice::<WireToken>(body).is_ok_and(|token| !token.access_token.is_empty())
}

/// A refusal of Entra ID or of a virtual machine (RFC 6749, 5.2), or of App Service.
#[derive(Deserialize)]
struct WireTokenError {
    error_description: Option<String>,
    message: Option<String>,
}

/// What the authority said: its first line, without the ids behind it.
fn error_description(body: &[u8]) -> Option<String> {
    let refusal: WireTokenError = serde_json::from_slice(body).ok()?;
    let text = refusal.error_description.or(refusal.message)?;
    let line = text.lines().next()?;
    let line = line.split(" Trace ID:").next().unwrap_or(line).trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// Words without the secrets of the request that they answer, should they repeat one.
fn redact_secrets(words: &str, ask: &Request) -> String {
    let form = ask.content.as_ref().map_or(&[][..], |(_, bytes)| bytes);
    url::form_urlencoded::parse(form)
        .filter(|(key, value)| matches!(&**key, "client_secret" | "client_assertion") && !value.is_empty())
        .fold(words.to_owned(), |words, (_, secret)| words.replace(&*secret, "***"))
}

/// What to do about the refusals that happen, by their codes
/// (<https://learn.microsoft.com/entra/identity-platform/reference-error-codes>).
fn advice(words: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 7] = [
        ("AADSTS7000215", "put the secret's value, not its id, into the secret file"),
        ("AADSTS7000222", "the secret has expired: make a new one for the application"),
        ("AADSTS700016", "no such application in this tenant: check `client_id` and `tenant_id`"),
        ("AADSTS90002", "no such tenant: check `tenant_id` and the cloud"),
        ("AADSTS70021", "add a federated credential for this service account to the identity"),
        (
            "AADSTS700024",
            "the service account's token is not valid now: check the clock, and that the token file is renewed",
        ),
        ("AADSTS500011", "the tenant does not know the service that the token is for: check the cloud"),
    ];
    KNOWN.iter().find(|(code, _)| words.contains(code)).map(|(_, advice)| *advice)
}
