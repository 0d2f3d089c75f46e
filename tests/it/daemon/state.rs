//! What becomes of a daemon whose state is taken away, and of records by a clock that is wrong.

use super::event_loop::DaemonFixture;

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_whose_state_file_is_taken_away_is_not_ready_and_removes_nothing() {
    let world = DaemonFixture::new("cron = \"0 3 * * *\"").await;
    let alive = world.start_daemon().await;
    alive.tick().await;
    let (state, aside) = (world.path("tagwarden.db"), world.path("aside.db"));
    std::fs::rename(&state, &aside).unwrap();
    world.set_time("2026-11-20T03:00:00Z");
    alive.tick().await;
    alive.wait_until(|status| !status.ready).await;
    assert_eq!(world.registry.tags("shop/api").len(), 7);
    assert!(!state.exists(), "it makes no new one");

    std::fs::rename(&aside, &state).unwrap();
    alive.tick().await;
    alive.wait_until(|status| status.ready).await;
    alive.tick().await;
    assert_eq!(world.registry.tags("shop/api").len(), 2, "what was missed is made up for");
    alive.stop_daemon().await;
}

/// Started once with the clock 800 days ahead, a daemon forgot all runs and the journal without a line in its log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_whose_clock_is_ahead_forgets_nothing() {
    let world = DaemonFixture::new("cron = \"0 3 * * *\"").await;
    let alive = world.start_daemon().await;
    world.set_time("2026-11-20T03:00:00Z");
    alive.tick().await;
    alive.stop_daemon().await;
    let before = world.runs().await.len();
    assert!(before >= 1);

    let right = "2026-11-20T09:00:00Z".parse().unwrap();
    world.registry.set_clock(std::sync::Arc::new(move || right));
    world.set_time("2029-02-01T09:00:00Z");
    let alive = world.start_daemon().await;
    alive.tick().await;
    alive.tick().await;
    alive.stop_daemon().await;
    let after = world.runs().await;
    assert!(after.len() > before, "it ran");
    assert_eq!(after[before - 1].0.run.started_at, "2026-11-20T03:00:00Z".parse().unwrap());
}

/// A run that begins on a full disk, because a tiny write found room, fails at its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_begins_no_run_before_there_is_room_for_one() {
    use sqlx::{ConnectOptions as _, Connection as _};
    let world = DaemonFixture::new("cron = \"0 3 * * *\"").await;
    let alive = world.start_daemon().await;
    let meddle = async |statement: &'static str| {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(world.path("tagwarden.db"));
        let mut connection = options.connect().await.unwrap();
        sqlx::query(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    meddle("CREATE TRIGGER full BEFORE INSERT ON schedules BEGIN SELECT raise(ABORT, 'database or disk is full'); END")
        .await;
    world.set_time("2026-11-20T03:00:00Z");
    alive.tick().await;
    alive.wait_until(|status| !status.ready).await;

    meddle(
        "CREATE TRIGGER nearly_full BEFORE INSERT ON manifests WHEN length(NEW.bytes) > 100000
         BEGIN SELECT raise(ABORT, 'database or disk is full'); END",
    )
    .await;
    meddle("DROP TRIGGER full").await;
    alive.tick().await;
    alive.wait_until(|status| !status.ready).await;
    assert!(world.runs().await.is_empty(), "a tiny write would fit");

    meddle("DROP TRIGGER nearly_full").await;
    alive.tick().await;
    alive.wait_until(|status| status.ready).await;
    assert_eq!((world.runs().await.len(), world.registry.tags("shop/api").len()), (1, 2));
    alive.stop_daemon().await;
}

/// The file is there, and what is written to its log would be lost.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_whose_log_is_taken_away_removes_nothing() {
    let world = DaemonFixture::new("cron = \"0 3 * * *\"").await;
    let alive = world.start_daemon().await;
    // What it does first when it starts is done.
    alive.tick().await;
    let (log, aside) = (world.path("tagwarden.db-wal"), world.path("aside"));
    std::fs::rename(&log, &aside).unwrap();
    world.set_time("2026-11-20T03:00:00Z");
    alive.tick().await;
    alive.wait_until(|status| !status.ready).await;
    assert_eq!(world.registry.tags("shop/api").len(), 7);

    std::fs::rename(&aside, &log).unwrap();
    alive.tick().await;
    alive.wait_until(|status| status.ready).await;
    alive.tick().await;
    assert_eq!(world.registry.tags("shop/api").len(), 2, "what was missed is made up for");
    alive.stop_daemon().await;
}
