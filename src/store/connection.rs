//! Connections to SQLite: none outlives a failure, and a write that is not committed takes its connection along.
//!
//! After some errors (a full disk, an interrupted statement, an I/O error) SQLite rolls a transaction back by itself, and
//! what `sqlx` believes of the connection is no longer true: such a connection refuses every later transaction. A connection
//! that was opened while the file system was read-only stays read-only, too. Opening another one costs a millisecond.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Sqlite;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use tokio::sync::MutexGuard;

use super::{Store, StoreError};

/// The time of the last failure of SQLite in a store.
#[derive(Debug, Clone, Default)]
pub(super) struct LastFault(Arc<Mutex<Option<Instant>>>);

impl LastFault {
    /// Notes that SQLite failed: connections that were opened before are discarded when they are next asked for.
    pub(super) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Returns whether a connection of that age was opened after the last failure, if there was one.
    fn is_opened_since(&self, age: Duration) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| age < last.elapsed())
    }
}

/// Makes a pool of at most `size` connections, which are opened when they are first needed.
pub(super) fn pool(size: u32, options: SqliteConnectOptions, faults: &LastFault) -> SqlitePool {
    let faults = faults.clone();
    SqlitePoolOptions::new()
        .max_connections(size)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .before_acquire(move |_, meta| {
            let sound = faults.is_opened_since(meta.age);
            Box::pin(async move { Ok(sound) })
        })
        .connect_lazy_with(options)
}

/// A write under way. Dropped without a commit it is undone, with its connection.
pub(super) struct Write<'a> {
    /// The connection that is inside the transaction.
    pub(super) transaction: PoolConnection<Sqlite>,
    store: &'a Store,
    committed: bool,
    _turn: MutexGuard<'a, ()>,
}

impl<'a> Write<'a> {
    /// Begins a write on a connection of `pool`, as a writer from its first statement on.
    pub(super) async fn begin(store: &'a Store, pool: &SqlitePool) -> Result<Self, StoreError> {
        let turn = store.0.writing.lock().await;
        store.verify_file()?;
        let fault = |error: sqlx::Error| store.fault("write to it", &error);
        let connection = pool.acquire().await.map_err(fault)?;
        let mut write = Self { transaction: connection, store, committed: false, _turn: turn };
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *write.transaction).await.map_err(fault)?;
        Ok(write)
    }

    /// Commits it. With the durable pool the disk has it when this returns.
    pub(super) async fn commit(mut self, doing: &str) -> Result<(), StoreError> {
        let done = sqlx::query("COMMIT").execute(&mut *self.transaction).await;
        done.map_err(|error| self.store.fault(doing, &error))?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        if !self.committed {
            self.transaction.close_on_drop();
        }
    }
}
