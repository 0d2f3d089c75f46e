//! Tables, brought up to date on a connection of their own.

use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

use crate::state::location::PostgresLocation;
use crate::state::{StateError, StateErrorKind};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/postgres");

/// How long it is tried to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is tried meanwhile.
const CONNECT_INTERVAL: Duration = Duration::from_millis(250);

/// Held by the process that changes the tables, until its transaction ends. The number has no meaning.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7824169023)";

const MIGRATE: &str = "bring its tables up to date";

/// Returns the version to which this Tagwarden brings tables.
pub(super) fn newest_schema() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Makes sure of the tables. Where they are up to date, nothing is written; otherwise that must be allowed by `migrate`.
///
/// # Errors
/// When the database cannot be reached, its tables are not Tagwarden's, or a newer one wrote them.
pub(super) async fn prepare(
    database: &PostgresLocation,
    options: &PgConnectOptions,
    migrate: bool,
) -> Result<(), StateError> {
    let fault = |error: sqlx::Error| StateError::from_postgres(database, "connect to it", error);
    let mut connection = connect(options).await.map_err(fault)?;
    let prepared = prepare_tables(database, &mut connection, migrate).await;
    let closed = connection.close().await;
    // Whatever the tables are matters more than how the connection ended.
    prepared?;
    closed.map_err(fault)
}

/// Connects, also to a database that is about to be there.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let begun = Instant::now();
    loop {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await;
        match connecting.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Err(error) if is_starting(&error) && begun.elapsed() < CONNECT_TIMEOUT => {
                tokio::time::sleep(CONNECT_INTERVAL).await;
            }
            connected => return connected,
        }
    }
}

/// Returns true if a database refuses connections as it does while it starts.
fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        // `cannot_connect_now` and `too_many_connections`.
        sqlx::Error::Database(error) => matches!(error.code().as_deref(), Some("57P03" | "53300")),
        _ => false,
    }
}

async fn prepare_tables(
    database: &PostgresLocation,
    connection: &mut PgConnection,
    migrate: bool,
) -> Result<(), StateError> {
    let fault = |error: sqlx::Error| StateError::from_postgres(database, MIGRATE, error);
    let about = |kind, what: &str| StateError::about_database(kind, database, what);
    let mut transaction = connection.begin_with("BEGIN READ ONLY").await.map_err(fault)?;
    let version = version(database, &mut transaction).await?;
    transaction.commit().await.map_err(fault)?;
    if version == Some(newest_schema()) {
        return Ok(());
    }
    if !migrate {
        let what = match version {
            Some(_) => "an older Tagwarden wrote it, and its tables must be brought up to date",
            None => "it has no tables, and its user may make none",
        };
        return Err(about(StateErrorKind::ReadOnly, what));
    }
    // All of it is one transaction, so that two processes can start at once, and a lock of the session, which a pooler
    // would leave to others, is not needed.
    let mut transaction = connection.begin().await.map_err(fault)?;
    sqlx::raw_sql(LOCK).execute(&mut *transaction).await.map_err(fault)?;
    let inner: &mut PgConnection = &mut transaction;
    // The locks of `sqlx` are those of the session.
    let mut migrator = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    migrator.set_locking(false);
    match migrator.run_direct(None, inner, false).await {
        Ok(()) => {
            // `sqlx` prepares statements by name for this, and a pooler keeps the session.
            sqlx::raw_sql("DEALLOCATE ALL").execute(&mut *transaction).await.map_err(fault)?;
            transaction.commit().await.map_err(fault)?;
        }
        Err(MigrateError::VersionMissing(version)) => return Err(newer_schema_error(database, version)),
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => return Err(fault(error)),
        Err(error) => {
            return Err(about(StateErrorKind::Open, &format!("cannot {MIGRATE}")).caused_by(error));
        }
    }
    Ok(())
}

/// The version of the tables; `None` where there are none.
async fn version(database: &PostgresLocation, connection: &mut PgConnection) -> Result<Option<i64>, StateError> {
    let fault = |error: sqlx::Error| StateError::from_postgres(database, "read its version", error);
    let (tables, ours): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE tablename IN ('_sqlx_migrations', 'journaled_manifests'))
         FROM pg_tables WHERE schemaname = current_schema()",
    )
    .persistent(false)
    .fetch_one(&mut *connection)
    .await
    .map_err(fault)?;
    match (tables, ours) {
        (0, _) => return Ok(None),
        (_, 2) => {}
        _ => {
            let what = "it is a database with tables, but none of Tagwarden's: give it one of its own";
            return Err(StateError::about_database(StateErrorKind::Open, database, what));
        }
    }
    let query = sqlx::query_as("SELECT max(version) FROM _sqlx_migrations").persistent(false);
    let (version,): (Option<i64>,) = query.fetch_one(&mut *connection).await.map_err(fault)?;
    match version {
        Some(version) if version > newest_schema() => Err(newer_schema_error(database, version)),
        version => Ok(version),
    }
}

/// The error of tables that a newer Tagwarden brought to that version.
fn newer_schema_error(database: &PostgresLocation, version: i64) -> StateError {
    let what = format_args!("its tables are at version {version}, this Tagwarden knows {}", newest_schema());
    StateError::about_database(StateErrorKind::NewerSchema, database, what)
}
