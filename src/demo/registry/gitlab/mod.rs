//! The dialect of GitLab's container registry: the distribution API, its own lists under `/gitlab/v1`, GitLab's token service,
//! and so much of GitLab's REST API as tells what cleans up there.
//!
//! It follows the registry at version 4.32.0 (`docs/spec/gitlab/api.md` and its source) and gitlabhq's
//! `app/services/auth/container_registry_authentication_service.rb` and `doc/api`. Where a client asks for something that is
//! not published there, it is refused: an unknown parameter, a missing slash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use serde_json::{Value, json};

use self::access::Bearer;
use self::collection::ReviewQueue;
use super::api_request::{ApiRequest, Route, parse_reference};
use super::content::{Content, Reference};
use super::jwt::Key;
use super::response::{ErrorResponse, json_response};
use super::uploads::Uploads;
use super::{Options, TagDeletion};
use crate::apply::Clock;
use crate::domain::RepositoryName;

mod access;
mod collection;
mod lists;
mod rest;

pub use access::{GitlabProject, GitlabRole, GitlabScope, GitlabUser, TagRule};

/// The most patterns of protected and immutable tags that the registry takes.
const MAX_PATTERNS: usize = 5;

/// The set-up of GitLab with its registry.
#[derive(Clone)]
pub struct GitlabOptions {
    /// The clock of pushes, removals and tokens.
    pub clock: Clock,
    /// Its users.
    pub users: Vec<GitlabUser>,
    /// Its projects, by their full path.
    pub projects: BTreeMap<String, GitlabProject>,
    /// The repositories that GitLab is about to delete.
    pub deleting: BTreeSet<String>,
    /// The address of the token service, where that is not this server's own.
    pub realm: Option<String>,
    /// For how long a token for the registry is good.
    pub token_lifetime: SignedDuration,
    /// True if the registry has its metadata database, and so an API of its own.
    pub has_database: bool,
    /// True if one tag can be asked for by its name (since 4.7).
    pub has_exact_filter: bool,
    /// True if the list of tags tells what refers to them (since 3.88).
    pub has_referrers: bool,
    /// The time after which a manifest without references is deleted (`gc.reviewafter`).
    pub review_after: SignedDuration,
    /// What tokens are signed with. Clones share it, so one server can give the tokens of another.
    pub key: SigningKey,
}

/// The key of a token service and of the registries that take its tokens.
#[derive(Debug, Clone)]
pub struct SigningKey(Arc<Key>);

impl SigningKey {
    fn random() -> Self {
        Self(Arc::new(Key::random()))
    }
}

impl GitlabOptions {
    /// A GitLab with that clock, without users and projects.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            users: Vec::new(),
            projects: BTreeMap::new(),
            deleting: BTreeSet::new(),
            realm: None,
            token_lifetime: SignedDuration::from_mins(5),
            has_database: true,
            has_exact_filter: true,
            has_referrers: true,
            review_after: SignedDuration::from_hours(24),
            key: SigningKey::random(),
        }
    }

    /// The same with one more user.
    #[must_use]
    pub fn user(mut self, user: GitlabUser) -> Self {
        self.users.push(user);
        self
    }

    /// The same with one more project.
    #[must_use]
    pub fn with_project(mut self, path: &str, project: GitlabProject) -> Self {
        self.projects.insert(path.to_owned(), project);
        self
    }
}

impl std::fmt::Debug for GitlabOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitlabOptions").field("projects", &self.projects).finish_non_exhaustive()
    }
}

/// The data of a running GitLab, besides the registry's content.
#[derive(Debug)]
pub struct GitlabService {
    options: GitlabOptions,
    /// Time that was made to pass.
    elapsed: SignedDuration,
    reviews: ReviewQueue,
}

impl GitlabService {
    pub(super) fn new(options: &GitlabOptions) -> Self {
        Self { options: options.clone(), elapsed: SignedDuration::ZERO, reviews: ReviewQueue::default() }
    }

    /// The registry's time.
    pub(super) fn now(&self) -> Timestamp {
        (self.options.clock)() + self.elapsed
    }

    pub(super) fn advance_time(&mut self, time: SignedDuration) {
        self.elapsed += time;
    }

    /// Ends all tokens for the registry.
    pub(super) fn expire_tokens(&mut self) {
        self.options.key = SigningKey::random();
    }

    /// The options, to be changed; tokens that were given out stay what they are.
    pub fn options_mut(&mut self) -> &mut GitlabOptions {
        &mut self.options
    }

    /// Deletes the manifests that are due to be collected.
    pub(super) fn collect(&mut self, content: &mut Content) {
        let now = self.now();
        self.reviews.review(now, self.options.review_after, content);
    }

    /// Answers a request as if nothing was wrong with this registry.
    pub(super) fn respond(
        &mut self,
        call: ApiRequest<'_>,
        decoded: &str,
        (url, options): (&str, &Options),
        (content, uploads): (&mut Content, &mut Uploads),
    ) -> Response {
        let authorization = call.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if decoded == "/jwt/auth" && *call.method == Method::GET {
            return self.options.token_response(authorization, call.query, (&self.options.key.0, self.now()));
        }
        if decoded.starts_with("/api/v4/") {
            return rest::respond(&call, url, &self.options, content);
        }
        let realm = self.options.realm.clone().unwrap_or_else(|| format!("{url}/jwt/auth"));
        let mut response = if let Some(path) = decoded.strip_prefix("/gitlab/v1") {
            self.own_api(path, &call, &realm, content)
        } else {
            let answered = self.distribution(call, decoded, &realm, options, (content, uploads));
            answered.unwrap_or_else(IntoResponse::into_response)
        };
        let version = HeaderName::from_static("gitlab-container-registry-version");
        response.headers_mut().insert(version, HeaderValue::from_static("4.32.0-gitlab"));
        response
    }

    fn own_api(&self, path: &str, call: &ApiRequest<'_>, realm: &str, content: &Content) -> Response {
        if !path.ends_with('/') {
            let location = HeaderValue::try_from(format!("{}/", call.path)).expect("a path is plain text");
            return (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, location)]).into_response();
        }
        let Some(route) = OwnRoute::parse(path) else { return not_found() };
        let answered = self.check(call, &route.needed(), realm).and_then(|_| {
            if !self.options.has_database {
                return Ok(StatusCode::NOT_FOUND.into_response());
            }
            if *call.method != Method::GET {
                return Err(ErrorResponse::unsupported());
            }
            if let Some(name) = call.query.names().find(|name| !route.parameters().contains(name)) {
                return Err(lists::invalid_value(&format!("the '{name}' query parameter is not one of this endpoint")));
            }
            match &route {
                OwnRoute::Base => Ok(ok(&json!({}))),
                OwnRoute::Tags(name) => lists::tags(name, call, &self.options, content),
                OwnRoute::Repositories(path) => lists::repositories(path, call, content),
            }
        });
        answered.unwrap_or_else(IntoResponse::into_response)
    }

    fn check(&self, call: &ApiRequest<'_>, needed: &[(String, &str)], realm: &str) -> Result<Bearer, ErrorResponse> {
        let authorization = call.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        Bearer::check(authorization, needed, realm, (&self.options.key.0, self.now()))
    }

    fn distribution(
        &mut self,
        call: ApiRequest<'_>,
        decoded: &str,
        realm: &str,
        options: &Options,
        (content, uploads): (&mut Content, &mut Uploads),
    ) -> Result<Response, ErrorResponse> {
        let Some(route) = Route::parse(decoded).filter(|route| !matches!(route, Route::Referrers { .. })) else {
            return Ok(not_found());
        };
        let needed = route.required_access(call.method, call.query);
        let needed = needed.into_iter().map(|access| (access.repository.unwrap_or_default(), access.action.label()));
        let bearer = self.check(&call, &needed.collect::<Vec<_>>(), realm)?;
        let writes = !matches!(*call.method, Method::GET | Method::HEAD);
        let named = route.name().map(str::to_owned);
        if let Some(name) = named.as_deref().filter(|_| writes)
            && self.options.project(name).is_some_and(|(_, project)| project.renaming)
        {
            let message = "the base repository path is undergoing a rename";
            return Err(ErrorResponse::new(StatusCode::CONFLICT, "RENAME_IN_PROGRESS", message));
        }
        let mut loses_tag = None;
        if let Route::Manifest { name, reference } = &route {
            let reference = parse_reference(reference)?;
            let found = content.resolve(name, &reference);
            match (call.method, &reference) {
                (&Method::DELETE, Reference::Tag(tag)) => validate_tag(tag, bearer.patterns(name, "delete"), true)?,
                (&Method::DELETE, Reference::Digest(_)) => {
                    let (denied, immutable) = bearer.patterns(name, "delete");
                    if !denied.is_empty() || !immutable.is_empty() {
                        let message = "insufficient permissions to delete manifest due to tag protection or immutability \
                                       policies";
                        return Err(ErrorResponse::new(StatusCode::UNAUTHORIZED, "PROTECTED_MANIFEST", message));
                    }
                }
                (&Method::PUT, Reference::Tag(tag)) => {
                    validate_tag(tag, bearer.patterns(name, "push"), found.is_some())?;
                }
                _ => {}
            }
            loses_tag = found.filter(|_| writes).map(|digest| (name.clone(), digest));
        }
        let is_base = route == Route::Ping;
        let options =
            Options { referrers_api: false, tag_deletion: TagDeletion::Untags, page_size: 1000, ..options.clone() };
        let mut response = route.respond(call, &options, content, uploads);
        if let Some((name, digest)) = loses_tag.filter(|_| response.status().is_success()) {
            self.reviews.add(&name, digest, self.now() + self.options.review_after);
        }
        if is_base {
            let database = if self.options.has_database { "true" } else { "false" };
            for (name, value) in [
                ("gitlab-container-registry-features", "tag_delete"),
                ("gitlab-container-registry-database-enabled", database),
            ] {
                response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
        }
        Ok(response)
    }
}

/// Refuses what protected and immutable tags do, by the patterns of the token. An immutable tag that is new may be pushed.
fn validate_tag(tag: &str, (denied, immutable): (Vec<String>, Vec<String>), exists: bool) -> Result<(), ErrorResponse> {
    if denied.len() + immutable.len() > MAX_PATTERNS {
        let message = "tag protection and immutability patterns count limit exceeded";
        return Err(ErrorResponse::new(StatusCode::BAD_REQUEST, "TAG_PATTERN_COUNT_LIMIT_EXCEEDED", message));
    }
    let matches = |patterns: &[String], invalid: &'static str| {
        for pattern in patterns {
            match Regex::new(pattern) {
                Ok(pattern) if pattern.is_match(tag) => return Ok(true),
                Ok(_) => {}
                Err(_) => return Err(ErrorResponse::new(StatusCode::BAD_REQUEST, invalid, "invalid tag pattern")),
            }
        }
        Ok(false)
    };
    let refuse = |code, message: &str, word: &str| {
        let detail = json!(format!("tag \"{tag}\" is {word}"));
        Err(ErrorResponse::new(StatusCode::UNAUTHORIZED, code, message).detail(detail))
    };
    if matches(&denied, "TAG_PROTECTION_PATTERN_INVALID")? {
        return refuse("PROTECTED_TAG", "insufficient permissions to push or delete protected tag", "protected");
    }
    if exists && matches(&immutable, "TAG_IMMUTABILITY_PATTERN_INVALID")? {
        return refuse("IMMUTABLE_TAG", "tag is immutable", "immutable");
    }
    Ok(())
}

/// The thing that a path of the registry's own API names.
#[derive(Debug, PartialEq, Eq)]
enum OwnRoute {
    Base,
    Tags(String),
    Repositories(String),
}

impl OwnRoute {
    /// The route of a decoded path below `/gitlab/v1`, with the slash at its end.
    fn parse(path: &str) -> Option<Self> {
        if path == "/" {
            return Some(Self::Base);
        }
        let of = |prefix: &str, suffix: &str| {
            let name = path.strip_prefix(prefix)?.strip_suffix(suffix)?;
            name.parse::<RepositoryName>().ok().map(|_| name.to_owned())
        };
        let tags = of("/repositories/", "/tags/list/").map(Self::Tags);
        tags.or_else(|| of("/repository-paths/", "/repositories/list/").map(Self::Repositories))
    }

    /// The actions that a token must allow.
    fn needed(&self) -> Vec<(String, &'static str)> {
        match self {
            Self::Base => Vec::new(),
            Self::Tags(name) => vec![(name.clone(), "pull")],
            Self::Repositories(path) => vec![(path.clone(), "pull"), (format!("{path}/*"), "pull")],
        }
    }

    /// The parameters that are published for it, as far as they are simulated.
    fn parameters(&self) -> &'static [&'static str] {
        match self {
            Self::Base => &[],
            Self::Tags(_) => &["n", "last", "name", "name_exact", "referrers"],
            Self::Repositories(_) => &["n", "last"],
        }
    }
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

fn ok(body: &Value) -> Response {
    json_response(StatusCode::OK, "application/json", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_whatever_a_repository_is_called() {
        for (path, expected) in [
            ("/", Some(OwnRoute::Base)),
            ("/repositories/a/b/c/tags/list/", Some(OwnRoute::Tags("a/b/c".into()))),
            ("/repositories/a/tags/list/tags/list/", Some(OwnRoute::Tags("a/tags/list".into()))),
            ("/repository-paths/a/b/repositories/list/", Some(OwnRoute::Repositories("a/b".into()))),
            ("/repositories/A/tags/list/", None),
            ("/repositories/tags/list/", None),
            ("/statistics/", None),
        ] {
            assert_eq!(OwnRoute::parse(path), expected, "{path}");
        }
    }
}
