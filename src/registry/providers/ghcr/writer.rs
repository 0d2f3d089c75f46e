//! Changing: a package version is deleted by its id, and restored by it for as long as GitHub keeps it.

use async_trait::async_trait;
use http::{Method, StatusCode};

use super::api::GhcrApi;
use super::wire::{self, Right};
use crate::domain::{Digest, JournaledIntent, RemovalMethod, RepositoryName, TagName};
use crate::http_client::{MAX_ERROR_BYTES, Request, Response, RetryMode};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::WritePermit;
use crate::registry::client::{pull, push};
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind, RegistryWriter, RemovalResponse, verify_method};

/// Changes GitHub's container registry.
#[derive(Debug)]
pub(super) struct GhcrWriter {
    api: GhcrApi,
}

impl GhcrWriter {
    pub(super) fn new(api: GhcrApi) -> Self {
        Self { api }
    }

    /// Returns the result that an answer to a deletion means.
    async fn removal_result(
        &self,
        response: &Response,
        (repository, id): (&RepositoryName, u64),
    ) -> Result<RemovalResponse, RegistryError> {
        if let Some(why) = wire::lock_reason(response) {
            let message = wire::describe(response);
            return Err(RegistryError::new(RegistryErrorKind::Locked, message).with_help(why));
        }
        match response.status.as_u16() {
            200 | 202 | 204 if response.is_web_page() => Err(response.malformed("GitHub answers no deletion so")),
            200 | 202 | 204 => {
                let request = response.header("x-github-request-id").map(|id| format!(", x-github-request-id: {id}"));
                let request_id = format!("version {id}{}", request.unwrap_or_default());
                Ok(RemovalResponse::Removed { request_id, digest: None })
            }
            // GitHub answers so to a token that may not delete the version, too: that may still see it.
            404 => {
                let path = format!("{}/versions/{id}", self.api.package_path(repository).await?);
                let seen = self.api.fetch(&path, &[]).await?;
                match seen.status {
                    StatusCode::NOT_FOUND => Ok(RemovalResponse::AlreadyMissing),
                    _ => Err(wire::refusal(response, Right::Delete)),
                }
            }
            _ => Err(wire::refusal(response, Right::Delete)),
        }
    }

    /// Brings a deleted version back, with everything that it had. Nothing where the registry has it, or GitHub no longer
    /// does: then it can only be pushed.
    async fn restore_version(
        &self,
        repository: &RepositoryName,
        tag: Option<&TagName>,
        digest: &Digest,
    ) -> Result<(), RegistryError> {
        let mut deleted = self.api.shared.deleted.lock().await;
        if pull::has_manifest(&self.api.registry, repository, digest).await? {
            return Ok(());
        }
        let Some(version) = self.api.deleted_version(&mut deleted, repository, digest).await? else { return Ok(()) };
        if let Some(other) = self.api.occupied_tag(repository, tag, version).await? {
            tracing::info!(
                %repository, %digest, tag = other,
                "the version is pushed and not restored: one of its tags names another image by now, which must not change"
            );
            return Ok(());
        }
        let path = format!("{}/versions/{}/restore", self.api.package_path(repository).await?, version.id);
        let request = Request {
            method: Method::POST,
            retry_mode: RetryMode::RecheckFirst,
            max_bytes: MAX_ERROR_BYTES,
            ..self.api.request(&path, &[])
        };
        let answered = self.api.rest.send(&TokenScope::Push(repository.clone()), &request).await;
        let is_lost = |error: &RegistryError| error.is_ambiguous() && error.kind != RegistryErrorKind::Malformed;
        let not_restored = match answered {
            Ok(response) => match response.status.as_u16() {
                200 | 202 | 204 if response.is_web_page() => {
                    return Err(response.malformed("GitHub answers no restore so"));
                }
                200 | 202 | 204 => {
                    self.api.shared.versions.forget(repository, digest);
                    return Ok(());
                }
                // It is older than 30 days, or its place was taken. A missing right is seen by the push that follows.
                404 => wire::describe(&response),
                _ => match wire::refusal(&response, Right::Restore) {
                    error if is_lost(&error) => error.chain(),
                    error => return Err(error),
                },
            },
            Err(error) if is_lost(&error) => error.chain(),
            Err(error) => return Err(error),
        };
        // The caller looks at what is there now, and pushes what is not. If GitHub restores the version late, it is the same.
        tracing::info!(%repository, %digest, answer = not_restored, "GitHub does not restore a version");
        Ok(())
    }
}

#[async_trait]
impl RegistryWriter for GhcrWriter {
    async fn acquire_removal_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.api.rest.acquire_deletion_permit(repository).await
    }

    async fn acquire_put_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.api.registry.acquire_push_permit(repository).await
    }

    /// Never: GitHub has no such request, and a push under the tag that would free the version would change what it names.
    async fn untag(&self, intent: &JournaledIntent, _: WritePermit) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::Untag)?;
        let (repository, tag) = (intent.repository(), intent.tag());
        let message =
            format!("{repository}:{tag} was not removed: GitHub deletes a package version with all of its tags");
        Err(RegistryError::new(RegistryErrorKind::Unsupported, message)
            .with_help("write removal = \"manifest\" if that is meant"))
    }

    /// Deletes the version that the last look at the digest saw, with all of its tags.
    async fn delete_manifest(
        &self,
        intent: &JournaledIntent,
        clearance: WritePermit,
    ) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::DeleteManifest)?;
        let (repository, digest) = (intent.repository(), intent.digest());
        let Some(id) = self.api.shared.versions.id(repository, digest) else {
            let message = format!("{repository}: {digest} was not deleted: nobody looked which version it is");
            return Err(RegistryError::new(RegistryErrorKind::OutdatedCheck, message));
        };
        let path = format!("{}/versions/{id}", self.api.package_path(repository).await?);
        let request = Request::delete(self.api.request(&path, &[]).url);
        let scope = TokenScope::Delete(repository.clone());
        let response = self.api.rest.send_with_permit(&scope, &request, clearance).await?;
        let result = self.removal_result(&response, (repository, id)).await;
        if result.is_ok() {
            self.api.shared.versions.forget(repository, digest);
            // There is one more.
            self.api.shared.deleted.lock().await.remove(repository);
        }
        result
    }

    /// Restores the version, and pushes the manifest where that does not bring the tag back.
    async fn put_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        manifest: &RawManifest,
        clearance: WritePermit,
    ) -> Result<(), RegistryError> {
        self.restore_version(repository, Some(tag), &manifest.digest).await?;
        match pull::resolve(&self.api.registry, repository, tag).await? {
            Some(digest) if digest == manifest.digest => Ok(()),
            _ => push::put_tag(&self.api.registry, repository, tag, manifest, clearance).await,
        }
    }

    async fn put_manifest(&self, repository: &RepositoryName, manifest: &RawManifest) -> Result<(), RegistryError> {
        self.restore_version(repository, None, &manifest.digest).await?;
        if pull::has_manifest(&self.api.registry, repository, &manifest.digest).await? {
            return Ok(());
        }
        push::put_manifest(&self.api.registry, repository, manifest).await
    }
}
