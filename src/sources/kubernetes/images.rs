//! Image references as clusters store them.

use serde_json::Value;

use super::super::image_field::{ImageField, classify};
use super::super::image_syntax::{ParsedImage, parse_image};
use super::super::known_hosts::KnownHosts;
use crate::domain::{Digest, ImageReference};

/// Returns the image that a runtime reports to run, by its `imageID`, else its `image`. Only a digest counts: the
/// runtime may report a tag that nobody requested. The name with it may be that of another repository with the same
/// image.
pub(super) fn parse_status_image(image_id: &str, image: &str, hosts: &KnownHosts) -> ImageField {
    match digest(image_id, hosts) {
        // Not started yet, or without a known digest: then the other field may have one.
        ImageField::Nothing => match digest(image, hosts) {
            ImageField::Image(image) => ImageField::Image(image),
            _ => ImageField::Nothing,
        },
        seen => seen,
    }
}

fn digest(text: &str, hosts: &KnownHosts) -> ImageField {
    if text.trim().is_empty() {
        return ImageField::Nothing;
    }
    match ImageReference::parse_verbatim(text) {
        Ok(ImageReference { digest: None, .. }) => ImageField::Nothing,
        Ok(image) => ImageField::Image(ImageReference { tag: None, ..image }),
        Err(_) => {
            // A digest identifies the image, whatever precedes it.
            let last = text.rsplit(['@', '/']).next().unwrap_or_default();
            match last.parse::<Digest>() {
                Ok(digest) => {
                    ImageField::Image(ImageReference { host: None, repository: None, tag: None, digest: Some(digest) })
                }
                Err(_) => match classify(parse_image(text), text, hosts) {
                    // A tag reported by the runtime does not count.
                    ImageField::Image(_) | ImageField::Corrected(..) => ImageField::Nothing,
                    seen => seen,
                },
            }
        }
    }
}

/// Returns the name of an image without its tag and digest, by a text of a specification or status; `None` if it names
/// none.
pub(super) fn parse_name(text: &str) -> Option<ImageReference> {
    let name = |host, path| ImageReference { host, repository: Some(path), tag: None, digest: None };
    match parse_image(text) {
        ParsedImage::Image(ImageReference { host, repository, .. })
        | ParsedImage::Corrected(ImageReference { host, repository, .. }, _) => repository.map(|path| name(host, path)),
        ParsedImage::Unresolved(..) | ParsedImage::Invalid(_) => None,
    }
}

/// Visits every pod specification inside a value, at any depth, and calls `found` with each image's text and the name
/// of its container or volume.
pub(super) fn pod_images<'v>(value: &'v Value, found: &mut impl FnMut(&'v str, &'v str)) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| pod_images(value, found)),
        Value::Object(map) => {
            let lists = ["containers", "initContainers", "ephemeralContainers"];
            let text = |value: &'v Value, key: &str| value.get(key).and_then(Value::as_str);
            let entries = |key: &str| map.get(key).and_then(Value::as_array).into_iter().flatten();
            for container in lists.into_iter().flat_map(entries) {
                if let Some(image) = text(container, "image") {
                    found(text(container, "name").unwrap_or_default(), image);
                }
            }
            for volume in entries("volumes") {
                if let Some(image) = volume.get("image").and_then(|image| text(image, "reference")) {
                    found(text(volume, "name").unwrap_or_default(), image);
                }
            }
            map.values().for_each(|value| pod_images(value, found));
        }
        _ => {}
    }
}

/// Returns the image that an object states in parts, such as `{ repository, tag }`; `None` if it names no repository.
pub(super) fn joined_image(value: &Value) -> Option<String> {
    let map = value.as_object()?;
    let text = |keys: &[&str]| {
        keys.iter().find_map(|key| match map.get(*key)? {
            Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    let tag = text(&["tag", "newTag", "imageTag"]);
    let digest = text(&["digest", "imageDigest", "sha"]);
    // A name means an image only beside an image's tag or digest.
    let is_exact = tag.is_some() || digest.is_some();
    let named = || text(&["newName", "name"]).filter(|_| is_exact);
    let repository = text(&["repository", "repo", "imageRepository", "image", "imageName"]).or_else(named)?;
    let mut image = match text(&["registry", "imageRegistry", "registryServer", "loginServer"]) {
        Some(registry) => format!("{}/{}", registry.trim_end_matches('/'), repository.trim_start_matches('/')),
        None => repository,
    };
    let has = |image: &str, marks: &[char]| image.rsplit('/').next().unwrap_or_default().contains(marks);
    if let Some(tag) = tag.or_else(|| text(&["version"])).filter(|_| !has(&image, &[':', '@'])) {
        image = format!("{image}:{tag}");
    }
    if let Some(digest) = digest.filter(|_| !has(&image, &['@'])) {
        let algorithm = if digest.contains(':') { "" } else { "sha256:" };
        image = format!("{image}@{algorithm}{digest}");
    }
    Some(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::image_field::tests::{D, hosts, shown};

    #[test]
    fn a_runtime_is_believed_by_digest_and_by_nothing_else() {
        // `imageID`, `image`, and the claim.
        let cases = [
            ("docker-pullable://contoso.azurecr.io/a@D", "contoso.azurecr.io/a:1", "contoso.azurecr.io/a@D"),
            ("contoso.azurecr.io/a@D", "sha256:x", "contoso.azurecr.io/a@D"),
            ("nginx@D", "nginx", "nginx@D"),
            ("contoso.azurecr.io/a:1@D", "", "contoso.azurecr.io/a@D"),
            ("D", "contoso.azurecr.io/a:1", "D"),
            ("docker://D", "", "D"),
            (&D[7..], "", "D"),
            ("unknown://Some Thing@D", "", "D"),
            ("", "", "nothing"),
            ("", "contoso.azurecr.io/a:1", "nothing"),
            ("", "contoso.azurecr.io/a@D", "contoso.azurecr.io/a@D"),
            ("", "D", "D"),
            ("contoso.azurecr.io/a:1", "D", "D"),
            ("contoso.azurecr.io/a:1", "a", "nothing"),
            ("contoso.azurecr.io/a@sha256:short", "", r#"open contoso.azurecr.io PathPattern(["a"])"#),
            ("ghcr.io/a@sha256:short", "", "foreign"),
            ("what is this", "", "foreign"),
        ];
        for (id, image, expected) in cases {
            let seen = parse_status_image(&id.replace('D', D), &image.replace('D', D), &hosts());
            assert_eq!(shown(seen), expected, "{id} {image}");
        }
    }

    #[test]
    fn an_object_says_an_image_in_parts() {
        for (object, expected) in [
            (r#"{"repository": "contoso.azurecr.io/shop/api", "tag": "v1"}"#, "contoso.azurecr.io/shop/api:v1"),
            (
                r#"{"registry": "contoso.azurecr.io/", "repository": "/shop/api", "tag": 7}"#,
                "contoso.azurecr.io/shop/api:7",
            ),
            (r#"{"image": "shop/api", "version": "v1"}"#, "shop/api:v1"),
            (r#"{"image": "shop/api:v1", "version": "v2"}"#, "shop/api:v1"),
            (r#"{"repository": "shop/api", "tag": "", "sha": "abc"}"#, "shop/api@sha256:abc"),
            (r#"{"name": "shop/api", "newName": "a/b", "newTag": "v1"}"#, "a/b:v1"),
            (r#"{"name": "shop/api", "tag": "v1", "digest": "sha256:abc"}"#, "shop/api:v1@sha256:abc"),
            (r#"{"repository": "shop/api", "tag": "${TAG}"}"#, "shop/api:${TAG}"),
            (r#"{"repository": "shop/api"}"#, "shop/api"),
            (r#"{"name": "api", "version": "v1"}"#, "-"),
            (r#"{"tag": "v1"}"#, "-"),
            (r#"["shop/api"]"#, "-"),
        ] {
            let found = joined_image(&serde_json::from_str(object).unwrap());
            assert_eq!(found.as_deref().unwrap_or("-"), expected, "{object}");
        }
    }
}
