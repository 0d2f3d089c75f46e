//! Lists of repositories that suddenly name much less than before.

use tagwarden::demo::registry::{Fault, FaultKind};

use super::*;

/// A registry of four repositories that was read once.
async fn known() -> WorkflowFixture {
    let walk = WorkflowFixture::new().await;
    for repository in ["a", "b", "c"] {
        walk.put(repository, "release-1", &image(repository, 50));
    }
    walk.settings("enforce", "", "");
    assert_eq!(walk.plan().await.registries[0].repositories, 4);
    walk
}

/// From here on the registry lists these repositories.
fn list(walk: &WorkflowFixture, names: &[&str]) {
    walk.registry.clear_faults();
    let body = serde_json::json!({ "repositories": names }).to_string();
    walk.registry.inject(Fault::on("_catalog", FaultKind::Status { status: 200, headers: Vec::new(), body }));
}

async fn accept(walk: &WorkflowFixture) -> Result<u64, RunError> {
    let app = walk.open().await.unwrap();
    let accepted = app.accept_catalogue("main").await;
    app.close().await;
    accepted
}

/// The exit code of a plan, and the message of the doubt.
async fn look(walk: &WorkflowFixture) -> (u8, Option<String>) {
    let ended = walk.try_plan().await.unwrap();
    let doubt = ended.document.registries[0].gaps.iter().find(|gap| gap.kind == "doubted");
    (ended.outcome.exit_code(), doubt.map(|gap| gap.message.clone()))
}

#[tokio::test]
async fn an_empty_list_is_a_gap_until_it_lasts_for_a_week() {
    let walk = known().await;
    list(&walk, &[]);
    for hours in [0, 24, 48, 72] {
        let (code, doubt) = look(&walk).await;
        assert_eq!(code, 5, "after {hours}");
        let doubt = doubt.unwrap();
        for part in ["lists 0 repositories", "4 of the 4", "(a, b, c, …)", "a week", "tagwarden registries accept main"]
        {
            assert!(doubt.contains(part), "{part}: {doubt}");
        }
        walk.advance_clock(24);
    }
    // It was a permission, and somebody gave it back.
    walk.registry.clear_faults();
    assert_eq!(look(&walk).await, (0, None));
    list(&walk, &[]);
    assert_eq!(look(&walk).await.0, 5);
    walk.advance_clock(6 * 24);
    assert_eq!(look(&walk).await.0, 5);
    walk.advance_clock(24);
    let (code, doubt) = look(&walk).await;
    assert!(code != 5 && doubt.is_none(), "{code} {doubt:?}");
}

#[tokio::test]
async fn what_a_doubted_list_names_goes_on() {
    let walk = known().await;
    list(&walk, &["shop/api", "a"]);
    let came = walk.run().await;
    assert_eq!((came.code, came.labels()), (5, vec!["done"; 4]), "{}", came.text);
    assert!(came.text.contains("(b, c)"), "{}", came.text);
    // More than half is no reason for doubt.
    let walk = known().await;
    list(&walk, &["shop/api", "a", "b"]);
    assert_eq!(look(&walk).await, (0, None));
}

#[tokio::test]
async fn a_person_can_say_that_a_list_is_right() {
    let walk = known().await;
    let error = accept(&walk).await.unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    list(&walk, &["a"]);
    assert_eq!(look(&walk).await.0, 5);
    assert_eq!(accept(&walk).await.unwrap(), 1);
    assert_eq!(look(&walk).await, (0, None));
    // Repositories that come back are no loss.
    walk.registry.clear_faults();
    assert_eq!(look(&walk).await, (0, None));
}

#[tokio::test]
async fn a_list_that_was_narrowed_by_the_settings_is_not_doubted() {
    let walk = known().await;
    walk.settings("enforce", "repositories = [\"shop/api\"]", "");
    assert_eq!(look(&walk).await, (0, None));
}
