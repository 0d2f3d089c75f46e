//! GitLab's container registry by its own API: request by request, and as a platform owner uses it, against the embedded one.

mod catalogue;
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
use tagwarden::demo::registry::{
    Dialect, EmbeddedRegistry, GitlabOptions, GitlabProject, GitlabRole, GitlabScope, GitlabUser, Options,
};
use tagwarden::domain::{Digest, Repository, RepositoryName};
use tagwarden::registry::providers::{Gitlab, ProductApi};
use tagwarden::registry::{Auth, RegistryReader, RegistrySettings, RegistryWriter, connect};

use crate::registry::{name, quick};
use crate::support::lease::writer_of;
use crate::support::memory::MemoryCache;
use crate::workflow::{WorkflowFixture, image, noon};

/// The user of the tests, and its personal access token.
const USER: &str = "cleaner";
const TOKEN: &str = "glpat-of-the-tests";
/// The repository of most tests: one of a project below a group.
pub(crate) const API: &str = "shop/backend/api";
const KIND: &str = "kind = \"gitlab\"\nauth = { kind = \"basic\", username = \"cleaner\", password_file = \"token\" }\nconcurrency = 4";

fn user(scopes: &[GitlabScope], role: GitlabRole) -> GitlabUser {
    GitlabUser::new(USER, TOKEN, scopes, "shop", role)
}

/// A GitLab with the project `shop/backend` and a maintainer of the group `shop`.
fn options() -> GitlabOptions {
    GitlabOptions::new(Arc::new(noon))
        .user(user(&[GitlabScope::Api], GitlabRole::Maintainer))
        .with_project("shop/backend", GitlabProject::new(7))
}

async fn start(options: GitlabOptions) -> EmbeddedRegistry {
    EmbeddedRegistry::start(Options { dialect: Dialect::gitlab(options), ..Options::default() }).await.unwrap()
}

fn settings(url: &str) -> RegistrySettings {
    let settings = RegistrySettings::with_defaults("main".parse().unwrap(), &Gitlab, url.parse().unwrap());
    RegistrySettings {
        auth: Auth::Basic { username: USER.into(), password: TOKEN.into() },
        repositories: vec![name(API)],
        concurrency: 4,
        ..settings
    }
}

/// The same, with GitLab's REST API at the same address.
fn settings_with_api(url: &str) -> RegistrySettings {
    RegistrySettings { api: Some(ProductApi { endpoint: url.parse().unwrap(), token: TOKEN.into() }), ..settings(url) }
}

fn reader(url: &str) -> Arc<dyn RegistryReader> {
    reader_of(settings(url))
}

fn reader_of(settings: RegistrySettings) -> Arc<dyn RegistryReader> {
    connect(settings, quick()).unwrap().reader()
}

fn writer(url: &str) -> Arc<dyn RegistryWriter> {
    writer_of(&Gitlab, settings(url), quick())
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

/// A registry with policies, at a time that can be set. The settings have `undo_window = "1d"`, which is what GitLab's garbage
/// collection leaves.
pub(crate) async fn fixture(change: impl FnOnce(GitlabOptions) -> GitlabOptions, policies: &str) -> WorkflowFixture {
    let now = Arc::new(Mutex::new(noon()));
    let theirs = Arc::clone(&now);
    let options = GitlabOptions { clock: Arc::new(move || *theirs.lock().unwrap()), ..options() };
    let registry = start(change(options)).await;
    let walk = WorkflowFixture::at(registry, KIND, now);
    std::fs::write(walk.path("token"), TOKEN).unwrap();
    write_settings(&walk, "undo_window = \"1d\"", "repositories = [\"shop/backend/api\"]");
    walk.policies(policies);
    walk
}

/// Writes settings with lines of their own at the top and for the registry.
fn write_settings(walk: &WorkflowFixture, top: &str, registry_lines: &str) {
    let endpoint = walk.registry.url();
    let text = format!(
        "mode = \"approved\"\npolicies = \"policies.yaml\"\nstate = \"sqlite:tagwarden.db\"\n{top}\n[limits]\npercent = 100\n\
         [registries.main]\n{KIND}\nendpoint = \"{endpoint}\"\n{registry_lines}\n"
    );
    std::fs::write(walk.path("tagwarden.toml"), text).unwrap();
}

/// Days before noon of the tests' day, in seconds since 1970.
fn seconds_before(days: i64) -> i64 {
    (noon() - (days * 24).hours()).as_second()
}
