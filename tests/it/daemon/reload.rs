//! Edits of settings and policies while a run removes, and files that do not answer.

use std::fs;
use std::process::Command;
use std::time::Duration;

use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::web::Activity;

use super::event_loop::{DaemonFixture, RunningDaemon, image};

const NIGHTLY: &str = "cron = \"0 3 * * *\"";

/// A run of 46 removals that takes its time, and has made its first.
async fn removing() -> (DaemonFixture, RunningDaemon) {
    let world = DaemonFixture::new(NIGHTLY).await;
    for number in 0..41 {
        let tag = format!("candidate-{}", 100 + number);
        world.registry.put_image("shop/api", &tag, &image(&tag, 200 + number));
    }
    let settings = fs::read_to_string(world.path("tagwarden.toml")).unwrap();
    fs::write(world.path("tagwarden.toml"), format!("{settings}concurrency = 1\n")).unwrap();
    let alive = world.start_daemon().await;
    let slow = FaultKind::Delay(Duration::from_millis(100));
    world.registry.inject(Fault::on("manifests/candidate", slow).method(http::Method::DELETE));
    world.set_time("2026-11-20T03:00:00Z");
    let before = world.tags();
    alive.begin_tick().await;
    for _ in 0..10_000 {
        if world.tags() != before {
            return (world, alive);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the run removes nothing: {:?}", world.runs().await);
}

/// Its name, the edit itself, and whether the daemon has to be told to read the settings again.
type Edit<'a> = (&'a str, &'a dyn Fn(&DaemonFixture), bool);

/// An edit that keeps more, made while a run removes, ends that run before its next removal, and the run is repeated by
/// the new rules.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_keeps_more_stops_the_run_that_goes_on() {
    let keep_all = |world: &DaemonFixture| {
        world.policies(
            "policies:\n  - { name: candidates, select: { tags: [\"candidate-*\"] }, keep: all, mode: enforce }\n",
        );
    };
    let also_kept = |world: &DaemonFixture| {
        fs::write(
            world.path("policies/q.yaml"),
            "policies:\n  - { name: hotfix, select: { tags: [\"candidate-*\"] }, keep: [{ within: 1000d }] }\n",
        )
        .unwrap();
    };
    let dry_run = |world: &DaemonFixture| world.settings("dry-run", NIGHTLY);
    let freeze = "freeze = [{ from = 2026-11-20, to = 2026-11-20, reason = \"incident\" }]";
    let frozen = |world: &DaemonFixture| world.settings("enforce", &format!("{NIGHTLY}\n{freeze}"));
    let window = "window = { hours = \"05:00-06:00\" }";
    let windowed = |world: &DaemonFixture| world.settings("enforce", &format!("{NIGHTLY}\n{window}"));
    let limited = |world: &DaemonFixture| {
        let settings = fs::read_to_string(world.path("tagwarden.toml")).unwrap();
        fs::write(world.path("tagwarden.toml"), settings.replace("percent = 100", "percent = 1")).unwrap();
    };
    let edits: [Edit<'_>; 6] = [
        ("keep: all", &keep_all, false),
        ("a policy that keeps", &also_kept, false),
        ("mode dry-run", &dry_run, true),
        ("a freeze", &frozen, true),
        ("a window", &windowed, true),
        ("a limit", &limited, true),
    ];
    for (what, edit, reload) in edits {
        let (world, alive) = removing().await;
        edit(&world);
        if reload {
            alive.begin_reload().await;
        }
        alive.wait_until(|status| status.activity == Activity::Idle).await;
        let runs = world.runs().await;
        let outcomes: Vec<String> = runs.iter().map(|(record, _)| record.end.clone().unwrap().outcome).collect();
        assert_eq!(outcomes[0], "interrupted", "{what}: {outcomes:?}");
        assert_eq!(outcomes.len(), 2, "{what}: it is repeated once: {outcomes:?}");
        assert!(world.tags() > 30, "{what}: {} tags are left of 48", world.tags());
        alive.stop_daemon().await;
    }
}

/// A reload without a change that matters lets the run go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_decides_nothing_lets_the_run_go_on() {
    let (world, alive) = removing().await;
    let settings = fs::read_to_string(world.path("tagwarden.toml")).unwrap();
    fs::write(world.path("tagwarden.toml"), format!("# a comment\n{settings}")).unwrap();
    alive.begin_reload().await;
    world.registry.clear_faults();
    alive.wait_until(|status| status.activity == Activity::Idle).await;
    let outcomes: Vec<String> =
        world.runs().await.iter().map(|(record, _)| record.end.clone().unwrap().outcome).collect();
    assert_eq!((outcomes, world.tags()), (vec!["done".to_owned()], 2));
    alive.stop_daemon().await;
}

fn pipe(path: &std::path::Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// A pipe in the folder of approved plans, as a plan or as a signature, holds nothing up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_among_the_approved_plans_is_passed_over() {
    let world = DaemonFixture::new(NIGHTLY).await;
    let settings = fs::read_to_string(world.path("tagwarden.toml")).unwrap();
    let approvals = "[approvals]\nfolder = \"approved\"\n";
    fs::write(world.path("tagwarden.toml"), format!("{settings}{approvals}")).unwrap();
    fs::create_dir(world.path("approved")).unwrap();
    pipe(&world.path("approved/a.json"));
    fs::write(world.path("approved/b.json"), "{}").unwrap();
    pipe(&world.path("approved/b.json.sig"));
    let alive = world.start_daemon().await;
    alive.tick().await;
    world.set_time("2026-11-20T03:00:00Z");
    alive.tick().await;
    assert_eq!(world.tags(), 2, "the run of the night was made");
    alive.stop_daemon().await;
}

/// A secret that never comes, as from a share that hangs, keeps the daemon neither from its pages nor from its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_does_not_answer_does_not_keep_the_daemon_from_its_end() {
    let world = DaemonFixture::new(NIGHTLY).await;
    let alive = world.start_daemon().await;
    pipe(&world.path("password"));
    let settings = fs::read_to_string(world.path("tagwarden.toml")).unwrap();
    let auth = "auth = { kind = \"basic\", username = \"ci\", password_file = \"password\" }\n";
    fs::write(world.path("tagwarden.toml"), format!("{settings}{auth}")).unwrap();
    alive.begin_reload().await;
    // Not until the deadline of files: told to stop, it stops at once.
    let path = world.path("password");
    let ended = tokio::time::timeout(Duration::from_secs(8), alive.stop_daemon()).await;
    // Whoever waits for the pipe is let go, or this process would not end.
    fs::write(path, "x").unwrap();
    assert!(ended.is_ok(), "it waited for the file");
}
