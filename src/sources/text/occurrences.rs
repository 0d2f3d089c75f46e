//! Places in a text that name an image, and the meaning of the reference there.

use std::ops::Range;

use super::placeholder;
use crate::domain::{ImageReference, PathPattern, TagName};
use crate::sources::image_syntax::{self, ParsedImage};
use crate::sources::known_hosts::KnownHosts;

/// A reference in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sources) struct Occurrence<'t> {
    /// Its bytes.
    pub(in crate::sources) span: Range<usize>,
    /// The reference as written, with host and placeholders.
    pub(in crate::sources) text: &'t str,
    pub(in crate::sources) origin: Origin,
    pub(in crate::sources) ending: Ending,
}

/// The beginning of a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sources) enum Origin {
    /// A known host.
    Host,
    /// A placeholder for the host, followed by a path.
    Placeholder,
    /// A placeholder for host and path, followed by a tag.
    Base,
    /// A placeholder and nothing else.
    Lone,
}

/// The end of a reference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::sources) enum Ending {
    /// The reference is complete.
    #[default]
    Complete,
    /// An ellipsis: the rest was omitted.
    Ellipsis,
    /// A pattern that stands for several references.
    Pattern,
    /// A dash or a letter outside ASCII. It may have replaced a character of the reference.
    Foreign(char),
}

/// The meaning of a reference without placeholders.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::sources) struct Meaning {
    /// The images that it names by tag or digest, in each possible reading.
    pub(in crate::sources) images: Vec<ImageReference>,
    pub(in crate::sources) open_part: OpenPart,
    /// True if the repository is invalid as written, and was read in lower case.
    pub(in crate::sources) corrected: bool,
    /// A remark for people.
    pub(in crate::sources) note: Option<String>,
}

/// The open part of a reference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::sources) enum OpenPart {
    #[default]
    None,
    /// Everything except host and path: neither a tag nor a digest is written.
    Untagged(ImageReference),
    /// The tag, which is written but not understood: host, path, and the words that would resolve it.
    Unresolved(Option<String>, PathPattern, Vec<Box<str>>),
}

/// Characters after a reference that may belong to the sentence.
const TRAILING_PUNCTUATION: [char; 7] = ['/', ':', '@', '.', '-', '_', '+'];

/// Longest reference, placeholders and all.
const MAX_REFERENCE_BYTES: usize = 4096;

/// Schemes before references.
const SCHEMES: [&str; 3] = ["oci://", "docker://", "docker-pullable://"];

/// Returns the references in a text, in order.
pub(in crate::sources) fn scan<'t>(text: &'t str, hosts: &KnownHosts) -> Vec<Occurrence<'t>> {
    let mut seen = scan_hosts(text, hosts);
    let open = placeholders(text, &seen);
    if !open.is_empty() {
        seen.extend(open);
        seen.sort_by_key(|one| one.span.start);
    }
    seen
}

/// Returns the references in a text that begin with a known host, in order.
pub(in crate::sources) fn scan_hosts<'t>(text: &'t str, hosts: &KnownHosts) -> Vec<Occurrence<'t>> {
    let named = hosts.find_all(text).into_iter().map(|host| {
        let span = host.start..reference_end(text, host.end, false);
        let cut = reference_ending(text, &span, span.end == host.end);
        Occurrence { text: &text[span.clone()], span, origin: Origin::Host, ending: cut }
    });
    named.collect()
}

/// Returns references that begin with a placeholder, outside of the known ones.
fn placeholders<'t>(text: &'t str, known: &[Occurrence<'t>]) -> Vec<Occurrence<'t>> {
    let mut found = Vec::new();
    let mut known = known.iter().map(|one| &one.span).peekable();
    let mut at = 0;
    while let Some(open) = placeholder::find(text, at) {
        at = open.end;
        while known.next_if(|span| span.end <= open.start).is_some() {}
        if let Some(span) = known.peek()
            && span.start <= open.start
        {
            at = span.end.max(open.start + 1);
            continue;
        }
        let start = host_start(text, open.start);
        if !may_begin(&text[..start]) {
            continue;
        }
        let end = reference_end(text, start, true);
        at = at.max(end);
        let span = start..end;
        let run = &text[span.clone()];
        if let Some(origin) = origin(run, &text[end..]) {
            let cut = reference_ending(text, &span, false);
            found.push(Occurrence { text: run, span, origin, ending: cut });
        }
    }
    found
}

/// Returns the beginning of a host with a placeholder in it, such as `contoso${ENV}.azurecr.io`.
fn host_start(text: &str, placeholder: usize) -> usize {
    let before = &text[..placeholder];
    let head = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-').len();
    // An option such as `-t`.
    if before[head..].starts_with(['-', '.']) { placeholder } else { head }
}

/// Returns true if a reference may begin after a text: not in a longer path, a port or a web address.
fn may_begin(before: &str) -> bool {
    SCHEMES.iter().any(|scheme| before.ends_with(scheme)) || !before.ends_with(['/', '\\', ':', '@', '_', '}', ')'])
}

/// Returns the end of a reference that begins at `from` with its path, or with its host, which may have a port.
pub(super) fn reference_end(text: &str, from: usize, with_host: bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = from;
    // The beginning of the tag or digest.
    let mut tag = None;
    // Longer texts are not references, and would be scanned again for each of their hosts.
    while let Some(&byte) = bytes.get(at).filter(|_| at - from < MAX_REFERENCE_BYTES) {
        if let Some(length) = placeholder::length_at(text, at) {
            at += length;
            continue;
        }
        match byte {
            b'/' if tag.is_some_and(|tag| !with_host || !is_port(&text[tag..at])) => break,
            b'/' => tag = None,
            b':' | b'@' => tag = Some(at + 1),
            _ if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) || byte == b'+' && tag.is_some() => {}
            _ => break,
        }
        at += 1;
    }
    at
}

fn is_port(text: &str) -> bool {
    (2..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the kind of end of the reference in `span`; `is_host` is true if nothing follows its host.
fn reference_ending(text: &str, span: &Range<usize>, is_host: bool) -> Ending {
    let (run, behind) = (&text[span.clone()], &text[span.end..]);
    if behind.starts_with('…') || run.ends_with("...") {
        return Ending::Ellipsis;
    }
    if let Some(foreign) = behind.chars().next().filter(|c| is_dash(*c) || !c.is_ascii() && c.is_alphanumeric()) {
        return Ending::Foreign(foreign);
    }
    if behind.starts_with('*') {
        // Markdown's emphasis surrounds it.
        let is_emphasis = text[..span.start].ends_with('*');
        return if is_emphasis { Ending::Complete } else { Ending::Pattern };
    }
    let opens = is_host || run.ends_with(['/', ':', '@', '-', '_']);
    let is_more = behind.starts_with(['{', '[', '(', '$', '!', '%', '?', '^']);
    if opens && is_more { Ending::Pattern } else { Ending::Complete }
}

/// Returns true for dashes outside ASCII, which word processors and chats write for `-`.
fn is_dash(c: char) -> bool {
    matches!(c, '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' | '\u{feff}')
}

/// Returns true for dashes that do not separate the parts of a sentence.
fn is_hyphen(c: char) -> bool {
    is_dash(c) && !matches!(c, '\u{2012}'..='\u{2015}')
}

/// Describes the character that ended a reference too early.
fn foreign_note(text: &str, foreign: char) -> String {
    let code = u32::from(foreign);
    let remedy = if is_dash(foreign) {
        "write it with a plain `-`, or with a space before it"
    } else {
        "write a space after it"
    };
    format!("`{text}` is followed by U+{code:04X}, so its tag is open; {remedy}")
}

/// Returns the kind of a run that has a placeholder near its beginning; `None` if it is not a reference.
fn origin(run: &str, behind: &str) -> Option<Origin> {
    let marked = image_syntax::mark_placeholders(run);
    let (name, rest) = image_syntax::split(&marked);
    let rest = rest.trim_end_matches(['.', ',', '-', '_']);
    let (first, path) = match name.split_once('/') {
        Some((first, path)) => (first, Some(path)),
        None => (name, None),
    };
    if !first.contains(image_syntax::PLACEHOLDER_MARK) || rest == ":" && behind.starts_with('/') {
        return None;
    }
    let tag = rest.get(1..).unwrap_or_default();
    let sound = tag.is_empty()
        || tag.contains(image_syntax::PLACEHOLDER_MARK)
        || rest.starts_with('@')
        || helm_tag(tag).parse::<TagName>().is_ok();
    if !sound {
        return None;
    }
    let is_path = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c) || c == image_syntax::PLACEHOLDER_MARK
    };
    match path {
        Some(path) => {
            let path = path.trim_end_matches(TRAILING_PUNCTUATION);
            (!path.is_empty() && !path.contains("..") && path.chars().all(is_path)).then_some(Origin::Placeholder)
        }
        None if rest.is_empty() => (first.chars().all(|c| c == image_syntax::PLACEHOLDER_MARK)).then_some(Origin::Lone),
        None => Some(Origin::Base),
    }
}

/// Returns a version as a Helm tag, with `_` for `+`, which no tag can contain.
fn helm_tag(text: &str) -> String {
    text.replace('+', "_")
}

/// Parses a reference without placeholders. `behind` is the rest of its line.
pub(in crate::sources) fn meaning(text: &str, cut: Ending, behind: &str) -> Meaning {
    let schemes = SCHEMES.iter().chain(&["https://", "http://"]);
    let text = schemes.copied().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let Some((host, run)) = text.split_once('/') else { return Meaning::default() };
    if let Some(found) = api_url_meaning(host, run) {
        return found;
    }
    let trimmed = run.trim_end_matches(TRAILING_PUNCTUATION);
    if trimmed.is_empty() {
        return Meaning::default();
    }
    let (name, is_half) = match trimmed.strip_suffix("@sha256").or_else(|| trimmed.strip_suffix("@sha512")) {
        Some(name) => (name, true),
        None => (trimmed, false),
    };
    let mut images: Vec<ImageReference> = Vec::new();
    let mut untagged = None;
    for image in [run, name].iter().filter_map(|reading| parse_reference(&format!("{host}/{}", helm_tag(reading)))) {
        if image.tag.is_none() && image.digest.is_none() {
            untagged = Some(image);
        } else if !images.contains(&image) {
            images.push(image);
        }
    }
    let mut note = None;
    let left = match (images.first(), untagged) {
        (Some(image), _) if cut != Ending::Complete || is_half => {
            if let Ending::Foreign(foreign) = cut {
                note = Some(foreign_note(text, foreign));
            }
            open_tag(image, Vec::new())
        }
        (Some(image), _) => match &image.tag {
            Some(tag) if image.digest.is_none() && is_placeholder_tag(tag) => {
                open_tag(image, vec![tag.as_str().into()])
            }
            _ => OpenPart::None,
        },
        (None, Some(image)) => {
            let mark = run[name.len()..].chars().next();
            let is_colon = mark == Some(':') && (cut != Ending::Complete || !is_punctuation(behind));
            match cut {
                _ if is_half || is_colon || mark == Some('@') => open_tag(&image, Vec::new()),
                Ending::Foreign(foreign) if is_hyphen(foreign) => truncated_path(&image, run),
                Ending::Complete | Ending::Foreign(_) => OpenPart::Untagged(image),
                Ending::Ellipsis => truncated_path(&image, run),
                Ending::Pattern => return pattern_of_paths(host, run),
            }
        }
        (None, None) => return invalid_meaning(host, name),
    };
    Meaning { images, open_part: left, note, ..Meaning::default() }
}

/// Returns an image of which only the repository is certain.
fn open_tag(image: &ImageReference, words: Vec<Box<str>>) -> OpenPart {
    match &image.repository {
        Some(path) => OpenPart::Unresolved(image.host.clone(), PathPattern::of(&[path.as_str()]), words),
        None => OpenPart::None,
    }
}

/// Returns true for a colon that ends a phrase: text follows on the same line.
fn is_punctuation(behind: &str) -> bool {
    behind.starts_with([' ', '\t']) && behind.trim().contains(|c: char| c.is_ascii_alphanumeric())
}

/// Returns a path whose end was omitted.
fn truncated_path(image: &ImageReference, run: &str) -> OpenPart {
    let path = run.trim_end_matches(['.', '-', '_']).to_ascii_lowercase();
    OpenPart::Unresolved(image.host.clone(), PathPattern::of(&[&path, ""]), Vec::new())
}

fn pattern_of_paths(host: &str, run: &str) -> Meaning {
    let note = format!("`{host}/{run}…` is a pattern of repositories, which names no image");
    Meaning { note: Some(note), ..Meaning::default() }
}

/// Parses a reference as written, also one with more text after a colon, as in the output of some tools.
fn parse_reference(text: &str) -> Option<ImageReference> {
    ImageReference::parse_verbatim(text).ok().or_else(|| {
        let (text, _) = text.rsplit_once(':')?;
        let image = ImageReference::parse_verbatim(text).ok()?;
        (!text.contains('@') && image.tag.is_some()).then_some(image)
    })
}

/// Parses an invalid reference.
fn invalid_meaning(host: &str, run: &str) -> Meaning {
    let text = format!("{host}/{}", helm_tag(run));
    let (name, rest) = image_syntax::split(&text);
    let lower = name.to_ascii_lowercase();
    if lower != name && run.bytes().any(|byte| byte.is_ascii_uppercase()) && !name.eq_ignore_ascii_case(host) {
        let read = meaning(&format!("{lower}{rest}"), Ending::Complete, "");
        if read.open_part != OpenPart::None || !read.images.is_empty() {
            let note = format!("`{text}` is invalid as a reference; read as `{lower}{rest}`");
            return Meaning { corrected: true, note: Some(note), ..read };
        }
    }
    // A shortened digest, or a tag behind `@`.
    if let Some((before, end)) = text.split_once('@')
        && let Some(image) = parse_reference(before)
        && let Some(path) = &image.repository
    {
        let tag = end.parse::<TagName>().ok();
        let words = tag.iter().map(|tag| tag.as_str().into()).collect();
        let left = OpenPart::Unresolved(image.host.clone(), PathPattern::of(&[path.as_str()]), words);
        let tag = image.tag.clone().or(tag);
        let images = tag.map(|tag| ImageReference { tag: Some(tag), ..image.clone() }).into_iter().collect();
        return Meaning { images, open_part: left, ..Meaning::default() };
    }
    match image_syntax::parse_image(&text) {
        ParsedImage::Unresolved(host, path, _) => {
            Meaning { open_part: OpenPart::Unresolved(host, path, Vec::new()), ..Meaning::default() }
        }
        ParsedImage::Image(image) | ParsedImage::Corrected(image, _) => {
            Meaning { images: vec![image], ..Meaning::default() }
        }
        ParsedImage::Invalid(told) => Meaning { note: Some(told), ..Meaning::default() },
    }
}

/// Parses a URL of the registry's own API; `None` if it is another reference.
fn api_url_meaning(host: &str, run: &str) -> Option<Meaning> {
    let other = || {
        let note = format!("taken for a web address of the registry: `{host}/{run}`");
        Some(Meaning { note: Some(note), ..Meaning::default() })
    };
    if run == "v2" || ["acr/v1/", "oauth2/", "v2/_catalog", ".well-known/"].iter().any(|start| run.starts_with(start)) {
        return other();
    }
    let rest = run.strip_prefix("v2/")?;
    if let Some(image) = manifest_url_reference(host, rest) {
        return match ImageReference::parse_verbatim(&image) {
            Ok(image) => Some(Meaning { images: vec![image], ..Meaning::default() }),
            Err(_) => other(),
        };
    }
    ["/blobs/", "/tags/", "/referrers/"].iter().any(|part| rest.contains(part)).then(other)?
}

/// Returns the reference that the URL of a manifest stands for.
fn manifest_url_reference(host: &str, rest: &str) -> Option<String> {
    let (path, reference) = rest.split_once("/manifests/")?;
    let mark = if reference.contains(':') { '@' } else { ':' };
    Some(format!("{host}/{path}{mark}{}", reference.trim_end_matches(TRAILING_PUNCTUATION)))
}

/// Returns the same reference, if it is written as the URL of a manifest.
pub(in crate::sources) fn reference_of_manifest_url(text: &str) -> Option<String> {
    let (host, run) = text.split_once('/')?;
    manifest_url_reference(host, run.strip_prefix("v2/")?)
}

/// Returns true for a tag that is meant to be replaced: `__TAG__`, `IMAGE_TAG`, `x.y.z`, `CHANGEME`.
fn is_placeholder_tag(tag: &TagName) -> bool {
    let tag = tag.as_str();
    let lower = tag.to_ascii_lowercase();
    let is_capital = tag.len() >= 3 && tag.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'-'));
    let letters = lower.strip_prefix('v').unwrap_or(&lower);
    let is_pattern = letters.contains('.') && letters.split('.').all(|part| matches!(part, "x" | "y" | "z"));
    let words = ["changeme", "change-me", "change_me", "placeholder", "replaceme", "replace-me", "replace_me"];
    is_capital
        || is_pattern
        || tag.len() > 4 && tag.starts_with("__") && tag.ends_with("__")
        || words.contains(&lower.as_str())
}

#[cfg(test)]
mod tests;
