//! Responses, and their errors.

use std::error::Error;
use std::fmt::Write as _;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap};
use serde::de::DeserializeOwned;

use super::error::{RequestError, RequestErrorKind, WireError, first_error, operation_error};
use super::parse_json_lossy;
use super::pauses::retry_after;
use crate::domain::{Cause, one_line};
use crate::policy::redact_message;

/// A response with its whole body.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Description of the request, for errors.
    pub(crate) request: String,
}

impl Response {
    /// Returns a header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the first error code of the registry, such as `MANIFEST_UNKNOWN`.
    pub(crate) fn error_code(&self) -> Option<String> {
        first_error(&self.body).map(|error| error.code)
    }

    /// Returns the error of a response in Amazon's JSON protocol, with its kind as code.
    pub(crate) fn operation_error(&self) -> Option<WireError> {
        operation_error(&self.body)
    }

    /// Returns true for a registry's own 404: with an error in the OCI format, or with an empty body. A page of a proxy
    /// or of a web server says nothing about the registry's contents.
    pub(crate) fn is_absence(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && (self.body.is_empty() || first_error(&self.body).is_some())
    }

    /// Returns this response as the error that its status means.
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

    /// Describes the request, the status and the server's message.
    pub(crate) fn description(&self) -> String {
        let mut message = format!("{} answered {}", self.request, self.status);
        match first_error(&self.body).or_else(|| self.operation_error()) {
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

    /// Returns this response as an error of that kind, with its message and the remedy.
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

    /// Returns an error about the content of a successful response.
    pub(crate) fn malformed(&self, why: &str) -> RequestError {
        self.with_page_help(format!("{}: {}", self.describe_malformed(), redact_message(&one_line(why))))
    }

    /// Parses the JSON of a successful response, as [`parse_json_lossy`] does.
    ///
    /// # Errors
    /// Returns an error if it has another format.
    pub(crate) fn parse_json<T: DeserializeOwned>(&self) -> Result<T, RequestError> {
        parse_json_lossy(&self.body).map_err(|error| self.unparsable(error))
    }

    /// Returns an error about the content of a successful response, with its parser's error.
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
