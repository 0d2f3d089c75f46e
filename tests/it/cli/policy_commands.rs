//! `check`, `test`, `diff` and `inventory`, as people and pull requests use them.

use serde_json::Value;
use tagwarden::demo::registry::{EmbeddedRegistry, Options};

use super::{CliFixture, fill, record, settings};

const POLICIES: &str = "policies:\n  - { name: builds, select: { tags: [\"b*\"] }, keep: [{ within: 14d }] }\n";
const TESTS: &str = "tests:\n  - name: two weeks\n    repository: shop/api\n    tags:\n      \
    b1: { pushed: 20d, expect: expired }\n      b2: { pushed: 3d, expect: retained }\n";

#[tokio::test]
async fn tests_beside_the_policies_need_nothing_else() {
    let desk = CliFixture::with(&[("policies/builds.yaml", POLICIES), ("policies/builds.test.yaml", TESTS)]);
    let done = desk.run("test").await.exits(0);
    assert!(done.out.ends_with("1 test passed\n"), "{}", done.out);
    desk.write("policies/builds.yaml", &POLICIES.replace("14d", "30d"));
    for words in ["test", "test policies/builds.yaml", "test policies/builds.test.yaml"] {
        let done = desk.run(words).await.exits(1);
        assert!(done.out.contains("FAILED two weeks") && done.out.contains("1 test failed"), "{}", done.out);
    }
    let json = desk.run("test --format json").await.exits(1).json();
    assert_eq!(json["files"][0]["tests"][0]["tags"][0]["verdict"], "retained", "{json:#}");
    desk.write("policies/builds.test.yaml", &TESTS.replace("expired", "gone"));
    let done = desk.run("test").await.exits(2);
    assert!(done.err.contains("unknown expect `gone`"), "{}", done.err);
    desk.run("test nowhere").await.exits(2);
    desk.run("test --config nowhere.toml").await.exits(2);
}

#[tokio::test]
async fn tests_are_found_where_the_settings_have_their_policies() {
    let settings = "policies = \"rules\"\n[registries.contoso]\nkind = \"acr\"\nendpoint = \"https://x.azurecr.io\"\n\
        auth = { kind = \"token\", token_file = \"not there\" }\n";
    let files = [("tagwarden.toml", settings), ("rules/b.yaml", POLICIES), ("rules/b.test.yaml", TESTS)];
    CliFixture::with(&files).run("test").await.exits(0);
    let desk = CliFixture::with(&[]);
    let tests = desk.run("schema --tests").await.exits(0).json();
    let policies = desk.run("schema").await.exits(0).json();
    assert!(tests["properties"]["tests"].is_object() && policies["properties"]["policies"].is_object());
}

const SHOP: &str = r#"policies:
  - name: candidates
    select: { repositories: ["shop/api"], tags: ["candidate-*"] }
    keep: [{ newest: 3 }]
    mode: enforce
"#;

async fn shop() -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "candidate", 5);
    let desk = CliFixture::with(&[
        ("tagwarden.toml", &settings(&registry.url())),
        ("policies/all.yaml", SHOP),
        ("releases/api.json", &record(&format!("{}/shop/api:candidate-1", registry.host()))),
    ]);
    (registry, desk)
}

#[tokio::test]
async fn an_edit_is_compared_on_the_real_inventory_and_on_a_recorded_one() {
    let (registry, desk) = shop().await;
    desk.write("old/all.yaml", SHOP);
    let done = desk.run("diff --against old --exit-code").await.exits(0);
    assert!(done.out.starts_with("the same tags expire as before"), "{}", done.out);
    desk.write("policies/all.yaml", &SHOP.replace("newest: 3", "newest: 2"));
    let live = desk.run("diff --against old --format json").await.exits(0).json();
    assert_eq!(live["summary"]["newly_expired"], 1, "{live:#}");
    assert_eq!(
        (&live["newly_expired"][0]["tag"], &live["newly_expired"][0]["enforced"]),
        (&"candidate-3".into(), &true.into())
    );
    assert_eq!(live["recorded_at"], Value::Null);

    desk.run("inventory --out inventory.json").await.exits(0);
    drop(registry);
    let done = desk.run("diff --against old --inventory inventory.json --exit-code").await.exits(1);
    assert!(done.out.starts_with("1 newly expired, 0 no longer expired\n"), "{}", done.out);
    // Neither settings nor a state are needed for that.
    std::fs::remove_file(desk.path("tagwarden.toml")).unwrap();
    assert!(!desk.path("tagwarden.db").exists(), "what only reads creates none");
    let words = "diff --against old --policies policies --inventory inventory.json --format markdown";
    let done = desk.run(words).await.exits(0);
    assert!(done.out.starts_with("### Tagwarden: 1 newly expired, 0 no longer expired\n"), "{}", done.out);
    let back = desk.run("diff --against policies --policies old --inventory inventory.json --format json").await;
    assert_eq!(back.json()["no_longer_expired"][0]["tag"], "candidate-3");
    // A job that records no more would let each edit look harmless.
    assert!(!done.err.contains("was recorded"), "{}", done.err);
    let mut recorded: Value = serde_json::from_str(&desk.read("inventory.json")).unwrap();
    recorded["recorded_at"] = "2026-01-01T00:00:00Z".into();
    desk.write("old.json", &recorded.to_string());
    let aged = desk.run("diff --against old --policies policies --inventory old.json --format github").await.exits(0);
    assert!(
        aged.err.contains("warning: old.json was recorded ") && aged.err.contains("record it again"),
        "{}",
        aged.err
    );
    for (words, said) in [
        ("diff --against none --policies old --inventory inventory.json", "`none` is neither a file nor a folder"),
        ("diff --against old --policies old --inventory none.json", "cannot read none.json"),
        ("diff --against old --policies old --inventory old/all.yaml", "not a recorded inventory"),
        ("diff --against old", "no settings file"),
    ] {
        let done = desk.run(words).await.exits(2);
        assert!(done.err.contains(said), "{}", done.err);
    }
}

#[tokio::test]
async fn missing_evidence_is_recorded_and_told() {
    let (_registry, desk) = shop().await;
    desk.write("releases/api.json", "nonsense");
    desk.run("inventory --out inventory.json").await.exits(5);
    let done = desk.run("diff --against policies --inventory inventory.json").await.exits(5);
    assert!(done.out.contains("evidence is missing"), "{}", done.out);
    desk.run("diff --against policies").await.exits(5);
}

#[tokio::test]
async fn what_is_hardly_meant_is_told_by_check() {
    let (_registry, desk) = shop().await;
    let more = "  - { name: pull, select: { repositories: [\"web/**\"] }, keep: [{ newest: 2 }] }\n  \
        - { name: tags, select: { repositories: [\"shop/**\"], tags: [\"v*\"] }, keep: none }\n  \
        - { name: old, select: { tags: [\"candidate-?\"] }, keep: [{ newest: 3 }] }\n  \
        - { name: guard, select: { tags: [\"*-1\", \"*-2\"] }, keep: all }\n";
    desk.write("policies/all.yaml", &format!("{}{more}", SHOP.replace("newest: 3", "newest: 2")));
    let done = desk.run("check --strict").await.exits(0);
    assert!(done.err.contains("note: "), "{}", done.err);
    assert!(!desk.path("tagwarden.db").exists(), "nothing is made by looking");
    desk.run("plan").await.exits(0);
    let done = desk.run("check").await.exits(0);
    for words in [
        "warning: policies/all.yaml:6:",
        "policy `pull` selects nothing: none of 1 repositories is one that it names",
        "there are, for example, shop/api",
        "policy `tags` selects nothing: none of the 5 tags of its repositories fits its `tags`",
        "policy `old` has no effect: policy `guard` kept",
    ] {
        assert!(done.err.contains(words), "{words:?} is missing in:\n{}", done.err);
    }
    assert!(!done.err.contains("candidates` has no effect"), "{}", done.err);
    let json = desk.run("check --strict --format json").await.exits(2).json();
    let kinds: Vec<&Value> = json["lints"].as_array().unwrap().iter().map(|remark| &remark["kind"]).collect();
    assert!(kinds.contains(&&"selects-nothing".into()) && kinds.contains(&&"overlap".into()), "{json:#}");
}
