//! References whose parts stand under keys of their own: Helm's `registry`, `repository`, `tag` and `digest`, Kustomize's
//! `name`, `newName`, `newTag` and `digest`, and their relatives.

use super::document::{Node, Value};
use super::image_references::Findings;
use super::reference_scan::{KnownHosts, Sighting, is_placeholder};
use crate::domain::{Digest, ImageReference, TagName};

/// What a key says of an image.
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

/// A part as it stands in a map.
struct Stated<'a> {
    part: Part,
    text: &'a str,
    line: u32,
    /// It is written as a number, which tooling may shorten: `1.10` becomes `1.1`.
    number: bool,
}

/// Adds what the maps of these documents say of images of known hosts.
pub(super) fn split_references(documents: &[Node], hosts: &KnownHosts, findings: &mut Findings) {
    let mut registries = Vec::new();
    for document in documents {
        collect_registries(document, hosts, &mut registries);
    }
    registries.sort_unstable();
    registries.dedup();
    for document in documents {
        visit(document, hosts, &registries, findings);
    }
}

/// Known hosts under registry keys anywhere, such as Helm's `global.imageRegistry`.
fn collect_registries<'a>(node: &'a Node, hosts: &KnownHosts, registries: &mut Vec<&'a str>) {
    match &node.value {
        Value::List(nodes) => nodes.iter().for_each(|node| collect_registries(node, hosts, registries)),
        Value::Map(entries) => {
            let stated = entries.iter().filter_map(|(_, key, node)| stated(key, node));
            let named = stated.filter(|stated| stated.part == Part::Registry).map(|stated| registry(stated.text));
            registries.extend(named.filter(|text| hosts.is_host(text) || hosts.begin(text)));
            for (_, _, node) in entries {
                collect_registries(node, hosts, registries);
            }
        }
        Value::Null | Value::Literal(_) | Value::Text(_) => {}
    }
}

fn visit(node: &Node, hosts: &KnownHosts, registries: &[&str], findings: &mut Findings) {
    match &node.value {
        Value::List(nodes) => nodes.iter().for_each(|node| visit(node, hosts, registries, findings)),
        Value::Map(entries) => {
            let parts: Vec<Stated> = entries.iter().filter_map(|(_, key, node)| stated(key, node)).collect();
            image(&parts, hosts, registries, findings);
            for (line, key, node) in entries {
                if hosts.begin(key) {
                    keyed(*line, key, node, findings);
                }
                visit(node, hosts, registries, findings);
            }
        }
        Value::Null | Value::Literal(_) | Value::Text(_) => {}
    }
}

fn stated<'a>(key: &str, node: &'a Node) -> Option<Stated<'a>> {
    let part = Part::of(key)?;
    let (text, number) = match &node.value {
        Value::Text(text) => (text.trim(), false),
        Value::Literal(text) => (text.as_str(), true),
        Value::Null | Value::List(_) | Value::Map(_) => return None,
    };
    (!text.is_empty()).then_some(Stated { part, text, line: node.line, number })
}

/// A registry as people write it, without scheme and closing slash.
fn registry(text: &str) -> &str {
    let text = text.trim_end_matches('/');
    ["https://", "http://", "oci://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text)
}

/// An image under a key that is its repository: `contoso.azurecr.io/shop/api: v1`.
fn keyed(line: u32, repository: &str, node: &Node, findings: &mut Findings) {
    if let Value::Text(tag) | Value::Literal(tag) = &node.value
        && let Ok(reference) = format!("{repository}:{tag}").parse()
    {
        findings.add(line, Sighting::Reference(reference));
    }
}

/// What the parts in one map make together.
fn image(parts: &[Stated], hosts: &KnownHosts, registries: &[&str], findings: &mut Findings) {
    let is = |part| move |stated: &&Stated| stated.part == part;
    let exact = parts.iter().any(|stated| matches!(stated.part, Part::Tag | Part::Digest));
    let own: Vec<&Stated> = parts.iter().filter(is(Part::Registry)).collect();
    for named in parts.iter().filter(|stated| stated.part == Part::Repository || stated.part == Part::Name && exact) {
        let path = named.text.trim_start_matches('/');
        let names_a_host = path.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']));
        let bases: Vec<String> = if hosts.begin(registry(path)) {
            vec![registry(path).to_owned()]
        } else if own.iter().any(|stated| !is_placeholder(stated.text)) {
            let known = own.iter().map(|stated| registry(stated.text));
            let known = known.filter(|text| hosts.is_host(text) || hosts.begin(text));
            known.map(|host| format!("{host}/{path}")).collect()
        } else if (exact || !own.is_empty()) && !names_a_host {
            registries.iter().map(|host| format!("{host}/{path}")).collect()
        } else {
            Vec::new()
        };
        if let Some(unfilled) = own.iter().find(|stated| is_placeholder(stated.text))
            && bases.is_empty()
        {
            findings.add(named.line, Sighting::Note(filled_in(&format!("{}/{path}", unfilled.text))));
        }
        for base in bases {
            combine(&base, named, parts, findings);
        }
    }
}

/// Adds every image that a repository and the tags and digests beside it make.
fn combine(base: &str, named: &Stated, parts: &[Stated], findings: &mut Findings) {
    if is_placeholder(base) {
        return findings.add(named.line, Sighting::Note(filled_in(base)));
    }
    // Charts that join repository and tag by a colon are given `…@sha256` and the digest's value.
    let (base, hash_as_tag) = base.strip_suffix("@sha256").map_or((base, false), |base| (base, true));
    let reference = match ImageReference::as_written(base) {
        Ok(reference) => reference,
        Err(_) if named.part == Part::Name => return,
        Err(error) => return findings.add(named.line, Sighting::Problem(error.to_string())),
    };
    let complete = reference.tag.is_some() || reference.digest.is_some();
    let (mut tags, mut digests) = (Vec::new(), Vec::new());
    for stated in parts {
        let texts = match stated.part {
            Part::Tag if hash_as_tag => vec![(Part::Digest, stated.text)],
            // A tag with the digest behind it.
            Part::Tag => match stated.text.split_once('@') {
                Some(("", digest)) => vec![(Part::Digest, digest)],
                Some((tag, digest)) => vec![(Part::Tag, tag), (Part::Digest, digest)],
                None => vec![(Part::Tag, stated.text)],
            },
            Part::Digest => vec![(Part::Digest, stated.text.trim_start_matches('@'))],
            Part::Version if !complete => vec![(Part::Version, stated.text)],
            Part::Registry | Part::Repository | Part::Name | Part::Version => vec![],
        };
        for (part, text) in texts {
            if is_placeholder(text) {
                findings.add(stated.line, Sighting::Note(filled_in(&format!("{base}:{text}"))));
                continue;
            }
            let read = match part {
                Part::Digest => read_digest(text).map(|digest| digests.push(digest)),
                _ => text.parse::<TagName>().map_err(|error| error.to_string()).map(|tag| {
                    tags.push(tag);
                    tags.extend(stated.number.then(|| shortened(text)).flatten());
                }),
            };
            if let Err(error) = read
                && !complete
                && part != Part::Version
            {
                findings.add(stated.line, Sighting::Problem(format!("{error} (for {base})")));
            }
        }
    }
    let versions_only = !parts.iter().any(|stated| matches!(stated.part, Part::Tag | Part::Digest));
    let mut found = Vec::new();
    for tag in tags.iter().map(Some).chain((tags.is_empty() || versions_only || complete).then_some(None)) {
        for digest in digests.iter().map(Some).chain(digests.is_empty().then_some(None)) {
            let mut image = reference.clone();
            image.tag = tag.cloned().or(image.tag);
            image.digest = digest.cloned().or(image.digest);
            found.push(image);
        }
    }
    for mut image in found {
        if image.tag.is_none() && image.digest.is_none() {
            image.tag = "latest".parse().ok();
        }
        findings.add(named.line, Sighting::Reference(image));
    }
}

fn read_digest(text: &str) -> Result<Digest, String> {
    let with_algorithm = if text.contains(':') { text.to_owned() } else { format!("sha256:{text}") };
    with_algorithm.parse::<Digest>().map_err(|error| error.to_string())
}

/// A number as tooling that reads it as one writes it again, where that is another tag.
fn shortened(text: &str) -> Option<TagName> {
    let number: f64 = text.parse().ok()?;
    number.to_string().parse().ok().filter(|tag: &TagName| tag.as_str() != text)
}

fn filled_in(text: &str) -> String {
    format!("`{text}` is filled in elsewhere; what it becomes is not known")
}
