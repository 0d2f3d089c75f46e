//! What holds of every decision, whatever the facts.

mod random_facts;

use std::collections::BTreeSet;

use jiff::SignedDuration;
use proptest::prelude::*;
use proptest::sample::Index;
use tagwarden::domain::{
    ArtifactType, Digest, GapTarget, Keep, KeepRule, Plan, Reason, Refusal, RefusalScope, RemovalAbility,
    RemovalMethod, RetentionDays, SourceState, TagName, TextCondition, Verdict, WrittenDuration,
};
use tagwarden::engine::{Idleness, reclaim, repository_use};

use crate::scenarios::{apply, forge};

use random_facts::rule;
pub(crate) use random_facts::{
    IMAGES, RandomFacts, Shuffle, claim, digest, gap, hold, id, mention, now, policy, random_facts, tag_name,
    unresolved,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_tag_has_one_verdict_with_reasons_in_order(world in random_facts()) {
        let (verdicts, plan) = world.decide();
        prop_assert_eq!(verdicts.tags.len(), world.inventory.tag_count());
        prop_assert!(verdicts.tags.is_sorted_by(|a, b| a.position < b.position));
        for found in &verdicts.tags {
            prop_assert!(!found.reasons.is_empty());
            prop_assert!(found.reasons.is_sorted_by(|a, b| a < b), "{:?}", found.reasons);
            let strongest = found.reasons.iter().map(Reason::implied_verdict).min();
            prop_assert_eq!(strongest, Some(found.verdict));
        }
        let expired = verdicts.tags.iter().filter(|found| found.verdict == Verdict::Expired).map(|found| found.position);
        prop_assert!(expired.eq(plan.removals.iter().map(|removal| removal.position)));
    }

    #[test]
    fn other_eyes_find_nothing(world in random_facts()) {
        let (verdicts, plan) = world.decide();
        prop_assert_eq!(world.findings(&verdicts, &plan), Vec::<String>::new());
    }

    #[test]
    fn the_order_of_what_is_read_does_not_matter(world in random_facts(), seed in any::<u64>()) {
        let mut other = world.clone();
        let mut order = Shuffle(seed);
        order.shuffle(&mut other.rules.policies);
        order.shuffle(&mut other.claims.sources);
        order.shuffle(&mut other.claims.holds);
        for source in &mut other.claims.sources {
            if let SourceState::Complete { claims, unresolved, mentions, .. } = &mut source.state {
                order.shuffle(claims);
                order.shuffle(unresolved);
                order.shuffle(mentions);
            }
        }
        order.shuffle(&mut other.inventory.registries);
        for registry in &mut other.inventory.registries {
            order.shuffle(&mut registry.repositories);
            for repository in &mut registry.repositories {
                order.shuffle(&mut repository.tags);
                order.shuffle(&mut repository.gaps);
                repository.manifests.values_mut().for_each(|manifest| order.shuffle(&mut manifest.children));
            }
        }
        prop_assert_eq!(world.goes(), other.goes());
        other.inventory.sort();
        let (verdicts, plan) = other.decide();
        let bytes = reclaim(&other.inventory, &other.claims, &verdicts, &plan);
        let (expected, expected_plan) = world.decide();
        let expected_bytes = reclaim(&world.inventory, &world.claims, &expected, &expected_plan);
        prop_assert_eq!(verdicts, expected);
        prop_assert_eq!(plan, expected_plan);
        prop_assert_eq!(bytes, expected_bytes);
    }

    #[test]
    fn more_evidence_never_expires_more(world in random_facts(), claim in claim()) {
        let mut more = world.clone();
        if let SourceState::Complete { claims, .. } = &mut more.claims.sources[0].state {
            claims.push(claim);
        }
        more.claims.sort();
        prop_assert!(more.goes().0.is_subset(&world.goes().0));
    }

    #[test]
    fn a_hold_more_never_expires_more(world in random_facts(), hold in hold()) {
        let mut more = world.clone();
        more.claims.holds.push(hold);
        more.claims.sort();
        prop_assert!(more.goes().0.is_subset(&world.goes().0));
    }

    #[test]
    fn more_keep_rules_never_expire_more(world in random_facts(), rule in rule(), which in any::<Index>()) {
        let mut more = world.clone();
        let which = which.index(more.rules.policies.len());
        // What one more rule keeps takes places from what a limit leaves to the others.
        if more.rules.policies[which].keep.at_most().is_some() {
            return Ok(());
        }
        match &mut more.rules.policies[which].keep {
            Keep::Rules(rules) => rules.push(rule),
            keep => *keep = Keep::Rules(vec![rule]),
        }
        prop_assert!(more.goes().0.is_subset(&world.goes().0));
    }

    #[test]
    fn a_limit_on_rules_never_expires_less(world in random_facts(), count in 1..4u32, which in any::<Index>()) {
        let mut less = world.clone();
        let which = which.index(less.rules.policies.len());
        let Keep::Rules(rules) = &mut less.rules.policies[which].keep else { return Ok(()) };
        rules.push(KeepRule::AtMost(count.try_into().unwrap()));
        prop_assert!(world.goes().0.is_subset(&less.goes().0));
    }

    #[test]
    fn a_source_lost_never_expires_more(world in random_facts(), which in 0..2usize) {
        let mut less = world.clone();
        less.claims.sources[which].state = SourceState::Failed { kind: "unreadable", message: "".into() };
        let ((less, less_enforced), (all, _)) = (less.goes(), world.goes());
        prop_assert!(less.is_subset(&all));
        prop_assert!(less_enforced.is_subset(&less));
    }

    #[test]
    fn a_gap_more_never_expires_more(world in random_facts(), gap in gap(), place in any::<(bool, bool)>()) {
        let mut less = world.clone();
        let registry = &mut less.inventory.registries[usize::from(place.0)];
        registry.repositories[usize::from(place.1)].gaps.push(gap);
        less.inventory.sort();
        prop_assert!(less.goes().0.is_subset(&world.goes().0));
    }

    /// Nobody knows any more when some tags were pulled or pushed, or of what type an artifact is.
    #[test]
    fn less_known_of_what_selectors_ask_never_expires_more(
        world in random_facts(), which in any::<Index>(), what in 0..7u8,
    ) {
        let mut less = world.clone();
        for repository in less.inventory.registries.iter_mut().flat_map(|registry| &mut registry.repositories) {
            match what {
                0 => repository.pull_times.clear(),
                1 => {
                    let tags: Vec<_> = repository.pull_times.keys().cloned().collect();
                    if !tags.is_empty() {
                        repository.pull_times.remove(&tags[which.index(tags.len())]);
                    }
                }
                2 => repository.removed_at = Some(now().into()),
                3 => repository.artifact_types.clear(),
                4 => repository.annotations.clear(),
                5 => {
                    // One key of one image, as where the images of an index differ.
                    let known: Vec<_> = repository.labels.values_mut().filter(|known| !known.is_empty()).collect();
                    if !known.is_empty() {
                        let at = which.index(known.len());
                        known.into_iter().nth(at).unwrap().pop_first();
                    }
                }
                _ => {
                    let known: Vec<_> = repository.artifact_types.keys().cloned().collect();
                    if !known.is_empty() {
                        repository.artifact_types.remove(&known[which.index(known.len())]);
                    }
                }
            }
        }
        prop_assert!(less.goes().0.is_subset(&world.goes().0));
    }

    /// A policy that selects by a fact that nobody knows keeps what it may select.
    #[test]
    fn a_selector_by_unknown_facts_never_expires_more(world in random_facts(), which in any::<Index>()) {
        let mut less = world.clone();
        for repository in less.inventory.registries.iter_mut().flat_map(|registry| &mut registry.repositories) {
            repository.pull_times.clear();
            repository.artifact_types.clear();
            repository.annotations.clear();
            repository.labels.clear();
        }
        let before = less.goes().0;
        let which = which.index(less.rules.policies.len());
        let (duration, written) = (SignedDuration::from_secs(1), "1s".into());
        let mut repositories = less.inventory.registries.iter().flat_map(|registry| &registry.repositories);
        // What was pushed right now is used, whatever is not known.
        prop_assume!(repositories.all(|one| repository_use(one, now()).idleness(duration, now()) != Idleness::Used));
        less.rules.policies[which].select.facts.idle = Some(WrittenDuration { duration, written });
        prop_assert!(less.goes().0.is_subset(&before));
        less.rules.policies[which].select.facts.idle = None;
        // Of an index nobody needs to know more to say that it is not a chart, so one of a type that may be any.
        let types = vec![ArtifactType::MediaType("application/vnd.example+json".into())];
        less.rules.policies[which].select.facts.types = Some(types);
        prop_assert!(less.goes().0.is_subset(&before));
        less.rules.policies[which].select.facts.types = None;
        let texts = || vec![TextCondition::new("team", &["*"]).unwrap()];
        less.rules.policies[which].select.facts.annotations = texts();
        prop_assert!(less.goes().0.is_subset(&before));
        less.rules.policies[which].select.facts.annotations.clear();
        less.rules.policies[which].select.facts.labels = texts();
        prop_assert!(less.goes().0.is_subset(&before));
    }

    #[test]
    fn planning_again_after_applying_removes_nothing(world in random_facts()) {
        let (_, plan) = world.decide();
        let mut after = world.clone();
        apply(&mut after.inventory, &plan, &world.rules, now());
        prop_assert_eq!(after.goes().0, BTreeSet::new());
        // The same for what is really enforced, where the rest of the plan stays what it was.
        let (all, enforced) = world.goes();
        let mut half = world.clone();
        let enforced_plan =
            Plan { removals: plan.removals.into_iter().filter(|removal| removal.enforce).collect(), refusals: vec![], ..Plan::default() };
        apply(&mut half.inventory, &enforced_plan, &world.rules, now());
        prop_assert!(half.goes().0.is_subset(&all.difference(&enforced).cloned().collect()));
    }

    #[test]
    fn nothing_goes_for_good_from_a_registry_that_forbids_it(world in random_facts()) {
        let (_, plan) = world.decide();
        for removal in plan.removals.iter().filter(|removal| removal.enforce) {
            let registry = &world.inventory.registries[removal.position.registry as usize];
            let days = registry.info.as_ref().map(|found| found.untagged_retention);
            let purged = match days {
                Some(RetentionDays::Unknown) => true,
                Some(RetentionDays::Days(days)) => days < 7,
                Some(RetentionDays::Off) | None => false,
            };
            let forbids = purged && removal.method == RemovalMethod::Untag && !registry.accepts_retention
                || registry.gaps.iter().any(|gap| gap.target == GapTarget::RegistryInfo)
                || registry.clock_ahead.is_some_and(|ahead| ahead.abs() > SignedDuration::from_secs(120))
                || registry.obstacles.contains_key(&removal.repository)
                || matches!(registry.ability, RemovalAbility::Impossible(_));
            let covers = |scope: &RefusalScope| match scope {
                RefusalScope::Registry(name) => *name == registry.name,
                RefusalScope::Repository(name, repository) => *name == registry.name && *repository == removal.repository,
                _ => false,
            };
            let refused = |refusal: &Refusal| refusal.binding && covers(&refusal.scope);
            prop_assert!(!forbids || plan.refusals.iter().any(refused), "{removal:?}");
        }
    }

    #[test]
    fn other_eyes_see_a_kept_tag_removed(world in random_facts(), which in any::<Index>()) {
        let (mut verdicts, mut plan) = world.decide();
        let kept: Vec<usize> =
            (0..verdicts.tags.len()).filter(|&at| verdicts.tags[at].verdict != Verdict::Expired).collect();
        if kept.is_empty() {
            return Ok(());
        }
        let at = verdicts.tags[kept[which.index(kept.len())]].position;
        let honest = verdicts.clone();
        forge(&world.inventory, now(), at, "one".parse().unwrap(), &mut verdicts, &mut plan);
        prop_assert!(!world.findings(&honest, &plan).is_empty());
        // Nor does it help that the verdict says so too: the facts do not.
        prop_assert!(!world.findings(&verdicts, &plan).is_empty());
    }

    #[test]
    fn other_eyes_see_a_plan_that_was_changed(world in random_facts(), which in any::<Index>(), how in 0..7u8) {
        let (verdicts, mut plan) = world.decide();
        if plan.removals.is_empty() {
            return Ok(());
        }
        let at = which.index(plan.removals.len());
        match how {
            0 => plan.removals[at].digest = Digest::of(b"another"),
            1 => plan.removals.insert(at, plan.removals[at].clone()),
            2 => drop(plan.removals.remove(at)),
            3 => plan.removals[at].tag = "renamed".parse::<TagName>().unwrap(),
            4 => {
                let other = match plan.removals[at].method {
                    RemovalMethod::Untag => RemovalMethod::DeleteManifest,
                    RemovalMethod::DeleteManifest => RemovalMethod::Untag,
                };
                plan.removals[at].method = other;
            }
            5 => plan.removals[at].policies = ["zero".parse().unwrap()].into(),
            _ => {
                if plan.refusals.is_empty() {
                    return Ok(());
                }
                plan.refusals.remove(which.index(plan.refusals.len()));
            }
        }
        prop_assert!(!world.findings(&verdicts, &plan).is_empty());
    }

    #[test]
    fn other_eyes_see_a_trial_enforced(world in random_facts(), which in any::<Index>()) {
        let (verdicts, mut plan) = world.decide();
        plan.refusals.iter_mut().for_each(|refusal| refusal.binding = false);
        let reported: Vec<usize> = (0..plan.removals.len()).filter(|&at| !plan.removals[at].enforce).collect();
        if reported.is_empty() {
            return Ok(());
        }
        let at = reported[which.index(reported.len())];
        plan.removals[at].enforce = true;
        prop_assert!(!world.findings(&verdicts, &plan).is_empty());
    }
}
