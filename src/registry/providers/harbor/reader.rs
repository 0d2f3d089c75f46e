//! Reading: repositories, artifacts and manifests of Harbor.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use http::StatusCode;
use serde_json::Value;

use super::api::HarborReader;
use super::artifacts::Artifacts;
use super::keyset_list::KeysetList;
use super::wire::{self, Right, WireArtifact, WireRepository, WireTag};
use super::{API, artifact_path};
use crate::domain::{
    Digest, Gap, GapTarget, InvalidName, Manifest, ManifestState, RegistryInfo, RemovalObstacle, Repository,
    RepositoryName, TagName, TagState, UnreadKind,
};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::listed_manifests::{add_children, add_inner_indexes};
use crate::registry::client::manifest_graph::read_cached_manifest;
use crate::registry::client::{list_gaps, pull};
use crate::registry::{
    Catalogue, ContentCache, ParsedManifest, RawManifest, RegistryError, RegistryErrorKind, RegistryReader,
    RegistrySettings, RequestCounts, ServerTime,
};

impl HarborReader {
    /// Adds repositories to the catalogue: those of a project, or all that the account may see.
    async fn list_repositories(&self, project: Option<&str>, catalogue: &mut Catalogue) -> Result<(), RegistryError> {
        let path = match project {
            Some(project) => format!("{API}/projects/{project}/repositories"),
            None => format!("{API}/repositories"),
        };
        let key = ("repository_id", "id");
        let list = KeysetList { path, key, condition: None, parameters: &[], repository: None };
        let Some(rows) = self.read_list(&list).await? else {
            let message = format!("Harbor knows no project {} that the account may see", project.unwrap_or("at all"));
            return Err(RegistryError::new(RegistryErrorKind::NotFound, message).with_help("check `namespaces`"));
        };
        for row in rows {
            let shown = row["name"].as_str().map_or_else(|| row.to_string(), str::to_owned);
            let parsed = serde_json::from_value::<WireRepository>(row).map_err(|why| why.to_string());
            let name = parsed.and_then(|row| row.name.parse().map_err(|why: InvalidName| why.to_string()));
            match name {
                Ok(name) if is_in_project(&name, project) => catalogue.repositories.push(name),
                Ok(name) => catalogue.gaps.push(foreign_repository(project, &name)),
                Err(why) => catalogue.gaps.push(list_gaps::invalid_repository(&shown, &why)),
            }
        }
        Ok(())
    }

    /// An artifact by its digest or by one of its tags, without its accessories; `None` if there is none.
    async fn fetch_artifact(
        &self,
        repository: &RepositoryName,
        reference: &str,
        accessories: &str,
    ) -> Result<Option<WireArtifact>, RegistryError> {
        let query = [("with_tag", "true"), ("with_immutable_status", "true"), ("with_accessory", accessories)];
        let scope = TokenScope::List(repository.clone());
        let response = self.get(&scope, &artifact_path(repository, reference), &query).await?;
        match response.status {
            StatusCode::OK => response.parse_json().map(Some),
            _ if wire::is_absence(&response) => Ok(None),
            _ => Err(wire::refusal(&response, Right::Read)),
        }
    }

    /// The artifact of a digest, as the facts of a repository have it; `None` if there is none.
    async fn look_up(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<Artifacts>, RegistryError> {
        let Some(artifact) = self.fetch_artifact(name, &digest.to_string(), "true").await? else { return Ok(None) };
        let mut found = Artifacts::default();
        if artifact.digest != digest.to_string() || found.add(&artifact).is_err() {
            let message = format!("{name}: the answer about {digest} is not about it, or not understood");
            return Err(RegistryError::new(RegistryErrorKind::Malformed, message));
        }
        Ok(Some(found))
    }

    /// Looks up manifests that are looked for and not listed: an index may hold them that is itself held by another.
    async fn add_unlisted(&self, repository: &mut Repository, look_for: &BTreeSet<Digest>) {
        let missing = look_for.iter().filter(|digest| !repository.untagged.contains_key(*digest)).cloned();
        for digest in missing.collect::<Vec<_>>() {
            match self.look_up(&repository.name, &digest).await {
                Ok(Some(found)) => {
                    let pushed_at = found.rows.get(&digest).copied().flatten();
                    found.add_to(repository);
                    repository.untagged.insert(digest, pushed_at);
                }
                Ok(None) => {}
                Err(error) => repository.gaps.push(error.into_gap(GapTarget::Manifest(digest))),
            }
        }
    }

    /// Reads one manifest that was left unread: of an index Harbor tells by its API what it lists; of anything else only its
    /// bytes tell what it refers to. Returns false if it is not there.
    async fn read_unread(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        kind: Option<UnreadKind>,
        cache: &dyn ContentCache,
    ) -> Result<Option<ReadManifest>, RegistryError> {
        if kind == Some(UnreadKind::Index) {
            let Some(found) = self.look_up(name, digest).await? else { return Ok(None) };
            let open = found.manifests.get(digest).is_some_and(Manifest::is_unread)
                || found.loose.iter().any(|row| row.digest == *digest && row.kind.unread().is_some());
            if !open {
                return Ok(Some(ReadManifest::Listed(Box::new(found))));
            }
        }
        let parsed = read_cached_manifest(cache, (name, digest), self.manifest(name, digest)).await?;
        Ok(parsed.map(|parsed| ReadManifest::Whole(Box::new(parsed))))
    }
}

/// A manifest that was read.
enum ReadManifest {
    /// By Harbor's own list.
    Listed(Box<Artifacts>),
    /// By its bytes.
    Whole(Box<ParsedManifest>),
}

#[async_trait]
impl RegistryReader for HarborReader {
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
        self.require_account().await?;
        if settings.namespaces.is_empty() {
            self.list_repositories(None, &mut catalogue).await?;
            return Ok(catalogue);
        }
        let mut errors = Vec::new();
        for project in &settings.namespaces {
            if let Err(error) = self.list_repositories(Some(project), &mut catalogue).await {
                errors.push(error);
            }
        }
        if let (true, Some(first)) = (catalogue.repositories.is_empty(), errors.first()) {
            return Err(first.clone());
        }
        catalogue.gaps.extend(errors.into_iter().map(|error| error.into_gap(GapTarget::Catalogue)));
        Ok(catalogue)
    }

    /// By the list of artifacts alone.
    async fn repository(&self, name: &RepositoryName, look_for: &BTreeSet<Digest>, _: &dyn ContentCache) -> Repository {
        let mut repository = match self.list_artifacts(name).await {
            Ok(Some(artifacts)) => {
                artifacts.into_repository(name.clone(), look_for, self.http.settings.records_pulls())
            }
            Ok(None) => {
                let mut repository = Repository::empty(name.clone());
                let named = self.http.settings.repositories.contains(name);
                repository.gaps.extend(named.then(|| unknown_repository(name).into_gap(GapTarget::TagList)));
                return repository;
            }
            Err(error) => {
                let mut repository = Repository::empty(name.clone());
                repository.gaps.push(error.into_gap(GapTarget::TagList));
                return repository;
            }
        };
        self.add_unlisted(&mut repository, look_for).await;
        repository.gaps.sort();
        repository
    }

    async fn read_manifests(&self, repository: &mut Repository, digests: &BTreeSet<Digest>, cache: &dyn ContentCache) {
        repository.include_listed(digests);
        let name = &repository.name.clone();
        let wanted =
            digests.iter().filter_map(|digest| Some((digest.clone(), repository.manifests.get(digest)?.unread_kind())));
        let read: Vec<_> = stream::iter(wanted.collect::<Vec<_>>())
            .map(|(digest, kind)| async move {
                let read = self.read_unread(name, &digest, kind, cache).await;
                (digest, read)
            })
            .buffer_unordered(self.http.settings.concurrency.max(1))
            .collect()
            .await;
        let mut missing = BTreeSet::new();
        for (digest, read) in read {
            match read {
                Ok(Some(ReadManifest::Listed(found))) => found.add_to(repository),
                Ok(Some(ReadManifest::Whole(read))) => {
                    let ParsedManifest { manifest, children, artifact_type, .. } = *read;
                    add_inner_indexes(repository, &children);
                    let known = repository.manifests.get(&digest).and_then(|known| known.subject.clone());
                    let subject = manifest.subject.clone().or(known);
                    repository.artifact_types.insert(digest.clone(), artifact_type);
                    repository.manifests.insert(digest, Manifest { subject, created_at: None, ..manifest });
                }
                Ok(None) => drop(missing.insert(digest)),
                Err(error) => repository.gaps.push(error.into_gap(GapTarget::Manifest(digest))),
            }
        }
        add_children(repository);
        list_gaps::drop_missing_manifests(self, repository, missing).await;
    }

    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError> {
        let artifacts = self.list_artifacts(repository).await?.ok_or_else(|| unknown_repository(repository))?;
        if let Some(gap) = artifacts.gaps.iter().find(|gap| gap.may_hide_tag()) {
            return Err(RegistryError::new(RegistryErrorKind::Malformed, gap.message.to_string()));
        }
        Ok(artifacts.tags.into_iter().map(|listed| listed.tag.name).collect())
    }

    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError> {
        let Some(artifact) = self.fetch_artifact(repository, tag.as_str(), "false").await? else { return Ok(None) };
        let digest = artifact.digest.parse().map_err(|_| list_gaps::missing_digest(repository, tag))?;
        let tags: Vec<WireTag> =
            artifact.tags.into_iter().filter_map(|entry: Value| serde_json::from_value(entry).ok()).collect();
        let Some(found) = tags.iter().find(|found| found.name == tag.as_str()) else {
            let message = format!("{repository}: Harbor answers to tag {tag} with an artifact that has no such tag");
            return Err(RegistryError::new(RegistryErrorKind::Malformed, message));
        };
        Ok(Some(TagState { digest, pushed_at: found.push_time, lock: found.lock() }))
    }

    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        self.fetch_artifact(repository, &digest.to_string(), "false").await.map(|found| found.is_some())
    }

    fn deletes_index_contents(&self) -> bool {
        true
    }

    /// Harbor refuses to give images with vulnerabilities, or without a signature, where a project says so.
    fn may_withhold_manifests(&self) -> bool {
        true
    }

    async fn manifest_state(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestState>, RegistryError> {
        let Some(artifact) = self.fetch_artifact(repository, &digest.to_string(), "false").await? else {
            return Ok(None);
        };
        let mut tags = Vec::with_capacity(artifact.tags.len());
        let mut lock = None;
        for entry in artifact.tags {
            let tag: WireTag = serde_json::from_value(entry).map_err(|why| unclear_tag(repository, digest, &why))?;
            lock = lock.max(tag.lock());
            tags.push(tag.name.parse().map_err(|why: InvalidName| unclear_tag(repository, digest, &why))?);
        }
        Ok(Some(ManifestState { tags, lock, changed_at: artifact.push_time }))
    }

    async fn referrers(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Digest>, RegistryError> {
        let path = format!("{}/accessories", artifact_path(repository, &digest.to_string()));
        let list =
            KeysetList { path, key: ("id", "id"), condition: None, parameters: &[], repository: Some(repository) };
        let rows = self.read_list(&list).await?.unwrap_or_default();
        let digests = rows.iter().map(|row| row["digest"].as_str().unwrap_or_default().parse());
        digests.collect::<Result<_, _>>().map_err(|error: crate::domain::InvalidDigest| {
            let message = format!("{repository}: the accessories of {digest} list one that cannot be understood");
            RegistryError::new(RegistryErrorKind::Malformed, message).caused_by(error)
        })
    }

    /// By the registry API of Harbor, which counts as a pull: its own API gives no bytes.
    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RawManifest>, RegistryError> {
        pull::manifest(&self.http, repository, digest).await
    }

    async fn configuration(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        pull::configuration(&self.http, repository, digest).await
    }

    async fn registry_info(&self) -> Result<Option<RegistryInfo>, RegistryError> {
        self.read_registry_info().await.map(Some)
    }

    async fn missing_rights(&self, repositories: &[RepositoryName]) -> BTreeMap<RepositoryName, RemovalObstacle> {
        self.find_obstacles(repositories).await
    }

    fn server_time(&self) -> Option<ServerTime> {
        self.http.server_time()
    }

    fn invalid_date_header(&self) -> Option<&'static str> {
        self.http.invalid_date_header()
    }
}

fn is_in_project(name: &RepositoryName, project: Option<&str>) -> bool {
    name.as_str().split_once('/').is_some_and(|(own, _)| project.is_none_or(|project| project == own))
}

fn unknown_repository(repository: &RepositoryName) -> RegistryError {
    let message = format!(
        "Harbor knows no repository {repository} that the account may see; if it stands in `repositories`, is it spelled \
         right?"
    );
    RegistryError::new(RegistryErrorKind::NotFound, message)
}

fn foreign_repository(project: Option<&str>, name: &RepositoryName) -> Gap {
    let list = project.map_or_else(|| "the list of repositories".to_owned(), |project| format!("project {project}"));
    let message = format!("{list} names {name}, which is of another project or of none");
    RegistryError::new(RegistryErrorKind::Malformed, message).into_gap(GapTarget::Catalogue)
}

fn unclear_tag(repository: &RepositoryName, digest: &Digest, why: &dyn std::fmt::Display) -> RegistryError {
    let message = format!("{repository}: {digest} has a tag that cannot be understood: {why}");
    RegistryError::new(RegistryErrorKind::Malformed, message)
}
