//! A plan is applied once; what was taken back stays back.

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::report::{self, Format};
use tagwarden::workflow::RestoreSelection;

use super::*;
use crate::workflow::EXPIRED_TAGS;

#[tokio::test]
async fn a_plan_that_was_applied_is_not_applied_again() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    let first = walk.apply(&plan).await;
    assert_eq!((first.code, first.labels()), (0, vec!["done"; 4]), "{}", first.text);
    let restored = walk.restore(&first.run_id()).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0);
    let again = walk.apply(&plan).await;
    assert_eq!(again.code, 3, "{}", again.text);
    assert!(
        again.text.contains("was applied already, by run") && again.text.contains(&first.run_id()),
        "{}",
        again.text
    );
    assert_eq!(walk.remaining_tags(), EXPIRED_TAGS, "what was put back stays");
    // A new plan is a new approval, and nothing goes by it as long as the restore holds it.
    walk.advance_clock(1);
    assert!(walk.plan().await.removals.is_empty(), "what was put back is held");
    walk.advance_clock(7 * 24);
    let new = walk.plan().await;
    assert_eq!(walk.apply(&new).await.code, 0);
    assert!(walk.remaining_tags().is_empty());
}

/// What failed may be tried again within the same approval; what went and was put back meanwhile may not.
#[tokio::test]
async fn the_rest_of_a_plan_may_follow_but_nothing_twice() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    walk.registry.inject(Fault::on("manifests/candidate-2", FaultKind::status(500)).method(Method::DELETE));
    let first = walk.apply(&plan).await;
    assert_eq!((first.code, first.labels()), (4, vec!["done", "failed", "done", "done"]), "{}", first.text);
    walk.registry.clear_faults();
    let app = walk.open().await.unwrap();
    // A hold would keep it anyway.
    app.restore_with_hold(&RestoreSelection::Image("main/shop/api:candidate-3".into()), None).await.unwrap();
    app.close().await;
    let second = walk.apply(&plan).await;
    assert_eq!(second.labels(), ["missing", "done", "refused", "missing"], "{}", second.text);
    assert!(second.text.contains("put back since"), "{}", second.text);
    assert_eq!(walk.remaining_tags(), ["candidate-3"]);
}

/// Somebody who can write files and compute a hash makes a plan whose refusals are gone. The limits are held to all the
/// same.
#[tokio::test]
async fn a_forged_plan_goes_over_no_limit() {
    let in_one_run = "\n[limits]\npercent = 100\nuntag = 3";
    let of_policy = "    limits: { untag: 3 }\n";
    for (settings, policy) in [(in_one_run, ""), ("\n[limits]\npercent = 100", of_policy)] {
        let walk = WorkflowFixture::new().await;
        let path = walk.path("tagwarden.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\n[limits]\npercent = 100", settings)).unwrap();
        let policies = std::fs::read_to_string(walk.path("policies.yaml")).unwrap();
        walk.policies(&policies.replace("    mode: enforce\n", &format!("    mode: enforce\n{policy}")));
        let mut plan = walk.try_plan().await.unwrap().document;
        assert_eq!((plan.removals.len(), plan.refusals.len()), (4, 1));
        plan.refusals.clear();
        report::assign_plan_id(&mut plan);
        let came = walk.apply_text(&report::render(&plan, Format::Json)).await;
        assert_eq!(came.code, 3, "{}", came.text);
        assert!(came.text.contains("no plan made here does that"), "{}", came.text);
        assert_eq!(walk.remaining_tags(), EXPIRED_TAGS);
    }
}

/// A report of a dry run says that nothing is removed by it.
#[tokio::test]
async fn what_was_planned_as_a_dry_run_is_no_approval() {
    let walk = WorkflowFixture::new().await;
    walk.settings("dry-run", "", "");
    let plan = walk.plan().await;
    walk.settings("approved", "", "");
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, walk.remaining_tags()), (3, EXPIRED_TAGS.to_vec()), "{}", came.text);
    assert!(came.text.contains("made in mode `dry-run`"), "{}", came.text);
}

/// Two registries with the same content: a plan of the one is nothing to the other, whatever it is called.
#[tokio::test]
async fn a_plan_of_another_registry_is_refused() {
    let (here, there) = (WorkflowFixture::new().await, WorkflowFixture::new().await);
    let plan = report::render(&there.plan().await, Format::Json);
    let came = here.apply_text(&plan).await;
    assert_eq!((came.code, here.remaining_tags()), (3, EXPIRED_TAGS.to_vec()), "{}", came.text);
    assert!(came.text.contains("which is not in the settings"), "{}", came.text);
}
