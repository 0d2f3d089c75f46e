//! Deletions and pushes by the distribution API, for every product that has them.

use http::{Method, StatusCode};

use super::auth::TokenScope;
use super::connection::{Connection, WritePermit};
use super::{RawManifest, RegistryError, RegistryErrorKind, RemovalResponse, pull};
use crate::domain::{Digest, RepositoryName, TagName};
use crate::http_client::{MAX_ERROR_BYTES, Request, Response, RetryMode};

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
