//! The indexes of which a plan reads the bytes, as requests.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use tagwarden::demo::image::{self, Format, Image};

use crate::workflow::{WorkflowFixture, noon};

const NEWEST_TEN: &str = r#"policies:
  - name: builds
    select: { repositories: ["shop/multi"], tags: ["build-*"] }
    keep: [{ newest: 10 }]
"#;

/// An index of two platforms.
fn build(number: usize) -> Image {
    let platform = |name: &str| crate::workflow::image(&format!("{name}-{number}"), 90);
    image::index(Format::Oci, &[platform("amd64"), platform("arm64")])
}

/// Fifty indexes, the higher numbers younger.
async fn fifty_builds() -> WorkflowFixture {
    let walk = WorkflowFixture::azure(|options| options).await;
    walk.policies(NEWEST_TEN);
    walk.registry.content(|content| {
        for number in 0..50 {
            let tag = format!("build-{number:02}");
            content.put_image("shop/multi", Some(&tag), &build(number));
            let then = noon() - SignedDuration::from_hours(100 - i64::try_from(number).unwrap());
            assert!(content.date_tag("shop/multi", &tag, then, then));
        }
    });
    walk.snapshot_tags();
    walk
}

/// The paths of the repository that were asked for, by how they are called.
fn requests(walk: &WorkflowFixture, kind: &str) -> Vec<String> {
    let paths = walk.registry.requests().into_iter().map(|request| request.path);
    paths.filter(|path| path.contains("shop/multi") && path.contains(kind)).collect()
}

#[tokio::test]
async fn of_fifty_indexes_only_the_ten_that_stay_are_read() {
    let walk = fifty_builds().await;
    walk.registry.clear_requests();
    let plan = walk.plan().await;
    assert_eq!(plan.removals.len(), 40);
    let pulled: BTreeSet<String> = requests(&walk, "/manifests/").into_iter().collect();
    let kept = (40..50).map(|number| format!("/v2/shop/multi/manifests/{}", build(number).digest));
    assert_eq!(pulled, kept.collect());
    assert_eq!(requests(&walk, "/manifests/").len(), 10, "each once");
    let reads = plan.registries[0].indexes_read.unwrap();
    assert_eq!((reads.total, reads.kept), (10, 10));
    assert!(
        tagwarden::report::render(&plan, tagwarden::report::Format::Text).contains("10 for tags of images in them")
    );
    walk.registry.clear_requests();
    assert_eq!(walk.plan().await.removals.len(), 40);
    assert_eq!(requests(&walk, "/manifests/"), Vec::<String>::new(), "kept by their digests");
}

#[tokio::test]
async fn nothing_is_read_where_every_index_goes_or_stays() {
    let walk = fifty_builds().await;
    for policy in [NEWEST_TEN.replace("newest: 10", "newest: 50"), NEWEST_TEN.replace("[{ newest: 10 }]", "none")] {
        walk.policies(&policy);
        walk.registry.clear_requests();
        walk.plan().await;
        assert_eq!(requests(&walk, "/manifests/"), Vec::<String>::new(), "{policy}");
    }
}

#[tokio::test]
async fn an_index_that_cannot_be_read_keeps_its_repository() {
    let walk = fifty_builds().await;
    let path = format!("/v2/shop/multi/manifests/{}", build(45).digest);
    let fault = tagwarden::demo::registry::FaultKind::status(500);
    walk.registry.inject(tagwarden::demo::registry::Fault::on(&path, fault));
    assert_eq!(walk.plan().await.removals.len(), 0);
}

/// A type that the list does not tell is read where nothing else keeps the tag. An index is no chart, whatever is in it.
#[tokio::test]
async fn types_are_read_where_they_decide() {
    let walk = fifty_builds().await;
    let plan_by = async |types: &str, keep: &str| {
        let select = format!("{{ repositories: [\"shop/*\"], types: [{types}] }}");
        walk.policies(&format!("policies:\n  - {{ name: typed, select: {select}, keep: {keep} }}\n"));
        walk.registry.clear_requests();
        let plan = walk.plan().await;
        (plan.removals.len(), requests(&walk, "/manifests/").len(), plan.registries[0].indexes_read)
    };
    assert_eq!(plan_by("chart", "none").await, (0, 0, None));
    // The seven images of `shop/api` are listed as such.
    assert_eq!(plan_by("image", "none").await, (7, 0, None));
    let (removals, read, counts) = plan_by("index", "none").await;
    let counts = counts.unwrap();
    assert_eq!((removals, read, counts.total, counts.types), (50, 50, 50, 50));
    let (removals, read, _) = plan_by("index", "[{ newest: 10 }]").await;
    assert_eq!((removals, read), (40, 0), "kept by their digests");
}
