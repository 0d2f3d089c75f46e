//! Failures of requests, and the error formats of servers.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::parse_json_lossy;
use crate::domain::Failure;

/// A failed request. Messages and causes name the request and its receiver, never a secret.
pub type RequestError = Failure<RequestErrorKind>;

/// The classes of failures that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestErrorKind {
    /// The requested object does not exist (404).
    NotFound,
    /// Authentication failed, or the identity lacks the permission (401, 403).
    Denied,
    /// The server did not accept the credentials, even after refreshing them (401 to a removal).
    Unauthenticated,
    /// The server refused the token of a removal or a put (401), and has issued a new one. The preconditions should be
    /// checked again before the next attempt.
    TokenRenewed,
    /// The server does not support the operation (400 or 405 on a deletion).
    Unsupported,
    /// The object is locked or immutable.
    Locked,
    /// Too many requests (429, or 503 with `Retry-After`). A removal or a put was not processed; the requested wait is
    /// over, and the preconditions should be checked again before the next attempt.
    Throttled,
    /// A removal was not sent, because too much time passed since its preconditions were checked.
    OutdatedCheck,
    /// Too many requests, and the server requests a longer pause than the retry policy allows: no more requests of that
    /// kind should be sent in this run.
    RetriesExhausted,
    /// The server failed (5xx), or returned an unexpected status.
    Status(u16),
    /// The connection failed, was interrupted, or timed out.
    Connection,
    /// The response could not be parsed, or was truncated.
    Malformed,
    /// Content does not match the requested digest.
    DigestMismatch,
    /// The settings are invalid, such as an unreadable CA file.
    InvalidSettings,
}

impl RequestError {
    /// Returns true if a removal or a put was not processed and may be retried after another check: the requested pause
    /// is over, there is a new token, or the check before was outdated.
    #[must_use]
    pub fn requires_recheck(&self) -> bool {
        use RequestErrorKind::{OutdatedCheck, Throttled, TokenRenewed};
        matches!(self.kind, Throttled | TokenRenewed | OutdatedCheck)
    }

    /// Returns true if it is unknown whether the server carried out the request: the response was lost, truncated or
    /// could not be parsed, or an intermediary failed.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        matches!(
            self.kind,
            RequestErrorKind::Connection | RequestErrorKind::Malformed | RequestErrorKind::Status(408 | 500..=599)
        )
    }
}

/// One error of a response.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct WireError {
    /// Such as `MANIFEST_UNKNOWN`.
    #[serde(default, deserialize_with = "text")]
    pub(crate) code: String,
    /// The server's message.
    #[serde(default, deserialize_with = "text")]
    pub(crate) message: String,
}

/// The formats of errors: a list in the OCI distribution specification, a single one in Azure Resource Manager.
#[derive(Deserialize)]
struct WireErrors {
    #[serde(default, deserialize_with = "nullable")]
    errors: Vec<WireError>,
    /// An object; a string comes from an intermediary.
    #[serde(default)]
    error: Value,
}

/// Returns the first error of a response, if it has one of the known formats.
pub(crate) fn first_error(body: &[u8]) -> Option<WireError> {
    let wire: WireErrors = parse_json_lossy(body).ok()?;
    wire.errors.into_iter().next().or_else(|| serde_json::from_value(wire.error).ok())
}

/// Returns the error of a response in Amazon's JSON protocol: `{"__type": "…#ThrottlingException", "message": "…"}`.
pub(super) fn operation_error(body: &[u8]) -> Option<WireError> {
    let wire: Value = parse_json_lossy(body).ok()?;
    let code = wire["__type"].as_str()?.rsplit('#').next()?.to_owned();
    let message = ["message", "Message"].into_iter().find_map(|name| wire[name].as_str());
    let message = message.unwrap_or_default().to_owned();
    Some(WireError { code, message })
}

/// Deserializes `null`, which servers write for empty values, as the default.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Option::deserialize(input).map(Option::unwrap_or_default)
}

/// Deserializes a text; numbers as written, and other types as empty.
fn text<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(input)? {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    })
}

impl RequestErrorKind {
    /// Returns the label used in gaps, the audit record and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Denied => "denied",
            Self::Unauthenticated => "unauthenticated",
            Self::TokenRenewed => "token-renewed",
            Self::Unsupported => "unsupported",
            Self::Locked => "locked",
            Self::Throttled => "throttled",
            Self::OutdatedCheck => "outdated-check",
            Self::RetriesExhausted => "retries-exhausted",
            Self::Status(_) => "status",
            Self::Connection => "connection",
            Self::Malformed => "malformed",
            Self::DigestMismatch => "digest-mismatch",
            Self::InvalidSettings => "invalid-settings",
        }
    }
}
