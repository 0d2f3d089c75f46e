//! The database itself: whether it answers and can be written.

use std::sync::atomic::Ordering;

use async_trait::async_trait;

use super::PostgresState;
use crate::domain::Digest;
use crate::state::disk_space::{WRITE_TEST_BYTES, incompressible_bytes};
use crate::state::row_reader::RowReader as _;
use crate::state::runs::HAS_RUN_THAT_MAY_REMOVE;
use crate::state::{ManifestCache as _, NEW_STATE, StateError, StateErrorKind, StateLocation, Storage};

#[async_trait]
impl Storage for PostgresState {
    fn location(&self) -> &StateLocation {
        &self.0.location
    }

    async fn warn_if_new(&self, removes: bool) -> Result<(), StateError> {
        if !removes || self.0.warned_as_new.load(Ordering::Relaxed) {
            return Ok(());
        }
        let known: Option<(bool,)> = self.row("read the runs", sqlx::query_as(HAS_RUN_THAT_MAY_REMOVE)).await?;
        if known.is_some_and(|(known,)| known) {
            return Ok(());
        }
        if !self.0.warned_as_new.swap(true, Ordering::Relaxed) {
            tracing::warn!(state = %self.0.database, "{NEW_STATE}");
        }
        Ok(())
    }

    async fn verify_disk_space(&self) -> Result<(), StateError> {
        let bytes = incompressible_bytes();
        let digest = Digest::of(&bytes).to_string();
        // A row of the cache that is what its digest says. Where a crash leaves it, it is forgotten as content of which
        // nothing makes use.
        let statement = sqlx::query(
            "INSERT INTO manifests (digest, media_type, bytes) VALUES ($1, 'application/octet-stream', $2)
             ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes",
        );
        self.execute(WRITE_TEST_BYTES, statement.bind(&digest).bind(bytes)).await?;
        let statement = sqlx::query("DELETE FROM manifests WHERE digest = $1").bind(&digest);
        self.execute(WRITE_TEST_BYTES, statement).await.map(drop)
    }

    async fn close(&self) {
        self.flush_cache().await;
        self.await_releases().await;
        tokio::join!(self.0.pool.close(), self.0.lease_pool.close());
    }

    fn verify_file(&self) -> Result<(), StateError> {
        if self.0.unreachable.load(Ordering::Relaxed) {
            return Err(self.error(StateErrorKind::Unavailable, "the database did not answer when it was last asked"));
        }
        Ok(())
    }
}
