//! Since when manifests that no tag references are found free, and the tags that somebody else removed from them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{FreeManifests, SqliteState, StateError, format_time};
use crate::domain::{Digest, RepositoryName, TagName};

/// What a run found of the manifests without a tag in one repository, as far as it differs from what is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeManifestChanges {
    /// The repository.
    pub repository: RepositoryName,
    /// Those that are found free for the first time, or for the first time again.
    pub begun: Vec<Digest>,
    /// Those that are not found free any more.
    pub ended: EndedSeries,
}

/// The manifests whose series of runs has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndedSeries {
    /// All of a repository: nobody looked at it, so nobody found them free.
    All,
    /// These.
    Of(Vec<Digest>),
}

/// A tag that somebody else removed from a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerTag {
    /// The tag.
    pub tag: TagName,
    /// The digest that it had, shortened as by [`Digest::short`].
    pub digest: String,
}

pub(super) const READ_FREE: &str = "read which manifests are free";
pub(super) const READ_FORMER_TAGS: &str = "read which tags are gone";
pub(super) const READ_REPOSITORIES: &str = "read where manifests are free";
pub(super) const RECORD_FREE: &str = "record which manifests are free";

#[async_trait]
impl FreeManifests for SqliteState {
    async fn free_since(
        &self,
        endpoint: &str,
        repository: &RepositoryName,
    ) -> Result<BTreeMap<Digest, Timestamp>, StateError> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT digest, since FROM free_manifests WHERE endpoint = ?1 AND repository = ?2")
                .bind(endpoint)
                .bind(repository.as_str())
                .fetch_all(&self.0.readers)
                .await
                .map_err(|error| self.sqlx_error(READ_FREE, error))?;
        rows.iter().map(|(digest, since)| Ok((self.read(digest)?, self.read(since)?))).collect()
    }

    async fn former_tags(&self, endpoint: &str, repository: &RepositoryName) -> Result<Vec<FormerTag>, StateError> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT tag, digest FROM missing_tags WHERE endpoint = ?1 AND repository = ?2 ORDER BY tag, digest",
        )
        .bind(endpoint)
        .bind(repository.as_str())
        .fetch_all(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error(READ_FORMER_TAGS, error))?;
        rows.into_iter().map(|(tag, digest)| Ok(FormerTag { tag: self.read(&tag)?, digest })).collect()
    }

    async fn repositories_with_free_manifests(&self, endpoint: &str) -> Result<Vec<RepositoryName>, StateError> {
        let rows: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT repository FROM free_manifests WHERE endpoint = ?1 ORDER BY repository",
        )
        .bind(endpoint)
        .fetch_all(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error(READ_REPOSITORIES, error))?;
        rows.iter().map(|name| self.read(name)).collect()
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
        let fault = |error: sqlx::Error| self.sqlx_error(RECORD_FREE, error);
        // A lost end of a series would have a manifest deleted too soon.
        let mut write = self.write_durably().await?;
        for FreeManifestChanges { repository, begun, ended } in changes {
            match ended {
                EndedSeries::All => {
                    sqlx::query("DELETE FROM free_manifests WHERE endpoint = ?1 AND repository = ?2")
                        .bind(endpoint)
                        .bind(repository.as_str())
                        .execute(&mut *write.transaction)
                        .await
                        .map_err(fault)?;
                }
                EndedSeries::Of(digests) => {
                    for digest in digests {
                        sqlx::query(
                            "DELETE FROM free_manifests WHERE endpoint = ?1 AND repository = ?2 AND digest = ?3",
                        )
                        .bind(endpoint)
                        .bind(repository.as_str())
                        .bind(digest.to_string())
                        .execute(&mut *write.transaction)
                        .await
                        .map_err(fault)?;
                    }
                }
            }
            for digest in begun {
                sqlx::query(
                    "INSERT INTO free_manifests (endpoint, repository, digest, since) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (endpoint, repository, digest) DO NOTHING",
                )
                .bind(endpoint)
                .bind(repository.as_str())
                .bind(digest.to_string())
                .bind(format_time(now))
                .execute(&mut *write.transaction)
                .await
                .map_err(fault)?;
            }
        }
        write.commit(RECORD_FREE).await
    }
}
