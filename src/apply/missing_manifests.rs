//! Manifests of removals that were journaled without their content: read after the removals, so as not to delay them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::domain::{Digest, RegistryName};
use crate::registry::{ContentCache as _, RawManifest, RegistryReader};
use crate::state::{MissingManifest, StateError, StateStore};

/// Consecutive failures after which the rest of a registry's manifests is left to the next run.
const MAX_CONSECUTIVE_FAILURES: u32 = 8;
/// Most manifests in one write.
const MAX_BATCH: usize = 128;

/// Completes the journal: reads the missing manifests of the removals since `since`, each digest once, and returns the
/// number that is still missing. A failed read is logged, and retried by the next run.
///
/// # Errors
/// Returns an error if the journal cannot be read or written.
pub async fn fetch_missing_manifests(
    store: &StateStore,
    readers: &BTreeMap<RegistryName, Arc<dyn RegistryReader>>,
    since: Timestamp,
    stop: &watch::Receiver<bool>,
) -> Result<usize, StateError> {
    let mut by_registry: BTreeMap<RegistryName, BTreeMap<Digest, Vec<MissingManifest>>> = BTreeMap::new();
    for missing in store.missing_manifests(since).await? {
        let registry = by_registry.entry(missing.registry.clone()).or_default();
        registry.entry(missing.digest.clone()).or_default().push(missing);
    }
    let mut left = 0;
    let mut fetches = Vec::new();
    for (registry, manifests) in by_registry {
        match readers.get(&registry) {
            Some(reader) => fetches.push(fetch_from(store, &**reader, manifests, stop)),
            None => left += manifests.len(),
        }
    }
    for fetched in futures::future::join_all(fetches).await {
        left += fetched?;
    }
    if left > 0 {
        tracing::warn!(
            manifests = left,
            "removals can be undone only while the registry keeps their manifests; the next run tries to read them again"
        );
    }
    Ok(left)
}

/// Reads and journals manifests of one registry. Returns the number that is still missing.
async fn fetch_from(
    store: &StateStore,
    reader: &dyn RegistryReader,
    manifests: BTreeMap<Digest, Vec<MissingManifest>>,
    stop: &watch::Receiver<bool>,
) -> Result<usize, StateError> {
    let all = manifests.len();
    let counter = AtomicU32::new(0);
    let failures = &counter;
    let fetches = manifests.into_values().map(|places| async move {
        let given_up = *stop.borrow() || failures.load(Ordering::Relaxed) >= MAX_CONSECUTIVE_FAILURES;
        if given_up { None } else { fetch(store, reader, places, failures).await }
    });
    let concurrency = reader.settings().concurrency.max(1);
    let mut batches = stream::iter(fetches).buffer_unordered(concurrency).ready_chunks(MAX_BATCH);
    let mut journaled = 0;
    while let Some(batch) = batches.next().await {
        let found: Vec<RawManifest> = batch.into_iter().flatten().collect();
        if !found.is_empty() {
            store.journal_manifests(&found).await?;
            journaled += found.len();
        }
    }
    Ok(all.saturating_sub(journaled))
}

/// Reads a manifest from the cache, or from the first of its repositories that has it.
async fn fetch(
    store: &StateStore,
    reader: &dyn RegistryReader,
    places: Vec<MissingManifest>,
    failures: &AtomicU32,
) -> Option<RawManifest> {
    let address = reader.settings().address();
    for MissingManifest { registry, endpoint, repository, digest } in places {
        if let Some(manifest) = store.manifest(&digest).await {
            return Some(manifest);
        }
        if endpoint.as_deref().is_some_and(|endpoint| endpoint != address) {
            tracing::warn!(%registry, %repository, %digest, "the manifest of a removal was at another address");
            continue;
        }
        let why = match reader.manifest(&repository, &digest).await {
            Ok(Some(manifest)) if !digest.matches(&manifest.bytes) => "it is not what its digest says".to_owned(),
            Ok(Some(manifest)) => {
                failures.store(0, Ordering::Relaxed);
                return Some(manifest);
            }
            Ok(None) => "the registry no longer has it".to_owned(),
            Err(error) => {
                failures.fetch_add(1, Ordering::Relaxed);
                error.chain()
            }
        };
        tracing::warn!(%registry, %repository, %digest, why, "could not read the manifest of a removal");
    }
    None
}
