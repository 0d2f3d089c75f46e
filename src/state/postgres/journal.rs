//! The journal: reading it, and entries that need no group.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::PostgresState;
use crate::domain::{
    Digest, Intent, JournalId, JournaledIntent, LeaseToken, Outcome, RegistryName, RepositoryName, TagName,
};
use crate::registry::RawManifest;
use crate::state::group_commit::{Entry, JournalQueue as _};
use crate::state::journal::{
    JournalRow, RECORD_NOT_ATTEMPTED, journaled_manifest, select_entries, unknown_entry, verify_manifest,
};
use crate::state::journal_rows::NewEntry;
use crate::state::{
    Journal, JournalCount, JournalEntry, JournalScope, RestoreRecord, RestoredTags, StateError, format_time,
};

const READ: &str = "read the journal";

impl PostgresState {
    async fn entries(&self, query: super::unit::RowQuery<'_, JournalRow>) -> Result<Vec<JournalEntry>, StateError> {
        self.rows(READ, query).await?.into_iter().map(|row| row.into_entry(self)).collect()
    }
}

#[async_trait]
impl Journal for PostgresState {
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
        let mut unit = self.write(RECORD_NOT_ATTEMPTED).await?;
        let inserted = unit.insert_entries(&entries).await?;
        unit.commit().await?;
        Ok(inserted.into_iter().map(|(id, _)| id).collect())
    }

    async fn pending_entries(&self) -> Result<Vec<JournalEntry>, StateError> {
        self.entries(sqlx::query_as(select_entries!("WHERE outcome IS NULL ORDER BY id"))).await
    }

    async fn superseded_entries(&self, since: Timestamp) -> Result<Vec<JournalEntry>, StateError> {
        let query = sqlx::query_as(select_entries!(
            "AS old WHERE skip = 'superseded' AND resolved_at >= $1 AND NOT EXISTS (
                 SELECT 1 FROM journal AS later WHERE later.registry = old.registry
                 AND later.repository = old.repository AND later.tag = old.tag AND later.id > old.id
                 AND later.outcome = 'done' AND (old.action <> 'delete-untagged' OR later.digest = old.digest))
             ORDER BY id"
        ));
        self.entries(query.bind(format_time(since))).await
    }

    async fn journal(&self, run: Uuid) -> Result<Vec<JournalEntry>, StateError> {
        self.entries(sqlx::query_as(select_entries!("WHERE run = $1 ORDER BY id")).bind(run.to_string())).await
    }

    async fn journal_of_tag(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Vec<JournalEntry>, StateError> {
        let query = sqlx::query_as(select_entries!("WHERE registry = $1 AND repository = $2 AND tag = $3 ORDER BY id"));
        self.entries(query.bind(registry.as_str()).bind(repository.as_str()).bind(tag.as_str())).await
    }

    async fn journal_page(
        &self,
        of: &JournalScope,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<JournalEntry>, StateError> {
        let query = match of {
            JournalScope::Everything => sqlx::query_as(select_entries!("WHERE id < $1 ORDER BY id DESC LIMIT $2")),
            JournalScope::Run(_) => {
                sqlx::query_as(select_entries!("WHERE id < $1 AND run = $3 ORDER BY id DESC LIMIT $2"))
            }
            JournalScope::Repository(..) => sqlx::query_as(select_entries!(
                "WHERE id < $1 AND registry = $3 AND repository = $4 ORDER BY id DESC LIMIT $2"
            )),
        };
        let query = query.bind(before.unwrap_or(i64::MAX)).bind(i64::from(limit));
        self.entries(match of {
            JournalScope::Everything => query,
            JournalScope::Run(run) => query.bind(run.to_string()),
            JournalScope::Repository(registry, repository) => query.bind(registry.as_str()).bind(repository.as_str()),
        })
        .await
    }

    async fn journal_counts(&self, run: Uuid) -> Result<Vec<JournalCount>, StateError> {
        let query = sqlx::query_as(
            "SELECT action, outcome, skip, count(*) AS count FROM journal WHERE run = $1
             GROUP BY action, outcome, skip
             ORDER BY action COLLATE \"C\", outcome COLLATE \"C\" NULLS FIRST, skip COLLATE \"C\" NULLS FIRST",
        );
        let counts: Vec<JournalCount> = self.rows("count what a run did", query.bind(run.to_string())).await?;
        Ok(counts.into_iter().map(JournalCount::with_current_labels).collect())
    }

    async fn journal_entry(&self, id: JournalId) -> Result<JournalEntry, StateError> {
        let found = self.entries(sqlx::query_as(select_entries!("WHERE id = $1")).bind(id.0)).await?.pop();
        found.ok_or_else(|| unknown_entry(self, id))
    }

    async fn last_deletion(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<JournalEntry>, StateError> {
        let query = sqlx::query_as(select_entries!(
            "WHERE id = (SELECT max(id) FROM (
                 SELECT id FROM journal WHERE digest = $3 AND registry = $1 AND repository = $2 AND outcome = 'done'
                                          AND action = 'delete-untagged'
                 UNION ALL
                 SELECT id FROM journal WHERE digest = $3 AND registry = $1 AND repository = $2 AND outcome = 'done'
                                          AND action = 'delete-manifest') AS deletions)"
        ));
        let query = query.bind(registry.as_str()).bind(repository.as_str()).bind(digest.to_string());
        Ok(self.entries(query).await?.pop())
    }

    async fn deletions_of_tag(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
        since: JournalId,
    ) -> Result<Vec<JournalEntry>, StateError> {
        let query = sqlx::query_as(select_entries!(
            "WHERE registry = $1 AND repository = $2 AND tag = $3 AND outcome = 'done' AND action = 'delete-untagged'
             AND id > $4 ORDER BY id"
        ));
        self.entries(query.bind(registry.as_str()).bind(repository.as_str()).bind(tag.as_str()).bind(since.0)).await
    }

    async fn last_removal(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Option<JournalEntry>, StateError> {
        let query = sqlx::query_as(select_entries!(
            "WHERE registry = $1 AND repository = $2 AND tag = $3 AND outcome = 'done'
             AND action IN ('untag', 'delete-manifest') ORDER BY id DESC LIMIT 1"
        ));
        let query = query.bind(registry.as_str()).bind(repository.as_str()).bind(tag.as_str());
        Ok(self.entries(query).await?.pop())
    }

    async fn removals_of(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Vec<JournalEntry>, StateError> {
        let query = sqlx::query_as(select_entries!(
            "WHERE registry = $1 AND repository = $2 AND tag = $3 AND outcome = 'done'
             AND action IN ('untag', 'delete-manifest') ORDER BY id DESC LIMIT 50"
        ));
        self.entries(query.bind(registry.as_str()).bind(repository.as_str()).bind(tag.as_str())).await
    }

    async fn removals_in(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        since: Option<Timestamp>,
    ) -> Result<Vec<JournalEntry>, StateError> {
        let query = sqlx::query_as(select_entries!(
            "WHERE id IN (SELECT max(id) FROM journal WHERE registry = $1 AND repository = $2 AND outcome = 'done'
                          AND action NOT IN ('delete-untagged', 'restore-manifest') GROUP BY tag)
             AND action <> 'restore' AND resolved_at >= $3 ORDER BY id DESC"
        ));
        let since = since.map(format_time).unwrap_or_default();
        self.entries(query.bind(registry.as_str()).bind(repository.as_str()).bind(since)).await
    }

    async fn manifest_of(&self, entry: &JournalEntry) -> Result<RawManifest, StateError> {
        let query = sqlx::query_as("SELECT bytes FROM journaled_manifests WHERE digest = $1");
        let query = query.bind(entry.intent.digest.to_string());
        let bytes: Option<(Vec<u8>,)> = self.row("read a journaled manifest", query).await?;
        journaled_manifest(self, entry, bytes.map(|(bytes,)| bytes))
    }
}

#[async_trait]
impl RestoredTags for PostgresState {
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
