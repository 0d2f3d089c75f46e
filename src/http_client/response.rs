//! Answers, and what they say as errors.

use std::error::Error;
use std::fmt::Write as _;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap};
use serde::de::DeserializeOwned;

use super::error::{RequestError, RequestErrorKind, first_error};
use super::parse_json_lossy;
use super::retry::retry_after;
use crate::domain::{Cause, one_line};

/// An answer, read whole.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// The request in words, for errors.
    pub(crate) request: String,
}

impl Response {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The first error code that the registry gave, such as `MANIFEST_UNKNOWN`.
    pub(crate) fn error_code(&self) -> Option<String> {
        first_error(&self.body).map(|error| error.code)
    }

    /// Whether this is a registry's own 404: with an error of the OCI form, or without any words at all. A page of a
    /// proxy or of a web server says nothing about what the registry holds.
    pub(crate) fn is_absence(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && (self.body.is_empty() || first_error(&self.body).is_some())
    }

    /// This answer as the error that it is.
    pub(crate) fn status_error(&self) -> RequestError {
        let kind = match self.status {
            StatusCode::NOT_FOUND => RequestErrorKind::NotFound,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RequestErrorKind::Denied,
            StatusCode::TOO_MANY_REQUESTS => RequestErrorKind::Throttled,
            StatusCode::SERVICE_UNAVAILABLE if retry_after(&self.headers).is_some() => RequestErrorKind::Throttled,
            status => RequestErrorKind::Status(status.as_u16()),
        };
        self.error(kind)
    }

    /// The request, the status and the other side's words.
    pub(crate) fn description(&self) -> String {
        let mut message = format!("{} answered {}", self.request, self.status);
        match first_error(&self.body) {
            Some(error) => {
                let _ = write!(message, " ({}", one_line(&error.code));
                if !error.message.is_empty() {
                    let _ = write!(message, ": {}", one_line(&error.message));
                }
                message.push(')');
            }
            None if self.is_web_page() => message.push_str(", with a web page, not in a registry's words"),
            None => {}
        }
        message
    }

    /// This answer as an error of that kind: what was told, and what to do next.
    pub(crate) fn error(&self, kind: RequestErrorKind) -> RequestError {
        RequestError::new(kind, self.description()).with_help(match kind {
            RequestErrorKind::Denied | RequestErrorKind::Unauthenticated => {
                "check the registry's `auth` and what that identity may do"
            }
            RequestErrorKind::Throttled => "lower the registry's `concurrency`, or run when it is less busy",
            RequestErrorKind::Status(500..) => "run again when the registry is well",
            RequestErrorKind::Status(300..400) => "set `endpoint` to the address that it redirects to",
            _ => "",
        })
    }

    /// An error about the content of an answer that arrived well.
    pub(crate) fn malformed(&self, why: &str) -> RequestError {
        self.with_page_help(format!("{}: {}", self.describe_malformed(), one_line(why)))
    }

    /// Parses the JSON of an answer that arrived well, as [`parse_json_lossy`] reads it.
    ///
    /// # Errors
    /// When it is not what it should be.
    pub(crate) fn parse_json<T: DeserializeOwned>(&self) -> Result<T, RequestError> {
        parse_json_lossy(&self.body).map_err(|error| self.unparsable(error))
    }

    /// An error about the content of an answer that arrived well, by what its parser says.
    pub(crate) fn unparsable(&self, why: impl Error + Send + Sync + 'static) -> RequestError {
        self.with_page_help(self.describe_malformed()).caused_by(Cause::foreign(why))
    }

    fn describe_malformed(&self) -> String {
        format!("{} answered {} with what cannot be understood", self.request, self.status)
    }

    fn with_page_help(&self, message: String) -> RequestError {
        let page = if self.is_web_page() { "it is a web page: is a proxy or a login page in between?" } else { "" };
        RequestError::new(RequestErrorKind::Malformed, message).with_help(page)
    }

    pub(crate) fn is_web_page(&self) -> bool {
        self.header(CONTENT_TYPE.as_str()).is_some_and(|value| value.contains("html"))
            || self.body.trim_ascii_start().starts_with(b"<")
    }
}
