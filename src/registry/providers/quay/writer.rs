//! Changing: a tag goes into the time machine, and comes back from there.

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use serde_json::json;

use super::wire::{self, Right, WireTag, WireTags};
use super::{history, tag_path, tags_path};
use crate::domain::{Digest, JournaledIntent, RemovalMethod, RepositoryName, TagName};
use crate::http_client::{MAX_ERROR_BYTES, Request, Response, RetryMode};
use crate::registry::client::auth::TokenScope;
use crate::registry::client::connection::{HttpConnection, RedirectPolicy, WritePermit};
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind, RegistryWriter, RemovalResponse, verify_method};

/// Most bytes of a tag's history.
const MAX_HISTORY_BYTES: usize = 16 << 20;

/// Changes Quay.
#[derive(Debug)]
pub(super) struct QuayWriter {
    pub(super) http: HttpConnection,
}

/// Quay removes the signatures of an image in the same instant as its last tag, give or take a slow transaction.
const SAME_INSTANT_SECONDS: u64 = 5;

/// The endings of the tags of cosign's signatures that Quay removes with their image.
const SIGNATURES: [&str; 3] = ["sig", "att", "sbom"];

impl QuayWriter {
    /// Returns the present and former entries of tags that match a filter, or `None` if Quay does not list all of them.
    async fn history(&self, repository: &RepositoryName, filter: (&str, &str)) -> Option<Vec<WireTag>> {
        let mut url = self.http.url(&format!("/api/v1/{}", tags_path(repository)));
        url.query_pairs_mut().append_pair(filter.0, filter.1).append_pair("limit", "100");
        let request = Request::get(url, "application/json", MAX_HISTORY_BYTES);
        let scope = TokenScope::List(repository.clone());
        let response = self.http.read(&scope, request, RedirectPolicy::SameOrigin).await.ok()?;
        let page: WireTags = response.status.is_success().then(|| response.parse_json().ok()).flatten()?;
        let rows = page.tags.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().ok();
        rows.filter(|_| !page.has_additional)
    }

    /// Puts back the signatures that Quay itself removed with the last tag of an image, once that is back. Where a run was
    /// stopped in between, no journal has them.
    async fn restore_signatures(&self, repository: &RepositoryName, tag: &TagName, digest: &Digest) {
        let image = digest.to_string().replace(':', "-");
        let names = SIGNATURES.map(|ending| format!("{image}.{ending}"));
        if tag.as_str().starts_with("sha256-") {
            return;
        }
        let Some(rows) = self.history(repository, ("filter_tag_name", &format!("like:{image}."))).await else { return };
        let gone = |name: &&String| {
            let mut found = rows.iter().filter(|row| row.name == **name).peekable();
            found.peek().is_some() && found.all(|row| row.ended_at().is_some())
        };
        let gone: Vec<&String> = names.iter().filter(gone).collect();
        if gone.is_empty() {
            return;
        }
        let own = self.history(repository, ("specificTag", tag.as_str())).await.unwrap_or_default();
        let of_image = own.iter().filter(|row| row.manifest_digest.as_deref() == Some(&*digest.to_string()));
        let Some(ended) = of_image.filter_map(WireTag::ended_at).max() else { return };
        for name in gone {
            let own: Vec<&WireTag> = rows.iter().filter(|row| row.name == *name).collect();
            let last = history::last_rows(&own).first().copied();
            let together =
                last.filter(|row| row.ended_at().is_some_and(|at| at.abs_diff(ended) <= SAME_INSTANT_SECONDS));
            let Some(signature) = together.and_then(|row| row.manifest_digest.as_deref()) else { continue };
            let path = format!("/api/v1/repository/{repository}/tag/{name}/restore");
            let request = self.restore_request(&path, signature);
            let came = self.http.send(&TokenScope::Push(repository.clone()), &request).await;
            if let Some(why) =
                came.map_or_else(Some, |response| (!response.status.is_success()).then(|| change_error(&response)))
            {
                tracing::warn!(%repository, tag = name, error = %why, "a signature that Quay removed with its image is not back");
            }
        }
    }

    fn restore_request(&self, path: &str, digest: &str) -> Request {
        let body = json!({ "manifest_digest": digest }).to_string();
        Request {
            method: Method::POST,
            content: Some((Arc::from("application/json"), body.into_bytes().into())),
            retry_mode: RetryMode::RecheckFirst,
            ..Request::get(self.http.url(path), "application/json", MAX_ERROR_BYTES)
        }
    }
}

#[async_trait]
impl RegistryWriter for QuayWriter {
    async fn acquire_removal_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.http.acquire_deletion_permit(repository).await
    }

    async fn acquire_put_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.http.acquire_push_permit(repository).await
    }

    async fn untag(&self, intent: &JournaledIntent, clearance: WritePermit) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::Untag)?;
        let (repository, tag) = (intent.repository(), intent.tag());
        let url = self.http.url(&format!("/api/v1/{}", tag_path(repository, tag)));
        let scope = TokenScope::Delete(repository.clone());
        let response = self.http.send_with_permit(&scope, &Request::delete(url), clearance).await?;
        // Quay answers without the digest; its history has it.
        Ok(if is_removed(&response)? {
            RemovalResponse::Removed { request_id: String::new(), digest: None }
        } else {
            RemovalResponse::AlreadyMissing
        })
    }

    /// Never: settings refuse `removal = "manifest"`, and nothing is due for deletion where untagged manifests are not listed.
    async fn delete_manifest(
        &self,
        intent: &JournaledIntent,
        _: WritePermit,
    ) -> Result<RemovalResponse, RegistryError> {
        verify_method(intent, RemovalMethod::DeleteManifest)?;
        let message = format!("{} was not deleted: Quay deletes what leaves its time machine itself", intent.digest());
        Err(RegistryError::new(RegistryErrorKind::Unsupported, message))
    }

    /// By the digest alone, see [`RegistryWriter::revive_tag`].
    async fn put_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        manifest: &RawManifest,
        clearance: WritePermit,
    ) -> Result<(), RegistryError> {
        self.revive_tag(repository, tag, &manifest.digest, clearance).await
    }

    /// Revives the tag from the time machine, with everything in its manifest and the signatures that went with it.
    async fn revive_tag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        digest: &Digest,
        clearance: WritePermit,
    ) -> Result<(), RegistryError> {
        let path = format!("/api/v1/{}/restore", tag_path(repository, tag));
        let request = self.restore_request(&path, &digest.to_string());
        let response = self.http.send_with_permit(&TokenScope::Push(repository.clone()), &request, clearance).await?;
        if wire::is_absence(&response) {
            let message = format!(
                "{}: {digest} left the time machine of its namespace, or its repository is gone",
                response.request
            );
            return Err(RegistryError::new(RegistryErrorKind::NotFound, message));
        }
        match response.status.as_u16() {
            200 | 201 if response.is_web_page() => Err(response.malformed("Quay answers no restore so")),
            200 | 201 => {
                self.restore_signatures(repository, tag, digest).await;
                Ok(())
            }
            _ => Err(change_error(&response)),
        }
    }

    /// Never: what Quay puts back comes with everything that is in it.
    async fn put_manifest(&self, _: &RepositoryName, manifest: &RawManifest) -> Result<(), RegistryError> {
        let message = format!("{} was not put: Quay puts manifests back with their tags only", manifest.digest);
        Err(RegistryError::new(RegistryErrorKind::Unsupported, message))
    }
}

/// Returns true if a tag was removed, and false if there was no such tag.
fn is_removed(response: &Response) -> Result<bool, RegistryError> {
    match response.status.as_u16() {
        200 | 202 | 204 if response.is_web_page() => Err(response.malformed("Quay answers no deletion so")),
        200 | 202 | 204 => Ok(true),
        404 if wire::is_absence(response) => Ok(false),
        _ => Err(change_error(response)),
    }
}

/// The error that an answer to a change means.
fn change_error(response: &Response) -> RegistryError {
    let kind = match response.status.as_u16() {
        // The page of a proxy or a firewall does not show what Quay removes.
        400 | 401 | 403 | 405 | 409 if response.is_web_page() => RegistryErrorKind::Malformed,
        401 => RegistryErrorKind::Unauthenticated,
        409 => RegistryErrorKind::Locked,
        // The whole repository is read-only or a mirror, in the words of the framework; an overload has other words.
        503 if wire::describes_state(response) => RegistryErrorKind::Locked,
        _ => return wire::refusal(response, Right::Write),
    };
    wire::error(response, kind, Right::Write)
}
