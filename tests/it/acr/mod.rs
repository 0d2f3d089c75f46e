//! The dialect of Azure Container Registry: against the embedded one, and against answers as they were recorded.

mod connection;
mod long_lists;
mod manifests;
mod reader;
mod tags;
mod unread_indexes;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{Image, ImageSpec};
use tagwarden::demo::registry::EmbeddedRegistry;
use tagwarden::domain::{Digest, Repository};
use tagwarden::registry::providers::Acr;
use tagwarden::registry::{AcrReader, Auth, RegistryReader as _, RegistrySettings, RegistryWriter};

use crate::registry::{name, quick};
use crate::support::acr::ADMIN;
use crate::support::lease::writer_of;
use crate::support::memory::MemoryCache;

/// Settings by which the administrator signs in.
fn settings(url: &str) -> RegistrySettings {
    let settings = RegistrySettings::with_defaults("contoso".parse().unwrap(), &Acr, url.parse().unwrap());
    let auth = Auth::Basic { username: ADMIN.0.into(), password: ADMIN.1.into() };
    RegistrySettings { auth, concurrency: 4, ..settings }
}

fn reader(url: &str) -> AcrReader {
    AcrReader::new(settings(url), quick()).unwrap()
}

fn writer(url: &str) -> Arc<dyn RegistryWriter> {
    writer_of(&Acr, settings(url), quick())
}

/// Reads the repository `app` with a fresh reader and cache.
async fn read(registry: &EmbeddedRegistry) -> Repository {
    reader(&registry.url()).repository(&name("app"), &BTreeSet::new(), &MemoryCache::default()).await
}

/// Reads all that a repository left unread, as far as it can be read.
async fn read_rest(reader: &AcrReader, repository: &mut Repository, cache: &MemoryCache) {
    let mut requested: BTreeSet<Digest> = BTreeSet::new();
    loop {
        let unread = repository.unread().map(|(digest, _)| digest.clone());
        let unread: BTreeSet<Digest> = unread.filter(|digest| !requested.contains(digest)).collect();
        if unread.is_empty() {
            return;
        }
        reader.read_manifests(repository, &unread, cache).await;
        requested.extend(unread);
    }
}

/// An image of its own.
fn image(seed: &str) -> Image {
    let created: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    ImageSpec::new(created, &[Blob::layer(seed, 1000)]).build()
}

/// Puts an image under a tag that was pushed so many days before the registry's now.
fn put(registry: &EmbeddedRegistry, tag: &str, image: &Image, days: i64) {
    registry.content(|content| {
        content.put_image("app", Some(tag), image);
        let then = content.now() - SignedDuration::from_hours(24 * days);
        assert!(content.date_tag("app", tag, then, then));
    });
}

/// The requests so far without those for tokens, each kind of path with how often it was asked.
fn request_counts(registry: &EmbeddedRegistry) -> BTreeMap<String, usize> {
    let mut asked = BTreeMap::new();
    for request in registry.requests() {
        let path = request.path.split('?').next().unwrap().to_owned();
        if !path.starts_with("/oauth2/") && path != "/v2/" {
            *asked.entry(format!("{} {path}", request.method)).or_default() += 1;
        }
    }
    asked
}
