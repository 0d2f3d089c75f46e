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

use super::House;
use crate::domain::{RegistryName, RepositoryName};
use crate::registry::Progress;
use crate::report::{count, counted};
use crate::store::{JournalCount, Store};

/// The target of the lines in the log.
pub const TARGET: &str = "tagwarden::progress";

/// How long a walk says nothing at most.
pub(super) const EVERY: Duration = Duration::from_secs(10);

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
struct Read {
    /// Repositories to read; `None` while they are being listed.
    found: Option<u64>,
    repositories: u64,
    tags: u64,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    registries: BTreeMap<String, Read>,
    sources: u64,
    /// How many removals or restores are to be done.
    orders: u64,
}

/// Where the walk of a house is.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    state: Mutex<State>,
    beating: AtomicBool,
}

/// The task that tells, until this is dropped.
pub(super) struct Beat(Option<(JoinHandle<()>, Arc<Pulse>)>);

impl Drop for Beat {
    fn drop(&mut self) {
        if let Some((task, pulse)) = self.0.take() {
            task.abort();
            pulse.beating.store(false, Ordering::Relaxed);
        }
    }
}

impl Pulse {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.state().phase = phase;
    }

    /// It reads these registries from now on.
    pub(super) fn read(&self, registries: impl Iterator<Item = String>) {
        let mut state = self.state();
        state.phase = Phase::Reading;
        state.registries = registries.map(|name| (name, Read::default())).collect();
    }

    pub(super) fn gather(&self, sources: usize) {
        let mut state = self.state();
        (state.phase, state.sources) = (Phase::Gathering, sources as u64);
    }

    /// It does so many removals or restores from now on.
    pub(super) fn work(&self, phase: Phase, orders: usize) {
        let mut state = self.state();
        (state.phase, state.orders) = (phase, orders as u64);
    }

    /// Where it is, in words. `done` is what the journal of the run holds so far.
    fn words(&self, done: &[JournalCount]) -> String {
        let state = self.state();
        match state.phase {
            Phase::Preparing => "preparing: settling what an interrupted run left open".to_owned(),
            Phase::Reading => {
                let parts: Vec<String> = state.registries.iter().map(|(name, read)| reading(name, *read)).collect();
                format!("reading {}", parts.join("; "))
            }
            Phase::Gathering => format!("asking {}; {}", counted(state.sources, "source"), tags(&state)),
            Phase::Deciding => format!("deciding about {}", tags(&state)),
            Phase::Removing | Phase::Restoring => {
                let number = |outcome: &str| -> u64 {
                    let such = done.iter().filter(|found| found.outcome.as_deref() == Some(outcome));
                    such.map(|found| u64::try_from(found.count).unwrap_or_default()).sum()
                };
                let what = if state.phase == Phase::Removing { "removing" } else { "restoring" };
                let [done, skipped, failed] = ["done", "skipped", "failed"].map(|outcome| count(number(outcome)));
                format!("{what}: {done} of {} done, {skipped} skipped, {failed} failed", count(state.orders))
            }
        }
    }
}

fn tags(state: &State) -> String {
    counted(state.registries.values().map(|read| read.tags).sum(), "tag")
}

fn reading(name: &str, read: Read) -> String {
    let Read { found, repositories, tags } = read;
    match found {
        None => format!("{name}: listing repositories"),
        Some(found) => {
            format!("{name}: {} of {} repositories, {}", count(repositories), count(found), counted(tags, "tag"))
        }
    }
}

impl House {
    /// Tells where the walk is until what is returned is dropped. One that is told of already is not told of twice.
    pub(super) fn beat(&self, run: Option<Uuid>) -> Beat {
        if self.pulse.beating.swap(true, Ordering::Relaxed) {
            return Beat(None);
        }
        self.pulse.enter(Phase::Preparing);
        let of = run.map(|run| (self.store.clone(), run));
        let task = tokio::spawn(every(EVERY, Arc::clone(&self.pulse), of, |words| {
            tracing::info!(target: TARGET, "{words}");
        }));
        Beat(Some((task, Arc::clone(&self.pulse))))
    }
}

/// Says again and again where the walk is, for ever. `of` is the run whose journal counts what was done.
async fn every(pause: Duration, pulse: Arc<Pulse>, of: Option<(Store, Uuid)>, say: impl Fn(String) + Send) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + pause, pause);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let works = matches!(pulse.state().phase, Phase::Removing | Phase::Restoring);
        let done = match of.as_ref().filter(|_| works) {
            Some((store, run)) => store.journal_counts(*run).await.unwrap_or_default(),
            None => Vec::new(),
        };
        say(pulse.words(&done));
    }
}

/// Tells how far the reading has come to two.
pub(super) struct Both<'a> {
    pub(super) pulse: &'a Pulse,
    pub(super) other: &'a dyn Progress,
}

impl Progress for Both<'_> {
    fn found(&self, registry: &RegistryName, repositories: usize) {
        let mut state = self.pulse.state();
        state.registries.entry(registry.to_string()).or_default().found = Some(repositories as u64);
        drop(state);
        self.other.found(registry, repositories);
    }

    fn read(&self, registry: &RegistryName, repository: &RepositoryName, tags: usize) {
        let mut state = self.pulse.state();
        let read = state.registries.entry(registry.to_string()).or_default();
        read.repositories += 1;
        read.tags += tags as u64;
        drop(state);
        self.other.read(registry, repository, tags);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_silence_is_longer_than_ten_seconds() {
        let pulse = Arc::new(Pulse::default());
        let said = Arc::new(Mutex::new(Vec::new()));
        let start = tokio::time::Instant::now();
        let noted = Arc::clone(&said);
        let say = move |words| noted.lock().unwrap().push((start.elapsed().as_secs(), words));
        let task = tokio::spawn(every(EVERY, Arc::clone(&pulse), None, say));
        let (contoso, repository): (RegistryName, RepositoryName) =
            ("contoso".parse().unwrap(), "shop/api".parse().unwrap());
        let progress = Both { pulse: &pulse, other: &() };
        pulse.read(["contoso".to_owned(), "other".to_owned()].into_iter());
        tokio::time::sleep(Duration::from_secs(15)).await;
        progress.found(&contoso, 400);
        progress.read(&contoso, &repository, 12_430);
        tokio::time::sleep(Duration::from_secs(10)).await;
        pulse.gather(2);
        tokio::time::sleep(Duration::from_secs(10)).await;
        pulse.enter(Phase::Deciding);
        tokio::time::sleep(Duration::from_secs(10)).await;
        pulse.work(Phase::Removing, 1_204);
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
        let pulse = Pulse::default();
        pulse.work(Phase::Restoring, 40);
        let counted = |outcome: Option<&str>, count| JournalCount {
            action: "restore".into(),
            outcome: outcome.map(str::to_owned),
            skip: None,
            count,
        };
        let done = [counted(Some("done"), 12), counted(Some("done"), 1), counted(Some("failed"), 2), counted(None, 1)];
        assert_eq!(pulse.words(&done), "restoring: 13 of 40 done, 0 skipped, 2 failed");
    }
}
