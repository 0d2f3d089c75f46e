//! Reading: repositories, tags and manifests by Quay's own API.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use async_trait::async_trait;
use futures::{StreamExt, future, stream};
use http::StatusCode;

use super::wire::{self, Right, Row, WireListedRepository, WireManifest, WireRepositories, WireTag, WireTags};
use super::{repository_path, tags_path};
use crate::domain::{
    CompactTime, Digest, Gap, GapTarget, Manifest, ManifestDetail, ManifestState, RegistryInfo, RemovalObstacle,
    Repository, RepositoryName, Tag, TagName, TagState, UnlistedManifests, UnreadKind,
};
use crate::http_client::{Request, Response, RetryPolicy};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy};
use crate::registry::client::wire as manifests;
use crate::registry::client::{list_gaps, listed_manifests};
use crate::registry::{
    Catalogue, ContentCache, RawManifest, RegistryError, RegistryErrorKind, RegistryReader, RegistrySettings,
    RemovalRecord, RequestCounts, ServerTime,
};

/// Most bytes of an answer: a manifest as a text in JSON, with its layers once more beside it.
const MAX_BYTES: usize = 64 << 20;
/// Most pages of repositories: a longer list is a loop.
const MAX_PAGES: usize = 20_000;

/// Reads Quay.
#[derive(Debug)]
pub(super) struct QuayReader {
    pub(super) http: HttpConnection,
}

impl QuayReader {
    /// A reader by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// When the settings cannot work, such as a CA file that cannot be read.
    pub(super) fn new(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Self, RegistryError> {
        Ok(Self { http: HttpConnection::new(settings, retry_policy)? })
    }

    /// The answer to a GET below `/api/v1/`, whatever its status.
    pub(super) async fn get(
        &self,
        repository: Option<&RepositoryName>,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Response, RegistryError> {
        let mut url = self.http.url(&format!("/api/v1/{path}"));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let scope = repository.map_or(TokenScope::Catalogue, |name| TokenScope::List(name.clone()));
        self.http.read(&scope, Request::get(url, "application/json", MAX_BYTES), RedirectPolicy::SameOrigin).await
    }

    /// A page of the repositories of a namespace.
    async fn fetch_repositories(
        &self,
        namespace: &str,
        next_page: Option<&str>,
    ) -> Result<WireRepositories, RegistryError> {
        let mut query = vec![("namespace", namespace), ("public", "true")];
        query.extend(next_page.map(|token| ("next_page", token)));
        let response = self.get(None, "repository", &query).await?;
        match response.status {
            StatusCode::OK => response.parse_json(),
            _ => Err(wire::refusal(&response, Right::Read)),
        }
    }

    /// The first repositories that a namespace lists, of its first page that has any.
    pub(super) async fn first_repositories(
        &self,
        namespace: &str,
        most: usize,
    ) -> Result<Vec<RepositoryName>, RegistryError> {
        let mut next_page = None::<String>;
        for _ in 0..MAX_PAGES {
            let page = self.fetch_repositories(namespace, next_page.as_deref()).await?;
            let held = page.repositories.iter().filter(|row| holds_images(row) && row.namespace == namespace);
            let names: Vec<RepositoryName> = held.filter_map(|row| full_name(row).parse().ok()).take(most).collect();
            if !names.is_empty() || page.next_page.is_none() || page.next_page == next_page {
                return Ok(names);
            }
            next_page = page.next_page;
        }
        Ok(Vec::new())
    }

    /// Adds the repositories of a namespace to the catalogue.
    async fn list_repositories(&self, namespace: &str, catalogue: &mut Catalogue) -> Result<(), RegistryError> {
        let mut visited = HashSet::new();
        let mut next_page = None::<String>;
        loop {
            let page = self.fetch_repositories(namespace, next_page.as_deref()).await?;
            for row in page.repositories.iter().filter(|row| holds_images(row)) {
                let name = full_name(row);
                match name.parse() {
                    Ok(name) if row.namespace == namespace => catalogue.repositories.push(name),
                    Ok(name) => catalogue.gaps.push(foreign_repository(namespace, &name)),
                    Err(error) => {
                        let error: crate::domain::InvalidName = error;
                        catalogue.gaps.push(list_gaps::invalid_repository(&name, &error));
                    }
                }
            }
            let Some(token) = page.next_page else { return Ok(()) };
            if visited.len() >= MAX_PAGES || !visited.insert(token.clone()) {
                let message = format!("the list of repositories of namespace {namespace} leads in a circle");
                return Err(RegistryError::new(RegistryErrorKind::Malformed, message));
            }
            next_page = Some(token);
        }
    }
}

#[async_trait]
impl RegistryReader for QuayReader {
    fn settings(&self) -> &RegistrySettings {
        &self.http.settings
    }

    fn identity(&self) -> String {
        self.http.identity()
    }

    fn request_counts(&self) -> RequestCounts {
        self.http.request_counts()
    }

    async fn catalogue(&self) -> Result<Catalogue, RegistryError> {
        let settings = &self.http.settings;
        let mut catalogue = Catalogue { repositories: settings.repositories.clone(), gaps: Vec::new() };
        if !catalogue.repositories.is_empty() {
            return Ok(catalogue);
        }
        let mut errors = Vec::new();
        for namespace in &settings.namespaces {
            if let Err(error) = self.list_repositories(namespace, &mut catalogue).await {
                errors.push(error);
            }
        }
        if let (true, Some(first)) = (catalogue.repositories.is_empty(), errors.first()) {
            return Err(first.clone());
        }
        catalogue.gaps.extend(errors.into_iter().map(|error| error.into_gap(GapTarget::Catalogue)));
        Ok(catalogue)
    }

    /// By the list of tags alone. What a manifest refers to, and in older versions what an index lists, is left unread.
    async fn repository(&self, name: &RepositoryName, _: &BTreeSet<Digest>, _: &dyn ContentCache) -> Repository {
        let mut repository = Repository::empty(name.clone());
        let rows = match self.list_tags(name).await {
            Ok(Some(rows)) => rows,
            Ok(None) => {
                let named = self.http.settings.repositories.contains(name);
                repository.gaps.extend(named.then(|| unknown_repository(name).into_gap(GapTarget::TagList)));
                return repository;
            }
            Err(error) => {
                repository.gaps.push(error.into_gap(GapTarget::TagList));
                return repository;
            }
        };
        repository.unlisted = UnlistedManifests::InListedIndexes;
        for row in rows {
            add_row(&mut repository, row);
        }
        repository.tags.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        listed_manifests::add_children(&mut repository);
        repository.gaps.sort();
        repository
    }

    async fn read_manifests(&self, repository: &mut Repository, digests: &BTreeSet<Digest>, cache: &dyn ContentCache) {
        listed_manifests::read_listed(self, repository, digests, cache).await;
    }

    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError> {
        let rows = self.list_tags(repository).await?.ok_or_else(|| unknown_repository(repository))?;
        let mut names = Vec::with_capacity(rows.len());
        for row in rows {
            match row {
                Ok((name, _)) => names.push(name),
                Err(odd) => {
                    let message = list_gaps::invalid_tag(&odd.name, &odd.why).message.to_string();
                    return Err(RegistryError::new(RegistryErrorKind::Malformed, message));
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// By the question for one tag: the whole list may change while a run removes tags.
    async fn lists_tag(&self, repository: &RepositoryName, tag: &TagName) -> Result<bool, RegistryError> {
        let history = self.history(repository, tag, true).await?.ok_or_else(|| unknown_repository(repository))?;
        Ok(!history.rows.is_empty())
    }

    async fn verify_readable(&self, repository: &RepositoryName) -> Result<(), RegistryError> {
        let query = [("limit", "1"), ("onlyActiveTags", "true")];
        let response = self.get(Some(repository), &tags_path(repository), &query).await?;
        match response.status {
            StatusCode::OK => response.parse_json::<WireTags>().map(drop),
            _ if wire::is_absence(&response) => Err(unknown_repository(repository)),
            _ => Err(wire::refusal(&response, Right::Read)),
        }
    }

    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError> {
        let rows = self.history(repository, tag, true).await?.map(|history| history.rows).unwrap_or_default();
        let Some(row) = rows.first() else { return Ok(None) };
        let digest = row.digest().ok_or_else(|| list_gaps::missing_digest(repository, tag))?;
        if rows.len() > 1 {
            let message = format!("{repository}:{tag} is listed {} times at once", rows.len());
            return Err(RegistryError::new(RegistryErrorKind::Malformed, message));
        }
        Ok(Some(TagState { digest, pushed_at: row.pushed_at(), lock: row.lock() }))
    }

    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        self.manifest(repository, digest).await.map(|found| found.is_some())
    }

    /// Quay shows a manifest only as long as a tag leads to it; in the time machine the tag's own history tells.
    async fn keeps_removed(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        let wanted = digest.to_string();
        let rows = self.history(repository, tag, false).await?.map(|history| history.rows).unwrap_or_default();
        Ok(rows.iter().any(|row| row.manifest_digest.as_deref() == Some(&*wanted)))
    }

    async fn removal_record(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        planned: &Digest,
    ) -> Result<Option<RemovalRecord>, RegistryError> {
        self.read_removal_record(repository, tag, planned).await.map(Some)
    }

    fn hides_untagged(&self) -> bool {
        true
    }

    fn expires_companions(&self) -> bool {
        true
    }

    fn deletes_untagged_at_once(&self) -> bool {
        true
    }

    async fn manifest_state(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestState>, RegistryError> {
        Err(unsupported(&format!("has no question for the tags of {digest} of {repository}")))
    }

    async fn referrers(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Digest>, RegistryError> {
        Err(unsupported(&format!("does not tell by its API what refers to {digest} of {repository}")))
    }

    /// By the API, which counts as no pull.
    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RawManifest>, RegistryError> {
        let path = format!("{}/manifest/{digest}", repository_path(repository));
        let response = self.get(Some(repository), &path, &[]).await?;
        match response.status {
            StatusCode::OK => {}
            _ if wire::is_absence(&response) => return Ok(None),
            _ => return Err(wire::refusal(&response, Right::Read)),
        }
        let WireManifest { manifest_data } = response.parse_json()?;
        let bytes = manifest_data.into_bytes();
        if !manifests::is_manifest_of(digest, &bytes) {
            let found = Digest::of(&bytes);
            let message = format!(
                "{} answered with {} bytes that are not {digest}: they are {found}",
                response.request,
                bytes.len()
            );
            return Err(RegistryError::new(RegistryErrorKind::DigestMismatch, message));
        }
        let media_type = manifests::media_type(None, &bytes);
        Ok(Some(RawManifest { digest: digest.clone(), media_type, bytes: bytes.into() }))
    }

    async fn registry_info(&self) -> Result<Option<RegistryInfo>, RegistryError> {
        self.read_cleanup_rules().await.map(Some)
    }

    /// Quay says of a repository whether the token may write to it, and whether anyone may.
    async fn missing_rights(&self, repositories: &[RepositoryName]) -> BTreeMap<RepositoryName, RemovalObstacle> {
        let asked = repositories.iter().map(|name| async move {
            let obstacle = match self.fetch_repository(name).await {
                Ok(Some(found)) => obstacle(name, &found),
                // Its tags are not there any more either.
                Ok(None) => None,
                Err(error) if error.kind == RegistryErrorKind::Denied => {
                    Some(RemovalObstacle::Denied { message: error.chain() })
                }
                Err(error) => Some(RemovalObstacle::CheckFailed { message: error.chain() }),
            };
            (name.clone(), obstacle)
        });
        let asked: Vec<_> = asked.collect();
        let found = stream::iter(asked).buffer_unordered(self.http.settings.concurrency.max(1));
        found.filter_map(|(name, obstacle)| future::ready(obstacle.map(|obstacle| (name, obstacle)))).collect().await
    }

    fn server_time(&self) -> Option<ServerTime> {
        self.http.server_time()
    }

    fn invalid_date_header(&self) -> Option<&'static str> {
        self.http.invalid_date_header()
    }
}

/// Returns the reason for which nothing can be removed from a repository, as Quay reports it.
fn obstacle(name: &RepositoryName, found: &wire::WireRepository) -> Option<RemovalObstacle> {
    let message = match found.state.as_deref() {
        Some("NORMAL") if found.can_write == Some(true) => return None,
        Some("NORMAL") | None if found.can_write == Some(false) => format!(
            "the access token may not remove tags from {name}: it needs the scope `repo:write`, and its user Write on the \
             repository"
        ),
        Some("READ_ONLY") => format!("{name} is read-only in Quay; set its state to normal if tags are to be removed"),
        Some("MIRROR" | "ORG_MIRROR") => format!("{name} is a mirror, whose tags Quay itself puts and removes"),
        // Whoever may not write sees no other state.
        state => format!(
            "Quay does not say that tags of {name} can be removed (state {}, `can_write` {})",
            state.unwrap_or("missing"),
            found.can_write.map_or("missing", |may| if may { "true" } else { "false" }),
        ),
    };
    Some(RemovalObstacle::Denied { message })
}

/// Returns false for applications, and for repositories that Quay is about to delete.
fn holds_images(row: &WireListedRepository) -> bool {
    row.kind.as_deref().is_none_or(|kind| kind == "image") && row.state.as_deref() != Some("MARKED_FOR_DELETION")
}

fn full_name(row: &WireListedRepository) -> String {
    format!("{}/{}", row.namespace, row.name)
}

/// Puts a row into the repository: the tag, and its manifest as far as the list tells it.
fn add_row(repository: &mut Repository, row: Row) {
    let (name, row) = match row {
        Ok(row) => row,
        Err(odd) => return repository.gaps.push(list_gaps::invalid_tag(&odd.name, &odd.why)),
    };
    let digest: Option<Digest> = row.manifest_digest.as_deref().and_then(|text| text.parse().ok());
    let tag = Tag {
        name,
        digest: digest.clone(),
        pushed_at: row.pushed_at().map(CompactTime::from),
        first_seen: None,
        lock: row.lock(),
    };
    if let Some(digest) = digest {
        repository.manifests.entry(digest).or_insert_with(|| listed_manifest(&row));
    } else {
        let gap = list_gaps::missing_digest(&repository.name, &tag.name).into_gap(GapTarget::Tag(tag.name.clone()));
        repository.gaps.push(gap);
    }
    repository.tags.push(tag);
}

/// A manifest as the list of tags describes it. The list leaves out its subject, so it counts as unread in any case.
fn listed_manifest(row: &WireTag) -> Manifest {
    let children = row.child_manifests_presence.as_ref().filter(|_| row.is_manifest_list == Some(true));
    // A child that cannot be understood leaves the whole index unread.
    let children: Option<Vec<Digest>> = children.and_then(|found| found.keys().map(|text| text.parse().ok()).collect());
    let kind = match (row.is_manifest_list, &children) {
        (Some(false), _) | (Some(true), Some(_)) => UnreadKind::Artifact,
        (Some(true) | None, _) => UnreadKind::Index,
    };
    let detail = ManifestDetail::Unread { image_size: row.size, kind };
    Manifest { children: children.unwrap_or_default(), ..listed_manifests::listed_manifest("", detail) }
}

fn unknown_repository(repository: &RepositoryName) -> RegistryError {
    let message = format!(
        "Quay knows no repository {repository} that the access token may see; if it stands in `repositories`, is it \
         spelled right?"
    );
    RegistryError::new(RegistryErrorKind::NotFound, message)
}

fn foreign_repository(namespace: &str, name: &RepositoryName) -> Gap {
    let message = format!("the list of namespace {namespace} names {name}, which is of another one");
    RegistryError::new(RegistryErrorKind::Malformed, message).into_gap(GapTarget::Catalogue)
}

fn unsupported(what: &str) -> RegistryError {
    RegistryError::new(RegistryErrorKind::Unsupported, format!("Quay {what}"))
}
