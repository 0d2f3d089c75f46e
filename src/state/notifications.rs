//! Problems that were reported to receivers of notifications.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use async_trait::async_trait;
use jiff::Timestamp;

use super::file::sibling_path;
use super::{Notifications, SqliteState, StateError, format_time};
use crate::domain::chain;

/// The ending of the file in which earlier versions recorded sent messages, beside the state.
const OLD_FILE: &str = ".told.json";

/// The content of that file: times by problem, by receiver.
type OldFile = BTreeMap<String, BTreeMap<String, Timestamp>>;

#[async_trait]
impl Notifications for SqliteState {
    async fn sent_notifications(&self, receiver: &str) -> Result<BTreeMap<String, Timestamp>, StateError> {
        self.import_old_file().await?;
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT problem, sent_at FROM notifications WHERE receiver = ?1")
                .bind(receiver)
                .fetch_all(&self.0.readers)
                .await
                .map_err(|error| self.sqlx_error("read which notifications were sent", error))?;
        rows.into_iter().map(|(problem, at)| Ok((problem, self.read(&at)?))).collect()
    }

    async fn record_sent_notifications(
        &self,
        receiver: &str,
        sent: &BTreeMap<String, Timestamp>,
    ) -> Result<(), StateError> {
        let doing = "record which notifications were sent";
        self.import_old_file().await?;
        let mut write = self.write_relaxed().await?;
        sqlx::query("DELETE FROM notifications WHERE receiver = ?1")
            .bind(receiver)
            .execute(&mut *write.transaction)
            .await
            .map_err(|error| self.sqlx_error(doing, error))?;
        for (problem, at) in sent {
            sqlx::query("INSERT INTO notifications (receiver, problem, sent_at) VALUES (?1, ?2, ?3)")
                .bind(receiver)
                .bind(problem)
                .bind(format_time(*at))
                .execute(&mut *write.transaction)
                .await
                .map_err(|error| self.sqlx_error(doing, error))?;
        }
        write.commit(doing).await
    }
}

impl SqliteState {
    /// Imports the file in which an earlier version recorded sent messages beside the state, once: the file is removed
    /// afterwards, so that it does not override later records.
    async fn import_old_file(&self) -> Result<(), StateError> {
        let doing = "take over which notifications were sent";
        let path = sibling_path(&self.0.path, OLD_FILE);
        let bytes = match tokio::fs::read(&path).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                tracing::warn!(file = %path.display(), error = %chain(&error), "cannot read which notifications were sent; some may be \
                    sent again");
                return Ok(());
            }
        };
        let old = serde_json::from_slice::<OldFile>(&bytes).unwrap_or_else(|error| {
            tracing::warn!(file = %path.display(), error = %chain(&error), "does not say which notifications were sent; some may be \
                sent again");
            OldFile::new()
        });
        // The disk has it before the file is removed.
        let mut write = self.write_durably().await?;
        for (receiver, sent) in &old {
            for (problem, at) in sent {
                sqlx::query(
                    "INSERT INTO notifications (receiver, problem, sent_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                )
                .bind(receiver)
                .bind(problem)
                .bind(format_time(*at))
                .execute(&mut *write.transaction)
                .await
                .map_err(|error| self.sqlx_error(doing, error))?;
            }
        }
        write.commit(doing).await?;
        remove(&path).await;
        Ok(())
    }
}

/// Removes the file, or renames it if only that works.
async fn remove(path: &Path) {
    let Err(error) = tokio::fs::remove_file(path).await else { return };
    // Another process imported it at the same time.
    if error.kind() == io::ErrorKind::NotFound {
        return;
    }
    if let Err(error) = tokio::fs::rename(path, sibling_path(path, ".imported")).await {
        tracing::warn!(file = %path.display(), error = %chain(&error), "cannot remove a file that is no longer needed; remove it, or \
            notifications that are over may count as sent again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i8) -> Timestamp {
        format!("2026-11-20T{hour:02}:00:00Z").parse().unwrap()
    }

    /// Problems reported by the version before are not reported again, and its file is used once.
    #[tokio::test]
    async fn the_file_of_earlier_versions_is_taken_over_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let file = folder.path().join("t.db.told.json");
        let state = SqliteState::open(&path).await.unwrap();
        let recorded = BTreeMap::from([("run failed x".to_owned(), at(12))]);
        state.record_sent_notifications("ops", &recorded).await.unwrap();

        let old = r#"{"ops":{"run failed x":"2026-11-20T03:00:00Z","run failed y":"2026-11-20T04:00:00Z"},
                      "dev":{"run refused z":"2026-11-20T05:00:00Z"}}"#;
        std::fs::write(&file, old).unwrap();
        let both = BTreeMap::from([("run failed x".to_owned(), at(12)), ("run failed y".to_owned(), at(4))]);
        assert_eq!(state.sent_notifications("ops").await.unwrap(), both, "what was recorded here is newer");
        assert!(!file.exists());
        assert_eq!(state.sent_notifications("dev").await.unwrap()["run refused z"], at(5));

        state.record_sent_notifications("ops", &BTreeMap::new()).await.unwrap();
        std::fs::write(&file, "{\"ops\": 3").unwrap();
        assert_eq!(state.sent_notifications("ops").await.unwrap(), BTreeMap::new());
        assert!(!file.exists(), "a broken one is not read each time");
    }
}
