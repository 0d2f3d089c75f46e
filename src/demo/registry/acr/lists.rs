//! Reads: lists, page by page, and the details of repositories, tags and manifests, with ACR's fields.

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::super::content::{Content, Order};
use super::super::response::{ErrorResponse, Query, with_link};
use super::acr_json_response;
use super::bodies::{AttributesBody, Body, Envelope, ManifestBody, TagBody, format_time};
use crate::domain::Digest;

/// The default and the maximum number of rows on a page.
const DEFAULT_PAGE_SIZE: usize = 100;
const MAX_PAGE_SIZE: usize = 1000;

/// One page of a list: its size, start and order.
pub(super) struct PageRequest<'a> {
    page_size: usize,
    pub(super) last: Option<&'a str>,
    pub(super) order: Order,
    /// As the client wrote it; the `Link` repeats it.
    orderby: &'a str,
}

impl<'a> PageRequest<'a> {
    pub(super) fn read(query: &'a Query, most: usize) -> Result<Self, ErrorResponse> {
        let wanted = match query.get("n").filter(|n| !n.is_empty()).map(str::parse::<usize>) {
            None | Some(Ok(0)) => DEFAULT_PAGE_SIZE,
            Some(Ok(n)) => n,
            Some(Err(_)) => {
                let invalid = "invalid number of results requested";
                return Err(ErrorResponse::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", invalid));
            }
        };
        let orderby = query.get("orderby").unwrap_or_default();
        let order = match orderby {
            "timeasc" => Order::OldestFirst,
            "timedesc" => Order::NewestFirst,
            _ => Order::Name,
        };
        let last = query.get("last").filter(|last| !last.is_empty());
        Ok(Self { page_size: wanted.min(MAX_PAGE_SIZE).min(most), last, order, orderby })
    }

    /// Returns the rows of the page, and the `Link` to the next one, which omits `digest` as the real one does.
    pub(super) fn take_page<T>(
        &self,
        mut rows: impl Iterator<Item = T>,
        name: impl Fn(&T) -> String,
        path: &str,
    ) -> (Vec<T>, Option<HeaderValue>) {
        let page: Vec<T> = rows.by_ref().take(self.page_size).collect();
        let more = rows.next().is_some();
        let link = page.last().filter(|_| more).map(|row| {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.append_pair("last", &name(row)).append_pair("n", &self.page_size.to_string());
            query.append_pair("orderby", self.orderby);
            let link = format!("<{path}?{}>; rel=\"next\"", query.finish());
            HeaderValue::try_from(link).expect("an encoded query is plain text")
        });
        (page, link)
    }
}

/// Handles `GET /acr/v1/_catalog` and `/v2/_catalog`.
pub(super) fn catalog(content: &Content, paging: &PageRequest<'_>, path: &str) -> Response {
    let listed = content.repositories_after(paging.last.unwrap_or_default());
    // Blobs alone, of an unfinished push, do not make a repository.
    let listed = listed.filter(|(_, repository)| repository.attributes.list && repository.manifests.len() > 0);
    let listed = content.with_generated_names(listed.map(|(name, _)| name), paging.last.unwrap_or_default());
    let (rows, link) = paging.take_page(listed, |name| (*name).to_owned(), path);
    let rows = if rows.is_empty() { Value::Null } else { json!(rows) };
    with_link(acr_json_response(StatusCode::OK, &json!({ "repositories": rows })), link)
}

/// Handles `GET /acr/v1/{repository}`.
pub(super) fn repository(content: &Content, name: &str, host: &str) -> Result<Response, ErrorResponse> {
    let found = content.repository(name).ok_or_else(|| name_unknown(name))?;
    let body = json!({
        "registry": host, "imageName": name, "createdTime": format_time(found.created),
        "lastUpdateTime": format_time(found.updated), "manifestCount": found.manifests.len(),
        "tagCount": found.tags.len(), "changeableAttributes": AttributesBody::from(found.attributes),
    });
    Ok(acr_json_response(StatusCode::OK, &body))
}

/// Handles `GET /acr/v1/{repository}/_tags`.
pub(super) fn tags(
    content: &Content,
    name: &str,
    (paging, query): (&PageRequest<'_>, &Query),
    host: &str,
) -> Result<Response, ErrorResponse> {
    let found = content.repository(name).ok_or_else(|| name_unknown(name))?;
    let wanted = query.get("digest").filter(|digest| !digest.is_empty());
    let wanted = wanted.map(super::super::api_request::parse_digest).transpose()?;
    let rows = found.tags.rows_after(paging.order, paging.last).filter(|(_, tag)| tag.attributes.list);
    let rows = rows.filter(|(_, tag)| wanted.as_ref().is_none_or(|digest| tag.digest == *digest));
    let path = format!("/acr/v1/{}/_tags", url_encode(name));
    let (rows, link) = paging.take_page(rows, |(name, _)| name.to_string(), &path);
    let tags = rows.into_iter().map(|(name, tag)| TagBody::new(name, tag)).collect();
    Ok(with_link(envelope_response(host, name, Body::Tags(tags)), link))
}

/// Handles `GET /v2/{repository}/tags/list`.
pub(super) fn tag_names(content: &Content, name: &str, paging: &PageRequest<'_>) -> Result<Response, ErrorResponse> {
    let found = content.repository(name).ok_or_else(|| name_unknown(name))?;
    let rows = found.tags.rows_after(paging.order, paging.last).filter(|(_, tag)| tag.attributes.list);
    let path = format!("/v2/{name}/tags/list");
    let (rows, link) = paging.take_page(rows.map(|(name, _)| &**name), |name: &&str| (*name).to_owned(), &path);
    Ok(with_link(acr_json_response(StatusCode::OK, &json!({ "name": name, "tags": rows })), link))
}

/// Handles `GET /acr/v1/{repository}/_tags/{tag}`.
pub(super) fn tag(content: &Content, name: &str, tag: &str, host: &str) -> Result<Response, ErrorResponse> {
    let found = content.tag(name, tag).ok_or_else(tag_unknown)?;
    Ok(envelope_response(host, name, Body::Tag(TagBody::new(tag, found))))
}

/// Handles `GET /acr/v1/{repository}/_manifests`.
pub(super) fn manifests(
    content: &Content,
    name: &str,
    paging: &PageRequest<'_>,
    (host, most_tags): (&str, usize),
) -> Result<Response, ErrorResponse> {
    let found = content.repository(name).ok_or_else(|| name_unknown(name))?;
    let last = paging.last.map(super::super::api_request::parse_digest).transpose()?;
    let rows = found.manifests.rows_after(paging.order, last.as_ref()).filter(|(_, row)| row.attributes.list);
    let path = format!("/acr/v1/{}/_manifests", url_encode(name));
    let (rows, link) = paging.take_page(rows, |(digest, _)| digest.to_string(), &path);
    let rows = rows.into_iter().map(|row| ManifestBody::new(content, name, row, most_tags)).collect();
    Ok(with_link(envelope_response(host, name, Body::Manifests(rows)), link))
}

/// Handles `GET /acr/v1/{repository}/_manifests/{digest}`, the only route that shows an index's children.
pub(super) fn manifest(
    content: &Content,
    name: &str,
    digest: &Digest,
    (host, most_tags): (&str, usize),
) -> Result<Response, ErrorResponse> {
    let found = content.manifest(name, digest).ok_or_else(|| manifest_unknown(&digest.to_string()))?;
    let body = ManifestBody::new(content, name, (digest, found), most_tags).with_children(&found.children);
    Ok(envelope_response(host, name, Body::Manifest(body)))
}

pub(super) fn envelope_response(registry: &str, image_name: &str, body: Body<'_>) -> Response {
    acr_json_response(StatusCode::OK, &Envelope { registry, image_name, body })
}

pub(super) fn url_encode(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect()
}

pub(super) fn tag_unknown() -> ErrorResponse {
    ErrorResponse::new(StatusCode::NOT_FOUND, "TAG_UNKNOWN", "the specified tag does not exist")
}

pub(super) fn name_unknown(name: &str) -> ErrorResponse {
    ErrorResponse::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", format!("repository \"{name}\" is not found"))
}

pub(super) fn manifest_unknown(reference: &str) -> ErrorResponse {
    let message = format!("manifest tagged by \"{reference}\" is not found");
    ErrorResponse::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message).detail(json!({ "Tag": reference }))
}
