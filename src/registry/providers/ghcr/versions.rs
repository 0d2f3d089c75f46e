//! The list of a package's versions, read whole.
//!
//! Pages are numbered, so a version that comes or goes while they are read moves others from one page to the next, and one
//! may be met on none. That matters: an index that was not seen could list anything. So the number of versions and the newest
//! of them are looked at before and after, and the list counts only if nothing changed in between.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::StatusCode;
use http::header::LINK;
use serde_json::Value;
use url::Url;

use super::api::GhcrApi;
use super::wire::{self, Right, WireVersion};
use crate::domain::{Digest, RepositoryName};
use crate::http_client::Response;
use crate::registry::client::pagination::next_link;
use crate::registry::client::pull;
use crate::registry::{RegistryError, RegistryErrorKind};

/// Most rows on a page.
pub(super) const PAGE: u64 = 100;
/// Most reads of a list in which versions come and go.
const MAX_READS: usize = 3;

/// A version, or why a row cannot be understood. Then it may be anything, under any tag.
pub(super) type Row = Result<(Digest, WireVersion), String>;

/// The rows of a list, and what was seen of it around them.
struct Reading {
    rows: Vec<Value>,
    is_whole: bool,
}

/// What one row tells of a list.
#[derive(Debug, PartialEq, Eq)]
struct Glance {
    /// The number of versions; `None` if GitHub does not say which page is the last.
    count: Option<u64>,
    newest: Option<Value>,
}

impl GhcrApi {
    /// Reads all versions of a package, and remembers their ids.
    ///
    /// # Errors
    /// When the list could not be read whole, or changed each time that it was read.
    pub(super) async fn list_versions(&self, name: &RepositoryName) -> Result<Vec<Row>, RegistryError> {
        let path = format!("{}/versions", self.package_path(name).await?);
        let mut before: Option<Vec<Value>> = None;
        for _ in 0..MAX_READS {
            let reading = self.read_versions(name, &path).await?;
            // Where GitHub does not count, the list has to be the same twice.
            if reading.is_whole || before.as_ref() == Some(&reading.rows) {
                let rows: Vec<Row> = reading.rows.into_iter().map(parse).collect();
                let known = rows.iter().flatten().map(|(digest, version)| (digest.clone(), version.id));
                self.shared.versions.replace(name, known.collect::<BTreeMap<_, _>>());
                return Ok(rows);
            }
            before = Some(reading.rows);
        }
        let message = format!(
            "the list of versions of {name} is not complete: versions came and went each time that it was read; run again when \
             that is over"
        );
        Err(RegistryError::new(RegistryErrorKind::Malformed, message))
    }

    async fn read_versions(&self, name: &RepositoryName, path: &str) -> Result<Reading, RegistryError> {
        if !self.shared.versions.is_large(name) {
            let first = self.page(path, 1).await?;
            if next_link(&first.headers).is_none() {
                // One answer is of one instant.
                let rows: Vec<Value> = first.parse_json()?;
                return Ok(Reading { is_whole: is_consistent(&rows), rows });
            }
        }
        let opening = self.glance(path).await?;
        let first = self.page(path, 1).await?;
        let rows = self.all_pages(path, first, opening.count).await?;
        let closing = self.glance(path).await?;
        let counted = closing.count.is_some_and(|count| usize::try_from(count).is_ok_and(|count| count == rows.len()));
        let is_whole = counted && opening == closing && is_consistent(&rows) && rows.first() == closing.newest.as_ref();
        Ok(Reading { rows, is_whole })
    }

    /// Returns the rows of all pages: together where the first is as large as was asked for, else one after the other.
    async fn all_pages(&self, path: &str, first: Response, count: Option<u64>) -> Result<Vec<Value>, RegistryError> {
        let mut rows: Vec<Value> = first.parse_json()?;
        if next_link(&first.headers).is_none() {
            return Ok(rows);
        }
        match count {
            Some(count) if rows.len() as u64 == PAGE => {
                let numbers = 2..=count.div_ceil(PAGE);
                let pages = stream::iter(numbers).map(|number| self.page(path, number));
                let pages: Vec<Response> = pages.buffered(self.settings.concurrency.max(1)).try_collect().await?;
                for page in pages {
                    rows.extend(page.parse_json::<Vec<Value>>()?);
                }
                Ok(rows)
            }
            _ => self.list(path, &[], Right::Read).await,
        }
    }

    async fn page(&self, path: &str, number: u64) -> Result<Response, RegistryError> {
        let (size, number) = (PAGE.to_string(), number.to_string());
        self.get(path, &[("per_page", &size), ("page", &number)], Right::Read).await
    }

    async fn glance(&self, path: &str) -> Result<Glance, RegistryError> {
        let response = self.get(path, &[("per_page", "1"), ("page", "1")], Right::Read).await?;
        let rows: Vec<Value> = response.parse_json()?;
        let count = match next_link(&response.headers) {
            None => Some(rows.len() as u64),
            Some(_) => last_page(&response),
        };
        Ok(Glance { count, newest: rows.into_iter().next() })
    }

    /// Returns the version of a digest as it is now; `None` if there is none. Never answered from what was listed before.
    ///
    /// # Errors
    /// When GitHub does not answer that. A 404 is believed only if the registry itself does not have the digest either.
    pub(super) async fn version(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<WireVersion>, RegistryError> {
        if let Some(id) = self.shared.versions.id(repository, digest) {
            let path = format!("{}/versions/{id}", self.package_path(repository).await?);
            let response = self.fetch(&path, &[]).await?;
            match response.status {
                StatusCode::OK => {
                    let (found, version) = parse(response.parse_json()?).map_err(|why| unclear(repository, &why))?;
                    if found == *digest {
                        return Ok(Some(version));
                    }
                }
                StatusCode::NOT_FOUND => {}
                _ => return Err(wire::refusal(&response, Right::Read)),
            }
            self.shared.versions.forget(repository, digest);
        }
        if !pull::has_manifest(&self.registry, repository, digest).await? {
            return Ok(None);
        }
        let mut listed = None;
        for row in self.list_versions(repository).await? {
            let (found, version) = row.map_err(|why| unclear(repository, &why))?;
            if found == *digest {
                listed = Some(version);
            }
        }
        listed.map(Some).ok_or_else(|| {
            let message = format!("{repository}: the registry has {digest}, and GitHub's API lists no version of it");
            RegistryError::new(RegistryErrorKind::Malformed, message)
        })
    }
}

/// Parses a row of a list.
pub(super) fn parse(row: Value) -> Row {
    let version: WireVersion = serde_json::from_value(row).map_err(|why| why.to_string())?;
    let digest: Digest =
        version.name.parse().map_err(|why: crate::domain::InvalidDigest| format!("{}: {why}", version.name))?;
    Ok((digest, version))
}

fn unclear(repository: &RepositoryName, why: &str) -> RegistryError {
    let message = format!("{repository}: GitHub describes a version in a way that is not understood: {why}");
    RegistryError::new(RegistryErrorKind::Malformed, message)
}

/// Returns true if no version and no tag is met twice, as they are when something moved while pages were read.
fn is_consistent(rows: &[Value]) -> bool {
    let (mut ids, mut tags) = (BTreeSet::new(), BTreeSet::new());
    rows.iter().all(|row| {
        let own = row["metadata"]["container"]["tags"].as_array().into_iter().flatten();
        ids.insert(row["id"].to_string()) && own.filter_map(Value::as_str).all(|tag| tags.insert(tag))
    })
}

/// Returns the number of the last page of a list, as its `Link` has it.
fn last_page(response: &Response) -> Option<u64> {
    let base: Url = "http://list.invalid".parse().ok()?;
    response.headers.get_all(LINK).iter().find_map(|value| {
        let links = value.to_str().ok()?;
        let link = links.split(',').find(|link| link.contains("rel=\"last\""))?;
        let target = base.join(link.split_once('<')?.1.split_once('>')?.0).ok()?;
        target.query_pairs().find_map(|(name, value)| (name == "page").then(|| value.parse().ok())?)
    })
}

#[cfg(test)]
mod tests {
    use http::header::HeaderMap;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_page_is_the_number_of_rows_on_pages_of_one() {
        for (link, expected) in [
            (
                "<https://api.github.com/o/versions?per_page=1&page=2>; rel=\"next\", \
                 <https://api.github.com/o/versions?per_page=1&page=345>; rel=\"last\"",
                Some(345),
            ),
            ("</versions?page=7>; rel=\"last\"", Some(7)),
            ("<https://api.github.com/o/versions?page=2>; rel=\"next\"", None),
            ("<https://api.github.com/o/versions?per_page=1>; rel=\"last\"", None),
            ("nonsense", None),
        ] {
            let headers: HeaderMap = [(LINK, link.parse().unwrap())].into_iter().collect();
            let response = Response { status: StatusCode::OK, headers, body: Vec::new(), request: String::new() };
            assert_eq!(last_page(&response), expected, "{link}");
        }
    }

    #[test]
    fn what_moved_between_pages_is_met_twice() {
        let row = |id: u64, tags: &[&str]| json!({ "id": id, "metadata": { "container": { "tags": tags } } });
        assert!(is_consistent(&[row(1, &["a"]), row(2, &[]), row(3, &["b", "c"])]));
        assert!(!is_consistent(&[row(1, &["a"]), row(2, &["a"])]));
        assert!(!is_consistent(&[row(1, &[]), row(1, &[])]));
    }

    #[test]
    fn a_version_without_its_tags_is_in_doubt() {
        let digest = Digest::of(b"one").to_string();
        let row = |metadata: Value| {
            let at = "2026-01-01T00:00:00Z";
            json!({ "id": 1, "name": digest, "created_at": at, "updated_at": at, "metadata": metadata })
        };
        assert!(parse(row(json!({ "package_type": "container", "container": { "tags": [] } }))).is_ok());
        for odd in [json!({ "package_type": "container" }), json!(null), json!({ "container": { "tags": [7] } })] {
            assert!(parse(row(odd.clone())).is_err(), "{odd}");
        }
        let mut other = row(json!({ "container": { "tags": [] } }));
        other["name"] = json!("1.0.4");
        assert!(parse(other).is_err(), "not a digest");
    }
}
