//! Rate limits of requests to a server: a lane for each kind of operation, in which requests are sent in order of
//! arrival.
//!
//! Azure Container Registry documents its limits as token buckets for each kind of operation, by the minute
//! (<https://learn.microsoft.com/azure/container-registry/container-registry-skus>), and reports the remaining calls in
//! a header of some responses. Decisions are made by [`LaneState`], which takes the time as an argument.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::Instant;

use super::Request;

/// Most requests a minute to a registry, by kind of operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// GET and HEAD.
    pub read: Option<u32>,
    /// PUT, PATCH and POST.
    pub write: Option<u32>,
    /// DELETE.
    pub delete: Option<u32>,
}

/// The rest of a limit that counts all requests by the hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HourlyBudget {
    /// The requests of a whole hour.
    pub(super) limit: u32,
    /// Those that remain.
    pub(super) remaining: u32,
    /// The time until it begins anew.
    pub(super) until_reset: Duration,
}

/// The kinds of operations that registries count separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// GET and HEAD.
    Read,
    /// PUT, PATCH and POST.
    Write,
    /// DELETE.
    Delete,
    /// Requests to the token service of an Azure container registry.
    OAuth,
}

impl Operation {
    fn for_request(request: &Request) -> Self {
        match request.method {
            _ if request.url.path().starts_with("/oauth2/") => Self::OAuth,
            Method::GET | Method::HEAD => Self::Read,
            Method::DELETE => Self::Delete,
            Method::POST if request.operation.is_some() && request.is_read_only() => Self::Read,
            Method::POST if request.operation.is_some_and(|name| name.contains("Delete")) => Self::Delete,
            _ => Self::Write,
        }
    }
}

/// The lanes to one server.
#[derive(Debug)]
pub(super) struct RateLimiter {
    lanes: [Arc<Lane>; 4],
}

impl RateLimiter {
    /// Creates lanes with configured rates, which take precedence over documented ones.
    pub(super) fn new(chosen: RateLimits) -> Self {
        let lane = |operation, chosen: Option<u32>| {
            Arc::new(Lane {
                front: AsyncMutex::default(),
                changed: Notify::new(),
                state: Mutex::new(LaneState::new(operation, chosen.map(positive_rate))),
            })
        };
        Self {
            lanes: [
                lane(Operation::Read, chosen.read),
                lane(Operation::Write, chosen.write),
                lane(Operation::Delete, chosen.delete),
                lane(Operation::OAuth, None),
            ],
        }
    }

    /// Sets the rates that the server documents. Configured rates take precedence.
    pub(super) fn set_documented_limits(&self, rates: RateLimits) {
        for (lane, rate) in self.lanes.iter().zip([rates.read, rates.write, rates.delete, None]) {
            lane.state().documented = rate.map(positive_rate);
            lane.changed.notify_one();
        }
    }

    /// Records what remains of the hour. Removals are spread by it: each takes two requests, a look and the deletion, and the
    /// look must not wait in between. What plans read is little beside that.
    pub(super) fn record_budget(&self, budget: HourlyBudget) {
        self.lane(Operation::Delete).state().record_budget(budget, Instant::now());
    }

    pub(super) fn lane_for_request(&self, request: &Request) -> &Arc<Lane> {
        self.lane(Operation::for_request(request))
    }

    pub(super) fn lane(&self, operation: Operation) -> &Arc<Lane> {
        match operation {
            Operation::Read => &self.lanes[0],
            Operation::Write => &self.lanes[1],
            Operation::Delete => &self.lanes[2],
            Operation::OAuth => &self.lanes[3],
        }
    }
}

/// The queue of one kind of operation to one server.
#[derive(Debug)]
pub(super) struct Lane {
    /// Held by the request at the front. The lock is fair, and a cancelled wait releases it.
    front: AsyncMutex<()>,
    /// Wakes the request at the front.
    changed: Notify,
    state: Mutex<LaneState>,
}

/// A request that may be sent; it is in flight as long as this exists.
#[derive(Debug)]
pub(super) struct InFlightRequest(Arc<Lane>);

/// A reserved slot in a lane, for a request that must not wait once its preconditions were checked. If dropped unused,
/// the next request gets it.
#[derive(Debug)]
pub(crate) struct Reservation {
    lane: Arc<Lane>,
    epoch: u64,
    redeemed: bool,
}

impl Reservation {
    /// Admits the request, or returns `None` if the server has requested a pause since: the slot is then lost.
    pub(super) fn redeem(mut self) -> Option<InFlightRequest> {
        self.redeemed = true;
        let admitted = self.lane.state().redeem_reservation(self.epoch);
        admitted.then(|| InFlightRequest(Arc::clone(&self.lane)))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.redeemed {
            self.lane.state().release_reservation(self.epoch);
            self.lane.changed.notify_one();
        }
    }
}

impl Lane {
    /// Waits until a request may be sent.
    pub(super) async fn admit(self: &Arc<Self>) -> InFlightRequest {
        self.wait(LaneState::admit).await;
        InFlightRequest(Arc::clone(self))
    }

    /// Waits until a request may be sent, and reserves its slot.
    pub(super) async fn reserve(self: &Arc<Self>) -> Reservation {
        let epoch = self.wait(LaneState::reserve).await;
        Reservation { lane: Arc::clone(self), epoch, redeemed: false }
    }

    /// Waits until a step allows the request, and returns the epoch of that.
    async fn wait(&self, step: fn(&mut LaneState, Instant) -> NextStep) -> u64 {
        let _turn = self.front.lock().await;
        loop {
            let (next, epoch) = {
                let mut state = self.state();
                (step(&mut state, Instant::now()), state.epoch)
            };
            match next {
                NextStep::Proceed => return epoch,
                NextStep::WaitForResponse => self.changed.notified().await,
                NextStep::WaitUntil(time) => tokio::select! {
                    () = tokio::time::sleep_until(time) => {}
                    () = self.changed.notified() => {}
                },
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlightRequest {
    /// Records a response, with the remaining calls per second if reported.
    pub(super) fn record_response(&self, remaining: Option<f64>) {
        self.0.state().record_response(remaining, Instant::now());
        self.0.changed.notify_one();
    }

    /// Records a throttled response, with the requested pause if any.
    pub(super) fn record_throttling(&self, pause: Option<Duration>) {
        self.0.state().record_throttling(pause, Instant::now());
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight -= 1;
        drop(state);
        self.0.changed.notify_one();
    }
}

/// Returns a rate of at least one.
fn positive_rate(rate: u32) -> f64 {
    f64::from(rate.max(1))
}

/// The next step of the request at the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextStep {
    Proceed,
    /// Wait until then, or until a change.
    WaitUntil(Instant),
    /// Wait for the response to another request.
    WaitForResponse,
}

#[derive(Debug)]
struct LaneState {
    operation: Operation,
    /// The configured rate, in requests a minute.
    configured: Option<f64>,
    /// The documented rate, in requests a minute.
    documented: Option<f64>,
    reported: RemainingCalls,
    /// The rest of an hourly limit, and the time at which it begins anew.
    budget: Option<(HourlyBudget, Instant)>,
    /// Time of the last request that was spread by it.
    last_spread_at: Option<Instant>,
    /// Requests of the last minute, if bursts are allowed.
    sent_at: VecDeque<Instant>,
    /// Time of the last request without a known rate.
    last_sent_at: Option<Instant>,
    /// Time of the next request, if they are spread.
    next_at: Option<Instant>,
    /// True if the server throttled although its limit was observed: it then counts by less than a minute.
    strict: bool,
    /// No request is sent before that time.
    paused_until: Option<Instant>,
    in_flight: usize,
    /// Most requests in flight. It starts at one if the limit is unknown and after each pause, and grows with each
    /// response, so that many waiting requests do not hit the same limit at once.
    window: usize,
    /// Reserved slots of requests that are not in flight yet.
    reserved: usize,
    /// The number of pauses that the server requested. A slot reserved before the last one is lost.
    epoch: u64,
}

const MINUTE: Duration = Duration::from_mins(1);
/// The used share of a limit.
const USED_SHARE: f64 = 0.97;
/// The longest delay that spread requests may catch up.
const MAX_CATCH_UP: Duration = Duration::from_millis(250);
/// An hourly limit is spread once less than this part of it remains.
const SPREAD_BELOW: u32 = 4;
/// The requests that a removal takes where limits are hourly.
const REQUESTS_PER_REMOVAL: u32 = 2;
/// The longest interval between requests that are spread.
const MAX_SPREAD: Duration = Duration::from_secs(30);
/// A window of this size is unlimited.
const UNLIMITED_WINDOW: usize = 64;

impl LaneState {
    fn new(operation: Operation, chosen: Option<f64>) -> Self {
        Self {
            operation,
            configured: chosen,
            documented: None,
            reported: RemainingCalls::default(),
            budget: None,
            last_spread_at: None,
            sent_at: VecDeque::new(),
            last_sent_at: None,
            next_at: None,
            strict: false,
            paused_until: None,
            in_flight: 0,
            window: if operation == Operation::Delete { 1 } else { usize::MAX },
            reserved: 0,
            epoch: 0,
        }
    }

    fn admit(&mut self, now: Instant) -> NextStep {
        let next = self.next_step(now);
        if next == NextStep::Proceed {
            self.in_flight += 1;
        }
        next
    }

    fn reserve(&mut self, now: Instant) -> NextStep {
        let next = self.next_step(now);
        if next == NextStep::Proceed {
            self.reserved += 1;
        }
        next
    }

    /// Counts a request that may be sent now, or returns what it has to wait for.
    fn next_step(&mut self, now: Instant) -> NextStep {
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return NextStep::WaitUntil(until);
        }
        // A reserved slot counts like a request in flight: its holder must not find the window full.
        if self.in_flight.saturating_add(self.reserved) >= self.window {
            return NextStep::WaitForResponse;
        }
        let due = self.budget_interval(now).zip(self.last_spread_at).and_then(|(each, last)| last.checked_add(each));
        if let Some(due) = due.filter(|due| *due > now) {
            return NextStep::WaitUntil(due);
        }
        match self.count_request(now) {
            Ok(()) => {
                self.last_spread_at = Some(now);
                NextStep::Proceed
            }
            Err(until) => NextStep::WaitUntil(until),
        }
    }

    /// Returns the interval at which the rest of an hourly limit lasts until it begins anew; `None` while enough remains,
    /// and where so little remains that waiting for single requests would take minutes: the server then says how long.
    fn budget_interval(&self, now: Instant) -> Option<Duration> {
        let (budget, reset_at) = self.budget?;
        let left = reset_at.checked_duration_since(now).filter(|left| !left.is_zero())?;
        let each = left / (budget.remaining / REQUESTS_PER_REMOVAL).max(1);
        (budget.remaining < budget.limit / SPREAD_BELOW && each <= MAX_SPREAD).then_some(each)
    }

    fn record_budget(&mut self, budget: HourlyBudget, now: Instant) {
        self.budget = now.checked_add(budget.until_reset).map(|reset_at| (budget, reset_at));
    }

    /// Converts a reserved slot into a request in flight. Returns false, without effect, if the server has requested a
    /// pause since.
    fn redeem_reservation(&mut self, epoch: u64) -> bool {
        if self.epoch != epoch {
            return false;
        }
        self.reserved = self.reserved.saturating_sub(1);
        self.in_flight += 1;
        true
    }

    fn release_reservation(&mut self, epoch: u64) {
        if self.epoch == epoch {
            self.reserved = self.reserved.saturating_sub(1);
        }
    }

    /// Counts one request, or returns the time at which it may be counted.
    fn count_request(&mut self, now: Instant) -> Result<(), Instant> {
        let Some(rate) = self.rate() else {
            self.last_sent_at = Some(now);
            return Ok(());
        };
        if self.operation == Operation::Read && !self.strict {
            return self.count_in_minute(rate, now);
        }
        let each = MINUTE.div_f64(rate * USED_SHARE);
        let due = self.next_at.or(self.last_sent_at.map(|last| last + each)).unwrap_or(now);
        let early = MAX_CATCH_UP.saturating_sub(each);
        if due > now + early {
            return Err(due - early);
        }
        self.next_at = Some(due.max(now) + each);
        Ok(())
    }

    /// Counts a request so that no minute, wherever it begins, exceeds the share of the rate.
    fn count_in_minute(&mut self, rate: f64, now: Instant) -> Result<(), Instant> {
        while self.sent_at.front().is_some_and(|at| now.saturating_duration_since(*at) >= MINUTE) {
            self.sent_at.pop_front();
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a positive u32")]
        let most = ((rate * USED_SHARE) as usize).max(1);
        if self.sent_at.len() >= most {
            return Err(self.sent_at[self.sent_at.len() - most] + MINUTE);
        }
        self.sent_at.push_back(now);
        Ok(())
    }

    /// Returns the rate in requests a minute. A configured rate takes precedence; a documented one only as far as the
    /// server's responses agree, because others may share the limit.
    fn rate(&self) -> Option<f64> {
        let told = if self.operation == Operation::Read { None } else { self.reported.calls_per_minute() };
        Some(match (self.configured, self.documented, told) {
            (Some(chosen), _, Some(_)) => (chosen * self.reported.usable_share()).max(MIN_CALLS_PER_MINUTE.min(chosen)),
            (None, Some(documented), Some(told)) => documented.min(told).max(MIN_CALLS_PER_MINUTE),
            (None, None, Some(told)) => told.max(MIN_CALLS_PER_MINUTE),
            (chosen, documented, None) => chosen.or(documented)?,
        })
    }

    fn record_response(&mut self, remaining: Option<f64>, now: Instant) {
        if let Some(remaining) = remaining {
            self.reported.record(remaining, now);
        }
        self.window = if self.window < UNLIMITED_WINDOW { self.window + 1 } else { usize::MAX };
    }

    fn record_throttling(&mut self, pause: Option<Duration>, now: Instant) {
        self.strict = true;
        self.window = 1;
        self.reserved = 0;
        self.epoch += 1;
        if let Some(until) = pause.and_then(|pause| now.checked_add(pause)) {
            self.paused_until = self.paused_until.max(Some(until));
            self.next_at = self.next_at.max(self.paused_until);
        }
    }
}

/// The remaining calls that the server reported.
///
/// Recorded responses of token services contained 166.65 (9,999 / 60) and those to deletions 8.0 (480 / 60): the
/// remaining calls of the minute, per second. The largest value of the last minute is close to the rate at which the
/// bucket fills.
#[derive(Debug, Default)]
struct RemainingCalls {
    /// Values that no later one reaches, the largest and oldest first.
    largest: VecDeque<(Instant, f64)>,
    latest: f64,
}

/// Calls a minute that are made even if none remain, to notice when some do.
const MIN_CALLS_PER_MINUTE: f64 = 12.0;

impl RemainingCalls {
    fn record(&mut self, value: f64, now: Instant) {
        if !value.is_finite() || value < 0.0 {
            return;
        }
        while self.largest.back().is_some_and(|(_, known)| *known <= value) {
            self.largest.pop_back();
        }
        self.largest.push_back((now, value));
        while self.largest.len() > 1 && now.saturating_duration_since(self.largest[0].0) > MINUTE {
            self.largest.pop_front();
        }
        self.latest = value;
    }

    fn calls_per_minute(&self) -> Option<f64> {
        Some(self.largest.front()?.1 * 60.0 * self.usable_share())
    }

    /// Returns the usable share of a rate: less than all of it if less than half of the calls remain.
    fn usable_share(&self) -> f64 {
        match self.largest.front() {
            Some((_, largest)) if *largest > 0.0 => (2.0 * self.latest / largest).min(1.0),
            Some(_) => 0.0,
            None => 1.0,
        }
    }
}

#[cfg(test)]
mod tests;
