//! The first removal of a registry: one tag and nothing else, until its manifest was seen to survive.

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind, TagDeletion};
use tagwarden::state::UntagExperience;

use super::*;

impl WorkflowFixture {
    /// The deletions that name a tag or manifest that could exist, in their order.
    pub(super) fn deletions_sent(&self) -> Vec<String> {
        let requests = self.registry.requests().into_iter();
        let deletions = requests.filter(|request| request.method == Method::DELETE);
        deletions.map(|request| request.path).filter(|path| !path.contains("tagwarden-probe")).collect()
    }

    pub(super) async fn experience(&self) -> Option<UntagExperience> {
        let app = self.open().await.unwrap();
        let known = app.store.untag_experience(&self.registry.url()).await.unwrap();
        app.close().await;
        known.map(|known| known.effect)
    }

    /// Repositories with two images that stay and `going` that go, each with `tags` tags.
    fn fill_with(&self, repositories: usize, going: usize, tags: usize) {
        for repository in 0..repositories {
            let name = format!("shop/part-{repository}");
            for number in 0..going + 2 {
                let old = i64::try_from(100 - number).unwrap();
                let image = image(&format!("{name}-{number}"), old);
                for tag in 0..tags {
                    self.registry.put_image(&name, &format!("candidate-{number}-{tag}"), &image);
                }
            }
        }
        self.snapshot_tags();
    }

    /// Leaves the release alone in `shop/api`: the rule that keeps releases matches something.
    fn only_the_release(&self) {
        self.registry.content(|content| content.delete_repository("shop/api"));
        self.put("shop/api", "release-1", &image("release-1", 50));
    }

    fn images(&self) -> usize {
        self.registry.content(|content| {
            let names: Vec<String> = content.repositories().map(str::to_owned).collect();
            names.iter().map(|name| content.manifests(name).count()).sum()
        })
    }
}

fn destroying(tag_deletion: TagDeletion) -> Options {
    Options { tag_deletion, ..Options::default() }
}

#[tokio::test]
async fn of_a_registry_that_destroys_one_image_of_one_repository_is_touched() {
    let walk = WorkflowFixture::with(destroying(TagDeletion::DeletesManifest), "concurrency = 8").await;
    walk.fill_with(20, 3, 1);
    walk.settings("enforce", "concurrency = 8", "");
    let (before, images) = (walk.tags(), walk.images());
    let came = walk.run().await;
    assert_eq!(came.code, 4, "{}", came.text);
    assert_eq!(walk.deletions_sent().len(), 1, "{:?}", walk.deletions_sent());
    assert_eq!((walk.tags(), walk.images()), (before, images), "it was put back");
    assert_eq!(walk.experience().await, Some(UntagExperience::ManifestDestroyed));
    walk.registry.clear_requests();
    let again = walk.run().await;
    assert_eq!((again.code, walk.deletions_sent().len()), (3, 0), "{}", again.text);
}

/// A registry where the manifest goes with its last tag is found out although the first image has two.
#[tokio::test]
async fn of_a_registry_that_destroys_with_the_last_tag_one_image_is_touched() {
    let walk = WorkflowFixture::with(destroying(TagDeletion::DeletesManifestWithLastTag), "").await;
    walk.only_the_release();
    walk.fill_with(4, 8, 2);
    walk.settings("enforce", "", "");
    let images = walk.images();
    let came = walk.run().await;
    assert_eq!(came.code, 4, "{}", came.text);
    assert!(came.text.contains("it was put back under every tag that it had"), "{}", came.text);
    assert_eq!(walk.deletions_sent().len(), 2, "{:?}", walk.deletions_sent());
    assert_eq!(walk.images(), images);
    assert_eq!(walk.experience().await, Some(UntagExperience::ManifestDestroyed));
}

/// An image that loses its only tag tells more than one that has two, wherever it stands.
#[tokio::test]
async fn the_first_is_the_one_that_tells_most() {
    let walk = WorkflowFixture::with(destroying(TagDeletion::DeletesManifestWithLastTag), "").await;
    walk.only_the_release();
    walk.fill_with(2, 4, 2);
    for number in 0..3 {
        walk.put("tools/cron", &format!("candidate-{number}"), &image(&format!("cron-{number}"), 90 - number));
    }
    walk.settings("enforce", "", "");
    let came = walk.run().await;
    assert_eq!(walk.deletions_sent().len(), 1, "{}", came.text);
    assert!(walk.deletions_sent()[0].contains("/tools/cron/"), "{:?}", walk.deletions_sent());
}

/// As long as no image lost its last tag nothing is known of that, and the first that does goes alone.
#[tokio::test]
async fn images_that_keep_a_tag_tell_nothing_of_those_that_do_not() {
    let walk = WorkflowFixture::with(destroying(TagDeletion::DeletesManifestWithLastTag), "").await;
    for tag in EXPIRED_TAGS {
        let digest = walk.digest("shop/api", tag);
        assert!(walk.registry.move_tag("shop/api", &format!("release-of-{tag}"), &digest));
    }
    walk.settings("enforce", "", "");
    walk.snapshot_tags();
    let images = walk.images();
    let came = walk.run().await;
    assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
    assert_eq!((walk.images(), walk.experience().await), (images, None));
    let add =
        |number: i64| walk.put("shop/api", &format!("candidate-{number}"), &image(&format!("n{number}"), 20 - number));
    for number in 7..=12 {
        add(number);
    }
    walk.registry.clear_requests();
    walk.snapshot_tags();
    let (tags, images) = (walk.tags(), walk.images());
    let app = walk.open().await.unwrap();
    let came = StepResult::from_result(app.run(&()).await);
    app.close().await;
    assert_eq!(came.code, 4, "{}", came.text);
    assert_eq!((walk.deletions_sent().len(), walk.images()), (1, images), "{}", came.text);
    assert_eq!(walk.tags(), tags);
}

#[tokio::test]
async fn what_was_seen_once_is_known_and_the_next_run_goes_straight_on() {
    let walk = WorkflowFixture::new().await;
    // There at the first look, or they would be as young as their first sight.
    walk.fill_with(3, 5, 1);
    walk.settings("enforce", "", "");
    let of_one = POLICIES.replacen("select: {", "select: { repositories: [shop/api],", 1);
    assert_ne!(of_one, POLICIES);
    walk.policies(&of_one);
    let came = walk.run().await;
    assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
    assert_eq!(walk.experience().await, Some(UntagExperience::ManifestSurvives));
    walk.policies(POLICIES);
    walk.registry.clear_requests();
    let app = walk.open().await.unwrap();
    let came = StepResult::from_result(app.run(&()).await);
    app.close().await;
    assert_eq!((came.code, walk.deletions_sent().len()), (0, 15), "{}", came.text);
    let requests = walk.registry.requests();
    let first = requests.iter().position(|request| request.method == Method::DELETE).unwrap();
    let looks = requests[first..].iter().filter(|request| request.path.contains("/manifests/sha256:"));
    assert_eq!(looks.count(), 0, "no manifest is looked for again");
}

/// A 404 that passes is no destroyed manifest.
#[tokio::test]
async fn a_manifest_that_is_not_found_for_a_moment_was_not_destroyed() {
    let walk = WorkflowFixture::new().await;
    walk.settings("enforce", "", "");
    let unknown = FaultKind::Status {
        status: 404,
        headers: Vec::new(),
        body: r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#.into(),
    };
    let digest = walk.digest("shop/api", "candidate-1");
    // Looked at by HEAD and then by GET.
    walk.plan().await;
    walk.registry.inject(Fault::on(&format!("manifests/{digest}"), unknown).times(2));
    let came = walk.run().await;
    assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
    assert_eq!(walk.experience().await, Some(UntagExperience::ManifestSurvives));
}

#[tokio::test]
async fn a_first_tag_that_is_refused_makes_place_for_one_of_another_repository() {
    let walk = WorkflowFixture::new().await;
    walk.fill_with(1, 3, 1);
    walk.settings("enforce", "", "");
    let denied = FaultKind::Status {
        status: 403,
        headers: Vec::new(),
        body: r#"{"errors":[{"code":"DENIED","message":"denied"}]}"#.into(),
    };
    walk.registry.inject(Fault::on("shop/api/manifests/candidate-1", denied).method(Method::DELETE));
    let came = walk.run().await;
    assert_eq!((came.code, came.labels()), (4, vec!["failed", "done", "done", "done"]), "{}", came.text);
    let sent = walk.deletions_sent();
    assert!(sent[0].contains("shop/api/manifests/candidate-1") && sent[1].contains("shop/part-0"), "{sent:?}");
    assert_eq!(sent.len(), 7, "{sent:?}");
}
