//! Signs of life: off a terminal, nobody should have to guess whether a long run still works.
//!
//! A task of its own tells every few seconds where a walk is, so that it tells it also while a decision keeps a thread
//! busy. What it tells goes to the log under a target of its own; the ways in switch it off where a bar shows the same.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use uuid::Uuid;

use super::App;
use crate::domain::{RegistryName, RepositoryName};
use crate::registry::Progress;
use crate::report::{counted, format_count};
use crate::state::{JournalCount, StateStore};

/// The target of the lines in the log.
pub const LOG_TARGET: &str = "tagwarden::progress";

/// How long a walk says nothing at most.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

/// Where a walk is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// It opens the state and settles what was left open.
    #[default]
    Preparing,
    /// It reads the registries.
    Reading,
    /// It asks the sources.
    Gathering,
    /// It decides, and writes the plan down.
    Deciding,
    /// It removes tags.
    Removing,
    /// It puts tags back.
    Restoring,
}

/// What was read of one registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ReadProgress {
    /// Repositories to read; `None` while they are being listed.
    total_repositories: Option<u64>,
    read_repositories: u64,
    tags: u64,
}

#[derive(Debug, Default)]
struct RunProgress {
    phase: Phase,
    registries: BTreeMap<String, ReadProgress>,
    sources: u64,
    /// How many removals or restores are to be done.
    tasks: u64,
}

/// The progress of an [`App`].
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    state: Mutex<RunProgress>,
    is_active: AtomicBool,
}

/// The task that tells, until this is dropped.
pub(super) struct HeartbeatGuard(Option<(JoinHandle<()>, Arc<Heartbeat>)>);

impl Drop for HeartbeatGuard {
    fn drop(&mut self) {
        if let Some((task, pulse)) = self.0.take() {
            task.abort();
            pulse.is_active.store(false, Ordering::Relaxed);
        }
    }
}

impl Heartbeat {
    fn state(&self) -> std::sync::MutexGuard<'_, RunProgress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter_phase(&self, phase: Phase) {
        self.state().phase = phase;
    }

    /// It reads these registries from now on.
    pub(super) fn start_reading(&self, registries: impl Iterator<Item = String>) {
        let mut state = self.state();
        state.phase = Phase::Reading;
        state.registries = registries.map(|name| (name, ReadProgress::default())).collect();
    }

    pub(super) fn start_gathering(&self, sources: usize) {
        let mut state = self.state();
        (state.phase, state.sources) = (Phase::Gathering, sources as u64);
    }

    /// It does so many removals or restores from now on.
    pub(super) fn start_tasks(&self, phase: Phase, orders: usize) {
        let mut state = self.state();
        (state.phase, state.tasks) = (phase, orders as u64);
    }

    /// Where it is, in words. `done` is what the journal of the run holds so far.
    fn describe(&self, done: &[JournalCount]) -> String {
        let state = self.state();
        match state.phase {
            Phase::Preparing => "preparing: settling what an interrupted run left open".to_owned(),
            Phase::Reading => {
                let parts: Vec<String> =
                    state.registries.iter().map(|(name, read)| describe_reading(name, *read)).collect();
                format!("reading {}", parts.join("; "))
            }
            Phase::Gathering => format!("asking {}; {}", counted(state.sources, "source"), describe_tags(&state)),
            Phase::Deciding => format!("deciding about {}", describe_tags(&state)),
            Phase::Removing | Phase::Restoring => {
                let number = |outcome: &str| -> u64 {
                    let such = done.iter().filter(|found| found.outcome.as_deref() == Some(outcome));
                    such.map(|found| u64::try_from(found.count).unwrap_or_default()).sum()
                };
                let what = if state.phase == Phase::Removing { "removing" } else { "restoring" };
                let [done, skipped, failed] =
                    ["done", "skipped", "failed"].map(|outcome| format_count(number(outcome)));
                format!("{what}: {done} of {} done, {skipped} skipped, {failed} failed", format_count(state.tasks))
            }
        }
    }
}

fn describe_tags(state: &RunProgress) -> String {
    counted(state.registries.values().map(|read| read.tags).sum(), "tag")
}

fn describe_reading(name: &str, read: ReadProgress) -> String {
    let ReadProgress { total_repositories: found, read_repositories: repositories, tags } = read;
    match found {
        None => format!("{name}: listing repositories"),
        Some(found) => {
            format!(
                "{name}: {} of {} repositories, {}",
                format_count(repositories),
                format_count(found),
                counted(tags, "tag")
            )
        }
    }
}

impl App {
    /// Tells where the walk is until what is returned is dropped. One that is told of already is not told of twice.
    pub(super) fn start_heartbeat(&self, run: Option<Uuid>) -> HeartbeatGuard {
        if self.heartbeat.is_active.swap(true, Ordering::Relaxed) {
            return HeartbeatGuard(None);
        }
        self.heartbeat.enter_phase(Phase::Preparing);
        let of = run.map(|run| (self.store.clone(), run));
        let task = tokio::spawn(log_periodically(INTERVAL, Arc::clone(&self.heartbeat), of, |words| {
            tracing::info!(target: LOG_TARGET, "{words}");
        }));
        HeartbeatGuard(Some((task, Arc::clone(&self.heartbeat))))
    }
}

/// Says again and again where the walk is, for ever. `of` is the run whose journal counts what was done.
async fn log_periodically(
    pause: Duration,
    pulse: Arc<Heartbeat>,
    of: Option<(StateStore, Uuid)>,
    say: impl Fn(String) + Send,
) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + pause, pause);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let works = matches!(pulse.state().phase, Phase::Removing | Phase::Restoring);
        let done = match of.as_ref().filter(|_| works) {
            Some((store, run)) => store.journal_counts(*run).await.unwrap_or_default(),
            None => Vec::new(),
        };
        say(pulse.describe(&done));
    }
}

/// Tells how far the reading has come to two.
pub(super) struct ProgressTee<'a> {
    pub(super) heartbeat: &'a Heartbeat,
    pub(super) progress: &'a dyn Progress,
}

impl Progress for ProgressTee<'_> {
    fn on_repositories_listed(&self, registry: &RegistryName, repositories: usize) {
        let mut state = self.heartbeat.state();
        state.registries.entry(registry.to_string()).or_default().total_repositories = Some(repositories as u64);
        drop(state);
        self.progress.on_repositories_listed(registry, repositories);
    }

    fn on_repository_read(&self, registry: &RegistryName, repository: &RepositoryName, tags: usize) {
        let mut state = self.heartbeat.state();
        let read = state.registries.entry(registry.to_string()).or_default();
        read.read_repositories += 1;
        read.tags += tags as u64;
        drop(state);
        self.progress.on_repository_read(registry, repository, tags);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_silence_is_longer_than_ten_seconds() {
        let pulse = Arc::new(Heartbeat::default());
        let said = Arc::new(Mutex::new(Vec::new()));
        let start = tokio::time::Instant::now();
        let noted = Arc::clone(&said);
        let say = move |words| noted.lock().unwrap().push((start.elapsed().as_secs(), words));
        let task = tokio::spawn(log_periodically(INTERVAL, Arc::clone(&pulse), None, say));
        let (contoso, repository): (RegistryName, RepositoryName) =
            ("contoso".parse().unwrap(), "shop/api".parse().unwrap());
        let progress = ProgressTee { heartbeat: &pulse, progress: &() };
        pulse.start_reading(["contoso".to_owned(), "other".to_owned()].into_iter());
        tokio::time::sleep(Duration::from_secs(15)).await;
        progress.on_repositories_listed(&contoso, 400);
        progress.on_repository_read(&contoso, &repository, 12_430);
        tokio::time::sleep(Duration::from_secs(10)).await;
        pulse.start_gathering(2);
        tokio::time::sleep(Duration::from_secs(10)).await;
        pulse.enter_phase(Phase::Deciding);
        tokio::time::sleep(Duration::from_secs(10)).await;
        pulse.start_tasks(Phase::Removing, 1_204);
        tokio::time::sleep(Duration::from_secs(10)).await;
        task.abort();
        let said = said.lock().unwrap().clone();
        let expected = [
            (10, "reading contoso: listing repositories; other: listing repositories"),
            (20, "reading contoso: 1 of 400 repositories, 12,430 tags; other: listing repositories"),
            (30, "asking 2 sources; 12,430 tags"),
            (40, "deciding about 12,430 tags"),
            (50, "removing: 0 of 1,204 done, 0 skipped, 0 failed"),
        ];
        assert_eq!(said, expected.map(|(at, words)| (at, words.to_owned())));
    }

    #[test]
    fn what_was_done_is_told_by_the_journal() {
        let pulse = Heartbeat::default();
        pulse.start_tasks(Phase::Restoring, 40);
        let counted = |outcome: Option<&str>, count| JournalCount {
            action: "restore".into(),
            outcome: outcome.map(str::to_owned),
            skip: None,
            count,
        };
        let done = [counted(Some("done"), 12), counted(Some("done"), 1), counted(Some("failed"), 2), counted(None, 1)];
        assert_eq!(pulse.describe(&done), "restoring: 13 of 40 done, 0 skipped, 2 failed");
    }
}
