//! The times since when manifests that no tag references are found free.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::PostgresState;
use crate::domain::{Digest, RepositoryName};
use crate::state::free_manifests::{READ_FORMER_TAGS, READ_FREE, READ_REPOSITORIES, RECORD_FREE};
use crate::state::row_reader::RowReader as _;
use crate::state::{EndedSeries, FormerTag, FreeManifestChanges, FreeManifests, StateError, format_time};

#[async_trait]
impl FreeManifests for PostgresState {
    async fn free_since(
        &self,
        endpoint: &str,
        repository: &RepositoryName,
    ) -> Result<BTreeMap<Digest, Timestamp>, StateError> {
        let query = sqlx::query_as("SELECT digest, since FROM free_manifests WHERE endpoint = $1 AND repository = $2");
        let rows: Vec<(String, String)> = self.rows(READ_FREE, query.bind(endpoint).bind(repository.as_str())).await?;
        rows.iter().map(|(digest, since)| Ok((self.read(digest)?, self.read(since)?))).collect()
    }

    async fn former_tags(&self, endpoint: &str, repository: &RepositoryName) -> Result<Vec<FormerTag>, StateError> {
        let query = sqlx::query_as(
            "SELECT tag, digest FROM missing_tags WHERE endpoint = $1 AND repository = $2 ORDER BY tag, digest",
        );
        let rows: Vec<(String, String)> =
            self.rows(READ_FORMER_TAGS, query.bind(endpoint).bind(repository.as_str())).await?;
        rows.into_iter().map(|(tag, digest)| Ok(FormerTag { tag: self.read(&tag)?, digest })).collect()
    }

    async fn repositories_with_free_manifests(&self, endpoint: &str) -> Result<Vec<RepositoryName>, StateError> {
        let query =
            sqlx::query_as("SELECT DISTINCT repository FROM free_manifests WHERE endpoint = $1 ORDER BY repository");
        let rows: Vec<(String,)> = self.rows(READ_REPOSITORIES, query.bind(endpoint)).await?;
        rows.iter().map(|(name,)| self.read(name)).collect()
    }

    async fn record_free_manifests(
        &self,
        endpoint: &str,
        changes: &[FreeManifestChanges],
        now: Timestamp,
    ) -> Result<(), StateError> {
        if changes.is_empty() {
            return Ok(());
        }
        // A lost end of a series would have a manifest deleted too soon.
        let mut unit = self.write(RECORD_FREE).await?;
        for FreeManifestChanges { repository, begun, ended } in changes {
            let statement = match ended {
                EndedSeries::All => sqlx::query("DELETE FROM free_manifests WHERE endpoint = $1 AND repository = $2")
                    .bind(endpoint)
                    .bind(repository.as_str()),
                EndedSeries::Of(digests) => sqlx::query(
                    "DELETE FROM free_manifests WHERE endpoint = $1 AND repository = $2 AND digest = ANY($3)",
                )
                .bind(endpoint)
                .bind(repository.as_str())
                .bind(digests.iter().map(Digest::to_string).collect::<Vec<_>>()),
            };
            unit.execute(statement).await?;
            let statement = sqlx::query(
                "INSERT INTO free_manifests (endpoint, repository, digest, since)
                 SELECT $1, $2, begun.digest, $4 FROM unnest($3::text[]) AS begun (digest)
                 ON CONFLICT DO NOTHING",
            );
            let digests: Vec<String> = begun.iter().map(Digest::to_string).collect();
            let statement = statement.bind(endpoint).bind(repository.as_str()).bind(digests);
            unit.execute(statement.bind(format_time(now))).await?;
        }
        unit.commit().await
    }
}
