//! The cache of immutable content: manifests, and creation times of image configurations, by digest.
//!
//! New content is collected in memory and written in batches, so that the first read of a large registry is not limited
//! by the disk. Content lost in a crash is read from the registry again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use super::row_reader::RowReader;
use super::{ManifestCache, SqliteState, StateError, StateErrorKind};
use crate::domain::Digest;
use crate::registry::{ContentCache, RawManifest};

/// The number of rows in one write.
const BATCH_ROWS: usize = 512;
const BATCH_BYTES: usize = 4 << 20;

/// Content that is not written yet.
#[derive(Debug, Default)]
pub(super) struct PendingContent {
    pub(super) manifests: HashMap<Digest, RawManifest>,
    pub(super) configs: HashMap<Digest, Option<Timestamp>>,
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

/// The tables of the cache in a backend, below the content that is not written yet.
#[async_trait]
pub(super) trait CacheTables: RowReader + Send + Sync {
    /// The content that is not written yet.
    fn pending_content(&self) -> &Mutex<PendingContent>;

    /// Reads the media type and the bytes of a manifest.
    async fn read_manifest(&self, digest: &str) -> Result<Option<(String, Vec<u8>)>, StateError>;

    /// Reads what is known of a configuration: its time of creation, or that it does not say.
    async fn read_created_at(&self, config: &str) -> Result<Option<Option<String>>, StateError>;

    /// Writes content. A power cut may undo it.
    async fn write_content(&self, batch: &PendingContent) -> Result<(), StateError>;
}

/// The names of what is done with these tables, as failures say.
pub(super) const READ_MANIFEST: &str = "read a manifest";
pub(super) const READ_CREATED_AT: &str = "read a creation time";
pub(super) const WRITE_CONTENT: &str = "cache what was read";

#[async_trait]
impl<T: CacheTables> ContentCache for T {
    async fn manifest(&self, digest: &Digest) -> Option<RawManifest> {
        if let Some(manifest) = with_pending(self, |pending| pending.manifests.get(digest).cloned()) {
            return Some(manifest);
        }
        let (media_type, bytes) = or_log(self.read_manifest(&digest.to_string()).await)??;
        if !digest.matches(&bytes) {
            let error = self.error(StateErrorKind::Corrupt, format_args!("the cached manifest {digest} is damaged"));
            tracing::warn!(error = %error.chain(), "a cached manifest is read again");
            return None;
        }
        Some(RawManifest { digest: digest.clone(), media_type: media_type.into(), bytes: bytes.into() })
    }

    async fn store_manifest(&self, manifest: &RawManifest) {
        let batch = with_pending(self, |pending| {
            if pending.manifests.insert(manifest.digest.clone(), manifest.clone()).is_none() {
                pending.bytes += manifest.bytes.len();
            }
            pending.is_full().then(|| std::mem::take(pending))
        });
        write_pending(self, batch).await;
    }

    async fn created_at(&self, config: &Digest) -> Option<Option<Timestamp>> {
        if let Some(created_at) = with_pending(self, |pending| pending.configs.get(config).copied()) {
            return Some(created_at);
        }
        let created_at = or_log(self.read_created_at(&config.to_string()).await)??;
        created_at.map(|text| text.parse().ok()).map_or(Some(None), |time| time.map(Some))
    }

    async fn store_created_at(&self, config: &Digest, created_at: Option<Timestamp>) {
        let batch = with_pending(self, |pending| {
            pending.configs.insert(config.clone(), created_at);
            pending.is_full().then(|| std::mem::take(pending))
        });
        write_pending(self, batch).await;
    }
}

#[async_trait]
impl<T: CacheTables> ManifestCache for T {
    async fn flush_cache(&self) {
        let batch = with_pending(self, std::mem::take);
        write_pending(self, (!batch.is_empty()).then_some(batch)).await;
    }
}

fn with_pending<T>(tables: &impl CacheTables, look: impl FnOnce(&mut PendingContent) -> T) -> T {
    // A panic elsewhere leaves the maps whole: each holds only complete rows.
    look(&mut tables.pending_content().lock().unwrap_or_else(PoisonError::into_inner))
}

async fn write_pending(tables: &impl CacheTables, batch: Option<PendingContent>) {
    if let Some(batch) = batch
        && let Err(error) = tables.write_content(&batch).await
    {
        tracing::warn!(error = %error.chain(), kind = error.kind.label(), "could not cache what was read; it will be read again");
    }
}

fn or_log<T>(result: Result<T, StateError>) -> Option<T> {
    result
        .map_err(|error| {
            tracing::warn!(error = %error.chain(), kind = error.kind.label(), "the cache is passed over");
        })
        .ok()
}

#[async_trait]
impl CacheTables for SqliteState {
    fn pending_content(&self) -> &Mutex<PendingContent> {
        &self.0.pending_cache
    }

    async fn read_manifest(&self, digest: &str) -> Result<Option<(String, Vec<u8>)>, StateError> {
        sqlx::query_as("SELECT media_type, bytes FROM manifests WHERE digest = ?1")
            .bind(digest)
            .fetch_optional(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error(READ_MANIFEST, error))
    }

    async fn read_created_at(&self, config: &str) -> Result<Option<Option<String>>, StateError> {
        sqlx::query_scalar("SELECT created_at FROM configs WHERE digest = ?1")
            .bind(config)
            .fetch_optional(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error(READ_CREATED_AT, error))
    }

    async fn write_content(&self, batch: &PendingContent) -> Result<(), StateError> {
        let fault = |error: sqlx::Error| self.sqlx_error(WRITE_CONTENT, error);
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
        write.commit(WRITE_CONTENT).await
    }
}
