//! How many requests a plan makes, against the least that the API allows.

use jiff::SignedDuration;

use super::{API, fixture, image, request_counts};

const TAGS: usize = 10_000;
/// Tags that a policy expires.
const EXPIRED: usize = 40;

#[tokio::test]
async fn ten_thousand_tags_take_two_pages_of_the_search_and_ten_of_tags() {
    let policies = format!(
        "policies:\n  - name: newest\n    select: {{ tags: [\"*\"] }}\n    keep: [{{ newest: {} }}]\n    mode: enforce\n",
        TAGS - EXPIRED
    );
    let walk = fixture(|options| options, &policies).await;
    walk.registry.content(|content| {
        let now = content.now();
        for number in (0..TAGS).rev() {
            content.set_now(now - SignedDuration::from_mins(10 + i64::try_from(number).unwrap()));
            let tag = format!("build-{number:05}");
            content.put_image(API, Some(&tag), &image(&tag, 1));
        }
    });
    walk.snapshot_tags();
    let plan = walk.plan().await;
    assert_eq!((plan.removals.len(), plan.refusals.len()), (EXPIRED, 0), "{:?}", plan.refusals);
    let asked = request_counts(&walk.registry);
    let expected = [
        // How to sign in, the extensions with the release, and the names of the repositories.
        ("GET /v2/", 1),
        ("GET /v2/_oci/ext/discover", 1),
        ("GET /v2/_catalog", 1),
        // Five thousand on a page, and one more request where the last page is full.
        ("GET /v2/_zot/ext/search", 2 + 1 + 1),
        // A thousand names on a page, and one more request for the same reason.
        ("GET /v2/shop/api/tags/list", 10 + 1),
    ];
    assert_eq!(asked, expected.map(|(path, count)| (path.to_owned(), count)).into());
}
