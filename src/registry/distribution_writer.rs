//! Changing a registry by the distribution API: untag, delete, put back.

use async_trait::async_trait;
use http::{Method, StatusCode};

use super::auth::TokenScope;
use super::connection::{Connection, WritePermit};
use super::{
    ProbeResponse, RawManifest, RegistryError, RegistryErrorKind, RegistrySettings, RegistryWriter, RemovalResponse,
    RequestCounts, probe, pull,
};
use crate::domain::{Digest, RemovalMethod, RepositoryName, TagName};
use crate::http_client::{MAX_ERROR_BYTES, Request, Response, RetryMode, RetryPolicy};

/// Changes a registry by the distribution API.
#[derive(Debug)]
pub struct DistributionWriter {
    http: Connection,
}

impl DistributionWriter {
    /// A writer by these settings; nothing is asked yet.
    ///
    /// # Errors
    /// When the settings cannot work, such as a CA file that cannot be read.
    pub fn new(settings: RegistrySettings) -> Result<Self, RegistryError> {
        Self::with_retry_policy(settings, RetryPolicy::default())
    }

    /// The same, with another patience for what fails.
    ///
    /// # Errors
    /// As [`DistributionWriter::new`].
    pub fn with_retry_policy(settings: RegistrySettings, patience: RetryPolicy) -> Result<Self, RegistryError> {
        Ok(Self { http: Connection::for_writer(settings, patience)? })
    }
}

#[async_trait]
impl RegistryWriter for DistributionWriter {
    fn request_counts(&self) -> RequestCounts {
        self.http.request_counts()
    }

    async fn acquire_put_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.http.acquire_push_permit(repository).await
    }

    async fn acquire_removal_permit(&self, repository: &RepositoryName) -> Result<WritePermit, RegistryError> {
        self.http.acquire_deletion_permit(repository).await
    }

    async fn untag(
        &self,
        repository: &RepositoryName,
        tag: &TagName,
        clearance: WritePermit,
    ) -> Result<RemovalResponse, RegistryError> {
        delete(&self.http, repository, tag.as_str(), clearance).await
    }

    async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        clearance: WritePermit,
    ) -> Result<RemovalResponse, RegistryError> {
        delete(&self.http, repository, &digest.to_string(), clearance).await
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
        put_tag(&self.http, repository, tag, manifest, clearance).await
    }

    async fn put_manifest(&self, repository: &RepositoryName, manifest: &RawManifest) -> Result<(), RegistryError> {
        put_manifest(&self.http, repository, manifest).await
    }
}

/// Deletes by the distribution API: a manifest by its digest, with every tag that names it, or a tag by its name.
pub(super) async fn delete(
    http: &Connection,
    repository: &RepositoryName,
    reference: &str,
    clearance: WritePermit,
) -> Result<RemovalResponse, RegistryError> {
    let url = http.url(&format!("/v2/{repository}/manifests/{reference}"));
    let answer =
        http.send_with_permit(&TokenScope::Delete(repository.clone()), &Request::delete(url), clearance).await?;
    removal_result(&answer)
}

/// Puts a manifest under a tag by the distribution API, and sees that it was stored under its own digest.
pub(super) async fn put_tag(
    http: &Connection,
    repository: &RepositoryName,
    tag: &TagName,
    manifest: &RawManifest,
    clearance: WritePermit,
) -> Result<(), RegistryError> {
    let answer = put(http, repository, tag.as_str(), manifest, Some(clearance)).await?;
    let stored = match pull::content_digest(&answer)? {
        Some(digest) => Some(digest),
        None => pull::resolve(http, repository, tag).await?,
    };
    verify_stored_digest(&answer, stored, manifest)
}

/// Puts a manifest by its digest, without a tag, and sees that it is there.
pub(super) async fn put_manifest(
    http: &Connection,
    repository: &RepositoryName,
    manifest: &RawManifest,
) -> Result<(), RegistryError> {
    let answer = put(http, repository, &manifest.digest.to_string(), manifest, None).await?;
    let stored = match pull::content_digest(&answer)? {
        Some(digest) => Some(digest),
        None => pull::has_manifest(http, repository, &manifest.digest).await?.then(|| manifest.digest.clone()),
    };
    verify_stored_digest(&answer, stored, manifest)
}

async fn put(
    http: &Connection,
    repository: &RepositoryName,
    reference: &str,
    manifest: &RawManifest,
    clearance: Option<WritePermit>,
) -> Result<Response, RegistryError> {
    let ask = Request {
        method: Method::PUT,
        content: Some((manifest.media_type.clone(), manifest.bytes.clone())),
        retry_mode: RetryMode::RecheckFirst,
        ..Request::get(http.url(&format!("/v2/{repository}/manifests/{reference}")), "*/*", MAX_ERROR_BYTES)
    };
    let grant = TokenScope::Push(repository.clone());
    let answer = match clearance {
        Some(clearance) => http.send_with_permit(&grant, &ask, clearance).await?,
        None => http.send(&grant, &ask).await?,
    };
    match answer.status.as_u16() {
        201 => Ok(answer),
        409 | 412 | 423 => Err(answer.error(RegistryErrorKind::Locked)),
        400 | 405 if is_lock_refusal(&answer) => Err(answer.error(RegistryErrorKind::Locked)),
        _ => Err(answer.status_error()),
    }
}

fn verify_stored_digest(
    answer: &Response,
    stored: Option<Digest>,
    manifest: &RawManifest,
) -> Result<(), RegistryError> {
    if stored.as_ref() == Some(&manifest.digest) {
        return Ok(());
    }
    let stored = stored.map_or_else(|| "nothing".to_owned(), |digest| digest.to_string());
    Err(RegistryError {
        kind: RegistryErrorKind::DigestMismatch,
        message: format!("{} stored {stored} instead of {}; look at it by hand", answer.request, manifest.digest),
    })
}

/// What came of a deletion.
pub(super) fn removal_result(answer: &Response) -> Result<RemovalResponse, RegistryError> {
    match answer.status.as_u16() {
        200 | 202 | 204 if answer.is_web_page() => Err(answer.malformed("no registry answers a deletion so")),
        200 | 202 | 204 => Ok(RemovalResponse::Removed { request_id: request_id(answer), digest: None }),
        404 if answer.is_absence() => Ok(RemovalResponse::AlreadyMissing),
        409 | 412 | 423 => Err(answer.error(RegistryErrorKind::Locked)),
        400 | 403 | 405 if is_lock_refusal(answer) => Err(answer.error(RegistryErrorKind::Locked)),
        // The page of a proxy or a firewall is no word of the registry's about what it removes.
        400 | 403 | 405 if answer.is_web_page() => Err(answer.malformed("a registry refuses in its own words")),
        400 | 405 => Err(answer.error(RegistryErrorKind::Unsupported)),
        401 => Err(answer.error(RegistryErrorKind::Unauthenticated)),
        _ => Err(answer.status_error()),
    }
}

/// Whether a refusal is about this one tag or manifest, by the words that registries use for locks: zot's `DENIED` with
/// 405, Azure's `REGISTRY_DISALLOWED_OPERATION`, Harbor's and Quay's immutable tags.
fn is_lock_refusal(answer: &Response) -> bool {
    let Some(code) = answer.error_code() else { return false };
    let code = code.to_ascii_uppercase();
    let denied = code == "DENIED" && answer.status != StatusCode::FORBIDDEN;
    denied || ["DISALLOWED", "IMMUTABLE", "LOCKED", "PRECONDITION"].iter().any(|word| code.contains(word))
}

/// What the registry gave by which its operators find this request again.
fn request_id(answer: &Response) -> String {
    ["x-ms-correlation-request-id", "x-request-id"]
        .iter()
        .find_map(|name| Some(format!("{name}: {}", answer.header(name)?)))
        .unwrap_or_default()
}
