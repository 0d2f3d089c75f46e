//! The reading requests of the distribution API, each with its answer understood and its content verified.

use http::StatusCode;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;

use super::auth::TokenScope;
use super::connection::{Connection, RedirectPolicy};
use super::pagination::{self, ListFormat};
use super::{RawManifest, RegistryError, RegistryErrorKind, wire};
use crate::domain::{Digest, RepositoryName, TagName};
use crate::http_client::{Request, Response};

/// Every type of manifest in use. Without the right one a registry converts, or answers 404.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.oci.artifact.manifest.v1+json, application/vnd.cncf.oras.artifact.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v1+prettyjws, application/vnd.docker.distribution.manifest.v1+json, \
     */*;q=0.1";

/// The catalogue of repositories.
pub(super) const CATALOGUE: ListFormat = ListFormat { accept: "application/json", parse_page: wire::catalogue_page };
/// The tags of a repository.
pub(super) const TAGS: ListFormat = ListFormat { accept: "application/json", parse_page: wire::tags_page };
/// The referrers of a manifest.
pub(super) const REFERRERS: ListFormat = ListFormat {
    accept: "application/vnd.oci.image.index.v1+json, application/json",
    parse_page: wire::referrers_page,
};

/// Most bytes of a manifest. The specification asks registries to take 4 MiB.
const MAX_MANIFEST_BYTES: usize = 8 << 20;
const MAX_CONFIG_BYTES: usize = 16 << 20;

const CONTENT_DIGEST: &str = "docker-content-digest";

/// The digest that a tag names right now; nothing if the registry knows no such tag.
///
/// Asked by HEAD; by GET, and computed, where the registry gives no digest or does not do HEAD.
pub(super) async fn resolve(
    http: &Connection,
    repository: &RepositoryName,
    tag: &TagName,
) -> Result<Option<Digest>, RegistryError> {
    let grant = TokenScope::Pull(repository.clone());
    let url = http.url(&format!("/v2/{repository}/manifests/{tag}"));
    let answer = http.read(&grant, Request::head(url.clone(), MANIFEST_TYPES), RedirectPolicy::SameOrigin).await?;
    match answer.status.as_u16() {
        200 => {
            if let Some(digest) = content_digest(&answer)? {
                return Ok(Some(digest));
            }
        }
        // A HEAD has no words by which a registry's own 404 could be told from that of something in between.
        404 | 405 | 501 => {}
        _ => return Err(answer.status_error()),
    }
    let answer =
        http.read(&grant, Request::get(url, MANIFEST_TYPES, MAX_MANIFEST_BYTES), RedirectPolicy::SameOrigin).await?;
    if answer.is_absence() {
        return Ok(None);
    }
    if answer.status != StatusCode::OK {
        return Err(unproven_error(&answer));
    }
    match content_digest(&answer)? {
        Some(digest) if wire::is_manifest_of(&digest, &answer.body) => Ok(Some(digest)),
        Some(digest) => Err(digest_mismatch_error(&answer, &digest)),
        None => {
            let digest = wire::manifest_digest(&answer.body);
            let media_type = wire::media_type(answer.header(CONTENT_TYPE.as_str()), &answer.body);
            let raw = RawManifest { digest: digest.clone(), media_type, bytes: answer.body.clone().into() };
            // Without a digest to check against, at least a manifest it must be.
            wire::parse_manifest(&raw).map_err(|why| answer.malformed(&why))?;
            Ok(Some(digest))
        }
    }
}

/// The digest in an answer's header. One that cannot be understood is an error: the tag names something, but what?
pub(super) fn content_digest(answer: &Response) -> Result<Option<Digest>, RegistryError> {
    let mut told: Option<Digest> = None;
    for value in answer.headers.get_all(CONTENT_DIGEST) {
        let text = value.to_str().unwrap_or_default().trim();
        let digest: Digest =
            text.parse().map_err(|error: crate::domain::InvalidDigest| answer.malformed(&error.to_string()))?;
        if told.as_ref().is_some_and(|told| *told != digest) {
            return Err(answer.malformed("two different digests"));
        }
        told = Some(digest);
    }
    Ok(told)
}

/// Whether a manifest is there right now.
pub(super) async fn has_manifest(
    http: &Connection,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<bool, RegistryError> {
    let url = http.url(&format!("/v2/{repository}/manifests/{digest}"));
    let grant = TokenScope::Pull(repository.clone());
    let answer = http.read(&grant, Request::head(url, MANIFEST_TYPES), RedirectPolicy::SameOrigin).await?;
    match answer.status.as_u16() {
        200 => Ok(true),
        404 | 405 | 501 => manifest(http, repository, digest).await.map(|found| found.is_some()),
        _ => Err(answer.status_error()),
    }
}

/// A manifest, verified; nothing if the registry knows no such manifest.
pub(super) async fn manifest(
    http: &Connection,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Option<RawManifest>, RegistryError> {
    let url = http.url(&format!("/v2/{repository}/manifests/{digest}"));
    let ask = Request::get(url, MANIFEST_TYPES, MAX_MANIFEST_BYTES);
    let answer = http.read(&TokenScope::Pull(repository.clone()), ask, RedirectPolicy::AnyHost).await?;
    if answer.is_absence() {
        return Ok(None);
    }
    if answer.status != StatusCode::OK {
        return Err(unproven_error(&answer));
    }
    if !wire::is_manifest_of(digest, &answer.body) {
        return Err(digest_mismatch_error(&answer, digest));
    }
    let media_type = wire::media_type(answer.header(CONTENT_TYPE.as_str()), &answer.body);
    Ok(Some(RawManifest { digest: digest.clone(), media_type, bytes: answer.body.into() }))
}

/// What an image configuration says of its creation, verified.
pub(super) async fn config_created_at(
    http: &Connection,
    repository: &RepositoryName,
    config: &Digest,
) -> Result<Option<Timestamp>, RegistryError> {
    let url = http.url(&format!("/v2/{repository}/blobs/{config}"));
    let ask = Request::get(url, "*/*", MAX_CONFIG_BYTES);
    let answer = http.read(&TokenScope::Pull(repository.clone()), ask, RedirectPolicy::AnyHost).await?;
    if answer.status != StatusCode::OK {
        return Err(answer.status_error());
    }
    if !config.matches(&answer.body) {
        return Err(digest_mismatch_error(&answer, config));
    }
    wire::config_created_at(&answer.body).map_err(|why| answer.malformed(&why))
}

/// A 404 that is not the registry's own says nothing about what is there.
fn unproven_error(answer: &Response) -> RegistryError {
    if answer.status == StatusCode::NOT_FOUND {
        answer.error(RegistryErrorKind::Malformed)
    } else {
        answer.status_error()
    }
}

fn digest_mismatch_error(answer: &Response, digest: &Digest) -> RegistryError {
    RegistryError {
        kind: RegistryErrorKind::DigestMismatch,
        message: format!(
            "{} answered with {} bytes that are not {digest}: they are {}; {}",
            answer.request,
            answer.body.len(),
            Digest::of(&answer.body),
            if answer.is_web_page() {
                "it is a web page: is a proxy or a login page in between?"
            } else {
                "the registry's storage or something on the way is broken"
            }
        ),
    }
}

/// What came of asking for referrers.
pub(super) enum ReferrersResponse {
    /// These, and what went wrong where that is not all of them.
    Listed(Vec<Digest>, Option<RegistryError>),
    /// The registry does not know the question; referrers are in fallback tags, if there are any.
    Unsupported,
}

/// All manifests that refer to one.
///
/// # Errors
/// When the list could not be read whole, or the registry does not know the question.
pub(super) async fn all_referrers(
    http: &Connection,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Vec<Digest>, RegistryError> {
    match referrers(http, repository, digest).await? {
        ReferrersResponse::Listed(_, Some(error)) => Err(error),
        ReferrersResponse::Listed(digests, None) => Ok(digests),
        ReferrersResponse::Unsupported => Err(RegistryError {
            kind: RegistryErrorKind::Unsupported,
            message: format!(
                "registry `{}` does not list what refers to a manifest (OCI distribution 1.1), so it is not known whether \
                 anything refers to {digest} of {repository}",
                http.settings.name
            ),
        }),
    }
}

/// The manifests that refer to one. A 404, 400 or 405 says that the registry has no such API, unless it is about the
/// repository.
pub(super) async fn referrers(
    http: &Connection,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<ReferrersResponse, RegistryError> {
    let grant = TokenScope::Pull(repository.clone());
    let url = http.url(&format!("/v2/{repository}/referrers/{digest}"));
    // This list has no `n` in the specification, and a 400 for it would look like an unknown question.
    let first = pagination::first_page_unsized(http, &grant, url.clone(), REFERRERS).await?;
    match first.response.status.as_u16() {
        200 => {}
        400 | 404 | 405 if first.response.error_code().as_deref() != Some("NAME_UNKNOWN") => {
            return Ok(ReferrersResponse::Unsupported);
        }
        _ => return Err(first.response.status_error()),
    }
    let pages = pagination::read_all(http, &grant, first, REFERRERS).await;
    let mut trouble = pages.error;
    let mut digests = Vec::with_capacity(pages.names.len());
    for name in pages.names {
        match name.parse() {
            Ok(digest) => digests.push(digest),
            Err(error) => {
                let error: crate::domain::InvalidDigest = error;
                trouble = Some(RegistryError {
                    kind: RegistryErrorKind::Malformed,
                    message: format!("GET {url} lists a referrer that cannot be understood: {error}"),
                });
            }
        }
    }
    Ok(ReferrersResponse::Listed(digests, trouble))
}
