//! Telling what came of runs: what is sent, to whom, how often, and that no run depends on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use serde_json::Value;
use tagwarden::apply::Clock;
use tagwarden::config::{Mode, NotifyEvent, NotifySettings};
use tagwarden::notify::{Notifier, RunEvent, RunEventCounts};
use tagwarden::registry::RetryPolicy;
use tagwarden::state::{RunKind, StateStore};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::config::load;

mod commands;
mod event;
mod mail;
mod payloads;
mod settings;

/// What is to be told, each with what tells one problem from another.
type Occasions<'a> = [(NotifyEvent, &'a str)];

/// Short enough that a fault for good is over at once.
const RETRY_POLICY: RetryPolicy = RetryPolicy {
    max_retries: 2,
    initial_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(5),
    max_total_delay: Duration::from_secs(3),
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_mins(1);

fn noon() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

fn clock(at: Timestamp) -> Clock {
    Arc::new(move || at)
}

/// One to tell, by its lines in the settings below a kind, whose address is that of `url`.
fn receiver_settings(kind: &str, url: &str, lines: &str) -> NotifySettings {
    let text = format!(
        "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"https://contoso.example\"\n\
         [notify.ops]\nkind = \"{kind}\"\n{lines}\n"
    );
    let variables = [("TAGWARDEN__NOTIFY__OPS__URL", url), ("TAGWARDEN__NOTIFY__OPS__SECRET", "hunter2")];
    let needed = if kind == "webhook" { 2 } else { 1 };
    load(&text, &variables[..needed]).notify.remove(0)
}

/// What came of a run that was good.
fn successful_run() -> RunEvent {
    RunEvent {
        run_id: Some("01935c1e-4b1c-7d6a-8a3b-5d1f0c2e9b77".to_owned()),
        kind: RunKind::Run,
        mode: Mode::Enforce,
        by: "anna@host".to_owned(),
        ended_at: noon(),
        outcome: "done",
        exit_code: 0,
        occasions: BTreeMap::new(),
        is_complete: true,
        counts: Some(RunEventCounts {
            tags: 12_430,
            expired: 620,
            protected: 37,
            retained: 11_700,
            undecided: 0,
            out_of_scope: 0,
            deleted: 0,
            removed: 0,
            skipped: 3,
            failed: 0,
            reclaimable_bytes: 1 << 30,
            estimated: false,
        }),
        problems: Vec::new(),
    }
}

/// One with that to tell.
fn run_with_occasions(occasions: &Occasions) -> RunEvent {
    let mut news = successful_run();
    news.occasions = occasions.iter().map(|(occasion, apart)| (*occasion, (*apart).to_owned())).collect();
    if news.occasions.contains_key(&NotifyEvent::Removed) {
        news.counts.as_mut().unwrap().removed = 617;
    }
    news
}

/// Someone at `/hook` who answers so.
async fn hook(answer: ResponseTemplate) -> (MockServer, String) {
    let server = MockServer::start().await;
    Mock::given(method("POST")).and(path("/hook")).respond_with(answer).mount(&server).await;
    let url = format!("{}/hook", server.uri());
    (server, url)
}

async fn received(server: &MockServer) -> Vec<Request> {
    server.received_requests().await.unwrap()
}

fn json(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// Tells that and waits until it is told.
async fn notify_run(settings: &[NotifySettings], folder: &Path, at: Timestamp, news: RunEvent) {
    let notifier = Notifier::start_with_retry(settings, &folder.join("tagwarden.db"), &clock(at), RETRY_POLICY);
    notifier.enqueue(news);
    notifier.finish(LONG).await;
}

/// Each step is a process of its own, hours after the first: what is told at it, with the occasions.
#[tokio::test]
async fn a_problem_is_told_once_and_again_after_a_while() {
    use NotifyEvent::{EvidenceMissing, Failed, Removed};
    let (server, url) = hook(ResponseTemplate::new(200)).await;
    let aks: &Occasions = &[(EvidenceMissing, "aks")];
    let other: &Occasions = &[(EvidenceMissing, "vault")];
    let both: &Occasions = &[(EvidenceMissing, "aks"), (Failed, "shop/api")];
    let removed: &Occasions = &[(Removed, "")];
    let removed_and_aks: &Occasions = &[(Removed, ""), (EvidenceMissing, "aks")];
    let steps: &[(i64, &Occasions, &str)] = &[
        (0, &[], ""),
        (1, aks, "evidence-missing"),
        (2, aks, ""),
        (3, other, "evidence-missing"),
        (4, other, ""),
        (5, aks, "evidence-missing"),
        (6, both, "failed"),
        (7, removed_and_aks, "removed"),
        (28, aks, ""),
        (29, aks, "evidence-missing"),
        (30, &[], "recovered"),
        (31, &[], ""),
        (32, aks, "evidence-missing"),
        (33, removed, "removed,recovered"),
        (34, removed, "removed"),
        // The clock was set back: better twice than never.
        (35, aks, "evidence-missing"),
        (20, aks, "evidence-missing"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let settings = [receiver_settings("webhook", &url, "")];
    for (hours, occasions, expected) in steps {
        let before = received(&server).await.len();
        notify_run(&settings, folder.path(), noon() + hours.hours(), run_with_occasions(occasions)).await;
        let messages = received(&server).await;
        let told: Vec<String> = messages[before..]
            .iter()
            .flat_map(|request| json(request)["occasions"].as_array().unwrap().clone())
            .map(|label| label.as_str().unwrap().to_owned())
            .collect();
        assert_eq!(told.join(","), *expected, "after {hours} hours");
    }
}

#[tokio::test]
async fn everybody_is_told_what_they_asked_for() {
    use NotifyEvent::{EvidenceMissing, Failed, Refused, Removed};
    let all: &Occasions = &[(Removed, ""), (Refused, "a"), (Failed, "b"), (EvidenceMissing, "c")];
    for (on, occasions, expected) in [
        ("", all, "removed,refused,failed,evidence-missing"),
        ("on = [\"removed\"]", all, "removed"),
        ("on = [\"refused\", \"failed\"]", all, "refused,failed"),
        ("on = [\"recovered\"]", all, ""),
        ("on = [\"removed\"]", &[], ""),
        ("on = [\"always\"]", &[], "always"),
        ("on = [\"always\"]", &[(Failed, "b")], "failed,always"),
    ] {
        let (server, url) = hook(ResponseTemplate::new(200)).await;
        let folder = tempfile::tempdir().unwrap();
        notify_run(&[receiver_settings("webhook", &url, on)], folder.path(), noon(), run_with_occasions(occasions))
            .await;
        let labels = |request: &Request| json(request)["occasions"].clone();
        let told: Vec<Value> = received(&server).await.iter().map(labels).collect();
        let expected: Vec<Value> = match expected {
            "" => Vec::new(),
            expected => vec![expected.split(',').collect::<Vec<_>>().into()],
        };
        assert_eq!(told, expected, "{on}");
    }
}

/// What did not arrive is not remembered as told.
#[tokio::test]
async fn what_did_not_arrive_is_tried_again_now_and_next_time() {
    let server = MockServer::start().await;
    let fails = |times| Mock::given(method("POST")).respond_with(ResponseTemplate::new(503)).up_to_n_times(times);
    fails(2).mount(&server).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(202)).mount(&server).await;
    let settings = [receiver_settings("webhook", &server.uri(), "")];
    let folder = tempfile::tempdir().unwrap();
    let news = || run_with_occasions(&[(NotifyEvent::Failed, "x")]);
    notify_run(&settings, folder.path(), noon(), news()).await;
    let bodies: Vec<Vec<u8>> = received(&server).await.into_iter().map(|request| request.body).collect();
    assert_eq!(bodies.len(), 3);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "one id for all tries");

    server.reset().await;
    fails(3).mount(&server).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(202)).mount(&server).await;
    let other = || run_with_occasions(&[(NotifyEvent::Failed, "y")]);
    notify_run(&settings, folder.path(), noon() + 1.hour(), other()).await;
    notify_run(&settings, folder.path(), noon() + 2.hours(), other()).await;
    notify_run(&settings, folder.path(), noon() + 3.hours(), other()).await;
    assert_eq!(received(&server).await.len(), 4, "three in vain, then one, then none");
}

/// A listener that takes connections and says nothing.
#[tokio::test]
async fn the_end_waits_for_nobody_for_long_and_news_for_nobody_at_all() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings =
        [receiver_settings("slack", &format!("http://{}/x", silent.local_addr().unwrap()), "timeout = \"10m\"")];
    let folder = tempfile::tempdir().unwrap();
    let notifier =
        Notifier::start_with_retry(&settings, &folder.path().join("tagwarden.db"), &clock(noon()), RETRY_POLICY);
    // Far more than the queue holds: none of these waits.
    for number in 0..1000 {
        notifier.enqueue(run_with_occasions(&[(NotifyEvent::Failed, &number.to_string())]));
    }
    notifier.finish(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn a_memory_that_is_broken_or_cannot_be_written_only_repeats() {
    let (server, url) = hook(ResponseTemplate::new(200)).await;
    let settings = [receiver_settings("webhook", &url, "")];
    let folder = tempfile::tempdir().unwrap();
    let news = || run_with_occasions(&[(NotifyEvent::Failed, "x")]);
    std::fs::write(folder.path().join("tagwarden.db"), "no state").unwrap();
    notify_run(&settings, folder.path(), noon(), news()).await;
    notify_run(&settings, folder.path(), noon() + 1.hour(), news()).await;
    notify_run(&settings, &folder.path().join("nowhere"), noon() + 1.hour(), news()).await;
    assert_eq!(received(&server).await.len(), 3);
    assert_eq!(std::fs::read(folder.path().join("tagwarden.db")).unwrap(), b"no state");
}

/// The version before kept what it told in a file beside the state.
#[tokio::test]
async fn what_the_version_before_told_is_not_told_again() {
    let (server, url) = hook(ResponseTemplate::new(200)).await;
    let settings = [receiver_settings("webhook", &url, "")];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tagwarden.db.told.json");
    std::fs::write(&file, r#"{"ops":{"run failed x":"2026-11-20T11:00:00Z"}}"#).unwrap();
    for hours in 0_i64..2 {
        let failed = run_with_occasions(&[(NotifyEvent::Failed, "x")]);
        notify_run(&settings, folder.path(), noon() + hours.hours(), failed).await;
        assert_eq!(received(&server).await.len(), 0, "after {hours} hours");
        assert!(!file.exists());
    }
    notify_run(&settings, folder.path(), noon() + 24.hours(), run_with_occasions(&[(NotifyEvent::Failed, "x")])).await;
    assert_eq!(received(&server).await.len(), 1);
}

/// A daemon gives the state that it has open.
#[tokio::test]
async fn what_is_told_is_recorded_in_a_state_that_is_open() {
    let (server, url) = hook(ResponseTemplate::new(200)).await;
    let settings = [receiver_settings("webhook", &url, "")];
    let folder = tempfile::tempdir().unwrap();
    let store = StateStore::open(&folder.path().join("tagwarden.db")).await.unwrap();
    for hours in 0_i64..3 {
        let notifier = Notifier::start_with_store(&settings, &store, &clock(noon() + hours.hours()));
        notifier.enqueue(run_with_occasions(&[(NotifyEvent::Failed, "x")]));
        notifier.finish(LONG).await;
    }
    assert_eq!(received(&server).await.len(), 1);
    let sent = store.sent_notifications("ops").await.unwrap();
    assert_eq!(sent, BTreeMap::from([("run failed x".to_owned(), noon())]), "and it is still open");
}

/// Of one process with several runs, the later know what the earlier told.
#[tokio::test]
async fn a_daemon_remembers_while_it_runs() {
    let (server, url) = hook(ResponseTemplate::new(200)).await;
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::new(Mutex::new(noon()));
    let time = Arc::clone(&now);
    let clock: Clock = Arc::new(move || *time.lock().unwrap());
    let settings = [receiver_settings("webhook", &url, "repeat_after = \"3h\"")];
    let notifier = Notifier::start_with_retry(&settings, &folder.path().join("tagwarden.db"), &clock, RETRY_POLICY);
    for _ in 0..3 {
        notifier.enqueue(run_with_occasions(&[(NotifyEvent::Failed, "x")]));
    }
    notifier.finish(LONG).await;
    assert_eq!(received(&server).await.len(), 1);
}
