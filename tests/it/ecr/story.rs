//! Three hundred tags on Amazon ECR with everything that the field has met: plan, apply, restore. Nothing is lost, and every
//! refusal says why.

use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::{EcrKeys, Fault};
use tagwarden::report::{self, PlanDocument};

use super::{KEYS, fixture, image as build, put, refusal, throttling};
use crate::workflow::{StepResult, WorkflowFixture};

/// Builds in `shop/api`, each of which is a commit as well; the newest ten stay.
const BUILDS: usize = 90;
/// Builds without another tag.
const ALONE: usize = 30;
const MOVED: &str = "build-041";
const ARCHIVED: &str = "build-037";

const POLICIES: &str = "policies:\n  - name: builds\n    select: { tags: [\"build-*\"] }\n    keep: [{ newest: 10 }]\n    mode: enforce\n  \
                        - name: commits\n    select: { tags: [\"commit-*\", \"release-*\"] }\n    keep: all\n";

/// 180 tags on 90 images in `shop/api`, ten of which are indexes with a signature, 30 on images of their own, 10 releases,
/// 10 signatures and 70 tags in `shop/web` and the cache `quay/app`, where nothing may be removed: 300 in all.
fn fill(walk: &WorkflowFixture) {
    let registry = &walk.registry;
    for number in 0..BUILDS {
        let (tag, commit) = (format!("build-{number:03}"), format!("commit-{number:03}"));
        let days = 400 - i64::try_from(number).unwrap();
        let content = if number % 9 == 0 {
            let children = ["amd64", "arm64"].map(|platform| build(&format!("{tag} {platform}"), days));
            image::index(Format::Oci, &children)
        } else {
            build(&tag, days)
        };
        let digest = put(registry, "shop/api", &tag, &content, days);
        assert!(registry.move_tag("shop/api", &commit, &digest));
        if number % 9 == 0 {
            let signature = image::signature(&digest, "shop/api");
            put(registry, "shop/api", &image::companion_tag(&digest, ".sig"), &signature, days);
        }
    }
    for number in 0..ALONE {
        let tag = format!("build-alone-{number:02}");
        put(registry, "shop/api", &tag, &build(&tag, 500), 500);
    }
    for number in 0..10 {
        let tag = format!("release-{number}");
        put(registry, "shop/api", &tag, &build(&tag, 300), 300);
    }
    for (repository, count) in [("shop/web", 20), ("quay/app", 15)] {
        for number in 0..count {
            let tag = format!("build-{number:03}");
            let image = build(&format!("{repository} {tag}"), 200);
            let digest = put(registry, repository, &tag, &image, 200 - i64::from(number));
            assert!(registry.move_tag(repository, &format!("commit-{number:03}"), &digest));
        }
    }
    let archived = registry.tags("shop/api")[ARCHIVED].clone();
    registry.ecr(|ecr| ecr.archive("shop/api", &archived));
    assert_eq!(walk.tags().len(), 300);
    walk.snapshot_tags();
}

fn reasons(plan: &PlanDocument, tag: &str) -> String {
    let kept = plan.kept.iter().find(|view| view.repository == "shop/api" && view.tag == tag);
    let kept = kept.unwrap_or_else(|| panic!("{tag} is not kept"));
    kept.reasons.iter().map(report::ReasonView::sentence).collect::<Vec<_>>().join("; ")
}

fn done(came: &StepResult) -> usize {
    came.tags.values().filter(|label| *label == "done").count()
}

#[tokio::test]
async fn three_hundred_tags_are_planned_removed_and_put_back() {
    let walk = fixture(
        |mut options| {
            options.keys = vec![EcrKeys::new(KEYS.0, KEYS.1)];
            options.caches.insert("quay".to_owned(), "quay.io".to_owned());
            options.denied.push(("BatchDeleteImage".to_owned(), "shop/web".to_owned()));
            options.immutable.insert("shop/api".to_owned());
            options
        },
        "",
        POLICIES,
    )
    .await;
    fill(&walk);
    let plan = walk.plan().await;
    let planned = plan.removals.iter().filter(|view| view.repository == "shop/api").count();
    // Of the 120 builds the newest ten stay, the archived one, and those without another tag.
    assert_eq!(planned, BUILDS - 10 - 1, "immutable tags can be removed");
    assert_eq!(plan.refusals.len(), 0, "{:?}", plan.refusals);
    assert!(reasons(&plan, "build-alone-07").contains("the registry would delete it then"));
    assert!(reasons(&plan, ARCHIVED).contains("lock"), "{}", reasons(&plan, ARCHIVED));
    let signature =
        plan.kept.iter().find(|view| view.tag.rsplit_once('.').is_some_and(|(_, end)| end == "sig")).unwrap();
    assert_eq!(signature.verdict, "protected");

    // Between plan and apply a tag moves (its repository becomes immutable later); then the registry is busy, and the keys
    // are refused once.
    let elsewhere = walk.digest("shop/api", "release-1");
    assert!(walk.registry.move_tag("shop/api", MOVED, &elsewhere));
    walk.snapshot_tags();
    let before = walk.tags();
    walk.registry.inject(Fault::on("/DescribeImages", throttling()).after(20).times(25));
    walk.registry.inject(Fault::on("/BatchDeleteImage", throttling()).after(10).times(20));
    let expired = refusal("ExpiredTokenException", "The security token included in the request is expired");
    walk.registry.inject(Fault::on("/BatchDeleteImage", expired).after(50));
    let came = walk.apply(&plan).await;
    assert_ne!(came.code, 0, "{}", came.text);
    assert_eq!(came.tags["shop/api:build-041"], "moved", "{}", came.text);
    assert!(came.text.contains("pull-through cache of quay.io"), "{}", came.text);
    assert!(came.text.contains("ExpiredTokenException"), "{}", came.text);
    let (first_run, first) = (came.run_id(), done(&came));
    assert!((10..60).contains(&first), "{first}: {}", came.text);

    // With keys that are accepted again the rest follows.
    walk.registry.clear_faults();
    let rest = walk.plan().await;
    let came = walk.apply_text(&report::render(&rest, report::Format::Json)).await;
    let (second_run, second) = (came.run_id(), done(&came));
    // The tag that moved is the newest now, so another one went in its place.
    assert!(walk.registry.tags("shop/api").contains_key(MOVED));
    assert_eq!(first + second, planned, "{}", came.text);
    assert!(came.text.contains("`ecr:BatchDeleteImage`"), "{}", came.text);
    for (repository, tag) in before.keys().filter(|(_, tag)| tag.starts_with("commit-") || tag.starts_with("release-"))
    {
        let digest = walk.registry.tags(repository)[tag].clone();
        assert!(walk.registry.manifest(repository, &digest).is_some(), "{repository}:{tag} has its image");
    }

    // Tags come back also where they are immutable: nothing is overwritten.
    for run in [&second_run, &first_run] {
        let restored = walk.restore(run).await.unwrap();
        assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    }
    assert_eq!(walk.tags(), before, "every tag is back at its digest");
}
