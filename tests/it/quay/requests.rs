//! How many requests a plan makes, against the least that the API allows.

use jiff::SignedDuration;

use super::{fixture, image, request_counts};

const TAGS: usize = 10_000;
/// The least for a list that nobody changes meanwhile would be 100.
const TAG_REQUESTS: usize = 114 + 1;
/// Tags that a policy expires.
const EXPIRED: usize = 40;

#[tokio::test]
async fn ten_thousand_tags_take_little_more_requests_than_they_have_pages() {
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
    let asked = request_counts(&walk.registry);
    let expected = [
        // The list of repositories, and the same to find one that tells the time machine of its namespace.
        ("GET /api/v1/repository", 2),
        // That, and the rights to remove.
        ("GET /api/v1/repository/shop/api", 2),
        ("GET /api/v1/organization/shop/autoprunepolicy/", 1),
        // A hundred on a page at most; pages overlap, and the first is read twice.
        ("GET /api/v1/repository/shop/api/tag/", TAG_REQUESTS),
        // What would be removed, which an undo needs anyway.
        ("GET /api/v1/repository/shop/api/manifest/", EXPIRED),
    ];
    assert_eq!(asked, expected.map(|(path, count)| (path.to_owned(), count)).into());

    walk.registry.clear_requests();
    walk.plan().await;
    let again = request_counts(&walk.registry);
    assert_eq!(again.get("GET /api/v1/repository/shop/api/manifest/"), None, "manifests are read once");
    assert_eq!(again.values().sum::<usize>(), TAG_REQUESTS + 2 + 2 + 1);
}
