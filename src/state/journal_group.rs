//! A group of journal entries in one transaction, a statement for many of them instead of one for each: most of the
//! time goes into the way to a connection and back.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use sqlx::{QueryBuilder, Sqlite};
use tokio::sync::mpsc;

use super::columns::{date_columns, outcome_columns};
use super::group_commit::{Entry, EntryResult, JournalQueue, QueuedEntry, is_entry_error};
use super::journal::{JOURNAL_INTENT, JOURNAL_OUTCOME, RECORD_NOT_ATTEMPTED};
use super::journal_rows::{GroupRows, NewEntry, NewOutcome, group_answers};
use super::{RestoreRecord, SqliteState, StateError, WriteTransaction, format_time};
use crate::domain::{JournalId, Outcome};
use crate::registry::RawManifest;

/// The numbers of rows in one statement, so that few different statements are prepared.
const ROWS: [usize; 6] = [32, 16, 8, 4, 2, 1];

#[async_trait]
impl JournalQueue for SqliteState {
    fn queue(&self) -> &mpsc::Sender<QueuedEntry> {
        &self.0.journal
    }

    async fn write_entries(&self, group: &[&Entry]) -> Result<Vec<EntryResult>, StateError> {
        let mut write = self.write_durably().await?;
        let refusals = self.refusals(&mut write, group).await?;
        let rows = GroupRows::new(group, &refusals);
        let ids = self.insert_entries(&mut write, &rows.entries).await?;
        self.insert_manifests(&mut write, &rows.manifests.values().copied().collect::<Vec<_>>()).await?;
        let settled = self.settle_entries(&mut write, &rows.outcomes).await?;
        let (done, undone) = rows.split_settled(&settled);
        self.complete_restore_records(&mut write, &done, &undone).await?;
        let answers = group_answers(self, group, refusals, ids, settled)?;
        for (entry, answer) in group.iter().zip(&answers) {
            if let (Entry::Intent { intent, restoring, now, .. }, Ok(id)) = (entry, answer)
                && **restoring != RestoreRecord::default()
            {
                self.write_restore_record(&mut write, *id, intent, restoring, *now).await?;
            }
        }
        write.commit("write the journal").await?;
        Ok(answers)
    }
}

impl SqliteState {
    /// Returns for each entry the reason why it must not be written, if any: an intent whose lease was lost, that a hold
    /// covers, or that somebody asks not to begin. Takes the leases of the registries that are to be changed.
    async fn refusals(
        &self,
        write: &mut WriteTransaction<'_>,
        group: &[&Entry],
    ) -> Result<Vec<Option<StateError>>, StateError> {
        let intents = || group.iter().filter_map(|entry| entry.intent_and_time());
        if intents().next().is_none() {
            return Ok(group.iter().map(|_| None).collect());
        }
        let last = self.last_lease(write).await?;
        let guard = self.removal_guard(write, intents()).await?;
        let mut taken = BTreeSet::new();
        let mut refusals = Vec::with_capacity(group.len());
        for entry in group {
            let Entry::Intent { lease, intent, manifest, now, .. } = entry else {
                refusals.push(None);
                continue;
            };
            if let Err(lost) = self.verify_epoch(lease, last.clone()) {
                refusals.push(Some(lost));
                continue;
            }
            if let Some(endpoint) = intent.endpoint.as_deref()
                && taken.insert(endpoint)
            {
                self.take_registry_lease(write, lease, endpoint, *now).await?;
            }
            let bytes = manifest.as_ref().map(|manifest| &*manifest.bytes);
            refusals.push(match self.check_removal(write, &guard, intent, bytes, *now).await {
                Err(error) if is_entry_error(error.kind) => Some(error),
                checked => {
                    checked?;
                    None
                }
            });
        }
        Ok(refusals)
    }

    /// Inserts rows of the journal in their order, as a part of a write, and returns their numbers.
    pub(super) async fn insert_entries(
        &self,
        write: &mut WriteTransaction<'_>,
        entries: &[NewEntry<'_>],
    ) -> Result<Vec<JournalId>, StateError> {
        let mut ids = Vec::with_capacity(entries.len());
        let doing = if entries.iter().all(|new| new.outcome.is_some()) { RECORD_NOT_ATTEMPTED } else { JOURNAL_INTENT };
        for rows in statements(entries) {
            let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(
                "INSERT INTO journal (run, action, registry, repository, tag, digest, media_type, policy, evidence,
                                      intended_at, outcome, skip, detail, resolved_at, endpoint, dated_at, dated_by, epoch) ",
            );
            query.push_values(rows, |mut row, new| {
                let intent = new.intent;
                let (skip, detail) = new.outcome.map(outcome_columns).unwrap_or_default();
                let (dated_at, dated_by) = intent.date.map(date_columns).unwrap_or_default();
                row.push_bind(new.run.as_str())
                    .push_bind(intent.action.label())
                    .push_bind(intent.registry.as_str())
                    .push_bind(intent.repository.as_str())
                    .push_bind(intent.tag.as_str())
                    .push_bind(intent.digest.to_string())
                    .push_bind(&*intent.media_type)
                    .push_bind(intent.policy.as_deref())
                    .push_bind(intent.evidence.as_str())
                    .push_bind(new.now.as_str())
                    .push_bind(new.outcome.map(Outcome::label))
                    .push_bind(skip)
                    .push_bind(detail)
                    .push_bind(new.outcome.map(|_| new.now.as_str()))
                    .push_bind(intent.endpoint.as_deref())
                    .push_bind(dated_at)
                    .push_bind(dated_by)
                    .push_bind(new.epoch);
            });
            query.push(" RETURNING id");
            let mut written: Vec<i64> = query
                .build_query_scalar()
                .fetch_all(&mut *write.transaction)
                .await
                .map_err(|error| self.sqlx_error(doing, error))?;
            // SQLite numbers them in the order in which they were given, and may return them in another one.
            written.sort_unstable();
            ids.extend(written.into_iter().map(JournalId));
        }
        Ok(ids)
    }

    /// Writes the content of manifests that the journal names, as a part of a write.
    pub(super) async fn insert_manifests(
        &self,
        write: &mut WriteTransaction<'_>,
        manifests: &[&RawManifest],
    ) -> Result<(), StateError> {
        for rows in statements(manifests) {
            let mut query: QueryBuilder<Sqlite> = QueryBuilder::new("INSERT INTO journaled_manifests (digest, bytes) ");
            query.push_values(rows, |mut row, manifest| {
                row.push_bind(manifest.digest.to_string()).push_bind(&*manifest.bytes);
            });
            // Many tags have the same manifest. An existing one is rewritten only if it was damaged.
            query.push(" ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes WHERE bytes IS NOT excluded.bytes");
            query
                .build()
                .execute(&mut *write.transaction)
                .await
                .map_err(|error| self.sqlx_error(JOURNAL_INTENT, error))?;
        }
        Ok(())
    }

    /// Writes outcomes as a part of a write, and returns the numbers of the entries that had none yet.
    async fn settle_entries(
        &self,
        write: &mut WriteTransaction<'_>,
        outcomes: &BTreeMap<i64, NewOutcome<'_>>,
    ) -> Result<BTreeSet<i64>, StateError> {
        let outcomes: Vec<&NewOutcome<'_>> = outcomes.values().collect();
        let mut settled = BTreeSet::new();
        for rows in statements(&outcomes) {
            let mut query: QueryBuilder<Sqlite> =
                QueryBuilder::new("WITH new (id, outcome, skip, detail, resolved_at) AS (");
            query.push_values(rows, |mut row, new| {
                let (skip, detail) = outcome_columns(new.outcome);
                row.push_bind(new.id.0)
                    .push_bind(new.outcome.label())
                    .push_bind(skip)
                    .push_bind(detail)
                    .push_bind(format_time(new.now));
            });
            // The sign keeps SQLite from reading all pending entries instead of these.
            query.push(
                ") UPDATE journal SET outcome = new.outcome, skip = new.skip, detail = new.detail,
                     resolved_at = new.resolved_at
                 FROM new WHERE journal.id = new.id AND +journal.outcome IS NULL RETURNING id",
            );
            let written: Vec<i64> = query
                .build_query_scalar()
                .fetch_all(&mut *write.transaction)
                .await
                .map_err(|error| self.sqlx_error(JOURNAL_OUTCOME, error))?;
            settled.extend(written);
        }
        Ok(settled)
    }
}

/// Divides rows into as many as one statement takes.
fn statements<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let count = ROWS.into_iter().find(|count| *count <= rows.len())?;
        let (first, rest) = rows.split_at(count);
        rows = rest;
        Some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rows_are_in_one_statement_each() {
        for (count, expected) in [(0, &[][..]), (1, &[1]), (9, &[8, 1]), (23, &[16, 4, 2, 1]), (75, &[32, 32, 8, 2, 1])]
        {
            let rows: Vec<usize> = (0..count).collect();
            let found: Vec<&[usize]> = statements(&rows).collect();
            assert_eq!(found.iter().map(|rows| rows.len()).collect::<Vec<_>>(), expected);
            assert_eq!(found.concat(), rows);
        }
    }
}
