//! How many requests a plan makes, against the least that the API allows.

use std::collections::BTreeMap;

use http::Method;
use jiff::SignedDuration;
use tagwarden::demo::registry::{Fault, FaultKind};

use super::{API, fixture, image, request_counts};
use crate::workflow::WorkflowFixture;

const TAGS: usize = 10_000;
/// A hundred on a page at most.
const PAGES: usize = 100;
/// Tags that a policy expires.
const EXPIRED: usize = 40;

/// Ten thousand tags, so many of which a policy expires.
async fn filled(expired: usize) -> WorkflowFixture {
    let policies = format!(
        "policies:\n  - name: newest\n    select: {{ tags: [\"*\"] }}\n    keep: [{{ newest: {} }}]\n    mode: enforce\n",
        TAGS - expired
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
    walk
}

#[tokio::test]
async fn ten_thousand_tags_take_as_many_requests_as_they_have_pages() {
    let walk = filled(EXPIRED).await;
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

/// Each of a hundred removals is carried out and then reported as a failure, so the absence of its tag has to be proved.
#[tokio::test]
async fn the_absence_of_a_tag_takes_two_requests_in_a_repository_of_any_size() {
    let removals = 100;
    let walk = filled(removals).await;
    let plan = walk.plan().await;
    walk.registry.inject(Fault::on("/v2/repositories/", FaultKind::HandledButStatus(504)).method(Method::DELETE));
    let before = request_counts(&walk.registry);
    let came = walk.apply(&plan).await;
    let done = came.tags.values().filter(|label| *label == "done").count();
    assert_eq!((came.code, done), (0, removals), "{}", came.text);
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    for (path, count) in request_counts(&walk.registry) {
        let kind = path.replace(|letter: char| letter.is_ascii_digit(), "");
        *asked.entry(kind).or_default() += count - before.get(&path).unwrap_or(&0);
    }
    let tags = "/v/namespaces/contoso/repositories/api/tags";
    // The list once to decide again, and its first row with each proof.
    assert_eq!(asked[&format!("GET {tags}")], PAGES + removals, "{asked:#?}");
    assert_eq!(asked[&format!("GET {tags}/build-")], removals, "{asked:#?}");
    assert_eq!(asked["DELETE /v/repositories/contoso/api/tags/build-/"], removals, "{asked:#?}");
}
