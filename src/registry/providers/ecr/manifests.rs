//! Manifests by their bytes. Each is a pull in the eyes of Amazon ECR, so only those are read that a decision needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, stream};
use serde_json::json;

use super::api::{EcrApi, Operation, in_repository};
use super::wire::{WireImageId, WireManifest, WireManifests};
use crate::domain::{Digest, RepositoryName};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::manifest_graph::read_cached_manifest;
use crate::registry::{ContentCache, ParsedManifest, RawManifest, RegistryError, RegistryErrorKind};

/// Most images in one request.
const BATCH: usize = 100;
/// Every type that Amazon ECR stores. Without a list of types it may translate a manifest into another one.
const TYPES: [&str; 6] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
];

/// What became of each manifest that was asked for: `None` where there is none.
pub(super) type ReadManifests = BTreeMap<Digest, Result<Option<RawManifest>, RegistryError>>;

impl EcrApi {
    /// Reads manifests, a hundred in a request.
    pub(super) async fn manifests(&self, name: &RepositoryName, digests: &[Digest]) -> ReadManifests {
        let batches = digests.chunks(BATCH).map(|batch| async move { self.batch(name, batch).await });
        let batches: Vec<_> = batches.collect();
        let read: Vec<ReadManifests> =
            stream::iter(batches).buffer_unordered(self.settings.concurrency.max(1)).collect().await;
        read.into_iter().flatten().collect()
    }

    async fn batch(&self, name: &RepositoryName, digests: &[Digest]) -> ReadManifests {
        let ids: Vec<WireImageId> = digests.iter().map(WireImageId::of_digest).collect();
        let parameters = in_repository(name, json!({ "imageIds": ids, "acceptedMediaTypes": TYPES }));
        let scope = TokenScope::Pull(name.clone());
        let answer = match self.read::<WireManifests>(Operation::BatchGetImage, &scope, parameters).await {
            Ok(answer) => answer,
            Err(error) => return digests.iter().map(|digest| (digest.clone(), Err(error.clone()))).collect(),
        };
        let mut read = ReadManifests::new();
        for failure in answer.failures {
            let Some(digest) = failure.image_id.image_digest.as_deref().and_then(|text| text.parse().ok()) else {
                continue;
            };
            let found = if failure.is_absence() { Ok(None) } else { Err(failure.error(name)) };
            read.insert(digest, found);
        }
        for image in answer.images {
            let Some(digest) = image.id.image_digest.as_deref().and_then(|text| text.parse::<Digest>().ok()) else {
                continue;
            };
            let verified = verify(name, &digest, image);
            read.insert(digest, verified);
        }
        for digest in digests {
            read.entry(digest.clone()).or_insert_with(|| {
                let message = format!("{name}: the answer to BatchGetImage leaves out {digest}");
                Err(RegistryError::new(RegistryErrorKind::Malformed, message))
            });
        }
        read
    }
}

/// Returns a manifest if its bytes have its digest.
fn verify(name: &RepositoryName, digest: &Digest, image: WireManifest) -> Result<Option<RawManifest>, RegistryError> {
    let bytes = image.manifest.into_bytes();
    if !digest.matches(&bytes) {
        let message = format!("{name}: the manifest that came for {digest} has another digest");
        return Err(RegistryError::new(RegistryErrorKind::DigestMismatch, message));
    }
    let own = || {
        let parsed: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        parsed["mediaType"].as_str().unwrap_or_default().to_owned()
    };
    let media_type: Arc<str> = image.media_type.unwrap_or_else(own).into();
    Ok(Some(RawManifest { digest: digest.clone(), media_type, bytes: bytes.into() }))
}

/// Parses manifests of which some may be in the cache; those that were read are put there.
pub(super) async fn parse(
    api: &EcrApi,
    name: &RepositoryName,
    digests: impl Iterator<Item = Digest>,
    cache: &dyn ContentCache,
) -> Vec<(Digest, Result<Option<ParsedManifest>, RegistryError>)> {
    let (mut known, mut missing) = (Vec::new(), Vec::new());
    for digest in digests {
        if cache.manifest(&digest).await.is_some() { known.push(digest) } else { missing.push(digest) }
    }
    let mut read = api.manifests(name, &missing).await;
    let mut parsed = Vec::new();
    for digest in known.into_iter().chain(missing) {
        let fetched = read.remove(&digest).unwrap_or(Ok(None));
        let found = read_cached_manifest(cache, (name, &digest), async { fetched }).await;
        parsed.push((digest, found));
    }
    parsed
}
