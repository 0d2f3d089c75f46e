//! When removals in a registry, or in one of its repositories, end before all is done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::Hands;
use crate::domain::{RepositoryName, Skip};
use crate::registry::{RegistryError, RegistryErrorKind};

/// Failures in a row after which a registry is left alone for the rest of a run.
const MOST_FAILURES_IN_A_ROW: u32 = 8;
/// Refusals after which a registry is left alone where it has removed nothing yet.
const MOST_REFUSED_FIRST: u32 = 5;
/// Refusals in a row after which a repository is left alone where nothing was removed from it yet.
const MOST_REFUSED_FIRST_IN_REPOSITORY: u32 = 5;
/// The same where something was: then it is more likely that only some tags are refused.
const MOST_REFUSED_IN_REPOSITORY: u32 = 8;
/// Repositories in a row that are left alone before the registry is.
const MOST_REFUSING_REPOSITORIES: usize = 3;

/// Ends all further removals in one registry, or in one of its repositories, once going on makes no sense.
///
/// A refusal belongs to its tag as long as others are removed. Several in a row belong to the repository, and those of
/// several repositories to the registry.
#[derive(Debug, Default)]
pub(super) struct Brake {
    why: OnceLock<String>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    removed: bool,
    failed_in_a_row: u32,
    /// Before anything was removed.
    refused_first: u32,
    repositories: BTreeMap<RepositoryName, InRepository>,
    /// The repositories that were left alone since something was last removed.
    refusing: BTreeSet<RepositoryName>,
}

#[derive(Debug, Default)]
struct InRepository {
    removed: bool,
    refused_in_a_row: u32,
    left_alone: Option<String>,
}

impl Brake {
    /// Ends all further removals in the registry; the first reason is the one that is given.
    pub(super) fn stop(&self, why: String) {
        self.why.get_or_init(|| {
            tracing::warn!(why, "no further removals in this registry");
            why
        });
    }

    /// Why no further removal may begin in the registry.
    pub(super) fn reason(&self, hands: &Hands) -> Option<Skip> {
        match self.why.get() {
            Some(why) => Some(Skip::Stopped(why.clone())),
            None if *hands.stop.borrow() => Some(Skip::Interrupted),
            None => {
                let now = (hands.clock)();
                if let Some(why) = hands.clock_moved.as_ref().and_then(|moved| moved(now)) {
                    return Some(Skip::Refused(why));
                }
                let over = hands.until.as_ref().filter(|until| now >= until.at)?;
                Some(Skip::Blocked(over.why.clone()))
            }
        }
    }

    /// Why no further removal may begin in a repository.
    pub(super) fn reason_in(&self, hands: &Hands, repository: &RepositoryName) -> Option<Skip> {
        self.reason(hands).or_else(|| {
            let why = self.seen().repositories.get(repository)?.left_alone.clone()?;
            Some(Skip::Stopped(why))
        })
    }

    /// Returns whether something was removed from the registry.
    pub(super) fn has_removed(&self) -> bool {
        self.seen().removed
    }

    /// Returns whether something was removed from a repository.
    pub(super) fn has_removed_from(&self, repository: &RepositoryName) -> bool {
        self.seen().repositories.get(repository).is_some_and(|seen| seen.removed)
    }

    /// Returns whether a repository, or the whole registry, is left alone.
    pub(super) fn leaves_alone(&self, repository: &RepositoryName) -> bool {
        self.why.get().is_some()
            || self.seen().repositories.get(repository).is_some_and(|seen| seen.left_alone.is_some())
    }

    pub(super) fn succeeded(&self, repository: &RepositoryName) {
        let mut seen = self.seen();
        (seen.removed, seen.failed_in_a_row) = (true, 0);
        seen.refusing.clear();
        let seen = seen.repositories.entry(repository.clone()).or_default();
        (seen.removed, seen.refused_in_a_row) = (true, 0);
    }

    /// Draws the conclusions of a removal that failed. A lock speaks only of the one tag that has it.
    pub(super) fn failed(&self, repository: &RepositoryName, error: &RegistryError) {
        match error.kind {
            RegistryErrorKind::Locked => {}
            RegistryErrorKind::Unauthenticated | RegistryErrorKind::Renewed => {
                self.stop(format!("the registry does not accept the credentials: {}", error.message));
            }
            RegistryErrorKind::Exhausted => self.stop(format!("the registry is too busy: {}", error.message)),
            RegistryErrorKind::Denied | RegistryErrorKind::Unsupported => self.refused(repository, error),
            _ => {
                let in_a_row = {
                    let mut seen = self.seen();
                    seen.failed_in_a_row += 1;
                    seen.failed_in_a_row
                };
                if in_a_row >= MOST_FAILURES_IN_A_ROW {
                    let last = &error.message;
                    self.stop(format!("{MOST_FAILURES_IN_A_ROW} removals in a row failed, the last one: {last}"));
                }
            }
        }
    }

    fn refused(&self, repository: &RepositoryName, error: &RegistryError) {
        let last = &error.message;
        let remedy = match error.kind {
            RegistryErrorKind::Unsupported => {
                "help: if the registry cannot delete tags, enable deletion there, or see `removal` in docs/registries.md"
            }
            _ => "help: grant the identity the right to delete",
        };
        let mut seen = self.seen();
        if !seen.removed {
            seen.refused_first += 1;
        }
        let first = seen.refused_first;
        let here = seen.repositories.entry(repository.clone()).or_default();
        here.refused_in_a_row += 1;
        let most = if here.removed { MOST_REFUSED_IN_REPOSITORY } else { MOST_REFUSED_FIRST_IN_REPOSITORY };
        if here.refused_in_a_row >= most && here.left_alone.is_none() {
            let why = format!("{repository}: {most} removals in a row were refused, the last one: {last}; {remedy}");
            tracing::warn!(why, "no further removals in this repository");
            here.left_alone = Some(why);
            seen.refusing.insert(repository.clone());
        }
        let refusing = seen.refusing.len();
        let removed = seen.removed;
        drop(seen);
        if !removed && first >= MOST_REFUSED_FIRST {
            self.stop(format!(
                "the registry refused each of the first {first} removals, the last one: {last}; {remedy}"
            ));
        } else if refusing >= MOST_REFUSING_REPOSITORIES {
            self.stop(format!("{refusing} repositories in a row refuse removals, the last one: {last}; {remedy}"));
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: RegistryErrorKind) -> RegistryError {
        RegistryError { kind, message: "DELETE answered so".to_owned() }
    }

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    /// What is done one after the other: `+` removed, `-` refused, `!` failed, each in a repository.
    fn after(steps: &[(&str, char)]) -> Brake {
        let brake = Brake::default();
        for (repository, step) in steps {
            match step {
                '+' => brake.succeeded(&name(repository)),
                '-' => brake.failed(&name(repository), &error(RegistryErrorKind::Denied)),
                _ => brake.failed(&name(repository), &error(RegistryErrorKind::Status(500))),
            }
        }
        brake
    }

    fn left_alone(brake: &Brake) -> Vec<String> {
        let seen = brake.seen();
        let left = seen.repositories.iter().filter(|(_, seen)| seen.left_alone.is_some());
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
            let brake = after(&steps(text));
            assert_eq!((left_alone(&brake), brake.why.get().is_some()), (strings(repositories), registry), "{text:?}");
        }
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn credentials_and_a_long_pause_end_it_at_once_and_a_lock_never() {
        for (kind, stops) in [
            (RegistryErrorKind::Unauthenticated, true),
            (RegistryErrorKind::Exhausted, true),
            (RegistryErrorKind::Locked, false),
            (RegistryErrorKind::Unsupported, false),
        ] {
            let brake = Brake::default();
            brake.failed(&name("a"), &error(kind));
            assert_eq!(brake.why.get().is_some(), stops, "{kind:?}");
        }
    }
}
