//! Circuit breakers for removals in a registry, or in one of its repositories.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::ApplyContext;
use crate::domain::{RegistryName, RepositoryName, SkipReason};
use crate::registry::{RegistryError, RegistryErrorKind};

/// Consecutive failures after which a registry is skipped for the rest of a run.
const MAX_CONSECUTIVE_FAILURES: u32 = 8;
/// Refusals after which a registry is skipped if it has removed nothing yet.
const MAX_INITIAL_REFUSALS: u32 = 5;
/// Consecutive refusals after which a repository is skipped if nothing was removed from it yet.
const MAX_INITIAL_REFUSALS_IN_REPOSITORY: u32 = 5;
/// The same if something was removed: then it is more likely that only some tags are refused.
const MAX_CONSECUTIVE_REFUSALS_IN_REPOSITORY: u32 = 8;
/// Consecutive removals in a repository that are answered as if the tag did not exist, although it does, after which the
/// repository is skipped.
const MAX_CONTRADICTIONS: u32 = 3;
/// Consecutive repositories that are skipped before the whole registry is.
const MAX_TRIPPED_REPOSITORIES: usize = 3;

/// Stops all further removals in one registry, or in one of its repositories, when continuing makes no sense.
///
/// A refusal belongs to its tag as long as other tags are removed. Several in a row belong to the repository, and those
/// of several repositories to the registry.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker {
    trip_reason: OnceLock<String>,
    state: Mutex<BreakerState>,
}

#[derive(Debug, Default)]
struct BreakerState {
    has_removed: bool,
    consecutive_failures: u32,
    /// Refusals before the first removal.
    initial_refusals: u32,
    repositories: BTreeMap<RepositoryName, RepositoryState>,
    /// The repositories skipped since the last successful removal.
    tripped_repositories: BTreeSet<RepositoryName>,
}

#[derive(Debug, Default)]
struct RepositoryState {
    has_removed: bool,
    consecutive_refusals: u32,
    /// Removals in a row that were answered as if the tag did not exist, although it does.
    contradictions: u32,
    trip_reason: Option<String>,
}

/// The circuit breakers of the registries that a run changes. They last for the whole run, whatever its parts.
#[derive(Debug, Clone, Default)]
pub struct CircuitBreakers {
    by_registry: Arc<Mutex<BTreeMap<RegistryName, Arc<CircuitBreaker>>>>,
    /// Why all of them are open.
    trip_reason: Arc<OnceLock<String>>,
}

impl CircuitBreakers {
    /// Stops all further removals in all registries.
    pub fn trip_all(&self, why: String) {
        self.trip_reason.get_or_init(|| why);
    }

    /// Returns the breaker of one registry.
    pub(super) fn of(&self, registry: &RegistryName) -> Arc<CircuitBreaker> {
        let mut breakers = self.by_registry.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(breakers.entry(registry.clone()).or_default())
    }
}

impl CircuitBreaker {
    /// Stops all further removals in the registry; the first reason is the one that is reported.
    pub(super) fn trip(&self, why: String) {
        self.trip_reason.get_or_init(|| {
            tracing::warn!(why, "no further removals in this registry");
            why
        });
    }

    /// Stops all further removals in one repository.
    pub(super) fn trip_repository(&self, repository: &RepositoryName, why: String) {
        let mut seen = self.state();
        let here = seen.repositories.entry(repository.clone()).or_default();
        if here.trip_reason.is_none() {
            tracing::warn!(%repository, why, "no further removals in this repository");
            here.trip_reason = Some(why);
        }
    }

    /// Returns why no further removal may begin in the registry, or `None`.
    pub(super) fn skip_reason(&self, context: &ApplyContext) -> Option<SkipReason> {
        match self.trip_reason.get().or_else(|| context.breakers.trip_reason.get()) {
            Some(why) => Some(SkipReason::Stopped(why.clone())),
            None if *context.stop.borrow() => Some(SkipReason::Interrupted),
            None => {
                let now = (context.clock)();
                if let Some(why) = context.clock_guard.as_ref().and_then(|moved| moved(now)) {
                    return Some(SkipReason::Refused(why));
                }
                let over = context.deadline.as_ref().filter(|until| now >= until.at)?;
                Some(SkipReason::Blocked(over.reason.clone()))
            }
        }
    }

    /// Returns why no further removal may begin in a repository, or `None`.
    pub(super) fn skip_reason_in(&self, context: &ApplyContext, repository: &RepositoryName) -> Option<SkipReason> {
        self.skip_reason(context).or_else(|| {
            let why = self.state().repositories.get(repository)?.trip_reason.clone()?;
            Some(SkipReason::Stopped(why))
        })
    }

    /// Returns true if something was removed from the registry.
    pub(super) fn has_removed(&self) -> bool {
        self.state().has_removed
    }

    /// Returns true if something was removed from a repository.
    pub(super) fn has_removed_from(&self, repository: &RepositoryName) -> bool {
        self.state().repositories.get(repository).is_some_and(|seen| seen.has_removed)
    }

    /// Returns true if the whole registry is skipped.
    pub(super) fn is_tripped(&self) -> bool {
        self.trip_reason.get().is_some()
    }

    /// Returns true if a repository, or the whole registry, is skipped.
    pub(super) fn is_tripped_for(&self, repository: &RepositoryName) -> bool {
        self.trip_reason.get().is_some()
            || self.state().repositories.get(repository).is_some_and(|seen| seen.trip_reason.is_some())
    }

    pub(super) fn record_success(&self, repository: &RepositoryName) {
        let mut seen = self.state();
        (seen.has_removed, seen.consecutive_failures) = (true, 0);
        seen.tripped_repositories.clear();
        let seen = seen.repositories.entry(repository.clone()).or_default();
        (seen.has_removed, seen.consecutive_refusals, seen.contradictions) = (true, 0, 0);
    }

    /// Returns true if the last removal in a repository was answered as if the tag did not exist, although it does.
    pub(super) fn is_contradicted_in(&self, repository: &RepositoryName) -> bool {
        self.state().repositories.get(repository).is_some_and(|seen| seen.contradictions > 0)
    }

    /// Evaluates a removal that was answered as if the tag did not exist, although it does.
    pub(super) fn record_contradiction(&self, repository: &RepositoryName, why: &str) {
        let count = {
            let mut seen = self.state();
            let here = seen.repositories.entry(repository.clone()).or_default();
            here.contradictions += 1;
            here.contradictions
        };
        if count >= MAX_CONTRADICTIONS {
            let text = format!(
                "{repository}: {count} removals in a row were answered as if the tag did not exist, the last one: {why}; \
                 help: check that the registry's `endpoint` and `api` lead to the same registry"
            );
            self.trip_repository(repository, text);
        }
    }

    /// Evaluates a failed removal. A lock concerns only its own tag, as long as other tags are removed.
    pub(super) fn record_failure(&self, repository: &RepositoryName, error: &RegistryError) {
        match error.kind {
            RegistryErrorKind::Locked => self.record_lock(error),
            RegistryErrorKind::Unauthenticated | RegistryErrorKind::TokenRenewed => {
                self.trip(format!("the registry does not accept the credentials: {}", error.chain()));
            }
            RegistryErrorKind::RetriesExhausted => self.trip(format!("the registry is too busy: {}", error.chain())),
            RegistryErrorKind::Denied | RegistryErrorKind::Unsupported => self.record_refusal(repository, error),
            _ => {
                let in_a_row = {
                    let mut seen = self.state();
                    seen.consecutive_failures += 1;
                    seen.consecutive_failures
                };
                if in_a_row >= MAX_CONSECUTIVE_FAILURES {
                    let last = &error.chain();
                    self.trip(format!("{MAX_CONSECUTIVE_FAILURES} removals in a row failed, the last one: {last}"));
                }
            }
        }
    }

    /// Stops the registry if each of its first removals met a lock: then it is more likely that the identity may not
    /// delete.
    fn record_lock(&self, error: &RegistryError) {
        let first = {
            let mut seen = self.state();
            if seen.has_removed {
                return;
            }
            seen.initial_refusals += 1;
            seen.initial_refusals
        };
        if first >= MAX_INITIAL_REFUSALS {
            self.trip(format!(
                "the registry refused each of the first {first} removals, the last one as locked: {}; help: grant the identity \
                 the right to delete, or remove the protection of these tags; the next run begins with others",
                error.chain()
            ));
        }
    }

    fn record_refusal(&self, repository: &RepositoryName, error: &RegistryError) {
        let remedy = match error.kind {
            // It says what to do better than can be said here.
            _ if error.has_help() => "",
            RegistryErrorKind::Unsupported => {
                "; help: if the registry cannot delete tags, enable deletion there, or see `removal` in docs/registries.md"
            }
            _ => "; help: grant the identity the right to delete",
        };
        let last = format!("{}{remedy}", error.chain());
        let mut seen = self.state();
        if !seen.has_removed {
            seen.initial_refusals += 1;
        }
        let first = seen.initial_refusals;
        let here = seen.repositories.entry(repository.clone()).or_default();
        here.consecutive_refusals += 1;
        let most =
            if here.has_removed { MAX_CONSECUTIVE_REFUSALS_IN_REPOSITORY } else { MAX_INITIAL_REFUSALS_IN_REPOSITORY };
        if here.consecutive_refusals >= most && here.trip_reason.is_none() {
            let why = format!("{repository}: {most} removals in a row were refused, the last one: {last}");
            tracing::warn!(why, "no further removals in this repository");
            here.trip_reason = Some(why);
            seen.tripped_repositories.insert(repository.clone());
        }
        let refusing = seen.tripped_repositories.len();
        let removed = seen.has_removed;
        drop(seen);
        if !removed && first >= MAX_INITIAL_REFUSALS {
            self.trip(format!("the registry refused each of the first {first} removals, the last one: {last}"));
        } else if refusing >= MAX_TRIPPED_REPOSITORIES {
            self.trip(format!("{refusing} repositories in a row refuse removals, the last one: {last}"));
        }
    }

    fn state(&self) -> MutexGuard<'_, BreakerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: RegistryErrorKind) -> RegistryError {
        RegistryError::new(kind, "DELETE answered so")
    }

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    /// The breaker after these steps: `+` removed, `-` refused, `!` failed, each in a repository.
    fn after(steps: &[(&str, char)]) -> CircuitBreaker {
        let breaker = CircuitBreaker::default();
        for (repository, step) in steps {
            match step {
                '+' => breaker.record_success(&name(repository)),
                '-' => breaker.record_failure(&name(repository), &error(RegistryErrorKind::Denied)),
                _ => breaker.record_failure(&name(repository), &error(RegistryErrorKind::Status(500))),
            }
        }
        breaker
    }

    #[test]
    fn a_refusal_that_says_what_to_do_gets_no_other_advice() {
        let denied = error(RegistryErrorKind::Denied);
        for (error, expected) in [
            (denied.clone(), "DELETE answered so; help: grant the identity the right to delete"),
            (denied.clone().with_help("check `auth`"), "DELETE answered so; check `auth`"),
            (denied.with_help("check `auth`").within("not removed"), "not removed: DELETE answered so; check `auth`"),
        ] {
            let breaker = CircuitBreaker::default();
            for _ in 0..MAX_INITIAL_REFUSALS {
                breaker.record_failure(&name("shop/api"), &error);
            }
            let why = breaker.trip_reason.get().unwrap();
            assert!(why.ends_with(&format!("the last one: {expected}")), "{why}");
        }
    }

    fn tripped_repositories(breaker: &CircuitBreaker) -> Vec<String> {
        let seen = breaker.state();
        let left = seen.repositories.iter().filter(|(_, seen)| seen.trip_reason.is_some());
        left.map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn refusals_belong_to_the_tag_the_repository_or_the_registry() {
        let steps = |text: &'static [&'static str]| {
            let each = text.iter().flat_map(|part| part[1..].chars().map(|step| (&part[..1], step)));
            each.collect::<Vec<_>>()
        };
        for (text, repositories, registry) in [
            (&["a-", "b+"][..], &[][..], false),
            (&["a--+-------"], &[], false),
            (&["a+--------"], &["a"], false),
            (&["b+", "a-----", "b+"], &["a"], false),
            (&["a-", "b-", "c-", "d-"], &[], false),
            (&["a-", "b-", "c-", "d-", "e-"], &[], true),
            (&["a---", "b--"], &[], true),
            (&["a-----"], &["a"], true),
            (&["x+", "a-----", "b-----", "x+", "c-----", "d-----"], &["a", "b", "c", "d"], false),
            (&["x+", "a-----", "b-----", "c-----"], &["a", "b", "c"], true),
            (&["a!!!!!!!"], &[], false),
            (&["a!!!!!!!!"], &[], true),
            (&["a!!!!!!!+!!!!!!!"], &[], false),
        ] {
            let breaker = after(&steps(text));
            assert_eq!(
                (tripped_repositories(&breaker), breaker.trip_reason.get().is_some()),
                (strings(repositories), registry),
                "{text:?}"
            );
        }
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn locks_end_it_only_where_nothing_was_removed() {
        for (before, locks, stops) in [("", 4, false), ("", 5, true), ("---", 2, true), ("+", 50, false)] {
            let breaker = after(&before.chars().map(|step| ("a", step)).collect::<Vec<_>>());
            for _ in 0..locks {
                breaker.record_failure(&name("a"), &error(RegistryErrorKind::Locked));
            }
            assert_eq!(breaker.trip_reason.get().is_some(), stops, "{before} {locks}");
        }
    }

    #[test]
    fn contradictions_in_a_row_end_the_repository() {
        let breaker = CircuitBreaker::default();
        for _ in 0..2 {
            for _ in 1..MAX_CONTRADICTIONS {
                breaker.record_contradiction(&name("a"), "it is still there");
            }
            assert!(breaker.is_contradicted_in(&name("a")) && !breaker.is_contradicted_in(&name("b")));
            breaker.record_success(&name("a"));
            assert!(!breaker.is_contradicted_in(&name("a")) && !breaker.is_tripped_for(&name("a")));
        }
        for _ in 0..MAX_CONTRADICTIONS {
            breaker.record_contradiction(&name("a"), "it is still there");
        }
        assert!(breaker.is_tripped_for(&name("a")) && !breaker.is_tripped_for(&name("b")));
    }

    #[test]
    fn credentials_and_a_long_pause_end_it_at_once_and_one_lock_does_not() {
        for (kind, stops) in [
            (RegistryErrorKind::Unauthenticated, true),
            (RegistryErrorKind::RetriesExhausted, true),
            (RegistryErrorKind::Locked, false),
            (RegistryErrorKind::Unsupported, false),
        ] {
            let breaker = CircuitBreaker::default();
            breaker.record_failure(&name("a"), &error(kind));
            assert_eq!(breaker.trip_reason.get().is_some(), stops, "{kind:?}");
        }
    }
}
