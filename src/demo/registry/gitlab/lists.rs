//! The lists of the registry's own API, page by page.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::access::is_at_or_below;
use super::{GitlabOptions, ok};
use crate::demo::registry::api_request::ApiRequest;
use crate::demo::registry::content::Content;
use crate::demo::registry::response::{ErrorResponse, Query, with_link};
use crate::domain::{Digest, TagName, is_index_type};

/// The sizes of a page: the default and the largest.
const PAGE: (usize, usize) = (100, 1000);

/// `INVALID_QUERY_PARAMETER_VALUE` about one parameter.
pub(super) fn invalid_value(detail: &str) -> ErrorResponse {
    let message = "invalid query parameter value";
    ErrorResponse::new(StatusCode::BAD_REQUEST, "INVALID_QUERY_PARAMETER_VALUE", message).detail(json!(detail))
}

fn page_size(query: &Query) -> Result<usize, ErrorResponse> {
    let (default, most) = PAGE;
    match query.get("n").map(str::parse::<usize>) {
        None => Ok(default),
        Some(Err(_)) => {
            let message = "invalid query parameter value type";
            Err(ErrorResponse::new(StatusCode::BAD_REQUEST, "INVALID_QUERY_PARAMETER_TYPE", message)
                .detail(json!("the 'n' query parameter value type must be one of: int")))
        }
        Some(Ok(size)) if (1..=most).contains(&size) => Ok(size),
        Some(Ok(_)) => Err(invalid_value(&format!("the 'n' query parameter value must be between 1 and {most}"))),
    }
}

/// The `Link` of a page. It holds none of the parameters but the markers, the size and the filter by name, as the registry's
/// own does.
fn link(
    path: &str,
    size: usize,
    filter: Option<&str>,
    before: Option<&str>,
    last: Option<&str>,
) -> Option<HeaderValue> {
    let one = |marker: &str, value: &str, relation: &str| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair(marker, value).append_pair("n", &size.to_string());
        query.extend_pairs(filter.map(|filter| ("name", filter)));
        format!("<{path}?{}>; rel=\"{relation}\"", query.finish())
    };
    let links: Vec<String> = before
        .map(|before| one("before", before, "previous"))
        .into_iter()
        .chain(last.map(|last| one("last", last, "next")))
        .collect();
    (!links.is_empty()).then(|| HeaderValue::try_from(links.join(", ")).expect("an encoded query is plain text"))
}

/// The tags of a repository with what they name.
pub(super) fn tags(
    name: &str,
    call: &ApiRequest<'_>,
    options: &GitlabOptions,
    content: &Content,
) -> Result<Response, ErrorResponse> {
    let query = call.query;
    let size = page_size(query)?;
    for key in ["last", "name_exact"] {
        if query.get(key).is_some_and(|text| text.parse::<TagName>().is_err()) {
            return Err(invalid_value(&format!("the '{key}' query parameter value must match the pattern of a tag")));
        }
    }
    if !content.has_repository(name) {
        return Err(ErrorResponse::name_unknown(name));
    }
    let exact = query.get("name_exact").filter(|_| options.has_exact_filter);
    let filter = query.get("name");
    let passes = |tag: &&str| exact.map_or_else(|| filter.is_none_or(|part| tag.contains(part)), |exact| *tag == exact);
    let last = query.get("last").unwrap_or_default();
    let mut rest = content.tags_after(name, last).filter(passes);
    let names: Vec<&str> = rest.by_ref().take(size).collect();
    let has_more = rest.next().is_some();
    let with_referrers = query.get("referrers") == Some("true") && options.has_referrers;
    let mut referrers: BTreeMap<&Digest, Vec<Value>> = BTreeMap::new();
    for (digest, manifest) in content.manifests(name).filter(|_| with_referrers) {
        if let Some(subject) = &manifest.subject {
            let found = json!({ "artifactType": manifest.artifact_type, "digest": digest.to_string() });
            referrers.entry(subject).or_default().push(found);
        }
    }
    let rows: Vec<Value> = names.iter().filter_map(|tag| row(name, tag, &referrers, content)).collect();
    let previous = names.first().filter(|_| !last.is_empty() && exact.is_none());
    let next = names.last().filter(|_| has_more && exact.is_none());
    Ok(with_link(ok(&json!(rows)), link(call.path, size, filter, previous.copied(), next.copied())))
}

fn row(repository: &str, name: &str, referrers: &BTreeMap<&Digest, Vec<Value>>, content: &Content) -> Option<Value> {
    let tag = content.tag(repository, name)?;
    let manifest = content.manifest(repository, &tag.digest)?;
    let is_index = is_index_type(&manifest.media_type);
    let mut row = json!({
        "name": name, "digest": tag.digest.to_string(), "media_type": manifest.media_type,
        // The registry stores no size of an index.
        "size_bytes": if is_index { 0 } else { manifest.image_size },
        "created_at": time(tag.created), "published_at": time(tag.updated.max(tag.created)),
    });
    if tag.updated != tag.created {
        row["updated_at"] = json!(time(tag.updated));
    }
    let body: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    if let Some(config) = body["config"]["digest"].as_str() {
        row["config_digest"] = json!(config);
    }
    if let Some(found) = referrers.get(&tag.digest) {
        row["referrers"] = json!(found);
    }
    Some(row)
}

/// The repositories with tags at a path and below it.
pub(super) fn repositories(path: &str, call: &ApiRequest<'_>, content: &Content) -> Result<Response, ErrorResponse> {
    let size = page_size(call.query)?;
    let root = path.split('/').next().unwrap_or_default();
    if !content.repositories().any(|name| is_at_or_below(name, root)) {
        return Err(ErrorResponse::name_unknown(root));
    }
    let last = call.query.get("last").unwrap_or_default();
    let names: BTreeSet<&str> = content
        .repositories_after(last)
        .map(|(name, _)| name)
        .filter(|name| is_at_or_below(name, path) && !content.tags(name).is_empty())
        .take(size)
        .collect();
    let rows = names.iter().map(|name| {
        let own = name.rsplit('/').next().unwrap_or(name);
        json!({ "name": own, "path": name, "created_at": "2022-06-07T12:11:13.633Z" })
    });
    let next = names.last().filter(|_| names.len() == size);
    Ok(with_link(ok(&json!(rows.collect::<Vec<_>>())), link(call.path, size, None, None, next.copied())))
}

/// A time as the registry writes it.
pub(super) fn time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
