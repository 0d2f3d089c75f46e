//! Quay by its own API: request by request, and as a platform owner uses it, against the embedded one.

mod clients;
mod reader;
mod removal_faults;
mod requests;
mod rules;
mod simulator;
mod story;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, ToSpan};
use tagwarden::demo::image::Image;
use tagwarden::demo::registry::{Dialect, EmbeddedRegistry, Options, QuayOptions, QuayScope, QuayToken};
use tagwarden::domain::{Digest, Repository};
use tagwarden::registry::providers::Quay;
use tagwarden::registry::{Auth, RegistryReader, RegistrySettings, RegistryWriter, connect};

use crate::registry::{name, quick};
use crate::support::lease::writer_of;
use crate::support::memory::MemoryCache;
use crate::workflow::{WorkflowFixture, image, noon};

/// The access token of the tests.
const TOKEN: &str = "oauth-token-of-the-tests";
const KIND: &str = "kind = \"quay\"\nauth = { kind = \"token\", token_file = \"token\" }\nconcurrency = 4";

/// A registry with the organization `shop` and a token that may read and write there.
fn options() -> QuayOptions {
    QuayOptions::new(Arc::new(noon), "shop").token(QuayToken::new(TOKEN, &[QuayScope::RepoWrite], "shop"))
}

async fn start(options: QuayOptions) -> EmbeddedRegistry {
    EmbeddedRegistry::start(Options { dialect: Dialect::quay(options), ..Options::default() }).await.unwrap()
}

fn settings(url: &str) -> RegistrySettings {
    let settings = RegistrySettings::with_defaults("main".parse().unwrap(), &Quay, url.parse().unwrap());
    RegistrySettings {
        auth: Auth::Token(TOKEN.into()),
        namespaces: vec!["shop".to_owned()],
        concurrency: 4,
        ..settings
    }
}

fn reader(url: &str) -> Arc<dyn RegistryReader> {
    connect(settings(url), quick()).unwrap().reader()
}

fn writer(url: &str) -> Arc<dyn RegistryWriter> {
    writer_of(&Quay, settings(url), quick())
}

/// Reads `shop/api` with a fresh reader and cache.
async fn read(registry: &EmbeddedRegistry) -> Repository {
    reader(&registry.url()).repository(&name("shop/api"), &BTreeSet::new(), &MemoryCache::default()).await
}

/// Puts an image under a tag that was pushed so many days before the registry's now.
pub(crate) fn put(registry: &EmbeddedRegistry, repository: &str, tag: &str, image: &Image, days: i64) -> Digest {
    registry.content(|content| {
        content.put_image(repository, Some(tag), image);
        let then = content.now() - SignedDuration::from_hours(24 * days);
        assert!(content.date_tag(repository, tag, then, then));
    });
    image.digest.clone()
}

/// The requests so far, each kind of path with how often it was asked.
fn request_counts(registry: &EmbeddedRegistry) -> BTreeMap<String, usize> {
    let mut asked = BTreeMap::new();
    for request in registry.requests() {
        let path = request.path.split('?').next().unwrap().to_owned();
        let path =
            path.split_once("/manifest/").map_or(path.clone(), |(repository, _)| format!("{repository}/manifest/"));
        *asked.entry(format!("{} {path}", request.method)).or_default() += 1;
    }
    asked
}

/// A registry with settings and policies, at a time that can be set.
pub(crate) async fn fixture(change: impl FnOnce(QuayOptions) -> QuayOptions, policies: &str) -> WorkflowFixture {
    let now = Arc::new(Mutex::new(noon()));
    let theirs = Arc::clone(&now);
    let options = QuayOptions { clock: Arc::new(move || *theirs.lock().unwrap()), ..options() };
    let registry = start(change(options)).await;
    let walk = WorkflowFixture::at(registry, KIND, now);
    std::fs::write(walk.path("token"), TOKEN).unwrap();
    walk.settings("approved", "namespaces = [\"shop\"]", "");
    walk.policies(policies);
    walk
}

/// Days before noon of the tests' day, in seconds since 1970.
fn seconds_before(days: i64) -> i64 {
    (noon() - (days * 24).hours()).as_second()
}
