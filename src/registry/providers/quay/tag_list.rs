//! The list of tags, window by window, read whole or not at all.
//!
//! Quay's pages are places in a list that has the newest push first. A removal meanwhile moves every tag behind it one place
//! up, so the first tag of the next page would be missed without a word. Therefore each window begins within the one
//! before, and what both have must be the same; and the first one is read once more, because each push and each move
//! changes that. Windows that overlap by a tag or a few take about an eighth more requests than pages side by side.

use std::collections::HashSet;

use http::StatusCode;

use super::reader::QuayReader;
use super::wire::{self, Right, Row, WireTags};
use crate::domain::RepositoryName;
use crate::registry::RegistryError;
use crate::registry::client::tag_rows;

/// The most that Quay gives on a page.
const MAX_PAGE: usize = 100;
/// The smallest page that is worth a request.
const MIN_PAGE: usize = 50;
/// Most tags: a longer list is a loop.
const MAX_TAGS: usize = 2_000_000;
/// Most reads of a list that changes meanwhile.
const MAX_READS: usize = 3;

/// A page of a certain size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    limit: usize,
    /// From 1.
    page: usize,
}

impl Window {
    /// The window that reaches furthest and still begins within the tags that were read.
    fn after(read: usize) -> Self {
        let begins = |limit: usize| Self { limit, page: read.saturating_sub(1) / limit + 1 };
        let windows = (MIN_PAGE..=MAX_PAGE).rev().map(begins);
        windows.rev().max_by_key(|window| window.offset() + window.limit).unwrap_or(begins(MAX_PAGE))
    }

    fn offset(self) -> usize {
        self.limit * (self.page - 1)
    }
}

impl QuayReader {
    /// All tags of a repository, each once; `None` if Quay does not know the repository.
    ///
    /// # Errors
    /// When a page could not be read, or the list changed each time that it was read.
    pub(super) async fn list_tags(&self, repository: &RepositoryName) -> Result<Option<Vec<Row>>, RegistryError> {
        for _ in 0..MAX_READS {
            match self.try_list(repository).await? {
                Some(Listing::Whole(rows)) => return Ok(Some(rows)),
                Some(Listing::Changed) => {}
                None => return Ok(None),
            }
        }
        let why = "tags were pushed or removed each time that it was read; run again when that is over";
        Err(tag_rows::incomplete_list(repository, why))
    }

    async fn try_list(&self, repository: &RepositoryName) -> Result<Option<Listing>, RegistryError> {
        let first = Window { limit: MAX_PAGE, page: 1 };
        let Some((mut rows, mut has_more)) = self.fetch(repository, first).await? else { return Ok(None) };
        let (begin, is_long) = (keys(&rows), has_more);
        if has_more && rows.len() != MAX_PAGE {
            return Err(tag_rows::incomplete_list(repository, "a page that is not full is not its last one"));
        }
        while has_more {
            let window = Window::after(rows.len());
            let Some((page, more)) = self.fetch(repository, window).await? else { return Ok(None) };
            let known = rows.len() - window.offset();
            if page.len() < known || keys(&page[..known]) != keys(&rows[window.offset()..]) {
                return Ok(Some(Listing::Changed));
            }
            if more && page.len() != window.limit || rows.len() > MAX_TAGS {
                return Err(tag_rows::incomplete_list(
                    repository,
                    "a page that is not full is not its last one, or it has no end",
                ));
            }
            rows.extend(page.into_iter().skip(known));
            has_more = more;
        }
        if is_long {
            let again = self.fetch(repository, first).await?;
            if again.is_none_or(|(page, _)| keys(&page) != begin) {
                return Ok(Some(Listing::Changed));
            }
        }
        let mut seen = HashSet::new();
        rows.retain(|row| seen.insert(tag_rows::name(row).to_owned()));
        Ok(Some(Listing::Whole(rows)))
    }

    /// A page, and whether there are more.
    async fn fetch(
        &self,
        repository: &RepositoryName,
        window: Window,
    ) -> Result<Option<(Vec<Row>, bool)>, RegistryError> {
        let (limit, page) = (window.limit.to_string(), window.page.to_string());
        let query = [("limit", &*limit), ("page", &*page), ("onlyActiveTags", "true")];
        let response = self.get(Some(repository), &super::tags_path(repository), &query).await?;
        match response.status {
            StatusCode::OK => {}
            _ if wire::is_absence(&response) => return Ok(None),
            _ => return Err(wire::refusal(&response, Right::Read)),
        }
        let WireTags { tags, has_additional } = response.parse_json()?;
        Ok(Some((tags.into_iter().map(tag_rows::parse).collect(), has_additional)))
    }
}

enum Listing {
    Whole(Vec<Row>),
    /// It is not what it was a request ago.
    Changed,
}

/// Returns the name, digest and push time of each row, by which rows are compared.
fn keys(rows: &[Row]) -> Vec<(String, Option<String>, Option<i64>)> {
    let state = |row: &Row| match row {
        Ok((_, tag)) => (tag.manifest_digest.clone(), tag.pushed_at().map(jiff::Timestamp::as_second)),
        Err(_) => (None, None),
    };
    rows.iter()
        .map(|row| {
            let (digest, pushed_at) = state(row);
            (tag_rows::name(row).to_owned(), digest, pushed_at)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_overlap_and_reach_on() {
        let (mut read, mut requests) = (MAX_PAGE, 1);
        while read < 10_000 {
            let window = Window::after(read);
            assert!(window.limit <= MAX_PAGE && window.page >= 1, "{window:?}");
            assert!(window.offset() < read, "{window:?} after {read} has nothing that was read");
            let reaches = window.offset() + window.limit;
            assert!(reaches > read, "{window:?} after {read} brings nothing new");
            (read, requests) = (reaches, requests + 1);
        }
        assert_eq!(requests, 114);
    }
}
