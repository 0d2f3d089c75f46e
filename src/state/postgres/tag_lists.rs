//! Which tags each repository had at the last whole look.

use async_trait::async_trait;
use jiff::Timestamp;

use super::PostgresState;
use crate::state::tag_lists::{MissingList, PackedList, READ_MISSING, READ_TAGS, RECORD_TAGS, TagListTables};
use crate::state::{StateError, format_time};

#[async_trait]
impl TagListTables for PostgresState {
    async fn list_hash(&self, endpoint: &str, repository: &str) -> Result<Option<String>, StateError> {
        let query = sqlx::query_as("SELECT hash FROM tag_lists WHERE endpoint = $1 AND repository = $2");
        let hash: Option<(String,)> = self.row(READ_TAGS, query.bind(endpoint).bind(repository)).await?;
        Ok(hash.map(|(hash,)| hash))
    }

    async fn packed_list(&self, endpoint: &str, repository: &str) -> Result<Option<(String, Vec<u8>)>, StateError> {
        let query = sqlx::query_as("SELECT seen_at, lines FROM tag_lists WHERE endpoint = $1 AND repository = $2");
        self.row(READ_TAGS, query.bind(endpoint).bind(repository)).await
    }

    async fn touch_list(&self, endpoint: &str, repository: &str, now: Timestamp) -> Result<(), StateError> {
        let statement = sqlx::query("UPDATE tag_lists SET seen_at = $3 WHERE endpoint = $1 AND repository = $2");
        let statement = statement.bind(endpoint).bind(repository).bind(format_time(now));
        self.execute_relaxed(RECORD_TAGS, statement).await.map(drop)
    }

    async fn replace_list(
        &self,
        missing: &MissingList<'_>,
        list: Option<&PackedList>,
        now: Timestamp,
    ) -> Result<(), StateError> {
        let (endpoint, repository) = (missing.endpoint, missing.repository);
        let mut unit = self.write_relaxed(RECORD_TAGS).await?;
        if !missing.tags.is_empty() {
            let (tags, digests): (Vec<&str>, Vec<&str>) =
                missing.tags.iter().map(|[tag, digest]| (tag.as_str(), digest.as_str())).unzip();
            let statement = sqlx::query(
                "INSERT INTO missing_tags (endpoint, repository, tag, digest, seen_at, missed_at)
                 SELECT $2, $3, missed.tag, missed.digest, $6, $7
                 FROM unnest($4::text[], $5::text[]) AS missed (tag, digest)
                 WHERE NOT EXISTS (SELECT 1 FROM journal WHERE journal.registry = $1 AND journal.repository = $3
                                   AND journal.tag = missed.tag AND outcome = 'done' AND resolved_at >= $6
                                   AND action IN ('untag', 'delete-manifest'))
                 ON CONFLICT DO NOTHING",
            );
            let statement = statement.bind(missing.registry).bind(endpoint).bind(repository).bind(tags).bind(digests);
            unit.execute(statement.bind(&missing.seen_at).bind(format_time(now))).await?;
        }
        let statement = match list {
            Some(PackedList { seen_at, hash, lines }) => sqlx::query(
                "INSERT INTO tag_lists (endpoint, repository, seen_at, hash, lines) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (endpoint, repository) DO UPDATE
                 SET seen_at = excluded.seen_at, hash = excluded.hash, lines = excluded.lines",
            )
            .bind(endpoint)
            .bind(repository)
            .bind(seen_at)
            .bind(hash)
            .bind(lines),
            None => sqlx::query("DELETE FROM tag_lists WHERE endpoint = $1 AND repository = $2")
                .bind(endpoint)
                .bind(repository),
        };
        unit.execute(statement).await?;
        unit.commit().await
    }

    async fn repositories_with_list(&self, endpoint: &str) -> Result<Vec<String>, StateError> {
        let query = sqlx::query_as("SELECT repository FROM tag_lists WHERE endpoint = $1 ORDER BY repository");
        let names: Vec<(String,)> = self.rows(RECORD_TAGS, query.bind(endpoint)).await?;
        Ok(names.into_iter().map(|(name,)| name).collect())
    }

    async fn missing_tag(
        &self,
        endpoint: &str,
        repository: &str,
        tag: &str,
    ) -> Result<Option<(String, String, String)>, StateError> {
        let query = sqlx::query_as(
            "SELECT digest, seen_at, missed_at FROM missing_tags WHERE endpoint = $1 AND repository = $2 AND tag = $3
             ORDER BY missed_at DESC LIMIT 1",
        );
        self.row(READ_MISSING, query.bind(endpoint).bind(repository).bind(tag)).await
    }
}
