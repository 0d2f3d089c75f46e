//! Properties of decisions about claims of which it cannot be said which image they mean, and about mentions.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use tagwarden::domain::{
    Claim, ImageReference, Naming, Reason, SourceState, TagPosition, TagVerdict, Uncertainty, Verdict,
};
use tagwarden::engine::Verdicts;

use crate::properties::{Shuffle, digest, id, mention, random_facts, unresolved};

/// An image id that comes with names of others only.
fn foreign_id() -> impl Strategy<Value = Claim> {
    const NAMES: [&str; 4] =
        ["docker.io/library/app", "mcr.microsoft.com/app", "mirror.example/nothing", "contoso.example/nothing"];
    let names = prop::collection::vec(select(NAMES.to_vec()), 1..3).prop_map(|names| -> Arc<[ImageReference]> {
        names.into_iter().map(|name| ImageReference::parse_verbatim(name).unwrap()).collect()
    });
    (prop_oneof![100..104u8, Just(250)], names, any::<bool>()).prop_map(|(image, names, paired)| {
        let naming = if paired { Naming::ContainerImageId(names) } else { Naming::ObjectImageId(names) };
        Claim { naming, ..id(&digest(image)) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_open_reference_more_never_expires_more(world in random_facts(), open in unresolved()) {
        let mut more = world.clone();
        if let SourceState::Complete { unresolved, .. } = &mut more.claims.sources[0].state {
            unresolved.push(open);
        }
        more.claims.sort();
        prop_assert!(more.goes().0.is_subset(&world.goes().0));
    }

    #[test]
    fn a_mention_more_never_expires_more(world in random_facts(), mention in mention()) {
        let mut more = world.clone();
        if let SourceState::Complete { mentions, .. } = &mut more.claims.sources[0].state {
            mentions.push(mention);
        }
        more.claims.sort();
        prop_assert!(more.goes().0.is_subset(&world.goes().0));
    }

    /// What a mention keeps, it keeps for a reason that says so, or because of what stays by it.
    #[test]
    fn without_mentions_everything_else_is_decided_as_before(world in random_facts()) {
        let mut less = world.clone();
        for source in &mut less.claims.sources {
            if let SourceState::Complete { mentions, .. } = &mut source.state {
                mentions.clear();
            }
        }
        let named = |found: &TagVerdict| found.reasons.iter().any(|reason| matches!(reason, Reason::Mentioned(_)));
        let (before, after) = (less.decide().0, world.decide().0);
        for (without, with) in before.tags.iter().zip(&after.tags) {
            prop_assert!(!named(without));
            let follows = with.reasons.iter().any(|reason| reason.implied_verdict() == Verdict::Protected);
            prop_assert!(without.verdict == with.verdict || follows, "{without:?} {with:?}");
        }
    }

    /// It changes verdicts only where it is the digest of a configuration that is known.
    #[test]
    fn an_image_id_with_a_foreign_name_claims_nothing_but_exact_matches(world in random_facts(), claim in foreign_id()) {
        let mut more = world.clone();
        let SourceState::Complete { claims, .. } = &mut more.claims.sources[0].state else { return Ok(()) };
        claims.push(claim.clone());
        more.claims.sort();
        let repositories = || more.inventory.registries.iter().flat_map(|registry| &registry.repositories);
        let known = repositories().flat_map(|repository| repository.manifests.values());
        let matches = known.into_iter().any(|manifest| manifest.config.as_deref() == claim.image.digest.as_ref());
        if !matches {
            prop_assert_eq!(more.decide().0, world.decide().0);
        }
    }

    /// Knowing a configuration, whichever it is, only decides what was undecided for want of it; and once all
    /// that is asked for is known, no image id with a name leaves anything undecided.
    #[test]
    fn configurations_that_are_read_only_decide(world in random_facts(), seed in any::<u64>()) {
        let (mut verdicts, _) = world.decide();
        let (mut known, mut draw) = (world.clone(), Shuffle(seed));
        while !verdicts.unread.is_empty() {
            for one in &verdicts.unread {
                let registry = &mut known.inventory.registries[one.registry as usize];
                let repository = &mut registry.repositories[one.repository as usize];
                let manifest = repository.manifests.get_mut(&one.digest).unwrap();
                prop_assert!(manifest.config.is_none());
                let mut configs: Vec<u8> = (100..106).collect();
                draw.shuffle(&mut configs);
                manifest.config = Some(Box::new(digest(configs[0])));
            }
            let next = known.decide().0;
            for (before, after) in verdicts.tags.iter().zip(&next.tags) {
                let waited = |reason: &Reason| matches!(reason, Reason::MaybeClaimed(one) if one.uncertainty == Uncertainty::ConfigUnread);
                let follows = |reason: &Reason| reason.implied_verdict() == Verdict::Protected;
                let held = before.reasons.iter().any(waited) || before.reasons.iter().any(follows);
                let decided = before.verdict == after.verdict || after.verdict == Verdict::Protected;
                prop_assert!(decided || held, "{before:?} {after:?}");
            }
            verdicts = next;
        }
        prop_assert_eq!(known.findings(&verdicts, &known.decide().1), Vec::<String>::new());
        let goes: BTreeSet<TagPosition> = expired(&verdicts);
        prop_assert!(expired(&world.decide().0).is_subset(&goes));
    }
}

fn expired(verdicts: &Verdicts) -> BTreeSet<TagPosition> {
    verdicts.tags.iter().filter(|found| found.verdict == Verdict::Expired).map(|found| found.position).collect()
}
