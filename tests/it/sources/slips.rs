//! Evidence with a slip in it: it keeps what it could mean, or fails its source with a message that names the slip.

use std::time::Duration;

use tagwarden::domain::{RegistryName, SourceState, Verdict};
use tagwarden::engine::evaluate;
use tagwarden::sources::{
    self, GatherContext, ImageReferences, SourceKind, SourceSettings, TextSettings, source,
};

use super::{folder, now, query, set};
use crate::scenarios::shape::Scenario;

/// The registry of all cases: every tag is old and selected, and nothing names the tags `gone`.
const REGISTRY: &str = r#"
lesson: one registry for all slips
policies: |
  - { name: old, select: { tags: ["*"] }, keep: none, mode: enforce }
registry: { hosts: [contoso.azurecr.io, "127.0.0.1:15556"] }
repositories:
  shop/api: { tags: { candidate: a 90d, candidate-01: b 90d, latest: c 90d, gone: d 90d } }
  shop/web: { tags: { v1: e 90d, gone: f 90d } }
expect: ""
"#;

/// What stays because of these files, tags as `repository:tag` and `?repository` where others are undecided, and the
/// notes; or the message of the failure.
fn outcome(kind: fn(sources::FileSet) -> SourceKind, files: &[(&str, &str)], globs: &[&str]) -> (String, String) {
    let folder = folder(files);
    let settings = SourceSettings {
        name: "evidence".parse().unwrap(),
        kind: kind(set(folder.path(), globs)),
        registries: None,
        max_age: None,
        allow_empty: false,
        min_claims: None,
        deadline: Duration::from_mins(1),
        texts: TextSettings::default(),
    };
    let scenario: Scenario = serde_saphyr::from_str(REGISTRY).unwrap();
    let stage = scenario.stage("evidence");
    let names = ["contoso.azurecr.io", "127.0.0.1:15556"].map(str::to_owned).to_vec();
    let hosts: Vec<(RegistryName, Vec<String>)> = vec![("contoso".parse().unwrap(), names)];
    let asked = source(&settings, &hosts[0].1);
    let known = GatherContext { hosts: &hosts, inventory: &stage.inventory, untagged: &[] };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let claims = runtime.block_on(sources::gather_about(vec![(settings, asked)], known, now(), now()));
    let notes = match &claims.sources[0].state {
        SourceState::Failed { message, .. } => return ("failed".to_owned(), message.to_string()),
        SourceState::Complete { notes, .. } => notes.join("\n"),
    };
    let verdicts = evaluate(&stage.rules, &stage.inventory, &claims, stage.now);
    let mut stays: Vec<String> = Vec::new();
    for found in &verdicts.tags {
        let repository = &stage.inventory.registries[0].repositories[found.position.repository as usize];
        let tag = &repository.tags[found.position.tag as usize].name;
        match found.verdict {
            Verdict::Expired => {}
            Verdict::Protected => stays.push(format!("{}:{tag}", repository.name)),
            _ => stays.push(format!("?{}", repository.name)),
        }
    }
    stays.sort();
    stays.dedup();
    (stays.join(" "), notes)
}

#[test]
fn a_dash_that_is_none_leaves_the_tag_open() {
    let cases = [
        ("contoso.azurecr.io/shop/api:candidate\u{2011}01", "?shop/api shop/api:candidate", "followed by U+2011"),
        ("contoso.azurecr.io/shop/api:candidate\u{2013}01\n", "?shop/api shop/api:candidate", "plain `-`"),
        ("image: contoso.azurecr.io/shop/api:candidate\u{2212}01\n", "?shop/api shop/api:candidate", "U+2212"),
        ("contoso.azurecr.io/shop/api:candidate\u{e9}", "?shop/api shop/api:candidate", "U+00E9, so its tag is open"),
        ("contoso.azurecr.io/shop/a\u{2010}x:v1 contoso.azurecr.io/shop/web:v1", "?shop/api shop/web:v1", ""),
        // Zero-width characters are not part of any name.
        ("contoso.azurecr.io/shop/api:candidate\u{ad}-01", "shop/api:candidate-01", ""),
        ("contoso.azurecr.io/shop/api:candidate-01\u{200b}", "shop/api:candidate-01", ""),
        // Marks of a sentence end a reference, and so do dashes after a repository.
        ("\u{201c}contoso.azurecr.io/shop/api:candidate-01\u{201d}", "shop/api:candidate-01", ""),
        ("contoso.azurecr.io/shop/api:candidate-01\u{3002}", "shop/api:candidate-01", ""),
        ("contoso.azurecr.io/shop/api:candidate-01 \u{2014} live", "shop/api:candidate-01", ""),
    ];
    for (text, stays, says) in cases {
        let (found, said) = outcome(SourceKind::ImageReferences, &[("live.txt", text)], &["*.txt"]);
        assert_eq!((found.as_str(), said.contains(says)), (stays, true), "{text:?}: {said}");
        assert!(!says.is_empty() || said.is_empty() || text.contains('\u{2010}'), "{text:?}: {said}");
    }
}

#[test]
fn evidence_that_a_glob_misses_by_a_hair_is_told() {
    const RECORD: &str = r#"{"image": "shop/web:v1"}"#;
    let other_case = "is not read, since `";
    let deeper = "does not reach releases/prod/p.json one folder deeper; if they count, write `releases/**/*.json`";
    for (files, globs, stays, says) in [
        (
            &["releases/a.json", "releases/P.JSON"][..],
            &["releases/**/*.json"][..],
            "failed",
            "releases/P.JSON is not read",
        ),
        (
            &["releases/a.json", "releases/Prod/p.json"],
            &["releases/prod*/*.json", "releases/*.json"],
            "failed",
            "no file",
        ),
        (&["releases/prod-a/a.json", "releases/Prod/p.json"], &["releases/prod*/*.json"], "failed", other_case),
        (&["releases/a.json", "releases/P.JSON"], &["releases/*.json", "releases/*.JSON"], "shop/web:v1", ""),
        (&["releases/a.json", "releases/B.json"], &["releases/[a-z].json"], "shop/web:v1", ""),
        (&["releases/a.json", "releases/README.md"], &["releases/*.json"], "shop/web:v1", ""),
        (&["releases/a.json", "releases/prod/p.json"], &["releases/*.json"], "shop/web:v1", deeper),
        (&["releases/a.json", "releases/prod/p.json"], &["releases/*.json", "releases/*/*.json"], "shop/web:v1", ""),
        (&["releases/a.json", "releases/prod/p.json"], &["releases/**/*.json"], "shop/web:v1", ""),
    ] {
        let files: Vec<(&str, &str)> = files.iter().map(|name| (*name, RECORD)).collect();
        let (found, said) = outcome(SourceKind::ReleaseRecords, &files, globs);
        assert_eq!((found.as_str(), said.contains(says)), (stays, true), "{files:?} {globs:?}: {said}");
        assert!(!says.is_empty() || said.is_empty(), "{files:?} {globs:?}: {said}");
    }
    let texts = folder(&[("deploy/a.yaml", ""), ("deploy/prod/b.yaml", ""), ("deploy/prod/c.yaml", "")]);
    let read = ImageReferences::new(set(texts.path(), &["deploy/*.yaml"]), Vec::new(), TextSettings::default());
    let notes = query(&read).unwrap().notes;
    assert!(notes[0].contains("does not reach deploy/prod/") && notes[0].contains(" and other files"), "{notes:?}");

    let empty = [("a.json", RECORD), ("b.json", "[]")];
    assert_eq!(outcome(SourceKind::ReleaseRecords, &empty, &["*.json"]).1, "b.json has no record");
    let retired = [("a.json", RECORD), ("b.json", r#"[{"image": "a:1", "status": "retired"}]"#)];
    assert_eq!(outcome(SourceKind::ReleaseRecords, &retired, &["*.json"]).1, "");
}
