//! The dialect of Google Artifact Registry: its JSON API, the registry API for manifests, and the services that give tokens.
//!
//! It follows the published description (`artifactregistry.v1`, revision 20261031): paths, parameters, sizes of pages and names
//! in answers. An unknown parameter is refused, and so is an order, which Google would take. A tag is removed alone. A
//! manifest with a tag, or in an index, cannot be deleted; a deletion is an operation that is done a moment later.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use self::access::{Problem, Tokens};
use self::route::{PageOf, RepositoryId, Route};
use super::Options;
use super::api_request::{ApiRequest, Route as RegistryRoute};
use super::content::{Content, Manifest};
use super::percent_encoding::percent_decode;
use super::response::{ErrorResponse, Query, json_response};
use super::uploads::Uploads;
use crate::apply::Clock;
use crate::domain::{Digest, TagName};

mod access;
mod bodies;
mod route;

pub use access::ServiceAccount;

/// The path of tokens at the metadata service.
const METADATA_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// The options of a registry with the API of Artifact Registry.
#[derive(Clone)]
pub struct ArtifactRegistryOptions {
    /// The clock of uploads.
    pub clock: Clock,
    /// Its location, such as `europe-west3`.
    pub location: String,
    /// The service account whose key it knows.
    pub account: Option<ServiceAccount>,
    /// Access tokens that are valid from the beginning.
    pub tokens: Vec<String>,
    /// Permissions that nobody has, each in repositories whose names in image references begin so.
    pub denied: Vec<(String, String)>,
    /// The repositories, by their names in image references: project and repository.
    pub repositories: BTreeMap<String, ArtifactRepository>,
}

/// A repository of Artifact Registry.
#[derive(Debug, Clone)]
pub struct ArtifactRepository {
    /// Such as `DOCKER`.
    pub format: String,
    /// Such as `STANDARD_REPOSITORY`.
    pub mode: String,
    /// True if tags can neither be moved nor removed.
    pub immutable_tags: bool,
    /// The cleanup policies by their ids. They are shown and not carried out.
    pub cleanup_policies: Value,
    /// True if they only run dry.
    pub cleanup_policy_dry_run: bool,
}

impl Default for ArtifactRepository {
    fn default() -> Self {
        Self {
            format: "DOCKER".to_owned(),
            mode: "STANDARD_REPOSITORY".to_owned(),
            immutable_tags: false,
            cleanup_policies: json!({}),
            cleanup_policy_dry_run: false,
        }
    }
}

impl ArtifactRegistryOptions {
    /// Creates options with that clock and location, without repositories and tokens.
    #[must_use]
    pub fn new(clock: Clock, location: &str) -> Self {
        Self {
            clock,
            location: location.to_owned(),
            account: None,
            tokens: Vec::new(),
            denied: Vec::new(),
            repositories: BTreeMap::new(),
        }
    }

    /// Adds a repository by its name in image references, such as `acme/shop`.
    #[must_use]
    pub fn repository(mut self, name: &str, repository: ArtifactRepository) -> Self {
        self.repositories.insert(name.to_owned(), repository);
        self
    }
}

impl std::fmt::Debug for ArtifactRegistryOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArtifactRegistryOptions").field("location", &self.location).finish_non_exhaustive()
    }
}

/// The state of a running registry with the API of Artifact Registry, besides its content.
#[derive(Debug)]
pub struct ArtifactRegistryService {
    /// The options, which may change.
    pub options: ArtifactRegistryOptions,
    /// Simulated elapsed time.
    elapsed: SignedDuration,
    tokens: Tokens,
    /// Manifests that were uploaded at another time than they were stored here.
    uploaded_at: BTreeMap<(String, Digest), Timestamp>,
    /// The operations that were started.
    operations: BTreeMap<String, Value>,
}

impl ArtifactRegistryService {
    pub(super) fn new(options: &ArtifactRegistryOptions) -> Self {
        Self {
            options: options.clone(),
            elapsed: SignedDuration::ZERO,
            tokens: Tokens::new(&options.tokens),
            uploaded_at: BTreeMap::new(),
            operations: BTreeMap::new(),
        }
    }

    /// Returns the registry's time.
    pub(super) fn now(&self) -> Timestamp {
        (self.options.clock)() + self.elapsed
    }

    pub(super) fn advance_time(&mut self, time: SignedDuration) {
        self.elapsed += time;
    }

    pub(super) fn expire_tokens(&mut self) {
        self.tokens.expire();
    }

    /// Sets the time at which a manifest was uploaded.
    pub fn date_image(&mut self, repository: &str, digest: &Digest, at: Timestamp) {
        self.uploaded_at.insert((repository.to_owned(), digest.clone()), at);
    }

    /// Handles a request without faults.
    pub(super) fn respond(
        &mut self,
        call: ApiRequest<'_>,
        (url, options): (&str, &Options),
        content: (&mut Content, &mut Uploads),
    ) -> Response {
        match (call.method, call.path) {
            (&Method::POST, "/token") => {
                let form = Query::parse(&String::from_utf8_lossy(&call.body));
                return self.tokens.exchange(&form, self.options.account.as_ref(), url);
            }
            (&Method::GET, METADATA_PATH) => {
                let flavored = call.headers.get("metadata-flavor").is_some_and(|flavor| flavor == "Google");
                return if flavored { self.tokens.issue() } else { StatusCode::FORBIDDEN.into_response() };
            }
            (&Method::GET, "/v2/token") => {
                let answered = self.tokens.registry_token(call.headers, call.query);
                return answered.unwrap_or_else(Problem::into_response);
            }
            _ => {}
        }
        if call.path.starts_with("/v2/") {
            return self.registry_response(call, (url, options), content);
        }
        match self.operate(&call, content.0) {
            Ok(body) => json_response(StatusCode::OK, "application/json; charset=UTF-8", &body),
            Err(problem) => problem.into_response(),
        }
    }

    /// Answers a request of the registry API, which deletes nothing here.
    fn registry_response(
        &self,
        call: ApiRequest<'_>,
        (url, options): (&str, &Options),
        (content, uploads): (&mut Content, &mut Uploads),
    ) -> Response {
        let route = RegistryRoute::parse(&percent_decode(call.path));
        let name = route.as_ref().and_then(RegistryRoute::name).unwrap_or_default().to_owned();
        let action = if matches!(*call.method, Method::GET | Method::HEAD) { "pull" } else { "push" };
        if !self.tokens.allows(call.headers, &name, action) {
            let host = url.split_once("://").map_or(url, |(_, host)| host);
            let challenge = format!("Bearer realm=\"{url}/v2/token\",service=\"{host}\"");
            let headers = [(header::WWW_AUTHENTICATE, HeaderValue::try_from(challenge).expect("a URL is plain text"))];
            let body = json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "Unauthenticated request." }] });
            return (headers, json_response(StatusCode::UNAUTHORIZED, "application/json", &body)).into_response();
        }
        let permission = match action {
            "pull" => "artifactregistry.repositories.downloadArtifacts",
            _ => "artifactregistry.repositories.uploadArtifacts",
        };
        if self.is_denied(permission, &name) {
            return ErrorResponse::new(StatusCode::FORBIDDEN, "DENIED", format!("Permission \"{permission}\" denied"))
                .into_response();
        }
        match route {
            Some(route) if *call.method != Method::DELETE => route.respond(call, options, content, uploads),
            _ => ErrorResponse::unsupported().into_response(),
        }
    }

    fn is_denied(&self, permission: &str, repository: &str) -> bool {
        self.options
            .denied
            .iter()
            .any(|(denied, prefix)| denied == permission && repository.starts_with(prefix.as_str()))
    }

    fn operate(&mut self, call: &ApiRequest<'_>, content: &mut Content) -> Result<Value, Problem> {
        self.tokens.check(call.headers)?;
        let route = Route::parse(call.path).ok_or_else(Problem::not_found)?;
        let rule = route.check(call.method, call.query)?;
        if let Route::Repositories { project, location } = &route {
            if self.is_denied(rule.permission, project) || !self.has_project(project) {
                return Err(Problem::denied(rule.permission, &format!("projects/{project}/locations/{location}")));
            }
            self.check_location(location)?;
            return self.repositories(project, call.query, content);
        }
        let Some(id) = route.repository() else {
            let Route::Operation { location, id } = &route else { return Err(Problem::not_found()) };
            self.check_location(location)?;
            return self.operations.get(id).cloned().ok_or_else(Problem::not_found);
        };
        if self.is_denied(rule.permission, &id.in_references()) || !self.has_project(&id.project) {
            return Err(Problem::denied(rule.permission, &id.resource()));
        }
        self.check_location(&id.location)?;
        let found = self.options.repositories.get(&id.in_references()).cloned().ok_or_else(Problem::not_found)?;
        match (&route, call.method) {
            (Route::Repository(id), _) => Ok(bodies::repository(id, &found, content.stored_bytes())),
            (Route::Permissions(id), _) => self.granted(id, &call.body),
            (Route::Images(id), _) => self.images(id, call.query, content),
            (Route::Attachments(_), _) => Ok(json!({})),
            (Route::Packages(id), _) => Self::packages(id, call.query, content),
            (Route::Versions(id, package), _) => self.versions(id, package, call.query, content),
            (Route::Version(id, package, version), &Method::GET) => {
                self.version(id, package, version, call.query, content)
            }
            (Route::Version(id, package, version), _) => {
                let force = call.query.get("force") == Some("true");
                self.delete_version((id, &found), (package, version), force, content)
            }
            (Route::Tags(id, package), &Method::GET) => Self::tags(id, package, call.query, content),
            (Route::Tags(id, package), _) => Self::create_tag(id, package, call, content),
            (Route::Tag(id, package, tag), &Method::GET) => {
                let (_, digest) = find_tag(id, package, tag, content)?;
                Ok(bodies::tag(id, package, tag, &digest))
            }
            (Route::Tag(id, package, tag), _) => {
                let (name, _) = find_tag(id, package, tag, content)?;
                if found.immutable_tags {
                    return Err(Problem::failed_precondition(format!(
                        "The repository has immutable tags enabled, so tag \"{tag}\" cannot be deleted."
                    )));
                }
                content.delete_tag(&name, tag);
                Ok(json!({}))
            }
            (Route::Repositories { .. } | Route::Operation { .. }, _) => Err(Problem::not_found()),
        }
    }

    fn has_project(&self, project: &str) -> bool {
        let prefix = format!("{}/", project.replace(':', "/"));
        self.options.repositories.keys().any(|name| name.starts_with(&prefix))
    }

    fn check_location(&self, location: &str) -> Result<(), Problem> {
        if location == self.options.location {
            return Ok(());
        }
        let message = format!("Location {location} is not found or access is unauthorized.");
        Err(Problem::new(403, "PERMISSION_DENIED", message))
    }

    fn repositories(&self, project: &str, query: &Query, content: &Content) -> Result<Value, Problem> {
        refuse_filter(query)?;
        let prefix = format!("{}/", project.replace(':', "/"));
        let own = self.options.repositories.iter().filter_map(|(name, repository)| {
            let short = name.strip_prefix(&prefix)?;
            let (project, location) = (project.to_owned(), self.options.location.clone());
            let id = RepositoryId { project, location, name: short.to_owned() };
            Some((short.to_owned(), bodies::repository(&id, repository, content.stored_bytes())))
        });
        page("repositories", own, query)
    }

    fn granted(&self, id: &RepositoryId, body: &[u8]) -> Result<Value, Problem> {
        let asked: Value = serde_json::from_slice(body).map_err(|_| Problem::invalid("invalid JSON"))?;
        let names = asked.as_object().filter(|asked| asked.keys().all(|key| key == "permissions"));
        let names = names.and_then(|asked| asked["permissions"].as_array());
        let names = names.ok_or_else(|| Problem::invalid("Unknown name in TestIamPermissionsRequest"))?;
        let granted = names.iter().filter_map(Value::as_str);
        let granted: Vec<&str> = granted.filter(|name| !self.is_denied(name, &id.in_references())).collect();
        Ok(if granted.is_empty() { json!({}) } else { json!({ "permissions": granted }) })
    }

    fn uploaded(&self, repository: &str, digest: &Digest, manifest: &Manifest) -> Timestamp {
        let place = (repository.to_owned(), digest.clone());
        self.uploaded_at.get(&place).copied().unwrap_or(manifest.created)
    }

    fn images(&self, id: &RepositoryId, query: &Query, content: &Content) -> Result<Value, Problem> {
        let rows = packages_of(id, content).flat_map(|(name, package)| {
            let rows = content.manifests(name).map(move |(digest, manifest)| {
                let uploaded = self.uploaded(name, digest, manifest);
                (format!("{package}@{digest}"), (package, digest, manifest, uploaded))
            });
            sorted(rows)
        });
        let (rows, next) = PageOf::parse(query)?.cut(sorted(rows).into_iter());
        let rows =
            rows.into_iter().map(|(package, digest, manifest, at)| bodies::image(id, package, digest, manifest, at));
        Ok(with_next("dockerImages", rows.collect(), next))
    }

    fn packages(id: &RepositoryId, query: &Query, content: &Content) -> Result<Value, Problem> {
        refuse_filter(query)?;
        let rows = packages_of(id, content).map(|(_, package)| (package.to_owned(), bodies::package(id, package)));
        page("packages", rows, query)
    }

    fn versions(&self, id: &RepositoryId, package: &str, query: &Query, content: &Content) -> Result<Value, Problem> {
        refuse_filter(query)?;
        let (name, is_full) = (existing(id, package, content)?, is_full(query)?);
        let rows = sorted(content.manifests(&name).map(|(digest, manifest)| (digest.to_string(), (digest, manifest))));
        let (rows, next) = PageOf::parse(query)?.cut(rows.into_iter());
        let rows = rows.into_iter().map(|(digest, manifest)| {
            let uploaded = self.uploaded(&name, digest, manifest);
            bodies::version(id, package, (digest, manifest), uploaded, is_full)
        });
        Ok(with_next("versions", rows.collect(), next))
    }

    fn version(
        &self,
        id: &RepositoryId,
        package: &str,
        version: &str,
        query: &Query,
        content: &Content,
    ) -> Result<Value, Problem> {
        let (name, digest) = (existing(id, package, content)?, parse_version(version)?);
        let manifest = content.manifest(&name, &digest).ok_or_else(Problem::not_found)?;
        let uploaded = self.uploaded(&name, &digest, manifest);
        Ok(bodies::version(id, package, (&digest, manifest), uploaded, is_full(query)?))
    }

    fn delete_version(
        &mut self,
        (id, repository): (&RepositoryId, &ArtifactRepository),
        (package, version): (&str, &str),
        force: bool,
        content: &mut Content,
    ) -> Result<Value, Problem> {
        let (name, digest) = (existing(id, package, content)?, parse_version(version)?);
        let manifest = content.manifest(&name, &digest).ok_or_else(Problem::not_found)?;
        let is_tagged = !manifest.tags.is_empty();
        if is_tagged && (!force || repository.immutable_tags) {
            let message = format!("version {digest} is tagged: {:?}", manifest.tags);
            return Err(Problem::failed_precondition(message));
        }
        let lists = |manifest: &Manifest| manifest.children.iter().any(|child| child.digest == digest);
        if content.manifests(&name).any(|(_, manifest)| lists(manifest)) {
            let message = "Failed to delete version: manifest is referenced by parent manifests";
            return Err(Problem::failed_precondition(message));
        }
        content.delete_manifest(&name, &digest);
        let operation = Uuid::now_v7().to_string();
        let path = format!("projects/{}/locations/{}/operations/{operation}", id.project, id.location);
        let done =
            json!({ "name": path, "done": true, "response": { "@type": "type.googleapis.com/google.protobuf.Empty" } });
        self.operations.insert(operation, done);
        Ok(json!({ "name": path }))
    }

    fn tags(id: &RepositoryId, package: &str, query: &Query, content: &Content) -> Result<Value, Problem> {
        let name = existing(id, package, content)?;
        let rows =
            content.tags(&name).into_iter().map(|(tag, digest)| (tag.clone(), bodies::tag(id, package, &tag, &digest)));
        let Some(filter) = query.get("filter") else { return page("tags", rows, query) };
        let invalid = || Problem::invalid(format!("invalid filter `{filter}`"));
        let (field, wanted) = filter.split_once('=').ok_or_else(invalid)?;
        let wanted = wanted.strip_prefix('"').and_then(|wanted| wanted.strip_suffix('"')).ok_or_else(invalid)?;
        if !["name", "version"].contains(&field) || wanted.contains('*') {
            return Err(invalid());
        }
        page("tags", rows.filter(|(_, row)| row[field] == wanted), query)
    }

    fn create_tag(
        id: &RepositoryId,
        package: &str,
        call: &ApiRequest<'_>,
        content: &mut Content,
    ) -> Result<Value, Problem> {
        let name = existing(id, package, content)?;
        let tag = call.query.get("tagId").unwrap_or_default();
        if tag.parse::<TagName>().is_err() {
            return Err(Problem::invalid("invalid `tagId`"));
        }
        let body: Value = serde_json::from_slice(&call.body).map_err(|_| Problem::invalid("invalid JSON"))?;
        let known =
            body.as_object().is_some_and(|body| body.keys().all(|key| ["name", "version"].contains(&key.as_str())));
        let parent = format!("{}/packages/{}", id.resource(), bodies::escape(package));
        let version = body["version"].as_str().and_then(|version| version.strip_prefix(&format!("{parent}/versions/")));
        let (Some(version), true) = (version, known && body["name"] == format!("{parent}/tags/{tag}")) else {
            return Err(Problem::invalid("the tag's name or version is not of this package"));
        };
        let digest = parse_version(version)?;
        if content.manifest(&name, &digest).is_none() {
            return Err(Problem::not_found());
        }
        if content.tag(&name, tag).is_some() {
            return Err(Problem::new(409, "ALREADY_EXISTS", format!("tag \"{tag}\" already exists")));
        }
        content.move_tag(&name, tag, &digest);
        Ok(bodies::tag(id, package, tag, &digest))
    }
}

/// Returns the names of a repository's packages in the content, each with its own name; those without versions are gone.
fn packages_of<'a>(id: &RepositoryId, content: &'a Content) -> impl Iterator<Item = (&'a str, &'a str)> {
    let prefix = format!("{}/", id.in_references());
    let held = content.repositories().filter(|name| content.manifests(name).next().is_some());
    held.filter_map(move |name| Some((name, name.strip_prefix(&prefix)?)))
}

/// Returns the name of an existing package in the content.
fn existing(id: &RepositoryId, package: &str, content: &Content) -> Result<String, Problem> {
    let name = format!("{}/{package}", id.in_references());
    if content.has_repository(&name) { Ok(name) } else { Err(Problem::not_found()) }
}

fn find_tag(id: &RepositoryId, package: &str, tag: &str, content: &Content) -> Result<(String, Digest), Problem> {
    let name = existing(id, package, content)?;
    let digest = content.tag(&name, tag).map(|tag| tag.digest.clone());
    digest.map(|digest| (name, digest)).ok_or_else(Problem::not_found)
}

fn parse_version(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|_| Problem::invalid("invalid version"))
}

fn is_full(query: &Query) -> Result<bool, Problem> {
    match query.get("view") {
        None | Some("BASIC" | "VERSION_VIEW_UNSPECIFIED") => Ok(false),
        Some("FULL") => Ok(true),
        Some(_) => Err(Problem::invalid("Invalid value at 'view'")),
    }
}

fn refuse_filter(query: &Query) -> Result<(), Problem> {
    if query.get("filter").is_some() { Err(Problem::invalid("`filter` is not supported here")) } else { Ok(()) }
}

fn sorted<T>(rows: impl Iterator<Item = (String, T)>) -> Vec<(String, T)> {
    let mut rows: Vec<(String, T)> = rows.collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows
}

fn page(rows: &str, all: impl Iterator<Item = (String, Value)>, query: &Query) -> Result<Value, Problem> {
    let (found, next) = PageOf::parse(query)?.cut(all);
    Ok(with_next(rows, found, next))
}

/// An empty list is an empty object.
fn with_next(rows: &str, found: Vec<Value>, next: Option<String>) -> Value {
    let mut body = json!({});
    if !found.is_empty() {
        body[rows] = Value::Array(found);
    }
    if let Some(next) = next {
        body["nextPageToken"] = json!(next);
    }
    body
}
