//! Selectors by annotations and labels, which stand in what registries store and not in their lists.

use serde_json::{Value, json};
use tagwarden::demo::image::{AMD64, ARM64, Platform, index};
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::report::ReasonView;

use super::*;

/// An image of a team, which its annotation or its label names.
fn of_team(name: &str, annotation: Option<&str>, label: Option<&str>, platform: Platform) -> Image {
    let texts = |value: Option<&str>| value.map(|value| ("team".to_owned(), value.to_owned())).into_iter().collect();
    let created = noon() - (90 * 24).hours();
    let spec = ImageSpec::new(created, &[Blob::layer("base", 4000), Blob::layer(name, 300)]);
    ImageSpec { annotations: texts(annotation), labels: texts(label), platform, ..spec }.build()
}

fn annotated(name: &str, team: &str) -> Image {
    of_team(name, Some(team), None, AMD64)
}

/// An index of an image for each of two platforms.
fn platforms(build: impl Fn(Platform) -> Image) -> Image {
    index(tagwarden::demo::image::Format::Oci, &[build(AMD64), build(ARM64)])
}

/// The same index with annotations of its own.
fn annotate_index(image: &Image, team: &str) -> Image {
    let mut manifest: Value = serde_json::from_slice(&image.bytes).unwrap();
    manifest["annotations"] = json!({ "team": team });
    let bytes = manifest.to_string();
    let mut annotated = image.clone();
    (annotated.digest, annotated.bytes) = (Digest::of(bytes.as_bytes()), bytes.into());
    annotated
}

/// Puts images into a repository of an Azure registry, the last the youngest.
fn put_dated(walk: &WorkflowFixture, repository: &str, images: &[(&str, Image)]) {
    walk.registry.content(|content| {
        for (days, (tag, image)) in (0..).zip(images) {
            content.put_image(repository, Some(tag), image);
            let then = noon() - (24 * (90 - days)).hours();
            content.date_tag(repository, tag, then, then);
        }
    });
    walk.snapshot_tags();
}

fn team_policy(select: &str, keep: &str) -> String {
    format!(
        "policies:\n  - name: team\n    select: {{ repositories: [\"shop/*\"], {select} }}\n    keep: {keep}\n    mode: enforce\n"
    )
}

fn removed(plan: &PlanDocument) -> Vec<String> {
    plan.removals.iter().map(|removal| removal.tag.clone()).collect()
}

/// The tags that stay because a fact is unknown, each with the fact.
fn unknown(plan: &PlanDocument) -> Vec<String> {
    let fact = |reason: &ReasonView| match reason {
        ReasonView::SelectionUnknown { fact, .. } => Some(fact.clone()),
        _ => None,
    };
    let kept = plan.kept.iter().filter_map(|kept| Some((kept.reasons.iter().find_map(fact)?, kept.tag.clone())));
    kept.map(|(fact, tag)| format!("{tag} {fact}")).collect()
}

/// The requests for content of a repository.
fn content_requests(walk: &WorkflowFixture, repository: &str, kind: &str) -> usize {
    let paths = walk.registry.requests().into_iter().map(|request| request.path);
    paths.filter(|path| path.starts_with(&format!("/v2/{repository}/{kind}/"))).count()
}

/// Seven images in Azure: five of the team, one of another, one of none. Those of `shop/api` have no annotations.
async fn seven_in_azure() -> WorkflowFixture {
    let walk = WorkflowFixture::azure(|options| options).await;
    let images = [
        ("a", annotated("a", "checkout")),
        ("b", annotated("b", "checkout")),
        ("c", annotated("c", "checkout")),
        ("other", annotated("other", "cart")),
        ("none", of_team("none", None, None, AMD64)),
        ("release-1", annotated("release-1", "checkout")),
        ("release-2", annotated("release-2", "checkout")),
    ];
    put_dated(&walk, "shop/team", &images);
    walk
}

#[tokio::test]
async fn annotations_are_read_once_where_a_policy_asks_for_them() {
    let walk = seven_in_azure().await;
    walk.policies(&team_policy("annotations: { team: checkout }", "none").replace("shop/*", "shop/team"));
    walk.registry.clear_requests();
    let plan = walk.plan().await;
    assert_eq!(removed(&plan), ["a", "b", "c", "release-1", "release-2"]);
    assert_eq!(unknown(&plan), Vec::<String>::new());
    assert_eq!(content_requests(&walk, "shop/team", "manifests"), 7, "each once");
    assert_eq!(content_requests(&walk, "shop/team", "blobs"), 0);
    assert_eq!(content_requests(&walk, "shop/api", "manifests"), 0, "no policy asks there");
    let reads = plan.registries[0].indexes_read.unwrap();
    assert_eq!((reads.total, reads.annotations), (7, 7));
    assert!(report::render(&plan, Format::Text).contains("7 for their annotations"));
    walk.registry.clear_requests();
    assert_eq!(walk.plan().await.fingerprint, plan.fingerprint);
    assert_eq!(content_requests(&walk, "shop/team", "manifests"), 0, "kept by their digests");

    let applied = walk.apply(&plan).await;
    assert_eq!(applied.code, 0, "{}", applied.text);
    assert_eq!(walk.registry.tags("shop/team").keys().collect::<Vec<_>>(), ["none", "other"]);
    assert_eq!(walk.registry.tags("shop/api").len(), 7);
}

#[tokio::test]
async fn images_that_something_else_keeps_are_read_only_for_their_places() {
    let walk = seven_in_azure().await;
    let releases = "  - { name: releases, select: { tags: [\"release-*\"] }, keep: all }\n";
    let plan_by = async |keep: &str| {
        let policy = team_policy("annotations: { team: checkout }", keep).replace("shop/*", "shop/team");
        walk.policies(&format!("{policy}{releases}"));
        walk.registry.clear_requests();
        let plan = walk.plan().await;
        (removed(&plan), content_requests(&walk, "shop/team", "manifests"), unknown(&plan).len())
    };
    assert_eq!(plan_by("none").await, (vec!["a".into(), "b".into(), "c".into()], 5, 2));
    // The two releases are the newest of the team, so they have to be known to take their places.
    assert_eq!(plan_by("[{ newest: 2 }]").await, (vec!["a".into(), "b".into(), "c".into()], 2, 0));
    assert_eq!(plan_by("[{ newest: 3 }]").await, (vec!["a".into(), "b".into()], 0, 0));
}

#[tokio::test]
async fn an_index_speaks_for_itself_or_its_images_agree() {
    let walk = WorkflowFixture::azure(|options| options).await;
    let agree = |name: &'static str| platforms(|platform| of_team(name, Some("checkout"), None, platform));
    let differ = platforms(|platform| {
        let team = if platform == AMD64 { "checkout" } else { "cart" };
        of_team("differ", Some(team), None, platform)
    });
    let only_one = platforms(|platform| {
        let team = (platform == AMD64).then_some("checkout");
        of_team("only-one", team, None, platform)
    });
    let nested = index(tagwarden::demo::image::Format::Oci, &[agree("nested")]);
    let images = [
        ("agree", agree("agree")),
        ("annotated", annotate_index(&agree("annotated"), "cart")),
        ("annotated-too", annotate_index(&differ, "checkout")),
        ("differ", differ),
        ("nested", nested),
        ("none", platforms(|platform| of_team("none", None, None, platform))),
        ("only-one", only_one),
    ];
    put_dated(&walk, "shop/multi", &images);
    walk.policies(&team_policy("annotations: { team: checkout }", "none"));
    let plan = walk.plan().await;
    assert_eq!(removed(&plan), ["agree", "annotated-too", "nested"]);
    assert_eq!(unknown(&plan), ["differ annotation", "only-one annotation"]);
}

#[tokio::test]
async fn labels_are_read_from_configurations_of_every_platform() {
    let walk = WorkflowFixture::azure(|options| options).await;
    let label = |team: &'static str| move |platform: Platform| of_team(team, Some("cart"), Some(team), platform);
    let differ = |platform: Platform| {
        let team = if platform == AMD64 { "checkout" } else { "cart" };
        of_team("differ", None, Some(team), platform)
    };
    let chart = tagwarden::demo::image::helm_chart("shop", "1.0.0", noon() - 24.hours(), Blob::layer("chart", 100));
    let images = [
        ("agree", platforms(label("checkout"))),
        ("chart", chart),
        ("differ", platforms(differ)),
        ("image", of_team("image", None, Some("checkout"), AMD64)),
        ("none", of_team("none", Some("checkout"), None, AMD64)),
        ("other", of_team("other", None, Some("cart"), AMD64)),
    ];
    put_dated(&walk, "shop/labels", &images);
    walk.policies(&team_policy("labels: { team: checkout }", "none").replace("shop/*", "shop/labels"));
    walk.registry.clear_requests();
    let plan = walk.plan().await;
    assert_eq!(removed(&plan), ["agree", "image"]);
    assert_eq!(unknown(&plan), ["differ label"]);
    // Six tags, and two images in each index; a configuration for each image, and none for the chart.
    assert_eq!(content_requests(&walk, "shop/labels", "manifests"), 6 + 4);
    assert_eq!(content_requests(&walk, "shop/labels", "blobs"), 3 + 4);
    assert_eq!(plan.registries[0].indexes_read.unwrap().labels, 6);
    walk.registry.clear_requests();
    assert_eq!(removed(&walk.plan().await), ["agree", "image"]);
    assert_eq!(
        content_requests(&walk, "shop/labels", "manifests") + content_requests(&walk, "shop/labels", "blobs"),
        0
    );
}

/// What cannot be read stays, and after some failures nobody asks on.
#[tokio::test]
async fn images_that_cannot_be_read_stay() {
    let walk = seven_in_azure().await;
    walk.policies(&team_policy("annotations: { team: checkout }", "none").replace("shop/*", "shop/team"));
    let path = format!("/v2/shop/team/manifests/{}", annotated("b", "checkout").digest);
    walk.registry.inject(Fault::on(&path, FaultKind::status(500)));
    let plan = walk.plan().await;
    assert_eq!(removed(&plan), ["a", "c", "release-1", "release-2"]);
    assert_eq!(unknown(&plan), ["b annotation"]);
    let done = walk.try_plan().await.unwrap();
    assert_eq!(done.outcome.exit_code(), 5, "evidence is missing");

    let walk = seven_in_azure().await;
    walk.policies(&team_policy("annotations: { team: checkout }", "none").replace("shop/*", "shop/team"));
    walk.registry.inject(Fault::on("/v2/shop/team/manifests/", FaultKind::status(500)));
    let plan = walk.plan().await;
    assert_eq!(removed(&plan), Vec::<String>::new());
    assert_eq!(unknown(&plan).len(), 7);
    assert_eq!(plan.registries[0].gaps.len(), 5, "{:?}", plan.registries[0].gaps);
}

/// A plain registry is read whole, so annotations need no further request, and labels one for each configuration.
#[tokio::test]
async fn plain_registries_tell_annotations_without_a_request() {
    let walk = WorkflowFixture::new().await;
    for (tag, annotation, label) in [("a", "checkout", "x"), ("b", "cart", "x"), ("c", "checkout", "y")] {
        walk.put("shop/team", tag, &of_team(tag, Some(annotation), Some(label), AMD64));
    }
    walk.policies(&team_policy("tags: [\"?\"]", "all"));
    walk.plan().await;
    walk.policies(&team_policy("annotations: { team: checkout }", "none").replace("shop/*", "shop/team"));
    walk.registry.clear_requests();
    assert_eq!(removed(&walk.plan().await), ["a", "c"]);
    let by_digest = |path: &String| path.contains("/manifests/sha256:") || path.contains("/blobs/");
    let asked = || walk.registry.requests().into_iter().map(|one| one.path).filter(by_digest).count();
    assert_eq!(asked(), 0);
    walk.policies(&team_policy("labels: { team: x }", "none").replace("shop/*", "shop/team"));
    assert_eq!(removed(&walk.plan().await), ["a", "b"]);
    assert_eq!(asked(), 3);
    let both = "annotations: { team: checkout }, labels: { team: x }";
    walk.policies(&team_policy(both, "none").replace("shop/*", "shop/team"));
    assert_eq!(removed(&walk.plan().await), ["a"]);
    assert_eq!(asked(), 3);
}

/// A comparison reads what either side asks for, and the settings of neither have to.
#[tokio::test]
async fn comparisons_read_what_old_and_new_policies_ask_for() {
    let walk = seven_in_azure().await;
    let parse = |select: &str| {
        let text = team_policy(select, "none").replace("shop/*", "shop/team");
        tagwarden::policy::parse("team.yaml", &text).unwrap()
    };
    let (old, new) = (parse("annotations: { team: checkout }"), parse("annotations: { team: cart }"));
    let app = walk.open().await.unwrap();
    let facts = app.read_decision_input(None, &[&old, &new], &()).await.unwrap();
    app.close().await;
    let again = workflow::DecisionInput::from_json(&facts.to_json().unwrap()).unwrap();
    for facts in [facts, again] {
        let view = facts.diff(old.clone(), new.clone(), None);
        let tags = |found: &[report::TagDiff]| found.iter().map(|one| one.tag.clone()).collect::<Vec<_>>();
        assert_eq!(tags(&view.newly_expired), ["other"]);
        assert_eq!(tags(&view.no_longer_expired), ["a", "b", "c", "release-1", "release-2"]);
    }
}
