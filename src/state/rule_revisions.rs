//! The revisions of policies and settings that daemons with this state came with, and which of them are in force.

use async_trait::async_trait;
use jiff::Timestamp;

use super::row_reader::RowReader;
use super::{SqliteState, StateError, StateErrorKind, format_time};

/// The parts of the rules that change independently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RulePart {
    /// All policy files together.
    Policies,
    /// The settings that affect removals.
    Settings,
}

impl RulePart {
    /// All parts, in the order of [`RuleRevisions::rule_revisions`].
    pub const ALL: [Self; 2] = [Self::Policies, Self::Settings];

    /// Returns the label used in the state and in messages.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Policies => "policies",
            Self::Settings => "settings",
        }
    }
}

/// A revision of one part, and its place in the history of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRevision {
    /// The part.
    pub part: RulePart,
    /// A hash of it.
    pub revision: String,
    /// The git commit of its folder, if that is a checkout.
    pub commit: Option<String>,
    /// The committer's time of that commit, if known.
    pub committed_at: Option<Timestamp>,
}

/// A revision that a daemon came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRevision {
    /// The revision.
    pub revision: RuleRevision,
    /// The time at which it was first seen.
    pub first_seen_at: Timestamp,
    /// The daemon that first came with it.
    pub first_seen_by: String,
    /// The last time at which a daemon said that it goes by it.
    pub seen_at: Timestamp,
    /// That daemon.
    pub seen_by: String,
    /// The time at which a newer one took its place; `None` for the one in force.
    pub superseded_at: Option<Timestamp>,
    /// The person who accepted it although a newer one was known.
    pub accepted_by: Option<String>,
}

/// The daemon or person that comes with a revision, and when.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// The daemon or person.
    pub by: &'a str,
    /// The time.
    pub at: Timestamp,
}

/// The revisions of policies and settings.
#[async_trait]
pub trait RuleRevisions: Send + Sync {
    /// Returns all known revisions, by part and revision.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn rule_revisions(&self) -> Result<Vec<KnownRevision>, StateError>;

    /// Puts a revision in force in the place of `replaced`, which is `None` while its part has none. `accepted` is the
    /// reason of a person who wants it although a newer one is known. Returns false, and changes nothing, if another
    /// one is in force by now. Durable when it returns.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn put_rules_in_force(
        &self,
        revision: &RuleRevision,
        replaced: Option<&str>,
        sighting: Sighting<'_>,
        accepted: Option<&str>,
    ) -> Result<bool, StateError>;

    /// Records that a daemon goes by a revision: one that is unknown so far counts as superseded.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    async fn record_rule_sighting(&self, revision: &RuleRevision, sighting: Sighting<'_>) -> Result<(), StateError>;
}

/// A row of the table.
#[derive(sqlx::FromRow)]
pub(super) struct RevisionRow {
    part: String,
    revision: String,
    git_commit: Option<String>,
    committed_at: Option<String>,
    first_seen_at: String,
    first_seen_by: String,
    seen_at: String,
    seen_by: String,
    superseded_at: Option<String>,
    accepted_by: Option<String>,
}

pub(super) const SELECT_REVISIONS: &str = "SELECT part, revision, git_commit, committed_at, first_seen_at, first_seen_by, \
                                           seen_at, seen_by, superseded_at, accepted_by FROM rule_revisions \
                                           ORDER BY part, revision";

impl RevisionRow {
    /// Makes the revision of a row.
    pub(super) fn into_revision(self, reader: &impl RowReader) -> Result<KnownRevision, StateError> {
        let part = RulePart::ALL.into_iter().find(|part| part.label() == self.part).ok_or_else(|| {
            reader.error(StateErrorKind::Corrupt, format_args!("it holds a revision of `{}`", self.part))
        })?;
        let time = |text: Option<String>| text.map(|text| reader.read(&text)).transpose();
        Ok(KnownRevision {
            revision: RuleRevision {
                part,
                revision: self.revision,
                commit: self.git_commit,
                committed_at: time(self.committed_at)?,
            },
            first_seen_at: reader.read(&self.first_seen_at)?,
            first_seen_by: self.first_seen_by,
            seen_at: reader.read(&self.seen_at)?,
            seen_by: self.seen_by,
            superseded_at: time(self.superseded_at)?,
            accepted_by: self.accepted_by,
        })
    }
}

/// The name of the write, as failures of it say.
pub(super) const RECORD_REVISION: &str = "record a revision of the policies or settings";

#[async_trait]
impl RuleRevisions for SqliteState {
    async fn rule_revisions(&self) -> Result<Vec<KnownRevision>, StateError> {
        let rows: Vec<RevisionRow> = sqlx::query_as(SELECT_REVISIONS)
            .fetch_all(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error("read the revisions of policies and settings", error))?;
        rows.into_iter().map(|row| row.into_revision(self)).collect()
    }

    async fn put_rules_in_force(
        &self,
        new: &RuleRevision,
        replaced: Option<&str>,
        sighting: Sighting<'_>,
        accepted: Option<&str>,
    ) -> Result<bool, StateError> {
        let fault = |error: sqlx::Error| self.sqlx_error(RECORD_REVISION, error);
        let at = format_time(sighting.at);
        let mut write = self.write_durably().await?;
        let now: Option<String> =
            sqlx::query_scalar("SELECT revision FROM rule_revisions WHERE part = ?1 AND superseded_at IS NULL")
                .bind(new.part.label())
                .fetch_optional(&mut *write.transaction)
                .await
                .map_err(fault)?;
        if now.as_deref() != replaced {
            return Ok(false);
        }
        sqlx::query("UPDATE rule_revisions SET superseded_at = ?2 WHERE part = ?1 AND superseded_at IS NULL")
            .bind(new.part.label())
            .bind(&at)
            .execute(&mut *write.transaction)
            .await
            .map_err(fault)?;
        sqlx::query(
            "INSERT INTO rule_revisions (part, revision, git_commit, committed_at, first_seen_at, first_seen_by, seen_at,
                                         seen_by, accepted_by, accepted_reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5, ?6, ?7, ?8)
             ON CONFLICT (part, revision) DO UPDATE
             SET git_commit = excluded.git_commit, committed_at = excluded.committed_at, seen_at = excluded.seen_at,
                 seen_by = excluded.seen_by, superseded_at = NULL, accepted_by = excluded.accepted_by,
                 accepted_reason = excluded.accepted_reason",
        )
        .bind(new.part.label())
        .bind(&new.revision)
        .bind(&new.commit)
        .bind(new.committed_at.map(format_time))
        .bind(&at)
        .bind(sighting.by)
        .bind(accepted.map(|_| sighting.by))
        .bind(accepted)
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        write.commit(RECORD_REVISION).await?;
        Ok(true)
    }

    async fn record_rule_sighting(&self, seen: &RuleRevision, sighting: Sighting<'_>) -> Result<(), StateError> {
        let mut write = self.write_relaxed().await?;
        sqlx::query(
            "INSERT INTO rule_revisions (part, revision, git_commit, committed_at, first_seen_at, first_seen_by, seen_at,
                                         seen_by, superseded_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5, ?6, ?5)
             ON CONFLICT (part, revision) DO UPDATE SET seen_at = excluded.seen_at, seen_by = excluded.seen_by",
        )
        .bind(seen.part.label())
        .bind(&seen.revision)
        .bind(&seen.commit)
        .bind(seen.committed_at.map(format_time))
        .bind(format_time(sighting.at))
        .bind(sighting.by)
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(RECORD_REVISION, error))?;
        write.commit(RECORD_REVISION).await
    }
}
