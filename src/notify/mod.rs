//! Telling people and programs what came of runs: webhooks, Slack, Microsoft Teams, e-mail.
//!
//! A run never waits for this and never fails by it: news goes into a bounded queue, one for each that is told, and a task
//! of its own sends it. What cannot be sent is a warning in the log. *Deliberately absent:* the names of removed tags, of
//! which there may be thousands; the record has them.

mod deliver;
mod memory;
mod message;
mod news;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::apply::Clock;
use crate::config::{NotifySettings, Occasion};
use crate::transport::Patience;

pub use deliver::{NotifyError, NotifyErrorKind, signature};
use memory::Memory;
use message::Message;
pub use news::{Counts, RunNews};

/// How long a process that ends waits for what is still to be sent.
pub const GRACE: Duration = Duration::from_secs(20);

/// How long one message is tried: those who are told have other ways to find out, and the next run brings the next one.
pub const PATIENCE: Patience = Patience {
    retries: 4,
    first: Duration::from_secs(1),
    longest: Duration::from_secs(20),
    total: Duration::from_mins(1),
};

/// More news than this waits for nobody: whoever cannot be reached for so many runs is told of the later ones.
const QUEUE: usize = 32;

/// Tells all that the settings name, each in a task of its own.
pub struct Notifier {
    told: Vec<Told>,
}

/// One of them.
struct Told {
    name: String,
    queue: mpsc::Sender<Arc<RunNews>>,
    task: JoinHandle<()>,
}

impl Notifier {
    /// Starts a task for each of `settings`; for none, nothing at all. What was told already is remembered beside the
    /// state at that path, so that a restart does not tell it again. Must be called inside a runtime.
    #[must_use]
    pub fn start(settings: &[NotifySettings], state: &Path, clock: &Clock) -> Self {
        Self::start_with(settings, state, clock, PATIENCE)
    }

    /// The same, with another patience for whoever does not answer.
    #[must_use]
    pub fn start_with(settings: &[NotifySettings], state: &Path, clock: &Clock, patience: Patience) -> Self {
        let memory = Arc::new(Mutex::new(Memory::beside(state)));
        let start = |settings: &NotifySettings| {
            let (queue, waiting) = mpsc::channel(QUEUE);
            let teller =
                Teller { settings: settings.clone(), memory: Arc::clone(&memory), clock: Arc::clone(clock), patience };
            Told { name: settings.name.clone(), queue, task: tokio::spawn(teller.work(waiting)) }
        };
        Self { told: settings.iter().map(start).collect() }
    }

    /// Takes the news of a run that ended. Returns at once.
    pub fn run_ended(&self, news: RunNews) {
        let news = Arc::new(news);
        for told in &self.told {
            if told.queue.try_send(Arc::clone(&news)).is_err() {
                tracing::warn!(notify = told.name, "too much waits to be sent there; this run is not told");
            }
        }
    }

    /// Sends what is still waiting, for at most `grace`; what is not sent by then is given up, with a warning.
    pub async fn finish(self, grace: Duration) {
        let (names, tasks): (Vec<_>, Vec<_>) = self.told.into_iter().map(|told| (told.name, told.task)).unzip();
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
pub async fn test(settings: &NotifySettings, by: &str, now: Timestamp) -> Result<(), NotifyError> {
    let message = Message::test(settings, by, now);
    deliver::deliver(settings, &message, now, PATIENCE).await
}

/// What tells one.
struct Teller {
    settings: NotifySettings,
    memory: Arc<Mutex<Memory>>,
    clock: Clock,
    patience: Patience,
}

impl Teller {
    async fn work(self, mut waiting: mpsc::Receiver<Arc<RunNews>>) {
        while let Some(news) = waiting.recv().await {
            self.tell(&news).await;
        }
    }

    async fn tell(&self, news: &RunNews) {
        let now = (self.clock)();
        let name = &self.settings.name;
        let due = self.memory().due(&self.settings, news, now);
        if !due.is_empty() {
            let message = Message::of(&self.settings, news, &due, now);
            if let Err(error) = deliver::deliver(&self.settings, &message, now, self.patience).await {
                // What was not told is as new as before.
                tracing::warn!(notify = name, kind = error.kind.label(), "{error}");
                return;
            }
            let labels: Vec<&str> = due.iter().map(|occasion| occasion.label()).collect();
            tracing::debug!(notify = name, occasions = labels.join(","), "told");
        }
        if let Err(error) = self.memory().told(name, news, &due, now) {
            tracing::warn!(notify = name, %error, "what was told cannot be remembered; it may be told again");
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The problems among the occasions: these are told once, not after each run.
const PROBLEMS: [Occasion; 3] = [Occasion::Failed, Occasion::Refused, Occasion::EvidenceMissing];
