//! Three hundred tags on GitHub with everything that the field has met: plan, apply, restore. Nothing is lost, and every
//! refusal says why.

use tagwarden::demo::image::{self, Format};
use tagwarden::demo::registry::Fault;
use tagwarden::report::{self, PlanDocument};

use super::{API, TOKEN, fixture, image as build, put, refusal, secondary_limit};
use crate::workflow::{StepResult, WorkflowFixture};

const WEB: &str = "contoso/shop/web";
const CLOSED: &str = "contoso/closed";
/// Builds in `contoso/api`, each of which has a commit's tag as well; the newest ten stay.
const BUILDS: usize = 70;
const MOVED: &str = "build-041";
const POPULAR: &str = "build-037";

const POLICIES: &str = "policies:\n  - name: builds\n    select: { tags: [\"build-*\", \"commit-*\"] }\n    keep: [{ newest: 10 }]\n    mode: enforce\n  \
                        - name: releases\n    select: { tags: [\"release-*\"] }\n    keep: all\n";

/// 140 tags on 70 images in `contoso/api`, every ninth an index with a signature, 60 builds that a release shares, 60 releases,
/// 8 signatures and 32 tags in two further packages: 300 in all.
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
        let digest = put(registry, API, &tag, &content, days);
        assert!(registry.move_tag(API, &commit, &digest));
        if number % 9 == 0 {
            let signature = image::signature(&digest, API);
            put(registry, API, &image::companion_tag(&digest, ".sig"), &signature, days);
        }
    }
    for number in 0..60 {
        let tag = format!("release-{number:02}");
        let digest = put(registry, API, &tag, &build(&tag, 450), 450);
        assert!(registry.move_tag(API, &format!("build-of-release-{number:02}"), &digest));
    }
    for (repository, count) in [(WEB, 20), (CLOSED, 12)] {
        for number in 0..count {
            let tag = format!("build-{number:03}");
            put(registry, repository, &tag, &build(&format!("{repository} {tag}"), 200), 200 - number);
        }
    }
    let popular = registry.tags(API)[POPULAR].clone();
    registry.ghcr(|ghcr| {
        ghcr.options.public.insert(API.to_owned());
        ghcr.options.downloads.insert((API.to_owned(), popular), 80_000);
    });
    assert_eq!(walk.tags().len(), 300);
    walk.snapshot_tags();
}

fn planned(plan: &PlanDocument, repository: &str) -> usize {
    plan.removals.iter().filter(|view| view.repository == repository).count()
}

fn labelled(came: &StepResult, label: &str) -> usize {
    came.tags.values().filter(|own| *own == label).count()
}

#[tokio::test]
async fn three_hundred_tags_are_planned_deleted_and_restored() {
    let walk = fixture(
        |mut options| {
            options.not_administered.insert(CLOSED.to_owned());
            options
        },
        "removal = \"manifest\"",
        POLICIES,
    )
    .await;
    fill(&walk);
    let plan = walk.plan().await;
    assert_eq!(plan.refusals.len(), 0, "{:?}", plan.refusals);
    // Of the builds the newest ten images stay; the signatures of seven indexes go with these.
    let signatures =
        plan.removals.iter().filter(|view| view.tag.rsplit_once('.').is_some_and(|(_, end)| end == "sig")).count();
    assert_eq!((planned(&plan, API), signatures), (2 * (BUILDS - 10) + 7, 7));
    assert_eq!((planned(&plan, WEB), planned(&plan, CLOSED)), (10, 2));
    let shared = plan.kept.iter().find(|view| view.tag == "build-of-release-07").unwrap();
    let reasons: Vec<String> = shared.reasons.iter().map(report::ReasonView::sentence).collect();
    assert_ne!(shared.verdict, "expired", "its release stays: {reasons:?}");

    // Between plan and apply a tag moves; then GitHub is busy, and the token is refused for a while.
    let elsewhere = walk.digest(API, "release-01");
    assert!(walk.registry.move_tag(API, MOVED, &elsewhere));
    walk.snapshot_tags();
    let before = walk.tags();
    walk.registry.inject(Fault::on("/versions", secondary_limit()).after(30).times(40));
    let reset = [("x-ratelimit-remaining", "0"), ("retry-after", "0")];
    walk.registry.inject(Fault::on("/versions/", refusal(429, "API rate limit exceeded", &reset)).after(60).times(10));
    walk.registry.inject(
        Fault::on("/v2/", tagwarden::demo::registry::FaultKind::TooManyRequests { retry_after: Some(0) })
            .after(40)
            .times(20),
    );
    walk.registry.inject(Fault::on("/versions/", refusal(401, "Bad credentials", &[])).after(90));
    walk.registry.expire_tokens();
    let came = walk.apply(&plan).await;
    assert_ne!(came.code, 0, "{}", came.text);
    assert!(came.text.contains("Bad credentials"), "{}", came.text);
    assert_eq!(came.tags["contoso/closed:build-000"], "failed", "{}", came.text);
    assert!(came.text.contains("`delete:packages`, and its user the role Admin"), "{}", came.text);
    let (first_run, first) = (came.run_id(), labelled(&came, "done"));
    assert!((10..120).contains(&first), "{first}: {}", came.text);

    // With a token that is accepted again the rest follows.
    walk.registry.clear_faults();
    let later = walk.plan().await;
    let came = walk.apply_text(&report::render(&later, report::Format::Json)).await;
    let (second_run, second) = (came.run_id(), labelled(&came, "done"));
    assert!(second > 0, "{}", came.text);
    for tag in [POPULAR, "commit-037"] {
        assert_eq!(came.tags[&format!("{API}:{tag}")], "locked", "{}", came.text);
    }
    assert!(came.text.contains("over 5,000 times"), "{}", came.text);
    assert!(walk.registry.tags(API).contains_key(MOVED), "it names the image of a release now");
    assert_eq!(before.len() - walk.tags().len(), first + second, "{}", came.text);
    // Everything that stays is whole: no index has lost an image.
    for (repository, tag) in walk.tags().into_keys() {
        let digest = walk.registry.tags(&repository)[&tag].clone();
        let found = walk.registry.content(|content| {
            let manifest = content.manifest(&repository, &digest).cloned();
            manifest.map(|manifest| {
                manifest.children.iter().all(|child| content.manifest(&repository, &child.digest).is_some())
            })
        });
        assert_eq!(found, Some(true), "{repository}:{tag}");
    }

    for run in [&second_run, &first_run] {
        let restored = walk.restore(run).await.unwrap();
        assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    }
    assert_eq!(walk.tags(), before, "every tag is back at its digest");
    let known =
        walk.registry.requests().iter().all(|request| request.authorization_present || !request.path.contains("/api/"));
    assert!(known && !TOKEN.is_empty());
}
