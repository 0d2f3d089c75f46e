//! Searches in Artifactory's query language (AQL), page by page.
//!
//! A page is a part of a sorted list, by its place. What is deleted meanwhile moves everything behind it one place up, so
//! the first file of the next page would be missed. Therefore each page begins with the last file of the one before, and the
//! list is read anew if that is another one.

use http::Method;
use serde_json::{Value, json};

use super::reader::{ArtifactorySearch, tag_of};
use super::wire::{INDEX, MANIFEST, WireItem, WireSearch};
use crate::domain::{RepositoryName, TagName};
use crate::http_client::Request;
use crate::registry::client::auth::TokenScope;
use crate::registry::client::tag_rows::incomplete_list;
use crate::registry::{RegistryError, RegistryErrorKind};

/// Files of one page. Artifactory's own limits are half a million results and the time of a search.
pub(super) const PAGE: usize = 5_000;
/// Most files of a list: a longer one is a loop.
const MAX_ITEMS: usize = 2_000_000;
/// Most reads of a list that changes meanwhile.
const MAX_READS: usize = 3;
/// Most bytes of an answer.
const MAX_BYTES: usize = 64 << 20;

impl ArtifactorySearch {
    /// Returns the manifests of all tags of an image, each once.
    ///
    /// # Errors
    /// Returns an error if a page cannot be read or was trimmed, or if the list changed during every attempt to read it.
    pub(super) async fn list_tags(&self, repository: &RepositoryName) -> Result<Vec<WireItem>, RegistryError> {
        let place = self.api.place(repository)?;
        let path = json!({ "$match": format!("{}/*", place.image) });
        for _ in 0..MAX_READS {
            if let Some(items) = self.try_list(repository, (&place.key, &path)).await? {
                let own = |item: &WireItem| tag_of(&place.image, item).is_some();
                return Ok(items.into_iter().filter(own).collect());
            }
        }
        let why = "tags were pushed or removed each time that it was read; run again when that is over";
        Err(incomplete_list(repository, why))
    }

    /// Returns the manifests in the folder of one tag.
    ///
    /// # Errors
    /// Returns an error if the search fails.
    pub(super) async fn find_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
    ) -> Result<Vec<WireItem>, RegistryError> {
        let place = self.api.place(repository)?;
        let path = Value::from(format!("{}/{tag}", place.image));
        let found = self.search(repository, (&place.key, &path), 0).await?;
        Ok(found.into_iter().filter(|item| tag_of(&place.image, item) == Some(tag.as_str())).collect())
    }

    /// Returns all pages; `None` if the list changed meanwhile.
    async fn try_list(
        &self,
        repository: &RepositoryName,
        what: (&str, &Value),
    ) -> Result<Option<Vec<WireItem>>, RegistryError> {
        let mut all = self.search(repository, what, 0).await?;
        let mut is_full = all.len() == PAGE;
        while is_full {
            let page = self.search(repository, what, all.len() - 1).await?;
            if page.first() != all.last() {
                return Ok(None);
            }
            is_full = page.len() == PAGE;
            all.extend(page.into_iter().skip(1));
            if all.len() > MAX_ITEMS {
                return Err(incomplete_list(repository, "it has no end"));
            }
        }
        Ok(Some(all))
    }

    /// Returns a page of the manifests with such a path in the repository of Artifactory with that key.
    async fn search(
        &self,
        repository: &RepositoryName,
        (key, path): (&str, &Value),
        offset: usize,
    ) -> Result<Vec<WireItem>, RegistryError> {
        let criteria = json!({ "repo": key, "path": path, "$or": [{ "name": MANIFEST }, { "name": INDEX }] });
        let query = format!(
            "items.find({criteria}).include(\"repo\",\"path\",\"name\",\"created\",\"modified\",\"sha256\",\
             \"stat.downloads\",\"stat.downloaded\").sort({{\"$asc\":[\"path\",\"name\"]}}).offset({offset}).limit({PAGE})"
        );
        let request = Request {
            method: Method::POST,
            content: Some(("text/plain".into(), query.into_bytes().into())),
            ..Request::get(self.api.url("api/search/aql"), "application/json", MAX_BYTES)
        };
        let scope = TokenScope::List(repository.clone());
        let response = self.api.read(&scope, request).await?;
        let found: WireSearch = response.parse_json()?;
        if let Some(remark) = found.range.notification {
            return Err(response.malformed(&remark).with_help("raise the limit of searches in Artifactory"));
        }
        if found.results.len() > PAGE || found.results.iter().any(|item| item.repo != key) {
            let message = format!("{}: it has what was not searched for", response.request);
            return Err(RegistryError::new(RegistryErrorKind::Malformed, message));
        }
        Ok(found.results)
    }
}
