//! Properties of decisions about claims on ranges of versions.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use tagwarden::domain::{Claim, ImageReference, Naming, RangeSelection, SourceState};

use crate::properties::{claim, random_facts};

/// A claim on a range of versions of what another claim names.
pub(crate) fn ranged(named: impl Strategy<Value = Claim>) -> impl Strategy<Value = Claim> {
    let range = select(vec!["~1.1", ">=1.1.0-0 <1.2", "1.x || 3", "1.0.0", "*", ">2"]);
    (named, range, select(vec![RangeSelection::Highest, RangeSelection::All])).prop_map(|(claim, range, ranges)| {
        let image = ImageReference { tag: None, digest: None, ..claim.image };
        Claim { image, naming: Naming::Range(Arc::new(range.parse().unwrap()), ranges), ..claim }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_versions_of_a_range_are_more_than_its_highest(world in random_facts(), claim in ranged(claim())) {
        prop_assume!(claim.image.repository.is_some());
        let with = |ranges: RangeSelection| {
            let mut more = world.clone();
            let mut claim = claim.clone();
            if let Naming::Range(_, which) = &mut claim.naming {
                *which = ranges;
            }
            if let SourceState::Complete { claims, .. } = &mut more.claims.sources[0].state {
                claims.push(claim);
            }
            more.claims.sort();
            more.goes().0
        };
        let (all, highest) = (with(RangeSelection::All), with(RangeSelection::Highest));
        prop_assert!(all.is_subset(&highest));
        prop_assert!(highest.is_subset(&world.goes().0));
    }
}
