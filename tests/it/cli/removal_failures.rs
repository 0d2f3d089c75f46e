//! A run that fails in the middle of its removals says how many there were, then and later.

use std::path::Path;

use tagwarden::demo::registry::{EmbeddedRegistry, Fault, FaultKind, Options};

use super::{CliFixture, fill, tags};

const POLICIES: &str = "policies:
  - { name: old, select: { tags: [\"c-*\"] }, keep: [{ newest: 1 }], mode: enforce }
";

/// Six tags, of which five go, one after the other.
async fn shop() -> (EmbeddedRegistry, CliFixture) {
    let registry = EmbeddedRegistry::start(Options::default()).await.unwrap();
    fill(&registry, "shop/api", "c", 6);
    let settings = format!(
        "mode = \"enforce\"\n[limits]\npercent = 100\n[registries.contoso]\nkind = \"distribution\"\nendpoint = \"{}\"\n\
         concurrency = 1\n",
        registry.url()
    );
    let desk = CliFixture::with(&[("tagwarden.toml", &settings), ("policies/all.yaml", POLICIES)]);
    (registry, desk)
}

async fn meddle(path: &Path, statement: &'static str) {
    use sqlx::{ConnectOptions as _, Connection as _};
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// That the last run shows with that outcome and that many removals, wherever runs are shown.
async fn shows(desk: &CliFixture, outcome: &str, removed: u64) {
    let listed = desk.run("runs").await.exits(0).out;
    let line = listed.lines().nth(1).unwrap();
    let columns: Vec<&str> = line.split_whitespace().rev().take(2).collect();
    assert_eq!(columns, [removed.to_string().as_str(), outcome], "{listed}");
    let json = desk.run("runs --format json --limit 1").await.exits(0).json()["runs"].clone();
    assert_eq!(json[0]["summary"]["removed"], removed, "{json:#}");
    let json = desk.run("runs show last --format json").await.exits(0).json();
    assert_eq!(json["summary"]["removed"], removed, "{json:#}");
}

#[tokio::test]
async fn a_run_that_ends_with_an_error_says_what_it_removed() {
    let (registry, desk) = shop().await;
    desk.run("plan").await.exits(0);
    let state = desk.path("tagwarden.db");
    meddle(
        &state,
        "CREATE TRIGGER full BEFORE INSERT ON journal WHEN (SELECT count(*) FROM journal) >= 2
         BEGIN SELECT raise(ABORT, 'database or disk is full'); END",
    )
    .await;
    let done = desk.run("run").await.exits(1);
    assert_eq!(tags(&registry, "shop/api").len(), 4);
    let words = "2 tags removed before the run failed; to undo: tagwarden restore --run ";
    assert!(done.err.contains(words), "{}", done.err);
    shows(&desk, "error", 2).await;

    // As older versions recorded it, and as it is recorded while it goes on or once it is killed.
    meddle(&state, "UPDATE runs SET summary = '{}' WHERE kind = 'run'").await;
    shows(&desk, "error", 2).await;
    let killed = "UPDATE runs SET ended_at = NULL, outcome = NULL, exit_code = NULL, summary = NULL WHERE kind = 'run'";
    meddle(&state, killed).await;
    shows(&desk, "unfinished", 2).await;

    meddle(&state, "DROP TRIGGER full").await;
    let id = done.err.split(words).nth(1).unwrap().split_whitespace().next().unwrap();
    desk.run(&format!("restore --run {id}")).await.exits(0);
    assert_eq!(tags(&registry, "shop/api").len(), 6);
}

/// The end of such a run cannot be recorded, either.
#[cfg(unix)]
#[tokio::test]
async fn a_run_whose_log_is_taken_away_says_what_it_removed() {
    let (registry, desk) = shop().await;
    desk.run("plan").await.exits(0);
    let log = desk.path("tagwarden.db-wal");
    let take_away = FaultKind::before_request(move |_| std::fs::remove_file(&log).unwrap());
    let fault = Fault::on("manifests/c-", take_away).method(http::Method::DELETE);
    registry.inject(fault.after(2).times(1));
    let done = desk.run("run").await.exits(1);
    assert_eq!(tags(&registry, "shop/api").len(), 3);
    assert!(done.err.contains("tagwarden.db-wal was deleted while it was open"), "{}", done.err);
    let words = "2 tags removed before the run failed, 1 with an outcome that the next run finds out; to undo: ";
    assert!(done.err.contains(words), "{}", done.err);
    shows(&desk, "unfinished", 2).await;
    desk.run("plan").await.exits(0);
    let listed = desk.run("runs").await.exits(0).out;
    assert!(listed.lines().nth(2).unwrap().ends_with(" 3"), "{listed}");
}

/// Also with `--quiet`, and after one or many removals.
#[tokio::test]
async fn a_quiet_run_that_fails_says_how_to_undo_it() {
    for (removed, words) in [(1, "1 tag removed"), (2, "2 tags removed"), (4, "4 tags removed")] {
        let (registry, desk) = shop().await;
        desk.run("plan").await.exits(0);
        let full = match removed {
            1 => {
                "CREATE TRIGGER full BEFORE INSERT ON journal WHEN (SELECT count(*) FROM journal) >= 1
                  BEGIN SELECT raise(ABORT, 'database or disk is full'); END"
            }
            2 => {
                "CREATE TRIGGER full BEFORE INSERT ON journal WHEN (SELECT count(*) FROM journal) >= 2
                  BEGIN SELECT raise(ABORT, 'database or disk is full'); END"
            }
            _ => {
                "CREATE TRIGGER full BEFORE INSERT ON journal WHEN (SELECT count(*) FROM journal) >= 4
                  BEGIN SELECT raise(ABORT, 'database or disk is full'); END"
            }
        };
        meddle(&desk.path("tagwarden.db"), full).await;
        let done = desk.run("run -q").await.exits(1);
        assert_eq!(tags(&registry, "shop/api").len(), 6 - removed);
        let error = done.err.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        let words = format!("; {words} before the run failed; to undo: tagwarden restore --run ");
        assert!(error.contains(&words), "{}", done.err);
    }
}
