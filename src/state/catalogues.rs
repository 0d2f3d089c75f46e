//! The repositories that each registry listed, as far as its list was trusted.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;

use super::experience::key;
use super::row_reader::RowReader;
use super::{Catalogues, SqliteState, StateError, StateErrorKind, format_time};
use crate::domain::RegistryName;

/// The names of a registry's repositories.
pub type CatalogueNames = BTreeSet<String>;

/// The last trusted list of a registry, and a later doubtful one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCatalogue {
    /// The listed repositories.
    pub names: CatalogueNames,
    /// Time of its reading; `None` for lists from before this was recorded.
    pub trusted_at: Option<Timestamp>,
    /// The later, doubtful list.
    pub suspect: Option<SuspectCatalogue>,
}

/// A doubtful list of repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuspectCatalogue {
    /// The listed repositories.
    pub names: CatalogueNames,
    /// Time of the first such list.
    pub since: Timestamp,
    /// The number of consecutive reads of such a list.
    pub reads: u32,
}

/// The record of a registry's list as it is stored.
#[derive(sqlx::FromRow)]
pub(super) struct CatalogueRow {
    names: String,
    trusted_at: String,
    suspect_names: Option<String>,
    suspect_since: Option<String>,
    suspect_reads: Option<i64>,
}

/// Repositories that were listed at the last read of this endpoint. Rows of an older state may lack the endpoint, and
/// have the registry's name instead.
const SELECT_CATALOGUE: &str =
    "SELECT repository FROM observed_repositories WHERE missed_since IS NULL AND endpoint IN (?2, 'registry:' || ?1)";

#[async_trait]
impl Catalogues for SqliteState {
    async fn catalogue(&self, registry: &RegistryName, endpoint: &str) -> Result<Option<KnownCatalogue>, StateError> {
        let fault = |error: sqlx::Error| self.sqlx_error("read which repositories a registry has", error);
        let row: Option<CatalogueRow> = sqlx::query_as(
            "SELECT names, trusted_at, suspect_names, suspect_since, suspect_reads FROM catalogues WHERE endpoint = ?1",
        )
        .bind(endpoint)
        .fetch_optional(&self.0.readers)
        .await
        .map_err(fault)?;
        let Some(row) = row else {
            let names: Vec<String> = sqlx::query_scalar(SELECT_CATALOGUE)
                .bind(registry.as_str())
                .bind(key(endpoint))
                .fetch_all(&self.0.readers)
                .await
                .map_err(fault)?;
            return Ok(observed_catalogue(names));
        };
        row.to_catalogue(self, endpoint).map(Some)
    }

    async fn record_catalogue(&self, endpoint: &str, known: &KnownCatalogue, now: Timestamp) -> Result<(), StateError> {
        let doing = "record which repositories a registry has";
        let doubt = known.suspect.as_ref();
        let mut write = self.write_relaxed().await?;
        sqlx::query(
            "INSERT INTO catalogues (endpoint, names, trusted_at, suspect_names, suspect_since, suspect_reads)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (endpoint) DO UPDATE SET names = ?2, trusted_at = ?3, suspect_names = ?4, suspect_since = ?5,
                                                  suspect_reads = ?6",
        )
        .bind(endpoint)
        .bind(json(&known.names))
        .bind(format_time(known.trusted_at.unwrap_or(now)))
        .bind(doubt.map(|doubt| json(&doubt.names)))
        .bind(doubt.map(|doubt| format_time(doubt.since)))
        .bind(doubt.map(|doubt| i64::from(doubt.reads)))
        .execute(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(doing, error))?;
        write.commit(doing).await
    }

    async fn accept_catalogue(&self, endpoint: &str, by: &str, now: Timestamp) -> Result<Option<u64>, StateError> {
        let doing = "record that a registry's list of repositories is right";
        let mut write = self.write_durably().await?;
        let names: Option<i64> = sqlx::query_scalar(
            "UPDATE catalogues
             SET names = suspect_names, trusted_at = ?3, suspect_names = NULL, suspect_since = NULL, suspect_reads = NULL,
                 accepted_by = ?2, accepted_at = ?3
             WHERE endpoint = ?1 AND suspect_names IS NOT NULL RETURNING json_array_length(names)",
        )
        .bind(endpoint)
        .bind(by)
        .bind(format_time(now))
        .fetch_optional(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(doing, error))?;
        write.commit(doing).await?;
        Ok(names.and_then(|names| u64::try_from(names).ok()))
    }
}

impl CatalogueRow {
    /// Makes the record of a row.
    pub(super) fn to_catalogue(&self, reader: &impl RowReader, endpoint: &str) -> Result<KnownCatalogue, StateError> {
        let corrupt = |_| {
            let what = format_args!("the repositories of {endpoint} are recorded in a way that cannot be understood");
            reader.error(StateErrorKind::Corrupt, what)
        };
        let names = |text: &str| serde_json::from_str::<CatalogueNames>(text).map_err(corrupt);
        let suspect = match (&self.suspect_names, &self.suspect_since) {
            (Some(suspect_names), Some(since)) => Some(SuspectCatalogue {
                names: names(suspect_names)?,
                since: reader.read(since)?,
                reads: self.suspect_reads.and_then(|reads| reads.try_into().ok()).unwrap_or(1),
            }),
            _ => None,
        };
        Ok(KnownCatalogue { names: names(&self.names)?, trusted_at: Some(reader.read(&self.trusted_at)?), suspect })
    }
}

/// What the repositories that were looked at tell, where no list is recorded.
pub(super) fn observed_catalogue(names: Vec<String>) -> Option<KnownCatalogue> {
    let names: CatalogueNames = names.into_iter().collect();
    (!names.is_empty()).then_some(KnownCatalogue { names, trusted_at: None, suspect: None })
}

/// Names as they are stored.
pub(super) fn json(names: &CatalogueNames) -> String {
    serde_json::to_string(names).expect("sets of strings are JSON")
}
