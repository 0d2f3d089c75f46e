//! Three hundred tags on Docker Hub with everything that the field has met: plan, apply, restore. Nothing is lost, and every
//! refusal says why.

use http::Method;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{DockerHubOptions, Fault, FaultKind};
use tagwarden::domain::Digest;
use tagwarden::report::{self, PlanDocument};

use super::{API, USER, fixture, image as build, put};
use crate::workflow::{StepResult, WorkflowFixture};

/// Candidates in [`API`], the newest twenty of which stay.
const CANDIDATES: usize = 210;
/// Every tenth of the oldest hundred candidates is an index with two images, signed by cosign.
const SIGNED: usize = 10;
const IMMUTABLE: [&str; 3] = ["candidate-033", "candidate-034", "candidate-035"];
const MOVED: &str = "candidate-041";
/// Becomes immutable between plan and apply.
const LOCKED_LATE: &str = "candidate-042";

const CANDIDATES_ONLY: &str = "policies:\n  - name: candidates\n    select: { tags: [\"candidate-*\"] }\n    keep: [{ newest: 20 }]\n    mode: enforce\n";

fn policies() -> String {
    format!("{CANDIDATES_ONLY}  - name: releases\n    select: {{ tags: [\"release-*\"] }}\n    keep: all\n")
}

fn candidate(number: usize) -> String {
    format!("candidate-{number:03}")
}

/// Puts so many candidates into [`API`], the newest last.
fn put_candidates(walk: &WorkflowFixture, count: usize) {
    for number in 0..count {
        let (tag, days) = (candidate(number), 100 - i64::try_from(number).unwrap());
        put(&walk.registry, API, &tag, &build(&tag, 100), days);
    }
    walk.snapshot_tags();
}

/// 210 candidates with 10 signatures and 10 releases in [`API`], and 70 tags in `contoso/web`, from which nothing may be removed:
/// 300 in all.
fn fill(walk: &WorkflowFixture) {
    for number in 0..CANDIDATES {
        let (tag, days) = (candidate(number), 400 - i64::try_from(number).unwrap());
        if number % 10 == 0 && number < 10 * SIGNED {
            let children = ["amd64", "arm64"].map(|platform| build(&format!("{tag} {platform}"), days));
            let digest = put(&walk.registry, API, &tag, &image::index(Format::Oci, &children), days);
            put(&walk.registry, API, &image::companion_tag(&digest, ".sig"), &image::signature(&digest, API), days);
        } else {
            put(&walk.registry, API, &tag, &build(&tag, days), days);
        }
    }
    for number in 0..10 {
        let tag = format!("release-{number}");
        put(&walk.registry, API, &tag, &build(&tag, 300), 300);
    }
    for number in 0..70 {
        let (tag, days) = (candidate(number), 200 - i64::try_from(number).unwrap());
        put(&walk.registry, "contoso/web", &tag, &build(&format!("web {tag}"), days), days);
    }
    walk.registry.docker_hub(|hub| {
        hub.options.accounts[0].writable = vec![API.into()];
        hub.options.immutable.insert(API.into(), vec!["^candidate-03[3-5]$".into()]);
    });
    assert_eq!(walk.tags().len(), 300);
    walk.snapshot_tags();
}

fn refusals(plan: &PlanDocument) -> String {
    let lines = plan.refusals.iter().map(|refusal| format!("{}: {}", refusal.kind, refusal.message));
    lines.collect::<Vec<_>>().join("\n")
}

fn reasons(plan: &PlanDocument, tag: &str) -> String {
    let kept = plan.kept.iter().find(|view| view.repository == API && view.tag == tag);
    let kept = kept.unwrap_or_else(|| panic!("{tag} is not kept"));
    kept.reasons.iter().map(report::ReasonView::sentence).collect::<Vec<_>>().join("; ")
}

fn outcome<'a>(came: &'a StepResult, tag: &str) -> &'a str {
    came.tags.get(&format!("{API}:{tag}")).map_or("-", String::as_str)
}

/// Removals that were done.
fn done(came: &StepResult) -> usize {
    came.tags.values().filter(|label| *label == "done").count()
}

/// Checks that every tag has its manifest, and every index what is in it.
fn check_contents(walk: &WorkflowFixture) {
    for ((repository, tag), digest) in walk.tags() {
        let (bytes, _) =
            walk.registry.manifest(&repository, &digest).unwrap_or_else(|| panic!("{tag} has no manifest"));
        let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        for child in manifest["manifests"].as_array().into_iter().flatten() {
            let child: Digest = child["digest"].as_str().unwrap().parse().unwrap();
            assert!(walk.registry.manifest(&repository, &child).is_some(), "{tag} lost {child}");
        }
    }
}

/// The plan of [`fill`]: how many of its removals are in [`API`].
fn check_plan(plan: &PlanDocument) -> usize {
    assert_eq!(refusals(plan), "");
    let main = &plan.registries[0];
    assert_eq!(main.undo_seconds, None, "nobody knows for how long");
    let text = report::render(plan, report::Format::Text);
    for phrase in [
        "Docker Hub does not document what becomes of an image that lost its last tag",
        "is not in its published API",
        "which begins with a single tag",
    ] {
        assert!(text.contains(phrase), "{phrase}: {text}");
    }
    let notes: Vec<&str> = main.notes.iter().map(|note| &*note.message).collect();
    assert!(matches!(&*notes, [note] if note.contains("contoso/web")), "{notes:?}");
    for tag in IMMUTABLE {
        assert!(reasons(plan, tag).contains("lock"), "{}", reasons(plan, tag));
    }
    let planned = plan.removals.iter().filter(|view| view.repository == API).count();
    assert_eq!(planned, 190 - IMMUTABLE.len() + SIGNED, "signatures go with their images");
    assert_eq!(plan.removals.len(), planned + 50, "contoso/web has its own");
    planned
}

#[tokio::test]
async fn three_hundred_tags_are_planned_removed_and_put_back() {
    let walk = fixture(|options| options, "policies: []\n").await;
    fill(&walk);
    walk.policies(&policies());

    let plan = walk.plan().await;
    let planned = check_plan(&plan);

    // Between plan and apply a tag moves and another becomes immutable; then the API is busy, and the token ends.
    let elsewhere = walk.digest(API, "release-1");
    walk.registry.content(|content| assert!(content.move_tag(API, MOVED, &elsewhere)));
    walk.registry.docker_hub(|hub| {
        hub.options.immutable.get_mut(API).unwrap().push(format!("^{LOCKED_LATE}$"));
    });
    walk.snapshot_tags();
    let before = walk.tags();
    let storm = FaultKind::TooManyRequests { retry_after: Some(0) };
    walk.registry.inject(Fault::on("/v2/namespaces/", storm.clone()).times(5));
    walk.registry.inject(Fault::on("/v2/repositories/", storm).method(Method::DELETE).after(30).times(20));
    let ended = FaultKind::Status {
        status: 401,
        headers: Vec::new(),
        body: r#"{"message":"invalid token","errinfo":{}}"#.into(),
    };
    walk.registry.inject(Fault::on("/v2/repositories/", ended).method(Method::DELETE).after(120).times(1));
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 3, "what may not be removed is a refusal, which comes first: {}", came.text);
    assert_eq!(outcome(&came, MOVED), "moved", "{}", came.text);
    assert_ne!(outcome(&came, LOCKED_LATE), "done", "{}", came.text);
    assert_eq!(done(&came), planned - 2, "{}", came.text);
    assert!(!came.text.contains(USER.1), "no secret is shown");
    let web: Vec<_> = came.tags.iter().filter(|(name, _)| name.starts_with("contoso/web")).collect();
    assert!(web.len() == 50 && web.iter().all(|(_, label)| *label == "refused"), "{}", came.text);
    let left = walk.registry.tags(API);
    assert!(IMMUTABLE.iter().all(|tag| left.contains_key(*tag)));

    walk.registry.clear_faults();
    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    assert_eq!(walk.tags(), before, "every tag is back at its digest");
    check_contents(&walk);
}

/// The first removal shows that the image went with its tag: it is put back, and nothing else is removed.
#[tokio::test]
async fn if_images_go_with_their_tags_the_first_one_comes_back_and_the_rest_stays() {
    let walk = fixture(|options| DockerHubOptions { deletes_images: true, ..options }, CANDIDATES_ONLY).await;
    put_candidates(&walk, 24);
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 4);
    let came = walk.apply_text(&report::render(&plan, report::Format::Json)).await;
    assert_ne!(came.code, 0, "{}", came.text);
    assert_eq!(walk.tags().len(), 24, "{}", came.text);
    check_contents(&walk);
    let again = walk.plan().await;
    assert!(refusals(&again).contains("removal-impossible"), "{}", refusals(&again));
}

#[tokio::test]
async fn a_restore_of_what_was_collected_says_so() {
    let walk = fixture(|options| options, CANDIDATES_ONLY).await;
    put_candidates(&walk, 24);
    let came = walk.apply(&walk.plan().await).await;
    assert_eq!((came.code, done(&came)), (0, 4), "{}", came.text);
    let _freed = walk.registry.collect_garbage();
    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_ne!(restored.outcome().exit_code(), 0);
    assert!(format!("{restored:?}").contains("MANIFEST_BLOB_UNKNOWN"), "{restored:?}");
}
