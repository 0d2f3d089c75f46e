//! Deletions of whole images, by opt-in, in the order that breaks no index; and of manifests without tags.

use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use jiff::SignedDuration;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::report;
use tagwarden::workflow::RestoreSelection;

use super::{API, date, fixture, image as build, noon, put};
use crate::workflow::WorkflowFixture;

const MANIFESTS: &str = "removal = \"manifest\"";
const POLICIES: &str = "policies:\n  - name: builds\n    select: { tags: [\"build-*\"] }\n    keep: [{ newest: 1 }]\n    mode: enforce\n  \
                        - name: releases\n    select: { tags: [\"release-*\"] }\n    keep: all\n";

#[tokio::test]
async fn without_the_opt_in_nothing_is_removed_and_the_plan_says_why() {
    let walk = fixture(|options| options, "", POLICIES).await;
    put(&walk.registry, API, "build-1", &build("one", 90), 90);
    put(&walk.registry, API, "build-2", &build("two", 1), 1);
    walk.snapshot_tags();
    let plan = walk.plan().await;
    let refusals: Vec<&str> = plan.refusals.iter().map(|refusal| &*refusal.message).collect();
    assert!(
        refusals.iter().any(|message| message.contains("a package version goes with all its tags")),
        "{refusals:?}"
    );
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 3, "{}", came.text);
    assert_eq!(walk.registry.tags(API).len(), 2);
    let asked = walk.registry.requests().iter().any(|request| request.method == "DELETE");
    assert!(!asked);
}

#[tokio::test]
async fn images_go_with_all_of_their_tags_and_come_back() {
    let walk = fixture(|options| options, MANIFESTS, POLICIES).await;
    let (amd64, arm64) = (build("amd64", 90), build("arm64", 90));
    let index = image::index(Format::Oci, &[amd64.clone(), arm64.clone()]);
    let [shared, kept_child, new] = ["shared", "kept child", "new"].map(|name| build(name, 90));
    let kept = image::index(Format::Oci, std::slice::from_ref(&kept_child));
    // The images of the index have tags of their own, which only go once the index is gone.
    put(&walk.registry, API, "build-1", &index, 90);
    assert!(walk.registry.move_tag(API, "build-1-again", &index.digest));
    put(&walk.registry, API, "build-1-amd64", &amd64, 90);
    put(&walk.registry, API, "build-1-arm64", &arm64, 90);
    put(&walk.registry, API, "build-3", &shared, 70);
    assert!(walk.registry.move_tag(API, "release-3", &shared.digest));
    // An image that a kept index lists stays, whatever its tag.
    put(&walk.registry, API, "release-4", &kept, 60);
    put(&walk.registry, API, "build-4-amd64", &kept_child, 60);
    put(&walk.registry, API, "build-5", &new, 1);
    walk.snapshot_tags();
    let before = walk.tags();
    let plan = walk.plan().await;
    let planned: Vec<String> = plan.removals.iter().map(|view| view.tag.clone()).collect();
    assert_eq!(planned, ["build-1", "build-1-again", "build-1-amd64", "build-1-arm64"], "{:?}", plan.refusals);
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 0, "{}", came.text);
    assert!([&index, &amd64, &arm64].iter().all(|gone| walk.registry.manifest(API, &gone.digest).is_none()));
    assert!([&shared, &kept, &kept_child].iter().all(|kept| walk.registry.manifest(API, &kept.digest).is_some()));
    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    assert_eq!(walk.tags(), before);
    let pushed = walk.registry.requests().iter().any(|request| request.method == "PUT");
    assert!(!pushed, "GitHub restores versions with their tags");
}

/// A kept index, under a tag or within another one, whose image has a tag that expires. Returns the index to be lost.
async fn kept_index(nested: bool) -> (WorkflowFixture, image::Image) {
    let walk = fixture(|options| options, MANIFESTS, POLICIES).await;
    let child = build("child", 90);
    let index = image::index(Format::Oci, std::slice::from_ref(&child));
    let outer = image::index(Format::Oci, std::slice::from_ref(&index));
    put(&walk.registry, API, "build-1", &child, 90);
    put(&walk.registry, API, "build-2", &build("two", 1), 1);
    put(&walk.registry, API, "release-1", if nested { &outer } else { &index }, 90);
    put(&walk.registry, API, "release-2", &build("other", 90), 90);
    walk.snapshot_tags();
    (walk, index)
}

#[tokio::test]
async fn an_index_that_the_list_leaves_out_keeps_its_images() {
    let (walk, _) = kept_index(false).await;
    let without_it = FaultKind::EditedJson(|json| {
        if let Some(rows) = json.as_array_mut() {
            rows.retain(|row| row["metadata"]["container"]["tags"][0] != "release-1");
        }
    });
    walk.registry.inject(Fault::on("per_page=100", without_it));
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 0);
    let text = report::render(&plan, report::Format::Text);
    assert!(text.contains("3 of the 4 versions that GitHub counts"), "{text}");
    walk.registry.clear_faults();
    assert_eq!(walk.plan().await.removals.len(), 0, "its index lists it");
}

/// An index that GitHub lists and the registry does not return may list any image: it is unread, not absent.
#[tokio::test]
async fn an_index_that_is_listed_and_not_given_keeps_its_images() {
    let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#.to_owned();
    let unknown = FaultKind::Status { status: 404, headers: Vec::new(), body };
    for nested in [false, true] {
        for method in [Some(Method::GET), None] {
            let (walk, index) = kept_index(nested).await;
            let lost = Fault::on(&format!("/manifests/{}", index.digest), unknown.clone());
            walk.registry.inject(Fault { method: method.clone(), ..lost });
            let plan = walk.plan().await;
            assert_eq!(plan.removals.len(), 0, "{nested}, {method:?}");
            let text = report::render(&plan, report::Format::Text);
            assert!(text.contains("answers that it does not exist when it is read"), "{text}");
        }
    }
}

#[tokio::test]
async fn an_index_that_went_meanwhile_keeps_nothing() {
    for nested in [false, true] {
        let (walk, index) = kept_index(nested).await;
        let digest = index.digest.clone();
        let goes = FaultKind::before_request(move |content| {
            content.delete_manifest(API, &digest);
        });
        walk.registry.inject(Fault::on(&format!("/manifests/{}", index.digest), goes).times(1));
        let plan = walk.plan().await;
        let planned: Vec<String> = plan.removals.iter().map(|view| view.tag.clone()).collect();
        assert_eq!(planned, ["build-1"], "{nested}");
    }
}

/// A deletion that is only reported is found by the list of tags that follows each of them.
#[tokio::test]
async fn each_deletion_is_held_against_the_list_of_tags() {
    let walk = fixture(|options| options, MANIFESTS, POLICIES).await;
    for number in 0..6 {
        put(&walk.registry, API, &format!("build-{number}"), &build(&format!("{number}"), 90), 90 - number);
    }
    put(&walk.registry, API, "release-1", &build("release", 90), 90);
    walk.snapshot_tags();
    let plan = walk.plan().await;
    let only_reported = Fault::on("/versions/", FaultKind::status(204)).method(Method::DELETE);
    walk.registry.inject(only_reported.after(2));
    let came = walk.apply(&plan).await;
    let count = |label: &str| came.tags.values().filter(|found| *found == label).count();
    assert_eq!((came.code, count("done"), count("failed"), count("stopped")), (4, 2, 1, 2), "{}", came.text);
    assert!(came.text.contains("answered that it deleted the manifest, and still has it"), "{}", came.text);
    assert_eq!(walk.registry.tags(API).len(), 5);
}

#[tokio::test]
async fn a_tag_that_comes_to_an_image_meanwhile_keeps_it() {
    let walk = fixture(|options| options, MANIFESTS, POLICIES).await;
    let [old, other, new] = ["old", "other", "new"].map(|name| build(name, 90));
    put(&walk.registry, API, "build-1", &old, 90);
    put(&walk.registry, API, "release-2", &other, 80);
    put(&walk.registry, API, "build-3", &new, 1);
    walk.snapshot_tags();
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 1);
    // After everything was decided, and before the last look.
    let (moved, to) = (AtomicBool::new(false), old.digest.clone());
    let change = FaultKind::before_request(move |content| {
        if !moved.swap(true, Ordering::Relaxed) {
            assert!(content.move_tag(API, "release-2", &to));
        }
    });
    walk.registry.inject(Fault::on("/tags/list", change).after(1).times(1));
    let came = walk.apply(&plan).await;
    assert_eq!(came.tags["contoso/api:build-1"], "kept", "{}", came.text);
    assert!(came.text.contains("release-2"), "{}", came.text);
    assert!(walk.registry.manifest(API, &old.digest).is_some());
}

/// Three expired images, the second of which an index lists that comes while they are deleted: at so many lists of tags.
async fn with_later_index(
    tag: Option<&'static str>,
    lists: usize,
) -> (WorkflowFixture, [tagwarden::demo::image::Image; 3]) {
    let walk = fixture(|options| options, MANIFESTS, POLICIES).await;
    let images = ["one", "two", "three"].map(|name| build(name, 90));
    for (number, image) in images.iter().enumerate() {
        put(&walk.registry, API, &format!("build-{number}"), image, 90 - i64::try_from(number).unwrap());
    }
    put(&walk.registry, API, "build-9", &build("new", 1), 1);
    put(&walk.registry, API, "release-1", &build("release", 50), 50);
    walk.snapshot_tags();
    // The one that would be deleted last.
    let listed = images.iter().max_by_key(|image| image.digest.clone()).unwrap().clone();
    let index = image::index(Format::Oci, &[listed]);
    let pushed = FaultKind::before_request(move |content| content.put_image(API, tag, &index));
    walk.registry.inject(Fault::on("/tags/list", pushed).after(lists).times(1));
    (walk, images)
}

/// An index that is pushed meanwhile keeps what it lists: with a tag at once, and without one where it came before the first
/// deletion.
#[tokio::test]
async fn an_index_that_is_pushed_meanwhile_keeps_its_images() {
    for (tag, lists) in [(Some("release-9"), 1), (Some("release-9"), 4), (None, 1)] {
        let (walk, images) = with_later_index(tag, lists).await;
        let plan = walk.plan().await;
        assert_eq!(plan.removals.len(), 3);
        let came = walk.apply_text(&report::render(&plan, report::Format::Json)).await;
        let labels: Vec<&str> = came.tags.values().map(String::as_str).collect();
        let kept = labels.iter().filter(|label| **label == "kept").count();
        assert_eq!((came.code, kept), (0, 1), "{tag:?} {lists}: {}", came.text);
        assert!(came.text.contains("which came to the repository meanwhile, lists it"), "{}", came.text);
        let left = images.iter().filter(|image| walk.registry.manifest(API, &image.digest).is_some()).count();
        assert_eq!(left, 1, "the other two are deleted: {}", came.text);
    }
}

#[tokio::test]
async fn an_index_that_is_pushed_meanwhile_and_cannot_be_read_ends_it() {
    let (walk, images) = with_later_index(Some("release-9"), 4).await;
    let plan = walk.plan().await;
    let listed = images.iter().max_by_key(|image| image.digest.clone()).unwrap().clone();
    let index = image::index(Format::Oci, &[listed]);
    walk.registry.inject(Fault::on(&format!("/manifests/{}", index.digest), FaultKind::status(403)));
    let came = walk.apply_text(&report::render(&plan, report::Format::Json)).await;
    assert_eq!(came.code, 4, "{}", came.text);
    assert!(came.text.contains("could not be read again"), "{}", came.text);
    let left = images.iter().filter(|image| walk.registry.manifest(API, &image.digest).is_some()).count();
    assert!(left > 1, "{}", came.text);
}

#[tokio::test]
async fn the_last_version_stays_with_the_reason() {
    let policies = "policies:\n  - name: builds\n    select: { tags: [\"build-*\"] }\n    keep: [{ within: 30d }]\n    mode: enforce\n";
    let walk = fixture(|options| options, MANIFESTS, policies).await;
    // By default no repository loses its last tag.
    let settings = std::fs::read_to_string(walk.path("tagwarden.toml")).unwrap();
    std::fs::write(walk.path("tagwarden.toml"), settings.replace("percent = 100", "percent = 100\nleave = 0")).unwrap();
    put(&walk.registry, API, "build-1", &build("one", 90), 90);
    put(&walk.registry, API, "build-2", &build("two", 80), 80);
    walk.snapshot_tags();
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 2, "{:?}", plan.refusals);
    let came = walk.apply(&plan).await;
    let mut labels: Vec<&str> = came.tags.values().map(String::as_str).collect();
    labels.sort_unstable();
    assert_eq!(labels, ["done", "locked"], "{}", came.text);
    assert!(came.text.contains("delete the package by hand"), "{}", came.text);
    assert_eq!(walk.registry.tags(API).len(), 1);
}

#[tokio::test]
async fn tags_of_an_image_that_changed_are_not_dated_by_its_push() {
    let policies = "policies:\n  - name: builds\n    select: { tags: [\"build-*\"] }\n    keep: [{ within: 30d }]\n    mode: enforce\n";
    let walk = fixture(|options| options, MANIFESTS, policies).await;
    let (rolled_back, old) = (build("rolled back", 200), build("old", 200));
    put(&walk.registry, API, "build-1", &rolled_back, 200);
    put(&walk.registry, API, "build-2", &old, 200);
    put(&walk.registry, API, "build-3", &build("new", 1), 1);
    let days = |days: i64| noon() - SignedDuration::from_hours(24 * days);
    walk.registry.ghcr(|ghcr| {
        // A tag may have come to the one five days ago, to the other two months ago.
        ghcr.date_version(API, &rolled_back.digest, days(200), days(5));
        ghcr.date_version(API, &old.digest, days(200), days(60));
    });
    walk.snapshot_tags();
    let plan = walk.plan().await;
    let planned: Vec<String> = plan.removals.iter().map(|view| view.tag.clone()).collect();
    assert_eq!(planned, ["build-2"], "the other may have been pushed five days ago");
}

#[tokio::test]
async fn manifests_without_tags_go_only_where_nothing_lists_them() {
    let policies = "policies:\n  - name: builds\n    select: { tags: [\"build-*\"] }\n    keep: [{ newest: 5 }]\n    mode: enforce\n  \
                    - name: leftovers\n    select: { repositories: [\"**\"] }\n    untagged: { delete: after 30d }\n    mode: enforce\n";
    let walk = fixture(|options| options, MANIFESTS, policies).await;
    let settings = std::fs::read_to_string(walk.path("tagwarden.toml")).unwrap();
    std::fs::write(walk.path("tagwarden.toml"), settings.replace("\"approved\"", "\"enforce\"")).unwrap();
    let (child, loose, young) = (build("child", 90), build("loose", 90), build("young", 1));
    let index = image::index(Format::Oci, std::slice::from_ref(&child));
    put(&walk.registry, API, "build-1", &index, 90);
    put(&walk.registry, API, "build-2", &build("two", 80), 80);
    for untagged in [&loose, &young] {
        walk.registry.content(|content| content.put_image(API, None, untagged));
        walk.registry.ghcr(|ghcr| date(ghcr, API, untagged, 90));
    }
    walk.snapshot_tags();
    let first = walk.run().await;
    assert_eq!(first.code, 0, "{}", first.text);
    assert!(walk.registry.manifest(API, &loose.digest).is_some(), "its time begins when a run finds it free");
    walk.advance_clock(31 * 24);
    // Somebody pushed it again yesterday.
    walk.registry.ghcr(|ghcr| date(ghcr, API, &young, -30));
    let second = walk.run().await;
    let deletions = &second.result.as_ref().unwrap().document.deletions;
    assert_eq!((second.code, deletions.manifest_count()), (0, 1), "{deletions:?}");
    assert!(walk.registry.manifest(API, &loose.digest).is_none(), "{deletions:?}");
    for kept in [&index, &child, &young] {
        assert!(walk.registry.manifest(API, &kept.digest).is_some(), "the children of an index look untagged");
    }
}

/// GitHub restores what was deleted for thirty days: the plan, the preview and the record say so, and nothing is called an
/// untag.
#[tokio::test]
async fn plans_and_previews_say_for_how_long_github_restores() {
    let keep =
        "policies:\n  - name: newest\n    select: { tags: [\"*\"] }\n    keep: [{ newest: 1 }]\n    mode: enforce\n";
    let walk = fixture(|options| options, "removal = \"manifest\"", keep).await;
    for days in 1..=3 {
        put(&walk.registry, API, &format!("v{days}"), &build(&format!("v{days}"), days), days);
    }
    assert!(walk.registry.move_tag(API, "also-v3", &build("v3", 3).digest));
    walk.registry.ghcr(|ghcr| date(ghcr, API, &build("v3", 3), 3));
    walk.snapshot_tags();
    let plan = walk.plan().await;
    assert_eq!(plan.registries[0].undo_seconds, Some(30 * 86_400));
    for format in [report::Format::Text, report::Format::Markdown, report::Format::Html] {
        let text = report::render(&plan, format);
        assert!(text.contains("a deletion there can be undone for 30 days"), "{text}");
        assert!(!text.contains("untag there") && !text.contains("Untagging"), "{text}");
    }
    let run = walk.apply(&plan).await.run_id();
    let outlooks = async |walk: &WorkflowFixture| {
        let app = walk.open().await.unwrap();
        let found = app.preview_restore(&RestoreSelection::Run(run.clone())).await.unwrap();
        app.close().await;
        found.iter().map(|one| (one.preview.expected.label(), one.undo_until.is_some())).collect::<Vec<_>>()
    };
    walk.registry.clear_requests();
    assert_eq!(outlooks(&walk).await, [("returns", true); 3]);
    let listed = walk.registry.requests().into_iter().filter(|request| request.path.contains("state=deleted")).count();
    assert_eq!(listed, 1, "once for all of them");
    // A restore of the version would take its other tag from what that names by now.
    put(&walk.registry, API, "also-v3", &build("newer", 1), 1);
    assert_eq!(outlooks(&walk).await.iter().filter(|(label, _)| *label == "uncertain").count(), 1);
    walk.advance_clock(31 * 24);
    let last = outlooks(&walk).await;
    assert!(last.iter().all(|(label, _)| *label != "returns"), "{last:?}");
    let app = walk.open().await.unwrap();
    let found = app.preview_restore(&RestoreSelection::Run(run)).await.unwrap();
    app.close().await;
    let of_v2 = found.iter().find(|one| one.preview.entry.intent.tag.as_str() == "v2").unwrap();
    let told = of_v2.preview.expected.describe();
    assert!(told.contains("Tagwarden deleted its manifest") && !told.contains("collected"), "{told}");
}

#[tokio::test]
async fn a_plan_without_the_opt_in_promises_no_undo() {
    let keep =
        "policies:\n  - name: newest\n    select: { tags: [\"*\"] }\n    keep: [{ newest: 1 }]\n    mode: enforce\n";
    let walk = fixture(|options| options, "", keep).await;
    for days in 1..=2 {
        put(&walk.registry, API, &format!("v{days}"), &build(&format!("v{days}"), days), days);
    }
    let plan = walk.plan().await;
    assert_eq!(plan.registries[0].undo_seconds, None);
    let text = report::render(&plan, report::Format::Text);
    assert!(!text.contains("can be undone for") && !text.contains("Untagging"), "{text}");
    let told = report::explanation(&plan, "main", API, "v2").unwrap();
    assert!(!told.contains("it would be untagged") && told.contains("no tag is removed alone there"), "{told}");
}
