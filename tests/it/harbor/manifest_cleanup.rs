//! The second step on Harbor: artifacts that Tagwarden untagged long enough ago are deleted, with what Harbor deletes along with
//! them, or stay for a reason; and they come back while their layers are there.

use jiff::SignedDuration;
use tagwarden::demo::image::{self, Format};

use super::{HarborAccount, fixture, image as build, put, robot};
use crate::workflow::{StepResult, WorkflowFixture};

const THEN: &str = "policies:\n  - name: candidates\n    select: { tags: [\"candidate-*\"] }\n    keep: [{ newest: 2 }]\n    then: { delete_manifest: after 8d }\n    mode: enforce\n";

/// The account of the tests, which may also delete artifacts and push.
fn cleaner() -> HarborAccount {
    robot().project("shop", &[("artifact", "delete"), ("repository", "push")])
}

async fn enforce(walk: &WorkflowFixture) -> StepResult {
    let app = walk.open().await.unwrap();
    let ended = app.run(&()).await;
    app.close().await;
    StepResult::from_result(ended)
}

#[tokio::test]
async fn artifacts_are_deleted_after_their_time_and_come_back() {
    let change = |options| super::HarborOptions { accounts: vec![cleaner()], ..options };
    let walk = fixture(change, THEN).await;
    walk.settings("enforce", "", "");
    let index = image::index(Format::Oci, &[build("amd64", 9), build("arm64", 9)]);
    put(&walk.registry, "shop/api", "candidate-0", &index, 90);
    for number in 1..5 {
        let tag = format!("candidate-{number}");
        put(&walk.registry, "shop/api", &tag, &build(&tag, 50), 80 - number);
    }
    walk.snapshot_tags();
    let before = walk.tags();
    let came = enforce(&walk).await;
    assert_eq!((came.code, came.tags.len()), (0, 3), "{}", came.text);
    let first_run = came.run_id();
    let there = |digest| walk.registry.manifest("shop/api", digest).is_some();
    walk.advance_clock(7 * 24);
    assert_eq!(enforce(&walk).await.code, 0);
    assert!(there(&index.digest), "its time is not over");

    // Somebody tags one of them again.
    let again = walk.digest("shop/api", "candidate-2");
    walk.registry.content(|content| assert!(content.move_tag("shop/api", "wanted", &again)));
    walk.registry.advance_time(SignedDuration::from_hours(1));
    walk.advance_clock(2 * 24);
    let plan = walk.plan().await;
    let stays = plan.deletions.eligible.iter().find(|one| one.digest == index.digest.to_string()).unwrap();
    let kinds: Vec<&str> = stays.retain_reasons.iter().map(|reason| &*reason.kind).collect();
    assert_eq!((stays.deletable, kinds), (false, vec!["index-contents"]), "the plan says that an index stays");
    let came = enforce(&walk).await;
    assert_eq!(came.code, 0, "{}", came.text);
    let gone = walk.digest("shop/api", "candidate-1");
    // An index stays: Harbor would delete the images in it at once.
    let found = [&gone, &again, &index.digest, &index.children[0].digest].map(there);
    assert_eq!(found, [false, true, true, true], "{}", came.text);

    let restored = walk.restore(&first_run).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
    for (place, digest) in &before {
        assert_eq!(walk.tags().get(place), Some(digest), "{place:?}");
    }
}
