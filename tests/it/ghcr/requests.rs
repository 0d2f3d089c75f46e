//! The requests of a plan, against the least that the API allows.

use jiff::SignedDuration;

use super::{API, fixture, image, noon, request_counts};
use crate::workflow::WorkflowFixture;

/// A hundred versions in an answer at most.
const PAGE: usize = 100;

fn policies(kept: usize) -> String {
    format!(
        "policies:\n  - name: builds\n    select: {{ tags: [\"build-*\"] }}\n    keep: [{{ newest: {kept} }}]\n    mode: enforce\n"
    )
}

/// A package with so many versions of one tag each, and a policy that keeps so many of them.
async fn filled(tags: usize, kept: usize) -> WorkflowFixture {
    let walk = fixture(|options| options, "removal = \"manifest\"", &policies(kept)).await;
    for number in 0..tags {
        let tag = format!("build-{number:05}");
        let content = image(&tag, 1);
        walk.registry.content(|stored| stored.put_image(API, Some(&tag), &content));
        let pushed_at = noon() - SignedDuration::from_mins(10 + i64::try_from(number).unwrap());
        walk.registry.ghcr(|ghcr| ghcr.date_version(API, &content.digest, pushed_at, pushed_at));
    }
    walk.snapshot_tags();
    walk.registry.clear_requests();
    walk
}

#[tokio::test]
async fn ten_thousand_tags_take_as_many_requests_as_the_api_allows() {
    const TAGS: usize = 10_000;
    let walk = filled(TAGS, TAGS).await;
    assert_eq!(walk.plan().await.removals.len(), 0);
    // Beside the pages the owner, its packages, and a look at the list before and after.
    assert_eq!(request_counts(&walk.registry), (TAGS / PAGE + 4, 0), "nothing is read that nothing depends on");
}

#[tokio::test]
async fn what_may_list_a_deleted_image_is_read_once_ever() {
    const TAGS: usize = 1_000;
    const EXPIRED: usize = 40;
    let walk = filled(TAGS, TAGS - EXPIRED).await;
    let plan = walk.plan().await;
    assert_eq!((plan.removals.len(), plan.refusals.len()), (EXPIRED, 0), "{:?}", plan.refusals);
    // Nothing tells an index from an image but its bytes, and any of them may list what would be deleted.
    assert_eq!(request_counts(&walk.registry), (TAGS / PAGE + 4, TAGS));
    walk.registry.clear_requests();
    walk.plan().await;
    assert_eq!(request_counts(&walk.registry), (TAGS / PAGE + 4, 0), "the second plan reads no manifest again");
}
