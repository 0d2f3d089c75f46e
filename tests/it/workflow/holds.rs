//! Holds, original times of restored tags, and commands that interrupt a running enforcement.

mod races;

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use jiff::SignedDuration;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::domain::{Hold, HoldOrigin, SkipReason};
use tagwarden::workflow::{HoldRequest, HoldResult, HoldUntil, RestoreSelection, StopResult};

use super::crash::{command, ended};
use super::*;

const NEWEST: &str =
    "policies:\n  - name: builds\n    select: { tags: [\"b-*\"] }\n    keep: [{ newest: 5 }]\n    mode: enforce\n";
const WITHIN: &str = "policies:\n  - name: builds\n    select: { tags: [\"b-*\"] }\n    keep: [{ within: 20d 12h }]\n    mode: enforce\n";
const DAILY: &str =
    "policies:\n  - name: builds\n    select: { tags: [\"b-*\"] }\n    keep: [{ daily: 4 }]\n    mode: enforce\n";

/// The registries on which every example is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RegistryKind {
    Acr,
    /// Plain OCI: no push times.
    Plain,
}

const BOTH: [RegistryKind; 2] = [RegistryKind::Acr, RegistryKind::Plain];

/// Ten builds, `b-0` the oldest, a day apart; the newest is fifteen days old.
async fn ten(on: RegistryKind, policies: &str) -> WorkflowFixture {
    ten_with(on, policies, "").await
}

async fn ten_with(on: RegistryKind, policies: &str, registry_lines: &str) -> WorkflowFixture {
    let walk = match on {
        RegistryKind::Acr => WorkflowFixture::azure(|options| options).await,
        RegistryKind::Plain => WorkflowFixture::with(Options::default(), "").await,
    };
    for number in 0..10 {
        let (tag, days) = (format!("b-{number}"), 24 - number);
        match on {
            RegistryKind::Acr => walk.push(&tag, days),
            RegistryKind::Plain => walk.put("shop/api", &tag, &image(&tag, days)),
        }
    }
    walk.policies(policies);
    walk.settings("enforce", registry_lines, "");
    walk
}

fn builds(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<String> {
    numbers.into_iter().map(|number| format!("b-{number}")).collect()
}

impl WorkflowFixture {
    /// One run that enforces, and the books.
    async fn run_enforcing(&self) -> StepResult {
        let app = self.open().await.unwrap();
        let ended = app.run(&()).await;
        app.close().await;
        self.audit(None).await;
        StepResult::from_result(ended)
    }

    fn builds(&self) -> BTreeSet<String> {
        self.registry.tags("shop/api").into_keys().filter(|tag| tag.starts_with("b-")).collect()
    }

    async fn restore_what(
        &self,
        what: &RestoreSelection,
        hold: Option<Duration>,
    ) -> Result<RestoreRunResult, RunError> {
        let app = self.open().await?;
        let ended = app.restore_with_hold(what, hold).await;
        app.close().await;
        ended
    }

    async fn hold(&self, image: &str, hours: u64) -> Result<HoldResult, RunError> {
        let app = self.open().await?;
        let until = HoldUntil::For(Duration::from_hours(hours));
        let request =
            HoldRequest { image: image.to_owned(), until, reason: "incident 42".into(), allow_missing: false };
        let set = app.hold(&request).await;
        app.close().await;
        set
    }

    async fn holds(&self) -> Vec<Hold> {
        let app = self.open().await.unwrap();
        let holds = app.holds().await.unwrap();
        app.close().await;
        holds
    }

    async fn held(&self) -> BTreeSet<String> {
        self.holds().await.iter().map(|hold| hold.tag.to_string()).collect()
    }

    /// The kinds of reasons of a tag that stays by a plan.
    async fn kinds(&self, tag: &str) -> Vec<&'static str> {
        let plan = self.plan().await;
        let kept = plan.kept.iter().find(|kept| kept.tag == tag);
        kept.map(|kept| kept.reasons.iter().map(report::ReasonView::kind).collect()).unwrap_or_default()
    }
}

#[tokio::test]
async fn the_next_run_leaves_alone_what_a_restore_put_back_and_what_is_newer() {
    for on in BOTH {
        for (policies, gone) in [(NEWEST, builds(0..5)), (WITHIN, builds(0..4)), (DAILY, builds(0..6))] {
            let walk = ten(on, policies).await;
            let first = walk.run_enforcing().await;
            let left: BTreeSet<String> = builds(0..10).difference(&gone).cloned().collect();
            assert_eq!((first.code, walk.builds()), (0, left.clone()), "{on:?} {policies} {}", first.text);
            walk.advance_clock(1);
            let restored = walk.restore(&first.run_id()).await.unwrap();
            assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
            assert_eq!(walk.held().await, gone, "{on:?} {policies}");
            for hours in [1, 2] {
                walk.advance_clock(hours);
                let again = walk.run_enforcing().await;
                assert_eq!((again.code, again.tags.len()), (0, 0), "{on:?} {policies} {}", again.text);
                assert_eq!(walk.builds(), builds(0..10), "{on:?} {policies}");
            }
            assert!(walk.kinds("b-0").await.contains(&"held"), "{on:?}");

            // The hold is over: exactly the same go, not the newest.
            walk.advance_clock(14 * 24);
            assert_eq!(walk.held().await, builds([]));
            if policies != WITHIN {
                let last = walk.run_enforcing().await;
                assert_eq!((last.code, walk.builds()), (0, left), "{on:?} {policies} {}", last.text);
            }
        }
    }
}

#[tokio::test]
async fn one_restored_tag_has_no_other_removed_in_its_place() {
    for on in BOTH {
        let walk = ten(on, NEWEST).await;
        walk.run_enforcing().await;
        walk.advance_clock(1);
        let image = RestoreSelection::Image("main/shop/api:b-2".into());
        walk.restore_what(&image, Some(Duration::from_hours(48))).await.unwrap();
        let holds = walk.holds().await;
        assert_eq!((holds.len(), holds[0].origin, holds[0].until), (1, HoldOrigin::Restore, noon() + 49.hours()));
        let all: BTreeSet<String> = builds(5..10).union(&builds([2])).cloned().collect();
        walk.advance_clock(1);
        let came = walk.run_enforcing().await;
        assert_eq!((came.tags.len(), walk.builds()), (0, all), "{on:?} {}", came.text);
        // It counts by its original time, and says so.
        let plan = walk.plan().await;
        let kept = plan.kept.iter().find(|kept| kept.tag == "b-2").unwrap().into_owned();
        assert_eq!((&*kept.verdict, &*kept.dated_by), ("protected", "original"), "{kept:?}");
        assert_eq!(kept.dated_at, Some(noon() - SignedDuration::from_hours(22 * 24)), "{on:?}");
        let words = report::explanation(&plan, "main", "shop/api", "b-2").unwrap();
        assert!(words.contains("its original time, from before it was restored"), "{words}");
        assert!(words.contains("held until 2026-11-22 13:00 UTC by tester@here: restored in run"), "{words}");
    }
}

#[tokio::test]
async fn without_a_hold_only_what_was_removed_before_is_removed_again() {
    for on in BOTH {
        let walk = ten(on, NEWEST).await;
        let run = walk.run_enforcing().await.run_id();
        walk.advance_clock(1);
        walk.restore_what(&RestoreSelection::Run(run), None).await.unwrap();
        assert!(walk.holds().await.is_empty());
        walk.advance_clock(1);
        let again = walk.run_enforcing().await;
        assert_eq!(walk.builds(), builds(5..10), "{on:?} {}", again.text);
    }
}

#[tokio::test]
async fn a_push_after_the_restore_counts_by_itself() {
    for on in BOTH {
        for same in [true, false] {
            if on == RegistryKind::Plain && same {
                // Nobody can see it: the registry has no push times.
                continue;
            }
            let walk = ten(on, NEWEST).await;
            let run = walk.run_enforcing().await.run_id();
            walk.advance_clock(1);
            walk.restore_what(&RestoreSelection::Run(run), None).await.unwrap();
            walk.advance_clock(1);
            assert_eq!(walk.plan().await.removals.len(), 5);
            walk.advance_clock(1);
            let pushed = if same { image("b-0", 24) } else { image("b-0 anew", 0) };
            walk.put("shop/api", "b-0", &pushed);
            walk.advance_clock(1);
            let plan = walk.plan().await;
            let going: BTreeSet<String> = plan.removals.iter().map(|removal| removal.tag.clone()).collect();
            assert_eq!(going, builds(1..6), "{on:?} {same}: it is the newest, and b-5 is no longer one of five");
            let kept = plan.kept.iter().find(|kept| kept.tag == "b-0").unwrap().into_owned();
            assert_ne!(kept.dated_by, "original");
        }
    }
}

#[tokio::test]
async fn a_tag_that_came_back_by_other_hands_is_not_the_restored_one() {
    let walk = ten(RegistryKind::Plain, NEWEST).await;
    let run = walk.run_enforcing().await.run_id();
    walk.advance_clock(1);
    walk.restore_what(&RestoreSelection::Run(run), None).await.unwrap();
    walk.plan().await;
    walk.advance_clock(1);
    // Removed by hand, seen to be gone, pushed again.
    assert!(walk.registry.content(|content| content.delete_tag("shop/api", "b-1")));
    walk.plan().await;
    walk.advance_clock(1);
    walk.put("shop/api", "b-1", &image("b-1", 23));
    let plan = walk.plan().await;
    let kept = plan.kept.iter().find(|kept| kept.tag == "b-1").unwrap().into_owned();
    assert_eq!(kept.dated_by, "first-seen");
}

#[tokio::test]
async fn entries_of_an_older_version_make_restored_tags_undated() {
    for on in BOTH {
        let walk = ten(on, NEWEST).await;
        let run = walk.run_enforcing().await.run_id();
        sql(&walk, "UPDATE journal SET endpoint = NULL, dated_at = NULL, dated_by = NULL").await;
        walk.advance_clock(1);
        walk.restore_what(&RestoreSelection::Run(run), None).await.unwrap();
        walk.advance_clock(1);
        let came = walk.run_enforcing().await;
        assert_eq!((came.tags.len(), walk.builds()), (0, builds(0..10)), "{on:?} {}", came.text);
        let plan = walk.plan().await;
        let kept = plan.kept.iter().find(|kept| kept.tag == "b-0").unwrap().into_owned();
        assert_eq!((&*kept.verdict, kept.dated_at), ("retained", None));
        assert!(kept.reasons.iter().any(|reason| reason.sentence().contains("it was restored")), "{kept:?}");
    }
}

async fn sql(walk: &WorkflowFixture, statement: &'static str) {
    use sqlx::{ConnectOptions as _, Connection as _};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(walk.path("tagwarden.db"));
    let mut connection = options.connect().await.unwrap();
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_hold_covers_the_tag_and_its_digest_and_drift_is_reported() {
    for on in BOTH {
        for lines in ["", "removal = \"manifest\""] {
            if on == RegistryKind::Acr && !lines.is_empty() {
                // Azure can untag, so the settings are invalid.
                continue;
            }
            let walk = ten_with(on, NEWEST, lines).await;
            let set = walk.hold("main/shop/api:b-0", 14 * 24).await.unwrap();
            assert_eq!((set.is_earlier, &set.stop_result), (false, &StopResult::NotRunning));
            // Somebody moves the tag, and gives the image another one.
            let held = walk.digest("shop/api", "b-0");
            let other = walk.digest("shop/api", "b-9");
            walk.registry.content(|content| {
                assert!(content.move_tag("shop/api", "b-x", &held));
                assert!(content.move_tag("shop/api", "b-0", &other));
                let then = content.now() - SignedDuration::from_hours(24 * 30);
                let _ = content.date_tag("shop/api", "b-x", then, then);
                let _ = content.date_tag("shop/api", "b-0", then, then);
            });
            walk.snapshot_tags();
            let plan = walk.plan().await;
            let reasons = |tag: &str| {
                let kept = plan.kept.iter().find(|kept| kept.tag == tag).unwrap_or_else(|| panic!("{tag} goes"));
                kept.reasons.iter().map(report::ReasonView::sentence).collect::<Vec<_>>().join("; ")
            };
            assert!(reasons("b-0").contains("DRIFT: the tag was at"), "{}", reasons("b-0"));
            assert!(reasons("b-x").contains("its image is held until"), "{}", reasons("b-x"));
            assert_eq!(plan.drift.len(), 1, "{:?}", plan.drift);
            assert!(plan.findings.iter().any(|found| found.kind == "drift" && found.message.contains("incident 42")));
            let came = walk.run_enforcing().await;
            assert!(!came.tags.is_empty(), "{}", came.text);
            let left = walk.builds();
            assert!(left.contains("b-0") && left.contains("b-x"), "{on:?} {lines} {left:?}");
        }
    }
}

#[tokio::test]
async fn a_hold_is_looked_up_renewed_and_ended() {
    let walk = ten(RegistryKind::Plain, NEWEST).await;
    let error = walk.hold("main/shop/api:b-77", 1).await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("no such tag") && error.to_string().contains("--anyway"), "{error}");
    assert!(walk.holds().await.is_empty(), "nothing is held by a typing error");
    assert_eq!(walk.hold("elsewhere.example/shop/api:b-1", 1).await.unwrap_err().exit_code(), 2);

    let app = walk.open().await.unwrap();
    let request = |hours, reason: &str, anyway| HoldRequest {
        image: "main/shop/api:b-1".into(),
        until: HoldUntil::For(Duration::from_hours(hours)),
        reason: reason.into(),
        allow_missing: anyway,
    };
    let first = app.hold(&request(48, "first", false)).await.unwrap();
    let longer = app.hold(&request(72, "second", false)).await.unwrap();
    let shorter = app.hold(&request(1, "third", false)).await.unwrap();
    assert_eq!([first.is_earlier, longer.is_earlier, shorter.is_earlier], [false, false, true]);
    let holds = app.holds().await.unwrap();
    assert_eq!((holds.len(), &*holds[0].reason, holds[0].until), (1, "second", noon() + 72.hours()));
    assert_eq!(shorter.hold, holds[0], "a hold is never shortened");
    let past = HoldRequest { until: HoldUntil::At(noon()), ..request(1, "past", false) };
    assert_eq!(app.hold(&past).await.unwrap_err().exit_code(), 2);

    let missing = HoldRequest { image: "main/shop/api:to-come".into(), ..request(1, "soon", true) };
    assert_eq!(app.hold(&missing).await.unwrap().hold.digest, None);
    assert_eq!(app.unhold("main/shop/api:b-1").await.unwrap(), ("main/shop/api:b-1".into(), 1));
    assert_eq!(app.unhold("main/shop/api:b-1").await.unwrap_err().exit_code(), 2);
    app.close().await;
    assert_eq!(walk.held().await, BTreeSet::from(["to-come".to_owned()]));
    walk.advance_clock(2);
    assert!(walk.holds().await.is_empty(), "it is over");
    let came = walk.run_enforcing().await;
    assert_eq!((came.code, walk.builds()), (0, builds(5..10)), "{}", came.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_the_state_and_the_put_nothing_is_lost() {
    for on in BOTH {
        let walk = ten(on, NEWEST).await;
        walk.real_time();
        let run = walk.run_enforcing().await.run_id();
        // The first put never comes to its end.
        let put = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&put);
        let noted = FaultKind::before_request(move |_| seen.store(true, Ordering::SeqCst));
        walk.registry.inject(Fault::on("/manifests/b-", noted).method(Method::PUT).times(1));
        let slow = FaultKind::Delay(Duration::from_mins(10));
        walk.registry.inject(Fault::on("/manifests/b-", slow).method(Method::PUT).times(1));
        let mut restore = command(&walk, &["restore", "--run", &run]);
        // One after the other, so that nothing else is put meanwhile.
        restore.env("TAGWARDEN__REGISTRIES__MAIN__CONCURRENCY", "1").stdout(Stdio::null());
        let mut child = restore.spawn().unwrap();
        while !put.load(Ordering::SeqCst) {
            assert!(child.try_wait().unwrap().is_none());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        child.kill().unwrap();
        ended(&mut child).await;
        walk.registry.clear_faults();
        assert_eq!(walk.held().await.len(), 1, "the hold is there before the tag");
        // The put was done all the same, after all.
        let tag = walk.held().await.pop_first().unwrap();
        let digest = walk.digest("shop/api", &tag);
        walk.registry.content(|content| assert!(content.move_tag("shop/api", &tag, &digest)));
        walk.advance_clock(1);
        let came = walk.run_enforcing().await;
        assert_eq!((came.code, came.tags.len()), (0, 0), "{on:?} {}", came.text);
        let plan = walk.plan().await;
        let kept = plan.kept.iter().find(|kept| kept.tag == tag).unwrap().into_owned();
        assert_eq!((&*kept.verdict, &*kept.dated_by), ("protected", "original"), "{on:?} {kept:?}");
        let again = walk.restore(&run).await.unwrap();
        assert_eq!((again.outcome().exit_code(), walk.builds()), (0, builds(0..10)), "{again:?}");
        let last = walk.run_enforcing().await;
        assert_eq!((last.tags.len(), walk.builds()), (0, builds(0..10)), "{on:?} {}", last.text);
        assert_eq!(walk.held().await, builds(0..5));
    }
}

#[tokio::test]
async fn a_restore_that_fails_leaves_neither_hold_nor_time() {
    let walk = ten(RegistryKind::Acr, NEWEST).await;
    let run = walk.run_enforcing().await.run_id();
    walk.registry.inject(Fault::on("/manifests/b-0", FaultKind::status(400)).method(Method::PUT));
    let restored = walk.restore(&run).await.unwrap();
    assert_eq!(restored.outcome().exit_code(), 4);
    assert_eq!(walk.held().await, builds(1..5));
    walk.registry.clear_faults();
    walk.advance_clock(1);
    walk.put("shop/api", "b-0", &image("b-0", 24));
    let plan = walk.plan().await;
    let kept = plan.kept.iter().find(|kept| kept.tag == "b-0").unwrap().into_owned();
    assert_eq!(kept.dated_by, "pushed", "what a person pushed is new");
}

#[tokio::test]
async fn a_push_while_a_restore_prepares_is_not_overwritten() {
    for on in BOTH {
        let walk = ten(on, NEWEST).await;
        let run = walk.run_enforcing().await.run_id();
        let theirs = walk.digest("shop/api", "b-9");
        let to = theirs.clone();
        let push = FaultKind::before_request(move |content| assert!(content.move_tag("shop/api", "b-0", &to)));
        // The look at the tag, after everything that a put waits for.
        let path = if on == RegistryKind::Acr { "_tags/b-0" } else { "manifests/b-0" };
        walk.registry.inject(Fault::on(path, push).times(1));
        let restored = walk.restore(&run).await.unwrap();
        let b0 = restored.restored.iter().find(|one| one.intent.tag.as_str() == "b-0").unwrap();
        assert_eq!(b0.outcome, Outcome::Skipped(SkipReason::Moved { to: theirs.clone() }), "{on:?}");
        assert_eq!(walk.registry.tags("shop/api")["b-0"], theirs);
        assert_eq!(walk.held().await, builds(1..5), "what was not put back is not held");
    }
}

#[tokio::test]
async fn what_was_removed_from_another_registry_is_not_pushed_into_this_one() {
    for older in [false, true] {
        let walk = ten(RegistryKind::Plain, NEWEST).await;
        let run = walk.run_enforcing().await.run_id();
        if older {
            sql(&walk, "UPDATE journal SET endpoint = NULL, dated_at = NULL, dated_by = NULL").await;
        }
        walk.advance_clock(1);
        let other = EmbeddedRegistry::start(Options::default()).await.unwrap();
        for number in 0..10 {
            let tag = format!("b-{number}");
            other.put_image("shop/api", &tag, &image(&tag, 24 - number));
            assert!(number >= 5 || other.content(|content| content.delete_tag("shop/api", &tag)));
        }
        let settings = fs::read_to_string(walk.path("tagwarden.toml")).unwrap();
        fs::write(walk.path("tagwarden.toml"), settings.replace(&walk.registry.url(), &other.url())).unwrap();
        let restored = walk.restore(&run).await.unwrap();
        assert_eq!(restored.outcome().exit_code(), 4, "{restored:?}");
        assert!(
            restored
                .restored
                .iter()
                .all(|one| matches!(&one.outcome, Outcome::Failed(why) if why.contains("it is http")))
        );
        assert_eq!(other.tags("shop/api").len(), 5, "older: {older}");
        let image = RestoreSelection::Image("main/shop/api:b-0".into());
        assert_eq!(walk.restore_what(&image, None).await.unwrap().outcome().exit_code(), 4);
        let repository = RestoreSelection::Repository { name: "main/shop/api".into(), since: None };
        assert_eq!(walk.restore_what(&repository, None).await.unwrap_err().exit_code(), 2);
        assert_eq!(other.tags("shop/api").len(), 5);
        // A hold there is no hold here.
        fs::write(walk.path("tagwarden.toml"), &settings).unwrap();
        walk.hold("main/shop/api:b-5", 24).await.unwrap();
        fs::write(walk.path("tagwarden.toml"), settings.replace(&walk.registry.url(), &other.url())).unwrap();
        assert!(walk.plan().await.holds.is_empty());
        fs::write(walk.path("tagwarden.toml"), &settings).unwrap();
        assert_eq!(walk.plan().await.holds.len(), 1);
        if !older {
            assert_eq!(walk.restore(&run).await.unwrap().outcome().exit_code(), 0, "and back at home it works");
        }
    }
}
