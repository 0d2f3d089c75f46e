//! References whose parts are under separate keys: Helm's `registry`, `repository`, `tag` and `digest`, Kustomize's
//! `name`, `newName`, `newTag` and `digest`, and their relatives.

use super::occurrences::OpenPart;
use super::reference_collector::{Place, ReferenceCollector, ScalarId};
use super::usage::Usage;
use crate::domain::{Digest, ImageReference, PathPattern, TagName};
use crate::sources::document::{Node, Value};
use crate::sources::image_syntax::{ParsedImage, parse_image};
use crate::sources::known_hosts::{KnownHosts, is_placeholder};

/// The meaning of a key for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Registry,
    Repository,
    /// A repository only beside a tag or a digest.
    Name,
    Tag,
    Digest,
    /// A tag if it happens to be one.
    Version,
}

impl Part {
    fn of(key: &str) -> Option<Self> {
        let key: String = key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        match key.as_str() {
            "registry" | "imageregistry" | "registryserver" | "loginserver" => Some(Self::Registry),
            "repository" | "repo" | "image" | "imagename" | "imagerepository" | "baseimage" => Some(Self::Repository),
            "name" | "newname" => Some(Self::Name),
            "tag" | "newtag" | "imagetag" => Some(Self::Tag),
            "digest" | "imagedigest" | "sha" => Some(Self::Digest),
            "version" | "imageversion" => Some(Self::Version),
            _ => None,
        }
    }
}

/// A part as stated in a map.
struct StatedPart<'a> {
    part: Part,
    text: &'a str,
    line: u32,
    scalar: ScalarId,
    /// True if it is written as a number, which tools may shorten: `1.10` becomes `1.1`.
    number: bool,
}

/// Returns the known hosts under registry keys anywhere in some documents, such as Helm's `global.imageRegistry`.
pub(super) fn registries<'n>(documents: &'n [Node], hosts: &KnownHosts) -> Vec<&'n str> {
    let mut registries = Vec::new();
    for document in documents {
        collect_registries(document, hosts, &mut registries);
    }
    registries.sort_unstable();
    registries.dedup();
    registries
}

fn collect_registries<'a>(node: &'a Node, hosts: &KnownHosts, registries: &mut Vec<&'a str>) {
    match &node.value {
        Value::List(nodes) => nodes.iter().for_each(|node| collect_registries(node, hosts, registries)),
        Value::Map(entries) => {
            let stated = entries.iter().filter_map(|(_, key, node)| stated_part(key, node));
            let named = stated.filter(|stated| stated.part == Part::Registry).map(|stated| registry(stated.text));
            registries.extend(named.filter(|text| hosts.is_host(text) || hosts.is_prefix_of(text)));
            for (_, _, node) in entries {
                collect_registries(node, hosts, registries);
            }
        }
        Value::Null | Value::Literal(_) | Value::Text(_) => {}
    }
}

/// Returns true for a key whose value is a registry, so that a path in it is not a repository.
pub(super) fn is_registry_key(key: &str) -> bool {
    Part::of(key) == Some(Part::Registry)
}

/// Adds the images that the parts in a map make. `place` returns the place of a part by its line, `beside` the words of
/// the map.
pub(super) fn collect_from_mapping<'n, 'p>(
    entries: impl Iterator<Item = (&'n str, &'n Node)>,
    hosts: &KnownHosts,
    registries: &[&str],
    place: impl Fn(u32) -> Place<'p>,
    beside: impl Fn(&ImageReference) -> Vec<Box<str>>,
    found: &mut ReferenceCollector,
) {
    let parts: Vec<StatedPart<'_>> = entries.filter_map(|(key, node)| stated_part(key, node)).collect();
    if parts.iter().all(|stated| matches!(stated.part, Part::Tag | Part::Digest | Part::Version)) {
        return;
    }
    let is = |part| move |stated: &&StatedPart<'_>| stated.part == part;
    let exact = parts.iter().any(|stated| matches!(stated.part, Part::Tag | Part::Digest));
    let own: Vec<&StatedPart<'_>> = parts.iter().filter(is(Part::Registry)).collect();
    for named in parts.iter().filter(|stated| stated.part == Part::Repository || stated.part == Part::Name && exact) {
        let path = named.text.trim_start_matches('/');
        let names_a_host = path.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']));
        let is_whole = hosts.is_prefix_of(registry(path));
        let bases: Vec<String> = if is_whole {
            vec![registry(path).to_owned()]
        } else if own.iter().any(|stated| !is_placeholder(stated.text)) {
            let known = own.iter().map(|stated| registry(stated.text));
            let known = known.filter(|text| hosts.is_host(text) || hosts.is_prefix_of(text));
            known.map(|host| format!("{host}/{path}")).collect()
        } else if let Some(open) = own.first().filter(|_| !names_a_host) {
            // If the registry is open, only a full path identifies the repository.
            vec![format!("{}/{path}", open.text)]
        } else if exact && !names_a_host {
            registries.iter().map(|host| format!("{host}/{path}")).collect()
        } else {
            Vec::new()
        };
        for base in bases {
            let place = place(named.line);
            combine(&Base { text: &base, part: named, is_whole }, &parts, place, &beside, found);
        }
    }
}

fn stated_part<'a>(key: &str, node: &'a Node) -> Option<StatedPart<'a>> {
    let part = Part::of(key)?;
    let (text, number) = match &node.value {
        Value::Text(text) => (text.trim(), false),
        Value::Literal(text) => (text.as_str(), true),
        Value::Null | Value::List(_) | Value::Map(_) => return None,
    };
    (!text.is_empty()).then_some(StatedPart { part, text, line: node.line, scalar: ScalarId::of(node), number })
}

/// Returns a registry as people write it, without scheme and closing slash.
fn registry(text: &str) -> &str {
    let text = text.trim_end_matches('/');
    ["https://", "http://", "oci://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text)
}

/// Adds an image under a key that is its repository: `contoso.azurecr.io/shop/api: v1`. Returns true if the value
/// states its tag.
pub(super) fn collect_keyed(line: u32, repository: &str, node: &Node, found: &mut ReferenceCollector) -> bool {
    let values: Vec<&str> = match &node.value {
        Value::Text(tag) | Value::Literal(tag) => vec![tag.as_str()],
        Value::List(nodes) => nodes.iter().filter_map(scalar).collect(),
        Value::Null | Value::Map(_) => Vec::new(),
    };
    let images = values.iter().filter_map(|tag| {
        let mark = if tag.contains(':') { '@' } else { ':' };
        ImageReference::parse_verbatim(&format!("{repository}{mark}{tag}")).ok()
    });
    let images: Vec<(ImageReference, u32)> = images.map(|image| (image, line)).collect();
    let is_said = !images.is_empty();
    found.images.extend(images);
    is_said
}

fn scalar(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) | Value::Literal(text) => Some(text),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// A repository with the registry before it.
struct Base<'a> {
    text: &'a str,
    part: &'a StatedPart<'a>,
    /// True if host and path are in one field.
    is_whole: bool,
}

/// Adds every image that a repository and the tags and digests beside it make.
fn combine(
    base: &Base<'_>,
    parts: &[StatedPart<'_>],
    place: Place<'_>,
    beside: &impl Fn(&ImageReference) -> Vec<Box<str>>,
    found: &mut ReferenceCollector,
) {
    let Base { text, part: named, is_whole } = *base;
    let place = Place { is_image: true, ..place };
    let exact = || parts.iter().filter(|stated| matches!(stated.part, Part::Tag | Part::Digest));
    if exact().next().is_some() {
        // The repository by itself is then complete.
        found.completed.insert((named.scalar, text.to_owned()));
    }
    if is_placeholder(text) {
        if exact().next().is_none() && !is_whole {
            found.add_placeholders(text, place);
        }
        exact().for_each(|stated| found.add_placeholders(&joined(text, stated), place));
        return;
    }
    // Charts that join repository and tag by a colon are given `…@sha256` and the digest's value.
    let (text, hash_as_tag) = text.strip_suffix("@sha256").map_or((text, false), |text| (text, true));
    let Some(reference) = repository(text, named, found) else { return };
    let Some(path) = reference.repository.clone() else { return };
    let complete = reference.tag.is_some() || reference.digest.is_some();
    let (mut tags, mut digests, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for stated in parts {
        for (part, part_text) in texts_of(stated, hash_as_tag, complete) {
            if part == Part::Digest
                && let Some(digest) = read_digest(part_text)
            {
                digests.push(digest);
                continue;
            }
            match tag(part_text).filter(|_| part != Part::Digest) {
                Some(tag) => {
                    tags.push(tag);
                    tags.extend(stated.number.then(|| short_digest_tag(part_text)).flatten());
                }
                None if part == Part::Version => {}
                None => open.push((part, joined(text, stated))),
            }
        }
    }
    let alone = (complete || tags.is_empty() && !digests.is_empty()).then_some(None);
    for tag in tags.iter().map(Some).chain(alone) {
        for digest in digests.iter().map(Some).chain(digests.is_empty().then_some(None)) {
            let mut image = reference.clone();
            image.tag = tag.cloned().or(image.tag);
            image.digest = digest.cloned().or(image.digest);
            found.images.insert((image, named.line));
        }
    }
    // A digest takes precedence over the tag beside it.
    for (_, text) in open.iter().filter(|(part, _)| !complete && (*part == Part::Digest || digests.is_empty())) {
        if is_placeholder(text) {
            found.add_placeholders(text, place);
        } else {
            let left = OpenPart::Unresolved(reference.host.clone(), PathPattern::of(&[path.as_str()]), Vec::new());
            found.add_open(text, left, place, beside);
        }
    }
    if exact().next().is_none() && !complete {
        if place.usage == Usage::Named {
            found.repositories.push((reference.clone(), named.line));
        }
        if !is_whole {
            found.add_open(text, OpenPart::Untagged(reference), place, beside);
        }
    }
}

/// Parses host and path. A name without them does not belong to an image.
fn repository(text: &str, named: &StatedPart<'_>, found: &mut ReferenceCollector) -> Option<ImageReference> {
    let error = match ImageReference::parse_verbatim(text) {
        Ok(reference) => return Some(reference),
        Err(_) if named.part == Part::Name => return None,
        Err(error) => error,
    };
    if let ParsedImage::Corrected(image, told) = parse_image(text) {
        found.notes.insert((named.line, told));
        Some(ImageReference { tag: None, digest: None, ..image })
    } else {
        found.notes.insert((named.line, error.to_string()));
        None
    }
}

/// Returns the tags and digests that a part may state.
fn texts_of<'a>(stated: &StatedPart<'a>, hash_as_tag: bool, complete: bool) -> Vec<(Part, &'a str)> {
    match stated.part {
        Part::Tag if hash_as_tag => vec![(Part::Digest, stated.text)],
        // A tag followed by the digest.
        Part::Tag => match stated.text.split_once('@') {
            Some(("", digest)) => vec![(Part::Digest, digest)],
            Some((tag, digest)) => vec![(Part::Tag, tag), (Part::Digest, digest)],
            None if stated.text.parse::<Digest>().is_ok() => vec![(Part::Digest, stated.text)],
            None => vec![(Part::Tag, stated.text)],
        },
        Part::Digest => vec![(Part::Digest, stated.text.trim_start_matches('@'))],
        Part::Version if !complete => vec![(Part::Version, stated.text)],
        Part::Registry | Part::Repository | Part::Name | Part::Version => vec![],
    }
}

/// Returns the reference that a repository and a part make.
fn joined(base: &str, stated: &StatedPart<'_>) -> String {
    let mark = if stated.part == Part::Digest { '@' } else { ':' };
    format!("{base}{mark}{}", stated.text.trim_start_matches('@'))
}

/// Parses a tag as written, or as Helm writes a version.
fn tag(text: &str) -> Option<TagName> {
    text.replace('+', "_").parse().ok()
}

fn read_digest(text: &str) -> Option<Digest> {
    let with_algorithm = if text.contains(':') { text.to_owned() } else { format!("sha256:{text}") };
    with_algorithm.parse().ok()
}

/// Returns a number as tools reformat it, if that is another tag.
fn short_digest_tag(text: &str) -> Option<TagName> {
    let number: f64 = text.parse().ok()?;
    number.to_string().parse().ok().filter(|tag: &TagName| tag.as_str() != text)
}
