//! Rules that match nothing, whatever the world: what they might have protected is refused, and the check sees to it.

use proptest::prelude::*;
use tagwarden::domain::{CoverageBasis, Globs, Keep, Plan, PolicyMode, RefusalReason, RuleHistory, TagSelector};
use tagwarden::engine::{Verdicts, check, refuse_unmatched, rule_coverage};

use crate::properties::{RandomFacts, now, random_facts};

/// A world with a rule that keeps, and one that excludes; either may match nothing.
fn ruled() -> impl Strategy<Value = RandomFacts> {
    let keeping = prop::sample::select(vec!["v*", "main-*", "^v", "Main-*", "release-*"]);
    let excluded = prop::sample::select(vec!["!rel-*", "!hotfix-*", "!dev-.*"]);
    let repositories = prop::sample::select(vec![None, Some("lib/**"), Some("lib"), Some("app")]);
    (random_facts(), keeping, excluded, repositories, any::<bool>()).prop_map(
        |(mut world, keep, exclude, place, own)| {
            let mut keeping = world.rules.policies[0].clone();
            keeping.name = "zzz-keeps".parse().unwrap();
            keeping.keep = Keep::All;
            keeping.group_by = Vec::new();
            keeping.select.tags = TagSelector::Globs(Globs::new(&[keep]).unwrap());
            keeping.select.repositories = place.map(|place| Globs::new(&[place]).unwrap());
            for policy in &mut world.rules.policies {
                policy.mode = PolicyMode::Enforce;
            }
            if own {
                let first = &mut world.rules.policies[0];
                first.group_by = Vec::new();
                first.select.tags = TagSelector::Globs(Globs::new(&["*", exclude]).unwrap());
            }
            world.rules.policies.push(keeping);
            world
        },
    )
}

fn decide(world: &RandomFacts) -> (Verdicts, Plan) {
    let (verdicts, plan) = world.decide();
    let found = rule_coverage(&world.rules, &world.inventory, RuleHistory::default(), CoverageBasis::FullInventory);
    let plan = refuse_unmatched(&world.rules, &world.inventory, plan, found);
    (verdicts, plan)
}

fn findings(world: &RandomFacts, verdicts: &Verdicts, plan: &Plan) -> Vec<String> {
    let found = check(&world.rules, &world.inventory, &world.claims, verdicts, plan, now());
    found.iter().map(ToString::to_string).collect()
}

fn by_a_rule(why: &RefusalReason) -> bool {
    matches!(why, RefusalReason::UnmatchedRule(_))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn other_eyes_agree_about_rules(world in ruled()) {
        let (verdicts, plan) = decide(&world);
        prop_assert_eq!(findings(&world, &verdicts, &plan), Vec::<String>::new());
    }

    #[test]
    fn other_eyes_see_a_rule_passed_over(world in ruled()) {
        let (verdicts, mut plan) = decide(&world);
        let binding = plan.refusals.iter().filter(|refusal| refusal.binding && by_a_rule(&refusal.reason)).count();
        let covered = plan.removals.iter().any(|removal| removal.enforce);
        plan.refusals.retain(|refusal| !by_a_rule(&refusal.reason));
        prop_assert!(binding == 0 || !covered || !findings(&world, &verdicts, &plan).is_empty());
    }

    #[test]
    fn a_rule_more_that_protects_nothing_never_enforces_more(world in ruled()) {
        let really = |plan: &Plan| {
            let enforced = plan.removals.iter().filter(|one| one.enforce && plan.refusal_for(one).is_none());
            enforced.map(|one| one.position).collect::<Vec<_>>()
        };
        let (_, plain) = world.decide();
        let (_, held) = decide(&world);
        let before = really(&plain);
        prop_assert!(really(&held).iter().all(|at| before.contains(at)));
    }
}
