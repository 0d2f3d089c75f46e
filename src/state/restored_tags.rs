//! The original dates of restored tags, from before their removal.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::row_reader::RowReader;
use super::{SqliteState, StateError, WriteTransaction, format_time};
use crate::domain::{CompactTime, DateOrigin, Digest, Hold, Intent, JournalId, OriginalDate, Repository, TagName};

/// The record of a restore, written before it puts a tag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreRecord {
    /// The original date of the tag; `None` if the restore's own counts.
    pub original: Option<OriginalDate>,
    /// The hold on it.
    pub hold: Option<Hold>,
}

/// A tag list may be stale for a moment after a restore: only a later read shows that the tag is missing again.
const LIST_DELAY: SignedDuration = SignedDuration::from_mins(10);

/// A restored tag as it is stored.
#[derive(sqlx::FromRow)]
pub(super) struct RestoredRow {
    tag: String,
    digest: String,
    dated_at: Option<String>,
    dated_by: Option<String>,
    restored_at: String,
    complete: bool,
    registry_time: Option<String>,
}

/// A recorded restored tag.
struct RestoredRecord {
    digest: Digest,
    original: OriginalDate,
    restored_at: Timestamp,
    is_complete: bool,
    registry_time: Option<Timestamp>,
}

/// The result of comparing a restored tag with its record.
#[derive(Debug, PartialEq, Eq)]
enum RecordCheck {
    /// It is as the restore left it.
    Unchanged,
    /// It is as the restore left it, and this is the registry's own time of it.
    TimeKnown(Timestamp),
    /// It was pushed, moved or removed since.
    Superseded,
    /// The read is inconclusive.
    Inconclusive,
}

/// The table of restored tags in a backend, below what it means.
#[async_trait]
pub(super) trait RestoredTables: RowReader + Send + Sync {
    /// Returns true if any tag of a registry counts by an original time.
    async fn has_restored(&self, endpoint: &str) -> Result<bool, StateError>;

    /// Reads the restored tags of a repository.
    async fn restored_rows(&self, endpoint: &str, repository: &str) -> Result<Vec<RestoredRow>, StateError>;

    /// Writes a registry's own time into a complete record that has none. Durable when it returns.
    async fn write_registry_time(&self, restored: RestoredKey<'_>, time: Timestamp) -> Result<(), StateError>;

    /// Deletes the complete record of the restore at that time. Durable when it returns.
    async fn delete_restored(&self, restored: RestoredKey<'_>, restored_at: Timestamp) -> Result<(), StateError>;
}

/// The names of what is done with this table, as failures say.
pub(super) const FIND_RESTORED: &str = "look for restored tags";
pub(super) const READ_RESTORED: &str = "read what restored tags count by";
pub(super) const UPDATE_RESTORED: &str = "update what a restored tag counts by";
pub(super) const WRITE_RESTORED: &str = "write what a restored tag counts by";
pub(super) const COMPLETE_RESTORED: &str = "settle what a restored tag counts by";

/// The tag and the digest of a record.
#[derive(Clone, Copy)]
pub(super) struct RestoredKey<'a> {
    pub(super) endpoint: &'a str,
    pub(super) repository: &'a str,
    pub(super) tag: &'a TagName,
    pub(super) digest: &'a Digest,
}

/// Fills in by which time the restored tags of a repository count. `complete` says whether all of its tags were listed.
pub(super) async fn fill_originals(
    tables: &impl RestoredTables,
    endpoint: &str,
    repository: &mut Repository,
    complete: bool,
    now: Timestamp,
) -> Result<(), StateError> {
    let rows = tables.restored_rows(endpoint, repository.name.as_str()).await?;
    let records: BTreeMap<TagName, RestoredRecord> =
        rows.into_iter().map(|row| row.to_record(tables)).collect::<Result<_, StateError>>()?;
    for (tag, record) in records {
        let facts = repository.tags.iter().find(|facts| facts.name == tag);
        let seen = facts.map(|facts| (facts.digest.as_ref(), facts.pushed_at.map(CompactTime::timestamp)));
        let found = check_record(&record, seen, complete, now);
        if matches!(found, RecordCheck::Unchanged | RecordCheck::TimeKnown(_)) {
            repository.original_dates.insert(tag.clone(), record.original);
        }
        let repository = repository.name.as_str();
        let key = RestoredKey { endpoint, repository, tag: &tag, digest: &record.digest };
        match found {
            RecordCheck::Unchanged | RecordCheck::Inconclusive => {}
            RecordCheck::TimeKnown(time) => tables.write_registry_time(key, time).await?,
            // The same restore as was looked at, not a later one.
            RecordCheck::Superseded => tables.delete_restored(key, record.restored_at).await?,
        }
    }
    Ok(())
}

impl RestoredRow {
    fn to_record(&self, reader: &impl RowReader) -> Result<(TagName, RestoredRecord), StateError> {
        let original = match (&self.dated_at, self.dated_by.as_deref().and_then(DateOrigin::from_label)) {
            (Some(at), Some(origin)) => OriginalDate::Known(reader.read::<Timestamp>(at)?.into(), origin),
            _ => OriginalDate::Unknown,
        };
        let record = RestoredRecord {
            digest: reader.read(&self.digest)?,
            original,
            restored_at: reader.read(&self.restored_at)?,
            is_complete: self.complete,
            registry_time: reader.read_optional(self.registry_time.as_deref())?,
        };
        Ok((reader.read(&self.tag)?, record))
    }
}

/// What of an original date goes into the columns `dated_at` and `dated_by`.
pub(super) fn original_columns(original: OriginalDate) -> (Option<String>, Option<&'static str>) {
    match original {
        OriginalDate::Known(at, origin) => (Some(format_time(at.timestamp())), Some(origin.label())),
        OriginalDate::Unknown => (None, None),
    }
}

#[async_trait]
impl RestoredTables for SqliteState {
    async fn has_restored(&self, endpoint: &str) -> Result<bool, StateError> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM restored_tags WHERE endpoint = ?1)")
            .bind(endpoint)
            .fetch_one(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error(FIND_RESTORED, error))
    }

    async fn restored_rows(&self, endpoint: &str, repository: &str) -> Result<Vec<RestoredRow>, StateError> {
        sqlx::query_as(
            "SELECT tag, digest, dated_at, dated_by, restored_at, complete, registry_time FROM restored_tags
             WHERE endpoint = ?1 AND repository = ?2",
        )
        .bind(endpoint)
        .bind(repository)
        .fetch_all(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error(READ_RESTORED, error))
    }

    async fn write_registry_time(&self, restored: RestoredKey<'_>, time: Timestamp) -> Result<(), StateError> {
        let statement =
            "UPDATE restored_tags SET registry_time = ?5 WHERE endpoint = ?1 AND repository = ?2 AND tag = ?3 AND digest = ?4
             AND complete = 1 AND registry_time IS NULL";
        self.update_restored(statement, restored, time).await
    }

    async fn delete_restored(&self, restored: RestoredKey<'_>, restored_at: Timestamp) -> Result<(), StateError> {
        let statement = "DELETE FROM restored_tags WHERE endpoint = ?1 AND repository = ?2 AND tag = ?3 AND digest = ?4
             AND complete = 1 AND restored_at = ?5";
        self.update_restored(statement, restored, restored_at).await
    }
}

impl SqliteState {
    async fn update_restored(
        &self,
        statement: &'static str,
        restored: RestoredKey<'_>,
        time: Timestamp,
    ) -> Result<(), StateError> {
        let mut write = self.write_durably().await?;
        sqlx::query(statement)
            .bind(restored.endpoint)
            .bind(restored.repository)
            .bind(restored.tag.as_str())
            .bind(restored.digest.to_string())
            .bind(format_time(time))
            .execute(&mut *write.transaction)
            .await
            .map_err(|error| self.sqlx_error(UPDATE_RESTORED, error))?;
        write.commit(UPDATE_RESTORED).await
    }

    /// Records the original date of a tag that is about to be put, and the hold on it, as a part of the write that
    /// journals the intent.
    pub(super) async fn write_restore_record(
        &self,
        write: &mut WriteTransaction<'_>,
        id: JournalId,
        intent: &Intent,
        restoring: &RestoreRecord,
        now: Timestamp,
    ) -> Result<(), StateError> {
        if let Some(hold) = &restoring.hold {
            self.write_hold(write, hold, Some(id)).await?;
        }
        let (Some(original), Some(endpoint)) = (restoring.original, &intent.endpoint) else { return Ok(()) };
        let (dated_at, dated_by) = original_columns(original);
        sqlx::query(
            "INSERT OR REPLACE INTO restored_tags
             (endpoint, repository, tag, digest, dated_at, dated_by, entry, restored_at, complete, registry_time)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, NULL)",
        )
        .bind(&**endpoint)
        .bind(intent.repository.as_str())
        .bind(intent.tag.as_str())
        .bind(intent.digest.to_string())
        .bind(dated_at)
        .bind(dated_by)
        .bind(id.0)
        .bind(format_time(now))
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(WRITE_RESTORED, error))?;
        Ok(())
    }

    /// Completes the records of [`SqliteState::write_restore_record`] by the numbers of their entries: a tag exists, since
    /// the registry's own time of it; or it was not put, and its record and hold are void. A removal ends its tag's.
    pub(super) async fn complete_restore_records(
        &self,
        write: &mut WriteTransaction<'_>,
        done: &[(i64, Option<Timestamp>)],
        undone: &[i64],
    ) -> Result<(), StateError> {
        let fault = |error: sqlx::Error| self.sqlx_error(COMPLETE_RESTORED, error);
        let json = |ids: &[i64]| serde_json::to_string(ids).unwrap_or_default();
        if !done.is_empty() {
            let times: Vec<(i64, Option<String>)> =
                done.iter().map(|(id, time)| (*id, time.map(format_time))).collect();
            sqlx::query(
                "UPDATE restored_tags SET complete = 1, registry_time = new.value ->> 1 FROM json_each(?1) AS new
                 WHERE entry = new.value ->> 0",
            )
            .bind(serde_json::to_string(&times).unwrap_or_default())
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
            sqlx::query(
                "DELETE FROM restored_tags WHERE (endpoint, repository, tag) IN (
                     SELECT endpoint, repository, tag FROM journal
                     WHERE id IN (SELECT value FROM json_each(?1)) AND action IN ('untag', 'delete-manifest'))",
            )
            .bind(json(&done.iter().map(|(id, _)| *id).collect::<Vec<_>>()))
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        }
        if !undone.is_empty() {
            for statement in [
                "DELETE FROM restored_tags WHERE entry IN (SELECT value FROM json_each(?1))",
                "DELETE FROM holds WHERE entry IN (SELECT value FROM json_each(?1))",
            ] {
                sqlx::query(statement).bind(json(undone)).execute(&mut *write.transaction).await.map_err(fault)?;
            }
        }
        Ok(())
    }
}

/// Compares a tag with its record. `seen` is its digest and the registry's own time of it, if it exists.
fn check_record(
    record: &RestoredRecord,
    seen: Option<(Option<&Digest>, Option<Timestamp>)>,
    complete: bool,
    now: Timestamp,
) -> RecordCheck {
    let over = if record.is_complete { RecordCheck::Superseded } else { RecordCheck::Inconclusive };
    match seen {
        None => {
            let late = now.duration_since(record.restored_at) > LIST_DELAY;
            // If the registry reports times, a tag that reappears has another one: no conclusion is needed.
            if complete && late && record.registry_time.is_none() { over } else { RecordCheck::Inconclusive }
        }
        Some((None, _)) => RecordCheck::Inconclusive,
        Some((Some(digest), pushed_at)) => {
            let same = *digest == record.digest;
            match (record.registry_time, pushed_at) {
                (Some(left), Some(pushed)) if same && pushed == left => RecordCheck::Unchanged,
                // An earlier time comes from a stale answer.
                (Some(left), Some(pushed)) if pushed < left => RecordCheck::Inconclusive,
                (None, Some(pushed)) if same && record.is_complete => RecordCheck::TimeKnown(pushed),
                (_, None) | (None, Some(_)) if same => RecordCheck::Unchanged,
                _ => over,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i8) -> Timestamp {
        format!("2026-11-20T{hour:02}:00:00Z").parse().unwrap()
    }

    fn record(settled: bool, registry_time: Option<i8>) -> RestoredRecord {
        RestoredRecord {
            digest: Digest::of(b"a"),
            original: OriginalDate::Unknown,
            restored_at: at(3),
            is_complete: settled,
            registry_time: registry_time.map(at),
        }
    }

    #[test]
    fn a_restored_tag_counts_by_its_original_time_until_something_else_is_pushed() {
        let (own, other) = (Digest::of(b"a"), Digest::of(b"b"));
        let seen = |digest, hour: Option<i8>| Some((Some(digest), hour.map(at)));
        for (settled, left, seen, complete, now, found) in [
            // A registry with times.
            (true, Some(3), seen(&own, Some(3)), true, 4, RecordCheck::Unchanged),
            (true, Some(3), seen(&own, Some(4)), true, 5, RecordCheck::Superseded),
            (true, Some(3), seen(&other, Some(4)), true, 5, RecordCheck::Superseded),
            (true, Some(3), seen(&other, Some(2)), true, 5, RecordCheck::Inconclusive),
            (true, Some(3), None, true, 23, RecordCheck::Inconclusive),
            (true, None, seen(&own, Some(3)), true, 4, RecordCheck::TimeKnown(at(3))),
            // A registry without times.
            (true, None, seen(&own, None), true, 4, RecordCheck::Unchanged),
            (true, None, seen(&other, None), true, 4, RecordCheck::Superseded),
            (true, None, None, true, 3, RecordCheck::Inconclusive),
            (true, None, None, true, 4, RecordCheck::Superseded),
            (true, None, None, false, 4, RecordCheck::Inconclusive),
            (true, None, Some((None, None)), true, 4, RecordCheck::Inconclusive),
            // About to be put.
            (false, None, seen(&own, Some(3)), true, 3, RecordCheck::Unchanged),
            (false, None, seen(&own, None), true, 3, RecordCheck::Unchanged),
            (false, None, seen(&other, Some(4)), true, 9, RecordCheck::Inconclusive),
            (false, None, None, true, 9, RecordCheck::Inconclusive),
        ] {
            let record = record(settled, left);
            assert_eq!(
                check_record(&record, seen, complete, at(now)),
                found,
                "{settled} {left:?} {seen:?} {complete} {now}"
            );
        }
    }
}
