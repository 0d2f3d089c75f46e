//! Tags that a registry refused to remove.
//!
//! Losing such a record costs one more refused request, so none is worth waiting for the disk.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::experience::key;
use super::row_reader::RowReader;
use super::{RefusedTags, SqliteState, StateError, format_time};
use crate::domain::{Digest, RefusedTag, RepositoryName, TagName};

/// A refusal that was not repeated for that long is pruned: the tag was removed elsewhere, or no policy expires it
/// anymore.
const REFUSAL_RETENTION: SignedDuration = SignedDuration::from_hours(120 * 24);

/// One row of the table.
#[derive(sqlx::FromRow)]
pub(super) struct RefusedTagRow {
    repository: String,
    tag: String,
    digest: String,
    times: i64,
    last_at: String,
    message: String,
}

/// A refusal in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovalRefusal {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: TagName,
    /// The digest that it named.
    pub digest: Digest,
    /// The registry's message.
    pub message: String,
    /// True if it is specific to the tag: others were removed. If false, the whole registry may refuse, and the tag's
    /// next attempt is not delayed further.
    pub is_tag_specific: bool,
}

#[async_trait]
impl RefusedTags for SqliteState {
    async fn refused_tags(&self, endpoint: &str) -> Result<Vec<RefusedTag>, StateError> {
        let rows: Vec<RefusedTagRow> = sqlx::query_as(
            "SELECT repository, tag, digest, times, last_at, message FROM refused_tags WHERE endpoint = ?1
             ORDER BY repository, tag",
        )
        .bind(key(endpoint))
        .fetch_all(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error("read which tags a registry refused to remove", error))?;
        refused_tags(self, rows)
    }

    async fn record_refused_tags(
        &self,
        endpoint: &str,
        met: &[RemovalRefusal],
        now: Timestamp,
    ) -> Result<(), StateError> {
        let doing = "remember which tags a registry refused to remove";
        let fault = |error: sqlx::Error| self.sqlx_error(doing, error);
        let mut write = self.write_relaxed().await?;
        for RemovalRefusal { repository, tag, digest, message, is_tag_specific: own } in met {
            sqlx::query(
                "INSERT INTO refused_tags (endpoint, repository, tag, digest, times, last_at, message)
                 VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6)
                 ON CONFLICT (endpoint, repository, tag) DO UPDATE SET
                     times = CASE WHEN digest = excluded.digest THEN times + ?7 ELSE 1 END,
                     digest = excluded.digest, last_at = excluded.last_at, message = excluded.message",
            )
            .bind(key(endpoint))
            .bind(repository.as_str())
            .bind(tag.as_str())
            .bind(digest.to_string())
            .bind(format_time(now))
            .bind(message)
            .bind(i64::from(*own))
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        }
        sqlx::query("DELETE FROM refused_tags WHERE endpoint = ?1 AND last_at < ?2")
            .bind(key(endpoint))
            .bind(format_time(forgotten_before(now)))
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        write.commit(doing).await
    }

    async fn forget_refused_tag(
        &self,
        endpoint: &str,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<(), StateError> {
        let doing = "forget that a registry refused to remove a tag";
        let mut write = self.write_relaxed().await?;
        sqlx::query("DELETE FROM refused_tags WHERE endpoint = ?1 AND repository = ?2 AND tag = ?3")
            .bind(key(endpoint))
            .bind(repository.as_str())
            .bind(tag.as_str())
            .execute(&mut *write.transaction)
            .await
            .map_err(|error| self.sqlx_error(doing, error))?;
        write.commit(doing).await
    }
}

/// Makes the tags of rows.
pub(super) fn refused_tags(reader: &impl RowReader, rows: Vec<RefusedTagRow>) -> Result<Vec<RefusedTag>, StateError> {
    let tags: Result<Vec<RefusedTag>, StateError> = rows.into_iter().map(|row| row.into_tag(reader)).collect();
    // Texts in the order of the database need not be names in theirs.
    let mut tags = tags?;
    tags.sort_by(|a, b| (&a.repository, &a.tag).cmp(&(&b.repository, &b.tag)));
    Ok(tags)
}

/// The time before which refusals are forgotten.
pub(super) fn forgotten_before(now: Timestamp) -> Timestamp {
    now.checked_sub(REFUSAL_RETENTION).unwrap_or(Timestamp::MIN)
}

impl RefusedTagRow {
    fn into_tag(self, reader: &impl RowReader) -> Result<RefusedTag, StateError> {
        Ok(RefusedTag {
            repository: reader.read(&self.repository)?,
            tag: reader.read(&self.tag)?,
            digest: reader.read(&self.digest)?,
            refusal_count: u32::try_from(self.times).unwrap_or(u32::MAX),
            last_at: reader.read(&self.last_at)?,
            message: self.message,
        })
    }
}
