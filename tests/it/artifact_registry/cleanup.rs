//! Images without a tag: those that others left are deleted after their time, and nothing that an index holds.

use tagwarden::demo::image::{self, Format};

use super::{API, HOST, fixture, image as build, put, request_counts};
use crate::workflow::StepResult;

const POLICIES: &str = "policies:\n  - name: releases\n    select: { tags: [\"release-*\"] }\n    keep: all\n  \
                        - name: stale\n    select: { repositories: [\"**\"] }\n    untagged: { delete: after 30d }\n    mode: enforce\n";

#[tokio::test]
async fn images_without_a_tag_are_deleted_after_their_time_and_indexes_stay_whole() {
    let walk = fixture(|options| options, "", POLICIES).await;
    let (kept, gone) = (["amd64", "arm64"].map(|name| build(name, 90)), build("gone", 90));
    put(&walk.registry, API, "release-1", &image::index(Format::Oci, &kept), 90);
    put(&walk.registry, API, "build-1", &gone, 90);
    assert!(walk.registry.delete_tag(API, "build-1"));
    walk.snapshot_tags();
    let mut mode = std::fs::read_to_string(walk.path("tagwarden.toml")).unwrap();
    mode = mode.replace("mode = \"approved\"", "mode = \"enforce\"");
    std::fs::write(walk.path("tagwarden.toml"), mode).unwrap();
    let first = walk.run().await;
    assert_eq!(first.code, 0, "{}", first.text);
    assert!(walk.registry.manifest(API, &gone.digest).is_some(), "it was found free today");
    assert_eq!(request_counts(&walk.registry)["GET /v2/ manifests"], 1, "what is in the index, by its bytes");
    walk.advance_clock(31 * 24);
    let second = walk.run().await;
    assert_eq!(second.code, 0, "{}", second.text);
    assert!(walk.registry.manifest(API, &gone.digest).is_none(), "{}", second.text);
    assert!(kept.iter().all(|child| walk.registry.manifest(API, &child.digest).is_some()));
    assert_eq!(request_counts(&walk.registry)["DELETE versions/*"], 1);
}

#[tokio::test]
async fn a_workload_that_runs_an_image_of_an_index_keeps_the_index_by_the_list_alone() {
    let policies =
        "policies:\n  - name: builds\n    select: { tags: [\"build-*\"] }\n    keep: none\n    mode: enforce\n";
    let walk = fixture(|options| options, "", policies).await;
    let indexes = ["one", "two"].map(|name| {
        let children = ["amd64", "arm64"].map(|platform| build(&format!("{name} {platform}"), 90));
        image::index(Format::Oci, &children)
    });
    put(&walk.registry, API, "build-1", &indexes[0], 90);
    put(&walk.registry, API, "build-2", &indexes[1], 90);
    walk.snapshot_tags();
    let sources = "[sources.releases]\nkind = \"release-records\"\npaths = [\"releases/*.json\"]";
    walk.settings("approved", "", sources);
    std::fs::create_dir(walk.path("releases")).unwrap();
    let running = &indexes[0].children[1].digest;
    let record = format!("{{\"image\": \"{HOST}/{API}@{running}\"}}");
    std::fs::write(walk.path("releases/a.json"), record).unwrap();
    let plan = walk.plan().await;
    let planned: Vec<String> = plan.removals.iter().map(|view| view.tag.clone()).collect();
    assert_eq!(planned, ["build-2"]);
    let asked = request_counts(&walk.registry);
    assert!(asked.keys().all(|kind| !kind.contains("/v2/")), "nothing was pulled: {asked:?}");
}

#[tokio::test]
async fn manifests_that_tagwarden_untagged_are_deleted_once_their_time_is_over() {
    let policies = "policies:\n  - name: builds\n    select: { tags: [\"build-*\"] }\n    keep: [{ newest: 1 }]\n    \
                    then: { delete_manifest: after 14d }\n    mode: enforce\n";
    let walk = fixture(|options| options, "", policies).await;
    let [old, new] = ["old", "new"].map(|name| build(name, 90));
    put(&walk.registry, API, "build-1", &old, 90);
    put(&walk.registry, API, "build-2", &new, 10);
    walk.snapshot_tags();
    let plan = walk.plan().await;
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, &*came.tags["acme/shop/api:build-1"]), (0, "done"), "{}", came.text);
    assert!(walk.registry.manifest(API, &old.digest).is_some());
    let settings = std::fs::read_to_string(walk.path("tagwarden.toml")).unwrap();
    std::fs::write(walk.path("tagwarden.toml"), settings.replace("\"approved\"", "\"enforce\"")).unwrap();
    walk.advance_clock(15 * 24);
    let app = walk.open().await.unwrap();
    let ended = app.run(&()).await;
    app.close().await;
    let second = StepResult::from_result(ended);
    assert_eq!(second.code, 0, "{}", second.text);
    assert!(walk.registry.manifest(API, &old.digest).is_none(), "{}", second.text);
    let asked = request_counts(&walk.registry);
    assert_eq!((asked["DELETE versions/*"], asked["GET operations/*"]), (1, 1), "{asked:?}");

    // Its layers are still there, so that its manifest can be pushed again.
    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    assert_eq!(walk.registry.tags(API)["build-1"], old.digest);
    assert_eq!(request_counts(&walk.registry)["PUT /v2/ manifests"], 1);
}
