//! Connections to SQLite: none is reused after a failure, and an uncommitted write closes its connection.
//!
//! After some errors (a full disk, an interrupted statement, an I/O error) SQLite rolls a transaction back by itself,
//! and the connection's state in `sqlx` is wrong: such a connection refuses every later transaction. A connection that
//! was opened while the file system was read-only stays read-only, too. Opening another one costs a millisecond.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Sqlite;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use tokio::sync::MutexGuard;

use super::write_ahead_log::WatchedLog;
use super::{SqliteState, StateError};

/// The time of the last failure of SQLite in a [`SqliteState`].
#[derive(Debug, Clone, Default)]
pub(super) struct LastFailure(Arc<Mutex<Option<Instant>>>);

impl LastFailure {
    /// Records a failure of SQLite: connections that were opened before are discarded on their next use.
    pub(super) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Returns whether a connection of that age was opened after the last failure, if there was one.
    pub(super) fn is_opened_since(&self, age: Duration) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| age < last.elapsed())
    }
}

/// Creates a pool of at most `size` connections, which are opened on first use. Each opening makes `seen_log` unknown
/// again.
pub(super) fn pool(
    size: u32,
    options: SqliteConnectOptions,
    faults: &LastFailure,
    seen_log: &WatchedLog,
) -> SqlitePool {
    let (faults, seen_log) = (faults.clone(), seen_log.clone());
    SqlitePoolOptions::new()
        .max_connections(size)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_connect(move |_, _| {
            seen_log.forget();
            Box::pin(async { Ok(()) })
        })
        .before_acquire(move |_, meta| {
            let sound = faults.is_opened_since(meta.age);
            Box::pin(async move { Ok(sound) })
        })
        .connect_lazy_with(options)
}

/// A write in progress. Dropped without a commit it is rolled back, with its connection.
pub(super) struct WriteTransaction<'a> {
    /// The connection that is inside the transaction.
    pub(super) transaction: PoolConnection<Sqlite>,
    store: &'a SqliteState,
    /// True if the disk must have it before it counts as done.
    durable: bool,
    committed: bool,
    _write_lock: MutexGuard<'a, ()>,
}

impl<'a> WriteTransaction<'a> {
    /// Begins a write on the durable connection or on the relaxed one, as a writer from its first statement on.
    ///
    /// # Errors
    /// Returns an error if it cannot be begun, or earlier writes are no longer in their file.
    pub(super) async fn begin(store: &'a SqliteState, durable: bool) -> Result<Self, StateError> {
        let turn = store.0.write_lock.lock().await;
        store.verify_main_file()?;
        let fault = |error: sqlx::Error| store.sqlx_error("write to it", error);
        let pool = if durable { &store.0.durable } else { &store.0.relaxed };
        let mut connection = pool.acquire().await.map_err(fault)?;
        store.verify_log(&mut connection).await?;
        let mut write = Self { transaction: connection, store, durable, committed: false, _write_lock: turn };
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *write.transaction).await.map_err(fault)?;
        Ok(write)
    }

    /// Commits it. If it is durable the disk has it when this returns, in a file that the next process finds.
    pub(super) async fn commit(mut self, doing: &str) -> Result<(), StateError> {
        let done = sqlx::query("COMMIT").execute(&mut *self.transaction).await;
        done.map_err(|error| self.store.sqlx_error(doing, error))?;
        self.committed = true;
        if self.durable {
            self.store.watch_log(&mut self.transaction).await?;
        }
        Ok(())
    }
}

impl Drop for WriteTransaction<'_> {
    fn drop(&mut self) {
        if !self.committed {
            self.transaction.close_on_drop();
            if self.durable {
                self.store.0.watched_log.forget();
            }
        }
    }
}
