//! The rows of a state in PostgreSQL.

use async_trait::async_trait;
use futures::TryStreamExt as _;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, Row as _};

use super::tables::{Kind, TABLES, Table, Value};
use super::{Batch, Row, RowSink, RowSource, RowTarget};
use crate::state::location::PostgresLocation;
use crate::state::postgres::connect_options;
use crate::state::{StateError, StateErrorKind};

const READ: &str = "read its rows";
const WRITE: &str = "copy rows into it";

/// The rows of a database, in a transaction.
pub(super) struct PostgresRows {
    database: PostgresLocation,
    connection: PgConnection,
}

impl PostgresRows {
    /// Begins to read a database whose tables are up to date, as of now.
    pub(super) async fn read_from(database: &PostgresLocation) -> Result<Self, StateError> {
        Self::begin(database, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    /// Begins to fill a database whose tables are up to date.
    ///
    /// # Errors
    /// [`StateErrorKind::Exists`] when there is something in it already.
    pub(super) async fn write_into(database: &PostgresLocation) -> Result<Self, StateError> {
        let mut rows = Self::begin(database, "BEGIN").await?;
        // Nobody else writes into it meanwhile.
        rows.execute(WRITE, "LOCK TABLE runs, leases IN ACCESS EXCLUSIVE MODE").await?;
        for table in TABLES.iter().filter(|table| !matches!(table.name, "clock" | "leases")) {
            let query = format!("SELECT EXISTS (SELECT 1 FROM {})", table.name);
            let (any,): (bool,) = sqlx::query_as(AssertSqlSafe(query))
                .persistent(false)
                .fetch_one(&mut rows.connection)
                .await
                .map_err(rows.fault(WRITE))?;
            if any {
                let what = format_args!("cannot copy into it: there is something in its table {} already", table.name);
                return Err(StateError::about_database(StateErrorKind::Exists, database, what));
            }
        }
        rows.execute(WRITE, "DELETE FROM clock; DELETE FROM leases").await?;
        Ok(rows)
    }

    async fn begin(database: &PostgresLocation, statement: &'static str) -> Result<Self, StateError> {
        let options = connect_options(database).await?;
        let connection = options.connect().await;
        let connection = connection.map_err(|error| StateError::from_postgres(database, "connect to it", error))?;
        let mut rows = Self { database: database.clone(), connection };
        rows.execute(READ, statement).await?;
        Ok(rows)
    }

    /// Runs statements without values.
    async fn execute(&mut self, doing: &'static str, statement: &'static str) -> Result<(), StateError> {
        sqlx::raw_sql(statement).execute(&mut self.connection).await.map(drop).map_err(self.fault(doing))
    }

    fn fault(&self, doing: &'static str) -> impl Fn(sqlx::Error) -> StateError + use<> {
        let database = self.database.clone();
        move |error| StateError::from_postgres(&database, doing, error)
    }

    async fn number(&mut self, doing: &'static str, query: String) -> Result<u64, StateError> {
        let row: Result<(i64,), sqlx::Error> =
            sqlx::query_as(AssertSqlSafe(query)).persistent(false).fetch_one(&mut self.connection).await;
        row.map(|(number,)| number.unsigned_abs()).map_err(self.fault(doing))
    }
}

/// The columns of a table, with commas between them.
fn columns(table: &Table) -> String {
    table.columns.iter().map(|column| column.postgres_name(table)).collect::<Vec<_>>().join(", ")
}

fn values(table: &Table, row: &PgRow) -> Result<Row, sqlx::Error> {
    let value = |(place, kind): (usize, Kind)| {
        Ok(match kind {
            Kind::Text => Value::Text(row.try_get(place)?),
            Kind::Number => Value::Number(row.try_get(place)?),
            Kind::Flag => Value::Flag(row.try_get(place)?),
            Kind::Bytes => Value::Bytes(row.try_get(place)?),
        })
    };
    table.columns.iter().map(|column| column.kind).enumerate().map(value).collect()
}

#[async_trait]
impl RowSource for PostgresRows {
    async fn read(&mut self, table: &'static Table, sink: &mut dyn RowSink) -> Result<(), StateError> {
        let fault = self.fault(READ);
        // Sorted by bytes, as in SQLite.
        let key = table.columns.iter().take(table.key).map(|column| {
            let name = column.postgres_name(table);
            if column.kind == Kind::Text { format!("{name} COLLATE \"C\"") } else { name.to_owned() }
        });
        let key = key.collect::<Vec<_>>().join(", ");
        // A file keeps no other lease: its locks are those of files.
        let some = if table.name == "leases" { "WHERE scope = 'run'" } else { "" };
        let query = format!("SELECT {} FROM {} {some} ORDER BY {key}", columns(table), table.name);
        let mut batch = Batch::default();
        let mut rows = sqlx::query(AssertSqlSafe(query)).persistent(false).fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await.map_err(&fault)? {
            if let Some(full) = batch.add(values(table, &row).map_err(&fault)?) {
                sink.take(table, full).await?;
            }
        }
        drop(rows);
        sink.take(table, batch.take()).await
    }

    async fn table_bytes(&mut self, table: &'static Table) -> Result<Option<u64>, StateError> {
        let query = format!("SELECT pg_total_relation_size('{}')::bigint", table.name);
        self.number("read its sizes", query).await.map(Some)
    }

    async fn total_bytes(&mut self) -> Result<u64, StateError> {
        self.number("read its size", "SELECT pg_database_size(current_database())::bigint".to_owned()).await
    }

    async fn findings(&mut self) -> Result<Vec<String>, StateError> {
        // The database checks its pages and references itself, whenever they are read or written.
        Ok(Vec::new())
    }
}

#[async_trait]
impl RowTarget for PostgresRows {
    async fn write(&mut self, table: &'static Table, rows: Vec<Row>) -> Result<(), StateError> {
        if rows.is_empty() {
            return Ok(());
        }
        let fault = self.fault(WRITE);
        let places = table.columns.iter().zip(1..).map(|(column, place)| match column.kind {
            Kind::Text => format!("${place}::text[]"),
            Kind::Number => format!("${place}::bigint[]"),
            Kind::Flag => format!("${place}::boolean[]"),
            Kind::Bytes => format!("${place}::bytea[]"),
        });
        let places = places.collect::<Vec<_>>().join(", ");
        let statement = format!("INSERT INTO {} ({}) SELECT * FROM unnest({places})", table.name, columns(table));
        let mut columns: Vec<Vec<Value>> = table.columns.iter().map(|_| Vec::with_capacity(rows.len())).collect();
        for row in rows {
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
        }
        let mut query = sqlx::query(AssertSqlSafe(statement)).persistent(false);
        for (values, column) in columns.into_iter().zip(table.columns) {
            query = match column.kind {
                // SQLite keeps one character in texts that PostgreSQL does not.
                Kind::Text => query.bind(gather(values, |value| match value {
                    Value::Text(text) => text.map(|text| text.replace('\0', "\u{fffd}")),
                    _ => None,
                })),
                Kind::Number => {
                    query.bind(gather(values, |value| if let Value::Number(number) = value { number } else { None }))
                }
                Kind::Flag => {
                    query.bind(gather(values, |value| if let Value::Flag(flag) = value { flag } else { None }))
                }
                Kind::Bytes => {
                    query.bind(gather(values, |value| if let Value::Bytes(bytes) = value { bytes } else { None }))
                }
            };
        }
        query.execute(&mut self.connection).await.map(drop).map_err(fault)
    }

    async fn commit(&mut self) -> Result<(), StateError> {
        for table in TABLES {
            let Some(column) = table.numbered else { continue };
            let statement = format!(
                "SELECT setval(pg_get_serial_sequence('{0}', '{column}'), coalesce(max({column}), 0) + 1, FALSE) FROM {0}",
                table.name
            );
            self.number(WRITE, statement).await?;
        }
        self.execute(WRITE, "COMMIT").await
    }
}

fn gather<T>(values: Vec<Value>, take: impl Fn(Value) -> Option<T>) -> Vec<Option<T>> {
    values.into_iter().map(take).collect()
}
