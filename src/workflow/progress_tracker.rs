//! Counts, rates and estimates of a run. It reads no clock: each change carries its time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use crate::report::{Rate, RegistryProgress, RunPhase, RunProgress, TaskProgress, round_seconds_left};

/// The time over which rates are measured.
const RATE_WINDOW: Duration = Duration::from_mins(1);
/// Rates are not known before this time has passed.
const MIN_RATE_TIME: Duration = Duration::from_secs(5);
/// Time left is not estimated before this time has passed, because the first repositories say little about the rest.
const MIN_ESTIMATE_TIME: Duration = Duration::from_secs(15);
/// Time left is not estimated from fewer finished repositories or tasks.
const MIN_ESTIMATE_COUNT: u64 = 5;

/// Samples of a counter over the last minute.
#[derive(Debug, Default)]
struct RateWindow {
    samples: VecDeque<(Duration, u64)>,
}

impl RateWindow {
    fn record(&mut self, now: Duration, count: u64) {
        self.samples.push_back((now, count));
        // The oldest sample is at least as old as the window, so that the rate covers all of it.
        while self.samples.get(1).is_some_and(|(second, _)| now.saturating_sub(*second) >= RATE_WINDOW) {
            self.samples.pop_front();
        }
    }

    fn rate(&self) -> Option<Rate> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let span = last.0.saturating_sub(first.0);
        if span < MIN_RATE_TIME { None } else { Rate::new(last.1.saturating_sub(first.1), span) }
    }
}

/// The outcomes of removals, deletions or restores so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TaskCounts {
    pub(super) done: u64,
    pub(super) skipped: u64,
    pub(super) failed: u64,
}

impl TaskCounts {
    /// Returns the number of tasks that took requests. Tasks ruled out beforehand are journaled as skipped all at once.
    fn attempted(self) -> u64 {
        self.done.saturating_add(self.failed)
    }
}

/// The reading of one registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ReadProgress {
    /// Repositories to read, and the time at which they had been listed; `None` until then.
    listed: Option<(u64, Duration)>,
    done: u64,
    tags: u64,
    /// The tags that the last full plan found there.
    expected_tags: Option<u64>,
}

impl ReadProgress {
    fn is_finished(&self) -> bool {
        self.listed.is_some_and(|(listed, _)| self.done >= listed)
    }

    /// Estimates the seconds until all repositories are read; `None` if too little is known.
    fn seconds_left(&self, now: Duration) -> Option<u64> {
        let (listed, listed_at) = self.listed?;
        if self.is_finished() {
            return Some(0);
        }
        let elapsed = now.saturating_sub(listed_at);
        if elapsed < MIN_ESTIMATE_TIME || self.done < MIN_ESTIMATE_COUNT {
            return None;
        }
        // Reading time depends on tags rather than on repositories. A registry that exceeds the expectation is measured
        // by repositories.
        let (done, total) = match self.expected_tags {
            Some(expected) if self.tags > 0 && self.tags < expected => (self.tags, expected),
            _ => (self.done, listed),
        };
        let left = elapsed.as_millis().saturating_mul(u128::from(total.saturating_sub(done)));
        let seconds = left.checked_div(u128::from(done).saturating_mul(1_000))?;
        u64::try_from(seconds).ok()
    }
}

/// The progress of the current run.
#[derive(Debug, Default)]
pub(super) struct ProgressTracker {
    /// `None` without a current run.
    started_at: Option<Timestamp>,
    phase: RunPhase,
    registries: BTreeMap<String, ReadProgress>,
    expected_tags: BTreeMap<String, u64>,
    sources: u64,
    /// Requests before the run.
    earlier_requests: u64,
    requests: u64,
    request_window: RateWindow,
    /// The number of tasks, and the start of the first one.
    tasks: Option<(u64, Duration)>,
    task_counts: TaskCounts,
    task_window: RateWindow,
}

impl ProgressTracker {
    /// Creates a tracker for a run that begins now. `requests` is the number of requests so far.
    pub(super) fn new(started_at: Timestamp, requests: u64, now: Duration) -> Self {
        let mut tracker = Self { started_at: Some(started_at), earlier_requests: requests, ..Self::default() };
        tracker.count_requests(requests, now);
        tracker
    }

    pub(super) fn enter_phase(&mut self, phase: RunPhase) {
        self.phase = phase;
    }

    pub(super) fn start_reading(&mut self, registries: impl Iterator<Item = String>) {
        self.phase = RunPhase::Reading;
        self.registries = registries
            .map(|name| {
                let expected_tags = self.expected_tags.get(&name).copied();
                (name, ReadProgress { expected_tags, ..ReadProgress::default() })
            })
            .collect();
    }

    /// Sets the tags that the last full plan found, by registry.
    pub(super) fn expect_tags(&mut self, tags: BTreeMap<String, u64>) {
        for (name, read) in &mut self.registries {
            read.expected_tags = tags.get(name).copied();
        }
        self.expected_tags = tags;
    }

    pub(super) fn repositories_listed(&mut self, registry: &str, repositories: u64, now: Duration) {
        self.registry(registry).listed = Some((repositories, now));
    }

    /// Resets the reading progress, because everything is read again.
    pub(super) fn restart_reading(&mut self, now: Duration) {
        for read in self.registries.values_mut() {
            (read.done, read.tags) = (0, 0);
            read.listed = read.listed.map(|(listed, _)| (listed, now));
        }
    }

    pub(super) fn repository_done(&mut self, registry: &str, tags: u64) {
        let read = self.registry(registry);
        read.done += 1;
        read.tags += tags;
    }

    fn registry(&mut self, name: &str) -> &mut ReadProgress {
        self.registries.entry(name.to_owned()).or_default()
    }

    pub(super) fn start_gathering(&mut self, sources: u64) {
        (self.phase, self.sources) = (RunPhase::Gathering, sources);
    }

    pub(super) fn start_tasks(&mut self, phase: RunPhase, tasks: u64, now: Duration) {
        (self.phase, self.tasks) = (phase, Some((tasks, now)));
        self.task_window = RateWindow::default();
        self.task_window.record(now, self.task_counts.attempted());
    }

    /// Sets the outcomes of all tasks of the run so far.
    pub(super) fn count_tasks(&mut self, counts: TaskCounts, now: Duration) {
        self.task_counts = counts;
        self.task_window.record(now, counts.attempted());
    }

    /// Sets the number of requests so far, including those before the run.
    pub(super) fn count_requests(&mut self, requests: u64, now: Duration) {
        self.requests = requests.saturating_sub(self.earlier_requests);
        self.request_window.record(now, self.requests);
    }

    /// Returns the progress now; `None` without a current run.
    pub(super) fn progress(&self, now: Duration) -> Option<RunProgress> {
        let registries = self.registries.iter().map(|(name, read)| RegistryProgress {
            name: name.clone(),
            repositories_listed: read.listed.map(|(listed, _)| listed),
            repositories_done: read.done,
            tags_read: read.tags,
        });
        let TaskCounts { done, skipped, failed } = self.task_counts;
        let tasks = self.tasks.map(|(total, _)| TaskProgress {
            total,
            done,
            skipped,
            failed,
            per_second: self.task_window.rate(),
        });
        Some(RunProgress {
            phase: self.phase,
            started_at: self.started_at?,
            registries: registries.collect(),
            sources: self.sources,
            requests: self.requests,
            requests_per_second: self.request_window.rate(),
            tasks,
            seconds_left: self.seconds_left(now).map(round_seconds_left),
        })
    }

    fn seconds_left(&self, now: Duration) -> Option<u64> {
        match self.phase {
            RunPhase::Reading => {
                // All registries are read at once, so the slowest one counts.
                let left: Option<Vec<u64>> = self.registries.values().map(|read| read.seconds_left(now)).collect();
                left?.into_iter().max()
            }
            RunPhase::Removing | RunPhase::Restoring => {
                let (total, started) = self.tasks?;
                let attempted = self.task_counts.attempted();
                if now.saturating_sub(started) < MIN_ESTIMATE_TIME || attempted < MIN_ESTIMATE_COUNT {
                    return None;
                }
                self.task_window.rate()?.seconds_for(total.saturating_sub(attempted))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn tracker() -> ProgressTracker {
        ProgressTracker::new("2026-11-20T03:00:00Z".parse().unwrap(), 500, at(0))
    }

    fn progress(tracker: &ProgressTracker, seconds: u64) -> RunProgress {
        tracker.progress(at(seconds)).unwrap()
    }

    fn read(tracker: &mut ProgressTracker, registry: &str, repositories: usize, tags: u64) {
        for _ in 0..repositories {
            tracker.repository_done(registry, tags);
        }
    }

    #[test]
    fn without_a_run_there_is_no_progress() {
        assert_eq!(ProgressTracker::default().progress(at(100)), None);
    }

    #[test]
    fn a_rate_covers_the_last_minute_alone() {
        let mut tracker = tracker();
        tracker.count_requests(700, at(4));
        assert_eq!(progress(&tracker, 4).requests_per_second, None, "four seconds say too little");
        for (second, requests, expected) in
            [(10, 1_500, 100), (30, 3_500, 100), (60, 6_500, 100), (90, 6_500, 50), (150, 6_500, 0)]
        {
            tracker.count_requests(requests, at(second));
            let found = progress(&tracker, second);
            assert_eq!(found.requests_per_second, Rate::new(expected, at(1)), "{second}");
            assert_eq!(found.requests, requests - 500);
        }
    }

    #[test]
    fn time_left_to_read_goes_by_repositories() {
        let mut tracker = tracker();
        tracker.start_reading(["contoso".to_owned()].into_iter());
        assert_eq!(progress(&tracker, 60).seconds_left, None, "nothing is listed");
        tracker.repositories_listed("contoso", 400, at(60));
        read(&mut tracker, "contoso", 4, 100);
        assert_eq!(progress(&tracker, 80).seconds_left, None, "four repositories say too little");
        read(&mut tracker, "contoso", 96, 100);
        assert_eq!(progress(&tracker, 70).seconds_left, None, "ten seconds say too little");
        // 100 of 400 in 80 seconds.
        assert_eq!(progress(&tracker, 140).seconds_left, Some(240));
        read(&mut tracker, "contoso", 300, 100);
        assert_eq!(progress(&tracker, 200).seconds_left, Some(0));
    }

    #[test]
    fn time_left_to_read_goes_by_tags_where_their_number_is_expected() {
        let mut tracker = tracker();
        tracker.start_reading(["contoso".to_owned()].into_iter());
        tracker.expect_tags([("contoso".to_owned(), 10_000), ("gone".to_owned(), 5)].into());
        tracker.repositories_listed("contoso", 10, at(0));
        read(&mut tracker, "contoso", 5, 400);
        // 2,000 of 10,000 tags in 30 seconds, although half of the repositories are done.
        assert_eq!(progress(&tracker, 30).seconds_left, Some(120));
        read(&mut tracker, "contoso", 4, 2_000);
        assert_eq!(progress(&tracker, 90).seconds_left, Some(10), "it outgrew 10,000 tags: 9 of 10 repositories");
    }

    #[test]
    fn the_slowest_registry_tells_the_time_left() {
        let mut tracker = tracker();
        tracker.start_reading(["a", "b"].map(str::to_owned).into_iter());
        tracker.repositories_listed("a", 10, at(0));
        read(&mut tracker, "a", 5, 1);
        assert_eq!(progress(&tracker, 20).seconds_left, None, "b is still being listed");
        tracker.repositories_listed("b", 100, at(20));
        read(&mut tracker, "b", 10, 1);
        // b: 10 of 100 in 20 seconds.
        assert_eq!(progress(&tracker, 40).seconds_left, Some(180));
    }

    #[test]
    fn time_left_to_remove_goes_by_the_last_minute() {
        let mut tracker = tracker();
        tracker.start_tasks(RunPhase::Removing, 1_000, at(100));
        let counts = |done, failed| TaskCounts { done, skipped: 700, failed };
        tracker.count_tasks(counts(0, 0), at(110));
        assert_eq!(progress(&tracker, 120).seconds_left, None, "tasks that are skipped at once say nothing");
        tracker.count_tasks(counts(90, 10), at(150));
        let found = progress(&tracker, 150);
        // 100 in 50 seconds.
        assert_eq!(found.seconds_left, Some(480));
        let expected =
            TaskProgress { total: 1_000, done: 90, skipped: 700, failed: 10, per_second: Rate::new(2, at(1)) };
        assert_eq!(found.tasks, Some(expected));
        assert_eq!(found.steps(), Some((800, 1_000)));
        tracker.enter_phase(RunPhase::Deciding);
        assert_eq!(progress(&tracker, 150).seconds_left, None);
    }

    #[test]
    fn a_clock_that_stands_still_gives_no_estimate() {
        let mut tracker = tracker();
        tracker.start_reading(["contoso".to_owned()].into_iter());
        tracker.repositories_listed("contoso", 400, at(0));
        read(&mut tracker, "contoso", 100, 100);
        tracker.count_requests(5_000, at(0));
        let found = progress(&tracker, 0);
        assert_eq!((found.requests, found.requests_per_second, found.seconds_left), (4_500, None, None));
    }
}
