//! The real binary under real signals.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tagwarden::demo::registry::{Fault, FaultKind};
use tagwarden::domain::Outcome;
use tagwarden::state::StateStore;

use super::event_loop::{DaemonFixture, image};
use crate::support::acr::clock;

/// A daemon of its own process. It is killed when dropped.
struct Process(Child);

impl Process {
    /// Starts one, and waits until it listens.
    async fn start(world: &DaemonFixture) -> Self {
        let log = fs::File::create(world.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tagwarden"));
        command.arg("serve").arg("--config").arg(world.path("tagwarden.toml")).env_clear();
        command.env("TAGWARDEN_LOG_FORMAT", "json").stdout(Stdio::null()).stderr(log);
        let mut process = Self(command.spawn().unwrap());
        process.until(world, "listening on http://127.0.0.1:").await;
        process
    }

    async fn until(&mut self, world: &DaemonFixture, words: &str) {
        for _ in 0..6000 {
            let log = fs::read_to_string(world.path("log")).unwrap();
            if log.contains(words) {
                return;
            }
            assert!(self.0.try_wait().unwrap().is_none(), "it ended by itself: {log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("`{words}` was never said: {}", fs::read_to_string(world.path("log")).unwrap());
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
    }

    async fn ended(&mut self) -> Option<i32> {
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A schedule that comes once a year, so that no minute that passes begins a run.
async fn world() -> DaemonFixture {
    let world = DaemonFixture::new("cron = \"0 3 1 1 *\"").await;
    world.registry.set_clock(clock());
    for number in 0..60 {
        let tag = format!("candidate-{}", 100 + number);
        world.registry.put_image("shop/api", &tag, &image(&tag, 200 + number));
    }
    let slow = FaultKind::Delay(Duration::from_millis(40));
    world.registry.inject(Fault::on("manifests/candidate", slow).method(http::Method::DELETE));
    world
}

/// From here on a run is to be made up for.
async fn missed(world: &DaemonFixture) {
    let store = StateStore::open(&world.path("tagwarden.db")).await.unwrap();
    let long_ago = "2020-06-01T00:00:00Z".parse().unwrap();
    store.record_schedule_progress(&[("0 3 1 1 * UTC".to_owned(), long_ago)].into()).await.unwrap();
    store.close().await;
}

async fn removing(world: &DaemonFixture, process: &mut Process) {
    let before = world.tags();
    for _ in 0..2000 {
        if world.tags() + 3 < before {
            return;
        }
        assert!(process.0.try_wait().unwrap().is_none());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never removed anything: {}", fs::read_to_string(world.path("log")).unwrap());
}

/// What the journal says: how many are done, skipped and open. Nothing is removed twice.
async fn journal(path: &Path) -> (usize, usize, usize) {
    let store = StateStore::open(path).await.unwrap();
    let mut entries = Vec::new();
    for record in store.runs(1000).await.unwrap() {
        entries.extend(store.journal(record.run.id).await.unwrap());
    }
    store.close().await;
    let count =
        |what: fn(&Option<(Outcome, jiff::Timestamp)>) -> bool| entries.iter().filter(|e| what(&e.outcome)).count();
    let done = count(|outcome| matches!(outcome, Some((Outcome::Done(_), _))));
    let tags: std::collections::BTreeSet<_> = entries
        .iter()
        .filter(|entry| matches!(entry.outcome, Some((Outcome::Done(_), _))))
        .map(|entry| entry.intent.tag.to_string())
        .collect();
    assert_eq!(tags.len(), done, "removed twice");
    (done, count(|outcome| matches!(outcome, Some((Outcome::Skipped(_), _)))), count(Option::is_none))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_reloaded_and_told_to_stop() {
    let world = world().await;
    let all = world.tags();
    missed(&world).await;
    let mut first = Process::start(&world).await;
    removing(&world, &mut first).await;
    first.signal("-KILL");
    assert_eq!(first.ended().await, None);
    let gone = all - world.tags();
    let (done, _, open) = journal(&world.path("tagwarden.db")).await;
    assert!(done <= gone && gone <= done + open, "{gone} gone, {done} recorded as done, {open} begun");

    // What was left open is settled at the start, once the registry can no longer be about to do it: after a timeout.
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let mut second = Process::start(&world).await;
    let settled = async || {
        for _ in 0..500 {
            if journal(&world.path("tagwarden.db")).await.2 == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it is still open");
    };
    settled().await;
    let third = Command::new(env!("CARGO_BIN_EXE_tagwarden"))
        .args(["serve", "--config", world.path("tagwarden.toml").to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(third.status.code(), Some(3));
    let words = String::from_utf8(third.stderr).unwrap();
    assert!(words.contains(&format!("process {}, since ", second.0.id())), "{words}");

    world.settings("nonsense", "cron = \"0 3 1 1 *\"");
    second.signal("-HUP");
    second.until(&world, "keeping the previous version").await;
    second.until(&world, "unknown mode `nonsense`").await;
    world.settings("enforce", "cron = \"0 3 1 1 *\"");
    second.signal("-HUP");
    second.until(&world, "settings and policies were read").await;

    second.signal("-TERM");
    assert_eq!(second.ended().await, Some(0));
    assert_eq!(world.runs().await.len(), 1, "a run that was killed is not begun again by itself");

    missed(&world).await;
    let mut last = Process::start(&world).await;
    removing(&world, &mut last).await;
    last.signal("-TERM");
    assert_eq!(last.ended().await, Some(0));
    let (done, skipped, open) = journal(&world.path("tagwarden.db")).await;
    assert_eq!((done, open), (all - world.tags(), 0));
    assert!(skipped > 0, "it ended in the middle");
    let runs = world.runs().await;
    let last = runs.last().unwrap().0.end.as_ref().unwrap();
    assert_eq!(last.outcome, "interrupted");
    let log = fs::read_to_string(world.path("log")).unwrap();
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[test]
fn the_schedule_is_told_in_words_and_as_data() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "mode = \"enforce\"\n[schedule]\ncron = \"0 3 * * *\"\ntimezone = \"Europe/London\"\n\
                    freeze = [{ from = 2020-01-01, to = 9000-01-01, reason = \"a long one\" }]\n\
                    [registries.contoso]\nkind = \"distribution\"\nendpoint = \"https://contoso.example\"\n";
    fs::write(folder.path().join("tagwarden.toml"), settings).unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    let policies = "policies:\n  - { name: a, select: { tags: ['*'] }, keep: none, mode: enforce }\n\
                    \u{20} - { name: b, select: { tags: ['x'] }, keep: none, schedule: '@weekly' }\n";
    fs::write(folder.path().join("policies/p.yaml"), policies).unwrap();
    let told = |words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tagwarden"));
        let output = command.args(words.split(' ')).current_dir(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = told("schedule --count 30");
    for words in [
        "At 03:00. Europe/London (`0 3 * * *`): policy a\n",
        "(`@weekly`): policy b\n",
        " 03:00:00 ",
        "policy a; removes nothing: frozen until the end of 9000-01-01: a long one\n",
        "policy b; removes nothing: mode `dry-run` of every policy whose turn it is\n",
    ] {
        assert!(text.contains(words), "{words} in:\n{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&told("schedule --count 3 --format json")).unwrap();
    assert_eq!(json["next"].as_array().unwrap().len(), 3);
    assert_eq!(json["schedules"][0]["cron"], "0 3 * * *");
    assert_eq!(json["blocked_by"], "frozen until the end of 9000-01-01: a long one");
    assert!(!folder.path().join("tagwarden.db").exists(), "nothing is touched");
}

/// A freeze holds for whoever removes by hand, too, unless a reason is given, which is recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_holds_by_hand_and_gives_way_to_a_reason() {
    let freeze = "freeze = [{ from = 2020-01-01, to = 9000-01-01, reason = \"a long one\" }]";
    let world = DaemonFixture::new(freeze).await;
    world.registry.set_clock(clock());
    let commit = "12".repeat(20);
    fs::create_dir(world.path(".git")).unwrap();
    fs::write(world.path(".git/HEAD"), &commit).unwrap();
    let run = async |words: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tagwarden"));
        let output = command.args(words).current_dir(world.folder.path()).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, _, words) = run(&["run", "--out", "plan.json"]).await;
    assert_eq!((code, world.tags()), (Some(0), 7), "{words}");
    assert!(words.contains("nothing was removed: frozen until the end of 9000-01-01: a long one"), "{words}");
    assert!(words.contains("dry run ") && words.contains("removals are held back"), "{words}");

    let (code, _, words) = run(&["apply", "plan.json"]).await;
    assert_eq!((code, world.tags()), (Some(3), 7), "{words}");
    assert!(words.contains("frozen until") && words.contains("--override-freeze"), "{words}");
    assert_eq!(run(&["run", "--override-freeze", " "]).await.0, Some(2), "a reason says something");

    let (code, _, words) = run(&["run", "--override-freeze", "CVE-2026-1"]).await;
    assert_eq!((code, world.tags()), (Some(0), 2), "{words}");
    world.registry.put_image("shop/api", "candidate-1", &image("candidate-1", 99));
    // The name of the flag in the version before.
    let (code, _, words) = run(&["apply", "plan.json", "--despite-freeze", "CVE-2026-2"]).await;
    assert_eq!((code, world.tags()), (Some(0), 2), "{words}");

    let runs = world.runs().await;
    let reasons: Vec<Option<&str>> = runs.iter().map(|(_, found)| found.override_reason.as_deref()).collect();
    assert_eq!(reasons, [None, None, Some("CVE-2026-1"), Some("CVE-2026-2")]);
    assert!(runs.iter().all(|(_, found)| found.commit.as_ref() == Some(&commit)));
    let id = runs[2].0.run.id.to_string();
    let (_, text, _) = run(&["runs", "show", &id]).await;
    assert!(text.contains(&format!("commit   {commit}\n")) && text.contains("override CVE-2026-1\n"), "{text}");
    let (_, json, _) = run(&["runs", "show", &runs[0].0.run.id.to_string(), "--format", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["context"]["blocked_by"], "frozen until the end of 9000-01-01: a long one");
    assert_eq!(json["context"]["policies_commit"], commit.as_str());

    // Whoever reads the report alone knows it as well.
    for format in ["text", "markdown", "html", "jira", "servicenow"] {
        for words in [&["plan", "--format", format][..], &["run", "--dry-run", "--format", format]] {
            let (_, text, _) = run(words).await;
            assert!(text.contains("HELD BACK now: frozen until the end of 9000"), "{words:?}: {text}");
            let next = text.split("What next").nth(1).unwrap_or_default();
            assert!(next.contains("Nothing is removed now: frozen until the end of 9000"), "{words:?}: {text}");
            // Nothing of what to do next is cut.
            assert!(text.contains("as long as the registry has not collected the manifests."), "{words:?}: {text}");
        }
    }
    let (_, json, _) = run(&["plan", "--format", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["blocked_by"], "frozen until the end of 9000-01-01: a long one");
    for words in [&["plan", "--at", "+1h"][..], &["run", "--dry-run", "--override-freeze", "CVE-2026-1"]] {
        let (_, text, _) = run(words).await;
        assert!(!text.contains("HELD BACK"), "{words:?}: {text}");
    }
}
