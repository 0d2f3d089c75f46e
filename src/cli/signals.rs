//! Signals that stop a command: the first one requests it, the second one ends the process.

use tokio::sync::watch;

use super::output::print_stderr;

/// The meaning of a dropped connection (SIGHUP).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SighupAction {
    /// The same as SIGTERM: a removal in flight must not be interrupted because a terminal is closed.
    Stop,
    /// No stop: the daemon handles it as a reload.
    Reload,
}

/// Returns a receiver that becomes true at the first SIGINT, SIGTERM or SIGHUP; the removal in flight is completed, no
/// other begins. The second signal ends the process.
pub(super) fn listen_for_stop() -> watch::Receiver<bool> {
    listen_for_stop_with(SighupAction::Stop, || {
        print_stderr("stopping: no further removal begins; a second signal ends it at once");
    })
}

/// Does the same with another message.
pub(super) fn listen_for_stop_with(
    hang_up: SighupAction,
    words: impl FnOnce() + Send + 'static,
) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    let mut signals = Signals::listen(hang_up);
    tokio::spawn(async move {
        signals.next().await;
        // The receiver is dropped if the run has ended meanwhile.
        let _ = sender.send(true);
        // Separate from the wait for the second one: a reader that blocks the message may be what the command waits
        // for.
        tokio::task::spawn_blocking(words);
        let code = signals.next().await;
        exit_process(code).await;
    });
    receiver
}

/// Ends the process in the middle of its work. The journal has the open entries.
async fn exit_process(code: i32) {
    let words = || print_stderr("ended by a second signal; the next run settles what was begun");
    let said = tokio::task::spawn_blocking(words);
    // The message may have no reader.
    let _ = tokio::time::timeout(std::time::Duration::from_millis(200), said).await;
    std::process::exit(code);
}

/// The handled signals.
#[cfg(unix)]
struct Signals {
    interrupt: Option<tokio::signal::unix::Signal>,
    terminate: Option<tokio::signal::unix::Signal>,
    hang_up: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn listen(hang_up: SighupAction) -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let stops = hang_up == SighupAction::Stop && may_handle_sighup();
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
            hang_up: if stops { signal(SignalKind::hangup()).ok() } else { None },
        }
    }

    /// Waits for the next one, and returns the exit code of a process that it ends.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            () = wait_for_signal(&mut self.hang_up) => 129,
            () = wait_for_signal(&mut self.interrupt) => 130,
            () = wait_for_signal(&mut self.terminate) => 143,
        }
    }
}

/// Waits for a signal; forever if it cannot be handled.
#[cfg(unix)]
async fn wait_for_signal(signal: &mut Option<tokio::signal::unix::Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Returns true if SIGHUP would end this process. If it is ignored, as under `nohup`, the process should continue, and
/// a handler would end that. Detectable on Linux only.
#[cfg(unix)]
fn may_handle_sighup() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| !ignores_sighup(&status))
}

/// Returns true if that `/proc/PID/status` ignores SIGHUP, the lowest bit of `SigIgn`, and if that is unclear.
#[cfg(unix)]
fn ignores_sighup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
}

/// Ctrl-C is the only one.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen(_: SighupAction) -> Self {
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
            assert_eq!(ignores_sighup(status), ignored, "{status:?}");
        }
    }
}
