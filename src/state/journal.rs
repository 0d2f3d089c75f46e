//! The journal: what was about to be done to a tag, and what came of it.

use jiff::Timestamp;
use uuid::Uuid;

use super::columns::{action, date, date_columns, outcome, outcome_columns};
use super::group_commit::Entry;
use super::{LeaseToken, RestoreRecord, StateError, StateErrorKind, StateStore, WriteTransaction, format_time};
use crate::domain::{Digest, Intent, JournaledIntent, Outcome, RegistryName, RepositoryName, TagName};
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
    /// The label of the [`SkipReason`](crate::domain::SkipReason), where it was skipped.
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
            "SELECT id, run, action, registry, repository, tag, digest, media_type, policy, proof, intended_at, ",
            "outcome, skip, detail, settled_at, endpoint, dated_at, dated_by, epoch FROM journal ",
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
    proof: String,
    intended_at: String,
    outcome: Option<String>,
    skip: Option<String>,
    detail: Option<String>,
    settled_at: Option<String>,
    endpoint: Option<String>,
    dated_at: Option<String>,
    dated_by: Option<String>,
    epoch: Option<i64>,
}

impl StateStore {
    /// Writes down what is about to be done, with the manifest that undoes it. Durable when it returns; only then may
    /// it be done, and what is returned is the proof that removals need.
    ///
    /// # Errors
    /// When the manifest is not the one that the intent names, the lease was taken again since
    /// ([`StateErrorKind::Leased`]), or it could not be written; for a removal also where a hold covers it
    /// ([`StateErrorKind::Held`]) or somebody asks for no more removals ([`StateErrorKind::Interrupted`]). It must not be
    /// done then.
    pub async fn intend(
        &self,
        lease: &LeaseToken,
        run: Uuid,
        intent: &Intent,
        manifest: &RawManifest,
        now: Timestamp,
    ) -> Result<JournaledIntent, StateError> {
        self.intend_restore(lease, run, intent, manifest, RestoreRecord::default(), now).await
    }

    /// Does what [`StateStore::intend`] does before a tag is put back, and writes down in the same write what the tag is to
    /// count by and the hold on it.
    ///
    /// # Errors
    /// When the manifest is not the one that the intent names, the lease was taken again since, or it could not be
    /// written. The tag must not be put then.
    pub async fn intend_restore(
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
            manifest: manifest.clone(),
            restoring: Box::new(restoring),
            now,
        };
        Ok(JournaledIntent::recorded(self.submit(entry).await?, intent))
    }

    /// Writes down what came of an intent. Durable when it returns.
    ///
    /// # Errors
    /// When it could not be written, there is no such entry, or it is settled already.
    pub async fn record_outcome(&self, id: JournalId, outcome: &Outcome, now: Timestamp) -> Result<(), StateError> {
        self.record_restore_outcome(id, outcome, None, now).await
    }

    /// Does what [`StateStore::record_outcome`] does for a tag that was put back. `left_at` is the registry's own time of it now, where it
    /// tells one: as long as the tag keeps it, nobody pushed it again.
    ///
    /// # Errors
    /// As [`StateStore::record_outcome`].
    pub async fn record_restore_outcome(
        &self,
        id: JournalId,
        outcome: &Outcome,
        left_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), StateError> {
        self.submit(Entry::Outcome { id, outcome: outcome.clone(), left_at, now }).await.map(drop)
    }

    /// Writes down something planned that was never begun, with why. Durable when it returns.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn record_not_attempted(
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

    /// Does what [`StateStore::record_not_attempted`] does for many at once, in one write.
    ///
    /// # Errors
    /// When they could not be written; none is then.
    pub async fn record_all_not_attempted(
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

    /// All entries of all runs that have no outcome yet, in order.
    ///
    /// # Errors
    /// When they could not be read. Nothing new may be removed then.
    pub async fn pending_entries(&self) -> Result<Vec<JournalEntry>, StateError> {
        let rows = sqlx::query_as(select_entries!("WHERE outcome IS NULL ORDER BY id"));
        self.entries(rows.fetch_all(&self.0.readers).await)
    }

    /// The entries of a run, in order.
    ///
    /// # Errors
    /// When they could not be read.
    pub async fn journal(&self, run: Uuid) -> Result<Vec<JournalEntry>, StateError> {
        let rows = sqlx::query_as(select_entries!("WHERE run = ?1 ORDER BY id")).bind(run.to_string());
        self.entries(rows.fetch_all(&self.0.readers).await)
    }

    /// Everything that was done to a tag or left undone, in order.
    ///
    /// # Errors
    /// When it could not be read.
    pub async fn journal_of_tag(
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

    /// A page of entries, the latest first: those before `before`, or the last of all.
    ///
    /// # Errors
    /// When they could not be read.
    pub async fn journal_page(
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

    /// What the entries of a run came to.
    ///
    /// # Errors
    /// When they could not be read.
    pub async fn journal_counts(&self, run: Uuid) -> Result<Vec<JournalCount>, StateError> {
        sqlx::query_as(
            "SELECT action, outcome, skip, count(*) AS count FROM journal WHERE run = ?1
             GROUP BY action, outcome, skip ORDER BY action, outcome, skip",
        )
        .bind(run.to_string())
        .fetch_all(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error("count what a run did", &error))
    }

    /// One entry by its number.
    ///
    /// # Errors
    /// When it could not be read, or there is none.
    pub async fn journal_entry(&self, id: JournalId) -> Result<JournalEntry, StateError> {
        let rows = sqlx::query_as(select_entries!("WHERE id = ?1")).bind(id.0);
        let entry = self.entries(rows.fetch_all(&self.0.readers).await)?.pop();
        entry.ok_or_else(|| self.error(StateErrorKind::Missing, format_args!("there is no journal entry {id}")))
    }

    /// The last deletion of a manifest in a repository that was done, if any.
    ///
    /// # Errors
    /// When it could not be read.
    pub async fn last_deletion(
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

    /// The deletions of manifests that were done under a tag since an entry, in order: those of the manifest that lost it
    /// and of what went along.
    ///
    /// # Errors
    /// When they could not be read.
    pub async fn deletions_of_tag(
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

    /// The last removal of a tag that was done.
    ///
    /// # Errors
    /// When it could not be read.
    pub async fn last_removal(
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

    /// The removals of a tag that were done, the last one first: at most fifty.
    ///
    /// # Errors
    /// When they could not be read.
    pub async fn removals_of(
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

    /// The last removals of a repository's tags, of those that were not put back since; `since` leaves out earlier ones.
    /// The last one first.
    ///
    /// # Errors
    /// When they could not be read.
    pub async fn removals_in(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        since: Option<Timestamp>,
    ) -> Result<Vec<JournalEntry>, StateError> {
        let rows = sqlx::query_as(select_entries!(
            "WHERE id IN (SELECT max(id) FROM journal WHERE registry = ?1 AND repository = ?2 AND outcome = 'done'
                          AND action NOT IN ('delete-untagged', 'restore-manifest') GROUP BY tag)
             AND action <> 'restore' AND settled_at >= ?3 ORDER BY id DESC"
        ))
        .bind(registry.as_str())
        .bind(repository.as_str())
        .bind(since.map(format_time).unwrap_or_default());
        self.entries(rows.fetch_all(&self.0.readers).await)
    }

    /// The exact manifest behind a journaled tag, with the media type that the tag had.
    ///
    /// # Errors
    /// When it is damaged, was never kept (the entry only notes what was not done), or could not be read.
    pub async fn manifest_of(&self, entry: &JournalEntry) -> Result<RawManifest, StateError> {
        let digest = &entry.intent.digest;
        let bytes: Option<Vec<u8>> = sqlx::query_scalar("SELECT bytes FROM journaled_manifests WHERE digest = ?1")
            .bind(digest.to_string())
            .fetch_optional(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error("read a journaled manifest", &error))?;
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

    /// An intent with its manifest, as a part of a write.
    pub(super) async fn write_intent(
        &self,
        write: &mut WriteTransaction<'_>,
        (lease, run): (&LeaseToken, Uuid),
        intent: &Intent,
        manifest: &RawManifest,
        restoring: &RestoreRecord,
        now: Timestamp,
    ) -> Result<JournalId, StateError> {
        self.check_epoch(write, lease).await?;
        self.check_holds(write, intent, &manifest.bytes, now).await?;
        let id = self.insert(write, lease, run, intent, None, now).await?;
        self.write_restore_record(write, id, intent, restoring, now).await?;
        // Many tags have the same manifest. One that is there already is written again only where it was damaged.
        sqlx::query(
            "INSERT INTO journaled_manifests (digest, bytes) VALUES (?1, ?2)
             ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes WHERE bytes IS NOT excluded.bytes",
        )
        .bind(intent.digest.to_string())
        .bind(&*manifest.bytes)
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(JOURNAL_INTENT, &error))?;
        Ok(id)
    }

    /// What came of an intent, as a part of a write.
    pub(super) async fn write_outcome(
        &self,
        write: &mut WriteTransaction<'_>,
        id: JournalId,
        outcome: &Outcome,
        left_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<JournalId, StateError> {
        let doing = "journal an outcome";
        let (skip, detail) = outcome_columns(outcome);
        let done = sqlx::query(
            "UPDATE journal SET outcome = ?2, skip = ?3, detail = ?4, settled_at = ?5 WHERE id = ?1 AND outcome IS NULL",
        )
        .bind(id.0)
        .bind(outcome.label())
        .bind(skip)
        .bind(detail)
        .bind(format_time(now))
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(doing, &error))?;
        if done.rows_affected() == 0 {
            let what = format_args!("cannot {doing}: journal entry {} is settled already, or was never made", id.0);
            return Err(self.error(StateErrorKind::Missing, what));
        }
        self.complete_restore_record(write, id, outcome, left_at).await?;
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
            "INSERT INTO journal (run, action, registry, repository, tag, digest, media_type, policy, proof, intended_at,
                                  outcome, skip, detail, settled_at, endpoint, dated_at, dated_by, epoch)
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
        .map_err(|error| self.sqlx_error(doing, &error))?;
        Ok(JournalId(done.last_insert_rowid()))
    }

    fn entries(&self, rows: Result<Vec<Row>, sqlx::Error>) -> Result<Vec<JournalEntry>, StateError> {
        let rows = rows.map_err(|error| self.sqlx_error("read the journal", &error))?;
        rows.into_iter().map(|row| self.entry(row)).collect()
    }

    fn entry(&self, row: Row) -> Result<JournalEntry, StateError> {
        let strange = |what: &str| {
            self.error(StateErrorKind::Corrupt, format_args!("journal entry {} has a strange {what}", row.id))
        };
        let outcome = match (&row.outcome, &row.settled_at) {
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
                tag: self.read(&row.tag)?,
                digest: self.read::<Digest>(&row.digest)?,
                media_type: row.media_type.into(),
                policy: row.policy,
                evidence: row.proof,
                endpoint: row.endpoint.map(Into::into),
                date,
            },
            intended_at: self.read(&row.intended_at)?,
            outcome,
        })
    }
}
