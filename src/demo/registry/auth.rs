//! Authorization: basic authentication, and bearer tokens from a token endpoint with enforced scopes.
//!
//! The flow is that of distribution's token specification: a 401 names realm, service and scope; the client asks the
//! realm for a token of that scope and repeats its request with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::time::Instant;

use super::response::{ErrorResponse, Query, json_response};
use crate::domain::Digest;

/// The authentication of clients.
#[derive(Debug, Clone, Default)]
pub enum AuthMode {
    /// None.
    #[default]
    Open,
    /// User and password with every request.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// Tokens from the registry's own `/token`.
    Bearer {
        /// The user.
        user: String,
        /// The password.
        password: String,
        /// The lifetime of a token.
        lifetime: Duration,
        /// True if anonymous clients get tokens to pull.
        anonymous_pull: bool,
    },
}

/// An action that a client may be allowed to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Read a repository.
    Pull,
    /// Write to it.
    Push,
    /// Delete in it.
    Delete,
    /// List the repositories.
    Catalog,
}

/// One action on one repository; the catalogue has no repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Access {
    pub(super) repository: Option<String>,
    pub(super) action: Action,
}

impl Access {
    pub(super) fn catalog() -> Self {
        Self { repository: None, action: Action::Catalog }
    }

    pub(super) fn to(repository: &str, action: Action) -> Self {
        Self { repository: Some(repository.to_owned()), action }
    }

    /// Returns the access that distribution requires for a request to a repository.
    pub(super) fn of_method(repository: &str, method: &Method) -> Vec<Self> {
        match *method {
            Method::GET | Method::HEAD => vec![Self::to(repository, Action::Pull)],
            Method::DELETE => vec![Self::to(repository, Action::Delete)],
            _ => vec![Self::to(repository, Action::Pull), Self::to(repository, Action::Push)],
        }
    }
}

impl Action {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::Catalog => "*",
        }
    }
}

/// The issued tokens.
#[derive(Debug, Default)]
pub(super) struct IssuedTokens {
    issued: BTreeMap<String, Token>,
    count: u64,
}

#[derive(Debug)]
struct Token {
    expires_at: Instant,
    allows: BTreeSet<Access>,
}

/// The rules of one registry: its authentication, and actions denied even to authenticated clients.
pub(super) struct Guard<'a> {
    pub(super) mode: &'a AuthMode,
    pub(super) denied: &'a [Action],
    pub(super) host: &'a str,
}

impl Guard<'_> {
    /// Admits a request, or returns the challenge for the missing access.
    pub(super) fn authorize(
        &self,
        authorization: Option<&str>,
        needed: &[Access],
        tokens: &IssuedTokens,
    ) -> Result<(), ErrorResponse> {
        match self.mode {
            AuthMode::Open => self.permit(needed),
            AuthMode::Basic { user, password } => {
                if authorization.and_then(parse_basic) == Some((user.clone(), password.clone())) {
                    return self.permit(needed);
                }
                Err(unauthorized("authentication required").challenge("Basic realm=\"embedded\"".to_owned()))
            }
            AuthMode::Bearer { .. } => {
                let presented = authorization.and_then(|value| value.strip_prefix("Bearer "));
                let problem = match presented.map(|token| tokens.issued.get(token)) {
                    None => None,
                    Some(None) => Some("invalid_token"),
                    Some(Some(token)) if token.expires_at <= Instant::now() => Some("invalid_token"),
                    Some(Some(token)) if needed.iter().all(|access| token.allows.contains(access)) => return Ok(()),
                    Some(Some(_)) => Some("insufficient_scope"),
                };
                Err(unauthorized("authentication required").challenge(self.challenge(needed, problem)))
            }
        }
    }

    fn permit(&self, needed: &[Access]) -> Result<(), ErrorResponse> {
        match needed.iter().find(|access| self.denied.contains(&access.action)) {
            None => Ok(()),
            Some(access) => {
                let message = "requested access to the resource is denied";
                Err(ErrorResponse::new(StatusCode::FORBIDDEN, "DENIED", message).detail(json!(format_scope([access]))))
            }
        }
    }

    fn challenge(&self, needed: &[Access], problem: Option<&str>) -> String {
        let realm = format!("Bearer realm=\"http://{0}/token\",service=\"{0}\"", self.host);
        let scope = match needed {
            [] => String::new(),
            needed => format!(",scope=\"{}\"", format_scope(needed)),
        };
        let problem = problem.map(|problem| format!(",error=\"{problem}\"")).unwrap_or_default();
        realm + &scope + &problem
    }

    /// Handles the token endpoint: `GET` with or without basic authentication, or `POST` of a password grant.
    pub(super) fn token_response(
        &self,
        method: &Method,
        authorization: Option<&str>,
        query: &Query,
        form: &Query,
        tokens: &mut IssuedTokens,
    ) -> Response {
        let AuthMode::Bearer { user, password, lifetime, anonymous_pull } = self.mode else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let (presented, parameters) = match *method {
            Method::GET => (authorization.and_then(parse_basic), query),
            Method::POST => {
                let given = form.get("username").zip(form.get("password"));
                (given.map(|(user, password)| (user.to_owned(), password.to_owned())), form)
            }
            _ => return ErrorResponse::unsupported().into_response(),
        };
        let anonymous = presented.is_none() && authorization.is_none();
        if presented.is_some_and(|given| given != (user.clone(), password.clone())) || (anonymous && !anonymous_pull) {
            return unauthorized("incorrect username or password").into_response();
        }
        let asked = parameters.all("scope").flat_map(str::split_whitespace).flat_map(parse_scope);
        let allows = asked
            .filter(|access| !self.denied.contains(&access.action))
            .filter(|access| !anonymous || access.action == Action::Pull)
            .collect();
        tokens.count += 1;
        let token = Digest::of(format!("{password}\n{}", tokens.count).as_bytes()).hex();
        tokens.issued.insert(token.clone(), Token { expires_at: Instant::now() + *lifetime, allows });
        let body = json!({ "token": token, "access_token": token, "expires_in": lifetime.as_secs() });
        json_response(StatusCode::OK, "application/json", &body)
    }
}

impl IssuedTokens {
    /// Invalidates every issued token.
    pub(super) fn expire(&mut self) {
        self.issued.clear();
    }
}

fn unauthorized(message: &str) -> ErrorResponse {
    ErrorResponse::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
}

/// Parses the user and the password of a header.
pub(super) fn parse_basic(authorization: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(STANDARD.decode(authorization.strip_prefix("Basic ")?).ok()?).ok()?;
    decoded.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

/// Formats scopes such as `repository:shop/api:pull,push`, joined by spaces.
fn format_scope<'a>(accesses: impl IntoIterator<Item = &'a Access>) -> String {
    let mut actions: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
    for access in accesses {
        actions.entry(access.repository.as_deref()).or_default().push(access.action.label());
    }
    let scopes = actions.into_iter().map(|(repository, actions)| match repository {
        Some(name) => format!("repository:{name}:{}", actions.join(",")),
        None => "registry:catalog:*".to_owned(),
    });
    scopes.collect::<Vec<_>>().join(" ")
}

/// Parses one scope. Unknown parts grant nothing.
fn parse_scope(text: &str) -> Vec<Access> {
    let parts =
        text.split_once(':').and_then(|(kind, rest)| rest.rsplit_once(':').map(|(name, what)| (kind, name, what)));
    match parts {
        Some(("registry", "catalog", "*")) => vec![Access::catalog()],
        Some(("repository", name, actions)) => {
            let all = [Action::Pull, Action::Push, Action::Delete];
            let asked = |action: &Action| actions.split(',').any(|word| word == "*" || word == action.label());
            all.into_iter().filter(asked).map(|action| Access::to(name, action)).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_as_they_are_written() {
        let needed = Access::of_method("shop/api", &Method::PUT);
        assert_eq!(format_scope(&needed), "repository:shop/api:pull,push");
        assert_eq!(parse_scope(&format_scope(&needed)), needed);
        assert_eq!(parse_scope("registry:catalog:*"), [Access::catalog()]);
        assert_eq!(parse_scope("repository:a/b:*").len(), 3);
        for nothing in ["", "repository:a", "repository(plugin):a:pull", "registry:catalog:pull"] {
            assert_eq!(parse_scope(nothing), [], "{nothing}");
        }
    }
}
