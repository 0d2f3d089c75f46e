//! Approved plans are applied from their folder, and people are told.

use std::fs;

use tagwarden::daemon::Start;
use tagwarden::report::{self, Format};
use tagwarden::run::{self, House};
use tagwarden::store::RunKind;
use tokio::sync::watch;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::living::World;

/// Settings for approved plans with someone to tell, beside what `World::settings` writes.
async fn listening(world: &World, schedule: &str) -> MockServer {
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
async fn approve(world: &World) {
    let Start { file, environment, by, clock, patience, .. } = world.start();
    let (_going, stop) = watch::channel(false);
    let loaded = run::load(&file, environment).unwrap();
    let house = House::open_with(loaded, by, clock, stop, patience).await.unwrap();
    let document = house.plan(None, &()).await.unwrap().document;
    house.close().await;
    fs::write(world.path("approved/CHG-7.json"), report::render(&document, Format::Json)).unwrap();
}

async fn applied(world: &World) -> usize {
    world.runs().await.iter().filter(|(record, _)| record.run.kind == RunKind::Apply).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_in_the_folder_is_applied_once_and_told() {
    let world = World::new("").await;
    let server = listening(&world, "").await;
    let alive = world.wake().await;
    alive.tick().await;
    assert_eq!(applied(&world).await, 0);
    approve(&world).await;
    alive.tick().await;
    alive.tick().await;
    assert_eq!((world.tags(), applied(&world).await), (2, 1));
    alive.end().await;
    let told = server.received_requests().await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&told[0].body).unwrap();
    assert_eq!(told.len(), 1, "{body}");
    assert!(body.to_string().contains("apply"), "{body}");
}

/// Where a run is due at every tick, the plan has its turn after one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_every_minute_do_not_keep_plans_from_their_turn() {
    let world = World::new("").await;
    let _server = listening(&world, "cron = \"* * * * *\"").await;
    let alive = world.wake().await;
    approve(&world).await;
    world.set("2026-11-20T02:51:00Z");
    alive.tick().await;
    alive.until(|_| world.tags() == 2).await;
    alive.end().await;
    let kinds: Vec<RunKind> = world.runs().await.iter().map(|(record, _)| record.run.kind).collect();
    assert!(kinds.contains(&RunKind::Run), "{kinds:?}");
    assert_eq!(applied(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_waits_for_the_end_of_a_freeze_without_a_word_in_the_record() {
    let world = World::new("").await;
    let freeze = "freeze = [{ from = 2026-11-20, to = 2026-11-20, reason = \"peak season\" }]";
    let _server = listening(&world, freeze).await;
    let alive = world.wake().await;
    approve(&world).await;
    alive.tick().await;
    assert_eq!((world.tags(), applied(&world).await), (7, 0));
    world.set("2026-11-21T01:00:00Z");
    alive.tick().await;
    assert_eq!((world.tags(), applied(&world).await), (2, 1));
    alive.end().await;
}
