//! What becomes of a daemon whose state is taken away, and of records by a clock that is wrong.

use super::living::World;

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_whose_state_file_is_taken_away_is_not_ready_and_removes_nothing() {
    let world = World::new("cron = \"0 3 * * *\"").await;
    let alive = world.wake().await;
    let (state, aside) = (world.path("tagwarden.db"), world.path("aside.db"));
    std::fs::rename(&state, &aside).unwrap();
    world.set("2026-11-20T03:00:00Z");
    alive.tick().await;
    alive.until(|status| !status.ready).await;
    assert_eq!(world.registry.tags("shop/api").len(), 7);
    assert!(!state.exists(), "it makes no new one");

    std::fs::rename(&aside, &state).unwrap();
    alive.tick().await;
    alive.until(|status| status.ready).await;
    alive.tick().await;
    assert_eq!(world.registry.tags("shop/api").len(), 2, "what was missed is made up for");
    alive.end().await;
}

/// Started once with the clock 800 days ahead, a daemon forgot all runs and the journal without a line in its log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_whose_clock_is_ahead_forgets_nothing() {
    let world = World::new("cron = \"0 3 * * *\"").await;
    let alive = world.wake().await;
    world.set("2026-11-20T03:00:00Z");
    alive.tick().await;
    alive.end().await;
    let before = world.runs().await.len();
    assert!(before >= 1);

    let right = "2026-11-20T09:00:00Z".parse().unwrap();
    world.registry.set_clock(std::sync::Arc::new(move || right));
    world.set("2029-02-01T09:00:00Z");
    let alive = world.wake().await;
    alive.tick().await;
    alive.tick().await;
    alive.end().await;
    let after = world.runs().await;
    assert!(after.len() > before, "it ran");
    assert_eq!(after[before - 1].0.run.started_at, "2026-11-20T03:00:00Z".parse().unwrap());
}
