//! Harbor by its own API: request by request, and as a platform owner uses it, against the embedded one.

mod clients;
mod idle;
mod manifest_cleanup;
mod published;
mod pulls;
mod reader;
mod requests;
mod rights;
mod rules;
mod simulator;
mod story;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use jiff::SignedDuration;
use tagwarden::demo::image::Image;
use tagwarden::demo::registry::{
    Dialect, EmbeddedRegistry, HARBOR_READS, HARBOR_REMOVES, HarborAccount, HarborOptions, HarborPermission,
    HarborProject, Options,
};
use tagwarden::domain::{Digest, Repository};
use tagwarden::registry::providers::Harbor;
use tagwarden::registry::{Auth, RegistryReader, RegistrySettings, RegistryWriter, connect};

use crate::registry::{name, quick};
use crate::support::lease::writer_of;
use crate::support::memory::MemoryCache;
use crate::workflow::{WorkflowFixture, image, noon};

/// The account of the tests, with its secret.
const ROBOT: (&str, &str) = ("robot$tagwarden", "secret-of-the-tests");
const KIND: &str = "kind = \"harbor\"\nauth = { kind = \"basic\", username = \"robot$tagwarden\", password_file = \"secret\" \
                    }\nconcurrency = 4";
/// The permissions of the account in the system.
const SYSTEM: &[HarborPermission] = &[("garbage-collection", "read"), ("quota", "list")];

/// The account of the tests, which may read and remove in the project `shop` and look at the system.
fn robot() -> HarborAccount {
    HarborAccount::new(ROBOT.0, ROBOT.1).project("shop", HARBOR_READS).project("shop", HARBOR_REMOVES).system(SYSTEM)
}

/// A registry with the project `shop`.
fn options() -> HarborOptions {
    HarborOptions::new(Arc::new(noon), "shop").account(robot())
}

async fn start(options: HarborOptions) -> EmbeddedRegistry {
    EmbeddedRegistry::start(Options { dialect: Dialect::harbor(options), ..Options::default() }).await.unwrap()
}

fn settings(url: &str) -> RegistrySettings {
    let settings = RegistrySettings::with_defaults("main".parse().unwrap(), &Harbor, url.parse().unwrap());
    let auth = Auth::Basic { username: ROBOT.0.to_owned(), password: ROBOT.1.into() };
    RegistrySettings { auth, concurrency: 4, ..settings }
}

fn reader(url: &str) -> Arc<dyn RegistryReader> {
    connect(settings(url), quick()).unwrap().reader()
}

fn writer(url: &str) -> Arc<dyn RegistryWriter> {
    writer_of(&Harbor, settings(url), quick())
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

/// Makes the tags of a pattern immutable in all repositories of `shop`.
fn make_immutable(registry: &EmbeddedRegistry, pattern: &str) {
    registry.harbor(|harbor, _| {
        let project = harbor.options.projects.get_mut("shop").unwrap();
        project.immutable.push(("**".to_owned(), pattern.to_owned()));
    });
}

/// Adds a project with the same rights for the account of the tests.
fn add_project(registry: &EmbeddedRegistry, name: &str, project: HarborProject, permissions: &[HarborPermission]) {
    registry.harbor(|harbor, _| {
        harbor.options.projects.insert(name.to_owned(), project);
        let account = &mut harbor.options.accounts[0];
        account.projects.entry(name.to_owned()).or_default().extend(permissions);
    });
}

/// The requests so far, each kind of path with how often it was asked.
fn request_counts(registry: &EmbeddedRegistry) -> BTreeMap<String, usize> {
    let mut asked = BTreeMap::new();
    for request in registry.requests() {
        let path = request.path.split('?').next().unwrap().to_owned();
        let path = path.find("sha256:").map_or(path.clone(), |at| path[..at].to_owned());
        *asked.entry(format!("{} {path}", request.method)).or_default() += 1;
    }
    asked
}

/// A registry with settings and policies, at a time that can be set.
pub(crate) async fn fixture(change: impl FnOnce(HarborOptions) -> HarborOptions, policies: &str) -> WorkflowFixture {
    let now = Arc::new(Mutex::new(noon()));
    let theirs = Arc::clone(&now);
    let options = HarborOptions { clock: Arc::new(move || *theirs.lock().unwrap()), ..options() };
    let registry = start(change(options)).await;
    let walk = WorkflowFixture::at(registry, KIND, now);
    std::fs::write(walk.path("secret"), ROBOT.1).unwrap();
    walk.settings("approved", "", "");
    walk.policies(policies);
    walk
}
