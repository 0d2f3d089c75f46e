//! Units of work: one transaction each, which waits for the database only so long.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::{Query, QueryAs};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgPool, Postgres};

use super::{CONNECT_TIMEOUT, PostgresState};
use crate::state::row_reader::RowReader as _;
use crate::state::{StateError, StateErrorKind};

/// How long a statement may take. A database that was cut off says nothing at all.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a connection may take while the database is known to be away.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The beginning of a transaction that the disk has before it counts as done.
const WRITE: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout TO 5000";

/// A statement with its values.
pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// A query for rows of that type.
pub(super) type RowQuery<'q, T> = QueryAs<'q, Postgres, T, PgArguments>;

/// A transaction under way. Its statements have no names, which would stay in the session behind a pooler. Dropped without a commit it is undone.
pub(super) struct Unit<'a> {
    state: &'a PostgresState,
    doing: &'static str,
    transaction: Transaction,
}

/// A connection of the pool inside a transaction. Unless that was committed it is closed, which undoes it: where a future was
/// dropped in the middle of a statement, only the server knows what the connection is in. The transactions of
/// `sqlx` would give it back with one that nobody ends if its `BEGIN` was not waited for.
struct Transaction {
    connection: PoolConnection<Postgres>,
    is_over: bool,
}

impl Transaction {
    async fn begin(mut self, statement: &'static str) -> Result<Self, sqlx::Error> {
        sqlx::raw_sql(statement).execute(&mut *self.connection).await?;
        Ok(self)
    }

    async fn commit(mut self) -> Result<(), sqlx::Error> {
        sqlx::raw_sql("COMMIT").execute(&mut *self.connection).await?;
        self.is_over = true;
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.is_over {
            self.connection.close_on_drop();
        }
    }
}

impl PostgresState {
    /// Begins a transaction that the disk has before it counts as done. If this process is stopped in the middle of it, the
    /// database ends it after five seconds: it may hold the row of a lease, and others could not take that over.
    pub(super) async fn write(&self, doing: &'static str) -> Result<Unit<'_>, StateError> {
        self.begin(doing, WRITE).await
    }

    /// Does the same on the connection of the leases, which no other work occupies.
    pub(super) async fn write_lease(&self, doing: &'static str) -> Result<Unit<'_>, StateError> {
        self.begin_on(&self.0.lease_pool, doing, WRITE).await
    }

    /// Begins a transaction that a crash of the database may undo.
    pub(super) async fn write_relaxed(&self, doing: &'static str) -> Result<Unit<'_>, StateError> {
        let begin = "BEGIN; SET LOCAL synchronous_commit TO off; SET LOCAL idle_in_transaction_session_timeout TO 5000";
        self.begin(doing, begin).await
    }

    /// Begins a transaction that sees everything as of one instant, and changes nothing.
    pub(super) async fn snapshot(&self, doing: &'static str) -> Result<Unit<'_>, StateError> {
        self.begin(doing, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    async fn begin(&self, doing: &'static str, statement: &'static str) -> Result<Unit<'_>, StateError> {
        self.begin_on(&self.0.pool, doing, statement).await
    }

    async fn begin_on(
        &self,
        pool: &PgPool,
        doing: &'static str,
        statement: &'static str,
    ) -> Result<Unit<'_>, StateError> {
        self.refresh_password().await?;
        // Whoever comes after one that waited in vain does not wait as long again.
        let patience = if self.is_away() { RECONNECT_TIMEOUT } else { STATEMENT_TIMEOUT };
        let begin =
            async || Transaction { connection: self.acquire(pool).await?, is_over: false }.begin(statement).await;
        let open = async || match tokio::time::timeout(patience, begin()).await {
            // It was waited for long enough.
            Err(_) | Ok(Err(sqlx::Error::PoolTimedOut)) => Ok(None),
            Ok(outcome) => outcome.map(Some),
        };
        let mut outcome = self.answer(doing, open()).await;
        if outcome.as_ref().is_err_and(|error| error.kind == StateErrorKind::Unavailable) {
            // It may have been the connection alone, which a restart of the database or a pooler ended.
            outcome = self.answer(doing, open()).await;
        }
        match outcome? {
            Some(transaction) => {
                self.0.unreachable.store(false, Ordering::Relaxed);
                Ok(Unit { state: self, doing, transaction })
            }
            None => Err(self.sqlx_error(doing, sqlx::Error::PoolTimedOut)),
        }
    }

    /// Waits for a connection. A pool whose connections are all at work, and none of which failed lately, is busy and not
    /// cut off: with hundreds of registries it may be some time until it is one's turn.
    async fn acquire(&self, pool: &PgPool) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        let is_full = || pool.size() >= pool.options().get_max_connections();
        let is_busy = || is_full() && !self.is_away() && self.0.failures.is_opened_since(CONNECT_TIMEOUT);
        loop {
            match pool.acquire().await {
                Err(sqlx::Error::PoolTimedOut) if is_busy() => {}
                acquired => return acquired,
            }
        }
    }

    /// Runs statements as one transaction and in one round trip, and returns all of their rows, whose values are texts.
    ///
    /// # Errors
    /// Returns an error if the database does not answer, or refuses one of them: none has an effect then, unless the
    /// answer alone was lost.
    pub(super) async fn exchange(&self, doing: &'static str, statements: String) -> Result<Vec<PgRow>, StateError> {
        self.refresh_password().await?;
        let work = async {
            let mut transaction = Transaction { connection: self.acquire(&self.0.pool).await?, is_over: false };
            let rows = sqlx::raw_sql(AssertSqlSafe(statements)).fetch_all(&mut *transaction.connection).await?;
            transaction.is_over = true;
            Ok(rows)
        };
        self.answer(doing, work).await
    }

    /// Returns true if the last thing that was asked of the database was not answered.
    pub(super) fn is_away(&self) -> bool {
        self.0.unreachable.load(Ordering::Relaxed)
    }

    /// Waits for an answer of the database.
    pub(super) async fn answer<T>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StateError> {
        match tokio::time::timeout(STATEMENT_TIMEOUT, work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.sqlx_error(doing, error)),
            Err(_) => {
                self.0.failures.note();
                self.0.unreachable.store(true, Ordering::Relaxed);
                let seconds = STATEMENT_TIMEOUT.as_secs();
                let what = format_args!("cannot {doing}: the database did not answer within {seconds} seconds");
                Err(self.error(StateErrorKind::Unavailable, what))
            }
        }
    }

    /// Reads rows.
    pub(super) async fn rows<T>(&self, doing: &'static str, query: RowQuery<'_, T>) -> Result<Vec<T>, StateError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut unit = self.begin(doing, "BEGIN READ ONLY").await?;
        let rows = unit.rows(query).await?;
        unit.commit().await?;
        Ok(rows)
    }

    /// Reads one row, if there is one.
    pub(super) async fn row<T>(&self, doing: &'static str, query: RowQuery<'_, T>) -> Result<Option<T>, StateError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        Ok(self.rows(doing, query).await?.into_iter().next())
    }

    /// Runs one statement, and returns the number of rows that it changed. The disk has it when this returns.
    pub(super) async fn execute(&self, doing: &'static str, statement: Statement<'_>) -> Result<u64, StateError> {
        let mut unit = self.write(doing).await?;
        let changed = unit.execute(statement).await?;
        unit.commit().await?;
        Ok(changed)
    }

    /// Does the same with what a crash of the database may undo.
    pub(super) async fn execute_relaxed(
        &self,
        doing: &'static str,
        statement: Statement<'_>,
    ) -> Result<u64, StateError> {
        let mut unit = self.write_relaxed(doing).await?;
        let changed = unit.execute(statement).await?;
        unit.commit().await?;
        Ok(changed)
    }
}

impl Unit<'_> {
    /// Runs a statement, and returns the number of rows that it changed.
    pub(super) async fn execute(&mut self, statement: Statement<'_>) -> Result<u64, StateError> {
        let work = statement.persistent(false).execute(&mut *self.transaction.connection);
        self.state.answer(self.doing, work).await.map(|done| done.rows_affected())
    }

    /// Reads rows.
    pub(super) async fn rows<T>(&mut self, query: RowQuery<'_, T>) -> Result<Vec<T>, StateError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.state.answer(self.doing, query.persistent(false).fetch_all(&mut *self.transaction.connection)).await
    }

    /// Reads one row, if there is one.
    pub(super) async fn row<T>(&mut self, query: RowQuery<'_, T>) -> Result<Option<T>, StateError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.state.answer(self.doing, query.persistent(false).fetch_optional(&mut *self.transaction.connection)).await
    }

    /// The connection that is inside the transaction.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction.connection
    }

    /// Commits it.
    pub(super) async fn commit(self) -> Result<(), StateError> {
        self.state.answer(self.doing, self.transaction.commit()).await
    }
}
