//! Failed requests, in JSON for scripts and as a page for people.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use crate::domain::chain;
use crate::state::{StateError, StateErrorKind};

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// Its label.
    pub(super) kind: &'static str,
    /// The problem, and what to do next.
    pub(super) message: String,
}

impl Problem {
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, kind: "not-found", message: message.into() }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "bad-request", message: message.into() }
    }

    pub(super) fn corrupt_plan(error: &std::io::Error) -> Self {
        let message = format!("the plan that was kept cannot be read: {}", chain(error));
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, kind: "corrupt", message }
    }
}

impl From<StateError> for Problem {
    fn from(error: StateError) -> Self {
        let status = match error.kind {
            StateErrorKind::Ambiguous => StatusCode::BAD_REQUEST,
            StateErrorKind::Missing => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let kind = if status == StatusCode::NOT_FOUND { "not-found" } else { error.kind.label() };
        Self { status, kind, message: error.chain() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": { "kind": self.kind, "message": self.message } }))).into_response()
    }
}
