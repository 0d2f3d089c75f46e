//! Bodies of responses to reads: lists of repositories and tags, and manifests.

use axum::response::Response;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::access::{Access, Problem};
use super::time_machine::is_shown;
use super::{QuayService, namespace_of, ok};
use crate::demo::image::media_type;
use crate::demo::registry::api_request::ApiRequest;
use crate::demo::registry::content::{Content, Manifest};
use crate::domain::Digest;

/// Repositories on a page.
const REPOSITORIES_PER_PAGE: usize = 100;
/// The maximum and the default number of tags on a page.
const TAGS_PER_PAGE: (usize, usize) = (100, 50);

/// A tag as it is now, or was.
struct TagRow {
    name: String,
    digest: Digest,
    started: Timestamp,
    ended: Option<Timestamp>,
    immutable: bool,
}

impl QuayService {
    pub(super) fn repositories(&self, call: &ApiRequest<'_>, content: &Content) -> Result<Response, Problem> {
        let Some(namespace) = call.query.get("namespace").filter(|name| !name.is_empty()) else {
            return Err(Problem::invalid("namespace, starred or public are required for this API call"));
        };
        let after = match call.query.get("next_page") {
            None => "",
            Some(token) => token.strip_prefix("after-").ok_or_else(|| Problem::invalid("Invalid page token"))?,
        };
        let mut rest =
            content.repositories_after(after).map(|(name, _)| name).filter(|name| namespace_of(name) == namespace);
        let names: Vec<&str> = rest.by_ref().take(REPOSITORIES_PER_PAGE).collect();
        let rows = names.iter().map(|name| self.repository_body(name));
        let mut body = json!({ "repositories": rows.collect::<Vec<_>>() });
        if let (Some(last), true) = (names.last(), rest.next().is_some()) {
            body["next_page"] = json!(format!("after-{last}"));
        }
        Ok(ok(&body))
    }

    pub(super) fn repository(&self, name: &str, access: Access<'_>, content: &Content) -> Result<Response, Problem> {
        if !content.has_repository(name) {
            return Err(Problem::not_found());
        }
        let mut body = self.repository_body(name);
        let namespace = self.options.namespaces.get(namespace_of(name));
        body["tag_expiration_s"] = json!(namespace.map(|namespace| namespace.time_machine.as_secs()));
        body["can_write"] = json!(access.may_write(name) && self.state(name) == super::QuayState::Normal);
        body["can_admin"] = json!(false);
        Ok(ok(&body))
    }

    fn repository_body(&self, name: &str) -> Value {
        let (namespace, rest) = name.split_once('/').unwrap_or(("library", name));
        json!({
            "namespace": namespace, "name": rest, "description": null, "is_public": false, "kind": "image",
            "state": self.state(name).label(), "is_starred": false,
        })
    }

    pub(super) fn tags(&self, name: &str, call: &ApiRequest<'_>, content: &Content) -> Result<Response, Problem> {
        if !content.has_repository(name) {
            return Err(Problem::not_found());
        }
        let number = |key: &str, default: usize| match call.query.get(key).map(str::parse) {
            None => Ok(default),
            Some(Ok(number)) => Ok(number),
            Some(Err(_)) => Err(Problem::framework(400, "invalid literal for int()")),
        };
        let (most, default) = TAGS_PER_PAGE;
        let (limit, page) = (number("limit", default)?.clamp(1, most), number("page", 1)?.max(1));
        let only_active = call.query.get("onlyActiveTags").is_some_and(is_true);
        let wanted = call.query.get("specificTag").filter(|name| !name.is_empty());
        let filter = match call.query.get("filter_tag_name").filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => match text.split_once(':') {
                Some((operation @ ("like" | "eq"), value)) => Some((operation == "like", value)),
                _ => return Err(Problem::framework(400, "Unsupported syntax for filter_tag_name.")),
            },
        };
        let passes = |tag: &str| match filter {
            Some((true, part)) => tag.contains(part),
            Some((false, whole)) => tag == whole,
            None => wanted.is_none_or(|wanted| tag == wanted),
        };
        let live = content.tags(name).into_iter().filter_map(|(tag, digest)| {
            let found = content.tag(name, &tag)?;
            let immutable = !found.attributes.is_deletable();
            Some(TagRow { name: tag, digest, started: found.updated, ended: None, immutable })
        });
        let removed = self.time_machine.tags(name).filter(|_| !only_active).map(|tag| TagRow {
            name: tag.tag.clone(),
            digest: tag.digest.clone(),
            started: tag.started,
            ended: Some(tag.ended),
            immutable: false,
        });
        let mut rows: Vec<TagRow> = live.chain(removed).filter(|row| passes(&row.name)).collect();
        rows.sort_by(|a, b| b.started.cmp(&a.started).then_with(|| a.name.cmp(&b.name)));
        let mut rest = rows.iter().skip(limit * (page - 1));
        let shown: Vec<Value> = rest.by_ref().take(limit).map(|row| self.tag_body(name, row, content)).collect();
        Ok(ok(&json!({ "tags": shown, "page": page, "has_additional": rest.next().is_some() })))
    }

    fn tag_body(&self, repository: &str, row: &TagRow, content: &Content) -> Value {
        let manifest = content.manifest(repository, &row.digest);
        let is_list = manifest.is_some_and(is_index);
        let size = manifest.filter(|_| !is_list).map(|manifest| manifest.image_size);
        let mut body = json!({
            "name": row.name, "reversion": false, "manifest_digest": row.digest.to_string(),
            "is_manifest_list": is_list, "size": size,
            "start_ts": row.started.as_second(), "last_modified": http_date(row.started),
        });
        if self.options.immutable_tags {
            body["immutable"] = json!(row.immutable);
        }
        if let Some(ended) = row.ended {
            body["end_ts"] = json!(ended.as_second());
            body["expiration"] = json!(http_date(ended));
        }
        if let Some(manifest) = manifest.filter(|_| is_list && self.options.lists_children) {
            let present = |digest: &Digest| content.manifest(repository, digest).is_some();
            let children = &manifest.children;
            let count = children.iter().filter(|child| present(&child.digest)).count();
            let rows = children.iter().map(|child| (child.digest.to_string(), json!(present(&child.digest))));
            body["child_manifests_presence"] = Value::Object(rows.collect());
            body["child_manifest_count"] = json!(children.len());
            body["present_child_count"] = json!(count);
            body["is_sparse"] = json!(count < children.len());
        }
        body
    }

    pub(super) fn manifest(name: &str, digest: &Digest, content: &Content) -> Result<Response, Problem> {
        let found = content.manifest(name, digest).filter(|_| is_shown(content, name, digest));
        let Some(manifest) = found else { return Err(Problem::not_found()) };
        let is_list = is_index(manifest);
        let layers = if is_list { Value::Null } else { json!([]) };
        Ok(ok(&json!({
            "digest": digest.to_string(), "is_manifest_list": is_list, "layers": layers,
            "manifest_data": String::from_utf8_lossy(&manifest.bytes), "config_media_type": null,
            "layers_compressed_size": if is_list { 0 } else { manifest.image_size },
        })))
    }
}

/// Reads a parameter as Quay does (`util/parsing.py`): as Python writes it, too.
fn is_true(text: &str) -> bool {
    !["false", "False", "FALSE", "0", "", "null"].contains(&text)
}

fn is_index(manifest: &Manifest) -> bool {
    matches!(manifest.media_type.as_str(), media_type::OCI_INDEX | media_type::DOCKER_LIST)
}

fn http_date(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S -0000").to_string()
}
