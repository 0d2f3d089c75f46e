//! What time alone will make of a tag is what is decided when that time has come.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use tagwarden::domain::{Holder, Release, SourceState, TagAt, Verdict};
use tagwarden::engine::{Outlook, claims_left, evaluate, outlooks};

use crate::properties::{World, now, world};

impl World {
    fn expired(&self, at: Timestamp) -> Vec<TagAt> {
        let verdicts = evaluate(&self.rules, &self.inventory, &claims_left(&self.claims, at), at);
        verdicts.tags.iter().filter(|found| found.verdict == Verdict::Expired).map(|found| found.at).collect()
    }

    fn places(&self) -> Vec<TagAt> {
        evaluate(&self.rules, &self.inventory, &self.claims, now()).tags.iter().map(|found| found.at).collect()
    }

    /// Some claims come from records that count only until then.
    fn with_ends(mut self, hours: &[i64]) -> Self {
        let mut hours = hours.iter().cycle();
        for source in &mut self.claims.sources {
            let SourceState::Answered { claims, .. } = &mut source.state else { continue };
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
    fn a_tag_goes_at_the_second_that_is_told(world in world(), hours in prop::collection::vec(-200..900i64, 1..6)) {
        let world = world.with_ends(&hours);
        let places = world.places();
        let second = SignedDuration::from_secs(1);
        let later = [0, 1, 24, 101, 24 * 30, 24 * 90, 24 * 4000].map(|hours| now() + SignedDuration::from_hours(hours));
        let later: BTreeSet<TagAt> = later.into_iter().flat_map(|later| world.expired(later)).collect();
        let at_first = world.expired(now());
        let told = outlooks(&world.rules, &world.inventory, &world.claims, now(), &places);
        for (tag, outlook) in places.iter().zip(told) {
            match outlook {
                Outlook::Expired => prop_assert!(at_first.contains(tag)),
                Outlook::At { at, reasons } => {
                    prop_assert!(at > now() && !at_first.contains(tag));
                    let left = claims_left(&world.claims, at);
                    let then = evaluate(&world.rules, &world.inventory, &left, at);
                    let found = then.at(*tag).unwrap();
                    prop_assert_eq!((found.verdict, &found.reasons), (Verdict::Expired, &reasons), "at {}", at);
                    prop_assert!(!world.expired(at - second).contains(tag), "a second before {}", at);
                }
                Outlook::Never => prop_assert!(!later.contains(tag)),
                Outlook::Untold => prop_assert!(false, "a small world is told whole"),
            }
        }
    }

    /// The first time that is told is the first at all: nothing goes before.
    #[test]
    fn nothing_goes_before_it_is_told(world in world(), hours in prop::collection::vec(0..900i64, 1..6)) {
        let places = world.places();
        let told = outlooks(&world.rules, &world.inventory, &world.claims, now(), &places);
        for hours in hours {
            let later = now() + SignedDuration::from_hours(hours);
            let gone = world.expired(later);
            for (tag, outlook) in places.iter().zip(&told) {
                let not_yet = match outlook {
                    Outlook::At { at, .. } => *at > later,
                    Outlook::Never => true,
                    Outlook::Expired | Outlook::Untold => false,
                };
                prop_assert!(!not_yet || !gone.contains(tag), "after {} hours", hours);
            }
        }
    }
}
