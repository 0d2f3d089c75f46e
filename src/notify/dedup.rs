//! Deduplication of notifications, so that an hourly problem is reported once a day.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::{PROBLEM_OCCASIONS, RunEvent};
use crate::config::{NotifyEvent, NotifySettings};
use crate::state::{StateError, StateLocation, StateStore};

/// Problems that were reported to a receiver and are not over, each with the time of the last message about it.
pub(super) type SentTimes = BTreeMap<String, Timestamp>;

/// The state in which sent messages are recorded.
#[derive(Debug)]
pub(super) enum SentRecord {
    /// A state that the caller opens and closes.
    Shared(StateStore),
    /// One that is opened once there is something to send: a run that never came to open it may be what is told.
    Own { location: StateLocation, store: OnceCell<StateStore> },
}

impl SentRecord {
    /// The record in the state at that place, which is not opened yet.
    pub(super) fn at(location: StateLocation) -> Self {
        Self::Own { location, store: OnceCell::new() }
    }

    /// Returns the problems that were reported to a receiver before.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    pub(super) async fn read(&self, receiver: &str) -> Result<SentTimes, StateError> {
        self.store().await?.sent_notifications(receiver).await
    }

    /// Records the problems that were reported to a receiver.
    ///
    /// # Errors
    /// Returns an error if they cannot be written.
    pub(super) async fn write(&self, receiver: &str, sent: &SentTimes) -> Result<(), StateError> {
        self.store().await?.record_sent_notifications(receiver, sent).await
    }

    /// Closes the state if it was opened for this.
    pub(super) async fn close(&self) {
        if let Self::Own { store, .. } = self
            && let Some(store) = store.get()
        {
            store.clone().close().await;
        }
    }

    async fn store(&self) -> Result<&StateStore, StateError> {
        match self {
            Self::Shared(store) => Ok(store),
            Self::Own { location, store } => store.get_or_try_init(|| StateStore::open(location)).await,
        }
    }
}

/// Returns the occasions that are to be sent to a receiver now.
pub(super) fn occasions_to_send(
    sent: &SentTimes,
    settings: &NotifySettings,
    event: &RunEvent,
    now: Timestamp,
) -> BTreeSet<NotifyEvent> {
    let always = settings.events.contains(&NotifyEvent::Always);
    let fresh = |key: &str| {
        sent.get(key).is_none_or(|at| {
            // A clock that was set back must not suppress anything.
            let age = now.duration_since(*at);
            age.is_negative() || age.unsigned_abs() >= settings.repeat_after
        })
    };
    let mut due: BTreeSet<NotifyEvent> = event
        .occasions
        .iter()
        .filter(|(occasion, _)| always || settings.events.contains(occasion))
        .filter(|(occasion, apart)| {
            always || !PROBLEM_OCCASIONS.contains(occasion) || fresh(&problem_key(event, **occasion, apart))
        })
        .map(|(occasion, _)| *occasion)
        .collect();
    let over = sent.keys().any(|key| key.starts_with(event.kind.label()));
    let well = event.is_complete && !event.occasions.keys().any(|occasion| PROBLEM_OCCASIONS.contains(occasion));
    if over && well && (always || settings.events.contains(&NotifyEvent::Recovered)) {
        due.insert(NotifyEvent::Recovered);
    }
    if always {
        due.insert(NotifyEvent::Always);
    }
    due
}

/// Returns the record of a receiver after a message about `due`: without problems that a complete run shows to be over.
pub(super) fn times_after_sending(
    before: &SentTimes,
    event: &RunEvent,
    due: &BTreeSet<NotifyEvent>,
    now: Timestamp,
) -> SentTimes {
    let mut sent = before.clone();
    let there: BTreeMap<String, NotifyEvent> =
        event.occasions.iter().map(|(occasion, apart)| (problem_key(event, *occasion, apart), *occasion)).collect();
    if event.is_complete {
        sent.retain(|key, _| !key.starts_with(event.kind.label()) || there.contains_key(key));
    }
    for (key, occasion) in there {
        if PROBLEM_OCCASIONS.contains(&occasion) && due.contains(&occasion) {
            sent.insert(key, now);
        }
    }
    sent
}

fn problem_key(event: &RunEvent, occasion: NotifyEvent, apart: &str) -> String {
    format!("{} {} {apart}", event.kind.label(), occasion.label())
}
