//! Accounts with their permissions, and refusals in Harbor's words.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::json;

use super::HarborProject;
use crate::demo::registry::response::json_response;

/// A permission: a resource and an action, such as `tag` and `delete`.
pub type HarborPermission = (&'static str, &'static str);

/// The permissions to read in a project.
pub const HARBOR_READS: &[HarborPermission] = &[
    ("project", "read"),
    ("repository", "list"),
    ("repository", "read"),
    ("repository", "pull"),
    ("artifact", "list"),
    ("artifact", "read"),
    ("tag", "list"),
    ("accessory", "list"),
    ("immutable-tag", "list"),
    ("tag-retention", "read"),
];

/// The further permissions to remove and restore tags.
pub const HARBOR_REMOVES: &[HarborPermission] = &[("tag", "delete"), ("tag", "create")];

/// An account: a user, or a robot.
#[derive(Debug, Clone)]
pub struct HarborAccount {
    /// Its name, with the prefix of robots where it is one.
    pub name: String,
    /// Its password or secret.
    pub secret: String,
    /// The time at which it expires.
    pub expires_at: Option<Timestamp>,
    /// Its permissions, by project.
    pub projects: BTreeMap<String, BTreeSet<HarborPermission>>,
    /// Its permissions in the whole system.
    pub system: BTreeSet<HarborPermission>,
}

impl HarborAccount {
    /// An account that may do nothing yet.
    #[must_use]
    pub fn new(name: &str, secret: &str) -> Self {
        Self {
            name: name.to_owned(),
            secret: secret.to_owned(),
            expires_at: None,
            projects: BTreeMap::new(),
            system: BTreeSet::new(),
        }
    }

    /// The same with further permissions in a project.
    #[must_use]
    pub fn project(mut self, project: &str, permissions: &[HarborPermission]) -> Self {
        self.projects.entry(project.to_owned()).or_default().extend(permissions);
        self
    }

    /// The same with further permissions in the system.
    #[must_use]
    pub fn system(mut self, permissions: &[HarborPermission]) -> Self {
        self.system.extend(permissions);
        self
    }
}

/// The rights of one request: those of an account, or of a stranger.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access<'a>(Option<&'a HarborAccount>);

impl<'a> Access<'a> {
    /// That of the sender of an `Authorization` header. Unknown credentials make a stranger, as with Harbor.
    pub(super) fn of(accounts: &'a [HarborAccount], authorization: Option<&str>, now: Timestamp) -> Self {
        let decoded = authorization
            .and_then(|value| value.strip_prefix("Basic "))
            .and_then(|text| STANDARD.decode(text).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let known = decoded.as_deref().and_then(|pair| pair.split_once(':')).and_then(|(name, secret)| {
            accounts.iter().find(|account| account.name == name && account.secret == secret)
        });
        Self(known.filter(|account| account.expires_at.is_none_or(|end| now < end)))
    }

    pub(super) fn is_authenticated(self) -> bool {
        self.0.is_some()
    }

    /// Returns true if a project is among those that the account is shown.
    pub(super) fn sees(self, name: &str, project: &HarborProject) -> bool {
        project.public || self.0.is_some_and(|account| account.projects.contains_key(name))
    }

    pub(super) fn permissions(self, name: &str) -> impl Iterator<Item = HarborPermission> {
        self.0.and_then(|account| account.projects.get(name)).into_iter().flatten().copied()
    }

    pub(super) fn may(self, name: &str, project: Option<&HarborProject>, needed: HarborPermission) -> bool {
        let public = project.is_some_and(|project| project.public)
            && matches!(needed.1, "list" | "read" | "pull")
            && matches!(needed.0, "repository" | "artifact" | "tag" | "accessory" | "project");
        public || self.permissions(name).any(|granted| granted == needed)
    }

    pub(super) fn require(
        self,
        name: &str,
        project: Option<&HarborProject>,
        needed: HarborPermission,
    ) -> Result<(), Problem> {
        if self.may(name, project, needed) { Ok(()) } else { Err(self.refusal()) }
    }

    pub(super) fn require_system(self, needed: HarborPermission) -> Result<(), Problem> {
        let granted = self.0.is_some_and(|account| account.system.contains(&needed));
        if granted { Ok(()) } else { Err(self.refusal()) }
    }

    pub(super) fn require_authenticated(self) -> Result<(), Problem> {
        if self.is_authenticated() { Ok(()) } else { Err(self.refusal()) }
    }

    fn refusal(self) -> Problem {
        match self.0 {
            Some(_) => Problem::new(403, "FORBIDDEN", "forbidden"),
            None => Problem::new(401, "UNAUTHORIZED", "unauthorized"),
        }
    }
}

/// A refusal: in Harbor's form, or in that of the framework that routes requests.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    status: u16,
    code: Option<&'static str>,
    message: String,
}

impl Problem {
    pub(super) fn new(status: u16, code: &'static str, message: &str) -> Self {
        Self { status, code: Some(code), message: message.to_owned() }
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::new(404, "NOT_FOUND", &format!("{what} not found"))
    }

    pub(super) fn bad_request(message: &str) -> Self {
        Self::new(400, "BAD_REQUEST", message)
    }

    pub(super) fn invalid(message: &str) -> Self {
        Self::new(422, "UNPROCESSABLE_ENTITY", message)
    }

    pub(super) fn immutable(tag: &str) -> Self {
        Self::new(412, "PRECONDITION", &format!("the tag {tag} configured as immutable, cannot be deleted"))
    }

    pub(super) fn read_only() -> Self {
        let message = "The system is in read only mode. Any modification is prohibited.";
        Self::new(403, "DENIED", message)
    }

    /// The framework's own words.
    pub(super) fn framework(status: u16, message: &str) -> Self {
        Self { status, code: None, message: message.to_owned() }
    }

    pub(super) fn into_response(self) -> Response {
        let body = match self.code {
            Some(code) => json!({ "errors": [{ "code": code, "message": self.message }] }),
            None => json!({ "code": self.status, "message": self.message }),
        };
        let status = StatusCode::from_u16(self.status).expect("an HTTP status");
        json_response(status, "application/json; charset=utf-8", &body)
    }
}
