//! Three hundred tags on Harbor with everything that the field has met: plan, apply, restore. Nothing is lost, and every
//! refusal says why.

use http::Method;
use serde_json::json;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{
    Fault, FaultKind, HARBOR_READS, HARBOR_REMOVES, HarborOptions, HarborProject, HarborSchedule,
};
use tagwarden::domain::Digest;
use tagwarden::report::{self, PlanDocument};

use super::{ROBOT, add_project, fixture, image as build, make_immutable, put, robot};
use crate::workflow::{StepResult, WorkflowFixture};

/// Candidates in `shop/api`, the newest twenty of which stay.
const CANDIDATES: usize = 210;
/// Every tenth of the oldest hundred candidates is an index with two images, signed by cosign.
const SIGNED: usize = 10;
const IMMUTABLE: [&str; 3] = ["candidate-033", "candidate-034", "candidate-035"];
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
    walk.snapshot_tags();
}

/// 210 candidates with 10 signatures and 10 releases in `shop/api`, 40 tags in `web/api`, where nothing may be removed, and 30
/// in the proxy cache `hub/library/nginx`: 300 in all.
fn fill(walk: &WorkflowFixture) {
    for number in 0..CANDIDATES {
        let (tag, days) = (candidate(number), 400 - i64::try_from(number).unwrap());
        if number % 10 == 0 && number < 10 * SIGNED {
            let children = ["amd64", "arm64"].map(|platform| build(&format!("{tag} {platform}"), days));
            let index = image::index(Format::Oci, &children);
            let digest = put(&walk.registry, "shop/api", &tag, &index, days);
            let signature = image::signature(&digest, "shop/api");
            put(&walk.registry, "shop/api", &image::companion_tag(&digest, ".sig"), &signature, days);
        } else {
            put(&walk.registry, "shop/api", &tag, &build(&tag, days), days);
        }
    }
    for number in 0..10 {
        let tag = format!("release-{number}");
        put(&walk.registry, "shop/api", &tag, &build(&tag, 300), 300);
    }
    for (repository, count) in [("web/api", 40), ("hub/library/nginx", 30)] {
        for number in 0..count {
            let (tag, days) = (candidate(number), 200 - i64::try_from(number).unwrap());
            put(&walk.registry, repository, &tag, &build(&format!("{repository} {tag}"), days), days);
        }
    }
    make_immutable(&walk.registry, "candidate-03[345]");
    add_project(&walk.registry, "web", HarborProject::new(2), HARBOR_READS);
    let all = [HARBOR_READS, HARBOR_REMOVES].concat();
    add_project(&walk.registry, "hub", HarborProject { registry_id: 3, ..HarborProject::new(3) }, &all);
    assert_eq!(walk.tags().len(), 300);
    walk.snapshot_tags();
}

/// A nightly garbage collection.
fn collect(walk: &WorkflowFixture, delete_untagged: bool) {
    walk.registry.harbor(|harbor, _| {
        let schedule = HarborSchedule { kind: "Daily".into(), cron: "0 0 0 * * *".into(), delete_untagged };
        harbor.options.garbage_collection = Some(schedule);
    });
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

/// Removals that were done.
fn done(came: &StepResult) -> usize {
    came.tags.values().filter(|label| *label == "done").count()
}

/// The plan of [`fill`]: how many of its removals are in `shop/api`.
fn check_plan(plan: &PlanDocument) -> usize {
    assert_eq!(refusals(plan), "");
    let main = &plan.registries[0];
    assert_eq!(main.undo_seconds, Some(7 * 24 * 60 * 60));
    assert!(main.info.as_ref().unwrap().stored_bytes.is_some_and(|bytes| bytes > 0));
    let notes: Vec<&str> = main.notes.iter().map(|note| &*note.message).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("project hub is a proxy cache")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("project web: it needs `Delete` of `Tag`")), "{notes:?}");
    for tag in IMMUTABLE {
        assert!(reasons(plan, tag).contains("lock"), "{}", reasons(plan, tag));
    }
    // Of the 190 oldest candidates three are immutable. Signatures are no tags of their own: they stay with their images.
    let planned = plan.removals.iter().filter(|view| view.repository == "shop/api").count();
    assert_eq!(planned, 190 - IMMUTABLE.len());
    assert!(plan.removals.iter().all(|view| !view.tag.starts_with("sha256-")));
    planned
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

#[tokio::test]
async fn three_hundred_tags_are_planned_removed_and_put_back() {
    let walk = fixture(|options| options, "policies: []\n").await;
    fill(&walk);
    walk.policies(&policies());

    // Garbage collection would delete sooner than an undo is to be possible.
    collect(&walk, true);
    let plan = walk.plan().await;
    let told = refusals(&plan);
    assert!(told.contains("untagged-retention: ") && told.contains("at once"), "{told}");
    let text = report::render(&plan, report::Format::Text);
    assert!(text.contains("garbage collection deletes all untagged artifacts with each of its runs"), "{text}");
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, walk.tags().len()), (3, 300), "{}", came.text);

    collect(&walk, false);
    let plan = walk.plan().await;
    let planned = check_plan(&plan);

    // Between plan and apply a tag moves; then the registry is busy, and the account expires in the middle.
    let elsewhere = walk.digest("shop/api", "release-1");
    walk.registry.content(|content| assert!(content.move_tag("shop/api", MOVED, &elsewhere)));
    walk.snapshot_tags();
    let before = walk.tags();
    let storm = FaultKind::TooManyRequests { retry_after: Some(0) };
    walk.registry.inject(Fault::on("/artifacts", storm.clone()).times(25));
    walk.registry.inject(Fault::on("/tags/", storm).method(Method::DELETE).after(30).times(20));
    let busy =
        FaultKind::Status { status: 503, headers: vec![("retry-after".into(), "0".into())], body: String::new() };
    walk.registry.inject(Fault::on("/tags/", busy).method(Method::DELETE).after(60).times(10));
    let expired = FaultKind::Status {
        status: 401,
        headers: Vec::new(),
        body: r#"{"errors":[{"code":"UNAUTHORIZED","message":"unauthorized"}]}"#.into(),
    };
    walk.registry.inject(Fault::on("/tags/", expired).method(Method::DELETE).after(120));
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 3, "what may not be removed is a refusal, which comes first: {}", came.text);
    assert!(came.text.contains("its secret expired") && came.text.contains("proxy cache"), "{}", came.text);
    assert_eq!(outcome(&came, MOVED), "moved", "{}", came.text);
    let first = done(&came);
    assert!((50..150).contains(&first), "{first}");
    let first_run = came.run_id();
    let refused = |prefix: &str| {
        came.tags.iter().filter(|(name, _)| name.starts_with(prefix)).all(|(_, label)| label == "refused")
    };
    assert!(refused("web/") && refused("hub/"), "nothing was sent where nothing may be removed: {}", came.text);

    // With a new secret the rest follows.
    walk.registry.clear_faults();
    let rest = walk.plan().await;
    let came = walk.apply_text(&report::render(&rest, report::Format::Json)).await;
    let second = done(&came);
    assert!(first + second >= planned - 2, "{first} and {second} of {planned}: {}", came.text);
    let second_run = came.run_id();
    let left = walk.registry.tags("shop/api");
    assert_eq!(left.keys().filter(|tag| tag.starts_with("release-")).count(), 10);
    assert_eq!(left.keys().filter(|tag| tag.starts_with("sha256-")).count(), SIGNED, "signatures stay");
    assert!(IMMUTABLE.iter().all(|tag| left.contains_key(*tag)));

    // Everything comes back, by the name alone.
    walk.registry.clear_requests();
    for run in [&second_run, &first_run] {
        let restored = walk.restore(run).await.unwrap();
        assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    }
    assert_eq!(walk.tags(), before, "every tag is back at its digest");
    let requests = walk.registry.requests();
    assert!(requests.iter().all(|request| request.method != Method::PUT), "no manifest is pushed");
    collect(&walk, true);
    walk.registry.harbor(|harbor, content| {
        harbor.run_garbage_collection(content);
    });
    check_contents(&walk);
}

#[tokio::test]
async fn a_tag_that_moves_in_the_instant_of_its_removal_is_not_removed() {
    let walk = fixture(|options| options, CANDIDATES_ONLY).await;
    put_candidates(&walk, 23);
    let plan = walk.plan().await;
    let pushed = walk.digest("shop/api", "candidate-022");
    let other = pushed.clone();
    let moves = FaultKind::before_request(move |content| {
        assert!(content.move_tag("shop/api", "candidate-001", &other));
    });
    walk.registry.inject(Fault::on("/tags/candidate-001", moves).method(Method::DELETE).times(1));
    let came = walk.apply_text(&report::render(&plan, report::Format::Json)).await;
    assert_eq!((came.code, outcome(&came, "candidate-001")), (0, "moved"), "{}", came.text);
    assert_eq!((done(&came), &walk.registry.tags("shop/api")["candidate-001"]), (2, &pushed));
}

/// The request names the digest and the answer does not, so the first answer is no proof.
#[tokio::test]
async fn removals_that_harbor_only_reports_end_at_the_first() {
    let walk = fixture(|options| options, CANDIDATES_ONLY).await;
    put_candidates(&walk, 24);
    walk.snapshot_tags();
    let plan = walk.plan().await;
    walk.registry.inject(Fault::on("/tags/", FaultKind::status(200)).method(Method::DELETE));
    let came = walk.apply(&plan).await;
    let count = |label: &str| came.tags.values().filter(|found| *found == label).count();
    assert_eq!((came.code, count("failed"), count("stopped")), (4, 1, 3), "{}", came.text);
    assert!(came.text.contains("the registry said that it removed the tag, and shop/api:"), "{}", came.text);
    assert_eq!(walk.tags().len(), 24);
}

#[tokio::test]
async fn a_tag_that_becomes_immutable_before_its_removal_stays() {
    let walk = fixture(|options| options, CANDIDATES_ONLY).await;
    put_candidates(&walk, 23);
    let plan = walk.plan().await;
    make_immutable(&walk.registry, "candidate-001");
    // The rule is made between the last look and the removal.
    let locked = FaultKind::Status {
        status: 412,
        headers: Vec::new(),
        body: r#"{"errors":[{"code":"PRECONDITION","message":"the tag candidate-002 configured as immutable, cannot be deleted"}]}"#.into(),
    };
    walk.registry.inject(Fault::on("/tags/candidate-002", locked).method(Method::DELETE));
    let came = walk.apply(&plan).await;
    assert_ne!(outcome(&came, "candidate-001"), "done", "{}", came.text);
    assert_eq!(outcome(&came, "candidate-002"), "locked", "{}", came.text);
    assert_eq!(done(&came), 1);
}

#[tokio::test]
async fn an_image_that_harbor_gives_to_nobody_stays_because_it_could_not_come_back() {
    let walk = fixture(|options| options, CANDIDATES_ONLY).await;
    put_candidates(&walk, 24);
    let plan = walk.plan().await;
    let digest = walk.digest("shop/api", "candidate-002");
    walk.registry.harbor(|harbor, _| harbor.withhold(&digest));
    let came = walk.apply(&plan).await;
    assert_eq!((done(&came), outcome(&came, "candidate-002")), (3, "failed"), "{}", came.text);
    assert!(came.text.contains("PROJECTPOLICYVIOLATION"), "{}", came.text);
    assert!(walk.registry.tags("shop/api").contains_key("candidate-002"));
}

#[tokio::test]
async fn retention_of_a_project_and_an_unknown_collection_are_refusals_that_can_be_accepted() {
    let rule = json!({ "template": "latestPushedK", "params": { "latestPushedK": 5 } });
    let trigger = json!({ "kind": "Schedule", "settings": { "cron": "0 0 3 * * *" } });
    let retention = json!({ "rules": [rule], "trigger": trigger });
    let shop = HarborProject { retention: Some(retention), ..HarborProject::new(1) };
    let blind = HarborOptions { accounts: vec![], ..super::options() };
    let mut account = robot();
    account.system.clear();
    let blind = blind.account(account);
    let kept =
        |options: HarborOptions| HarborOptions { projects: [("shop".to_owned(), shop.clone())].into(), ..options };
    for (options, phrase) in [(kept(super::options()), "at once"), (blind, "did not say")] {
        let walk = fixture(|other| HarborOptions { clock: other.clock, ..options }, CANDIDATES_ONLY).await;
        put_candidates(&walk, 24);
        let told = refusals(&walk.plan().await);
        assert!(told.contains("untagged-retention"), "{phrase}: {told}");
        walk.settings("enforce", "", "");
        let came = walk.run().await;
        assert_eq!((came.code, done(&came)), (3, 0), "{}", came.text);
        walk.settings("approved", "accept = [\"untagged-retention\"]", "");
        let plan = walk.plan().await;
        assert_eq!(refusals(&plan), "");
        let came = walk.apply(&plan).await;
        assert_eq!((came.code, done(&came)), (0, 4), "{}", came.text);
        let restored = walk.restore(&came.run_id()).await.unwrap();
        assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    }
}

#[tokio::test]
async fn an_account_that_expired_before_the_plan_is_told() {
    let walk = fixture(|options| options, CANDIDATES_ONLY).await;
    put_candidates(&walk, 22);
    walk.registry.expire_tokens();
    let failed = walk.try_plan().await;
    let words = match failed {
        Ok(result) => report::render(&result.document, report::Format::Text),
        Err(error) => error.to_string(),
    };
    assert!(words.contains("UNAUTHORIZED") && words.contains("its secret expired"), "{words}");
    assert!(!words.contains(ROBOT.1), "no secret is shown");
}
