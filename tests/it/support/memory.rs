//! A content cache in memory.

use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;
use jiff::Timestamp;
use tagwarden::domain::Digest;
use tagwarden::registry::{ContentCache, RawManifest};

/// Keeps everything.
#[derive(Default)]
pub(crate) struct MemoryCache {
    manifests: Mutex<HashMap<Digest, RawManifest>>,
    created: Mutex<HashMap<Digest, Option<Timestamp>>>,
}

#[async_trait]
impl ContentCache for MemoryCache {
    async fn manifest(&self, digest: &Digest) -> Option<RawManifest> {
        self.manifests.lock().unwrap().get(digest).cloned()
    }

    async fn store_manifest(&self, manifest: &RawManifest) {
        self.manifests.lock().unwrap().insert(manifest.digest.clone(), manifest.clone());
    }

    async fn created_at(&self, config: &Digest) -> Option<Option<Timestamp>> {
        self.created.lock().unwrap().get(config).copied()
    }

    async fn store_created_at(&self, config: &Digest, created_at: Option<Timestamp>) {
        self.created.lock().unwrap().insert(config.clone(), created_at);
    }
}
