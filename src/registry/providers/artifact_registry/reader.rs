//! Reading: repositories, images and manifests of Artifact Registry.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use jiff::Timestamp;

use super::address::{Image, last_part};
use super::api::ArtifactApi;
use super::image_lists::SharedLists;
use super::images::{Images, IndexLists, named_version};
use super::repositories::{Repositories, named_catalogue};
use super::wire::{MAX_RELATED_TAGS, Right, WireTag, WireVersion};
use crate::domain::{
    Digest, GapTarget, InvalidName, Lock, ManifestState, RegistryInfo, RemovalObstacle, Repository, RepositoryName,
    TagName, TagState,
};
use crate::http_client::RetryPolicy;
use crate::registry::client::auth::TokenScope;
use crate::registry::client::manifest_graph::read_cached_manifest;
use crate::registry::client::{list_gaps, listed_manifests, pull};
use crate::registry::{
    Catalogue, ContentCache, RawManifest, RegistryError, RegistryErrorKind, RegistryReader, RegistrySettings,
    RequestCounts, ServerTime,
};

/// Reads Artifact Registry.
#[derive(Debug)]
pub(super) struct ArtifactReader {
    pub(super) api: ArtifactApi,
    repositories: Repositories,
    shared: SharedLists,
}

impl ArtifactApi {
    /// Returns the image that a name stands for.
    ///
    /// # Errors
    /// Returns an error if it has too few parts.
    pub(super) fn image(&self, name: &RepositoryName) -> Result<Image, RegistryError> {
        self.place.image(name).ok_or_else(|| {
            let message = format!("{name} does not name an image of a repository of Artifact Registry");
            RegistryError::new(RegistryErrorKind::NotFound, message)
        })
    }

    /// Returns the digest that a tag is at now; `None` if there is no such tag.
    ///
    /// # Errors
    /// Returns an error if that is not known.
    pub(super) async fn tag_digest(
        &self,
        name: &RepositoryName,
        tag: &TagName,
    ) -> Result<Option<Digest>, RegistryError> {
        let (resource, scope) = (self.image(name)?.tag(tag), TokenScope::List(name.clone()));
        let Some(found) = self.get::<WireTag>(&scope, (&resource, &[]), Right::GetTag).await? else { return Ok(None) };
        let (_, digest) = named_version(&found).map_err(|_| list_gaps::missing_digest(name, tag))?;
        Ok(Some(digest))
    }

    /// Returns the version of a digest; `None` if there is none.
    ///
    /// # Errors
    /// Returns an error if that is not known.
    async fn version(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        view: &str,
    ) -> Result<Option<WireVersion>, RegistryError> {
        let (resource, scope) = (self.image(name)?.version(digest), TokenScope::List(name.clone()));
        self.get(&scope, (&resource, &[("view", view)]), Right::GetVersion).await
    }
}

/// The images of a name, as far as they are known.
enum Listed {
    Found {
        images: Box<Images>,
        immutable_tags: bool,
    },
    /// It is not there, and nobody said that it is.
    Missing,
    /// A gap says why.
    Unread(Box<Repository>),
}

impl ArtifactReader {
    /// A reader by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// Returns an error if the settings cannot work.
    pub(super) fn new(settings: RegistrySettings, retry_policy: RetryPolicy) -> Result<Self, RegistryError> {
        let api = ArtifactApi::new(settings, retry_policy)?;
        Ok(Self { api, repositories: Repositories::default(), shared: SharedLists::default() })
    }

    async fn images(&self, name: &RepositoryName) -> Listed {
        let read = async {
            let image = self.api.image(name)?;
            let Some(config) = self.repositories.config(&self.api, &image.repository).await? else { return Ok(None) };
            let images = self.api.list_images(&self.shared, (name, &image)).await?;
            Ok::<_, RegistryError>(images.map(|images| (images, config.immutable_tags)))
        };
        let named = self.api.settings.repositories.contains(name);
        let error = match read.await {
            Ok(Some((images, immutable_tags))) if !(named && images.is_empty()) => {
                return Listed::Found { images: Box::new(images), immutable_tags };
            }
            Ok(_) if named => unknown_image(name),
            Ok(_) => return Listed::Missing,
            Err(error) => error,
        };
        let mut repository = Repository::empty(name.clone());
        repository.gaps.push(error.into_gap(GapTarget::TagList));
        Listed::Unread(Box::new(repository))
    }

    /// Returns the lock of a tag: the tags of a repository are immutable, or not.
    async fn lock(&self, name: &RepositoryName) -> Result<Option<Lock>, RegistryError> {
        let image = self.api.image(name)?;
        let config = self.repositories.config(&self.api, &image.repository).await?;
        Ok(config.filter(|config| config.immutable_tags).map(|_| Lock::DeleteAndWrite))
    }
}

#[async_trait]
impl RegistryReader for ArtifactReader {
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
        if let Some(named) = named_catalogue(&self.api.settings.repositories) {
            return Ok(named);
        }
        let listed = self.repositories.catalogue(&self.api).await?;
        self.shared.announce(listed.packages);
        Ok(listed.catalogue)
    }

    /// By lists alone.
    async fn repository(&self, name: &RepositoryName, look_for: &BTreeSet<Digest>, _: &dyn ContentCache) -> Repository {
        match self.images(name).await {
            Listed::Found { images, immutable_tags } => {
                images.into_repository(name.clone(), look_for, (immutable_tags, IndexLists::Images))
            }
            Listed::Missing => Repository::empty(name.clone()),
            Listed::Unread(repository) => *repository,
        }
    }

    async fn repository_with_changes(
        &self,
        name: &RepositoryName,
        look_for: &BTreeSet<Digest>,
        _: &dyn ContentCache,
    ) -> (Repository, BTreeMap<Digest, Timestamp>) {
        match self.images(name).await {
            Listed::Found { images, immutable_tags } => {
                let changes = images.untagged_changes();
                let lists = (immutable_tags, IndexLists::Incomplete);
                (images.into_repository(name.clone(), look_for, lists), changes)
            }
            Listed::Missing => (Repository::empty(name.clone()), BTreeMap::new()),
            Listed::Unread(repository) => (*repository, BTreeMap::new()),
        }
    }

    /// By the registry API: the lists do not tell everything that is in an index, nor what an artifact refers to.
    async fn read_manifests(&self, repository: &mut Repository, digests: &BTreeSet<Digest>, cache: &dyn ContentCache) {
        repository.include_listed(digests);
        let name = &repository.name.clone();
        let wanted = digests.iter().filter(|digest| repository.manifests.contains_key(*digest)).cloned();
        let found: Vec<_> = stream::iter(wanted.collect::<Vec<_>>())
            .map(|digest| async move {
                let parsed = read_cached_manifest(cache, (name, &digest), self.manifest(name, &digest)).await;
                (digest, parsed)
            })
            .buffer_unordered(self.api.settings.concurrency.max(1))
            .collect()
            .await;
        let (mut read, mut missing) = (Vec::new(), BTreeSet::new());
        for (digest, parsed) in found {
            match parsed {
                Ok(Some(parsed)) => read.push((digest, parsed)),
                Ok(None) => drop(missing.insert(digest)),
                Err(error) => repository.gaps.push(error.into_gap(GapTarget::Manifest(digest))),
            }
        }
        listed_manifests::store_read(repository, read);
        list_gaps::drop_missing_manifests(self, repository, missing).await;
    }

    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError> {
        let image = self.api.image(repository)?;
        let rows = self.api.list_tags(repository, &image, &[]).await?.ok_or_else(|| unknown_image(repository))?;
        let mut names = Vec::with_capacity(rows.len());
        for row in rows {
            let text = row["name"].as_str().unwrap_or_default();
            let name = last_part(text, "tags").unwrap_or_else(|| text.to_owned());
            names.push(name.parse().map_err(|why: InvalidName| {
                let message = list_gaps::invalid_tag(&name, &why).message.to_string();
                RegistryError::new(RegistryErrorKind::Malformed, message)
            })?);
        }
        names.sort();
        Ok(names)
    }

    /// One request for the tag. Whether tags are immutable is as it was when the repository was read last; a removal is
    /// refused if that changed.
    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError> {
        let Some(digest) = self.api.tag_digest(repository, tag).await? else { return Ok(None) };
        Ok(Some(TagState { digest, pushed_at: None, lock: self.lock(repository).await? }))
    }

    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        self.api.version(repository, digest, "BASIC").await.map(|found| found.is_some())
    }

    async fn manifest_state(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestState>, RegistryError> {
        let Some(version) = self.api.version(repository, digest, "FULL").await? else { return Ok(None) };
        let mut names: Vec<Option<String>> =
            version.related_tags.iter().map(|tag| last_part(&tag.name, "tags")).collect();
        if names.len() >= MAX_RELATED_TAGS {
            let image = self.api.image(repository)?;
            let filter = format!("version=\"{}\"", image.version(digest));
            let rows = self.api.list_tags(repository, &image, &[("filter", &filter)]).await?.unwrap_or_default();
            names = rows.iter().map(|row| last_part(row["name"].as_str()?, "tags")).collect();
        }
        let tags: Option<Vec<TagName>> = names.into_iter().map(|name| name?.parse().ok()).collect();
        let tags = tags.ok_or_else(|| {
            let message = format!("{repository}: {digest} has a tag that cannot be understood");
            RegistryError::new(RegistryErrorKind::Malformed, message)
        })?;
        let lock = if tags.is_empty() { None } else { self.lock(repository).await? };
        Ok(Some(ManifestState { tags, lock, changed_at: version.create_time.known().max(version.update_time) }))
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

    async fn registry_info(&self) -> Result<Option<RegistryInfo>, RegistryError> {
        // From here on everything is read again.
        self.shared.announce(BTreeMap::new());
        self.repositories.read_info(&self.api).await.map(Some)
    }

    async fn missing_rights(&self, repositories: &[RepositoryName]) -> BTreeMap<RepositoryName, RemovalObstacle> {
        self.api.find_obstacles(&self.repositories, repositories).await
    }

    fn server_time(&self) -> Option<ServerTime> {
        self.api.http.server_time()
    }

    fn invalid_date_header(&self) -> Option<&'static str> {
        self.api.http.invalid_date_header()
    }
}

fn unknown_image(name: &RepositoryName) -> RegistryError {
    let message = format!(
        "Artifact Registry knows no image {name} that the identity may see; if it stands in `repositories`, is it spelled right?"
    );
    RegistryError::new(RegistryErrorKind::NotFound, message)
}
