//! The reads of the distribution API, each with its response parsed and its content verified.

use http::StatusCode;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use url::Url;

use super::auth::TokenScope;
use super::connection::{HttpConnection, RedirectPolicy};
use super::pagination::{self, ListFormat};
use super::{list_gaps, wire};
use crate::domain::{Digest, GapTarget, RepositoryName, TagName};
use crate::http_client::{Request, Response};
use crate::registry::{Catalogue, RawManifest, RegistryError, RegistryErrorKind};

/// Every type of manifest in use. Without the right one a registry converts, or returns 404.
pub(in crate::registry) const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.oci.artifact.manifest.v1+json, application/vnd.cncf.oras.artifact.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v1+prettyjws, application/vnd.docker.distribution.manifest.v1+json, \
     */*;q=0.1";

/// The catalogue of repositories.
const CATALOGUE: ListFormat = ListFormat { accept: "application/json", parse_page: wire::catalogue_page };
/// The tags of a repository.
pub(in crate::registry) const TAGS: ListFormat = ListFormat { accept: "application/json", parse_page: wire::tags_page };
/// The referrers of a manifest.
pub(in crate::registry) const REFERRERS: ListFormat = ListFormat {
    accept: "application/vnd.oci.image.index.v1+json, application/json",
    parse_page: wire::referrers_page,
};

/// All repositories, by the distribution API's catalogue. Later pages that fail are gaps.
///
/// # Errors
/// When not even the first page could be read; `refused` says what to do where that is because nobody may, or there is none.
pub(in crate::registry) async fn catalogue(
    http: &HttpConnection,
    refused: &'static str,
) -> Result<Catalogue, RegistryError> {
    let url = http.url("/v2/_catalog");
    let first = pagination::first_page(http, &TokenScope::Catalogue, &url, CATALOGUE).await?;
    if first.response.status != StatusCode::OK {
        let help = if matches!(first.response.status.as_u16(), 401 | 403 | 404 | 405) { refused } else { "" };
        return Err(first.response.status_error().with_help(help));
    }
    let pages = pagination::read_all(http, &TokenScope::Catalogue, first, CATALOGUE).await;
    if let (0, Some(error)) = (pages.pages_read, &pages.error) {
        return Err(error.clone());
    }
    let mut catalogue = Catalogue::default();
    catalogue.gaps.extend(pages.error.map(|error| error.into_gap(GapTarget::Catalogue)));
    for text in pages.names {
        match text.parse() {
            Ok(name) => catalogue.repositories.push(name),
            Err(error) => {
                let error: crate::domain::InvalidName = error;
                catalogue.gaps.push(list_gaps::invalid_repository(&text, &error));
            }
        }
    }
    Ok(catalogue)
}

/// Most bytes of a manifest. The specification asks registries to take 4 MiB.
const MAX_MANIFEST_BYTES: usize = 8 << 20;
const MAX_CONFIG_BYTES: usize = 16 << 20;

const CONTENT_DIGEST: &str = "docker-content-digest";

/// Returns the current digest of a tag; `None` if the registry does not know the tag.
///
/// By HEAD; by GET, and computed, if the registry returns no digest or does not support HEAD.
pub(in crate::registry) async fn resolve(
    http: &HttpConnection,
    repository: &RepositoryName,
    tag: &TagName,
) -> Result<Option<Digest>, RegistryError> {
    let scope = TokenScope::Pull(repository.clone());
    let url = http.url(&format!("/v2/{repository}/manifests/{tag}"));
    let response = http.read(&scope, Request::head(url.clone(), MANIFEST_TYPES), RedirectPolicy::SameOrigin).await?;
    match response.status.as_u16() {
        200 => {
            if let Some(digest) = content_digest(&response)? {
                return Ok(Some(digest));
            }
        }
        // A HEAD has no body that distinguishes a registry's own 404 from that of an intermediary.
        404 | 405 | 501 => {}
        _ => return Err(response.status_error()),
    }
    let response =
        http.read(&scope, Request::get(url, MANIFEST_TYPES, MAX_MANIFEST_BYTES), RedirectPolicy::SameOrigin).await?;
    if response.is_absence() {
        return Ok(None);
    }
    if response.status != StatusCode::OK {
        return Err(unproven_error(&response));
    }
    match content_digest(&response)? {
        Some(digest) if wire::is_manifest_of(&digest, &response.body) => Ok(Some(digest)),
        Some(digest) => Err(digest_mismatch_error(&response, &digest)),
        None => {
            let digest = wire::manifest_digest(&response.body);
            let media_type = wire::media_type(response.header(CONTENT_TYPE.as_str()), &response.body);
            let raw = RawManifest { digest: digest.clone(), media_type, bytes: response.body.clone().into() };
            // Without a digest to verify, it must at least be a manifest.
            wire::parse_manifest(&raw).map_err(|why| response.unparsable(why))?;
            Ok(Some(digest))
        }
    }
}

/// Returns the digest in a response's header. An invalid one is an error: the tag names something unknown.
pub(in crate::registry) fn content_digest(response: &Response) -> Result<Option<Digest>, RegistryError> {
    let mut told: Option<Digest> = None;
    for value in response.headers.get_all(CONTENT_DIGEST) {
        let text = value.to_str().unwrap_or_default().trim();
        let digest: Digest = text.parse().map_err(|error: crate::domain::InvalidDigest| response.unparsable(error))?;
        if told.as_ref().is_some_and(|told| *told != digest) {
            return Err(response.malformed("two different digests"));
        }
        told = Some(digest);
    }
    Ok(told)
}

/// Returns true if a manifest exists now.
pub(in crate::registry) async fn has_manifest(
    http: &HttpConnection,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<bool, RegistryError> {
    let url = http.url(&format!("/v2/{repository}/manifests/{digest}"));
    let scope = TokenScope::Pull(repository.clone());
    let response = http.read(&scope, Request::head(url, MANIFEST_TYPES), RedirectPolicy::SameOrigin).await?;
    match response.status.as_u16() {
        200 => Ok(true),
        404 | 405 | 501 => manifest(http, repository, digest).await.map(|found| found.is_some()),
        _ => Err(response.status_error()),
    }
}

/// Returns a manifest, verified; `None` if the registry does not know it.
pub(in crate::registry) async fn manifest(
    http: &HttpConnection,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Option<RawManifest>, RegistryError> {
    manifest_at(http, http.url(&format!("/v2/{repository}/manifests/{digest}")), repository, digest).await
}

/// Does the same where a product has its manifests at another address.
pub(in crate::registry) async fn manifest_at(
    http: &HttpConnection,
    url: Url,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Option<RawManifest>, RegistryError> {
    let request = Request::get(url, MANIFEST_TYPES, MAX_MANIFEST_BYTES);
    let response = http.read(&TokenScope::Pull(repository.clone()), request, RedirectPolicy::AnyHost).await?;
    if response.is_absence() {
        return Ok(None);
    }
    if response.status != StatusCode::OK {
        return Err(unproven_error(&response));
    }
    if !wire::is_manifest_of(digest, &response.body) {
        return Err(digest_mismatch_error(&response, digest));
    }
    let media_type = wire::media_type(response.header(CONTENT_TYPE.as_str()), &response.body);
    Ok(Some(RawManifest { digest: digest.clone(), media_type, bytes: response.body.into() }))
}

/// Returns the creation time in an image configuration, verified.
pub(in crate::registry) async fn config_created_at(
    http: &HttpConnection,
    repository: &RepositoryName,
    config: &Digest,
) -> Result<Option<Timestamp>, RegistryError> {
    let response = read_configuration(http, configuration_url(http, repository, config), repository, config).await?;
    wire::config_created_at(&response.body).map_err(|why| response.unparsable(why))
}

/// Returns an image configuration, verified.
pub(in crate::registry) async fn configuration(
    http: &HttpConnection,
    repository: &RepositoryName,
    config: &Digest,
) -> Result<Vec<u8>, RegistryError> {
    configuration_at(http, configuration_url(http, repository, config), repository, config).await
}

/// Does the same where a product has its blobs at another address.
pub(in crate::registry) async fn configuration_at(
    http: &HttpConnection,
    url: Url,
    repository: &RepositoryName,
    config: &Digest,
) -> Result<Vec<u8>, RegistryError> {
    Ok(read_configuration(http, url, repository, config).await?.body)
}

fn configuration_url(http: &HttpConnection, repository: &RepositoryName, config: &Digest) -> Url {
    http.url(&format!("/v2/{repository}/blobs/{config}"))
}

async fn read_configuration(
    http: &HttpConnection,
    url: Url,
    repository: &RepositoryName,
    config: &Digest,
) -> Result<Response, RegistryError> {
    let request = Request::get(url, "*/*", MAX_CONFIG_BYTES);
    let response = http.read(&TokenScope::Pull(repository.clone()), request, RedirectPolicy::AnyHost).await?;
    if response.status != StatusCode::OK {
        return Err(response.status_error());
    }
    if !config.matches(&response.body) {
        return Err(digest_mismatch_error(&response, config));
    }
    Ok(response)
}

/// Returns the error for a 404 that is not the registry's own and proves nothing.
fn unproven_error(response: &Response) -> RegistryError {
    if response.status == StatusCode::NOT_FOUND {
        response.error(RegistryErrorKind::Malformed)
    } else {
        response.status_error()
    }
}

fn digest_mismatch_error(response: &Response, digest: &Digest) -> RegistryError {
    RegistryError::new(
        RegistryErrorKind::DigestMismatch,
        format!(
            "{} answered with {} bytes that are not {digest}: they are {}; {}",
            response.request,
            response.body.len(),
            Digest::of(&response.body),
            if response.is_web_page() {
                "it is a web page: is a proxy or a login page in between?"
            } else {
                "the registry's storage or something on the way is broken"
            }
        ),
    )
}

/// The result of a request for referrers.
pub(in crate::registry) enum ReferrersResponse {
    /// These, with the failure if that is not all of them.
    Listed(Vec<Digest>, Option<RegistryError>),
    /// The registry does not support the request; referrers are in fallback tags, if there are any.
    Unsupported,
}

/// Returns all manifests that refer to one.
///
/// # Errors
/// Returns an error if the list cannot be read in full, or the registry does not support the request.
pub(in crate::registry) async fn all_referrers(
    http: &HttpConnection,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Vec<Digest>, RegistryError> {
    match referrers(http, repository, digest).await? {
        ReferrersResponse::Listed(_, Some(error)) => Err(error),
        ReferrersResponse::Listed(digests, None) => Ok(digests),
        ReferrersResponse::Unsupported => Err(RegistryError::new(
            RegistryErrorKind::Unsupported,
            format!(
                "registry `{}` does not list what refers to a manifest (OCI distribution 1.1), so it is not known whether \
                 anything refers to {digest} of {repository}",
                http.settings.name
            ),
        )),
    }
}

/// Returns the manifests that refer to one. A 404, 400 or 405 means that the registry has no such API, unless it
/// concerns the repository.
pub(in crate::registry) async fn referrers(
    http: &HttpConnection,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<ReferrersResponse, RegistryError> {
    let scope = TokenScope::Pull(repository.clone());
    let url = http.url(&format!("/v2/{repository}/referrers/{digest}"));
    // This list has no `n` in the specification, and a 400 for it would look like an unsupported request.
    let first = pagination::first_page_unsized(http, &scope, url.clone(), REFERRERS).await?;
    match first.response.status.as_u16() {
        200 => {}
        400 | 404 | 405 if first.response.error_code().as_deref() != Some("NAME_UNKNOWN") => {
            return Ok(ReferrersResponse::Unsupported);
        }
        _ => return Err(first.response.status_error()),
    }
    let pages = pagination::read_all(http, &scope, first, REFERRERS).await;
    let mut trouble = pages.error;
    let mut digests = Vec::with_capacity(pages.names.len());
    for name in pages.names {
        match name.parse() {
            Ok(digest) => digests.push(digest),
            Err(error) => {
                let error: crate::domain::InvalidDigest = error;
                let message = format!("GET {url} lists a referrer that cannot be understood");
                trouble = Some(RegistryError::new(RegistryErrorKind::Malformed, message).caused_by(error));
            }
        }
    }
    Ok(ReferrersResponse::Listed(digests, trouble))
}
