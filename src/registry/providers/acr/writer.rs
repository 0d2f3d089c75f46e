//! Changing: a tag is removed alone; manifests are deleted, and all is put back, by the distribution API.

use async_trait::async_trait;

use super::tag_path;
use crate::domain::{JournaledIntent, RemovalMethod, RepositoryName, TagName};
use crate::http_client::Request;
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, WritePermit};
use crate::registry::client::push;
use crate::registry::{RawManifest, RegistryError, RegistryWriter, RemovalResponse, verify_method};

/// The digest that a removed tag named. Undocumented, so nothing is concluded from its absence.
const REMOVED_DIGEST: &str = "x-ms-int-docker-content-digest";

/// Changes an Azure Container Registry.
#[derive(Debug)]
pub(super) struct AcrWriter {
    pub(super) http: HttpConnection,
}

#[async_trait]
impl RegistryWriter for AcrWriter {
    async fn acquire_removal_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.http.acquire_deletion_permit(repository).await
    }

    async fn acquire_put_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.http.acquire_push_permit(repository).await
    }

    async fn untag(&self, intent: &JournaledIntent, clearance: WritePermit) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::Untag)?;
        let url = self.http.url(&tag_path(intent.repository(), intent.tag()));
        let scope = TokenScope::Delete(intent.repository().clone());
        let response = self.http.send_with_permit(&scope, &Request::delete(url), clearance).await?;
        let removed = push::removal_result(&response)?;
        Ok(match removed {
            RemovalResponse::Removed { request_id: evidence, .. } => {
                let named = response.header(REMOVED_DIGEST).and_then(|text| text.trim().parse().ok());
                RemovalResponse::Removed { request_id: evidence, digest: named }
            }
            other => other,
        })
    }

    /// The service deletes what refers to the manifest along with it, as it does the manifest's tags.
    async fn delete_manifest(
        &self,
        intent: &JournaledIntent,
        clearance: WritePermit,
    ) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::DeleteManifest)?;
        push::delete(&self.http, intent.repository(), &intent.digest().to_string(), clearance).await
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
