//! What an edit of policies changes, and that a recorded inventory decides as the real one does.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::tz::TimeZone;
use proptest::prelude::*;
use tagwarden::domain::{
    GapTarget, Inventory, Limits, ManifestDetail, Policy, Registry, RegistryInfo, RetentionDays, RuleHistory, Rules,
    SourceState, chain,
};
use tagwarden::engine::{evaluate, plan};
use tagwarden::policy::{parse, parse_policy_tests};
use tagwarden::report::{DiffView, TagDiff, diff_markdown, diff_text};
use tagwarden::workflow::DecisionInput;

use crate::properties::{RandomFacts, now, random_facts};

fn facts(world: &RandomFacts) -> DecisionInput {
    DecisionInput {
        inventory: world.inventory.clone(),
        claims: world.claims.clone(),
        read_at: now(),
        timezone: world.rules.timezone.clone(),
        limits: world.rules.limits,
        history: RuleHistory::default(),
        from_file: false,
    }
}

fn keeps_untagged(info: &RegistryInfo) -> bool {
    info.untagged_retention == RetentionDays::Off
}

/// What a record holds of an inventory.
fn held(mut inventory: Inventory) -> Inventory {
    for registry in &mut inventory.registries {
        let kind = registry.kind;
        *registry = Registry {
            endpoint: registry.endpoint.clone(),
            hosts: registry.hosts.clone(),
            removal: registry.removal,
            info: registry.info.take().filter(keeps_untagged).map(|_| RegistryInfo::that_keeps_untagged()),
            repositories: std::mem::take(&mut registry.repositories),
            gaps: std::mem::take(&mut registry.gaps),
            ..Registry::empty(registry.name.clone(), kind)
        };
        for manifest in registry.repositories.iter_mut().flat_map(|repository| repository.manifests.values_mut()) {
            manifest.blobs = [].into();
            if manifest.detail != ManifestDetail::Full {
                manifest.detail = ManifestDetail::Listed { image_size: None };
            }
        }
    }
    inventory
}

fn goes(rules: &Rules, facts: &DecisionInput) -> BTreeSet<String> {
    let verdicts = evaluate(rules, &facts.inventory, &facts.claims, now());
    let plan = plan(rules, &facts.inventory, &verdicts, now());
    plan.removals.iter().map(|one| format!("{}/{}:{}", one.registry, one.repository, one.tag)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_holds_all_that_decides(world in random_facts()) {
        let facts = facts(&world);
        let again = DecisionInput::from_json(&facts.to_json().unwrap()).unwrap();
        prop_assert_eq!(&again.inventory, &held(world.inventory.clone()));
        prop_assert_eq!(&again.claims, &world.claims);
        let decided = |facts: &DecisionInput| evaluate(&world.rules, &facts.inventory, &facts.claims, now());
        prop_assert_eq!(decided(&again), decided(&facts));
        prop_assert_eq!((again.read_at, again.limits, again.timezone), (now(), world.rules.limits, world.rules.timezone));
        prop_assert!(again.from_file);
    }

    #[test]
    fn a_difference_is_what_goes_by_one_side_alone(world in random_facts(), other in random_facts()) {
        let facts = facts(&world);
        let (old, new) = (world.rules.policies.clone(), other.rules.policies.clone());
        let view = facts.diff(old.clone(), new.clone(), None);
        let by = |policies: Vec<Policy>| goes(&Rules { policies, ..world.rules.clone() }, &facts);
        let (before, after) = (by(old.clone()), by(new));
        let names = |tags: &[TagDiff]| tags.iter().map(TagDiff::name).collect::<BTreeSet<_>>();
        prop_assert_eq!(names(&view.newly_expired), &after - &before);
        prop_assert_eq!(names(&view.no_longer_expired), &before - &after);
        prop_assert!(names(&view.newly_enforced).is_subset(&(&before & &after)));
        prop_assert_eq!(view.summary.expired_after, after.len() as u64);
        prop_assert!(!facts.diff(old.clone(), old, None).has_changes());
    }
}

const OLD: &str = r#"policies:
  - { name: builds, select: { tags: ["b*"] }, keep: [{ within: 30d }], mode: enforce }
  - { name: nightly, select: { tags: ["n*"] }, keep: [{ within: 7d }] }
  - { name: retired, select: { tags: ["x*"] }, keep: none }
"#;
const NEW: &str = r#"policies:
  - { name: builds, select: { tags: ["b*"] }, keep: [{ within: 14d }], mode: enforce }
  - { name: nightly, select: { tags: ["n*"] }, keep: [{ within: 7d }], mode: enforce }
  - { name: guard, select: { tags: ["*-lts"] }, keep: all }
"#;
const TAGS: &str = "
      b1: { pushed: 20d }
      b2: { pushed: 3d }
      b3: { pushed: 40d }
      b4-lts: { pushed: 40d }
      n1: { pushed: 9d }
      x1: { pushed: 90d }
      y-lts: { pushed: 90d }
";

fn edited(old: &str, new: &str, tags: &str) -> DiffView {
    let text = format!(
        "tests:\n  - name: one\n    repository: shop/api\n    tags:\n      z: {{ expect: out-of-scope }}\n{tags}"
    );
    let fixture = parse_policy_tests(Path::new("policies/versions.test.yaml"), &text).unwrap();
    let (inventory, claims) = fixture.tests[0].facts("contoso".parse().unwrap());
    let facts = DecisionInput {
        inventory,
        claims,
        read_at: fixture.tests[0].now,
        timezone: TimeZone::UTC,
        limits: Limits::default(),
        history: RuleHistory::default(),
        from_file: true,
    };
    facts.diff(parse("old.yaml", old).unwrap(), parse("new.yaml", new).unwrap(), None)
}

#[test]
fn an_edit_is_told_tag_by_tag() {
    let view = edited(OLD, NEW, TAGS);
    insta::assert_snapshot!(diff_text(&view));
    insta::assert_snapshot!(diff_markdown(&view));
    let json = serde_json::to_value(&view).unwrap();
    assert_eq!(json["schema"], "tagwarden.diff/1");
    assert_eq!(json["newly_expired"][0]["tag"], "b1");
    assert_eq!(serde_json::from_value::<DiffView>(json).unwrap(), view);
    let same = edited(OLD, OLD, TAGS);
    assert!(diff_text(&same).starts_with("the same tags expire as before\n"));
    assert!(!same.has_changes());
}

/// A comment of a forge takes 65,536 characters.
#[test]
fn a_comment_stays_short_whatever_changes() {
    let tag = |at: usize| format!("      b{at}-{}: {{ pushed: 20d }}\n", "x".repeat(100));
    let tags: String = (0..2000).map(tag).collect();
    let markdown = diff_markdown(&edited(OLD, NEW, &tags));
    assert!(markdown.len() < 60_000, "{}", markdown.len());
    assert!(
        markdown.contains(": 2,000 newly expired") && markdown.contains("more in the JSON"),
        "{}",
        &markdown[..400]
    );
}

#[test]
fn what_is_no_record_is_refused_in_words() {
    for (text, words) in [
        ("", "EOF"),
        ("{}", "missing field `schema`"),
        (
            r#"{"schema": "tagwarden.inventory/2", "recorded_at": "2026-11-23T12:00:00Z", "timezone": "UTC",
               "limits": {"untag": 1, "percent": 1, "leave": 1}, "registries": [], "sources": []}"#,
            "this version reads `tagwarden.inventory/1`",
        ),
        (
            r#"{"schema": "tagwarden.inventory/1", "recorded_at": "2026-11-23T12:00:00Z", "timezone": "UTC",
               "limits": {"untag": 1, "percent": 1, "leave": 1}, "sources": [], "registries": [{"name": "a", "kind": "acr",
               "endpoint": "", "hosts": [], "removal": "untag", "repositories": [],
               "gaps": [{"at": "the-rest", "kind": "x", "message": ""}]}]}"#,
            "unknown gap `the-rest`",
        ),
    ] {
        let error = DecisionInput::from_json(text).unwrap_err();
        assert!(chain(&error).contains(words), "{error}");
    }
}

#[test]
fn an_inventory_of_the_version_before_is_read() {
    let old = r#"{"schema": "tagwarden.inventory/1", "recorded_at": "2026-11-23T12:00:00Z", "timezone": "UTC",
        "limits": {"untag": 1, "percent": 1, "leave": 1},
        "registries": [{"name": "a", "kind": "acr", "endpoint": "", "hosts": [], "removal": "untag",
            "gaps": [{"at": "particulars", "kind": "x", "message": ""}],
            "repositories": [{"name": "app", "tags": [], "manifests": {}, "first_look": "2026-11-20T00:00:00Z",
                "gaps": [{"at": "tag", "of": "v1", "kind": "x", "message": ""}]}]}],
        "sources": [{"name": "s", "kind": "image-references", "unresolved": [{"text": "a.example/app:$TAG",
            "host": "a.example", "path": ["app"], "beside": ["v7"], "holder": {"type": "file", "file": "f", "line": 1}}]}]}"#;
    let facts = DecisionInput::from_json(old).unwrap();
    let registry = &facts.inventory.registries[0];
    assert_eq!(registry.gaps[0].target, GapTarget::RegistryInfo);
    assert_eq!(registry.repositories[0].gaps[0].target, GapTarget::Tag("v1".parse().unwrap()));
    assert!(registry.repositories[0].first_read_at.is_some());
    let words: Vec<&str> = facts.claims.sources[0].unresolved()[0].adjacent_words.iter().map(|word| &**word).collect();
    assert_eq!(words, ["v7"]);
    let new = facts.to_json().unwrap();
    for (key, old) in [
        ("\"registry-info\"", "\"particulars\""),
        ("\"subject\":", "\"of\":"),
        ("\"first_read_at\":", "\"first_look\":"),
        ("\"nearby\":", "\"beside\":"),
    ] {
        assert!(new.contains(key) && !new.contains(old), "{key} {new}");
    }
}

#[test]
fn failures_are_recorded_as_failures() {
    let view = edited(OLD, NEW, "      b1: { pushed: 20d }\n");
    assert!(!view.evidence_missing);
    let text = "tests:\n  - name: one\n    repository: a\n    evidence: missing\n    tags: { b1: { pushed: 20d, expect: undecided } }\n";
    let fixture = parse_policy_tests(Path::new("policies/versions.test.yaml"), text).unwrap();
    let (inventory, claims) = fixture.tests[0].facts("contoso".parse().unwrap());
    let read_at = fixture.tests[0].now;
    let facts = DecisionInput {
        inventory,
        claims,
        read_at,
        timezone: TimeZone::UTC,
        limits: Limits::default(),
        history: RuleHistory::default(),
        from_file: false,
    };
    let again = DecisionInput::from_json(&facts.to_json().unwrap()).unwrap();
    assert!(again.claims.sources.iter().any(|source| matches!(source.state, SourceState::Failed { .. })));
    let view = again.diff(parse("o.yaml", OLD).unwrap(), parse("n.yaml", NEW).unwrap(), None);
    assert!(view.evidence_missing && !view.has_changes(), "{view:#?}");
}
