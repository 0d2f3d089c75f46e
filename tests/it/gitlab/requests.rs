//! How many requests a plan makes, against the least that the API allows.

use jiff::SignedDuration;

use super::{API, fixture, image, request_counts};

const TAGS: usize = 10_000;
/// A thousand on a page at most.
const PAGES: usize = 10;
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
    let asked = request_counts(&walk.registry);
    let expected = [
        // How to sign in, and two tokens: to read, and one that tells the rights and what is protected.
        ("GET /v2/", 1),
        ("GET /jwt/auth", 2),
        ("GET /gitlab/v1/repositories/shop/backend/api/tags/list/", PAGES),
        // What would be removed, which an undo needs anyway.
        ("GET /v2/shop/backend/api/manifests/", EXPIRED),
    ];
    assert_eq!(asked, expected.map(|(path, count)| (path.to_owned(), count)).into());

    walk.registry.clear_requests();
    walk.plan().await;
    let again = request_counts(&walk.registry);
    assert_eq!(again.get("GET /v2/shop/backend/api/manifests/"), None, "manifests are read once");
    assert_eq!(again.values().sum::<usize>(), 1 + 2 + PAGES);
}
