//! Wire formats of registries, and their conversion into [`Manifest`]s.
//!
//! Manifests are parsed by the fields that they have, not by their media type: new types keep coming, and an unread
//! manifest may be an index that contains any image.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::pagination::PageContext;
use crate::domain::{Blob, CompactTime, Digest, InvalidDigest, Manifest, ManifestDetail, is_index_type};
use crate::http_client::parse_json_lossy;
use crate::registry::RawManifest;

/// A parsed manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedManifest {
    /// The part for the inventory. `created_at` is set if the manifest itself contains it: in an annotation, in those
    /// of a build cache's layers, or in the history of schema 1.
    pub manifest: Manifest,
    /// The manifests that it lists, if it is an index.
    pub children: Vec<Child>,
    /// The image configuration, which may contain a later creation time.
    pub image_config: Option<Digest>,
    /// Its own type, see [`Repository::artifact_types`](crate::domain::Repository::artifact_types).
    pub artifact_type: Arc<str>,
}

/// A manifest, a configuration or a list that cannot be parsed.
#[derive(Debug, thiserror::Error)]
pub enum InvalidContent {
    /// It is not the expected JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// It names content by an invalid digest.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    /// It could be any JSON object.
    #[error("it has none of the fields of a manifest")]
    NoManifest,
    /// It could be about another repository.
    #[error("neither `tags` nor the repository's `name` is in it")]
    NoTagList,
}

/// One manifest that an index lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Its digest.
    pub digest: Digest,
    /// True if it is an image or an index of images, so that its age is the index's age. Attestations that build tools
    /// put beside the images are not.
    pub is_image: bool,
    /// True if its entry does not rule out that it is an index.
    pub may_be_index: bool,
}

#[derive(Deserialize)]
struct WireCatalogue {
    #[serde(deserialize_with = "nullable")]
    repositories: Vec<Value>,
}

#[derive(Deserialize)]
struct WireTags {
    #[serde(default, deserialize_with = "lenient")]
    name: Option<String>,
    #[serde(default, deserialize_with = "nullable_list")]
    tags: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct WireReferrers {
    #[serde(deserialize_with = "nullable")]
    manifests: Vec<WireDescriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireManifest {
    media_type: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    artifact_type: Option<Value>,
    config: Option<WireDescriptor>,
    layers: Option<Vec<WireDescriptor>>,
    blobs: Option<Vec<WireDescriptor>>,
    manifests: Option<Vec<WireDescriptor>>,
    subject: Option<WireDescriptor>,
    #[serde(default, deserialize_with = "lenient")]
    annotations: WireAnnotations,
    fs_layers: Option<Vec<WireLayer>>,
    #[serde(default, deserialize_with = "lenient")]
    history: Vec<WireHistory>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor {
    media_type: Option<String>,
    digest: String,
    #[serde(default, deserialize_with = "size")]
    size: u64,
    #[serde(default, deserialize_with = "lenient")]
    urls: Vec<Value>,
    #[serde(default, deserialize_with = "lenient")]
    annotations: WireAnnotations,
    #[serde(default, deserialize_with = "lenient")]
    platform: Option<WirePlatform>,
}

#[derive(Default, Deserialize)]
struct WireAnnotations {
    #[serde(default, rename = "org.opencontainers.image.created", deserialize_with = "lenient")]
    created: Option<String>,
    #[serde(default, rename = "vnd.docker.reference.type", deserialize_with = "lenient")]
    reference_type: Option<String>,
    /// The time in the layers of a build cache.
    #[serde(default, rename = "buildkit/createdat", deserialize_with = "lenient")]
    layer_created: Option<String>,
}

#[derive(Deserialize)]
struct WirePlatform {
    #[serde(default, deserialize_with = "lenient")]
    os: String,
    #[serde(default, deserialize_with = "lenient")]
    architecture: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireLayer {
    blob_sum: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireHistory {
    #[serde(default, deserialize_with = "lenient")]
    v1_compatibility: String,
}

#[derive(Deserialize)]
struct WireCreated {
    #[serde(default, deserialize_with = "lenient")]
    created: Option<String>,
}

#[derive(Deserialize)]
struct WireConfiguration {
    #[serde(default, deserialize_with = "lenient")]
    created: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    config: WireContainer,
}

/// The part of an image configuration that applies to containers.
#[derive(Default, Deserialize)]
struct WireContainer {
    #[serde(default, rename = "Labels", deserialize_with = "lenient")]
    labels: WireAnnotations,
}

/// Deserializes `null` as empty, as Go registries write empty lists; a missing key stays an error if it is required.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Option::deserialize(input).map(Option::unwrap_or_default)
}

/// Does the same, except for a missing key.
fn nullable_list<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<Value>>, D::Error> {
    nullable(input).map(Some)
}

/// Deserializes an unimportant field: an unexpected type counts as missing.
pub(in crate::registry) fn lenient<'de, D, T>(input: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + DeserializeOwned,
{
    let value = Value::deserialize(input)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// Deserializes a number of bytes. An invalid one counts as 0, so that no byte is promised that may not be freed.
fn size<'de, D: Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
    Ok(match Value::deserialize(input)? {
        Value::Number(number) => whole_number(&number),
        Value::String(text) => text.trim().parse().unwrap_or(0),
        _ => 0,
    })
}

/// The largest whole number up to which an `f64` is exact.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

fn whole_number(number: &serde_json::Number) -> u64 {
    let float = || number.as_f64().filter(|float| (0.0..=MAX_EXACT_INTEGER).contains(float) && float.fract() == 0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a whole number in range")]
    number.as_u64().or_else(|| float().map(|float| float as u64)).unwrap_or(0)
}

/// Returns the names in a page of the catalogue.
///
/// A registry may omit the list in a page that nothing linked to, at the end.
pub(in crate::registry) fn catalogue_page(body: &[u8], page: PageContext<'_>) -> Result<Vec<String>, InvalidContent> {
    if page.is_unlinked && is_empty_object(body) {
        return Ok(Vec::new());
    }
    parse_json_lossy::<WireCatalogue>(body).map(|page| names(page.repositories)).map_err(InvalidContent::from)
}

/// Returns the names in a page of a tag list.
///
/// Registries that omit empty lists return the repository's name alone. A response without either could be anything.
pub(in crate::registry) fn tags_page(body: &[u8], page: PageContext<'_>) -> Result<Vec<String>, InvalidContent> {
    if page.is_unlinked && is_empty_object(body) {
        return Ok(Vec::new());
    }
    let WireTags { name, tags } = parse_json_lossy(body)?;
    if let Some(tags) = tags {
        return Ok(names(tags));
    }
    let asked = page.path.strip_prefix("/v2/").and_then(|path| path.strip_suffix("/tags/list")).unwrap_or_default();
    let is_it = name.is_some_and(|name| name == asked || name.ends_with(&format!("/{asked}")));
    if is_it { Ok(Vec::new()) } else { Err(InvalidContent::NoTagList) }
}

fn is_empty_object(body: &[u8]) -> bool {
    parse_json_lossy::<Value>(body).is_ok_and(|value| value.as_object().is_some_and(serde_json::Map::is_empty))
}

/// Returns names as they are listed. An entry that is not a text is reported as an invalid name, so that only this
/// entry is in doubt.
fn names(entries: Vec<Value>) -> Vec<String> {
    let name = |entry| match entry {
        Value::String(name) => name,
        other => format!("(not a text: {other})"),
    };
    entries.into_iter().map(name).collect()
}

/// Returns the digests in a page of referrers.
pub(in crate::registry) fn referrers_page(body: &[u8], _: PageContext<'_>) -> Result<Vec<String>, InvalidContent> {
    parse_json_lossy::<WireReferrers>(body)
        .map(|page| page.manifests.into_iter().map(|manifest| manifest.digest).collect())
        .map_err(InvalidContent::from)
}

/// Returns the later of an image configuration's `created` and its label; `None` if it has no such time.
///
/// The label alone is not evidence: it is often that of the base image, which a reproducible build of 1970 inherits.
pub(in crate::registry) fn config_created_at(body: &[u8]) -> Result<Option<Timestamp>, InvalidContent> {
    let configuration: WireConfiguration = parse_json_lossy(body)?;
    let own = configuration.created.as_deref().and_then(parse_time);
    let label = configuration.config.labels.created.as_deref().and_then(parse_time);
    Ok(if own.is_some_and(|own| own >= CompactTime::FIRST_IMAGE) { own.max(label) } else { own })
}

#[derive(Deserialize)]
struct WireAnnotated {
    annotations: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
struct WireLabelled {
    config: Option<WireLabels>,
}

#[derive(Deserialize)]
struct WireLabels {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, Value>>,
}

/// Returns the annotations of a manifest; `None` for a value that is not a text.
///
/// # Errors
/// Returns an error if it is not JSON, or if its annotations are not a map.
pub fn annotations(manifest: &[u8]) -> Result<BTreeMap<String, Option<String>>, InvalidContent> {
    Ok(texts(parse_json_lossy::<WireAnnotated>(manifest)?.annotations))
}

/// Returns the labels in an image configuration; `None` for a value that is not a text.
///
/// # Errors
/// Returns an error if it is not JSON, or if its labels are not a map.
pub fn labels(configuration: &[u8]) -> Result<BTreeMap<String, Option<String>>, InvalidContent> {
    Ok(texts(parse_json_lossy::<WireLabelled>(configuration)?.config.and_then(|config| config.labels)))
}

fn texts(values: Option<BTreeMap<String, Value>>) -> BTreeMap<String, Option<String>> {
    let text = |value| match value {
        Value::String(text) => Some(text),
        _ => None,
    };
    values.into_iter().flatten().map(|(key, value)| (key, text(value))).collect()
}

/// The types of image configurations with `created`.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// Parses a manifest by its fields.
///
/// # Errors
/// Returns an error if it is not a JSON object, has none of the fields of a manifest, or names content by an invalid
/// digest.
pub fn parse_manifest(raw: &RawManifest) -> Result<ParsedManifest, InvalidContent> {
    let wire: WireManifest = parse_json_lossy(&raw.bytes)?;
    let understood = wire.config.is_some()
        || wire.layers.is_some()
        || wire.blobs.is_some()
        || wire.manifests.is_some()
        || wire.subject.is_some()
        || wire.artifact_type.is_some()
        || wire.fs_layers.is_some();
    if !understood {
        return Err(InvalidContent::NoManifest);
    }
    let config = wire.config.as_ref().map(digest_of).transpose()?.map(Box::new);
    let subject = wire.subject.as_ref().map(digest_of).transpose()?.map(Box::new);
    let listed = wire.manifests.iter().flatten().filter(|entry| !is_blob(entry));
    let children = listed.map(child).collect::<Result<Vec<_>, _>>()?;
    let annotated = wire.annotations.created.as_deref().and_then(parse_time);
    let created_at = annotated.max(wire.history.first().and_then(history_created_at)).max(cache_created_at(&wire));
    let dated_by = match (&wire.config, &config) {
        (Some(wire), Some(digest)) => {
            wire.media_type.as_deref().is_some_and(|kind| IMAGE_CONFIGS.contains(&kind)).then(|| (**digest).clone())
        }
        _ => None,
    };
    let manifest = Manifest {
        media_type: raw.media_type.clone(),
        size: raw.bytes.len() as u64,
        config,
        blobs: blobs(&wire)?,
        children: children.iter().map(|child| child.digest.clone()).collect(),
        subject,
        created_at: created_at.map(Into::into),
        lock: None,
        detail: ManifestDetail::Full,
    };
    Ok(ParsedManifest { manifest, children, image_config: dated_by, artifact_type: own_type(&wire) })
}

/// Returns the type of artifact that a manifest states: by `artifactType`, else by its configuration. An index with the
/// configuration of a build cache among its entries is that cache.
fn own_type(wire: &WireManifest) -> Arc<str> {
    /// Shared, since nearly all manifests have one of these.
    static COMMON: LazyLock<[Arc<str>; 3]> =
        LazyLock::new(|| ["".into(), IMAGE_CONFIGS[0].into(), IMAGE_CONFIGS[1].into()]);
    let stated = wire.artifact_type.as_ref().and_then(Value::as_str).filter(|kind| !kind.is_empty());
    let config = || wire.config.as_ref().and_then(|config| config.media_type.as_deref());
    let mut entries = wire.manifests.iter().flatten().filter_map(|entry| entry.media_type.as_deref());
    let cache = || entries.find(|kind| kind.starts_with(CACHE_CONFIG));
    let text = stated.or_else(config).or_else(cache).unwrap_or_default();
    COMMON.iter().find(|known| ***known == *text).cloned().unwrap_or_else(|| text.into())
}

fn digest_of(descriptor: &WireDescriptor) -> Result<Digest, InvalidContent> {
    Ok(descriptor.digest.parse()?)
}

fn child(descriptor: &WireDescriptor) -> Result<Child, InvalidContent> {
    let unknown = descriptor
        .platform
        .as_ref()
        .is_some_and(|platform| platform.os == "unknown" && platform.architecture == "unknown");
    let attestation = descriptor.annotations.reference_type.as_deref() == Some("attestation-manifest");
    let media_type = descriptor.media_type.as_deref().unwrap_or_default();
    // An entry with a platform and without a type is an image: the type is required, and many leave out the platform.
    let may_be_index = is_index_type(media_type) || media_type.is_empty() && descriptor.platform.is_none();
    Ok(Child { digest: digest_of(descriptor)?, is_image: !unknown && !attestation, may_be_index })
}

/// The media type of the configuration of a build cache.
const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.";

/// Returns true for the media types of content that an index may list and that is not a manifest: `BuildKit` exports a
/// build cache as an index of layers and their configuration.
#[must_use]
pub fn is_blob_type(media_type: &str) -> bool {
    ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.", CACHE_CONFIG]
        .iter()
        .any(|kind| media_type.starts_with(kind))
}

fn is_blob(entry: &WireDescriptor) -> bool {
    entry.media_type.as_deref().is_some_and(is_blob_type)
}

/// Returns the time of the latest layer of a build cache; `None` for anything else.
fn cache_created_at(wire: &WireManifest) -> Option<Timestamp> {
    let config = wire.config.as_ref().and_then(|config| config.media_type.as_deref());
    let of_cache = config.is_some_and(|kind| kind.starts_with(CACHE_CONFIG));
    let layers = wire.layers.iter().flatten().filter(|_| of_cache);
    let listed = wire.manifests.iter().flatten().filter(|entry| is_blob(entry));
    layers.chain(listed).filter_map(|entry| parse_time(entry.annotations.layer_created.as_deref()?)).max()
}

/// Returns the blobs that the registry must store for this manifest, each once. Foreign layers are stored elsewhere.
/// Schema 1 does not state the size of its layers; they count as 0, so that no byte is promised that may not be freed.
fn blobs(wire: &WireManifest) -> Result<Box<[Blob]>, InvalidContent> {
    let mut blobs = Vec::new();
    let mut seen = HashSet::new();
    let listed = wire.manifests.iter().flatten().filter(|entry| is_blob(entry));
    let layers = wire.layers.iter().flatten().chain(wire.blobs.iter().flatten());
    let stored = wire.config.iter().chain(layers).chain(listed);
    for descriptor in stored.filter(|descriptor| !is_foreign(descriptor)) {
        let digest = digest_of(descriptor)?;
        if seen.insert(digest.clone()) {
            blobs.push(Blob { digest, size: descriptor.size });
        }
    }
    for layer in wire.fs_layers.iter().flatten() {
        let digest: Digest = layer.blob_sum.parse()?;
        if seen.insert(digest.clone()) {
            blobs.push(Blob { digest, size: 0 });
        }
    }
    Ok(blobs.into())
}

fn is_foreign(descriptor: &WireDescriptor) -> bool {
    let named = |kind: &str| kind.contains("foreign") || kind.contains("nondistributable");
    !descriptor.urls.is_empty() || descriptor.media_type.as_deref().is_some_and(named)
}

fn history_created_at(entry: &WireHistory) -> Option<Timestamp> {
    let image: WireCreated = serde_json::from_str(&entry.v1_compatibility).ok()?;
    image.created.as_deref().and_then(parse_time)
}

/// Parses a time of RFC 3339 with any offset. Digits beyond nanoseconds are dropped; an invalid time is `None`.
fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let (seconds, rest) = text.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    (digits > 9).then(|| format!("{seconds}.{}{}", &rest[..9], &rest[digits..]).parse().ok())?
}

/// Returns the type of a manifest: as the registry reports it, else as itself states it, else by its fields.
pub(in crate::registry) fn media_type(header: Option<&str>, bytes: &[u8]) -> Arc<str> {
    let named = header.map(|value| value.split(';').next().unwrap_or_default().trim()).unwrap_or_default();
    let vague =
        matches!(named, "" | "application/json" | "application/octet-stream" | "text/plain" | "binary/octet-stream");
    if !vague {
        return named.into();
    }
    match parse_json_lossy::<WireManifest>(bytes) {
        Ok(WireManifest { media_type: Some(own), .. }) => own.into(),
        Ok(WireManifest { manifests: Some(_), .. }) => "application/vnd.oci.image.index.v1+json".into(),
        Ok(WireManifest { fs_layers: Some(_), .. }) => {
            "application/vnd.docker.distribution.manifest.v1+prettyjws".into()
        }
        _ => "application/vnd.oci.image.manifest.v1+json".into(),
    }
}

/// Returns true if `bytes` are the manifest with that `digest`. The digest of a signed schema 1 manifest covers its
/// payload, without the signatures.
pub(in crate::registry) fn is_manifest_of(digest: &Digest, bytes: &[u8]) -> bool {
    digest.matches(bytes) || signed_payload(bytes).is_some_and(|payload| digest.matches(&payload))
}

/// Returns the digest by which a registry knows a manifest.
pub(in crate::registry) fn manifest_digest(bytes: &[u8]) -> Digest {
    signed_payload(bytes).map_or_else(|| Digest::of(bytes), |payload| Digest::of(&payload))
}

#[derive(Deserialize)]
struct WireSigned {
    signatures: Vec<WireSignature>,
}

#[derive(Deserialize)]
struct WireSignature {
    protected: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProtected {
    format_length: usize,
    format_tail: String,
}

/// Returns the payload of a "pretty" JSON web signature, as libtrust defines it: the first `formatLength` bytes and the
/// tail.
fn signed_payload(bytes: &[u8]) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let base64 = GeneralPurpose::new(&URL_SAFE, CONFIG);
    let signed: WireSigned = serde_json::from_slice(bytes).ok()?;
    let protected = base64.decode(&signed.signatures.first()?.protected).ok()?;
    let protected: WireProtected = serde_json::from_slice(&protected).ok()?;
    let mut payload = bytes.get(..protected.format_length)?.to_vec();
    payload.extend(base64.decode(&protected.format_tail).ok()?);
    Some(payload)
}

#[cfg(test)]
mod tests;
