//! A process that is stopped in the middle of a removal, and another that takes over.

use std::sync::atomic::{AtomicU32, Ordering};

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::domain::{Intent, RemovalMethod, SkipReason};
use tagwarden::registry::{ContentCache as _, RawManifest};
use tagwarden::state::{NewRun, RunContext};
use tagwarden::workflow::{MonotonicClock, RunOptions};
use uuid::Uuid;

use super::*;
use crate::support::lease::lease;

impl WorkflowFixture {
    async fn removing_one_by_one() -> Self {
        let walk = Self::new().await;
        walk.settings("enforce", "concurrency = 1", "");
        walk
    }

    /// Journals the intent to remove a tag, as a process does that is stopped before it sends the request.
    async fn intend(&self, tag: &str) -> Uuid {
        let app = self.open().await.unwrap();
        app.plan(None, &()).await.unwrap();
        let digest = self.digest("shop/api", tag);
        let run = Uuid::now_v7();
        let new = NewRun {
            id: run,
            kind: RunKind::Run,
            mode: "enforce".into(),
            started_at: self.now(),
            started_by: "tester@there".into(),
            version: "0".into(),
            approved_by: None,
            ticket: None,
        };
        app.store.begin_run_with_context(&new, &RunContext::default()).await.unwrap();
        let manifest: RawManifest = app.store.manifest(&digest).await.unwrap();
        let intent = Intent {
            action: Action::Remove(RemovalMethod::Untag),
            registry: "main".parse().unwrap(),
            endpoint: Some(self.registry.url().trim_end_matches('/').into()),
            repository: "shop/api".parse().unwrap(),
            tag: tag.parse().unwrap(),
            date: None,
            digest,
            media_type: manifest.media_type.clone(),
            policy: Some("candidates".into()),
            evidence: "[]".into(),
        };
        app.store.intend(&lease(&app.store).await, run, &intent, &manifest, self.now()).await.unwrap();
        app.close().await;
        run
    }

    /// A run that is not held against the journal of the runs before.
    async fn run_alone(&self) -> StepResult {
        let app = self.open().await.unwrap();
        let ended = app.run(&()).await;
        app.close().await;
        StepResult::from_result(ended)
    }

    /// The outcomes of a run's entries, with their texts.
    async fn outcomes(&self, run: Uuid) -> Vec<(&'static str, String)> {
        let journal = self.journal().await.into_iter().filter(|entry| entry.run == run);
        let label = |outcome: Outcome| match outcome {
            Outcome::Skipped(skip) => (skip.label(), skip.to_string()),
            Outcome::Done(text) | Outcome::Failed(text) => ("done", text),
        };
        journal.map(|entry| entry.outcome.map_or(("open", String::new()), |(outcome, _)| label(outcome))).collect()
    }
}

const KEEP_ALL: &str = "policies:\n  - { name: all, select: { tags: ['*'] }, keep: all, mode: enforce }\n";

/// The request that the stopped process had passed its checks for arrives after the takeover.
#[tokio::test]
async fn a_removal_that_arrives_after_the_takeover_is_attributed_and_can_be_undone() {
    for pushed_again in [false, true] {
        let walk = WorkflowFixture::removing_one_by_one().await;
        let tag = "candidate-1";
        let run = walk.intend(tag).await;
        walk.policies(KEEP_ALL);
        walk.advance_clock(1);
        if pushed_again {
            walk.put("shop/api", tag, &image("pushed again", 1));
        }
        assert_eq!(walk.run().await.code, 0);
        let outcomes = walk.outcomes(run).await;
        assert_eq!((outcomes.len(), outcomes[0].0), (1, "superseded"), "{outcomes:?}");
        assert!(outcomes[0].1.starts_with("superseded by a takeover: the tag is still there"), "{outcomes:?}");
        assert_eq!(walk.run().await.code, 0, "while it is there, nothing is attributed");
        assert_eq!(walk.outcomes(run).await.len(), 1);

        assert!(walk.registry.delete_tag("shop/api", tag));
        let app = walk.open().await.unwrap();
        app.run(&()).await.unwrap();
        app.run(&()).await.unwrap();
        app.close().await;
        let outcomes = walk.outcomes(run).await;
        assert_eq!(outcomes.len(), 2, "once: {outcomes:?}");
        assert_eq!(outcomes[1].0, "done");
        assert!(outcomes[1].1.contains("which a takeover had closed as superseded"), "{outcomes:?}");
        let entries = walk.journal().await;
        let id = entries.iter().find(|entry| entry.run == run).unwrap().id;
        assert!(outcomes[1].1.contains(&format!("attributed to entry {id}")), "{outcomes:?}");

        let restored = walk.restore(&run.to_string()).await.unwrap();
        assert_eq!(restored.restored.len(), 1);
        assert!(walk.registry.tags("shop/api").contains_key(tag));
    }
}

/// Whatever explains the absence is not attributed: the next run removed the tag itself.
#[tokio::test]
async fn a_tag_that_a_later_run_removed_is_not_attributed() {
    let walk = WorkflowFixture::removing_one_by_one().await;
    let run = walk.intend("candidate-1").await;
    walk.advance_clock(1);
    let came = walk.run().await;
    assert_eq!(came.labels(), ["done"; 4], "{}", came.text);
    assert_eq!(walk.run_alone().await.code, 0);
    let outcomes = walk.outcomes(run).await;
    assert_eq!((outcomes.len(), outcomes[0].0), (1, "superseded"), "{outcomes:?}");
}

/// The requests for a tag before the first removal, by the registry's own list.
fn looks(walk: &WorkflowFixture, tag: &str) -> usize {
    let requests = walk.registry.requests();
    let sent = requests.iter().position(|request| request.method == Method::DELETE).unwrap();
    let this = format!("manifests/{tag}");
    let looks =
        requests[..sent].iter().filter(|request| request.method == Method::HEAD && request.path.ends_with(&this));
    looks.count()
}

/// A registry from which four tags were removed before, so that the next removal is one as any other: of `candidate-5`,
/// since a newer one was pushed.
async fn ready_to_remove() -> WorkflowFixture {
    let walk = WorkflowFixture::removing_one_by_one().await;
    assert_eq!(walk.run().await.code, 0);
    walk.put("shop/api", "candidate-7", &image("candidate-7", 1));
    walk.registry.clear_requests();
    walk
}

/// The looks at the tag before a removal without a pause; the last of them is that right before it.
async fn usual_looks() -> usize {
    let walk = ready_to_remove().await;
    let came = walk.run_alone().await;
    assert_eq!(came.tags["shop/api:candidate-5"], "done", "{}", came.text);
    looks(&walk, "candidate-5")
}

/// A clock that stands still, except that it advances by `step` between the question of a look at `candidate-5` and the
/// request to remove it, so many `times` from the look of that number on.
fn paused_after_looks(walk: &WorkflowFixture, look: usize, step: i64, times: usize) -> MonotonicClock {
    let (readings, elapsed) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(Duration::from_secs(1000))));
    let arm = Arc::clone(&readings);
    // The next reading is that right before the request.
    let armed = FaultKind::BeforeRequest(Arc::new(move |_| arm.store(1, Ordering::SeqCst)));
    let fault = Fault::on("manifests/candidate-5", armed).method(Method::HEAD);
    walk.registry.inject(fault.after(look - 1).times(times));
    let now = Arc::clone(&walk.now);
    Arc::new(move || {
        let mut elapsed = elapsed.lock().unwrap();
        let left = readings.load(Ordering::SeqCst);
        if left > 0 {
            readings.store(left - 1, Ordering::SeqCst);
            if left == 1 {
                *now.lock().unwrap() += step.seconds();
                *elapsed += Duration::from_secs(step.unsigned_abs());
            }
        }
        *elapsed
    })
}

#[tokio::test]
async fn between_the_look_at_a_tag_and_its_removal_pass_at_most_five_seconds() {
    let usual = usual_looks().await;
    // How long it takes, how often, and the looks that are repeated before the request.
    for (step, times, repeated) in [(5, 1, 0), (6, 1, 1), (60, 3, 3)] {
        let walk = ready_to_remove().await;
        let app = walk.open().await.unwrap().with_monotonic_clock(paused_after_looks(&walk, usual, step, times));
        let ended = StepResult::from_result(app.run_with(RunOptions::default(), &()).await);
        app.close().await;
        assert_eq!(ended.tags["shop/api:candidate-5"], "done", "{}", ended.text);
        assert_eq!(looks(&walk, "candidate-5"), usual + repeated, "{step} s, {times} times");
        let sent = walk.registry.requests().iter().filter(|request| request.method == Method::DELETE).count();
        assert_eq!(sent, 1, "{step} s, {times} times");
    }
}

/// The look that is repeated sees what was pushed meanwhile.
#[tokio::test]
async fn a_tag_that_was_pushed_again_during_a_pause_stays() {
    let usual = usual_looks().await;
    let walk = ready_to_remove().await;
    let clock = paused_after_looks(&walk, usual, 30, 1);
    let pushed = image("pushed meanwhile", 1);
    let push =
        FaultKind::BeforeRequest(Arc::new(move |content| content.put_image("shop/api", Some("candidate-5"), &pushed)));
    walk.registry.inject(Fault::on("manifests/candidate-5", push).method(Method::HEAD).after(usual).times(1));
    let app = walk.open().await.unwrap().with_monotonic_clock(clock);
    let ended = StepResult::from_result(app.run_with(RunOptions::default(), &()).await);
    app.close().await;
    assert_eq!(ended.tags["shop/api:candidate-5"], "moved", "{}", ended.text);
    let of = SkipReason::Moved { to: walk.registry.tags("shop/api")["candidate-5"].clone() };
    assert!(ended.text.contains(&of.to_string()), "{}", ended.text);
}

/// The process that was stopped goes on, and journals its own outcome, while another one looks at the tag.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_its_own_process_settles_in_the_meantime_is_left_alone() {
    let walk = WorkflowFixture::removing_one_by_one().await;
    let run = walk.intend("candidate-1").await;
    walk.advance_clock(1);
    let looks = Arc::new(tokio::sync::Semaphore::new(0));
    let settled = Arc::new(std::sync::Barrier::new(2));
    let (looking, waits) = (Arc::clone(&looks), Arc::clone(&settled));
    let look = FaultKind::before_request(move |_| {
        looking.add_permits(1);
        waits.wait();
    });
    walk.registry.inject(Fault::on("manifests/candidate-1", look).method(Method::HEAD).times(1));
    let own = async {
        looks.acquire().await.unwrap().forget();
        let app = walk.open().await.unwrap();
        let open = app.store.pending_entries().await.unwrap();
        assert_eq!(open.len(), 1, "the look comes before the outcome");
        app.store.record_outcome(open[0].id, &Outcome::Failed("own".to_owned()), walk.now()).await.unwrap();
        app.close().await;
        tokio::task::spawn_blocking(move || settled.wait()).await.unwrap();
    };
    let (came, ()) = tokio::join!(walk.run_alone(), own);
    assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
    assert_eq!(walk.outcomes(run).await, [("done", "own".to_owned())]);
}
