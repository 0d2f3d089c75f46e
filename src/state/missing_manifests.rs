//! Manifests that the journal names without their content.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::journal::verify_manifest;
use super::row_reader::RowReader;
use super::{SqliteState, StateError, format_time};
use crate::domain::{Digest, RegistryName, RepositoryName};
use crate::registry::RawManifest;

/// A manifest from which a tag was removed and whose content is not in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingManifest {
    /// The registry.
    pub registry: RegistryName,
    /// The address of the registry at the time of the removal.
    pub endpoint: Option<Arc<str>>,
    /// The repository.
    pub repository: RepositoryName,
    /// The digest of the manifest.
    pub digest: Digest,
}

/// Manifests of untags that were journaled without their content. As long as it is missing, a removal can be undone
/// only while the registry keeps the manifest.
#[async_trait]
pub trait MissingManifests: Send + Sync {
    /// Returns the manifests without content of the untags in runs that began at `since` or later, done, pending or superseded,
    /// ordered by registry, repository and digest. One that is in several repositories is listed for each.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    async fn missing_manifests(&self, since: Timestamp) -> Result<Vec<MissingManifest>, StateError>;

    /// Returns the number of untags of a run, done, pending or superseded, whose manifest has no content in the journal.
    ///
    /// # Errors
    /// Returns an error if they cannot be counted.
    async fn count_missing_manifests(&self, run: Uuid) -> Result<u64, StateError>;

    /// Adds the content of manifests that the journal names, in one write. Durable when it returns.
    ///
    /// # Errors
    /// Returns an error if one does not match its digest ([`Corrupt`](super::StateErrorKind::Corrupt)), or they cannot
    /// be written; none is then.
    async fn journal_manifests(&self, manifests: &[RawManifest]) -> Result<(), StateError>;
}

#[async_trait]
impl MissingManifests for SqliteState {
    async fn missing_manifests(&self, since: Timestamp) -> Result<Vec<MissingManifest>, StateError> {
        let rows: Vec<MissingManifestRow> = sqlx::query_as(
            "SELECT DISTINCT registry, endpoint, repository, digest FROM journal
             WHERE run IN (SELECT id FROM runs WHERE started_at >= ?1)
               AND action = 'untag' AND (outcome IS NULL OR outcome = 'done' OR skip = 'superseded')
               AND NOT EXISTS (SELECT 1 FROM journaled_manifests AS kept WHERE kept.digest = journal.digest)
             ORDER BY registry, repository, digest, endpoint",
        )
        .bind(format_time(since))
        .fetch_all(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error("look for manifests that are not in the journal", error))?;
        rows.into_iter().map(|row| missing_manifest(self, row)).collect()
    }

    async fn count_missing_manifests(&self, run: Uuid) -> Result<u64, StateError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM journal
             WHERE run = ?1 AND action = 'untag' AND (outcome IS NULL OR outcome = 'done' OR skip = 'superseded')
               AND NOT EXISTS (SELECT 1 FROM journaled_manifests AS kept WHERE kept.digest = journal.digest)",
        )
        .bind(run.to_string())
        .fetch_one(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error("count manifests that are not in the journal", error))?;
        Ok(count.unsigned_abs())
    }

    async fn journal_manifests(&self, manifests: &[RawManifest]) -> Result<(), StateError> {
        for manifest in manifests {
            verify_manifest(self, &manifest.digest, &manifest.bytes)?;
        }
        // Neighbours in the index.
        let mut sorted: Vec<&RawManifest> = manifests.iter().collect();
        sorted.sort_unstable_by(|a, b| a.digest.cmp(&b.digest));
        let mut write = self.write_durably().await?;
        self.insert_manifests(&mut write, &sorted).await?;
        write.commit("journal manifests").await
    }
}

/// Registry, endpoint, repository and digest.
pub(super) type MissingManifestRow = (String, Option<String>, String, String);

/// Makes the record of a row.
pub(super) fn missing_manifest(
    reader: &impl RowReader,
    (registry, endpoint, repository, digest): MissingManifestRow,
) -> Result<MissingManifest, StateError> {
    Ok(MissingManifest {
        registry: reader.read(&registry)?,
        endpoint: endpoint.map(Into::into),
        repository: reader.read(&repository)?,
        digest: reader.read(&digest)?,
    })
}
