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
    let said = "tagwarden.toml is valid: mode dry-run, 1 registry, 1 source, 1 policy";
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
    desk.run("runs").await.exits(2);
    tagwarden::state::StateStore::open(&desk.path("tagwarden.db")).await.unwrap().close().await;
    assert_eq!(desk.run("runs").await.exits(0).out, "no runs yet\n");
    assert_eq!(desk.run("runs --format json").await.exits(0).json()["runs"].clone(), Value::Array(Vec::new()));
    let done = desk.run("runs show 0123").await.exits(2);
    assert!(done.err.contains("0123"), "{}", done.err);
    let done = desk.run("restore contoso/shop/api:v1").await.exits(2);
    assert!(done.err.contains("has not removed contoso/shop/api:v1"), "{}", done.err);
}

/// In CI, settings are checked where their secrets are not.
#[tokio::test]
async fn settings_are_checked_without_their_secrets() {
    let toml = "listen_token_file = \"/run/secrets/token\"\nstate = \"postgres://db.contoso.example/tagwarden?user=t\"\n\
                [postgres]\npassword_file = \"/run/secrets/db\"\nca_file = \"/run/secrets/db-ca.pem\"\n\
                [registries.contoso]\nkind = \"acr\"\nendpoint = \"https://contoso.azurecr.io\"\n\
                auth = { kind = \"basic\", username = \"ci\", password_file = \"/run/secrets/acr\" }\n\
                [registries.plain]\nkind = \"distribution\"\nendpoint = \"https://plain.contoso.example\"\n\
                auth = { kind = \"token\" }\n\
                [notify.ops]\nkind = \"slack\"\nurl_file = \"/run/secrets/slack\"\n\
                [telemetry]\nendpoint = \"https://otel.contoso.example\"\nheaders_file = \"/run/secrets/otel\"\n";
    let policy = "policies:\n  - { name: p, select: { tags: [\"pr-*\"] }, keep: [{ newest: 1 }] }\n";
    let desk = CliFixture::with(&[("tagwarden.toml", toml), ("policies/a.yaml", policy)]);
    let failed = desk.run("check").await.exits(2);
    assert!(failed.err.contains("`/run/secrets/acr` cannot be read"), "{}", failed.err);
    let done = desk.run("check --skip-secrets").await.exits(0);
    assert!(done.out.starts_with("tagwarden.toml is valid: mode dry-run, 2 registries"), "{}", done.out);
    let unread = ["acr", "db", "db-ca.pem", "otel", "slack", "token"].map(|file| format!("/run/secrets/{file}"));
    let unread = unread.into_iter().chain(["TAGWARDEN__REGISTRIES__PLAIN__AUTH__TOKEN".to_owned()]);
    let mut unread: Vec<String> = unread.collect();
    for secret in &unread {
        assert!(done.err.contains(&format!("not read (--skip-secrets): {secret}\n")), "{secret}: {}", done.err);
    }
    let json = desk.run("check --skip-secrets --format json").await.exits(0).json();
    let mut told: Vec<String> = serde_json::from_value(json["unread_secrets"].clone()).unwrap();
    told.sort();
    unread.sort();
    assert_eq!(told, unread);
    desk.run("check policies/a.yaml --config tagwarden.toml --skip-secrets").await.exits(0);
    // Whatever is not a secret is checked.
    desk.write("tagwarden.toml", &toml.replace("kind = \"acr\"", "kind = \"acre\""));
    let wrong = desk.run("check --skip-secrets").await.exits(2);
    assert!(wrong.err.contains("did you mean `acr`?"), "{}", wrong.err);
    // A secret in the settings file itself is still an error.
    desk.write("tagwarden.toml", &toml.replace("password_file = \"/run/secrets/acr\"", "password = \"x\""));
    let wrong = desk.run("check --skip-secrets").await.exits(2);
    assert!(wrong.err.contains("stands in the settings file"), "{}", wrong.err);
}

/// Settings in one folder and policies in another are one tree to a reader.
#[tokio::test]
async fn paths_beside_the_settings_are_shown_as_people_write_them() {
    let policy = "policies:\n  - { name: p, select: { tags: [\"pr-*\"] }, keeps: all }\n";
    let toml =
        "policies = \"../policies\"\n[registries.c]\nkind = \"distribution\"\nendpoint = \"http://127.0.0.1:1\"\n";
    let desk = CliFixture::with(&[("examples/tagwarden.toml", toml), ("policies/a.yaml", policy)]);
    let done = desk.run("check --config examples/tagwarden.toml").await.exits(2);
    assert!(done.err.contains("policies/a.yaml:2:") && !done.err.contains(".."), "{}", done.err);
    desk.write("policies/a.yaml", &policy.replace("keeps: all", "keep: [{ newest: 1 }]"));
    let done = desk.run("check --config examples/tagwarden.toml --format json").await.exits(0);
    assert!(!done.out.contains(".."), "{}", done.out);
}

/// A policy that nobody reads is worse than none.
#[tokio::test]
async fn files_that_only_look_like_policies_are_named() {
    let policy = "policies:\n  - { name: p, select: { tags: [\"pr-*\"] }, keep: [{ newest: 1 }] }\n";
    let toml = "[registries.c]\nkind = \"distribution\"\nendpoint = \"http://127.0.0.1:1\"\n";
    let desk = CliFixture::with(&[
        ("tagwarden.toml", toml),
        ("policies/a.yaml", policy),
        ("policies/team/old.yml.bak", policy),
    ]);
    for command in ["check", "check --policies policies"] {
        let done = desk.run(command).await.exits(0);
        let words = "warning: policies/team/old.yml.bak: this file holds a policy, and only files `*.yaml` and `*.yml` are read: \
                     not in force";
        assert!(done.err.contains(words), "{command}: {}", done.err);
        desk.run(&format!("{command} --strict")).await.exits(2);
    }
    let sarif = desk.run("check --format sarif").await.exits(0).out;
    assert!(sarif.contains("unread-policies") && sarif.contains("policies/team/old.yml.bak"), "{sarif}");
}
