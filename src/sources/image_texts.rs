//! Texts where a cluster or a cloud expects an image, for registries that are known by certain names.

use super::invalid::{Read, bare, read};
use super::reference_scan::KnownHosts;
use crate::domain::{ImageReference, PathPattern};

/// The meaning of a text for images.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Image(ImageReference),
    /// An invalid reference, what it was probably meant to be, and what to tell about it.
    Corrected(ImageReference, String),
    /// A repository of ours, or several, with an open tag, and what to tell about it.
    Unresolved(Option<String>, PathPattern, String),
    Nothing,
    /// An invalid reference that means no image of ours, whatever it stands for.
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

/// Translates what was read of a text for registries with these names.
pub(super) fn understood(found: Read, text: &str, hosts: &KnownHosts) -> Seen {
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::sources) const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    pub(in crate::sources) fn hosts() -> KnownHosts {
        KnownHosts::new(&["contoso.azurecr.io", "images.contoso.example", "harbor.example/proxy"].map(String::from))
    }

    /// The class of what was seen, with the image in its normal form, where `D` is the digest.
    pub(in crate::sources) fn shown(seen: Seen) -> String {
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
}
