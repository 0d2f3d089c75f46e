//! Reading: repositories and tags by the API of Docker Hub, manifests by its registry.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures::{StreamExt, stream};

use super::api::HubApi;
use super::tags::TagList;
use crate::domain::{
    Digest, GapTarget, InvalidName, ManifestDetail, ManifestState, RemovalObstacle, Repository, RepositoryName,
    TagName, TagState, UnlistedManifests, UnreadKind,
};
use crate::registry::client::listed_manifests::{MediaTypes, listed_manifest, read_listed};
use crate::registry::client::tag_pattern::TagPattern;
use crate::registry::client::{list_gaps, pull};
use crate::registry::{
    Catalogue, ContentCache, RawManifest, RegistryError, RegistryErrorKind, RegistryReader, RegistrySettings,
    RequestCounts, ServerTime,
};

/// Reads Docker Hub.
#[derive(Debug)]
pub(super) struct HubReader {
    pub(super) api: HubApi,
}

impl HubReader {
    async fn read(&self, name: &RepositoryName, repository: &mut Repository) -> Result<(), RegistryError> {
        // Without it nobody knows which tags are immutable.
        let about = self.api.repository(name).await?;
        let rows = self.api.tags(name).await?;
        let (Some(about), Some(rows)) = (about, rows) else {
            let named = self.api.settings.repositories.contains(name);
            return if named { Err(unknown_repository(name)) } else { Ok(()) };
        };
        let immutable = about.immutable_tags();
        for pattern in immutable.iter().filter_map(TagPattern::unknown_text) {
            tracing::warn!(repository = %name, pattern, "the pattern of immutable tags is not understood, so every tag is locked");
        }
        let records_pulls = self.api.settings.records_pulls();
        let mut list = TagList {
            repository,
            types: MediaTypes::default(),
            immutable: &immutable,
            records_pulls,
            without_digest: Vec::new(),
        };
        for row in rows {
            list.add_row(row);
        }
        let unknown = std::mem::take(&mut list.without_digest);
        let found: Vec<_> = stream::iter(unknown)
            .map(|tag| async move { (pull::resolve(&self.api.registry, name, &tag).await, tag) })
            .buffer_unordered(self.api.settings.concurrency.max(1))
            .collect()
            .await;
        for (found, tag) in found {
            match found {
                Ok(Some(digest)) => {
                    let detail = ManifestDetail::Unread { image_size: None, kind: UnreadKind::Index };
                    repository.manifests.entry(digest.clone()).or_insert_with(|| listed_manifest("", detail));
                    if let Some(listed) = repository.tags.iter_mut().find(|listed| listed.name == tag) {
                        listed.digest = Some(digest);
                    }
                }
                Ok(None) => repository.gaps.push(list_gaps::vanished_tag(name, &tag)),
                Err(error) => repository.gaps.push(error.into_gap(GapTarget::Tag(tag))),
            }
        }
        for digest in repository.tags.iter().filter_map(|tag| tag.digest.as_ref()) {
            repository.attached.remove(digest);
        }
        repository.tags.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        repository.gaps.sort();
        Ok(())
    }

    async fn list_namespace(&self, namespace: &str, catalogue: &mut Catalogue) -> Result<(), RegistryError> {
        let Some(rows) = self.api.repositories(namespace).await? else {
            let message = format!("Docker Hub knows no namespace {namespace} that the account may see");
            return Err(RegistryError::new(RegistryErrorKind::NotFound, message).with_help("check `namespaces`"));
        };
        for row in rows {
            let own = row["name"].as_str().map_or_else(|| row.to_string(), str::to_owned);
            let full = format!("{namespace}/{own}");
            match full.parse() {
                Ok(name) => catalogue.repositories.push(name),
                Err(why) => {
                    let why: InvalidName = why;
                    catalogue.gaps.push(list_gaps::invalid_repository(&full, &why));
                }
            }
        }
        Ok(())
    }

    async fn obstacle(&self, name: &RepositoryName) -> Option<RemovalObstacle> {
        match self.api.repository(name).await {
            Ok(Some(about)) if about.may_write() == Some(false) => Some(RemovalObstacle::Denied {
                message: format!(
                    "Docker Hub does not allow {} to write to {name}: give it the permission `Read & Write`",
                    self.identity()
                ),
            }),
            Ok(_) => None,
            Err(error) => Some(RemovalObstacle::CheckFailed { message: error.chain() }),
        }
    }
}

#[async_trait]
impl RegistryReader for HubReader {
    fn settings(&self) -> &RegistrySettings {
        &self.api.settings
    }

    fn identity(&self) -> String {
        self.api.http.identity()
    }

    fn request_counts(&self) -> RequestCounts {
        self.api.http.request_counts()
    }

    async fn catalogue(&self) -> Result<Catalogue, RegistryError> {
        let settings = &self.api.settings;
        let mut catalogue = Catalogue { repositories: settings.repositories.clone(), gaps: Vec::new() };
        if !catalogue.repositories.is_empty() {
            return Ok(catalogue);
        }
        let mut errors = Vec::new();
        for namespace in &settings.namespaces {
            if let Err(error) = self.list_namespace(namespace, &mut catalogue).await {
                errors.push(error);
            }
        }
        if let (true, Some(first)) = (catalogue.repositories.is_empty(), errors.first()) {
            return Err(first.clone());
        }
        catalogue.gaps.extend(errors.into_iter().map(|error| error.into_gap(GapTarget::Catalogue)));
        Ok(catalogue)
    }

    /// By the list of tags, and what the repository says of immutable ones.
    async fn repository(&self, name: &RepositoryName, _: &BTreeSet<Digest>, _: &dyn ContentCache) -> Repository {
        let mut repository =
            Repository { unlisted: UnlistedManifests::InListedIndexes, ..Repository::empty(name.clone()) };
        if let Err(error) = self.read(name, &mut repository).await {
            repository = Repository::empty(name.clone());
            repository.gaps.push(error.into_gap(GapTarget::TagList));
        }
        repository
    }

    async fn read_manifests(&self, repository: &mut Repository, digests: &BTreeSet<Digest>, cache: &dyn ContentCache) {
        read_listed(self, repository, digests, cache).await;
    }

    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError> {
        let rows = self.api.tags(repository).await?.ok_or_else(|| unknown_repository(repository))?;
        let mut names = Vec::with_capacity(rows.len());
        for row in rows {
            let text = row["name"].as_str().unwrap_or_default();
            names.push(text.parse().map_err(|why: InvalidName| {
                let message = list_gaps::invalid_tag(text, &why).message.to_string();
                RegistryError::new(RegistryErrorKind::Malformed, message)
            })?);
        }
        names.sort();
        Ok(names)
    }

    /// By the tag alone, and by the list's first row if the tag is not found.
    async fn lists_tag(&self, repository: &RepositoryName, tag: &TagName) -> Result<bool, RegistryError> {
        self.api.has_tag(repository, tag).await?.ok_or_else(|| unknown_repository(repository))
    }

    async fn verify_readable(&self, repository: &RepositoryName) -> Result<(), RegistryError> {
        let answers = self.api.lists_tags(repository).await?;
        answers.then_some(()).ok_or_else(|| unknown_repository(repository))
    }

    /// By the registry, which is what clients see; its HEAD does not count as a pull.
    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError> {
        let digest = pull::resolve(&self.api.registry, repository, tag).await?;
        Ok(digest.map(|digest| TagState { digest, pushed_at: None, lock: None }))
    }

    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        pull::has_manifest(&self.api.registry, repository, digest).await
    }

    async fn manifest_state(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestState>, RegistryError> {
        let message = format!("Docker Hub has no question for the tags of {digest} of {repository}");
        Err(RegistryError::new(RegistryErrorKind::Unsupported, message))
    }

    async fn referrers(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Digest>, RegistryError> {
        pull::all_referrers(&self.api.registry, repository, digest).await
    }

    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RawManifest>, RegistryError> {
        pull::manifest(&self.api.registry, repository, digest).await
    }

    async fn configuration(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        pull::configuration(&self.api.registry, repository, digest).await
    }

    /// Each repository says what the account may do there.
    async fn missing_rights(&self, repositories: &[RepositoryName]) -> BTreeMap<RepositoryName, RemovalObstacle> {
        let asked: Vec<_> =
            repositories.iter().map(|name| async move { (name.clone(), self.obstacle(name).await) }).collect();
        stream::iter(asked)
            .buffer_unordered(self.api.settings.concurrency.max(1))
            .filter_map(|(name, obstacle)| async move { obstacle.map(|obstacle| (name, obstacle)) })
            .collect()
            .await
    }

    fn server_time(&self) -> Option<ServerTime> {
        self.api.http.server_time()
    }

    fn invalid_date_header(&self) -> Option<&'static str> {
        self.api.http.invalid_date_header()
    }
}

pub(super) fn unknown_repository(repository: &RepositoryName) -> RegistryError {
    let message = format!(
        "Docker Hub knows no repository {repository} that the account may see; if it stands in `repositories`, is it spelled \
         right?"
    );
    RegistryError::new(RegistryErrorKind::NotFound, message)
}
