//! The daemon in this process: ticks by hand, and a clock that stands still until it is set.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{Timestamp, ToSpan as _};
use tagwarden::daemon::{Daemon, DaemonError, DaemonOptions, Events};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::{Image, ImageSpec};
use tagwarden::demo::registry::{EmbeddedRegistry, Fault, FaultKind, Options};
use tagwarden::domain::chain;
use tagwarden::registry::RetryPolicy;
use tagwarden::state::{Lease, RunContext, RunRecord, StateStore};
use tagwarden::web::{Activity, DaemonStatus, StatusSnapshot};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::at;

const PATIENCE: RetryPolicy = RetryPolicy {
    max_retries: 1,
    initial_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(5),
    max_total_delay: Duration::from_secs(3),
};

const POLICIES: &str = "policies:
  - { name: candidates, select: { tags: [\"candidate-*\"] }, keep: [{ newest: 1 }], mode: enforce }
";

/// A registry, a folder with settings, and the time.
pub(super) struct DaemonFixture {
    pub(super) registry: EmbeddedRegistry,
    pub(super) folder: TempDir,
    now: Arc<Mutex<Timestamp>>,
}

/// A daemon that lives in a task.
pub(super) struct RunningDaemon {
    status: Arc<DaemonStatus>,
    address: SocketAddr,
    ticks: mpsc::Sender<()>,
    reload: mpsc::Sender<()>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

pub(super) fn image(name: &str, days_old: i64) -> Image {
    let created = at("2026-11-20T00:00:00Z") - (days_old * 24).hours();
    ImageSpec::new(created, &[Blob::layer("base", 4000), Blob::layer(name, 300)]).build()
}

impl DaemonFixture {
    /// With six candidates of which five go, at ten to three in the night of a Friday, in mode `enforce`.
    pub(super) async fn new(schedule: &str) -> Self {
        let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let world = Self { registry, folder, now: Arc::new(Mutex::new(at("2026-11-20T02:50:00Z"))) };
        let now = Arc::clone(&world.now);
        world.registry.set_clock(Arc::new(move || *now.lock().unwrap()));
        world.fill();
        world.settings("enforce", schedule);
        world.policies(POLICIES);
        world
    }

    pub(super) fn fill(&self) {
        for number in 1..=6 {
            let tag = format!("candidate-{number}");
            self.registry.put_image("shop/api", &tag, &image(&tag, 100 - number));
        }
        self.registry.put_image("shop/api", "release-1", &image("release-1", 50));
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn settings(&self, mode: &str, schedule: &str) {
        let endpoint = self.registry.url();
        let text = format!(
            "mode = \"{mode}\"\nlisten = \"127.0.0.1:0\"\n[schedule]\n{schedule}\n[limits]\npercent = 100\n\
             [registries.main]\nkind = \"distribution\"\nendpoint = \"{endpoint}\"\ntimeout = \"3s\"\n"
        );
        fs::write(self.path("tagwarden.toml"), text).unwrap();
    }

    pub(super) fn policies(&self, text: &str) {
        fs::create_dir_all(self.path("policies")).unwrap();
        fs::write(self.path("policies/p.yaml"), text).unwrap();
    }

    pub(super) fn set_time(&self, time: &str) {
        *self.now.lock().unwrap() = at(time);
    }

    pub(super) fn options(&self) -> DaemonOptions {
        let now = Arc::clone(&self.now);
        DaemonOptions {
            file: self.path("tagwarden.toml"),
            environment: Vec::new(),
            by: "anna@build-7".into(),
            clock: Arc::new(move || *now.lock().unwrap()),
            monotonic_clock: None,
            retry_policy: PATIENCE,
        }
    }

    pub(super) async fn start_daemon(&self) -> RunningDaemon {
        Self::start_with(self.options()).await
    }

    pub(super) async fn start_with(options: DaemonOptions) -> RunningDaemon {
        let daemon = Daemon::open(options).await.unwrap();
        let (board, address) = (daemon.status(), daemon.address());
        assert!(!board.snapshot().ready, "not before it lives");
        let (ticks, taken) = mpsc::channel(1);
        let (reload, asked) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(daemon.run(Events { ticks: taken, reload: asked, stop: stopped }));
        let alive = RunningDaemon { status: board, address, ticks, reload, stop, task };
        alive.wait_until(|status| status.ready).await;
        alive
    }

    async fn store(&self) -> StateStore {
        StateStore::open(&self.path("tagwarden.db")).await.unwrap()
    }

    /// The runs, oldest first, with what they went by.
    pub(super) async fn runs(&self) -> Vec<(RunRecord, RunContext)> {
        let store = self.store().await;
        let mut runs = Vec::new();
        for record in store.runs(10_000).await.unwrap().into_iter().rev() {
            let run_context = store.run_context(record.run.id).await.unwrap();
            runs.push((record, run_context));
        }
        store.close().await;
        runs
    }

    /// Of each run its outcome and how many tags it removed.
    async fn outcomes(&self) -> Vec<(String, u64)> {
        let of = |record: &RunRecord| {
            let end = record.end.as_ref().expect("it ended");
            let summary: serde_json::Value = serde_json::from_str(&end.summary).unwrap();
            (end.outcome.clone(), summary["removed"].as_u64().unwrap_or_default())
        };
        self.runs().await.iter().map(|(record, _)| of(record)).collect()
    }

    pub(super) fn tags(&self) -> usize {
        self.registry.tags("shop/api").len()
    }
}

impl RunningDaemon {
    /// A minute passes, and what is due is done.
    pub(super) async fn tick(&self) {
        self.ticks.send(()).await.unwrap();
        // The second one is taken once the first one was dealt with.
        self.ticks.send(()).await.unwrap();
        self.wait_until(|status| status.activity == Activity::Idle).await;
    }

    /// A minute passes, and nobody waits for what that leads to.
    pub(super) async fn begin_tick(&self) {
        self.ticks.send(()).await.unwrap();
    }

    /// Settings and policies are to be read again, and nobody waits for the end of that.
    pub(super) async fn begin_reload(&self) {
        self.reload.send(()).await.unwrap();
        while self.reload.capacity() == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(super) async fn wait_until(&self, what: impl Fn(&StatusSnapshot) -> bool) -> StatusSnapshot {
        for _ in 0..4000 {
            let status = self.status.snapshot();
            if what(&status) && self.ticks.capacity() == 1 {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it never came to that: {:?}", self.status.snapshot());
    }

    pub(super) async fn stop_daemon(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
}

const NIGHTLY: &str = "cron = \"0 3 * * *\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_due_runs_once_and_what_a_restart_missed_is_made_up_for_once() {
    let world = DaemonFixture::new(NIGHTLY).await;
    let alive = world.start_daemon().await;
    let next = alive.status.snapshot().next;
    assert_eq!(
        (next[0].at, &*next[0].description, &next[0].blocked_by),
        (at("2026-11-20T03:00:00Z"), "all policies", &None)
    );
    alive.tick().await;
    assert!(world.runs().await.is_empty(), "before its time");
    world.set_time("2026-11-20T03:00:01Z");
    alive.tick().await;
    alive.tick().await;
    assert_eq!(world.outcomes().await, [("done".to_owned(), 5)]);
    assert_eq!(world.tags(), 2);
    alive.stop_daemon().await;

    world.set_time("2026-11-20T09:00:00Z");
    let alive = world.start_daemon().await;
    alive.tick().await;
    assert_eq!(world.outcomes().await.len(), 1, "nothing was missed");
    alive.stop_daemon().await;

    world.set_time("2026-11-24T09:00:00Z");
    world.fill();
    let alive = world.start_daemon().await;
    alive.tick().await;
    alive.tick().await;
    assert_eq!(world.outcomes().await, [("done".to_owned(), 5), ("done".to_owned(), 5)], "four nights, one run");
    alive.stop_daemon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_dry_runs_only_reads() {
    let world = DaemonFixture::new(NIGHTLY).await;
    world.settings("dry-run", NIGHTLY);
    let alive = world.start_daemon().await;
    world.set_time("2026-11-20T03:00:01Z");
    alive.tick().await;
    assert_eq!((world.outcomes().await, world.tags()), (vec![("done".to_owned(), 0)], 7));
    alive.stop_daemon().await;
    let requests = world.registry.requests();
    let reads = |request: &tagwarden::demo::registry::ServedRequest| {
        [http::Method::GET, http::Method::HEAD].contains(&request.method)
    };
    assert!(!requests.is_empty() && requests.iter().all(reads), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_holds_back_a_run_that_says_so_in_its_record() {
    let freeze = "freeze = [{ from = 2026-11-20, to = 2026-11-20, reason = \"peak season\" }]";
    let world = DaemonFixture::new(&format!("{NIGHTLY}\n{freeze}")).await;
    let alive = world.start_daemon().await;
    let why = "frozen until the end of 2026-11-20: peak season";
    let status = alive.status.snapshot();
    assert_eq!(status.blocked_by.as_deref(), Some(why));
    let held: Vec<bool> = status.next.iter().map(|next| next.blocked_by.is_some()).take(2).collect();
    assert_eq!(held, [true, false]);
    world.set_time("2026-11-20T03:00:00Z");
    alive.tick().await;
    assert_eq!(world.outcomes().await, [("done".to_owned(), 0)]);
    assert_eq!(world.tags(), 7);
    let (record, run_context) = world.runs().await.remove(0);
    assert_eq!(run_context.blocked_by.as_deref(), Some(why));
    assert!(record.end.unwrap().summary.contains("peak season"));
    world.set_time("2026-11-21T03:00:00Z");
    alive.tick().await;
    assert_eq!((world.outcomes().await[1].clone(), world.tags()), (("done".to_owned(), 5), 2));
    assert_eq!(alive.status.snapshot().blocked_by, None);
    alive.stop_daemon().await;
}

/// A tag that two policies let go waits for both; one that another policy keeps stays whoever's turn it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_with_its_own_schedule_removes_then_and_keeps_always() {
    let world = DaemonFixture::new("cron = \"0 3 * * *\"").await;
    world.policies(
        "policies:
  - { name: nightly, select: { tags: [\"candidate-*\"] }, keep: none, mode: enforce }
  - { name: weekly, select: { tags: [\"candidate-1\", \"candidate-2\"] }, keep: none, mode: enforce, schedule: \"0 3 * * 0\" }
  - { name: keeper, select: { tags: [\"candidate-3\"] }, keep: all, mode: enforce, schedule: \"0 4 1 1 *\" }
",
    );
    let left = || world.registry.tags("shop/api").into_keys().filter(|tag| tag.starts_with('c')).collect::<Vec<_>>();
    let alive = world.start_daemon().await;
    world.set_time("2026-11-20T03:00:00Z");
    alive.tick().await;
    assert_eq!(left(), ["candidate-1", "candidate-2", "candidate-3"]);
    let (record, run_context) = world.runs().await.remove(0);
    assert_eq!(run_context.enforced_policies.as_deref(), Some("nightly"));
    let summary: serde_json::Value = serde_json::from_str(&record.end.unwrap().summary).unwrap();
    assert_eq!((&summary["removed"], &summary["pending_schedule"]), (&3.into(), &2.into()));
    // The 22nd is a Sunday.
    world.set_time("2026-11-22T03:00:00Z");
    alive.tick().await;
    assert_eq!(left(), ["candidate-3"]);
    alive.stop_daemon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_edit_is_told_and_the_last_good_policies_go_on() {
    let world = DaemonFixture::new(NIGHTLY).await;
    let alive = world.start_daemon().await;
    let before = alive.status.snapshot().policies;
    world.policies("policies:\n  - { name: candidates, select: { tags: ['*'] }, keep: nothing }\n");
    // Noticed without a tick.
    let status = alive.wait_until(|status| status.policies.problem.is_some()).await;
    let problem = status.policies.problem.unwrap();
    assert!(problem.text.contains("p.yaml:2:") && problem.text.contains("`nothing`"), "{}", problem.text);
    assert_eq!((&status.policies.revision, status.ready), (&before.revision, true));
    world.set_time("2026-11-20T03:00:00Z");
    alive.tick().await;
    assert_eq!(world.outcomes().await, [("done".to_owned(), 5)], "by the policies of before");

    world.policies(&POLICIES.replace("newest: 1", "newest: 2"));
    let status = alive.wait_until(|status| status.policies.problem.is_none()).await;
    assert_ne!(status.policies.revision, before.revision);
    world.fill();
    world.set_time("2026-11-21T03:00:00Z");
    alive.tick().await;
    assert_eq!(world.outcomes().await[1], ("done".to_owned(), 4));
    let runs = world.runs().await;
    let revisions: Vec<&str> = runs.iter().filter_map(|(_, found)| found.revision.as_deref()).collect();
    assert_eq!(revisions, [&*before.revision, &*status.policies.revision]);
    alive.stop_daemon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_takes_up_settings_or_keeps_those_of_before() {
    let world = DaemonFixture::new(NIGHTLY).await;
    let alive = world.start_daemon().await;
    world.settings("dry-run", "cron = \"0 5 * * *\"");
    alive.tick().await;
    assert_eq!(alive.status.snapshot().next[0].at, at("2026-11-20T03:00:00Z"), "edited settings wait to be read");
    alive.reload.send(()).await.unwrap();
    let status = alive.wait_until(|status| status.next[0].at == at("2026-11-20T05:00:00Z")).await;
    assert!(status.blocked_by.unwrap().contains("dry-run"));
    let shown = reqwest::get(format!("http://{}/api/v1/status", alive.address)).await.unwrap().text().await.unwrap();
    assert!(shown.contains("\"mode\":\"dry-run\""), "{shown}");

    let text = fs::read_to_string(world.path("tagwarden.toml")).unwrap();
    fs::write(world.path("tagwarden.toml"), text.replace("dry-run", "dryrun")).unwrap();
    alive.reload.send(()).await.unwrap();
    let status = alive.wait_until(|status| status.policies.problem.is_some()).await;
    assert!(status.policies.problem.unwrap().text.contains("dryrun"));
    alive.tick().await;
    assert!(alive.status.snapshot().policies.problem.is_some(), "policies that are sound do not mend the settings");
    world.set_time("2026-11-20T05:00:00Z");
    alive.tick().await;
    assert_eq!((world.outcomes().await, world.tags()), (vec![("done".to_owned(), 0)], 7));
    alive.stop_daemon().await;
}

/// What a SIGHUP found wrong is no alarm any more once the file is mended, whichever file it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_alarm_of_a_failed_reload_ends_when_its_files_are_mended() {
    let world = DaemonFixture::new(NIGHTLY).await;
    let alive = world.start_daemon().await;
    let settings = fs::read_to_string(world.path("tagwarden.toml")).unwrap();
    let faults: [fn(&DaemonFixture); 3] = [
        |world| world.policies("policies:\n  - { name: x, keep: lots }\n"),
        |world| fs::write(world.path("tagwarden.toml"), "mode = \"enforced\"\n").unwrap(),
        |world| {
            world.policies("policies:\n  - { name: y, keep: lots }\n");
            fs::write(world.path("tagwarden.toml"), "mode = \"enforced\"\n").unwrap();
        },
    ];
    for fault in faults {
        fault(&world);
        alive.reload.send(()).await.unwrap();
        alive.wait_until(|status| status.policies.problem.is_some()).await;
        fs::write(world.path("tagwarden.toml"), &settings).unwrap();
        world.policies(POLICIES);
        alive.tick().await;
        assert_eq!(alive.status.snapshot().policies.problem, None);
    }
    alive.stop_daemon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_waits_for_whoever_removes_by_hand() {
    let world = DaemonFixture::new(NIGHTLY).await;
    let alive = world.start_daemon().await;
    let lease = Lease::take(&world.path("tagwarden.db"), "apply by ben@here").unwrap();
    world.set_time("2026-11-20T03:00:00Z");
    alive.tick().await;
    assert!(world.runs().await.is_empty() && world.tags() == 7);
    drop(lease);
    world.set_time("2026-11-20T03:20:00Z");
    alive.tick().await;
    assert_eq!(world.outcomes().await, [("done".to_owned(), 5)], "put off, not left out");
    alive.stop_daemon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_due_during_a_run_begins_when_that_ends() {
    let world = DaemonFixture::new("cron = \"0-2 3 * * *\"").await;
    let alive = world.start_daemon().await;
    let slow = FaultKind::Delay(Duration::from_millis(150));
    world.registry.inject(Fault::on("manifests/candidate", slow).method(http::Method::DELETE));
    world.set_time("2026-11-20T03:00:00Z");
    alive.begin_tick().await;
    while world.tags() == 7 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // The second one is due, and its minute passes.
    world.set_time("2026-11-20T03:01:00Z");
    alive.begin_tick().await;
    alive.wait_until(|status| status.activity == Activity::Idle).await;
    assert_eq!(world.outcomes().await, [("done".to_owned(), 5), ("done".to_owned(), 0)]);
    // Nothing is due twice.
    alive.tick().await;
    assert_eq!(world.runs().await.len(), 2);
    alive.stop_daemon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_is_told_who_was_first() {
    let world = DaemonFixture::new(NIGHTLY).await;
    let alive = world.start_daemon().await;
    let Err(DaemonError::Run(error)) = Daemon::open(world.options()).await else { panic!("two daemons on one state") };
    assert_eq!(error.exit_code(), 3);
    let words = chain(&error);
    assert!(
        words.contains("serve by anna@build-7, process ") && words.contains("since 2026-11-20T02:50:00Z"),
        "{words}"
    );
    alive.stop_daemon().await;
    let again = world.start_daemon().await;
    again.stop_daemon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_record_nothing_is_removed_and_the_next_minute_tries_again() {
    use sqlx::{ConnectOptions as _, Connection as _};
    let world = DaemonFixture::new(NIGHTLY).await;
    let alive = world.start_daemon().await;
    let meddle = async |statement: &'static str| {
        let file = world.path("tagwarden.db");
        let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(file).connect().await.unwrap();
        sqlx::query(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    meddle("CREATE TRIGGER full BEFORE INSERT ON schedules BEGIN SELECT raise(ABORT, 'database or disk is full'); END")
        .await;
    world.set_time("2026-11-20T03:00:00Z");
    alive.tick().await;
    assert!(!alive.status.snapshot().ready);
    assert!(world.runs().await.is_empty() && world.tags() == 7);
    meddle("DROP TRIGGER full").await;
    world.set_time("2026-11-20T03:01:00Z");
    alive.tick().await;
    assert!(alive.status.snapshot().ready);
    assert_eq!((world.outcomes().await, world.tags()), (vec![("done".to_owned(), 5)], 2));
    alive.stop_daemon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_that_ends_lets_no_further_removal_begin() {
    let world = DaemonFixture::new(&format!("{NIGHTLY}\nwindow = {{ hours = \"02:00-04:00\" }}")).await;
    let alive = world.start_daemon().await;
    world.set_time("2026-11-20T03:00:00Z");
    let slow = FaultKind::Delay(Duration::from_millis(150));
    world.registry.inject(Fault::on("manifests/candidate", slow).method(http::Method::DELETE));
    alive.ticks.send(()).await.unwrap();
    while world.tags() == 7 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    world.set_time("2026-11-20T04:00:00Z");
    alive.wait_until(|status| status.activity == Activity::Idle).await;
    let (record, _) = world.runs().await.remove(0);
    let store = world.store().await;
    let journal = store.journal(record.run.id).await.unwrap();
    let labels: Vec<String> = journal
        .iter()
        .map(|entry| match &entry.outcome.as_ref().unwrap().0 {
            tagwarden::domain::Outcome::Skipped(skip) => format!("{}: {skip}", skip.label()),
            outcome => outcome.label().to_owned(),
        })
        .collect();
    assert!(labels.iter().any(|label| label == "done"), "{labels:?}");
    let held = "blocked: held back: outside the window every day 02:00-04:00, which opens Sat 2026-11-21 02:00 UTC";
    assert!(labels.iter().any(|label| label == held), "{labels:?}");
    assert_eq!(record.end.unwrap().outcome, "done");
    assert!(world.tags() > 2);
    store.close().await;
    alive.stop_daemon().await;
}

/// A week of hourly runs: neither open files nor the state grow with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_week_of_hourly_runs_leaves_nothing_behind() {
    let world = DaemonFixture::new("cron = \"0 * * * *\"").await;
    let text = fs::read_to_string(world.path("tagwarden.toml")).unwrap();
    fs::write(
        world.path("tagwarden.toml"),
        format!("undo_window = \"1h\"\n{text}[records]\nkeep = \"1d\"\nplans = \"6h\"\n"),
    )
    .unwrap();
    let alive = world.start_daemon().await;
    let files = || fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let state = || fs::metadata(world.path("tagwarden.db")).unwrap().len();
    let (mut now, mut seen) = (at("2026-11-20T03:00:00Z"), Vec::new());
    for hour in 1..=7 * 24 {
        world.registry.put_image("shop/api", &format!("candidate-{}", 100 + hour), &image(&format!("new-{hour}"), 0));
        *world.now.lock().unwrap() = now;
        alive.tick().await;
        if hour % 24 == 0 {
            seen.push((files(), state()));
        }
        now += 1.hour();
    }
    let runs = world.runs().await;
    assert!((24..=49).contains(&runs.len()), "of two days at most: {}", runs.len());
    let (files_then, state_then) = seen[2];
    let (files_now, state_now) = seen[6];
    assert!(files_now <= files_then + 3, "{seen:?}");
    assert!(state_now <= state_then + state_then / 4, "{seen:?}");
    alive.stop_daemon().await;
}
