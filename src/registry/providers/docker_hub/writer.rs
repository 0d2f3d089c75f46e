//! Changing: a tag is removed by the API, and put back by the registry.

use async_trait::async_trait;

use super::api::{HubApi, parts};
use super::reader::unknown_repository;
use super::wire;
use crate::domain::{JournaledIntent, RemovalMethod, RepositoryName, TagName};
use crate::http_client::{Request, Response};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::WritePermit;
use crate::registry::client::push;
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind, RegistryWriter, RemovalResponse, verify_method};

/// Changes Docker Hub.
#[derive(Debug)]
pub(super) struct HubWriter {
    pub(super) api: HubApi,
}

#[async_trait]
impl RegistryWriter for HubWriter {
    async fn acquire_removal_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.api.http.acquire_deletion_permit(repository).await
    }

    async fn acquire_put_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.api.registry.acquire_push_permit(repository).await
    }

    async fn untag(&self, intent: &JournaledIntent, clearance: WritePermit) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::Untag)?;
        let (repository, tag) = (intent.repository(), intent.tag());
        let (namespace, name) = parts(repository)?;
        let url = self.api.http.url(&format!("/v2/repositories/{namespace}/{name}/tags/{tag}/"));
        let scope = TokenScope::Delete(repository.clone());
        let response = self.api.http.send_with_permit(&scope, &Request::delete(url), clearance).await?;
        let result = removal_result(&response)?;
        if result == RemovalResponse::AlreadyMissing && !self.api.lists_tags(repository).await? {
            let error = unknown_repository(repository).with_kind(RegistryErrorKind::Denied);
            return Err(error.with_help("check the registry's `auth`, and the account's permission in the repository"));
        }
        Ok(result)
    }

    /// Never: settings refuse `removal = "manifest"`, and nothing is due for deletion where untagged manifests are not listed.
    async fn delete_manifest(
        &self,
        intent: &JournaledIntent,
        _: WritePermit,
    ) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::DeleteManifest)?;
        let message = format!("{} was not deleted: Docker Hub has no published request for it", intent.digest());
        Err(RegistryError::new(RegistryErrorKind::Unsupported, message))
    }

    async fn put_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        manifest: &RawManifest,
        clearance: WritePermit,
    ) -> Result<(), RegistryError> {
        push::put_tag(&self.api.registry, repository, tag, manifest, clearance).await
    }

    async fn put_manifest(&self, repository: &RepositoryName, manifest: &RawManifest) -> Result<(), RegistryError> {
        push::put_manifest(&self.api.registry, repository, manifest).await
    }
}

/// Returns the result that an answer to a removal means.
fn removal_result(response: &Response) -> Result<RemovalResponse, RegistryError> {
    match response.status.as_u16() {
        200 | 202 | 204 if response.is_web_page() => Err(response.malformed("Docker Hub answers no removal so")),
        200 | 202 | 204 => Ok(RemovalResponse::Removed { request_id: String::new(), digest: None }),
        404 if wire::is_absence(response) => Ok(RemovalResponse::AlreadyMissing),
        _ if wire::is_lock(response) => {
            let message = format!("{} ({})", response.description(), wire::words(response));
            Err(RegistryError::new(RegistryErrorKind::Locked, message))
        }
        // The page of a proxy or a firewall says nothing about what Docker Hub removes.
        400 | 403 | 405 if response.is_web_page() => Err(response.malformed("Docker Hub refuses in its own words")),
        405 => Err(response.error(RegistryErrorKind::Unsupported)),
        401 => {
            let message = format!("{} ({})", response.description(), wire::words(response));
            Err(RegistryError::new(RegistryErrorKind::Unauthenticated, message)
                .with_help("check the registry's `auth`"))
        }
        _ => Err(wire::refusal(response)),
    }
}
