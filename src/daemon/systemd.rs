//! Notifications to systemd. Without it they have no effect.

use crate::domain::chain;
use std::time::Duration;

use sd_notify::NotifyState;

/// Reports that the daemon is ready, possibly again.
pub(super) fn notify_ready() {
    send(&[NotifyState::Ready]);
}

/// Reports that it is reloading. The time is for systemd 253 and later (`Type=notify-reload`); earlier versions ignore
/// it.
pub(super) fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

/// Reports that it is stopping.
pub(super) fn notify_stopping() {
    send(&[NotifyState::Stopping]);
}

/// Sets the line that `systemctl status` shows.
pub(super) fn set_status(words: &str) {
    send(&[NotifyState::Status(&words.replace('\n', "; "))]);
}

/// Reports that it is alive.
pub(super) fn ping_watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// Returns the interval of watchdog pings: half of the watchdog's timeout.
pub(super) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|interval| !interval.is_zero())
}

fn send(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(error = %chain(&error), "systemd could not be told");
    }
}
