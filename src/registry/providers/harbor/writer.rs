//! Changing: a tag is removed on condition of its digest, and put back by its name.

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use serde_json::json;

use super::artifact_path;
use super::artifacts;
use super::wire::{self, Right, WireArtifact};
use crate::domain::{Digest, JournaledIntent, ListedKind, RemovalMethod, RepositoryName, TagName};
use crate::http_client::{MAX_ERROR_BYTES, Request, Response, RetryMode};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy, WritePermit};
use crate::registry::client::push;
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind, RegistryWriter, RemovalResponse, verify_method};

/// Most bytes of an artifact by itself: it may have thousands of tags.
const MAX_BYTES: usize = 16 << 20;

/// Changes Harbor.
#[derive(Debug)]
pub(super) struct HarborWriter {
    pub(super) http: HttpConnection,
}

impl HarborWriter {
    /// Returns true if an artifact lists others or may do so, and `None` if it does not exist.
    async fn is_index(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<bool>, RegistryError> {
        let url = self.http.url(&artifact_path(repository, &digest.to_string()));
        let (scope, request) = (TokenScope::List(repository.clone()), Request::get(url, "application/json", MAX_BYTES));
        let response = self.http.read(&scope, request, RedirectPolicy::SameOrigin).await?;
        if wire::is_absence(&response) {
            return Ok(None);
        }
        if !response.status.is_success() {
            return Err(wire::refusal(&response, Right::Read));
        }
        let found: WireArtifact = response.parse_json()?;
        // The references may be left out, so the types count as well.
        Ok(Some(!found.references.is_empty() || artifacts::kind(&found) == ListedKind::Index))
    }

    /// The request that gives an artifact a further tag.
    fn tag_request(&self, repository: &RepositoryName, tag: &TagName, digest: &Digest) -> Request {
        let path = format!("{}/tags", artifact_path(repository, &digest.to_string()));
        let body = json!({ "name": tag.as_str() }).to_string();
        Request {
            method: Method::POST,
            content: Some((Arc::from("application/json"), body.into_bytes().into())),
            retry_mode: RetryMode::RecheckFirst,
            ..Request::get(self.http.url(&path), "application/json", MAX_ERROR_BYTES)
        }
    }
}

#[async_trait]
impl RegistryWriter for HarborWriter {
    async fn acquire_removal_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.http.acquire_deletion_permit(repository).await
    }

    async fn acquire_put_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.http.acquire_push_permit(repository).await
    }

    /// Names the artifact by its digest: Harbor answers 404 if the tag is at another one by then, and removes nothing.
    async fn untag(&self, intent: &JournaledIntent, clearance: WritePermit) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::Untag)?;
        let (repository, tag, digest) = (intent.repository(), intent.tag(), intent.digest());
        let url = self.http.url(&format!("{}/tags/{tag}", artifact_path(repository, &digest.to_string())));
        let scope = TokenScope::Delete(repository.clone());
        let response = self.http.send_with_permit(&scope, &Request::delete(url), clearance).await?;
        removal_result(&response, Right::Remove)
    }

    /// Harbor refuses where an index lists it, and deletes its signatures and SBOMs with it. With an index it also deletes the
    /// images in it, of which no outcome would be journaled then, so an index stays.
    async fn delete_manifest(
        &self,
        intent: &JournaledIntent,
        clearance: WritePermit,
    ) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::DeleteManifest)?;
        let (repository, digest) = (intent.repository(), intent.digest());
        match self.is_index(repository, digest).await? {
            None => return Ok(RemovalResponse::AlreadyMissing),
            Some(false) => {}
            Some(true) => {
                let message = format!(
                    "{repository}: {digest} is an index or of a type that may be one, with which Harbor deletes the images in it"
                );
                return Err(RegistryError::new(RegistryErrorKind::Locked, message));
            }
        }
        let url = self.http.url(&artifact_path(repository, &digest.to_string()));
        let scope = TokenScope::Delete(repository.clone());
        let response = self.http.send_with_permit(&scope, &Request::delete(url), clearance).await?;
        removal_result(&response, Right::Delete)
    }

    /// Gives the artifact its tag again. Where the artifact was deleted, it is pushed first: its layers may still be there.
    async fn put_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        manifest: &RawManifest,
        clearance: WritePermit,
    ) -> Result<(), RegistryError> {
        let request = self.tag_request(repository, tag, &manifest.digest);
        let scope = TokenScope::Push(repository.clone());
        let mut response = self.http.send_with_permit(&scope, &request, clearance).await?;
        if wire::is_absence(&response) {
            push::put_manifest(&self.http, repository, manifest).await.map_err(|error| {
                error.within(format!(
                    "{repository}: Harbor deleted {} (its garbage collection or a tag retention did), and it could not be pushed",
                    manifest.digest
                ))
            })?;
            response = self.http.send(&scope, &request).await?;
        }
        match response.status.as_u16() {
            200 | 201 if response.is_web_page() => Err(response.malformed("Harbor answers no new tag so")),
            200 | 201 => Ok(()),
            _ => Err(change_error(&response, Right::Restore)),
        }
    }

    async fn put_manifest(&self, repository: &RepositoryName, manifest: &RawManifest) -> Result<(), RegistryError> {
        push::put_manifest(&self.http, repository, manifest).await
    }
}

/// Returns the result that an answer to a removal means. It names no digest: that of the request proves nothing.
fn removal_result(response: &Response, needed: Right) -> Result<RemovalResponse, RegistryError> {
    match response.status.as_u16() {
        200 | 202 | 204 if response.is_web_page() => Err(response.malformed("Harbor answers no deletion so")),
        200 | 202 | 204 => {
            let request_id = response.header("x-request-id").map(|id| format!("x-request-id: {id}"));
            Ok(RemovalResponse::Removed { request_id: request_id.unwrap_or_default(), digest: None })
        }
        404 if wire::is_absence(response) => Ok(RemovalResponse::AlreadyMissing),
        _ => Err(change_error(response, needed)),
    }
}

/// The error that an answer to a change means.
fn change_error(response: &Response, needed: Right) -> RegistryError {
    let kind = match response.status.as_u16() {
        // The page of a proxy or a firewall says nothing about what Harbor removes.
        400 | 401 | 403 | 405 | 409 | 412 if wire::code(response).is_none() => RegistryErrorKind::Malformed,
        401 => RegistryErrorKind::Unauthenticated,
        403 if wire::is_read_only(response) => RegistryErrorKind::Locked,
        405 => RegistryErrorKind::Unsupported,
        // An immutable tag; of an artifact also that an index lists it.
        412 => RegistryErrorKind::Locked,
        _ => return wire::refusal(response, needed),
    };
    wire::error(response, kind, needed)
}
