//! The dialect of zot: its distribution API, its search extension in GraphQL, and its garbage collection.
//!
//! It follows the source of project-zot/zot at commit 6d19b445: routes, errors and their codes, the metadata that a push, a
//! pull and a removal change, and what the search leaves out. A question that its schema does not have is refused.

use std::collections::BTreeSet;

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use self::access::Access;
use self::metadata::{Metadata, is_signature_tag, signed_image};
use super::Options;
use super::api_request::{ApiRequest, Route, parse_reference};
use super::content::{Content, Reference};
use super::response::{ErrorResponse, json_response};
use super::uploads::Uploads;
use crate::apply::Clock;
use crate::domain::Digest;

mod access;
mod graphql;
mod metadata;
mod search;

pub use access::ZotUser;

/// The options of a zot.
#[derive(Clone)]
pub struct ZotOptions {
    /// The clock of pushes, pulls and garbage collection.
    pub clock: Clock,
    /// The users; without any, everybody may do everything.
    pub users: Vec<ZotUser>,
    /// The release, such as `v2.1.9`; empty for a build of one's own.
    pub release: String,
    /// True if the search extension is on.
    pub has_search: bool,
    /// True if it keeps the times of tags, as releases of 2026 do.
    pub has_tag_times: bool,
    /// The garbage collection, if it is on.
    pub collection: Option<ZotCollection>,
}

/// The garbage collection of a zot.
#[derive(Debug, Clone, Copy)]
pub struct ZotCollection {
    /// The time between two runs.
    pub interval: SignedDuration,
    /// The age of an untagged manifest, from its push, from which it is deleted.
    pub delay: SignedDuration,
    /// True if untagged manifests are deleted.
    pub delete_untagged: bool,
}

impl ZotOptions {
    /// Creates the options of the newest release with that clock: open, with search, without garbage collection.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            users: Vec::new(),
            release: "v2.1.14".into(),
            has_search: true,
            has_tag_times: true,
            collection: None,
        }
    }

    /// Adds a user.
    #[must_use]
    pub fn user(mut self, user: ZotUser) -> Self {
        self.users.push(user);
        self
    }

    /// Returns true if a deletion by tag leaves the manifest, as since 2.1.2.
    fn leaves_manifests(&self) -> bool {
        let numbers: Vec<u64> =
            self.release.trim_start_matches('v').split('.').filter_map(|part| part.parse().ok()).collect();
        numbers >= vec![2, 1, 2]
    }
}

impl Default for ZotCollection {
    fn default() -> Self {
        let hour = SignedDuration::from_hours(1);
        Self { interval: hour, delay: hour, delete_untagged: true }
    }
}

impl std::fmt::Debug for ZotOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZotOptions").field("release", &self.release).finish_non_exhaustive()
    }
}

/// The state of a running zot, besides its content.
#[derive(Debug)]
pub struct ZotService {
    /// Its options, which a test may change.
    pub options: ZotOptions,
    /// Simulated elapsed time.
    elapsed: SignedDuration,
    metadata: Metadata,
    last_collection: Timestamp,
}

impl ZotService {
    pub(super) fn new(options: &ZotOptions) -> Self {
        let last_collection = (options.clock)();
        let options = options.clone();
        Self { options, elapsed: SignedDuration::ZERO, metadata: Metadata::default(), last_collection }
    }

    /// Returns the registry's time.
    pub(super) fn now(&self) -> Timestamp {
        (self.options.clock)() + self.elapsed
    }

    pub(super) fn advance_time(&mut self, time: SignedDuration) {
        self.elapsed += time;
    }

    /// Changes the passwords of all users.
    pub(super) fn expire_users(&mut self) {
        for user in &mut self.options.users {
            user.password = format!("{} was changed", user.password);
        }
    }

    /// Runs the garbage collection, if it is due.
    pub(super) fn collect(&mut self, content: &mut Content) {
        let now = self.now();
        let Some(collection) = self.options.collection.filter(|found| now >= self.last_collection + found.interval)
        else {
            return;
        };
        self.last_collection = now;
        let names: Vec<String> = content.repositories().map(str::to_owned).collect();
        for name in names.iter().filter(|_| collection.delete_untagged) {
            // A signature that lost its image loses its tag, and is an untagged manifest from then on.
            while collect_repository(name, now - collection.delay, content) {}
        }
    }

    /// Handles a request without faults.
    pub(super) fn respond(
        &mut self,
        call: ApiRequest<'_>,
        decoded: &str,
        options: &Options,
        content: (&mut Content, &mut Uploads),
    ) -> Response {
        let answered = self.route(call, decoded, options, content);
        answered.unwrap_or_else(IntoResponse::into_response)
    }

    fn route(
        &mut self,
        call: ApiRequest<'_>,
        decoded: &str,
        options: &Options,
        (content, uploads): (&mut Content, &mut Uploads),
    ) -> Result<Response, ErrorResponse> {
        let authorization = call.headers.get(header::AUTHORIZATION);
        let access = Access::of(&self.options.users, authorization);
        let describes = self.options.has_search && decoded == "/v2/_zot/ext/mgmt" && *call.method == Method::GET;
        if describes && (authorization.is_none() || access.is_ok()) {
            return Ok(json_response(StatusCode::OK, "text/plain; charset=utf-8", &self.description()));
        }
        let access = access?;
        if decoded == "/v2/_oci/ext/discover" {
            return Ok(json_response(StatusCode::OK, "application/json", &self.extensions()));
        }
        if decoded == "/v2/_zot/ext/search" && self.options.has_search {
            self.metadata.update(content);
            return Ok(search::respond(&call, &access, self, content));
        }
        let Some(route) = Route::parse(decoded) else {
            return Ok((StatusCode::NOT_FOUND, "404 page not found\n").into_response());
        };
        if let Some(name) = route.name() {
            access.require(name, call.method)?;
        }
        match &route {
            Route::Catalog if *call.method == Method::GET => {
                let names: Vec<&str> = content.repositories().filter(|name| access.may_read(name)).collect();
                Ok(json_response(StatusCode::OK, "application/json", &json!({ "repositories": names })))
            }
            Route::Tags { name } if *call.method == Method::GET => tags(&call, name, content),
            Route::Manifest { name, reference } => {
                self.manifest((name, reference), call, options, (content, uploads), &route)
            }
            // Manifests are blobs like any other in its storage.
            Route::Blob { name, digest } if matches!(*call.method, Method::GET | Method::HEAD) => {
                let found = digest.parse::<Digest>().ok();
                let manifest = found.and_then(|digest| content.manifest(name, &digest));
                match manifest {
                    Some(manifest) => Ok((StatusCode::OK, manifest.bytes.clone()).into_response()),
                    None => Ok(route.respond(call, options, content, uploads)),
                }
            }
            _ => Ok(route.respond(call, options, content, uploads)),
        }
    }

    /// Its description of itself, for anybody.
    fn description(&self) -> serde_json::Value {
        json!({
            "distSpecVersion": "1.1.1",
            "commit": "",
            "releaseTag": self.options.release,
            "binaryType": "-mgmt-search",
            "http": { "auth": { "htpasswd": {} } },
        })
    }

    fn manifest(
        &mut self,
        (name, reference): (&str, &str),
        call: ApiRequest<'_>,
        options: &Options,
        (content, uploads): (&mut Content, &mut Uploads),
        route: &Route,
    ) -> Result<Response, ErrorResponse> {
        self.metadata.update(content);
        let parsed = parse_reference(reference)?;
        match *call.method {
            Method::DELETE => self.delete(name, reference, &parsed, content),
            _ if *call.method != Method::PUT && !content.has_repository(name) => Err(ErrorResponse::name_unknown(name)),
            _ => {
                let method = call.method.clone();
                let response = route.respond(call, options, content, uploads);
                let found = content.resolve(name, &parsed).filter(|_| response.status().is_success());
                match (found, method) {
                    (Some(digest), Method::GET) => {
                        let is_signature = matches!(&parsed, Reference::Tag(tag) if is_signature_tag(tag));
                        if !is_signature {
                            self.metadata.record_pull(name, &digest, self.now());
                        }
                    }
                    (Some(digest), Method::PUT) => self.metadata.record_push(name, &digest, self.now()),
                    _ => {}
                }
                Ok(response)
            }
        }
    }

    fn delete(
        &mut self,
        name: &str,
        written: &str,
        reference: &Reference,
        content: &mut Content,
    ) -> Result<Response, ErrorResponse> {
        if !content.has_repository(name) {
            let message = "repository name not known to registry";
            return Err(ErrorResponse::new(StatusCode::BAD_REQUEST, "NAME_UNKNOWN", message));
        }
        let digest = content.resolve(name, reference).ok_or_else(|| ErrorResponse::manifest_unknown(written))?;
        match reference {
            Reference::Digest(digest) => {
                let is_child = content
                    .manifests(name)
                    .any(|(_, manifest)| manifest.children.iter().any(|child| child.digest == *digest));
                if is_child {
                    let message = "requested access to the resource is denied";
                    return Err(ErrorResponse::new(StatusCode::METHOD_NOT_ALLOWED, "DENIED", message));
                }
                content.delete_manifest(name, digest);
                self.metadata.forget(name, digest);
            }
            Reference::Tag(tag) => {
                content.delete_tag(name, tag);
                if !content.tags(name).values().any(|other| *other == digest) {
                    self.metadata.forget(name, &digest);
                    if !self.options.leaves_manifests() {
                        content.delete_manifest(name, &digest);
                    }
                }
            }
        }
        Ok(StatusCode::ACCEPTED.into_response())
    }

    fn extensions(&self) -> serde_json::Value {
        let url = format!("https://github.com/project-zot/zot/blob/{}/pkg/extensions/_zot.md", self.options.release);
        let endpoints = ["/v2/_zot/ext/search", "/v2/_zot/ext/mgmt"];
        let listed = self.options.has_search.then(
            || json!({ "name": "_zot", "url": url, "description": "zot registry extensions", "endpoints": endpoints }),
        );
        json!({ "extensions": listed.into_iter().collect::<Vec<_>>() })
    }
}

/// Deletes what nothing holds in a repository and was pushed before a time. Returns true if something was deleted.
fn collect_repository(name: &str, before: Timestamp, content: &mut Content) -> bool {
    let children: BTreeSet<Digest> = content
        .manifests(name)
        .flat_map(|(_, manifest)| manifest.children.iter().map(|child| child.digest.clone()))
        .collect();
    let loose = content.manifests(name).find(|(digest, manifest)| {
        let refers = manifest.subject.as_ref().is_some_and(|subject| content.manifest(name, subject).is_some());
        manifest.tags.is_empty() && !children.contains(*digest) && !refers && manifest.updated <= before
    });
    if let Some(digest) = loose.map(|(digest, _)| digest.clone()) {
        return content.delete_manifest(name, &digest);
    }
    let orphan = content
        .tags(name)
        .into_keys()
        .find(|tag| signed_image(tag).is_some_and(|image| content.manifest(name, &image).is_none()));
    orphan.is_some_and(|tag| content.delete_tag(name, &tag))
}

/// The list of tags: `last` must be one of them, and `n` has no limit.
fn tags(call: &ApiRequest<'_>, name: &str, content: &Content) -> Result<Response, ErrorResponse> {
    if !content.has_repository(name) {
        return Err(ErrorResponse::name_unknown(name));
    }
    let bad = || StatusCode::BAD_REQUEST.into_response();
    let wanted = match call.query.get("n").map(str::parse::<usize>) {
        None => usize::MAX,
        Some(Ok(wanted)) => wanted,
        Some(Err(_)) => return Ok(bad()),
    };
    let all: Vec<String> = content.tags(name).into_keys().collect();
    let start = match call.query.get("last").filter(|last| !last.is_empty()) {
        None => 0,
        Some(last) => match all.iter().position(|tag| tag == last) {
            Some(at) => at + 1,
            None => return Ok(StatusCode::NOT_FOUND.into_response()),
        },
    };
    let page: Vec<&String> = all.iter().skip(start).take(wanted).collect();
    let mut response = json_response(StatusCode::OK, "application/json", &json!({ "name": name, "tags": page }));
    if let Some(last) = page.last().filter(|_| start + page.len() < all.len()) {
        let link = format!("</v2/{name}/tags/list?n={wanted}&last={last}>; rel=\"next\"");
        response.headers_mut().insert(header::LINK, HeaderValue::try_from(link).expect("tags are plain text"));
    }
    Ok(response)
}
