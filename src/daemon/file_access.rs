//! File access outside of the daemon's loop, with a deadline.
//!
//! A network share may be unresponsive for hours. The loop must continue meanwhile: stop on request, run what is due by
//! its current rules, and report unresponsive files.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The time that the loop waits for files.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Error for files that did not respond in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unresponsive;

/// One kind of file access, at most one of which is in progress.
#[derive(Debug)]
pub(super) struct FileAccess<T> {
    /// An access without a result yet. Another one would only occupy one more thread.
    pending: Option<JoinHandle<T>>,
    timeout: Duration,
}

impl<T> Default for FileAccess<T> {
    fn default() -> Self {
        Self { pending: None, timeout: TIMEOUT }
    }
}

impl<T: Send + 'static> FileAccess<T> {
    /// Runs `work` on a blocking thread, until the deadline or until `stop` becomes true.
    ///
    /// # Errors
    /// Returns [`Unresponsive`] if it did not end in time, or an earlier access still has not.
    pub(super) async fn run(
        &mut self,
        stop: &watch::Receiver<bool>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unresponsive> {
        self.wait(stop, || tokio::task::spawn_blocking(work)).await
    }

    /// Does the same for work that also awaits other things; it must keep its own file access off the runtime's
    /// threads.
    ///
    /// # Errors
    /// Fails as [`FileAccess::run`] does.
    pub(super) async fn run_async(
        &mut self,
        stop: &watch::Receiver<bool>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Unresponsive> {
        self.wait(stop, || tokio::spawn(work)).await
    }

    async fn wait(
        &mut self,
        stop: &watch::Receiver<bool>,
        start: impl FnOnce() -> JoinHandle<T>,
    ) -> Result<T, Unresponsive> {
        if self.pending.as_ref().is_some_and(|pending| !pending.is_finished()) {
            return Err(Unresponsive);
        }
        let pending = self.pending.insert(start());
        let mut stop = stop.clone();
        tokio::select! {
            result = &mut *pending => {
                self.pending = None;
                // A panic has been logged already.
                result.map_err(|_| Unresponsive)
            }
            () = tokio::time::sleep(self.timeout) => Err(Unresponsive),
            _ = stop.wait_for(|stop| *stop) => Err(Unresponsive),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_hangs_is_waited_for_once_and_asked_again_when_it_answered() {
        let (_going, stop) = watch::channel(false);
        let mut access = FileAccess { pending: None, timeout: Duration::from_millis(20) };
        let (answer, hung) = mpsc::channel::<()>();
        assert_eq!(access.run(&stop, move || hung.recv().map_or(1, |()| 1)).await, Err(Unresponsive));
        assert_eq!(access.run(&stop, || 2).await, Err(Unresponsive), "the first one is still under way");
        answer.send(()).unwrap();
        while access.pending.as_ref().is_some_and(|pending| !pending.is_finished()) {
            tokio::task::yield_now().await;
        }
        access.timeout = TIMEOUT;
        assert_eq!(access.run(&stop, || 3).await, Ok(3));
    }

    #[tokio::test]
    async fn a_stop_ends_the_wait() {
        let (halt, stop) = watch::channel(false);
        let mut access = FileAccess::default();
        let (answer, hung) = mpsc::channel::<()>();
        halt.send_replace(true);
        assert_eq!(access.run(&stop, move || hung.recv().is_ok()).await, Err(Unresponsive));
        // Releases the waiting thread, or this process would not exit.
        drop(answer);
    }
}
