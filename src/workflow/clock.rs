//! The time by which a run decides, and whether it can be trusted.
//!
//! It is taken once, together with the monotonic clock. The times in the registries' `Date` headers are carried back to
//! that instant by the monotonic clock, so a clock that was wrong then and is right now is detected.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{App, Decision, RunError, RunOutcome, RunResult};
use crate::apply::{Clock, ClockGuard, Uptime};
use crate::domain::{ClockIssue, ClockReading, Registry, RegistryName};
use crate::engine;
use crate::registry::{CollectScope, RegistryHead};
use crate::report;
use crate::state::{NewestTime, ObservationContext};

/// The time since a fixed instant, from a clock that cannot be set; injected by the entry points.
pub type MonotonicClock = Uptime;

/// The findings about the time by which a run decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClockCheck {
    /// The clocks at the beginning.
    pub start: ClockReading,
    /// Why that time cannot be trusted, whatever the registries report.
    pub doubt: Option<ClockIssue>,
    /// True if the clock of at least one registry agrees.
    pub agrees: bool,
    /// The registries whose clocks differ from it.
    pub differing: BTreeSet<RegistryName>,
}

impl ClockCheck {
    /// Returns true if a registry confirms the time, and nothing contradicts it.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.doubt.is_none() && self.agrees && self.differing.is_empty()
    }
}

/// The confidence in the time that is recorded for a registry's tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordedTime {
    /// The registry's clock agrees.
    Confirmed,
    /// Neither confirmed nor contradicted.
    Unconfirmed,
    /// The time is wrong, or may be.
    Doubtful,
}

/// Detects that the clock is set while a run removes.
#[derive(Clone)]
pub(super) struct ClockWatch {
    start: ClockReading,
    monotonic_clock: MonotonicClock,
    /// Why nothing more may be removed, once that was detected: the clock may be set back again, and there is no
    /// telling which of the two was right.
    detected: Arc<OnceLock<String>>,
}

impl ClockWatch {
    /// Returns the guard for the code that removes.
    pub(super) fn guard(&self) -> ClockGuard {
        let watch = self.clone();
        Arc::new(move |now| watch.detect_change(now))
    }

    /// Returns why nothing more may be removed if the clock was set since the run began.
    fn detect_change(&self, now: Timestamp) -> Option<String> {
        if let Some(doubt) =
            engine::clock_issue(self.start, ClockReading { wall: now, monotonic: (self.monotonic_clock)() }, None)
        {
            self.detected.get_or_init(|| {
                let why = report::describe_clock_doubt(&doubt);
                tracing::warn!("{why}; no further removals");
                why
            });
        }
        self.detected.get().cloned()
    }
}

impl App {
    /// Sets the monotonic clock. Without one the wall clock counts as never set.
    #[must_use]
    pub fn with_monotonic_clock(mut self, steady: MonotonicClock) -> Self {
        self.monotonic_clock = Some(steady);
        self
    }

    /// Reads both clocks.
    pub(super) fn read_clocks(&self) -> ClockReading {
        read_clocks(&self.clock, self.monotonic_clock.as_ref())
    }

    /// Checks the time at `start` against the clocks of the registries that were read, and against the recorded times
    /// in the state. Doubts are noted in the inventory, so that nothing is removed there; a doubt from `earlier` in the
    /// run persists.
    pub(super) async fn check_clock(
        &self,
        start: ClockReading,
        earlier: Option<ClockIssue>,
        mut registries: Vec<&mut Registry>,
    ) -> Result<ClockCheck, RunError> {
        let now = self.read_clocks();
        let mut check = ClockCheck { start, ..ClockCheck::default() };
        for registry in &mut registries {
            registry.clock_ahead = self.clock_ahead(&registry.name, start, now);
            match registry.clock_ahead {
                Some(ahead) if engine::exceeds_clock_skew(ahead) => drop(check.differing.insert(registry.name.clone())),
                Some(_) => check.agrees = true,
                None => {}
            }
        }
        let known = self.unless_lost(self.store.newest_time()).await?.unwrap_or_default();
        // If no registry reports a time, this one must not be before any recorded time. A registry that reports its own
        // shows which one was wrong, unless a later time was confirmed, too.
        let told = check.agrees || !check.differing.is_empty();
        let newest = if told { known.confirmed } else { known.confirmed.max(known.recorded) };
        let earlier = earlier.filter(|doubt| !(told && matches!(doubt, ClockIssue::BehindState { .. })));
        check.doubt = earlier.or_else(|| engine::clock_issue(start, now, newest));
        for registry in registries {
            let accepted =
                self.readers.get(&registry.name).is_none_or(|reader| reader.settings().accepted.missing_date);
            let unconfirmed = registry.clock_ahead.is_none() && !check.agrees && !accepted;
            let invalid = self.readers.get(&registry.name).and_then(|reader| reader.invalid_date_header());
            let doubt = invalid.map_or(ClockIssue::Unconfirmed, |header| ClockIssue::InvalidHeader { header });
            registry.clock_issue = check.doubt.or(unconfirmed.then_some(doubt));
        }
        Ok(check)
    }

    /// Returns the lead of a registry's clock over the time at `start`, as of now; `None` if it has not reported its
    /// time.
    fn clock_ahead(&self, registry: &RegistryName, start: ClockReading, now: ClockReading) -> Option<SignedDuration> {
        let passed = SignedDuration::try_from(now.monotonic.saturating_sub(start.monotonic)).unwrap_or_default();
        let time = self.readers.get(registry)?.server_time()?;
        let ahead = |time: Timestamp| time.duration_since(start.wall).saturating_sub(passed);
        let (earliest, latest) = (ahead(time.earliest), ahead(time.latest));
        Some(if earliest.unsigned_abs() > latest.unsigned_abs() { earliest } else { latest })
    }

    /// Determines whether the time at `start` can be recorded for tags just read from a registry. The registry reports
    /// its time with every answer, so more is known now than when the run began.
    pub(super) fn check_recorded_time(
        &self,
        registry: &RegistryName,
        start: ClockReading,
        known: NewestTime,
    ) -> RecordedTime {
        let now = self.read_clocks();
        let ahead = self.clock_ahead(registry, start, now);
        let newest = if ahead.is_some() { known.confirmed } else { known.confirmed.max(known.recorded) };
        if engine::clock_issue(start, now, newest).is_some() || ahead.is_some_and(engine::exceeds_clock_skew) {
            RecordedTime::Doubtful
        } else if ahead.is_some() {
            RecordedTime::Confirmed
        } else {
            RecordedTime::Unconfirmed
        }
    }

    /// Returns the context in which tags are observed: what is recorded depends on the clocks.
    pub(super) fn observation_context(
        heads: &[RegistryHead],
        scope: &CollectScope,
        clock: &ClockCheck,
    ) -> ObservationContext {
        let all = heads.iter().map(|head| head.registry.name.clone());
        // A time that only the state contradicts may turn out to be right once the registries report theirs.
        let unrecorded = match clock.doubt {
            Some(ClockIssue::BehindState { .. }) | None => clock.differing.clone(),
            Some(_) => all.collect(),
        };
        ObservationContext {
            now: clock.start.wall,
            catalogue_read: *scope == CollectScope::All,
            clock_confirmed: clock.is_confirmed(),
            clock_skewed: unrecorded,
        }
    }

    /// Logs what is wrong with the clock.
    pub(super) fn log_clock(&self, check: &ClockCheck, heads: &[RegistryHead]) {
        if let Some(doubt) = &check.doubt {
            tracing::warn!("{}; nothing is recorded, removed or forgotten", report::describe_clock_doubt(doubt));
            return;
        }
        for RegistryHead { registry, names } in heads {
            let is_unconfirmed =
                |doubt: &ClockIssue| matches!(doubt, ClockIssue::Unconfirmed | ClockIssue::InvalidHeader { .. });
            let unconfirmed = registry.clock_issue.filter(is_unconfirmed);
            if let Some(ahead) = registry.clock_ahead.filter(|ahead| engine::exceeds_clock_skew(*ahead)) {
                let words = report::describe_clock_difference(ahead.as_secs());
                tracing::warn!(registry = %registry.name, "{words}; nothing is recorded or removed there, or forgotten");
            } else if let Some(doubt) = unconfirmed.filter(|_| !names.is_empty() && self.has_answered(&registry.name)) {
                let words = report::describe_clock_doubt(&doubt);
                tracing::warn!(registry = %registry.name, "{words}; nothing is removed there");
            }
        }
    }

    /// Returns true if a registry answered any request: only then does a missing header say something about it.
    fn has_answered(&self, registry: &RegistryName) -> bool {
        self.readers.get(registry).is_some_and(|reader| reader.request_counts().has_answers())
    }

    /// Records that the time of a run is confirmed, if it is.
    pub(super) async fn record_confirmed_time(&self, run: Uuid, decision: &Decision) -> Result<(), RunError> {
        if decision.clock.is_confirmed() {
            self.store.confirm_time(run, decision.clock.start.wall).await?;
        }
        Ok(())
    }

    /// Creates a watch for clock changes after these readings.
    pub(super) fn clock_watch(&self, start: ClockReading) -> Option<ClockWatch> {
        let steady = Arc::clone(self.monotonic_clock.as_ref()?);
        Some(ClockWatch { start, monotonic_clock: steady, detected: Arc::default() })
    }

    /// Returns true if the clock was set since a decision.
    pub(super) fn clock_was_set(&self, check: &ClockCheck) -> bool {
        engine::clock_issue(check.start, self.read_clocks(), None).is_some()
    }
}

/// Reads both clocks. Without a monotonic one the wall clock counts as never set.
pub(super) fn read_clocks(clock: &Clock, steady: Option<&MonotonicClock>) -> ClockReading {
    let wall = clock();
    let steady = match steady {
        Some(steady) => steady(),
        None => Duration::try_from(wall.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default(),
    };
    ClockReading { wall, monotonic: steady }
}

/// Marks a run as refused if the clock was set while it removed.
pub(super) fn refuse_if_clock_changed(mut result: RunResult, watch: Option<&ClockWatch>) -> RunResult {
    let seen = watch.is_some_and(|watch| watch.detected.get().is_some());
    if seen && result.outcome != RunOutcome::Interrupted {
        result.outcome = RunOutcome::Refused;
    }
    result
}
