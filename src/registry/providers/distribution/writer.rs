//! Changing a registry by the distribution API: untag, delete, put back.

use async_trait::async_trait;

use crate::domain::{JournaledIntent, RemovalMethod, RepositoryName, TagName};
use crate::registry::client::connection::{HttpConnection, WritePermit};
use crate::registry::client::{probe, push};
use crate::registry::{ProbeResponse, RawManifest, RegistryError, RegistryWriter, RemovalResponse, verify_method};

/// Changes a registry by the distribution API.
#[derive(Debug)]
pub(super) struct DistributionWriter {
    pub(super) http: HttpConnection,
}

#[async_trait]
impl RegistryWriter for DistributionWriter {
    async fn acquire_put_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.http.acquire_push_permit(repository).await
    }

    async fn acquire_removal_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.http.acquire_deletion_permit(repository).await
    }

    async fn untag(&self, intent: &JournaledIntent, clearance: WritePermit) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::Untag)?;
        push::delete(&self.http, intent.repository(), intent.tag().as_str(), clearance).await
    }

    async fn delete_manifest(
        &self,
        intent: &JournaledIntent,
        clearance: WritePermit,
    ) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::DeleteManifest)?;
        push::delete(&self.http, intent.repository(), &intent.digest().to_string(), clearance).await
    }

    async fn probe(&self, repository: &RepositoryName, method: RemovalMethod) -> Option<ProbeResponse> {
        Some(probe::probe(&self.http, repository, method).await)
    }

    async fn put_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        manifest: &RawManifest,
        clearance: WritePermit,
    ) -> Result<(), RegistryError> {
        push::put_tag(&self.http, repository, tag, manifest, clearance).await
    }

    async fn put_manifest(&self, repository: &RepositoryName, manifest: &RawManifest) -> Result<(), RegistryError> {
        push::put_manifest(&self.http, repository, manifest).await
    }
}
