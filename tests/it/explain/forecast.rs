//! What time alone will make of a tag is what is decided when that time has come.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use tagwarden::domain::{Holder, Release, SourceState, TagPosition, Verdict};
use tagwarden::engine::{Forecast, evaluate, forecast, remaining_claims};

use crate::properties::{RandomFacts, now, random_facts};

impl RandomFacts {
    fn expired(&self, at: Timestamp) -> Vec<TagPosition> {
        let verdicts = evaluate(&self.rules, &self.inventory, &remaining_claims(&self.claims, at), at);
        verdicts.tags.iter().filter(|found| found.verdict == Verdict::Expired).map(|found| found.position).collect()
    }

    fn places(&self) -> Vec<TagPosition> {
        evaluate(&self.rules, &self.inventory, &self.claims, now()).tags.iter().map(|found| found.position).collect()
    }

    /// Some claims come from records that count only until then.
    fn with_ends(mut self, hours: &[i64]) -> Self {
        let mut hours = hours.iter().cycle();
        for source in &mut self.claims.sources {
            let SourceState::Complete { claims, .. } = &mut source.state else { continue };
            for claim in claims {
                let Some(ahead) = hours.next().filter(|hours| **hours > 0) else { continue };
                let keep_until = Some(now() + SignedDuration::from_hours(*ahead));
                claim.holder = Arc::new(Holder::Release(Release { keep_until, ..Release::default() }));
            }
        }
        self.claims.sort();
        self
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tag_goes_at_the_second_that_is_told(world in random_facts(), hours in prop::collection::vec(-200..900i64, 1..6)) {
        let world = world.with_ends(&hours);
        let places = world.places();
        let second = SignedDuration::from_secs(1);
        let later = [0, 1, 24, 101, 24 * 30, 24 * 90, 24 * 4000].map(|hours| now() + SignedDuration::from_hours(hours));
        let later: BTreeSet<TagPosition> = later.into_iter().flat_map(|later| world.expired(later)).collect();
        let at_first = world.expired(now());
        let told = forecast(&world.rules, &world.inventory, &world.claims, now(), &places);
        for (tag, outlook) in places.iter().zip(told) {
            match outlook {
                Forecast::Expired => prop_assert!(at_first.contains(tag)),
                Forecast::At { at, reasons } => {
                    prop_assert!(at > now() && !at_first.contains(tag));
                    let left = remaining_claims(&world.claims, at);
                    let then = evaluate(&world.rules, &world.inventory, &left, at);
                    let found = then.at(*tag).unwrap();
                    prop_assert_eq!((found.verdict, &found.reasons), (Verdict::Expired, &reasons), "at {}", at);
                    prop_assert!(!world.expired(at - second).contains(tag), "a second before {}", at);
                }
                Forecast::Never => prop_assert!(!later.contains(tag)),
                Forecast::Unknown => prop_assert!(false, "a small world is told whole"),
            }
        }
    }

    /// The first time that is told is the first at all: nothing goes before.
    #[test]
    fn nothing_goes_before_it_is_told(world in random_facts(), hours in prop::collection::vec(0..900i64, 1..6)) {
        let places = world.places();
        let told = forecast(&world.rules, &world.inventory, &world.claims, now(), &places);
        for hours in hours {
            let later = now() + SignedDuration::from_hours(hours);
            let gone = world.expired(later);
            for (tag, outlook) in places.iter().zip(&told) {
                let not_yet = match outlook {
                    Forecast::At { at, .. } => *at > later,
                    Forecast::Never => true,
                    Forecast::Expired | Forecast::Unknown => false,
                };
                prop_assert!(!not_yet || !gone.contains(tag), "after {} hours", hours);
            }
        }
    }
}
