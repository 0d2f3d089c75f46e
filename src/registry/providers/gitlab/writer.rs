//! Changing: a tag is removed by its name, and put back with its manifest.

use async_trait::async_trait;
use http::StatusCode;

use super::reader::{access, no_deletions};
use crate::domain::{JournaledIntent, RemovalMethod, RepositoryName, TagName};
use crate::http_client::Request;
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, WritePermit};
use crate::registry::client::push;
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind, RegistryWriter, RemovalResponse, verify_method};

/// Changes GitLab's registry.
#[derive(Debug)]
pub(super) struct GitlabWriter {
    pub(super) http: HttpConnection,
}

#[async_trait]
impl RegistryWriter for GitlabWriter {
    /// GitLab gives a token without the right to delete, too; it would be refused once the tag was looked at.
    async fn acquire_removal_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        let permit = self.http.acquire_deletion_permit(repository).await?;
        let access = access(&self.http, repository, TokenScope::Delete(repository.clone())).await?;
        if access.is_some_and(|access| !access.allows("delete")) {
            return Err(RegistryError::new(RegistryErrorKind::Denied, no_deletions(repository)));
        }
        Ok(permit)
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
        // The token allows deletions, so this is about the tag and not about the identity.
        if response.status == StatusCode::FORBIDDEN && response.error_code().as_deref() == Some("DENIED") {
            return Err(response.error(RegistryErrorKind::Locked));
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
        let message =
            format!("{} was not deleted: GitLab's garbage collection deletes what nothing refers to", intent.digest());
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
