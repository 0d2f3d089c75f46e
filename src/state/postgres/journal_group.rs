//! A group of journal entries in one transaction, a statement for all of them instead of one for each: what takes the time
//! is the way to the database and back.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::unit::Unit;
use super::{PostgresState, storable};
use crate::domain::JournalId;
use crate::registry::RawManifest;
use crate::state::columns::{date_columns, outcome_columns};
use crate::state::group_commit::{Entry, EntryResult, JournalQueue, QueuedEntry, is_entry_error};
use crate::state::journal_rows::{GroupRows, NewEntry, NewOutcome, group_answers};
use crate::state::row_reader::RowReader as _;
use crate::state::{Journal as _, RestoreRecord, StateError, StateErrorKind, format_time};

#[async_trait]
impl JournalQueue for PostgresState {
    fn queue(&self) -> &mpsc::Sender<QueuedEntry> {
        &self.0.journal
    }

    async fn write_group(&self, group: &[Entry]) -> Result<Vec<EntryResult>, StateError> {
        let nothing = || group.iter().map(|_| None).collect::<Vec<Option<EntryResult>>>();
        let (mut answers, is_answer_lost) = if self.is_away() {
            (nothing(), false)
        } else {
            match self.write_at_once(group).await {
                Ok(answers) => (answers, false),
                // The connection may have been over before. What was refused is refused again, and says why.
                Err(error) => (nothing(), error.kind == StateErrorKind::Unavailable),
            }
        };
        let open: Vec<&Entry> = group.iter().zip(&answers).filter(|one| one.1.is_none()).map(|one| one.0).collect();
        if !open.is_empty() {
            let mut written = self.write_singly_if_refused(&open).await?.into_iter();
            for (entry, answer) in group.iter().zip(&mut answers).filter(|one| one.1.is_none()) {
                *answer = written.next();
                if is_answer_lost
                    && let (Entry::Outcome { id, outcome, .. }, Some(Err(_))) = (entry, &answer)
                    && let Ok(found) = self.journal_entry(*id).await
                    && found.outcome.is_some_and(|(had, _)| had == *outcome)
                {
                    *answer = Some(Ok(*id));
                }
            }
        }
        let lost = || self.error(StateErrorKind::Io, "the database wrote fewer journal entries than it was given");
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(lost()))).collect())
    }

    async fn write_entries(&self, group: &[&Entry]) -> Result<Vec<EntryResult>, StateError> {
        let mut unit = self.write("write the journal").await?;
        let refusals = self.refusals(&mut unit, group).await?;
        let rows = GroupRows::new(group, &refusals);
        let inserted = unit.insert_entries(&rows.entries).await?;
        unit.insert_manifests(&rows.manifests).await?;
        let settled = unit.settle_entries(&rows.outcomes).await?;
        let (done, undone) = rows.split_settled(&settled);
        unit.complete_restore_records(&done, &undone).await?;
        let ids = inserted.iter().map(|(id, _)| *id).collect();
        let repeated: BTreeSet<JournalId> = inserted.iter().filter(|(_, is_new)| !is_new).map(|(id, _)| *id).collect();
        let answers = group_answers(self, group, refusals, ids, settled)?;
        for (entry, answer) in group.iter().zip(&answers) {
            if let (Entry::Intent { intent, restoring, now, .. }, Ok(id)) = (entry, answer)
                && **restoring != RestoreRecord::default()
                && !repeated.contains(id)
            {
                unit.write_restore_record(*id, intent, restoring, *now).await?;
            }
        }
        unit.commit().await?;
        Ok(answers)
    }
}

impl PostgresState {
    /// Says of each entry why it must not be written, if so: an intent whose lease was lost, that a hold covers, or that
    /// somebody asks not to begin.
    async fn refusals(&self, unit: &mut Unit<'_>, group: &[&Entry]) -> Result<Vec<Option<StateError>>, StateError> {
        let intents = || group.iter().filter_map(|entry| entry.intent_and_time());
        if intents().next().is_none() {
            return Ok(group.iter().map(|_| None).collect());
        }
        let lease = self.lock_leases(unit, group).await?;
        let guard = unit.removal_guard(intents()).await?;
        let mut refusals = Vec::with_capacity(group.len());
        for entry in group {
            let checked = match entry {
                Entry::Intent { lease: token, intent, manifest, now, .. } => {
                    match self.check_lease(lease.as_ref(), token) {
                        Ok(()) => {
                            let bytes = manifest.as_ref().map(|manifest| &*manifest.bytes);
                            self.check_removal(unit, &guard, intent, bytes, *now).await
                        }
                        lost => lost,
                    }
                }
                Entry::Outcome { .. } | Entry::NotAttempted { .. } => Ok(()),
            };
            refusals.push(match checked {
                Err(error) if is_entry_error(error.kind) => Some(error),
                checked => {
                    checked?;
                    None
                }
            });
        }
        Ok(refusals)
    }
}

impl Unit<'_> {
    /// Writes entries in their order, and returns their numbers, each with false if it had been written before.
    pub(super) async fn insert_entries(
        &mut self,
        entries: &[NewEntry<'_>],
    ) -> Result<Vec<(JournalId, bool)>, StateError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let text = |column: fn(&NewEntry<'_>) -> String| entries.iter().map(column).collect::<Vec<String>>();
        let optional = |column: fn(&NewEntry<'_>) -> Option<String>| entries.iter().map(column).collect::<Vec<_>>();
        let query = sqlx::query_as(
            "INSERT INTO journal (run, action, registry, repository, tag, digest, media_type, policy, evidence, intended_at,
                                  outcome, skip, detail, resolved_at, endpoint, dated_at, dated_by, epoch, key)
             SELECT run, action, registry, repository, tag, digest, media_type, policy, evidence, intended_at,
                    outcome, skip, detail, resolved_at, endpoint, dated_at, dated_by, epoch, key::uuid
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                         $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[],
                         $16::text[], $17::text[], $18::bigint[], $19::text[])
                  WITH ORDINALITY AS new (run, action, registry, repository, tag, digest, media_type, policy, evidence,
                                          intended_at, outcome, skip, detail, resolved_at, endpoint, dated_at, dated_by,
                                          epoch, key, place)
             ORDER BY place
             ON CONFLICT (key) WHERE key IS NOT NULL DO UPDATE SET key = excluded.key
             RETURNING id, xmax = 0",
        );
        let query = query
            .bind(text(|new| new.run.clone()))
            .bind(text(|new| new.intent.action.label().to_owned()))
            .bind(text(|new| new.intent.registry.to_string()))
            .bind(text(|new| new.intent.repository.to_string()))
            .bind(text(|new| new.intent.tag.to_string()))
            .bind(text(|new| new.intent.digest.to_string()))
            .bind(text(|new| storable(&new.intent.media_type).into_owned()))
            .bind(optional(|new| new.intent.policy.as_deref().map(|policy| storable(policy).into_owned())))
            .bind(text(|new| storable(&new.intent.evidence).into_owned()))
            .bind(text(|new| new.now.clone()))
            .bind(optional(|new| Some(new.outcome?.label().to_owned())))
            .bind(optional(|new| outcome_columns(new.outcome?).0.map(str::to_owned)))
            .bind(optional(|new| outcome_columns(new.outcome?).1.map(|text| storable(&text).into_owned())))
            .bind(optional(|new| new.outcome.map(|_| new.now.clone())))
            .bind(optional(|new| new.intent.endpoint.as_deref().map(str::to_owned)))
            .bind(optional(|new| date_columns(new.intent.date?).0))
            .bind(optional(|new| date_columns(new.intent.date?).1.map(str::to_owned)))
            .bind(entries.iter().map(|new| new.epoch).collect::<Vec<i64>>())
            .bind(text(|new| new.key.to_string()));
        // The row of a conflict was locked by this transaction, which xmax tells.
        let mut ids: Vec<(i64, bool)> = self.rows(query).await?;
        // They were given in the order of the entries.
        ids.sort_unstable();
        Ok(ids.into_iter().map(|(id, is_new)| (JournalId(id), is_new)).collect())
    }

    /// Writes the bytes of manifests that the journal names, by their digests.
    pub(super) async fn insert_manifests(
        &mut self,
        manifests: &BTreeMap<String, &RawManifest>,
    ) -> Result<(), StateError> {
        if manifests.is_empty() {
            return Ok(());
        }
        // Many tags have the same manifest. One that is there already is written again only where it was damaged.
        let statement = sqlx::query(
            "INSERT INTO journaled_manifests (digest, bytes) SELECT * FROM unnest($1::text[], $2::bytea[])
             ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes
             WHERE journaled_manifests.bytes IS DISTINCT FROM excluded.bytes",
        );
        let digests: Vec<&str> = manifests.keys().map(String::as_str).collect();
        let bytes: Vec<&[u8]> = manifests.values().map(|manifest| &*manifest.bytes).collect();
        self.execute(statement.bind(digests).bind(bytes)).await.map(drop)
    }

    /// Writes outcomes, and returns the numbers of the entries that had none yet.
    async fn settle_entries(&mut self, outcomes: &BTreeMap<i64, NewOutcome<'_>>) -> Result<BTreeSet<i64>, StateError> {
        if outcomes.is_empty() {
            return Ok(BTreeSet::new());
        }
        let columns = || outcomes.values().map(|new| outcome_columns(new.outcome));
        let query = sqlx::query_as(
            "UPDATE journal SET outcome = new.outcome, skip = new.skip, detail = new.detail, resolved_at = new.resolved_at
             FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[])
                  AS new (id, outcome, skip, detail, resolved_at)
             WHERE journal.id = new.id AND journal.outcome IS NULL RETURNING journal.id",
        );
        let query = query
            .bind(outcomes.keys().copied().collect::<Vec<i64>>())
            .bind(outcomes.values().map(|new| new.outcome.label()).collect::<Vec<_>>())
            .bind(columns().map(|(skip, _)| skip).collect::<Vec<_>>())
            .bind(columns().map(|(_, detail)| detail.map(|text| storable(&text).into_owned())).collect::<Vec<_>>())
            .bind(outcomes.values().map(|new| format_time(new.now)).collect::<Vec<_>>());
        let settled: Vec<(i64,)> = self.rows(query).await?;
        Ok(settled.into_iter().map(|(id,)| id).collect())
    }
}
