//! Group commit: journal entries of many callers in one write. Only the commit waits for the disk, and one is enough
//! for all of them.
//!
//! Callers send their entry to one task and wait for its answer. The task writes the entries that arrived during the
//! write before. It belongs to no caller, so cancelling a caller loses nothing: its entry is written, or no caller was
//! told that it was.

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::restored_tags::RestoreRecord;
use super::row_reader::RowReader;
use super::{StateError, StateErrorKind};
use crate::domain::{Intent, JournalId, JournaledIntent, LeaseToken, Outcome};
use crate::registry::RawManifest;

/// Most entries in one write; callers beyond wait for the next.
const MAX_GROUP: usize = 256;

/// A record to be written to the journal.
#[derive(Debug)]
pub(super) enum Entry {
    /// An intent, with the manifest that undoes it and the records of a restore.
    Intent {
        /// Tells a repeated entry from another one: its first request may arrive late, or may have been carried out
        /// although its answer was lost.
        key: Uuid,
        lease: LeaseToken,
        run: Uuid,
        intent: Intent,
        /// `None` if the manifest stays in the registry and its content comes later.
        manifest: Option<RawManifest>,
        restoring: Box<RestoreRecord>,
        now: Timestamp,
    },
    /// An outcome, with the registry's own time of a restored tag.
    Outcome { id: JournalId, outcome: Outcome, registry_time: Option<Timestamp>, now: Timestamp },
    /// An action that was never begun.
    NotAttempted { key: Uuid, lease: LeaseToken, run: Uuid, intent: Intent, outcome: Outcome, now: Timestamp },
}

impl Entry {
    /// What is about to be done. `manifest` is `None` where its bytes come later.
    pub(super) fn intent(
        lease: &LeaseToken,
        run: Uuid,
        intent: &Intent,
        manifest: Option<&RawManifest>,
        restoring: RestoreRecord,
        now: Timestamp,
    ) -> Self {
        let (lease, intent, manifest) = (lease.clone(), intent.clone(), manifest.cloned());
        Self::Intent { key: Uuid::now_v7(), lease, run, intent, manifest, restoring: Box::new(restoring), now }
    }

    /// The intent and its time; `None` for other entries.
    pub(super) fn intent_and_time(&self) -> Option<(&Intent, Timestamp)> {
        match self {
            Self::Intent { intent, now, .. } => Some((intent, *now)),
            Self::Outcome { .. } | Self::NotAttempted { .. } => None,
        }
    }

    /// What was never begun.
    pub(super) fn not_attempted(
        lease: &LeaseToken,
        run: Uuid,
        intent: &Intent,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Self {
        let (lease, intent, outcome) = (lease.clone(), intent.clone(), outcome.clone());
        Self::NotAttempted { key: Uuid::now_v7(), lease, run, intent, outcome, now }
    }
}

/// The number of an entry that was written, or why it was not.
pub(super) type EntryResult = Result<JournalId, StateError>;

/// A backend that writes the journal for many callers at a time.
#[async_trait]
pub(super) trait JournalQueue: RowReader + Sync {
    /// The queue to the task that [`spawn_writer`] started for it.
    fn queue(&self) -> &mpsc::Sender<QueuedEntry>;

    /// Writes all of a group in one transaction, and returns of each entry whether it fits the journal.
    ///
    /// # Errors
    /// Returns an error if they could not be written; none is then. One of the kind
    /// [`Constraint`](StateErrorKind::Constraint) may concern any of them.
    async fn write_entries(&self, group: &[&Entry]) -> Result<Vec<EntryResult>, StateError>;

    /// Writes all of a group.
    ///
    /// # Errors
    /// Returns an error if they could not be written; none is then.
    async fn write_group(&self, group: &[Entry]) -> Result<Vec<EntryResult>, StateError> {
        self.write_singly_if_refused(&group.iter().collect::<Vec<_>>()).await
    }

    /// Writes all of a group in one transaction; or each entry in its own, if one breaks a rule of the tables.
    ///
    /// # Errors
    /// Returns an error if they could not be written; none is then.
    async fn write_singly_if_refused(&self, group: &[&Entry]) -> Result<Vec<EntryResult>, StateError> {
        match self.write_entries(group).await {
            // One statement wrote many of them, so it is unknown which of them it was.
            Err(error) if error.kind == StateErrorKind::Constraint && group.len() > 1 => {
                let mut answers = Vec::with_capacity(group.len());
                for entry in group {
                    let written = self.write_entries(std::slice::from_ref(entry)).await;
                    answers.push(written.and_then(|mut answers| answers.pop().unwrap_or_else(|| Err(error.clone()))));
                }
                Ok(answers)
            }
            written => written,
        }
    }

    /// Writes an entry to the journal together with those of others. Durable when it returns.
    async fn submit(&self, entry: Entry) -> EntryResult {
        let (reply, written) = oneshot::channel();
        let ended = || self.error(StateErrorKind::Io, "cannot write the journal: the task that writes it has ended");
        self.queue().send(QueuedEntry { entry, reply }).await.map_err(|_| ended())?;
        written.await.map_err(|_| ended())?
    }

    /// Writes an intent, and returns the proof of it.
    async fn submit_intent(&self, entry: Entry, intent: &Intent) -> Result<JournaledIntent, StateError> {
        Ok(JournaledIntent::recorded(self.submit(entry).await?, intent))
    }
}

/// An entry and its waiting caller.
#[derive(Debug)]
pub(super) struct QueuedEntry {
    entry: Entry,
    reply: oneshot::Sender<EntryResult>,
}

/// Starts the task that writes for a backend, until `open` finds it dropped.
pub(super) fn spawn_writer<S>(open: impl Fn() -> Option<S> + Send + 'static) -> mpsc::Sender<QueuedEntry>
where
    S: JournalQueue + Send + Sync + 'static,
{
    let (queue, waiting) = mpsc::channel(MAX_GROUP);
    tokio::spawn(write_groups(open, waiting));
    queue
}

async fn write_groups<S: JournalQueue>(open: impl Fn() -> Option<S>, mut waiting: mpsc::Receiver<QueuedEntry>) {
    let mut group = Vec::new();
    while waiting.recv_many(&mut group, MAX_GROUP).await > 0 {
        // Where the backend is dropped nobody waits any more.
        let Some(store) = open() else { return };
        let (entries, answers): (Vec<Entry>, Vec<_>) =
            group.drain(..).map(|QueuedEntry { entry, reply: answer }| (entry, answer)).unzip();
        let written = match store.write_group(&entries).await {
            Ok(written) => written,
            Err(error) => vec![Err(error); entries.len()],
        };
        // Their tokens hold the lease, and the caller that gets the last answer may take it again at once.
        drop(entries);
        for (answer, written) in answers.into_iter().zip(written) {
            // A cancelled caller does not receive it.
            let _ = answer.send(written);
        }
    }
}

/// Returns true if a failure concerns the one entry alone, so that the others of its write go on.
pub(super) fn is_entry_error(kind: StateErrorKind) -> bool {
    use StateErrorKind::{Constraint, Held, Interrupted, LeaseLost, Leased, Missing};
    matches!(kind, Constraint | Missing | Held | Interrupted | Leased | LeaseLost)
}
