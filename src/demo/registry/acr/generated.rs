//! Responses of generated repositories in the ACR dialect.

use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::json;

use super::super::api_request::{ApiRequest, Route as PlainRoute, parse_digest};
use super::super::content::{Attributes, Content, GeneratedRepository, ManifestRow, Tag};
use super::super::response::{ErrorResponse, with_link};
use super::super::{Options, generated};
use super::bodies::{AttributesBody, Body, ManifestBody, TagBody, format_time};
use super::lists::{PageRequest, envelope_response, manifest_unknown, tag_unknown, url_encode};
use super::route::Route;
use super::{acr_json_response, changes};

/// Returns the response of a generated repository; `None` if the repository is in memory, possibly since just now.
pub(super) fn respond(
    route: &Route,
    call: &ApiRequest<'_>,
    (host, most_tags): (&str, usize),
    options: &Options,
    content: &mut Content,
) -> Option<Result<Response, ErrorResponse>> {
    let name = match route {
        Route::Repository { name }
        | Route::Tags { name }
        | Route::Tag { name, .. }
        | Route::Manifests { name }
        | Route::Manifest { name, .. } => name.as_str(),
        Route::Distribution(route) => route.name()?,
        Route::Catalog
        | Route::DeletedCatalog
        | Route::DeletedTags { .. }
        | Route::DeletedManifests { .. }
        | Route::DeletedManifest { .. } => return None,
    };
    if !content.is_generated(name) {
        return None;
    }
    match (route, call.method) {
        (Route::Tag { tag, .. }, &Method::DELETE) => {
            let answered = untag(content, name, tag);
            if answered.is_some() {
                return answered;
            }
        }
        (Route::Distribution(plain), method) if *method != Method::DELETE => {
            return respond_distribution(plain, call, options, content, name);
        }
        (_, &Method::GET | &Method::HEAD) => {
            let found = content.generated_repository(name)?;
            let told = (name, host, most_tags);
            return Some(read(route, call, told, options, &found));
        }
        _ => {}
    }
    content.materialize(name);
    None
}

/// Handles the reads of ACR's own API.
fn read(
    route: &Route,
    call: &ApiRequest<'_>,
    (name, host, most_tags): (&str, &str, usize),
    options: &Options,
    found: &GeneratedRepository<'_>,
) -> Result<Response, ErrorResponse> {
    let paging = || PageRequest::read(call.query, options.page_size);
    match route {
        Route::Tags { .. } => {
            let wanted = call.query.get("digest").filter(|digest| !digest.is_empty()).map(parse_digest).transpose()?;
            let paging = paging()?;
            let rows = found.tags_after(paging.order, paging.last);
            let rows = rows.filter(|(_, tag)| wanted.as_ref().is_none_or(|digest| tag.digest == *digest));
            let path = format!("/acr/v1/{}/_tags", url_encode(name));
            let (rows, link) = paging.take_page(rows, |(tag, _)| tag.clone(), &path);
            let tags = rows.iter().map(|(name, tag): &(String, Tag)| TagBody::new(name, tag)).collect();
            Ok(with_link(envelope_response(host, name, Body::Tags(tags)), link))
        }
        Route::Tag { tag, .. } => {
            let row = found.tag(tag).ok_or_else(tag_unknown)?;
            Ok(envelope_response(host, name, Body::Tag(TagBody::new(tag, &row))))
        }
        Route::Manifests { .. } => {
            let paging = paging()?;
            let last = paging.last.map(parse_digest).transpose()?;
            let path = format!("/acr/v1/{}/_manifests", url_encode(name));
            let positions = found.positions_after(paging.order, last.as_ref());
            let (positions, link) = paging.take_page(positions, |position| found.digest(*position).to_string(), &path);
            let rows: Vec<ManifestRow> = positions.into_iter().map(|position| found.manifest_row(position)).collect();
            let rows = rows.iter().map(|row| ManifestBody::of_row(row, most_tags)).collect();
            Ok(with_link(envelope_response(host, name, Body::Manifests(rows)), link))
        }
        Route::Manifest { digest, .. } => {
            let digest = parse_digest(digest)?;
            let position = found.position(&digest).ok_or_else(|| manifest_unknown(&digest.to_string()))?;
            let (row, children) = (found.manifest_row(position), found.children(position));
            let body = ManifestBody::of_row(&row, most_tags).with_children(&children);
            Ok(envelope_response(host, name, Body::Manifest(body)))
        }
        _ => {
            let body = json!({
                "registry": host, "imageName": name, "createdTime": format_time(found.created()),
                "lastUpdateTime": format_time(found.updated()), "manifestCount": found.manifest_count(),
                "tagCount": found.tag_count(), "changeableAttributes": AttributesBody::from(Attributes::default()),
            });
            Ok(acr_json_response(StatusCode::OK, &body))
        }
    }
}

/// Handles the routes of distribution, some of which ACR answers in its own way.
fn respond_distribution(
    plain: &PlainRoute,
    call: &ApiRequest<'_>,
    options: &Options,
    content: &mut Content,
    name: &str,
) -> Option<Result<Response, ErrorResponse>> {
    if matches!(*call.method, Method::GET | Method::HEAD) {
        let found = content.generated_repository(name)?;
        match plain {
            PlainRoute::Tags { .. } => {
                let paging = match PageRequest::read(call.query, options.page_size) {
                    Ok(paging) => paging,
                    Err(error) => return Some(Err(error)),
                };
                let rows = found.tags_after(paging.order, paging.last).map(|(tag, _)| tag);
                let (rows, link) = paging.take_page(rows, Clone::clone, &format!("/v2/{name}/tags/list"));
                let body = acr_json_response(StatusCode::OK, &json!({ "name": name, "tags": rows }));
                return Some(Ok(with_link(body, link)));
            }
            PlainRoute::Manifest { reference, .. } => {
                let digest = reference.parse().ok().or_else(|| found.tag(reference).map(|tag| tag.digest));
                if digest.is_none_or(|digest| found.position(&digest).is_none()) {
                    return Some(Err(manifest_unknown(reference)));
                }
            }
            _ => {}
        }
    }
    generated::respond(plain, call, options, content)
}

/// Removes a tag; `None` if that needs the repository in memory.
fn untag(content: &mut Content, name: &str, tag: &str) -> Option<Result<Response, ErrorResponse>> {
    let Some(found) = content.generated_repository(name)?.tag(tag) else { return Some(Err(tag_unknown())) };
    if !found.attributes.is_deletable() {
        return Some(Err(changes::disallowed_error()));
    }
    content.remove_generated_tag(name, tag).then(|| Ok(changes::untagged_response(&found.digest)))
}
