//! Image references as clusters hold them.

use serde_json::Value;

use super::super::invalid::{Read, bare, read};
use super::super::reference_scan::KnownHosts;
use crate::domain::{Digest, ImageReference, PathPattern};

/// What a text says of images.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Image(ImageReference),
    /// An invalid reference, what it was probably meant to be, and what to tell about it.
    Corrected(ImageReference, String),
    /// A repository of ours, or several, with an open tag, and what to tell about it.
    Unresolved(Option<String>, PathPattern, String),
    Nothing,
    /// No reference, and no image of ours whatever it is meant to be.
    Foreign(String),
    /// Something that makes the whole answer doubtful.
    Problem(String),
}

/// A reference in a specification. An empty one is allowed there, and names nothing.
pub(super) fn written(text: &str, hosts: &KnownHosts) -> Seen {
    if text.trim().is_empty() {
        return Seen::Nothing;
    }
    understood(read(text), text, hosts)
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
        Err(_) => {
            // Whatever stands before it, a digest says which image it is.
            let last = text.rsplit(['@', '/']).next().unwrap_or_default();
            match last.parse::<Digest>() {
                Ok(digest) => {
                    Seen::Image(ImageReference { host: None, repository: None, tag: None, digest: Some(digest) })
                }
                Err(_) => match understood(read(text), text, hosts) {
                    // A tag that the runtime knows says nothing.
                    Seen::Image(_) | Seen::Corrected(..) => Seen::Nothing,
                    seen => seen,
                },
            }
        }
    }
}

/// Translates what was read of a text for registries with these names.
fn understood(found: Read, text: &str, hosts: &KnownHosts) -> Seen {
    let ours = |host: Option<&String>, path: &str| host.is_none_or(|host| hosts.name(host, path));
    match found {
        Read::Image(image) => Seen::Image(image),
        Read::Corrected(image, told) => match &image.repository {
            Some(path) if ours(image.host.as_ref(), path.as_str()) => Seen::Corrected(image, told),
            _ => Seen::Foreign(told),
        },
        Read::Unresolved(host, path, told) if host.is_none() || hosts.begin(bare(text)) => {
            Seen::Unresolved(host, path, told)
        }
        // One of our names behind another one's, as caches write it.
        Read::Unresolved(_, _, told) | Read::Invalid(told) => match hosts.rest_from_name(text) {
            Some(inner) => match read(inner) {
                Read::Unresolved(host, path, _) => Seen::Unresolved(host, path, told),
                _ => Seen::Foreign(told),
            },
            None => Seen::Foreign(told),
        },
    }
}

/// The name of an image without its tag and digest, by a text of a specification or status; `None` where it names none.
pub(super) fn name(text: &str) -> Option<ImageReference> {
    let name = |host, path| ImageReference { host, repository: Some(path), tag: None, digest: None };
    match read(text) {
        Read::Image(ImageReference { host, repository, .. })
        | Read::Corrected(ImageReference { host, repository, .. }, _) => repository.map(|path| name(host, path)),
        Read::Unresolved(..) | Read::Invalid(_) => None,
    }
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
        KnownHosts::new(&["contoso.azurecr.io", "images.contoso.example", "harbor.example/proxy"].map(String::from))
    }

    /// The class of what was seen, with the image in its normal form, where `D` is the digest.
    fn shown(seen: Seen) -> String {
        match seen {
            Seen::Image(image) => image.to_string().replace(D, "D"),
            Seen::Nothing => "nothing".into(),
            Seen::Corrected(image, _) => format!("corrected {image}"),
            Seen::Unresolved(host, path, _) => format!("open {} {path:?}", host.unwrap_or_default()),
            Seen::Foreign(_) => "foreign".into(),
            Seen::Problem(_) => "problem".into(),
        }
    }

    #[test]
    fn an_invalid_text_counts_where_it_may_mean_an_image_of_ours() {
        let cases = [
            ("contoso.azurecr.io/shop/api:v1", "contoso.azurecr.io/shop/api:v1"),
            ("nginx", "nginx:latest"),
            ("CONTOSO.azurecr.io:443/a@D", "contoso.azurecr.io/a@D"),
            ("contoso.azurecr.io/a:1@D", "contoso.azurecr.io/a:1@D"),
            ("", "nothing"),
            (" ", "nothing"),
            ("contoso.azurecr.io/Shop/api:v1", "corrected contoso.azurecr.io/shop/api:v1"),
            ("IMAGES.contoso.example/a:", r#"open images.contoso.example PathPattern(["a"])"#),
            ("contoso.azurecr.io:443/Shop", "corrected contoso.azurecr.io/shop:latest"),
            ("contoso.eastus2.geo.azurecr.io/a:${TAG}", r#"open contoso.eastus2.geo.azurecr.io PathPattern(["a"])"#),
            ("harbor.example/proxy/a:${TAG}", r#"open harbor.example PathPattern(["proxy/a"])"#),
            ("harbor.example/other/a:${TAG}", "foreign"),
            ("ghcr.io/Owner/api:v1", "foreign"),
            ("ghcr.io/a:${TAG}", "foreign"),
            ("ghcr.io/Owner/contoso.azurecr.io/a:${TAG}", r#"open contoso.azurecr.io PathPattern(["a"])"#),
            ("${REGISTRY}/shop/api:v1", "corrected shop/api:v1"),
            ("{{inputs.parameters.image}}", "foreign"),
            ("Shop API", "foreign"),
            ("MyApp:latest", "corrected myapp:latest"),
            ("registry.$DOMAIN/api:1", "corrected api:1"),
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
            ("contoso.azurecr.io/a@sha256:short", "", r#"open contoso.azurecr.io PathPattern(["a"])"#),
            ("ghcr.io/a@sha256:short", "", "foreign"),
            ("what is this", "", "foreign"),
        ];
        for (id, image, expected) in cases {
            let seen = reported(&id.replace('D', D), &image.replace('D', D), &hosts());
            assert_eq!(shown(seen), expected, "{id} {image}");
        }
    }
}
