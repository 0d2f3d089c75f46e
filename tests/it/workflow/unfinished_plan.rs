//! Runs that go on with the plan of one that was not finished, and those that decide anew.

use jiff::SignedDuration;
use tagwarden::workflow::RunOptions;
use uuid::Uuid;

use super::*;

impl WorkflowFixture {
    /// Runs, and returns the run with the candidates that are left.
    async fn go_on(&self, options: RunOptions) -> (Uuid, Vec<String>) {
        let app = self.open().await.unwrap();
        let ended = app.run_with(options, &()).await.unwrap();
        app.close().await;
        let left = self.tags().into_keys().map(|(_, tag)| tag).filter(|tag| tag.starts_with("candidate-"));
        (ended.run, left.collect())
    }

    /// Two newer candidates, so that the two that were kept expire.
    fn push_two(&self) {
        for number in [7, 8] {
            self.put("shop/api", &format!("candidate-{number}"), &image(&format!("candidate-{number}"), 100 - number));
        }
    }
}

async fn enforcing() -> WorkflowFixture {
    let walk = WorkflowFixture::with(Options::default(), "").await;
    walk.settings("enforce", "", "");
    walk
}

fn after(run: Uuid) -> RunOptions {
    RunOptions { continues: Some(run), ..RunOptions::default() }
}

#[tokio::test]
async fn a_run_that_goes_on_removes_by_the_plan_alone_until_it_expires() {
    let walk = enforcing().await;
    let (first, left) = walk.go_on(RunOptions::default()).await;
    assert_eq!(left, ["candidate-5", "candidate-6"]);
    walk.push_two();
    let (second, left) = walk.go_on(after(first)).await;
    assert_eq!(left, ["candidate-5", "candidate-6", "candidate-7", "candidate-8"], "nothing is left of the plan");
    *walk.now.lock().unwrap() += SignedDuration::from_hours(24 * 30);
    let (_, left) = walk.go_on(after(second)).await;
    assert_eq!(left, ["candidate-7", "candidate-8"], "the plan expired, so the run decides anew");
}

#[tokio::test]
async fn the_plan_of_a_run_that_was_not_to_remove_is_not_gone_on_with() {
    let walk = enforcing().await;
    let blocked = RunOptions { blocked_by: Some("older rules".into()), ..RunOptions::default() };
    let (first, left) = walk.go_on(blocked).await;
    assert_eq!(left.len(), 6);
    walk.push_two();
    let (_, left) = walk.go_on(after(first)).await;
    assert_eq!(left, ["candidate-7", "candidate-8"], "the run decides anew");
}
