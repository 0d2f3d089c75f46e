//! The reader of products that hold images in repositories with keys: what is the same in all of them.

use std::collections::BTreeSet;
use std::fmt::Debug;

use async_trait::async_trait;
use url::Url;

use super::keyed_images::{ImagePlace, KeyedApi};
use crate::domain::{Digest, GapTarget, InvalidName, ManifestState, Repository, RepositoryName, TagName, TagState};
use crate::registry::client::{list_gaps, listed_manifests, pull};
use crate::registry::{
    Catalogue, ContentCache, RawManifest, RegistryError, RegistryErrorKind, RegistryReader, RegistrySettings,
    RequestCounts, ServerTime,
};

/// What differs between these products: their lists of repositories and tags.
#[async_trait]
pub(super) trait KeyedProduct: Debug + Send + Sync {
    /// Returns the connection to its API.
    fn api(&self) -> &KeyedApi;

    /// Returns the path of the registry API for the repository with that key, below the address of the API.
    fn registry_path(&self, key: &str) -> String;

    /// Returns the keys of the repositories that hold images themselves, instead of showing those of others.
    ///
    /// # Errors
    /// Returns an error if they cannot be listed.
    async fn keys(&self) -> Result<Vec<String>, RegistryError>;

    /// Puts the tags of an image into its repository, with their manifests as far as the list tells them.
    ///
    /// # Errors
    /// Returns an error if the list cannot be read in full.
    async fn add_tags(&self, repository: &mut Repository) -> Result<(), RegistryError>;

    /// Returns the names of the tags of an image, as the list has them.
    ///
    /// # Errors
    /// Returns an error if the list cannot be read in full.
    async fn tag_names(&self, repository: &RepositoryName) -> Result<BTreeSet<String>, RegistryError>;

    /// Returns a tag's current state, or `None` if the tag does not exist.
    ///
    /// # Errors
    /// Returns an error if the product does not answer that.
    async fn tag_state(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError>;
}

/// Reads such a product.
#[derive(Debug)]
pub(super) struct KeyedReader<P>(pub(super) P);

impl<P: KeyedProduct> KeyedReader<P> {
    /// Returns the address of something in the registry API of an image.
    fn registry_url(&self, repository: &RepositoryName, rest: &str) -> Result<Url, RegistryError> {
        let api = self.0.api();
        let ImagePlace { key, image } = api.place(repository)?;
        Ok(api.url(&format!("{}/{image}/{rest}", self.0.registry_path(&key))))
    }

    fn unsupported(&self, what: &str) -> RegistryError {
        RegistryError::new(RegistryErrorKind::Unsupported, format!("{} is not asked {what}", self.0.api().product()))
    }
}

#[async_trait]
impl<P: KeyedProduct> RegistryReader for KeyedReader<P> {
    fn settings(&self) -> &RegistrySettings {
        &self.0.api().settings
    }

    fn identity(&self) -> String {
        self.0.api().http.identity()
    }

    fn request_counts(&self) -> RequestCounts {
        self.0.api().http.request_counts()
    }

    async fn catalogue(&self) -> Result<Catalogue, RegistryError> {
        let RegistrySettings { repositories, namespaces, .. } = self.settings();
        if !repositories.is_empty() {
            return Ok(Catalogue { repositories: repositories.clone(), gaps: Vec::new() });
        }
        let keys = if namespaces.is_empty() { self.0.keys().await? } else { namespaces.clone() };
        self.0.api().images(&keys, |key| format!("{}/_catalog", self.0.registry_path(key))).await
    }

    /// By the list of tags alone. What manifests list and refer to is left unread.
    async fn repository(&self, name: &RepositoryName, _: &BTreeSet<Digest>, _: &dyn ContentCache) -> Repository {
        let mut repository = Repository::empty(name.clone());
        if let Err(error) = self.0.add_tags(&mut repository).await {
            repository.gaps.push(error.into_gap(GapTarget::TagList));
        }
        repository.tags.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        repository.gaps.sort();
        repository
    }

    async fn read_manifests(&self, repository: &mut Repository, digests: &BTreeSet<Digest>, cache: &dyn ContentCache) {
        listed_manifests::read_listed(self, repository, digests, cache).await;
    }

    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<TagName>, RegistryError> {
        let names = self.0.tag_names(repository).await?;
        let parsed = names.iter().map(|name| {
            name.parse().map_err(|error: InvalidName| {
                let message = list_gaps::invalid_tag(name, &error).message.to_string();
                RegistryError::new(RegistryErrorKind::Malformed, message)
            })
        });
        parsed.collect()
    }

    async fn resolve(&self, repository: &RepositoryName, tag: &TagName) -> Result<Option<TagState>, RegistryError> {
        self.0.tag_state(repository, tag).await
    }

    async fn has_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, RegistryError> {
        self.manifest(repository, digest).await.map(|found| found.is_some())
    }

    async fn manifest_state(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestState>, RegistryError> {
        Err(self.unsupported(&format!("for the tags of {digest} of {repository}")))
    }

    async fn referrers(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Digest>, RegistryError> {
        Err(self.unsupported(&format!("what refers to {digest} of {repository}")))
    }

    /// A download of the manifest, which these products count or record.
    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RawManifest>, RegistryError> {
        let url = self.registry_url(repository, &format!("manifests/{digest}"))?;
        pull::manifest_at(&self.0.api().http, url, repository, digest).await
    }

    async fn configuration(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        let url = self.registry_url(repository, &format!("blobs/{digest}"))?;
        pull::configuration_at(&self.0.api().http, url, repository, digest).await
    }

    fn server_time(&self) -> Option<ServerTime> {
        self.0.api().http.server_time()
    }

    fn invalid_date_header(&self) -> Option<&'static str> {
        self.0.api().http.invalid_date_header()
    }
}
