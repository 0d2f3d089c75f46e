//! The cache of what never changes.

use std::sync::Mutex;

use async_trait::async_trait;

use super::{PostgresState, storable};
use crate::state::cache::{CacheTables, PendingContent, READ_CREATED_AT, READ_MANIFEST, WRITE_CONTENT};
use crate::state::{StateError, format_time};

#[async_trait]
impl CacheTables for PostgresState {
    fn pending_content(&self) -> &Mutex<PendingContent> {
        &self.0.pending_cache
    }

    async fn read_manifest(&self, digest: &str) -> Result<Option<(String, Vec<u8>)>, StateError> {
        if self.is_away() {
            // Thousands of these are read one by one: the registry answers sooner than a database that is waited for.
            return Ok(None);
        }
        let query = sqlx::query_as("SELECT media_type, bytes FROM manifests WHERE digest = $1");
        self.row(READ_MANIFEST, query.bind(digest)).await
    }

    async fn read_created_at(&self, config: &str) -> Result<Option<Option<String>>, StateError> {
        if self.is_away() {
            return Ok(None);
        }
        let query = sqlx::query_as("SELECT created_at FROM configs WHERE digest = $1");
        let row: Option<(Option<String>,)> = self.row(READ_CREATED_AT, query.bind(config)).await?;
        Ok(row.map(|(created_at,)| created_at))
    }

    async fn write_content(&self, batch: &PendingContent) -> Result<(), StateError> {
        let mut unit = self.write_relaxed(WRITE_CONTENT).await?;
        // In the order of the digests, so that two processes that cache the same wait for each other in one direction.
        let mut manifests: Vec<_> =
            batch.manifests.values().map(|manifest| (manifest.digest.to_string(), manifest)).collect();
        manifests.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let statement = sqlx::query(
            "INSERT INTO manifests (digest, media_type, bytes) SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])
             ON CONFLICT (digest) DO UPDATE SET media_type = excluded.media_type, bytes = excluded.bytes",
        );
        let statement = statement
            .bind(manifests.iter().map(|(digest, _)| digest.as_str()).collect::<Vec<_>>())
            .bind(manifests.iter().map(|(_, one)| storable(&one.media_type).into_owned()).collect::<Vec<_>>())
            .bind(manifests.iter().map(|(_, one)| &*one.bytes).collect::<Vec<&[u8]>>());
        unit.execute(statement).await?;
        let mut configs: Vec<_> =
            batch.configs.iter().map(|(config, created)| (config.to_string(), created.map(format_time))).collect();
        configs.sort_unstable();
        let (digests, times): (Vec<String>, Vec<Option<String>>) = configs.into_iter().unzip();
        let statement = sqlx::query(
            "INSERT INTO configs (digest, created_at) SELECT * FROM unnest($1::text[], $2::text[])
             ON CONFLICT (digest) DO UPDATE SET created_at = excluded.created_at",
        );
        unit.execute(statement.bind(digests).bind(times)).await?;
        unit.commit().await
    }
}
