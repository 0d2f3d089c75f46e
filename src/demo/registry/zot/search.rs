//! The answers of the search extension.

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::access::Access;
use super::graphql::{self, Field};
use super::metadata::is_signature_tag;
use super::{ZotService, metadata::Statistics};
use crate::demo::image::media_type;
use crate::demo::registry::api_request::ApiRequest;
use crate::demo::registry::content::{Content, Manifest};
use crate::demo::registry::response::json_response;
use crate::domain::Digest;

/// The types of manifests that the search knows.
const KNOWN: [&str; 4] =
    [media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_LIST];

/// Answers a question in GraphQL, which was sent by GET or POST.
pub(super) fn respond(call: &ApiRequest<'_>, access: &Access<'_>, zot: &ZotService, content: &Content) -> Response {
    let posted: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let text = match *call.method {
        Method::GET => call.query.get("query"),
        Method::POST => posted["query"].as_str(),
        _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
    };
    let refuse = |problems: Vec<String>| {
        let errors: Vec<Value> = problems.into_iter().map(|message| json!({ "message": message })).collect();
        json_response(StatusCode::UNPROCESSABLE_ENTITY, "application/json", &json!({ "errors": errors, "data": null }))
    };
    let fields = match graphql::parse(text.unwrap_or_default()) {
        Ok(fields) => fields,
        Err(problem) => return refuse(vec![problem]),
    };
    let missing: &[(&str, &str)] = if zot.options.has_tag_times { &[] } else { &[("ImageSummary", "TaggedTimestamp")] };
    let problems = graphql::validate(&fields, "Query", missing);
    if !problems.is_empty() {
        return refuse(problems);
    }
    let mut data = serde_json::Map::new();
    for field in &fields {
        match answer(field, access, zot, content) {
            Ok(found) => drop(data.insert(field.name.clone(), graphql::select(&found, &field.selection))),
            Err(problem) => return refuse(vec![problem]),
        }
    }
    json_response(StatusCode::OK, "application/json", &json!({ "data": data }))
}

fn answer(field: &Field, access: &Access<'_>, zot: &ZotService, content: &Content) -> Result<Value, String> {
    let known: &[&str] = if field.name == "ImageList" { &["repo", "requestedPage"] } else { &["repo"] };
    if let Some(unknown) = field.arguments.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("Unknown argument \"{unknown}\" on field \"Query.{}\".", field.name));
    }
    let Some(name) = field.arguments.get("repo").and_then(Value::as_str) else {
        return Err(format!(
            "Field \"{}\" argument \"repo\" of type \"String!\" is required, but it was not provided.",
            field.name
        ));
    };
    let may_delete = (field.name == "ExpandedRepoInfo").then(|| access.may_delete(name));
    let tags = content.tags(name).into_iter().filter(|_| access.may_read(name));
    // Which answers are not asked for need not be made.
    let wants_images = field.selection.iter().any(|part| part.name == "Results" || part.name == "Images");
    let listed: Vec<(String, Digest)> = tags.filter(|(tag, digest)| is_listed(name, tag, digest, content)).collect();
    let total = listed.len();
    let page = field.arguments.get("requestedPage");
    let number = |key: &str| page.and_then(|page| page[key].as_u64()).and_then(|number| usize::try_from(number).ok());
    let (limit, offset) = (number("limit").unwrap_or_default(), number("offset").unwrap_or_default());
    let sort = page.and_then(|page| page["sortBy"]["enum"].as_str()).unwrap_or("RELEVANCE");
    if !["RELEVANCE", "ALPHABETIC_ASC"].contains(&sort) {
        return Err(format!("sorting by '{sort}' is not supported here"));
    }
    let end = if limit == 0 && offset == 0 { total } else { offset.saturating_add(limit).min(total) };
    let part = listed.get(offset.min(end)..end).unwrap_or_default();
    let rows: Vec<Value> = part
        .iter()
        .filter(|_| wants_images)
        .filter_map(|(tag, digest)| image(name, (tag, digest), may_delete, zot, content))
        .collect();
    if field.name == "ExpandedRepoInfo" {
        if !content.has_repository(name) {
            return Err("repository metadata not found".into());
        }
        return Ok(json!({ "Summary": { "Name": name }, "Images": rows }));
    }
    Ok(json!({ "Page": { "TotalCount": total, "ItemCount": rows.len() }, "Results": rows }))
}

/// Returns true for what the search lists: no signatures, no lists of referrers, no types that it does not know, and no
/// indexes without images.
fn is_listed(name: &str, tag: &str, digest: &Digest, content: &Content) -> bool {
    let Some(manifest) = content.manifest(name, digest) else { return false };
    let is_index = is_index(manifest);
    let is_known = KNOWN.contains(&manifest.media_type.as_str());
    is_known && !is_signature_tag(tag) && (!is_index || !images_in(name, manifest, content).is_empty())
}

fn is_index(manifest: &Manifest) -> bool {
    [media_type::OCI_INDEX, media_type::DOCKER_LIST].contains(&manifest.media_type.as_str())
}

/// The images in an index, at any depth; the indexes in between are left out.
fn images_in<'a>(name: &str, index: &Manifest, content: &'a Content) -> Vec<(Digest, &'a Manifest)> {
    let mut found = Vec::new();
    for child in &index.children {
        match content.manifest(name, &child.digest) {
            Some(inner) if is_index(inner) => found.extend(images_in(name, inner, content)),
            Some(image) if KNOWN.contains(&image.media_type.as_str()) => found.push((child.digest.clone(), image)),
            _ => {}
        }
    }
    found
}

fn image(
    name: &str,
    (tag, digest): (&String, &Digest),
    may_delete: Option<bool>,
    zot: &ZotService,
    content: &Content,
) -> Option<Value> {
    let manifest = content.manifest(name, digest)?;
    let statistics = zot.metadata.get(name, digest);
    let tagged = content.tag(name, tag).map(|tag| tag.created);
    let is_index = is_index(manifest);
    let parts = if is_index { images_in(name, manifest, content) } else { vec![(digest.clone(), manifest)] };
    let size: u64 = parts.iter().map(|(_, part)| part.image_size).sum();
    let parts: Vec<Value> =
        parts.iter().map(|(digest, part)| platform_image(name, digest, part, zot, content)).collect();
    let kind = if is_index { media_type::OCI_INDEX } else { manifest.media_type.as_str() };
    Some(json!({
        "RepoName": name,
        "Tag": tag,
        "Digest": digest.to_string(),
        "MediaType": kind,
        "ArtifactType": manifest.artifact_type.as_deref().unwrap_or_default(),
        "Manifests": parts,
        "Size": size.to_string(),
        "DownloadCount": statistics.downloads,
        "LastPullTimestamp": last_pull(&statistics),
        "PushTimestamp": statistics.pushed_at.to_string(),
        "TaggedTimestamp": tagged.unwrap_or(statistics.pushed_at).to_string(),
        "IsDeletable": may_delete,
        "Referrers": referrers(name, digest, content),
    }))
}

fn platform_image(name: &str, digest: &Digest, manifest: &Manifest, zot: &ZotService, content: &Content) -> Value {
    let body: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    json!({
        "Digest": digest.to_string(),
        "ConfigDigest": body["config"]["digest"],
        "Size": manifest.image_size.to_string(),
        "DownloadCount": zot.metadata.get(name, digest).downloads,
        "ArtifactType": manifest.artifact_type.as_deref().unwrap_or_default(),
        "Platform": {
            "Os": manifest.os.as_deref().unwrap_or_default(),
            "Arch": manifest.architecture.as_deref().unwrap_or_default(),
        },
        "Referrers": referrers(name, digest, content),
    })
}

/// A time that was never set is written as the beginning of 1970.
fn last_pull(statistics: &Statistics) -> String {
    statistics.last_pull.unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

fn referrers(name: &str, subject: &Digest, content: &Content) -> Vec<Value> {
    let found = content.referrers(name, subject).map(|(digest, manifest)| {
        json!({
            "MediaType": manifest.media_type,
            "ArtifactType": manifest.artifact_type.as_deref().unwrap_or_default(),
            "Size": manifest.bytes.len(),
            "Digest": digest.to_string(),
        })
    });
    found.collect()
}
