//! The cache of what never changes: manifests, and what image configurations say of their creation, by digest.
//!
//! New content is gathered in memory and written many at a time, so that the first look at a large registry is not
//! bound to the disk. What a crash loses is read from the registry again.

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{ManifestCache, SqliteState, StateError};
use crate::domain::Digest;
use crate::registry::{ContentCache, RawManifest};

/// How much is gathered before it is written.
const BATCH_ROWS: usize = 512;
const BATCH_BYTES: usize = 4 << 20;

/// Content that is not written yet.
#[derive(Debug, Default)]
pub(super) struct PendingContent {
    manifests: HashMap<Digest, RawManifest>,
    configs: HashMap<Digest, Option<Timestamp>>,
    bytes: usize,
}

impl PendingContent {
    fn is_empty(&self) -> bool {
        self.manifests.is_empty() && self.configs.is_empty()
    }

    fn is_full(&self) -> bool {
        self.manifests.len() + self.configs.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }
}

#[async_trait]
impl ContentCache for SqliteState {
    async fn manifest(&self, digest: &Digest) -> Option<RawManifest> {
        if let Some(manifest) = self.pending(|pending| pending.manifests.get(digest).cloned()) {
            return Some(manifest);
        }
        let found = sqlx::query_as("SELECT media_type, bytes FROM manifests WHERE digest = ?1")
            .bind(digest.to_string())
            .fetch_optional(&self.0.readers)
            .await;
        let (media_type, bytes): (String, Vec<u8>) = self.or_log("read a manifest", found)??;
        if !digest.matches(&bytes) {
            tracing::warn!(%digest, state = %self.0.path.display(), "a cached manifest is damaged; it is read again");
            return None;
        }
        Some(RawManifest { digest: digest.clone(), media_type: media_type.into(), bytes: bytes.into() })
    }

    async fn store_manifest(&self, manifest: &RawManifest) {
        let batch = self.pending(|pending| {
            if pending.manifests.insert(manifest.digest.clone(), manifest.clone()).is_none() {
                pending.bytes += manifest.bytes.len();
            }
            pending.is_full().then(|| std::mem::take(pending))
        });
        self.write_pending(batch).await;
    }

    async fn created_at(&self, config: &Digest) -> Option<Option<Timestamp>> {
        if let Some(created_at) = self.pending(|pending| pending.configs.get(config).copied()) {
            return Some(created_at);
        }
        let found = sqlx::query_scalar("SELECT created_at FROM configs WHERE digest = ?1")
            .bind(config.to_string())
            .fetch_optional(&self.0.readers)
            .await;
        let created_at: Option<String> = self.or_log("read a creation time", found)??;
        created_at.map(|text| text.parse().ok()).map_or(Some(None), |time| time.map(Some))
    }

    async fn store_created_at(&self, config: &Digest, created_at: Option<Timestamp>) {
        let batch = self.pending(|pending| {
            pending.configs.insert(config.clone(), created_at);
            pending.is_full().then(|| std::mem::take(pending))
        });
        self.write_pending(batch).await;
    }
}

#[async_trait]
impl ManifestCache for SqliteState {
    async fn flush_cache(&self) {
        let batch = self.pending(std::mem::take);
        self.write_pending((!batch.is_empty()).then_some(batch)).await;
    }
}

impl SqliteState {
    async fn write_pending(&self, batch: Option<PendingContent>) {
        if let Some(batch) = batch
            && let Err(error) = self.write_batch(&batch).await
        {
            tracing::warn!(error = %error.chain(), kind = error.kind.label(), "could not cache what was read; it will be read again");
        }
    }

    async fn write_batch(&self, batch: &PendingContent) -> Result<(), StateError> {
        let doing = "cache what was read";
        let fault = |error: sqlx::Error| self.sqlx_error(doing, error);
        let mut write = self.write_relaxed().await?;
        for manifest in batch.manifests.values() {
            sqlx::query("INSERT OR REPLACE INTO manifests (digest, media_type, bytes) VALUES (?1, ?2, ?3)")
                .bind(manifest.digest.to_string())
                .bind(&*manifest.media_type)
                .bind(&*manifest.bytes)
                .execute(&mut *write.transaction)
                .await
                .map_err(fault)?;
        }
        for (config, created_at) in &batch.configs {
            sqlx::query("INSERT OR REPLACE INTO configs (digest, created_at) VALUES (?1, ?2)")
                .bind(config.to_string())
                .bind(created_at.map(super::format_time))
                .execute(&mut *write.transaction)
                .await
                .map_err(fault)?;
        }
        write.commit(doing).await
    }

    fn pending<T>(&self, look: impl FnOnce(&mut PendingContent) -> T) -> T {
        // A panic elsewhere leaves the maps whole: each holds only complete rows.
        look(&mut self.0.pending_cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn or_log<T>(&self, doing: &str, result: Result<T, sqlx::Error>) -> Option<T> {
        result
            .map_err(|error| {
                let error = self.sqlx_error(doing, error);
                tracing::warn!(error = %error.chain(), kind = error.kind.label(), "the cache is passed over");
            })
            .ok()
    }
}
