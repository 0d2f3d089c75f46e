//! A state as rows of tables, whichever database it is in: copied into another one, and looked over.

mod check;
mod copy;
mod postgres_rows;
mod sqlite_rows;
mod tables;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use super::{StateError, StateErrorKind, StateLocation};
use tables::{Table, Value};

pub use check::{StateCheck, TableSize};
pub use copy::StateCopy;
pub(super) use copy::back_up_postgres;

/// Values of one row, in the order of the table's columns.
type Row = Vec<Value>;

/// Rows that are handed on at once, at most.
const BATCH_ROWS: usize = 500;

/// Bytes after which rows are handed on, however few they are.
const BATCH_BYTES: usize = 4 << 20;

/// Somebody who takes the rows of a table, some at a time.
#[async_trait]
trait RowSink: Send {
    async fn take(&mut self, table: &'static Table, rows: Vec<Row>) -> Result<(), StateError>;
}

/// The tables of a state, read as of one instant.
#[async_trait]
trait RowSource: Send {
    /// Hands all rows of a table on, in the order of its key.
    async fn read(&mut self, table: &'static Table, sink: &mut dyn RowSink) -> Result<(), StateError>;

    /// The bytes that the database says a table takes, if it does.
    async fn table_bytes(&mut self, table: &'static Table) -> Result<Option<u64>, StateError>;

    /// The bytes that the state takes.
    async fn total_bytes(&mut self) -> Result<u64, StateError>;

    /// What the database itself finds wrong.
    async fn findings(&mut self) -> Result<Vec<String>, StateError>;
}

/// The tables of a new state, filled in one transaction.
#[async_trait]
trait RowTarget: RowSource {
    /// Writes rows into a table.
    async fn write(&mut self, table: &'static Table, rows: Vec<Row>) -> Result<(), StateError>;

    /// Makes what was written visible. Numbers that are given later come after those that were written.
    async fn commit(&mut self) -> Result<(), StateError>;
}

/// Number and hash of the rows of a table.
#[derive(Default, Clone)]
struct TableHash {
    rows: u64,
    hash: Sha256,
}

impl TableHash {
    fn add(&mut self, row: &[Value]) {
        self.rows += 1;
        for value in row {
            value.hash_into(&mut self.hash);
        }
    }

    fn agrees_with(&self, other: &Self) -> bool {
        self.rows == other.rows && self.hash.clone().finalize() == other.hash.clone().finalize()
    }
}

/// A sink that only counts and hashes.
#[async_trait]
impl RowSink for TableHash {
    async fn take(&mut self, _: &'static Table, rows: Vec<Row>) -> Result<(), StateError> {
        for row in &rows {
            self.add(row);
        }
        Ok(())
    }
}

/// Rows that are gathered until they are worth handing on.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    bytes: usize,
}

impl Batch {
    /// Adds a row, and returns all of them where they are enough.
    fn add(&mut self, row: Row) -> Option<Vec<Row>> {
        self.bytes += row.iter().map(Value::length).sum::<usize>();
        self.rows.push(row);
        (self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES).then(|| self.take())
    }

    fn take(&mut self) -> Vec<Row> {
        self.bytes = 0;
        std::mem::take(&mut self.rows)
    }
}

/// An error of that class about a state at some place.
fn error_at(kind: StateErrorKind, location: &StateLocation, what: impl std::fmt::Display) -> StateError {
    match location {
        StateLocation::File(path) => StateError::about(kind, path, what),
        StateLocation::Postgres(database) => StateError::about_database(kind, database, what),
    }
}
