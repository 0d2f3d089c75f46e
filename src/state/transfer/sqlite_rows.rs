//! The rows of a state in SQLite.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use futures::TryStreamExt as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, SqliteConnection};

use super::tables::{Kind, Table, Value};
use super::{Batch, Row, RowSink, RowSource, RowTarget};
use crate::state::{BUSY_TIMEOUT, StateError};

const READ: &str = "read its rows";
const WRITE: &str = "copy rows into it";

/// The rows of a file, in a transaction.
pub(super) struct SqliteRows {
    path: PathBuf,
    connection: SqliteConnection,
}

impl SqliteRows {
    /// Begins to read a file whose tables are up to date, as of now.
    pub(super) async fn read_from(path: &Path) -> Result<Self, StateError> {
        Self::begin(path, "BEGIN").await
    }

    /// Begins to fill a file whose tables are up to date and as new.
    pub(super) async fn write_into(path: &Path) -> Result<Self, StateError> {
        let mut rows = Self::begin(path, "BEGIN IMMEDIATE").await?;
        rows.execute(WRITE, "DELETE FROM clock").await?;
        Ok(rows)
    }

    async fn begin(path: &Path, statement: &'static str) -> Result<Self, StateError> {
        let options = SqliteConnectOptions::new().filename(path).foreign_keys(true).busy_timeout(BUSY_TIMEOUT);
        let connection = options.disable_statement_logging().connect().await;
        let connection = connection.map_err(|error| StateError::from_sqlx(path, READ, error))?;
        let mut rows = Self { path: path.to_owned(), connection };
        rows.execute(READ, statement).await?;
        // The snapshot is that of the first statement that reads.
        rows.execute(READ, "SELECT count(*) FROM clock").await?;
        Ok(rows)
    }

    async fn execute(&mut self, doing: &str, statement: &'static str) -> Result<(), StateError> {
        let done = sqlx::query(statement).execute(&mut self.connection).await;
        done.map(drop).map_err(|error| StateError::from_sqlx(&self.path, doing, error))
    }

    /// Ends all work with the file.
    pub(super) async fn close(self) -> Result<(), StateError> {
        let Self { path, connection } = self;
        connection.close().await.map_err(|error| StateError::from_sqlx(&path, READ, error))
    }
}

/// The columns of a table, with commas between them.
fn columns(table: &Table) -> String {
    table.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
}

fn values(table: &Table, row: &SqliteRow) -> Result<Row, sqlx::Error> {
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
impl RowSource for SqliteRows {
    async fn read(&mut self, table: &'static Table, sink: &mut dyn RowSink) -> Result<(), StateError> {
        let fault = |error: sqlx::Error| StateError::from_sqlx(&self.path, READ, error);
        let key: Vec<&str> = table.columns.iter().take(table.key).map(|column| column.name).collect();
        let query = format!("SELECT {} FROM {} ORDER BY {}", columns(table), table.name, key.join(", "));
        let mut batch = Batch::default();
        let mut rows = sqlx::query(AssertSqlSafe(query)).fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await.map_err(fault)? {
            if let Some(full) = batch.add(values(table, &row).map_err(fault)?) {
                sink.take(table, full).await?;
            }
        }
        drop(rows);
        sink.take(table, batch.take()).await
    }

    async fn table_bytes(&mut self, _: &'static Table) -> Result<Option<u64>, StateError> {
        Ok(None)
    }

    async fn total_bytes(&mut self) -> Result<u64, StateError> {
        let size = |ending: &str| {
            let mut name = self.path.as_os_str().to_owned();
            name.push(ending);
            Path::new(&name).metadata().map(|data| data.len()).unwrap_or_default()
        };
        Ok(size("") + size("-wal"))
    }

    async fn findings(&mut self) -> Result<Vec<String>, StateError> {
        let fault = |error: sqlx::Error| StateError::from_sqlx(&self.path, "check it", error);
        let mut findings: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&mut self.connection).await.map_err(fault)?;
        findings.retain(|finding| finding != "ok");
        let broken: Vec<(String, String)> =
            sqlx::query_as("SELECT DISTINCT \"table\", parent FROM pragma_foreign_key_check")
                .fetch_all(&mut self.connection)
                .await
                .map_err(fault)?;
        findings
            .extend(broken.iter().map(|(table, parent)| format!("rows of {table} refer to missing rows of {parent}")));
        Ok(findings)
    }
}

#[async_trait]
impl RowTarget for SqliteRows {
    async fn write(&mut self, table: &'static Table, rows: Vec<Row>) -> Result<(), StateError> {
        let places = vec!["?"; table.columns.len()].join(", ");
        let statement = format!("INSERT INTO {} ({}) VALUES ({places})", table.name, columns(table));
        for row in rows {
            let mut query = sqlx::query(AssertSqlSafe(statement.clone()));
            for value in row {
                query = match value {
                    Value::Text(text) => query.bind(text),
                    Value::Number(number) => query.bind(number),
                    Value::Flag(flag) => query.bind(flag),
                    Value::Bytes(bytes) => query.bind(bytes),
                };
            }
            let done = query.execute(&mut self.connection).await;
            done.map_err(|error| StateError::from_sqlx(&self.path, WRITE, error))?;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), StateError> {
        self.execute(WRITE, "COMMIT").await?;
        self.execute(WRITE, "PRAGMA wal_checkpoint(TRUNCATE)").await
    }
}
