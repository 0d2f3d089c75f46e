//! Three hundred tags on Artifact Registry with everything that the field has met: plan, apply, restore. Nothing is lost, and
//! every refusal says why.

use serde_json::json;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{ArtifactRepository, Fault};
use tagwarden::report::{self, PlanDocument};

use super::{API, fixture, image as build, put, refusal, request_counts, throttling};
use crate::workflow::{StepResult, WorkflowFixture};

/// Builds of the API; the newest ten stay.
const BUILDS: usize = 120;
const MOVED: &str = "build-041";

const POLICIES: &str = "policies:\n  - name: builds\n    select: { tags: [\"build-*\"] }\n    keep: [{ newest: 10 }]\n    mode: enforce\n  \
                        - name: releases\n    select: { tags: [\"release-*\", \"commit-*\"] }\n    keep: all\n";

/// 120 builds of which every twelfth is an index with a signature, 60 other tags of some of them, 10 releases, 10 signatures,
/// and 100 tags in four repositories where nothing may be removed: 300 in all.
fn fill(walk: &WorkflowFixture) {
    let registry = &walk.registry;
    for number in 0..BUILDS {
        let (tag, days) = (format!("build-{number:03}"), 400 - i64::try_from(number).unwrap());
        let content = if number % 12 == 0 {
            let children = ["amd64", "arm64"].map(|platform| build(&format!("{tag} {platform}"), days));
            image::index(Format::Oci, &children)
        } else {
            build(&tag, days)
        };
        let digest = put(registry, API, &tag, &content, days);
        if number % 2 == 1 {
            assert!(registry.move_tag(API, &format!("commit-{number:03}"), &digest));
        }
        if number % 12 == 0 {
            let signature = image::signature(&digest, API);
            put(registry, API, &image::companion_tag(&digest, ".sig"), &signature, days);
        }
    }
    for number in 0..10 {
        let tag = format!("release-{number}");
        put(registry, API, &tag, &build(&tag, 300), 300);
    }
    for repository in ["acme/locked/api", "acme/swept/api", "acme/cache/api", "acme/hidden/api"] {
        for number in 0..25_i64 {
            let tag = format!("build-{number:03}");
            put(registry, repository, &tag, &build(&format!("{repository} {tag}"), 200), 200 - number);
        }
    }
    assert_eq!(walk.tags().len(), 300);
    walk.snapshot_tags();
}

fn reasons(plan: &PlanDocument, repository: &str, tag: &str) -> String {
    let kept = plan.kept.iter().find(|view| view.repository == repository && view.tag == tag);
    let kept = kept.unwrap_or_else(|| panic!("{tag} is not kept"));
    kept.reasons.iter().map(report::ReasonView::sentence).collect::<Vec<_>>().join("; ")
}

fn done(came: &StepResult) -> usize {
    came.tags.values().filter(|label| *label == "done").count()
}

async fn story() -> WorkflowFixture {
    let walk = fixture(
        |mut options| {
            let delete = json!({ "id": "old", "action": "DELETE", "condition": { "olderThan": "172800s" } });
            let repository = ArtifactRepository::default;
            let locked = ArtifactRepository { immutable_tags: true, ..repository() };
            let swept = ArtifactRepository { cleanup_policies: json!({ "old": delete }), ..repository() };
            let cache = ArtifactRepository { mode: "REMOTE_REPOSITORY".to_owned(), ..repository() };
            options.denied.push(("artifactregistry.tags.delete".to_owned(), "acme/hidden".to_owned()));
            let options = options.repository("acme/locked", locked).repository("acme/swept", swept);
            options.repository("acme/cache", cache).repository("acme/hidden", repository())
        },
        "",
        POLICIES,
    )
    .await;
    fill(&walk);
    walk
}

#[tokio::test]
async fn three_hundred_tags_are_planned_removed_and_put_back() {
    let walk = story().await;
    let plan = walk.plan().await;
    let planned: Vec<_> = plan.removals.iter().filter(|view| view.repository == API).collect();
    // The signatures of indexes go with them: of ten, the last one belongs to a build that stays.
    let builds = planned.iter().filter(|view| view.tag.starts_with("build-")).count();
    assert_eq!((builds, plan.refusals.len()), (BUILDS - 10, 0), "{:?}", plan.refusals);
    let planned = planned.len();
    assert!(reasons(&plan, "acme/locked/api", "build-003").contains("lock"));
    assert!(plan.removals.iter().all(|view| view.repository != "acme/locked/api"));

    // Between plan and apply a tag moves; then the registry is busy, and the token is refused once.
    let elsewhere = walk.digest(API, "release-1");
    assert!(walk.registry.move_tag(API, MOVED, &elsewhere));
    walk.snapshot_tags();
    let before = walk.tags();
    let delete = |fault| Fault::on("/tags/", fault).method(delete_method());
    walk.registry.clear_requests();
    walk.registry.inject(Fault::on("/versions", throttling()).times(2));
    walk.registry.inject(delete(throttling()).after(10).times(20));
    walk.registry.inject(delete(refusal(401, "UNAUTHENTICATED", "expired")).after(40).times(1));
    let came = walk.apply(&plan).await;
    assert_ne!(came.code, 0, "{}", came.text);
    assert_eq!(came.tags["acme/shop/api:build-041"], "moved", "{}", came.text);
    assert_eq!(done(&came), planned - 1, "{}", came.text);
    for phrase in [
        "its cleanup policy `old` deletes tagged and untagged images, 2 days after their push",
        "acme/cache is a remote repository",
        "the identity may not remove tags from acme/hidden",
    ] {
        assert!(came.text.contains(phrase), "{phrase}: {}", came.text);
    }
    assert_eq!(request_counts(&walk.registry)["POST token"], 2, "another token after the refusal");
    let left = walk.tags();
    let others = |(repository, _): &&(String, String)| *repository != API;
    assert_eq!(left.keys().filter(others).count(), 100, "nothing was removed elsewhere");
    for (repository, tag) in before.keys() {
        let digest = &before[&(repository.clone(), tag.clone())];
        assert!(walk.registry.manifest(repository, digest).is_some(), "{repository}:{tag} left its manifest");
    }

    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    assert_eq!(walk.tags(), before, "every tag is back at its digest");
    let asked = request_counts(&walk.registry);
    assert!(!asked.keys().any(|kind| kind.starts_with("PUT")), "nothing was pushed: {asked:?}");
}

#[tokio::test]
async fn a_registry_that_stays_busy_stops_the_run_and_a_second_one_ends_it() {
    let walk = story().await;
    let plan = walk.plan().await;
    let planned = plan.removals.iter().filter(|view| view.repository == API).count();
    walk.registry.inject(Fault::on("/tags/", throttling()).method(delete_method()).after(30));
    let came = walk.apply(&plan).await;
    let first = done(&came);
    assert_ne!(came.code, 0, "{}", came.text);
    assert!((30..planned).contains(&first), "{first}: {}", came.text);
    walk.registry.clear_faults();
    let rest = walk.plan().await;
    let came = walk.apply_text(&report::render(&rest, report::Format::Json)).await;
    assert_eq!(first + done(&came), planned, "{}", came.text);
}

fn delete_method() -> http::Method {
    http::Method::DELETE
}
