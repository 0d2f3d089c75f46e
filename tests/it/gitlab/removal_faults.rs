//! Removals that GitLab's registry does not carry out as it was asked: each is found out, and the other tags stay with the
//! reason.

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::report;

use super::{API, fixture, image as build, put};
use crate::workflow::{StepResult, WorkflowFixture};

const POLICY: &str = "policies:\n  - name: candidates\n    select: { tags: [\"candidate-*\"] }\n    keep: [{ newest: 2 }]\n    mode: enforce\n  \
                      - name: releases\n    select: { tags: [\"release-*\"] }\n    keep: all\n";
/// The removals of the plan.
const EXPIRED: usize = 12;

/// [`API`] with so many expired candidates, two that stay, and two releases that name images of expired candidates.
async fn candidates() -> WorkflowFixture {
    let walk = fixture(|options| options, POLICY).await;
    for number in 0..EXPIRED + 2 {
        let tag = candidate(number);
        put(&walk.registry, API, &tag, &build(&tag, 100), 100 - i64::try_from(number).unwrap());
    }
    walk.snapshot_tags();
    for number in [3, 4] {
        let digest = walk.digest(API, &candidate(number));
        assert!(walk.registry.move_tag(API, &format!("release-{number}"), &digest));
    }
    walk.snapshot_tags();
    walk
}

fn candidate(number: usize) -> String {
    format!("candidate-{number:03}")
}

fn on_deletion(part: &str, what: FaultKind) -> Fault {
    Fault::on(&format!("/manifests/{part}"), what).method(Method::DELETE)
}

fn answer(status: u16, code: &str) -> FaultKind {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"not this one"}}]}}"#);
    FaultKind::Status { status, headers: Vec::new(), body }
}

fn labelled(came: &StepResult, label: &str) -> usize {
    came.tags.values().filter(|found| *found == label).count()
}

fn deletions(walk: &WorkflowFixture) -> usize {
    walk.registry.requests().iter().filter(|request| request.method == Method::DELETE).count()
}

async fn apply(walk: &WorkflowFixture) -> StepResult {
    let plan = walk.plan().await;
    assert_eq!((plan.removals.len(), plan.refusals.len()), (EXPIRED, 0), "{:?}", plan.refusals);
    walk.registry.clear_requests();
    walk.apply_text(&report::render(&plan, report::Format::Json)).await
}

#[tokio::test]
async fn a_project_that_is_renamed_meanwhile_has_not_lost_its_tags() {
    let walk = candidates().await;
    let renamed = FaultKind::before_request(|content| content.delete_repository(API));
    walk.registry.inject(on_deletion("", renamed).after(4).times(1));
    let came = apply(&walk).await;
    assert_eq!(came.code, 4, "{}", came.text);
    assert!(came.text.contains(&format!("does not know the repository {API} any more")), "{}", came.text);
    assert!(labelled(&came, "stopped") > 0 && labelled(&came, "missing") == 0, "{}", came.text);
}

#[tokio::test]
async fn a_tag_that_somebody_else_removed_is_gone() {
    let walk = candidates().await;
    let removed = FaultKind::before_request(|content| assert!(content.delete_tag(API, "candidate-007")));
    walk.registry.inject(on_deletion("", removed).times(1));
    let came = apply(&walk).await;
    assert_eq!((came.code, labelled(&came, "done"), labelled(&came, "missing")), (0, EXPIRED - 1, 1), "{}", came.text);
}

/// The first images have one tag each, so only a look at another tag of the image shows it.
#[tokio::test]
async fn a_removal_that_takes_a_kept_tag_of_the_image_along_ends_it() {
    let walk = candidates().await;
    for number in [3, 4] {
        let release = format!("release-{number}");
        let takes = FaultKind::before_request(move |content| {
            content.delete_tag(API, &release);
        });
        walk.registry.inject(on_deletion(&candidate(number), takes));
    }
    let plan = walk.plan().await;
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, labelled(&came, "failed")), (4, 1), "{}", came.text);
    assert!(came.text.contains("along, which stays and names the same image"), "{}", came.text);
    let left = walk.registry.tags(API);
    let releases: Vec<&String> = left.keys().filter(|tag| tag.starts_with("release-")).collect();
    assert_eq!(releases, ["release-3", "release-4"], "{}", came.text);
    assert!(left.contains_key("candidate-003") || left.contains_key("candidate-004"), "the second one was not touched");
    let journaled = walk.journal().await;
    let along: Vec<_> = journaled.iter().filter(|entry| entry.intent.tag.as_str().starts_with("release-")).collect();
    assert_eq!(along.len(), 2, "its removal and its restore: {along:?}");
}

/// No kept tag of the image shows that the registry removes both, and the plan removes both.
#[tokio::test]
async fn an_expired_tag_that_goes_with_another_one_comes_back_with_the_run() {
    let walk = candidates().await;
    put(&walk.registry, API, &candidate(6), &build(&candidate(5), 100), 94);
    walk.snapshot_tags();
    for (first, second) in [(5, 6), (6, 5)] {
        let takes = FaultKind::before_request(move |content| {
            content.delete_tag(API, &candidate(second));
        });
        walk.registry.inject(on_deletion(&candidate(first), takes));
    }
    let before = walk.registry.tags(API);
    let came = apply(&walk).await;
    assert_eq!((came.code, labelled(&came, "done"), labelled(&came, "missing")), (0, EXPIRED, 0), "{}", came.text);
    let journaled = walk.journal().await;
    let evidence = journaled.iter().map(|entry| format!("{:?}", entry.outcome));
    assert_eq!(evidence.filter(|text| text.contains("another tag of its image, had been removed")).count(), 1);
    walk.restore(&came.run_id()).await.unwrap();
    assert_eq!(walk.registry.tags(API), before);
}

#[tokio::test]
async fn kept_tags_of_the_image_cost_one_request_for_each_repository() {
    let walk = candidates().await;
    let came = apply(&walk).await;
    assert_eq!((came.code, labelled(&came, "done")), (0, EXPIRED), "{}", came.text);
    let looks = walk.registry.requests().into_iter().filter(|request| request.path.contains("name_exact=release-"));
    assert_eq!(looks.count(), 1);
}

#[tokio::test]
async fn five_locks_and_no_removal_end_it() {
    let walk = candidates().await;
    walk.registry.inject(on_deletion("", answer(403, "DENIED")));
    let came = apply(&walk).await;
    assert_eq!((came.code, deletions(&walk)), (4, 5), "{}", came.text);
    assert_eq!((labelled(&came, "locked"), labelled(&came, "stopped")), (5, EXPIRED - 5), "{}", came.text);
    assert!(came.text.contains("grant the identity the right to delete"), "{}", came.text);
}

/// Five protected tags do not stop the removals for ever.
#[tokio::test]
async fn the_next_run_begins_with_tags_that_were_not_locked() {
    let walk = candidates().await;
    let mut tags: Vec<usize> = (0..EXPIRED).collect();
    tags.retain(|number| ![3, 4].contains(number));
    for number in &tags[..5] {
        walk.registry.inject(on_deletion(&candidate(*number), answer(403, "DENIED")));
    }
    let came = apply(&walk).await;
    assert_eq!((came.code, labelled(&came, "locked")), (4, 5), "{}", came.text);
    let came = apply(&walk).await;
    assert_eq!((came.code, labelled(&came, "done"), labelled(&came, "locked")), (0, EXPIRED - 5, 5), "{}", came.text);
}

#[tokio::test]
async fn a_registry_that_calls_existing_tags_missing_is_waited_for_once() {
    let walk = candidates().await;
    walk.registry.inject(on_deletion("", answer(404, "MANIFEST_UNKNOWN")));
    let came = apply(&walk).await;
    assert_eq!((came.code, deletions(&walk)), (4, 3), "{}", came.text);
    assert!(came.text.contains("3 removals in a row were answered as if the tag did not exist"), "{}", came.text);
    assert_eq!((labelled(&came, "stopped"), labelled(&came, "missing")), (EXPIRED - 3, 0), "{}", came.text);
    let waited: u64 = walk.pauses.lock().unwrap().iter().map(std::time::Duration::as_secs).sum();
    assert!(waited < 100, "waited for {waited} seconds");
}
