//! What restored tags count by: the time that they had when they were removed.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::journal::JournalId;
use super::{Store, StoreError, Write, stored};
use crate::domain::{DateOrigin, Digest, Hold, Intent, Moment, Original, Outcome, Repository, TagName};

/// What a restore leaves in the state before it puts a tag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restoring {
    /// The time by which the tag is to count; `None` where it counts by the restore's own.
    pub original: Option<Original>,
    /// The hold that is set on it.
    pub hold: Option<Hold>,
}

/// A tag list may be stale for a moment after a restore: only a later look says that the tag is gone again.
const LISTED_WITHIN: SignedDuration = SignedDuration::from_mins(10);

#[derive(sqlx::FromRow)]
struct Row {
    tag: String,
    digest: String,
    dated_at: Option<String>,
    dated_by: Option<String>,
    restored_at: String,
    settled: bool,
    left_at: Option<String>,
}

/// A restored tag as it was recorded.
struct Record {
    digest: Digest,
    original: Original,
    restored_at: Timestamp,
    settled: bool,
    left_at: Option<Timestamp>,
}

/// What a look at a restored tag says of its record.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// It is as the restore left it.
    AsLeft,
    /// It is as the restore left it, and this is the registry's own time of it.
    LeftAt(Timestamp),
    /// Somebody pushed, moved or removed it since.
    Over,
    /// The look says nothing.
    Unclear,
}

impl Store {
    /// Whether any tag of a registry counts by an original time.
    pub(super) async fn has_restored(&self, endpoint: &str) -> Result<bool, StoreError> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM restored_tags WHERE endpoint = ?1)")
            .bind(endpoint)
            .fetch_one(&self.0.readers)
            .await
            .map_err(|error| self.fault("look for restored tags", &error))
    }

    /// Fills in by which time the restored tags of a repository count. `complete` says whether all of its tags were listed.
    pub(super) async fn fill_originals(
        &self,
        endpoint: &str,
        repository: &mut Repository,
        complete: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let doing = "read what restored tags count by";
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT tag, digest, dated_at, dated_by, restored_at, settled, left_at FROM restored_tags
             WHERE endpoint = ?1 AND repository = ?2",
        )
        .bind(endpoint)
        .bind(repository.name.as_str())
        .fetch_all(&self.0.readers)
        .await
        .map_err(|error| self.fault(doing, &error))?;
        let records: BTreeMap<TagName, Record> =
            rows.into_iter().map(|row| self.restored_record(&row)).collect::<Result<_, StoreError>>()?;
        for (tag, record) in records {
            let facts = repository.tags.iter().find(|facts| facts.name == tag);
            let seen = facts.map(|facts| (facts.digest.as_ref(), facts.pushed_at.map(Moment::timestamp)));
            let found = look(&record, seen, complete, now);
            if matches!(found, Found::AsLeft | Found::LeftAt(_)) {
                repository.originals.insert(tag.clone(), record.original);
            }
            let change = match found {
                Found::AsLeft | Found::Unclear => continue,
                Found::LeftAt(time) => Some(time),
                Found::Over => None,
            };
            self.update_record(endpoint, repository, &tag, &record, change).await?;
        }
        Ok(())
    }

    async fn update_record(
        &self,
        endpoint: &str,
        repository: &Repository,
        tag: &TagName,
        record: &Record,
        left_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let doing = "update what a restored tag counts by";
        let statement = match left_at {
            Some(_) => {
                "UPDATE restored_tags SET left_at = ?5 WHERE endpoint = ?1 AND repository = ?2 AND tag = ?3 AND digest = ?4
                 AND settled = 1 AND left_at IS NULL"
            }
            // The same restore as was looked at, not a later one.
            None => {
                "DELETE FROM restored_tags WHERE endpoint = ?1 AND repository = ?2 AND tag = ?3 AND digest = ?4
                 AND settled = 1 AND restored_at = ?5"
            }
        };
        let mut write = self.write_durably().await?;
        sqlx::query(statement)
            .bind(endpoint)
            .bind(repository.name.as_str())
            .bind(tag.as_str())
            .bind(record.digest.to_string())
            .bind(stored(left_at.unwrap_or(record.restored_at)))
            .execute(&mut *write.transaction)
            .await
            .map_err(|error| self.fault(doing, &error))?;
        write.commit(doing).await
    }

    fn restored_record(&self, row: &Row) -> Result<(TagName, Record), StoreError> {
        let original = match (&row.dated_at, row.dated_by.as_deref().and_then(DateOrigin::of_label)) {
            (Some(at), Some(origin)) => Original::At(self.read::<Timestamp>(at)?.into(), origin),
            _ => Original::Unknown,
        };
        let record = Record {
            digest: self.read(&row.digest)?,
            original,
            restored_at: self.read(&row.restored_at)?,
            settled: row.settled,
            left_at: row.left_at.as_deref().map(|at| self.read(at)).transpose()?,
        };
        Ok((self.read(&row.tag)?, record))
    }

    /// Writes down what a tag that is about to be put counts by, and the hold on it, as a part of the write that journals
    /// the intent.
    pub(super) async fn write_restoring(
        &self,
        write: &mut Write<'_>,
        id: JournalId,
        intent: &Intent,
        restoring: &Restoring,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if let Some(hold) = &restoring.hold {
            self.write_hold(write, hold, Some(id)).await?;
        }
        let (Some(original), Some(endpoint)) = (restoring.original, &intent.endpoint) else { return Ok(()) };
        let (dated_at, dated_by) = match original {
            Original::At(at, origin) => (Some(stored(at.timestamp())), Some(origin.label())),
            Original::Unknown => (None, None),
        };
        sqlx::query(
            "INSERT OR REPLACE INTO restored_tags
             (endpoint, repository, tag, digest, dated_at, dated_by, entry, restored_at, settled, left_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, NULL)",
        )
        .bind(&**endpoint)
        .bind(intent.repository.as_str())
        .bind(intent.tag.as_str())
        .bind(intent.digest.to_string())
        .bind(dated_at)
        .bind(dated_by)
        .bind(id.0)
        .bind(stored(now))
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.fault("write what a restored tag counts by", &error))?;
        Ok(())
    }

    /// Settles what [`Store::write_restoring`] wrote: the tag is there, since `left_at` by the registry's own time; or it
    /// was not put, and neither counts nor is held. A removal ends it.
    pub(super) async fn settle_restoring(
        &self,
        write: &mut Write<'_>,
        id: JournalId,
        outcome: &Outcome,
        left_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let fault = |error: sqlx::Error| self.fault("settle what a restored tag counts by", &error);
        if matches!(outcome, Outcome::Done(_)) {
            sqlx::query("UPDATE restored_tags SET settled = 1, left_at = ?2 WHERE entry = ?1")
                .bind(id.0)
                .bind(left_at.map(stored))
                .execute(&mut *write.transaction)
                .await
                .map_err(fault)?;
            sqlx::query(
                "DELETE FROM restored_tags WHERE (endpoint, repository, tag) IN (
                     SELECT endpoint, repository, tag FROM journal
                     WHERE id = ?1 AND action IN ('untag', 'delete-manifest'))",
            )
            .bind(id.0)
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
            return Ok(());
        }
        for statement in ["DELETE FROM restored_tags WHERE entry = ?1", "DELETE FROM holds WHERE entry = ?1"] {
            sqlx::query(statement).bind(id.0).execute(&mut *write.transaction).await.map_err(fault)?;
        }
        Ok(())
    }
}

/// What a look at a tag says of its record. `seen` is its digest and the registry's own time of it, where it is there.
fn look(record: &Record, seen: Option<(Option<&Digest>, Option<Timestamp>)>, complete: bool, now: Timestamp) -> Found {
    let over = if record.settled { Found::Over } else { Found::Unclear };
    match seen {
        None => {
            let late = now.duration_since(record.restored_at) > LISTED_WITHIN;
            // Where the registry tells times, a tag that comes back has another one: nothing need be concluded.
            if complete && late && record.left_at.is_none() { over } else { Found::Unclear }
        }
        Some((None, _)) => Found::Unclear,
        Some((Some(digest), pushed_at)) => {
            let same = *digest == record.digest;
            match (record.left_at, pushed_at) {
                (Some(left), Some(pushed)) if same && pushed == left => Found::AsLeft,
                // An earlier time is that of a stale answer.
                (Some(left), Some(pushed)) if pushed < left => Found::Unclear,
                (None, Some(pushed)) if same && record.settled => Found::LeftAt(pushed),
                (_, None) | (None, Some(_)) if same => Found::AsLeft,
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

    fn record(settled: bool, left_at: Option<i8>) -> Record {
        Record {
            digest: Digest::of(b"a"),
            original: Original::Unknown,
            restored_at: at(3),
            settled,
            left_at: left_at.map(at),
        }
    }

    #[test]
    fn a_restored_tag_counts_by_its_original_time_until_something_else_is_pushed() {
        let (own, other) = (Digest::of(b"a"), Digest::of(b"b"));
        let seen = |digest, hour: Option<i8>| Some((Some(digest), hour.map(at)));
        for (settled, left, seen, complete, now, found) in [
            // A registry that tells times.
            (true, Some(3), seen(&own, Some(3)), true, 4, Found::AsLeft),
            (true, Some(3), seen(&own, Some(4)), true, 5, Found::Over),
            (true, Some(3), seen(&other, Some(4)), true, 5, Found::Over),
            (true, Some(3), seen(&other, Some(2)), true, 5, Found::Unclear),
            (true, Some(3), None, true, 23, Found::Unclear),
            (true, None, seen(&own, Some(3)), true, 4, Found::LeftAt(at(3))),
            // One that does not.
            (true, None, seen(&own, None), true, 4, Found::AsLeft),
            (true, None, seen(&other, None), true, 4, Found::Over),
            (true, None, None, true, 3, Found::Unclear),
            (true, None, None, true, 4, Found::Over),
            (true, None, None, false, 4, Found::Unclear),
            (true, None, Some((None, None)), true, 4, Found::Unclear),
            // About to be put.
            (false, None, seen(&own, Some(3)), true, 3, Found::AsLeft),
            (false, None, seen(&own, None), true, 3, Found::AsLeft),
            (false, None, seen(&other, Some(4)), true, 9, Found::Unclear),
            (false, None, None, true, 9, Found::Unclear),
        ] {
            let record = record(settled, left);
            assert_eq!(look(&record, seen, complete, at(now)), found, "{settled} {left:?} {seen:?} {complete} {now}");
        }
    }
}
