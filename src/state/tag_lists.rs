//! Which tags each repository had at the last whole look, so that one which somebody else removed is missed, also where
//! a registry gives push times and nothing else is remembered of its tags.
//!
//! A tag list is packed: a million tags take about ten megabytes. It is written again only where it changed.

use std::collections::HashSet;

use async_trait::async_trait;
use jiff::Timestamp;
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib;

use super::{SqliteState, StateError, StateErrorKind, TagLists, WriteTransaction, format_time};
use crate::domain::{Digest, GapTarget, Inventory, Registry, Repository, RepositoryName, TagName};

/// How well tag lists are packed: more takes longer and gains nothing.
const COMPRESSION_LEVEL: u8 = 6;

/// When a tag was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastSeen {
    /// The digest that it had, shortened; `unread` where that could not be read.
    pub digest: String,
    /// When it was seen last.
    pub at: Timestamp,
    /// When it was first missed; `None` where no whole look has been made since.
    pub missed_at: Option<Timestamp>,
}

/// The name of the write, as failures of it say.
const RECORD_TAGS: &str = "note which tags there are";

#[async_trait]
impl TagLists for SqliteState {
    async fn record_tag_lists(&self, inventory: &Inventory, now: Timestamp) -> Result<(), StateError> {
        for registry in &inventory.registries {
            for repository in &registry.repositories {
                self.record_tag_list(registry, repository, now).await?;
            }
            let names: Vec<_> = registry.repositories.iter().map(|repository| repository.name.clone()).collect();
            self.record_repositories(registry, &names, now).await?;
        }
        Ok(())
    }

    async fn record_tag_list(
        &self,
        registry: &Registry,
        repository: &Repository,
        now: Timestamp,
    ) -> Result<(), StateError> {
        if repository.gaps.iter().any(|gap| gap.target == GapTarget::TagList) {
            return Ok(());
        }
        let fault = |error: sqlx::Error| self.sqlx_error(RECORD_TAGS, error);
        let (endpoint, name) = (registry.endpoint.as_str(), repository.name.as_str());
        let known: Option<String> =
            sqlx::query_scalar("SELECT hash FROM tag_lists WHERE endpoint = ?1 AND repository = ?2")
                .bind(endpoint)
                .bind(name)
                .fetch_optional(&self.0.readers)
                .await
                .map_err(fault)?;
        let lines = lines(repository);
        let hash = Digest::of(lines.as_bytes()).to_string();
        if known.as_ref() == Some(&hash) {
            let mut write = self.write_relaxed().await?;
            sqlx::query("UPDATE tag_lists SET seen_at = ?3 WHERE endpoint = ?1 AND repository = ?2")
                .bind(endpoint)
                .bind(name)
                .bind(format_time(now))
                .execute(&mut *write.transaction)
                .await
                .map_err(fault)?;
            return write.commit(RECORD_TAGS).await;
        }
        let (seen_at, tags) = self.missing_tags(endpoint, name, &lines).await?;
        let packed = compress_to_vec_zlib(lines.as_bytes(), COMPRESSION_LEVEL);
        let mut write = self.write_relaxed().await?;
        let place = (registry.name.as_str(), endpoint, name);
        write.record_missing_tags(place, &seen_at, &tags, now).await.map_err(fault)?;
        sqlx::query(
            "INSERT OR REPLACE INTO tag_lists (endpoint, repository, seen_at, hash, lines) VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(endpoint)
        .bind(name)
        .bind(format_time(now))
        .bind(hash)
        .bind(packed)
        .execute(&mut *write.transaction)
        .await
        .map_err(fault)?;
        write.commit(RECORD_TAGS).await
    }

    async fn record_repositories(
        &self,
        registry: &Registry,
        names: &[RepositoryName],
        now: Timestamp,
    ) -> Result<(), StateError> {
        // Where the list of repositories is not complete, one that is not in it may be there.
        if registry.gaps.iter().any(|gap| gap.target == GapTarget::Catalogue) {
            return Ok(());
        }
        let fault = |error: sqlx::Error| self.sqlx_error(RECORD_TAGS, error);
        let endpoint = registry.endpoint.as_str();
        let known: Vec<String> = sqlx::query_scalar("SELECT repository FROM tag_lists WHERE endpoint = ?1")
            .bind(endpoint)
            .fetch_all(&self.0.readers)
            .await
            .map_err(fault)?;
        let there: HashSet<&str> = names.iter().map(RepositoryName::as_str).collect();
        for name in known.iter().filter(|name| !there.contains(name.as_str())) {
            let (seen_at, tags) = self.missing_tags(endpoint, name, "").await?;
            let mut write = self.write_relaxed().await?;
            let place = (registry.name.as_str(), endpoint, name.as_str());
            write.record_missing_tags(place, &seen_at, &tags, now).await.map_err(fault)?;
            sqlx::query("DELETE FROM tag_lists WHERE endpoint = ?1 AND repository = ?2")
                .bind(endpoint)
                .bind(name)
                .execute(&mut *write.transaction)
                .await
                .map_err(fault)?;
            write.commit(RECORD_TAGS).await?;
        }
        Ok(())
    }

    async fn last_seen(
        &self,
        endpoint: &str,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Option<LastSeen>, StateError> {
        if let Some((seen_at, lines)) = self.tag_list(endpoint, repository.as_str()).await? {
            let found = lines.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == tag.as_str());
            if let Some((_, digest)) = found {
                return Ok(Some(LastSeen { digest: digest.to_owned(), at: self.read(&seen_at)?, missed_at: None }));
            }
        }
        let row: Option<(String, String, String)> = sqlx::query_as(
            "SELECT digest, seen_at, missed_at FROM missing_tags WHERE endpoint = ?1 AND repository = ?2 AND tag = ?3
             ORDER BY missed_at DESC LIMIT 1",
        )
        .bind(endpoint)
        .bind(repository.as_str())
        .bind(tag.as_str())
        .fetch_optional(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error("read when a tag was seen last", error))?;
        let Some((digest, seen_at, missed_at)) = row else { return Ok(None) };
        Ok(Some(LastSeen { digest, at: self.read(&seen_at)?, missed_at: Some(self.read(&missed_at)?) }))
    }
}

impl SqliteState {
    /// The tags of a recorded list that are not in `lines`, each with its digest, and when it was true.
    async fn missing_tags(
        &self,
        endpoint: &str,
        repository: &str,
        lines: &str,
    ) -> Result<(String, Vec<[String; 2]>), StateError> {
        let Some((seen_at, before)) = self.tag_list(endpoint, repository).await? else {
            return Ok((String::new(), Vec::new()));
        };
        let there: HashSet<&str> = lines.lines().filter_map(|line| Some(line.split_once(' ')?.0)).collect();
        let tags = before.lines().filter_map(|line| line.split_once(' ')).filter(|(tag, _)| !there.contains(tag));
        Ok((seen_at, tags.map(|(tag, digest)| [tag.to_owned(), digest.to_owned()]).collect()))
    }

    /// The lines of a recorded list, and when they were true.
    async fn tag_list(&self, endpoint: &str, repository: &str) -> Result<Option<(String, String)>, StateError> {
        let doing = "read which tags there were";
        let row: Option<(String, Vec<u8>)> =
            sqlx::query_as("SELECT seen_at, lines FROM tag_lists WHERE endpoint = ?1 AND repository = ?2")
                .bind(endpoint)
                .bind(repository)
                .fetch_optional(&self.0.readers)
                .await
                .map_err(|error| self.sqlx_error(doing, error))?;
        let Some((seen_at, packed)) = row else { return Ok(None) };
        let lines = decompress_to_vec_zlib(&packed).ok().and_then(|lines| String::from_utf8(lines).ok());
        let damaged =
            || self.error(StateErrorKind::Corrupt, format_args!("the list of tags of {repository} is damaged"));
        Ok(Some((seen_at, lines.ok_or_else(damaged)?)))
    }
}

impl WriteTransaction<'_> {
    /// Notes tags that are there no more, but for those that Tagwarden removed since they were seen.
    async fn record_missing_tags(
        &mut self,
        (registry, endpoint, repository): (&str, &str, &str),
        seen_at: &str,
        tags: &[[String; 2]],
        now: Timestamp,
    ) -> Result<(), sqlx::Error> {
        if tags.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT OR IGNORE INTO missing_tags (endpoint, repository, tag, digest, seen_at, missed_at)
             SELECT ?2, ?3, value ->> 0, value ->> 1, ?5, ?6 FROM json_each(?4) AS missed
             WHERE NOT EXISTS (SELECT 1 FROM journal WHERE journal.registry = ?1 AND journal.repository = ?3
                               AND journal.tag = missed.value ->> 0 AND outcome = 'done' AND resolved_at >= ?5
                               AND action IN ('untag', 'delete-manifest'))",
        )
        .bind(registry)
        .bind(endpoint)
        .bind(repository)
        .bind(json(tags))
        .bind(seen_at)
        .bind(format_time(now))
        .execute(&mut *self.transaction)
        .await
        .map(drop)
    }
}

/// A line for each tag. Neither tags nor digests have spaces in them.
fn lines(repository: &Repository) -> String {
    let mut lines = String::new();
    for tag in &repository.tags {
        let digest = tag.digest.as_ref().map_or_else(|| "unread".to_owned(), Digest::short);
        lines.extend([tag.name.as_str(), " ", &digest, "\n"]);
    }
    lines
}

fn json<T: serde::Serialize>(rows: &[T]) -> String {
    serde_json::to_string(rows).expect("lists of strings are JSON")
}
