//! Tests against a model of a server's bucket, in virtual time.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;

/// A server's token bucket.
#[derive(Debug)]
struct Bucket {
    per_minute: f64,
    capacity: f64,
    level: f64,
    at: Instant,
    passed: usize,
    refused: usize,
}

/// The header in which a server reports its bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Header {
    None,
    /// Its rate, always.
    Constant,
    /// The remaining calls in the bucket, divided by 60.
    Remaining,
}

impl Bucket {
    fn new(per_minute: u32, capacity: u32) -> Self {
        let (per_minute, capacity) = (f64::from(per_minute), f64::from(capacity));
        Self { per_minute, capacity, level: capacity, at: Instant::now(), passed: 0, refused: 0 }
    }

    /// Admits a call, or returns the delay until the next may come.
    fn take(&mut self, header: Header) -> Result<Option<f64>, Duration> {
        let now = Instant::now();
        let gained = now.duration_since(self.at).as_secs_f64() * self.per_minute / 60.0;
        self.level = self.capacity.min(self.level + gained);
        self.at = now;
        if self.level < 1.0 {
            self.refused += 1;
            return Err(Duration::from_secs_f64(((1.0 - self.level) * 60.0 / self.per_minute).ceil().max(1.0)));
        }
        self.level -= 1.0;
        self.passed += 1;
        Ok(match header {
            Header::None => None,
            Header::Constant => Some(self.per_minute / 60.0),
            Header::Remaining => Some(self.level / 60.0),
        })
    }
}

/// Sends through a lane for that long, from that many tasks, each call taking 20 ms.
async fn drive(
    pace: &Arc<RateLimiter>,
    operation: Operation,
    bucket: &Arc<Mutex<Bucket>>,
    header: Header,
    time: Duration,
) {
    let end = Instant::now() + time;
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (pace, bucket) = (pace.clone(), bucket.clone());
            tokio::spawn(async move {
                while Instant::now() < end {
                    let Ok(pass) = tokio::time::timeout_at(end, pace.lane(operation).admit()).await else { return };
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    let response = bucket.lock().unwrap().take(header);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    match response {
                        Ok(remaining) => pass.record_response(remaining),
                        Err(pause) => pass.record_throttling(Some(pause)),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn of(operation: Operation, rate: Option<u32>) -> RateLimits {
    match operation {
        Operation::Read => RateLimits { read: rate, ..RateLimits::default() },
        Operation::Write => RateLimits { write: rate, ..RateLimits::default() },
        _ => RateLimits { delete: rate, ..RateLimits::default() },
    }
}

#[tokio::test(start_paused = true)]
async fn an_allowed_rate_is_used_and_not_overrun() {
    use Header::{Constant, None as Silent, Remaining};
    use Operation::{Delete, OAuth, Read, Write};
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Known {
        Chosen,
        Documented,
        Told,
    }
    use Known::{Chosen, Documented, Told};
    for (operation, per_minute, capacity, header, known) in [
        (Delete, 480, 480, Constant, Told),
        (Delete, 480, 480, Remaining, Told),
        (Delete, 480, 8, Constant, Told),
        (Delete, 480, 8, Silent, Documented),
        (Delete, 480, 8, Constant, Documented),
        (Delete, 500, 500, Remaining, Documented),
        (Delete, 500, 500, Silent, Chosen),
        (Delete, 480, 8, Remaining, Chosen),
        (Delete, 2000, 2000, Remaining, Told),
        (Delete, 60, 1, Constant, Told),
        (Delete, 6, 1, Silent, Chosen),
        (Write, 1000, 16, Silent, Documented),
        (Write, 120_000, 2000, Silent, Chosen),
        (OAuth, 10_000, 10_000, Remaining, Told),
        (Read, 600, 600, Silent, Documented),
        (Read, 5000, 5000, Silent, Chosen),
    ] {
        let case = format!("{operation:?} {per_minute}/{capacity} {header:?} {known:?}");
        let chosen = (known == Chosen).then_some(per_minute);
        let pace = Arc::new(RateLimiter::new(of(operation, chosen)));
        if known == Documented {
            pace.set_documented_limits(of(operation, Some(per_minute)));
        }
        let bucket = Arc::new(Mutex::new(Bucket::new(per_minute, capacity)));
        let minutes = if per_minute < 60 { 10 } else { 2 };
        drive(&pace, operation, &bucket, header, MINUTE * minutes).await;
        let bucket = bucket.lock().unwrap();
        assert_eq!(bucket.refused, 0, "{case}");
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let used = bucket.passed as f64 / (f64::from(per_minute) * f64::from(minutes));
        // 16 tasks with calls of 20 ms make no more than 800 a second.
        let reachable = (16.0 / 0.02 * 60.0 / f64::from(per_minute)).min(1.0);
        assert!(used >= 0.95 * reachable, "{case}: {used}");
        assert!(used <= 1.0, "{case}: {used}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_known_there_is_no_pace() {
    let bucket = Arc::new(Mutex::new(Bucket::new(1_000_000, 1_000_000)));
    let pace = Arc::new(RateLimiter::new(RateLimits::default()));
    drive(&pace, Operation::Delete, &bucket, Header::None, Duration::from_secs(10)).await;
    assert!(bucket.lock().unwrap().passed > 7_900, "{bucket:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_deletion_goes_alone_where_no_limit_is_known() {
    let pace = RateLimiter::new(RateLimits::default());
    let lane = pace.lane(Operation::Delete);
    let first = lane.admit().await;
    assert!(tokio::time::timeout(MINUTE, lane.admit()).await.is_err(), "the second waits for the answer");
    first.record_response(Some(1.0));
    drop(first);
    let began = Instant::now();
    for _ in 0..4 {
        drop(lane.admit().await);
    }
    assert!(began.elapsed() > Duration::from_secs(3), "and then for its turn: {:?}", began.elapsed());

    let reads = pace.lane(Operation::Read);
    let _passes = (reads.admit().await, reads.admit().await);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_others_use_up_is_approached_slowly() {
    let pace = Arc::new(RateLimiter::new(RateLimits::default()));
    let bucket = Arc::new(Mutex::new(Bucket::new(480, 480)));
    drive(&pace, Operation::Delete, &bucket, Header::Remaining, MINUTE).await;
    bucket.lock().unwrap().level = 40.0;
    let before = bucket.lock().unwrap().passed;
    drive(&pace, Operation::Delete, &bucket, Header::Remaining, Duration::from_secs(30)).await;
    let bucket = bucket.lock().unwrap();
    let passed = bucket.passed - before;
    assert_eq!(bucket.refused, 0);
    assert!((30..200).contains(&passed), "a part of the 240: {passed}");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_throttled_makes_all_of_its_kind_pause() {
    let pace = Arc::new(RateLimiter::new(RateLimits::default()));
    let lane = pace.lane(Operation::Read);
    let began = Instant::now();
    lane.admit().await.record_throttling(Some(Duration::from_secs(50)));
    drop(pace.lane(Operation::Write).admit().await);
    assert_eq!(began.elapsed(), Duration::ZERO, "other kinds go on");
    let pass = lane.admit().await;
    assert_eq!(began.elapsed(), Duration::from_secs(50));
    assert!(tokio::time::timeout(MINUTE, lane.admit()).await.is_err(), "the first after a pause goes alone");
    pass.record_response(None);
    let _two = (lane.admit().await, pass);
}

#[tokio::test(start_paused = true)]
async fn a_storm_ends_and_everything_gets_through() {
    // 5,000 calls at once against a bucket of a tenth, with nothing known except the refusals.
    let pace = Arc::new(RateLimiter::new(RateLimits::default()));
    let bucket = Arc::new(Mutex::new(Bucket::new(600, 60)));
    drive(&pace, Operation::Read, &bucket, Header::None, MINUTE * 10).await;
    let bucket = bucket.lock().unwrap();
    assert!(bucket.passed > 600 * 10 / 4, "{bucket:?}");
}

#[tokio::test(start_paused = true)]
async fn those_who_came_first_go_first_and_those_who_leave_are_not_missed() {
    let pace = Arc::new(RateLimiter::new(RateLimits { write: Some(60), ..RateLimits::default() }));
    let order = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..30)
        .map(|number| {
            let (pace, order) = (pace.clone(), order.clone());
            tokio::spawn(async move {
                let pass = pace.lane(Operation::Write).admit().await;
                order.lock().unwrap().push(number);
                tokio::time::sleep(Duration::from_millis(number)).await;
                drop(pass);
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let leaving: BTreeSet<usize> = [1, 7, 8, 20].into();
    for number in &leaving {
        tasks[*number].abort();
    }
    let began = Instant::now();
    for (number, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.is_ok(), !leaving.contains(&number));
    }
    let expected: Vec<u64> = (0..30).filter(|number| ![1, 7, 8, 20].contains(number)).collect();
    assert_eq!(*order.lock().unwrap(), expected);
    assert!(began.elapsed() < Duration::from_secs(28), "the places of those who left are used: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_reserved_is_not_waited_for_again() {
    let limits = RateLimiter::new(RateLimits { delete: Some(60), ..RateLimits::default() });
    let lane = limits.lane(Operation::Delete);
    lane.admit().await.record_response(None);
    let began = Instant::now();
    let place = lane.reserve().await;
    assert!(began.elapsed() > Duration::from_millis(900));
    let reserved = Instant::now();
    drop(place.redeem());
    assert_eq!(reserved.elapsed(), Duration::ZERO);
    drop(lane.admit().await);
    assert!(reserved.elapsed() > Duration::from_millis(900), "it was one place");
}

#[tokio::test(start_paused = true)]
async fn a_reserved_place_fills_the_window_until_it_is_given_back() {
    let limits = RateLimiter::new(RateLimits::default());
    let lane = limits.lane(Operation::Delete);
    let place = lane.reserve().await;
    assert!(tokio::time::timeout(MINUTE, lane.reserve()).await.is_err(), "the first deletion goes alone");
    drop(place);
    let place = tokio::time::timeout(MINUTE, lane.reserve()).await.expect("what was not used is free again");
    let pass = place.redeem().expect("nothing was asked for meanwhile");
    assert!(tokio::time::timeout(MINUTE, lane.admit()).await.is_err(), "it is on its way");
    drop(pass);
    drop(lane.admit().await);
}

#[tokio::test(start_paused = true)]
async fn a_pause_takes_back_the_places_that_were_reserved_before() {
    let limits = RateLimiter::new(RateLimits::default());
    let lane = limits.lane(Operation::Delete);
    lane.admit().await.record_response(None);
    let (one, other) = (lane.reserve().await, lane.reserve().await);
    let began = Instant::now();
    one.redeem().expect("nothing was asked for yet").record_throttling(Some(Duration::from_secs(50)));
    assert!(other.redeem().is_none(), "whoever holds it must look again after the pause");
    let next = lane.reserve().await;
    assert_eq!(began.elapsed(), Duration::from_secs(50));
    assert!(next.redeem().is_some());
    drop(lane.admit().await);
}

#[tokio::test(start_paused = true)]
async fn values_that_are_none_change_nothing() {
    let mut told = RemainingCalls::default();
    for value in [f64::NAN, f64::INFINITY, -1.0] {
        told.record(value, Instant::now());
    }
    assert_eq!(told.calls_per_minute(), None);
    told.record(0.0, Instant::now());
    let mut state = LaneState::new(Operation::Delete, None);
    state.reported = told;
    assert_eq!(state.rate(), Some(MIN_CALLS_PER_MINUTE), "nothing remains, and still it is asked");
}

/// A server that counts all requests by the hour: at a deletion a second its 5,000 would be used up after 42 minutes.
#[tokio::test(start_paused = true)]
async fn the_last_quarter_of_an_hour_is_spread_over_its_rest() {
    let limits = RateLimiter::new(RateLimits { delete: Some(60), ..RateLimits::default() });
    let began = Instant::now();
    let hour = Duration::from_hours(1);
    let (mut remaining, mut deleted) = (5000_u32, 0);
    while began.elapsed() < hour {
        let place = limits.lane(Operation::Delete).reserve().await;
        if began.elapsed() >= hour {
            break;
        }
        // The look before it is a read, and does not wait.
        let before = Instant::now();
        drop(limits.lane(Operation::Read).admit().await);
        assert_eq!(before.elapsed(), Duration::ZERO);
        place.redeem().expect("no pause").record_response(None);
        remaining = remaining.checked_sub(2).expect("requests remain to the end of the hour");
        deleted += 1;
        limits.record_budget(HourlyBudget {
            limit: 5000,
            remaining,
            until_reset: hour.saturating_sub(began.elapsed()),
        });
    }
    assert!((2300..2500).contains(&deleted), "{deleted} deletions");
    // The next hour begins at full speed, as the server says with its next answer.
    let began = Instant::now();
    for _ in 0..10 {
        limits.lane(Operation::Delete).admit().await.record_response(None);
        limits.record_budget(HourlyBudget { limit: 5000, remaining: 4990, until_reset: hour });
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_spread_is_left_to_the_answer_of_the_server() {
    for (remaining, until_reset) in [(0, 3000), (2, 600), (5000, 3000), (10, 0)] {
        let limits = RateLimiter::new(RateLimits::default());
        let budget = HourlyBudget { limit: 5000, remaining, until_reset: Duration::from_secs(until_reset) };
        let began = Instant::now();
        for _ in 0..5 {
            limits.record_budget(budget);
            limits.lane(Operation::Delete).admit().await.record_response(None);
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "{budget:?}");
    }
}
