//! Helm releases: images that a rollback would restore.
//!
//! Helm 3 keeps each revision in a secret of the type `helm.sh/release.v1`: JSON, packed with gzip, in base64, and that
//! once more in base64 as every value of a secret (Helm's `pkg/storage/driver/util.go`).

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use serde::Deserialize;

use super::super::document::{Format, Node, Value, parse};
use super::super::image_field::{ImageField, parse_spec};
use super::super::object_texts::TextImageKind;
use super::super::text;
use super::Reader;
use super::claims::{ClusterEvidence, Object};
use super::objects::{ObjectReader, RevisionState, WireMeta};
use crate::domain::ImageReference;

/// Helm's own selector for its secrets.
pub(super) const LABEL_SELECTOR: &str = "owner=helm";
const TYPE: &str = "helm.sh/release.v1";
/// Most bytes of one release, decompressed. Compressed it fits into a secret, which is a megabyte.
const MAX_RELEASE_BYTES: usize = 64 << 20;

/// A secret of Helm.
#[derive(Deserialize)]
pub(super) struct WireSecret {
    pub(super) metadata: WireMeta,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

/// The parts of a release that concern images. Its chart and its values do not: the manifest is the result of both.
#[derive(Deserialize)]
struct WireRelease {
    name: String,
    version: i64,
    #[serde(default)]
    manifest: String,
    #[serde(default)]
    hooks: Option<Vec<WireHook>>,
}

#[derive(Deserialize)]
struct WireHook {
    #[serde(default)]
    manifest: String,
}

/// Records the images of the release in a secret.
pub(super) fn add_release(secret: &WireSecret, reader: &Reader<'_>, found: &mut ClusterEvidence) {
    if secret.kind != TYPE {
        return;
    }
    let mut reading = ObjectReader::of(&secret.metadata, "Helm release", RevisionState::Historic, reader.hosts, found);
    let release = match release(secret) {
        Ok(release) => release,
        Err(what) => return reading.add_image("", ImageField::Problem(what)),
    };
    let revision = format!("{} revision {}", release.name, release.version);
    reading.object = Object { name: revision, ..reading.object.clone() };
    let hooks = release.hooks.unwrap_or_default();
    for manifest in std::iter::once(release.manifest).chain(hooks.into_iter().map(|hook| hook.manifest)) {
        add_manifest(&manifest, &release.name, reader, &mut reading);
    }
}

fn release(secret: &WireSecret) -> Result<WireRelease, String> {
    let unread = |why: &str| format!("this release cannot be read: {why}; delete it if nobody will go back to it");
    let outer = secret.data.get("release").ok_or_else(|| unread("it has no `release`"))?;
    let inner = STANDARD.decode(outer).map_err(|_| unread("it is not valid base64"))?;
    let packed = STANDARD.decode(inner.trim_ascii()).map_err(|_| unread("it is not valid base64 inside"))?;
    let bytes = if packed.starts_with(&[0x1f, 0x8b]) { gunzip(&packed).map_err(unread)? } else { packed };
    serde_json::from_slice(&bytes).map_err(|error| unread(&error.to_string()))
}

/// Decompresses gzip (RFC 1952) with one member, as Helm writes it.
fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    const CUT: &str = "its gzip ends too soon";
    let flags = *bytes.get(3).ok_or(CUT)?;
    let mut rest = bytes.get(10..).ok_or(CUT)?;
    if flags & 4 != 0 {
        let [low, high, ..] = rest else { return Err(CUT) };
        rest = rest.get(2 + usize::from(u16::from_le_bytes([*low, *high]))..).ok_or(CUT)?;
    }
    // A file name, then a comment, each up to a zero.
    for flag in [8, 16] {
        if flags & flag != 0 {
            let end = rest.iter().position(|byte| *byte == 0).ok_or(CUT)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & 2 != 0 {
        rest = rest.get(2..).ok_or(CUT)?;
    }
    decompress_to_vec_with_limit(rest, MAX_RELEASE_BYTES).map_err(|_| "its gzip is broken, or larger than 64 MiB")
}

/// Records the images of pod specifications, and every other reference to a known host.
fn add_manifest(manifest: &str, release: &str, reader: &Reader<'_>, reading: &mut ObjectReader<'_>) {
    let documents = match parse(manifest, Format::Yaml) {
        Ok(documents) => documents,
        Err(problem) => {
            let what = format!("line {} of its manifest: {}", problem.line, problem.message);
            return reading.add_image("", ImageField::Problem(what));
        }
    };
    reader.add_form(&reading.object, &documents, manifest);
    let mut told = BTreeSet::new();
    for document in documents {
        // The texts of each object are separate, those of all revisions together: most are the same.
        let object = Object { name: format!("{release}, {}", title(&document)), ..reading.object.clone() };
        for spot in reading.found.texts.read(&object, document, &[], reading.hosts) {
            match &spot.kind {
                TextImageKind::SpecField(text) => {
                    if let ImageField::Image(image) = parse_spec(text, reading.hosts) {
                        told.insert(image);
                    }
                }
                TextImageKind::Image(image, _) => drop(told.insert(image.clone())),
                TextImageKind::Unresolved(_) | TextImageKind::Note(_) => {}
            }
            let line = spot.line;
            reading.add_text_image(spot, Some(line));
        }
    }
    let sighted = text::references(manifest, Some(Format::Yaml), reading.hosts);
    let more: BTreeSet<ImageReference> = sighted.into_iter().map(|(image, _)| image).collect();
    for image in more.difference(&told) {
        reading.add_image("", ImageField::Image(image.clone()));
    }
}

/// Returns kind and name of an object in a manifest.
fn title(document: &Node) -> String {
    let text = |node: Option<&Node>| match node.map(|node| &node.value) {
        Some(Value::Text(text) | Value::Literal(text)) => text.clone(),
        _ => String::new(),
    };
    let name = document.get("metadata").and_then(|metadata| metadata.get("name"));
    format!("{} {}", text(document.get("kind")), text(name))
}
