//! Putting back what a run removed.

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind};

use super::*;

async fn removed() -> (WorkflowFixture, String) {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    let run = walk.apply(&plan).await.run_id();
    assert_eq!(walk.remaining_tags(), [""; 0]);
    (walk, run)
}

#[tokio::test]
async fn all_of_a_run_comes_back_byte_for_byte() {
    let (walk, run) = removed().await;
    let restored = walk.restore(&run).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 0);
    assert_eq!(walk.tags(), *walk.before.lock().unwrap());
    walk.audit(None).await;
    let again = walk.restore(&run).await.unwrap();
    assert!(again.restored.iter().all(|one| one.already_there));
}

#[tokio::test]
async fn a_put_that_fails_is_told_and_one_that_was_done_is_known() {
    for (fault, code, left) in [
        (FaultKind::TooManyRequests { retry_after: None }, 4, 3),
        (FaultKind::status(500), 4, 3),
        (FaultKind::HandledButStatus(500), 0, 4),
        (FaultKind::HangUp { handled: true }, 0, 4),
        (FaultKind::HangUp { handled: false }, 4, 3),
    ] {
        let (walk, run) = removed().await;
        let what = format!("{fault:?}");
        walk.registry.inject(Fault::on("manifests/candidate-2", fault).method(Method::PUT));
        let restored = walk.restore(&run).await.unwrap();
        assert_eq!((restored.outcome().exit_code(), walk.remaining_tags().len()), (code, left), "{what}: {restored:?}");
        walk.audit(None).await;
        walk.registry.clear_faults();
        assert_eq!(walk.restore(&run).await.unwrap().outcome().exit_code(), 0, "{what}");
        assert_eq!(walk.tags(), *walk.before.lock().unwrap(), "{what}");
    }
}

#[tokio::test]
async fn a_tag_pushed_meanwhile_is_left_alone_even_in_the_pause_of_a_busy_registry() {
    for busy in [false, true] {
        let (walk, run) = removed().await;
        let fresh = walk.digest("shop/api", "candidate-6");
        if busy {
            let to = fresh.clone();
            let push =
                FaultKind::before_request(move |content| assert!(content.move_tag("shop/api", "candidate-2", &to)));
            walk.registry.inject(Fault::on("manifests/candidate-2", push).method(Method::PUT).times(1));
            let wait = FaultKind::TooManyRequests { retry_after: None };
            walk.registry.inject(Fault::on("manifests/candidate-2", wait).method(Method::PUT).times(1));
        } else {
            assert!(walk.registry.move_tag("shop/api", "candidate-2", &fresh));
        }
        walk.restore(&run).await.unwrap();
        assert_eq!(walk.registry.tags("shop/api")["candidate-2"], fresh);
        assert_eq!(walk.remaining_tags().len(), 4);
    }
}

#[tokio::test]
async fn one_damaged_manifest_does_not_keep_the_others() {
    let (walk, run) = removed().await;
    let digest = walk.digest("shop/api", "candidate-2").to_string();
    let state = walk.path("tagwarden.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(state);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("UPDATE journaled_manifests SET bytes = x'7b7d' WHERE digest = ?1")
        .bind(digest)
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let restored = walk.restore(&run).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 4);
    assert_eq!(walk.remaining_tags(), ["candidate-1", "candidate-3", "candidate-4"]);
}

/// A crash leaves an intent open, and the registry cannot say at the next start: a run after that removes the tag. The
/// first intent must not count as a second removal of it.
#[tokio::test]
async fn an_intent_left_open_is_not_counted_twice() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    // The answer is lost and so is the look after it: the intent stays open.
    walk.registry.inject(Fault::on("manifests/candidate-2", FaultKind::HangUp { handled: false }).after(2));
    let came = walk.apply(&plan).await;
    assert_eq!(came.labels()[1], "failed", "{}", came.text);
    walk.registry.clear_faults();
    let open = walk.journal().await.iter().filter(|entry| entry.outcome.is_none()).count();
    if open == 1 {
        // Still young: it stays open, and the same tag is removed by the next run.
        let came = walk.apply(&plan).await;
        assert_eq!(came.labels()[1], "done", "{}", came.text);
    }
    walk.advance_clock(1);
    walk.plan().await;
    walk.audit(Some(&plan)).await;
    assert!(walk.journal().await.iter().all(|entry| entry.outcome.is_some()));
    assert_eq!(open, 1);
}

#[tokio::test]
async fn a_crash_is_settled_by_what_the_registry_has() {
    // The request is still on its way when the next start looks: the entry must not be closed before it arrives.
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    let slow = FaultKind::Delay(Duration::from_mins(1));
    walk.registry.inject(Fault::on("manifests/candidate-1", slow).method(Method::DELETE));
    let app = walk.open().await.unwrap();
    let text = report::render(&plan, Format::Json);
    let killed = tokio::time::timeout(Duration::from_millis(700), app.apply(&text, &Approval::default(), &())).await;
    assert!(killed.is_err());
    drop(app);
    walk.plan().await;
    let open = |journal: Vec<JournalEntry>| journal.iter().filter(|entry| entry.outcome.is_none()).count();
    assert_eq!((open(walk.journal().await), walk.remaining_tags().len()), (1, 4));
    assert!(walk.registry.delete_tag("shop/api", "candidate-1"), "now it arrives");
    walk.plan().await;
    assert_eq!(open(walk.journal().await), 0);
    walk.audit(Some(&plan)).await;
}
