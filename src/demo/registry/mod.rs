//! A registry in memory, bound to loopback only, for pushes and pulls by real clients.
//!
//! `content` is what it holds and knows nothing of HTTP; `auth` is who may do what, `faults` how it misbehaves on demand.
//! `distribution` (with `uploads`), `acr`, `artifact_registry`, `docker_hub`, `ecr`, `ghcr`, `gitlab`, `harbor`, `quay` and
//! `zot` are the dialects that it speaks, on the same content, rules and faults. `generated` answers for repositories that
//! are computed and not held. This file puts them together for each request.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request as HttpRequest, State as Shared};
use axum::http::{HeaderValue, Method, StatusCode, header, request};
use axum::response::{IntoResponse, Response};
use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::acr::AcrService;
use self::api_request::{ApiRequest, Route};
use self::auth::{Guard, IssuedTokens};
use self::date_header::DateHeader;
use self::faults::ActiveFaults;
use self::percent_encoding::percent_decode;
use self::response::Query;
use self::tls::TlsListener;
use self::uploads::Uploads;
use super::image::Image;
use crate::apply::Clock;
use crate::domain::{Digest, chain};

mod acr;
mod api_request;
mod artifact_registry;
mod auth;
mod content;
mod date_header;
mod dialect;
mod distribution;
mod docker_hub;
mod ecr;
mod faults;
mod generated;
mod ghcr;
mod gitlab;
mod harbor;
mod jwt;
mod percent_encoding;
mod quay;
mod response;
mod tls;
mod uploads;
mod zot;

pub use acr::{AcrOptions, Admin, Identity, Permission, Rate, ScopedUser, ServerRateLimits};
pub use artifact_registry::{ArtifactRegistryOptions, ArtifactRegistryService, ArtifactRepository, ServiceAccount};
pub use auth::{Action, AuthMode};
pub use content::{
    Attributes, Child, CollectedGarbage, Content, DeletionRules, GeneratedWorld, Manifest, ManifestError, Order,
    Reference, Tag, Target,
};
pub use dialect::Dialect;
pub use docker_hub::{DockerHubAccount, DockerHubOptions, DockerHubService};
pub use ecr::{EcrKeys, EcrOptions, EcrService};
pub use faults::{Fault, FaultKind};
pub use ghcr::{GhcrOptions, GhcrService, GithubToken};
pub use gitlab::{
    GitlabOptions, GitlabProject, GitlabRole, GitlabScope, GitlabService, GitlabUser, SigningKey, TagRule,
};
pub use harbor::{
    HARBOR_READS, HARBOR_REMOVES, HarborAccount, HarborOptions, HarborPermission, HarborProject, HarborSchedule,
    HarborService,
};
pub use quay::{QuayNamespace, QuayOptions, QuayScope, QuayService, QuayState, QuayToken};
pub use tls::Tls;
pub use zot::{ZotCollection, ZotOptions, ZotService, ZotUser};

/// The behaviour of an embedded registry.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port on 127.0.0.1; 0 selects a free one.
    pub port: u16,
    /// Its dialect.
    pub dialect: Dialect,
    /// Its certificate for https; `None` means plain http.
    pub tls: Option<Tls>,
    /// The effect of deleting a tag.
    pub tag_deletion: TagDeletion,
    /// True if manifests can be deleted by digest.
    pub manifest_deletion: bool,
    /// True if it has the referrers API; otherwise clients maintain fallback tags.
    pub referrers_api: bool,
    /// The most names on one page of any list, whatever a client requests.
    pub page_size: usize,
    /// The authentication of clients.
    pub auth: AuthMode,
    /// Actions denied even to authenticated clients: 403 with basic authentication, a token without it with bearer.
    pub denied: Vec<Action>,
    /// True if it refuses every change.
    pub read_only: bool,
}

/// The effect of deleting a tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TagDeletion {
    /// The tag is removed and the manifest remains, as in distribution 3.
    #[default]
    Untags,
    /// It is refused, as in distribution 2.8: 400 if manifests can be deleted, 405 if not.
    Unsupported,
    /// The manifest is deleted, and with it all its tags.
    DeletesManifest,
    /// The tag is removed, and the manifest with its last one.
    DeletesManifestWithLastTag,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            dialect: Dialect::Distribution,
            tls: None,
            tag_deletion: TagDeletion::Untags,
            manifest_deletion: true,
            referrers_api: true,
            page_size: 1000,
            auth: AuthMode::Open,
            denied: Vec::new(),
            read_only: false,
        }
    }
}

/// A completed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedRequest {
    /// Its method.
    pub method: Method,
    /// Its path, with its query.
    pub path: String,
    /// The status of its response; 200 if the connection was closed before anything was sent.
    pub status: u16,
    /// True if it had an `Authorization` header.
    pub authorization_present: bool,
}

/// A running registry. It stops on drop.
#[derive(Debug)]
pub struct EmbeddedRegistry {
    server: Arc<Server>,
    stop: Option<oneshot::Sender<()>>,
    server_task: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Server {
    url: String,
    host: String,
    options: Options,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    content: Content,
    uploads: Uploads,
    tokens: IssuedTokens,
    acr: Option<AcrService>,
    artifact_registry: Option<ArtifactRegistryService>,
    docker_hub: Option<DockerHubService>,
    ecr: Option<EcrService>,
    ghcr: Option<GhcrService>,
    gitlab: Option<GitlabService>,
    harbor: Option<HarborService>,
    quay: Option<QuayService>,
    zot: Option<ZotService>,
    faults: ActiveFaults,
    requests: Vec<ServedRequest>,
    date: DateHeader,
}

impl EmbeddedRegistry {
    /// Starts an empty registry on 127.0.0.1.
    ///
    /// # Errors
    /// Returns an error if the port cannot be bound, or the certificate or its key is invalid.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, options.port))).await?;
        let host = listener.local_addr()?.to_string();
        let mut state = State::default();
        match &options.dialect {
            Dialect::Distribution => {}
            Dialect::Acr(acr) => {
                state.content.set_rules(acr.rules());
                state.acr = Some(AcrService::new(acr));
            }
            Dialect::ArtifactRegistry(found) => state.artifact_registry = Some(ArtifactRegistryService::new(found)),
            Dialect::DockerHub(docker_hub) => state.docker_hub = Some(DockerHubService::new(docker_hub)),
            Dialect::Ecr(ecr) => state.ecr = Some(EcrService::new(ecr)),
            Dialect::Ghcr(ghcr) => state.ghcr = Some(GhcrService::new(ghcr)),
            Dialect::Gitlab(gitlab) => state.gitlab = Some(GitlabService::new(gitlab)),
            Dialect::Harbor(harbor) => state.harbor = Some(HarborService::new(harbor)),
            Dialect::Quay(quay) => state.quay = Some(QuayService::new(quay)),
            Dialect::Zot(zot) => state.zot = Some(ZotService::new(zot)),
        }
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let tls = options.tls.clone();
        let served = Arc::new(Server { url: format!("{scheme}://{host}"), host, options, state: Mutex::new(state) });
        let router = Router::new().fallback(handle).with_state(Arc::clone(&served));
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async move { drop(stopped.await) };
        // Serving never fails: axum handles errors of single connections.
        let serving = match tls {
            None => tokio::spawn(async move {
                let _served = axum::serve(listener, router).with_graceful_shutdown(until).await;
            }),
            Some(tls) => {
                let listener = TlsListener::new(listener, &tls)?;
                tokio::spawn(async move {
                    let _served = axum::serve(listener, router).with_graceful_shutdown(until).await;
                })
            }
        };
        Ok(Self { server: served, stop: Some(stop), server_task: Some(serving) })
    }

    /// Returns its address: `http://127.0.0.1:<port>`, or `https` if it has a certificate.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url.clone()
    }

    /// Returns its host as image references write it: `127.0.0.1:<port>`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.server.host
    }

    /// Completes requests in progress, closes all connections, and frees the port.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(serving) = self.server_task.take() {
            // It ends when the last connection does; it cannot fail, and was not cancelled.
            let _ended = serving.await;
        }
    }

    /// Runs a function with the content, exclusively between requests. It must not call this registry itself.
    pub fn content<T>(&self, run: impl FnOnce(&mut Content) -> T) -> T {
        run(&mut self.server.state().content)
    }

    /// Returns the tags of a repository with their digests.
    #[must_use]
    pub fn tags(&self, repository: &str) -> BTreeMap<String, Digest> {
        self.content(|content| content.tags(repository))
    }

    /// Returns a manifest's bytes and media type.
    #[must_use]
    pub fn manifest(&self, repository: &str, digest: &Digest) -> Option<(Bytes, String)> {
        self.content(|content| {
            content.manifest(repository, digest).map(|manifest| (manifest.bytes.clone(), manifest.media_type.clone()))
        })
    }

    /// Stores an image with everything that it needs under a tag.
    pub fn put_image(&self, repository: &str, tag: &str, image: &Image) {
        self.content(|content| content.put_image(repository, Some(tag), image));
    }

    /// Points a tag at a manifest of its repository. Returns false if the manifest does not exist.
    #[must_use = "the manifest may not be there"]
    pub fn move_tag(&self, repository: &str, tag: &str, digest: &Digest) -> bool {
        self.content(|content| content.move_tag(repository, tag, digest))
    }

    /// Removes a tag and leaves its manifest. Returns false if the tag does not exist.
    #[must_use = "the tag may not be there"]
    pub fn delete_tag(&self, repository: &str, tag: &str) -> bool {
        self.content(|content| content.delete_tag(repository, tag))
    }

    /// Removes content that no tag reaches.
    #[must_use = "it says what was freed"]
    pub fn collect_garbage(&self) -> CollectedGarbage {
        self.content(Content::collect_garbage)
    }

    /// Injects a fault from now on.
    pub fn inject(&self, fault: Fault) {
        self.server.state().faults.inject(fault);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.server.state().faults.clear();
    }

    /// Ends all bearer tokens that were given out, and Harbor's accounts.
    pub fn expire_tokens(&self) {
        let state = &mut *self.server.state();
        state.tokens.expire();
        if let Some(acr) = &mut state.acr {
            acr.expire_tokens();
        }
        if let Some(artifact_registry) = &mut state.artifact_registry {
            artifact_registry.expire_tokens();
        }
        if let Some(docker_hub) = &mut state.docker_hub {
            docker_hub.expire_tokens();
        }
        if let Some(ghcr) = &mut state.ghcr {
            ghcr.expire_tokens();
        }
        if let Some(gitlab) = &mut state.gitlab {
            gitlab.expire_tokens();
        }
        if let Some(quay) = &mut state.quay {
            quay.expire_tokens();
        }
        if let Some(harbor) = &mut state.harbor {
            harbor.expire_accounts();
        }
        if let Some(ecr) = &mut state.ecr {
            ecr.expire_keys();
        }
        if let Some(zot) = &mut state.zot {
            zot.expire_users();
        }
    }

    /// Makes time pass for what it holds and for the tokens that it gave out, not for its `Date`, and does what is due
    /// by then. Only where it speaks the API of a product.
    pub fn advance_time(&self, time: SignedDuration) {
        self.acr(|acr| acr.advance_time(time));
        self.artifact_registry(|artifact_registry| artifact_registry.advance_time(time));
        self.docker_hub(|docker_hub| docker_hub.advance_time(time));
        self.ecr(|ecr| ecr.advance_time(time));
        self.ghcr(|ghcr| ghcr.advance_time(time));
        self.gitlab(|gitlab| gitlab.advance_time(time));
        self.harbor(|harbor, _| harbor.advance_time(time));
        self.quay(|quay| quay.advance_time(time));
        self.zot(|zot| zot.advance_time(time));
        // The next access finds the due actions done.
        drop(self.server.state());
    }

    /// Sets the clock of its `Date` header, which is the real time otherwise. With the ACR dialect the clock is in its
    /// options.
    pub fn set_clock(&self, clock: Clock) {
        self.server.state().date.clock = Some(clock);
    }

    /// Sets the lead of its `Date` header over its clock.
    pub fn set_date_skew(&self, skew: SignedDuration) {
        self.acr(|acr| acr.set_date_skew(skew));
        self.server.state().date.skew = skew;
    }

    /// Switches between roles for the registry (RBAC mode) and for repositories (ABAC mode), which invalidates all
    /// tokens.
    pub fn set_abac(&self, abac: bool) {
        self.acr(|acr| acr.set_abac(abac));
    }

    /// Sets the enforced rates, starting with full buckets.
    pub fn set_rate_limits(&self, limits: ServerRateLimits) {
        self.acr(|acr| acr.set_rate_limits(limits));
    }

    /// Changes what Artifact Registry knows besides the registry's content. Nothing where it does not speak its API.
    pub fn artifact_registry(&self, change: impl FnOnce(&mut ArtifactRegistryService)) {
        if let Some(artifact_registry) = &mut self.server.state().artifact_registry {
            change(artifact_registry);
        }
    }

    /// Changes what Docker Hub knows besides the registry's content. Nothing where it does not speak its API.
    pub fn docker_hub(&self, change: impl FnOnce(&mut DockerHubService)) {
        if let Some(docker_hub) = &mut self.server.state().docker_hub {
            change(docker_hub);
        }
    }

    /// Changes what Amazon ECR knows besides the registry's content. Nothing where it does not speak its API.
    pub fn ecr(&self, change: impl FnOnce(&mut EcrService)) {
        if let Some(ecr) = &mut self.server.state().ecr {
            change(ecr);
        }
    }

    /// Changes what GitHub knows besides the registry's content. Nothing where it does not speak its API.
    pub fn ghcr(&self, change: impl FnOnce(&mut GhcrService)) {
        if let Some(ghcr) = &mut self.server.state().ghcr {
            change(ghcr);
        }
    }

    /// Changes what GitLab knows besides the registry's content. Nothing where it does not speak its API.
    pub fn gitlab(&self, change: impl FnOnce(&mut GitlabService)) {
        if let Some(gitlab) = &mut self.server.state().gitlab {
            change(gitlab);
        }
    }

    /// Changes what Harbor knows, and its content. Nothing where it does not speak its API.
    pub fn harbor(&self, change: impl FnOnce(&mut HarborService, &mut Content)) {
        if let State { harbor: Some(harbor), content, .. } = &mut *self.server.state() {
            change(harbor, content);
        }
    }

    /// Changes what Quay knows besides its content. Nothing where it does not speak its API.
    pub fn quay(&self, change: impl FnOnce(&mut QuayService)) {
        if let Some(quay) = &mut self.server.state().quay {
            change(quay);
        }
    }

    /// Changes what zot knows besides its content. Nothing where it does not speak its API.
    pub fn zot(&self, change: impl FnOnce(&mut ZotService)) {
        if let Some(zot) = &mut self.server.state().zot {
            change(zot);
        }
    }

    fn acr(&self, change: impl FnOnce(&mut AcrService)) {
        if let Some(acr) = &mut self.server.state().acr {
            change(acr);
        }
    }

    /// Returns the completed requests, in the order of their responses.
    #[must_use]
    pub fn requests(&self) -> Vec<ServedRequest> {
        self.server.state().requests.clone()
    }

    /// Clears the recorded requests.
    pub fn clear_requests(&self) {
        self.server.state().requests.clear();
    }
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(now) = state.acr.as_ref().map(AcrService::now) {
            state.content.set_now(now);
        }
        let State { artifact_registry, docker_hub, ecr, ghcr, quay, gitlab, harbor, zot, content, .. } = &mut *state;
        if let Some(artifact_registry) = artifact_registry {
            content.set_now(artifact_registry.now());
        }
        if let Some(docker_hub) = docker_hub {
            content.set_now(docker_hub.now());
        }
        if let Some(ecr) = ecr {
            content.set_now(ecr.now());
        }
        if let Some(ghcr) = ghcr {
            content.set_now(ghcr.now());
        }
        if let Some(harbor) = harbor {
            content.set_now(harbor.now());
        }
        if let Some(quay) = quay {
            content.set_now(quay.now());
            quay.collect(content);
        }
        if let Some(gitlab) = gitlab {
            content.set_now(gitlab.now());
            gitlab.collect(content);
        }
        if let Some(zot) = zot {
            content.set_now(zot.now());
            zot.collect(content);
        }
        state
    }

    /// Handles a request without faults.
    fn respond(&self, parts: &request::Parts, body: Bytes) -> Response {
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let path = percent_decode(parts.uri.path());
        let (method, headers) = (&parts.method, &parts.headers);
        let call = ApiRequest { method, path: parts.uri.path(), query: &query, headers, body };
        let state = &mut *self.state();
        if let Some(acr) = &mut state.acr {
            let realm = (self.url.as_str(), self.host.as_str());
            return acr.respond(call, &path, realm, &self.options, (&mut state.content, &mut state.uploads));
        }
        if let Some(artifact_registry) = &mut state.artifact_registry {
            let content = (&mut state.content, &mut state.uploads);
            return artifact_registry.respond(call, (&self.url, &self.options), content);
        }
        if let Some(docker_hub) = &mut state.docker_hub {
            let content = (&mut state.content, &mut state.uploads, &mut state.tokens);
            return docker_hub.respond(call, &path, (&self.url, &self.host, &self.options), content);
        }
        if let Some(ecr) = &mut state.ecr {
            return ecr.respond(&call, &self.host, &mut state.content);
        }
        if let Some(ghcr) = &mut state.ghcr {
            let content = (&mut state.content, &mut state.uploads);
            return ghcr.respond(call, &path, (&self.url, &self.options), content);
        }
        if let Some(gitlab) = &mut state.gitlab {
            let content = (&mut state.content, &mut state.uploads);
            return gitlab.respond(call, &path, (&self.url, &self.options), content);
        }
        if let Some(harbor) = &mut state.harbor {
            if let Some(response) = harbor.respond(&call, &self.url, &mut state.content) {
                return response;
            }
            let route = Route::parse(&path).expect("what passed is a request of the registry API");
            return route.respond(call, &self.options, &mut state.content, &mut state.uploads);
        }
        if let Some(quay) = &mut state.quay {
            return quay.respond(&call, &path, &self.url, &mut state.content);
        }
        if let Some(zot) = &mut state.zot {
            return zot.respond(call, &path, &self.options, (&mut state.content, &mut state.uploads));
        }
        let guard = Guard { mode: &self.options.auth, denied: &self.options.denied, host: &self.host };
        if parts.uri.path() == "/token" {
            let form = Query::parse(&String::from_utf8_lossy(&call.body));
            return guard.token_response(method, authorization, &query, &form, &mut state.tokens);
        }
        let Some(route) = Route::parse(&path) else {
            return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
        };
        if let Err(failure) = guard.authorize(authorization, &route.required_access(method, &query), &state.tokens) {
            return failure.into_response();
        }
        route.respond(call, &self.options, &mut state.content, &mut state.uploads)
    }
}

/// The largest request body: a layer that a client pushes.
const MAX_BODY_BYTES: usize = 1 << 30;

async fn handle(Shared(served): Shared<Arc<Server>>, request: HttpRequest) -> Response {
    let (parts, body) = request.into_parts();
    let mut path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    // All operations of Amazon ECR have the same path.
    let target = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok()?.split_once('.'));
    path.push_str(target.map_or("", |(_, operation)| operation));
    let met = served.state().faults.matching(&parts.method, &path);
    for fault in &met {
        match fault {
            FaultKind::BeforeRequest(change) => change(&mut served.state().content),
            FaultKind::Delay(time) => tokio::time::sleep(*time).await,
            _ => {}
        }
    }
    let later = met.iter().find_map(FaultKind::handling_delay);
    let mut response = match met.iter().find_map(FaultKind::replacement_response) {
        Some(response) => {
            if let Some(time) = later {
                let (served, parts) = (Arc::clone(&served), parts.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    served.respond(&parts, Bytes::new());
                });
            }
            response
        }
        None => match to_bytes(body, MAX_BODY_BYTES).await {
            Ok(body) => served.respond(&parts, body),
            Err(error) => (StatusCode::BAD_REQUEST, format!("the request's body: {}\n", chain(&error))).into_response(),
        },
    };
    for fault in &met {
        response = fault.change_response(response, &path).await;
    }
    let version = header::HeaderName::from_static("docker-distribution-api-version");
    response.headers_mut().insert(version, HeaderValue::from_static("registry/2.0"));
    {
        let state = served.state();
        match (&state.acr, state.date.value()) {
            (Some(acr), _) => acr.add_common_headers(&mut response),
            (None, Some(date)) => drop(response.headers_mut().insert(header::DATE, date)),
            (None, None) => {}
        }
    }
    let authorization_present = parts.headers.contains_key(header::AUTHORIZATION);
    let answered =
        ServedRequest { method: parts.method, path, status: response.status().as_u16(), authorization_present };
    served.state().requests.push(answered);
    response
}
