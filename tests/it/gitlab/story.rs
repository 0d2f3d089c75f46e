//! Three hundred tags on GitLab with everything that the field has met: plan, apply, restore. Nothing is lost, and every
//! refusal says why.

use http::Method;
use jiff::SignedDuration;
use serde_json::json;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{
    Fault, FaultKind, GitlabOptions, GitlabProject, GitlabRole, GitlabScope, GitlabUser, TagRule,
};
use tagwarden::report::{self, PlanDocument};

use super::{API, TOKEN, USER, fixture, image as build, put, write_settings};
use crate::workflow::{StepResult, WorkflowFixture};

/// Candidates in [`API`], the newest twenty of which stay.
const CANDIDATES: usize = 210;
/// Every tenth of the oldest hundred candidates is an index with two images, signed by cosign.
const SIGNED: usize = 10;
/// Tags that only an owner may delete, and tags that nobody may.
const PROTECTED: [&str; 3] = ["candidate-033", "candidate-034", "candidate-035"];
const IMMUTABLE: [&str; 2] = ["candidate-037", "candidate-038"];
const MOVED: &str = "candidate-041";
/// Becomes immutable between plan and apply.
const LOCKED_LATE: &str = "candidate-042";
const WITH_API: &str = "namespaces = [\"shop\"]\napi = { endpoint = \"ENDPOINT\", token_file = \"token\" }";

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

/// Three projects: one with rules, one in which the identity may only read, and one that is renamed meanwhile.
fn projects(options: GitlabOptions) -> GitlabOptions {
    let protected =
        TagRule { pattern: "^candidate-03[3-5]$".into(), push: GitlabRole::Developer, delete: GitlabRole::Owner };
    let policy = json!({ "cadence": "1d", "enabled": true, "keep_n": 500, "older_than": "90d", "name_regex": ".*" });
    let backend = GitlabProject {
        protected: vec![protected],
        immutable: vec!["candidate-03[78]".into()],
        cleanup_policy: policy,
        ..GitlabProject::new(7)
    };
    let mut cleaner = GitlabUser::new(USER, TOKEN, &[GitlabScope::Api], "shop/backend", GitlabRole::Maintainer);
    cleaner.roles.insert("shop/web".into(), GitlabRole::Reporter);
    cleaner.roles.insert("shop/moving".into(), GitlabRole::Owner);
    GitlabOptions { users: vec![cleaner], ..options }
        .with_project("shop/backend", backend)
        .with_project("shop/web", GitlabProject::new(8))
        .with_project("shop/moving", GitlabProject::new(9))
}

/// 210 candidates with 10 signatures and 10 releases in [`API`], 40 tags in `shop/web`, from which nothing may be removed, and
/// 30 in `shop/moving`: 300 in all.
fn fill(walk: &WorkflowFixture) {
    for number in 0..CANDIDATES {
        let (tag, days) = (candidate(number), 400 - i64::try_from(number).unwrap());
        if number % 10 == 0 && number < 10 * SIGNED {
            let children = ["amd64", "arm64"].map(|platform| build(&format!("{tag} {platform}"), days));
            let digest = put(&walk.registry, API, &tag, &image::index(Format::Oci, &children), days);
            let signature = image::signature(&digest, API);
            put(&walk.registry, API, &image::companion_tag(&digest, ".sig"), &signature, days);
        } else {
            put(&walk.registry, API, &tag, &build(&tag, days), days);
        }
    }
    for number in 0..10 {
        let tag = format!("release-{number}");
        put(&walk.registry, API, &tag, &build(&tag, 300), 300);
    }
    for (repository, count) in [("shop/web", 40), ("shop/moving", 30)] {
        for number in 0..count {
            let (tag, days) = (candidate(number), 200 - i64::try_from(number).unwrap());
            put(&walk.registry, repository, &tag, &build(&format!("{repository} {tag}"), days), days);
        }
    }
    assert_eq!(walk.tags().len(), 300);
    walk.snapshot_tags();
}

fn with_api(walk: &WorkflowFixture) -> String {
    WITH_API.replace("ENDPOINT", &walk.registry.url())
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

/// The plan of [`fill`]: how many of its removals are in [`API`].
fn check_plan(plan: &PlanDocument) -> usize {
    assert_eq!(refusals(plan), "");
    let main = &plan.registries[0];
    assert_eq!(main.undo_seconds, Some(24 * 60 * 60));
    let text = report::render(plan, report::Format::Text);
    assert!(text.contains("it deletes untagged manifests by itself after 1 day"), "{text}");
    assert!(text.contains("an untag there can be undone for 1 day"), "{text}");
    assert!(text.contains("the cleanup policy of project shop/backend removes tags that match `.*`"), "{text}");
    let notes: Vec<&str> = main.notes.iter().map(|note| &*note.message).collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("shop/web") && notes[0].contains("the role Maintainer in the project"), "{notes:?}");
    for tag in PROTECTED.iter().chain(&IMMUTABLE) {
        assert!(reasons(plan, tag).contains("lock"), "{}", reasons(plan, tag));
    }
    let planned = plan.removals.iter().filter(|view| view.repository == API).count();
    assert_eq!(planned, 190 - PROTECTED.len() - IMMUTABLE.len() + SIGNED);
    assert_eq!(plan.removals.len(), planned + 20 + 10, "shop/web and shop/moving have theirs");
    planned
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

fn is_in(repository: &str) -> impl Fn(&(&String, &String)) -> bool {
    move |(name, _)| name.starts_with(&format!("{repository}:"))
}

#[tokio::test]
async fn three_hundred_tags_are_planned_removed_and_put_back() {
    let walk = fixture(projects, "policies: []\n").await;
    fill(&walk);
    walk.policies(&policies());

    // GitLab's garbage collection would delete sooner than an undo is to be possible.
    write_settings(&walk, "", &with_api(&walk));
    let plan = walk.plan().await;
    let told = refusals(&plan);
    assert!(told.contains("untagged-retention: ") && told.contains("after 1 day"), "{told}");
    assert!(told.contains("lower `undo_window`"), "{told}");
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 3, "{}", came.text);
    assert_eq!(walk.tags().len(), 300);

    write_settings(&walk, "undo_window = \"1d\"", &with_api(&walk));
    let plan = walk.plan().await;
    let planned = check_plan(&plan);

    // Between plan and apply a tag moves, a tag becomes immutable, and a project is renamed; then the registry is busy.
    let elsewhere = walk.digest(API, "release-1");
    walk.registry.content(|content| assert!(content.move_tag(API, MOVED, &elsewhere)));
    walk.registry.gitlab(|gitlab| {
        let projects = &mut gitlab.options_mut().projects;
        projects.get_mut("shop/backend").unwrap().immutable.push(format!("^{LOCKED_LATE}$"));
        projects.get_mut("shop/moving").unwrap().renaming = true;
    });
    walk.snapshot_tags();
    let before = walk.tags();
    let storm = FaultKind::TooManyRequests { retry_after: Some(0) };
    walk.registry.inject(Fault::on("/tags/list/", storm.clone()).times(25));
    walk.registry.inject(Fault::on("/jwt/auth", storm.clone()).times(2));
    walk.registry.inject(Fault::on("/manifests/", storm).method(Method::DELETE).after(30).times(20));
    // And the token ends in the middle, once: a removal that is refused with its new token, too, ends the run.
    let expired = FaultKind::Status {
        status: 401,
        headers: vec![(
            "www-authenticate".into(),
            format!(
                "Bearer realm=\"{}/jwt/auth\",service=\"container_registry\",scope=\"repository:{API}:delete\",error=\"invalid_token\"",
                walk.registry.url()
            ),
        )],
        body: r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":null}]}"#.into(),
    };
    walk.registry.inject(Fault::on("/backend/api/manifests/", expired).method(Method::DELETE).after(120).times(1));
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 3, "what may not be removed is a refusal, which comes first: {}", came.text);
    assert_eq!(outcome(&came, MOVED), "moved", "{}", came.text);
    assert_ne!(outcome(&came, LOCKED_LATE), "done", "{}", came.text);
    let done = came.tags.values().filter(|label| *label == "done").count();
    assert_eq!(done, planned - 2, "{}", came.text);
    // Where the identity may not remove, nothing was sent; a project that is renamed is refused tag by tag.
    assert!(came.tags.iter().filter(is_in("shop/web")).all(|(_, label)| label == "refused"), "{}", came.text);
    let moving: Vec<_> = came.tags.iter().filter(is_in("shop/moving")).collect();
    assert!(moving.len() == 10 && moving.iter().all(|(_, label)| *label != "done"), "{}", came.text);
    assert!(came.text.contains("RENAME_IN_PROGRESS"), "{}", came.text);
    let run = came.run_id();

    let left: Vec<String> = walk.registry.tags(API).into_keys().collect();
    for tag in PROTECTED.iter().chain(&IMMUTABLE).chain(&[MOVED, LOCKED_LATE]) {
        assert!(left.iter().any(|name| name == tag), "{tag}");
    }
    assert_eq!(left.len(), 230 - done);

    // Everything comes back, the children of indexes and the signatures included.
    walk.registry.clear_faults();
    walk.registry.advance_time(SignedDuration::from_hours(20));
    let restored = walk.restore(&run).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    assert_eq!(walk.tags(), before, "every tag is back at its digest");
    walk.registry.advance_time(SignedDuration::from_hours(24 * 30));
    check_contents(&walk);
}

#[tokio::test]
async fn a_restore_after_the_collection_says_so_and_loses_nothing_else() {
    let walk = fixture(|options| options, CANDIDATES_ONLY).await;
    put_candidates(&walk, 24);
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 4);
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 0, "{}", came.text);
    walk.registry.advance_time(SignedDuration::from_hours(24 * 3));
    let _freed = walk.registry.collect_garbage();
    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_ne!(restored.outcome().exit_code(), 0);
    let words = format!("{restored:?}");
    assert!(words.contains("MANIFEST_BLOB_UNKNOWN"), "{words}");
    assert_eq!(walk.tags().len(), 20);
}

#[tokio::test]
async fn the_first_removal_shows_that_the_manifest_stays() {
    let walk = fixture(|options| options, CANDIDATES_ONLY).await;
    put_candidates(&walk, 22);
    let plan = walk.plan().await;
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.tags.len()), (0, 2), "{}", came.text);
    assert!(walk.plan().await.refusals.is_empty(), "GitLab is not taken for a registry that destroys");
}

#[tokio::test]
async fn without_the_api_the_plan_says_what_it_does_not_know() {
    let walk = fixture(|options| options, CANDIDATES_ONLY).await;
    put_candidates(&walk, 22);
    let text = report::render(&walk.plan().await, report::Format::Text);
    assert!(text.contains("whether GitLab's cleanup policies remove tags by themselves is not known"), "{text}");
}

#[tokio::test]
async fn a_registry_without_a_database_is_refused_with_the_way_out() {
    let walk = fixture(|options| GitlabOptions { has_database: false, ..options }, CANDIDATES_ONLY).await;
    put_candidates(&walk, 22);
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 0);
    let text = report::render(&plan, report::Format::Text);
    assert!(text.contains("write kind = \"distribution\""), "{text}");
}
