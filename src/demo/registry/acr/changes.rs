//! Changes: locks, untags, deletions, pushes unless locked, and restores of deleted content.

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::content::{Attributes, Content, RestoreError, Target};
use super::super::response::{ErrorResponse, Query};
use super::acr_json_response;
use super::bodies::format_time;
use super::lists::{manifest_unknown, name_unknown, tag_unknown};
use crate::domain::{Digest, TagName};

const UNTAGGED_DIGEST: HeaderName = HeaderName::from_static("x-ms-int-docker-content-digest");

/// Handles `PATCH`: sets those of the four attributes that the body names. Returns false if the target does not exist.
pub(super) fn set_attributes(
    content: &mut Content,
    name: &str,
    target: Target<'_>,
    body: &Bytes,
) -> Result<bool, ErrorResponse> {
    let invalid = || {
        ErrorResponse::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", "the attributes are not a JSON object of booleans")
    };
    let body: Value = serde_json::from_slice(body).map_err(|_| invalid())?;
    let Some(attributes) = content.attributes_mut(name, target) else { return Ok(false) };
    let Attributes { delete, write, read, list } = attributes;
    for (key, attribute) in
        [("deleteEnabled", delete), ("writeEnabled", write), ("readEnabled", read), ("listEnabled", list)]
    {
        match body.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::Bool(value)) => *attribute = *value,
            Some(_) => return Err(invalid()),
        }
    }
    Ok(true)
}

/// Handles `DELETE /acr/v1/{repository}/_tags/{tag}`: removes the tag and leaves its manifest.
pub(super) fn untag(content: &mut Content, name: &str, tag: &str) -> Result<Response, ErrorResponse> {
    let found = content.tag(name, tag).ok_or_else(tag_unknown)?;
    let digest = found.digest.clone();
    let manifest = content.manifest(name, &digest).is_none_or(|manifest| manifest.attributes.is_deletable());
    if !(found.attributes.is_deletable() && manifest && repository_attributes(content, name).is_deletable()) {
        return Err(disallowed_error());
    }
    content.delete_tag(name, tag);
    Ok(untagged_response(&digest))
}

/// Returns `202 Accepted` for a tag with that digest.
pub(super) fn untagged_response(digest: &Digest) -> Response {
    let digest = HeaderValue::try_from(digest.to_string()).expect("a digest is plain text");
    (StatusCode::ACCEPTED, [(UNTAGGED_DIGEST, digest)]).into_response()
}

/// Handles `DELETE /v2/{repository}/manifests/{digest}`: removes the manifest with all its tags and referrers.
pub(super) fn delete_manifest(content: &mut Content, name: &str, written: &str) -> Result<Response, ErrorResponse> {
    let Ok(digest) = written.parse::<Digest>() else {
        let message = "A manifest can only be deleted by digest.";
        return Err(ErrorResponse::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message));
    };
    if content.manifest(name, &digest).is_none() {
        return Err(manifest_unknown(written));
    }
    if !repository_attributes(content, name).is_deletable() || !is_deletable(content, name, &digest) {
        return Err(disallowed_error());
    }
    content.delete_manifest(name, &digest);
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Returns true if neither the manifest nor any tag of it is locked.
fn is_deletable(content: &Content, name: &str, digest: &Digest) -> bool {
    content.manifest(name, digest).is_none_or(|manifest| {
        let mut tags = manifest.tags.iter().filter_map(|tag| content.tag(name, tag));
        manifest.attributes.is_deletable() && tags.all(|tag| tag.attributes.is_deletable())
    })
}

/// Handles `DELETE /acr/v1/{repository}`: removes everything in it.
pub(super) fn delete_repository(content: &mut Content, name: &str) -> Result<Response, ErrorResponse> {
    if content.repository(name).is_none() {
        return Err(name_unknown(name));
    }
    let tags: Vec<String> = content.tags(name).into_keys().collect();
    let digests: Vec<Digest> = content.manifests(name).map(|(digest, _)| digest.clone()).collect();
    let locked = digests.iter().any(|digest| !is_deletable(content, name, digest));
    if locked || !repository_attributes(content, name).is_deletable() {
        return Err(disallowed_error());
    }
    content.delete_repository(name);
    let digests: Vec<String> = digests.iter().map(Digest::to_string).collect();
    Ok(acr_json_response(StatusCode::ACCEPTED, &json!({ "manifestsDeleted": digests, "tagsDeleted": tags })))
}

/// Allows the put of a manifest, unless the repository or the tag that it moves is locked.
pub(super) fn check_put(content: &Content, name: &str, written: &str) -> Result<(), ErrorResponse> {
    let tag = content.tag(name, written).is_none_or(|tag| tag.attributes.write);
    if tag && repository_attributes(content, name).write { Ok(()) } else { Err(disallowed_error()) }
}

/// Allows pushes of blobs, unless the repository is locked.
pub(super) fn check_push(content: &Content, name: &str) -> Result<(), ErrorResponse> {
    if repository_attributes(content, name).write { Ok(()) } else { Err(disallowed_error()) }
}

/// Allows the pull of a manifest, or without one of a blob, unless reading is disabled.
pub(super) fn check_pull(content: &Content, name: &str, reference: Option<&str>) -> Result<(), ErrorResponse> {
    let tag = reference.and_then(|written| content.tag(name, written));
    let digest = tag.map(|tag| tag.digest.clone()).or_else(|| reference?.parse().ok());
    let manifest = digest.and_then(|digest| content.manifest(name, &digest));
    let read = tag.is_none_or(|tag| tag.attributes.read)
        && manifest.is_none_or(|manifest| manifest.attributes.read)
        && repository_attributes(content, name).read;
    if read { Ok(()) } else { Err(disallowed_error()) }
}

fn repository_attributes(content: &Content, name: &str) -> Attributes {
    content.repository(name).map(|found| found.attributes).unwrap_or_default()
}

pub(super) fn disallowed_error() -> ErrorResponse {
    let message = "The operation is disallowed on this registry, repository or image.";
    ErrorResponse::new(StatusCode::METHOD_NOT_ALLOWED, "REGISTRY_DISALLOWED_OPERATION", message)
}

/// Handles `GET /acr/v1/_deleted/_catalog`.
pub(super) fn deleted_catalog(content: &Content) -> Response {
    let names: Vec<&str> = content.deletions.bins().map(|(name, _)| name).collect();
    acr_json_response(StatusCode::OK, &json!({ "repositories": names }))
}

/// Handles `GET /acr/v1/_deleted/{repository}/_tags`.
pub(super) fn deleted_tags(content: &Content, name: &str, host: &str) -> Result<Response, ErrorResponse> {
    let bin = content.deletions.bin_of(name).ok_or_else(|| name_unknown(name))?;
    let row = |((tag, digest), deleted): (&(String, Digest), &jiff::Timestamp)| json!({ "tag": tag, "digest": digest.to_string(), "deletedAt": format_time(*deleted) });
    let rows: Vec<Value> = bin.tags.iter().map(row).collect();
    Ok(acr_json_response(StatusCode::OK, &json!({ "registry": host, "imageName": name, "tags": rows })))
}

/// Handles `GET /acr/v1/_deleted/{repository}/_manifests`.
pub(super) fn deleted_manifests(content: &Content, name: &str, host: &str) -> Result<Response, ErrorResponse> {
    let bin = content.deletions.bin_of(name).ok_or_else(|| name_unknown(name))?;
    let rows = bin.manifests.iter().map(|(digest, (manifest, deleted))| {
        json!({ "digest": digest.to_string(), "imageSize": manifest.image_size, "mediaType": manifest.media_type,
                "createdTime": format_time(manifest.created), "lastUpdateTime": format_time(manifest.updated),
                "deletedAt": format_time(*deleted) })
    });
    let rows: Vec<Value> = rows.collect();
    Ok(acr_json_response(StatusCode::OK, &json!({ "registry": host, "imageName": name, "manifests": rows })))
}

/// Handles `POST /acr/v1/_deleted/{repository}/_manifests/{digest}?force=` with `{"tag"}`.
pub(super) fn restore(
    content: &mut Content,
    name: &str,
    digest: &Digest,
    query: &Query,
    body: &Bytes,
) -> Result<Response, ErrorResponse> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let tag = body["tag"].as_str().filter(|tag| tag.parse::<TagName>().is_ok());
    let tag =
        tag.ok_or_else(|| ErrorResponse::new(StatusCode::BAD_REQUEST, "TAG_INVALID", "no tag to restore it under"))?;
    let force = query.get("force").is_some_and(|force| force.eq_ignore_ascii_case("true"));
    content.restore(name, digest, tag, force).map_err(|error| match error {
        RestoreError::Unknown => manifest_unknown(&digest.to_string()),
        RestoreError::TagInUse => {
            let message = format!("the tag \"{tag}\" is in use; restore with force=true to move it");
            ErrorResponse::new(StatusCode::CONFLICT, "CONFLICT", message)
        }
    })?;
    Ok(StatusCode::ACCEPTED.into_response())
}
