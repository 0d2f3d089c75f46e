//! The requests of a plan, against the least that the API allows.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use tagwarden::demo::image::{Format, index};

use super::{fixture, image, noon, put, request_counts};

/// Most rows in an answer.
const PAGE: usize = 1000;
/// Tags that a policy expires.
const EXPIRED: usize = 40;

/// Plans so many times, with that many tags, images among which they are divided, and indexes.
async fn counts(plans: usize, (tags, packages, indexes): (usize, usize, usize), each: &[(&str, usize)]) {
    let policies = format!(
        "policies:\n  - name: builds\n    select: {{ tags: [\"build-*\"] }}\n    keep: [{{ newest: {} }}]\n    mode: enforce\n",
        (tags - EXPIRED) / packages
    );
    let walk = fixture(|options| options, "", &policies).await;
    for number in 0..tags {
        let (tag, repository) = (format!("build-{number:05}"), format!("acme/shop/app-{}", number % packages));
        let content = image(&tag, 1);
        let content = if number < indexes { index(Format::Oci, &[content]) } else { content };
        put(&walk.registry, &repository, &tag, &content, 1);
        let uploaded = noon() - SignedDuration::from_mins(10 + i64::try_from(number).unwrap());
        walk.registry.artifact_registry(|service| service.date_image(&repository, &content.digest, uploaded));
    }
    walk.snapshot_tags();
    for plan_number in 1..=plans {
        walk.registry.clear_requests();
        let plan = walk.plan().await;
        assert_eq!((plan.removals.len(), plan.refusals.len()), (EXPIRED, 0), "{:?}", plan.refusals);
        let expected: BTreeMap<String, usize> = each.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        assert_eq!(request_counts(&walk.registry), expected, "plan {plan_number}");
    }
}

/// Besides the images: the token, the repositories, the names of images, and the right to remove.
const REST: [(&str, usize); 4] =
    [("POST token", 1), ("GET repositories", 1), ("GET packages", 1), ("POST testIamPermissions", 1)];

#[tokio::test]
async fn ten_thousand_tags_take_as_many_requests_as_the_api_allows() {
    let expected: Vec<_> = REST.into_iter().chain([("GET dockerImages", 10_000 / PAGE)]).collect();
    counts(2, (10_000, 1, 0), &expected).await;
}

#[tokio::test]
async fn many_images_share_one_list_and_indexes_are_not_read() {
    // Each index has its image in the list, so the rows are 250 more.
    let expected: Vec<_> = REST.into_iter().chain([("GET dockerImages", 2250_usize.div_ceil(PAGE))]).collect();
    counts(1, (2000, 40, 250), &expected).await;
}
