//! Rule by rule, and on a timeline, from facts that a fixture states.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use proptest::prelude::*;
use tagwarden::domain::{Limits, PolicyName, Reason, Rules, Shortfall, TagPosition};
use tagwarden::engine::{RuleOutcome, evaluate, plan, reclaim, trace_rules};
use tagwarden::policy::{parse, parse_policy_tests};
use tagwarden::report::{
    Basis, PlanDocument, TagTraceView, TimelineView, document, explanation_with_rules, explanation_with_rules_json,
    recorded_timeline, rule_trace, timeline, timeline_text,
};

use crate::properties::{now, random_facts};

/// A repository with its policies, decided about.
struct DecidedRepository {
    document: PlanDocument,
    timeline: TimelineView,
    rule_traces: Vec<(String, TagTraceView)>,
}

fn stage(policies: &str, test: &str) -> DecidedRepository {
    let test = format!("tests:\n  - name: one\n    repository: shop/api\n    tags:\n{test}");
    let fixture = parse_policy_tests(Path::new("policies/versions.test.yaml"), &test).unwrap();
    let test = &fixture.tests[0];
    let rules = rules(policies, test.timezone.clone());
    let (inventory, claims) = test.facts("contoso".parse().unwrap());
    let verdicts = evaluate(&rules, &inventory, &claims, test.now);
    let plan = plan(&rules, &inventory, &verdicts, test.now);
    let reclaim = Arc::new(reclaim(&inventory, &claims, &verdicts, &plan));
    let (inventory, verdicts, plan) = (Arc::new(inventory), Arc::new(verdicts), Arc::new(plan));
    let document = document(&Basis {
        rules: &rules,
        mode: "dry-run",
        settings: "sha256:0",
        inventory: &inventory,
        claims: &claims,
        verdicts: &verdicts,
        plan: &plan,
        reclaim: &reclaim,
        drift: &[],
        created_at: test.now,
        evaluated_at: test.now,
        hypothetical: false,
        valid_for: Duration::from_hours(24),
    });
    let place = (&inventory.registries[0].name, &inventory.registries[0].repositories[0].name);
    let timeline = timeline(&rules, &inventory, &claims, &verdicts, test.now, place).unwrap();
    let tags = &inventory.registries[0].repositories[0].tags;
    let weighed = (0..).zip(tags).map(|(at, tag)| {
        let place = TagPosition { registry: 0, repository: 0, tag: at };
        (tag.name.to_string(), rule_trace(&rules, &inventory, &claims, test.now, place).unwrap())
    });
    let weighed = weighed.collect();
    DecidedRepository { document, timeline, rule_traces: weighed }
}

fn rules(policies: &str, timezone: TimeZone) -> Rules {
    let policies = parse("shop.yaml", &format!("policies:\n{policies}")).unwrap_or_else(|faults| panic!("{faults:#?}"));
    Rules { policies, limits: Limits { percent: 100, ..Limits::default() }, timezone, undo_window: Duration::ZERO }
}

impl DecidedRepository {
    fn explain(&self, tag: &str) -> String {
        let weighed = &self.rule_traces.iter().find(|(name, _)| name == tag).unwrap().1;
        explanation_with_rules(&self.document, "contoso", "shop/api", tag, weighed, None).unwrap()
    }
}

const POLICIES: &str = r#"
  - name: branch-builds
    select: { repositories: ["shop/**"], pattern: '(?<branch>[a-z]+)-\d+' }
    group_by: [branch]
    keep: [{ newest: 3 }, { within: 14d }, { weekly: 2 }]
    mode: enforce
  - { name: releases, select: { tags: ["release-*"] }, keep: all }
  - { name: elsewhere, select: { repositories: ["tools/**"] }, keep: none }
  - name: versions
    select: { tags: ["v*"] }
    keep: [{ newest_per: { version: minor, count: 1 } }, { matching: ["*-lts"] }]
"#;

const TAGS: &str = "
      main-9: { pushed: 1d }
      main-8: { pushed: 3d }
      main-7: { pushed: 6d }
      main-6: { pushed: 8d }
      main-5: { pushed: 16d }
      main-4: { pushed: 30d, claimed: tag }
      dev-1: { pushed: 90d }
      dev-2: {}
      v1.2.3: { pushed: 90d }
      v1.2.4: { pushed: 80d }
      release-1: { pushed: 500d, lock: write, expect: protected }
      other: { pushed: 500d }
";

#[test]
fn a_tag_is_explained_rule_by_rule() {
    let stage = stage(POLICIES, TAGS);
    let mut told = String::new();
    for tag in ["main-6", "main-5", "main-4", "dev-2", "v1.2.3", "release-1", "other"] {
        let _ = writeln!(told, "{}=====", stage.explain(tag));
    }
    insta::assert_snapshot!(told);
    let weighed = &stage.rule_traces.iter().find(|(name, _)| name == "main-6").unwrap().1;
    let json = explanation_with_rules_json(&stage.document, "contoso", "shop/api", "main-6", weighed, None).unwrap();
    assert_eq!(json["forecast"]["kind"], "expires");
    assert_eq!(json["forecast"]["at"], "2026-01-07T12:00:01Z");
    assert_eq!(json["policies"][0]["group"]["branch"], "main");
    assert_eq!(json["policies"][0]["rules"][0]["cutoff"]["tag"], "main-7");
    assert_eq!(json["policies"][1]["mismatch"], "repositories");
}

#[test]
fn a_repository_is_a_timeline_with_cuts() {
    let stage = stage(POLICIES, TAGS);
    let text = timeline_text(&stage.timeline);
    let recorded = recorded_timeline(&stage.document, "contoso", "shop/api").unwrap();
    insta::assert_snapshot!(format!("{text}=====\n{}", timeline_text(&recorded)));
    assert_eq!(recorded_timeline(&stage.document, "contoso", "shop/web"), None);
    let json = serde_json::to_value(&stage.timeline).unwrap();
    assert_eq!(json["schema"], "tagwarden.timeline/1");
    assert_eq!(json["groups"][1]["cutoffs"][2]["rule"], "within: 14d");
    assert_eq!(json["groups"][1]["cutoffs"][2]["at"], "2025-12-18T12:00:00Z");
}

#[test]
fn a_tag_tells_how_its_version_was_read() {
    let cases = [
        ("v1.2.3", "read as version 1.2.3"),
        ("1.2.3-alpine3.20", "read as version 1.2.3, suffix `-alpine3.20` shares its place"),
        ("1.1.1-rc10", "read as pre-release `rc10` of 1.1.1"),
        ("1.1.1-rc.9-slim", "read as pre-release `rc.9` of 1.1.1, suffix `-slim` shares its place"),
        ("v1.0.0-5-g0a1b2c3", "read as 5 commits after 1.0.0"),
        ("v1.0.1-beta-2-1-g0a1b2c3", "read as 1 commit after pre-release `beta-2` of 1.0.1"),
        ("1.3.0_build.5", "read as version 1.3.0, `_build.5` does not count"),
    ];
    let tags: Vec<String> = cases.iter().map(|(tag, _)| format!("      \"{tag}\": {{ pushed: 9d }}\n")).collect();
    let each = "  - { name: each, select: { tags: [\"*\"] }, keep: [{ newest_per: { version: minor, count: 1 } }] }\n";
    let told = stage(each, &tags.concat().replacen("9d }", "9d, expect: retained }", 1));
    for (tag, words) in cases {
        let text = told.explain(tag);
        let line = text.lines().find(|line| line.trim_start().starts_with("newest_per")).unwrap();
        assert!(line.ends_with(&format!("; {words}")), "{line}");
        let weighed = &told.rule_traces.iter().find(|(name, _)| name == tag).unwrap().1;
        assert_eq!(weighed.policies[0].rules[0].reading.as_deref(), Some(words));
    }
    let part = "  - name: part\n    select: { pattern: 'app-(?<version>.+)-(?:blue|green)' }\n    \
        keep: [{ newest_per: { version: minor, count: 1 } }]\n";
    let told =
        stage(part, "      app-1.0-rc2-blue: { pushed: 9d, expect: retained }\n      app-next-green: { pushed: 9d }\n");
    assert!(told.explain("app-1.0-rc2-blue").contains("; read as pre-release `rc2` of 1.0\n"));
    assert!(!told.explain("app-next-green").contains("read as"));
}

#[test]
fn an_undated_tag_tells_the_look_at_which_it_was_there() {
    let text =
        "tests:\n  - name: one\n    repository: shop/api\n    tags:\n      old: { expect: retained }\n      v1: {}\n";
    let read = parse_policy_tests(Path::new("policies/versions.test.yaml"), text).unwrap();
    let one = &read.tests[0];
    let (mut inventory, claims) = one.facts("contoso".parse().unwrap());
    inventory.registries[0].repositories[0].first_read_at = "2025-12-02T12:00:00Z".parse().ok();
    let policies = "  - { name: days, select: { tags: [old] }, keep: [{ within: 14d }, { within: 90d }] }\n";
    let rules = rules(policies, one.timezone.clone());
    let place = TagPosition { registry: 0, repository: 0, tag: 0 };
    let view = rule_trace(&rules, &inventory, &claims, one.now, place).unwrap();
    let rules_read: Vec<_> = view.policies[0].rules.iter().map(|rule| (rule.keeps, rule.reading.as_deref())).collect();
    let look = Some("without a date, but there at the first look on 2025-12-02 12:00 UTC");
    assert_eq!(rules_read, [(false, look), (true, look)]);
    assert_eq!((&*view.forecast.kind, view.forecast.at), ("expires", "2026-03-02T12:00:01Z".parse().ok()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is told rule by rule is what was decided by: the same reasons to keep, and let go where none keeps.
    #[test]
    fn rule_by_rule_is_what_decides(world in random_facts()) {
        let verdicts = evaluate(&world.rules, &world.inventory, &world.claims, now());
        for (r, registry) in (0..).zip(&world.inventory.registries) {
            for (p, repository) in (0..).zip(&registry.repositories) {
                let mut told: Vec<Vec<Reason>> = vec![Vec::new(); repository.tags.len()];
                for weighing in trace_rules(&world.rules, registry, repository, now()) {
                    for tag in &weighing.tags {
                        told[tag.tag as usize].extend(reasons(&weighing.policy.name, &tag.outcomes));
                    }
                    for &(tag, fact) in &weighing.unsure {
                        told[tag as usize].push(Reason::SelectionUnknown { policy: weighing.policy.name.clone(), fact });
                    }
                    for (tag, _) in &weighing.others {
                        prop_assert!(weighing.tags.iter().all(|other| other.tag != *tag));
                    }
                }
                for (tag, mut told) in (0..).zip(told) {
                    let found = verdicts.at(TagPosition { registry: r, repository: p, tag }).unwrap();
                    let by_policies = found.reasons.iter().filter(|reason| is_of_a_policy(reason));
                    told.sort();
                    told.dedup();
                    let mut decided: Vec<Reason> = by_policies.cloned().collect();
                    decided.dedup();
                    prop_assert_eq!(told, decided);
                }
            }
        }
    }
}

fn reasons(policy: &PolicyName, rules: &[RuleOutcome]) -> Vec<Reason> {
    let keeps: Vec<Reason> = rules
        .iter()
        .filter_map(|rule| match rule {
            RuleOutcome::Keeps(reason) => Some(reason.clone()),
            RuleOutcome::FallsShort(_) => None,
        })
        .collect();
    if !keeps.is_empty() {
        return keeps;
    }
    let misses: Box<[Shortfall]> = rules
        .iter()
        .filter_map(|rule| match rule {
            RuleOutcome::FallsShort(miss) => Some(miss.clone()),
            RuleOutcome::Keeps(_) => None,
        })
        .collect();
    vec![Reason::NotKept { policy: policy.clone(), shortfalls: misses }]
}

fn is_of_a_policy(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::KeptAll { .. }
            | Reason::KeptNewest { .. }
            | Reason::KeptWithin { .. }
            | Reason::KeptBucket { .. }
            | Reason::KeptVersion { .. }
            | Reason::KeptMatching { .. }
            | Reason::KeptImageWith { .. }
            | Reason::KeptPulled { .. }
            | Reason::PullTimeUnknown { .. }
            | Reason::Undated { .. }
            | Reason::NotAVersion { .. }
            | Reason::SelectionUnknown { .. }
            | Reason::NotKept { .. }
    )
}
