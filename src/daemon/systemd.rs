//! What systemd is told. Without it nothing of this does anything.

use crate::domain::chain;
use std::time::Duration;

use sd_notify::NotifyState;

/// The daemon is ready, or is so again.
pub(super) fn notify_ready() {
    send(&[NotifyState::Ready]);
}

/// It reads its settings anew. The time is for systemd 253 and later (`Type=notify-reload`); earlier ones pass it over.
pub(super) fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

/// It comes to an end.
pub(super) fn notify_stopping() {
    send(&[NotifyState::Stopping]);
}

/// What `systemctl status` shows, on one line.
pub(super) fn set_status(words: &str) {
    send(&[NotifyState::Status(&words.replace('\n', "; "))]);
}

/// It is not stuck.
pub(super) fn ping_watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often it is to say that it is not stuck: twice in the time after which it is taken for that.
pub(super) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|interval| !interval.is_zero())
}

fn send(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(error = %chain(&error), "systemd could not be told");
    }
}
