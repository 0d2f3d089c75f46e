//! The rights of OAuth access tokens, and refusals in Quay's words.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::demo::registry::response::json_response;

/// A scope of an OAuth access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuayScope {
    /// `repo:read`: list and read.
    RepoRead,
    /// `repo:write`: the same, and remove and restore tags.
    RepoWrite,
    /// `org:admin`: read and change an organization's rules.
    OrgAdmin,
}

/// An OAuth access token with its user's permissions.
#[derive(Debug, Clone)]
pub struct QuayToken {
    /// The token.
    pub token: String,
    /// Its scopes.
    pub scopes: Vec<QuayScope>,
    /// The repositories that its user may write to: names, or prefixes that end with a slash.
    pub writable: Vec<String>,
}

impl QuayToken {
    /// Creates a token with those scopes, whose user may write to everything in a namespace.
    #[must_use]
    pub fn new(token: &str, scopes: &[QuayScope], namespace: &str) -> Self {
        Self { token: token.to_owned(), scopes: scopes.to_vec(), writable: vec![format!("{namespace}/")] }
    }
}

/// The rights of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access<'a>(&'a QuayToken);

impl<'a> Access<'a> {
    /// Returns the access of the bearer of a token.
    pub(super) fn of(tokens: &'a [QuayToken], authorization: Option<&str>) -> Result<Self, Problem> {
        let Some(authorization) = authorization else {
            return Err(Problem::new(401, "invalid_token", "Requires authentication"));
        };
        let bearer = authorization.strip_prefix("Bearer ");
        let known = bearer.and_then(|bearer| tokens.iter().find(|known| known.token == bearer));
        known.map(Self).ok_or_else(|| Problem::new(401, "invalid_token", "The access token provided was invalid."))
    }

    pub(super) fn require(self, scope: QuayScope) -> Result<(), Problem> {
        let granted = &self.0.scopes;
        let implied = scope == QuayScope::RepoRead && granted.contains(&QuayScope::RepoWrite);
        if granted.contains(&scope) || implied {
            return Ok(());
        }
        Err(Problem::new(403, "insufficient_scope", "Unauthorized"))
    }

    pub(super) fn require_read(self, _: &str) -> Result<(), Problem> {
        self.require(QuayScope::RepoRead)
    }

    pub(super) fn require_write(self, repository: &str) -> Result<(), Problem> {
        if self.may_write(repository) { Ok(()) } else { Err(Problem::new(403, "insufficient_scope", "Unauthorized")) }
    }

    pub(super) fn may_write(self, repository: &str) -> bool {
        let covers =
            |name: &String| *name == repository || name.ends_with('/') && repository.starts_with(name.as_str());
        self.0.scopes.contains(&QuayScope::RepoWrite) && self.0.writable.iter().any(covers)
    }
}

/// A refusal: in the format of RFC 7807 with Quay's additional fields, or in that of its framework.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    status: u16,
    error_type: Option<&'static str>,
    message: String,
}

impl Problem {
    fn new(status: u16, error_type: &'static str, message: &str) -> Self {
        Self { status, error_type: Some(error_type), message: message.to_owned() }
    }

    pub(super) fn not_found() -> Self {
        Self::new(404, "not_found", "Not Found")
    }

    pub(super) fn invalid(message: &str) -> Self {
        Self::new(400, "invalid_request", message)
    }

    pub(super) fn immutable(tag: &str, operation: &str) -> Self {
        Self::new(409, "tag_immutable", &format!("Cannot {operation} immutable tag '{tag}'"))
    }

    /// Creates a refusal in the framework's format.
    pub(super) fn framework(status: u16, message: &str) -> Self {
        Self { status, error_type: None, message: message.to_owned() }
    }

    pub(super) fn into_response_at(self, url: &str) -> Response {
        let mut body = Map::new();
        match self.error_type {
            Some(kind) => {
                body.insert("detail".into(), json!(self.message));
                body.insert("error_message".into(), json!(self.message));
                body.insert("error_type".into(), json!(kind));
                body.insert("title".into(), json!(kind));
                body.insert("type".into(), json!(format!("{url}/api/v1/error/{kind}")));
                body.insert("status".into(), json!(self.status));
            }
            None => drop(body.insert("message".into(), json!(self.message))),
        }
        let status = StatusCode::from_u16(self.status).expect("an HTTP status");
        json_response(status, "application/json", &Value::Object(body))
    }
}
