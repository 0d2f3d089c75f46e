//! GitHub's container registry by GitHub's REST API, against the embedded one.

mod clients;
mod deletion;
mod reader;
mod requests;
mod simulator;
mod story;
mod writer;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use jiff::SignedDuration;
use tagwarden::demo::image::Image;
use tagwarden::demo::registry::{Dialect, EmbeddedRegistry, FaultKind, GhcrOptions, GhcrService, GithubToken, Options};
use tagwarden::domain::{Digest, RemovalMethod, Repository};
use tagwarden::registry::providers::{Ghcr, ProductApi};
use tagwarden::registry::{Auth, RateLimits, RegistryConnection, RegistryReader, RegistrySettings, connect};

use crate::registry::{name, quick};
use crate::support::memory::MemoryCache;
use crate::workflow::{WorkflowFixture, image, noon};

/// The token of the tests.
const TOKEN: &str = "ghp_ofTheTests";
/// All scopes that a removal and its restore need.
const SCOPES: [&str; 3] = ["read:packages", "write:packages", "delete:packages"];
pub(crate) const API: &str = "contoso/api";
const KIND: &str = "kind = \"ghcr\"\nauth = { kind = \"token\", token_file = \"secret\" }\nconcurrency = 4\n\
                    rates = { read = 1000000, write = 1000000, delete = 1000000 }";

fn options() -> GhcrOptions {
    GhcrOptions::new(Arc::new(noon), "contoso").token(GithubToken::classic(TOKEN, "bot", &SCOPES))
}

async fn start(options: GhcrOptions) -> EmbeddedRegistry {
    let registry =
        EmbeddedRegistry::start(Options { dialect: Dialect::ghcr(options), ..Options::default() }).await.unwrap();
    registry.set_clock(Arc::new(noon));
    registry
}

/// Settings that name the API, which is at the address of the embedded registry.
fn settings(url: &str, token: &str) -> RegistrySettings {
    let settings = RegistrySettings::with_defaults("main".parse().unwrap(), &Ghcr, url.parse().unwrap());
    let api = ProductApi { endpoint: format!("{url}/api/v3").parse().unwrap(), token: token.into() };
    let fast = Some(1_000_000);
    RegistrySettings {
        auth: Auth::Token(token.into()),
        api: Some(api),
        namespaces: vec!["contoso".to_owned()],
        removal: RemovalMethod::DeleteManifest,
        rate_limits: RateLimits { read: fast, write: fast, delete: fast },
        ..settings
    }
}

fn connection(registry: &EmbeddedRegistry) -> RegistryConnection {
    connect(settings(&registry.url(), TOKEN), quick()).unwrap()
}

fn reader(registry: &EmbeddedRegistry) -> Arc<dyn RegistryReader> {
    connection(registry).reader()
}

/// Reads a repository with a fresh reader and cache.
async fn read(registry: &EmbeddedRegistry) -> Repository {
    reader(registry).repository(&name(API), &BTreeSet::new(), &MemoryCache::default()).await
}

/// Puts an image that was pushed so many days before the registry's now under a tag.
pub(crate) fn put(registry: &EmbeddedRegistry, repository: &str, tag: &str, image: &Image, days: i64) -> Digest {
    registry.content(|content| content.put_image(repository, Some(tag), image));
    registry.ghcr(|ghcr| date(ghcr, repository, image, days));
    image.digest.clone()
}

fn date(ghcr: &mut GhcrService, repository: &str, image: &Image, days: i64) {
    let at = noon() - SignedDuration::from_hours(24 * days);
    ghcr.date_version(repository, &image.digest, at, at);
    image.children.iter().for_each(|child| date(ghcr, repository, child, days));
}

/// The requests so far: those to the REST API, and those for manifests.
fn request_counts(registry: &EmbeddedRegistry) -> (usize, usize) {
    let requests = registry.requests();
    let of = |part: &str| requests.iter().filter(|request| request.path.contains(part)).count();
    (of("/api/v3/"), of("/manifests/"))
}

/// A refusal in GitHub's words.
fn refusal(status: u16, message: &str, headers: &[(&str, &str)]) -> FaultKind {
    let own = [("x-github-request-id", "C0FE:1")];
    let headers = own.iter().chain(headers).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    FaultKind::Status { status, headers, body: format!("{{\"message\":\"{message}\",\"status\":\"{status}\"}}") }
}

/// The answer of a busy GitHub, which asks for no pause so that no test waits.
fn secondary_limit() -> FaultKind {
    refusal(403, "You have exceeded a secondary rate limit.", &[("retry-after", "0")])
}

/// A registry with settings and policies, at a time that can be set.
pub(crate) async fn fixture(
    change: impl FnOnce(GhcrOptions) -> GhcrOptions,
    lines: &str,
    policies: &str,
) -> WorkflowFixture {
    let now = Arc::new(Mutex::new(noon()));
    let theirs = Arc::clone(&now);
    let options = GhcrOptions { clock: Arc::new(move || *theirs.lock().unwrap()), ..options() };
    let registry = start(change(options)).await;
    let walk = WorkflowFixture::at(registry, KIND, now);
    std::fs::write(walk.path("secret"), TOKEN).unwrap();
    let api = format!("api = {{ endpoint = \"{}/api/v3\", token_file = \"secret\" }}", walk.registry.url());
    let owners = if lines.contains("repositories") { "" } else { "namespaces = [\"contoso\"]\n" };
    walk.settings("approved", &format!("{owners}{api}\n{lines}"), "");
    walk.policies(policies);
    walk
}
