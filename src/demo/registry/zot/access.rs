//! Users with passwords, and what `accessControl` lets each of them do.

use axum::http::{HeaderValue, Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::demo::registry::response::ErrorResponse;

/// A user. Each list has names of repositories, or prefixes that end with a slash.
#[derive(Debug, Clone)]
pub struct ZotUser {
    /// The name.
    pub name: String,
    /// The password, or an API key.
    pub password: String,
    /// The repositories with the action `read`.
    pub read: Vec<String>,
    /// Those with `create` and `update`.
    pub write: Vec<String>,
    /// Those with `delete`.
    pub delete: Vec<String>,
}

impl ZotUser {
    /// Creates a user who may do everything below a prefix.
    #[must_use]
    pub fn new(name: &str, password: &str, prefix: &str) -> Self {
        let all = || vec![prefix.to_owned()];
        Self { name: name.into(), password: password.into(), read: all(), write: all(), delete: all() }
    }
}

/// The rights of one request: those of its user, or all of them if the registry has no users.
pub(super) struct Access<'a>(Option<&'a ZotUser>);

impl<'a> Access<'a> {
    pub(super) fn of(users: &'a [ZotUser], authorization: Option<&HeaderValue>) -> Result<Self, ErrorResponse> {
        if users.is_empty() {
            return Ok(Self(None));
        }
        let encoded = authorization.and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
        let decoded = encoded.and_then(|encoded| String::from_utf8(STANDARD.decode(encoded).ok()?).ok());
        let found = decoded
            .as_deref()
            .and_then(|pair| pair.split_once(':'))
            .and_then(|(name, password)| users.iter().find(|user| user.name == name && user.password == password));
        found.map(|user| Self(Some(user))).ok_or_else(|| {
            let message = "authentication required";
            ErrorResponse::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
                .challenge("Basic realm=\"Authorization Required\"".into())
        })
    }

    pub(super) fn may_read(&self, repository: &str) -> bool {
        self.0.is_none_or(|user| covers(&user.read, repository))
    }

    pub(super) fn may_delete(&self, repository: &str) -> bool {
        self.0.is_none_or(|user| covers(&user.delete, repository))
    }

    /// Refuses what the user may not do.
    pub(super) fn require(&self, repository: &str, method: &Method) -> Result<(), ErrorResponse> {
        let allowed = match *method {
            Method::GET | Method::HEAD => self.may_read(repository),
            Method::DELETE => self.may_delete(repository),
            _ => self.0.is_none_or(|user| covers(&user.write, repository)),
        };
        let message = "requested access to the resource is denied";
        if allowed { Ok(()) } else { Err(ErrorResponse::new(StatusCode::FORBIDDEN, "DENIED", message)) }
    }
}

fn covers(names: &[String], repository: &str) -> bool {
    names.iter().any(|name| name == repository || name.ends_with('/') && repository.starts_with(name.as_str()))
}
