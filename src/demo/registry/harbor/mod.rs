//! The dialect of Harbor: its API under `/api/v2.0`, and its registry API under `/v2` for accounts with passwords.
//!
//! It follows the source of goharbor/harbor at commit c50c7ddd: routes, permissions, sizes of pages, errors and their words.
//! Where a client asks for something that `api/v2.0/swagger.yaml` does not have, it is refused, which Harbor itself does not
//! always do: an unknown parameter, a condition or an order that is not known here.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use self::access::{Access, Problem};
use self::artifacts::ArtifactTable;
use self::route::{PageOf, Route, Selection};
use super::api_request::{ApiRequest, Route as RegistryRoute, parse_reference};
use super::content::{Content, Reference};
use super::response::{Query, json_response};
use crate::apply::Clock;
use crate::domain::Digest;

mod access;
mod artifacts;
mod bodies;
mod changes;
mod route;

pub use access::{HARBOR_READS, HARBOR_REMOVES, HarborAccount, HarborPermission};

/// The set-up of a registry with Harbor's API.
#[derive(Clone)]
pub struct HarborOptions {
    /// The clock of pushes and pulls.
    pub clock: Clock,
    /// The accounts that it knows.
    pub accounts: Vec<HarborAccount>,
    /// The projects, by name. A repository outside of them is in none.
    pub projects: BTreeMap<String, HarborProject>,
    /// The schedule of garbage collection, if there ever was one.
    pub garbage_collection: Option<HarborSchedule>,
    /// True if its database has lost what indexes list.
    pub lost_references: bool,
    /// True if nothing may be changed.
    pub read_only: bool,
}

/// A project.
#[derive(Debug, Clone, Default)]
pub struct HarborProject {
    /// Its id.
    pub id: i64,
    /// True if everybody may read it.
    pub public: bool,
    /// The id of the registry of which it is a cache, or 0.
    pub registry_id: i64,
    /// Its tag retention policy, as the API shows it.
    pub retention: Option<Value>,
    /// Its rules for immutable tags: globs of repositories and of tags.
    pub immutable: Vec<(String, String)>,
}

impl HarborProject {
    /// A private project.
    #[must_use]
    pub fn new(id: i64) -> Self {
        Self { id, ..Self::default() }
    }

    /// The id of its tag retention policy.
    fn retention_id(&self) -> i64 {
        self.id + 100
    }
}

/// A schedule of garbage collection.
#[derive(Debug, Clone)]
pub struct HarborSchedule {
    /// `Hourly`, `Daily`, `Weekly`, `Custom`, `Manual` or `None`.
    pub kind: String,
    /// Its times, in cron's words.
    pub cron: String,
    /// True if it deletes untagged artifacts.
    pub delete_untagged: bool,
}

impl HarborOptions {
    /// A registry with that clock and one project, into which nobody can sign in yet.
    #[must_use]
    pub fn new(clock: Clock, project: &str) -> Self {
        Self {
            clock,
            accounts: Vec::new(),
            projects: [(project.to_owned(), HarborProject::new(1))].into(),
            garbage_collection: None,
            lost_references: false,
            read_only: false,
        }
    }

    /// The same with one more account.
    #[must_use]
    pub fn account(mut self, account: HarborAccount) -> Self {
        self.accounts.push(account);
        self
    }
}

impl std::fmt::Debug for HarborOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HarborOptions").field("projects", &self.projects).finish_non_exhaustive()
    }
}

/// The data of a running registry with Harbor's API, besides its content.
#[derive(Debug)]
pub struct HarborService {
    /// Its set-up, which a test may change.
    pub options: HarborOptions,
    /// Time that was made to pass.
    elapsed: SignedDuration,
    /// The records of each repository beside what was pushed.
    tables: BTreeMap<String, ArtifactTable>,
    /// The ids of repositories.
    repositories: BTreeMap<String, i64>,
    /// Manifests that it gives to nobody, for the vulnerabilities in them.
    withheld: Vec<Digest>,
}

impl HarborService {
    pub(super) fn new(options: &HarborOptions) -> Self {
        Self {
            options: options.clone(),
            elapsed: SignedDuration::ZERO,
            tables: BTreeMap::new(),
            repositories: BTreeMap::new(),
            withheld: Vec::new(),
        }
    }

    /// The registry's time.
    pub(super) fn now(&self) -> Timestamp {
        (self.options.clock)() + self.elapsed
    }

    pub(super) fn advance_time(&mut self, time: SignedDuration) {
        self.elapsed += time;
    }

    /// Lets all accounts expire.
    pub(super) fn expire_accounts(&mut self) {
        let now = self.now();
        for account in &mut self.options.accounts {
            account.expires_at = Some(now);
        }
    }

    /// Gives a manifest to nobody from now on, for the vulnerabilities in it.
    pub fn withhold(&mut self, digest: &Digest) {
        self.withheld.push(digest.clone());
    }

    /// Answers a request as if nothing was wrong with this registry; `None` where its registry API is to answer.
    pub(super) fn respond(&mut self, call: &ApiRequest<'_>, url: &str, content: &mut Content) -> Option<Response> {
        let mut response = if call.path == "/v2" || call.path.starts_with("/v2/") {
            self.guard_registry(call, url, content)?
        } else if let Some(route) = Route::parse(call.path) {
            self.route(&route, call, content).unwrap_or_else(Problem::into_response)
        } else if call.path.starts_with("/api/") {
            Problem::framework(404, &format!("path {} was not found", call.path)).into_response()
        } else {
            // The portal answers everything else with its page.
            let page = "<!doctype html><html><head><title>Harbor</title></head></html>";
            (StatusCode::OK, [(header::CONTENT_TYPE, "text/html")], page).into_response()
        };
        response.headers_mut().insert("x-request-id", HeaderValue::from_static("req-of-the-simulator"));
        Some(response)
    }

    fn access(&self, call: &ApiRequest<'_>) -> Access<'_> {
        let authorization = call.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        Access::of(&self.options.accounts, authorization, self.now())
    }

    fn route(&mut self, route: &Route, call: &ApiRequest<'_>, content: &mut Content) -> Result<Response, Problem> {
        if self.options.read_only && !matches!(*call.method, Method::GET | Method::HEAD) {
            return Err(Problem::read_only());
        }
        route.check_parameters(call.query)?;
        match (route, call.method) {
            (Route::Tag { name, reference, tag }, &Method::DELETE) => {
                self.require(call, name, ("tag", "delete"))?;
                self.delete_tag(name, reference, tag, content)
            }
            (Route::Tags { name, reference }, &Method::POST) => {
                self.require(call, name, ("tag", "create"))?;
                self.create_tag(name, reference, &tag_to_create(call)?, content)
            }
            (Route::Artifact { name, reference }, &Method::DELETE) => {
                self.require(call, name, ("artifact", "delete"))?;
                let digest = Self::find(name, reference, content)?;
                self.delete_artifact(name, &digest, true, content)?;
                Ok(StatusCode::OK.into_response())
            }
            (_, &Method::GET) => self.read(route, call, content),
            (_, method) => Err(Problem::framework(405, &format!("method {method} is not allowed, but [GET] are"))),
        }
    }

    fn require(
        &self,
        call: &ApiRequest<'_>,
        repository: &str,
        needed: access::HarborPermission,
    ) -> Result<(), Problem> {
        let project = project_of(repository);
        self.access(call).require(project, self.options.projects.get(project), needed)
    }

    /// Lets a request to the registry API pass, or answers it. A pull is noted.
    fn guard_registry(&mut self, call: &ApiRequest<'_>, url: &str, content: &mut Content) -> Option<Response> {
        let decoded = super::percent_decode(call.path);
        let access = self.access(call);
        let is_signed = call.headers.contains_key(header::AUTHORIZATION);
        let Some(route) = RegistryRoute::parse(&decoded) else {
            return Some((StatusCode::NOT_FOUND, "404 page not found\n").into_response());
        };
        let action = match *call.method {
            Method::GET | Method::HEAD => "pull",
            Method::DELETE => "delete",
            _ => "push",
        };
        let allowed = match route.name() {
            None => access.is_authenticated(),
            Some(name) => {
                let project = project_of(name);
                is_signed && access.may(project, self.options.projects.get(project), ("repository", action))
            }
        };
        if !allowed {
            return Some(unauthorized(url, is_signed));
        }
        let RegistryRoute::Manifest { name, reference } = &route else { return None };
        if action == "delete" {
            let deleted = match parse_reference(reference) {
                Ok(Reference::Digest(digest)) => self.delete_artifact(name, &digest, true, content),
                _ => Err(Problem::new(400, "UNSUPPORTED", "the operation isn't supported")),
            };
            let done = |()| StatusCode::ACCEPTED.into_response();
            return Some(deleted.map_or_else(Problem::into_response, done));
        }
        let found = parse_reference(reference).ok().and_then(|reference| content.resolve(name, &reference))?;
        if action == "pull" && self.withheld.contains(&found) {
            let message = "current image with \"2 vulnerabilities\" cannot be pulled due to configured policy in 'Prevent \
                           images with vulnerability severity of \"High\" or higher from running.'";
            return Some(Problem::new(412, "PROJECTPOLICYVIOLATION", message).into_response());
        }
        if *call.method == Method::GET {
            let now = self.now();
            self.table(name, content).record_pull(&found, reference, now);
        }
        None
    }

    /// The records of a repository, brought up to the present pushes.
    fn table(&mut self, name: &str, content: &Content) -> &mut ArtifactTable {
        let table = self.tables.entry(name.to_owned()).or_default();
        table.update(name, content);
        table
    }

    /// The ids of all repositories, given in the order in which they were met.
    fn repository_ids(&mut self, content: &Content) -> &BTreeMap<String, i64> {
        for name in content.repositories() {
            if !self.repositories.contains_key(name) {
                let next = i64::try_from(self.repositories.len()).unwrap_or(i64::MAX) + 1;
                self.repositories.insert(name.to_owned(), next);
            }
        }
        self.repositories.retain(|name, _| content.has_repository(name));
        &self.repositories
    }

    /// The digest that a reference names.
    fn find(name: &str, reference: &str, content: &Content) -> Result<Digest, Problem> {
        let found = parse_reference(reference).ok().and_then(|reference| content.resolve(name, &reference));
        let separator = if reference.contains(':') { "@" } else { ":" };
        found.ok_or_else(|| Problem::not_found(&format!("artifact {name}{separator}{reference}")))
    }
}

/// The name in the body of a request for a new tag, which must be the JSON that is published.
fn tag_to_create(call: &ApiRequest<'_>) -> Result<String, Problem> {
    let kind = call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/json") {
        return Err(Problem::framework(
            415,
            &format!("unsupported media type {kind:?}, only [application/json] are allowed"),
        ));
    }
    let body: Option<Value> = serde_json::from_slice(&call.body).ok();
    let name = body.as_ref().and_then(|body| body.get("name")).and_then(Value::as_str);
    name.map(str::to_owned).ok_or_else(|| Problem::invalid("name in body is required"))
}

/// The answer to a request of the registry API that is not allowed.
fn unauthorized(url: &str, is_signed: bool) -> Response {
    let challenge = if is_signed {
        "Basic realm=\"harbor\"".to_owned()
    } else {
        format!("Bearer realm=\"{url}/service/token\",service=\"harbor-registry\"")
    };
    let mut response = Problem::new(401, "UNAUTHORIZED", "unauthorized to access repository").into_response();
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::try_from(challenge).expect("a URL is plain text"));
    response
}

/// A page of a list with the headers that belong to it.
fn list<T: Into<Value>>(call: &ApiRequest<'_>, selection: &Selection, page: PageOf<T>) -> Response {
    let rows: Vec<Value> = page.rows.into_iter().map(Into::into).collect();
    let body = if rows.is_empty() { json!([]) } else { Value::Array(rows) };
    let mut response = ok(&body);
    let headers = response.headers_mut();
    headers.insert("x-total-count", HeaderValue::from(page.total));
    if page.has_next {
        let link = format!("<{}?{}>; rel=\"next\"", call.path, next_query(selection, call.query));
        headers.insert(header::LINK, HeaderValue::try_from(link).expect("an encoded query is plain text"));
    }
    response
}

fn next_query(selection: &Selection, query: &Query) -> String {
    selection.next_page(query)
}

fn ok(body: &Value) -> Response {
    json_response(StatusCode::OK, "application/json", body)
}

/// The part of a repository's name before its first slash.
fn project_of(repository: &str) -> &str {
    repository.split('/').next().unwrap_or_default()
}
