//! Walks all registries and puts together what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, future, stream};

use super::challenge::host_and_port;
use super::{ContentCache, ExtraManifests, RegistryError, RegistryReader, RegistrySettings, RegistryWriter};
use crate::domain::{Digest, GapTarget, Inventory, Registry, RegistryName, RepositoryName};
use crate::http_client::RetryPolicy;

/// What to read of the registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CollectScope {
    /// Every repository of every registry.
    #[default]
    All,
    /// These repositories of these registries; the catalogue is not asked for.
    Repositories(BTreeMap<RegistryName, BTreeSet<RepositoryName>>),
}

/// Is told how far the reading has come.
pub trait Progress: Send + Sync {
    /// A registry has so many repositories to read.
    fn on_repositories_listed(&self, registry: &RegistryName, repositories: usize);
    /// A repository is read; it has so many tags.
    fn on_repository_read(&self, registry: &RegistryName, repository: &RepositoryName, tags: usize);
}

/// Nobody looks.
impl Progress for () {
    fn on_repositories_listed(&self, _: &RegistryName, _: usize) {}
    fn on_repository_read(&self, _: &RegistryName, _: &RepositoryName, _: usize) {}
}

/// Repositories of one registry that are read at once. Requests are bounded by the registry's own `concurrency`; this
/// bounds what is held in memory half read.
const MAX_REPOSITORIES_IN_FLIGHT: usize = 16;

/// Nothing to look for.
static NO_EXTRA_MANIFESTS: BTreeSet<Digest> = BTreeSet::new();

/// Makes the reader for a registry, by its provider.
///
/// # Errors
/// When its settings cannot work, such as a CA file that cannot be read.
pub fn reader(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Arc<dyn RegistryReader>, RegistryError> {
    settings.provider.reader(settings, retry_policy)
}

/// Makes the writer for a registry, by its provider.
///
/// # Errors
/// As [`reader`].
pub fn writer(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Arc<dyn RegistryWriter>, RegistryError> {
    settings.provider.writer(settings, retry_policy)
}

/// Reads the registries, all at once. Never fails: what could not be read is a gap. What to look for in a repository
/// that is not read is not found.
pub async fn collect(
    readers: &[Arc<dyn RegistryReader>],
    scope: &CollectScope,
    look_for: &ExtraManifests,
    cache: &dyn ContentCache,
    progress: &dyn Progress,
) -> Inventory {
    let wanted = readers.iter().filter(|reader| match scope {
        CollectScope::All => true,
        CollectScope::Repositories(only) => only.contains_key(&reader.settings().name),
    });
    let names: Vec<_> = readers.iter().map(|reader| (&reader.settings().name, hosts(reader.settings()))).collect();
    let registries = wanted.map(|reader| {
        let others = names.iter().filter(|(name, _)| **name != reader.settings().name);
        let other_hosts = others.flat_map(|(_, hosts)| hosts.iter().cloned()).collect();
        collect_registry(&**reader, other_hosts, scope, look_for, cache, progress)
    });
    let registries = future::join_all(registries).await;
    let mut inventory = Inventory { registries };
    inventory.sort();
    inventory
}

async fn collect_registry(
    reader: &dyn RegistryReader,
    other_hosts: Vec<String>,
    scope: &CollectScope,
    look_for: &ExtraManifests,
    cache: &dyn ContentCache,
    progress: &dyn Progress,
) -> Registry {
    let settings = reader.settings();
    let name = &settings.name;
    let mut gaps = Vec::new();
    // First, because the service tier says how fast the rest may go.
    let particulars = match reader.registry_info().await {
        Ok(particulars) => particulars,
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
    let repositories = stream::iter(names)
        .map(|repository| async move {
            let look_for = look_for.get(&(name.clone(), repository.clone())).unwrap_or(&NO_EXTRA_MANIFESTS);
            let mut read = reader.repository(&repository, look_for, cache).await;
            read.compact();
            progress.on_repository_read(name, &repository, read.tags.len());
            read
        })
        .buffer_unordered(MAX_REPOSITORIES_IN_FLIGHT)
        .collect()
        .await;
    Registry {
        endpoint: settings.address().to_owned(),
        hosts: hosts(settings),
        other_hosts,
        identity: reader.identity(),
        removal: settings.removal,
        info: particulars,
        accepts_retention: settings.accepts_retention,
        lists_untagged: reader.lists_untagged(),
        repositories,
        gaps,
        ..Registry::empty(name.clone(), settings.provider.name())
    }
}

/// The names by which image references mean a registry: its endpoint's host, its aliases, and all names of Docker Hub
/// where it is that. Lower case, with the port where it is not the scheme's own; an endpoint with `http` and no other
/// port is also known with its port 80, which references have to write.
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
