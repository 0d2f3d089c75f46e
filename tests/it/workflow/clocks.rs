//! Clocks that are wrong, are put right, or that nothing confirms.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::workflow::{MonotonicClock, RunOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const WITHIN: &str = "policies:
  - { name: recent, select: { tags: ['*'] }, keep: [{ within: 14d }], mode: enforce }
";

const LISTED: &str = "repositories = [\"shop/api\"]";

impl WorkflowFixture {
    /// A plain registry in mode `enforce` with two images of a day ago and one of a year ago, whose own clock shows noon.
    async fn clocks() -> Self {
        let walk = Self::with(Options::default(), "").await;
        walk.registry.content(|content| {
            for tag in content.tags("shop/api").into_keys() {
                assert!(content.delete_tag("shop/api", &tag));
            }
        });
        walk.put("shop/api", "day-1", &image("day-1", 1));
        walk.put("shop/api", "day-2", &image("day-2", 1));
        walk.put("shop/api", "year", &image("year", 365));
        walk.settings("enforce", "", "");
        walk.policies(WITHIN);
        walk.registry_says(noon());
        walk
    }

    fn registry_says(&self, time: Timestamp) {
        self.registry.set_clock(Arc::new(move || time));
    }

    fn set(&self, time: Timestamp) {
        *self.now.lock().unwrap() = time;
    }

    fn tags_left(&self) -> Vec<String> {
        self.tags().into_keys().map(|(repository, tag)| format!("{repository}:{tag}")).collect()
    }

    /// Sets this machine's clock when the registry is next asked for that.
    fn set_at(&self, fault: fn(FaultKind) -> Fault, time: Timestamp) {
        let now = Arc::clone(&self.now);
        let set = FaultKind::BeforeRequest(Arc::new(move |_| *now.lock().unwrap() = time));
        self.registry.inject(fault(set).times(1));
    }

    /// A run with a steady clock of its own.
    async fn run_by(&self, steady: MonotonicClock, turn: RunOptions) -> StepResult {
        let app = self.open().await.unwrap().with_monotonic_clock(steady);
        let ended = app.run_with(turn, &()).await;
        app.close().await;
        StepResult::from_result(ended)
    }

    /// When the state has first seen a tag: `None` where it has not, or it was there before.
    async fn first_seen(&self, tag: &str) -> Option<Timestamp> {
        let app = self.open().await.unwrap();
        let repository = "shop/api".parse().unwrap();
        let decision = app.decide_repository(&"main".parse().unwrap(), &repository, None).await.unwrap();
        app.close().await;
        let repository = &decision.inventory.registries[0].repositories[0];
        repository.tag(tag).unwrap().first_seen.map(tagwarden::domain::CompactTime::timestamp)
    }
}

/// A steady clock that stands still: what it measures takes no time.
fn still() -> MonotonicClock {
    Arc::new(|| Duration::from_secs(1000))
}

fn days(days: i64) -> Timestamp {
    noon() + (days * 24).hours()
}

#[tokio::test]
async fn a_clock_that_differs_from_a_plain_registrys_removes_nothing() {
    for (ours, refused) in [
        (days(60), true),
        (days(-60), true),
        (noon() + 125.seconds(), true),
        (noon() - 130.seconds(), true),
        (noon() + 60.seconds(), false),
        (noon() - 60.seconds(), false),
    ] {
        let walk = WorkflowFixture::clocks().await;
        walk.set(ours);
        let came = walk.run_by(still(), RunOptions::default()).await;
        let left = if refused { 3 } else { 2 };
        let code = if refused { 3 } else { 0 };
        assert_eq!((came.code, walk.tags_left().len()), (code, left), "{ours}: {}", came.text);
        assert_eq!(came.text.contains("refusal clock"), refused, "{ours}: {}", came.text);
        let document = came.result.unwrap().document;
        assert_eq!(document.registries[0].clock.is_some(), refused, "{ours}");
        // A plan looks ahead, and says the same.
        let plan = walk.plan().await;
        assert_eq!(plan.refusals.iter().any(|refusal| refusal.kind == "clock"), code == 3, "{ours}");
    }
}

#[tokio::test]
async fn a_clock_that_is_put_right_while_it_reads_was_wrong_all_the_same() {
    let moments: [fn(FaultKind) -> Fault; 3] =
        [|set| Fault::on("_catalog", set), |set| Fault::on("tags/list", set), |set| Fault::on("manifests/day-1", set)];
    for steady in [Some(still()), None] {
        for fault in moments {
            let walk = WorkflowFixture::clocks().await;
            walk.set(days(60));
            walk.set_at(fault, noon());
            let came = match &steady {
                Some(steady) => walk.run_by(Arc::clone(steady), RunOptions::default()).await,
                None => walk.run().await,
            };
            assert_eq!((came.code, walk.tags_left().len()), (3, 3), "{}", came.text);
            assert!(came.text.contains("refusal clock"), "{}", came.text);
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_set_while_it_removes_lets_no_further_removal_begin() {
    for later in [days(1), days(-1)] {
        let walk = WorkflowFixture::new().await;
        walk.settings("enforce", "concurrency = 1\n", "");
        walk.set_at(|set| Fault::on("manifests/candidate", set).method(Method::DELETE).after(1), later);
        let came = walk.run_by(still(), RunOptions::default()).await;
        assert_eq!(came.code, 3, "{}", came.text);
        let mut labels = came.labels();
        labels.sort_unstable();
        assert_eq!(labels, ["done", "done", "refused", "refused"], "{}", came.text);
        assert_eq!(walk.remaining_tags().len(), 2);
        walk.audit(None).await;
        assert!(came.text.contains("was set"), "{}", came.text);
    }
}

/// A machine whose battery is dead shows some year of the past, and the registry on it, too.
#[tokio::test]
async fn a_time_before_what_the_state_knows_is_not_recorded() {
    // A registry that is not asked for its repositories tells its time only with their tags.
    let cases = [(true, ""), (false, ""), (true, LISTED), (false, LISTED)];
    for (registry_is_right, lines) in cases {
        let walk = WorkflowFixture::clocks().await;
        walk.settings("enforce", lines, "");
        assert_eq!(walk.run().await.code, 0);
        // Not remembered, because what the first run removed is to be audited, too.
        walk.registry.put_image("shop/api", "new", &image("copied", 300));
        let past = days(-3000);
        walk.set(past);
        walk.registry_says(if registry_is_right { noon() } else { past });
        let plan = walk.plan().await;
        assert!(
            plan.registries[0]
                .clock
                .as_ref()
                .is_some_and(|words| words.contains(" behind ") || words.contains("ahead of")),
            "{:?}",
            plan.registries[0].clock
        );

        // The clock is right again: the tag is as young as its first sight under it.
        walk.set(days(1));
        walk.registry_says(days(1));
        let came = walk.run_by(still(), RunOptions::default()).await;
        assert_eq!(came.code, 0, "{}", came.text);
        walk.audit(None).await;
        assert_eq!(walk.first_seen("new").await, Some(days(1)));
        assert!(walk.tags_left().contains(&"shop/api:new".to_owned()));
    }
}

/// What a clock recorded that was ahead is corrected once a registry confirms the time.
#[tokio::test]
async fn a_run_dated_in_the_future_is_neither_the_newest_for_ever_nor_the_measure() {
    let walk = WorkflowFixture::clocks().await;
    assert_eq!(walk.run().await.code, 0);
    walk.set(days(800));
    walk.try_plan().await.unwrap();
    walk.set(days(1));
    walk.registry_says(days(1));
    let last = walk.run_by(still(), RunOptions::default()).await;
    assert_eq!(last.code, 0, "{}", last.text);
    // Two runs removed, and no plan lists the removals of both.
    walk.audit(None).await;
    let app = walk.open().await.unwrap();
    let runs = app.store.runs(10).await.unwrap();
    let times: Vec<_> = runs.iter().map(|record| record.run.started_at).collect();
    assert_eq!(times, [days(1), days(800), noon()], "in the order in which they were recorded");
    let newest = app.store.newest_time().await.unwrap();
    assert_eq!((newest.confirmed, newest.recorded.map(|time| time >= days(800))), (Some(days(1)), Some(true)));
    app.close().await;
}

/// Old runs go by a time that a registry confirms, and never by another.
#[tokio::test]
async fn nothing_is_forgotten_by_a_clock_that_nobody_confirms() {
    let walk = WorkflowFixture::new().await;
    walk.settings("enforce", "", "");
    assert_eq!(walk.run().await.code, 0);
    let removed = walk.journal().await.len();
    assert!(removed >= 4);

    walk.registry_says(noon());
    walk.set(days(800));
    let tidy = || RunOptions { prune: true, ..RunOptions::default() };
    let came = walk.run_by(still(), tidy()).await;
    assert_eq!(came.result.unwrap().forgotten, None);
    assert_eq!(walk.journal().await.len(), removed);

    walk.registry_says(days(800));
    let came = walk.run_by(still(), tidy()).await;
    let forgotten = came.result.unwrap().forgotten.unwrap();
    assert_eq!((forgotten.entries, walk.journal().await.len()), (removed as u64, 0));
    assert!(forgotten.runs >= 1 && forgotten.plans >= 1 && forgotten.manifests >= 1, "{forgotten:?}");
    let app = walk.open().await.unwrap();
    let last = app.store.runs(1).await.unwrap().remove(0);
    app.close().await;
    let summary: serde_json::Value = serde_json::from_str(&last.end.unwrap().summary).unwrap();
    assert_eq!(summary["pruned"]["journal_entries"], removed);
}

/// A machine and a registry on it that were both wrong: only a person can say which time is right.
#[tokio::test]
async fn a_newest_time_that_is_wrong_is_corrected_by_a_person() {
    let walk = WorkflowFixture::clocks().await;
    walk.set(days(800));
    walk.registry_says(days(800));
    walk.try_plan().await.unwrap();
    walk.set(noon());
    walk.registry_says(noon());
    let came = walk.run().await;
    assert_eq!((came.code, walk.tags_left().len()), (3, 3), "{}", came.text);
    assert!(came.text.contains("tagwarden state accept-clock"), "{}", came.text);
    let app = walk.open().await.unwrap();
    app.store.accept_time(noon(), "anna@build-7", "the host's battery was dead").await.unwrap();
    app.close().await;
    let came = walk.run().await;
    assert_eq!((came.code, walk.tags_left().len()), (0, 2), "{}", came.text);
}

/// Passes requests on, one on each connection, and puts another `Date`, or none, into the answers.
async fn with_date(registry: String, date: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass_on(client, registry.clone(), date));
        }
    });
    format!("http://{address}")
}

async fn pass_on(mut client: TcpStream, registry: String, date: Option<&'static str>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else { return };
        request.push(byte);
    }
    let request = String::from_utf8(request).unwrap().replacen("\r\n", "\r\nconnection: close\r\n", 1);
    let mut server = TcpStream::connect(registry).await.unwrap();
    server.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 2;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let kept = head.split_inclusive("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("date:"));
    let date = date.map(|date| format!("date: {date}\r\n"));
    client.write_all(kept.map(str::to_owned).chain(date).collect::<String>().as_bytes()).await.unwrap();
    client.write_all(&answer[end..]).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_does_not_tell_its_time_needs_a_persons_word() {
    let walk = WorkflowFixture::clocks().await;
    let host = || walk.registry.host().to_owned();
    let (proxy, garbling) = (with_date(host(), None).await, with_date(host(), Some("garbage")).await);
    let through = |proxy: &str, lines: &str| {
        walk.settings("enforce", lines, "");
        let text = fs::read_to_string(walk.path("tagwarden.toml")).unwrap();
        fs::write(walk.path("tagwarden.toml"), text.replace(&walk.registry.url(), proxy)).unwrap();
    };
    for (proxy, words) in
        [(garbling.as_str(), "it sends an invalid `Date` header"), (proxy.as_str(), "it sends no `Date` header")]
    {
        through(proxy, "");
        let came = walk.run().await;
        assert_eq!((came.code, walk.tags_left().len()), (3, 3), "{}", came.text);
        assert!(came.text.contains(words), "{}", came.text);
    }
    let settings = |lines: &str| through(proxy.as_str(), lines);
    walk.put("shop/api", "copied", &image("copied", 300));
    assert_eq!(walk.first_seen("copied").await, Some(noon()), "its sights are recorded");

    settings("accept = [\"no-date\"]\n");
    walk.set(days(-1));
    let came = walk.run().await;
    assert_eq!((came.code, walk.tags_left().len()), (3, 4), "the state knows a later time: {}", came.text);
    walk.set(days(1));
    let came = walk.run().await;
    assert_eq!(came.code, 0, "{}", came.text);
    assert_eq!(walk.tags_left(), ["shop/api:copied", "shop/api:day-1", "shop/api:day-2"]);
}

/// Time that passes while it reads, as on a machine that sleeps, is no doubt: both clocks count it.
#[tokio::test]
async fn time_that_really_passes_is_no_doubt() {
    let walk = WorkflowFixture::new().await;
    walk.settings("enforce", "", "");
    let passed = Arc::new(AtomicU64::new(0));
    let (now, counted) = (Arc::clone(&walk.now), Arc::clone(&passed));
    let pass = FaultKind::BeforeRequest(Arc::new(move |_| {
        *now.lock().unwrap() += 100.seconds();
        counted.fetch_add(100, Ordering::Relaxed);
    }));
    walk.registry_says(noon());
    walk.registry.inject(Fault::on("manifests/candidate", pass).method(Method::DELETE));
    let steady: MonotonicClock = Arc::new(move || Duration::from_secs(passed.load(Ordering::Relaxed)));
    let came = walk.run_by(steady, RunOptions::default()).await;
    assert_eq!((came.code, walk.remaining_tags().len()), (0, 0), "{}", came.text);
}
