//! Reading of all registries into an inventory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, future, stream};
use jiff::Timestamp;
use tracing::Instrument as _;

use super::client::challenge::host_and_port;
use super::{ContentCache, ExtraManifests, RegistryConnection, RegistryError, RegistryReader, RegistrySettings};
use crate::domain::{Digest, GapTarget, Inventory, Registry, RegistryName, Repository, RepositoryName};
use crate::http_client::RetryPolicy;

/// The part of the registries to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CollectScope {
    /// Every repository of every registry.
    #[default]
    All,
    /// These repositories of these registries; the catalogue is not requested.
    Repositories(BTreeMap<RegistryName, BTreeSet<RepositoryName>>),
}

/// A listener to the progress of reading.
pub trait Progress: Send + Sync {
    /// Called once the repositories to read of a registry are known, with their number.
    fn on_repositories_listed(&self, registry: &RegistryName, repositories: usize);
    /// Called for each repository that has been read, with the number of its tags.
    fn on_repository_read(&self, registry: &RegistryName, repository: &RepositoryName, tags: usize);
}

/// Ignores all progress.
impl Progress for () {
    fn on_repositories_listed(&self, _: &RegistryName, _: usize) {}
    fn on_repository_read(&self, _: &RegistryName, _: &RepositoryName, _: usize) {}
}

/// Repositories of one registry read at once. Requests are bounded by the registry's own `concurrency`; this bounds the
/// memory for incomplete repositories.
const MAX_REPOSITORIES_IN_FLIGHT: usize = 16;

/// No additional manifests.
static NO_EXTRA_MANIFESTS: BTreeSet<Digest> = BTreeSet::new();

/// Opens the connection to a registry, by its provider, without sending a request.
///
/// # Errors
/// Returns an error if its settings are invalid, such as an unreadable CA file.
pub fn connect(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<RegistryConnection, RegistryError> {
    settings.provider.connect(settings, retry_policy)
}

/// Opens the connection to a registry that is only read.
///
/// # Errors
/// Fails as [`connect`] does.
pub fn reader(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Arc<dyn RegistryReader>, RegistryError> {
    connect(settings, retry_policy).map(|connection| connection.reader())
}

/// A registry as known before its repositories are read, and their names in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryHead {
    /// The registry, without repositories.
    pub registry: Registry,
    /// The names of the repositories to read, sorted.
    pub names: Vec<RepositoryName>,
}

/// Reads the metadata and the repository names of all registries concurrently; sorted by name. Never fails: unreadable
/// parts are gaps.
pub async fn read_heads(
    readers: &[Arc<dyn RegistryReader>],
    scope: &CollectScope,
    progress: &dyn Progress,
) -> Vec<RegistryHead> {
    let wanted = readers.iter().filter(|reader| match scope {
        CollectScope::All => true,
        CollectScope::Repositories(only) => only.contains_key(&reader.settings().name),
    });
    let names: Vec<_> = readers.iter().map(|reader| (&reader.settings().name, hosts(reader.settings()))).collect();
    let heads = wanted.map(|reader| {
        let others = names.iter().filter(|(name, _)| **name != reader.settings().name);
        let other_hosts = others.flat_map(|(_, hosts)| hosts.iter().cloned()).collect();
        let span = tracing::info_span!("catalogue", registry = %reader.settings().name);
        read_head(&**reader, other_hosts, scope, progress).instrument(span)
    });
    let mut heads = future::join_all(heads).await;
    heads.sort_by(|a, b| a.registry.name.cmp(&b.registry.name));
    heads
}

async fn read_head(
    reader: &dyn RegistryReader,
    other_hosts: Vec<String>,
    scope: &CollectScope,
    progress: &dyn Progress,
) -> RegistryHead {
    let settings = reader.settings();
    let name = &settings.name;
    let mut gaps = Vec::new();
    // First, because the service tier determines the rate of the rest.
    let info = match reader.registry_info().await {
        Ok(info) => info,
        Err(error) => {
            gaps.push(error.into_gap(GapTarget::RegistryInfo));
            None
        }
    };
    let names: BTreeSet<RepositoryName> = match scope {
        CollectScope::Repositories(only) => only.get(name).cloned().unwrap_or_default(),
        CollectScope::All => match reader.catalogue().await {
            Ok(catalogue) => {
                gaps.extend(catalogue.gaps);
                catalogue.repositories.into_iter().collect()
            }
            Err(error) => {
                gaps.push(error.into_gap(GapTarget::Catalogue));
                BTreeSet::new()
            }
        },
    };
    progress.on_repositories_listed(name, names.len());
    gaps.sort();
    let registry = Registry {
        endpoint: settings.address().to_owned(),
        hosts: hosts(settings),
        other_hosts,
        identity: reader.identity(),
        removal: settings.removal,
        info,
        accepts_retention: settings.accepted.retention,
        accepts_same_content: settings.accepted.same_content,
        lists_untagged: reader.lists_untagged(),
        expires_companions: reader.expires_companions(),
        deletes_with_last_tag: reader.deletes_with_last_tag(),
        deletes_index_contents: reader.deletes_index_contents(),
        gaps,
        ..Registry::empty(name.clone(), settings.provider.name())
    };
    RegistryHead { registry, names: names.into_iter().collect() }
}

/// Reads one repository, including its additional manifests if they exist.
pub async fn read_repository(
    reader: &dyn RegistryReader,
    name: &RepositoryName,
    look_for: &ExtraManifests,
    cache: &dyn ContentCache,
    progress: &dyn Progress,
) -> Repository {
    let registry = &reader.settings().name;
    let look_for = look_for.get(&(registry.clone(), name.clone())).unwrap_or(&NO_EXTRA_MANIFESTS);
    let mut read = reader.repository(name, look_for, cache).await;
    finish_reading(registry, &mut read, progress);
    read
}

/// Reads one repository with all that it lists, and tells when the manifests that no tag references changed last. Every
/// listed manifest is among the others then.
pub async fn read_repository_with_changes(
    reader: &dyn RegistryReader,
    name: &RepositoryName,
    look_for: &ExtraManifests,
    cache: &dyn ContentCache,
    progress: &dyn Progress,
) -> (Repository, BTreeMap<Digest, Timestamp>) {
    let registry = &reader.settings().name;
    let look_for = look_for.get(&(registry.clone(), name.clone())).unwrap_or(&NO_EXTRA_MANIFESTS);
    let (mut read, changed_at) = reader.repository_with_changes(name, look_for, cache).await;
    read.include_all_listed();
    finish_reading(registry, &mut read, progress);
    (read, changed_at)
}

fn finish_reading(registry: &RegistryName, read: &mut Repository, progress: &dyn Progress) {
    read.compact();
    read.gaps.sort();
    read.tags.sort_by(|a, b| a.name.cmp(&b.name));
    progress.on_repository_read(registry, &read.name, read.tags.len());
}

/// Reads the registries concurrently, for callers that need all of them in memory. Never fails: unreadable parts are
/// gaps. Additional manifests in a repository that is not read are not found.
pub async fn collect(
    readers: &[Arc<dyn RegistryReader>],
    scope: &CollectScope,
    look_for: &ExtraManifests,
    cache: &dyn ContentCache,
    progress: &dyn Progress,
) -> Inventory {
    let heads = read_heads(readers, scope, progress).await;
    collect_repositories(readers, heads, look_for, cache, progress).await
}

/// Reads all repositories of registries whose heads are known.
pub async fn collect_repositories(
    readers: &[Arc<dyn RegistryReader>],
    heads: Vec<RegistryHead>,
    look_for: &ExtraManifests,
    cache: &dyn ContentCache,
    progress: &dyn Progress,
) -> Inventory {
    let registries = heads.into_iter().filter_map(|RegistryHead { registry, names }| {
        let reader = readers.iter().find(|reader| reader.settings().name == registry.name)?;
        Some(async move {
            let reading = names.iter().map(|name| read_repository(&**reader, name, look_for, cache, progress));
            let reading: Vec<_> = reading.collect();
            let repositories = stream::iter(reading).buffer_unordered(MAX_REPOSITORIES_IN_FLIGHT).collect().await;
            Registry { repositories, ..registry }
        })
    });
    let mut inventory = Inventory { registries: future::join_all(registries).await };
    inventory.sort();
    inventory
}

/// Returns the names by which image references refer to a registry: its endpoint's host, its aliases, and all names of
/// Docker Hub if it is that. Lower case, with the port unless that is the scheme's default; an endpoint with `http` on
/// the default port is also known with its port 80, which references have to write.
#[must_use]
pub fn hosts(settings: &RegistrySettings) -> Vec<String> {
    const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    let mut hosts = vec![host_and_port(&settings.endpoint)];
    if DOCKER_HUB.contains(&hosts[0].as_str()) {
        hosts.extend(DOCKER_HUB.map(str::to_owned));
    }
    if settings.endpoint.scheme() == "http" && settings.endpoint.port().is_none() {
        hosts.push(format!("{}:80", hosts[0]));
    }
    hosts.extend(settings.aliases.iter().map(|alias| alias.to_ascii_lowercase()));
    hosts.sort();
    hosts.dedup();
    hosts
}
