//! Tags as the API shows them, the latest push first.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::is_index;
use crate::demo::image::media_type;
use crate::demo::registry::content::{Content, Manifest};
use crate::domain::Digest;

/// The tags of a repository with what they name, the latest push first.
pub(super) fn tags(name: &str, content: &Content) -> Vec<(String, Digest)> {
    let tags = content.tags(name).into_iter();
    let mut dated: Vec<_> = tags
        .filter_map(|(tag, digest)| {
            let pushed = content.tag(name, &tag)?.updated;
            content.manifest(name, &digest)?;
            Some((Reverse(pushed), tag, digest))
        })
        .collect();
    dated.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    dated.into_iter().map(|(_, tag, digest)| (tag, digest)).collect()
}

/// The row of a tag.
pub(super) fn row(
    name: &str,
    tag: &str,
    pulls: &BTreeMap<(String, String), Timestamp>,
    content: &Content,
) -> Option<Value> {
    let found = content.tag(name, tag)?;
    let digest = &found.digest;
    let manifest = content.manifest(name, digest)?;
    let pulled = |reference: &str| pulls.get(&(name.to_owned(), reference.to_owned())).map(Timestamp::to_string);
    let of_index = is_index(&manifest.media_type);
    let parts: Vec<(String, Option<&Manifest>)> = if of_index {
        let children = manifest.children.iter();
        children.map(|child| (child.digest.to_string(), content.manifest(name, &child.digest))).collect()
    } else {
        vec![(digest.to_string(), Some(manifest))]
    };
    let images: Vec<Value> = parts
        .iter()
        .map(|(digest, part)| {
            let (os, architecture) =
                part.map_or((None, None), |part| (part.os.as_deref(), part.architecture.as_deref()));
            json!({
                "architecture": architecture.unwrap_or("unknown"),
                "digest": digest,
                "os": os.unwrap_or("unknown"),
                "size": part.map_or(0, |part| part.image_size),
                "status": "active",
                "last_pulled": pulled(digest),
                "last_pushed": part.map(|part| part.updated.to_string()),
            })
        })
        .collect();
    let is_image = [media_type::OCI_CONFIG, media_type::DOCKER_CONFIG]
        .contains(&manifest.artifact_type.as_deref().unwrap_or_default());
    // Of a single image it is the type of the configuration.
    let kind = if of_index { manifest.media_type.clone() } else { manifest.artifact_type.clone().unwrap_or_default() };
    Some(json!({
        "name": tag,
        "digest": digest.to_string(),
        "media_type": kind,
        "content_type": if of_index || is_image { "image" } else { "unrecognized" },
        "images": images,
        "full_size": manifest.image_size,
        "last_updated": found.updated.to_string(),
        "tag_status": "active",
        "tag_last_pulled": pulled(tag),
        "tag_last_pushed": found.updated.to_string(),
        "v2": true,
    }))
}
