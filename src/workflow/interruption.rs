//! Requests by `restore` and `hold` to a running enforcement to stop before the next removal.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{App, RunError, RunOutcome, RunResult};
use crate::apply::Clock;
use crate::state::{Lease, StateErrorKind, StateStore};

/// The time that a command waits for a running enforcement to stop, which first completes and verifies the removal in
/// flight.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_mins(3);
/// The polling interval of both sides.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// What stopped a run of this process, for its record. Whoever stops the run says so first.
#[derive(Debug, Clone, Default)]
pub struct StopReason(Arc<OnceLock<String>>);

impl StopReason {
    /// Sets it, unless it is set already.
    pub fn set(&self, what: &str) {
        self.0.get_or_init(|| what.to_owned());
    }

    fn get(&self) -> Option<String> {
        self.0.get().cloned()
    }
}

/// Watches for requests to stop while a run removes.
pub(super) struct StopRequests {
    /// Becomes true when no further removal may begin.
    pub(super) stop: watch::Receiver<bool>,
    requester: StopReason,
    own_reason: StopReason,
    task: Option<JoinHandle<()>>,
}

impl Drop for StopRequests {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl StopRequests {
    /// Returns the requester, or `None`.
    fn requester(&self) -> Option<String> {
        self.requester.get()
    }

    /// Adds the requester to the result of an interrupted run.
    pub(super) fn with_requester<T>(&self, result: Result<T, RunError>) -> Result<T, RunError> {
        match (result, self.requester().or_else(|| self.own_reason.get())) {
            (Err(RunError::Interrupted), Some(by)) => Err(RunError::InterruptedBy(by)),
            (result, _) => result,
        }
    }
}

impl App {
    /// Returns the place of what stops the runs of this app, for whoever stops them.
    #[must_use]
    pub fn stop_reason(&self) -> StopReason {
        self.stop_reason.clone()
    }

    /// Watches for requests to stop if the run `enforces`; otherwise only the signal to this process counts.
    pub(super) fn stop_requests(&self, enforces: bool) -> StopRequests {
        let (by, own_reason) = (StopReason::default(), self.stop_reason());
        if !enforces {
            return StopRequests { stop: self.stop.clone(), requester: by, own_reason, task: None };
        }
        let (sender, stop) = watch::channel(*self.stop.borrow());
        let watching =
            watch_stop_requests(self.store.clone(), Arc::clone(&self.clock), self.stop.clone(), sender, by.clone());
        StopRequests { stop, requester: by, own_reason, task: Some(tokio::spawn(watching)) }
    }

    /// Adds to an interrupted run what stopped it, unless it was a signal to this process.
    pub(super) async fn with_interrupter(&self, requests: &StopRequests, mut ended: RunResult) -> RunResult {
        if ended.outcome == RunOutcome::Interrupted && *self.stop.borrow() {
            ended.interrupted_by = self.stop_reason.get();
        } else if ended.outcome == RunOutcome::Interrupted {
            let by = match requests.requester() {
                Some(by) => Some(by),
                // The journal saw the request first.
                None => self.store.stop_request(self.now()).await.ok().flatten(),
            };
            ended.interrupted_by = Some(by.unwrap_or_else(|| "another command".to_owned()));
        }
        ended
    }

    /// Acquires the lease. An enforcement that holds it is asked to stop before its next removal.
    ///
    /// # Errors
    /// Returns an error if another process holds it and does not release it in time, or the state cannot be used.
    pub(super) async fn lease_after_stop(&self, command: &str) -> Result<Lease, RunError> {
        match self.lease(command).await {
            Err(RunError::Store(error)) if error.kind == StateErrorKind::Leased => {}
            taken => return taken,
        }
        let request = self.request_stop(command).await?;
        let begun = Instant::now();
        let taken = loop {
            match self.lease(command).await {
                Err(RunError::Store(error)) if error.kind == StateErrorKind::Leased => {
                    if *self.stop.borrow() {
                        break Err(RunError::Interrupted);
                    }
                    if begun.elapsed() >= self.stop_timeout {
                        break Err(RunError::Store(error));
                    }
                }
                taken => break taken,
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        };
        self.store.withdraw_stop_request(request, self.now()).await?;
        taken
    }

    /// Asks a running enforcement, if any, to stop before its next removal, and waits for that. Returns whether there
    /// was one, and whether it stopped.
    pub(super) async fn stop_enforcement(&self, command: &str) -> Result<StopResult, RunError> {
        // Neither a restore nor a recovery removes anything.
        let enforces = |holder: &String| !holder.starts_with("restore ") && !holder.starts_with("settling ");
        let running = async || self.store.lease_holder().await.map(|holder| holder.filter(enforces));
        let Some(holder) = running().await? else { return Ok(StopResult::NotRunning) };
        let request = self.request_stop(command).await?;
        let begun = Instant::now();
        let stopped = loop {
            if running().await?.is_none() {
                break StopResult::Stopped(holder);
            }
            if begun.elapsed() >= self.stop_timeout || *self.stop.borrow() {
                break StopResult::StillRunning(holder);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        };
        self.store.withdraw_stop_request(request, self.now()).await?;
        Ok(stopped)
    }

    async fn request_stop(&self, command: &str) -> Result<crate::state::StopRequestId, RunError> {
        let until = self.now().checked_add(self.stop_timeout).unwrap_or(Timestamp::MAX);
        let request = self.store.request_stop(&format!("`tagwarden {command}` of {}", self.by), until).await?;
        let wait = humantime::format_duration(self.stop_timeout);
        tracing::warn!("waiting for a running enforcement to stop before its next removal (at most {wait})");
        Ok(request)
    }
}

/// The result of asking an enforcement to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopResult {
    /// None was running.
    NotRunning,
    /// This one stopped.
    Stopped(String),
    /// This one is still running.
    StillRunning(String),
}

async fn watch_stop_requests(
    store: StateStore,
    clock: Clock,
    mut signal: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    by: StopReason,
) {
    let mut signals = true;
    loop {
        match store.stop_request(clock()).await {
            Ok(Some(asked_by)) => {
                tracing::warn!("no further removal begins: {asked_by} asks for that");
                by.set(&asked_by);
                stop.send_replace(true);
                return;
            }
            Ok(None) => {}
            // The journal will fail, too, and report why.
            Err(error) => tracing::debug!(error = %error.chain(), "could not see whether somebody asks to stop"),
        }
        tokio::select! {
            signalled = signal.wait_for(|stop| *stop), if signals => {
                if signalled.is_ok() {
                    stop.send_replace(true);
                    return;
                }
                // The sender is gone, so no signal can come.
                signals = false;
            }
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}
