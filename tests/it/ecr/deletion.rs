//! Last tags: kept by default; deleted with their images where the settings say so, in the order that breaks no index.

use tagwarden::demo::image::{self, Format};
use tagwarden::report;

use super::{fixture, image as build, put};

const POLICIES: &str = "policies:\n  - name: builds\n    select: { tags: [\"build-*\"] }\n    keep: [{ newest: 1 }]\n    mode: enforce\n  \
                        - name: releases\n    select: { tags: [\"release-*\"] }\n    keep: all\n";

#[tokio::test]
async fn last_tags_stay_and_say_why() {
    let walk = fixture(|options| options, "", POLICIES).await;
    let [alone, twice, shared, new] = ["alone", "twice", "shared", "new"].map(|name| build(name, 90));
    put(&walk.registry, "shop/api", "build-1", &alone, 90);
    put(&walk.registry, "shop/api", "build-2", &twice, 80);
    assert!(walk.registry.move_tag("shop/api", "build-2-again", &twice.digest));
    put(&walk.registry, "shop/api", "build-3", &shared, 70);
    assert!(walk.registry.move_tag("shop/api", "release-3", &shared.digest));
    put(&walk.registry, "shop/api", "build-4", &new, 1);
    walk.snapshot_tags();
    let plan = walk.plan().await;
    let planned: Vec<String> = plan.removals.iter().map(|view| view.tag.clone()).collect();
    assert_eq!(planned, ["build-3"]);
    for tag in ["build-1", "build-2", "build-2-again"] {
        let kept = plan.kept.iter().find(|view| view.tag == tag).unwrap();
        let kinds: Vec<&str> = kept.reasons.iter().map(report::ReasonView::kind).collect();
        assert_eq!((&*kept.verdict, kinds), ("protected", vec!["last-tag", "not-kept"]), "{tag}");
    }
    let text = report::render(&plan, report::Format::Text);
    assert!(text.contains("the registry would delete its image with its last tag"), "{text}");
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, &*came.tags["shop/api:build-3"]), (0, "done"), "{}", came.text);
    assert!(walk.registry.manifest("shop/api", &shared.digest).is_some());
    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    assert_eq!(walk.registry.tags("shop/api")["build-3"], shared.digest);
}

#[tokio::test]
async fn a_tag_that_lost_the_other_meanwhile_stays() {
    let walk = fixture(|options| options, "", POLICIES).await;
    let [shared, other, new] = ["shared", "other", "new"].map(|name| build(name, 90));
    put(&walk.registry, "shop/api", "build-3", &shared, 70);
    assert!(walk.registry.move_tag("shop/api", "release-3", &shared.digest));
    put(&walk.registry, "shop/api", "release-4", &other, 60);
    put(&walk.registry, "shop/api", "build-4", &new, 1);
    walk.snapshot_tags();
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 1);
    assert!(walk.registry.move_tag("shop/api", "release-3", &other.digest));
    walk.snapshot_tags();
    let came = walk.apply(&plan).await;
    assert_ne!(came.tags.get("shop/api:build-3").map(String::as_str), Some("done"), "{}", came.text);
    assert_eq!(walk.registry.tags("shop/api")["build-3"], shared.digest);
}

#[tokio::test]
async fn images_are_deleted_by_opt_in_and_come_back_while_their_layers_are_there() {
    let walk = fixture(|options| options, "removal = \"manifest\"", POLICIES).await;
    let (amd64, arm64) = (build("amd64", 90), build("arm64", 90));
    let index = image::index(Format::Oci, &[amd64.clone(), arm64.clone()]);
    let [shared, new] = ["shared", "new"].map(|name| build(name, 90));
    // The images of the index have tags of their own, which only go once the index is gone.
    put(&walk.registry, "shop/api", "build-1", &index, 90);
    put(&walk.registry, "shop/api", "build-1-amd64", &amd64, 90);
    put(&walk.registry, "shop/api", "build-1-arm64", &arm64, 90);
    put(&walk.registry, "shop/api", "build-3", &shared, 70);
    assert!(walk.registry.move_tag("shop/api", "release-3", &shared.digest));
    put(&walk.registry, "shop/api", "build-4", &new, 1);
    walk.snapshot_tags();
    let before = walk.tags();
    let plan = walk.plan().await;
    let planned: Vec<String> = plan.removals.iter().map(|view| view.tag.clone()).collect();
    assert_eq!(
        planned,
        ["build-1", "build-1-amd64", "build-1-arm64"],
        "the image of a release stays with all its tags"
    );
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 0, "{}", came.text);
    assert!([&index, &amd64, &arm64].iter().all(|gone| walk.registry.manifest("shop/api", &gone.digest).is_none()));
    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    assert_eq!(walk.tags(), before);

    // Amazon deletes the layers of a deleted image whenever it likes.
    let plan = walk.plan().await;
    if plan.removals.is_empty() {
        // A restored tag is held for a while.
        walk.advance_clock(24 * 60);
    }
    let plan = walk.plan().await;
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 0, "{}", came.text);
    walk.registry.content(tagwarden::demo::registry::Content::collect_garbage);
    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_ne!(restored.outcome().exit_code(), 0);
    assert!(format!("{restored:?}").contains("LayersNotFoundException"), "{restored:?}");
}
