//! The requests of a plan, against the least that the API allows.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use tagwarden::demo::image::{Format, index};

use super::{fixture, image, noon, put, request_counts};

const TAGS: usize = 10_000;
/// A thousand in an answer at most.
const LEAST: usize = TAGS / 1000;
/// Tags that a policy expires.
const EXPIRED: usize = 40;

fn policies() -> String {
    format!(
        "policies:\n  - name: builds\n    select: {{ tags: [\"build-*\"] }}\n    keep: [{{ newest: {} }}]\n    mode: enforce\n",
        TAGS - 2 * EXPIRED
    )
}

async fn counts(lines: &str, indexes: usize, expected: &[(&str, usize)]) {
    let walk = fixture(|options| options, lines, &policies()).await;
    for number in 0..TAGS - EXPIRED {
        let tag = format!("build-{number:05}");
        let content = image(&tag, 1);
        let content = if number < indexes { index(Format::Oci, &[content]) } else { content };
        put(&walk.registry, "shop/api", &tag, &content, 1);
        let pushed_at = noon() - SignedDuration::from_mins(10 + i64::try_from(number).unwrap());
        walk.registry.ecr(|ecr| ecr.date_image("shop/api", &content.digest, pushed_at));
        // The oldest images have another tag, which stays.
        if number >= TAGS - 2 * EXPIRED {
            assert!(walk.registry.move_tag("shop/api", &format!("release-{number:05}"), &content.digest));
        }
    }
    walk.snapshot_tags();
    let plan = walk.plan().await;
    assert_eq!((plan.removals.len(), plan.refusals.len()), (EXPIRED, 0), "{:?}", plan.refusals);
    let expected: BTreeMap<String, usize> = expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    assert_eq!(request_counts(&walk.registry), expected);
    walk.registry.clear_requests();
    walk.plan().await;
    let second: BTreeMap<String, usize> = expected.into_iter().filter(|(name, _)| name != "BatchGetImage").collect();
    assert_eq!(request_counts(&walk.registry), second, "the second plan reads no manifest again");
}

#[tokio::test]
async fn ten_thousand_tags_take_as_many_requests_as_the_api_allows() {
    let expected = [
        ("DescribeRepositories", 1),
        ("DescribeImages", LEAST),
        // What speaks against removals.
        ("DescribePullThroughCacheRules", 1),
        ("GetLifecyclePolicy", 1),
    ];
    counts("", 0, &expected).await;
}

#[tokio::test]
async fn indexes_are_not_read_where_only_tags_are_removed() {
    // Each has its image in the list, so the images are 250 more.
    let expected = [
        ("DescribeRepositories", 1),
        ("DescribeImages", (TAGS - EXPIRED + 250).div_ceil(1000)),
        ("DescribePullThroughCacheRules", 1),
        ("GetLifecyclePolicy", 1),
    ];
    counts("", 250, &expected).await;
}
