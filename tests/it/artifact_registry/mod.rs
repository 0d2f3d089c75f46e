//! Google Artifact Registry by its own API: request by request, and as a platform owner uses it, against the embedded one; and
//! that one against Google's own client.

mod cleanup;
mod clients;
mod reader;
mod requests;
mod rules;
mod story;
mod tokens;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use jiff::SignedDuration;
use serde_json::json;
use tagwarden::demo::image::Image;
use tagwarden::demo::registry::{
    ArtifactRegistryOptions, ArtifactRegistryService, ArtifactRepository, Dialect, EmbeddedRegistry, FaultKind,
    Options, ServiceAccount,
};
use tagwarden::domain::{Digest, Repository};
use tagwarden::registry::providers::{ArtifactRegistry, GoogleIdentity};
use tagwarden::registry::{Auth, RegistryReader, RegistrySettings, RegistryWriter, connect};

use crate::registry::{name, quick};
use crate::support::lease::writer_of;
use crate::support::memory::MemoryCache;
use crate::workflow::{WorkflowFixture, image, noon};

const LOCATION: &str = "europe-west3";
/// The host of image references, which the settings name as an alias of the embedded registry.
const HOST: &str = "europe-west3-docker.pkg.dev";
pub(crate) const API: &str = "acme/shop/api";
const TOKEN: &str = "ya29.of-the-tests";
const EMAIL: &str = "tagwarden@acme.iam.gserviceaccount.com";
const KIND: &str = "kind = \"artifact-registry\"\naliases = [\"europe-west3-docker.pkg.dev\"]\nnamespaces = [\"acme\"]\n\
                    auth = { kind = \"google-credentials\", credentials_file = \"key.json\" }\nconcurrency = 4";

fn options() -> ArtifactRegistryOptions {
    let options = ArtifactRegistryOptions::new(Arc::new(noon), LOCATION);
    let options = ArtifactRegistryOptions { tokens: vec![TOKEN.to_owned()], ..options };
    options.repository("acme/shop", ArtifactRepository::default())
}

async fn start(options: ArtifactRegistryOptions) -> EmbeddedRegistry {
    let dialect = Dialect::artifact_registry(options);
    EmbeddedRegistry::start(Options { dialect, ..Options::default() }).await.unwrap()
}

fn settings(url: &str) -> RegistrySettings {
    let settings = RegistrySettings::with_defaults("main".parse().unwrap(), &ArtifactRegistry, url.parse().unwrap());
    RegistrySettings {
        auth: Auth::Token(TOKEN.into()),
        aliases: vec![HOST.to_owned()],
        namespaces: vec!["acme".to_owned()],
        concurrency: 4,
        ..settings
    }
}

fn settings_of(url: &str, identity: GoogleIdentity) -> RegistrySettings {
    RegistrySettings { auth: Auth::Google(Box::new(identity)), ..settings(url) }
}

fn reader(url: &str) -> Arc<dyn RegistryReader> {
    connect(settings(url), quick()).unwrap().reader()
}

fn writer(url: &str) -> Arc<dyn RegistryWriter> {
    writer_of(&ArtifactRegistry, settings(url), quick())
}

/// Reads [`API`] with a fresh reader and cache.
async fn read(registry: &EmbeddedRegistry) -> Repository {
    reader(&registry.url()).repository(&name(API), &BTreeSet::new(), &MemoryCache::default()).await
}

/// Puts an image that was uploaded so many days before the registry's now under a tag.
pub(crate) fn put(registry: &EmbeddedRegistry, repository: &str, tag: &str, image: &Image, days: i64) -> Digest {
    registry.content(|content| content.put_image(repository, Some(tag), image));
    registry.artifact_registry(|service| date(service, repository, image, days));
    image.digest.clone()
}

fn date(service: &mut ArtifactRegistryService, repository: &str, image: &Image, days: i64) {
    service.date_image(repository, &image.digest, noon() - SignedDuration::from_hours(24 * days));
    image.children.iter().for_each(|child| date(service, repository, child, days));
}

/// The kinds of requests so far, with how often each was sent: `GET tags` is a list, `GET tags/*` one of them.
fn request_counts(registry: &EmbeddedRegistry) -> BTreeMap<String, usize> {
    let mut asked = BTreeMap::new();
    for request in registry.requests() {
        *asked.entry(format!("{} {}", request.method, shape(&request.path))).or_default() += 1;
    }
    asked
}

fn shape(path: &str) -> String {
    let path = path.split('?').next().unwrap();
    if let Some(rest) = path.strip_prefix("/v2/") {
        let kind = rest.rsplit('/').nth(1).unwrap_or(rest);
        return format!("/v2/ {kind}");
    }
    if path.ends_with(":testIamPermissions") {
        return "testIamPermissions".to_owned();
    }
    let parts: Vec<&str> = path.trim_start_matches("/v1/").trim_start_matches('/').split('/').collect();
    match parts[..] {
        [single] => single.to_owned(),
        [.., kind, _] if parts.len().is_multiple_of(2) => format!("{kind}/*"),
        [.., last] => last.to_owned(),
        [] => String::new(),
    }
}

/// A refusal in Google's words.
fn refusal(code: u16, status: &str, message: &str) -> FaultKind {
    let body = json!({ "error": { "code": code, "message": message, "status": status } }).to_string();
    FaultKind::Status { status: code, headers: Vec::new(), body }
}

/// The answer of a busy Artifact Registry.
fn throttling() -> FaultKind {
    refusal(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Requests per project per user'")
}

/// A registry with settings and policies, at a time that can be set. The settings sign in by a service account's key.
pub(crate) async fn fixture(
    change: impl FnOnce(ArtifactRegistryOptions) -> ArtifactRegistryOptions,
    lines: &str,
    policies: &str,
) -> WorkflowFixture {
    let now = Arc::new(Mutex::new(noon()));
    let (theirs, account) = (Arc::clone(&now), ServiceAccount::generate(EMAIL));
    let options = ArtifactRegistryOptions {
        clock: Arc::new(move || *theirs.lock().unwrap()),
        account: Some(account.clone()),
        ..options()
    };
    let registry = start(change(options)).await;
    let key = account.key_file(&registry.url());
    let walk = WorkflowFixture::at(registry, KIND, now);
    std::fs::write(walk.path("key.json"), key).unwrap();
    walk.settings("approved", lines, "");
    walk.policies(policies);
    walk
}
