//! Evidence with a slip in it: it keeps what it could mean, or fails its source with a message that names the slip.

use std::time::Duration;

use tagwarden::domain::{RegistryName, SourceState, Verdict};
use tagwarden::engine::evaluate;
use tagwarden::sources::{
    self, GatherContext, ImageReferences, ReleaseRecords, SourceKind, SourceSettings, TextSettings, source,
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

/// A file's text, what stays, and what is said.
type Case<'c> = (&'c str, &'c str, &'c str);

fn check_records(cases: &[Case<'_>]) {
    for (text, stays, says) in cases {
        let (found, said) = outcome(SourceKind::ReleaseRecords, &[("r.json", text)], &["*.json"]);
        assert_eq!((found.as_str(), said.contains(says)), (*stays, true), "{text}: {said}\nexpected {says}");
    }
}

#[test]
fn a_record_without_a_tag_keeps_its_repository_and_a_misnamed_tag_fails() {
    let latest = "?shop/api shop/api:latest";
    check_records(&[
        (r#"{"image": "contoso.azurecr.io/shop/api", "tag": "candidate-01"}"#, "shop/api:candidate-01", ""),
        (
            r#"{"image": "contoso.azurecr.io/shop/api", "Tag": "candidate-01"}"#,
            "failed",
            "r.json:1: unknown key `Tag`; write `tag`",
        ),
        (r#"{"image": "shop/api", "image_tag": "candidate-01"}"#, "failed", "unknown key `image_tag`; write `tag`"),
        (r#"{"image": "shop/api", "version": 1.10}"#, "failed", "unknown key `version`; write `tag`"),
        (r#"{"image": "shop/api", "Digest": "sha256:01"}"#, "failed", "unknown key `Digest`; write `digest`"),
        (r#"{"image": "contoso.azurecr.io/shop/api"}"#, latest, ""),
        (r#"{"image": "shop/api", "tag": null, "sha": ""}"#, latest, ""),
        (r#"{"image": "contoso.azurecr.io/shop/api", "release": {"tag": "candidate-01"}}"#, latest, ""),
        // Beside a tag, all other keys are free, and a retired record needs none.
        (r#"{"image": "shop/web:v1", "version": "7", "sha": "0123abc"}"#, "shop/web:v1", ""),
        (
            r#"[{"image": "shop/web:v1"}, {"image": "shop/api", "version": "7", "status": "retired"}]"#,
            "shop/web:v1",
            "",
        ),
        // A record about another registry leaves nothing open here.
        (r#"[{"image": "shop/web:v1"}, {"image": "ghcr.io/shop/api"}]"#, "shop/web:v1", "ghcr.io (1)"),
        (r#"{"image": "ghcr.io/shop/api"}"#, "failed", "names a known registry"),
    ]);
}

#[test]
fn the_name_of_a_registry_and_an_unknown_host_are_read_a_second_time() {
    let second = "is protected";
    check_records(&[
        (r#"{"image": "contoso/shop/api:candidate-01"}"#, "shop/api:candidate-01", second),
        (r#"{"image": "contoso/shop/web", "tag": "v1"}"#, "shop/web:v1", second),
        (r#"{"image": "contoso/shop/api"}"#, "?shop/api shop/api:latest", second),
        (r#"[{"image": "shop/web:v1"}, {"image": "fabrikam/shop/api:candidate-01"}]"#, "shop/web:v1", ""),
        // A port or an address of the same machine. The first record keeps the source from being empty.
        (
            r#"[{"image": "shop/web:v1"}, {"image": "localhost:15556/shop/api:candidate-01"}]"#,
            "shop/api:candidate-01 shop/web:v1",
            "no registry is known by the host of `localhost:15556/shop/api:candidate-01`",
        ),
        (
            r#"[{"image": "shop/web:v1"}, {"image": "127.0.0.1:15566/shop/api:candidate-01"}]"#,
            "shop/api:candidate-01 shop/web:v1",
            "`aliases`",
        ),
        (
            r#"[{"image": "shop/web:v1"}, {"image": "images.contoso.example/shop/api"}]"#,
            "?shop/api shop/api:latest shop/web:v1",
            "images.contoso.example (1)",
        ),
        (r#"[{"image": "shop/web:v1"}, {"image": "quay.io/shop/api:candidate-01"}]"#, "shop/web:v1", "quay.io (1)"),
        // Nothing but such records still fails the source.
        (r#"{"image": "localhost:15556/shop/api:candidate-01"}"#, "failed", "localhost:15556 (1)"),
    ]);
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
fn a_time_with_a_slip_fails_the_source() {
    let export = |head: &str| format!("{{{head}\"releases\": [{{\"image\": \"shop/web:v1\"}}]}}");
    let until = |time: &str| format!("{{\"image\": \"shop/web:v1\", \"keep_until\": \"{time}\"}}");
    let retired = |time: &str| {
        format!(
            "[{{\"image\": \"shop/web:v1\"}}, {{\"image\": \"a:1\", \"status\": \"retired\", \"keep_until\": \"{time}\"}}]"
        )
    };
    let cases = [
        (export("\"generatedAt\": \"2026-11-23\", "), "failed", "unknown key `generatedAt`; write `generated_at`"),
        (export("\"Generated-At\": \"2026-11-23\", "), "failed", "unknown key `Generated-At`; write `generated_at`"),
        (export("\"generated_by\": \"x\", \"generated_at\": \"2026-11-23\", "), "shop/web:v1", ""),
        (export("\"generated_at\": \"2026-11-23\", \"generatedAt\": 7, "), "shop/web:v1", ""),
        (until("0026-12-31"), "failed", "r.json:1: `keep_until` is `0026-12-31`, which cannot be"),
        (until("1970-01-01"), "failed", "or `\"status\": \"retired\"`"),
        (until("0001-01-01T00:00:00Z"), "failed", "which cannot be"),
        (until("2000-01-01"), "failed", "the record at r.json:1 ended with `keep_until` 2000-01-01"),
        (until("9999-12-31"), "shop/web:v1", ""),
        (until("9999-12-31T23:59:59Z"), "shop/web:v1", ""),
        (until("9999-12-32"), "failed", "which is not a valid time"),
        (until("9999-12-31T25:00:00Z"), "failed", "which is not a valid time"),
        (retired("1970-01-01"), "shop/web:v1", ""),
    ];
    for (text, stays, says) in cases {
        let (found, said) = outcome(SourceKind::ReleaseRecords, &[("r.json", &text)], &["*.json"]);
        assert_eq!((found.as_str(), said.contains(says)), (stays, true), "{text}: {said}\nexpected {says}");
    }
}

#[test]
fn a_time_of_a_file_is_told_where_it_decides() {
    let export = r#"{"generated_at": "2026-11-23", "releases": [{"image": "a:1"}]}"#;
    for (files, expected) in [
        (&[("a.json", r#"{"image": "a:1"}"#)][..], "`max_age` goes by the time of the file a.json, which a copy"),
        (&[("a.json", export)], ""),
        // The older of the two counts.
        (&[("a.json", export), ("b.json", r#"{"image": "a:1"}"#)], ""),
    ] {
        let folder = folder(files);
        let source = ReleaseRecords::new(set(folder.path(), &["*.json"]));
        assert_eq!(query(&source).unwrap().notes, Vec::<String>::new(), "{files:?}");
        let notes = query(&source.with_age_limit()).unwrap().notes.join("\n");
        assert!(notes.starts_with(expected) && notes.is_empty() == expected.is_empty(), "{files:?}: {notes}");
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

#[test]
fn a_file_that_is_not_a_record_says_what_it_probably_is() {
    check_records(&[
        ("", "failed", "EOF while parsing a value: it is empty; write `[]`, and `allow_empty = true`"),
        ("\n <!DOCTYPE html><html>", "failed", ": it is a web page or XML, not JSON"),
        ("[{\"image\": \"a:1\"},\n]", "failed", "expected value: remove the comma before `]`"),
        ("{\"image\": \"a:1\",\n}", "failed", ": remove the comma before `}`"),
        ("{'image': 'a:1'}", "failed", "key must be a string"),
        (r#"{"Image": "a:1"}"#, "failed", "has no `image`; it has `Image`: write `image`"),
        (r#"{"items": [{"image": "a:1"}]}"#, "failed", "it has `items`: call the list `releases`"),
        (r#"{"Releases": [{"image": "a:1"}]}"#, "failed", "it has `Releases`: call the list `releases`"),
        (r#"["shop/web:v1"]"#, "failed", "found `shop/web:v1`; write `{ \"image\": \"shop/web:v1\" }`"),
    ]);
}
