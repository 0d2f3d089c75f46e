//! The rows that a group of journal entries writes, whatever the database.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use uuid::Uuid;

use super::group_commit::{Entry, EntryResult};
use super::row_reader::RowReader;
use super::{StateError, StateErrorKind, format_time};
use crate::domain::{Intent, JournalId, LeaseToken, Outcome};
use crate::registry::RawManifest;

/// An entry that is about to be written.
pub(super) struct NewEntry<'a> {
    /// The same whenever it is sent.
    pub(super) key: Uuid,
    pub(super) run: String,
    pub(super) epoch: i64,
    pub(super) intent: &'a Intent,
    pub(super) outcome: Option<&'a Outcome>,
    pub(super) now: String,
}

impl<'a> NewEntry<'a> {
    pub(super) fn new(
        (key, run): (Uuid, Uuid),
        lease: &LeaseToken,
        intent: &'a Intent,
        outcome: Option<&'a Outcome>,
        now: Timestamp,
    ) -> Self {
        Self { key, run: run.to_string(), epoch: lease.epoch(), intent, outcome, now: format_time(now) }
    }
}

/// An outcome that is about to be written.
pub(super) struct NewOutcome<'a> {
    pub(super) id: JournalId,
    pub(super) outcome: &'a Outcome,
    pub(super) registry_time: Option<Timestamp>,
    pub(super) now: Timestamp,
}

/// The rows that a group writes.
pub(super) struct GroupRows<'a> {
    /// In the order of the group.
    pub(super) entries: Vec<NewEntry<'a>>,
    /// The first of each entry.
    pub(super) outcomes: BTreeMap<i64, NewOutcome<'a>>,
    pub(super) manifests: BTreeMap<String, &'a RawManifest>,
}

impl<'a> GroupRows<'a> {
    /// Collects the rows of the entries that are not refused.
    pub(super) fn new(group: &[&'a Entry], refusals: &[Option<StateError>]) -> Self {
        let mut rows = Self { entries: Vec::new(), outcomes: BTreeMap::new(), manifests: BTreeMap::new() };
        for (entry, _) in group.iter().zip(refusals).filter(|(_, refusal)| refusal.is_none()) {
            match entry {
                Entry::Intent { key, lease, run, intent, manifest, now, .. } => {
                    rows.entries.push(NewEntry::new((*key, *run), lease, intent, None, *now));
                    rows.manifests.extend(manifest.iter().map(|manifest| (manifest.digest.to_string(), manifest)));
                }
                Entry::NotAttempted { key, lease, run, intent, outcome, now } => {
                    rows.entries.push(NewEntry::new((*key, *run), lease, intent, Some(outcome), *now));
                }
                Entry::Outcome { id, outcome, registry_time, now } => {
                    let new = NewOutcome { id: *id, outcome, registry_time: *registry_time, now: *now };
                    rows.outcomes.entry(id.0).or_insert(new);
                }
            }
        }
        rows
    }

    /// Returns the entries among `settled` whose action was done, each with the registry's own time, and the others.
    pub(super) fn split_settled(&self, settled: &BTreeSet<i64>) -> (Vec<(i64, Option<Timestamp>)>, Vec<i64>) {
        let (mut done, mut undone) = (Vec::new(), Vec::new());
        for (id, new) in self.outcomes.iter().filter(|(id, _)| settled.contains(id)) {
            match new.outcome {
                Outcome::Done(_) => done.push((*id, new.registry_time)),
                Outcome::Skipped(_) | Outcome::Failed(_) => undone.push(*id),
            }
        }
        (done, undone)
    }
}

/// Returns the answer to each entry of a group: `ids` are the numbers of the new rows in order, `settled` those of the
/// entries that got their outcome.
pub(super) fn group_answers(
    reader: &impl RowReader,
    group: &[&Entry],
    refusals: Vec<Option<StateError>>,
    ids: Vec<JournalId>,
    mut settled: BTreeSet<i64>,
) -> Result<Vec<EntryResult>, StateError> {
    let lost = || reader.error(StateErrorKind::Io, "the database wrote fewer journal entries than it was given");
    let mut ids = ids.into_iter();
    let answer = |(entry, refusal): (&Entry, _)| {
        Ok(match (entry, refusal) {
            (_, Some(error)) => Err(error),
            // A later outcome of the same entry in this group comes too late.
            (&Entry::Outcome { id, .. }, None) if settled.remove(&id.0) => Ok(id),
            (&Entry::Outcome { id, .. }, None) => Err(settled_entry(reader, id)),
            (Entry::Intent { .. } | Entry::NotAttempted { .. }, None) => Ok(ids.next().ok_or_else(lost)?),
        })
    };
    group.iter().copied().zip(refusals).map(answer).collect()
}

/// The error of an outcome whose entry has one: whoever took the lease over has settled it.
pub(super) fn settled_entry(reader: &impl RowReader, id: JournalId) -> StateError {
    let what = format_args!("cannot journal an outcome: journal entry {} is settled already by another process", id.0);
    reader.error(StateErrorKind::LeaseLost, what)
}
