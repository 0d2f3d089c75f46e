//! Accidents of the field and rules of the house as data: facts in, the whole table of verdicts out.
//!
//! Every file of `tests/scenarios` is one. Its shape is that of [`shape::Scenario`]; `two-weeks-then-gone.yaml` shows
//! most of it.

mod labels;
mod manifest_shape;
pub(crate) mod shape;

use std::fmt::Write as _;
use std::path::Path;

use labels::{Labels, refusal, unmatched};
use shape::{Scenario, ScenarioFacts};
use tagwarden::domain::{
    Deletions, Digest, Inventory, Plan, PolicyName, Reason, ReclaimBytes, Removal, Rules, TagPosition, Verdict,
};
use tagwarden::engine::{self, Verdicts, check, evaluate, plan, reclaim};

#[test]
fn every_scenario_gives_its_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 40, "scenarios are missing");
    let mut failures = String::new();
    for file in &files {
        let name = file.file_stem().unwrap().to_string_lossy();
        let text = std::fs::read_to_string(file).unwrap();
        let scenario: Scenario = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!scenario.lesson.is_empty(), "{name} says nothing of its lesson");
        let mut expected = scenario.expected();
        let stage = scenario.stage(&name);
        let mut found = played(&name, &stage);
        // Companions are named by hashes here; nobody should have to know their order.
        expected.sort();
        found.sort();
        if found != expected {
            write!(failures, "\n{name}: {}\n{}", scenario.lesson.trim(), difference(&expected, &found)).unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// Everything that a scenario decides, a line for each tag, removal's bytes, refusal and drift.
fn played(name: &str, stage: &ScenarioFacts) -> Vec<String> {
    let ScenarioFacts { rules, inventory, claims, now, .. } = stage;
    let verdicts = evaluate(rules, inventory, claims, *now);
    let plan = planned(stage, &verdicts, Deletions::default());
    let findings = check(rules, inventory, claims, &verdicts, &plan, *now);
    assert!(findings.is_empty(), "{name}: {findings:#?}");
    let kept = verdicts.tags.iter().filter(|found| found.verdict != Verdict::Expired).count();
    assert_eq!(kept + plan.removals.len(), inventory.tag_count(), "{name}: kept and removed are not all");

    let mut after = inventory.clone();
    apply(&mut after, &plan, rules, *now);
    let again = evaluate(rules, &after, claims, *now);
    let more: Vec<_> = again.tags.iter().filter(|found| found.verdict == Verdict::Expired).collect();
    assert!(more.is_empty(), "{name}: planning again after applying removes more: {more:?}");

    let mut lines = lines(stage, &verdicts, &plan);
    lines.extend(deletions(name, stage));
    lines
}

/// The plan with what unmatched rules refuse of it.
fn planned(stage: &ScenarioFacts, verdicts: &Verdicts, deletions: Deletions) -> Plan {
    let ScenarioFacts { rules, inventory, now, .. } = stage;
    let plan = Plan { deletions, ..plan(rules, inventory, verdicts, *now) };
    let coverage = engine::rule_coverage(rules, inventory, stage.history.clone(), stage.basis);
    engine::refuse_unmatched(rules, inventory, plan, coverage)
}

/// What becomes of untagged manifests, a line for each whose time is over.
fn deletions(name: &str, stage: &ScenarioFacts) -> Vec<String> {
    let ScenarioFacts { rules, claims, untagged, others, now, .. } = stage;
    let decide = |inventory: &Inventory| {
        let mut found = engine::plan_deletions(rules, inventory, claims, untagged, others, *now);
        let findings = engine::check_deletions(rules, inventory, claims, untagged, others, &found, *now);
        assert!(findings.is_empty(), "{name}: {findings:#?}");
        let mut counts = engine::DeletionCounts::default();
        counts.add(found.deletable());
        found.refusals = engine::refuse_deletions(rules, &inventory.registries, &counts);
        found
    };
    let verdicts = evaluate(rules, &stage.inventory, claims, *now);
    let whole = planned(stage, &verdicts, decide(&stage.inventory));
    let findings = check(rules, &stage.inventory, claims, &verdicts, &whole, *now);
    assert!(findings.is_empty(), "{name}: {findings:#?}");
    let found = whole.deletions;
    let mut after = stage.inventory.clone();
    delete(&mut after, &found);
    let more: Vec<_> = decide(&after).deletable().cloned().collect();
    assert!(more.is_empty(), "{name}: deciding again after deleting deletes more: {more:?}");

    let labels = Labels::new(stage);
    let mut lines: Vec<String> = found.eligible.iter().map(|one| labels.deletion(one)).collect();
    lines.extend((found.pending > 0).then(|| format!("deletion {} waiting", found.pending)));
    lines.extend(found.kept.iter().map(|(label, count)| format!("deletion {count} kept {label}")));
    lines.extend(found.refusals.iter().map(|one| format!("deletion refused {}", refusal(one))));
    lines
}

/// Nothing that a scenario keeps could be removed without the check's notice, even if the verdict said so.
#[test]
fn other_eyes_see_each_kept_tag_of_a_scenario_removed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut missed = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let scenario: Scenario = serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let stage = scenario.stage(&name);
        let ScenarioFacts { rules, inventory, claims, now, .. } = &stage;
        let verdicts = evaluate(rules, inventory, claims, *now);
        for kept in verdicts.tags.iter().filter(|found| found.verdict != Verdict::Expired) {
            let (mut forged, mut plan) = (verdicts.clone(), plan(rules, inventory, &verdicts, *now));
            forge(inventory, *now, kept.position, rules.policies[0].name.clone(), &mut forged, &mut plan);
            if check(rules, inventory, claims, &forged, &plan, *now).is_empty() {
                missed.push(format!("{name}: {}", Labels::new(&stage).image(kept.position)));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// Puts the removal of a kept tag into a plan, and a verdict that fits it.
pub(crate) fn forge(
    inventory: &Inventory,
    now: jiff::Timestamp,
    at: TagPosition,
    policy: PolicyName,
    verdicts: &mut Verdicts,
    plan: &mut Plan,
) {
    let registry = &inventory.registries[at.registry as usize];
    let repository = &registry.repositories[at.repository as usize];
    let tag = &repository.tags[at.tag as usize];
    let removal = Removal {
        position: at,
        registry: registry.name.clone(),
        repository: repository.name.clone(),
        tag: tag.name.clone(),
        digest: tag.digest.clone().unwrap_or(Digest::of(&[0])),
        policy: policy.clone(),
        policies: [policy.clone()].into(),
        method: registry.removal,
        enforce: false,
        date: engine::tag_date(repository, tag, now),
        companion_of: engine::companion_subject(&tag.name).map(Box::new),
    };
    plan.removals.push(removal);
    plan.removals.sort_by_key(|removal| removal.position);
    let forged = verdicts.tags.iter_mut().find(|found| found.position == at).unwrap();
    forged.verdict = Verdict::Expired;
    forged.reasons = Reason::NotKept { policy, shortfalls: Box::default() }.into();
}

/// Takes the manifests that go out of an inventory.
fn delete(inventory: &mut Inventory, deletions: &Deletions) {
    for deletion in deletions.deletable() {
        let registry = inventory.registries.iter_mut().find(|one| one.name == deletion.registry).unwrap();
        let repository = registry.repositories.iter_mut().find(|one| one.name == deletion.repository).unwrap();
        for digest in std::iter::once(&deletion.digest).chain(deletion.dependents.iter().map(|along| &along.digest)) {
            assert!(repository.manifests.remove(digest).is_some(), "deleted twice: {digest}");
            repository.untagged.remove(digest);
        }
    }
}

/// Takes the tags of a plan out of an inventory, as applying it would. What no policy with `idle` expires leaves a trace.
pub(crate) fn apply(inventory: &mut Inventory, plan: &Plan, rules: &Rules, now: jiff::Timestamp) {
    let is_idle = |name: &PolicyName| {
        rules.policies.iter().any(|policy| policy.name == *name && policy.select.facts.idle.is_some())
    };
    for removal in plan.removals.iter().filter(|removal| removal.companion_of.is_none()) {
        let at = removal.position;
        let repository = &mut inventory.registries[at.registry as usize].repositories[at.repository as usize];
        if !removal.policies.iter().any(is_idle) {
            repository.removed_at = Some(now.into());
        }
    }
    let mut gone: Vec<_> = plan.removals.iter().map(|removal| removal.position).collect();
    gone.sort();
    for at in gone.into_iter().rev() {
        let registry = &mut inventory.registries[at.registry as usize];
        registry.repositories[at.repository as usize].tags.remove(at.tag as usize);
    }
}

fn lines(stage: &ScenarioFacts, verdicts: &Verdicts, plan: &Plan) -> Vec<String> {
    let labels = Labels::new(stage);
    let mut lines = Vec::new();
    for found in &verdicts.tags {
        let mut line = format!("{} {}", labels.image(found.position), found.verdict.label());
        for reason in &found.reasons {
            write!(line, " {}", labels.reason(reason)).unwrap();
        }
        if let Some(removal) = plan.removals.iter().find(|removal| removal.position == found.position) {
            line.push_str(if removal.enforce { " -> removed" } else { " -> reported" });
        }
        lines.push(line);
    }
    lines.extend(plan.refusals.iter().map(|one| format!("refused {}", refusal(one))));
    lines.extend(plan.coverage.unmatched.iter().map(|one| format!("unmatched {}", unmatched(one))));
    lines.extend(verdicts.drift.iter().map(|drift| format!("drift {}", labels.drift(drift))));
    if stage.bytes {
        let bytes = reclaim(&stage.inventory, &stage.claims, verdicts, plan);
        for (removal, bytes) in plan.removals.iter().zip(&bytes.removals) {
            let bytes = bytes.map_or("unknown".to_owned(), |bytes| format!("{} + {}", bytes.exclusive, bytes.shared));
            lines.push(format!("bytes {} {bytes}", labels.image(removal.position)));
        }
        for registry in &bytes.registries {
            let about = if registry.estimated { "about " } else { "" };
            let ReclaimBytes { exclusive, shared } = registry.sum().bytes;
            let unknown = registry.sum().unknown;
            let name = &registry.registry;
            lines.push(format!("bytes {name}: {about}{exclusive} reclaimable, {shared} shared, {unknown} unknown"));
        }
    }
    lines
}

fn difference(expected: &[String], found: &[String]) -> String {
    let mut text = String::new();
    for line in expected.iter().filter(|line| !found.contains(line)) {
        writeln!(text, "  - {line}").unwrap();
    }
    for line in found {
        writeln!(text, "  {} {line}", if expected.contains(line) { " " } else { "+" }).unwrap();
    }
    text
}
