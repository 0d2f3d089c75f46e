//! Manifests of removals that were journaled without their content: read after the removals, so as not to delay them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::domain::{Digest, RegistryName};
use crate::registry::{ContentCache as _, RawManifest, RegistryReader};
use crate::state::{MissingManifest, StateError, StateStore};

/// Consecutive failures after which the rest of a registry's manifests is left to the next run.
const MAX_CONSECUTIVE_FAILURES: u32 = 8;
/// Most manifests in one write. Nothing waits for a single one of them, so each write has as many, if there are.
const MAX_BATCH: usize = 256;
/// The same, in bytes.
const MAX_BATCH_BYTES: usize = 4 << 20;

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
    let mut fetches = stream::iter(fetches).buffer_unordered(reader.settings().concurrency.max(1));
    let (sender, receiver) = mpsc::channel(MAX_BATCH);
    let read = async move {
        while let Some(fetched) = fetches.next().await {
            if let Some(manifest) = fetched
                && sender.send(manifest).await.is_err()
            {
                break;
            }
        }
        Ok(())
    };
    let ((), journaled) = futures::try_join!(read, journal_batches(store, receiver))?;
    Ok(all.saturating_sub(journaled))
}

/// Journals manifests, many in one write, and returns their number.
async fn journal_batches(store: &StateStore, mut fetched: mpsc::Receiver<RawManifest>) -> Result<usize, StateError> {
    let (mut batch, mut journaled) = (Vec::with_capacity(MAX_BATCH), 0);
    loop {
        let mut bytes = 0;
        while batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            let Some(manifest) = fetched.recv().await else { break };
            bytes += manifest.bytes.len();
            batch.push(manifest);
        }
        if batch.is_empty() {
            return Ok(journaled);
        }
        store.journal_manifests(&batch).await?;
        journaled += batch.len();
        batch.clear();
    }
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
