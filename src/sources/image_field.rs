//! Texts where a cluster or a cloud expects an image, for registries that are known by certain names.

use super::image_syntax::{ParsedImage, parse_image, trim_decoration};
use super::known_hosts::KnownHosts;
use crate::domain::{ImageReference, PathPattern};

/// The meaning of a text for images.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ImageField {
    Image(ImageReference),
    /// An invalid reference, its probable meaning, and a message about it.
    Corrected(ImageReference, String),
    /// One or several known repositories without an identified tag, and a message about it.
    Unresolved(Option<String>, PathPattern, String),
    Nothing,
    /// An invalid reference that names no image in a known registry.
    Foreign(String),
    /// A fault that makes the whole answer doubtful.
    Problem(String),
}

/// Parses a reference in a specification. An empty one is allowed there, and names nothing.
pub(super) fn parse_spec(text: &str, hosts: &KnownHosts) -> ImageField {
    if text.trim().is_empty() {
        return ImageField::Nothing;
    }
    classify(parse_image(text), text, hosts)
}

/// Classifies a parsed text for registries with these names.
pub(super) fn classify(found: ParsedImage, text: &str, hosts: &KnownHosts) -> ImageField {
    let ours = |host: Option<&String>, path: &str| host.is_none_or(|host| hosts.match_path(host, path));
    match found {
        ParsedImage::Image(image) => ImageField::Image(image),
        ParsedImage::Corrected(image, told) => match &image.repository {
            Some(path) if ours(image.host.as_ref(), path.as_str()) => ImageField::Corrected(image, told),
            _ => ImageField::Foreign(told),
        },
        ParsedImage::Unresolved(host, path, told) if host.is_none() || hosts.is_prefix_of(trim_decoration(text)) => {
            ImageField::Unresolved(host, path, told)
        }
        // A known name behind another one, as caches write it.
        ParsedImage::Unresolved(_, _, told) | ParsedImage::Invalid(told) => match hosts.rest_from_name(text) {
            Some(inner) => match parse_image(inner) {
                ParsedImage::Unresolved(host, path, _) => ImageField::Unresolved(host, path, told),
                _ => ImageField::Foreign(told),
            },
            None => ImageField::Foreign(told),
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

    /// Returns the class of the field, with the image in its normal form, where `D` is the digest.
    pub(in crate::sources) fn shown(seen: ImageField) -> String {
        match seen {
            ImageField::Image(image) => image.to_string().replace(D, "D"),
            ImageField::Nothing => "nothing".into(),
            ImageField::Corrected(image, _) => format!("corrected {image}"),
            ImageField::Unresolved(host, path, _) => format!("open {} {path:?}", host.unwrap_or_default()),
            ImageField::Foreign(_) => "foreign".into(),
            ImageField::Problem(_) => "problem".into(),
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
            assert_eq!(shown(parse_spec(&text.replace('D', D), &hosts())), expected, "{text}");
        }
    }
}
