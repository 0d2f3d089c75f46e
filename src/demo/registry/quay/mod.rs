//! The dialect of Quay: its API under `/api/v1`, with a time machine for removed tags.
//!
//! It follows the source of quay/quay at commit ffba0c70: routes, scopes, page sizes, errors and their texts. Requests
//! for anything that is not published there are refused: an unknown parameter, a missing slash, a body that is not
//! JSON.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use self::access::{Access, Problem};
use self::route::Route;
use self::time_machine::{RemovedTag, TimeMachine};
use super::api_request::{ApiRequest, parse_digest};
use super::content::Content;
use super::response::json_response;
use crate::apply::Clock;
use crate::domain::Digest;

mod access;
mod bodies;
mod route;
mod time_machine;

pub use access::{QuayScope, QuayToken};

/// The options of a registry with Quay's API.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "Quay has these four, each of which can be switched by itself")]
pub struct QuayOptions {
    /// The clock of pushes and removals.
    pub clock: Clock,
    /// The OAuth access tokens that it knows.
    pub tokens: Vec<QuayToken>,
    /// The namespaces, by name.
    pub namespaces: BTreeMap<String, QuayNamespace>,
    /// True if tags can be immutable (`FEATURE_IMMUTABLE_TAGS`).
    pub immutable_tags: bool,
    /// True if it lists the children of indexes, as versions since 3.17 do.
    pub lists_children: bool,
    /// True if it removes the tags of cosign's signatures with the last tag of their image, as quay.io does.
    pub expires_companions: bool,
    /// True if it prunes tags (`FEATURE_AUTO_PRUNE`).
    pub auto_prune: bool,
}

/// A namespace: an organization.
#[derive(Debug, Clone)]
pub struct QuayNamespace {
    /// The period for which removed tags are kept.
    pub time_machine: SignedDuration,
    /// Its auto-prune policies, as the API shows them.
    pub auto_prune: Vec<Value>,
}

/// The state of a repository, which determines the permitted operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuayState {
    /// Everything is permitted.
    Normal,
    /// Reading only.
    ReadOnly,
    /// Reading only; a mirror puts and removes tags.
    Mirror,
}

impl QuayState {
    fn label(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::ReadOnly => "READ_ONLY",
            Self::Mirror => "MIRROR",
        }
    }
}

impl QuayOptions {
    /// Creates options with that clock and one organization, without tokens.
    #[must_use]
    pub fn new(clock: Clock, organization: &str) -> Self {
        let namespace = QuayNamespace { time_machine: SignedDuration::from_hours(14 * 24), auto_prune: Vec::new() };
        Self {
            clock,
            tokens: Vec::new(),
            namespaces: [(organization.to_owned(), namespace)].into(),
            immutable_tags: true,
            lists_children: true,
            expires_companions: true,
            auto_prune: true,
        }
    }

    /// Adds a token.
    #[must_use]
    pub fn token(mut self, token: QuayToken) -> Self {
        self.tokens.push(token);
        self
    }
}

impl std::fmt::Debug for QuayOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuayOptions").field("namespaces", &self.namespaces).finish_non_exhaustive()
    }
}

/// The state of a running registry with Quay's API, besides its content.
#[derive(Debug)]
pub struct QuayService {
    options: QuayOptions,
    /// Simulated elapsed time.
    elapsed: SignedDuration,
    states: BTreeMap<String, QuayState>,
    time_machine: TimeMachine,
}

impl QuayService {
    pub(super) fn new(options: &QuayOptions) -> Self {
        Self {
            options: options.clone(),
            elapsed: SignedDuration::ZERO,
            states: BTreeMap::new(),
            time_machine: TimeMachine::default(),
        }
    }

    /// Returns the registry's time.
    pub(super) fn now(&self) -> Timestamp {
        (self.options.clock)() + self.elapsed
    }

    pub(super) fn advance_time(&mut self, time: SignedDuration) {
        self.elapsed += time;
    }

    /// Revokes all access tokens.
    pub(super) fn expire_tokens(&mut self) {
        self.options.tokens.clear();
    }

    /// Adds an access token.
    pub fn add_token(&mut self, token: QuayToken) {
        self.options.tokens.push(token);
    }

    /// Sets the state of a repository.
    pub fn set_state(&mut self, repository: &str, state: QuayState) {
        self.states.insert(repository.to_owned(), state);
    }

    /// Records in the time machine that a tag named another manifest until `ended`, as a push onto it does.
    pub fn record_former(
        &mut self,
        repository: &str,
        tag: &str,
        digest: &Digest,
        (started, ended): (Timestamp, Timestamp),
    ) {
        let (repository, tag, digest) = (repository.to_owned(), tag.to_owned(), digest.clone());
        self.time_machine.add(RemovedTag { repository, tag, digest, started, ended });
    }

    /// Changes a namespace, which is created if new.
    pub fn set_namespace(&mut self, name: &str, namespace: QuayNamespace) {
        self.options.namespaces.insert(name.to_owned(), namespace);
    }

    /// Permanently deletes content that has left the time machine of its namespace.
    pub(super) fn collect(&mut self, content: &mut Content) {
        let (now, namespaces) = (self.now(), &self.options.namespaces);
        let window = |repository: &str| namespaces.get(namespace_of(repository)).map(|found| found.time_machine);
        self.time_machine.collect(now, window, content);
    }

    fn state(&self, repository: &str) -> QuayState {
        self.states.get(repository).copied().unwrap_or(QuayState::Normal)
    }

    /// Handles a request without faults.
    pub(super) fn respond(
        &mut self,
        call: &ApiRequest<'_>,
        decoded: &str,
        url: &str,
        content: &mut Content,
    ) -> Response {
        if let Some(rest) = decoded.strip_prefix("/v2") {
            return if rest.is_empty() || rest.starts_with('/') { challenge(url) } else { not_found_page() };
        }
        let Some(route) = Route::parse(decoded) else { return not_found_page() };
        if let Route::Tags { .. } | Route::AutoPrune { .. } = &route
            && !decoded.ends_with('/')
        {
            let location = HeaderValue::try_from(format!("{url}{}/", call.path)).expect("a path is plain text");
            return (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, location)]).into_response();
        }
        let answered = self.route(&route, call, content);
        answered.unwrap_or_else(|problem| problem.into_response_at(url))
    }

    fn route(&mut self, route: &Route, call: &ApiRequest<'_>, content: &mut Content) -> Result<Response, Problem> {
        let authorization = call.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let access = Access::of(&self.options.tokens, authorization)?;
        route.check_parameters(call.query)?;
        match (route, call.method) {
            (Route::Repositories, &Method::GET) => {
                access.require(QuayScope::RepoRead)?;
                self.repositories(call, content)
            }
            (Route::Repository { name }, &Method::GET) => {
                access.require_read(name)?;
                self.repository(name, access, content)
            }
            (Route::Tags { name }, &Method::GET) => {
                access.require_read(name)?;
                self.tags(name, call, content)
            }
            (Route::Manifest { name, digest }, &Method::GET) => {
                access.require_read(name)?;
                let digest = parse_digest(digest).map_err(|_| Problem::not_found())?;
                Self::manifest(name, &digest, content)
            }
            (Route::Tag { name, tag }, &Method::DELETE) => {
                access.require_write(name)?;
                self.require_normal(name)?;
                self.delete_tag(name, tag, content)
            }
            (Route::Restore { name, tag }, &Method::POST) => {
                access.require_write(name)?;
                self.require_normal(name)?;
                self.restore_tag(name, tag, &digest_to_restore(call)?, content)
            }
            (Route::AutoPrune { organization }, &Method::GET) if self.options.auto_prune => {
                access.require(QuayScope::OrgAdmin)?;
                let found = self.options.namespaces.get(organization).map(|found| found.auto_prune.clone());
                Ok(ok(&json!({ "policies": found.unwrap_or_default() })))
            }
            (Route::AutoPrune { .. }, _) if !self.options.auto_prune => Err(Problem::framework(404, "Not Found")),
            _ => Err(Problem::framework(405, "The method is not allowed for the requested URL.")),
        }
    }

    fn require_normal(&self, repository: &str) -> Result<(), Problem> {
        match self.state(repository) {
            QuayState::Normal => Ok(()),
            state => {
                let message = format!("Repository is in read only or mirror mode: RepositoryState.{}", state.label());
                Err(Problem::framework(503, &message))
            }
        }
    }

    fn delete_tag(&mut self, name: &str, tag: &str, content: &mut Content) -> Result<Response, Problem> {
        let Some(found) = content.tag(name, tag).cloned() else { return Err(Problem::not_found()) };
        if self.options.immutable_tags && !found.attributes.is_deletable() {
            return Err(Problem::immutable(tag, "delete"));
        }
        self.remove(name, tag, content);
        if self.options.expires_companions && !time_machine::is_companion(tag) {
            let left = content
                .tags(name)
                .into_iter()
                .any(|(other, digest)| digest == found.digest && !time_machine::is_companion(&other));
            let signatures = time_machine::companions(&found.digest).into_iter().filter(|_| !left);
            for signature in signatures {
                let mutable = content.tag(name, &signature).is_some_and(|tag| tag.attributes.is_deletable());
                if mutable {
                    self.remove(name, &signature, content);
                }
            }
        }
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// Moves a tag into the time machine.
    fn remove(&mut self, name: &str, tag: &str, content: &mut Content) {
        let Some(found) = content.tag(name, tag).cloned() else { return };
        content.delete_tag(name, tag);
        self.time_machine.add(RemovedTag {
            repository: name.to_owned(),
            tag: tag.to_owned(),
            digest: found.digest,
            started: found.updated,
            ended: self.now(),
        });
    }

    fn restore_tag(&mut self, name: &str, tag: &str, digest: &str, content: &mut Content) -> Result<Response, Problem> {
        let digest = parse_digest(digest).map_err(|_| Problem::not_found())?;
        if content.manifest(name, &digest).is_none() {
            return Err(Problem::not_found());
        }
        if let Some(found) = content.tag(name, tag) {
            if self.options.immutable_tags && !found.attributes.is_deletable() {
                return Err(Problem::immutable(tag, "overwrite"));
            }
            self.remove(name, tag, content);
        }
        if content.move_tag(name, tag, &digest) { Ok(ok(&json!({}))) } else { Err(Problem::not_found()) }
    }
}

/// Returns the digest in the body of a restore, which must be the published JSON.
fn digest_to_restore(call: &ApiRequest<'_>) -> Result<String, Problem> {
    let kind = call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let body: Option<Value> = serde_json::from_slice(&Bytes::clone(&call.body)).ok();
    let Some(body) = body.filter(|_| kind.starts_with("application/json")) else {
        return Err(Problem::invalid("Missing JSON body"));
    };
    match body.get("manifest_digest").and_then(Value::as_str) {
        Some(digest) => Ok(digest.to_owned()),
        None => Err(Problem::invalid("Missing manifest_digest")),
    }
}

/// Returns Quay's response to requests under `/v2/` without credentials.
fn challenge(url: &str) -> Response {
    let host = url.split_once("://").map_or(url, |(_, host)| host);
    let challenge = format!("Bearer realm=\"{url}/v2/auth\",service=\"{host}\"");
    let body = json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "access to the requested resource is not authorized", "detail": {} }] });
    let mut response = json_response(StatusCode::UNAUTHORIZED, "application/json", &body);
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::try_from(challenge).expect("a URL is plain text"));
    response
}

fn not_found_page() -> Response {
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], "<!doctype html><title>404</title>")
        .into_response()
}

fn ok(body: &Value) -> Response {
    json_response(StatusCode::OK, "application/json", body)
}

/// Returns the part of a repository's name before its first slash.
fn namespace_of(repository: &str) -> &str {
    repository.split('/').next().unwrap_or_default()
}
