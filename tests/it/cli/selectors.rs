//! Selectors by annotations and labels, with the binary against the real distribution 2.8.

use serde_json::{Value, json};

use super::{CliFixture, names};
use crate::support::content::{self, CONFIG, Content, INDEX};
use crate::support::docker_registry::{DockerRegistry, Setup};

const POLICIES: &str = r#"policies:
  - name: checkout
    select:
      repositories: ["shop/*"]
      annotations: { org.opencontainers.image.source: ["https://github.com/acme/*", "!https://github.com/acme/base"] }
    keep: none
    mode: enforce
  - name: tests
    select: { repositories: ["shop/*"], labels: { stage: test } }
    keep: none
    mode: enforce
"#;

/// An image with these annotations and labels.
async fn push(registry: &DockerRegistry, tag: &str, annotations: Value, labels: Value) -> Content {
    let config = Content::json(
        CONFIG,
        &json!({
            "os": "linux", "architecture": "amd64", "created": "2024-01-01T00:00:00Z", "author": tag,
            "config": { "Labels": labels }, "rootfs": { "type": "layers", "diff_ids": [] },
        }),
    );
    let layer = content::layer("shared layer");
    registry.push_blob("shop/api", &layer).await;
    registry.push_blob("shop/api", &config).await;
    let plain = content::image(&config, &[&layer]);
    let mut manifest: Value = serde_json::from_slice(&plain.bytes).unwrap();
    if !annotations.is_null() {
        manifest["annotations"] = annotations;
    }
    let manifest = Content::json(&plain.media_type, &manifest);
    registry.push_manifest("shop/api", tag, &manifest).await;
    manifest
}

#[tokio::test]
async fn the_right_tags_go_from_a_real_registry() {
    let registry = DockerRegistry::start(Setup { delete: true, ..Setup::default() }).await;
    let source = |path: &str| json!({ "org.opencontainers.image.source": format!("https://github.com/{path}") });
    push(&registry, "ours", source("acme/checkout"), json!(null)).await;
    push(&registry, "base", source("acme/base"), json!({})).await;
    push(&registry, "theirs", source("other/checkout"), json!({ "stage": "prod" })).await;
    push(&registry, "test", json!(null), json!({ "stage": "test" })).await;
    push(&registry, "plain", json!(null), json!({ "other": "test" })).await;
    let amd64 = push(&registry, "amd64", source("acme/multi"), json!({})).await;
    let mut index: Value = serde_json::from_slice(&content::index(&[&amd64]).bytes).unwrap();
    index["annotations"] = source("acme/base");
    registry.push_manifest("shop/api", "multi", &Content::json(INDEX, &index)).await;

    let settings = format!(
        "mode = \"enforce\"\npolicies = \"policies\"\n[limits]\npercent = 100\n[registries.contoso]\n\
         kind = \"distribution\"\nendpoint = \"{}\"\nremoval = \"manifest\"\n",
        registry.endpoint
    );
    let desk = CliFixture::with(&[("tagwarden.toml", &settings), ("policies/shop.yaml", POLICIES)]);
    let plan = desk.run("plan --format json").await.exits(0).json();
    // The index has an annotation of its own, and its image is kept with it.
    assert_eq!(names(&plan, "removals"), ["shop/api:ours", "shop/api:test"], "{plan:#}");
    let explained = desk.run("explain contoso/shop/api:theirs").await.exits(0).out;
    assert!(explained.contains("annotations") && explained.contains("labels"), "{explained}");
    desk.run("inventory --out facts.json").await.exits(0);
    let facts = desk.json("facts.json");
    let recorded = facts["registries"][0]["repositories"][0]["annotations"].to_string();
    assert!(recorded.contains("https://github.com/other/checkout"), "{recorded}");

    desk.run("run").await.exits(0);
    let left = ["amd64", "base", "multi", "plain", "theirs"];
    for tag in left {
        assert!(registry.pull_manifest("shop/api", tag).await.is_some(), "{tag}");
    }
    for tag in ["ours", "test"] {
        assert_eq!(registry.pull_manifest("shop/api", tag).await, None, "{tag}");
    }
}

#[tokio::test]
async fn labels_that_no_registry_shows_are_a_warning() {
    let quay = "[registries.quay]\nkind = \"quay\"\nendpoint = \"https://quay.io\"\nnamespaces = [\"acme\"]\n\
                auth = { kind = \"token\", token_file = \"token\" }\n";
    let plain = "[registries.plain]\nkind = \"distribution\"\nendpoint = \"https://registry.example\"\n";
    for (registries, warns) in [(quay.to_owned(), true), (format!("{quay}{plain}"), false)] {
        let settings = format!("policies = \"policies\"\n{registries}");
        let desk =
            CliFixture::with(&[("tagwarden.toml", &settings), ("policies/shop.yaml", POLICIES), ("token", "secret")]);
        std::fs::set_permissions(desk.path("token"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let done = desk.run("check").await.exits(0);
        let all = format!("{}{}", done.out, done.err);
        assert_eq!(all.contains("the configurations in quay cannot be read"), warns, "{all}");
    }
}
