//! Last tags: kept by default; deleted with their images where the settings say so, in the order that breaks no index.

use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::domain::Action;
use tagwarden::report;

use super::{fixture, image as build, put, request_counts};
use crate::workflow::WorkflowFixture;

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

/// Deletes images: builds with one tag each, of which the newest stays, beside releases that stay.
async fn deleting(builds: i64, releases: i64) -> WorkflowFixture {
    let walk = fixture(|options| options, "removal = \"manifest\"", POLICIES).await;
    for number in 0..builds {
        let tag = format!("build-{number:03}");
        put(&walk.registry, "shop/api", &tag, &build(&tag, 400), 300 - number);
    }
    for number in 0..releases {
        let tag = format!("release-{number:03}");
        put(&walk.registry, "shop/api", &tag, &build(&tag, 400), 350);
    }
    walk.snapshot_tags();
    walk
}

/// One look at each image, whatever number of tags the repository has, and one list at the end.
#[tokio::test]
async fn a_hundred_deletions_take_a_hundred_looks() {
    let walk = deleting(101, 60).await;
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 100);
    walk.registry.clear_requests();
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, walk.registry.tags("shop/api").len()), (0, 61), "{}", came.text);
    let counts = request_counts(&walk.registry);
    // Each manifest is read for the journal, and again right before its deletion.
    assert_eq!((counts["BatchDeleteImage"], counts["BatchGetImage"]), (100, 200), "{counts:?}");
    // And one look after the first deletion.
    assert!((102..=105).contains(&counts["DescribeImages"]), "{counts:?}");
}

#[tokio::test]
async fn a_kept_tag_that_moves_onto_an_image_in_the_instant_of_its_deletion_comes_back() {
    let walk = deleting(4, 2).await;
    let plan = walk.plan().await;
    // The first that is deleted.
    let digest = (0..3).map(|number| walk.digest("shop/api", &format!("build-{number:03}"))).min().unwrap();
    let at = digest.clone();
    let moves = FaultKind::before_request(move |content| {
        assert!(content.move_tag("shop/api", "release-001", &at));
    });
    walk.registry.inject(Fault::on("/BatchDeleteImage", moves).times(1));
    let came = walk.apply_text(&report::render(&plan, report::Format::Json)).await;
    let journal = walk.journal().await;
    let back: Vec<_> = journal.iter().filter(|entry| entry.intent.action == Action::Restore).collect();
    assert_eq!((came.code, back.len()), (0, 1), "{}", came.text);
    assert_eq!(walk.registry.tags("shop/api")["release-001"], digest);
    assert_eq!(walk.registry.tags("shop/api").len(), 3, "{}", came.text);
}

/// Without the right to push, what went along is lost: the run has failed, says so, and a restore brings it back later.
#[tokio::test]
async fn a_kept_tag_that_went_along_and_cannot_come_back_is_a_failure() {
    let walk = deleting(4, 2).await;
    let plan = walk.plan().await;
    let digest = (0..3).map(|number| walk.digest("shop/api", &format!("build-{number:03}"))).min().unwrap();
    let at = digest.clone();
    let moves = FaultKind::before_request(move |content| {
        assert!(content.move_tag("shop/api", "release-001", &at));
    });
    walk.registry.inject(Fault::on("/BatchDeleteImage", moves).times(1));
    walk.registry.inject(Fault::on("/PutImage", FaultKind::status(403)));
    let came = walk.apply_text(&report::render(&plan, report::Format::Json)).await;
    assert_eq!(came.code, 4, "{}", came.text);
    assert!(came.text.contains("could not be put back: release-001"), "{}", came.text);
    let app = walk.open().await.unwrap();
    let record = app.store.run(&came.run_id()).await.unwrap().unwrap();
    let journal = app.store.journal(record.run.id).await.unwrap();
    app.close().await;
    let view = report::RunView::new(&record, report::RunSummary::from_record(&record)).with_journal(&journal);
    assert_eq!(view.lost_tags(), ["main/shop/api:release-001"]);
    assert!(view.headline().contains("LOST: main/shop/api:release-001"), "{}", view.headline());
    walk.registry.clear_faults();
    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    assert_eq!(walk.registry.tags("shop/api")["release-001"], digest);
}

#[tokio::test]
async fn what_changed_before_a_deletion_is_seen_by_the_look_at_the_image() {
    let walk = deleting(5, 2).await;
    for number in 0..4 {
        let digest = walk.digest("shop/api", &format!("build-{number:03}"));
        assert!(walk.registry.move_tag("shop/api", &format!("build-{number:03}-again"), &digest));
    }
    walk.snapshot_tags();
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 8);
    let tags = walk.registry.tags("shop/api");
    let (elsewhere, held) = (tags["release-000"].clone(), tags["build-002"].clone());
    // Right before the first look: one tag is gone, one moved, and one that stays came to an image.
    let changes = FaultKind::before_request(move |content| {
        content.delete_tag("shop/api", "build-000-again");
        assert!(content.move_tag("shop/api", "build-001-again", &elsewhere));
        assert!(content.move_tag("shop/api", "release-001", &held));
    });
    walk.registry.inject(Fault::on("/BatchGetImage", changes).times(1));
    let came = walk.apply_text(&report::render(&plan, report::Format::Json)).await;
    let label = |tag: &str| came.tags[&format!("shop/api:{tag}")].clone();
    assert_eq!((&*label("build-000"), &*label("build-000-again")), ("done", "missing"), "{}", came.text);
    assert_eq!((&*label("build-001"), &*label("build-002")), ("kept", "kept"), "{}", came.text);
    assert_eq!((&*label("build-003"), &*label("build-003-again")), ("done", "done"), "{}", came.text);
    assert!(came.text.contains("release-001, which stays, names the same manifest now"), "{}", came.text);
}

/// What is listed and not returned may list anything: that is unknown, not absent.
#[tokio::test]
async fn an_index_that_is_listed_and_not_returned_is_a_gap() {
    let walk = fixture(|options| options, "removal = \"manifest\"", POLICIES).await;
    let children = [build("amd64", 90), build("arm64", 90)];
    let index = image::index(Format::Oci, &children);
    put(&walk.registry, "shop/api", "release-1", &index, 90);
    put(&walk.registry, "shop/api", "build-1", &children[0], 90);
    put(&walk.registry, "shop/api", "build-2", &build("new", 90), 1);
    walk.snapshot_tags();
    let body = format!(
        r#"{{"images":[],"failures":[{{"imageId":{{"imageDigest":"{}"}},"failureCode":"ImageNotFound","failureReason":"so"}}]}}"#,
        index.digest
    );
    let lags = FaultKind::Status { status: 200, headers: Vec::new(), body };
    walk.registry.inject(Fault::on("/BatchGetImage", lags));
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 0, "its child is not known to be free");
    let text = report::render(&plan, report::Format::Text);
    assert!(text.contains("does not return its manifest"), "{text}");
}

#[tokio::test]
async fn a_deletion_that_is_answered_and_not_done_stops_the_run() {
    let walk = deleting(4, 2).await;
    let plan = walk.plan().await;
    let digest = (0..3).map(|number| walk.digest("shop/api", &format!("build-{number:03}"))).min().unwrap();
    let body = format!(r#"{{"imageIds":[{{"imageDigest":"{digest}","imageTag":"v1"}}],"failures":[]}}"#);
    walk.registry.inject(Fault::on("/BatchDeleteImage", FaultKind::Status { status: 200, headers: Vec::new(), body }));
    let came = walk.apply_text(&report::render(&plan, report::Format::Json)).await;
    assert_eq!((came.code, walk.registry.tags("shop/api").len()), (4, 6), "{}", came.text);
    assert!(came.text.contains("still has it"), "{}", came.text);
    assert_eq!(request_counts(&walk.registry)["BatchDeleteImage"], 1);
}

/// Amazon ECR deletes an image with its last tag, also one that was pushed in the instant of a removal.
#[tokio::test]
async fn a_tag_that_takes_a_new_image_along_is_named_with_what_to_do() {
    let walk = fixture(|options| options, "", POLICIES).await;
    let [shared, fresh, new] = ["shared", "fresh", "new"].map(|name| build(name, 90));
    put(&walk.registry, "shop/api", "build-3", &shared, 70);
    assert!(walk.registry.move_tag("shop/api", "release-3", &shared.digest));
    put(&walk.registry, "shop/api", "build-4", &new, 1);
    walk.snapshot_tags();
    let plan = walk.plan().await;
    let digest = fresh.digest.clone();
    let pushes = FaultKind::before_request(move |content| content.put_image("shop/api", Some("build-3"), &fresh));
    walk.registry.inject(Fault::on("/BatchDeleteImage", pushes).times(1));
    let came = walk.apply_text(&report::render(&plan, report::Format::Json)).await;
    assert_eq!(came.code, 4, "{}", came.text);
    let expected = format!(
        "to {digest} in the instant of its removal, and the registry deleted that image with its last tag, so neither can be \
         put back; help: push {digest} to shop/api:build-3 again"
    );
    assert!(came.text.contains(&expected), "{}", came.text);
}
