//! Tests of policies: the expectations in `*.test.yaml` beside them, compared with the engine's decisions.

use std::path::Path;

use super::RunError;
use crate::domain::{
    CoverageBasis, Inventory, Limits, PolicyName, RegistryName, RuleHistory, Rules, TagVerdict, TextKind,
};
use crate::engine;
use crate::policy::{self, Expectation, PolicySet, PolicyTest, PolicyTests};
use crate::report::{PolicyTestFile, PolicyTestResult, PolicyTestTag, ReasonView};

/// Runs the tests of a fixture, of a policy file, or of a folder. Works offline and without settings.
///
/// # Errors
/// Returns [`RunError::Invalid`] with every problem of the fixtures and of the tested policies.
pub fn test_policies(path: &Path) -> Result<Vec<PolicyTestFile>, RunError> {
    let fixtures = policy::load_policy_tests(path).map_err(|error| RunError::Invalid(error.diagnostics))?;
    let (mut tested, mut problems) = (Vec::new(), Vec::new());
    for fixture in &fixtures {
        match policy::load(&fixture.policies) {
            Ok(policies) => tested.push(run_test_file(fixture, &policies)),
            Err(error) => problems.extend(error.diagnostics),
        }
    }
    problems.dedup();
    if problems.is_empty() { Ok(tested) } else { Err(RunError::Invalid(problems)) }
}

fn run_test_file(fixture: &PolicyTests, policies: &PolicySet) -> PolicyTestFile {
    let tests = fixture.tests.iter().map(|test| run_test(test, policies)).collect();
    PolicyTestFile { file: fixture.file.clone(), tests }
}

fn run_test(test: &PolicyTest, policies: &PolicySet) -> PolicyTestResult {
    let rules = Rules {
        policies: policies.policies.clone(),
        limits: Limits::default(),
        timezone: test.timezone.clone(),
        undo_window: std::time::Duration::ZERO,
    };
    let (mut inventory, claims) = test.facts(test.registry.clone().unwrap_or_else(|| registry(policies)));
    complete_texts(&rules, &mut inventory);
    let basis = (RuleHistory::default(), CoverageBasis::NotChecked);
    let verdicts = engine::decide_inventory(&rules, &inventory, &claims, test.now, basis).verdicts;
    let repository = inventory.registries.first().and_then(|registry| registry.repositories.first());
    let verdict_on = |expected: &Expectation| {
        let tags = repository.map(|repository| &repository.tags)?;
        let at = tags.binary_search_by(|tag| tag.name.cmp(&expected.tag)).ok()?;
        verdicts.tags.get(at)
    };
    let tags = test.expected.iter().filter_map(|expected| Some(compare_expectation(expected, verdict_on(expected)?)));
    let tags: Vec<PolicyTestTag> = tags.collect();
    let passed = tags.iter().all(|tag| tag.passed);
    PolicyTestResult { name: test.name.clone(), line: test.line as u64, passed, tags }
}

/// Fills in the keys that images do not have: a test names all annotations or labels of an image, or none.
fn complete_texts(rules: &Rules, inventory: &mut Inventory) {
    for repository in inventory.registries.iter_mut().flat_map(|registry| &mut registry.repositories) {
        for kind in TextKind::ALL {
            for known in repository.known_texts_mut(kind).values_mut() {
                for key in rules.asked_keys(kind) {
                    known.entry(key).or_insert(None);
                }
            }
        }
    }
}

/// Returns the first registry that a policy names, or a default name.
fn registry(policies: &PolicySet) -> RegistryName {
    let named = policies.policies.iter().find_map(|policy| policy.select.registries.as_ref()?.first());
    named.cloned().unwrap_or_else(|| "registry".parse().expect("a registry name"))
}

fn compare_expectation(expected: &Expectation, found: &TagVerdict) -> PolicyTestTag {
    let decides = found.reasons.iter().filter(|reason| reason.implied_verdict() == found.verdict).map(ReasonView::from);
    let decides: Vec<ReasonView> = decides.collect();
    let reasons: Vec<ReasonView> = found.reasons.iter().map(ReasonView::from).collect();
    let by = expected.by.as_ref().map(PolicyName::as_str);
    let passed = found.verdict == expected.verdict
        && by.is_none_or(|by| decides.iter().any(|reason| reason.policy() == Some(by)))
        && expected.because.iter().all(|label| reasons.iter().any(|reason| reason.kind() == label));
    PolicyTestTag {
        tag: expected.tag.to_string(),
        line: expected.line as u64,
        expected: expected.verdict.label().to_owned(),
        by: by.map(str::to_owned),
        because: expected.because.clone(),
        verdict: found.verdict.label().to_owned(),
        reasons,
        passed,
    }
}
