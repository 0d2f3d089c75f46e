//! Telling people and programs what came of runs: webhooks, Slack, Microsoft Teams, e-mail.
//!
//! A run never waits for this and never fails by it: news goes into a bounded queue, one for each that is told, and a task
//! of its own sends it. What cannot be sent is a warning in the log. *Deliberately absent:* the names of removed tags, of
//! which there may be thousands; the record has them.

mod dedup;
mod deliver;
mod event;
mod message;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::apply::Clock;
use crate::config::{NotifyEvent, NotifySettings};
use crate::http_client::RetryPolicy;

use dedup::DedupState;
pub use deliver::{NotifyError, NotifyErrorKind, signature};
pub use event::{RunEvent, RunEventCounts};
use message::Message;

/// How long a process that ends waits for what is still to be sent.
pub const FINISH_TIMEOUT: Duration = Duration::from_secs(20);

/// How long one message is tried: those who are told have other ways to find out, and the next run brings the next one.
pub const RETRY_POLICY: RetryPolicy = RetryPolicy {
    max_retries: 4,
    initial_delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(20),
    max_total_delay: Duration::from_mins(1),
};

/// More news than this waits for nobody: whoever cannot be reached for so many runs is told of the later ones.
const QUEUE_CAPACITY: usize = 32;

/// Tells all that the settings name, each in a task of its own.
pub struct Notifier {
    receivers: Vec<ReceiverTask>,
}

/// One of them.
struct ReceiverTask {
    name: String,
    queue: mpsc::Sender<Arc<RunEvent>>,
    task: JoinHandle<()>,
}

impl Notifier {
    /// Starts a task for each of `settings`; for none, nothing at all. What was told already is remembered beside the
    /// state at that path, so that a restart does not tell it again. Must be called inside a runtime.
    #[must_use]
    pub fn start(settings: &[NotifySettings], state: &Path, clock: &Clock) -> Self {
        Self::start_with_retry(settings, state, clock, RETRY_POLICY)
    }

    /// The same, with another patience for whoever does not answer.
    #[must_use]
    pub fn start_with_retry(settings: &[NotifySettings], state: &Path, clock: &Clock, patience: RetryPolicy) -> Self {
        let dedup = Arc::new(Mutex::new(DedupState::load(state)));
        let start = |settings: &NotifySettings| {
            let (queue, waiting) = mpsc::channel(QUEUE_CAPACITY);
            let worker = DeliveryWorker {
                settings: settings.clone(),
                dedup: Arc::clone(&dedup),
                clock: Arc::clone(clock),
                retry_policy: patience,
            };
            ReceiverTask { name: settings.name.clone(), queue, task: tokio::spawn(worker.run(waiting)) }
        };
        Self { receivers: settings.iter().map(start).collect() }
    }

    /// Takes the news of a run that ended. Returns at once.
    pub fn enqueue(&self, event: RunEvent) {
        let event = Arc::new(event);
        for told in &self.receivers {
            if told.queue.try_send(Arc::clone(&event)).is_err() {
                tracing::warn!(notify = told.name, "too much waits to be sent there; this run is not told");
            }
        }
    }

    /// Sends what is still waiting, for at most `grace`; what is not sent by then is given up, with a warning.
    pub async fn finish(self, grace: Duration) {
        let (names, tasks): (Vec<_>, Vec<_>) = self.receivers.into_iter().map(|told| (told.name, told.task)).unzip();
        let stop: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        if tokio::time::timeout(grace, join_all(tasks)).await.is_err() {
            for (name, task) in names.iter().zip(&stop).filter(|(_, task)| !task.is_finished()) {
                tracing::warn!(notify = name, "not everything could be sent before the end; it is given up");
                task.abort();
            }
        }
    }
}

/// Sends a test message, as if of a run that found everything well. Nothing is remembered of it.
///
/// # Errors
/// When it did not arrive.
pub async fn send_test(settings: &NotifySettings, by: &str, now: Timestamp) -> Result<(), NotifyError> {
    let message = Message::test(settings, by, now);
    deliver::deliver(settings, &message, now, RETRY_POLICY).await
}

/// What tells one.
struct DeliveryWorker {
    settings: NotifySettings,
    dedup: Arc<Mutex<DedupState>>,
    clock: Clock,
    retry_policy: RetryPolicy,
}

impl DeliveryWorker {
    async fn run(self, mut waiting: mpsc::Receiver<Arc<RunEvent>>) {
        while let Some(event) = waiting.recv().await {
            self.process(&event).await;
        }
    }

    async fn process(&self, event: &RunEvent) {
        let now = (self.clock)();
        let name = &self.settings.name;
        let due = self.dedup_state().occasions_to_send(&self.settings, event, now);
        if !due.is_empty() {
            let message = Message::new(&self.settings, event, &due, now);
            if let Err(error) = deliver::deliver(&self.settings, &message, now, self.retry_policy).await {
                // What was not told is as new as before.
                tracing::warn!(notify = name, kind = error.kind.label(), "{error}");
                return;
            }
            let labels: Vec<&str> = due.iter().map(|occasion| occasion.label()).collect();
            tracing::debug!(notify = name, occasions = labels.join(","), "told");
        }
        if let Err(error) = self.dedup_state().record_sent(name, event, &due, now) {
            tracing::warn!(notify = name, %error, "what was told cannot be remembered; it may be told again");
        }
    }

    fn dedup_state(&self) -> std::sync::MutexGuard<'_, DedupState> {
        self.dedup.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The problems among the occasions: these are told once, not after each run.
const PROBLEM_OCCASIONS: [NotifyEvent; 3] = [NotifyEvent::Failed, NotifyEvent::Refused, NotifyEvent::EvidenceMissing];
