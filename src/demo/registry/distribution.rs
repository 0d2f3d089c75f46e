//! The distribution dialect: the routes of the OCI distribution specification, with the responses of distribution.

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::api_request::{ApiRequest, Route, parse_digest, parse_reference, refuse_unaccepted};
use super::content::{Content, Manifest, ManifestError, Reference};
use super::response::{
    ErrorResponse, Page, blob_response, blob_unknown, created_response, header_value, json_response, manifest_response,
    paginate, with_link,
};
use super::uploads::Uploads;
use super::{Options, TagDeletion, generated};
use crate::demo::image::media_type;
use crate::domain::Digest;

impl Route {
    /// Handles an authorized request.
    pub(super) fn respond(
        &self,
        call: ApiRequest<'_>,
        options: &Options,
        content: &mut Content,
        uploads: &mut Uploads,
    ) -> Response {
        let reads = matches!(*call.method, Method::GET | Method::HEAD);
        if !reads && options.read_only {
            return ErrorResponse::unsupported().into_response();
        }
        if let Some(answered) = generated::respond(self, &call, options, content) {
            return answered.unwrap_or_else(IntoResponse::into_response);
        }
        let answered = match self {
            Self::Ping if reads => Ok(json_response(StatusCode::OK, "application/json", &json!({}))),
            Self::Catalog if reads => catalog(&call, options, content),
            Self::Tags { name } if reads => tags(&call, options, content, name),
            Self::Manifest { name, reference } => manifest(call, options, content, name, reference),
            Self::Blob { name, digest } if reads => blob(content, name, digest),
            Self::Referrers { name, digest } if reads => referrers(&call, options, content, name, digest),
            Self::StartUpload { name } => uploads.start(&call, content, name),
            Self::Upload { name, id } => uploads.continue_upload(&call, content, name, id),
            _ => Err(ErrorResponse::unsupported()),
        };
        answered.unwrap_or_else(IntoResponse::into_response)
    }
}

fn catalog(call: &ApiRequest<'_>, options: &Options, content: &Content) -> Result<Response, ErrorResponse> {
    let after = |last| {
        let held = content.repositories_after(last).map(|(name, _)| name);
        content.with_generated_names(held, last)
    };
    let Page { rows, link } = paginate(after, |name| (*name).to_owned(), (call.path, call.query), options.page_size)?;
    Ok(with_link(json_response(StatusCode::OK, "application/json", &json!({ "repositories": rows })), link))
}

fn tags(call: &ApiRequest<'_>, options: &Options, content: &Content, name: &str) -> Result<Response, ErrorResponse> {
    if !content.has_repository(name) {
        return Err(ErrorResponse::name_unknown(name));
    }
    let after = |last| content.tags_after(name, last);
    let Page { rows, link } = paginate(after, |tag| (*tag).to_owned(), (call.path, call.query), options.page_size)?;
    // Distribution 2.8 returns `null` for a repository without tags, later versions `[]`.
    let listed = match options.tag_deletion {
        TagDeletion::Unsupported if rows.is_empty() => Value::Null,
        _ => json!(rows),
    };
    let body = json!({ "name": name, "tags": listed });
    Ok(with_link(json_response(StatusCode::OK, "application/json", &body), link))
}

fn manifest(
    call: ApiRequest<'_>,
    options: &Options,
    content: &mut Content,
    name: &str,
    written: &str,
) -> Result<Response, ErrorResponse> {
    let reference = parse_reference(written)?;
    match *call.method {
        Method::GET | Method::HEAD => {
            let found = content.resolve(name, &reference);
            let digest = found.ok_or_else(|| ErrorResponse::manifest_unknown(written))?;
            let manifest = content.manifest(name, &digest).ok_or_else(|| ErrorResponse::manifest_unknown(written))?;
            refuse_unaccepted(call.headers, &manifest.media_type)?;
            Ok(manifest_response(&manifest.media_type, &digest, manifest.bytes.clone()))
        }
        Method::PUT => put_manifest(call, options, content, name, &reference),
        Method::DELETE => delete_manifest(options, content, name, written, &reference),
        _ => Err(ErrorResponse::unsupported()),
    }
}

const OCI_SUBJECT: header::HeaderName = header::HeaderName::from_static("oci-subject");
const OCI_FILTERS_APPLIED: header::HeaderName = header::HeaderName::from_static("oci-filters-applied");

fn put_manifest(
    call: ApiRequest<'_>,
    options: &Options,
    content: &mut Content,
    name: &str,
    reference: &Reference,
) -> Result<Response, ErrorResponse> {
    let kind = call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let stored = content.put_manifest(name, reference, kind, call.body).map_err(|error| match error {
        ManifestError::Invalid(detail) => {
            ErrorResponse::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", "manifest invalid").detail(json!(detail))
        }
        ManifestError::DigestMismatch(actual) => ErrorResponse::digest_invalid(actual.to_string()),
        ManifestError::SoftDeleted(digest) => {
            let message = format!("the manifest {digest} is soft-deleted: restore it instead");
            ErrorResponse::new(StatusCode::CONFLICT, "CONFLICT", message)
        }
        ManifestError::Unknown(missing) => {
            let missing: Vec<String> = missing.iter().map(Digest::to_string).collect();
            let message = "blob unknown to registry";
            ErrorResponse::new(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", message)
                .detail(json!({ "digest": missing }))
        }
    })?;
    let mut response = created_response(&format!("/v2/{name}/manifests/{stored}"), &stored);
    let subject = content.manifest(name, &stored).and_then(|manifest| manifest.subject.as_ref());
    if let Some(subject) = subject.filter(|_| options.referrers_api) {
        response.headers_mut().insert(OCI_SUBJECT, header_value(&subject.to_string()));
    }
    Ok(response)
}

fn delete_manifest(
    options: &Options,
    content: &mut Content,
    name: &str,
    written: &str,
    reference: &Reference,
) -> Result<Response, ErrorResponse> {
    let removed = match (reference, options.tag_deletion) {
        (Reference::Digest(_), _) if !options.manifest_deletion => return Err(ErrorResponse::unsupported()),
        (Reference::Digest(digest), _) => content.delete_manifest(name, digest),
        (Reference::Tag(tag), TagDeletion::Untags) => content.delete_tag(name, tag),
        (Reference::Tag(_), TagDeletion::DeletesManifest) => match content.resolve(name, reference) {
            Some(digest) => content.delete_manifest(name, &digest),
            None => false,
        },
        (Reference::Tag(tag), TagDeletion::DeletesManifestWithLastTag) => {
            let named = content.resolve(name, reference);
            let removed = content.delete_tag(name, tag);
            if let Some(digest) = named.filter(|digest| !content.tags(name).values().any(|other| other == digest)) {
                content.delete_manifest(name, &digest);
            }
            removed
        }
        (Reference::Tag(_), TagDeletion::Unsupported) if options.manifest_deletion => {
            return Err(ErrorResponse::digest_invalid("invalid checksum digest format"));
        }
        (Reference::Tag(_), TagDeletion::Unsupported) => return Err(ErrorResponse::unsupported()),
    };
    if removed { Ok(StatusCode::ACCEPTED.into_response()) } else { Err(ErrorResponse::manifest_unknown(written)) }
}

fn blob(content: &Content, name: &str, written: &str) -> Result<Response, ErrorResponse> {
    let digest = parse_digest(written)?;
    let blob = content.blob(name, &digest).ok_or_else(|| blob_unknown(written))?;
    Ok(blob_response(blob))
}

fn referrers(
    call: &ApiRequest<'_>,
    options: &Options,
    content: &Content,
    name: &str,
    written: &str,
) -> Result<Response, ErrorResponse> {
    if !options.referrers_api {
        return Ok((StatusCode::NOT_FOUND, "404 page not found\n").into_response());
    }
    let subject = parse_digest(written)?;
    let wanted = call.query.get("artifactType").filter(|kind| !kind.is_empty());
    let asked = |manifest: &Manifest| wanted.is_none_or(|kind| manifest.artifact_type.as_deref() == Some(kind));
    let after = |last| {
        let found = content.referrers(name, &subject).filter(|(_, manifest)| asked(manifest));
        found.skip_while(move |(digest, _)| digest.to_string().as_str() <= last)
    };
    let Page { rows, link } =
        paginate(after, |(digest, _)| digest.to_string(), (call.path, call.query), options.page_size)?;
    let entries: Vec<Value> =
        rows.into_iter().map(|(digest, manifest)| referrer_descriptor(digest, manifest)).collect();
    let body = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries });
    let mut response = json_response(StatusCode::OK, media_type::OCI_INDEX, &body);
    if wanted.is_some() {
        response.headers_mut().insert(OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(with_link(response, link))
}

fn referrer_descriptor(digest: &Digest, manifest: &Manifest) -> Value {
    let size = manifest.bytes.len();
    let mut entry = json!({ "mediaType": manifest.media_type, "digest": digest.to_string(), "size": size });
    if let Some(kind) = &manifest.artifact_type {
        entry["artifactType"] = json!(kind);
    }
    if !manifest.annotations.is_empty() {
        entry["annotations"] = json!(manifest.annotations);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_whatever_a_repository_is_called() {
        let manifest = |name: &str| Route::Manifest { name: name.into(), reference: "v1".into() };
        let cases = [
            ("/v2/", Some(Route::Ping)),
            ("/v2", Some(Route::Ping)),
            ("/v2/_catalog", Some(Route::Catalog)),
            ("/v2/a/b/c/tags/list", Some(Route::Tags { name: "a/b/c".into() })),
            ("/v2/a/manifests/v1", Some(manifest("a"))),
            ("/v2/a/manifests/manifests/v1", Some(manifest("a/manifests"))),
            ("/v2/blobs/uploads/manifests/v1", Some(manifest("blobs/uploads"))),
            ("/v2/a/blobs/uploads/", Some(Route::StartUpload { name: "a".into() })),
            ("/v2/a/blobs/uploads", Some(Route::StartUpload { name: "a".into() })),
            ("/v2/a/blobs/uploads/7", Some(Route::Upload { name: "a".into(), id: "7".into() })),
            ("/v2/a/blobs/x", Some(Route::Blob { name: "a".into(), digest: "x".into() })),
            ("/v2/A/manifests/v1", None),
            ("/v2/manifests/v1", None),
            ("/v3/", None),
            ("/v2x", None),
        ];
        for (path, route) in cases {
            assert_eq!(Route::parse(path), route, "{path}");
        }
    }
}
