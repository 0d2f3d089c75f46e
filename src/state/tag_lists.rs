//! The tags of each repository at its last complete read, so that external removals are noticed, even if a registry has
//! push times and no other record of its tags exists.
//!
//! A tag list is compressed: a million tags take about ten megabytes. It is written only if it changed.

use std::collections::HashSet;

use async_trait::async_trait;
use jiff::Timestamp;
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib;

use super::row_reader::RowReader;
use super::{SqliteState, StateError, StateErrorKind, TagLists, WriteTransaction, format_time};
use crate::domain::{Digest, GapTarget, Inventory, Registry, Repository, RepositoryName, TagName};

/// The compression level of tag lists: higher levels take longer and gain nothing.
const COMPRESSION_LEVEL: u8 = 6;

/// The last sighting of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastSeen {
    /// Its digest, shortened; `unread` if it could not be read.
    pub digest: String,
    /// Time of the last sighting.
    pub at: Timestamp,
    /// Time of the first read without it; `None` if there was no complete read since.
    pub missed_at: Option<Timestamp>,
}

/// The names of what is done with these tables, as failures say.
pub(super) const RECORD_TAGS: &str = "note which tags there are";
pub(super) const READ_TAGS: &str = "read which tags there were";
pub(super) const READ_MISSING: &str = "read when a tag was seen last";

/// A list of tags as it is stored.
pub(super) struct PackedList {
    /// When it was true.
    pub(super) seen_at: String,
    /// The hash of its lines.
    pub(super) hash: String,
    /// The lines, packed.
    pub(super) lines: Vec<u8>,
}

/// Tags that are there no more, each with its digest, and when they were seen last.
pub(super) struct MissingList<'a> {
    pub(super) registry: &'a str,
    pub(super) endpoint: &'a str,
    pub(super) repository: &'a str,
    pub(super) seen_at: String,
    pub(super) tags: Vec<[String; 2]>,
}

/// The tables of tag lists in a backend, below what they mean. A power cut may undo what is written.
#[async_trait]
pub(super) trait TagListTables: RowReader + Send + Sync {
    /// Reads the hash of a list.
    async fn list_hash(&self, endpoint: &str, repository: &str) -> Result<Option<String>, StateError>;

    /// Reads a list: when it was true, and its lines, packed.
    async fn packed_list(&self, endpoint: &str, repository: &str) -> Result<Option<(String, Vec<u8>)>, StateError>;

    /// Notes that a list is still true.
    async fn touch_list(&self, endpoint: &str, repository: &str, now: Timestamp) -> Result<(), StateError>;

    /// Puts a list in the place of the one before, or none, and notes in the same write the tags that are missing from
    /// now on, but for those that Tagwarden removed since they were seen.
    async fn replace_list(
        &self,
        missing: &MissingList<'_>,
        list: Option<&PackedList>,
        now: Timestamp,
    ) -> Result<(), StateError>;

    /// The repositories of an endpoint that have a list.
    async fn repositories_with_list(&self, endpoint: &str) -> Result<Vec<String>, StateError>;

    /// Reads the last note of a missing tag: its digest, when it was seen, and since when it is missing.
    async fn missing_tag(
        &self,
        endpoint: &str,
        repository: &str,
        tag: &str,
    ) -> Result<Option<(String, String, String)>, StateError>;
}

#[async_trait]
impl<T: TagListTables> TagLists for T {
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
        let (endpoint, name) = (registry.endpoint.as_str(), repository.name.as_str());
        let known = self.list_hash(endpoint, name).await?;
        let lines = lines(repository);
        let hash = Digest::of(lines.as_bytes()).to_string();
        if known.as_ref() == Some(&hash) {
            return self.touch_list(endpoint, name, now).await;
        }
        let missing = missing_tags(self, registry, name, &lines).await?;
        let packed = compress_to_vec_zlib(lines.as_bytes(), COMPRESSION_LEVEL);
        let list = PackedList { seen_at: format_time(now), hash, lines: packed };
        self.replace_list(&missing, Some(&list), now).await
    }

    async fn record_repositories(
        &self,
        registry: &Registry,
        names: &[RepositoryName],
        now: Timestamp,
    ) -> Result<(), StateError> {
        // If the list of repositories is incomplete, one that is not in it may exist.
        if registry.gaps.iter().any(|gap| gap.target == GapTarget::Catalogue) {
            return Ok(());
        }
        let known = self.repositories_with_list(&registry.endpoint).await?;
        let there: HashSet<&str> = names.iter().map(RepositoryName::as_str).collect();
        for name in known.iter().filter(|name| !there.contains(name.as_str())) {
            let missing = missing_tags(self, registry, name, "").await?;
            self.replace_list(&missing, None, now).await?;
        }
        Ok(())
    }

    async fn last_seen(
        &self,
        endpoint: &str,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Option<LastSeen>, StateError> {
        if let Some((seen_at, lines)) = tag_list(self, endpoint, repository.as_str()).await? {
            let found = lines.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == tag.as_str());
            if let Some((_, digest)) = found {
                return Ok(Some(LastSeen { digest: digest.to_owned(), at: self.read(&seen_at)?, missed_at: None }));
            }
        }
        let row = self.missing_tag(endpoint, repository.as_str(), tag.as_str()).await?;
        let Some((digest, seen_at, missed_at)) = row else { return Ok(None) };
        Ok(Some(LastSeen { digest, at: self.read(&seen_at)?, missed_at: Some(self.read(&missed_at)?) }))
    }
}

/// The tags of a recorded list that are not in `lines`.
async fn missing_tags<'a>(
    tables: &impl TagListTables,
    registry: &'a Registry,
    repository: &'a str,
    lines: &str,
) -> Result<MissingList<'a>, StateError> {
    let (name, endpoint) = (registry.name.as_str(), registry.endpoint.as_str());
    let (seen_at, before) = tag_list(tables, endpoint, repository).await?.unwrap_or_default();
    let there: HashSet<&str> = lines.lines().filter_map(|line| Some(line.split_once(' ')?.0)).collect();
    let tags = before.lines().filter_map(|line| line.split_once(' ')).filter(|(tag, _)| !there.contains(tag));
    let tags = tags.map(|(tag, digest)| [tag.to_owned(), digest.to_owned()]).collect();
    Ok(MissingList { registry: name, endpoint, repository, seen_at, tags })
}

/// The lines of a recorded list, and when they were true.
async fn tag_list(
    tables: &impl TagListTables,
    endpoint: &str,
    repository: &str,
) -> Result<Option<(String, String)>, StateError> {
    let Some((seen_at, packed)) = tables.packed_list(endpoint, repository).await? else { return Ok(None) };
    let lines = decompress_to_vec_zlib(&packed).ok().and_then(|lines| String::from_utf8(lines).ok());
    let damaged = || tables.error(StateErrorKind::Corrupt, format_args!("the list of tags of {repository} is damaged"));
    Ok(Some((seen_at, lines.ok_or_else(damaged)?)))
}

#[async_trait]
impl TagListTables for SqliteState {
    async fn list_hash(&self, endpoint: &str, repository: &str) -> Result<Option<String>, StateError> {
        sqlx::query_scalar("SELECT hash FROM tag_lists WHERE endpoint = ?1 AND repository = ?2")
            .bind(endpoint)
            .bind(repository)
            .fetch_optional(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error(READ_TAGS, error))
    }

    async fn packed_list(&self, endpoint: &str, repository: &str) -> Result<Option<(String, Vec<u8>)>, StateError> {
        sqlx::query_as("SELECT seen_at, lines FROM tag_lists WHERE endpoint = ?1 AND repository = ?2")
            .bind(endpoint)
            .bind(repository)
            .fetch_optional(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error(READ_TAGS, error))
    }

    async fn touch_list(&self, endpoint: &str, repository: &str, now: Timestamp) -> Result<(), StateError> {
        let mut write = self.write_relaxed().await?;
        sqlx::query("UPDATE tag_lists SET seen_at = ?3 WHERE endpoint = ?1 AND repository = ?2")
            .bind(endpoint)
            .bind(repository)
            .bind(format_time(now))
            .execute(&mut *write.transaction)
            .await
            .map_err(|error| self.sqlx_error(RECORD_TAGS, error))?;
        write.commit(RECORD_TAGS).await
    }

    async fn replace_list(
        &self,
        missing: &MissingList<'_>,
        list: Option<&PackedList>,
        now: Timestamp,
    ) -> Result<(), StateError> {
        let fault = |error: sqlx::Error| self.sqlx_error(RECORD_TAGS, error);
        let mut write = self.write_relaxed().await?;
        write.record_missing_tags(missing, now).await.map_err(fault)?;
        let statement = match list {
            Some(PackedList { seen_at, hash, lines }) => sqlx::query(
                "INSERT OR REPLACE INTO tag_lists (endpoint, repository, seen_at, hash, lines)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )
            .bind(missing.endpoint)
            .bind(missing.repository)
            .bind(seen_at.as_str())
            .bind(hash.as_str())
            .bind(lines.as_slice()),
            None => sqlx::query("DELETE FROM tag_lists WHERE endpoint = ?1 AND repository = ?2")
                .bind(missing.endpoint)
                .bind(missing.repository),
        };
        statement.execute(&mut *write.transaction).await.map_err(fault)?;
        write.commit(RECORD_TAGS).await
    }

    async fn repositories_with_list(&self, endpoint: &str) -> Result<Vec<String>, StateError> {
        sqlx::query_scalar("SELECT repository FROM tag_lists WHERE endpoint = ?1")
            .bind(endpoint)
            .fetch_all(&self.0.readers)
            .await
            .map_err(|error| self.sqlx_error(RECORD_TAGS, error))
    }

    async fn missing_tag(
        &self,
        endpoint: &str,
        repository: &str,
        tag: &str,
    ) -> Result<Option<(String, String, String)>, StateError> {
        sqlx::query_as(
            "SELECT digest, seen_at, missed_at FROM missing_tags WHERE endpoint = ?1 AND repository = ?2 AND tag = ?3
             ORDER BY missed_at DESC LIMIT 1",
        )
        .bind(endpoint)
        .bind(repository)
        .bind(tag)
        .fetch_optional(&self.0.readers)
        .await
        .map_err(|error| self.sqlx_error(READ_MISSING, error))
    }
}

impl WriteTransaction<'_> {
    /// Notes tags that are there no more, but for those that Tagwarden removed since they were seen.
    async fn record_missing_tags(&mut self, missing: &MissingList<'_>, now: Timestamp) -> Result<(), sqlx::Error> {
        if missing.tags.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT OR IGNORE INTO missing_tags (endpoint, repository, tag, digest, seen_at, missed_at)
             SELECT ?2, ?3, value ->> 0, value ->> 1, ?5, ?6 FROM json_each(?4) AS missed
             WHERE NOT EXISTS (SELECT 1 FROM journal WHERE journal.registry = ?1 AND journal.repository = ?3
                               AND journal.tag = missed.value ->> 0 AND outcome = 'done' AND resolved_at >= ?5
                               AND action IN ('untag', 'delete-manifest'))",
        )
        .bind(missing.registry)
        .bind(missing.endpoint)
        .bind(missing.repository)
        .bind(json(&missing.tags))
        .bind(missing.seen_at.as_str())
        .bind(format_time(now))
        .execute(&mut *self.transaction)
        .await
        .map(drop)
    }
}

/// Returns a line for each tag. Neither tags nor digests contain spaces.
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
