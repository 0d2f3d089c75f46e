//! The dialect of Docker Hub: its API as its `OpenAPI` description has it, the unpublished removal of a tag, and its registry.
//!
//! It follows docker/docs, `content/reference/api/hub/latest.yaml`: paths, parameters, sizes of pages, errors and their form.
//! Rows and repositories have the fields of recorded answers, `permissions` and `immutable_tags_settings` among them. What is
//! not published is refused, but for the removal. Both hosts are this one here.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use serde_json::{Value, json};

use super::Options;
use super::api_request::{ApiRequest, Route};
use super::auth::{Guard, IssuedTokens};
use super::content::Content;
use super::response::{Query, json_response};
use super::uploads::Uploads;
use crate::apply::Clock;
use crate::demo::image::media_type;
use crate::domain::Digest;

mod rows;

/// The lifetime of a token of the API.
const LIFETIME: SignedDuration = SignedDuration::from_mins(10);

/// The options of a Docker Hub.
#[derive(Clone)]
pub struct DockerHubOptions {
    /// The clock of pushes, pulls and tokens.
    pub clock: Clock,
    /// The accounts.
    pub accounts: Vec<DockerHubAccount>,
    /// The patterns of immutable tags, by repository.
    pub immutable: BTreeMap<String, Vec<String>>,
    /// The repositories that only accounts see that may write to them. Others are told that these do not exist.
    pub private: BTreeSet<String>,
    /// The effect of a removal on an image that loses its last tag: true if it is deleted.
    pub deletes_images: bool,
    /// The requests to the API that are answered in a minute.
    pub requests_per_minute: u64,
}

/// A user or an organization with an access token.
#[derive(Debug, Clone)]
pub struct DockerHubAccount {
    /// The identifier.
    pub identifier: String,
    /// The access token.
    pub secret: String,
    /// The repositories to which it may write: names, or prefixes that end with a slash.
    pub writable: Vec<String>,
    /// True if the token has the scope to delete.
    pub may_delete: bool,
}

impl DockerHubAccount {
    /// Creates an account that may do everything in a namespace.
    #[must_use]
    pub fn new(identifier: &str, secret: &str, namespace: &str) -> Self {
        let writable = vec![format!("{namespace}/")];
        Self { identifier: identifier.to_owned(), secret: secret.to_owned(), writable, may_delete: true }
    }

    fn may_write(&self, repository: &str) -> bool {
        let covers =
            |name: &String| *name == repository || name.ends_with('/') && repository.starts_with(name.as_str());
        self.writable.iter().any(covers)
    }
}

impl DockerHubOptions {
    /// Creates options with that clock, without accounts.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            accounts: Vec::new(),
            immutable: BTreeMap::new(),
            private: BTreeSet::new(),
            deletes_images: false,
            requests_per_minute: u64::MAX,
        }
    }

    /// Adds an account.
    #[must_use]
    pub fn account(mut self, account: DockerHubAccount) -> Self {
        self.accounts.push(account);
        self
    }
}

impl std::fmt::Debug for DockerHubOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerHubOptions").field("immutable", &self.immutable).finish_non_exhaustive()
    }
}

/// The state of a running Docker Hub, besides its content.
#[derive(Debug)]
pub struct DockerHubService {
    /// Its options, which a test may change.
    pub options: DockerHubOptions,
    /// Simulated elapsed time.
    elapsed: SignedDuration,
    /// The accounts of tokens, with the ends of these.
    tokens: BTreeMap<String, (String, Timestamp)>,
    given: u64,
    /// The pulls of tags and of images, by repository.
    pulls: BTreeMap<(String, String), Timestamp>,
    /// The requests of the minute that began then.
    used: (Timestamp, u64),
}

/// A refusal of the API, in its form.
struct Problem(u16, &'static str);

impl Problem {
    const NOT_FOUND: Self = Self(404, "object not found");

    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0).expect("an HTTP status");
        json_response(status, "application/json", &json!({ "message": self.1, "errinfo": {} }))
    }
}

impl DockerHubService {
    pub(super) fn new(options: &DockerHubOptions) -> Self {
        Self {
            options: options.clone(),
            elapsed: SignedDuration::ZERO,
            tokens: BTreeMap::new(),
            given: 0,
            pulls: BTreeMap::new(),
            used: (Timestamp::UNIX_EPOCH, 0),
        }
    }

    /// Returns the registry's time.
    pub(super) fn now(&self) -> Timestamp {
        (self.options.clock)() + self.elapsed
    }

    pub(super) fn advance_time(&mut self, time: SignedDuration) {
        self.elapsed += time;
    }

    /// Ends all tokens of the API that were given out.
    pub(super) fn expire_tokens(&mut self) {
        self.tokens.clear();
    }

    /// Handles a request without faults.
    pub(super) fn respond(
        &mut self,
        call: ApiRequest<'_>,
        path: &str,
        (url, host, options): (&str, &str, &Options),
        (content, uploads, issued): (&mut Content, &mut Uploads, &mut IssuedTokens),
    ) -> Response {
        let is_api = ["/v2/auth/", "/v2/namespaces/", "/v2/repositories/"].iter().any(|start| path.starts_with(start));
        if is_api {
            return self.api(&call, path, url, content);
        }
        let authorization = call.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let guard = Guard { mode: &options.auth, denied: &options.denied, host };
        if path == "/token" {
            let form = Query::parse(&String::from_utf8_lossy(&call.body));
            return guard.token_response(call.method, authorization, call.query, &form, issued);
        }
        let Some(route) = Route::parse(path) else {
            return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
        };
        if let Err(failure) = guard.authorize(authorization, &route.required_access(call.method, call.query), issued) {
            return failure.into_response();
        }
        if let (Route::Manifest { name, reference }, &Method::GET) = (&route, call.method) {
            self.pulls.insert((name.clone(), reference.clone()), self.now());
        }
        if *call.method == Method::DELETE {
            return super::response::ErrorResponse::unsupported().into_response();
        }
        route.respond(call, options, content, uploads)
    }

    fn api(&mut self, call: &ApiRequest<'_>, path: &str, url: &str, content: &mut Content) -> Response {
        let now = self.now();
        if now.duration_since(self.used.0) >= SignedDuration::from_mins(1) {
            self.used = (now, 0);
        }
        self.used.1 += 1;
        let (limit, reset) = (self.options.requests_per_minute, self.used.0.as_second() + 60);
        let mut response = if self.used.1 > limit {
            let body = json!({ "detail": "Rate limit exceeded", "error": false });
            let mut response = json_response(StatusCode::TOO_MANY_REQUESTS, "application/json", &body);
            response.headers_mut().insert("x-retry-after", HeaderValue::from(reset));
            response
        } else if path == "/v2/auth/token" {
            self.sign_in(call)
        } else {
            self.route(call, path, url, content).unwrap_or_else(Problem::into_response)
        };
        for (name, value) in [
            ("x-ratelimit-limit", i64::try_from(limit).unwrap_or(i64::MAX)),
            ("x-ratelimit-remaining", i64::try_from(limit.saturating_sub(self.used.1)).unwrap_or(i64::MAX)),
            ("x-ratelimit-reset", reset),
        ] {
            response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(value));
        }
        response
    }

    fn sign_in(&mut self, call: &ApiRequest<'_>) -> Response {
        if *call.method != Method::POST {
            return Problem(405, "method not allowed").into_response();
        }
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let (identifier, secret) = (body["identifier"].as_str(), body["secret"].as_str());
        let (Some(identifier), Some(secret)) = (identifier, secret) else {
            return Problem(400, "identifier and secret are required").into_response();
        };
        let known = |account: &&DockerHubAccount| account.identifier == identifier && account.secret == secret;
        if !self.options.accounts.iter().any(|account| known(&account)) {
            let body = json!({ "detail": "incorrect authentication credentials" });
            return json_response(StatusCode::UNAUTHORIZED, "application/json", &body);
        }
        self.given += 1;
        let token = Digest::of(format!("{secret}\n{}", self.given).as_bytes()).hex();
        self.tokens.insert(token.clone(), (identifier.to_owned(), self.now() + LIFETIME));
        json_response(StatusCode::OK, "application/json", &json!({ "access_token": token }))
    }

    /// The account of a request, or `None` for an anonymous one.
    fn account(&self, call: &ApiRequest<'_>) -> Result<Option<DockerHubAccount>, Problem> {
        let Some(value) = call.headers.get(header::AUTHORIZATION) else { return Ok(None) };
        // Older clients write `JWT`.
        let token = value.to_str().ok();
        let token = token.and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("JWT ")));
        let known = token.and_then(|token| self.tokens.get(token)).filter(|(_, end)| *end > self.now());
        let found = known
            .and_then(|(identifier, _)| self.options.accounts.iter().find(|account| account.identifier == *identifier));
        found.map(|account| Some(account.clone())).ok_or(Problem(401, "invalid token"))
    }

    fn route(
        &mut self,
        call: &ApiRequest<'_>,
        path: &str,
        url: &str,
        content: &mut Content,
    ) -> Result<Response, Problem> {
        let account = self.account(call)?;
        let parts: Vec<&str> = path.trim_start_matches("/v2/").split('/').collect();
        let known: &[&str] = match &*parts {
            ["namespaces", _, "repositories"] => &["page", "page_size", "name", "ordering"],
            ["namespaces", _, "repositories", _, "tags"] => &["page", "page_size"],
            _ => &[],
        };
        if call.query.names().any(|name| !known.contains(&name)) {
            return Err(Problem(400, "unknown parameter"));
        }
        match (&*parts, call.method) {
            (["namespaces", namespace, "repositories"], &Method::GET) => {
                let all = content.repositories().filter(|name| self.may_see(name, account.as_ref()));
                let names = all.filter_map(|name| name.strip_prefix(&format!("{namespace}/"))).collect();
                page(call, url, names, |name| Some(json!({ "name": name, "namespace": namespace })))
            }
            (["namespaces", namespace, "repositories", name], &Method::GET | &Method::HEAD) => {
                let name = self.existing(namespace, name, account.as_ref(), content)?;
                Ok(ok(&self.about(&name, account.as_ref())))
            }
            (["namespaces", namespace, "repositories", name, "tags"], &Method::GET | &Method::HEAD) => {
                let name = self.existing(namespace, name, account.as_ref(), content)?;
                let tags = rows::tags(&name, content);
                page(call, url, tags, |(tag, _)| rows::row(&name, &tag, &self.pulls, content))
            }
            (["namespaces", namespace, "repositories", name, "tags", tag], &Method::GET | &Method::HEAD) => {
                let name = self.existing(namespace, name, account.as_ref(), content)?;
                let row = rows::row(&name, tag, &self.pulls, content);
                row.map(|row| ok(&row)).ok_or(Problem::NOT_FOUND)
            }
            (["repositories", namespace, name, "tags", tag, ""], &Method::DELETE) => {
                let name = self.existing(namespace, name, account.as_ref(), content)?;
                self.delete(&name, tag, account, content)
            }
            (_, &Method::GET | &Method::HEAD) => Err(Problem::NOT_FOUND),
            _ => Err(Problem(405, "method not allowed")),
        }
    }

    /// Whether an account may see a repository.
    fn may_see(&self, name: &str, account: Option<&DockerHubAccount>) -> bool {
        !self.options.private.contains(name) || account.is_some_and(|account| account.may_write(name))
    }

    /// The full name of a repository, if the account may see it. Any other is answered as one that does not exist.
    fn existing(
        &self,
        namespace: &str,
        name: &str,
        account: Option<&DockerHubAccount>,
        content: &Content,
    ) -> Result<String, Problem> {
        let name = format!("{namespace}/{name}");
        let seen = content.has_repository(&name) && self.may_see(&name, account);
        if seen { Ok(name) } else { Err(Problem::NOT_FOUND) }
    }

    fn about(&self, name: &str, account: Option<&DockerHubAccount>) -> Value {
        let (namespace, own) = name.split_once('/').unwrap_or(("library", name));
        let rules = self.options.immutable.get(name);
        let writes = account.is_some_and(|account| account.may_write(name));
        json!({
            "name": own,
            "namespace": namespace,
            "repository_type": "image",
            "status": 1,
            "permissions": { "read": true, "write": writes, "admin": false },
            "immutable_tags_settings": {
                "enabled": rules.is_some(), "rules": rules.cloned().unwrap_or_else(|| vec![".*".to_owned()]),
            },
            "storage_size": null,
        })
    }

    fn delete(
        &self,
        name: &str,
        tag: &str,
        account: Option<DockerHubAccount>,
        content: &mut Content,
    ) -> Result<Response, Problem> {
        let account = account.ok_or(Problem(401, "authentication required"))?;
        if !account.may_write(name) || !account.may_delete {
            return Err(Problem(403, "insufficient scope"));
        }
        let Some(digest) = content.tag(name, tag).map(|found| found.digest.clone()) else {
            return Err(Problem::NOT_FOUND);
        };
        let matches = |rule: &String| Regex::new(rule).is_ok_and(|rule| rule.is_match(tag));
        if self.options.immutable.get(name).is_some_and(|rules| rules.iter().any(matches)) {
            return Err(Problem(403, "cannot delete tag: it is immutable"));
        }
        content.delete_tag(name, tag);
        if self.options.deletes_images && !content.tags(name).values().any(|other| *other == digest) {
            content.delete_manifest(name, &digest);
        }
        Ok(StatusCode::NO_CONTENT.into_response())
    }
}

/// A page of a list: the number from 1, at most a hundred rows, and a 404 after the last.
fn page<T>(
    call: &ApiRequest<'_>,
    url: &str,
    rows: Vec<T>,
    row: impl Fn(T) -> Option<Value>,
) -> Result<Response, Problem> {
    let number = |name: &str, default: usize| match call.query.get(name).map(str::parse::<usize>) {
        None => Ok(default),
        Some(Ok(number)) if number >= 1 => Ok(number),
        Some(_) => Err(Problem(400, "invalid page")),
    };
    let (page, size) = (number("page", 1)?, number("page_size", 10)?.min(100));
    let (count, start) = (rows.len(), (page - 1) * size);
    if page > 1 && start >= count {
        return Err(Problem(404, "page not found"));
    }
    let link = |page: usize| json!(format!("{url}{}?page={page}&page_size={size}", call.path));
    let next = if start + size < count { link(page + 1) } else { Value::Null };
    let previous = if page > 1 { link(page - 1) } else { Value::Null };
    let rows: Vec<Value> = rows.into_iter().skip(start).take(size).filter_map(row).collect();
    Ok(ok(&json!({ "count": count, "next": next, "previous": previous, "results": rows })))
}

fn ok(body: &Value) -> Response {
    json_response(StatusCode::OK, "application/json", body)
}

/// Returns true for the type of an index.
fn is_index(kind: &str) -> bool {
    [media_type::OCI_INDEX, media_type::DOCKER_LIST].contains(&kind)
}
