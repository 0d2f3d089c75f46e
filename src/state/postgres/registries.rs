//! What is known of registries and sources.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{PostgresState, storable};
use crate::domain::{RefusedTag, RegistryName, RemovalMethod, RepositoryName, SourceName, TagName};
use crate::state::catalogues::{CatalogueRow, json, observed_catalogue};
use crate::state::experience::{
    CLEAR_MARK, ExperienceRow, ExperienceTables, FORGET_EXPERIENCE, MARK, READ_EXPERIENCE, READ_MARK, WRITE_EXPERIENCE,
    key,
};
use crate::state::plans::count;
use crate::state::refused_tags::{RefusedTagRow, forgotten_before, refused_tags};
use crate::state::row_reader::RowReader as _;
use crate::state::sources::SourceRow;
use crate::state::{
    Catalogues, KnownCatalogue, RefusedTags, RegistryAddresses, RemovalRefusal, SourceBaseline, SourceHistory,
    StateError, format_time,
};

#[async_trait]
impl Catalogues for PostgresState {
    async fn catalogue(&self, registry: &RegistryName, endpoint: &str) -> Result<Option<KnownCatalogue>, StateError> {
        let doing = "read which repositories a registry has";
        let query = sqlx::query_as(
            "SELECT names, trusted_at, suspect_names, suspect_since, suspect_reads FROM catalogues WHERE endpoint = $1",
        );
        if let Some(row) = self.row::<CatalogueRow>(doing, query.bind(endpoint)).await? {
            return row.to_catalogue(self, endpoint).map(Some);
        }
        // Repositories that were listed at the last look at this endpoint. Rows of an older state may not know theirs
        // yet, and have the registry's name instead.
        let query = sqlx::query_as(
            "SELECT repository FROM observed_repositories
             WHERE missed_since IS NULL AND endpoint IN ($2, 'registry:' || $1)",
        );
        let names: Vec<(String,)> = self.rows(doing, query.bind(registry.as_str()).bind(key(endpoint))).await?;
        Ok(observed_catalogue(names.into_iter().map(|(name,)| name).collect()))
    }

    async fn record_catalogue(&self, endpoint: &str, known: &KnownCatalogue, now: Timestamp) -> Result<(), StateError> {
        let suspect = known.suspect.as_ref();
        let statement = sqlx::query(
            "INSERT INTO catalogues (endpoint, names, trusted_at, suspect_names, suspect_since, suspect_reads)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (endpoint) DO UPDATE SET names = excluded.names, trusted_at = excluded.trusted_at,
                 suspect_names = excluded.suspect_names, suspect_since = excluded.suspect_since,
                 suspect_reads = excluded.suspect_reads",
        );
        let statement = statement
            .bind(endpoint)
            .bind(json(&known.names))
            .bind(format_time(known.trusted_at.unwrap_or(now)))
            .bind(suspect.map(|suspect| json(&suspect.names)))
            .bind(suspect.map(|suspect| format_time(suspect.since)))
            .bind(suspect.map(|suspect| i64::from(suspect.reads)));
        self.execute_relaxed("record which repositories a registry has", statement).await.map(drop)
    }

    async fn accept_catalogue(&self, endpoint: &str, by: &str, now: Timestamp) -> Result<Option<u64>, StateError> {
        let mut unit = self.write("record that a registry's list of repositories is right").await?;
        let query = sqlx::query_as(
            "UPDATE catalogues
             SET names = suspect_names, trusted_at = $3, suspect_names = NULL, suspect_since = NULL, suspect_reads = NULL,
                 accepted_by = $2, accepted_at = $3
             WHERE endpoint = $1 AND suspect_names IS NOT NULL RETURNING json_array_length(names::json)::bigint",
        );
        let names: Option<(i64,)> = unit.row(query.bind(endpoint).bind(storable(by)).bind(format_time(now))).await?;
        unit.commit().await?;
        Ok(names.map(|(names,)| names.unsigned_abs()))
    }
}

#[async_trait]
impl RegistryAddresses for PostgresState {
    async fn registry_address_since(
        &self,
        registry: &RegistryName,
        address: &str,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StateError> {
        let doing = "remember where a registry is";
        let query = sqlx::query_as("SELECT address, since FROM registry_addresses WHERE registry = $1");
        let known: Option<(String, Option<String>)> = self.row(doing, query.bind(registry.as_str())).await?;
        let since = match known {
            Some((known, since)) if known == address => return self.read_optional(since.as_deref()),
            Some(_) => Some(now),
            None => None,
        };
        let statement = sqlx::query(
            "INSERT INTO registry_addresses (registry, address, since) VALUES ($1, $2, $3)
             ON CONFLICT (registry) DO UPDATE SET address = excluded.address, since = excluded.since",
        );
        let statement = statement.bind(registry.as_str()).bind(address).bind(since.map(format_time));
        self.execute(doing, statement).await?;
        Ok(since)
    }
}

#[async_trait]
impl ExperienceTables for PostgresState {
    async fn read_experience(&self, endpoint: &str, method: RemovalMethod) -> Result<Vec<ExperienceRow>, StateError> {
        let query = sqlx::query_as(
            "SELECT effect, since, last_at FROM experience WHERE endpoint = $1 AND method = $2 ORDER BY effect",
        );
        self.rows(READ_EXPERIENCE, query.bind(endpoint).bind(method.label())).await
    }

    async fn write_experience(
        &self,
        endpoint: &str,
        method: RemovalMethod,
        effect: &str,
        outdated: &[&str],
        at: Timestamp,
    ) -> Result<(), StateError> {
        let at = format_time(at);
        let mut unit = self.write(WRITE_EXPERIENCE).await?;
        let statement = sqlx::query(
            "DELETE FROM experience WHERE endpoint = $1 AND method = $2 AND effect = ANY($3) AND last_at <= $4",
        );
        unit.execute(statement.bind(endpoint).bind(method.label()).bind(outdated).bind(&at)).await?;
        let statement = sqlx::query(
            "INSERT INTO experience (endpoint, method, effect, since, last_at) VALUES ($1, $2, $3, $4, $4)
             ON CONFLICT (endpoint, method, effect) DO UPDATE
             SET since = least(experience.since, excluded.since), last_at = greatest(experience.last_at, excluded.last_at)",
        );
        unit.execute(statement.bind(endpoint).bind(method.label()).bind(effect).bind(&at)).await?;
        unit.commit().await
    }

    async fn delete_experience(&self, registry: &RegistryName, endpoint: &str) -> Result<u64, StateError> {
        let mut unit = self.write(FORGET_EXPERIENCE).await?;
        let learned = sqlx::query("DELETE FROM experience WHERE endpoint = $1").bind(endpoint);
        let marked = sqlx::query("DELETE FROM destructive_untags WHERE registry = $1").bind(registry.as_str());
        let deleted = unit.execute(learned).await? + unit.execute(marked).await?;
        unit.commit().await?;
        Ok(deleted)
    }

    async fn write_mark(&self, registry: &RegistryName, now: Timestamp) -> Result<(), StateError> {
        let statement =
            sqlx::query("INSERT INTO destructive_untags (registry, since) VALUES ($1, $2) ON CONFLICT DO NOTHING");
        self.execute(MARK, statement.bind(registry.as_str()).bind(format_time(now))).await.map(drop)
    }

    async fn read_mark(&self, registry: &RegistryName) -> Result<Option<String>, StateError> {
        let query = sqlx::query_as("SELECT since FROM destructive_untags WHERE registry = $1");
        let since: Option<(String,)> = self.row(READ_MARK, query.bind(registry.as_str())).await?;
        Ok(since.map(|(since,)| since))
    }

    async fn delete_mark(&self, registry: &RegistryName) -> Result<(), StateError> {
        let statement = sqlx::query("DELETE FROM destructive_untags WHERE registry = $1").bind(registry.as_str());
        self.execute(CLEAR_MARK, statement).await.map(drop)
    }
}

#[async_trait]
impl RefusedTags for PostgresState {
    async fn refused_tags(&self, endpoint: &str) -> Result<Vec<RefusedTag>, StateError> {
        let query = sqlx::query_as(
            "SELECT repository, tag, digest, times, last_at, message FROM refused_tags WHERE endpoint = $1",
        );
        let rows: Vec<RefusedTagRow> =
            self.rows("read which tags a registry refused to remove", query.bind(key(endpoint))).await?;
        refused_tags(self, rows)
    }

    async fn record_refused_tags(
        &self,
        endpoint: &str,
        met: &[RemovalRefusal],
        now: Timestamp,
    ) -> Result<(), StateError> {
        let endpoint = key(endpoint);
        let mut unit = self.write_relaxed("remember which tags a registry refused to remove").await?;
        for RemovalRefusal { repository, tag, digest, message, is_tag_specific } in met {
            let statement = sqlx::query(
                "INSERT INTO refused_tags (endpoint, repository, tag, digest, times, last_at, message)
                 VALUES ($1, $2, $3, $4, 1, $5, $6)
                 ON CONFLICT (endpoint, repository, tag) DO UPDATE SET
                     times = CASE WHEN refused_tags.digest = excluded.digest THEN refused_tags.times + $7 ELSE 1 END,
                     digest = excluded.digest, last_at = excluded.last_at, message = excluded.message",
            );
            let statement = statement
                .bind(&endpoint)
                .bind(repository.as_str())
                .bind(tag.as_str())
                .bind(digest.to_string())
                .bind(format_time(now))
                .bind(storable(message))
                .bind(i64::from(*is_tag_specific));
            unit.execute(statement).await?;
        }
        let statement = sqlx::query("DELETE FROM refused_tags WHERE endpoint = $1 AND last_at < $2");
        unit.execute(statement.bind(&endpoint).bind(format_time(forgotten_before(now)))).await?;
        unit.commit().await
    }

    async fn forget_refused_tag(
        &self,
        endpoint: &str,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<(), StateError> {
        let statement = sqlx::query("DELETE FROM refused_tags WHERE endpoint = $1 AND repository = $2 AND tag = $3");
        let statement = statement.bind(key(endpoint)).bind(repository.as_str()).bind(tag.as_str());
        self.execute_relaxed("forget that a registry refused to remove a tag", statement).await.map(drop)
    }
}

#[async_trait]
impl SourceHistory for PostgresState {
    async fn source_baselines(&self) -> Result<BTreeMap<SourceName, SourceBaseline>, StateError> {
        let query =
            sqlx::query_as("SELECT source, claims, queried_at, suspect_claims, suspect_at FROM source_baselines");
        let rows: Vec<SourceRow> = self.rows("read what the sources last answered", query).await?;
        rows.iter().map(|row| row.to_baseline(self)).collect()
    }

    async fn record_source_baseline(&self, source: &SourceName, claims: u64, now: Timestamp) -> Result<(), StateError> {
        let statement = sqlx::query(
            "INSERT INTO source_baselines (source, claims, queried_at) VALUES ($1, $2, $3)
             ON CONFLICT (source) DO UPDATE SET claims = excluded.claims, queried_at = excluded.queried_at,
                                                suspect_claims = NULL, suspect_at = NULL",
        );
        let statement = statement.bind(source.as_str()).bind(count(claims)).bind(format_time(now));
        self.execute("record what a source answered", statement).await.map(drop)
    }

    async fn record_suspect_claims(&self, source: &SourceName, claims: u64, now: Timestamp) -> Result<(), StateError> {
        let statement =
            sqlx::query("UPDATE source_baselines SET suspect_claims = $2, suspect_at = $3 WHERE source = $1");
        let statement = statement.bind(source.as_str()).bind(count(claims)).bind(format_time(now));
        self.execute("record what a source answered", statement).await.map(drop)
    }

    async fn accept_source(&self, source: &SourceName, by: &str, now: Timestamp) -> Result<Option<u64>, StateError> {
        let mut unit = self.write("record that a source's answer is right").await?;
        let query = sqlx::query_as(
            "UPDATE source_baselines
             SET claims = suspect_claims, queried_at = suspect_at, suspect_claims = NULL, suspect_at = NULL,
                 accepted_by = $2, accepted_at = $3
             WHERE source = $1 AND suspect_claims IS NOT NULL RETURNING claims",
        );
        let claims: Option<(i64,)> =
            unit.row(query.bind(source.as_str()).bind(storable(by)).bind(format_time(now))).await?;
        unit.commit().await?;
        Ok(claims.and_then(|(claims,)| u64::try_from(claims).ok()))
    }
}
