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

/// Files that nothing is applied of are shown with cause and remedy until they are taken away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_plan_is_shown_as_long_as_its_file_lies_there() {
    let world = DaemonFixture::new("").await;
    let _server = listening(&world, "cron = \"* * * * *\"").await;
    approve(&world).await;
    let edited = fs::read_to_string(world.path("approved/CHG-7.json")).unwrap().replace("candidate-1", "release-1");
    fs::write(world.path("approved/CHG-8.json"), edited).unwrap();
    fs::remove_file(world.path("approved/CHG-7.json")).unwrap();
    fs::write(world.path("approved/junk.json"), "{}").unwrap();
    // Nobody may read a folder as a signature, whoever runs the test.
    fs::write(world.path("approved/odd.json"), "{}").unwrap();
    fs::create_dir(world.path("approved/odd.json.sig")).unwrap();
    let alive = world.start_daemon().await;
    for minute in ["2026-11-20T02:51:00Z", "2026-11-20T02:52:00Z"] {
        world.set_time(minute);
        alive.tick().await;
        let status = alive.wait_until(|status| status.approved_plans.len() == 3).await;
        let [edited, junk, odd] = &*status.approved_plans else { panic!("{status:?}") };
        assert!(edited.about.ends_with("approved/CHG-8.json") && edited.kind == "plan-refused", "{edited:?}");
        assert!(edited.message.contains("CHG-8.json is refused: the plan was edited"), "{edited:?}");
        assert!(junk.message.contains("junk.json is refused: the plan has no `schema`"), "{junk:?}");
        assert!(odd.message.contains("odd.json cannot be read: its signature"), "{odd:?}");
        assert!(status.approved_plans.iter().all(|found| found.remedy.is_some()), "{status:?}");
    }
    let runs = world.runs().await;
    let refused: Vec<&str> = runs
        .iter()
        .filter(|(record, _)| record.run.kind == RunKind::Apply)
        .filter_map(|(record, _)| record.end.as_ref()?.error.as_deref())
        .collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(
        refused.iter().any(|error| error.starts_with("refused: junk.json: the plan has no `schema`")),
        "{refused:?}"
    );
    for name in ["CHG-8.json", "junk.json", "odd.json"] {
        fs::remove_file(world.path(&format!("approved/{name}"))).unwrap();
    }
    world.set_time("2026-11-20T02:53:00Z");
    alive.tick().await;
    alive.wait_until(|status| status.approved_plans.is_empty()).await;
    alive.stop_daemon().await;
}
