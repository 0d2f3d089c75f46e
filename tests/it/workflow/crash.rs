//! The real binary, killed at any moment and started again.

use std::process::{Child, Command, Stdio};

use axum::body::Bytes;
use http::Method;
use tagwarden::demo::registry::{Fault, FaultKind};

use super::*;

const ROUNDS: u64 = 24;
/// So many removals beyond the moment of a round are let through. All rounds together leave some of the 304.
const BEYOND: usize = 4;

pub(super) fn command(walk: &WorkflowFixture, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagwarden"));
    command.args(arguments).arg("--config").arg(walk.path("tagwarden.toml"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Waits without holding up the registry, which answers on the same threads.
pub(super) async fn ended(child: &mut Child) -> std::process::ExitStatus {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs a command to its end, which is exit code 0.
async fn exits_well(walk: &WorkflowFixture, arguments: &[&str]) {
    let said = walk.path("said.txt");
    let mut command = command(walk, arguments);
    command.stderr(std::fs::File::create(&said).unwrap());
    let status = ended(&mut command.spawn().unwrap()).await;
    assert_eq!(status.code(), Some(0), "{arguments:?}: {}", fs::read_to_string(said).unwrap());
}

impl WorkflowFixture {
    /// The binary goes by the real clock, so the steps in between do, too.
    #[expect(clippy::disallowed_methods, reason = "the binary under test reads the clock")]
    pub(super) fn real_time(&self) {
        *self.now.lock().unwrap() = Timestamp::now();
    }

    fn deletions(&self) -> usize {
        let probe = |path: &str| path.contains("tagwarden-probe");
        let requests = self.registry.requests();
        requests.iter().filter(|request| request.method == Method::DELETE && !probe(&request.path)).count()
    }

    /// Every tag with its manifest's bytes and media type.
    fn whole(&self) -> BTreeMap<(String, String), (Bytes, String)> {
        let tags = self.tags();
        tags.into_iter()
            .map(|(place, digest)| {
                let manifest = self.registry.manifest(&place.0, &digest).unwrap();
                (place, manifest)
            })
            .collect()
    }
}

async fn many(settings: &str, per_repository: i64) -> (WorkflowFixture, PlanDocument, PathBuf) {
    let walk = WorkflowFixture::with(Options::default(), settings).await;
    for repository in ["shop/web", "shop/jobs", "tools/cron"] {
        for number in 0..per_repository {
            let image = image(&format!("{repository}-{number}"), 60 + number);
            walk.put(repository, &format!("candidate-{number}"), &image);
        }
    }
    walk.real_time();
    let plan = walk.plan().await;
    let file = write_plan(walk.folder.path(), &plan);
    (walk, plan, file)
}

/// A small generator, so that the moments are the same each time.
pub(super) struct KillTimes(pub(super) u64);

impl KillTimes {
    pub(super) fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

async fn killed_and_restored(settings: &str) {
    let (walk, plan, file) = many(settings, 102).await;
    let whole = walk.whole();
    assert_eq!(plan.removals.len(), 304);
    let mut moments = KillTimes(20_261_123);
    let mut in_the_middle: u64 = 0;
    for round in 0..ROUNDS {
        walk.registry.clear_requests();
        let deletions = usize::try_from(1 + moments.next(8)).unwrap();
        // On a busy machine this process may be late to kill it. It gets no further all the same: else it could be done with
        // the plan before the last round, and a plan that is done is not applied again.
        let stuck = Fault::on("manifests/", FaultKind::Delay(Duration::from_hours(1))).method(Method::DELETE);
        walk.registry.inject(stuck.after(deletions + BEYOND));
        let mut child = command(&walk, &["apply", file.to_str().unwrap()]).spawn().unwrap();
        while walk.deletions() < deletions && child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        tokio::time::sleep(Duration::from_micros(moments.next(6000))).await;
        in_the_middle += u64::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        ended(&mut child).await;
        walk.registry.clear_faults();
        walk.real_time();
        if round % 4 == 0 {
            exits_well(&walk, &["plan"]).await;
        } else {
            walk.plan().await;
        }
        walk.audit(Some(&plan)).await;
    }
    assert_eq!(in_the_middle, ROUNDS, "each is killed while it removes");

    exits_well(&walk, &["apply", file.to_str().unwrap()]).await;
    walk.real_time();
    walk.advance_clock(1);
    walk.plan().await;
    walk.audit(Some(&plan)).await;
    let journal = walk.journal().await;
    assert!(journal.iter().all(|entry| entry.outcome.is_some()));
    let done: Vec<&JournalEntry> =
        journal.iter().filter(|entry| matches!(entry.outcome, Some((Outcome::Done(_), _)))).collect();
    assert_eq!(done.len(), 304);

    let runs: std::collections::BTreeSet<String> = done.iter().map(|entry| entry.run.to_string()).collect();
    assert!(runs.len() > 5, "{runs:?}");
    for run in runs {
        exits_well(&walk, &["restore", "--run", &run]).await;
    }
    assert!(walk.whole() == whole, "everything is back, byte for byte");
    walk.audit(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_nothing_is_lost() {
    killed_and_restored("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_of_deleting_manifests_nothing_is_lost() {
    killed_and_restored("removal = \"manifest\"").await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_finishes_what_is_in_flight() {
    let (walk, plan, file) = many("concurrency = 2", 20).await;
    let slow = FaultKind::Delay(Duration::from_millis(30));
    walk.registry.inject(Fault::on("manifests/candidate", slow).method(Method::DELETE));
    let mut child = command(&walk, &["apply", file.to_str().unwrap()]).spawn().unwrap();
    while walk.deletions() < 5 {
        assert!(child.try_wait().unwrap().is_none());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(ended(&mut child).await.code(), Some(1));
    walk.audit(Some(&plan)).await;
    let journal = walk.journal().await;
    let count = |label: &str| {
        let label_of = |entry: &&JournalEntry| match &entry.outcome {
            Some((Outcome::Skipped(skip), _)) => skip.label() == label,
            Some((outcome, _)) => outcome.label() == label,
            None => label == "open",
        };
        journal.iter().filter(label_of).count()
    };
    assert_eq!(journal.len(), plan.removals.len());
    assert_eq!(count("open") + count("failed"), 0);
    assert!(count("done") >= 5 && count("interrupted") > 0);
    assert_eq!(count("done") + count("interrupted"), journal.len());
}
