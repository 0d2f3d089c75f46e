//! `check` of policy files alone, and of evidence in local files.

use super::{CliFixture, record, settings};

const POLICIES: &str =
    "policies:\n  - { name: builds, select: { registries: [contoso], tags: [\"b*\"] }, keep: [{ within: 14d }] }\n";
const TESTS: &str =
    "tests:\n  - name: two weeks\n    repository: shop/api\n    tags:\n      b1: { pushed: 20d, expect: expired }\n";

#[tokio::test]
async fn policy_files_are_checked_by_name_without_settings() {
    let desk = CliFixture::with(&[
        ("policies/builds.yaml", POLICIES),
        ("policies/builds.test.yaml", TESTS),
        ("policies/again.yaml", POLICIES),
        ("policies/broken.yaml", "policies:\n  - { name: a, keeps: all }\n"),
        ("policies/broken.test.yaml", "tests: 7\n"),
        ("good/builds.yaml", POLICIES),
        ("untested.yaml", POLICIES),
        // Neither read nor needed.
        ("tagwarden.toml", "nonsense"),
    ]);
    for (words, code, said) in [
        (
            "check policies/builds.yaml",
            0,
            "1 file is valid: 1 policy, 0 tests\n  builds (dry-run, policies/builds.yaml)",
        ),
        ("check policies/builds.yaml policies/builds.test.yaml", 0, "2 files are valid: 1 policy, 1 test\n"),
        ("check policies/builds.test.yaml", 0, "1 file is valid: 0 policies, 1 test\n"),
        ("check --policies good", 0, "1 file is valid: 1 policy, 0 tests\n"),
        ("check --policies good/builds.yaml --strict", 0, "1 file is valid"),
        ("check policies/builds.yaml policies/again.yaml", 2, "two policies are named `builds`"),
        ("check policies/builds.yaml policies/broken.yaml", 2, "policies/broken.yaml"),
        ("check policies/builds.yaml policies/broken.test.yaml", 2, "policies/broken.test.yaml"),
        ("check --policies policies", 2, "policies/broken.test.yaml"),
        ("check nowhere.yaml", 2, "nowhere.yaml"),
        ("check tagwarden.toml", 2, "check settings with `tagwarden check --config tagwarden.toml`"),
        ("check --policies good untested.yaml", 2, "cannot be used with"),
        ("check --online untested.yaml", 2, "cannot be used with"),
    ] {
        let done = desk.run(words).await.exits(code);
        let text = if code == 0 { &done.out } else { &done.err };
        assert!(text.contains(said), "{words}: {said:?} is not in\n{text}");
    }
    assert!(!desk.path("tagwarden.db").exists());
    // All problems of all files at once.
    let json = desk.run("check --policies policies --format json").await.exits(2).json();
    let mut kinds: Vec<&str> =
        json["errors"].as_array().unwrap().iter().filter_map(|one| one["kind"].as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, ["invalid-policy", "invalid-test"], "{json:#}");
}

#[tokio::test]
async fn settings_that_are_named_count_for_files_as_well() {
    let desk = CliFixture::with(&[
        ("here.toml", &settings("http://127.0.0.1:1")),
        ("builds.yaml", POLICIES),
        ("other.yaml", &POLICIES.replace("[contoso]", "[fabrikam]")),
    ]);
    desk.run("check --config here.toml builds.yaml").await.exits(0);
    desk.run("check other.yaml").await.exits(0);
    let done = desk.run("check --config here.toml other.yaml").await.exits(2);
    assert!(done.err.contains("unknown registry `fabrikam`"), "{}", done.err);
}

#[tokio::test]
async fn evidence_in_local_files_is_read() {
    let host = "127.0.0.1:1";
    let good = record(&format!("{host}/shop/api:v1"));
    let desk =
        CliFixture::with(&[("tagwarden.toml", &settings(&format!("http://{host}"))), ("policies/a.yaml", POLICIES)]);
    let absent = desk.run("check --strict").await.exits(0);
    let line = desk.read("tagwarden.toml").lines().position(|line| line.starts_with("paths")).unwrap() + 1;
    let said = format!("note: tagwarden.toml:{line}: source `releases`: no file matches `releases/*.json` (from ");
    assert!(absent.err.contains(&said), "{}", absent.err);
    desk.write("relases/other.json", "[]");
    desk.run("check").await.exits(0);
    let near = desk.run("check --strict").await.exits(2);
    assert!(
        near.err.contains("warning: tagwarden.toml:")
            && near.err.contains("); `relases/` is there; write the files there, or correct"),
        "{}",
        near.err
    );
    for (text, code, strict, said) in [
        (&*good, 0, 0, "source releases (release-records): 1 claim in local files"),
        ("[]", 0, 2, "warning: source `releases`: it answered with no claim at all"),
        (
            &good.replace("127.0.0.1:1", "other.example"),
            0,
            2,
            "warning: source `releases`: none of its 1 claims names a known registry",
        ),
        (
            "[{\"image\": \"a/b:1\",\n\"keep_until\": \"2020-12-31\"}]",
            0,
            2,
            "warning: source `releases`: it protects nothing: the record at releases/api.json:2 ended with `keep_until` \
             2020-12-31; correct the dates, or add a record of what is released",
        ),
        ("[\n{\"image\": \"x\", \"status\": \"live\"}]", 5, 5, "error: releases/api.json:2: unknown status `live`"),
        ("[{", 5, 5, "error: releases/api.json:1: "),
    ] {
        desk.write("releases/api.json", text);
        let done = desk.run("check").await.exits(code);
        let words = format!("{}{}", done.out, done.err);
        assert!(words.contains(said), "{text}: {said:?} is not in\n{words}");
        desk.run("check --strict").await.exits(strict);
    }
    desk.run("check --strict --skip-evidence").await.exits(0);
    let github = desk.run("check --format github").await.exits(5).out;
    let expected = "::error file=releases/api.json,line=1,title=invalid-evidence::source `releases`: ";
    assert!(github.lines().any(|line| line.starts_with(expected)), "{github}");
    let json = desk.run("check --format json").await.exits(5).json();
    assert_eq!((&json["evidence"][0]["file"], &json["evidence"][0]["line"]), (&"releases/api.json".into(), &1.into()));
    assert!(!desk.path("tagwarden.db").exists());
}

#[tokio::test]
async fn each_problem_of_evidence_has_its_own_place_from_any_folder() {
    let records = "[{\"image\": \"127.0.0.1:1/a:1\", \"status\": \"x\"},\n{\"service\": \"no image\"}]";
    let desk = CliFixture::with(&[
        ("deploy/tagwarden.toml", &settings("http://127.0.0.1:1")),
        ("deploy/policies/a.yaml", POLICIES),
        ("deploy/releases/a.json", records),
        ("deploy/releases/b.json", "nonsense"),
    ]);
    let gitlab = desk.run("check --config deploy/tagwarden.toml --format gitlab").await.exits(5).json();
    let places: Vec<String> = gitlab
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {}:{}", one["severity"], one["location"]["path"], one["location"]["lines"]["begin"]))
        .collect();
    let place = |file: &str, line: u32| format!("\"major\" \"deploy/releases/{file}\":{line}");
    assert_eq!(places, [place("a.json", 1), place("a.json", 2), place("b.json", 1)]);
}

#[tokio::test]
async fn a_policy_file_on_standard_input_is_checked() {
    use std::process::Stdio;

    use tokio::io::AsyncWriteExt as _;
    let desk = CliFixture::with(&[("other.yaml", POLICIES)]);
    let broken = POLICIES.replace("keep", "keeep");
    for (words, text, code, said) in [
        ("check -", POLICIES, 0, "1 file is valid: 1 policy, 0 tests\n  builds (dry-run, standard input)"),
        ("check -", &*broken, 2, "[standard input:2:"),
        ("check - other.yaml", POLICIES, 2, "two policies are named `builds`"),
        ("check - --format json", &*broken, 2, "invalid-policy"),
        ("check -", "policies: .\ntests:\n  - name: x\n", 2, "standard input has tests of policies, and only policies"),
    ] {
        let mut child = desk.command(words).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
        let done = child.wait_with_output().await.unwrap();
        let both = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        assert_eq!(done.status.code(), Some(code), "{words}: {both}");
        assert!(both.contains(said), "{words}: {said:?} is not in\n{both}");
    }
}

#[tokio::test]
async fn records_that_leave_something_open_are_named() {
    let host = "127.0.0.1:1";
    let desk =
        CliFixture::with(&[("tagwarden.toml", &settings(&format!("http://{host}"))), ("policies/a.yaml", POLICIES)]);
    let records = format!(
        "[{{\"image\": \"{host}/shop/api:1\"}},\n{{\"image\": \"{host}/shop/api\"}},\n\
         {{\"image\": \"http://{host}/shop/api:2\"}},\n{{\"image\": \"shop/api:3\"}}]"
    );
    desk.write("releases/a.json", &records);
    let done = desk.run("check").await.exits(0);
    for words in [
        "warning: releases/a.json:2: `127.0.0.1:1/shop/api` names neither a tag nor a digest",
        "note: releases/a.json:3: `image` begins with `http://`",
        "note: releases/a.json:4: `shop/api:3` names no registry, and counts in each of them",
    ] {
        assert!(done.err.contains(words), "{words:?} is not in\n{}", done.err);
    }
    assert!(!done.err.contains("a.json:1:"), "{}", done.err);
    desk.run("check --strict").await.exits(2);
    let json = desk.run("check --format json").await.exits(0).json();
    let kinds: Vec<&str> = json["evidence"].as_array().unwrap().iter().filter_map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds, ["uncertain-evidence"; 3], "{json:#}");
    assert_eq!(json["errors"], serde_json::json!([]));
    // Misspelt keys name the right one.
    for (record, said) in [
        ("{\"imagee\": \"a/b:1\"}", "it has `imagee`, did you mean `image`?"),
        ("{\"release\": []}", "it has `release`, did you mean `releases`?"),
        ("{\"image\": \"a/b\", \"tagg\": \"1\"}", "unknown key `tagg`; write `tag`"),
        ("{image: 1}", "key must be a string: put each key in double quotes"),
        ("[\n// old\n{\"image\": \"a/b:1\"}]", "a.json:2: expected value: JSON has no comments; remove them"),
        ("- image: a/b:1\n", "it looks like YAML; rename it to `.yaml`"),
        ("{\"image\": \"a/b:1\"}\n{\"image\": \"a/b:2\"}", "it looks like a record on each line; rename it to"),
        ("{\"image\": \"a/b:1\", \"keep_until\": \"31.12.2026\"}", "which is not a valid time; write it like"),
        ("[{\"image\": \"a\"", "the file ends too early; close each bracket and quote"),
    ] {
        desk.write("releases/a.json", record);
        let done = desk.run("check").await.exits(5);
        assert!(done.err.contains(said), "{record}: {said:?} is not in\n{}", done.err);
    }
}

#[tokio::test]
async fn errors_of_evidence_are_among_the_errors_and_unknown_places_are_null() {
    let desk = CliFixture::with(&[("tagwarden.toml", &settings("http://127.0.0.1:1")), ("policies/a.yaml", POLICIES)]);
    desk.write("releases/a.json", "[{}]");
    let json = desk.run("check --format json").await.exits(5).json();
    assert_eq!(json["errors"], json["evidence"]);
    let error = &json["errors"][0];
    assert_eq!((&error["kind"], &error["line"], &error["column"]), (&"invalid-evidence".into(), &1.into(), &().into()));
    // What is not a file, or not there, is not a policy that is invalid.
    std::fs::create_dir(desk.path("empty")).unwrap();
    for words in ["test --format json empty", "test --format json nowhere", "check --format json --policies empty"] {
        let json = desk.run(words).await.exits(2).json();
        let error = &json["errors"][0];
        assert_eq!((&error["kind"], &error["line"]), (&"command-failed".into(), &().into()), "{words}: {json:#}");
    }
}
