//! Three replicas that look after twenty registries by a schedule of every minute, and die around due times.
//!
//! All of it is real: the clock, the leases, which expire by themselves, and the deaths.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tagwarden::state::RunRecord;

use super::event_loop::image;
use super::replicas::{Replica, World, now};

const REGISTRIES: usize = 20;
/// Tags that each registry gets for each time that is due.
const TAGS: usize = 15;
/// A death so long before that time leaves its successor no chance to be in time by itself.
const BEFORE: SignedDuration = SignedDuration::from_secs(4);

/// The minute in which that is.
fn minute(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second() - at.as_second().rem_euclid(60)).unwrap()
}

async fn sleep_until(at: Timestamp) {
    let left = Duration::try_from(at.duration_since(now())).unwrap_or_default();
    tokio::time::sleep(left).await;
}

/// Waits until the next due time is so near, pushes tags for its run, and returns that time.
async fn approach(world: &mut World) -> Timestamp {
    let due = minute(now() + BEFORE) + SignedDuration::from_secs(60);
    sleep_until(due - BEFORE).await;
    world.push(TAGS);
    due
}

/// Waits until the run of a time is over, however many replicas it takes.
async fn done(world: &World, replicas: &[Replica], due: Timestamp) {
    let is_done = async || {
        let runs = world.store.runs(1).await.unwrap_or_default();
        let ended = |run: &RunRecord| run.end.as_ref().is_some_and(|end| end.outcome == "done");
        runs.first().is_some_and(|run| run.run.started_at >= due && ended(run))
    };
    world.until(replicas, "what is due is done", is_done).await;
}

async fn leader(world: &World, replicas: &[Replica]) -> usize {
    world.until(replicas, "one leads", async || world.leader(replicas).await.is_some()).await;
    world.leader(replicas).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_due_run_is_done_once_and_within_a_minute_whoever_dies() {
    // The run at the start is over before the first time that is due.
    let minute_begins = minute(now());
    if now().duration_since(minute_begins) > SignedDuration::from_secs(20) {
        sleep_until(minute_begins + SignedDuration::from_secs(61)).await;
    }
    let begun = now();
    let mut world = World::with_schedule(REGISTRIES, "* * * * *", begun).await;
    // One that keeps the newest would keep all that came since the last run: their order is unknown.
    let policy = "policies:\n  - { name: all, select: { tags: ['c-*'] }, keep: none, mode: enforce }\n";
    fs::write(world.folder.path().join("policies/old.yaml"), policy).unwrap();
    for registry in &world.registries {
        registry.put_image("shop/api", "stays", &image("stays", 1));
    }
    let mut replicas = world.start_all(3).await;

    // The leader dies before the time, and its successor in the middle of the run.
    let due = approach(&mut world).await;
    for _ in 0..2 {
        let dies = leader(&world, &replicas).await;
        replicas[dies].signal("-KILL");
        replicas[dies].process.wait().unwrap();
        let new = world.start().await;
        replicas[dies] = new;
        if now() < due {
            world.removes(&replicas).await;
        }
    }
    done(&world, &replicas, due).await;

    // The database dies before the time and comes back after it.
    let due = approach(&mut world).await;
    world.database_dies(u64::try_from((BEFORE * 2).as_millis()).unwrap()).await;
    done(&world, &replicas, due).await;

    // The leader is cut off, and comes back long after another one took over.
    let due = approach(&mut world).await;
    let alone = leader(&world, &replicas).await;
    replicas[alone].proxy.sever();
    done(&world, &replicas, due).await;
    replicas[alone].proxy.heal();
    assert_ne!(leader(&world, &replicas).await, alone);

    for replica in &mut replicas {
        replica.signal("-TERM");
        replica.process.wait().unwrap();
    }
    world.audit().await;
    assert_eq!(world.removed().len(), REGISTRIES * 3 * TAGS, "all that were pushed");
    let (mut runs, _) = world.records().await;
    runs.reverse();
    let mut starts = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        match world.store.run_context(run.run.id).await.unwrap().continues {
            Some(before) => assert_eq!(Some(before), number.checked_sub(1).map(|before| runs[before].run.id)),
            // The minute of the start passes for one whose run died before it was recorded.
            None if minute(run.run.started_at) <= minute(begun) => {}
            None => starts.push(run.run.started_at),
        }
    }
    // One that began more than a minute late would stand in the minute of another, and its own would have none.
    let minutes: Vec<Timestamp> = starts.iter().map(|start| minute(*start)).collect();
    let last = minute(now()).min(due + SignedDuration::from_secs(60));
    let dues = (1..).map(|number| minute(begun) + SignedDuration::from_secs(60 * number));
    let dues: Vec<Timestamp> = dues.take_while(|due| *due <= last).collect();
    // The daemons may have been stopped at the very beginning of a minute.
    let is_each_begun = minutes == dues || minutes == dues[..dues.len() - 1] && last > due;
    let starts: BTreeSet<String> = starts.iter().map(ToString::to_string).collect();
    assert!(is_each_begun, "due: {dues:?}\nbegun: {starts:?}");
    println!("begun: {starts:?}");
    assert!(runs.len() > starts.len(), "a run was taken over");
}
