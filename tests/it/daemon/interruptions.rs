//! Commands that ask the daemon's run to stop.

use std::time::Duration;

use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::registry::RetryPolicy;
use tagwarden::report::{RunSummary, run_attention};
use tagwarden::workflow::{self, App, HoldRequest, HoldUntil, StopResult};
use tokio::sync::watch;

use super::event_loop::{DaemonFixture, image};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_interrupted_ends_and_the_next_one_works() {
    let world = DaemonFixture::new("cron = \"0 3 * * *\"").await;
    for number in 7..100 {
        let tag = format!("candidate-{number}");
        world.registry.put_image("shop/api", &tag, &image(&tag, 100 + number));
    }
    let slow = FaultKind::Delay(Duration::from_millis(50));
    world.registry.inject(Fault::on("manifests/candidate", slow).method(Method::DELETE));
    let alive = world.start_daemon().await;
    world.set_time("2026-11-20T03:00:30Z");
    let holding = async {
        let deletions = || world.registry.requests().iter().filter(|one| one.method == Method::DELETE).count();
        while deletions() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }

        let start = world.options();
        let loaded = workflow::load(&start.file, std::iter::empty()).unwrap();
        let (_signal, signals) = watch::channel(false);
        let app =
            App::open_with(loaded, "ada@here".into(), start.clock, signals, RetryPolicy::default()).await.unwrap();
        let request = HoldRequest {
            image: "main/shop/api:release-1".into(),
            until: HoldUntil::For(Duration::from_hours(1)),
            reason: "incident".into(),
            allow_missing: false,
        };
        let set = app.hold(&request).await.unwrap();
        let StopResult::Stopped(holder) = &set.stop_result else { panic!("{:?}", set.stop_result) };
        assert!(holder.starts_with("serve by anna@build-7"), "{holder}");
        app.close().await;
    };
    tokio::join!(alive.tick(), holding);
    let left = world.tags();
    assert!(left > 2, "{left}");
    let outcomes = async || {
        let runs = world.runs().await;
        runs.into_iter()
            .filter_map(|(run, _)| Some((run.end.as_ref()?.outcome.clone(), run.end?.error)))
            .collect::<Vec<_>>()
    };
    let why = "interrupted by `tagwarden hold` of ada@here".to_owned();
    assert_eq!(outcomes().await, [("interrupted".to_owned(), Some(why.clone()))]);
    let (record, _) = world.runs().await.remove(0);
    let attention = run_attention(&record, &RunSummary::from_record(&record));
    let told: Vec<_> = attention.iter().map(|found| (found.kind.as_str(), found.message.clone())).collect();
    assert_eq!(told, [("run-interrupted", format!("run {} was {why}", record.run.id))]);

    // The night after, it removes what was left.
    world.set_time("2026-11-21T03:00:30Z");
    alive.tick().await;
    assert_eq!(outcomes().await, [("interrupted".to_owned(), Some(why)), ("done".to_owned(), None)]);
    assert_eq!(world.tags(), 2);
    alive.stop_daemon().await;
}
