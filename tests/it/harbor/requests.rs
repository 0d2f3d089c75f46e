//! The requests of a plan, against the least that the API allows.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::{fixture, image, request_counts};

const TAGS: usize = 10_000;
/// A hundred in an answer at most.
const LEAST: usize = TAGS / 100;
/// Tags that a policy expires.
const EXPIRED: usize = 40;

#[tokio::test]
async fn ten_thousand_tags_take_as_many_requests_as_the_api_allows() {
    let policies = format!(
        "policies:\n  - name: newest\n    select: {{ tags: [\"*\"] }}\n    keep: [{{ newest: {} }}]\n    mode: enforce\n",
        TAGS - EXPIRED
    );
    let walk = fixture(|options| options, &policies).await;
    walk.registry.content(|content| {
        for number in 0..TAGS {
            let tag = format!("build-{number:05}");
            content.put_image("shop/api", Some(&tag), &image(&tag, 1));
            let then = content.now() - SignedDuration::from_mins(10 + i64::try_from(number).unwrap());
            assert!(content.date_tag("shop/api", &tag, then, then));
        }
    });
    walk.snapshot_tags();
    let plan = walk.plan().await;
    assert_eq!((plan.removals.len(), plan.refusals.len()), (EXPIRED, 0), "{:?}", plan.refusals);
    let expected: BTreeMap<String, usize> = [
        ("GET /api/v2.0/repositories", 1),
        ("GET /api/v2.0/projects/shop/repositories/api/artifacts", LEAST),
        // What deletes untagged artifacts, and what is stored.
        ("GET /api/v2.0/system/gc/schedule", 1),
        ("GET /api/v2.0/quotas", 1),
        // The projects: their retention, and once more with what may be removed there.
        ("GET /api/v2.0/projects", 2),
        // That the account is known, and what it may do in the project.
        ("GET /api/v2.0/users/current/permissions", 2),
        ("GET /api/v2.0/systeminfo", 1),
    ]
    .map(|(path, count)| (path.to_owned(), count))
    .into();
    assert_eq!(request_counts(&walk.registry), expected, "nothing is pulled");
    walk.registry.clear_requests();
    walk.plan().await;
    assert_eq!(request_counts(&walk.registry), expected, "the second plan is like the first");
}
