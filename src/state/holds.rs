//! Holds: tags that a person or a restore protects, and the part of the journal's transaction that enforces them.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use super::journal::JournalId;
use super::row_reader::RowReader;
use super::{Holds, SqliteState, StateError, StateErrorKind, WriteTransaction, format_time};
use crate::domain::{Action, Digest, EndedHold, Hold, HoldOrigin, Intent, RepositoryName, TagName};

/// Most manifests inside an index that are looked at for a hold; an index that has more is held as a whole.
pub(super) const MOST_PARTS: usize = 1000;

/// A hold as it is stored.
#[derive(sqlx::FromRow)]
pub(super) struct HoldRow {
    endpoint: String,
    registry: String,
    repository: String,
    tag: String,
    digest: String,
    origin: String,
    reason: String,
    held_by: String,
    since: String,
    until: String,
}

/// A hold that is over, as it is stored.
#[derive(sqlx::FromRow)]
pub(super) struct EndedHoldRow {
    #[sqlx(flatten)]
    hold: HoldRow,
    over_at: String,
    ended_by: Option<String>,
}

const COLUMNS: &str = "SELECT endpoint, registry, repository, tag, digest, origin, reason, held_by, since, until FROM holds \
                       WHERE ended_at IS NULL AND until > ?1 ORDER BY endpoint, repository, tag, digest, origin";

#[async_trait]
impl Holds for SqliteState {
    async fn hold(&self, hold: &Hold) -> Result<bool, StateError> {
        let mut write = self.write_durably().await?;
        let set = self.write_hold(&mut write, hold, None).await?;
        write.commit("set a hold").await?;
        Ok(set)
    }

    async fn holds(&self, at: Timestamp) -> Result<Vec<Hold>, StateError> {
        let rows: Vec<HoldRow> = sqlx::query_as(COLUMNS)
            .bind(format_time(at))
            .fetch_all(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error("read the holds", error))?;
        rows.into_iter().map(|row| row.into_hold(self)).collect()
    }

    async fn ended_holds(&self, at: Timestamp) -> Result<Vec<EndedHold>, StateError> {
        let rows: Vec<EndedHoldRow> = sqlx::query_as(
            "SELECT endpoint, registry, repository, tag, digest, origin, reason, held_by, since, until,
                    coalesce(ended_at, until) AS over_at, ended_by
             FROM holds WHERE ended_at IS NOT NULL OR until <= ?1
             ORDER BY over_at DESC, endpoint, repository, tag, digest, origin",
        )
        .bind(format_time(at))
        .fetch_all(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error("read the ended holds", error))?;
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
        let doing = "end a hold";
        let mut write = self.write_durably().await?;
        let done = sqlx::query(
            "UPDATE holds SET ended_at = ?4, ended_by = ?5
             WHERE endpoint = ?1 AND repository = ?2 AND tag = ?3 AND ended_at IS NULL AND until > ?4",
        )
        .bind(endpoint)
        .bind(repository.as_str())
        .bind(tag.as_str())
        .bind(format_time(now))
        .bind(by)
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(doing, error))?;
        write.commit(doing).await?;
        Ok(done.rows_affected())
    }
}

impl SqliteState {
    /// Does what [`Holds::hold`] does, as a part of a write. `entry` is the restore that sets it.
    pub(super) async fn write_hold(
        &self,
        write: &mut WriteTransaction<'_>,
        hold: &Hold,
        entry: Option<JournalId>,
    ) -> Result<bool, StateError> {
        let digest = hold.digest.as_ref().map(ToString::to_string).unwrap_or_default();
        let (since, until) = (format_time(hold.since), format_time(hold.until));
        // The record keeps who held it before, and why.
        sqlx::query(
            "UPDATE holds SET ended_at = min(until, ?8), ended_by = CASE WHEN until > ?8 THEN ?7 END
             WHERE endpoint = ?1 AND repository = ?2 AND tag = ?3 AND digest = ?4 AND origin = ?5 AND ended_at IS NULL
               AND until <= ?9 AND (reason <> ?6 OR held_by <> ?7 OR until <= ?8)",
        )
        .bind(&*hold.endpoint)
        .bind(hold.repository.as_str())
        .bind(hold.tag.as_str())
        .bind(&digest)
        .bind(hold.origin.label())
        .bind(&hold.reason)
        .bind(&hold.by)
        .bind(&since)
        .bind(&until)
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error("end the hold before", error))?;
        let done = sqlx::query(
            "INSERT INTO holds (endpoint, registry, repository, tag, digest, origin, reason, held_by, since, until, entry)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (endpoint, repository, tag, digest, origin) WHERE ended_at IS NULL DO UPDATE
             SET registry = excluded.registry, until = excluded.until, entry = excluded.entry
             WHERE excluded.until >= holds.until",
        )
        .bind(&*hold.endpoint)
        .bind(hold.registry.as_str())
        .bind(hold.repository.as_str())
        .bind(hold.tag.as_str())
        .bind(&digest)
        .bind(hold.origin.label())
        .bind(&hold.reason)
        .bind(&hold.by)
        .bind(&since)
        .bind(&until)
        .bind(entry.map(|entry| entry.0))
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error("set a hold", error))?;
        Ok(done.rows_affected() > 0)
    }

    /// Reads what may keep removals among these intents from being journaled. As a part of the write that journals them,
    /// so that every earlier hold counts without a gap.
    pub(super) async fn removal_guard<'e>(
        &self,
        write: &mut WriteTransaction<'_>,
        intents: impl Iterator<Item = (&'e Intent, Timestamp)>,
    ) -> Result<RemovalGuard, StateError> {
        let Some((earliest, endpoints)) = guarded_removals(intents) else { return Ok(RemovalGuard::default()) };
        let fault = |error: sqlx::Error| self.sqlx_error("look for holds", error);
        let stop_requests =
            sqlx::query_as("SELECT requested_by, until FROM stop_requests WHERE until > ?1 ORDER BY id")
                .bind(&earliest)
                .fetch_all(&mut *write.transaction)
                .await
                .map_err(fault)?;
        let holds = sqlx::query_as(
            "SELECT endpoint, repository, tag, digest, held_by, reason, until FROM holds
             WHERE ended_at IS NULL AND until > ?1 AND endpoint IN (SELECT value FROM json_each(?2))",
        )
        .bind(&earliest)
        .bind(serde_json::to_string(&endpoints).unwrap_or_default())
        .fetch_all(&mut *write.transaction)
        .await
        .map_err(fault)?;
        Ok(RemovalGuard { stop_requests, holds })
    }

    /// Fails if the guard of a write keeps an intent from being journaled.
    ///
    /// # Errors
    /// Returns [`StateErrorKind::Held`] and [`StateErrorKind::Interrupted`] with the reason as the whole message.
    pub(super) async fn check_removal(
        &self,
        write: &mut WriteTransaction<'_>,
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
        let within = self.contained_digests(write, &intent.digest, manifest.unwrap_or_default()).await?;
        verify_not_held(self, holds, intent, &within)
    }

    /// Returns a manifest's digest and those of everything in it, as far as the state has their content.
    async fn contained_digests(
        &self,
        write: &mut WriteTransaction<'_>,
        digest: &Digest,
        manifest: &[u8],
    ) -> Result<BTreeSet<String>, StateError> {
        let mut found = BTreeSet::from([digest.to_string()]);
        let mut open: Vec<Digest> = parts(manifest);
        while let Some(next) = open.pop() {
            if found.len() > MOST_PARTS || !found.insert(next.to_string()) {
                continue;
            }
            let bytes: Option<Vec<u8>> = sqlx::query_scalar("SELECT bytes FROM manifests WHERE digest = ?1")
                .bind(next.to_string())
                .fetch_optional(&mut *write.transaction)
                .await
                .map_err(|error| self.sqlx_error("look for holds", error))?;
            open.extend(bytes.filter(|bytes| next.matches(bytes)).iter().flat_map(|bytes| parts(bytes)));
        }
        Ok(found)
    }
}

impl HoldRow {
    /// Makes the hold of a row.
    pub(super) fn into_hold(self, reader: &impl RowReader) -> Result<Hold, StateError> {
        let strange = || reader.error(StateErrorKind::Corrupt, "a hold has a strange origin");
        let origin = [HoldOrigin::Person, HoldOrigin::Restore].into_iter().find(|origin| origin.label() == self.origin);
        Ok(Hold {
            registry: reader.read(&self.registry)?,
            endpoint: Arc::from(self.endpoint),
            repository: reader.read(&self.repository)?,
            tag: reader.read(&self.tag)?,
            digest: if self.digest.is_empty() { None } else { Some(reader.read(&self.digest)?) },
            reason: self.reason,
            by: self.held_by,
            since: reader.read(&self.since)?,
            until: reader.read(&self.until)?,
            origin: origin.ok_or_else(strange)?,
        })
    }
}

impl EndedHoldRow {
    /// Makes the hold of a row, with its end.
    pub(super) fn into_ended_hold(self, reader: &impl RowReader) -> Result<EndedHold, StateError> {
        let ended_at = reader.read(&self.over_at)?;
        Ok(EndedHold { hold: self.hold.into_hold(reader)?, ended_at, ended_by: self.ended_by })
    }
}

/// The data that keeps intents of one write from being journaled.
#[derive(Default)]
pub(super) struct RemovalGuard {
    /// Who asks for no more removals, and until when.
    pub(super) stop_requests: Vec<(String, String)>,
    /// The holds in the registries of the removals.
    pub(super) holds: Vec<GuardingHold>,
}

/// A hold as far as it keeps intents from being journaled.
#[derive(sqlx::FromRow)]
pub(super) struct GuardingHold {
    endpoint: String,
    repository: String,
    tag: String,
    digest: String,
    held_by: String,
    reason: String,
    until: String,
}

impl RemovalGuard {
    /// Returns the holds in the repository of an intent at that time, if it removes something.
    ///
    /// # Errors
    /// Returns [`StateErrorKind::Interrupted`] if somebody asks for no more removals.
    pub(super) fn holds_of(&self, intent: &Intent, now: Timestamp) -> Result<Vec<&GuardingHold>, StateError> {
        if !is_removal(intent) {
            return Ok(Vec::new());
        }
        let at = format_time(now);
        if let Some((by, _)) = self.stop_requests.iter().find(|(_, until)| *until > at) {
            return Err(StateError::new(StateErrorKind::Interrupted, by.clone()));
        }
        let Some(endpoint) = intent.endpoint.as_deref() else { return Ok(Vec::new()) };
        let covers = |hold: &&GuardingHold| {
            hold.endpoint == endpoint && hold.repository == intent.repository.as_str() && hold.until > at
        };
        Ok(self.holds.iter().filter(covers).collect())
    }
}

/// Returns the earliest time of the removals among intents, as it is stored, and the endpoints of their registries;
/// `None` if there are no removals.
pub(super) fn guarded_removals<'e>(
    intents: impl Iterator<Item = (&'e Intent, Timestamp)>,
) -> Option<(String, Vec<&'e str>)> {
    let mut endpoints = BTreeSet::new();
    let mut earliest: Option<Timestamp> = None;
    for (intent, now) in intents.filter(|(intent, _)| is_removal(intent)) {
        endpoints.extend(intent.endpoint.as_deref());
        earliest = Some(earliest.map_or(now, |time| time.min(now)));
    }
    Some((format_time(earliest?), endpoints.into_iter().collect()))
}

/// Fails if one of these holds covers the tag of an intent, or one of the digests in `within`.
pub(super) fn verify_not_held(
    reader: &impl RowReader,
    mut holds: Vec<&GuardingHold>,
    intent: &Intent,
    within: &BTreeSet<String>,
) -> Result<(), StateError> {
    let is_tag = |hold: &GuardingHold| hold.tag == intent.tag.as_str();
    holds.retain(|hold| is_tag(hold) || within.contains(&hold.digest));
    holds.sort_by(|a, b| (!is_tag(a), &b.until, &a.tag).cmp(&(!is_tag(b), &a.until, &b.tag)));
    let Some(hold) = holds.first() else { return Ok(()) };
    let until: Timestamp = reader.read(&hold.until)?;
    let until = until.strftime("%Y-%m-%d %H:%M UTC");
    let GuardingHold { tag, held_by, reason, .. } = hold;
    Err(StateError::new(StateErrorKind::Held, format!("{held_by} holds tag {tag} until {until}: {reason}")))
}

/// Returns true if an intent is one that a hold, or a request to stop, prevents.
pub(super) fn is_removal(intent: &Intent) -> bool {
    matches!(intent.action, Action::Remove(_) | Action::DeleteUntagged)
}

/// Fails if it is not known what is in a manifest of which a hold may cover a part.
pub(super) fn verify_parts_known(
    reader: &impl RowReader,
    intent: &Intent,
    manifest: Option<&[u8]>,
) -> Result<(), StateError> {
    if manifest.is_some() || !lists_manifests(&intent.media_type) {
        return Ok(());
    }
    let what = format_args!("a hold may cover a part of {}, and its bytes are not there", intent.digest);
    Err(reader.error(StateErrorKind::Missing, what))
}

/// Whether a manifest of that type lists others. Only the types that never do are taken for such.
fn lists_manifests(media_type: &str) -> bool {
    !matches!(
        media_type,
        "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json"
    )
}

/// The manifests that an index lists; none of anything else.
pub(super) fn parts(manifest: &[u8]) -> Vec<Digest> {
    let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let listed = manifest["manifests"].as_array().into_iter().flatten();
    listed.filter_map(|part| part["digest"].as_str()?.parse().ok()).collect()
}
