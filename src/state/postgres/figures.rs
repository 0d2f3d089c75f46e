//! Figures of the whole state.

use async_trait::async_trait;
use jiff::Timestamp;

use super::PostgresState;
use crate::state::figures::{JournalRow, READ_FIGURES, lease_record};
use crate::state::{Figures, JournalMark, StateError, StateFigures, format_time};

#[async_trait]
impl Figures for PostgresState {
    async fn figures(&self, before: &StateFigures, now: Timestamp) -> Result<StateFigures, StateError> {
        let mut unit = self.snapshot(READ_FIGURES).await?;
        let query = sqlx::query_as(
            "SELECT CASE scope WHEN 'daemon' THEN 'schedule' ELSE scope END, epoch, holder, taken_at,
                    expires_at > clock_timestamp()
             FROM leases ORDER BY scope",
        );
        let leases = unit.rows(query).await?;
        let query = sqlx::query_as(
            "SELECT endpoint, epoch, holder, taken_at, expires_at > clock_timestamp()
             FROM registry_leases ORDER BY endpoint",
        );
        let registries = unit.rows(query).await?;
        let query = sqlx::query_as("SELECT count(*) FROM holds WHERE ended_at IS NULL AND until > $1");
        let holds: Option<(i64,)> = unit.row(query.bind(format_time(now))).await?;
        let query = sqlx::query_as(
            "SELECT coalesce((SELECT min(id) - 1 FROM journal WHERE outcome IS NULL), (SELECT max(id) FROM journal), 0)",
        );
        let to = unit.row(query).await?.map_or(0, |(to,): (i64,)| to);
        let query = sqlx::query_as(
            "SELECT registry, count(*) FILTER (WHERE action IN ('restore', 'restore-manifest')),
                    max(resolved_at) FILTER (WHERE action IN ('untag', 'delete-manifest', 'delete-untagged'))
             FROM journal WHERE id > $1 AND id <= $2 AND outcome = 'done' GROUP BY registry",
        );
        let journal: Vec<JournalRow> = unit.rows(query.bind(before.counted_to.0).bind(to)).await?;
        unit.commit().await?;
        let mut figures = StateFigures {
            leases: leases.into_iter().map(|row| lease_record(self, row)).collect::<Result<_, _>>()?,
            registry_leases: registries.into_iter().map(|row| lease_record(self, row)).collect::<Result<_, _>>()?,
            holds: holds.map_or(0, |(holds,)| u64::try_from(holds).unwrap_or_default()),
            counted_to: JournalMark(to.max(before.counted_to.0)),
            ..before.clone()
        };
        figures.add_journal(self, journal)?;
        Ok(figures)
    }
}
