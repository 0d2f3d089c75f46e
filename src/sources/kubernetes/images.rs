//! Image references as clusters hold them.

use serde_json::Value;

use super::super::reference_scan::KnownHosts;
use crate::domain::{Digest, ImageReference};

/// What a text says of images.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Image(ImageReference),
    Nothing,
    /// No reference, and no image of ours whatever it is meant to be.
    Foreign(String),
    /// No reference, and it may be meant to be an image of ours.
    Problem(String),
}

/// A reference in a specification. An empty one is allowed there, and names nothing.
pub(super) fn written(text: &str, hosts: &KnownHosts) -> Seen {
    if text.trim().is_empty() {
        return Seen::Nothing;
    }
    match text.parse::<ImageReference>() {
        Ok(image) => Seen::Image(image),
        Err(error) => unread(text, error.to_string(), hosts),
    }
}

/// The image that a runtime says it runs, by its `imageID`, else its `image`. Only a digest counts: the runtime may know
/// the image by a tag that nobody asked for. The name with it may be another repository's that holds the same image.
pub(super) fn reported(image_id: &str, image: &str, hosts: &KnownHosts) -> Seen {
    match digest(image_id, hosts) {
        // Not started yet, or no digest known: then the other may have one, and may be anything.
        Seen::Nothing => match digest(image, hosts) {
            Seen::Image(image) => Seen::Image(image),
            _ => Seen::Nothing,
        },
        seen => seen,
    }
}

fn digest(text: &str, hosts: &KnownHosts) -> Seen {
    if text.trim().is_empty() {
        return Seen::Nothing;
    }
    match ImageReference::as_written(text) {
        Ok(ImageReference { digest: None, .. }) => Seen::Nothing,
        Ok(image) => Seen::Image(ImageReference { tag: None, ..image }),
        Err(error) => {
            // Whatever stands before it, a digest says which image it is.
            let last = text.rsplit(['@', '/']).next().unwrap_or_default();
            match last.parse::<Digest>() {
                Ok(digest) => {
                    Seen::Image(ImageReference { host: None, repository: None, tag: None, digest: Some(digest) })
                }
                Err(_) => unread(text, error.to_string(), hosts),
            }
        }
    }
}

/// A text that is no reference is certainly none of ours only if it begins with the host of another registry.
fn unread(text: &str, error: String, hosts: &KnownHosts) -> Seen {
    let text = text.trim();
    let first = text.split_once('/').map(|(first, _)| first).unwrap_or_default();
    let legal = |c: char| c.is_ascii_alphanumeric() || ".-:".contains(c);
    let is_host = first.contains('.') && first.chars().all(legal);
    if is_host && !hosts.is_host(first) && !hosts.stand_in(text) {
        return Seen::Foreign(error);
    }
    Seen::Problem(error)
}

/// Goes through every pod specification inside a value, however deep, and gives each image's text with the name of its
/// container or volume.
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

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn hosts() -> KnownHosts {
        KnownHosts::new(&["contoso.azurecr.io".into(), "images.contoso.example".into()])
    }

    /// The class of what was seen, with the image in its normal form, where `D` is the digest.
    fn shown(seen: Seen) -> String {
        match seen {
            Seen::Image(image) => image.to_string().replace(D, "D"),
            Seen::Nothing => "nothing".into(),
            Seen::Foreign(_) => "foreign".into(),
            Seen::Problem(_) => "problem".into(),
        }
    }

    #[test]
    fn what_is_no_reference_is_passed_over_only_if_it_is_certainly_none_of_ours() {
        let cases = [
            ("contoso.azurecr.io/shop/api:v1", "contoso.azurecr.io/shop/api:v1"),
            ("nginx", "nginx:latest"),
            ("CONTOSO.azurecr.io:443/a@D", "contoso.azurecr.io/a@D"),
            ("contoso.azurecr.io/a:1@D", "contoso.azurecr.io/a:1@D"),
            ("", "nothing"),
            (" ", "nothing"),
            ("contoso.azurecr.io/Shop/api:v1", "problem"),
            ("IMAGES.contoso.example/a:", "problem"),
            ("contoso.azurecr.io:443/Shop", "problem"),
            ("ghcr.io/Owner/api:v1", "foreign"),
            ("ghcr.io/Owner/contoso.azurecr.io/a:${TAG}", "problem"),
            ("${REGISTRY}/shop/api:v1", "problem"),
            ("{{inputs.parameters.image}}", "problem"),
            ("Shop API", "problem"),
            ("registry.$DOMAIN/api:1", "problem"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(written(&text.replace('D', D), &hosts())), expected, "{text}");
        }
    }

    #[test]
    fn a_runtime_is_believed_by_digest_and_by_nothing_else() {
        // `imageID`, `image`, what is claimed.
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
            ("contoso.azurecr.io/a@sha256:short", "", "problem"),
            ("ghcr.io/a@sha256:short", "", "foreign"),
            ("what is this", "", "problem"),
        ];
        for (id, image, expected) in cases {
            let seen = reported(&id.replace('D', D), &image.replace('D', D), &hosts());
            assert_eq!(shown(seen), expected, "{id} {image}");
        }
    }
}
