//! Hundreds of registries over four processes on one machine, each with its own registries and its own database.
//!
//! `TAGWARDEN_TEST_REGISTRIES=100 TAGWARDEN_TEST_TAGS=2000` measures at that size and prints a row of numbers.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use jiff::{SignedDuration, Timestamp};
use tagwarden::demo::registry::{AcrOptions, Dialect, EmbeddedRegistry, GeneratedWorld, Options};
use tempfile::TempDir;

use crate::support::postgres::Postgres;

const PROCESSES: usize = 4;
/// Tags that each registry loses.
const REMOVED: usize = 5;
/// Connections that a process opens at most.
const MAX_CONNECTIONS: usize = 8;

fn size(variable: &str, default: usize) -> usize {
    #[expect(clippy::disallowed_methods, reason = "larger sizes are asked for by hand")]
    let asked = std::env::var(variable).ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The largest memory of a process so far, in megabytes; 0 once it ended.
fn peak_megabytes(process: &Child) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    peak.and_then(|text| text.trim().parse::<usize>().ok()).map_or(0, |kilobytes| kilobytes / 1024)
}

async fn registries(count: usize, tags: usize) -> Vec<EmbeddedRegistry> {
    #[expect(clippy::disallowed_methods, reason = "the registries' time must be that of the processes")]
    let clock = Arc::new(Timestamp::now);
    let newest = clock() - SignedDuration::from_hours(24 * 200);
    let mut all = Vec::new();
    for _ in 0..count {
        let dialect = Dialect::acr(AcrOptions::new(clock.clone()).admin("bench", "bench"));
        let registry = EmbeddedRegistry::start(Options { dialect, ..Options::default() }).await.unwrap();
        registry.content(|content| content.generate(GeneratedWorld::new(1, u32::try_from(tags).unwrap(), newest)));
        all.push(registry);
    }
    all
}

/// The folder of one process: settings that name its registries, and a policy.
fn folder(server: &Postgres, number: usize, own: &[EmbeddedRegistry], tags: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = format!(
        "mode = \"enforce\"\nstate = \"{}{number}\"\n[postgres]\npassword_file = \"{}\"\n[limits]\nuntag = 1000000\npercent = 100\n",
        server.url(),
        server.password_file().display(),
    );
    for (at, registry) in own.iter().enumerate() {
        settings.extend([format!(
            "[registries.r{at}]\nendpoint = \"{}\"\nkind = \"acr\"\n\
             auth = {{ kind = \"basic\", username = \"bench\", password_file = \"password\" }}\naccept = [\"same-content\"]\n",
            registry.url()
        )]);
    }
    let policy = format!(
        "policies:\n  - {{ name: builds, select: {{ tags: ['build-*'] }}, keep: [{{ newest: {} }}], mode: enforce }}\n",
        tags - REMOVED
    );
    fs::write(folder.path().join("tagwarden.toml"), settings).unwrap();
    fs::write(folder.path().join("password"), "bench").unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    fs::write(folder.path().join("policies/builds.yaml"), policy).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registries_are_spread_over_processes_by_their_settings() {
    let (count, tags) = (size("TAGWARDEN_TEST_REGISTRIES", 8), size("TAGWARDEN_TEST_TAGS", 40));
    let registries = registries(count, tags).await;
    let server = Postgres::start().await;
    server.meddle("CREATE DATABASE state0").await;
    server.meddle("CREATE DATABASE state1").await;
    server.meddle("CREATE DATABASE state2").await;
    server.meddle("CREATE DATABASE state3").await;
    let parts: Vec<_> = registries.chunks(count.div_ceil(PROCESSES)).collect();
    let folders: Vec<_> = parts.iter().enumerate().map(|(number, own)| folder(&server, number, own, tags)).collect();
    let begun = Instant::now();
    let start = |folder: &TempDir| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tagwarden"));
        command.arg("run").current_dir(folder.path()).env_clear().env("USER", "anna").env("TAGWARDEN_LOG", "error");
        let log = fs::File::create(folder.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    };
    let mut processes: Vec<Child> = folders.iter().map(start).collect();
    let (mut peaks, mut connections) = (vec![0; processes.len()], 0);
    let query = "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'state%' AND pid <> pg_backend_pid()";
    let mut done = vec![false; processes.len()];
    while !done.iter().all(|done| *done) {
        for (number, process) in processes.iter_mut().enumerate() {
            peaks[number] = peak_megabytes(process).max(peaks[number]);
            if !done[number]
                && let Some(status) = process.try_wait().unwrap()
            {
                let log = fs::read_to_string(folders[number].path().join("log")).unwrap();
                assert_eq!(status.code(), Some(0), "process {number}: {log}");
                done[number] = true;
            }
        }
        connections = connections.max(usize::try_from(server.number(query).await).unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let requests: usize = registries.iter().map(|registry| registry.requests().len()).sum();
    println!(
        "{count} registries of {tags} tags over {PROCESSES} processes: {seconds:.1} s, {requests} requests, at most {} MB \
         a process, at most {connections} connections",
        peaks.iter().max().unwrap()
    );
    // The server still counts a connection that is just being closed.
    assert!(connections <= PROCESSES * (MAX_CONNECTIONS + 1), "{connections} connections");
    for registry in &registries {
        let requests = registry.requests();
        let removed = requests.iter().filter(|one| one.method == Method::DELETE && one.status == 202).count();
        assert_eq!(removed, REMOVED, "{}", registry.url());
    }
}
