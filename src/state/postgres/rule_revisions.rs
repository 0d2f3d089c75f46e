//! The revisions of policies and settings.

use async_trait::async_trait;

use super::{PostgresState, storable};
use crate::state::rule_revisions::{RECORD_REVISION, RevisionRow, SELECT_REVISIONS};
use crate::state::{KnownRevision, RuleRevision, RuleRevisions, Sighting, StateError, StateErrorKind, format_time};

#[async_trait]
impl RuleRevisions for PostgresState {
    async fn rule_revisions(&self) -> Result<Vec<KnownRevision>, StateError> {
        let query = sqlx::query_as(SELECT_REVISIONS);
        let rows: Vec<RevisionRow> = self.rows("read the revisions of policies and settings", query).await?;
        rows.into_iter().map(|row| row.into_revision(self)).collect()
    }

    async fn put_rules_in_force(
        &self,
        new: &RuleRevision,
        replaced: Option<&str>,
        sighting: Sighting<'_>,
        accepted: Option<&str>,
    ) -> Result<bool, StateError> {
        let at = format_time(sighting.at);
        let mut unit = self.write(RECORD_REVISION).await?;
        let query =
            sqlx::query_as("SELECT revision FROM rule_revisions WHERE part = $1 AND superseded_at IS NULL FOR UPDATE");
        let now: Option<(String,)> = unit.row(query.bind(new.part.label())).await?;
        if now.as_ref().map(|(revision,)| revision.as_str()) != replaced {
            return Ok(false);
        }
        let statement =
            sqlx::query("UPDATE rule_revisions SET superseded_at = $2 WHERE part = $1 AND superseded_at IS NULL");
        unit.execute(statement.bind(new.part.label()).bind(&at)).await?;
        let statement = sqlx::query(
            "INSERT INTO rule_revisions (part, revision, git_commit, committed_at, first_seen_at, first_seen_by, seen_at,
                                         seen_by, accepted_by, accepted_reason)
             VALUES ($1, $2, $3, $4, $5, $6, $5, $6, $7, $8)
             ON CONFLICT (part, revision) DO UPDATE
             SET git_commit = excluded.git_commit, committed_at = excluded.committed_at, seen_at = excluded.seen_at,
                 seen_by = excluded.seen_by, superseded_at = NULL, accepted_by = excluded.accepted_by,
                 accepted_reason = excluded.accepted_reason",
        );
        let statement = statement
            .bind(new.part.label())
            .bind(&new.revision)
            .bind(&new.commit)
            .bind(new.committed_at.map(format_time))
            .bind(&at)
            .bind(storable(sighting.by))
            .bind(accepted.map(|_| storable(sighting.by)))
            .bind(accepted.map(storable));
        match unit.execute(statement).await {
            // While there was none, another daemon put one in force.
            Err(error) if error.kind == StateErrorKind::Constraint => Ok(false),
            Err(error) => Err(error),
            Ok(_) => {
                unit.commit().await?;
                Ok(true)
            }
        }
    }

    async fn record_rule_sighting(&self, seen: &RuleRevision, sighting: Sighting<'_>) -> Result<(), StateError> {
        let statement = sqlx::query(
            "INSERT INTO rule_revisions (part, revision, git_commit, committed_at, first_seen_at, first_seen_by, seen_at,
                                         seen_by, superseded_at)
             VALUES ($1, $2, $3, $4, $5, $6, $5, $6, $5)
             ON CONFLICT (part, revision) DO UPDATE SET seen_at = excluded.seen_at, seen_by = excluded.seen_by",
        );
        let statement = statement
            .bind(seen.part.label())
            .bind(&seen.revision)
            .bind(&seen.commit)
            .bind(seen.committed_at.map(format_time))
            .bind(format_time(sighting.at))
            .bind(storable(sighting.by));
        self.execute_relaxed(RECORD_REVISION, statement).await.map(drop)
    }
}
