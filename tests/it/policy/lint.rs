//! What `check` says of policies that are sound and hardly meant.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use tagwarden::policy::{Lint, PolicySet, Severity, lint, load};

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn set(policies: &str) -> PolicySet {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.yaml");
    fs::write(&path, format!("policies:\n{policies}")).unwrap();
    load(&path).unwrap_or_else(|error| panic!("{error}"))
}

fn told(remarks: &[Lint]) -> String {
    let line = |remark: &Lint| {
        let text = remark.diagnostic.to_string();
        let (_, rest) = text.split_once("p.yaml").unwrap();
        let rest = rest.split_once("; /").map_or_else(
            || rest.to_owned(),
            |(before, after)| format!("{before}; {}", after.split_once("p.yaml").unwrap().1),
        );
        format!("{} {} {}{rest}\n", remark.severity.label(), remark.kind, remark.policy)
    };
    remarks.iter().map(line).collect()
}

#[test]
fn what_is_hardly_meant_is_told_with_its_place() {
    let policies = r#"
  - { name: forever, select: { tags: ["a*"] }, keep: [{ newest: 1000000 }] }
  - { name: century, select: { tags: ["b*"] }, keep: [{ within: 13y }, { within: 14y }] }
  - { name: matched, select: { tags: ["c-*", "!c-x"] }, keep: [{ newest: 2 }, { matching: ["c*"] }] }
  - { name: lines, select: { tags: ["v*"] }, keep: [{ newest_per: { version: minor, count: 1000000 } }] }
  - name: without
    select: { pattern: 'pr-\d+' }
    keep:
      - newest: 3
      - newest: 5
      - within: 7d
      - within: 7d
      - matching: ["release-*"]
      - daily: 3
      - weekly: 3
  - { name: guard, select: { repositories: ["shop/**"], tags: ["d*"] }, keep: all }
  - { name: guarded, select: { repositories: ["shop/api"], pattern: 'd-\d+' }, keep: [{ newest: 2 }] }
  - { name: beside, select: { repositories: ["shop/api"], tags: ["*-1"] }, keep: [{ newest: 2 }] }
  - { name: trial, select: { registries: [contoso], pattern: 'e-.*' }, keep: [{ within: 3d }] }
  - { name: strict, select: { tags: ["e-*", "!e-x"] }, keep: [{ within: 3d }], mode: enforce }
  - { name: other, select: { registries: [fabrikam], pattern: 'e-.*' }, keep: [{ within: 4d }] }
"#;
    insta::assert_snapshot!(told(&lint(&set(policies), now())));
}

/// What is told is told of what it is told of: no false alarms about what only looks alike.
#[test]
fn what_may_be_meant_is_no_warning() {
    let policies = r#"
  - { name: releases, select: { tags: ["release-*"] }, keep: all }
  - { name: builds, select: { tags: ["*", "!release-*"] }, keep: [{ newest: 5 }, { within: 14d }, { daily: 7 }] }
  - { name: years, select: { tags: ["release-*"] }, keep: [{ within: 5y }] }
"#;
    let found = lint(&set(policies), now());
    let warned: Vec<&str> = found.iter().map(|remark| remark.policy.as_str()).collect();
    assert_eq!(warned, ["years"], "{}", told(&found));
    assert_eq!(found[0].kind, "shadowed");
}

#[test]
fn the_worked_examples_give_no_warning() {
    let set = load(Path::new("policies")).unwrap();
    let warnings: Vec<String> = lint(&set, now())
        .iter()
        .filter(|remark| remark.severity == Severity::Warning)
        .map(|remark| remark.diagnostic.to_string())
        .collect();
    assert!(warnings.is_empty(), "{}", warnings.join("\n"));
}
