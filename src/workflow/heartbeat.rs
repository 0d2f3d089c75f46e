//! Heartbeat: a long run shows its progress on the terminal, in the log, in the API and on the status page.
//!
//! A separate task samples the counters and logs a line a minute, also while a decision keeps a thread busy. The lines
//! have their own target; commands that show a progress bar disable it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::progress_tracker::{ProgressTracker, TaskCounts};
use super::{App, MonotonicClock};
use crate::domain::{RegistryName, RepositoryName};
use crate::registry::Progress;
pub(super) use crate::report::RunPhase as Phase;
use crate::report::{Rate, RunProgress, RunSummary};
use crate::state::{JournalCount, RunKind, StateStore};

/// The target of the lines in the log.
pub const LOG_TARGET: &str = "tagwarden::progress";

/// Time between two samples of the counters.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
/// Samples for one line in the log: one line a minute.
const SAMPLES_PER_LINE: u32 = 6;

/// Runs in which the expected number of tags is searched.
const RECENT_RUNS: u32 = 20;

/// The progress of an [`App`].
#[derive(Default)]
pub(super) struct Heartbeat {
    tracker: Mutex<ProgressTracker>,
    /// Without a clock, no time passes: there are counts, but no rates and estimates.
    clock: Mutex<Option<MonotonicClock>>,
    published: watch::Sender<Option<RunProgress>>,
    is_active: AtomicBool,
}

/// The task that samples and logs until this is dropped.
pub(super) struct HeartbeatGuard(Option<(JoinHandle<()>, Arc<Heartbeat>)>);

impl Drop for HeartbeatGuard {
    fn drop(&mut self) {
        if let Some((task, heartbeat)) = self.0.take() {
            task.abort();
            heartbeat.update(|tracker, _| *tracker = ProgressTracker::default());
            heartbeat.is_active.store(false, Ordering::Relaxed);
        }
    }
}

impl Heartbeat {
    /// Changes the tracked progress, and publishes it.
    fn update(&self, change: impl FnOnce(&mut ProgressTracker, Duration)) {
        let clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut tracker = self.tracker.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that time never goes back and the last published state is the current one.
        let now = clock.map_or(Duration::ZERO, |clock| clock());
        change(&mut tracker, now);
        self.published.send_replace(tracker.progress(now));
    }

    /// Starts a run. `requests` is the number of requests so far.
    fn start(&self, clock: Option<MonotonicClock>, started_at: Timestamp, requests: u64) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = clock;
        self.update(|tracker, now| *tracker = ProgressTracker::new(started_at, requests, now));
    }

    pub(super) fn enter_phase(&self, phase: Phase) {
        self.update(|tracker, _| tracker.enter_phase(phase));
    }

    /// Starts the reading of these registries.
    pub(super) fn start_reading(&self, registries: impl Iterator<Item = String>) {
        self.update(|tracker, _| tracker.start_reading(registries));
    }

    /// Restarts the reading of all registries.
    pub(super) fn restart_reading(&self) {
        self.update(ProgressTracker::restart_reading);
    }

    /// Records the number of repositories that a registry has.
    pub(super) fn repositories_listed(&self, registry: &RegistryName, repositories: usize) {
        self.update(|tracker, now| tracker.repositories_listed(registry.as_str(), repositories as u64, now));
    }

    /// Records that a repository with that many tags has been read.
    pub(super) fn repository_done(&self, registry: &RegistryName, tags: usize) {
        self.update(|tracker, _| tracker.repository_done(registry.as_str(), tags as u64));
    }

    /// Starts the querying of that many sources.
    pub(super) fn start_gathering(&self, sources: usize) {
        self.update(|tracker, _| tracker.start_gathering(sources as u64));
    }

    /// Starts that many removals or restores. Their outcomes come from the journal.
    pub(super) fn start_tasks(&self, phase: Phase, tasks: u64) {
        self.update(|tracker, now| tracker.start_tasks(phase, tasks, now));
    }

    /// Counts what has been done since the last sample.
    fn sample(&self, requests: u64, tasks: Option<TaskCounts>) {
        self.update(|tracker, now| {
            tracker.count_requests(requests, now);
            if let Some(counts) = tasks {
                tracker.count_tasks(counts, now);
            }
        });
    }

    fn has_tasks(&self) -> bool {
        self.published.borrow().as_ref().is_some_and(|progress| progress.tasks.is_some())
    }
}

impl App {
    /// Returns the progress of the current run, and each change of it; `None` while there is no run.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Option<RunProgress>> {
        self.heartbeat.published.subscribe()
    }

    /// Tracks and logs progress until the guard is dropped. Does nothing if a run is tracked already.
    pub(super) fn start_heartbeat(&self, run: Option<Uuid>) -> HeartbeatGuard {
        if self.heartbeat.is_active.swap(true, Ordering::Relaxed) {
            return HeartbeatGuard(None);
        }
        // A connection counts the requests of its reader and of its writer.
        let readers: Vec<_> = self.readers.values().cloned().collect();
        let requests = move || -> u64 { readers.iter().map(|reader| reader.request_counts().total).sum() };
        self.heartbeat.start(self.monotonic_clock.clone(), self.now(), requests());
        let (heartbeat, store) = (Arc::clone(&self.heartbeat), self.store.clone());
        let task = tokio::spawn(async move {
            if let Some(run) = run {
                let expected = expected_tags(&store, run).await;
                heartbeat.update(|tracker, _| tracker.expect_tags(expected));
            }
            let journal = run.map(|run| (store, run));
            sample_periodically(&heartbeat, requests, journal, log_progress).await;
        });
        HeartbeatGuard(Some((task, Arc::clone(&self.heartbeat))))
    }
}

/// Returns the tags by registry that the last full plan found; empty if `run` reads only some repositories.
async fn expected_tags(store: &StateStore, run: Uuid) -> BTreeMap<String, u64> {
    // Estimates must not cause a failure; an unreadable state fails the run elsewhere.
    let recent = store.runs(RECENT_RUNS).await.unwrap_or_default();
    let is_whole = |kind: RunKind| matches!(kind, RunKind::Plan | RunKind::Run);
    if !recent.iter().any(|record| record.run.id == run && is_whole(record.run.kind)) {
        return BTreeMap::new();
    }
    let whole = recent.iter().filter(|record| is_whole(record.run.kind));
    let found = whole.map(|record| RunSummary::from_record(record).by_registry).find(|found| !found.is_empty());
    found.unwrap_or_default().into_iter().map(|(name, counts)| (name, counts.summary.tags)).collect()
}

/// Samples the counters forever, and logs every sixth sample. `journal` is the run whose outcomes count.
async fn sample_periodically(
    heartbeat: &Heartbeat,
    requests: impl Fn() -> u64 + Send,
    journal: Option<(StateStore, Uuid)>,
    log: impl Fn(&RunProgress) + Send,
) {
    let start = tokio::time::Instant::now() + SAMPLE_INTERVAL;
    let mut ticks = tokio::time::interval_at(start, SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        for _ in 0..SAMPLES_PER_LINE {
            ticks.tick().await;
            let tasks = match journal.as_ref().filter(|_| heartbeat.has_tasks()) {
                Some((store, run)) => store.journal_counts(*run).await.ok().map(|counts| task_counts(&counts)),
                None => None,
            };
            heartbeat.sample(requests(), tasks);
        }
        let progress = heartbeat.published.borrow().clone();
        if let Some(progress) = progress {
            log(&progress);
        }
    }
}

fn task_counts(journal: &[JournalCount]) -> TaskCounts {
    let count = |outcome: &str| -> u64 {
        let found = journal.iter().filter(|entry| entry.outcome.as_deref() == Some(outcome));
        found.map(|entry| u64::try_from(entry.count).unwrap_or_default()).sum()
    };
    TaskCounts { done: count("done"), skipped: count("skipped"), failed: count("failed") }
}

fn log_progress(progress: &RunProgress) {
    let totals = progress.totals();
    let tasks = progress.tasks.as_ref();
    tracing::info!(
        target: LOG_TARGET,
        phase = progress.phase.label(),
        repositories_listed = totals.repositories_listed,
        repositories_done = totals.repositories_done,
        tags_read = totals.tags_read,
        requests = progress.requests,
        requests_per_second = progress.requests_per_second.map(Rate::per_second),
        tasks_total = tasks.map(|tasks| tasks.total),
        tasks_done = tasks.map(|tasks| tasks.done),
        tasks_per_second = tasks.and_then(|tasks| tasks.per_second).map(Rate::per_second),
        seconds_left = progress.seconds_left,
        "{}",
        progress.describe()
    );
}

/// Forwards the reading progress, and records it.
pub(super) struct ProgressTee<'a> {
    pub(super) heartbeat: &'a Heartbeat,
    pub(super) progress: &'a dyn Progress,
}

impl Progress for ProgressTee<'_> {
    fn on_repositories_listed(&self, registry: &RegistryName, repositories: usize) {
        self.heartbeat.repositories_listed(registry, repositories);
        self.progress.on_repositories_listed(registry, repositories);
    }

    fn on_repository_read(&self, registry: &RegistryName, repository: &RepositoryName, tags: usize) {
        self.heartbeat.repository_done(registry, tags);
        self.progress.on_repository_read(registry, repository, tags);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started_at() -> Timestamp {
        "2026-11-20T03:00:00Z".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_a_minute_says_where_a_run_is() {
        let heartbeat = Arc::new(Heartbeat::default());
        let start = tokio::time::Instant::now();
        heartbeat.start(Some(Arc::new(move || start.elapsed())), started_at(), 0);
        let logged = Arc::new(Mutex::new(Vec::new()));
        let (sampled, lines) = (Arc::clone(&heartbeat), Arc::clone(&logged));
        let task = tokio::spawn(async move {
            let log = move |progress: &RunProgress| {
                lines.lock().unwrap().push((start.elapsed().as_secs(), progress.describe()));
            };
            // A bit more than twenty requests a second.
            sample_periodically(&sampled, move || start.elapsed().as_secs() * 41 / 2, None, log).await;
        });
        let (contoso, repository): (RegistryName, RepositoryName) =
            ("contoso".parse().unwrap(), "shop/api".parse().unwrap());
        let progress = ProgressTee { heartbeat: &heartbeat, progress: &() };
        let minute = || tokio::time::sleep(Duration::from_mins(1));
        heartbeat.start_reading(["contoso".to_owned(), "other".to_owned()].into_iter());
        tokio::time::sleep(Duration::from_secs(65)).await;
        progress.on_repositories_listed(&contoso, 400);
        progress.on_repository_read(&contoso, &repository, 12_430);
        minute().await;
        heartbeat.start_gathering(2);
        minute().await;
        heartbeat.enter_phase(Phase::Deciding);
        minute().await;
        heartbeat.start_tasks(Phase::Removing, 1_204);
        minute().await;
        task.abort();
        let expected = [
            (60, "reading contoso: listing repositories; other: listing repositories; 20 requests per second"),
            (
                120,
                "reading contoso: 1 of 400 repositories, 12,430 tags; other: listing repositories; \
                 20 requests per second",
            ),
            (180, "querying 2 sources; 12,430 tags; 20 requests per second"),
            (240, "deciding about 12,430 tags"),
            (300, "removing: 0 of 1,204 done, 0 skipped, 0 failed; 20 requests per second"),
        ];
        assert_eq!(*logged.lock().unwrap(), expected.map(|(at, words)| (at, words.to_owned())));
    }

    #[test]
    fn outcomes_come_from_the_journal() {
        let counted = |outcome: Option<&str>, count| JournalCount {
            action: "restore".into(),
            outcome: outcome.map(str::to_owned),
            skip: None,
            count,
        };
        let done = [counted(Some("done"), 12), counted(Some("done"), 1), counted(Some("failed"), 2), counted(None, 1)];
        assert_eq!(task_counts(&done), TaskCounts { done: 13, skipped: 0, failed: 2 });
    }

    #[tokio::test]
    async fn progress_ends_with_the_run() {
        let heartbeat = Arc::new(Heartbeat::default());
        let progress = heartbeat.published.subscribe();
        assert!(progress.borrow().is_none());
        heartbeat.start(None, started_at(), 7);
        heartbeat.start_tasks(Phase::Restoring, 40);
        heartbeat.sample(19, Some(TaskCounts { done: 13, skipped: 0, failed: 2 }));
        let found = progress.borrow().clone().unwrap();
        assert_eq!((found.started_at, found.requests), (started_at(), 12));
        assert_eq!(found.describe(), "restoring: 13 of 40 done, 0 skipped, 2 failed");
        drop(HeartbeatGuard(None));
        assert!(progress.borrow().is_some(), "the guard of a part of the run ends nothing");
        drop(HeartbeatGuard(Some((tokio::spawn(async {}), Arc::clone(&heartbeat)))));
        assert!(progress.borrow().is_none());
    }
}
