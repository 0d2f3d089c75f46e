//! The real binary with its state in PostgreSQL, and a server that dies while it reads or removes.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use http::Method;
use tagwarden::demo::blob::Blob;
use tagwarden::demo::image::ImageSpec;
use tagwarden::demo::registry::{EmbeddedRegistry, Fault, FaultKind, Options};
use tagwarden::domain::Outcome;
use tagwarden::state::{JournalEntry, StateStore};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::postgres::{PASSWORD, Postgres, client_program};
use crate::support::proxy::Proxy;

const TAGS: usize = 240;

const POLICIES: &str =
    "policies:\n  - { name: old, select: { tags: ['c-*'] }, keep: [{ newest: 1 }], mode: enforce }\n";

/// A registry, a server, and a folder with settings that name both.
struct Fixture {
    registry: EmbeddedRegistry,
    server: Postgres,
    folder: TempDir,
}

struct Output {
    code: i32,
    out: String,
    err: String,
}

impl Fixture {
    async fn new() -> Self {
        let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
        for number in 0..TAGS {
            let created = "2026-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap()
                + jiff::SignedDuration::from_mins(i64::try_from(number).unwrap());
            let image = ImageSpec::new(created, &[Blob::layer(&format!("layer {number}"), 200)]).build();
            registry.put_image("shop/api", &format!("c-{number}"), &image);
        }
        let server = Postgres::start().await;
        let folder = tempfile::tempdir().unwrap();
        let settings = format!(
            "mode = \"enforce\"\nstate = \"{}\"\n[postgres]\npassword_file = \"{}\"\n[limits]\npercent = 100\n\
             [registries.main]\nkind = \"distribution\"\nendpoint = \"{}\"\n",
            server.url(),
            server.password_file().display(),
            registry.url(),
        );
        fs::write(folder.path().join("tagwarden.toml"), settings).unwrap();
        fs::create_dir(folder.path().join("policies")).unwrap();
        fs::write(folder.path().join("policies/old.yaml"), POLICIES).unwrap();
        Self { registry, server, folder }
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tagwarden"));
        command.args(words.split_whitespace()).current_dir(self.folder.path()).env_clear();
        command.env("HOME", self.folder.path()).env("USER", "anna").env("RUST_LOG", "debug,sqlx=trace");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn run(&self, words: &str) -> Output {
        let output = self.command(words).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        for text in [&out, &err] {
            assert!(!text.contains(PASSWORD), "a secret is shown:\n{text}");
        }
        Output { code: output.status.code().unwrap(), out, err }
    }

    fn tags(&self) -> BTreeSet<String> {
        self.registry.tags("shop/api").into_keys().collect()
    }

    fn removed(&self) -> BTreeSet<String> {
        let there = self.tags();
        (0..TAGS).map(|number| format!("c-{number}")).filter(|tag| !there.contains(tag)).collect()
    }

    async fn journal(&self) -> Vec<JournalEntry> {
        let store = StateStore::open(self.server.location()).await.unwrap();
        let mut entries = Vec::new();
        for run in store.runs(100).await.unwrap() {
            entries.extend(store.journal(run.run.id).await.unwrap());
        }
        store.close().await;
        entries
    }
}

fn tags<'a>(entries: impl IntoIterator<Item = &'a JournalEntry>) -> BTreeSet<String> {
    entries.into_iter().map(|entry| entry.intent.tag.as_str().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_ends_the_removals_and_the_journal_has_every_one() {
    let mut fixture = Fixture::new().await;
    // Removals go on until the server is dead, however slow this machine is.
    let slow = Fault::on("manifests/", FaultKind::Delay(Duration::from_millis(20))).method(Method::DELETE);
    fixture.registry.inject(slow);
    for round in 1..=2 {
        let before = fixture.removed().len();
        let child = fixture.command("run").spawn().unwrap();
        while fixture.removed().len() < before + 8 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fixture.server.kill();
        let output = child.wait_with_output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("nothing is removed meanwhile"), "{said}");
        let removed = fixture.removed();
        assert!(removed.len() < TAGS - 1, "round {round} was killed in the middle");

        fixture.server.restart().await;
        // As fifteen seconds later.
        fixture.server.meddle("UPDATE leases SET expires_at = '-infinity'").await;
        let journal = fixture.journal().await;
        let missing: Vec<_> = removed.difference(&tags(&journal)).cloned().collect();
        assert_eq!(missing, [""; 0], "removed without an intent");
    }
    fixture.registry.clear_faults();
    // What is open is settled by the next run; then the journal and the registry say the same.
    let last = fixture.run("run").await;
    assert!(last.code == 0 || last.code == 4, "{}\n{}", last.out, last.err);
    let journal = fixture.journal().await;
    let done = tags(journal.iter().filter(|entry| matches!(entry.outcome, Some((Outcome::Done(_), _)))));
    assert_eq!(done, fixture.removed());
    assert_eq!(fixture.tags(), BTreeSet::from([format!("c-{}", TAGS - 1)]));
}

/// Whoever gets no answer does not know whether its entry was written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_lose_no_entry_and_remove_nothing_twice() {
    let fixture = Fixture::new().await;
    let slow = Fault::on("manifests/", FaultKind::Delay(Duration::from_millis(5))).method(Method::DELETE);
    fixture.registry.inject(slow);
    let proxy = Proxy::start(fixture.server.port).await;
    let url = Postgres::url_at(proxy.port);
    let mut rounds = 0;
    while fixture.tags().len() > 1 {
        rounds += 1;
        assert!(rounds < 100, "it comes to no end: {} tags", fixture.tags().len());
        let before = fixture.removed().len();
        let mut command = fixture.command("run");
        command.env("TAGWARDEN__STATE", &url).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        while fixture.removed().len() < before + 3 && child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while child.try_wait().unwrap().is_none() {
            proxy.cut();
            // One that survives that goes on, until it does not.
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        let journal = fixture.journal().await;
        let missing: Vec<_> = fixture.removed().difference(&tags(&journal)).cloned().collect();
        assert_eq!(missing, [""; 0], "removed without an intent");
        fixture.server.meddle("UPDATE leases SET expires_at = '-infinity'").await;
    }
    assert!(proxy.lost_answers() > 3, "{} answers were lost", proxy.lost_answers());
    let last = fixture.run("run").await;
    assert_eq!(last.code, 0, "{}\n{}", last.out, last.err);
    let journal = fixture.journal().await;
    assert!(journal.iter().all(|entry| entry.outcome.is_some()), "nothing stays open");
    let done: Vec<_> = journal.iter().filter(|entry| matches!(entry.outcome, Some((Outcome::Done(_), _)))).collect();
    assert_eq!(tags(done.iter().copied()), fixture.removed());
    assert_eq!(done.len(), fixture.removed().len(), "each was removed once");
}

/// Whoever repeats what seems lost has it done once, also where both arrive, the later one long after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_arrive_late_and_again_journal_nothing_twice() {
    let fixture = Fixture::new().await;
    let slow = Fault::on("manifests/", FaultKind::Delay(Duration::from_millis(5))).method(Method::DELETE);
    fixture.registry.inject(slow);
    let proxy = Proxy::start(fixture.server.port).await;
    proxy.delay(Duration::from_millis(2));
    let url = Postgres::url_at(proxy.port);
    let mut rounds = 0;
    while fixture.tags().len() > 1 {
        rounds += 1;
        assert!(rounds < 100, "it comes to no end: {} tags", fixture.tags().len());
        let before = fixture.removed().len();
        let mut command = fixture.command("run");
        command.env("TAGWARDEN__STATE", &url).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        while fixture.removed().len() < before + 40 && child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while child.try_wait().unwrap().is_none() {
            let before = proxy.stranded();
            proxy.strand();
            while proxy.stranded() == before && child.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // Time for a new connection and the request on it. Without that connections alone would break, whose attempts
            // last for ten seconds, and no request would be repeated.
            tokio::time::sleep(Duration::from_millis(200)).await;
            // Before the process gave up in one round, and after its end in another.
            if rounds % 2 == 0 {
                proxy.deliver();
            }
        }
        proxy.deliver();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let journal = fixture.journal().await;
        let missing: Vec<_> = fixture.removed().difference(&tags(&journal)).cloned().collect();
        assert_eq!(missing, [""; 0], "removed without an intent");
        fixture.server.meddle("UPDATE leases SET expires_at = '-infinity'").await;
    }
    assert!(proxy.late_requests() > 3, "{} requests arrived late", proxy.late_requests());
    let last = fixture.run("run").await;
    assert_eq!(last.code, 0, "{}\n{}", last.out, last.err);
    let journal = fixture.journal().await;
    assert!(journal.iter().all(|entry| entry.outcome.is_some()), "nothing stays open");
    let done: Vec<_> = journal.iter().filter(|entry| matches!(entry.outcome, Some((Outcome::Done(_), _)))).collect();
    assert_eq!(tags(done.iter().copied()), fixture.removed());
    assert_eq!(done.len(), fixture.removed().len(), "each was removed once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_work_as_with_a_file_and_show_no_password() {
    let fixture = Fixture::new().await;
    let plan = fixture.run("plan --out plan.json").await;
    assert_eq!(plan.code, 0, "{}", plan.err);
    let applied = fixture.run("apply plan.json").await;
    assert_eq!(applied.code, 0, "{}", applied.err);
    assert_eq!(fixture.tags().len(), 1);
    let runs = fixture.run("runs --format json").await;
    assert_eq!(runs.code, 0, "{}", runs.err);
    let runs = serde_json::from_str::<serde_json::Value>(&runs.out).unwrap()["runs"].clone();
    let run = runs.as_array().unwrap().iter().find(|run| run["kind"] == "apply").unwrap()["id"].as_str().unwrap();
    // The lease was given back when the command before ended, so nobody waits for it.
    let restored = fixture.run(&format!("restore --run {run}")).await;
    assert_eq!(restored.code, 0, "{}", restored.err);
    assert_eq!(fixture.tags().len(), TAGS);
    let checked = fixture.run("state check").await;
    assert_eq!(checked.code, 0, "{}\n{}", checked.out, checked.err);
    assert!(checked.out.contains("damage: none found"), "{}", checked.out);
    let copied = fixture.run(&format!("state copy {} sqlite:copy.db", fixture.server.url())).await;
    assert_eq!(copied.code, 0, "{}", copied.err);
    let again = fixture.run(&format!("state copy {} sqlite:copy.db", fixture.server.url())).await;
    assert_eq!(again.code, 2, "{}", again.err);
    let secret = fixture.server.url().replace('@', &format!(":{}@", PASSWORD.replace('/', "%2F")));
    let refused = fixture.command(&format!("state copy {secret} sqlite:other.db")).output().await.unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("a password stands in the URL") && !said.contains("sesame"), "{said}");
}

/// A state that cannot be written any more costs a dry run its record, not its report.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_prints_its_report_also_where_it_cannot_be_recorded() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.run("state check").await.code, 0);
    fixture.server.meddle("ALTER TABLE plan_chunks RENAME TO away").await;
    let plan = fixture.run("plan --out plan.json").await;
    assert_eq!(plan.code, 0, "{}", plan.err);
    assert!(plan.out.contains("c-17"), "{}", plan.out);
    assert!(plan.err.contains("the dry run could not be recorded"), "{}", plan.err);
    assert!(fixture.folder.path().join("plan.json").exists());
    // One that removes does not begin to.
    let run = fixture.run("run").await;
    assert_eq!(run.code, 1, "{}", run.err);
    assert_eq!(fixture.tags().len(), TAGS);
}

/// A database that dies while the registries are read costs a dry run what only the state knows, not its report.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_that_loses_the_state_while_it_reads_completes_its_report() {
    let mut fixture = Fixture::new().await;
    for number in 0..3 {
        let created =
            "2026-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap() + jiff::SignedDuration::from_hours(number);
        let image = ImageSpec::new(created, &[Blob::layer(&format!("first {number}"), 200)]).build();
        fixture.registry.put_image("shop/aged", &format!("c-{number}"), &image);
    }
    assert_eq!(fixture.run("state check").await.code, 0);
    // The repository that is read at once is decided before the state is lost, the slow one after it.
    let reads = |fixture: &Fixture| {
        let requests = fixture.registry.requests();
        requests.iter().filter(|one| one.method == Method::GET && one.path.contains("shop/api/manifests/")).count()
    };
    for (round, (words, mode, code)) in
        [("plan --out plan.json", "enforce", 5), ("run", "dry-run", 5), ("run", "enforce", 1)].into_iter().enumerate()
    {
        fixture.registry.clear_requests();
        // Each run reads the manifests that it has not cached.
        fixture.server.meddle("DELETE FROM manifests; DELETE FROM configs").await;
        let slow = Fault::on("shop/api/manifests/", FaultKind::Delay(Duration::from_millis(100))).method(Method::GET);
        fixture.registry.inject(slow);
        let child = fixture.command(words).env("TAGWARDEN__MODE", mode).spawn().unwrap();
        while reads(&fixture) < 40 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fixture.server.kill();
        fixture.registry.clear_faults();
        let output = child.wait_with_output().await.unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(code), "{words} in mode {mode}:\n{out}\n{err}");
        assert_eq!(fixture.tags().len(), TAGS, "nothing is removed");
        if code == 5 {
            assert!(
                err.contains("the state was lost; the dry run goes on without it, and its report is not stored"),
                "{err}"
            );
            for told in
                ["shop/aged", "239 undecided", "the state was lost while this was read, and the report is not stored"]
            {
                assert!(out.contains(told), "{told} is missing in:\n{out}");
            }
        } else {
            assert!(err.contains("nothing is removed meanwhile"), "{err}");
        }
        fixture.server.restart().await;
        fixture.server.meddle("UPDATE leases SET expires_at = '-infinity'").await;
        assert_eq!(fixture.server.number("SELECT count(*) FROM plan_chunks").await, 0, "no part of a plan is stored");
        let unfinished = fixture.server.number("SELECT count(*) FROM runs WHERE ended_at IS NULL").await;
        assert_eq!(unfinished, i64::try_from(round).unwrap() + 1, "what was not recorded passes for killed");
    }
    let plan = fs::read_to_string(fixture.folder.path().join("plan.json")).unwrap();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let removals = plan["removals"].as_array().unwrap();
    assert_eq!(removals.len(), 2, "by what could be read: {plan}");
    assert!(removals.iter().all(|removal| removal["repository"] == "shop/aged"), "{removals:?}");
}

impl Fixture {
    /// Runs a program of PostgreSQL against the server, and returns what it wrote.
    fn client(&self, program: &str, words: &[&str]) -> Vec<u8> {
        let mut command = client_program(program);
        command.args(["--host=127.0.0.1", "--username=tagwarden", "--no-password"]);
        command.arg(format!("--port={}", self.server.port)).args(words).env("PGPASSWORD", PASSWORD);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    }

    /// Removes nearly all tags, and returns the run that did.
    async fn remove(&self, state: &str) -> String {
        let removed = self.run_with(state, "run").await;
        assert_eq!(removed.code, 0, "{}\n{}", removed.out, removed.err);
        assert_eq!(self.tags().len(), 1);
        let runs = self.run_with(state, "runs --format json").await;
        let runs = serde_json::from_str::<serde_json::Value>(&runs.out).unwrap()["runs"].clone();
        runs[0]["id"].as_str().unwrap().to_owned()
    }

    /// Makes sure that a state is whole, and that it undoes a run.
    async fn assert_restores(&self, state: &str, run: &str) {
        let checked = self.run_with(state, "state check").await;
        assert_eq!(checked.code, 0, "{}\n{}", checked.out, checked.err);
        assert!(checked.out.contains("damage: none found"), "{}", checked.out);
        let restored = self.run_with(state, &format!("restore --run {run}")).await;
        assert_eq!(restored.code, 0, "{}\n{}", restored.out, restored.err);
        assert_eq!(self.tags().len(), TAGS);
    }

    async fn run_with(&self, state: &str, words: &str) -> Output {
        let output = self.command(words).env("TAGWARDEN__STATE", state).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Output { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// The way back after the machine of the state is gone, as docs/postgres.md has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_of_the_database_undoes_what_was_removed() {
    let fixture = Fixture::new().await;
    let state = fixture.server.url();
    let run = fixture.remove(&state).await;
    let dump = fixture.client("pg_dump", &["--format=custom", "--dbname=state"]);
    let file = fixture.folder.path().join("tagwarden.dump");
    fs::write(&file, dump).unwrap();
    fixture.server.meddle("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    fixture.client(
        "pg_restore",
        &[
            "--exit-on-error",
            "--single-transaction",
            "--no-owner",
            "--clean",
            "--if-exists",
            "--dbname=state",
            &file.to_string_lossy(),
        ],
    );
    fixture.assert_restores(&state, &run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_the_database_undoes_what_was_removed() {
    let fixture = Fixture::new().await;
    let state = fixture.server.url();
    let run = fixture.remove(&state).await;
    let backup = fixture.run("state backup tagwarden-backup.db").await;
    assert_eq!(backup.code, 0, "{}", backup.err);
    fixture.server.meddle("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    let copied = fixture.run(&format!("state copy sqlite:tagwarden-backup.db {state}")).await;
    assert_eq!(copied.code, 0, "{}", copied.err);
    fixture.assert_restores(&state, &run).await;
}

/// The same for a file: by the command, and by SQLite's own `VACUUM INTO`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_the_file_undoes_what_was_removed() {
    let fixture = Fixture::new().await;
    let run = fixture.remove("sqlite:tagwarden.db").await;
    let backup = fixture.run_with("sqlite:tagwarden.db", "state backup backup.db").await;
    assert_eq!(backup.code, 0, "{}", backup.err);
    let path = |name: &str| fixture.folder.path().join(name);
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path("tagwarden.db"));
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let into = format!("VACUUM INTO '{}'", path("vacuumed.db").display());
    sqlx::raw_sql(sqlx::AssertSqlSafe(into)).execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    for name in ["backup.db", "vacuumed.db"] {
        for lost in ["tagwarden.db", "tagwarden.db-wal", "tagwarden.db-shm"] {
            let _ = fs::remove_file(path(lost));
        }
        fs::copy(path(name), path("tagwarden.db")).unwrap();
        fixture.assert_restores("sqlite:tagwarden.db", &run).await;
        for number in 0..TAGS - 1 {
            assert!(fixture.registry.delete_tag("shop/api", &format!("c-{number}")));
        }
    }
}
