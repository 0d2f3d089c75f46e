//! The journal: intents for tags, and their outcomes.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::columns::{action, date, outcome};
use super::group_commit::{Entry, JournalQueue as _};
use super::journal_rows::NewEntry;
use super::row_reader::RowReader;
use super::{Journal, LeaseToken, RestoreRecord, RestoredTags, SqliteState, StateError, StateErrorKind, format_time};
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

/// The selection of journal entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalScope {
    /// All.
    Everything,
    /// The entries of one run.
    Run(Uuid),
    /// The entries of one repository.
    Repository(RegistryName, RepositoryName),
}

/// The number of a run's entries with the same outcome.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct JournalCount {
    /// The label of the [`Action`](crate::domain::Action).
    pub action: String,
    /// The label of the [`Outcome`]; `None` if it is unresolved.
    pub outcome: Option<String>,
    /// The label of the [`SkipReason`], if it was skipped.
    pub skip: Option<String>,
    /// The number.
    pub count: i64,
}

/// The names of the writes, as failures of them say.
pub(super) const JOURNAL_INTENT: &str = "journal an intent";
pub(super) const JOURNAL_OUTCOME: &str = "journal an outcome";
pub(super) const RECORD_NOT_ATTEMPTED: &str = "journal what was not done";

/// A query for entries, with the columns of [`JournalRow`].
macro_rules! select_entries {
    ($rest:literal) => {
        concat!(
            "SELECT id, run, action, registry, repository, tag, digest, media_type, policy, evidence, intended_at, ",
            "outcome, skip, detail, resolved_at, endpoint, dated_at, dated_by, epoch FROM journal ",
            $rest
        )
    };
}
pub(super) use select_entries;

/// An entry as it is stored.
#[derive(sqlx::FromRow)]
pub(super) struct JournalRow {
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
        let entry = Entry::intent(lease, run, intent, None, RestoreRecord::default(), now);
        self.submit_intent(entry, intent).await
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
        self.submit(Entry::not_attempted(lease, run, intent, outcome, now)).await
    }

    async fn record_all_not_attempted(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        notes: &[(&Intent, &Outcome)],
        now: Timestamp,
    ) -> Result<Vec<JournalId>, StateError> {
        let entries: Vec<NewEntry<'_>> = notes
            .iter()
            .map(|(intent, outcome)| NewEntry::new((Uuid::now_v7(), run), lease, intent, Some(outcome), now))
            .collect();
        let mut write = self.write_durably().await?;
        let ids = self.insert_entries(&mut write, &entries).await?;
        write.commit(RECORD_NOT_ATTEMPTED).await?;
        Ok(ids)
    }

    async fn pending_entries(&self) -> Result<Vec<JournalEntry>, StateError> {
        let rows = sqlx::query_as(select_entries!("WHERE outcome IS NULL ORDER BY id"));
        self.entries(rows.fetch_all(&self.0.readers).await)
    }

    async fn superseded_entries(&self, since: Timestamp) -> Result<Vec<JournalEntry>, StateError> {
        let rows = sqlx::query_as(select_entries!(
            "AS old WHERE skip = 'superseded' AND resolved_at >= ?1 AND NOT EXISTS (
                 SELECT 1 FROM journal AS later WHERE later.registry = old.registry
                 AND later.repository = old.repository AND later.tag = old.tag AND later.id > old.id
                 AND later.outcome = 'done' AND (old.action <> 'delete-untagged' OR later.digest = old.digest))
             ORDER BY id"
        ));
        self.entries(rows.bind(format_time(since)).fetch_all(&self.0.readers).await)
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
        Ok(counts.into_iter().map(JournalCount::with_current_labels).collect())
    }

    async fn journal_entry(&self, id: JournalId) -> Result<JournalEntry, StateError> {
        let rows = sqlx::query_as(select_entries!("WHERE id = ?1")).bind(id.0);
        let entry = self.entries(rows.fetch_all(&self.0.readers).await)?.pop();
        entry.ok_or_else(|| unknown_entry(self, id))
    }

    async fn last_deletion(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<JournalEntry>, StateError> {
        let rows = sqlx::query_as(select_entries!(
            "WHERE id = (SELECT max(id) FROM (
                 SELECT id FROM journal WHERE digest = ?3 AND registry = ?1 AND repository = ?2 AND outcome = 'done'
                                          AND action = 'delete-untagged'
                 UNION ALL
                 SELECT id FROM journal WHERE digest = ?3 AND registry = ?1 AND repository = ?2 AND outcome = 'done'
                                          AND action = 'delete-manifest') AS deletions)"
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
        journaled_manifest(self, entry, bytes)
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
        verify_manifest(self, &intent.digest, &manifest.bytes)?;
        self.submit_intent(Entry::intent(lease, run, intent, Some(manifest), restoring, now), intent).await
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
    fn entries(&self, rows: Result<Vec<JournalRow>, sqlx::Error>) -> Result<Vec<JournalEntry>, StateError> {
        let rows = rows.map_err(|error| self.sqlx_error("read the journal", error))?;
        rows.into_iter().map(|row| row.into_entry(self)).collect()
    }
}

impl JournalRow {
    /// Makes the entry of a row.
    pub(super) fn into_entry(self, reader: &impl RowReader) -> Result<JournalEntry, StateError> {
        let strange = |what: &str| {
            reader.error(StateErrorKind::Corrupt, format_args!("journal entry {} has a strange {what}", self.id))
        };
        let outcome = match (&self.outcome, &self.resolved_at) {
            (None, _) => None,
            (Some(label), Some(at)) => {
                let detail = self.detail.clone().unwrap_or_default();
                let outcome = outcome(label, self.skip.as_deref(), detail).ok_or_else(|| strange("outcome"))?;
                Some((outcome, reader.read(at)?))
            }
            (Some(_), None) => return Err(strange("time")),
        };
        let dated_at = reader.read_optional(self.dated_at.as_deref())?;
        let date = date(dated_at, self.dated_by.as_deref()).map_err(|_| strange("date"))?;
        Ok(JournalEntry {
            id: JournalId(self.id),
            run: reader.read(&self.run)?,
            epoch: self.epoch,
            intent: Intent {
                action: action(&self.action).ok_or_else(|| strange("action"))?,
                registry: reader.read(&self.registry)?,
                repository: reader.read(&self.repository)?,
                tag: TagName::from_record(&self.tag).map_err(|error| {
                    reader.error(StateErrorKind::Corrupt, format_args!("it holds `{}`", self.tag)).caused_by(error)
                })?,
                digest: reader.read::<Digest>(&self.digest)?,
                media_type: self.media_type.into(),
                policy: self.policy,
                evidence: self.evidence,
                endpoint: self.endpoint.map(Into::into),
                date,
            },
            intended_at: reader.read(&self.intended_at)?,
            outcome,
        })
    }
}

impl JournalCount {
    /// The same count with the labels of this version. Old entries keep those that they were written with.
    pub(super) fn with_current_labels(self) -> Self {
        Self { skip: self.skip.map(|label| SkipReason::current_label(&label).to_owned()), ..self }
    }
}

/// Fails if these are not the bytes of that digest: what is journaled by them could not be undone.
pub(super) fn verify_manifest(reader: &impl RowReader, digest: &Digest, bytes: &[u8]) -> Result<(), StateError> {
    if digest.matches(bytes) {
        return Ok(());
    }
    Err(reader.error(StateErrorKind::Corrupt, format_args!("the manifest given for {digest} is another one")))
}

/// Makes the manifest of an entry of the bytes that were stored, if there are any.
pub(super) fn journaled_manifest(
    reader: &impl RowReader,
    entry: &JournalEntry,
    bytes: Option<Vec<u8>>,
) -> Result<RawManifest, StateError> {
    let digest = &entry.intent.digest;
    let Some(bytes) = bytes else {
        let what = format_args!("no manifest was kept for journal entry {} ({digest})", entry.id.0);
        return Err(reader.error(StateErrorKind::Missing, what));
    };
    if !digest.matches(&bytes) {
        let what = format_args!("the manifest kept for journal entry {} is not {digest} any more", entry.id.0);
        return Err(reader.error(StateErrorKind::Corrupt, what));
    }
    let media_type = entry.intent.media_type.clone();
    Ok(RawManifest { digest: digest.clone(), media_type, bytes: bytes.into() })
}

/// The error of an entry that does not exist.
pub(super) fn unknown_entry(reader: &impl RowReader, id: JournalId) -> StateError {
    reader.error(StateErrorKind::Missing, format_args!("there is no journal entry {id}"))
}
