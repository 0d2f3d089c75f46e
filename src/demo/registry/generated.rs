//! Responses of generated repositories in the distribution dialect. A change that the formula cannot record first loads
//! the repository into memory.

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::api_request::{ApiRequest, Route, parse_digest, parse_reference, refuse_unaccepted};
use super::content::{Content, GeneratedRepository, Order, Reference};
use super::response::{
    ErrorResponse, Page, blob_response, blob_unknown, created_response, json_response, manifest_response, paginate,
    with_link,
};
use super::{Options, TagDeletion};
use crate::domain::Digest;

/// Returns the response of a generated repository; `None` if the repository is in memory, possibly since just now.
pub(super) fn respond(
    route: &Route,
    call: &ApiRequest<'_>,
    options: &Options,
    content: &mut Content,
) -> Option<Result<Response, ErrorResponse>> {
    let name = route.name().filter(|name| content.is_generated(name))?;
    let reads = matches!(*call.method, Method::GET | Method::HEAD);
    if reads {
        let found = content.generated_repository(name)?;
        return match route {
            Route::Tags { .. } => Some(tags(call, options, &found, name)),
            Route::Manifest { reference, .. } => Some(manifest(call, &found, reference)),
            Route::Blob { digest, .. } => Some(blob(&found, digest)),
            // Generated content has no referrers, and there are no uploads yet.
            _ => None,
        };
    }
    if let Route::Manifest { reference, .. } = route {
        let changed = match *call.method {
            Method::PUT => put(call, content, name, reference),
            Method::DELETE if options.tag_deletion == TagDeletion::Untags => untag(content, name, reference),
            _ => None,
        };
        if changed.is_some() {
            return changed;
        }
    }
    content.materialize(name);
    None
}

fn tags(
    call: &ApiRequest<'_>,
    options: &Options,
    found: &GeneratedRepository<'_>,
    name: &str,
) -> Result<Response, ErrorResponse> {
    let after = |last| found.tags_after(Order::Name, Some(last)).map(|(tag, _)| tag);
    let Page { rows, link } = paginate(after, Clone::clone, (call.path, call.query), options.page_size)?;
    let body = json!({ "name": name, "tags": rows });
    Ok(with_link(json_response(StatusCode::OK, "application/json", &body), link))
}

fn manifest(call: &ApiRequest<'_>, found: &GeneratedRepository<'_>, written: &str) -> Result<Response, ErrorResponse> {
    let reference = parse_reference(written)?;
    let position = found.resolve(&reference).ok_or_else(|| ErrorResponse::manifest_unknown(written))?;
    let media_type = found.media_type(position);
    refuse_unaccepted(call.headers, media_type)?;
    Ok(manifest_response(media_type, found.digest(position), found.manifest_bytes(position)))
}

fn blob(found: &GeneratedRepository<'_>, written: &str) -> Result<Response, ErrorResponse> {
    let blob = found.blob(&parse_digest(written)?).ok_or_else(|| blob_unknown(written))?;
    Ok(blob_response(&blob))
}

/// Pushes a known manifest; `None` if the push needs the repository in memory.
fn put(
    call: &ApiRequest<'_>,
    content: &mut Content,
    name: &str,
    written: &str,
) -> Option<Result<Response, ErrorResponse>> {
    let reference = parse_reference(written).ok()?;
    let digest = Digest::of(&call.body);
    if matches!(&reference, Reference::Digest(named) if *named != digest) {
        return None;
    }
    let media_type = call.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let stored = content.put_generated(name, &reference, &digest, media_type);
    stored.then(|| Ok(created_response(&format!("/v2/{name}/manifests/{digest}"), &digest)))
}

/// Removes a tag; `None` if that needs the repository in memory.
fn untag(content: &mut Content, name: &str, written: &str) -> Option<Result<Response, ErrorResponse>> {
    let Ok(Reference::Tag(tag)) = parse_reference(written) else { return None };
    if content.generated_repository(name)?.tag(&tag).is_none() {
        return Some(Err(ErrorResponse::manifest_unknown(written)));
    }
    content.remove_generated_tag(name, &tag).then(|| Ok(StatusCode::ACCEPTED.into_response()))
}
