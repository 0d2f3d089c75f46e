//! Several daemons of the real binary with one state in PostgreSQL: they, their database and the connections between
//! die while they remove.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::ImageSpec;
use tagwarden::demo::registry::{EmbeddedRegistry, Fault, FaultKind, Options};
use tagwarden::domain::Outcome;
use tagwarden::state::{JournalEntry, NewRun, RunEnd, RunKind, RunRecord, StateStore};
use tempfile::TempDir;
use uuid::Uuid;

use super::at;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;

/// Tags that are there to be removed from each registry by the first plan, for each leader that removes by it.
const STOCK: usize = 15;
/// Most deaths of one state and one plan.
const ROUNDS: usize = 15;
/// A schedule whose time is long ago, so that no run is due but those that a death leaves unfinished.
const LONG_AGO: &str = "0 3 1 1 *";

const POLICIES: &str =
    "policies:\n  - { name: old, select: { tags: ['c-*'] }, keep: [{ newest: 1 }], mode: enforce }\n";

#[expect(clippy::disallowed_methods, reason = "the daemons have no other clock")]
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

pub(super) struct Replica {
    pub(super) process: Child,
    log: PathBuf,
    /// The network between it and the database.
    pub(super) proxy: Proxy,
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Replica {
    pub(super) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap().success());
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The answer to a request of a path.
    async fn get(&self, path: &str) -> String {
        let log = self.log();
        let address = log.split("listening on http://").nth(1).unwrap().split([',', '"', ' ']).next().unwrap();
        reqwest::get(format!("http://{address}{path}")).await.unwrap().text().await.unwrap()
    }
}

/// Registries, a server, and a folder with settings for all replicas.
pub(super) struct World {
    pub(super) registries: Vec<EmbeddedRegistry>,
    pub(super) server: Postgres,
    pub(super) store: StateStore,
    pub(super) folder: TempDir,
    /// How many tags are there to be removed from each registry, at least, whenever a daemon takes over.
    stock: usize,
    /// How many tags were pushed to each registry.
    pushed: usize,
    started: usize,
    /// How much longer everything takes between a replica and its database.
    delay: Duration,
}

impl World {
    async fn new(stock: usize) -> Self {
        let mut world = Self::with_schedule(3, LONG_AGO, at("2020-06-01T00:00:00Z")).await;
        world.stock = stock;
        world.stock_up();
        world
    }

    /// With empty registries and a schedule that was handled until then.
    pub(super) async fn with_schedule(count: usize, schedule: &str, handled: Timestamp) -> Self {
        let server = Postgres::start().await;
        let folder = tempfile::tempdir().unwrap();
        let mut registries = Vec::new();
        let mut settings = format!(
            "mode = \"enforce\"\nlisten = \"127.0.0.1:0\"\nstate = \"{}\"\n[postgres]\npassword_file = \"{}\"\n\
             [limits]\npercent = 100\nuntag = 1000000\n[schedule]\ncron = \"{schedule}\"\n",
            server.url(),
            server.password_file().display(),
        );
        for number in 0..count {
            let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
            let slow = FaultKind::Delay(Duration::from_millis(50));
            registry.inject(Fault::on("manifests/c-", slow).method(http::Method::DELETE));
            settings.extend([format!(
                "[registries.r{number}]\nkind = \"distribution\"\nendpoint = \"{}\"\ntimeout = \"3s\"\nconcurrency = 2\n\
                 accept = [\"same-content\"]\n",
                registry.url()
            )]);
            registries.push(registry);
        }
        fs::write(folder.path().join("tagwarden.toml"), settings).unwrap();
        fs::create_dir(folder.path().join("policies")).unwrap();
        fs::write(folder.path().join("policies/old.yaml"), POLICIES).unwrap();
        let store = StateStore::open(server.location()).await.unwrap();
        store.record_schedule_progress(&[(format!("{schedule} UTC"), handled)].into()).await.unwrap();
        Self { registries, server, store, folder, stock: 0, pushed: 0, started: 0, delay: Duration::ZERO }
    }

    /// Pushes tags until enough are there to be removed.
    fn stock_up(&mut self) {
        let fewest = self.registries.iter().map(|registry| registry.tags("shop/api").len()).min().unwrap();
        self.push((self.stock + 1).saturating_sub(fewest));
    }

    /// Pushes so many tags to each registry.
    pub(super) fn push(&mut self, count: usize) {
        for _ in 0..count {
            let created = at("2026-01-01T00:00:00Z") + SignedDuration::from_mins(i64::try_from(self.pushed).unwrap());
            let image = ImageSpec::new(created, &[Blob::layer(&format!("layer {}", self.pushed), 200)]).build();
            for registry in &self.registries {
                registry.put_image("shop/api", &format!("c-{}", self.pushed), &image);
            }
            self.pushed += 1;
        }
    }

    pub(super) async fn start(&mut self) -> Replica {
        self.started += 1;
        let log = self.folder.path().join(format!("log-{}", self.started));
        let proxy = Proxy::start(self.server.port).await;
        proxy.delay(self.delay);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tagwarden"));
        command.arg("serve").arg("--config").arg(self.folder.path().join("tagwarden.toml")).env_clear();
        command.env("USER", "anna").env("TAGWARDEN_LOG_FORMAT", "json");
        command.env("TAGWARDEN__STATE", Postgres::url_at(proxy.port));
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        Replica { process: process.spawn().unwrap(), log, proxy }
    }

    /// Starts some, and waits until all of them listen.
    pub(super) async fn start_all(&mut self, count: usize) -> Vec<Replica> {
        let mut replicas = Vec::new();
        for _ in 0..count {
            replicas.push(self.start().await);
        }
        let up = async || replicas.iter().all(|one| one.log().contains("listening on http"));
        self.until(&replicas, "all are up", up).await;
        replicas
    }

    /// What is gone from each registry.
    pub(super) fn removed(&self) -> BTreeSet<(String, String)> {
        let mut removed = BTreeSet::new();
        for (number, registry) in self.registries.iter().enumerate() {
            let there = registry.tags("shop/api");
            let pushed = (0..self.pushed).map(|tag| format!("c-{tag}")).filter(|tag| !there.contains_key(tag));
            removed.extend(pushed.map(|tag| (format!("r{number}"), tag)));
        }
        removed
    }

    pub(super) async fn until(&self, replicas: &[Replica], what: &str, done: impl AsyncFn() -> bool) {
        let begun = Instant::now();
        while !done().await {
            if begun.elapsed() > Duration::from_mins(1) {
                let logs: Vec<String> = replicas.iter().map(Replica::log).collect();
                panic!("never: {what}\n{}", logs.join("\n----\n"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn removes(&self, replicas: &[Replica]) {
        let before = self.removed().len();
        self.until(replicas, "a removal", async || self.removed().len() >= before + 6).await;
    }

    /// Which of these leads; `None` while none does.
    pub(super) async fn leader(&self, replicas: &[Replica]) -> Option<usize> {
        // The database may be starting anew.
        let holder = self.store.daemon_holder().await.ok()??;
        replicas.iter().position(|replica| holder.contains(&format!("process {},", replica.process.id())))
    }

    /// Lets fifteen seconds pass for whoever does not renew a lease.
    async fn expire(&self) {
        self.server
            .meddle(
                "UPDATE leases SET expires_at = '-infinity';
                 UPDATE registry_leases SET expires_at = '-infinity'",
            )
            .await;
    }

    pub(super) async fn records(&self) -> (Vec<RunRecord>, Vec<JournalEntry>) {
        let runs = self.store.runs(10_000).await.unwrap();
        let mut entries = Vec::new();
        for run in &runs {
            entries.extend(self.store.journal(run.run.id).await.unwrap());
        }
        (runs, entries)
    }

    /// Whether each of these runs, the newest first, went on with the plan of the one before that did anything. The record
    /// of a run whose daemon lost the database may arrive after the next run has begun.
    async fn assert_one_plan(&self, runs: &[RunRecord]) {
        for (number, run) in runs.iter().enumerate() {
            let continues = self.store.run_context(run.run.id).await.unwrap().continues;
            let earlier: Vec<_> = runs[number + 1..].iter().map(|before| before.run.id).collect();
            assert_eq!(continues.is_none(), earlier.is_empty(), "run {number} from the end");
            let last = continues.map(|one| earlier.iter().position(|before| *before == one).expect("it was before"));
            for skipped in &earlier[..last.unwrap_or_default()] {
                let did = self.store.journal(*skipped).await.unwrap();
                assert!(did.is_empty(), "run {number} from the end, of {runs:#?}, left out {skipped}: {did:#?}");
            }
            // One that died early has no copy of it.
            assert!(run.plan_id.is_none() || run.plan_id == runs[0].plan_id, "run {number} from the end");
        }
    }

    /// Whether registries and journal say the same, and nothing was done twice.
    pub(super) async fn audit(&self) {
        let (_, entries) = self.records().await;
        let mut done = BTreeMap::<(String, String), usize>::new();
        for entry in &entries {
            assert!(entry.outcome.is_some(), "open: {entry:?}");
            if matches!(entry.outcome, Some((Outcome::Done(_), _))) {
                let intent = &entry.intent;
                *done.entry((intent.registry.to_string(), intent.tag.to_string())).or_default() += 1;
            }
        }
        let twice: Vec<_> = done.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "journaled twice: {twice:?}");
        assert_eq!(done.into_keys().collect::<BTreeSet<_>>(), self.removed());
    }
}

/// Numbers that look random, and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Leader,
    /// It sleeps for longer than its lease, and goes on.
    LeaderSleeps,
    /// Its network does, and comes back once another one has taken over.
    Connection,
    Database,
    Both,
}

impl Death {
    const ALL: [Self; 5] = [Self::Leader, Self::LeaderSleeps, Self::Connection, Self::Database, Self::Both];

    fn kills_leader(self) -> bool {
        matches!(self, Self::Leader | Self::Both)
    }

    fn kills_database(self) -> bool {
        matches!(self, Self::Database | Self::Both)
    }
}

/// Three replicas, and deaths of what they consist of, while they remove or at any other moment. The first lease
/// expires by itself. If messages are `late`, what the leader sends at its end arrives after another one leads.
async fn replicas_take_over(rounds: usize, seed: u64, late: bool) {
    let mut world = World::new(STOCK * (rounds + 1)).await;
    if late {
        world.delay = Duration::from_millis(3);
    }
    let mut numbers = Numbers(seed);
    let mut replicas = world.start_all(3).await;
    for round in 0..rounds {
        let death = Death::ALL[round % Death::ALL.len()];
        if round > 2 && numbers.below(3) == 0 {
            // While it settles what was open, reads, or has only just begun.
            world.until(&replicas, "one leads", async || world.leader(&replicas).await.is_some()).await;
            tokio::time::sleep(Duration::from_millis(numbers.below(1500))).await;
        } else {
            world.removes(&replicas).await;
            tokio::time::sleep(Duration::from_millis(numbers.below(300))).await;
        }
        let leader = world.leader(&replicas).await.expect("somebody removes");
        if round == 0 {
            world.assert_roles(&replicas, leader).await;
        }
        if death == Death::Database {
            world.database_dies(numbers.below(1000)).await;
            continue;
        }
        let proxy = &replicas[leader].proxy;
        let (stranded, delivered) = (proxy.stranded(), proxy.late_requests());
        let is_late = late && !death.kills_database();
        if is_late {
            // What it is about to ask arrives after another one leads.
            proxy.strand();
            world.until(&replicas, "a request is held back", async || proxy.stranded() > stranded).await;
        }
        match death {
            Death::Connection => proxy.sever(),
            Death::LeaderSleeps => replicas[leader].signal("-STOP"),
            Death::Leader | Death::Both | Death::Database => replicas[leader].signal("-KILL"),
        }
        if death.kills_database() {
            world.database_dies(numbers.below(1000)).await;
        }
        world.stock_up();
        if round > 0 {
            world.expire().await;
        }
        let begun = Instant::now();
        let next = async || world.leader(&replicas).await.is_some_and(|next| next != leader);
        world.until(&replicas, "another one takes over", next).await;
        assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
        let proxy = &replicas[leader].proxy;
        if is_late {
            proxy.deliver();
            world.until(&replicas, "it arrives late", async || proxy.late_requests() > delivered).await;
        }
        if death.kills_leader() {
            let new = world.start().await;
            replicas[leader] = new;
        } else {
            tokio::time::sleep(Duration::from_millis(numbers.below(1500))).await;
            proxy.heal();
            replicas[leader].signal("-CONT");
        }
    }
    world.assert_end(replicas, rounds).await;
}

impl World {
    /// Whether each replica tells its role.
    async fn assert_roles(&self, replicas: &[Replica], leader: usize) {
        for (number, replica) in replicas.iter().enumerate() {
            let said = replica.get("/readyz").await;
            let id = replicas[leader].process.id();
            let fits = if number == leader {
                said == "ready\nleader\n"
            } else {
                said == "ready\nstand-by\n" && replica.get("/").await.contains(&format!("process {id},"))
            };
            assert!(fits, "{number}: {said}");
        }
    }

    /// Kills the database, and starts it again after so many milliseconds.
    pub(super) async fn database_dies(&mut self, milliseconds: u64) {
        self.server.kill();
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        self.server.restart().await;
    }

    /// Lets the last run end, and compares all that is on record after so many deaths.
    async fn assert_end(&self, mut replicas: Vec<Replica>, deaths: usize) {
        for registry in &self.registries {
            registry.clear_faults();
        }
        let over = async || {
            let (runs, _) = self.records().await;
            runs[0].end.as_ref().is_some_and(|end| end.outcome == "done")
        };
        self.until(&replicas, "the last run is over", over).await;
        let (runs, _) = self.records().await;
        assert!(runs.iter().all(|run| run.run.kind == RunKind::Run));
        assert!(runs.len() <= deaths + 1, "{} runs: one for each death at most, and the one that was due", runs.len());
        self.assert_one_plan(&runs).await;
        for replica in &mut replicas {
            replica.signal("-TERM");
            replica.process.wait().unwrap();
        }
        // What is too young to be settled by then is settled by the next run.
        tokio::time::sleep(Duration::from_millis(3100)).await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tagwarden"));
        command
            .arg("run")
            .arg("--config")
            .arg(self.folder.path().join("tagwarden.toml"))
            .env_clear()
            .env("USER", "anna");
        let last = command.output().unwrap();
        assert_eq!(last.status.code(), Some(0), "{}", String::from_utf8_lossy(&last.stderr));
        self.audit().await;
    }
}

/// As many deaths as `TAGWARDEN_TEST_ROUNDS` says, for each of the tests: thirty together unless it says more.
async fn deaths(seed: u64, late: bool) {
    #[expect(clippy::disallowed_methods, reason = "more rounds are asked for by hand")]
    let asked = std::env::var("TAGWARDEN_TEST_ROUNDS").ok().and_then(|text| text.parse().ok());
    let mut left: usize = asked.unwrap_or(ROUNDS);
    for world in 0.. {
        let rounds = left.min(ROUNDS);
        replicas_take_over(rounds, seed + world, late).await;
        left -= rounds;
        if left == 0 {
            break;
        }
        println!("{left} deaths are left");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_or_is_stopped_is_followed_by_another() {
    deaths(7, false).await;
}

/// The network delays everything, and what a leader sent when it died or was stopped arrives after another one leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_leader_sent_arrives_late_and_removes_nothing() {
    deaths(1011, true).await;
}

/// However often daemons die, they remove together what the first one planned, and nothing that came later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_taken_over_goes_on_with_its_plan() {
    let mut world = World::new(100).await;
    let planned: BTreeSet<String> = (0..world.pushed - 1).map(|tag| format!("c-{tag}")).collect();
    let mut replicas = world.start_all(2).await;
    world.until(&replicas, "one leads", async || world.leader(&replicas).await.is_some()).await;
    for _ in 0..2 {
        world.removes(&replicas).await;
        let leader = world.leader(&replicas).await.expect("somebody removes");
        replicas[leader].signal("-KILL");
        replicas[leader].process.wait().unwrap();
        assert!(world.removed().len() < world.registries.len() * planned.len(), "it was killed in the middle");
        // A decision of now would remove these as well, and the tag that was the newest.
        world.stock_up();
        world.expire().await;
        let new = world.start().await;
        replicas[leader] = new;
    }
    let over = async || {
        let (runs, _) = world.records().await;
        runs.len() == 3 && runs[0].end.is_some()
    };
    world.until(&replicas, "the third run is over", over).await;
    let (runs, _) = world.records().await;
    let end = runs[0].end.as_ref().unwrap();
    assert_eq!(end.outcome, "done", "{end:?}");
    world.assert_one_plan(&runs).await;
    let all = (0..world.registries.len())
        .flat_map(|number| planned.iter().map(move |tag| (format!("r{number}"), tag.clone())));
    assert_eq!(world.removed(), all.collect::<BTreeSet<_>>());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagwarden"));
    command.args(["runs", "show", "last", "--config"]).arg(world.folder.path().join("tagwarden.toml"));
    let shown = String::from_utf8(command.env_clear().env("USER", "anna").output().unwrap().stdout).unwrap();
    assert!(shown.contains(&format!("the plan of run {}, which was not finished", runs[1].run.id)), "{shown}");
}

/// A recorded run of the daemon that led before, which had that outcome so many minutes ago; `None` if it has no end.
async fn record_run(store: &StateStore, end: Option<(&str, i64)>) -> Uuid {
    let now = now();
    let run = NewRun {
        id: Uuid::now_v7(),
        kind: RunKind::Run,
        mode: "enforce".to_owned(),
        started_at: now - SignedDuration::from_mins(10),
        started_by: "anna@elsewhere".to_owned(),
        version: "0.1.0".to_owned(),
        approved_by: None,
        ticket: None,
    };
    store.begin_run(&run).await.unwrap();
    if let Some((outcome, minutes)) = end {
        let ended_at = now - SignedDuration::from_mins(minutes);
        let end = RunEnd { ended_at, outcome: outcome.to_owned(), exit_code: 1, summary: "{}".to_owned(), error: None };
        store.finish_run(run.id, &end).await.unwrap();
    }
    run.id
}

/// Whichever way the daemon before ended, its run is begun again if it was not finished, and only then. It may also learn
/// late that it leads no longer, so that its run is begun or ended when another one leads already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_leader_before_did_not_finish_is_begun_again() {
    let mut world = World::with_schedule(1, LONG_AGO, now()).await;
    world.push(1);
    let is_begun_again = async |world: &World, before: Uuid| world.store.runs(1).await.unwrap()[0].run.id != before;
    for (end, is_resumed) in [
        (None, true),
        (Some(("interrupted", 0)), true),
        (Some(("interrupted", 5)), false),
        (Some(("error", 0)), false),
        (Some(("refused", 0)), false),
        (Some(("done", 0)), false),
    ] {
        let before = record_run(&world.store, end).await;
        let replicas = world.start_all(1).await;
        world.until(&replicas, "it leads", async || world.leader(&replicas).await.is_some()).await;
        if is_resumed {
            world.until(&replicas, "it goes on", async || is_begun_again(&world, before).await).await;
        } else {
            // It looks every three seconds.
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert!(!is_begun_again(&world, before).await, "{end:?}:\n{}", replicas[0].log());
            let late = record_run(&world.store, Some(("interrupted", 0))).await;
            world.until(&replicas, "it goes on late", async || is_begun_again(&world, late).await).await;
        }
        drop(replicas);
        world.expire().await;
    }
}
