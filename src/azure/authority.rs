//! The requests of `azure_identity`, sent by Tagwarden's own HTTP client: its certificates, retries and messages apply
//! here, too.

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

/// The authority, or the endpoint on this machine, that issues tokens. It retries by itself: the pipelines of
/// `azure_identity` see responses with a token and errors that they must not retry.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) client: HttpClient,
    pub(super) retry_policy: RetryPolicy,
    /// Description of the identity.
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
    /// Returns the response, if it contains a token.
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
            operation: None,
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

    /// Sends a request with retries. Virtual machines return 404 and 410 while an identity is being assigned or their
    /// endpoint is being updated
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
            // Token endpoints always exist: a request for a token that fails this way is denied.
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

/// Returns an authentication failure with its cause.
pub(super) fn authentication_error(whom: &str, kind: RequestErrorKind, cause: impl Into<Cause>) -> RequestError {
    RequestError::new(kind, format!("signing in as {whom} failed")).caused_by(cause)
}

/// Returns an authentication failure with a message of the authority, of the Azure CLI or of this module.
pub(super) fn refused_authentication(whom: &str, kind: RequestErrorKind, what: &str) -> RequestError {
    RequestError::new(kind, format!("signing in as {whom} failed: {what}"))
}

/// Returns true for requests to this machine or its link: managed identities use GET, everything else is a POST to the
/// authority.
fn is_local(ask: &Request) -> bool {
    ask.method == Method::GET
}

/// Returns the headers of a request except those that the HTTP client sets itself.
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

/// Returns the form of a request, if it has one.
fn form_content(request: &AzureRequest) -> Option<(std::sync::Arc<str>, std::sync::Arc<[u8]>)> {
    match request.body() {
        Body::Bytes(bytes) if !bytes.is_empty() => Some(("application/x-www-form-urlencoded".into(), bytes[..].into())),
        _ => None,
    }
}

/// The fields of a response that must be valid before its token is used: `azure_identity` accepts a body without a
/// token as an empty one.
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

/// Returns the authority's message: its first line, without the ids at its end.
fn error_description(body: &[u8]) -> Option<String> {
    let refusal: WireTokenError = serde_json::from_slice(body).ok()?;
    let text = refusal.error_description.or(refusal.message)?;
    let line = text.lines().next()?;
    let line = line.split(" Trace ID:").next().unwrap_or(line).trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// Returns a message without the secrets of its request, in case it repeats one.
fn redact_secrets(words: &str, ask: &Request) -> String {
    let form = ask.content.as_ref().map_or(&[][..], |(_, bytes)| bytes);
    url::form_urlencoded::parse(form)
        .filter(|(key, value)| matches!(&**key, "client_secret" | "client_assertion") && !value.is_empty())
        .fold(words.to_owned(), |words, (_, secret)| words.replace(&*secret, "***"))
}

/// Returns the remedy for common refusals, by their codes
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
