//! Sending one message: over HTTP, or through SMTP.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use lettre::message::header::{HeaderName as MailHeader, HeaderValue as MailValue};
use lettre::message::{Mailbox, Message as Mail};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use sha2::Sha256;
use url::Url;

use super::message::Message;
use crate::config::{Channel, Email, Encryption, NotifySettings};
use crate::domain::{Cause, Failure, decode_text};
use crate::http_client::{
    Backoff, ClientConfig, HttpClient, MAX_ERROR_BYTES, Request, RetryHint, RetryMode, RetryPolicy,
};

/// The failure of a message. It contains no webhook address, and no secret.
pub type NotifyError = Failure<NotifyErrorKind>;

/// The classes of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyErrorKind {
    /// The receiver could not be reached, or timed out.
    Unreachable,
    /// The receiver rejected the message.
    Refused,
    /// The settings are invalid.
    Settings,
}

impl NotifyErrorKind {
    /// Returns the label used in logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Settings => "settings",
        }
    }
}

/// The header with time and signature, `t=<seconds since 1970>,v1=<signature>`.
const SIGNATURE: HeaderName = HeaderName::from_static("tagwarden-signature");

/// Returns the HMAC-SHA256 over `<timestamp>.<body>` as lower-case hexadecimal digits; the timestamp is seconds since
/// 1970.
///
/// # Panics
/// Never: HMAC accepts keys of every length.
#[must_use]
pub fn signature(secret: &[u8], timestamp: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of every length");
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.finalize().into_bytes().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Sends a message, with retries by the policy.
pub(super) async fn deliver(
    settings: &NotifySettings,
    message: &Message,
    now: Timestamp,
    retry_policy: RetryPolicy,
) -> Result<(), NotifyError> {
    let nothing = HeaderMap::new();
    match &settings.channel {
        Channel::Webhook { url, secret } => {
            let body = message.json();
            let signed = sign(settings, secret, now, &body)?;
            post(settings, url, &body, &signed, retry_policy).await
        }
        Channel::Slack { url } => post(settings, url, &message.slack(), &nothing, retry_policy).await,
        Channel::Teams { url } => post(settings, url, &message.teams(), &nothing, retry_policy).await,
        Channel::Email(email) => send_mail(settings, email, message, now, retry_policy).await,
    }
}

fn sign(
    settings: &NotifySettings,
    secret: &SecretString,
    now: Timestamp,
    body: &Value,
) -> Result<HeaderMap, NotifyError> {
    let signature = signature(secret.expose_secret().as_bytes(), now.as_second(), body.to_string().as_bytes());
    let value = HeaderValue::from_str(&format!("t={},v1={signature}", now.as_second()));
    let value = value.map_err(|error| invalid_settings(settings, error))?;
    Ok(HeaderMap::from_iter([(SIGNATURE, value)]))
}

async fn post(
    settings: &NotifySettings,
    url: &SecretString,
    body: &Value,
    headers: &HeaderMap,
    retry_policy: RetryPolicy,
) -> Result<(), NotifyError> {
    let url = Url::parse(url.expose_secret()).map_err(|error| invalid_settings(settings, error))?;
    let config = ClientConfig {
        name: format!("notify.{}", settings.name),
        ca_file: settings.ca_file.clone(),
        timeout: settings.timeout,
    };
    let client =
        HttpClient::new(&config, retry_policy).map_err(|error| invalid_settings(settings, error))?.allow_writes();
    let request = Request {
        method: Method::POST,
        content: Some(("application/json".into(), body.to_string().into_bytes().into())),
        // A duplicate message is better than none.
        retry_mode: RetryMode::Always,
        has_secret_path: true,
        ..Request::get(url, "*/*", MAX_ERROR_BYTES)
    };
    let response = client.send_with_headers(&request, headers).await.map_err(|error| {
        NotifyError::new(NotifyErrorKind::Unreachable, format!("notify.{}", settings.name))
            .caused_by(error)
            .with_help("check its address, network and proxy")
    })?;
    if response.status.is_success() {
        return Ok(());
    }
    // Only a single word, such as Slack's `no_service`: longer texts may repeat the address.
    let word = std::str::from_utf8(&response.body).map(str::trim).unwrap_or_default();
    let is_word = word.len() <= 40 && word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == ' ');
    let word = if is_word && !word.is_empty() { format!(" ({word})") } else { String::new() };
    let message = format!("notify.{}: {} answered {}{word}", settings.name, response.request, response.status);
    Err(NotifyError::new(NotifyErrorKind::Refused, message)
        .with_help("check that the address is still the one that was given out"))
}

async fn send_mail(
    settings: &NotifySettings,
    email: &Email,
    message: &Message,
    now: Timestamp,
    retry_policy: RetryPolicy,
) -> Result<(), NotifyError> {
    let mail = build_mail(settings, email, message, now)?;
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&email.server)
        .port(email.port)
        .timeout(Some(settings.timeout))
        .tls(build_tls(settings, email)?);
    if let Some((username, password)) = &email.credentials {
        builder = builder.credentials(Credentials::new(username.clone(), password.expose_secret().to_owned()));
    }
    if let Some((_, host)) = email.from.trim_end_matches('>').rsplit_once('@') {
        builder = builder.hello_name(ClientId::Domain(host.to_owned()));
    }
    let client = builder.build();
    let mut pauses = Backoff::new(retry_policy);
    loop {
        let Err(error) = client.send(mail.clone()).await else { return Ok(()) };
        let kind = if error.is_permanent() { NotifyErrorKind::Refused } else { NotifyErrorKind::Unreachable };
        let passing = kind == NotifyErrorKind::Unreachable && !error.is_client();
        let pause = if passing { pauses.next_delay(RetryHint { after: None, throttled: false }) } else { None };
        let Some(pause) = pause else {
            let message = format!("notify.{}: {}:{} did not take the message", settings.name, email.server, email.port);
            return Err(NotifyError::new(kind, message)
                .caused_by(Cause::foreign(error))
                .with_help("check server, `tls` and who signs in"));
        };
        tokio::time::sleep(pause).await;
    }
}

fn build_tls(settings: &NotifySettings, email: &Email) -> Result<Tls, NotifyError> {
    if email.encryption == Encryption::None {
        return Ok(Tls::None);
    }
    let mut parameters = TlsParameters::builder(email.server.clone());
    if let Some(path) = &settings.ca_file {
        let wrong = |why: &str| settings_error(settings, &format!("ca_file {} {why}", path.display()));
        let read = std::fs::read(path).and_then(|bytes| Ok(decode_text(bytes)?));
        let pem = read.map_err(|error| wrong("cannot be read").caused_by(error))?;
        let authority =
            Certificate::from_pem(pem.as_bytes()).map_err(|error| wrong("is not understood").caused_by(error))?;
        parameters = parameters.add_root_certificate(authority);
    }
    let parameters = parameters.build().map_err(|error| invalid_settings(settings, error))?;
    Ok(match email.encryption {
        Encryption::Tls => Tls::Wrapper(parameters),
        Encryption::StartTls | Encryption::None => Tls::Required(parameters),
    })
}

fn build_mail(
    settings: &NotifySettings,
    email: &Email,
    message: &Message,
    now: Timestamp,
) -> Result<Mail, NotifyError> {
    let mailbox = |text: &str| {
        let parsed = text.parse::<Mailbox>();
        parsed.map_err(|error| settings_error(settings, &format!("`{text}` is not a valid address")).caused_by(error))
    };
    let from = mailbox(&email.from)?;
    let id = format!("<{}@{}>", message.id, from.email.domain());
    let mut builder = Mail::builder().from(from).subject(message.title.clone()).date(now.into()).message_id(Some(id));
    for to in &email.to {
        builder = builder.to(mailbox(to)?);
    }
    let mut mail = builder
        .header(lettre::message::header::ContentType::TEXT_PLAIN)
        .body(format!("{}\n", message.text))
        .map_err(|error| invalid_settings(settings, error))?;
    // RFC 3834: prevents automatic replies.
    let name = MailHeader::new_from_ascii_str("Auto-Submitted");
    mail.headers_mut().insert_raw(MailValue::new(name, "auto-generated".to_owned()));
    Ok(mail)
}

fn settings_error(settings: &NotifySettings, why: &str) -> NotifyError {
    NotifyError::new(NotifyErrorKind::Settings, format!("notify.{}: {why}", settings.name))
        .with_help("correct its settings")
}

fn invalid_settings(settings: &NotifySettings, cause: impl Into<Cause>) -> NotifyError {
    NotifyError::new(NotifyErrorKind::Settings, format!("notify.{}", settings.name))
        .caused_by(cause)
        .with_help("correct its settings")
}
