//! The list of a package's versions, read whole.
//!
//! Pages are numbered, so a version that comes or goes while they are read moves others from one page to the next, and one
//! may be met on none. That matters: an index that was not seen could list anything. So the number of versions and the newest
//! of them are looked at before and after, and the list counts only if nothing changed in between, and if it has as many
//! versions as GitHub counts in the package.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::StatusCode;
use http::header::LINK;
use serde_json::Value;
use url::Url;

use super::api::GhcrApi;
use super::wire::{self, Right, WirePackage, WireVersion};
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
    /// True if nothing changed around them, and the list told as many.
    is_steady: bool,
    /// The number of versions that the list itself told before and after; `None` if it did not.
    count: Option<u64>,
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
    /// Returns an error if the list could not be read completely, changed during each attempt, or has fewer versions than
    /// GitHub counts.
    pub(super) async fn list_versions(&self, name: &RepositoryName) -> Result<Vec<Row>, RegistryError> {
        let package = self.package_path(name).await?;
        let path = format!("{package}/versions");
        let mut counted = match self.shared.versions.count(name) {
            Some(count) => Some(count),
            None => self.count_versions(name, &package).await?,
        };
        let mut before: Option<Vec<Value>> = None;
        let mut short = None;
        for _ in 0..MAX_READS {
            let Reading { rows, is_steady, count } = self.read_versions(&path, counted).await?;
            let found = rows.len() as u64;
            // Where the list tells no number, it has to be the same twice.
            let is_same = is_steady || count.is_none() && before.as_ref() == Some(&rows);
            let is_settled = is_same && is_consistent(&rows);
            if is_settled && counted.is_some_and(|counted| found < counted) {
                // Some may have been deleted since they were counted.
                counted = self.count_versions(name, &package).await?.or(counted);
            }
            short = counted.max(count).filter(|count| found < *count).map(|count| (found, count));
            if is_settled && short.is_none() {
                let rows: Vec<Row> = rows.into_iter().map(parse).collect();
                let known = rows.iter().flatten().map(|(digest, version)| (digest.clone(), version.id));
                self.shared.versions.replace(name, known.collect::<BTreeMap<_, _>>());
                return Ok(rows);
            }
            before = Some(rows);
        }
        let why = match short {
            Some((found, count)) => format!(
                "it has {found} of the {count} versions that GitHub counts, and one that it leaves out may list any image; nothing \
                 is removed here until it has all of them"
            ),
            None => "versions came and went each time that it was read; run again when that is over".to_owned(),
        };
        let message = format!("the list of versions of {name} is not complete: {why}");
        Err(RegistryError::new(RegistryErrorKind::Malformed, message))
    }

    /// Asks GitHub for the number of a package's versions, and remembers it. `None` where GitHub does not say.
    async fn count_versions(&self, name: &RepositoryName, package: &str) -> Result<Option<u64>, RegistryError> {
        let response = self.fetch(package, &[]).await?;
        match response.status {
            StatusCode::OK => {
                let count = response.parse_json::<WirePackage>()?.version_count;
                self.shared.versions.note_count(name, count);
                Ok(count)
            }
            // The list of versions says the rest.
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND if !response.hits_github_limit() => Ok(None),
            _ => Err(wire::refusal(&response, Right::Read)),
        }
    }

    async fn read_versions(&self, path: &str, counted: Option<u64>) -> Result<Reading, RegistryError> {
        if counted.is_none_or(|count| count <= PAGE) {
            let first = self.page(path, 1).await?;
            if next_link(&first.headers).is_none() {
                let rows: Vec<Value> = first.parse_json()?;
                // One answer is of one instant. A full page without any link may have lost the one to the next.
                if (rows.len() as u64) < PAGE {
                    return Ok(Reading { rows, is_steady: true, count: None });
                }
            }
        }
        let opening = self.glance(path).await?;
        let first = self.page(path, 1).await?;
        let rows = self.all_pages(path, first, opening.count).await?;
        let closing = self.glance(path).await?;
        let as_many = closing.count.is_some_and(|count| count == rows.len() as u64);
        let is_steady = as_many && opening == closing && rows.first() == closing.newest.as_ref();
        Ok(Reading { rows, is_steady, count: opening.count.max(closing.count) })
    }

    /// Returns the rows of all pages: together where the first is as large as was asked for, else one after the other.
    async fn all_pages(&self, path: &str, first: Response, count: Option<u64>) -> Result<Vec<Value>, RegistryError> {
        let mut rows: Vec<Value> = first.parse_json()?;
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
            _ if (rows.len() as u64) < PAGE && next_link(&first.headers).is_none() => Ok(rows),
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
        // The one row without a link to others is all that there is, unless the links were lost on the way.
        let count = last_page(&response);
        Ok(Glance { count, newest: rows.into_iter().next() })
    }

    /// Returns the version of a digest as it is now; `None` if there is none. Never answered from what was listed before.
    ///
    /// # Errors
    /// Returns an error if GitHub cannot be asked. A 404 is believed only if the registry itself does not have the digest either.
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

    /// Returns true if GitHub still has a version of a digest that the registry does not give.
    ///
    /// # Errors
    /// When GitHub does not answer that.
    pub(super) async fn lists_version(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        if !self.shared.versions.knows(repository) {
            self.list_versions(repository).await?;
        }
        if self.shared.versions.id(repository, digest).is_some() {
            return Ok(self.version(repository, digest).await?.is_some());
        }
        pull::has_manifest(&self.registry, repository, digest).await
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
