//! A state looked over: whether everything in it can be read, what is open, and how large it is.

use async_trait::async_trait;

use super::postgres_rows::PostgresRows;
use super::sqlite_rows::SqliteRows;
use super::tables::{TABLES, Table, Value};
use super::{Row, RowSink, RowSource, error_at};
use crate::domain::Digest;
use crate::state::compression::decompress;
use crate::state::{JournalEntry, StateError, StateErrorKind, StateLocation, StateStore};

/// Findings of one kind that are told; more are only counted.
const MOST_FINDINGS: usize = 20;

/// What a look over a state found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateCheck {
    /// What is wrong; empty for a sound state.
    pub findings: Vec<String>,
    /// Journal entries without an outcome: of a run that is at work, or was interrupted.
    pub pending: Vec<JournalEntry>,
    /// Bytes of the file and its log, or of the database.
    pub bytes: u64,
    /// The tables, in the order of what they refer to.
    pub tables: Vec<TableSize>,
}

/// The size of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSize {
    /// Its name.
    pub name: &'static str,
    /// The number of its rows.
    pub rows: u64,
    /// The bytes that it takes, where the database says so.
    pub bytes: Option<u64>,
}

impl StateStore {
    /// Looks a state over, as of one instant and beside whoever works with it: reads every row, and compares content with
    /// its digest.
    ///
    /// # Errors
    /// When it does not exist, cannot be read, or is so damaged that it cannot be opened.
    pub async fn check(location: &StateLocation) -> Result<StateCheck, StateError> {
        if location.is_missing() {
            return Err(error_at(StateErrorKind::Open, location, "it does not exist"));
        }
        let store = Self::open_to_read(location).await?;
        let pending = store.pending_entries().await;
        store.close().await;
        let pending = pending?;
        match location {
            StateLocation::File(path) => {
                let mut rows = SqliteRows::read_from(path).await?;
                let checked = check_rows(&mut rows, pending).await;
                rows.close().await.and(checked)
            }
            StateLocation::Postgres(database) => {
                check_rows(&mut PostgresRows::read_from(database).await?, pending).await
            }
        }
    }
}

async fn check_rows(rows: &mut dyn RowSource, pending: Vec<JournalEntry>) -> Result<StateCheck, StateError> {
    let mut findings = rows.findings().await?;
    let mut tables = Vec::with_capacity(TABLES.len());
    for table in TABLES {
        let mut looking = Looking::default();
        match rows.read(table, &mut looking).await {
            Ok(()) => {}
            Err(error) if error.kind == StateErrorKind::Corrupt => {
                findings.push(format!("{}: {}", table.name, error.chain()));
            }
            Err(error) => return Err(error),
        }
        let more = looking.damaged.len().saturating_sub(MOST_FINDINGS);
        findings.extend(looking.damaged.into_iter().take(MOST_FINDINGS));
        if more > 0 {
            findings.push(format!("{}: {more} more damaged rows", table.name));
        }
        tables.push(TableSize { name: table.name, rows: looking.rows, bytes: rows.table_bytes(table).await? });
    }
    Ok(StateCheck { findings, pending, bytes: rows.total_bytes().await?, tables })
}

/// Counts rows, and compares what has a digest with it.
#[derive(Default)]
struct Looking {
    rows: u64,
    damaged: Vec<String>,
}

#[async_trait]
impl RowSink for Looking {
    async fn take(&mut self, table: &'static Table, rows: Vec<Row>) -> Result<(), StateError> {
        for row in rows {
            self.rows += 1;
            if let Some(what) = damage(table, &row) {
                let name = row.first().and_then(Value::text).unwrap_or_default();
                self.damaged.push(format!("{} {name}: {what}", table.name));
            }
        }
        Ok(())
    }
}

/// What is wrong with a row, or `None`.
fn damage(table: &Table, row: &[Value]) -> Option<&'static str> {
    let value = |name: &str| {
        let place = table.columns.iter().position(|column| column.name == name)?;
        row.get(place)
    };
    let (text, bytes) = (|name: &str| value(name)?.text(), |name: &str| value(name)?.bytes());
    match table.name {
        "manifests" | "journaled_manifests" => {
            let digest = text("digest")?.parse::<Digest>().ok();
            let sound = digest.is_some_and(|digest| bytes("bytes").is_some_and(|bytes| digest.matches(bytes)));
            (!sound).then_some("its bytes are not what its digest says")
        }
        "kept_lists" => {
            let sound = bytes("bytes").is_some_and(|bytes| Some(&*Digest::of(bytes).hex()) == text("hash"));
            (!sound).then_some("its bytes are not what its hash says")
        }
        "plans" => bytes("head")?
            .is_empty()
            .then_some(())
            .or(decompress(bytes("head")?).err().map(drop))
            .map(|()| "it cannot be unpacked"),
        _ => None,
    }
}
