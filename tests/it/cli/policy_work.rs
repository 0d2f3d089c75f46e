//! `check`, `test`, `diff` and `inventory`, as people and pull requests use them.

use super::Desk;

const POLICIES: &str = "policies:\n  - { name: builds, select: { tags: [\"b*\"] }, keep: [{ within: 14d }] }\n";
const TESTS: &str = "tests:\n  - name: two weeks\n    repository: shop/api\n    tags:\n      \
    b1: { pushed: 20d, expect: expired }\n      b2: { pushed: 3d, expect: retained }\n";

#[tokio::test]
async fn tests_beside_the_policies_need_nothing_else() {
    let desk = Desk::with(&[("policies/builds.yaml", POLICIES), ("policies/builds.test.yaml", TESTS)]);
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
    Desk::with(&files).run("test").await.exits(0);
    let desk = Desk::with(&[]);
    let tests = desk.run("schema --tests").await.exits(0).json();
    let policies = desk.run("schema").await.exits(0).json();
    assert!(tests["properties"]["tests"].is_object() && policies["properties"]["policies"].is_object());
}
