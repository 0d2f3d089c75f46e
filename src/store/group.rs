//! Journal entries of many callers in one write: what waits for the disk is the commit, and one can serve them all.
//!
//! Callers hand their entry to one task and wait for its answer. The task writes whatever came in while the disk was
//! busy with the write before. It belongs to no caller, so one that is cancelled takes nothing along: its entry is
//! written, or nobody was told that it was.

use std::sync::Weak;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{Inner, JournalId, Restoring, Store, StoreError, StoreErrorKind};
use crate::domain::{Intent, Outcome};
use crate::registry::RawManifest;

/// Most entries in one write; callers beyond wait for the next.
const MOST_AT_ONCE: usize = 256;

/// One thing to be written to the journal.
#[derive(Debug)]
pub(super) enum Entry {
    /// What is about to be done, with the manifest that undoes it and what a restore leaves beside it.
    Intent { run: Uuid, intent: Intent, manifest: RawManifest, restoring: Box<Restoring>, now: Timestamp },
    /// What came of it, and since when a restored tag is there by the registry's own time.
    Outcome { id: JournalId, outcome: Outcome, left_at: Option<Timestamp>, now: Timestamp },
    /// What was never begun.
    Note { run: Uuid, intent: Intent, outcome: Outcome, now: Timestamp },
}

type Answer = Result<JournalId, StoreError>;

/// An entry and who waits for it.
#[derive(Debug)]
pub(super) struct Waiting {
    entry: Entry,
    answer: oneshot::Sender<Answer>,
}

/// Starts the task that writes for a store, until the store is gone.
pub(super) fn start(store: Weak<Inner>) -> mpsc::Sender<Waiting> {
    let (queue, waiting) = mpsc::channel(MOST_AT_ONCE);
    tokio::spawn(write_groups(store, waiting));
    queue
}

async fn write_groups(store: Weak<Inner>, mut waiting: mpsc::Receiver<Waiting>) {
    let mut group = Vec::new();
    while waiting.recv_many(&mut group, MOST_AT_ONCE).await > 0 {
        // Where the store is gone nobody waits any more.
        let Some(store) = store.upgrade().map(Store) else { return };
        let (entries, answers): (Vec<Entry>, Vec<_>) =
            group.drain(..).map(|Waiting { entry, answer }| (entry, answer)).unzip();
        let written = match store.write_group(&entries).await {
            Ok(written) => written,
            Err(error) => vec![Err(error); entries.len()],
        };
        for (answer, written) in answers.into_iter().zip(written) {
            // Whoever was cancelled meanwhile does not hear of it.
            let _ = answer.send(written);
        }
    }
}

impl Store {
    /// Writes an entry to the journal together with those of others. Durable when it returns.
    pub(super) async fn enter(&self, entry: Entry) -> Answer {
        let (answer, written) = oneshot::channel();
        let ended = || self.error(StoreErrorKind::Io, "cannot write the journal: the task that writes it has ended");
        self.0.journal.send(Waiting { entry, answer }).await.map_err(|_| ended())?;
        written.await.map_err(|_| ended())?
    }

    /// Writes all of a group in one transaction, and says of each entry whether it fits the journal.
    ///
    /// # Errors
    /// When they could not be written; none is then.
    async fn write_group(&self, group: &[Entry]) -> Result<Vec<Answer>, StoreError> {
        let mut write = self.write_durably().await?;
        let mut answers = Vec::with_capacity(group.len());
        for entry in group {
            let written = match entry {
                Entry::Intent { run, intent, manifest, restoring, now } => {
                    self.write_intent(&mut write, *run, intent, manifest, restoring, *now).await
                }
                Entry::Outcome { id, outcome, left_at, now } => {
                    self.write_outcome(&mut write, *id, outcome, *left_at, *now).await
                }
                Entry::Note { run, intent, outcome, now } => {
                    self.insert(&mut write, super::journal::NOTE, *run, intent, Some(outcome), *now).await
                }
            };
            answers.push(match written {
                // SQLite takes back the one statement that breaks a rule of a table, or finds nothing to change; what a
                // hold covers was not written. After any other failure the transaction may be gone, so nothing more may
                // be written as a part of it.
                Err(error) if concerns_one(error.kind) => Err(error),
                Err(error) => return Err(error),
                Ok(id) => Ok(id),
            });
        }
        write.commit("write the journal").await?;
        Ok(answers)
    }
}

/// Whether a failure concerns the one entry alone, so that the others of its write go on.
fn concerns_one(kind: StoreErrorKind) -> bool {
    use StoreErrorKind::{Held, Interrupted, Missing, Rule};
    matches!(kind, Rule | Missing | Held | Interrupted)
}
