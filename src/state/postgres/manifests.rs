//! What the journal tells of manifests.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use uuid::Uuid;

use super::PostgresState;
use crate::domain::RegistryName;
use crate::registry::RawManifest;
use crate::state::journal::verify_manifest;
use crate::state::missing_manifests::{MissingManifestRow, missing_manifest};
use crate::state::untagged_manifests::{UntagReading, UntagRow};
use crate::state::{MissingManifest, MissingManifests, StateError, UntagRecord, UntaggedManifests, format_time};

#[async_trait]
impl MissingManifests for PostgresState {
    async fn missing_manifests(&self, since: Timestamp) -> Result<Vec<MissingManifest>, StateError> {
        let query = sqlx::query_as(
            "SELECT DISTINCT registry, endpoint, repository, digest FROM journal
             WHERE run IN (SELECT id FROM runs WHERE started_at >= $1)
               AND action = 'untag' AND (outcome IS NULL OR outcome = 'done' OR skip = 'superseded')
               AND NOT EXISTS (SELECT 1 FROM journaled_manifests AS kept WHERE kept.digest = journal.digest)
             ORDER BY registry, repository, digest, endpoint NULLS FIRST",
        );
        let doing = "look for manifests that are not in the journal";
        let rows: Vec<MissingManifestRow> = self.rows(doing, query.bind(format_time(since))).await?;
        rows.into_iter().map(|row| missing_manifest(self, row)).collect()
    }

    async fn count_missing_manifests(&self, run: Uuid) -> Result<u64, StateError> {
        let query = sqlx::query_as(
            "SELECT count(*) FROM journal
             WHERE run = $1 AND action = 'untag' AND (outcome IS NULL OR outcome = 'done' OR skip = 'superseded')
               AND NOT EXISTS (SELECT 1 FROM journaled_manifests AS kept WHERE kept.digest = journal.digest)",
        );
        let doing = "count manifests that are not in the journal";
        let count: Option<(i64,)> = self.row(doing, query.bind(run.to_string())).await?;
        Ok(count.map(|(count,)| count.unsigned_abs()).unwrap_or_default())
    }

    async fn journal_manifests(&self, manifests: &[RawManifest]) -> Result<(), StateError> {
        for manifest in manifests {
            verify_manifest(self, &manifest.digest, &manifest.bytes)?;
        }
        let manifests: BTreeMap<String, &RawManifest> =
            manifests.iter().map(|manifest| (manifest.digest.to_string(), manifest)).collect();
        let mut unit = self.write("journal manifests").await?;
        unit.insert_manifests(&manifests).await?;
        unit.commit().await
    }
}

#[async_trait]
impl UntaggedManifests for PostgresState {
    async fn visit_untagged(
        &self,
        registry: &RegistryName,
        visit: &mut (dyn FnMut(UntagRecord) + Send),
    ) -> Result<(), StateError> {
        // In this order only one digest is held at a time. What was begun to be deleted with another manifest is looked
        // up among the deletions under that one's tag in the same run.
        let query = sqlx::query_as::<_, UntagRow>(
            "SELECT id, repository, tag, digest, action, outcome, skip, policy, resolved_at,
                    CASE WHEN action = 'delete-untagged' AND outcome <> 'done' THEN EXISTS (
                        SELECT 1 FROM journal AS other
                        WHERE other.registry = journal.registry AND other.repository = journal.repository
                          AND journal.tag <> '' AND other.tag = journal.tag AND other.run = journal.run AND other.digest <> journal.digest
                          AND other.action = 'delete-untagged'
                          AND (other.outcome = 'done' OR other.skip IN ('missing', 'gone'))
                    ) ELSE FALSE END AS parted
             FROM journal
             WHERE registry = $1 AND (outcome = 'done' OR outcome IS NULL OR action = 'delete-untagged')
             ORDER BY repository, digest, id",
        );
        let doing = "read what was untagged";
        let mut unit = self.snapshot(doing).await?;
        let mut reading = UntagReading::new(self, registry, visit);
        {
            let mut rows = query.bind(registry.as_str()).persistent(false).fetch(unit.connection());
            while let Some(row) = self.answer(doing, rows.try_next()).await? {
                reading.add(row)?;
            }
        }
        reading.finish()?;
        unit.commit().await
    }
}
