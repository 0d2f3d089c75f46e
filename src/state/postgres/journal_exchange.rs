//! A group of journal entries in one round trip, where nothing stands in their way.
//!
//! Two functions of the database write them, and values are in JSON, as one literal each. Both calls are sent as one
//! text, so that the database runs them as one transaction. An intent that a lease, a hold or a request may prevent is
//! not written here, and neither is what concerns a restore: these take the longer way of `journal_group`, which says
//! why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{PostgresState, storable};
use crate::domain::{Intent, JournalId, LeaseToken, Outcome};
use crate::state::columns::{date_columns, outcome_columns};
use crate::state::group_commit::{Entry, EntryResult};
use crate::state::holds::is_removal;
use crate::state::journal_rows::settled_entry;
use crate::state::{RestoreRecord, StateError, format_time};

/// An entry as JSON, by the columns of the journal.
#[derive(Serialize)]
struct NewEntry {
    place: usize,
    key: String,
    run: String,
    action: &'static str,
    registry: String,
    repository: String,
    tag: String,
    digest: String,
    media_type: String,
    policy: Option<String>,
    evidence: String,
    intended_at: String,
    outcome: Option<&'static str>,
    skip: Option<&'static str>,
    detail: Option<String>,
    resolved_at: Option<String>,
    endpoint: Option<String>,
    dated_at: Option<String>,
    dated_by: Option<&'static str>,
    epoch: i64,
}

/// An outcome as JSON.
#[derive(Serialize)]
struct NewOutcome {
    id: i64,
    outcome: &'static str,
    skip: Option<&'static str>,
    detail: Option<String>,
    resolved_at: String,
}

/// A manifest as JSON.
#[derive(Serialize)]
struct NewManifest {
    digest: String,
    hex: String,
}

/// A group as it is about to be sent.
#[derive(Default)]
struct Batch {
    /// Intents, and what was never begun.
    entries: Vec<NewEntry>,
    manifests: BTreeMap<String, NewManifest>,
    outcomes: BTreeMap<i64, NewOutcome>,
    /// The epochs of the intents, and their earliest time.
    epochs: BTreeSet<i64>,
    earliest: Option<Timestamp>,
}

impl Batch {
    /// Takes the entries of a group; `None` if one of them needs more than can be decided at once.
    fn of(group: &[Entry]) -> Option<Self> {
        let mut batch = Self::default();
        for entry in group {
            match entry {
                Entry::Intent { key, lease, run, intent, manifest, restoring, now } => {
                    if **restoring != RestoreRecord::default() || !is_removal(intent) {
                        return None;
                    }
                    batch.epochs.insert(lease.epoch());
                    batch.earliest = Some(batch.earliest.map_or(*now, |time| time.min(*now)));
                    batch.add_entry((*key, *run), lease, intent, None, *now);
                    if let Some(manifest) = manifest {
                        let digest = manifest.digest.to_string();
                        let new = || NewManifest { digest: digest.clone(), hex: hex(&manifest.bytes) };
                        batch.manifests.entry(digest.clone()).or_insert_with(new);
                    }
                }
                Entry::NotAttempted { key, lease, run, intent, outcome, now } => {
                    batch.add_entry((*key, *run), lease, intent, Some(outcome), *now);
                }
                Entry::Outcome { id, outcome, now, .. } => {
                    let (skip, detail) = outcome_columns(outcome);
                    let new = NewOutcome {
                        id: id.0,
                        outcome: outcome.label(),
                        skip,
                        detail: detail.map(|text| storable(&text).into_owned()),
                        resolved_at: format_time(*now),
                    };
                    // The first of an entry stands.
                    batch.outcomes.entry(id.0).or_insert(new);
                }
            }
        }
        (batch.epochs.len() <= 1).then_some(batch)
    }

    fn add_entry(
        &mut self,
        (key, run): (Uuid, Uuid),
        lease: &LeaseToken,
        intent: &Intent,
        outcome: Option<&Outcome>,
        now: Timestamp,
    ) {
        let (skip, detail) = outcome.map_or((None, None), outcome_columns);
        let (dated_at, dated_by) = intent.date.map_or((None, None), date_columns);
        self.entries.push(NewEntry {
            place: self.entries.len(),
            key: key.to_string(),
            run: run.to_string(),
            action: intent.action.label(),
            registry: intent.registry.to_string(),
            repository: intent.repository.to_string(),
            tag: intent.tag.to_string(),
            digest: intent.digest.to_string(),
            media_type: storable(&intent.media_type).into_owned(),
            policy: intent.policy.as_deref().map(|policy| storable(policy).into_owned()),
            evidence: storable(&intent.evidence).into_owned(),
            intended_at: format_time(now),
            outcome: outcome.map(Outcome::label),
            skip,
            detail: detail.map(|text| storable(&text).into_owned()),
            resolved_at: outcome.map(|_| format_time(now)),
            endpoint: intent.endpoint.as_deref().map(str::to_owned),
            dated_at,
            dated_by,
            epoch: lease.epoch(),
        });
    }

    /// Returns the statements that write it.
    fn statements(&self) -> serde_json::Result<String> {
        let null = || "NULL".to_owned();
        let mut text = String::new();
        if !self.entries.is_empty() {
            let entries = literal(&serde_json::to_string(&self.entries)?);
            let manifests: Vec<&NewManifest> = self.manifests.values().collect();
            let manifests = if manifests.is_empty() { null() } else { literal(&serde_json::to_string(&manifests)?) };
            let epoch = self.epochs.first().map_or_else(null, ToString::to_string);
            let earliest = self.earliest.map_or_else(null, |time| literal(&format_time(time)));
            text = format!(
                "SELECT 'written' AS kind, write_journal_entries({entries}, {manifests}, {epoch}, {earliest}) AS ids;"
            );
        }
        if !self.outcomes.is_empty() {
            let outcomes: Vec<&NewOutcome> = self.outcomes.values().collect();
            let outcomes = literal(&serde_json::to_string(&outcomes)?);
            // Writing to a string cannot fail.
            let _ = write!(text, "SELECT 'settled' AS kind, write_journal_outcomes({outcomes}) AS ids;");
        }
        Ok(text)
    }
}

/// Returns a text as a literal of SQL, whatever the server's settings are.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// Returns the numbers that a row lists; `None` if there are none.
fn ids(row: &PgRow) -> Option<Vec<i64>> {
    serde_json::from_str(&row.try_get::<Option<String>, _>("ids").ok()??).ok()
}

impl PostgresState {
    /// Writes what it can of a group in one round trip, and returns the answers to that; `None` for the entries that it
    /// did not write.
    ///
    /// # Errors
    /// Returns an error if the database does not answer, or refuses the statements; nothing is written then, unless the
    /// answer alone was lost.
    pub(super) async fn write_at_once(&self, group: &[Entry]) -> Result<Vec<Option<EntryResult>>, StateError> {
        let nothing = || group.iter().map(|_| None).collect::<Vec<Option<EntryResult>>>();
        let Some(batch) = Batch::of(group) else { return Ok(nothing()) };
        let Ok(statements) = batch.statements() else { return Ok(nothing()) };
        let (mut written, mut settled) = (None, None);
        for row in self.exchange("write the journal", statements).await? {
            match row.try_get::<Option<String>, _>("kind").ok().flatten().as_deref() {
                Some("written") => written = ids(&row).filter(|ids| ids.len() == batch.entries.len()),
                Some("settled") => settled = ids(&row),
                _ => {}
            }
        }
        let mut written = written.map(Vec::into_iter);
        let mut settled: Option<BTreeSet<i64>> = settled.map(|ids| ids.into_iter().collect());
        let answer = |entry: &Entry| match entry {
            Entry::Intent { .. } | Entry::NotAttempted { .. } => Some(Ok(JournalId(written.as_mut()?.next()?))),
            Entry::Outcome { id, .. } => {
                // A later outcome of the same entry in this group comes too late.
                let is_first = settled.as_mut()?.remove(&id.0);
                Some(if is_first { Ok(*id) } else { Err(settled_entry(self, *id)) })
            }
        };
        Ok(group.iter().map(answer).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_literals_whatever_is_in_them() {
        assert_eq!(literal(r"it's \ here"), r"E'it''s \\ here'");
        assert_eq!(hex(&[0, 0x1f, 0xff]), "001fff");
    }
}
