//! Changing: a tag is removed alone; manifests are deleted, and all is put back, by the distribution API.

use async_trait::async_trait;

use super::{documented, tag_path};
use crate::domain::{Digest, RepositoryName, Sku, TagName};
use crate::registry::auth::Grant;
use crate::registry::http::{Clearance, RegistryHttp};
use crate::registry::{RawManifest, RegistryError, RegistrySettings, RegistryWriter, Removed, Requests, removal};
use crate::transport::{Ask, Patience};

/// The digest that a removed tag named. Undocumented, so nothing is concluded from its absence.
const NAMED: &str = "x-ms-int-docker-content-digest";

/// Changes an Azure Container Registry.
#[derive(Debug)]
pub struct AcrWriter {
    http: RegistryHttp,
}

impl AcrWriter {
    /// A writer by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// When the settings cannot work, such as a CA file that cannot be read.
    pub fn new(settings: RegistrySettings, patience: Patience) -> Result<Self, RegistryError> {
        Ok(Self { http: RegistryHttp::changing(settings, patience)? })
    }
}

#[async_trait]
impl RegistryWriter for AcrWriter {
    fn requests(&self) -> Requests {
        self.http.requests()
    }

    fn keep_to(&self, sku: Sku) {
        self.http.set_rates(documented(sku));
    }

    async fn ready(&self, repository: &RepositoryName) -> Result<Clearance, RegistryError> {
        self.http.clear_deletion(repository).await
    }

    async fn ready_to_put(&self, repository: &RepositoryName) -> Result<Clearance, RegistryError> {
        self.http.clear_push(repository).await
    }

    async fn untag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        clearance: Clearance,
    ) -> Result<Removed, RegistryError> {
        let url = self.http.url(&tag_path(repository, tag));
        let grant = Grant::Delete(repository.clone());
        let answer = self.http.send_cleared(&grant, &Ask::delete(url), clearance).await?;
        let removed = removal::removed(&answer)?;
        Ok(match removed {
            Removed::Done { evidence, .. } => {
                let named = answer.header(NAMED).and_then(|text| text.trim().parse().ok());
                Removed::Done { evidence, named }
            }
            Removed::AlreadyGone => Removed::AlreadyGone,
        })
    }

    /// The service deletes what refers to the manifest along with it, as it does the manifest's tags.
    async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        clearance: Clearance,
    ) -> Result<Removed, RegistryError> {
        removal::delete(&self.http, repository, &digest.to_string(), clearance).await
    }

    async fn put_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        manifest: &RawManifest,
        clearance: Clearance,
    ) -> Result<(), RegistryError> {
        removal::put_tag(&self.http, repository, tag, manifest, clearance).await
    }

    async fn put_manifest(&self, repository: &RepositoryName, manifest: &RawManifest) -> Result<(), RegistryError> {
        removal::put_manifest(&self.http, repository, manifest).await
    }
}
