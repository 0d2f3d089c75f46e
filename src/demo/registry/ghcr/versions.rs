//! Packages and their versions: lists, looks, deletions and restores.

use axum::body::Bytes;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::access::{JSON, Problem, paginate};
use super::route::{PREFIX, PackageRoute};
use super::{GhcrService, GithubToken};
use crate::demo::registry::api_request::ApiRequest;
use crate::demo::registry::content::{Content, Manifest, Reference};
use crate::demo::registry::response::json_response;
use crate::domain::Digest;

/// The time for which GitHub keeps what was deleted.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);
/// The downloads up to which a version of a public package can be deleted.
const MOST_DOWNLOADS: u64 = 5000;

/// A deleted version.
#[derive(Debug)]
pub(super) struct DeletedVersion {
    repository: String,
    id: u64,
    digest: Digest,
    tags: Vec<String>,
    media_type: String,
    bytes: Bytes,
    dates: (Timestamp, Timestamp),
    deleted_at: Timestamp,
}

impl GhcrService {
    pub(super) fn packages(
        &mut self,
        route: &PackageRoute,
        call: &ApiRequest<'_>,
        (token, owner): (&GithubToken, &str),
        (url, linked): (&str, &str),
        content: &mut Content,
    ) -> Result<Response, Problem> {
        let missing = || Problem::not_found("Package not found.");
        let name = match route {
            PackageRoute::List => return self.list_packages(call, (token, owner), (url, linked), content),
            PackageRoute::Package { name }
            | PackageRoute::Versions { name }
            | PackageRoute::Version { name, .. }
            | PackageRoute::Restore { name, .. } => name,
        };
        let repository = format!("{owner}/{name}");
        let visible = token.has("read:packages") && !self.options.hidden.contains(&repository);
        if !visible || !content.has_repository(&repository) {
            return Err(missing());
        }
        match route {
            PackageRoute::List => Err(missing()),
            PackageRoute::Package { .. } => {
                Ok(json_response(StatusCode::OK, JSON, &self.package(&repository, url, content)))
            }
            PackageRoute::Versions { name } => {
                let path = format!("{linked}/container/{}/versions", name.replace('/', "%2F"));
                if call.query.get("state") == Some("deleted") {
                    let rows = self.deleted_versions(&repository, url);
                    return paginate(&rows, Clone::clone, call.query, (url, &path));
                }
                let rows = self.versions(&repository, content);
                let body = |(digest, manifest): &(&Digest, &Manifest)| self.version(&repository, digest, manifest, url);
                paginate(&rows, body, call.query, (url, &path))
            }
            PackageRoute::Version { id, .. } if *call.method == Method::DELETE => {
                self.delete_version((&repository, *id), token, content)
            }
            PackageRoute::Version { id, .. } => {
                let (digest, manifest) = self.find(&repository, *id, content).ok_or_else(missing)?;
                let body = self.version(&repository, &digest, manifest, url);
                Ok(json_response(StatusCode::OK, JSON, &body))
            }
            PackageRoute::Restore { id, .. } => self.restore_version((&repository, *id), token, content),
        }
    }

    fn list_packages(
        &self,
        call: &ApiRequest<'_>,
        (token, owner): (&GithubToken, &str),
        (url, linked): (&str, &str),
        content: &Content,
    ) -> Result<Response, Problem> {
        if token.scopes.is_none() {
            return Err(Problem::new(400, "Invalid argument."));
        }
        if !token.has("read:packages") {
            return Err(Problem::new(403, "You need at least read:packages scope to list packages."));
        }
        let own = format!("{owner}/");
        let names =
            content.repositories().filter(|name| name.starts_with(&own) && !self.options.hidden.contains(*name));
        let rows: Vec<&str> = names.collect();
        paginate(&rows, |name| self.package(name, url, content), call.query, (url, linked))
    }

    /// `package`.
    fn package(&self, repository: &str, url: &str, content: &Content) -> Value {
        let (owner, name) = repository.split_once('/').unwrap_or(("", repository));
        let visibility = if self.options.public.contains(repository) { "public" } else { "private" };
        let now = self.now().to_string();
        json!({
            "id": repository.len(),
            "name": name,
            "package_type": "container",
            "owner": { "login": owner },
            "version_count": content.manifests(repository).count(),
            "visibility": visibility,
            "url": format!("{url}{PREFIX}/orgs/{owner}/packages/container/{}", name.replace('/', "%2F")),
            "html_url": format!("{url}/orgs/{owner}/packages/container/package/{}", name.replace('/', "%2F")),
            "created_at": now,
            "updated_at": now,
        })
    }

    /// Returns the id of a version, which is new where the digest is.
    fn id(&mut self, repository: &str, digest: &Digest) -> u64 {
        if let Some(id) = self.known_id(repository, digest) {
            return id;
        }
        self.next_id += 1;
        self.ids.entry(repository.to_owned()).or_default().insert(digest.clone(), self.next_id);
        self.next_id
    }

    fn known_id(&self, repository: &str, digest: &Digest) -> Option<u64> {
        self.ids.get(repository)?.get(digest).copied()
    }

    fn dates(&self, repository: &str, digest: &Digest, manifest: &Manifest) -> (Timestamp, Timestamp) {
        let known = self.dates.get(repository).and_then(|dates| dates.get(digest));
        known.copied().unwrap_or((manifest.created, manifest.created.max(manifest.updated)))
    }

    /// Returns the versions of a package, the newest first.
    fn versions<'a>(&mut self, repository: &str, content: &'a Content) -> Vec<(&'a Digest, &'a Manifest)> {
        let mut found: Vec<(&Digest, &Manifest)> = content.manifests(repository).collect();
        for (digest, _) in &found {
            self.id(repository, digest);
        }
        found.sort_by_cached_key(|(digest, manifest)| {
            let created = self.dates(repository, digest, manifest).0;
            std::cmp::Reverse((created, self.known_id(repository, digest)))
        });
        found
    }

    /// `package-version`.
    fn version(&mut self, repository: &str, digest: &Digest, manifest: &Manifest, url: &str) -> Value {
        let id = self.id(repository, digest);
        let tags: Vec<String> = manifest.tags.iter().map(ToString::to_string).collect();
        version_body((repository, id), digest, &tags, self.dates(repository, digest, manifest), url)
    }

    fn deleted_versions(&self, repository: &str, url: &str) -> Vec<Value> {
        let now = self.now();
        let kept = |version: &&DeletedVersion| now.duration_since(version.deleted_at) < KEPT;
        let own = self.deleted.iter().rev().filter(|version| version.repository == repository).filter(kept);
        own.map(|version| {
            let mut body = version_body((repository, version.id), &version.digest, &version.tags, version.dates, url);
            body["deleted_at"] = json!(seconds(version.deleted_at));
            body
        })
        .collect()
    }

    fn find<'a>(&self, repository: &str, id: u64, content: &'a Content) -> Option<(Digest, &'a Manifest)> {
        let (digest, _) = self.ids.get(repository)?.iter().find(|(_, own)| **own == id)?;
        Some((digest.clone(), content.manifest(repository, digest)?))
    }

    fn delete_version(
        &mut self,
        (repository, id): (&str, u64),
        token: &GithubToken,
        content: &mut Content,
    ) -> Result<Response, Problem> {
        if !token.has("delete:packages") {
            return Err(Problem::not_found("Package not found."));
        }
        if self.options.not_administered.contains(repository) {
            return Err(Problem::new(403, "Must have admin rights to the package."));
        }
        let found = self.find(repository, id, content);
        let (digest, manifest) = found.ok_or_else(|| Problem::not_found("Package version not found."))?;
        let downloads = self.options.downloads.get(&(repository.to_owned(), digest.clone())).copied().unwrap_or(0);
        if self.options.public.contains(repository) && downloads > MOST_DOWNLOADS {
            let message = "Publicly visible package versions with more than 5000 downloads cannot be deleted. Contact GitHub \
                           support for further assistance.";
            return Err(Problem::new(400, message));
        }
        let others = || content.manifests(repository).filter(|(other, _)| **other != digest);
        if others().next().is_none() {
            let message = "You cannot delete the last version of a package. You must delete the package instead.";
            return Err(Problem::new(400, message));
        }
        if !manifest.tags.is_empty() && others().all(|(_, other)| other.tags.is_empty()) {
            let message =
                "You cannot delete the last tagged version of a package. You must delete the package instead.";
            return Err(Problem::new(400, message));
        }
        self.deleted.push(DeletedVersion {
            repository: repository.to_owned(),
            id,
            digest: digest.clone(),
            tags: manifest.tags.iter().map(ToString::to_string).collect(),
            media_type: manifest.media_type.clone(),
            bytes: manifest.bytes.clone(),
            dates: self.dates(repository, &digest, manifest),
            deleted_at: self.now(),
        });
        content.delete_manifest(repository, &digest);
        self.ids.entry(repository.to_owned()).or_default().remove(&digest);
        self.dates.entry(repository.to_owned()).or_default().remove(&digest);
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// Brings a version back while GitHub keeps it and nothing else has its place. Its tags come along, wherever they are.
    fn restore_version(
        &mut self,
        (repository, id): (&str, u64),
        token: &GithubToken,
        content: &mut Content,
    ) -> Result<Response, Problem> {
        let missing = || Problem::not_found("Package version not found.");
        if !token.has("write:packages") {
            return Err(missing());
        }
        if self.options.not_administered.contains(repository) {
            return Err(Problem::new(403, "Must have admin rights to the package."));
        }
        let now = self.now();
        let kept = |version: &DeletedVersion| now.duration_since(version.deleted_at) < KEPT;
        let own = |version: &DeletedVersion| version.repository == repository && version.id == id;
        let at = self.deleted.iter().position(|version| own(version) && kept(version)).ok_or_else(missing)?;
        let version = &self.deleted[at];
        if content.manifest(repository, &version.digest).is_some() {
            return Err(missing());
        }
        let reference = Reference::Digest(version.digest.clone());
        let put = content.put_manifest(repository, &reference, &version.media_type, version.bytes.clone());
        put.map_err(|_| missing())?;
        let version = self.deleted.remove(at);
        if self.options.restores_tags {
            for tag in &version.tags {
                content.move_tag(repository, tag, &version.digest);
            }
        }
        self.dates.entry(repository.to_owned()).or_default().insert(version.digest.clone(), version.dates);
        self.ids.entry(repository.to_owned()).or_default().insert(version.digest, id);
        Ok(StatusCode::NO_CONTENT.into_response())
    }
}

fn version_body(
    (repository, id): (&str, u64),
    digest: &Digest,
    tags: &[String],
    (created, updated): (Timestamp, Timestamp),
    url: &str,
) -> Value {
    let (owner, name) = repository.split_once('/').unwrap_or(("", repository));
    let name = name.replace('/', "%2F");
    json!({
        "id": id,
        "name": digest.to_string(),
        "url": format!("{url}{PREFIX}/orgs/{owner}/packages/container/{name}/versions/{id}"),
        "package_html_url": format!("{url}/orgs/{owner}/packages/container/package/{name}"),
        "created_at": seconds(created),
        "updated_at": seconds(updated),
        "html_url": format!("{url}/orgs/{owner}/packages/container/{name}/{id}"),
        "metadata": { "package_type": "container", "container": { "tags": tags } },
    })
}

/// GitHub writes times without fractions.
fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
