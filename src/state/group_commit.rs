//! Journal entries of many callers in one write: what waits for the disk is the commit, and one can serve them all.
//!
//! Callers hand their entry to one task and wait for its answer. The task writes whatever came in while the disk was
//! busy with the write before. It belongs to no caller, so one that is cancelled takes nothing along: its entry is
//! written, or nobody was told that it was.

use std::sync::Weak;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{Inner, JournalId, LeaseToken, RestoreRecord, SqliteState, StateError, StateErrorKind};
use crate::domain::{Intent, Outcome};
use crate::registry::RawManifest;

/// Most entries in one write; callers beyond wait for the next.
const MAX_GROUP: usize = 256;

/// One thing to be written to the journal.
#[derive(Debug)]
pub(super) enum Entry {
    /// What is about to be done, with the manifest that undoes it and what a restore leaves beside it.
    Intent {
        lease: LeaseToken,
        run: Uuid,
        intent: Intent,
        /// Nothing where the manifest stays in the registry and its bytes come later.
        manifest: Option<RawManifest>,
        restoring: Box<RestoreRecord>,
        now: Timestamp,
    },
    /// What came of it, and since when a restored tag is there by the registry's own time.
    Outcome { id: JournalId, outcome: Outcome, registry_time: Option<Timestamp>, now: Timestamp },
    /// What was never begun.
    NotAttempted { lease: LeaseToken, run: Uuid, intent: Intent, outcome: Outcome, now: Timestamp },
}

type EntryResult = Result<JournalId, StateError>;

/// An entry and who waits for it.
#[derive(Debug)]
pub(super) struct QueuedEntry {
    entry: Entry,
    reply: oneshot::Sender<EntryResult>,
}

/// Starts the task that writes for a [`SqliteState`], until that is dropped.
pub(super) fn spawn_writer(store: Weak<Inner>) -> mpsc::Sender<QueuedEntry> {
    let (queue, waiting) = mpsc::channel(MAX_GROUP);
    tokio::spawn(write_groups(store, waiting));
    queue
}

async fn write_groups(store: Weak<Inner>, mut waiting: mpsc::Receiver<QueuedEntry>) {
    let mut group = Vec::new();
    while waiting.recv_many(&mut group, MAX_GROUP).await > 0 {
        // Where the `SqliteState` is dropped nobody waits any more.
        let Some(store) = store.upgrade().map(SqliteState) else { return };
        let (entries, answers): (Vec<Entry>, Vec<_>) =
            group.drain(..).map(|QueuedEntry { entry, reply: answer }| (entry, answer)).unzip();
        let written = match store.write_group(&entries).await {
            Ok(written) => written,
            Err(error) => vec![Err(error); entries.len()],
        };
        // They hold the lease by their tokens, and whoever hears of the last one may take it again at once.
        drop(entries);
        for (answer, written) in answers.into_iter().zip(written) {
            // Whoever was cancelled meanwhile does not hear of it.
            let _ = answer.send(written);
        }
    }
}

impl SqliteState {
    /// Writes an entry to the journal together with those of others. Durable when it returns.
    pub(super) async fn submit(&self, entry: Entry) -> EntryResult {
        let (answer, written) = oneshot::channel();
        let ended = || self.error(StateErrorKind::Io, "cannot write the journal: the task that writes it has ended");
        self.0.journal.send(QueuedEntry { entry, reply: answer }).await.map_err(|_| ended())?;
        written.await.map_err(|_| ended())?
    }

    /// Writes all of a group in one transaction, and says of each entry whether it fits the journal.
    ///
    /// # Errors
    /// When they could not be written; none is then.
    async fn write_group(&self, group: &[Entry]) -> Result<Vec<EntryResult>, StateError> {
        let mut write = self.write_durably().await?;
        let mut answers = Vec::with_capacity(group.len());
        for entry in group {
            let written = match entry {
                Entry::Intent { lease, run, intent, manifest, restoring, now } => {
                    self.write_intent(&mut write, (lease, *run), intent, manifest.as_ref(), restoring, *now).await
                }
                Entry::Outcome { id, outcome, registry_time, now } => {
                    self.write_outcome(&mut write, *id, outcome, *registry_time, *now).await
                }
                Entry::NotAttempted { lease, run, intent, outcome, now } => {
                    self.insert(&mut write, lease, *run, intent, Some(outcome), *now).await
                }
            };
            answers.push(match written {
                // SQLite takes back the one statement that breaks a rule of a table, or finds nothing to change; what a
                // hold covers was not written, nor was what came with an old lease. After any other failure the
                // transaction may be gone, so nothing more may be written as a part of it.
                Err(error) if is_entry_error(error.kind) => Err(error),
                Err(error) => return Err(error),
                Ok(id) => Ok(id),
            });
        }
        write.commit("write the journal").await?;
        Ok(answers)
    }
}

/// Whether a failure concerns the one entry alone, so that the others of its write go on.
fn is_entry_error(kind: StateErrorKind) -> bool {
    use StateErrorKind::{Constraint, Held, Interrupted, Leased, Missing};
    matches!(kind, Constraint | Missing | Held | Interrupted | Leased)
}
