//! Signals that stop a command: the first one asks it to, the second one ends it.

use tokio::sync::watch;

use super::output::say;

/// The meaning of a dropped connection (SIGHUP).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HangUp {
    /// The same as SIGTERM: a removal in flight must not be cut because a terminal is closed.
    Stops,
    /// No stop: the daemon reads its files again, which is looked after there.
    Reloads,
}

/// Becomes true at the first SIGINT, SIGTERM or SIGHUP; the removal in flight is finished, no other begins. The second
/// one ends the process.
pub(super) fn stop() -> watch::Receiver<bool> {
    stop_saying(HangUp::Stops, || say("stopping: no further removal begins; a second signal ends it at once"))
}

/// The same, with other words for it.
pub(super) fn stop_saying(hang_up: HangUp, words: impl FnOnce() + Send + 'static) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    let mut signals = Signals::listen(hang_up);
    tokio::spawn(async move {
        signals.next().await;
        // Nobody listens any more if the run has ended meanwhile.
        let _ = sender.send(true);
        // Apart from the wait for the second one: whoever does not read the words may be what the command hangs on.
        tokio::task::spawn_blocking(words);
        let code = signals.next().await;
        end(code).await;
    });
    receiver
}

/// Ends the process in the middle of whatever it does. The journal has what was begun.
async fn end(code: i32) {
    let words = || say("ended by a second signal; the next run settles what was begun");
    let said = tokio::task::spawn_blocking(words);
    // Nobody may read them.
    let _ = tokio::time::timeout(std::time::Duration::from_millis(200), said).await;
    std::process::exit(code);
}

/// The signals that are waited for.
#[cfg(unix)]
struct Signals {
    interrupt: Option<tokio::signal::unix::Signal>,
    terminate: Option<tokio::signal::unix::Signal>,
    hang_up: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn listen(hang_up: HangUp) -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let stops = hang_up == HangUp::Stops && may_listen_to_hang_ups();
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
            hang_up: if stops { signal(SignalKind::hangup()).ok() } else { None },
        }
    }

    /// Waits for the next one, and gives the exit code of a process that it ends.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            () = received(&mut self.hang_up) => 129,
            () = received(&mut self.interrupt) => 130,
            () = received(&mut self.terminate) => 143,
        }
    }
}

/// Waits for a signal; for ever where it cannot be waited for.
#[cfg(unix)]
async fn received(signal: &mut Option<tokio::signal::unix::Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Returns true if SIGHUP would end this process. If it is ignored, as under `nohup`, somebody wants it to go on, and
/// waiting for it would end that. Only Linux tells.
#[cfg(unix)]
fn may_listen_to_hang_ups() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| !ignores_hang_ups(&status))
}

/// Returns true if that `/proc/PID/status` ignores SIGHUP, the lowest bit of `SigIgn`, and if that is unclear.
#[cfg(unix)]
fn ignores_hang_ups(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
}

/// Ctrl-C is all there is.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen(_: HangUp) -> Self {
        Self
    }

    async fn next(&mut self) -> i32 {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        130
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_ignores_stays_ignored() {
        for (status, ignored) in [
            ("Name:\ttagwarden\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001000\n", false),
            ("SigIgn:\t0000000000001001\nSigCgt:\t0000000000000440\n", true),
            ("SigIgn:\t0000000000000000\nSigCgt:\t0000000000000001\n", false),
            ("SigIgn:\tx\n", true),
            ("", true),
        ] {
            assert_eq!(ignores_hang_ups(status), ignored, "{status:?}");
        }
    }
}
