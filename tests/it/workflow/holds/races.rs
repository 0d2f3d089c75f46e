//! Holds and restores while a run removes.

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::domain::{Hold, HoldOrigin};
use tagwarden::state::{Lease, StateErrorKind};
use tagwarden::workflow::{HoldRequest, HoldUntil, StopResult};

use super::*;

/// A registry that removes slowly, one after the other, with so many builds beyond the newest five.
async fn slow(on: RegistryKind) -> WorkflowFixture {
    let walk = ten_with(on, NEWEST, "").await;
    for number in 10..40 {
        let tag = format!("b-{number}");
        match on {
            RegistryKind::Acr => walk.push(&tag, 100 + number),
            RegistryKind::Plain => walk.put("shop/api", &tag, &image(&tag, 100 + number)),
        }
    }
    if on == RegistryKind::Plain {
        walk.settings("enforce", "concurrency = 1", "");
    }
    let delay = FaultKind::Delay(Duration::from_millis(20));
    walk.registry.inject(Fault::on("b-", delay).method(Method::DELETE));
    walk
}

impl WorkflowFixture {
    /// Waits until so many removals were asked for.
    async fn removals(&self, number: usize) {
        let asked = || {
            self.registry
                .requests()
                .iter()
                .filter(|one| one.method == Method::DELETE && ["b-", "c-"].iter().any(|part| one.path.contains(part)))
                .count()
        };
        while asked() < number {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// The state's part alone: the run is not asked to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_that_is_set_while_a_run_removes_is_honoured() {
    for on in BOTH {
        let walk = slow(on).await;
        let app = walk.open().await.unwrap();
        let setting = async {
            walk.removals(2).await;
            let left = walk.builds();
            // The last that would be removed, and its image under another name.
            let tag = left.iter().rfind(|tag| tag.as_str() > "b-10" && tag.len() == 4).unwrap().clone();
            let hold = Hold {
                registry: "main".parse().unwrap(),
                endpoint: walk.registry.url().trim_end_matches('/').into(),
                repository: "shop/api".parse().unwrap(),
                tag: tag.parse().unwrap(),
                digest: None,
                reason: "incident".into(),
                by: "ada@here".into(),
                since: noon(),
                until: noon() + 1.hours(),
                origin: HoldOrigin::Person,
            };
            let other = walk.open().await.unwrap();
            assert!(other.store.hold(&hold).await.unwrap());
            other.close().await;
            tag
        };
        let (ended, tag) = tokio::join!(app.run(&()), setting);
        app.close().await;
        walk.audit(None).await;
        let came = StepResult::from_result(ended);
        assert_eq!(came.code, 0, "{}", came.text);
        assert_eq!(came.tags[&format!("shop/api:{tag}")], "held", "{on:?} {}", came.text);
        assert!(came.text.contains("ada@here holds tag"), "{}", came.text);
        assert!(walk.builds().contains(&tag));
        assert_eq!(came.tags.values().filter(|label| *label == "done").count(), came.tags.len() - 1, "{}", came.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restore_and_hold_stop_a_run_before_its_next_removal() {
    for on in BOTH {
        for restores in [true, false] {
            let walk = ten(on, NEWEST).await;
            let before = walk.before.lock().unwrap().clone();
            let earlier = walk.run_enforcing().await.run_id();
            // A policy of their own expires them: a tag that a plain registry shows later is as young as its first sight.
            let others = "  - { name: others, select: { tags: [\"c-*\"] }, keep: none, mode: enforce }\n";
            walk.policies(&format!("{NEWEST}{others}"));
            for number in 10..40 {
                let tag = format!("c-{number}");
                match on {
                    RegistryKind::Acr => walk.push(&tag, 100 + number),
                    RegistryKind::Plain => walk.put("shop/api", &tag, &image(&tag, 100 + number)),
                }
            }
            // A push has the walk forget what is gone already.
            walk.before.lock().unwrap().extend(before);
            // Long enough for the other to open the state meanwhile, also on a busy machine.
            let delay = FaultKind::Delay(Duration::from_millis(100));
            walk.registry.inject(Fault::on("c-", delay).method(Method::DELETE));
            if on == RegistryKind::Plain {
                walk.settings("enforce", "concurrency = 1", "");
            }
            walk.registry.clear_requests();
            let app = walk.open().await.unwrap();
            let other = async {
                walk.removals(2).await;
                if restores {
                    let restored = walk.restore(&earlier).await.unwrap();
                    assert_eq!(restored.outcome().exit_code(), 0, "{restored:?}");
                } else {
                    let set = walk.hold("main/shop/api:b-9", 24).await.unwrap();
                    let StopResult::Stopped(holder) = &set.stop_result else { panic!("{:?}", set.stop_result) };
                    assert!(holder.starts_with("run by tester@here"), "{holder}");
                }
            };
            let run = async {
                let ended = app.run(&()).await;
                app.close().await;
                ended
            };
            let (ended, ()) = tokio::join!(run, other);
            let came = StepResult::from_result(ended);
            let by = came.result.as_ref().unwrap().interrupted_by.clone().unwrap();
            let what = if restores { "`tagwarden restore` of tester@here" } else { "`tagwarden hold` of tester@here" };
            assert_eq!((came.code, &*by), (1, what), "{}", came.text);
            let count = |label: &str| came.tags.values().filter(|found| *found == label).count();
            assert!(count("done") >= 2 && count("interrupted") > 0, "{}", came.text);
            assert_eq!(count("done") + count("interrupted"), came.tags.len(), "{}", came.text);
            let all = if restores { builds(0..10) } else { builds(5..10) };
            assert!(walk.builds().is_superset(&all), "{:?}", walk.builds());

            // The next run goes on as if nothing had been.
            let next = walk.run_enforcing().await;
            assert_eq!((next.code, walk.builds()), (0, all), "{on:?} {}", next.text);
            let recorded = walk.open().await.unwrap();
            let runs = recorded.store.runs(10).await.unwrap();
            recorded.close().await;
            let ends: Vec<_> = runs.iter().filter_map(|record| record.end.as_ref()?.error.clone()).collect();
            assert_eq!(ends, [format!("interrupted by {what}")]);
        }
    }
}

#[tokio::test]
async fn whoever_does_not_stop_is_waited_for_only_so_long() {
    let walk = ten(RegistryKind::Plain, NEWEST).await;
    let run = walk.run_enforcing().await.run_id();
    let lease = Lease::take(&walk.path("tagwarden.db"), "run by somebody@else").unwrap();
    let mut app = walk.open().await.unwrap();
    app.stop_timeout = Duration::from_millis(1);
    let error = app.restore_run(&run).await.unwrap_err();
    assert!(matches!(&error, RunError::Store(error) if error.kind == StateErrorKind::Leased), "{error}");
    assert_eq!(error.exit_code(), 3);
    let request = HoldRequest {
        image: "main/shop/api:b-9".into(),
        until: HoldUntil::For(Duration::from_hours(1)),
        reason: "incident".into(),
        allow_missing: false,
    };
    let set = app.hold(&request).await.unwrap();
    assert_eq!(set.stop_result, StopResult::StillRunning("run by somebody@else".into()));
    drop(lease);
    // Nobody asks for anything any more.
    assert_eq!(app.store.stop_request(noon()).await.unwrap(), None);
    app.close().await;
    assert_eq!(walk.run_enforcing().await.code, 0);
}
