//! Daemons with one state in PostgreSQL whose policies and settings differ for a while.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::state::{LeaseScope, RulePart, RuleRevision, Sighting, StateStore};
use tagwarden::web::{Activity, Role};

use super::event_loop::{DaemonFixture, RunningDaemon, image};
use crate::support::git::git;
use crate::support::postgres::Postgres;

const FIRST: &str =
    "policies:\n  - { name: candidates, select: { tags: ['candidate-*'] }, keep: [{ newest: 5 }], mode: enforce }\n";

/// A registry, a server, and a repository of policies with a checkout for each daemon.
struct World {
    base: DaemonFixture,
    server: Postgres,
}

impl World {
    async fn new() -> Self {
        let base = DaemonFixture::new("").await;
        let world = Self { base, server: Postgres::start().await };
        let origin = world.base.path("origin");
        fs::create_dir(&origin).unwrap();
        git(&origin, &["init", "--quiet", "--initial-branch=main"]);
        world
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.base.path(name)
    }

    /// Makes the settings of a daemon, with policies from git or of their own.
    fn settings(&self, name: &str, limit: u32) {
        fs::create_dir_all(self.folder(name)).unwrap();
        let text = format!(
            "mode = \"enforce\"\nlisten = \"127.0.0.1:0\"\nstate = \"{}\"\n[postgres]\npassword_file = \"{}\"\n\
             [schedule]\ncron = \"0 3 * * *\"\n[limits]\npercent = 100\nuntag = {limit}\n[registries.main]\n\
             kind = \"distribution\"\nendpoint = \"{}\"\ntimeout = \"3s\"\n",
            self.server.url(),
            self.server.password_file().display(),
            self.base.registry.url(),
        );
        fs::write(self.folder(name).join("tagwarden.toml"), text).unwrap();
    }

    /// Commits policies that keep so many candidates.
    fn commit(&self, newest: u32) -> String {
        let origin = self.folder("origin");
        fs::write(origin.join("p.yaml"), FIRST.replace("newest: 5", &format!("newest: {newest}"))).unwrap();
        git(&origin, &["add", "."]);
        git(&origin, &["commit", "--quiet", "--message", &format!("keep {newest}")]);
        git(&origin, &["rev-parse", "HEAD"])
    }

    fn clone_policies(&self, name: &str) {
        git(&self.folder(name), &["clone", "--quiet", "../origin", "policies"]);
    }

    fn pull(&self, name: &str) {
        git(&self.folder(name).join("policies"), &["pull", "--quiet"]);
    }

    async fn start(&self, name: &str) -> RunningDaemon {
        let mut options = self.base.options();
        options.file = self.folder(name).join("tagwarden.toml");
        options.by = format!("anna@{name}");
        DaemonFixture::start_with(options).await
    }

    fn candidates(&self) -> usize {
        self.base.tags() - 1
    }

    fn accept(&self, name: &str) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tagwarden"));
        command.args(["state", "accept-rules", "--reason", "the new ones are wrong", "--config"]);
        command.arg(self.folder(name).join("tagwarden.toml")).env_clear().env("USER", "anna");
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Why the last run removed nothing.
    async fn last_block(&self) -> Option<String> {
        let store = StateStore::open(self.server.location()).await.unwrap();
        let last = store.runs(1).await.unwrap().remove(0);
        let context = store.run_context(last.run.id).await.unwrap();
        store.close().await;
        context.blocked_by
    }
}

async fn leads(daemon: &RunningDaemon) {
    daemon.wait_until(|status| status.role == Role::Leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_with_an_older_commit_removes_nothing_and_leaves_the_schedule_to_others() {
    let world = World::new().await;
    let first = world.commit(5);
    for name in ["a", "b"] {
        world.settings(name, 1000);
        world.clone_policies(name);
    }
    let a = world.start("a").await;
    leads(&a).await;
    let b = world.start("b").await;
    world.base.set_time("2026-11-20T03:00:00Z");
    a.tick().await;
    assert_eq!(world.candidates(), 5, "both have the same");

    // `b` gets a newer commit first, and with it the schedule.
    let second = world.commit(4);
    world.pull("b");
    b.begin_tick().await;
    leads(&b).await;
    let outdated = a.wait_until(|status| status.outdated.is_some()).await.outdated.unwrap();
    assert!(outdated.contains(&first[..10]) && outdated.contains(&second[..10]), "{outdated}");
    world.base.set_time("2026-11-21T03:00:00Z");
    a.tick().await;
    assert_eq!(world.candidates(), 5, "it stands by");
    b.tick().await;
    assert_eq!(world.candidates(), 4);

    // Once no other daemon is alive, it follows the schedule, and only reports.
    b.stop_daemon().await;
    world.base.set_time("2026-11-22T03:00:00Z");
    leads(&a).await;
    world.commit(1);
    // It needs no lease for that, and does not wait for whoever removes.
    let store = StateStore::open(world.server.location()).await.unwrap();
    let lease = store.take_lease(LeaseScope::Run, "apply by bob@there").await.unwrap();
    a.tick().await;
    assert_eq!(world.candidates(), 4);
    let why = world.last_block().await.expect("the run says why");
    assert!(why.contains("older than commit"), "{why}");
    drop(lease);
    store.close().await;

    world.pull("a");
    a.tick().await;
    a.wait_until(|status| status.outdated.is_none()).await;
    world.base.set_time("2026-11-23T03:00:00Z");
    a.tick().await;
    assert_eq!(world.candidates(), 1);
    assert_eq!(world.last_block().await, None);

    // Going back to an older commit is accepted on purpose, or not at all.
    world.base.fill();
    git(&world.folder("a").join("policies"), &["reset", "--quiet", "--hard", &first]);
    a.tick().await;
    a.wait_until(|status| status.outdated.is_some()).await;
    world.base.set_time("2026-11-24T03:00:00Z");
    a.tick().await;
    assert_eq!(world.candidates(), 6);
    let (code, said) = world.accept("a");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("the policies of commit {}", &first[..10])), "{said}");
    a.wait_until(|status| status.outdated.is_none()).await;
    world.base.set_time("2026-11-25T03:00:00Z");
    a.tick().await;
    assert_eq!(world.candidates(), 5);
    let (_, said) = world.accept("a");
    assert!(said.contains("nothing was to be accepted"), "{said}");
    a.stop_daemon().await;
}

/// No commit tells which of two is newer: what was superseded does not come back with a daemon that starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_git_what_was_superseded_comes_back_by_an_edit_alone() {
    let world = World::new().await;
    for name in ["a", "b"] {
        world.settings(name, 1000);
        fs::create_dir(world.folder(name).join("policies")).unwrap();
        fs::write(world.folder(name).join("policies/p.yaml"), FIRST).unwrap();
    }
    let a = world.start("a").await;
    leads(&a).await;
    let newer = FIRST.replace("newest: 5", "newest: 4");
    fs::write(world.folder("a").join("policies/p.yaml"), &newer).unwrap();
    a.tick().await;
    let b = world.start("b").await;
    let status = b.wait_until(|status| status.outdated.is_some()).await;
    assert!(status.outdated.unwrap().contains("were superseded by revision"));
    // The one that has them undoes its edit, and the other one has what is in force.
    fs::write(world.folder("a").join("policies/p.yaml"), FIRST).unwrap();
    a.tick().await;
    b.wait_until(|status| status.outdated.is_none()).await;
    assert_eq!(a.wait_until(|_| true).await.outdated, None);
    world.base.set_time("2026-11-20T03:00:00Z");
    a.tick().await;
    assert_eq!(world.candidates(), 5);

    // Settings that differ are seen as well.
    b.stop_daemon().await;
    world.settings("b", 999);
    let b = world.start("b").await;
    let status = a.wait_until(|status| status.outdated.is_some()).await;
    assert!(status.outdated.unwrap().starts_with("the settings here"));
    leads(&b).await;
    a.stop_daemon().await;
    b.stop_daemon().await;
}

/// A run ends before its next removal once newer rules are in force, whether their daemon is alive or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_under_way_ends_when_newer_rules_come_into_force() {
    let world = World::new().await;
    world.settings("a", 1000);
    fs::create_dir(world.folder("a").join("policies")).unwrap();
    fs::write(world.folder("a").join("policies/p.yaml"), FIRST).unwrap();
    let slow = FaultKind::Delay(Duration::from_millis(400));
    world.base.registry.inject(Fault::on("manifests/candidate", slow).method(http::Method::DELETE));
    let store = StateStore::open(world.server.location()).await.unwrap();
    let a = world.start("a").await;
    for (night, newer, seen_before, is_alive) in
        [("2026-11-20", "newer", 3600, false), ("2026-11-21", "newest", 0, true)]
    {
        for number in 0..200 {
            let tag = format!("candidate-{}", 1000 + number);
            world.base.registry.put_image("shop/api", &tag, &image(&tag, 200 + number));
        }
        let due: Timestamp = format!("{night}T03:00:00Z").parse().unwrap();
        world.base.set_time(&due.to_string());
        leads(&a).await;
        let before = world.candidates();
        a.begin_tick().await;
        while world.candidates() + 3 > before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let known = store.rule_revisions().await.unwrap();
        let known = known.iter().find(|one| one.revision.part == RulePart::Policies && one.superseded_at.is_none());
        let replaced = &known.unwrap().revision.revision;
        let revision =
            RuleRevision { part: RulePart::Policies, revision: newer.to_owned(), commit: None, committed_at: None };
        let sighting = Sighting { by: "serve by bob@b", at: due - SignedDuration::from_secs(seen_before) };
        assert!(store.put_rules_in_force(&revision, Some(replaced), sighting, None).await.unwrap());

        let status = a.wait_until(|status| status.outdated.is_some() && status.activity == Activity::Idle).await;
        let left = world.candidates();
        assert!(left > 100, "it ended in the middle: {left} are left");
        assert_eq!(matches!(status.role, Role::StandBy { .. }), is_alive, "{:?}", status.role);
        let last = store.runs(1).await.unwrap().remove(0);
        let end = last.end.unwrap();
        assert_eq!((last.run.started_at, end.outcome.as_str()), (due, "interrupted"));
        let why = end.error.unwrap();
        assert!(
            why.starts_with("interrupted by newer rules: the policies here (") && why.contains("were superseded by"),
            "{why}"
        );

        // Its edit puts its own rules in force again.
        let own = format!("{FIRST}# {night}\n");
        fs::write(world.folder("a").join("policies/p.yaml"), own).unwrap();
        a.begin_tick().await;
        a.wait_until(|status| status.outdated.is_none()).await;
    }
    a.stop_daemon().await;
    store.close().await;
}
