//! Three hundred tags on zot with everything that the field has met: plan, apply, restore. Nothing is lost, and every refusal
//! says why.

use http::Method;
use jiff::SignedDuration;
use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{Fault, FaultKind, ZotCollection, ZotOptions};
use tagwarden::domain::Digest;
use tagwarden::report::{self, PlanDocument};

use super::{API, USER, fixture, image as build, put};
use crate::workflow::{StepResult, WorkflowFixture};

/// Candidates in [`API`], the newest twenty of which stay.
const CANDIDATES: usize = 210;
/// Every tenth of the oldest hundred candidates is an index with two images, signed by cosign.
const SIGNED: usize = 10;
const MOVED: &str = "candidate-041";

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

/// 210 candidates with 10 signatures and 10 releases in [`API`], and 70 tags in `web/api`, from which nothing may be removed:
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
        put(&walk.registry, "web/api", &tag, &build(&format!("web {tag}"), days), days);
    }
    walk.registry.zot(|zot| zot.options.users[0].read.push("web/".into()));
    assert_eq!(walk.tags().len(), 300);
    walk.snapshot_tags();
}

fn refusals(plan: &PlanDocument) -> String {
    let lines = plan.refusals.iter().map(|refusal| format!("{}: {}", refusal.kind, refusal.message));
    lines.collect::<Vec<_>>().join("\n")
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
    assert_eq!(main.undo_seconds, None, "zot does not tell when its garbage collection deletes");
    let text = report::render(plan, report::Format::Text);
    assert!(
        text.contains("did not say whether it deletes untagged manifests by itself, which the settings accept"),
        "{text}"
    );
    assert!(text.contains("by default it runs every hour"), "{text}");
    let notes: Vec<&str> = main.notes.iter().map(|note| &*note.message).collect();
    assert!(matches!(&*notes, [note] if note.contains("web/api") && note.contains("`delete`")), "{notes:?}");
    let planned = plan.removals.iter().filter(|view| view.repository == API).count();
    assert_eq!(planned, 190 + SIGNED, "signatures go with their images");
    assert_eq!(plan.removals.len(), planned + 50, "web/api has its own");
    planned
}

#[tokio::test]
async fn three_hundred_tags_are_planned_removed_and_put_back() {
    let walk = fixture(|options| options, "policies: []\n").await;
    fill(&walk);
    walk.policies(&policies());

    // Nobody knows how long an undo is possible: that has to be accepted.
    walk.settings("approved", "", "");
    let plan = walk.plan().await;
    let told = refusals(&plan);
    assert!(told.contains("untagged-retention: ") && told.contains("did not say"), "{told}");
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, walk.tags().len()), (3, 300), "{}", came.text);

    walk.settings("approved", "accept = [\"untagged-retention\"]", "");
    let plan = walk.plan().await;
    let planned = check_plan(&plan);

    // Between plan and apply a tag moves; then the registry is busy, and the password is changed in the middle.
    let elsewhere = walk.digest(API, "release-1");
    walk.registry.content(|content| assert!(content.move_tag(API, MOVED, &elsewhere)));
    walk.snapshot_tags();
    let before = walk.tags();
    let storm = FaultKind::TooManyRequests { retry_after: Some(0) };
    walk.registry.inject(Fault::on("/ext/search", storm.clone()).times(3));
    walk.registry.inject(Fault::on("/manifests/", storm).method(Method::DELETE).after(30).times(20));
    let expired = FaultKind::Status {
        status: 401,
        headers: vec![("www-authenticate".into(), "Basic realm=\"Authorization Required\"".into())],
        body: r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#.into(),
    };
    walk.registry.inject(Fault::on("/manifests/", expired).method(Method::DELETE).after(120));
    let came = walk.apply(&plan).await;
    assert_eq!(came.code, 3, "what may not be removed is a refusal, which comes first: {}", came.text);
    assert_eq!(outcome(&came, MOVED), "moved", "{}", came.text);
    assert!(came.text.contains("check the registry's `auth`") && !came.text.contains(USER.1), "{}", came.text);
    let first = done(&came);
    assert!((50..150).contains(&first), "{first}");
    let first_run = came.run_id();
    let web: Vec<_> = came.tags.iter().filter(|(name, _)| name.starts_with("web/")).collect();
    assert!(web.len() == 50 && web.iter().all(|(_, label)| *label == "refused"), "{}", came.text);

    // With the new password the rest follows.
    walk.registry.clear_faults();
    let rest = walk.plan().await;
    let came = walk.apply_text(&report::render(&rest, report::Format::Json)).await;
    let second = done(&came);
    // The tag that moved was seen to, so it is the youngest now, and another one is no longer among the newest twenty.
    assert_eq!(first + second, planned, "{}", came.text);
    assert!(walk.registry.tags(API).contains_key(MOVED));
    let second_run = came.run_id();
    let left = walk.registry.tags(API);
    assert_eq!(left.keys().filter(|tag| tag.starts_with("release-")).count(), 10);

    // Everything comes back, the signatures included, and a collection then finds nothing.
    for run in [&second_run, &first_run] {
        let restored = walk.restore(run).await.unwrap();
        assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    }
    assert_eq!(walk.tags(), before, "every tag is back at its digest");
    walk.registry.zot(|zot| zot.options.collection = Some(ZotCollection::default()));
    walk.registry.advance_time(SignedDuration::from_hours(24));
    assert_eq!(walk.tags(), before);
    check_contents(&walk);
}

#[tokio::test]
async fn a_restore_after_the_collection_says_so_and_loses_nothing_else() {
    let collection = Some(ZotCollection::default());
    let walk = fixture(|options| ZotOptions { collection, ..options }, CANDIDATES_ONLY).await;
    put_candidates(&walk, 24);
    let plan = walk.plan().await;
    assert_eq!((plan.removals.len(), refusals(&plan)), (4, String::new()));
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, done(&came)), (0, 4), "{}", came.text);
    walk.registry.advance_time(SignedDuration::from_hours(2));
    let _freed = walk.registry.collect_garbage();
    let restored = walk.restore(&came.run_id()).await.unwrap();
    assert_ne!(restored.outcome().exit_code(), 0);
    assert!(format!("{restored:?}").contains("MANIFEST_BLOB_UNKNOWN"), "{restored:?}");
    assert_eq!(walk.tags().len(), 20);
}

#[tokio::test]
async fn a_collection_in_the_middle_of_a_run_is_no_alarm_where_it_was_accepted() {
    let walk = fixture(|options| options, CANDIDATES_ONLY).await;
    put_candidates(&walk, 24);
    let plan = walk.plan().await;
    let collects = FaultKind::before_request(|content| {
        let _freed = content.collect_garbage();
    });
    walk.registry.inject(Fault::on("/manifests/", collects).method(Method::DELETE).after(1));
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, done(&came)), (0, 4), "{}", came.text);
}

/// The release says that manifests stay, and that garbage collection may be soon is accepted: the first image is looked at
/// all the same.
#[tokio::test]
async fn of_a_zot_that_destroys_one_image_is_touched_and_put_back() {
    let walk = fixture(|options| options, CANDIDATES_ONLY).await;
    put_candidates(&walk, 24);
    let plan = walk.plan().await;
    let before = walk.tags();
    // What lost its last tag is gone by the look at it.
    let destroys = FaultKind::before_request(|content| {
        let tagged: Vec<_> = content.tags(API).into_values().collect();
        let loose = content.manifests(API).map(|(digest, _)| digest).filter(|digest| !tagged.contains(digest));
        for digest in loose.cloned().collect::<Vec<_>>() {
            content.delete_manifest(API, &digest);
        }
    });
    walk.registry.inject(Fault::on("/manifests/sha256:", destroys));
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, done(&came)), (4, 0), "{}", came.text);
    assert!(came.text.contains("it was put back under every tag that it had"), "{}", came.text);
    assert!(came.text.contains("tagwarden registries forget main"), "{}", came.text);
    let removals = walk.registry.requests().into_iter().filter(|request| request.method == Method::DELETE);
    assert_eq!(removals.count(), 1);
    assert_eq!(walk.tags(), before);
    let told = refusals(&walk.plan().await);
    assert!(told.contains("removal-impossible"), "{told}");
}

/// A release that deletes manifests, or of which that is not known.
#[tokio::test]
async fn nothing_is_removed_where_manifests_may_not_stay() {
    for (release, phrase) in [("v2.1.1", "upgrade it"), ("", "write `can_untag = \"yes\"`")] {
        let walk = fixture(|options| ZotOptions { release: release.into(), ..options }, CANDIDATES_ONLY).await;
        put_candidates(&walk, 24);
        let plan = walk.plan().await;
        let told = refusals(&plan);
        assert!(told.contains("removal-impossible") && told.contains(phrase), "{told}");
        let came = walk.apply(&plan).await;
        assert_eq!((came.code, walk.tags().len()), (3, 24), "{}", came.text);
        assert!(walk.registry.requests().iter().all(|request| request.method != Method::DELETE));
    }
    let walk = fixture(|options| ZotOptions { release: String::new(), ..options }, CANDIDATES_ONLY).await;
    walk.settings("approved", "accept = [\"untagged-retention\"]\ncan_untag = \"yes\"", "");
    put_candidates(&walk, 24);
    // A person said that it can, and the first image shows that it cannot.
    let came = walk.apply(&walk.plan().await).await;
    assert_eq!((came.code, done(&came), walk.tags().len()), (4, 0, 24), "{}", came.text);
}

#[tokio::test]
async fn what_was_pulled_lately_stays_and_what_is_not_known_as_well() {
    let policies = "policies:\n  - name: used\n    select: { tags: [\"*\"] }\n    keep: [{ pulled_within: 30d }]\n    mode: enforce\n";
    let walk = fixture(|options| options, policies).await;
    let both = "accept = [\"untagged-retention\", \"pull-times\"]";
    walk.settings("approved", both, "");
    let (pulled, never, young) = (build("pulled", 90), build("never", 90), build("young", 90));
    put(&walk.registry, API, "pulled", &pulled, 90);
    put(&walk.registry, API, "never", &never, 90);
    put(&walk.registry, API, "young", &young, 3);
    walk.snapshot_tags();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v2/{API}/manifests/pulled", walk.registry.url());
    let pull = client.get(url).basic_auth(USER.0, Some(USER.1)).header("accept", image::media_type::OCI_MANIFEST);
    assert_eq!(pull.send().await.unwrap().status().as_u16(), 200);
    let removed = |plan: &PlanDocument| plan.removals.iter().map(|view| view.tag.clone()).collect::<Vec<_>>();
    assert_eq!(removed(&walk.plan().await), ["never"]);
    // A second plan finds the same: the first one has pulled nothing.
    assert_eq!(removed(&walk.plan().await), ["never"]);
    walk.settings("approved", "accept = [\"untagged-retention\"]", "");
    assert_eq!(removed(&walk.plan().await), Vec::<String>::new(), "nobody said that every pull is recorded");
}
