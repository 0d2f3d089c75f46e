//! The journal: what was about to be done to a tag, and what came of it.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::columns::{action, date, date_columns, outcome, outcome_columns};
use super::group_commit::Entry;
use super::{
    Journal, LeaseToken, RestoreRecord, RestoredTags, SqliteState, StateError, StateErrorKind, WriteTransaction,
    format_time,
};
use crate::domain::{Digest, Intent, JournaledIntent, Outcome, RegistryName, RepositoryName, SkipReason, TagName};
use crate::registry::RawManifest;

pub use crate::domain::JournalId;

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// Its number.
    pub id: JournalId,
    /// The run that it belongs to.
    pub run: Uuid,
    /// The epoch of the lease under which it was written; `None` in entries of older versions.
    pub epoch: Option<i64>,
    /// The intent.
    pub intent: Intent,
    /// The time at which the intent was journaled.
    pub intended_at: Timestamp,
    /// The outcome and its time; `None` while it is pending.
    pub outcome: Option<(Outcome, Timestamp)>,
}

/// Which entries of the journal are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalScope {
    /// All.
    Everything,
    /// Those of one run.
    Run(Uuid),
    /// Those of one repository.
    Repository(RegistryName, RepositoryName),
}

/// The number of a run's entries with the same outcome.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct JournalCount {
    /// The label of the [`Action`](crate::domain::Action).
    pub action: String,
    /// The label of the [`Outcome`]; nothing where it is not settled yet.
    pub outcome: Option<String>,
    /// The label of the [`SkipReason`], where it was skipped.
    pub skip: Option<String>,
    /// The number.
    pub count: i64,
}

/// The names of the two writes, as failures of them say.
const JOURNAL_INTENT: &str = "journal an intent";
const RECORD_NOT_ATTEMPTED: &str = "journal what was not done";

/// A query for entries, with the columns of [`Row`].
macro_rules! select_entries {
    ($rest:literal) => {
        concat!(
            "SELECT id, run, action, registry, repository, tag, digest, media_type, policy, evidence, intended_at, ",
            "outcome, skip, detail, resolved_at, endpoint, dated_at, dated_by, epoch FROM journal ",
            $rest
        )
    };
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    run: String,
    action: String,
    registry: String,
    repository: String,
    tag: String,
    digest: String,
    media_type: String,
    policy: Option<String>,
    evidence: String,
    intended_at: String,
    outcome: Option<String>,
    skip: Option<String>,
    detail: Option<String>,
    resolved_at: Option<String>,
    endpoint: Option<String>,
    dated_at: Option<String>,
    dated_by: Option<String>,
    epoch: Option<i64>,
}

impl SqliteState {
    async fn submit_intent(&self, entry: Entry, intent: &Intent) -> Result<JournaledIntent, StateError> {
        Ok(JournaledIntent::recorded(self.submit(entry).await?, intent))
    }
}

#[async_trait]
impl Journal for SqliteState {
    async fn intend(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        intent: &Intent,
        manifest: &RawManifest,
        now: Timestamp,
    ) -> Result<JournaledIntent, StateError> {
        self.intend_restore(lease, run, intent, manifest, RestoreRecord::default(), now).await
    }

    async fn intend_without_manifest(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        intent: &Intent,
        now: Timestamp,
    ) -> Result<JournaledIntent, StateError> {
        let (intent, restoring) = (intent.clone(), Box::default());
        let entry = Entry::Intent { lease: lease.clone(), run, intent: intent.clone(), manifest: None, restoring, now };
        self.submit_intent(entry, &intent).await
    }

    async fn record_outcome(&self, id: JournalId, outcome: &Outcome, now: Timestamp) -> Result<(), StateError> {
        self.record_restore_outcome(id, outcome, None, now).await
    }

    async fn record_not_attempted(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        intent: &Intent,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<JournalId, StateError> {
        let (intent, outcome) = (intent.clone(), outcome.clone());
        self.submit(Entry::NotAttempted { lease: lease.clone(), run, intent, outcome, now }).await
    }

    async fn record_all_not_attempted(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        notes: &[(&Intent, &Outcome)],
        now: Timestamp,
    ) -> Result<Vec<JournalId>, StateError> {
        let mut write = self.write_durably().await?;
        let mut ids = Vec::with_capacity(notes.len());
        for (intent, outcome) in notes {
            ids.push(self.insert(&mut write, lease, run, intent, Some(outcome), now).await?);
        }
        write.commit(RECORD_NOT_ATTEMPTED).await?;
        Ok(ids)
    }

    async fn pending_entries(&self) -> Result<Vec<JournalEntry>, StateError> {
        let rows = sqlx::query_as(select_entries!("WHERE outcome IS NULL ORDER BY id"));
        self.entries(rows.fetch_all(&self.0.readers).await)
    }

    async fn journal(&self, run: Uuid) -> Result<Vec<JournalEntry>, StateError> {
        let rows = sqlx::query_as(select_entries!("WHERE run = ?1 ORDER BY id")).bind(run.to_string());
        self.entries(rows.fetch_all(&self.0.readers).await)
    }

    async fn journal_of_tag(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Vec<JournalEntry>, StateError> {
        let rows = sqlx::query_as(select_entries!("WHERE registry = ?1 AND repository = ?2 AND tag = ?3 ORDER BY id"))
            .bind(registry.as_str())
            .bind(repository.as_str())
            .bind(tag.as_str());
        self.entries(rows.fetch_all(&self.0.readers).await)
    }

    async fn journal_page(
        &self,
        of: &JournalScope,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<JournalEntry>, StateError> {
        let before = before.unwrap_or(i64::MAX);
        let rows = match of {
            JournalScope::Everything => {
                sqlx::query_as(select_entries!("WHERE id < ?1 ORDER BY id DESC LIMIT ?2")).bind(before).bind(limit)
            }
            JournalScope::Run(run) => {
                sqlx::query_as(select_entries!("WHERE id < ?1 AND run = ?3 ORDER BY id DESC LIMIT ?2"))
                    .bind(before)
                    .bind(limit)
                    .bind(run.to_string())
            }
            JournalScope::Repository(registry, repository) => sqlx::query_as(select_entries!(
                "WHERE id < ?1 AND registry = ?3 AND repository = ?4 ORDER BY id DESC LIMIT ?2"
            ))
            .bind(before)
            .bind(limit)
            .bind(registry.as_str())
            .bind(repository.as_str()),
        };
        self.entries(rows.fetch_all(&self.0.readers).await)
    }

    async fn journal_counts(&self, run: Uuid) -> Result<Vec<JournalCount>, StateError> {
        let counts: Vec<JournalCount> = sqlx::query_as(
            "SELECT action, outcome, skip, count(*) AS count FROM journal WHERE run = ?1
             GROUP BY action, outcome, skip ORDER BY action, outcome, skip",
        )
        .bind(run.to_string())
        .fetch_all(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error("count what a run did", error))?;
        // Old entries keep the labels that they were written with.
        let current = |label: String| SkipReason::current_label(&label).to_owned();
        Ok(counts.into_iter().map(|count| JournalCount { skip: count.skip.map(current), ..count }).collect())
    }

    async fn journal_entry(&self, id: JournalId) -> Result<JournalEntry, StateError> {
        let rows = sqlx::query_as(select_entries!("WHERE id = ?1")).bind(id.0);
        let entry = self.entries(rows.fetch_all(&self.0.readers).await)?.pop();
        entry.ok_or_else(|| self.error(StateErrorKind::Missing, format_args!("there is no journal entry {id}")))
    }

    async fn last_deletion(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<JournalEntry>, StateError> {
        let rows = sqlx::query_as(select_entries!(
            "WHERE digest = ?3 AND registry = ?1 AND repository = ?2 AND outcome = 'done' AND action = 'delete-untagged'
             ORDER BY id DESC LIMIT 1"
        ))
        .bind(registry.as_str())
        .bind(repository.as_str())
        .bind(digest.to_string());
        Ok(self.entries(rows.fetch_all(&self.0.readers).await)?.pop())
    }

    async fn deletions_of_tag(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
        since: JournalId,
    ) -> Result<Vec<JournalEntry>, StateError> {
        let rows = sqlx::query_as(select_entries!(
            "WHERE registry = ?1 AND repository = ?2 AND tag = ?3 AND outcome = 'done' AND action = 'delete-untagged'
             AND id > ?4 ORDER BY id"
        ))
        .bind(registry.as_str())
        .bind(repository.as_str())
        .bind(tag.as_str())
        .bind(since.0);
        self.entries(rows.fetch_all(&self.0.readers).await)
    }

    async fn last_removal(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Option<JournalEntry>, StateError> {
        let rows = sqlx::query_as(select_entries!(
            "WHERE registry = ?1 AND repository = ?2 AND tag = ?3 AND outcome = 'done'
             AND action IN ('untag', 'delete-manifest') ORDER BY id DESC LIMIT 1"
        ))
        .bind(registry.as_str())
        .bind(repository.as_str())
        .bind(tag.as_str());
        Ok(self.entries(rows.fetch_all(&self.0.readers).await)?.pop())
    }

    async fn removals_of(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Vec<JournalEntry>, StateError> {
        let rows = sqlx::query_as(select_entries!(
            "WHERE registry = ?1 AND repository = ?2 AND tag = ?3 AND outcome = 'done'
             AND action IN ('untag', 'delete-manifest') ORDER BY id DESC LIMIT 50"
        ))
        .bind(registry.as_str())
        .bind(repository.as_str())
        .bind(tag.as_str());
        self.entries(rows.fetch_all(&self.0.readers).await)
    }

    async fn removals_in(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        since: Option<Timestamp>,
    ) -> Result<Vec<JournalEntry>, StateError> {
        let rows = sqlx::query_as(select_entries!(
            "WHERE id IN (SELECT max(id) FROM journal WHERE registry = ?1 AND repository = ?2 AND outcome = 'done'
                          AND action NOT IN ('delete-untagged', 'restore-manifest') GROUP BY tag)
             AND action <> 'restore' AND resolved_at >= ?3 ORDER BY id DESC"
        ))
        .bind(registry.as_str())
        .bind(repository.as_str())
        .bind(since.map(format_time).unwrap_or_default());
        self.entries(rows.fetch_all(&self.0.readers).await)
    }

    async fn manifest_of(&self, entry: &JournalEntry) -> Result<RawManifest, StateError> {
        let digest = &entry.intent.digest;
        let bytes: Option<Vec<u8>> = sqlx::query_scalar("SELECT bytes FROM journaled_manifests WHERE digest = ?1")
            .bind(digest.to_string())
            .fetch_optional(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error("read a journaled manifest", error))?;
        let Some(bytes) = bytes else {
            let what = format_args!("no manifest was kept for journal entry {} ({digest})", entry.id.0);
            return Err(self.error(StateErrorKind::Missing, what));
        };
        if !digest.matches(&bytes) {
            let what = format_args!("the manifest kept for journal entry {} is not {digest} any more", entry.id.0);
            return Err(self.error(StateErrorKind::Corrupt, what));
        }
        let media_type = entry.intent.media_type.clone();
        Ok(RawManifest { digest: digest.clone(), media_type, bytes: bytes.into() })
    }
}

#[async_trait]
impl RestoredTags for SqliteState {
    async fn intend_restore(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        intent: &Intent,
        manifest: &RawManifest,
        restoring: RestoreRecord,
        now: Timestamp,
    ) -> Result<JournaledIntent, StateError> {
        if !intent.digest.matches(&manifest.bytes) {
            let what = format_args!("the manifest given for {} is another one", intent.digest);
            return Err(self.error(StateErrorKind::Corrupt, what));
        }
        let entry = Entry::Intent {
            lease: lease.clone(),
            run,
            intent: intent.clone(),
            manifest: Some(manifest.clone()),
            restoring: Box::new(restoring),
            now,
        };
        self.submit_intent(entry, intent).await
    }

    async fn record_restore_outcome(
        &self,
        id: JournalId,
        outcome: &Outcome,
        registry_time: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), StateError> {
        self.submit(Entry::Outcome { id, outcome: outcome.clone(), registry_time, now }).await.map(drop)
    }
}

impl SqliteState {
    /// An intent with its manifest, as a part of a write.
    pub(super) async fn write_intent(
        &self,
        write: &mut WriteTransaction<'_>,
        (lease, run): (&LeaseToken, Uuid),
        intent: &Intent,
        manifest: Option<&RawManifest>,
        restoring: &RestoreRecord,
        now: Timestamp,
    ) -> Result<JournalId, StateError> {
        self.check_epoch(write, lease).await?;
        self.check_holds(write, intent, manifest.map(|manifest| &*manifest.bytes), now).await?;
        let id = self.insert(write, lease, run, intent, None, now).await?;
        self.write_restore_record(write, id, intent, restoring, now).await?;
        let Some(manifest) = manifest else { return Ok(id) };
        self.write_manifest(write, manifest).await?;
        Ok(id)
    }

    /// The bytes of a manifest that the journal names, as a part of a write.
    pub(super) async fn write_manifest(
        &self,
        write: &mut WriteTransaction<'_>,
        manifest: &RawManifest,
    ) -> Result<(), StateError> {
        // Many tags have the same manifest. One that is there already is written again only where it was damaged.
        sqlx::query(
            "INSERT INTO journaled_manifests (digest, bytes) VALUES (?1, ?2)
             ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes WHERE bytes IS NOT excluded.bytes",
        )
        .bind(manifest.digest.to_string())
        .bind(&*manifest.bytes)
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(JOURNAL_INTENT, error))?;
        Ok(())
    }

    /// What came of an intent, as a part of a write.
    pub(super) async fn write_outcome(
        &self,
        write: &mut WriteTransaction<'_>,
        id: JournalId,
        outcome: &Outcome,
        registry_time: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<JournalId, StateError> {
        let doing = "journal an outcome";
        let (skip, detail) = outcome_columns(outcome);
        let done = sqlx::query(
            "UPDATE journal SET outcome = ?2, skip = ?3, detail = ?4, resolved_at = ?5 WHERE id = ?1 AND outcome IS NULL",
        )
        .bind(id.0)
        .bind(outcome.label())
        .bind(skip)
        .bind(detail)
        .bind(format_time(now))
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(doing, error))?;
        if done.rows_affected() == 0 {
            let what = format_args!("cannot {doing}: journal entry {} is settled already, or was never made", id.0);
            return Err(self.error(StateErrorKind::Missing, what));
        }
        self.complete_restore_record(write, id, outcome, registry_time).await?;
        Ok(id)
    }

    /// One row of the journal, as a part of a write.
    pub(super) async fn insert(
        &self,
        write: &mut WriteTransaction<'_>,
        lease: &LeaseToken,
        run: Uuid,
        intent: &Intent,
        outcome: Option<&Outcome>,
        now: Timestamp,
    ) -> Result<JournalId, StateError> {
        let doing = if outcome.is_some() { RECORD_NOT_ATTEMPTED } else { JOURNAL_INTENT };
        let (skip, detail) = outcome.map(outcome_columns).unwrap_or_default();
        let (dated_at, dated_by) = intent.date.map(date_columns).unwrap_or_default();
        let done = sqlx::query(
            "INSERT INTO journal (run, action, registry, repository, tag, digest, media_type, policy, evidence, intended_at,
                                  outcome, skip, detail, resolved_at, endpoint, dated_at, dated_by, epoch)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        )
        .bind(run.to_string())
        .bind(intent.action.label())
        .bind(intent.registry.as_str())
        .bind(intent.repository.as_str())
        .bind(intent.tag.as_str())
        .bind(intent.digest.to_string())
        .bind(&*intent.media_type)
        .bind(&intent.policy)
        .bind(&intent.evidence)
        .bind(format_time(now))
        .bind(outcome.map(Outcome::label))
        .bind(skip)
        .bind(detail)
        .bind(outcome.map(|_| format_time(now)))
        .bind(intent.endpoint.as_deref())
        .bind(dated_at)
        .bind(dated_by)
        .bind(lease.epoch())
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(doing, error))?;
        Ok(JournalId(done.last_insert_rowid()))
    }

    fn entries(&self, rows: Result<Vec<Row>, sqlx::Error>) -> Result<Vec<JournalEntry>, StateError> {
        let rows = rows.map_err(|error| self.sqlx_error("read the journal", error))?;
        rows.into_iter().map(|row| self.entry(row)).collect()
    }

    fn entry(&self, row: Row) -> Result<JournalEntry, StateError> {
        let strange = |what: &str| {
            self.error(StateErrorKind::Corrupt, format_args!("journal entry {} has a strange {what}", row.id))
        };
        let outcome = match (&row.outcome, &row.resolved_at) {
            (None, _) => None,
            (Some(label), Some(at)) => {
                let detail = row.detail.clone().unwrap_or_default();
                let outcome = outcome(label, row.skip.as_deref(), detail).ok_or_else(|| strange("outcome"))?;
                Some((outcome, self.read(at)?))
            }
            (Some(_), None) => return Err(strange("time")),
        };
        let dated_at = row.dated_at.as_deref().map(|at| self.read(at)).transpose()?;
        let date = date(dated_at, row.dated_by.as_deref()).map_err(|_| strange("date"))?;
        Ok(JournalEntry {
            id: JournalId(row.id),
            run: self.read(&row.run)?,
            epoch: row.epoch,
            intent: Intent {
                action: action(&row.action).ok_or_else(|| strange("action"))?,
                registry: self.read(&row.registry)?,
                repository: self.read(&row.repository)?,
                tag: TagName::from_record(&row.tag).map_err(|error| {
                    self.error(StateErrorKind::Corrupt, format_args!("it holds `{}`", row.tag)).caused_by(error)
                })?,
                digest: self.read::<Digest>(&row.digest)?,
                media_type: row.media_type.into(),
                policy: row.policy,
                evidence: row.evidence,
                endpoint: row.endpoint.map(Into::into),
                date,
            },
            intended_at: self.read(&row.intended_at)?,
            outcome,
        })
    }
}
