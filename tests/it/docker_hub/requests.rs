//! How many requests a plan makes, against the least that the API allows.

use jiff::SignedDuration;

use super::{API, fixture, image, request_counts};

const TAGS: usize = 10_000;
/// A hundred on a page at most.
const PAGES: usize = 100;
/// Tags that a policy expires.
const EXPIRED: usize = 40;

#[tokio::test]
async fn ten_thousand_tags_take_as_many_requests_as_they_have_pages() {
    let policies = format!(
        "policies:\n  - name: newest\n    select: {{ tags: [\"*\"] }}\n    keep: [{{ newest: {} }}]\n    mode: enforce\n",
        TAGS - EXPIRED
    );
    let walk = fixture(|options| options, &policies).await;
    walk.registry.content(|content| {
        for number in 0..TAGS {
            let tag = format!("build-{number:05}");
            content.put_image(API, Some(&tag), &image(&tag, 1));
            let then = content.now() - SignedDuration::from_mins(10 + i64::try_from(number).unwrap());
            assert!(content.date_tag(API, &tag, then, then));
        }
    });
    walk.snapshot_tags();
    let plan = walk.plan().await;
    assert_eq!((plan.removals.len(), plan.refusals.len()), (EXPIRED, 0), "{:?}", plan.refusals);
    let expected = [
        ("POST /v2/auth/token", 1),
        ("GET /v2/namespaces/contoso/repositories", 1),
        // What is immutable, and once more what the account may do where something would be removed.
        ("GET /v2/namespaces/contoso/repositories/api", 2),
        ("GET /v2/namespaces/contoso/repositories/api/tags", PAGES),
    ];
    assert_eq!(request_counts(&walk.registry), expected.map(|(path, count)| (path.to_owned(), count)).into());
}
