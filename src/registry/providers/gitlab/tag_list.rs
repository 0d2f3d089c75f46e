//! The list of tags, read by markers: each page begins after the last name of the one before, so tags that come and go
//! meanwhile hide no other.

use std::collections::HashSet;

use http::StatusCode;
use serde_json::Value;

use super::reader::GitlabReader;
use super::wire::{self, Right, Row, TagAnswer};
use crate::domain::{RepositoryName, TagName};
use crate::registry::RegistryError;
use crate::registry::client::auth::TokenScope;
use crate::registry::client::pagination::next_page_link;
use crate::registry::client::tag_rows;

/// The most that the registry gives on a page.
const PAGE: usize = 1000;
/// Most tags: a longer list is a loop.
const MAX_TAGS: usize = 20_000_000;

impl GitlabReader {
    /// All tags of a repository, each once; `None` if the registry does not know the repository.
    ///
    /// The next page is asked for by the last name, not by its `Link`: that leaves out `referrers`, which only the first page
    /// would have then.
    ///
    /// # Errors
    /// When a page could not be read.
    pub(super) async fn list_tags(&self, repository: &RepositoryName) -> Result<Option<Vec<Row>>, RegistryError> {
        let (mut rows, mut seen) = (Vec::new(), HashSet::new());
        let (mut last, mut has_links) = (None::<String>, false);
        loop {
            let size = PAGE.to_string();
            let mut query = vec![("n", &*size), ("referrers", "true")];
            query.extend(last.as_deref().map(|last| ("last", last)));
            let response = self.get(TokenScope::Pull(repository.clone()), &tags_path(repository), &query).await?;
            match response.status {
                StatusCode::OK => {}
                _ if wire::is_unknown_repository(&response) && last.is_none() => return Ok(None),
                _ => return Err(wire::refusal(&response, Right::Read)),
            }
            let page: Vec<Value> = response.parse_json()?;
            let linked =
                next_page_link(&response.headers).map_err(|why| tag_rows::incomplete_list(repository, why))?.is_some();
            let (before, is_full) = (seen.len(), page.len() >= PAGE);
            last = page.last().and_then(|row| row["name"].as_str()).map(str::to_owned);
            for row in page.into_iter().map(tag_rows::parse) {
                if seen.insert(tag_rows::name(&row).to_owned()) {
                    rows.push(row);
                }
            }
            // A full page without a link to another may have lost it on the way, unless there have been links.
            if !(linked || is_full && !has_links) {
                return Ok(Some(rows));
            }
            has_links |= linked;
            if seen.len() == before || last.is_none() || seen.len() > MAX_TAGS {
                return Err(tag_rows::incomplete_list(
                    repository,
                    "a page of it leads to no further one, and says that there are more",
                ));
            }
        }
    }

    /// One tag by its name, as it is now.
    ///
    /// # Errors
    /// When the registry did not say.
    pub(super) async fn fetch_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<TagAnswer, RegistryError> {
        let query = [("name_exact", tag.as_str())];
        let response = self.get(TokenScope::Pull(repository.clone()), &tags_path(repository), &query).await?;
        match response.status {
            StatusCode::OK => {}
            _ if wire::is_unknown_repository(&response) => return Ok(TagAnswer::UnknownRepository),
            _ => return Err(wire::refusal(&response, Right::Read)),
        }
        let mut rows: Vec<Value> = response.parse_json()?;
        match (rows.pop(), rows.is_empty()) {
            (None, _) => Ok(TagAnswer::Missing),
            (Some(row), true) if row["name"] == tag.as_str() => match serde_json::from_value(row) {
                Ok(found) => Ok(TagAnswer::Found(Box::new(found))),
                Err(error) => Err(response.unparsable(error)),
            },
            _ => Ok(TagAnswer::NotAsked),
        }
    }
}

/// The path of a repository's tags. Without the slash at its end the registry redirects.
fn tags_path(repository: &RepositoryName) -> String {
    format!("/gitlab/v1/repositories/{repository}/tags/list/")
}
