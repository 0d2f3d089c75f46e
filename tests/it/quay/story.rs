//! Three hundred tags on Quay with everything that the field has met: plan, apply, restore. Nothing is lost, and every
//! refusal says why.

use http::Method;
use jiff::SignedDuration;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{
    Attributes, Fault, FaultKind, QuayNamespace, QuayOptions, QuayScope, QuayState, QuayToken, Target,
};
use tagwarden::domain::Digest;
use tagwarden::report::{self, PlanDocument};

use super::{TOKEN, fixture, image as build, put};
use crate::workflow::{StepResult, WorkflowFixture};

/// Candidates in `shop/api`, the newest twenty of which stay.
const CANDIDATES: usize = 210;
/// Every tenth of the oldest hundred candidates is an index with two images, signed by cosign.
const SIGNED: usize = 10;
const IMMUTABLE: [&str; 3] = ["candidate-033", "candidate-034", "candidate-035"];
/// The index whose signature is immutable.
const SIGNATURE_KEPT: &str = "candidate-050";
const MOVED: &str = "candidate-041";

const CANDIDATES_ONLY: &str = "policies:\n  - name: candidates\n    select: { tags: [\"candidate-*\"] }\n    keep: [{ newest: 20 }]\n    mode: enforce\n";

fn policies() -> String {
    format!("{CANDIDATES_ONLY}  - name: releases\n    select: {{ tags: [\"release-*\"] }}\n    keep: all\n")
}

fn candidate(number: usize) -> String {
    format!("candidate-{number:03}")
}

/// Puts so many candidates into `shop/api`, the newest last.
fn put_candidates(walk: &WorkflowFixture, count: usize) {
    for number in 0..count {
        let (tag, days) = (candidate(number), 100 - i64::try_from(number).unwrap());
        put(&walk.registry, "shop/api", &tag, &build(&tag, 100), days);
    }
}

fn lock(walk: &WorkflowFixture, tag: &str) {
    walk.registry.content(|content| {
        let lock = content.attributes_mut("shop/api", Target::Tag(tag)).unwrap();
        *lock = Attributes { delete: false, write: false, ..*lock };
    });
}

/// 210 candidates with 10 signatures and 10 releases in `shop/api`, 40 tags in `shop/web`, where nothing may be removed, and 30
/// in the mirror `shop/mirror`: 300 in all.
fn fill(walk: &WorkflowFixture) -> Digest {
    let mut kept_signature = None;
    for number in 0..CANDIDATES {
        let (tag, days) = (candidate(number), 400 - i64::try_from(number).unwrap());
        if number % 10 == 0 && number < 10 * SIGNED {
            let children = ["amd64", "arm64"].map(|platform| build(&format!("{tag} {platform}"), days));
            let index = image::index(Format::Oci, &children);
            let digest = put(&walk.registry, "shop/api", &tag, &index, days);
            let signature = image::signature(&digest, "shop/api");
            put(&walk.registry, "shop/api", &image::companion_tag(&digest, ".sig"), &signature, days);
            if tag == SIGNATURE_KEPT {
                kept_signature = Some(digest);
            }
        } else {
            put(&walk.registry, "shop/api", &tag, &build(&tag, days), days);
        }
    }
    for number in 0..10 {
        let tag = format!("release-{number}");
        put(&walk.registry, "shop/api", &tag, &build(&tag, 300), 300);
    }
    for (repository, count) in [("shop/web", 40), ("shop/mirror", 30)] {
        for number in 0..count {
            let (tag, days) = (candidate(number), 200 - i64::try_from(number).unwrap());
            put(&walk.registry, repository, &tag, &build(&format!("{repository} {tag}"), days), days);
        }
    }
    for tag in IMMUTABLE {
        lock(walk, tag);
    }
    walk.registry.quay(|quay| quay.set_state("shop/mirror", QuayState::Mirror));
    assert_eq!(walk.tags().len(), 300);
    walk.snapshot_tags();
    kept_signature.unwrap()
}

/// A token that may write to everything but `shop/web`.
fn token() -> QuayToken {
    let scopes = [QuayScope::RepoWrite, QuayScope::OrgAdmin];
    QuayToken { writable: vec!["shop/api".into(), "shop/mirror".into()], ..QuayToken::new(TOKEN, &scopes, "shop") }
}

fn namespace(days: i64) -> QuayNamespace {
    let policy = serde_json::json!({ "uuid": "x", "method": "number_of_tags", "value": 500 });
    QuayNamespace { time_machine: SignedDuration::from_hours(24 * days), auto_prune: vec![policy] }
}

fn refusals(plan: &PlanDocument) -> String {
    let lines = plan.refusals.iter().map(|refusal| format!("{}: {}", refusal.kind, refusal.message));
    lines.collect::<Vec<_>>().join("\n")
}

fn reasons(plan: &PlanDocument, tag: &str) -> String {
    let kept = plan.kept.iter().find(|view| view.repository == "shop/api" && view.tag == tag);
    let kept = kept.unwrap_or_else(|| panic!("{tag} is not kept"));
    kept.reasons.iter().map(report::ReasonView::sentence).collect::<Vec<_>>().join("; ")
}

fn outcome<'a>(came: &'a StepResult, tag: &str) -> &'a str {
    came.tags.get(&format!("shop/api:{tag}")).map_or("-", String::as_str)
}

/// The plan of [`fill`] with a time machine of two weeks: how many of its removals are in `shop/api`.
fn check_plan(plan: &PlanDocument) -> usize {
    assert_eq!(refusals(plan), "");
    let main = &plan.registries[0];
    assert_eq!(main.undo_seconds, Some(7 * 24 * 60 * 60), "the undo window, which the time machine covers");
    let text = report::render(plan, report::Format::Text);
    assert!(text.contains("it deletes untagged manifests by itself after 14 days"), "{text}");
    assert!(text.contains("auto-prune of namespace shop removes all but the 500 newest tags"), "{text}");
    let notes: Vec<&str> = main.notes.iter().map(|note| &*note.message).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("shop/mirror is a mirror")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("shop/web: it needs the scope `repo:write`")), "{notes:?}");
    for tag in IMMUTABLE {
        assert!(reasons(plan, tag).contains("lock"), "{}", reasons(plan, tag));
    }
    assert!(reasons(plan, SIGNATURE_KEPT).contains("takes more than the tag"), "{}", reasons(plan, SIGNATURE_KEPT));
    // Of the 190 oldest candidates three are immutable and one has a signature that stays; nine signatures go with theirs.
    let planned = plan.removals.iter().filter(|view| view.repository == "shop/api").count();
    assert_eq!(planned, 190 - IMMUTABLE.len() - 1 + SIGNED - 1);
    assert_eq!(plan.removals.len(), planned + 20 + 10, "shop/web and shop/mirror have theirs");
    planned
}

/// What is left in `shop/api` once everything that may go has gone.
fn check_left(walk: &WorkflowFixture, kept_signature: &str) {
    let left = walk.tags().into_keys().filter(|(repository, _)| repository == "shop/api").map(|(_, tag)| tag);
    let left: Vec<String> = left.collect();
    assert_eq!(left.iter().filter(|tag| tag.starts_with("release-")).count(), 10);
    for tag in IMMUTABLE.iter().chain([&SIGNATURE_KEPT, &kept_signature]) {
        assert!(left.iter().any(|other| other == tag), "{tag} stays");
    }
    let signatures = left.iter().filter(|tag| tag.starts_with("sha256-")).count();
    assert_eq!(signatures, 1, "the other nine went with their images");
}

/// Whether every tag has its manifest, and every index what is in it.
fn check_contents(walk: &WorkflowFixture) {
    for ((repository, tag), digest) in walk.tags() {
        let (bytes, _) =
            walk.registry.manifest(&repository, &digest).unwrap_or_else(|| panic!("{tag} has no manifest"));
        let children: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        for child in children["manifests"].as_array().into_iter().flatten() {
            let child = child["digest"].as_str().unwrap().parse().unwrap();
            assert!(walk.registry.manifest(&repository, &child).is_some(), "{tag} lost {child}");
        }
    }
}

#[tokio::test]
async fn three_hundred_tags_are_planned_removed_and_put_back() {
    let walk = fixture(|options| QuayOptions { tokens: vec![token()], ..options }, "policies: []\n").await;
    let signed = fill(&walk);
    let kept_signature = image::companion_tag(&signed, ".sig");
    walk.policies(&policies());
    lock(&walk, &kept_signature);

    // The registry's own rule would delete sooner than an undo is to be possible.
    walk.registry.quay(|quay| quay.set_namespace("shop", namespace(1)));
    let plan = walk.plan().await;
    let told = refusals(&plan);
    assert!(told.contains("untagged-retention: ") && told.contains("have it keep them longer"), "{told}");
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 3, "{}", came.text);
    assert_eq!(walk.tags().len(), 300);

    walk.registry.quay(|quay| quay.set_namespace("shop", namespace(14)));
    let plan = walk.plan().await;
    let planned = check_plan(&plan);

    // Between plan and apply a tag moves; then the registry is busy.
    let elsewhere = walk.digest("shop/api", "release-1");
    walk.registry.content(|content| assert!(content.move_tag("shop/api", MOVED, &elsewhere)));
    walk.snapshot_tags();
    let before = walk.tags();
    let storm = FaultKind::TooManyRequests { retry_after: Some(0) };
    walk.registry.inject(Fault::on("/tag/", storm.clone()).times(25));
    walk.registry.inject(Fault::on("/tag/", storm).method(Method::DELETE).after(30).times(20));
    // And the token ends in the middle.
    let expired = FaultKind::Status {
        status: 401,
        headers: Vec::new(),
        body: r#"{"error_type":"expired_token","detail":"The access token provided has expired."}"#.into(),
    };
    walk.registry.inject(Fault::on("/tag/", expired).method(Method::DELETE).after(120));
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 3, "what may not be removed is a refusal, which comes first: {}", came.text);
    assert!(came.text.contains("expired_token") && came.text.contains("scope `repo:write`"), "{}", came.text);
    assert_eq!(outcome(&came, MOVED), "moved", "{}", came.text);
    let first_run = came.run_id();
    let done = |came: &StepResult| came.tags.values().filter(|label| *label == "done").count();
    let first = done(&came);
    assert!((50..150).contains(&first), "{first}");
    // Where the identity may not remove, nothing was sent.
    assert!(
        came.tags.iter().filter(|(name, _)| name.starts_with("shop/web:")).all(|(_, label)| label == "refused"),
        "{}",
        came.text
    );

    // With a new token the rest follows.
    walk.registry.clear_faults();
    let rest = walk.plan().await;
    let came = walk.apply_text(&report::render(&rest, report::Format::Json)).await;
    assert!(came.text.contains("shop/web"), "{}", came.text);
    let second_run = came.run_id();
    let second = done(&came);
    check_left(&walk, &kept_signature);
    assert!(first + second >= planned - 2, "{first} and {second} of {planned}");

    // Everything comes back, the children of indexes and the signatures included.
    for run in [&second_run, &first_run] {
        let restored = walk.restore(run).await.unwrap();
        assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    }
    assert_eq!(walk.tags(), before, "every tag is back at its digest");
    walk.registry.advance_time(SignedDuration::from_hours(24 * 30));
    check_contents(&walk);
}

#[tokio::test]
async fn a_restore_after_the_time_machine_says_so_and_loses_nothing_else() {
    let walk = fixture(|options| options, CANDIDATES_ONLY).await;
    put_candidates(&walk, 24);
    walk.snapshot_tags();
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 4);
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 0, "{}", came.text);
    walk.registry.advance_time(SignedDuration::from_hours(24 * 15));
    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_ne!(restored.outcome().exit_code(), 0);
    let words = format!("{restored:?}");
    assert!(
        words.contains("left the time machine of its namespace") && words.contains("push the image again"),
        "{words}"
    );
    assert_eq!(walk.tags().len(), 20);
}

#[tokio::test]
async fn the_first_removal_shows_that_the_time_machine_has_the_tag() {
    let walk = fixture(|options| options, CANDIDATES_ONLY).await;
    put_candidates(&walk, 22);
    walk.snapshot_tags();
    let plan = walk.plan().await;
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.tags.len()), (0, 2), "{}", came.text);
    assert!(walk.plan().await.refusals.is_empty(), "Quay is not taken for a registry that destroys");
}
