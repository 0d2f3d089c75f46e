//! Known rules replayed through both semantics, over random repositories.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use tagwarden::domain::Policy;
use tagwarden::policy_import::{ImportOptions, Tool, import};

use super::models::{acr, artifact_registry, ecr, gitlab, harbor, zot};
use super::world::{Times, World, removed, world};
use super::{Case, cases};

/// The tags that the original removes.
fn original(tool: Tool, case: &Case, world: &World) -> BTreeSet<String> {
    match tool {
        Tool::AcrPurge => acr(&case.calls, world),
        Tool::Ecr => ecr(case, world),
        Tool::ArtifactRegistry => artifact_registry(case, world),
        Tool::Harbor => harbor(case, world),
        Tool::Gitlab => gitlab(case, world),
        Tool::Zot => zot(case, world),
    }
}

fn times(tool: Tool) -> Times {
    match tool {
        Tool::AcrPurge | Tool::Gitlab | Tool::Harbor => Times::OfTags,
        Tool::Ecr | Tool::ArtifactRegistry | Tool::Zot => Times::OfImages,
    }
}

fn policies(tool: Tool, case: &Case) -> Vec<Policy> {
    tagwarden::policy::parse("imported.yaml", &case.import(tool).yaml).unwrap()
}

/// Replays a case, and returns how many tags the policies removed in all.
fn replay(tool: Tool, case: &Case, worlds: u32, one_tag_each: bool) -> usize {
    let policies = policies(tool, case);
    let total = std::cell::Cell::new(0);
    let config = Config { cases: worlds, failure_persistence: None, ..Config::default() };
    // A world in which something goes has to be among few: always the same ones, so that there is one.
    let mut runner = if one_tag_each {
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
    } else {
        TestRunner::new(config)
    };
    let worlds = world(case.repositories.clone(), times(tool), one_tag_each);
    let outcome = runner.run(&worlds, |world| {
        let original = original(tool, case, &world);
        let removed = removed(policies.clone(), &world);
        total.set(total.get() + removed.len());
        let more: Vec<&String> = removed.difference(&original).collect();
        prop_assert!(more.is_empty(), "the original keeps {more:?}");
        if one_tag_each && case.exact {
            let fewer: Vec<&String> = original.difference(&removed).collect();
            prop_assert!(fewer.is_empty(), "the original removes {fewer:?}");
        }
        Ok::<(), TestCaseError>(())
    });
    if let Err(error) = outcome {
        panic!("{}, {}: {error}\n{}", tool.label(), case.name, case.import(tool).yaml);
    }
    total.get()
}

/// No imported policy removes what the original would have kept, whatever the tags and images.
#[test]
fn no_policy_removes_what_the_original_keeps() {
    for tool in Tool::ALL {
        for case in cases(tool) {
            replay(tool, &case, 48, false);
        }
    }
}

/// Where each image has one tag and none is locked, most imports remove exactly what the original removes.
#[test]
fn exact_translations_remove_the_same() {
    for tool in Tool::ALL {
        let cases = cases(tool);
        assert!(cases.iter().filter(|case| case.exact).count() >= 5, "{}", tool.label());
        for case in &cases {
            let total = replay(tool, case, 64, true);
            assert!(total > 0 || !case.exact, "{}, {}: nothing was ever removed", tool.label(), case.name);
        }
    }
}

/// The same for filters made at random: whatever an expression says, the policy matches no more tags than the tool.
#[test]
fn random_filters_match_no_more_than_the_tool() {
    let part = prop::sample::select(vec![
        "^",
        "$",
        "dev",
        "v",
        "-",
        ".*",
        ".+",
        "\\d",
        "\\d+",
        "[a-z]+",
        "(pr|rc)",
        "(?:main)?",
        "|",
        "1",
        "\\.",
        "x?",
        "^v",
        "(?i)",
        "\\w+",
        "prod$",
        "(?!v)",
        "[^v]",
        "{1,2}",
        "latest",
        "[[:upper:]|v]",
        "[^[:alpha:]|_]+",
        "[[:digit:].]+",
    ]);
    let filter = prop::collection::vec(part, 1..5).prop_map(|parts| parts.concat());
    let names: Vec<String> = vec!["app".to_owned()];
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let inputs = (filter, world(names, Times::OfTags, false));
    let outcome = runner.run(&inputs, |(filter, world)| {
        let Ok(regex) = regex::Regex::new(&filter) else { return Ok(()) };
        if filter.contains('\'') || filter.contains(':') {
            return Ok(());
        }
        let text = format!("acr purge --filter 'app:{filter}' --ago 7d");
        let done = import(Tool::AcrPurge, &text, &ImportOptions::default());
        prop_assert!(done.is_ok(), "{done:?}");
        let yaml = done.unwrap().yaml;
        let policies = tagwarden::policy::parse("imported.yaml", &yaml).unwrap();
        for tag in removed(policies, &world) {
            prop_assert!(regex.is_match(&tag), "{tag} is not matched by {filter}\n{yaml}");
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
