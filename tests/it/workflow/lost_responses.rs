//! Answers that come too late or not at all, and looks that show the past.

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::domain::{Intent, RemovalMethod, SkipReason};
use tagwarden::registry::{ContentCache as _, RawManifest};
use tagwarden::state::NewRun;
use uuid::Uuid;

use super::*;
use crate::support::lease::lease;

/// The default timeout of one request, which a lost one may still need.
const TIMEOUT: Duration = Duration::from_secs(30);

fn busy(retry_after: u64) -> FaultKind {
    FaultKind::TooManyRequests { retry_after: Some(retry_after) }
}

impl WorkflowFixture {
    fn on(&self, method: Method, tag: &str, what: FaultKind) -> Fault {
        assert!(self.registry.tags("shop/api").contains_key(tag));
        Fault::on(&format!("shop/api/manifests/{tag}"), what).method(method)
    }

    /// Says that it removed a tag, and shows it for so many looks more.
    fn shows_for(&self, tag: &'static str, looks: usize) {
        self.registry.inject(self.on(Method::DELETE, tag, FaultKind::status(202)).times(1));
        let gone = FaultKind::before_request(move |content| {
            content.delete_tag("shop/api", tag);
        });
        // It is looked at once when the repository is read again, and once right before the deletion.
        self.registry.inject(self.on(Method::HEAD, tag, gone).after(2 + looks).times(1));
    }

    fn waited(&self) -> Duration {
        self.pauses.lock().unwrap().iter().sum()
    }

    fn deletions_of(&self, tag: &str) -> usize {
        self.deletions_sent().iter().filter(|path| path.ends_with(&format!("/{tag}"))).count()
    }
}

/// A replica that shows a deleted tag for some more seconds.
#[tokio::test]
async fn a_tag_that_is_still_shown_for_some_seconds_stops_nothing() {
    for looks in [1, 4, 7] {
        let walk = WorkflowFixture::new().await;
        let plan = walk.plan().await;
        walk.shows_for("candidate-1", looks);
        let came = walk.apply(&plan).await;
        assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{looks}: {}", came.text);
        assert_eq!(walk.remaining_tags(), Vec::<&str>::new());
        assert_eq!(walk.pauses.lock().unwrap().len(), looks, "{:?}", walk.pauses);
        assert!(walk.waited() <= Duration::from_mins(1), "{:?}", walk.pauses);
    }
}

/// One that does not do what it says is not asked for more.
#[tokio::test]
async fn a_tag_that_is_shown_for_good_ends_it_after_a_minute() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    walk.registry.inject(Fault::on("/manifests/candidate", FaultKind::status(202)).method(Method::DELETE));
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.labels()), (4, vec!["failed", "stopped", "stopped", "stopped"]), "{}", came.text);
    assert_eq!((walk.waited(), walk.deletions_sent().len()), (Duration::from_mins(1), 1));
    assert_eq!(walk.remaining_tags(), EXPIRED_TAGS);
}

#[tokio::test]
async fn a_removal_whose_answer_was_lost_is_tried_again() {
    let lost = [
        FaultKind::status(503),
        FaultKind::status(502),
        FaultKind::status(504),
        FaultKind::HangUp { handled: false },
        FaultKind::CutBody,
    ];
    for what in lost {
        for tag in ["candidate-1", "candidate-3"] {
            let walk = WorkflowFixture::new().await;
            let plan = walk.plan().await;
            let name = format!("{what:?} {tag}");
            walk.registry.inject(walk.on(Method::DELETE, tag, what.clone()).times(1));
            let came = walk.apply(&plan).await;
            assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{name}: {}", came.text);
            let handled = matches!(what, FaultKind::CutBody);
            assert_eq!(walk.deletions_of(tag), if handled { 1 } else { 2 }, "{name}");
            let pauses = walk.pauses.lock().unwrap().clone();
            let long_enough = pauses.iter().all(|pause| *pause >= TIMEOUT);
            assert_eq!((long_enough, pauses.is_empty()), (true, handled), "{name}: {pauses:?}");
        }
    }
}

/// The registry's own word that it failed may have passed once the timeout is over. What fails twice is no longer open.
#[tokio::test]
async fn a_removal_that_the_registry_fails_at_is_tried_once_more() {
    for (status, times, code, label, sent) in
        [(500, 1, 0, "done", 2), (507, 1, 0, "done", 2), (500, 2, 4, "failed", 2), (500, usize::MAX, 4, "failed", 2)]
    {
        for tag in ["candidate-1", "candidate-3"] {
            let walk = WorkflowFixture::new().await;
            let plan = walk.plan().await;
            let name = format!("{status} {times} {tag}");
            walk.registry.inject(walk.on(Method::DELETE, tag, FaultKind::status(status)).times(times));
            let came = walk.apply(&plan).await;
            let of = &came.tags[&format!("shop/api:{tag}")];
            assert_eq!((came.code, of.as_str(), walk.deletions_of(tag)), (code, label, sent), "{name}: {}", came.text);
            let pauses = walk.pauses.lock().unwrap().clone();
            assert!(pauses.len() == 1 && pauses[0] >= TIMEOUT, "{name}: {pauses:?}");
            assert!(walk.journal().await.iter().all(|entry| entry.outcome.is_some()), "{name}");
        }
    }
}

/// However often its answers are lost, a tag that is gone was removed once.
#[tokio::test]
async fn a_removal_that_was_done_and_whose_answer_was_lost_is_done() {
    for what in [FaultKind::HangUp { handled: true }, FaultKind::HandledButStatus(503)] {
        let walk = WorkflowFixture::new().await;
        let plan = walk.plan().await;
        walk.registry.inject(walk.on(Method::DELETE, "candidate-2", what));
        let came = walk.apply(&plan).await;
        assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
        assert_eq!((walk.deletions_of("candidate-2"), walk.waited()), (1, Duration::ZERO));
    }
}

/// The lost request is carried out after the look that still showed the tag.
#[tokio::test]
async fn a_lost_removal_that_is_carried_out_late_is_not_sent_twice() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    walk.registry.inject(walk.on(Method::DELETE, "candidate-2", FaultKind::HangUp { handled: false }).times(1));
    let late = FaultKind::before_request(|content| assert!(content.delete_tag("shop/api", "candidate-2")));
    walk.registry.inject(walk.on(Method::HEAD, "candidate-2", late).after(3).times(1));
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
    assert_eq!(walk.deletions_of("candidate-2"), 1);
    assert!(came.text.contains("although"), "{}", came.text);
}

/// Somebody pushes the tag while its removal waits to be tried again.
#[tokio::test]
async fn a_push_meanwhile_is_not_removed() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    let fresh = walk.digest("shop/api", "candidate-6");
    let to = fresh.clone();
    let push = FaultKind::before_request(move |content| assert!(content.move_tag("shop/api", "candidate-2", &to)));
    walk.registry.inject(walk.on(Method::DELETE, "candidate-2", FaultKind::HangUp { handled: false }).times(1));
    walk.registry.inject(walk.on(Method::HEAD, "candidate-2", push).after(3).times(1));
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.labels()), (0, vec!["done", "moved", "done", "done"]), "{}", came.text);
    assert_eq!(walk.deletions_of("candidate-2"), 1);
    assert_eq!(walk.registry.tags("shop/api")["candidate-2"], fresh);
}

/// Patience ends, the intent stays open, and the next start finds out.
#[tokio::test]
async fn a_removal_whose_answers_are_lost_for_good_stays_open() {
    let walk = WorkflowFixture::new().await;
    let plan = walk.plan().await;
    walk.registry.inject(walk.on(Method::DELETE, "candidate-3", FaultKind::HangUp { handled: false }));
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.labels()), (4, vec!["done", "done", "failed", "done"]), "{}", came.text);
    assert_eq!(walk.deletions_of("candidate-3"), 4);
    let open = walk.journal().await.into_iter().filter(|entry| entry.outcome.is_none());
    assert_eq!(open.map(|entry| entry.intent.tag.to_string()).collect::<Vec<_>>(), ["candidate-3"]);
    walk.registry.clear_faults();
    walk.advance_clock(1);
    walk.plan().await;
    assert!(walk.journal().await.iter().all(|entry| entry.outcome.is_some()));
}

/// A pause that is longer than all patience is not one that is over.
#[tokio::test]
async fn a_pause_of_fifteen_minutes_ends_the_run_and_sends_no_burst() {
    let walk = WorkflowFixture::with(Options::default(), "concurrency = 8").await;
    for number in 10..=60 {
        walk.put("shop/api", &format!("candidate-{number}"), &image(&format!("n-{number}"), 200 - number));
    }
    let plan = walk.plan().await;
    walk.registry.inject(Fault::on("/manifests/candidate", busy(900)).method(Method::DELETE).after(20));
    let came = walk.apply(&plan).await;
    let count = |label: &str| came.tags.values().filter(|found| *found == label).count();
    assert_eq!((came.code, count("done")), (4, 20), "{}", came.text);
    assert!(walk.deletions_sent().len() <= 28, "no more than were on their way: {}", walk.deletions_sent().len());
    assert_eq!(count("done") + count("failed") + count("stopped"), came.tags.len());
    assert!(came.text.contains("asks for a pause of 15m, and a run waits 3s at most"), "{}", came.text);
}

fn unknown_repository() -> FaultKind {
    FaultKind::Status {
        status: 404,
        headers: Vec::new(),
        body: r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#.into(),
    }
}

/// After a crash: a repository that is not found for a while is no removal that was done.
#[tokio::test]
async fn a_passing_404_settles_nothing() {
    let walk = WorkflowFixture::new().await;
    let app = walk.open().await.unwrap();
    let plan = app.plan(None, &()).await.unwrap().document;
    let digest = walk.digest("shop/api", "candidate-1");
    let run = Uuid::now_v7();
    let new = NewRun {
        id: run,
        kind: RunKind::Run,
        mode: "enforce".into(),
        started_at: walk.now(),
        started_by: "tester@here".into(),
        version: "0".into(),
        approved_by: None,
        ticket: None,
    };
    app.store.begin_run(&new).await.unwrap();
    let manifest: RawManifest = app.store.manifest(&digest).await.unwrap();
    let intent = Intent {
        action: Action::Remove(RemovalMethod::Untag),
        registry: "main".parse().unwrap(),
        endpoint: None,
        repository: "shop/api".parse().unwrap(),
        tag: "candidate-1".parse().unwrap(),
        date: None,
        digest,
        media_type: manifest.media_type.clone(),
        policy: Some("candidates".into()),
        evidence: "[]".into(),
    };
    app.store.intend(&lease(&app.store).await, run, &intent, &manifest, walk.now()).await.unwrap();
    app.close().await;
    walk.advance_clock(1);
    let outcomes = || async {
        let journal = walk.journal().await;
        journal.into_iter().map(|entry| entry.outcome.map(|(outcome, _)| outcome)).collect::<Vec<_>>()
    };

    walk.registry.inject(Fault::on("/shop/api/", unknown_repository()));
    walk.try_plan().await.unwrap();
    assert_eq!(outcomes().await, [None], "nothing is known yet");
    walk.registry.clear_faults();
    walk.try_plan().await.unwrap();
    let [Some(Outcome::Skipped(SkipReason::Superseded(_)))] = outcomes().await[..] else {
        panic!("{:?}", outcomes().await)
    };
    walk.audit(Some(&plan)).await;
}

/// Of an Azure registry nobody knows here whether it has replicas. A look there may show the past, so a removal is only
/// repeated once an answer has named the digest that a tag had.
#[tokio::test]
async fn where_looks_may_be_stale_only_an_answer_that_names_the_digest_allows_another_try() {
    for what in [FaultKind::HangUp { handled: false }, FaultKind::status(500)] {
        for (tag, label, code, sent) in [("candidate-1", "failed", 4, 1), ("candidate-3", "done", 0, 2)] {
            let walk = WorkflowFixture::azure(|options| options).await;
            let plan = walk.plan().await;
            let path = format!("_tags/{tag}");
            walk.registry.inject(Fault::on(&path, what.clone()).method(Method::DELETE).times(1));
            let came = walk.apply(&plan).await;
            assert_eq!((came.code, came.tags[&format!("shop/api:{tag}")].as_str()), (code, label), "{}", came.text);
            assert_eq!(walk.deletions_of(tag), sent, "{what:?} {tag}");
            assert_eq!(came.tags.values().filter(|found| *found == "done").count(), if sent == 1 { 3 } else { 4 });
        }
    }
}

/// The digest in the answer is proof enough, whatever a replica shows.
#[tokio::test]
async fn a_stale_look_is_not_even_taken_where_the_answer_names_the_digest() {
    let walk = WorkflowFixture::azure(|options| options).await;
    let plan = walk.plan().await;
    let digest = walk.digest("shop/api", "candidate-1");
    let body = format!(r#"{{"imageName":"shop/api","tag":{{"name":"candidate-1","digest":"{digest}"}}}}"#);
    let shown = FaultKind::Status { status: 200, headers: Vec::new(), body };
    walk.registry.inject(Fault::on("_tags/candidate-1", shown).method(Method::GET));
    let came = walk.apply(&plan).await;
    assert_eq!((came.code, came.labels()), (0, vec!["done"; 4]), "{}", came.text);
    assert_eq!(walk.waited(), Duration::ZERO);
}
