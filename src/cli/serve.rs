//! `tagwarden serve`: the daemon in this process, with its signals and its heartbeat.

use std::path::Path;

use tokio::sync::{mpsc, watch};

use super::commands::{by, clock, environment, steady};
use super::output::say;
use super::signals::{HangUp, stop_saying};
use crate::config;
use crate::daemon::{Daemon, DaemonError, Events, Start, heartbeat};
use crate::registry::Patience;
use crate::run::RunError;

/// Lives until SIGTERM or SIGINT.
pub(super) async fn serve(config: Option<&Path>) -> Result<u8, RunError> {
    let (ask, reload) = mpsc::channel(1);
    // From here on no single signal ends the process any more.
    let mut stop = stop_saying(HangUp::Reloads, || tracing::info!("told to stop"));
    hang_ups(ask)?;
    let file = config::find(config)?;
    let (by, environment, clock) = (by(), environment().collect(), clock());
    let daemon = match Daemon::open(Start {
        file,
        environment,
        by,
        clock,
        steady: Some(steady()),
        patience: Patience::default(),
    })
    .await
    {
        Ok(daemon) => daemon,
        Err(DaemonError::Run(error)) => return Err(error),
        Err(error @ DaemonError::Listen { .. }) => {
            say(&format!("error: {error}"));
            return Ok(1);
        }
    };
    let (ticks, taken) = mpsc::channel(1);
    let (halt, halted) = watch::channel(false);
    let beating = async {
        let beaten = tokio::select! {
            beaten = heartbeat::beat(ticks) => beaten,
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        };
        // Without a heartbeat it would wait for ever, and look well.
        halt.send_replace(true);
        beaten
    };
    let (beaten, ()) = tokio::join!(beating, daemon.live(Events { ticks: taken, reload, stop: halted }));
    if let Err(error) = beaten {
        say(&format!("error: the scheduler could not be started: {error}"));
        return Ok(1);
    }
    Ok(0)
}

/// Asks for a reload at each SIGHUP.
#[cfg(unix)]
fn hang_ups(ask: mpsc::Sender<()>) -> Result<(), RunError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hang_up = signal(SignalKind::hangup())
        .map_err(|error| RunError::Failed(format!("SIGHUP cannot be waited for: {error}")))?;
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            // One that is still to be read takes up this one's changes, too.
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
