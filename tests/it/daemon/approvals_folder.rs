//! Approved plans are applied from their folder, and people are told.

use std::fs;

use tagwarden::daemon::DaemonOptions;
use tagwarden::report::{self, Format};
use tagwarden::state::RunKind;
use tagwarden::workflow::{self, App};
use tokio::sync::watch;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::event_loop::DaemonFixture;

/// Settings for approved plans with someone to tell, beside what `World::settings` writes.
async fn listening(world: &DaemonFixture, schedule: &str) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    world.settings("approved", schedule);
    let file = world.path("tagwarden.toml");
    let settings = fs::read_to_string(&file).unwrap();
    let more = "[approvals]\nfolder = \"approved\"\n[notify.ops]\nkind = \"webhook\"\nurl_file = \"hook\"\n\
                secret_file = \"key\"\non = [\"removed\"]\n";
    fs::write(file, format!("{settings}{more}")).unwrap();
    fs::write(world.path("hook"), format!("{}/hook", server.uri())).unwrap();
    fs::write(world.path("key"), "hunter2hunter2").unwrap();
    fs::create_dir(world.path("approved")).unwrap();
    server
}

/// Puts a plan of now into the folder.
async fn approve(world: &DaemonFixture) {
    let DaemonOptions { file, environment, by, clock, retry_policy: patience, .. } = world.options();
    let (_going, stop) = watch::channel(false);
    let loaded = workflow::load(&file, environment).unwrap();
    let app = App::open_with(loaded, by, clock, stop, patience).await.unwrap();
    let document = app.plan(None, &()).await.unwrap().document;
    app.close().await;
    fs::write(world.path("approved/CHG-7.json"), report::render(&document, Format::Json)).unwrap();
}

async fn applied(world: &DaemonFixture) -> usize {
    world.runs().await.iter().filter(|(record, _)| record.run.kind == RunKind::Apply).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_in_the_folder_is_applied_once_and_told() {
    let world = DaemonFixture::new("").await;
    let server = listening(&world, "").await;
    let alive = world.start_daemon().await;
    alive.tick().await;
    assert_eq!(applied(&world).await, 0);
    approve(&world).await;
    alive.tick().await;
    alive.tick().await;
    assert_eq!((world.tags(), applied(&world).await), (2, 1));
    alive.stop_daemon().await;
    let told = server.received_requests().await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&told[0].body).unwrap();
    assert_eq!(told.len(), 1, "{body}");
    assert!(body.to_string().contains("apply"), "{body}");
}

/// Where a run is due at every tick, the plan has its turn after one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_every_minute_do_not_keep_plans_from_their_turn() {
    let world = DaemonFixture::new("").await;
    let _server = listening(&world, "cron = \"* * * * *\"").await;
    let alive = world.start_daemon().await;
    approve(&world).await;
    world.set_time("2026-11-20T02:51:00Z");
    alive.tick().await;
    alive.wait_until(|_| world.tags() == 2).await;
    alive.stop_daemon().await;
    let kinds: Vec<RunKind> = world.runs().await.iter().map(|(record, _)| record.run.kind).collect();
    assert!(kinds.contains(&RunKind::Run), "{kinds:?}");
    assert_eq!(applied(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_waits_for_the_end_of_a_freeze_without_a_word_in_the_record() {
    let world = DaemonFixture::new("").await;
    let freeze = "freeze = [{ from = 2026-11-20, to = 2026-11-20, reason = \"peak season\" }]";
    let _server = listening(&world, freeze).await;
    let alive = world.start_daemon().await;
    approve(&world).await;
    alive.tick().await;
    assert_eq!((world.tags(), applied(&world).await), (7, 0));
    world.set_time("2026-11-21T01:00:00Z");
    alive.tick().await;
    assert_eq!((world.tags(), applied(&world).await), (2, 1));
    alive.stop_daemon().await;
}
