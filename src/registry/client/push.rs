//! Deletions and pushes by the distribution API, for every product that has them.

use http::{Method, StatusCode};

use super::auth::TokenScope;
use super::connection::{HttpConnection, WritePermit};
use super::pull;
use crate::domain::{Digest, RepositoryName, TagName};
use crate::http_client::{MAX_ERROR_BYTES, Request, Response, RetryMode};
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind, RemovalResponse};

/// Deletes by the distribution API: a manifest by its digest, with every tag that names it, or a tag by its name.
pub(in crate::registry) async fn delete(
    http: &HttpConnection,
    repository: &RepositoryName,
    reference: &str,
    clearance: WritePermit,
) -> Result<RemovalResponse, RegistryError> {
    let url = http.url(&format!("/v2/{repository}/manifests/{reference}"));
    let response =
        http.send_with_permit(&TokenScope::Delete(repository.clone()), &Request::delete(url), clearance).await?;
    removal_result(&response)
}

/// Puts a manifest under a tag by the distribution API, and verifies that it was stored under its own digest.
pub(in crate::registry) async fn put_tag(
    http: &HttpConnection,
    repository: &RepositoryName,
    tag: &TagName,
    manifest: &RawManifest,
    clearance: WritePermit,
) -> Result<(), RegistryError> {
    let response = put(http, repository, tag.as_str(), manifest, Some(clearance)).await?;
    let stored = match pull::content_digest(&response)? {
        Some(digest) => Some(digest),
        None => pull::resolve(http, repository, tag).await?,
    };
    verify_stored_digest(&response, stored, manifest)
}

/// Puts a manifest by its digest, without a tag, and verifies that it exists.
pub(in crate::registry) async fn put_manifest(
    http: &HttpConnection,
    repository: &RepositoryName,
    manifest: &RawManifest,
) -> Result<(), RegistryError> {
    let response = put(http, repository, &manifest.digest.to_string(), manifest, None).await?;
    let stored = match pull::content_digest(&response)? {
        Some(digest) => Some(digest),
        None => pull::has_manifest(http, repository, &manifest.digest).await?.then(|| manifest.digest.clone()),
    };
    verify_stored_digest(&response, stored, manifest)
}

async fn put(
    http: &HttpConnection,
    repository: &RepositoryName,
    reference: &str,
    manifest: &RawManifest,
    clearance: Option<WritePermit>,
) -> Result<Response, RegistryError> {
    let request = Request {
        method: Method::PUT,
        content: Some((manifest.media_type.clone(), manifest.bytes.clone())),
        retry_mode: RetryMode::RecheckFirst,
        ..Request::get(http.url(&format!("/v2/{repository}/manifests/{reference}")), "*/*", MAX_ERROR_BYTES)
    };
    let scope = TokenScope::Push(repository.clone());
    let response = match clearance {
        Some(clearance) => http.send_with_permit(&scope, &request, clearance).await?,
        None => http.send(&scope, &request).await?,
    };
    match response.status.as_u16() {
        201 => Ok(response),
        409 | 412 | 423 => Err(response.error(RegistryErrorKind::Locked)),
        400 | 401 | 405 if is_lock_refusal(&response) => Err(response.error(RegistryErrorKind::Locked)),
        _ => Err(response.status_error()),
    }
}

fn verify_stored_digest(
    response: &Response,
    stored: Option<Digest>,
    manifest: &RawManifest,
) -> Result<(), RegistryError> {
    if stored.as_ref() == Some(&manifest.digest) {
        return Ok(());
    }
    let stored = stored.map_or_else(|| "nothing".to_owned(), |digest| digest.to_string());
    Err(RegistryError::new(
        RegistryErrorKind::DigestMismatch,
        format!("{} stored {stored} instead of {}; look at it by hand", response.request, manifest.digest),
    ))
}

/// Returns the result that a response to a deletion means.
pub(in crate::registry) fn removal_result(response: &Response) -> Result<RemovalResponse, RegistryError> {
    match response.status.as_u16() {
        200 | 202 | 204 if response.is_web_page() => Err(response.malformed("no registry answers a deletion so")),
        200 | 202 | 204 => Ok(RemovalResponse::Removed { request_id: request_id(response), digest: None }),
        404 if response.is_absence() => Ok(RemovalResponse::AlreadyMissing),
        409 | 412 | 423 => Err(response.error(RegistryErrorKind::Locked)),
        400 | 401 | 403 | 405 if is_lock_refusal(response) => Err(response.error(RegistryErrorKind::Locked)),
        // The page of a proxy or a firewall says nothing about what the registry removes.
        400 | 403 | 405 if response.is_web_page() => Err(response.malformed("a registry refuses in its own words")),
        400 | 405 => Err(response.error(RegistryErrorKind::Unsupported)),
        401 => Err(response.error(RegistryErrorKind::Unauthenticated)),
        _ => Err(response.status_error()),
    }
}

/// Whether a refusal is about this one tag or manifest, by the words that registries use for locks: zot's `DENIED` with
/// 405, Azure's `REGISTRY_DISALLOWED_OPERATION`, Harbor's and Quay's immutable tags, and what GitLab answers with 401 or 400
/// although no other identity is asked for: `PROTECTED_TAG`, `IMMUTABLE_TAG`, `TAG_PROTECTION_PATTERN_INVALID` and
/// `TAG_PATTERN_COUNT_LIMIT_EXCEEDED`.
fn is_lock_refusal(response: &Response) -> bool {
    const WORDS: [&str; 7] =
        ["DISALLOWED", "IMMUTAB", "LOCKED", "PRECONDITION", "PROTECTED", "TAG_PATTERN", "TAG_PROTECTION"];
    let Some(code) = response.error_code() else { return false };
    let code = code.to_ascii_uppercase();
    let is_identity = matches!(response.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    code == "DENIED" && !is_identity || WORDS.iter().any(|word| code.contains(word))
}

/// Returns the id by which the registry's operators find this request.
fn request_id(response: &Response) -> String {
    ["x-ms-correlation-request-id", "x-request-id"]
        .iter()
        .find_map(|name| Some(format!("{name}: {}", response.header(name)?)))
        .unwrap_or_default()
}
