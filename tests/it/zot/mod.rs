//! zot by its search extension: request by request, and as a platform owner uses it, against the embedded one.

mod clients;
mod pulls;
mod reader;
mod requests;
mod simulator;
mod story;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use jiff::SignedDuration;
use tagwarden::demo::image::Image;
use tagwarden::demo::registry::{Dialect, EmbeddedRegistry, Options, ZotOptions, ZotUser};
use tagwarden::domain::{Digest, Repository, RepositoryName};
use tagwarden::registry::providers::Zot;
use tagwarden::registry::{Auth, RegistryReader, RegistrySettings, RegistryWriter, connect};

use crate::registry::{name, quick};
use crate::support::lease::writer_of;
use crate::support::memory::MemoryCache;
use crate::workflow::{WorkflowFixture, image, noon};

/// The user of the tests, and its password.
const USER: (&str, &str) = ("cleaner", "password-of-the-tests");
/// The repository of most tests.
pub(crate) const API: &str = "shop/api";
const KIND: &str = "kind = \"zot\"\nauth = { kind = \"basic\", username = \"cleaner\", password_file = \"password\" }\n\
                    concurrency = 4";

/// A zot whose user may do everything below `shop/`.
fn options() -> ZotOptions {
    ZotOptions::new(Arc::new(noon)).user(ZotUser::new(USER.0, USER.1, "shop/"))
}

async fn start(options: ZotOptions) -> EmbeddedRegistry {
    EmbeddedRegistry::start(Options { dialect: Dialect::zot(options), ..Options::default() }).await.unwrap()
}

fn settings(url: &str) -> RegistrySettings {
    let settings = RegistrySettings::with_defaults("main".parse().unwrap(), &Zot, url.parse().unwrap());
    let auth = Auth::Basic { username: USER.0.to_owned(), password: USER.1.into() };
    RegistrySettings { auth, concurrency: 4, ..settings }
}

fn reader(url: &str) -> Arc<dyn RegistryReader> {
    connect(settings(url), quick()).unwrap().reader()
}

fn writer(url: &str) -> Arc<dyn RegistryWriter> {
    writer_of(&Zot, settings(url), quick())
}

fn api() -> RepositoryName {
    name(API)
}

/// Reads [`API`] with a fresh reader and cache.
async fn read(registry: &EmbeddedRegistry) -> Repository {
    reader(&registry.url()).repository(&api(), &BTreeSet::new(), &MemoryCache::default()).await
}

/// Pushes an image under a tag so many days before the registry's now.
pub(crate) fn put(registry: &EmbeddedRegistry, repository: &str, tag: &str, image: &Image, days: i64) -> Digest {
    registry.content(|content| {
        content.set_now(content.now() - SignedDuration::from_hours(24 * days));
        content.put_image(repository, Some(tag), image);
    });
    image.digest.clone()
}

/// The requests so far, each kind of path with how often it was asked.
fn request_counts(registry: &EmbeddedRegistry) -> BTreeMap<String, usize> {
    let mut asked = BTreeMap::new();
    for request in registry.requests() {
        let path = request.path.split('?').next().unwrap().to_owned();
        let path = ["/manifests/", "/blobs/"]
            .iter()
            .fold(path, |path, part| path.split_once(part).map_or(path.clone(), |(name, _)| format!("{name}{part}")));
        *asked.entry(format!("{} {path}", request.method)).or_default() += 1;
    }
    asked
}

/// A registry with policies, at a time that can be set. The settings accept that garbage collection may be sooner than an
/// undo, because zot does not tell when it is.
pub(crate) async fn fixture(change: impl FnOnce(ZotOptions) -> ZotOptions, policies: &str) -> WorkflowFixture {
    let now = Arc::new(Mutex::new(noon()));
    let theirs = Arc::clone(&now);
    let options = ZotOptions { clock: Arc::new(move || *theirs.lock().unwrap()), ..options() };
    let registry = start(change(options)).await;
    let walk = WorkflowFixture::at(registry, KIND, now);
    std::fs::write(walk.path("password"), USER.1).unwrap();
    walk.settings("approved", "accept = [\"untagged-retention\"]", "");
    walk.policies(policies);
    walk
}
