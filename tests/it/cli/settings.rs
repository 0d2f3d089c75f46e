//! `check`, and what every command says of settings that cannot be used.

use serde_json::Value;

use super::{CliFixture, record, settings};

const POLICY: &str = "policies:\n  - name: old\n    select: { tags: [\"c-*\"] }\n    keep: [{ newest: 1 }]\n";
const UNREACHABLE: &str = "http://127.0.0.1:9";

fn sound() -> CliFixture {
    CliFixture::with(&[("tagwarden.toml", &settings(UNREACHABLE)), ("policies/old.yaml", POLICY)])
}

#[tokio::test]
async fn sound_files_are_told_in_a_line_and_nothing_is_reached() {
    let desk = sound();
    desk.write("releases/old.json", &record("127.0.0.1:9/shop/api:c-1"));
    let done = desk.run("check").await.exits(0);
    let said = "tagwarden.toml is sound: mode dry-run, 1 registry, 1 source, 1 policy";
    assert!(done.out.contains(said) && done.out.contains("old (dry-run, old.yaml)"), "{}", done.out);
    assert_eq!(done.err, "");
    assert!(!desk.path("tagwarden.db").exists(), "checking leaves nothing behind");
}

#[tokio::test]
async fn every_problem_of_every_file_is_told_at_once() {
    let desk = sound();
    let faulty = settings(UNREACHABLE).replace("kind = \"distribution\"", "kind = \"distributoin\"");
    desk.write("tagwarden.toml", &format!("mode = \"aproved\"\n{faulty}\n[limits]\nuntag = -1\n"));
    desk.write("policies/old.yaml", &POLICY.replace("newest", "newst"));
    desk.write("policies/more/twice.yaml", "policies:\n  - name: twice\n    name: again\n    keep: all\n");
    for command in ["check", "plan", "run", "runs", "apply none.json", "explain a/b:c", "restore --run 1"] {
        let done = desk.run(command).await.exits(2);
        assert_eq!(done.out, "", "{command}");
        if command.starts_with("apply") {
            continue;
        }
        for expected in [
            "tagwarden.toml:1:8",
            "did you mean `approved`?",
            "did you mean `distribution`?",
            "`untag` must be a whole number",
            "old.yaml:4:14",
            "did you mean `newest`?",
            "`name` is written twice",
        ] {
            assert!(done.err.contains(expected), "{command} does not tell {expected:?}:\n{}", done.err);
        }
    }
}

#[tokio::test]
async fn what_names_the_policies_is_heeded_even_when_the_settings_are_not_sound() {
    let mut desk = sound();
    desk.write("elsewhere/new.yaml", &POLICY.replace("newest", "newst"));
    desk.set("TAGWARDEN__POLICIES", "elsewhere");
    desk.set("TAGWARDEN__MODE", "aproved");
    let done = desk.run("check").await.exits(2);
    assert!(done.err.contains("TAGWARDEN__MODE: unknown mode `aproved`"), "{}", done.err);
    assert!(done.err.contains("elsewhere/new.yaml:4:14"), "{}", done.err);
}

#[tokio::test]
async fn settings_that_are_not_there_are_asked_for() {
    let desk = CliFixture::new();
    let done = desk.run("check").await.exits(2);
    assert!(done.err.contains("no settings file") && done.err.contains("--config"), "{}", done.err);
    let done = desk.run("plan --config missing.toml").await.exits(2);
    assert!(done.err.contains("missing.toml: there is no such settings file"), "{}", done.err);
    let done = sound().run("check --config").await.exits(2);
    assert!(done.err.contains("--config <FILE>"), "{}", done.err);
}

#[tokio::test]
async fn what_does_not_exist_is_a_usage_error() {
    let desk = sound();
    for words in ["", "purge", "plan --force", "plan --format yaml", "plan --at tomorrow", "restore", "apply"] {
        let done = desk.run(words).await.exits(2);
        assert_eq!(done.out, "", "{words}");
        assert!(!done.err.is_empty(), "{words}");
    }
    let done = desk.run("plan --out plan.pdf").await.exits(2);
    assert!(done.err.contains("plan.pdf: name it .json, .md, .html, .csv, .txt, .jira or .servicenow"), "{}", done.err);
    for words in ["--help", "--version", "help plan"] {
        let done = desk.run(words).await.exits(0);
        assert!(!done.out.is_empty() && done.err.is_empty(), "{words}");
    }
}

#[tokio::test]
async fn the_schema_is_json_that_accepts_the_policies_of_this_house() {
    let schema = CliFixture::new().run("schema").await.exits(0).json();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("schema.json", schema).unwrap();
    let mut schemas = boon::Schemas::new();
    let schema = compiler.compile("schema.json", &mut schemas).unwrap();
    let policy: Value =
        serde_json::json!({ "policies": [{ "name": "a", "select": { "tags": ["x"] }, "keep": "all" }] });
    assert!(schemas.validate(&policy, schema).is_ok());
    assert!(schemas.validate(&serde_json::json!({ "policies": [{ "name": "a" }] }), schema).is_err());
}

#[tokio::test]
async fn the_record_begins_empty() {
    let desk = sound();
    assert_eq!(desk.run("runs").await.exits(0).out, "no runs yet\n");
    assert_eq!(desk.run("runs --format json").await.exits(0).json(), Value::Array(Vec::new()));
    let done = desk.run("runs show 0123").await.exits(2);
    assert!(done.err.contains("0123"), "{}", done.err);
    let done = desk.run("restore contoso/shop/api:v1").await.exits(2);
    assert!(done.err.contains("has not removed contoso/shop/api:v1"), "{}", done.err);
}
