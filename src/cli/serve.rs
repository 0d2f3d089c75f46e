//! `tagwarden serve`: the daemon in this process, with its signals and its heartbeat.

use std::path::Path;

use tokio::sync::{mpsc, watch};

use super::collector;
use super::context::{current_user, environment, monotonic_clock, system_clock};
use super::output::print_stderr;
use super::signals::{SighupAction, listen_for_stop_with};
use crate::config;
use crate::daemon::{Daemon, DaemonError, DaemonOptions, Events, heartbeat};
use crate::domain::{Failure, chain};
use crate::registry::RetryPolicy;
use crate::workflow::RunError;

/// Runs until SIGTERM or SIGINT.
pub(super) async fn serve(config: Option<&Path>) -> Result<u8, RunError> {
    let (ask, reload) = mpsc::channel(1);
    // From here on no single signal ends the process.
    let mut stop = listen_for_stop_with(SighupAction::Reload, || tracing::info!("told to stop"));
    hang_ups(ask)?;
    let file = config::find(config)?;
    let (by, environment, clock) = (current_user(), environment().collect(), system_clock());
    let daemon = match Daemon::open(DaemonOptions {
        file,
        environment,
        by,
        clock,
        monotonic_clock: Some(monotonic_clock()),
        retry_policy: RetryPolicy::default(),
    })
    .await
    {
        Ok(daemon) => daemon,
        Err(DaemonError::Run(error)) => return Err(error),
        Err(DaemonError::Listen(error)) => {
            print_stderr(&format!("error: {}", error.chain()));
            return Ok(1);
        }
    };
    let exporting = collector::start(daemon.telemetry()).map(|telemetry| {
        let status = daemon.status();
        tokio::spawn(async move { telemetry.export_metrics(system_clock(), || status.metrics()).await })
    });
    let (ticks, taken) = mpsc::channel(1);
    let (halt, halted) = watch::channel(false);
    let beating = async {
        let beaten = tokio::select! {
            beaten = heartbeat::send_ticks(ticks) => beaten,
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        };
        // Without a heartbeat it would wait forever, and look healthy.
        halt.send_replace(true);
        beaten
    };
    let (beaten, ()) = tokio::join!(beating, daemon.run(Events { ticks: taken, reload, stop: halted }));
    if let Some(exporting) = exporting {
        exporting.abort();
    }
    if let Err(error) = beaten {
        print_stderr(&format!("error: the scheduler could not be started: {}", chain(&error)));
        return Ok(1);
    }
    Ok(0)
}

/// Requests a reload at each SIGHUP.
#[cfg(unix)]
fn hang_ups(ask: mpsc::Sender<()>) -> Result<(), RunError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hang_up = signal(SignalKind::hangup())
        .map_err(|error| RunError::Failed(Failure::new((), "SIGHUP cannot be waited for").caused_by(error)))?;
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            // A pending reload covers these changes, too.
            let _ = ask.try_send(());
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn hang_ups(ask: mpsc::Sender<()>) -> Result<(), RunError> {
    tokio::spawn(async move { ask.closed().await });
    Ok(())
}
