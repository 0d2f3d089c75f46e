//! Docker Hub by its own API: request by request, and as a platform owner uses it, against the embedded one.

mod reader;
mod requests;
mod simulator;
mod story;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use tagwarden::demo::image::Image;
use tagwarden::demo::registry::{AuthMode, Dialect, DockerHubAccount, DockerHubOptions, EmbeddedRegistry, Options};
use tagwarden::domain::{Digest, Repository, RepositoryName};
use tagwarden::registry::providers::DockerHub;
use tagwarden::registry::{Auth, RegistryReader, RegistrySettings, RegistryWriter, connect};

use crate::registry::{name, quick};
use crate::support::lease::writer_of;
use crate::support::memory::MemoryCache;
use crate::workflow::{WorkflowFixture, image, noon};

/// The account of the tests, and its access token.
const USER: (&str, &str) = ("cleaner", "dckr_pat_of_the_tests");
/// The repository of most tests.
pub(crate) const API: &str = "contoso/api";
const KIND: &str = "kind = \"docker-hub\"\nauth = { kind = \"basic\", username = \"cleaner\", password_file = \"token\" }\n\
                    concurrency = 4\nnamespaces = [\"contoso\"]";

/// A Docker Hub whose account may do everything in `contoso`.
fn options() -> DockerHubOptions {
    DockerHubOptions::new(Arc::new(noon)).account(DockerHubAccount::new(USER.0, USER.1, "contoso"))
}

async fn start(options: DockerHubOptions) -> EmbeddedRegistry {
    let auth = AuthMode::Bearer {
        user: USER.0.into(),
        password: USER.1.into(),
        lifetime: Duration::from_mins(5),
        anonymous_pull: true,
    };
    let options = Options { dialect: Dialect::docker_hub(options), auth, ..Options::default() };
    EmbeddedRegistry::start(options).await.unwrap()
}

fn settings(url: &str) -> RegistrySettings {
    let settings = RegistrySettings::with_defaults("main".parse().unwrap(), &DockerHub, url.parse().unwrap());
    let auth = Auth::Basic { username: USER.0.to_owned(), password: USER.1.into() };
    RegistrySettings { auth, concurrency: 4, namespaces: vec!["contoso".into()], ..settings }
}

fn reader(url: &str) -> Arc<dyn RegistryReader> {
    connect(settings(url), quick()).unwrap().reader()
}

fn writer(url: &str) -> Arc<dyn RegistryWriter> {
    writer_of(&DockerHub, settings(url), quick())
}

fn api() -> RepositoryName {
    name(API)
}

/// Reads [`API`] with a fresh reader and cache.
async fn read(registry: &EmbeddedRegistry) -> Repository {
    reader(&registry.url()).repository(&api(), &BTreeSet::new(), &MemoryCache::default()).await
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
        let path = path.split_once("/manifests/").map_or(path.clone(), |(name, _)| format!("{name}/manifests/"));
        *asked.entry(format!("{} {path}", request.method)).or_default() += 1;
    }
    asked
}

/// A registry with policies, at a time that can be set.
pub(crate) async fn fixture(
    change: impl FnOnce(DockerHubOptions) -> DockerHubOptions,
    policies: &str,
) -> WorkflowFixture {
    let now = Arc::new(Mutex::new(noon()));
    let theirs = Arc::clone(&now);
    let options = DockerHubOptions { clock: Arc::new(move || *theirs.lock().unwrap()), ..options() };
    let registry = start(change(options)).await;
    let walk = WorkflowFixture::at(registry, KIND, now);
    std::fs::write(walk.path("token"), USER.1).unwrap();
    walk.settings("approved", "", "");
    walk.policies(policies);
    walk
}
