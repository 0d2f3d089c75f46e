//! The proof of free space for the writes of a run.

use super::{SqliteState, StateError};
use crate::domain::Digest;

/// The size of the test write: about the amount that a run of a small registry writes.
const TEST_BYTES: usize = 512 << 10;

/// The name of the write, as failures of it say.
pub(super) const WRITE_TEST_BYTES: &str = "write half a mebibyte as a test";

impl SqliteState {
    /// Verifies that half a mebibyte can be committed and gets into the file. A tiny write fits into an existing page.
    /// The written data is removed again.
    pub(super) async fn write_test_bytes(&self) -> Result<(), StateError> {
        let doing = WRITE_TEST_BYTES;
        let fault = |error: sqlx::Error| self.sqlx_error(doing, error);
        let bytes = incompressible_bytes();
        let digest = Digest::of(&bytes).to_string();
        let mut write = self.write_durably().await?;
        // A valid row of the cache. If a crash leaves it, it is pruned as unused content.
        sqlx::query("INSERT OR REPLACE INTO manifests (digest, media_type, bytes) VALUES (?1, ?2, ?3)")
            .bind(&digest)
            .bind("application/octet-stream")
            .bind(bytes)
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        write.commit(doing).await?;
        let copied = self.copy_wal().await;
        let mut write = self.write_durably().await?;
        sqlx::query("DELETE FROM manifests WHERE digest = ?1")
            .bind(&digest)
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        write.commit(doing).await?;
        copied
    }
}

/// Bytes that no file system compresses.
pub(super) fn incompressible_bytes() -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(TEST_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::super::{Schedules as _, StateErrorKind, Storage as _};
    use super::*;

    #[tokio::test]
    async fn room_for_a_tiny_write_is_none_for_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let store = SqliteState::open(&path).await.unwrap();
        let pages = async |store: &SqliteState| -> i64 {
            sqlx::query_scalar("PRAGMA page_count").fetch_one(&store.0.readers).await.unwrap()
        };
        let most = pages(&store).await + 20;
        store.close().await;

        let limit = |options: sqlx::sqlite::SqliteConnectOptions| options.pragma("max_page_count", most.to_string());
        let store = SqliteState::open_with(&path, limit).await.unwrap();
        let handled = BTreeMap::from([("0 3 * * * UTC".to_owned(), Timestamp::UNIX_EPOCH)]);
        store.record_schedule_progress(&handled).await.unwrap();
        assert_eq!(store.verify_disk_space().await.unwrap_err().kind, StateErrorKind::Full);
        store.record_schedule_progress(&handled).await.unwrap();
        store.close().await;

        let store = SqliteState::open(&path).await.unwrap();
        store.verify_disk_space().await.unwrap();
        let grown = pages(&store).await;
        store.verify_disk_space().await.unwrap();
        assert_eq!(pages(&store).await, grown, "the room is used again");
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM manifests").fetch_one(&store.0.readers).await.unwrap();
        assert_eq!(rows, 0, "nothing is left of it");
    }
}
