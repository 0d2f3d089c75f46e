//! What went wrong with a request, and the words that servers have for it.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::parse_json_lossy;
use crate::domain::Failure;

/// A failed request. Messages and causes name the request and whom it went to, never a secret.
pub type RequestError = Failure<RequestErrorKind>;

/// The classes of failures that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestErrorKind {
    /// The thing asked for is not there (404).
    NotFound,
    /// Signing in failed, or what was signed in may not do this (401, 403).
    Denied,
    /// The server did not accept the credentials, renewed ones included (401 to a removal).
    Unauthenticated,
    /// The server refused the token that a removal or a put was sent with (401), and has given a new one. What the
    /// request rests on should be looked at before the next try.
    TokenRenewed,
    /// The server does not do this (400 or 405 on a deletion).
    Unsupported,
    /// It is locked or immutable.
    Locked,
    /// Too many requests (429, or 503 with `Retry-After`). A removal or a put was not processed then; the wait that the
    /// registry wished for is over, and what it rests on should be looked at before the next try.
    Throttled,
    /// Too many requests, and the server asks for a longer pause than the run's patience allows: it should be asked
    /// nothing more of that kind in this run.
    RetriesExhausted,
    /// The server failed (5xx), or answered with another status than expected.
    Status(u16),
    /// The connection failed, was cut, or took too long.
    Connection,
    /// The answer could not be understood, or was cut.
    Malformed,
    /// Content does not have the digest that it was asked for by.
    DigestMismatch,
    /// The settings cannot work (a CA file that cannot be read, say).
    InvalidSettings,
}

impl RequestError {
    /// True where a removal or a put was not processed and may be tried again after another look: the pause that the
    /// server wished for is over, or it has given a new token.
    #[must_use]
    pub fn requires_recheck(&self) -> bool {
        matches!(self.kind, RequestErrorKind::Throttled | RequestErrorKind::TokenRenewed)
    }

    /// True where nobody knows whether the server did what it was asked: the answer was lost, cut or could not be
    /// understood, or said that something on the way failed.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        matches!(
            self.kind,
            RequestErrorKind::Connection | RequestErrorKind::Malformed | RequestErrorKind::Status(408 | 500..=599)
        )
    }
}

/// One error of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct WireError {
    /// Such as `MANIFEST_UNKNOWN`.
    #[serde(default, deserialize_with = "text")]
    pub(crate) code: String,
    /// In the server's words.
    #[serde(default, deserialize_with = "text")]
    pub(crate) message: String,
}

/// The forms of errors: a list in the OCI distribution specification, a single one in Azure Resource Manager.
#[derive(Deserialize)]
struct WireErrors {
    #[serde(default, deserialize_with = "nullable")]
    errors: Vec<WireError>,
    /// An object; a word is that of something in between.
    #[serde(default)]
    error: Value,
}

/// The first error of an answer, if it has one of the known forms.
pub(crate) fn first_error(body: &[u8]) -> Option<WireError> {
    let wire: WireErrors = parse_json_lossy(body).ok()?;
    wire.errors.into_iter().next().or_else(|| serde_json::from_value(wire.error).ok())
}

/// Servers write `null` where they mean nothing.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Option::deserialize(input).map(Option::unwrap_or_default)
}

/// Reads a text; numbers as they are written, and nothing of any other type.
fn text<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(input)? {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    })
}

impl RequestErrorKind {
    /// The label used in gaps, the audit record and metrics.
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
            Self::RetriesExhausted => "retries-exhausted",
            Self::Status(_) => "status",
            Self::Connection => "connection",
            Self::Malformed => "malformed",
            Self::DigestMismatch => "digest-mismatch",
            Self::InvalidSettings => "invalid-settings",
        }
    }
}
