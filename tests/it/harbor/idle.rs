//! Repositories that nothing is pushed to or pulled from, by Harbor's own pull times.

use tagwarden::report::{IdleRepositoryView, ReasonView};

use super::{fixture, image as build, put};

const POLICIES: &str = "policies:
  - name: builds
    select: { tags: [\"build-*\"] }
    keep: [{ within: 14d }]
    mode: enforce
  - name: unused
    select: { repositories: [\"**\"], idle: 180d }
    keep: none
    mode: enforce
";

fn row(found: &IdleRepositoryView) -> (&str, Option<&str>, u64, u64) {
    (&found.repository, found.unknown.as_deref(), found.tags, found.expired)
}

#[tokio::test]
async fn what_a_removal_takes_along_does_not_make_a_repository_idle() {
    let walk = fixture(|options| options, POLICIES).await;
    walk.settings("enforce", "accept = [\"pull-times\"]", "");
    put(&walk.registry, "shop/api", "v1", &build("v1", 500), 400);
    put(&walk.registry, "shop/api", "build-1", &build("build-1", 40), 30);
    put(&walk.registry, "shop/old", "v1", &build("old", 500), 400);
    walk.snapshot_tags();
    let plan = walk.plan().await;
    assert_eq!(plan.idle.iter().map(row).collect::<Vec<_>>(), [("shop/old", None, 1, 1)]);
    assert_eq!((plan.idle[0].last_pull, plan.idle[0].pulls_known), (None, true));
    // The last tag of a repository stays by the limits of the settings.
    let done = walk.run().await;
    assert_eq!(done.code, 3, "{}", done.text);
    let left: Vec<_> = walk.tags().into_keys().map(|(repository, tag)| format!("{repository}:{tag}")).collect();
    assert_eq!(left, ["shop/api:v1", "shop/old:v1"]);

    // The push of `build-1` a month ago is in no list any more, and the pulls of it are not known either.
    let plan = walk.plan().await;
    assert_eq!(
        plan.idle.iter().map(row).collect::<Vec<_>>(),
        [("shop/api", Some("use-before-removals"), 1, 0), ("shop/old", None, 1, 1),]
    );
    let kept = plan.kept.iter().next().unwrap();
    let unknown = ReasonView::SelectionUnknown { policy: "unused".into(), fact: "use-before-removals".into() };
    assert_eq!((kept.verdict.as_str(), &kept.reasons[..]), ("retained", &[unknown][..]));

    walk.advance_clock(181 * 24);
    let plan = walk.plan().await;
    assert_eq!(plan.idle.iter().map(row).collect::<Vec<_>>(), [("shop/api", None, 1, 1), ("shop/old", None, 1, 1)]);
}

#[tokio::test]
async fn without_pull_times_idle_repositories_are_reported_and_stay() {
    let walk = fixture(|options| options, POLICIES).await;
    put(&walk.registry, "shop/old", "v1", &build("old", 500), 400);
    put(&walk.registry, "shop/new", "v1", &build("new", 5), 4);
    let plan = walk.plan().await;
    assert_eq!(plan.idle.iter().map(row).collect::<Vec<_>>(), [("shop/old", Some("last-pull"), 1, 0)]);
    assert!(plan.removals.is_empty());
    let text = tagwarden::report::text(&plan);
    assert!(text.contains("tags stay in 1 repository, which may be idle: the registry may not record pulls"), "{text}");
}
