//! The number of claims in the last answer of each source.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::row_reader::RowReader;
use super::{SourceHistory, SqliteState, StateError, StateErrorKind, format_time};
use crate::domain::SourceName;

/// The last trusted answer of a source, and a later doubtful one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceBaseline {
    /// The number of its claims.
    pub claims: u64,
    /// Time of the query.
    pub queried_at: Timestamp,
    /// The number of claims in a later answer that was too small to be trusted, with its time.
    pub suspect: Option<(u64, Timestamp)>,
}

/// The record of a source as it is stored.
#[derive(sqlx::FromRow)]
pub(super) struct SourceRow {
    source: String,
    claims: i64,
    queried_at: String,
    suspect_claims: Option<i64>,
    suspect_at: Option<String>,
}

#[async_trait]
impl SourceHistory for SqliteState {
    async fn source_baselines(&self) -> Result<BTreeMap<SourceName, SourceBaseline>, StateError> {
        let doing = "read what the sources last answered";
        let rows: Vec<SourceRow> =
            sqlx::query_as("SELECT source, claims, queried_at, suspect_claims, suspect_at FROM source_baselines")
                .fetch_all(&self.0.readers)
                .await
                .map_err(|error| self.sqlx_error(doing, error))?;
        rows.iter().map(|row| row.to_baseline(self)).collect()
    }

    async fn record_source_baseline(&self, source: &SourceName, claims: u64, now: Timestamp) -> Result<(), StateError> {
        let statement = "INSERT INTO source_baselines (source, claims, queried_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (source) DO UPDATE SET claims = ?2, queried_at = ?3, suspect_claims = NULL, suspect_at = NULL";
        self.record_claim_count("record what a source answered", statement, source, claims, now).await.map(drop)
    }

    async fn record_suspect_claims(&self, source: &SourceName, claims: u64, now: Timestamp) -> Result<(), StateError> {
        let statement = "UPDATE source_baselines SET suspect_claims = ?2, suspect_at = ?3 WHERE source = ?1";
        self.record_claim_count("record what a source answered", statement, source, claims, now).await.map(drop)
    }

    async fn accept_source(&self, source: &SourceName, by: &str, now: Timestamp) -> Result<Option<u64>, StateError> {
        let doing = "record that a source's answer is right";
        let mut write = self.write_durably().await?;
        let claims: Option<i64> = sqlx::query_scalar(
            "UPDATE source_baselines
             SET claims = suspect_claims, queried_at = suspect_at, suspect_claims = NULL, suspect_at = NULL,
                 accepted_by = ?2, accepted_at = ?3
             WHERE source = ?1 AND suspect_claims IS NOT NULL RETURNING claims",
        )
        .bind(source.as_str())
        .bind(by)
        .bind(format_time(now))
        .fetch_optional(&mut *write.transaction)
        .await
        .map_err(|error| self.sqlx_error(doing, error))?;
        write.commit(doing).await?;
        Ok(claims.and_then(|claims| u64::try_from(claims).ok()))
    }
}

impl SqliteState {
    async fn record_claim_count(
        &self,
        doing: &'static str,
        statement: &'static str,
        source: &SourceName,
        claims: u64,
        now: Timestamp,
    ) -> Result<u64, StateError> {
        let mut write = self.write_durably().await?;
        let done = sqlx::query(statement)
            .bind(source.as_str())
            .bind(i64::try_from(claims).unwrap_or(i64::MAX))
            .bind(format_time(now))
            .execute(&mut *write.transaction)
            .await
            .map_err(|error| self.sqlx_error(doing, error))?;
        write.commit(doing).await?;
        Ok(done.rows_affected())
    }
}

impl SourceRow {
    /// Makes the record of a row.
    pub(super) fn to_baseline(&self, reader: &impl RowReader) -> Result<(SourceName, SourceBaseline), StateError> {
        let corrupt = |what: &str| {
            let what = format_args!("the record of source {} has {what} that cannot be understood", self.source);
            reader.error(StateErrorKind::Corrupt, what)
        };
        let time = |text: &str| text.parse::<Timestamp>().map_err(|_| corrupt("a time"));
        let count = |count: i64| u64::try_from(count).map_err(|_| corrupt("a number"));
        let suspect = match (self.suspect_claims, &self.suspect_at) {
            (Some(claims), Some(at)) => Some((count(claims)?, time(at)?)),
            _ => None,
        };
        let answer = SourceBaseline { claims: count(self.claims)?, queried_at: time(&self.queried_at)?, suspect };
        Ok((self.source.parse().map_err(|_| corrupt("a name"))?, answer))
    }
}
