//! The dialect of Azure Container Registry: its own API under `/acr/v1` and `/oauth2`, beside that of distribution.
//!
//! It follows the facts about the real one from recorded traffic, its documentation and its clients' source; where
//! facts are missing, it does the stricter thing.

use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use self::auth::Realm;
use self::lists::PageRequest;
use self::rate_limits::{Buckets, RateDecision, format_per_second};
use self::route::Route;
use super::Options;
use super::api_request::{self, ApiRequest};
use super::content::{Content, DeletionRules, Target};
use super::jwt::Key;
use super::response::{ErrorResponse, Query, json_response};
use super::uploads::Uploads;
use crate::apply::Clock;

mod auth;
mod bodies;
mod changes;
mod generated;
mod lists;
mod permission;
mod rate_limits;
mod route;

pub use permission::{Admin, Identity, Permission, ScopedUser};
pub use rate_limits::{Rate, ServerRateLimits};

/// The options of a registry with the ACR dialect. Its authentication replaces [`super::AuthMode`].
#[derive(Clone)]
pub struct AcrOptions {
    /// The clock of pushes, of tokens, and of the `Date` header.
    pub clock: Clock,
    /// The administrator, who may do everything; `None` by default.
    pub admin: Option<Admin>,
    /// The identities that may exchange an Entra token for one of the registry.
    pub identities: Vec<Identity>,
    /// The registry's own users, each with a scope map.
    pub scoped_users: Vec<ScopedUser>,
    /// True if anonymous tokens may pull and list tags.
    pub anonymous_pull: bool,
    /// True if roles are assigned for repositories (ABAC mode): then each identity has the permissions of its
    /// `repositories`, and scopes with a wildcard are ignored.
    pub abac: bool,
    /// The lifetime of refresh tokens; three hours by default.
    pub refresh_lifetime: SignedDuration,
    /// The lifetime of access tokens; an hour by default.
    pub access_lifetime: SignedDuration,
    /// True if access tokens spell `type`, `name` and `actions` in lower case, as some versions of the service do.
    pub lower_case_claims: bool,
    /// The most tags that the list of manifests shows of one; 10 by default.
    pub tags_per_manifest: usize,
    /// The rates that are enforced; none by default.
    pub limits: ServerRateLimits,
    /// Days after which a manifest without tags is deleted; 0 deletes it at once.
    pub retention_days: Option<u16>,
    /// Days during which deleted content can be restored.
    pub soft_delete_days: Option<u16>,
    /// The lead of the `Date` header over the clock.
    pub date_skew: SignedDuration,
}

impl AcrOptions {
    /// Creates options with that clock, without users or identities.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            admin: None,
            identities: Vec::new(),
            scoped_users: Vec::new(),
            anonymous_pull: false,
            abac: false,
            refresh_lifetime: SignedDuration::from_hours(3),
            access_lifetime: SignedDuration::from_mins(60),
            lower_case_claims: false,
            tags_per_manifest: 10,
            limits: ServerRateLimits::default(),
            retention_days: None,
            soft_delete_days: None,
            date_skew: SignedDuration::ZERO,
        }
    }

    /// Adds an administrator.
    #[must_use]
    pub fn admin(self, user: &str, password: &str) -> Self {
        Self { admin: Some(Admin { user: user.to_owned(), password: password.to_owned() }), ..self }
    }

    /// Adds an identity.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identities.push(identity);
        self
    }

    pub(super) fn rules(&self) -> DeletionRules {
        DeletionRules {
            delete_empty_repositories: true,
            delete_referrers: true,
            retention_days: self.retention_days,
            soft_delete_days: self.soft_delete_days,
        }
    }
}

impl std::fmt::Debug for AcrOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcrOptions").field("abac", &self.abac).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The state of a running registry with the ACR dialect, besides its content.
#[derive(Debug)]
pub(super) struct AcrService {
    options: AcrOptions,
    abac: bool,
    /// Signs all tokens, so that a new key invalidates them all.
    key: Key,
    buckets: Buckets,
    /// Simulated elapsed time.
    elapsed: SignedDuration,
    date_skew: SignedDuration,
}

const CORRELATION_ID: HeaderName = HeaderName::from_static("x-ms-correlation-request-id");
const REMAINING: HeaderName = HeaderName::from_static("x-ms-ratelimit-remaining-calls-per-second");
/// The reported number of remaining calls without a limit.
const UNLIMITED_REMAINING: u32 = 9_999_999;

impl AcrService {
    pub(super) fn new(options: &AcrOptions) -> Self {
        Self {
            abac: options.abac,
            key: Key::random(),
            buckets: Buckets::new(options.limits),
            elapsed: SignedDuration::ZERO,
            date_skew: options.date_skew,
            options: options.clone(),
        }
    }

    /// Returns the registry's time.
    pub(super) fn now(&self) -> Timestamp {
        truncate_to_100_nanoseconds((self.options.clock)() + self.elapsed)
    }

    pub(super) fn advance_time(&mut self, time: SignedDuration) {
        self.elapsed += time;
    }

    pub(super) fn set_date_skew(&mut self, skew: SignedDuration) {
        self.date_skew = skew;
    }

    /// Switches the permission mode, which invalidates all tokens.
    pub(super) fn set_abac(&mut self, abac: bool) {
        self.abac = abac;
        self.expire_tokens();
    }

    pub(super) fn set_rate_limits(&mut self, limits: ServerRateLimits) {
        self.buckets = Buckets::new(limits);
    }

    pub(super) fn expire_tokens(&mut self) {
        self.key = Key::random();
    }

    /// Handles a request without faults.
    pub(super) fn respond(
        &mut self,
        call: ApiRequest<'_>,
        decoded: &str,
        realm: (&str, &str),
        options: &Options,
        (content, uploads): (&mut Content, &mut Uploads),
    ) -> Response {
        let passage = self.buckets.take(call.method, decoded);
        let told = *call.method == Method::DELETE || decoded.starts_with("/oauth2/");
        let remaining = match passage {
            Some(RateDecision::Allowed { remaining }) => Some(remaining),
            Some(RateDecision::Throttled { .. }) => Some(0),
            None => told.then_some(UNLIMITED_REMAINING),
        };
        let mut response = if let Some(RateDecision::Throttled { retry_after }) = passage {
            too_many_requests(retry_after)
        } else {
            let answered = self.authorize_and_route(call, decoded, realm, options, (content, uploads));
            answered.unwrap_or_else(IntoResponse::into_response)
        };
        if let Some(remaining) = remaining {
            let value = HeaderValue::try_from(format_per_second(remaining)).expect("a number is plain text");
            response.headers_mut().insert(REMAINING, value);
        }
        response
    }

    fn authorize_and_route(
        &self,
        call: ApiRequest<'_>,
        decoded: &str,
        (url, host): (&str, &str),
        options: &Options,
        (content, uploads): (&mut Content, &mut Uploads),
    ) -> Result<Response, ErrorResponse> {
        let realm = Realm { url, host };
        let authorization = call.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let form = || Query::parse(&String::from_utf8_lossy(&call.body));
        match decoded {
            "/oauth2/exchange" => return Ok(self.exchange(call.method, &form(), realm)),
            "/oauth2/token" => {
                return Ok(self.token_response(
                    call.method,
                    authorization,
                    (call.query, &form()),
                    &options.denied,
                    realm,
                ));
            }
            _ => {}
        }
        let Some(route) = Route::parse(decoded) else {
            return Ok((StatusCode::NOT_FOUND, "404 page not found\n").into_response());
        };
        self.authorize(
            authorization,
            &route.required_permissions(call.method, call.query.get("from")),
            &options.denied,
            realm,
        )?;
        self.route(&route, call, host, options, (content, uploads))
    }

    /// Handles an authorized request.
    fn route(
        &self,
        route: &Route,
        call: ApiRequest<'_>,
        host: &str,
        options: &Options,
        (content, uploads): (&mut Content, &mut Uploads),
    ) -> Result<Response, ErrorResponse> {
        let paging = || PageRequest::read(call.query, options.page_size);
        let told = (host, self.options.tags_per_manifest);
        let reads = matches!(*call.method, Method::GET | Method::HEAD);
        if !reads && options.read_only {
            return Err(ErrorResponse::unsupported());
        }
        if let Some(answered) = generated::respond(route, &call, told, options, content) {
            return answered;
        }
        match (route, call.method) {
            (Route::Catalog, _) if reads => Ok(lists::catalog(content, &paging()?, "/acr/v1/_catalog")),
            (Route::Repository { name }, _) if reads => lists::repository(content, name, host),
            (Route::Repository { name }, &Method::PATCH) => {
                changes::set_attributes(content, name, Target::Repository, &call.body)?;
                lists::repository(content, name, host)
            }
            (Route::Repository { name }, &Method::DELETE) => changes::delete_repository(content, name),
            (Route::Tags { name }, _) if reads => lists::tags(content, name, (&paging()?, call.query), host),
            (Route::Tag { name, tag }, _) if reads => lists::tag(content, name, tag, host),
            (Route::Tag { name, tag }, &Method::PATCH) => {
                changes::set_attributes(content, name, Target::Tag(tag), &call.body)?;
                lists::tag(content, name, tag, host)
            }
            (Route::Tag { name, tag }, &Method::DELETE) => changes::untag(content, name, tag),
            (Route::Manifests { name }, _) if reads => lists::manifests(content, name, &paging()?, told),
            (Route::Manifest { name, digest }, _) if reads => {
                lists::manifest(content, name, &api_request::parse_digest(digest)?, told)
            }
            (Route::Manifest { name, digest }, &Method::PATCH) => {
                let digest = api_request::parse_digest(digest)?;
                changes::set_attributes(content, name, Target::Manifest(&digest), &call.body)?;
                lists::manifest(content, name, &digest, told)
            }
            (Route::DeletedCatalog, _) if reads => Ok(changes::deleted_catalog(content)),
            (Route::DeletedTags { name }, _) if reads => changes::deleted_tags(content, name, host),
            (Route::DeletedManifests { name }, _) if reads => changes::deleted_manifests(content, name, host),
            (Route::DeletedManifest { name, digest }, &Method::POST) => {
                changes::restore(content, name, &api_request::parse_digest(digest)?, call.query, &call.body)
            }
            (Route::Distribution(route), _) => route_distribution(route, call, options, (content, uploads)),
            _ => Err(ErrorResponse::unsupported()),
        }
    }

    /// Adds the headers of every response.
    pub(super) fn add_common_headers(&self, response: &mut Response) {
        let id = HeaderValue::try_from(Uuid::now_v7().to_string()).expect("a UUID is plain text");
        response.headers_mut().insert(CORRELATION_ID, id);
        let date = ((self.options.clock)() + self.date_skew).to_zoned(TimeZone::UTC);
        let date = HeaderValue::try_from(date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
        response.headers_mut().insert(header::DATE, date.expect("a date is plain text"));
    }
}

/// Handles the routes of distribution, some of which ACR answers in its own way.
fn route_distribution(
    route: &api_request::Route,
    call: ApiRequest<'_>,
    options: &Options,
    (content, uploads): (&mut Content, &mut Uploads),
) -> Result<Response, ErrorResponse> {
    use api_request::Route as Plain;
    let paging = || PageRequest::read(call.query, options.page_size);
    let reads = matches!(*call.method, Method::GET | Method::HEAD);
    match route {
        Plain::Catalog if reads => return Ok(lists::catalog(content, &paging()?, "/v2/_catalog")),
        Plain::Tags { name } if reads => return lists::tag_names(content, name, &paging()?),
        Plain::Manifest { name, reference } => match *call.method {
            Method::DELETE => return changes::delete_manifest(content, name, reference),
            Method::PUT => changes::check_put(content, name, reference)?,
            _ => {
                changes::check_pull(content, name, Some(reference))?;
                let known = content.tag(name, reference).is_some()
                    || reference.parse().is_ok_and(|digest| content.manifest(name, &digest).is_some());
                if !known {
                    return Err(lists::manifest_unknown(reference));
                }
            }
        },
        Plain::Blob { name, .. } if reads => changes::check_pull(content, name, None)?,
        Plain::StartUpload { name } | Plain::Upload { name, .. } => changes::check_push(content, name)?,
        _ => {}
    }
    Ok(route.respond(call, options, content, uploads))
}

fn too_many_requests(retry_after: u64) -> Response {
    let message = "too many requests, please wait before retrying";
    let mut response = ErrorResponse::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
    response
}

fn acr_json_response(status: StatusCode, body: &impl Serialize) -> Response {
    json_response(status, "application/json; charset=utf-8", body)
}

/// Truncates a time to the registry's resolution, a tenth of a microsecond.
fn truncate_to_100_nanoseconds(time: Timestamp) -> Timestamp {
    time - SignedDuration::from_nanos(i64::from(time.subsec_nanosecond().rem_euclid(100)))
}
