//! Changing: a tag is removed by its name, and put back with its manifest.

use async_trait::async_trait;
use http::StatusCode;

use crate::domain::{JournaledIntent, RemovalMethod, RepositoryName, TagName};
use crate::http_client::Request;
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, WritePermit};
use crate::registry::client::push;
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind, RegistryWriter, RemovalResponse, verify_method};

/// Changes zot.
#[derive(Debug)]
pub(super) struct ZotWriter {
    pub(super) http: HttpConnection,
}

#[async_trait]
impl RegistryWriter for ZotWriter {
    async fn acquire_removal_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.http.acquire_deletion_permit(repository).await
    }

    async fn acquire_put_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.http.acquire_push_permit(repository).await
    }

    async fn untag(&self, intent: &JournaledIntent, clearance: WritePermit) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::Untag)?;
        let (repository, tag) = (intent.repository(), intent.tag());
        let url = self.http.url(&format!("/v2/{repository}/manifests/{tag}"));
        let scope = TokenScope::Delete(repository.clone());
        let response = self.http.send_with_permit(&scope, &Request::delete(url), clearance).await?;
        // Where others answer 404, zot says so of a repository that is gone.
        if response.status == StatusCode::BAD_REQUEST && response.error_code().as_deref() == Some("NAME_UNKNOWN") {
            return Ok(RemovalResponse::AlreadyMissing);
        }
        push::removal_result(&response)
    }

    /// Never: settings refuse `removal = "manifest"`, and nothing is due for deletion where untagged manifests are not listed.
    async fn delete_manifest(
        &self,
        intent: &JournaledIntent,
        _: WritePermit,
    ) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::DeleteManifest)?;
        let message = format!("{} was not deleted: zot's garbage collection deletes what has no tag", intent.digest());
        Err(RegistryError::new(RegistryErrorKind::Unsupported, message))
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
