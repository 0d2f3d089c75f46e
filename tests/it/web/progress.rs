//! The progress of a run, in the API and on the status page.

use std::time::Duration;

use tagwarden::report::{Rate, RegistryProgress, RunPhase, RunProgress, TaskProgress};
use tagwarden::state::RunKind;
use tagwarden::web::Activity;
use tokio::sync::watch;

use super::api::check;
use super::fixture::{WebFixture, noon};

fn reading() -> RunProgress {
    RunProgress {
        phase: RunPhase::Reading,
        started_at: noon(),
        registries: vec![RegistryProgress {
            name: "contoso".into(),
            repositories_listed: Some(400),
            repositories_done: 100,
            tags_read: 12_430,
        }],
        sources: 0,
        requests: 2_480,
        requests_per_second: Rate::new(412, Duration::from_secs(10)),
        tasks: None,
        seconds_left: Some(240),
    }
}

#[tokio::test]
async fn progress_of_a_run_is_shown_while_it_goes_on() {
    let world = WebFixture::new().await;
    let (publish, progress) = watch::channel(Some(reading()));
    world.context.status.follow(progress);
    let status = || async { world.get("/api/v1/status").await.json() };
    assert!(status().await["activity"].get("progress").is_none(), "nothing runs");
    assert!(!world.get("/").await.body.contains("<progress"));

    let run = Activity::Run { kind: RunKind::Run, since: noon(), description: "all policies".into() };
    world.context.status.update(|status| status.activity = run);
    let answer = status().await;
    check("/status", &answer);
    let found = &answer["activity"]["progress"];
    assert_eq!(found["phase"], "reading");
    assert_eq!(found["registries"][0]["repositories_done"], 100);
    assert_eq!(found["requests_per_second"], 41.2);
    assert_eq!(found["seconds_left"], 240);
    let page = world.get("/").await.body;
    let words = "reading contoso: 100 of 400 repositories, 12,430 tags; 41 requests per second; about 4 minutes left";
    assert!(page.contains(words), "{page}");
    let bar = "<progress aria-label=\"Progress of this phase\" max=\"400\" value=\"100\">100 of 400</progress>";
    assert!(page.contains(bar), "{page}");

    let tasks = TaskProgress {
        total: 1_204,
        done: 80,
        skipped: 1,
        failed: 2,
        per_second: Rate::new(5, Duration::from_secs(2)),
    };
    publish.send_replace(Some(RunProgress { phase: RunPhase::Removing, tasks: Some(tasks), ..reading() }));
    let answer = status().await;
    check("/status", &answer);
    assert_eq!(answer["activity"]["progress"]["tasks"]["per_second"], 2.5);
    assert!(world.get("/").await.body.contains("max=\"1204\" value=\"83\""));

    publish.send_replace(Some(RunProgress { phase: RunPhase::Deciding, requests_per_second: None, ..reading() }));
    let page = world.get("/").await.body;
    assert!(page.contains("deciding about 12,430 tags") && !page.contains("<progress"), "{page}");
    check("/status", &status().await);

    publish.send_replace(None);
    assert!(status().await["activity"].get("progress").is_none(), "it has ended");
}
