//! Questions to zot's search extension. They are sent by GET, so a reader can send them.

use std::sync::atomic::{AtomicU8, Ordering};

use http::StatusCode;
use serde_json::Value;

use super::extensions::SEARCH_PATH;
use super::wire::{WireAnswer, WireImage, WirePage};
use crate::domain::RepositoryName;
use crate::http_client::Request;
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy};
use crate::registry::{RegistryError, RegistryErrorKind};

/// Images on a page. zot has no limit of its own, and computes each page from the whole list.
const PAGE: usize = 5000;
/// Most pages of one repository: a longer list is a loop.
const MAX_PAGES: usize = 2000;
/// Most reads of a list that changes meanwhile.
const MAX_READS: usize = 3;
/// Most bytes of an answer: a page of indexes with ten images each and what refers to them.
const MAX_BYTES: usize = 128 << 20;

/// The fields of an image that zot had only later: with 2.1.2, and the time of a tag since 2026.
const NEWER_FIELDS: [&str; 3] = ["TaggedTimestamp", "PushTimestamp", "LastPullTimestamp"];

/// The fields of an image that every release has.
const FIELDS: &str = "RepoName Tag Digest MediaType ArtifactType Size DownloadCount Referrers{Digest MediaType} \
                      Manifests{Digest ConfigDigest Size DownloadCount Platform{Os} Referrers{Digest MediaType}}";

/// The search extension of one registry.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The newer fields that this release does not have, one bit each.
    missing_fields: AtomicU8,
}

impl Search {
    /// Returns all images of a repository that the extension lists.
    ///
    /// # Errors
    /// Returns an error if the extension does not answer, or not about this repository. A list that changes each time that
    /// it is read does not fail: the list of tags that belongs to it shows what is missing.
    pub(super) async fn images(
        &self,
        http: &HttpConnection,
        name: &RepositoryName,
    ) -> Result<Vec<WireImage>, RegistryError> {
        let mut last = Vec::new();
        for _ in 0..MAX_READS {
            let mut rows: Vec<WireImage> = Vec::new();
            let mut totals = Vec::new();
            for _ in 0..MAX_PAGES {
                let page = self.page(http, name, rows.len()).await?;
                if let Some(foreign) = page.results.iter().find(|row| row.repo_name != name.as_str()) {
                    let message = format!("{name}: the search of zot answers with images of {}", foreign.repo_name);
                    return Err(RegistryError::new(RegistryErrorKind::Malformed, message));
                }
                let is_last = page.results.len() < PAGE;
                totals.push(page.page.total_count);
                rows.extend(page.results);
                if is_last {
                    break;
                }
            }
            let is_whole = totals.iter().all(|total| *total == rows.len());
            last = rows;
            if is_whole {
                break;
            }
        }
        Ok(last)
    }

    async fn page(
        &self,
        http: &HttpConnection,
        name: &RepositoryName,
        offset: usize,
    ) -> Result<WirePage, RegistryError> {
        loop {
            let missing = self.missing_fields.load(Ordering::Relaxed);
            let newer = (0..).zip(NEWER_FIELDS).filter(|(bit, _)| missing >> bit & 1 == 0);
            let newer: String = newer.flat_map(|(_, field)| [" ", field]).collect();
            let query = format!(
                "{{ImageList(repo:\"{name}\",requestedPage:{{limit:{PAGE},offset:{offset},sortBy:ALPHABETIC_ASC}})\
                 {{Page{{TotalCount}} Results{{{FIELDS}{newer}}}}}}}"
            );
            let answer = ask(http, name, &query).await?;
            let unknown = answer.errors.iter().filter_map(|error| error.unknown_field());
            let unknown = unknown.filter_map(|field| NEWER_FIELDS.iter().position(|newer| *newer == field));
            let unknown = unknown.fold(0, |bits, bit| bits | 1 << bit);
            if unknown & !missing != 0 {
                self.missing_fields.fetch_or(unknown, Ordering::Relaxed);
                continue;
            }
            return parse(answer, name, "ImageList");
        }
    }
}

/// Returns true if the identity may delete every image of a repository, false if it may not, and `None` if this release does
/// not show it.
///
/// # Errors
/// Returns an error if the extension does not answer.
pub(super) async fn may_delete(http: &HttpConnection, name: &RepositoryName) -> Result<Option<bool>, RegistryError> {
    let query = format!("{{ExpandedRepoInfo(repo:\"{name}\"){{Images{{IsDeletable}}}}}}");
    let answer = ask(http, name, &query).await?;
    if answer.errors.iter().any(|error| error.unknown_field().is_some()) {
        return Ok(None);
    }
    let found: Value = parse(answer, name, "ExpandedRepoInfo")?;
    let shown: Option<Vec<bool>> = found["Images"]
        .as_array()
        .and_then(|images| images.iter().map(|image| image["IsDeletable"].as_bool()).collect());
    Ok(shown.filter(|shown| !shown.is_empty()).map(|shown| shown.into_iter().all(|may| may)))
}

async fn ask(http: &HttpConnection, name: &RepositoryName, query: &str) -> Result<WireAnswer, RegistryError> {
    let mut url = http.url(SEARCH_PATH);
    url.query_pairs_mut().append_pair("query", query);
    let request = Request::get(url, "application/json", MAX_BYTES);
    let response = http.read(&TokenScope::List(name.clone()), request, RedirectPolicy::SameOrigin).await?;
    match response.status {
        // GraphQL answers a question that is not valid with 422.
        StatusCode::OK | StatusCode::UNPROCESSABLE_ENTITY if !response.is_web_page() => response.parse_json(),
        StatusCode::OK => Err(response.malformed("the search of zot answers in JSON")),
        _ => Err(response.status_error()),
    }
}

/// Returns the answer to a question. One with errors may be a part of the answer only.
fn parse<T: serde::de::DeserializeOwned>(
    mut answer: WireAnswer,
    name: &RepositoryName,
    question: &str,
) -> Result<T, RegistryError> {
    let malformed = |why: &str| {
        let message = format!("{name}: the search extension of zot did not answer `{question}`: {why}");
        RegistryError::new(RegistryErrorKind::Malformed, message)
            .with_help("look into the log of zot; kind = \"distribution\" does without its extension")
    };
    if let Some(error) = answer.errors.first() {
        return Err(malformed(&error.message()));
    }
    serde_json::from_value(answer.data[question].take())
        .map_err(|error| malformed("it is not understood").caused_by(error))
}
