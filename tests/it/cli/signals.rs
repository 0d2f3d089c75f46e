//! Commands under signals: the first one asks them to stop, the second one ends them.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use http::Method;
use tagwarden::demo::registry::{EmbeddedRegistry, Fault, FaultKind, Options};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::{CliFixture, fill, tags};

const POLICIES: &str = "policies:
  - name: candidates
    select: { tags: [\"candidate-*\"] }
    keep: [{ newest: 2 }]
    mode: enforce
";

/// Repositories of thirty candidates each, and settings that remove one after the other.
async fn shop(repositories: u32) -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    for number in 1..=repositories {
        fill(&registry, &format!("shop/part-{number}"), "candidate", 30);
    }
    let settings = format!(
        "mode = \"enforce\"\n[limits]\npercent = 100\n[registries.contoso]\nkind = \"distribution\"\n\
         endpoint = \"{}\"\nconcurrency = 1\n",
        registry.url()
    );
    (registry, CliFixture::with(&[("tagwarden.toml", &settings), ("policies/all.yaml", POLICIES)]))
}

fn signal(child: &Child, signal: &str) {
    let id = child.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
}

/// A command that prints more than a pipe holds, once it hangs on that.
struct BlockedCommand {
    child: Child,
    _out: ChildStdout,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl BlockedCommand {
    async fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (mut out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        // From here on it prints, and nobody reads on.
        out.read_u8().await.unwrap();
        Self { child, _out: out, stderr: BufReader::new(err).lines() }
    }

    async fn expect_stderr(&mut self, words: &str) {
        loop {
            let line = self.stderr.next_line().await.unwrap();
            if line.expect("it goes on to say something").starts_with(words) {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_second_signal_ends_a_command_that_hangs() {
    let (_registry, desk) = shop(12).await;
    for (first, second, code) in [("-TERM", "-TERM", 143), ("-INT", "-INT", 130), ("-INT", "-TERM", 143)] {
        let mut plan = BlockedCommand::start(desk.command("plan --format json")).await;
        signal(&plan.child, first);
        plan.expect_stderr("stopping: ").await;
        assert!(plan.child.try_wait().unwrap().is_none(), "{first} alone cuts nothing");
        signal(&plan.child, second);
        assert_eq!(plan.child.wait().await.unwrap().code(), Some(code), "{first} {second}");
    }
}

/// Whether a signal set of `/proc/PID/status` has SIGHUP, its lowest bit.
fn has_hang_up(process: &str, set: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix(set)?.strip_prefix(':')).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1
}

/// A dropped connection stops a run as SIGTERM does: what is in flight is finished, and all of it is recorded.
#[tokio::test]
async fn a_hang_up_stops_a_run_between_two_removals() {
    if has_hang_up("self", "SigIgn") {
        // These tests run under `nohup` themselves, and so would the command.
        return;
    }
    let (registry, desk) = shop(1).await;
    let slow = FaultKind::Delay(Duration::from_millis(100));
    registry.inject(Fault::on("/manifests/candidate", slow).method(Method::DELETE));
    let run = desk.command("run").stdout(Stdio::null()).spawn().unwrap();
    let removed = || registry.requests().iter().filter(|request| request.method == Method::DELETE).count();
    while removed() < 3 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    signal(&run, "-HUP");
    let output = run.wait_with_output().await.unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("stopping: no further removal begins") && err.contains("interrupted: "), "{err}");
    let left = tags(&registry, "shop/part-1").len();
    assert!((3..=28).contains(&left), "{left} are left");
    let shown = desk.run("runs show last --format json").await.exits(0).json();
    assert_eq!(shown["outcome"], "interrupted", "{shown:#}");
}

/// Whoever wrote `nohup` wants it to go on.
#[tokio::test]
async fn a_hang_up_that_is_ignored_stays_so() {
    let (_registry, desk) = shop(12).await;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" plan --format json", env!("CARGO_BIN_EXE_tagwarden")]);
    command.current_dir(desk.folder.path()).env_clear().stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut plan = BlockedCommand::start(command).await;
    let id = plan.child.id().unwrap().to_string();
    assert!(has_hang_up(&id, "SigIgn") && !has_hang_up(&id, "SigCgt"));
    signal(&plan.child, "-HUP");
    signal(&plan.child, "-TERM");
    plan.expect_stderr("stopping: ").await;
    assert!(plan.child.try_wait().unwrap().is_none(), "the first that counts");
    signal(&plan.child, "-TERM");
    assert_eq!(plan.child.wait().await.unwrap().code(), Some(143));
}

/// The record of a dry run that was stopped says so, as that of a run does.
#[tokio::test]
async fn a_plan_that_is_stopped_is_recorded_as_interrupted() {
    let (registry, desk) = shop(1).await;
    let slow = FaultKind::Delay(Duration::from_millis(500));
    registry.inject(Fault::on("/manifests/", slow));
    let mut plan = desk.command("plan").spawn().unwrap();
    while !registry.requests().iter().any(|request| request.path.contains("/manifests/")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    signal(&plan, "-INT");
    assert_eq!(plan.wait().await.unwrap().code(), Some(1));
    let runs = desk.run("runs --format json").await.exits(0).json()["runs"].clone();
    assert_eq!((&runs[0]["kind"], &runs[0]["outcome"]), (&"plan".into(), &"interrupted".into()), "{runs:#}");
}
