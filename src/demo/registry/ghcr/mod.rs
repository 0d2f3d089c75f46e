//! The dialect of GitHub's container registry: GitHub's REST API for packages under `/api/v3`, and the registry under `/v2/`.
//!
//! The API follows GitHub's published description (version 2022-11-28): unknown parameters, bodies and sizes of pages are
//! refused, and scopes, the primary limit and GitHub's rules on deletions are enforced. No tag can be removed alone, and the
//! registry itself deletes nothing.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use self::access::{JSON, Problem, RegistryTokens};
use self::route::{OwnerPath, PREFIX, Route};
use self::versions::DeletedVersion;
use super::Options;
use super::api_request::{ApiRequest, Route as RegistryRoute};
use super::auth::Action;
use super::content::Content;
use super::response::{ErrorResponse, json_response};
use super::uploads::Uploads;
use crate::apply::Clock;
use crate::domain::Digest;

mod access;
mod route;
mod versions;

pub use access::GithubToken;

/// The options of a registry with GitHub's API.
#[derive(Clone)]
pub struct GhcrOptions {
    /// The clock of pushes and deletions.
    pub clock: Clock,
    /// The tokens that it knows.
    pub tokens: Vec<GithubToken>,
    /// The organizations. Every other owner is a user.
    pub organizations: Vec<String>,
    /// Repositories that no token may see.
    pub hidden: BTreeSet<String>,
    /// Repositories in which no token's user is an administrator.
    pub not_administered: BTreeSet<String>,
    /// Public repositories. Of these, GitHub deletes no version that was downloaded too often.
    pub public: BTreeSet<String>,
    /// Downloads of versions.
    pub downloads: BTreeMap<(String, Digest), u64>,
    /// Requests of the primary limit.
    pub hourly_limit: u64,
    /// True if a restored version gets its tags back, wherever they are by then.
    pub restores_tags: bool,
}

impl GhcrOptions {
    /// Creates options with that clock and one organization, without tokens.
    #[must_use]
    pub fn new(clock: Clock, organization: &str) -> Self {
        Self {
            clock,
            tokens: Vec::new(),
            organizations: vec![organization.to_owned()],
            hidden: BTreeSet::new(),
            not_administered: BTreeSet::new(),
            public: BTreeSet::new(),
            downloads: BTreeMap::new(),
            hourly_limit: 5000,
            restores_tags: true,
        }
    }

    /// Adds a token.
    #[must_use]
    pub fn token(mut self, token: GithubToken) -> Self {
        self.tokens.push(token);
        self
    }
}

impl std::fmt::Debug for GhcrOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GhcrOptions").field("organizations", &self.organizations).finish_non_exhaustive()
    }
}

/// The state of a running registry with GitHub's API, besides its content.
#[derive(Debug)]
pub struct GhcrService {
    /// The options, which may change.
    pub options: GhcrOptions,
    /// Simulated elapsed time.
    elapsed: SignedDuration,
    registry_tokens: RegistryTokens,
    /// The ids of versions, in the order in which they were first seen.
    ids: BTreeMap<String, BTreeMap<Digest, u64>>,
    next_id: u64,
    /// The push and the last change of versions, where they differ from those of their manifests.
    dates: BTreeMap<String, BTreeMap<Digest, (Timestamp, Timestamp)>>,
    deleted: Vec<DeletedVersion>,
    /// The requests of each token in the hour that began then.
    used: BTreeMap<String, (Timestamp, u64)>,
    requests: u64,
}

impl GhcrService {
    pub(super) fn new(options: &GhcrOptions) -> Self {
        Self {
            options: options.clone(),
            elapsed: SignedDuration::ZERO,
            registry_tokens: RegistryTokens::default(),
            ids: BTreeMap::new(),
            next_id: 1_000_000,
            dates: BTreeMap::new(),
            deleted: Vec::new(),
            used: BTreeMap::new(),
            requests: 0,
        }
    }

    /// Returns the registry's time.
    pub(super) fn now(&self) -> Timestamp {
        (self.options.clock)() + self.elapsed
    }

    pub(super) fn advance_time(&mut self, time: SignedDuration) {
        self.elapsed += time;
    }

    /// Ends all tokens that the registry gave out. Those of GitHub stay.
    pub(super) fn expire_tokens(&mut self) {
        self.registry_tokens.expire();
    }

    /// Sets the push and the last change of a version.
    pub fn date_version(&mut self, repository: &str, digest: &Digest, created: Timestamp, updated: Timestamp) {
        self.dates.entry(repository.to_owned()).or_default().insert(digest.clone(), (created, updated));
    }

    /// Revokes a token, or makes it valid again.
    pub fn set_expired(&mut self, token: &str, has_expired: bool) {
        for known in self.options.tokens.iter_mut().filter(|known| known.token == token) {
            known.has_expired = has_expired;
        }
    }

    /// Handles a request without faults.
    pub(super) fn respond(
        &mut self,
        call: ApiRequest<'_>,
        path: &str,
        (url, options): (&str, &Options),
        (content, uploads): (&mut Content, &mut Uploads),
    ) -> Response {
        if let Some(path) = call.path.strip_prefix(PREFIX) {
            return self.rest(&call, path, url, content);
        }
        let authorization = call.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if path == "/token" {
            return self.registry_tokens.respond(call.method, &self.options.tokens, (authorization, call.query));
        }
        let Some(route) = RegistryRoute::parse(path) else {
            return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
        };
        let Some(token) = self.registry_tokens.owner(&self.options.tokens, authorization) else {
            return access::challenge(url, route.name());
        };
        let needed = route.required_access(call.method, call.query);
        let writes = needed.iter().any(|access| access.action == Action::Push);
        let hidden = route.name().is_some_and(|name| self.options.hidden.contains(name));
        if writes && !token.has("write:packages") || hidden {
            let message = "requested access to the resource is denied";
            return ErrorResponse::new(StatusCode::FORBIDDEN, "DENIED", message).into_response();
        }
        match route {
            // There are neither a catalogue nor deletions nor a list of referrers.
            RegistryRoute::Catalog => ErrorResponse::unsupported().into_response(),
            _ if *call.method == Method::DELETE => ErrorResponse::unsupported().into_response(),
            RegistryRoute::Referrers { .. } => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
            route => route.respond(call, options, content, uploads),
        }
    }

    /// Handles a request to the REST API, with the headers that all answers have.
    fn rest(&mut self, call: &ApiRequest<'_>, path: &str, url: &str, content: &mut Content) -> Response {
        self.requests += 1;
        let scopes = access::authenticate(&self.options.tokens, call.headers).map(|token| {
            let scopes = token.scopes.as_ref().map(|scopes| scopes.join(", "));
            (token.clone(), scopes)
        });
        let (mut response, remaining) = match &scopes {
            Err(_) => (None, 60),
            Ok((token, _)) => match self.count(token) {
                Ok(remaining) => (None, remaining),
                Err(problem) => (Some(problem.into_response()), 0),
            },
        };
        if response.is_none() {
            let answered = match &scopes {
                Ok((token, _)) => self.operate(call, (path, token), url, content),
                Err(_) => Err(access::authenticate(&self.options.tokens, call.headers).expect_err("it was refused")),
            };
            response = Some(answered.unwrap_or_else(IntoResponse::into_response));
        }
        let mut response = response.expect("there is one by now");
        let limit = self.options.hourly_limit;
        let own = [
            ("x-github-request-id", format!("C0FE:{:04X}", self.requests)),
            ("x-github-media-type", "github.v3; format=json".to_owned()),
            ("x-ratelimit-limit", limit.to_string()),
            ("x-ratelimit-remaining", remaining.to_string()),
            ("x-ratelimit-resource", "core".to_owned()),
            ("x-ratelimit-reset", self.reset(&scopes).as_second().to_string()),
        ];
        let told = scopes.ok().and_then(|(_, scopes)| scopes).map(|scopes| ("x-oauth-scopes", scopes));
        for (name, value) in own.into_iter().chain(told) {
            response.headers_mut().entry(name).or_insert(HeaderValue::try_from(value).expect("a plain text"));
        }
        response
    }

    /// Returns the time at which the hour of a token ends.
    fn reset(&self, of: &Result<(GithubToken, Option<String>), Problem>) -> Timestamp {
        let began = of.as_ref().ok().and_then(|(token, _)| self.used.get(&token.token)).map(|(began, _)| *began);
        began.unwrap_or_else(|| self.now()) + SignedDuration::from_hours(1)
    }

    /// Counts a request of a token, and returns how many remain.
    fn count(&mut self, token: &GithubToken) -> Result<u64, Problem> {
        let (now, limit) = (self.now(), self.options.hourly_limit);
        let (began, used) = self.used.entry(token.token.clone()).or_insert((now, 0));
        if now.duration_since(*began) >= SignedDuration::from_hours(1) {
            (*began, *used) = (now, 0);
        }
        if *used >= limit {
            return Err(Problem::new(403, &format!("API rate limit exceeded for user {}.", token.login)));
        }
        *used += 1;
        Ok(limit - *used)
    }

    fn operate(
        &mut self,
        call: &ApiRequest<'_>,
        (path, token): (&str, &GithubToken),
        url: &str,
        content: &mut Content,
    ) -> Result<Response, Problem> {
        let route = Route::parse(path).ok_or_else(|| Problem::not_found("Not Found"))?;
        route.check(call.method, call.query, &call.body)?;
        match route {
            Route::Own if token.scopes.is_none() => Err(Problem::new(403, "Resource not accessible by integration")),
            Route::Own => Ok(self.user(&token.login, url)),
            Route::User { login } => Ok(self.user(&login, url)),
            Route::Packages { owner, route } => {
                let (owner, linked) = self.owner(&owner, token)?;
                self.packages(&route, call, (token, &owner), (url, &linked), content)
            }
        }
    }

    fn user(&self, login: &str, url: &str) -> Response {
        let kind = if self.is_organization(login) { "Organization" } else { "User" };
        let body =
            json!({ "login": login, "id": login.len(), "type": kind, "url": format!("{url}{PREFIX}/users/{login}") });
        json_response(StatusCode::OK, JSON, &body)
    }

    fn is_organization(&self, login: &str) -> bool {
        self.options.organizations.iter().any(|name| name == login)
    }

    /// Returns the name of an owner, and the path by which GitHub links to it.
    fn owner(&self, path: &OwnerPath, token: &GithubToken) -> Result<(String, String), Problem> {
        let missing = || Problem::not_found("Not Found");
        let linked = |name: &str| {
            let id = self.options.organizations.iter().position(|own| own == name)?;
            Some((name.to_owned(), format!("{PREFIX}/organizations/{id}/packages")))
        };
        match path {
            OwnerPath::Organization(name) => linked(name).ok_or_else(missing),
            OwnerPath::OrganizationId(id) => {
                let name = self.options.organizations.get(*id).ok_or_else(missing)?;
                linked(name).ok_or_else(missing)
            }
            OwnerPath::User(login) if self.is_organization(login) => Err(missing()),
            OwnerPath::User(login) => Ok((login.clone(), format!("{PREFIX}/users/{login}/packages"))),
            OwnerPath::Own => Ok((token.login.clone(), format!("{PREFIX}/user/packages"))),
        }
    }
}
