//! Evidence that changes while a run removes.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;
use jiff::SignedDuration;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::domain::SkipReason;
use tagwarden::workflow::MonotonicClock;

use super::*;

const RECORDS: &str = "[sources.releases]\nkind = \"release-records\"\npaths = [\"releases/*.json\"]";

/// A change of a record while the registry removes.
pub(super) enum RecordChange {
    /// It is written, and names that image.
    Released(String),
    /// It is cut off.
    Broken,
    /// It is withdrawn.
    Withdrawn,
}

/// The seconds of the steady clock.
#[derive(Default)]
struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    fn clock(&self) -> MonotonicClock {
        let seconds = Arc::clone(&self.0);
        Arc::new(move || Duration::from_secs(1000 + seconds.load(Ordering::Relaxed)))
    }
}

impl WorkflowFixture {
    /// Release records as evidence, of which one names what no policy expires.
    pub(super) fn with_releases(&self, mode: &str, lines: &str) {
        self.settings(mode, lines, RECORDS);
        fs::create_dir(self.path("releases")).unwrap();
        let text = format!("{{\"image\": \"{}/shop/api:release-1\"}}", self.registry.host());
        fs::write(self.path("releases/a.json"), text).unwrap();
    }

    /// A change of one record, ready to be made.
    pub(super) fn change_of(&self, record: &str, meanwhile: RecordChange) -> impl Fn() + Send + Sync + use<> {
        let (path, host) = (self.path(&format!("releases/{record}.json")), self.registry.host().to_owned());
        move || match &meanwhile {
            RecordChange::Released(image) => fs::write(&path, format!("{{\"image\": \"{host}/{image}\"}}")).unwrap(),
            RecordChange::Broken => fs::write(&path, "{").unwrap(),
            RecordChange::Withdrawn => fs::remove_file(&path).unwrap(),
        }
    }

    /// Has a record change, and time pass by both clocks, at a removal, after so many others.
    fn at_removal(&self, after: usize, (seconds, clock): (u32, &ManualClock), record: &str, meanwhile: RecordChange) {
        let change = self.change_of(record, meanwhile);
        let (now, steady) = (Arc::clone(&self.now), Arc::clone(&clock.0));
        let fault = FaultKind::before_request(move |_| {
            change();
            *now.lock().unwrap() += SignedDuration::from_secs(seconds.into());
            steady.fetch_add(seconds.into(), Ordering::Relaxed);
        });
        self.registry.inject(Fault::on("/manifests/", fault).method(Method::DELETE).after(after).times(1));
    }

    async fn run_with(&self, clock: &ManualClock) -> StepResult {
        let app = self.open().await.unwrap().with_monotonic_clock(clock.clock());
        let ended = app.run(&()).await;
        app.close().await;
        self.audit(None).await;
        StepResult::from_result(ended)
    }

    async fn apply_with(&self, clock: &ManualClock, plan: &PlanDocument) -> StepResult {
        let app = self.open().await.unwrap().with_monotonic_clock(clock.clock());
        let ended = app.apply(&report::render(plan, Format::Json), &Approval::default(), &()).await;
        app.close().await;
        self.audit(Some(plan)).await;
        StepResult::from_result(ended)
    }

    /// The tag of [`GOING`] whose manifest is the last by its digest.
    fn last_by_digest(&self) -> &'static str {
        EXPIRED_TAGS.into_iter().max_by_key(|tag| self.digest("shop/api", tag)).unwrap()
    }
}

/// Those labels for [`GOING`], where all others are `done`.
fn labels(others: &[(&str, &'static str)]) -> Vec<&'static str> {
    let label = |tag: &str| others.iter().find(|(other, _)| *other == tag).map_or("done", |(_, label)| label);
    EXPIRED_TAGS.into_iter().map(label).collect()
}

/// The registry's settings, the tag that is released at the first removal, the seconds that this takes, and whether the
/// tag is kept: evidence counts for twenty seconds at least.
#[tokio::test]
async fn a_release_that_is_recorded_while_a_run_removes_protects() {
    type Row = (&'static str, fn(&WorkflowFixture) -> &'static str, u32, bool);
    let rows: [Row; 4] = [
        ("concurrency = 1", |_| "candidate-3", 20, false),
        ("concurrency = 1", |_| "candidate-3", 21, true),
        ("concurrency = 8", |_| "candidate-4", 21, true),
        ("removal = \"manifest\"\nconcurrency = 1", WorkflowFixture::last_by_digest, 21, true),
    ];
    for (lines, released, seconds, kept) in rows {
        let walk = WorkflowFixture::new().await;
        walk.with_releases("enforce", lines);
        let (clock, released) = (ManualClock::default(), released(&walk));
        walk.at_removal(0, (seconds, &clock), "b", RecordChange::Released(format!("shop/api:{released}")));
        let came = walk.run_with(&clock).await;
        let expected = if kept { labels(&[(released, "kept")]) } else { labels(&[]) };
        assert_eq!((came.code, came.labels()), (0, expected), "{lines} {seconds}: {}", came.text);
        assert_eq!(walk.remaining_tags(), if kept { vec![released] } else { Vec::new() }, "{lines} {seconds}");
        let words = format!("shop/api:{released} kept: it stays now: releases names this tag: release (");
        assert_eq!(came.text.contains(&words), kept, "{lines} {seconds}: {}", came.text);
        let skipped = walk.journal().await.into_iter().filter_map(|entry| {
            let Some((Outcome::Skipped(SkipReason::Kept(why)), _)) = entry.outcome else { return None };
            Some((entry.intent.tag.to_string(), why.contains("b.json")))
        });
        let expected = kept.then(|| (released.to_owned(), true));
        assert_eq!(skipped.collect::<Vec<_>>(), expected.into_iter().collect::<Vec<_>>(), "{lines} {seconds}");
    }
}

#[tokio::test]
async fn a_source_that_breaks_while_a_run_removes_keeps_the_rest() {
    let walk = WorkflowFixture::new().await;
    walk.with_releases("enforce", "concurrency = 1");
    let clock = ManualClock::default();
    walk.at_removal(0, (30, &clock), "a", RecordChange::Broken);
    let came = walk.run_with(&clock).await;
    assert_eq!((came.code, came.labels()), (5, vec!["done", "kept", "kept", "kept"]), "{}", came.text);
    assert!(came.text.contains("source releases failed and could have protected it"), "{}", came.text);
    assert_eq!(walk.last_run().await, (RunKind::Run, "evidence-missing".to_owned(), 5));
    let ended = came.result.unwrap();
    let [lost] = &ended.failed_sources[..] else { panic!("{:?}", ended.failed_sources) };
    assert!(lost.message.starts_with("source releases failed while the run removed: "), "{lost:?}");
    assert_eq!((&*lost.kind, ended.attention().first()), ("source-failed", Some(lost)));
}

/// A record that is there for a minute counts for the rest of the run.
#[tokio::test]
async fn what_one_gathering_keeps_stays_whatever_a_later_one_says() {
    let walk = WorkflowFixture::new().await;
    for number in 1..=3 {
        let image = image(&format!("web-{number}"), 90 - number);
        walk.put("shop/web", &format!("candidate-{number}"), &image);
    }
    walk.with_releases("enforce", "concurrency = 1");
    let clock = ManualClock::default();
    walk.at_removal(0, (30, &clock), "b", RecordChange::Released("shop/web:candidate-1".to_owned()));
    walk.at_removal(1, (30, &clock), "b", RecordChange::Withdrawn);
    let came = walk.run_with(&clock).await;
    assert_eq!((came.code, came.labels()), (0, labels(&[])), "{}", came.text);
    assert_eq!(came.tags["shop/web:candidate-1"], "kept", "{}", came.text);
}

/// What happens at the first removal by an approved plan, the exit code, and what came of each of [`GOING`].
#[tokio::test]
async fn a_plan_is_applied_by_the_evidence_of_each_removal() {
    let rows = [
        ("b", RecordChange::Released("shop/api:candidate-3".to_owned()), 0, labels(&[("candidate-3", "kept")])),
        ("a", RecordChange::Broken, 5, vec!["done", "kept", "kept", "kept"]),
        // What is said of others changes nothing.
        ("b", RecordChange::Released("shop/other:candidate-3".to_owned()), 0, labels(&[])),
    ];
    for (record, meanwhile, code, expected) in rows {
        let walk = WorkflowFixture::new().await;
        walk.with_releases("approved", "concurrency = 1");
        let plan = walk.plan().await;
        let clock = ManualClock::default();
        walk.at_removal(0, (30, &clock), record, meanwhile);
        let came = walk.apply_with(&clock, &plan).await;
        assert_eq!((came.code, came.labels()), (code, expected), "{}", came.text);
        assert_eq!(came.result.unwrap().failed_sources.len(), usize::from(code == 5));
    }
}
