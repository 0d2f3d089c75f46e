//! `linuxFxVersion` and `windowsFxVersion`: the image or runtime of an App Service app, as one text.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::domain::chain;
use crate::sources::document::{Format, Node, Value, parse};

/// The meaning of such a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FxVersion<'a> {
    /// A built-in runtime, or containers that are listed elsewhere.
    NoImage,
    /// A container without an image name.
    Unset,
    /// One image.
    Image(&'a str),
    /// A file of several containers, as YAML.
    Compose(String),
}

/// Base64 as tools write it, with `=` at its end or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl<'a> FxVersion<'a> {
    /// Parses `DOCKER|image`, `COMPOSE|base64`, `KUBE|base64`, `sitecontainers` or `NODE|20-lts`. The error names what
    /// is not understood.
    pub(super) fn read(text: &'a str) -> Result<Self, String> {
        let (word, rest) = text.split_once('|').unwrap_or((text, ""));
        let (word, rest) = (word.trim().to_ascii_lowercase(), rest.trim());
        match word.as_str() {
            "docker" if rest.is_empty() => Ok(Self::Unset),
            "docker" => Ok(Self::Image(rest)),
            "compose" | "kube" => {
                let packed: String = rest.split_whitespace().collect();
                let bytes = BASE64
                    .decode(packed)
                    .map_err(|error| format!("its `{word}` file is not valid base64: {}", chain(&error)))?;
                String::from_utf8(bytes).map(Self::Compose).map_err(|_| format!("its `{word}` file is not valid UTF-8"))
            }
            // A runtime's version is a plain word; an image under an unknown prefix is an error.
            _ if rest.contains(['/', ':', '@']) => {
                Err(format!("it is set to run `{word}|{rest}`, which is none of the known forms"))
            }
            _ => Ok(Self::NoImage),
        }
    }
}

/// Image texts, each with the name of its container or service.
type NamedImages = Vec<(String, String)>;

/// Returns every image of a compose file or of Kubernetes manifests, and the parsed documents.
pub(super) fn compose_images(yaml: &str) -> Result<(NamedImages, Vec<Node>), String> {
    let documents = parse(yaml, Format::Yaml)
        .map_err(|problem| format!("its file of containers, line {}: {}", problem.line, problem.message))?;
    let mut images = Vec::new();
    for document in &documents {
        collect(document, "", &mut images)?;
    }
    if images.is_empty() { Err("its file of containers names no image".into()) } else { Ok((images, documents)) }
}

fn collect(node: &Node, name: &str, images: &mut NamedImages) -> Result<(), String> {
    match &node.value {
        Value::List(nodes) => nodes.iter().try_for_each(|node| collect(node, name, images)),
        Value::Map(entries) => entries.iter().try_for_each(|(line, key, node)| match &node.value {
            Value::Text(image) | Value::Literal(image) if key == "image" => {
                images.push((name.to_owned(), image.clone()));
                Ok(())
            }
            _ if key == "image" => Err(format!("its file of containers, line {line}: `image` is {}", node.describe())),
            _ => collect(node, key, images),
        }),
        Value::Null | Value::Literal(_) | Value::Text(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_app_runs_is_read_as_it_is_written() {
        let compose = BASE64.encode("services:\n  web:\n    image: a/b:1\n");
        let file = || Ok(FxVersion::Compose("services:\n  web:\n    image: a/b:1\n".into()));
        for (text, expected) in [
            ("DOCKER|contoso.azurecr.io/api:v1", Ok(FxVersion::Image("contoso.azurecr.io/api:v1"))),
            ("docker| nginx ", Ok(FxVersion::Image("nginx"))),
            ("DOCKER|", Ok(FxVersion::Unset)),
            ("NODE|20-lts", Ok(FxVersion::NoImage)),
            ("TOMCAT|9.0-java11", Ok(FxVersion::NoImage)),
            ("sitecontainers", Ok(FxVersion::NoImage)),
            ("", Ok(FxVersion::NoImage)),
            (&format!("COMPOSE|{compose}"), file()),
            (&format!("COMPOSE|{}", compose.trim_end_matches('=')), file()),
        ] {
            assert_eq!(FxVersion::read(text), expected, "{text}");
        }
        for (text, words) in [
            ("COMPOSE|%%%", "not valid base64"),
            ("KUBE|/w==", "not valid UTF-8"),
            ("WASM|contoso.azurecr.io/api:v1", "none of the known forms"),
        ] {
            assert!(FxVersion::read(text).unwrap_err().contains(words), "{text}");
        }
    }

    #[test]
    fn every_image_of_a_file_is_found_or_told() {
        let (found, _) =
            compose_images("version: '3'\nservices:\n  web:\n    image: a:1\n  db:\n    image: b\n").unwrap();
        assert_eq!(found, [("web".into(), "a:1".into()), ("db".into(), "b".into())]);
        for (yaml, words) in
            [("a: [", "line 1"), ("services: {}", "no image"), ("services:\n  web:\n    image: [a]", "line 3")]
        {
            assert!(compose_images(yaml).unwrap_err().contains(words), "{yaml}");
        }
    }
}
