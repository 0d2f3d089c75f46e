//! Doubts about lists of repositories that have shrunk a lot.
//!
//! An empty list, or one that lost half of its repositories, is more often due to a restore, a move or changed
//! permissions than to a person's cleanup. Until it is confirmed, no records are dropped and nothing counts as deleted
//! because of it. The listed repositories are read and decided as usual.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{App, RunError, unknown_name};
use crate::domain::{Gap, GapTarget, Registry};
use crate::registry::{CollectScope, RegistryHead};
use crate::state::{CatalogueNames, KnownCatalogue, SuspectCatalogue};

/// A list is trusted after this number of consecutive reads.
const CONFIRMATIONS: u32 = 3;
/// The minimum time between the first of them and the last.
const MIN_CONFIRMATION_PERIOD: SignedDuration = SignedDuration::from_hours(24);
/// The same for an empty list: withdrawn permissions may be noticed only after a weekend.
const MIN_CONFIRMATION_PERIOD_IF_EMPTY: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Most missing repositories that a message names.
const MAX_NAMED_REPOSITORIES: usize = 3;

impl App {
    /// Compares each registry's list of repositories with the last trusted one. A doubtful list becomes a gap.
    ///
    /// A registry whose repositories are in the settings has no list to compare.
    pub(super) async fn verify_catalogues(
        &self,
        heads: &mut [RegistryHead],
        scope: &CollectScope,
        now: Timestamp,
    ) -> Result<(), RunError> {
        if *scope != CollectScope::All {
            return Ok(());
        }
        for RegistryHead { registry, names } in heads {
            let named = |reader: &std::sync::Arc<dyn crate::registry::RegistryReader>| {
                !reader.settings().repositories.is_empty()
            };
            let unread = registry.gaps.iter().any(|gap| gap.target == GapTarget::Catalogue);
            if unread || self.readers.get(&registry.name).is_none_or(named) {
                continue;
            }
            let recorded = self.unless_lost(self.store.catalogue(&registry.name, &registry.endpoint)).await?;
            let Some(before) = recorded else {
                registry.gaps.push(self.lost_state_gap(GapTarget::Catalogue));
                registry.gaps.sort();
                continue;
            };
            let listed = names.iter().map(ToString::to_string).collect();
            let known = assess_catalogue(before.clone(), listed, now);
            if let Some(doubt) = &known.suspect {
                registry.gaps.push(gap(registry, &known, doubt));
                registry.gaps.sort();
            }
            let is_old_news = known.suspect.is_none()
                && before.as_ref().is_some_and(|before| {
                    before.names == known.names && before.trusted_at.is_some() && before.suspect.is_none()
                });
            if !is_old_news {
                self.unless_lost(self.store.record_catalogue(&registry.endpoint, &known, now)).await?;
            }
        }
        Ok(())
    }

    /// Accepts the doubted list of repositories, and returns its length.
    ///
    /// # Errors
    /// Returns [`RunError::Usage`] if the registry does not exist, or its list is not in doubt.
    pub async fn accept_catalogue(&self, name: &str) -> Result<u64, RunError> {
        let known = self.settings.registries.iter().find(|registry| registry.name.as_str() == name);
        let Some(settings) = known else {
            let names: Vec<&str> = self.settings.registries.iter().map(|registry| registry.name.as_str()).collect();
            return Err(unknown_name("registry", name, &names));
        };
        let endpoint = settings.endpoint.as_str().trim_end_matches('/');
        self.store.accept_catalogue(endpoint, &self.by, self.now()).await?.ok_or_else(|| {
            RunError::usage(format!("registry {name}: nothing to accept, its last list of repositories was believed"))
        })
    }
}

/// Returns the known list after a read, with a doubt if the new list is not trusted.
fn assess_catalogue(before: Option<KnownCatalogue>, listed: CatalogueNames, now: Timestamp) -> KnownCatalogue {
    let believed = |names| KnownCatalogue { names, trusted_at: Some(now), suspect: None };
    let Some(before) = before.filter(|before| lost_half(&before.names, &listed)) else { return believed(listed) };
    // A list that shrinks further is a new one, and so is one from before the clock was set back.
    let same = before.suspect.as_ref().filter(|doubt| !lost_half(&doubt.names, &listed) && doubt.since <= now);
    let (since, looks) = same.map_or((now, 1), |doubt| (doubt.since, doubt.reads.saturating_add(1)));
    let at_least = if listed.is_empty() { MIN_CONFIRMATION_PERIOD_IF_EMPTY } else { MIN_CONFIRMATION_PERIOD };
    if looks >= CONFIRMATIONS && now.duration_since(since) >= at_least {
        return believed(listed);
    }
    KnownCatalogue { suspect: Some(SuspectCatalogue { names: listed, since, reads: looks }), ..before }
}

/// Formats a number of repositories.
#[must_use]
pub fn describe_repository_count(count: u64) -> String {
    format!("{count} {}", if count == 1 { "repository" } else { "repositories" })
}

/// Returns true if at least half of the names are missing from a later list.
fn lost_half(before: &CatalogueNames, now: &CatalogueNames) -> bool {
    let missing = before.difference(now).count();
    missing > 0 && missing * 2 >= before.len()
}

fn gap(registry: &Registry, known: &KnownCatalogue, doubt: &SuspectCatalogue) -> Gap {
    let missing: BTreeSet<&String> = known.names.difference(&doubt.names).collect();
    let some: Vec<&str> = missing.iter().take(MAX_NAMED_REPOSITORIES).map(|name| name.as_str()).collect();
    let more = if missing.len() > MAX_NAMED_REPOSITORIES { ", …" } else { "" };
    let time = if doubt.names.is_empty() { "a week" } else { "a day" };
    let message = format!(
        "the registry lists {} and no longer {} of the {} known before ({}{more}); until {CONFIRMATIONS} runs over at least {time} \
         read the same, nothing is forgotten and no image is called gone; check the registry and the permissions of {}, and \
         if the list is right: `tagwarden registries accept {}`",
        describe_repository_count(doubt.names.len() as u64),
        missing.len(),
        known.names.len(),
        some.join(", "),
        registry.identity,
        registry.name
    );
    Gap { target: GapTarget::Catalogue, kind: "doubted", has_help: false, message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> CatalogueNames {
        (0..count).map(|n| format!("r{n:03}")).collect()
    }

    fn known(count: usize) -> KnownCatalogue {
        KnownCatalogue { names: names(count), trusted_at: None, suspect: None }
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    #[test]
    fn half_of_a_list_may_not_go_missing_at_once() {
        for (before, now, doubted) in [
            (0, 0, false),
            (0, 5, false),
            (1, 0, true),
            (1, 1, false),
            (2, 1, true),
            (3, 2, false),
            (100, 51, false),
            (100, 50, true),
            (100, 0, true),
            (100, 300, false),
        ] {
            assert_eq!(
                assess_catalogue(Some(known(before)), names(now), at(0)).suspect.is_some(),
                doubted,
                "{before} -> {now}"
            );
        }
        let others = (0..100).map(|n| format!("x{n}")).collect();
        assert!(assess_catalogue(Some(known(100)), others, at(0)).suspect.is_some(), "as many, and all of them others");
        assert!(assess_catalogue(None, CatalogueNames::new(), at(0)).suspect.is_none(), "nothing was known");
    }

    /// The hour of each read with the number of listed repositories, and the number of trusted ones after it.
    #[test]
    fn a_list_is_believed_after_three_looks_over_a_day() {
        let cases: [&[(i64, usize, usize)]; 8] = [
            &[(0, 40, 100), (12, 40, 100), (24, 40, 40)],
            &[(0, 40, 100), (30, 40, 100), (31, 40, 40)],
            &[(0, 40, 100), (1, 40, 100), (2, 40, 100), (3, 40, 100), (24, 40, 40)],
            // The list recovers: the doubt is over, and the next one starts over.
            &[(0, 40, 100), (12, 100, 100), (24, 40, 100), (25, 40, 100), (48, 40, 40)],
            // It shrinks further, and grows a little.
            &[(0, 40, 100), (12, 20, 100), (24, 20, 100), (36, 20, 20)],
            &[(0, 40, 100), (12, 41, 100), (24, 42, 42)],
            // Empty for less than a week.
            &[(0, 0, 100), (24, 0, 100), (48, 0, 100), (72, 100, 100)],
            &[(0, 0, 100), (24, 0, 100), (168, 0, 0), (169, 7, 7)],
        ];
        for looks in cases {
            let mut state = Some(known(100));
            for &(hour, listed, believed) in looks {
                let next = assess_catalogue(state, names(listed), at(hour));
                assert_eq!(next.names.len(), believed, "{looks:?} at {hour}");
                assert_eq!(next.suspect.is_some(), listed != believed, "{looks:?} at {hour}");
                state = Some(next);
            }
        }
    }

    #[test]
    fn a_clock_that_was_put_back_begins_anew() {
        let mut state = Some(known(10));
        for hour in [1000, 1, 2] {
            state = Some(assess_catalogue(state, names(1), at(hour)));
        }
        let doubt = state.unwrap().suspect.unwrap();
        assert_eq!((doubt.since, doubt.reads), (at(1), 2));
    }
}
