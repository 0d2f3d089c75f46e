//! The heartbeat: one job that sends a tick each minute, and does nothing else.
//!
//! The scheduler computes the times of zoned jobs once, starts a job although the last one is still running, and can
//! stall when it lags. So it only sends ticks: due runs are determined elsewhere, unread ticks are dropped, and a
//! stalled scheduler is replaced.

use crate::domain::chain;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

/// The beginning of each minute.
const EACH_MINUTE: &str = "0 * * * * *";

/// A scheduler without ticks for that long has stalled.
const SILENCE_LIMIT: Duration = Duration::from_secs(200);

/// Sends a tick at the beginning of each minute, until the receiver is dropped.
///
/// # Errors
/// Returns an error if no scheduler can be started.
pub async fn send_ticks(ticks: mpsc::Sender<()>) -> Result<(), JobSchedulerError> {
    let start = Instant::now();
    let last = Arc::new(AtomicU64::new(0));
    let mut scheduler = start_scheduler(&ticks, start, &last).await?;
    loop {
        let looked = tokio::time::timeout(SILENCE_LIMIT / 4, ticks.closed()).await;
        if looked.is_ok() {
            return scheduler.shutdown().await;
        }
        let silent = start.elapsed().saturating_sub(Duration::from_secs(last.load(Ordering::Relaxed)));
        if silent > SILENCE_LIMIT {
            tracing::warn!(seconds = silent.as_secs(), "the scheduler fell silent and is started anew");
            if let Err(error) = scheduler.shutdown().await {
                tracing::debug!(error = %chain(&error), "the silent scheduler did not stop");
            }
            last.store(start.elapsed().as_secs(), Ordering::Relaxed);
            scheduler = self::start_scheduler(&ticks, start, &last).await?;
        }
    }
}

async fn start_scheduler(
    ticks: &mpsc::Sender<()>,
    start: Instant,
    last: &Arc<AtomicU64>,
) -> Result<JobScheduler, JobSchedulerError> {
    let (ticks, last) = (ticks.clone(), Arc::clone(last));
    let scheduler = JobScheduler::new().await?;
    let job = Job::new(EACH_MINUTE, move |_, _| {
        last.store(start.elapsed().as_secs(), Ordering::Relaxed);
        // A receiver that is still busy with the last tick needs no further one.
        let _ = ticks.try_send(());
    })?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    Ok(scheduler)
}
