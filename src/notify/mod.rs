//! Notifications of people and programs about runs: webhooks, Slack, Microsoft Teams, e-mail.
//!
//! A run never waits for this and never fails because of it: events are put into a bounded queue, one for each
//! receiver, and a separate task sends them. A failed message is a warning in the log. *Deliberately absent:* the names
//! of removed tags, of which there may be thousands; the record has them.

mod dedup;
mod deliver;
mod event;
mod message;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::apply::Clock;
use crate::config::{NotifyEvent, NotifySettings};
use crate::domain::chain;
use crate::http_client::RetryPolicy;
use crate::state::{StateLocation, StateStore};

use dedup::{SentRecord, SentTimes};
pub use deliver::{NotifyError, NotifyErrorKind, signature};
pub use event::{RunEvent, RunEventCounts};
use message::Message;

/// The time that an exiting process waits for unsent messages.
pub const FINISH_TIMEOUT: Duration = Duration::from_secs(20);

/// The retry policy for one message: receivers have other sources, and the next run sends the next message.
pub const RETRY_POLICY: RetryPolicy = RetryPolicy {
    max_retries: 4,
    initial_delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(20),
    max_total_delay: Duration::from_mins(1),
};

/// The length of a queue. If a receiver is unreachable for that many runs, further events are dropped.
const QUEUE_CAPACITY: usize = 32;

/// Sends notifications to all receivers in the settings, each in a separate task.
pub struct Notifier {
    receivers: Vec<ReceiverTask>,
    record: Arc<SentRecord>,
}

/// The task of one receiver.
struct ReceiverTask {
    name: String,
    queue: mpsc::Sender<Arc<RunEvent>>,
    task: JoinHandle<()>,
}

impl Notifier {
    /// Starts a task for each of `settings`; for none, nothing at all. What was told is recorded in the state at that place,
    /// so that a restart does not tell it again; it is opened once there is something to tell. Must be called inside a
    /// runtime.
    #[must_use]
    pub fn start(settings: &[NotifySettings], state: impl Into<StateLocation>, clock: &Clock) -> Self {
        Self::start_with_retry(settings, state, clock, RETRY_POLICY)
    }

    /// Does what [`Notifier::start`] does, with another retry policy.
    #[must_use]
    pub fn start_with_retry(
        settings: &[NotifySettings],
        state: impl Into<StateLocation>,
        clock: &Clock,
        patience: RetryPolicy,
    ) -> Self {
        Self::spawn(settings, SentRecord::at(state.into()), clock, patience)
    }

    /// Does what [`Notifier::start`] does, with a state that is already open. The caller closes it afterwards.
    #[must_use]
    pub fn start_with_store(settings: &[NotifySettings], store: &StateStore, clock: &Clock) -> Self {
        Self::spawn(settings, SentRecord::Shared(store.clone()), clock, RETRY_POLICY)
    }

    fn spawn(settings: &[NotifySettings], record: SentRecord, clock: &Clock, patience: RetryPolicy) -> Self {
        let record = Arc::new(record);
        let start = |settings: &NotifySettings| {
            let (queue, waiting) = mpsc::channel(QUEUE_CAPACITY);
            let worker = DeliveryWorker {
                settings: settings.clone(),
                record: Arc::clone(&record),
                clock: Arc::clone(clock),
                retry_policy: patience,
                sent: SentTimes::new(),
                unrecorded: false,
            };
            ReceiverTask { name: settings.name.clone(), queue, task: tokio::spawn(worker.run(waiting)) }
        };
        let receivers = settings.iter().map(start).collect();
        Self { receivers, record }
    }

    /// Queues the event of a completed run. Returns immediately.
    pub fn enqueue(&self, event: RunEvent) {
        let event = Arc::new(event);
        for told in &self.receivers {
            if told.queue.try_send(Arc::clone(&event)).is_err() {
                tracing::warn!(notify = told.name, "too much waits to be sent there; this run is not told");
            }
        }
    }

    /// Sends queued messages for at most `grace`; the rest is dropped, with a warning.
    pub async fn finish(self, grace: Duration) {
        let (names, tasks): (Vec<_>, Vec<_>) = self.receivers.into_iter().map(|told| (told.name, told.task)).unzip();
        let stop: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        if tokio::time::timeout(grace, join_all(tasks)).await.is_err() {
            for (name, task) in names.iter().zip(&stop).filter(|(_, task)| !task.is_finished()) {
                tracing::warn!(notify = name, "not everything could be sent before the end; it is given up");
                task.abort();
            }
        }
        self.record.close().await;
    }
}

/// Sends a test message, as if about a run without problems. Nothing is recorded.
///
/// # Errors
/// Returns an error if it was not delivered.
pub async fn send_test(settings: &NotifySettings, by: &str, now: Timestamp) -> Result<(), NotifyError> {
    let message = Message::test(settings, by, now);
    deliver::deliver(settings, &message, now, RETRY_POLICY).await
}

/// Sender of notifications to one receiver.
struct DeliveryWorker {
    settings: NotifySettings,
    record: Arc<SentRecord>,
    clock: Clock,
    retry_policy: RetryPolicy,
    /// Problems that were reported, as far as known.
    sent: SentTimes,
    /// True if they could not be recorded, so that they are known only here.
    unrecorded: bool,
}

impl DeliveryWorker {
    async fn run(mut self, mut waiting: mpsc::Receiver<Arc<RunEvent>>) {
        while let Some(event) = waiting.recv().await {
            self.process(&event).await;
        }
    }

    async fn process(&mut self, event: &RunEvent) {
        let now = (self.clock)();
        let name = &self.settings.name;
        if !self.unrecorded {
            match self.record.read(name).await {
                Ok(sent) => self.sent = sent,
                Err(error) => {
                    tracing::warn!(notify = name, error = %chain(&error), "what was told before is not known; it may be told again");
                }
            }
        }
        let due = dedup::occasions_to_send(&self.sent, &self.settings, event, now);
        if !due.is_empty() {
            let message = Message::new(&self.settings, event, &due, now);
            if let Err(error) = deliver::deliver(&self.settings, &message, now, self.retry_policy).await {
                // Unsent problems count as new.
                tracing::warn!(notify = name, kind = error.kind.label(), "{}", error.chain());
                return;
            }
            let labels: Vec<&str> = due.iter().map(|occasion| occasion.label()).collect();
            tracing::debug!(notify = name, occasions = labels.join(","), "told");
        }
        let sent = dedup::times_after_sending(&self.sent, event, &due, now);
        if sent == self.sent && !self.unrecorded {
            return;
        }
        self.sent = sent;
        let recorded = self.record.write(name, &self.sent).await;
        self.unrecorded = recorded.is_err();
        if let Err(error) = recorded {
            tracing::warn!(notify = name, error = %chain(&error), "what was told cannot be recorded; it may be told again");
        }
    }
}

/// The occasions that are problems: these are reported once, not after each run.
const PROBLEM_OCCASIONS: [NotifyEvent; 3] = [NotifyEvent::Failed, NotifyEvent::Refused, NotifyEvent::EvidenceMissing];
