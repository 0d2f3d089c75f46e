//! Holds, and what keeps a transaction from journaling a removal.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;

use super::unit::Unit;
use super::{PostgresState, storable};
use crate::domain::{Digest, EndedHold, Hold, Intent, JournalId, RepositoryName, TagName};
use crate::state::holds::{
    EndedHoldRow, HoldRow, MOST_PARTS, RemovalGuard, guarded_removals, parts, verify_not_held, verify_parts_known,
};
use crate::state::{Holds, StateError, format_time};

#[async_trait]
impl Holds for PostgresState {
    async fn hold(&self, hold: &Hold) -> Result<bool, StateError> {
        let mut unit = self.write("set a hold").await?;
        self.await_intents(&mut unit).await?;
        let set = unit.write_hold(hold, None).await?;
        unit.commit().await?;
        Ok(set)
    }

    async fn holds(&self, at: Timestamp) -> Result<Vec<Hold>, StateError> {
        let query = sqlx::query_as(
            "SELECT endpoint, registry, repository, tag, digest, origin, reason, held_by, since, until FROM holds
             WHERE ended_at IS NULL AND until > $1 ORDER BY endpoint, repository, tag, digest, origin",
        );
        let rows: Vec<HoldRow> = self.rows("read the holds", query.bind(format_time(at))).await?;
        rows.into_iter().map(|row| row.into_hold(self)).collect()
    }

    async fn ended_holds(&self, at: Timestamp) -> Result<Vec<EndedHold>, StateError> {
        let query = sqlx::query_as(
            "SELECT endpoint, registry, repository, tag, digest, origin, reason, held_by, since, until,
                    coalesce(ended_at, until) AS over_at, ended_by
             FROM holds WHERE ended_at IS NOT NULL OR until <= $1
             ORDER BY over_at DESC, endpoint, repository, tag, digest, origin",
        );
        let rows: Vec<EndedHoldRow> = self.rows("read the ended holds", query.bind(format_time(at))).await?;
        rows.into_iter().map(|row| row.into_ended_hold(self)).collect()
    }

    async fn end_holds(
        &self,
        endpoint: &str,
        repository: &RepositoryName,
        tag: &TagName,
        by: &str,
        now: Timestamp,
    ) -> Result<u64, StateError> {
        let statement = sqlx::query(
            "UPDATE holds SET ended_at = $4, ended_by = $5
             WHERE endpoint = $1 AND repository = $2 AND tag = $3 AND ended_at IS NULL AND until > $4",
        );
        let statement = statement.bind(endpoint).bind(repository.as_str()).bind(tag.as_str());
        self.execute("end a hold", statement.bind(format_time(now)).bind(storable(by))).await
    }
}

impl PostgresState {
    /// Fails if an intent to remove something is covered by a hold, or somebody asks for no more removals.
    ///
    /// # Errors
    /// [`StateErrorKind::Held`](crate::state::StateErrorKind::Held) and
    /// [`StateErrorKind::Interrupted`](crate::state::StateErrorKind::Interrupted) with the reason as the whole message.
    pub(super) async fn check_removal(
        &self,
        unit: &mut Unit<'_>,
        guard: &RemovalGuard,
        intent: &Intent,
        manifest: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<(), StateError> {
        let holds = guard.holds_of(intent, now)?;
        if holds.is_empty() {
            return Ok(());
        }
        verify_parts_known(self, intent, manifest)?;
        let within = unit.contained_digests(&intent.digest, manifest.unwrap_or_default()).await?;
        verify_not_held(self, holds, intent, &within)
    }
}

impl Unit<'_> {
    /// Sets a hold. `entry` is the restore that sets it.
    pub(super) async fn write_hold(&mut self, hold: &Hold, entry: Option<JournalId>) -> Result<bool, StateError> {
        let digest = hold.digest.as_ref().map(ToString::to_string).unwrap_or_default();
        let (since, until) = (format_time(hold.since), format_time(hold.until));
        // The record keeps who held it before, and why.
        let statement = sqlx::query(
            "UPDATE holds SET ended_at = least(until, $8), ended_by = CASE WHEN until > $8 THEN $7 END
             WHERE endpoint = $1 AND repository = $2 AND tag = $3 AND digest = $4 AND origin = $5 AND ended_at IS NULL
               AND until <= $9 AND (reason <> $6 OR held_by <> $7 OR until <= $8)",
        );
        let statement = statement
            .bind(&*hold.endpoint)
            .bind(hold.repository.as_str())
            .bind(hold.tag.as_str())
            .bind(&digest)
            .bind(hold.origin.label())
            .bind(storable(&hold.reason))
            .bind(storable(&hold.by))
            .bind(&since)
            .bind(&until);
        self.execute(statement).await?;
        let statement = sqlx::query(
            "INSERT INTO holds (endpoint, registry, repository, tag, digest, origin, reason, held_by, since, until, entry)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT (endpoint, repository, tag, digest, origin) WHERE ended_at IS NULL DO UPDATE
             SET registry = excluded.registry, until = excluded.until, entry = excluded.entry
             WHERE excluded.until >= holds.until",
        );
        let statement = statement
            .bind(&*hold.endpoint)
            .bind(hold.registry.as_str())
            .bind(hold.repository.as_str())
            .bind(hold.tag.as_str())
            .bind(&digest)
            .bind(hold.origin.label())
            .bind(storable(&hold.reason))
            .bind(storable(&hold.by))
            .bind(&since)
            .bind(&until)
            .bind(entry.map(|entry| entry.0));
        Ok(self.execute(statement).await? > 0)
    }

    /// Reads what may keep removals among these intents from being journaled.
    pub(super) async fn removal_guard<'e>(
        &mut self,
        intents: impl Iterator<Item = (&'e Intent, Timestamp)>,
    ) -> Result<RemovalGuard, StateError> {
        let Some((earliest, endpoints)) = guarded_removals(intents) else { return Ok(RemovalGuard::default()) };
        let query = sqlx::query_as("SELECT requested_by, until FROM stop_requests WHERE until > $1 ORDER BY id");
        let stop_requests = self.rows(query.bind(&earliest)).await?;
        let query = sqlx::query_as(
            "SELECT endpoint, repository, tag, digest, held_by, reason, until FROM holds
             WHERE ended_at IS NULL AND until > $1 AND endpoint = ANY($2)",
        );
        let holds = self.rows(query.bind(&earliest).bind(endpoints)).await?;
        Ok(RemovalGuard { stop_requests, holds })
    }

    /// A manifest's digest and those of everything in it, as far as the state has their bytes.
    async fn contained_digests(&mut self, digest: &Digest, manifest: &[u8]) -> Result<BTreeSet<String>, StateError> {
        let mut found = BTreeSet::from([digest.to_string()]);
        let mut open: Vec<Digest> = parts(manifest);
        while let Some(next) = open.pop() {
            if found.len() > MOST_PARTS || !found.insert(next.to_string()) {
                continue;
            }
            let query = sqlx::query_as("SELECT bytes FROM manifests WHERE digest = $1").bind(next.to_string());
            let bytes: Option<(Vec<u8>,)> = self.row(query).await?;
            open.extend(bytes.filter(|(bytes,)| next.matches(bytes)).iter().flat_map(|(bytes,)| parts(bytes)));
        }
        Ok(found)
    }
}
