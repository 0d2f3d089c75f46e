//! Texts in the place of an image that are not valid references.
//!
//! A text with an invalid repository names nothing in any registry, so nothing runs it. Three kinds may mean a known
//! image all the same: a name in upper case, which some tools lower; an unfilled placeholder; and a repository whose
//! tag or digest is invalid.

use super::text::placeholder::{Piece, pieces};
use crate::domain::{ImageReference, PathPattern, RepositoryName, TagName, chain};

/// The meaning of a text in the place of an image reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ParsedImage {
    /// A valid reference.
    Image(ImageReference),
    /// An invalid reference, its probable meaning, and a message about it.
    Corrected(ImageReference, String),
    /// One or several repositories without an identified tag: host, path, and a message about it.
    Unresolved(Option<String>, PathPattern, String),
    /// A text that names nothing in any registry, and a message about it.
    Invalid(String),
}

/// The character that stands for a placeholder; no text contains it.
pub(super) const PLACEHOLDER_MARK: char = '\0';

/// Parses a text where an image is expected. A reference without a tag means `latest`.
pub(super) fn parse_image(text: &str) -> ParsedImage {
    let error = match text.parse::<ImageReference>() {
        Ok(image) => return ParsedImage::Image(image),
        Err(error) => error,
    };
    let bare = trim_decoration(text);
    let (words, shown) = (chain(&error), &error.text);
    let marked = mark_placeholders(bare);
    if marked.contains(PLACEHOLDER_MARK) {
        return parse_placeholder(&marked, shown);
    }
    let (name, rest) = split(bare);
    let lower = name.to_ascii_lowercase();
    if lower != name
        && let Ok(image) = format!("{lower}{rest}").parse::<ImageReference>()
    {
        return ParsedImage::Corrected(image, format!("{words}; read as `{lower}{rest}`"));
    }
    match ImageReference::parse_verbatim(&lower) {
        Ok(ImageReference { host, repository: Some(path), tag: None, digest: None }) if !rest.is_empty() => {
            let pattern = PathPattern::of(&[path.as_str()]);
            ParsedImage::Unresolved(host, pattern, format!("{words}; every tag of that repository may be meant"))
        }
        _ => ParsedImage::Invalid(format!("{words}; no registry can hold it")),
    }
}

/// Returns the text without the white space, quotes and scheme around it.
pub(super) fn trim_decoration(text: &str) -> &str {
    let text = text.trim().trim_matches(['"', '\'', '`']);
    text.split_once("://").map_or(text, |(_, rest)| rest)
}

/// Splits a text into host and path, and the rest from the first colon or `@` after them.
pub(super) fn split(text: &str) -> (&str, &str) {
    let start = text.find('@').map_or(text, |at| &text[..at]).rfind('/').map_or(0, |at| at + 1);
    let end = text[start..].find([':', '@']).map_or(text.len(), |at| start + at);
    text.split_at(end)
}

/// Returns the text with each placeholder replaced by one mark.
pub(super) fn mark_placeholders(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Literal(text) => out.push_str(text),
            Piece::Placeholder(_) if out.ends_with(PLACEHOLDER_MARK) => {}
            Piece::Placeholder(_) => out.push(PLACEHOLDER_MARK),
        }
    }
    out
}

/// Parses a text with placeholders.
fn parse_placeholder(marked: &str, shown: &str) -> ParsedImage {
    let nothing = || ParsedImage::Invalid(format!("`{shown}` is filled in elsewhere, and names no repository"));
    let (name, rest) = split(marked);
    let (first, path) = match name.split_once('/') {
        Some((first, path)) if first.contains(PLACEHOLDER_MARK) => (Some(None), path),
        Some((first, path)) if is_host(first) => (Some(Some(first)), path),
        _ => (None, name),
    };
    let path = path.to_ascii_lowercase();
    let open = path.contains(PLACEHOLDER_MARK);
    let host = match first {
        Some(Some(host)) => {
            // The host as in references, in normal form.
            match ImageReference::parse_verbatim(&format!("{host}/x")) {
                Ok(ImageReference { host: Some(host), .. }) => Some(host),
                _ => return nothing(),
            }
        }
        // Without a host only a whole path identifies a repository.
        _ if open => return nothing(),
        _ => None,
    };
    if !open && path.parse::<RepositoryName>().is_err() || path.is_empty() {
        return nothing();
    }
    let tag = rest.strip_prefix(':').and_then(|tag| tag.parse::<TagName>().ok());
    if let (Some(None), Some(tag)) = (first, &tag)
        && let Ok(image) = format!("{path}:{tag}").parse()
    {
        return ParsedImage::Corrected(
            image,
            format!("`{shown}` is filled in elsewhere; read as `{path}:{tag}` of any registry"),
        );
    }
    let parts: Vec<&str> = path.split(PLACEHOLDER_MARK).collect();
    let told = format!("`{shown}` is filled in elsewhere; every tag of a repository that it may name may be meant");
    ParsedImage::Unresolved(host, PathPattern::of(&parts), told)
}

fn is_host(segment: &str) -> bool {
    segment.contains(['.', ':']) || segment == "localhost" || segment.bytes().any(|b| b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kind of the result, and what it names; `*` for open parts.
    fn shown(text: &str) -> String {
        match parse_image(text) {
            ParsedImage::Image(image) => format!("image {image}"),
            ParsedImage::Corrected(image, _) => format!("corrected {image}"),
            ParsedImage::Unresolved(host, path, _) => {
                let host = host.map_or(String::new(), |host| host + "/");
                format!("open {host}{path:?}").replace("PathPattern(", "").replace(')', "")
            }
            ParsedImage::Invalid(_) => "invalid".to_owned(),
        }
    }

    #[test]
    fn a_text_that_is_no_reference_says_what_it_can() {
        for (text, expected) in [
            ("contoso.azurecr.io/shop/api:v1", "image contoso.azurecr.io/shop/api:v1"),
            ("MyApp:latest", "corrected myapp:latest"),
            ("MyApp", "corrected myapp:latest"),
            ("contoso.azurecr.io/Shop/api:V1", "corrected contoso.azurecr.io/shop/api:V1"),
            ("ghcr.io/Owner/thing", "corrected ghcr.io/owner/thing:latest"),
            ("contoso.azurecr.io/Shop/api:", r#"open contoso.azurecr.io/["shop/api"]"#),
            ("contoso.azurecr.io/shop/api:.v1", r#"open contoso.azurecr.io/["shop/api"]"#),
            ("contoso.azurecr.io:8443/api:v1:v2", r#"open contoso.azurecr.io:8443/["api"]"#),
            ("contoso.azurecr.io/a@sha256:short", r#"open contoso.azurecr.io/["a"]"#),
            ("contoso.azurecr.io/a:v1@latest", r#"open contoso.azurecr.io/["a"]"#),
            ("contoso.azurecr.io/", "invalid"),
            ("contoso.azurecr.io//api:v1", "invalid"),
            ("shop api", "invalid"),
            ("-shop/api:v1", "invalid"),
            ("contoso_x.io/api", "invalid"),
            ("@latest", "invalid"),
            ("what is this", "invalid"),
            ("contoso.azurecr.io/shop/api:${TAG}", r#"open contoso.azurecr.io/["shop/api"]"#),
            ("contoso.azurecr.io/shop/api:$(Build.BuildId)", r#"open contoso.azurecr.io/["shop/api"]"#),
            ("Contoso.azurecr.io:443/shop/api:v1-$TAG", r#"open contoso.azurecr.io/["shop/api"]"#),
            ("contoso.azurecr.io/shop/api:{{ .Values.tag }}", r#"open contoso.azurecr.io/["shop/api"]"#),
            ("contoso.azurecr.io/shop/api@{{ .Values.digest }}", r#"open contoso.azurecr.io/["shop/api"]"#),
            ("contoso.azurecr.io/shop/api:#{tag}#", r#"open contoso.azurecr.io/["shop/api"]"#),
            ("contoso.azurecr.io/shop/api:<tag>", r#"open contoso.azurecr.io/["shop/api"]"#),
            ("contoso.azurecr.io/shop/api:%TAG%", r#"open contoso.azurecr.io/["shop/api"]"#),
            ("contoso.azurecr.io/shop/${APP:-${NAME}}:v1", r#"open contoso.azurecr.io/["shop/", ""]"#),
            ("contoso.azurecr.io/${TEAM}/api", r#"open contoso.azurecr.io/["", "/api"]"#),
            ("${REGISTRY}/shop/api:v1", "corrected shop/api:v1"),
            ("registry.$DOMAIN/shop/api:v1", "corrected shop/api:v1"),
            ("{{ .Values.registry }}/shop/api:${TAG}", r#"open ["shop/api"]"#),
            ("shop/api:${TAG}", r#"open ["shop/api"]"#),
            ("shop/${APP}:v1", "invalid"),
            ("${IMAGE}", "invalid"),
            ("${IMAGE", "invalid"),
            ("{{inputs.parameters.image}}", "invalid"),
            ("${REGISTRY}/${IMAGE}", "invalid"),
            ("contoso.azurecr.io/shop api:${TAG}", "invalid"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
