//! Figures of the whole state, for metrics.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::row_reader::RowReader;
use super::{Leases as _, SqliteState, StateError, format_time};

/// A lease on record, held or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The purpose: `run`, `schedule`, or the endpoint of a registry.
    pub name: String,
    /// The number of times that it was taken.
    pub epoch: i64,
    /// The last holder, in words.
    pub holder: String,
    /// The time at which it was last taken.
    pub taken_at: Timestamp,
    /// True if it is held now.
    pub is_held: bool,
}

/// Figures of the state at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateFigures {
    /// The leases `run` and `schedule`. A file has the schedule's only as a lock, which leaves no record.
    pub leases: Vec<LeaseRecord>,
    /// The leases of registries, by endpoint.
    pub registry_leases: Vec<LeaseRecord>,
    /// The number of holds in force.
    pub holds: u64,
    /// The number of restored tags and manifests on record.
    pub restores: u64,
    /// The time of the last removal or deletion on record, by registry.
    pub last_removals: BTreeMap<String, Timestamp>,
    /// The journal up to which the last two figures count.
    pub counted_to: JournalMark,
}

/// A place in the journal, before which all entries have their outcome. The default is its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalMark(pub(super) i64);

/// The figures of a state.
#[async_trait]
pub trait Figures: Send + Sync {
    /// Reads the figures as of `now`. Those of the journal count on from `before`, since it can have millions of entries.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn figures(&self, before: &StateFigures, now: Timestamp) -> Result<StateFigures, StateError>;
}

/// Restores and the last removals in a part of the journal: registry, restores, time of the last removal.
pub(super) type JournalRow = (String, i64, Option<String>);

/// The name of the read, as failures of it say.
pub(super) const READ_FIGURES: &str = "read figures of it";

impl StateFigures {
    /// Adds what a part of the journal has.
    pub(super) fn add_journal(&mut self, reader: &impl RowReader, rows: Vec<JournalRow>) -> Result<(), StateError> {
        for (registry, restores, removed_at) in rows {
            self.restores += u64::try_from(restores).unwrap_or_default();
            if let Some(at) = reader.read_optional::<Timestamp>(removed_at.as_deref())? {
                let last = self.last_removals.entry(registry).or_insert(at);
                *last = at.max(*last);
            }
        }
        Ok(())
    }
}

/// Makes a lease of its row: name, epoch, holder, time at which it was taken, and whether it is held.
pub(super) fn lease_record(
    reader: &impl RowReader,
    (name, epoch, holder, taken_at, is_held): (String, i64, String, String, bool),
) -> Result<LeaseRecord, StateError> {
    Ok(LeaseRecord { name, epoch, holder, taken_at: reader.read(&taken_at)?, is_held })
}

#[async_trait]
impl Figures for SqliteState {
    async fn figures(&self, before: &StateFigures, now: Timestamp) -> Result<StateFigures, StateError> {
        let fault = |error: sqlx::Error| self.sqlx_error(READ_FIGURES, error);
        let is_running = self.lease_holder().await?.is_some();
        let readers = &self.0.readers;
        let leases = sqlx::query_as("SELECT name, epoch, holder, taken_at, ?1 FROM leases WHERE name = 'run'");
        let leases = leases.bind(is_running).fetch_all(readers).await.map_err(fault)?;
        let registries = sqlx::query_as(
            "SELECT endpoint, epoch, holder, taken_at,
                    ?1 AND run_epoch IS (SELECT epoch FROM leases WHERE name = 'run')
             FROM registry_leases ORDER BY endpoint",
        );
        let registries = registries.bind(is_running).fetch_all(readers).await.map_err(fault)?;
        let holds: i64 = sqlx::query_scalar("SELECT count(*) FROM holds WHERE ended_at IS NULL AND until > ?1")
            .bind(format_time(now))
            .fetch_one(readers)
            .await
            .map_err(fault)?;
        let to: i64 = sqlx::query_scalar(
            "SELECT coalesce((SELECT min(id) - 1 FROM journal WHERE outcome IS NULL), (SELECT max(id) FROM journal), 0)",
        )
        .fetch_one(readers)
        .await
        .map_err(fault)?;
        let journal = sqlx::query_as(
            "SELECT registry, sum(action IN ('restore', 'restore-manifest')),
                    max(CASE WHEN action IN ('untag', 'delete-manifest', 'delete-untagged') THEN resolved_at END)
             FROM journal WHERE id > ?1 AND id <= ?2 AND outcome = 'done' GROUP BY registry",
        );
        let journal = journal.bind(before.counted_to.0).bind(to).fetch_all(readers).await.map_err(fault)?;
        let mut figures = StateFigures {
            leases: leases.into_iter().map(|row| lease_record(self, row)).collect::<Result<_, _>>()?,
            registry_leases: registries.into_iter().map(|row| lease_record(self, row)).collect::<Result<_, _>>()?,
            holds: u64::try_from(holds).unwrap_or_default(),
            counted_to: JournalMark(to.max(before.counted_to.0)),
            ..before.clone()
        };
        figures.add_journal(self, journal)?;
        Ok(figures)
    }
}
