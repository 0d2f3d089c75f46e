//! What release records claim, and what fails them.

use std::path::Path;

use jiff::Timestamp;
use tagwarden::domain::{Holder, ReleaseStatus};
use tagwarden::sources::{ImageReferences, ReleaseRecords, TextSettings};

use super::{D, E, describe_claims, folder, query, records, set};

#[test]
fn release_records_claim_what_they_name() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("r.json", r#"{"image": "contoso.azurecr.io/shop/api:v1"}"#, &["1 ~/shop/api:v1"]),
        ("r.json", "[\n{\"image\": \"api:v1\"},\n{\n\"image\": \"api:v2\"}]", &["2 api:v1", "4 api:v2"]),
        ("r.json", "{\"generated_at\": \"2026-11-01T00:00:00Z\",\n\"releases\": [\n{\"image\":\"a@#\"}]}", &["3 a@D"]),
        ("r.json", "[]", &[]),
        ("r.ndjson", "{\"image\":\"a:1\"}\n\n[{\"image\":\"a:2\"}]\n", &["1 a:1", "3 a:2"]),
        ("r.YAML", "image: contoso.azurecr.io/api:v1@#\n", &["1 ~/api:v1@D"]),
        ("r.yml", "---\n- image: a:1\n---\nreleases:\n- image: a:2\n---\n", &["2 a:1", "5 a:2"]),
        ("r.yaml", "- &base {image: a:1, owner: x}\n- <<: *base\n  environment: prod\n", &["1 a:1", "1 a:1"]),
        // A tag or digest under its own key completes the image; where it differs, both count.
        ("r.yaml", "image: api\ntag: v1\n", &["1 api:v1"]),
        ("r.yaml", "image: api\ntag: 1.10\n", &["1 api:1.10"]),
        ("r.yaml", "image: api:v1\ndigest: '#'\n", &["1 api:v1@D"]),
        ("r.yaml", "image: api:v1\ntag: v2\n", &["1 api:v1", "1 api:v2"]),
        ("r.yaml", "image: api:v1\ntag: releases/v2+4\n", &["1 api:v1"]),
        ("r.yaml", "image: 'api@#'\ndigest: '%'\n", &["1 api@D", "1 api@E"]),
        ("r.yaml", "image: api\n", &["1 api:latest"]),
        // What no longer protects claims nothing; the last day counts whole, to its end in UTC.
        ("r.yaml", "image: api:v1\nstatus: retired\n", &[]),
        ("r.yaml", "image: api:v1\nstatus: rollback\n", &["1 api:v1"]),
        ("r.yaml", "image: api:v1\nkeep_until: 2026-11-22\n", &[]),
        ("r.yaml", "image: api:v1\nkeep_until: 2026-11-23\n", &["1 api:v1"]),
        ("r.yaml", "image: api:v1\nkeep_until: 2026-11-23T11:59:59Z\n", &[]),
        ("r.yaml", "image: api:v1\nkeep_until: 2026-11-23T12:59:59+01:00\n", &[]),
        ("r.yaml", "image: api:v1\nkeep_until: 2026-11-23T12:00:00Z\n", &["1 api:v1"]),
        ("r.yaml", "image: api:v1\nkeep_until:\nstatus: ~\nanything: [1, {}]\n", &["1 api:v1"]),
    ];
    for (name, text, expected) in cases {
        let text = text.replace('#', D).replace('%', E);
        let answer = records(name, &text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(describe_claims(&answer.claims), *expected, "{text}");
    }
}

#[test]
fn release_records_tell_who_holds_them() {
    let text = r#"{"image": "a:1", "service": "shop", "environment": "prod", "owner": "team-a", "approved_by": "bob",
        "build": 4711, "branch": "main", "released_at": "2026-11-01", "status": "rollback", "keep_until": "2027-01-31"}"#;
    let answer = records("r.json", text).unwrap();
    let Holder::Release(release) = &*answer.claims[0].holder else { panic!() };
    let texts = [&release.service, &release.environment, &release.owner, &release.approved_by];
    assert_eq!(texts.map(|text| text.as_deref().unwrap()), ["shop", "prod", "team-a", "bob"]);
    assert_eq!((release.build.as_deref(), release.branch.as_deref()), (Some("4711"), Some("main")));
    assert_eq!(release.status, ReleaseStatus::Rollback);
    assert_eq!(release.released_at.unwrap().to_string(), "2026-11-01T00:00:00Z");
    assert_eq!(release.keep_until.unwrap().to_string(), "2027-01-31T23:59:59.999999999Z");
    assert_eq!((release.path.as_str(), release.line), ("r.json", 1));
}

#[test]
fn a_record_that_is_not_understood_fails_the_source() {
    let cases = [
        ("r.json", "", "r.json:1: EOF"),
        ("r.json", "{\"image\": \"a:1\",}", "r.json:1: key must be a string"),
        ("r.json", "{\"image\": \"a:1\"}\n{\"image\": \"a:2\"}", "r.json:2: trailing characters"),
        ("r.jsonl", "{\"image\": \"a:1\"}\n\noops", "r.jsonl:3: expected value"),
        ("r.yaml", "", "r.yaml: is empty"),
        ("r.yaml", "# nothing\n---\n", "r.yaml: is empty"),
        ("r.yaml", "- image: a:1\n  image: [\n", "r.yaml:2: unclosed"),
        (
            "r.yaml",
            "- image: a:1\n- image: a:2\n  image: a:3\n",
            "r.yaml:3: `image` stands here again; it stood on line 2",
        ),
        (
            "r.json",
            "{\"image\": \"a:1\",\n\"image\": \"a:2\"}",
            "r.json:2: `image` stands here again; it stood on line 1",
        ),
        ("r.json", "{\"releases\": [],\n\"releases\": []}", "r.json:2: `releases` stands here again"),
        ("r.json", "{\"releases\":\n{}}", "r.json:2: `releases` is a map, not a list"),
        (
            "r.json",
            "{\"generated_at\": \"soon\", \"releases\": []}",
            "r.json:1: `generated_at` is `soon`, which is not a valid time",
        ),
        ("r.yaml", "- a:1\n", "r.yaml:1: expected a release record, found `a:1`"),
        ("r.yaml", "- [{image: a:1}]\n", "r.yaml:1: expected a release record, found a list"),
        ("r.yaml", "-\n  service: x\n", "r.yaml:2: this release record has no `image`"),
        ("r.yaml", "service: x\nimage: ~\n", "r.yaml:1: this release record has no `image`"),
        ("r.yaml", "image: ''\n", "r.yaml:1: `` is not a valid image reference: it is empty"),
        ("r.yaml", "service: x\nimage: Shop/API:v1/\n", "r.yaml:2: `Shop/API:v1/` is not a valid image reference"),
        ("r.yaml", "service: x\nimage: 7\n", "r.yaml:2: `image` is `7`, not a text"),
        ("r.yaml", "image: {repository: x}\n", "r.yaml:1: `image` is a map, not a text"),
        ("r.yaml", "image: a\ntag: a/b\n", "r.yaml:2: `a/b` is not a valid tag"),
        ("r.yaml", "image: a:1\ndigest: sha256:12\n", "r.yaml:2: `sha256:12` is not a valid digest"),
        ("r.yaml", "image: a:1\nstatus: Retired\n", "r.yaml:2: unknown status `Retired`; expected `active`"),
        ("r.yaml", "image: a:1\nstatus: true\n", "r.yaml:2: `status` is `true`, not a text"),
        (
            "r.yaml",
            "image: a:1\nkeep_until: next year\n",
            "r.yaml:2: `keep_until` is `next year`, which is not a valid time",
        ),
        (
            "r.yaml",
            "image: a:1\nkeep_until: 2026-11-31\n",
            "r.yaml:2: `keep_until` is `2026-11-31`, which is not a valid time",
        ),
        ("r.yaml", "image: a:1\nkeep_until: 2026-11-30T10:00:00\n", "r.yaml:2: `keep_until`"),
        ("r.yaml", "image: a:1\nkeep_until: 20261130\n", "r.yaml:2: `keep_until` is `20261130`, not a text"),
        (
            "r.yaml",
            "image: a:1\nreleased_at: yesterday\n",
            "r.yaml:2: `released_at` is `yesterday`, which is not a valid time",
        ),
        ("r.yaml", "image: a:1\nstatus: retired\nservice: [x]\n", "r.yaml:3: `service` is a list, not a text"),
        ("r.txt", "image: a:1\n", "r.txt: is neither .json"),
    ];
    for (name, text, expected) in cases {
        let error = records(name, text).expect_err(text);
        assert!(error.chain().contains(expected), "{text:?}:\n{error}\nexpected {expected}");
        assert_eq!(error.kind, "malformed");
    }
    let not_text = tempfile::tempdir().unwrap();
    std::fs::write(not_text.path().join("r.json"), b"{\n\"image\": \"\xff\"}").unwrap();
    let error = query(&ReleaseRecords::new(set(not_text.path(), &["r.json"]))).unwrap_err();
    assert_eq!(error.chain(), "r.json:2: is not UTF-8 text");
}

#[test]
fn all_problems_of_all_files_are_told_at_once() {
    let many = "- status: x\n".repeat(30);
    let folder = folder(&[("a.yaml", "image: a:1\nstatus: x\nkeep_until: y\n"), ("b.yaml", &many)]);
    let error = query(&ReleaseRecords::new(set(folder.path(), &["*.yaml"]))).unwrap_err();
    let words = error.chain();
    let lines: Vec<&str> = words.lines().collect();
    assert_eq!(lines.len(), 21);
    assert!(
        lines[0].starts_with("a.yaml:2:") && lines[1].starts_with("a.yaml:3:") && lines[2].starts_with("b.yaml:1:")
    );
    assert_eq!(lines[20], "and 42 more");
}

#[test]
fn evidence_is_as_old_as_what_should_have_been_renewed() {
    let snapshot = |time: &str| format!("{{\"generated_at\": \"{time}\", \"releases\": []}}");
    let (old, new) = (snapshot("2026-11-01T00:00:00Z"), snapshot("2026-11-20T00:00:00Z"));
    let written = |name: &str, folder: &Path, time: &str| {
        let time: Timestamp = time.parse().unwrap();
        let file = std::fs::File::options().append(true).open(folder.join(name)).unwrap();
        file.set_modified(time.into()).unwrap();
    };
    let folder = folder(&[("s/old.json", &old), ("s/new.json", &new), ("r/1.json", "[]"), ("r/2.json", "[]")]);
    written("r/1.json", folder.path(), "2026-01-01T00:00:00Z");
    written("r/2.json", folder.path(), "2026-11-10T00:00:00Z");
    let cases = [
        (&["s/*.json"][..], "2026-11-01T00:00:00Z"),
        (&["s/new.json"][..], "2026-11-20T00:00:00Z"),
        (&["r/*.json"][..], "2026-11-10T00:00:00Z"),
        (&["s/new.json", "r/*.json"][..], "2026-11-10T00:00:00Z"),
        (&["**/*.json"][..], "2026-11-01T00:00:00Z"),
    ];
    for (globs, expected) in cases {
        let answer = query(&ReleaseRecords::new(set(folder.path(), globs))).unwrap();
        assert_eq!(answer.as_of.unwrap().to_string(), expected, "{globs:?}");
    }
    let references = ImageReferences::new(set(folder.path(), &["r/*.json"]), vec![], TextSettings::default());
    assert_eq!(query(&references).unwrap().as_of.unwrap().to_string(), "2026-11-10T00:00:00Z");
}
