//! What registries say, in their own shapes, and how manifests become [`Manifest`]s.
//!
//! Manifests are understood by the fields that they have, not by their media type: new types keep coming, and an unread
//! manifest may be an index that holds any image.

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::RawManifest;
use super::paging::Page;
use crate::domain::{Blob, Depth, Digest, Manifest};
use crate::transport::json;

/// A manifest understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedManifest {
    /// What the inventory keeps of it. `created_at` is set where an annotation (or schema 1 history) tells.
    pub manifest: Manifest,
    /// The manifests that it lists, where it is an index.
    pub children: Vec<Child>,
    /// The image configuration that tells when it was created, where no annotation did.
    pub dated_by: Option<Digest>,
}

/// One manifest that an index lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Its digest.
    pub digest: Digest,
    /// Whether it is an image or an index of images, so that its age is the index's age. Attestations that build tools
    /// put beside the images are not.
    pub image: bool,
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

/// Reads `null` as empty, as Go registries write empty lists; a missing key stays an error where it is required.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Option::deserialize(input).map(Option::unwrap_or_default)
}

/// The same, apart from a missing key.
fn nullable_list<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<Value>>, D::Error> {
    nullable(input).map(Some)
}

/// Reads what nothing depends on: another type than the expected one counts as missing.
pub(super) fn lenient<'de, D, T>(input: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + DeserializeOwned,
{
    let value = Value::deserialize(input)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// A number of bytes. One that cannot be counts as none, so that no byte is promised that may not come back.
fn size<'de, D: Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
    Ok(match Value::deserialize(input)? {
        Value::Number(number) => whole(&number),
        Value::String(text) => text.trim().parse().unwrap_or(0),
        _ => 0,
    })
}

/// The largest whole number that a `f64` can tell from its neighbours.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn whole(number: &serde_json::Number) -> u64 {
    let float = || number.as_f64().filter(|float| (0.0..=EXACT).contains(float) && float.fract() == 0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a whole number in range")]
    number.as_u64().or_else(|| float().map(|float| float as u64)).unwrap_or(0)
}

/// The names in a page of the catalogue.
///
/// A registry may leave the list out of a page that nobody linked to, where there is nothing more.
pub(super) fn catalogue_page(body: &[u8], page: Page<'_>) -> Result<Vec<String>, String> {
    if page.guessed && is_empty_object(body) {
        return Ok(Vec::new());
    }
    json::<WireCatalogue>(body).map(|page| names(page.repositories)).map_err(|error| error.to_string())
}

/// The names in a page of a tag list.
///
/// Registries that leave empty lists out answer with the repository's name alone. An answer without either could be
/// anything.
pub(super) fn tags_page(body: &[u8], page: Page<'_>) -> Result<Vec<String>, String> {
    if page.guessed && is_empty_object(body) {
        return Ok(Vec::new());
    }
    let WireTags { name, tags } = json(body).map_err(|error| error.to_string())?;
    if let Some(tags) = tags {
        return Ok(names(tags));
    }
    let asked = page.path.strip_prefix("/v2/").and_then(|path| path.strip_suffix("/tags/list")).unwrap_or_default();
    let is_it = name.is_some_and(|name| name == asked || name.ends_with(&format!("/{asked}")));
    if is_it { Ok(Vec::new()) } else { Err("neither `tags` nor the repository's `name` is in it".into()) }
}

fn is_empty_object(body: &[u8]) -> bool {
    json::<Value>(body).is_ok_and(|value| value.as_object().is_some_and(serde_json::Map::is_empty))
}

/// Names as they are listed. What is not a text is told as what cannot be a name, so that only this entry is in doubt.
fn names(entries: Vec<Value>) -> Vec<String> {
    let name = |entry| match entry {
        Value::String(name) => name,
        other => format!("(not a text: {other})"),
    };
    entries.into_iter().map(name).collect()
}

/// The digests in a page of referrers.
pub(super) fn referrers_page(body: &[u8], _: Page<'_>) -> Result<Vec<String>, String> {
    json::<WireReferrers>(body)
        .map(|page| page.manifests.into_iter().map(|manifest| manifest.digest).collect())
        .map_err(|error| error.to_string())
}

/// What an image configuration says of its creation; nothing where it says nothing, or no time.
pub(super) fn config_created(body: &[u8]) -> Result<Option<Timestamp>, String> {
    let config: WireCreated = json(body).map_err(|error| error.to_string())?;
    Ok(config.created.as_deref().and_then(time))
}

/// The types of image configurations that carry `created`.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// Understands a manifest by its fields.
///
/// # Errors
/// When it is no JSON object, has none of the fields of a manifest, or names content by what is no digest.
pub fn parse(raw: &RawManifest) -> Result<ParsedManifest, String> {
    let wire: WireManifest = json(&raw.bytes).map_err(|error| error.to_string())?;
    let understood = wire.config.is_some()
        || wire.layers.is_some()
        || wire.blobs.is_some()
        || wire.manifests.is_some()
        || wire.subject.is_some()
        || wire.artifact_type.is_some()
        || wire.fs_layers.is_some();
    if !understood {
        return Err("it has none of the fields of a manifest".into());
    }
    let config = wire.config.as_ref().map(digest_of).transpose()?.map(Box::new);
    let subject = wire.subject.as_ref().map(digest_of).transpose()?.map(Box::new);
    let children = wire.manifests.iter().flatten().map(child).collect::<Result<Vec<_>, _>>()?;
    let annotated = wire.annotations.created.as_deref().and_then(time);
    let created_at = annotated.or_else(|| wire.history.first().and_then(history_created));
    let dated_by = match (&wire.config, &config) {
        (Some(wire), Some(digest)) if created_at.is_none() => {
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
        depth: Depth::Whole,
    };
    Ok(ParsedManifest { manifest, children, dated_by })
}

fn digest_of(descriptor: &WireDescriptor) -> Result<Digest, String> {
    descriptor.digest.parse().map_err(|error: crate::domain::InvalidDigest| error.to_string())
}

fn child(descriptor: &WireDescriptor) -> Result<Child, String> {
    let unknown = descriptor
        .platform
        .as_ref()
        .is_some_and(|platform| platform.os == "unknown" && platform.architecture == "unknown");
    let attestation = descriptor.annotations.reference_type.as_deref() == Some("attestation-manifest");
    Ok(Child { digest: digest_of(descriptor)?, image: !unknown && !attestation })
}

/// The blobs that the registry must store for this manifest, each once. Foreign layers lie elsewhere. Schema 1 does not
/// say how long its layers are; they count as nothing, so that no byte is promised that may not come back.
fn blobs(wire: &WireManifest) -> Result<Box<[Blob]>, String> {
    let mut blobs = Vec::new();
    let mut seen = HashSet::new();
    let stored = wire.config.iter().chain(wire.layers.iter().flatten()).chain(wire.blobs.iter().flatten());
    for descriptor in stored.filter(|descriptor| !is_foreign(descriptor)) {
        let digest = digest_of(descriptor)?;
        if seen.insert(digest.clone()) {
            blobs.push(Blob { digest, size: descriptor.size });
        }
    }
    for layer in wire.fs_layers.iter().flatten() {
        let digest: Digest = layer.blob_sum.parse().map_err(|error: crate::domain::InvalidDigest| error.to_string())?;
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

fn history_created(entry: &WireHistory) -> Option<Timestamp> {
    let image: WireCreated = serde_json::from_str(&entry.v1_compatibility).ok()?;
    image.created.as_deref().and_then(time)
}

/// A time of RFC 3339 with any offset. Digits beyond nanoseconds are cut; what is no time is nothing.
fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let (seconds, rest) = text.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    (digits > 9).then(|| format!("{seconds}.{}{}", &rest[..9], &rest[digits..]).parse().ok())?
}

/// The type of a manifest: what the registry calls it, else what it calls itself, else what its fields say.
pub(super) fn media_type(header: Option<&str>, bytes: &[u8]) -> Arc<str> {
    let named = header.map(|value| value.split(';').next().unwrap_or_default().trim()).unwrap_or_default();
    let vague =
        matches!(named, "" | "application/json" | "application/octet-stream" | "text/plain" | "binary/octet-stream");
    if !vague {
        return named.into();
    }
    match json::<WireManifest>(bytes) {
        Ok(WireManifest { media_type: Some(own), .. }) => own.into(),
        Ok(WireManifest { manifests: Some(_), .. }) => "application/vnd.oci.image.index.v1+json".into(),
        Ok(WireManifest { fs_layers: Some(_), .. }) => {
            "application/vnd.docker.distribution.manifest.v1+prettyjws".into()
        }
        _ => "application/vnd.oci.image.manifest.v1+json".into(),
    }
}

/// Whether `bytes` are the manifest that `digest` names. A signed schema 1 manifest is named by what was signed, without
/// the signatures.
pub(super) fn is_manifest_of(digest: &Digest, bytes: &[u8]) -> bool {
    digest.is_of(bytes) || signed_payload(bytes).is_some_and(|payload| digest.is_of(&payload))
}

/// The digest by which a registry knows a manifest.
pub(super) fn manifest_digest(bytes: &[u8]) -> Digest {
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

/// The payload of a "pretty" JSON web signature, as libtrust defines it: the first `formatLength` bytes and the tail.
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
mod tests {
    use super::*;

    fn raw(json: &serde_json::Value) -> RawManifest {
        let bytes: Arc<[u8]> = json.to_string().into_bytes().into();
        RawManifest { digest: Digest::of(&bytes), media_type: "x/y".into(), bytes }
    }

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    #[test]
    fn an_image_has_config_layers_and_a_date_to_be_looked_up() {
        let (config, layer, foreign) = (digest(1), digest(2), digest(3));
        let parsed = parse(&raw(&serde_json::json!({
            "schemaVersion": 2, "futureField": {"x": 1},
            "config": {"mediaType": IMAGE_CONFIGS[0], "digest": config.to_string(), "size": 10},
            "layers": [
                {"mediaType": "l", "digest": layer.to_string(), "size": 20},
                {"mediaType": "l", "digest": layer.to_string(), "size": 20, "urls": null, "annotations": null},
                {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": foreign.to_string(), "size": 9},
                {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "digest": foreign.to_string(), "size": 9},
                {"mediaType": "l", "digest": foreign.to_string(), "size": 9, "urls": ["https://elsewhere.example/l"]},
            ],
        })))
        .unwrap();
        assert_eq!(parsed.dated_by, Some(config.clone()));
        assert_eq!(parsed.manifest.config.as_deref(), Some(&config));
        assert_eq!(*parsed.manifest.blobs, [Blob { digest: config, size: 10 }, Blob { digest: layer, size: 20 }]);
    }

    #[test]
    fn an_annotation_dates_an_image_without_its_config() {
        for (created, expected) in [
            ("2024-05-01T10:00:00Z", Some("2024-05-01T10:00:00Z")),
            ("2024-05-01T12:00:00.1234567+02:00", Some("2024-05-01T10:00:00.1234567Z")),
            ("2024-05-01T10:00:00.123456789123Z", Some("2024-05-01T10:00:00.123456789Z")),
            ("0001-01-01T00:00:00Z", Some("0001-01-01T00:00:00Z")),
            ("yesterday", None),
            ("2024-05-01", None),
            ("", None),
        ] {
            let parsed = parse(&raw(&serde_json::json!({
                "config": {"mediaType": IMAGE_CONFIGS[1], "digest": digest(1).to_string(), "size": 1},
                "annotations": {"org.opencontainers.image.created": created, "other": "x"},
            })))
            .unwrap();
            assert_eq!(parsed.manifest.created_at, expected.map(|text| text.parse().unwrap()), "{created}");
            assert_eq!(parsed.dated_by.is_some(), expected.is_none(), "{created}");
        }
    }

    #[test]
    fn an_index_tells_images_from_attestations() {
        let parsed = parse(&raw(&serde_json::json!({
            "manifests": [
                {"digest": digest(1).to_string(), "size": 1, "platform": {"os": "linux", "architecture": "amd64"}},
                {"digest": digest(2).to_string(), "size": 1, "platform": {"os": "unknown", "architecture": "unknown"}},
                {"digest": digest(3).to_string(), "size": 1, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
                {"digest": digest(4).to_string(), "size": 1},
            ],
        })))
        .unwrap();
        let images: Vec<_> = parsed.children.iter().map(|child| child.image).collect();
        assert_eq!(images, [true, false, false, true]);
        assert_eq!(parsed.manifest.children, (1..=4).map(digest).collect::<Vec<_>>());
        assert!(parsed.manifest.blobs.is_empty() && parsed.dated_by.is_none());
    }

    #[test]
    fn schema_one_is_understood() {
        let parsed = parse(&raw(&serde_json::json!({
            "schemaVersion": 1, "name": "a", "tag": "b",
            "fsLayers": [{"blobSum": digest(1).to_string()}, {"blobSum": digest(2).to_string()}, {"blobSum": digest(1).to_string()}],
            "history": [{"v1Compatibility": "{\"created\":\"2015-01-02T03:04:05.6Z\"}"}, {"v1Compatibility": "{}"}],
        })))
        .unwrap();
        assert_eq!(parsed.manifest.created_at, "2015-01-02T03:04:05.6Z".parse().ok());
        assert_eq!(parsed.manifest.blobs.len(), 2);
    }

    #[test]
    fn what_is_no_manifest_is_an_error_not_an_empty_image() {
        for json in [
            serde_json::json!({}),
            serde_json::json!([]),
            serde_json::json!({"errors": []}),
            serde_json::json!({"config": {"digest": "sha256:short", "size": 1}}),
            serde_json::json!({"manifests": [{"size": 1}]}),
            serde_json::json!({"layers": [{"digest": 7, "size": 1}]}),
            serde_json::json!({"manifests": {"digest": digest(1).to_string()}}),
            serde_json::json!({"manifests": [digest(1).to_string()]}),
            serde_json::json!({"mediaType": 7, "config": {"digest": digest(1).to_string()}}),
            serde_json::json!({"subject": {"digest": "latest"}}),
            serde_json::json!({"subject": digest(1).to_string()}),
            serde_json::json!({"fsLayers": [{"blobSum": "x"}]}),
        ] {
            assert!(parse(&raw(&json)).is_err(), "{json}");
        }
    }

    #[test]
    fn a_page_is_a_list_of_names_or_an_error() {
        let (path, linked) = ("/v2/shop/a/tags/list", |path| Page { path, guessed: false });
        let some = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        for (body, expected) in [
            (r#"{"name":"shop/a","tags":null}"#, some(&[])),
            (r#"{"name":"shop/a","tags":["x"]}"#, some(&["x"])),
            ("\u{feff}{\"tags\":[\"x\"]}", some(&["x"])),
            (r#"{"name":"shop/a"}"#, some(&[])),
            (r#"{"name":"mirror/shop/a","child":[]}"#, some(&[])),
            (r#"{"name":7,"tags":["x"]}"#, some(&["x"])),
            (r#"{"tags":["x",7,null]}"#, some(&["x", "(not a text: 7)", "(not a text: null)"])),
            (r#"{"name":"other"}"#, None),
            (r#"{"name":"another-shop/a"}"#, None),
            (r#"{"tags":"x"}"#, None),
            (r#"{"tags":["x"],"tags":["y"]}"#, None),
            (r#"{"tags":["x""#, None),
            ("{}", None),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(tags_page(body.as_bytes(), linked(path)).ok(), expected, "{body}");
        }
        let guessed = Page { path, guessed: true };
        assert_eq!(tags_page(b"{}", guessed), Ok(vec![]));
        assert_eq!(catalogue_page(b"{}", guessed), Ok(vec![]));
        assert!(tags_page(br#"{"errors":[]}"#, guessed).is_err());
        let page = linked("/v2/_catalog");
        assert_eq!(catalogue_page(br#"{"repositories":null}"#, page), Ok(vec![]));
        assert_eq!(catalogue_page(br#"{"repositories":["a",1]}"#, page).ok(), some(&["a", "(not a text: 1)"]));
        assert!(catalogue_page(b"{}", page).is_err());
        assert!(referrers_page(br#"{"schemaVersion":2}"#, page).is_err());
        assert_eq!(
            referrers_page(br#"{"manifests":[{"digest":"x","size":-1,"platform":"all"}]}"#, page).ok(),
            some(&["x"])
        );
    }

    #[test]
    fn what_is_not_needed_never_fails_a_manifest() {
        let (config, layer) = (digest(1).to_string(), digest(2).to_string());
        let odd = [
            serde_json::json!({"size": -1}),
            serde_json::json!({"size": 1.5}),
            serde_json::json!({"size": "many"}),
            serde_json::json!({"size": null}),
            serde_json::json!({"size": [1]}),
            serde_json::json!({"size": 1e300}),
            serde_json::json!({"urls": "none"}),
            serde_json::json!({"urls": {}}),
            serde_json::json!({"annotations": {"a": 1, "org.opencontainers.image.created": 7, "vnd.docker.reference.type": true}}),
            serde_json::json!({"annotations": ["a"]}),
            serde_json::json!({"annotations": "a=b"}),
            serde_json::json!({"platform": "linux/amd64"}),
            serde_json::json!({"platform": {"os": 1, "architecture": null, "variant": []}}),
            serde_json::json!({"data": 7, "future": {"x": [null]}}),
        ];
        let with = |odd: &serde_json::Value, digest: &str| {
            let mut descriptor = serde_json::json!({"mediaType": "x/y", "digest": digest});
            descriptor.as_object_mut().unwrap().extend(odd.as_object().unwrap().clone());
            descriptor
        };
        for odd in odd {
            let image = serde_json::json!({
                "schemaVersion": "2", "annotations": odd.get("annotations"), "history": "none", "artifactType": 7,
                "config": with(&odd, &config), "layers": [with(&odd, &layer)], "subject": with(&odd, &layer),
            });
            let parsed = parse(&raw(&image)).unwrap_or_else(|why| panic!("{odd}: {why}"));
            assert_eq!(parsed.manifest.subject.as_deref(), Some(&digest(2)), "{odd}");
            assert!(parsed.manifest.blobs.iter().all(|blob| blob.size == 0), "{odd}");
            let index = serde_json::json!({"manifests": [with(&odd, &config)], "annotations": odd.get("annotations")});
            let parsed = parse(&raw(&index)).unwrap_or_else(|why| panic!("{odd}: {why}"));
            assert_eq!(parsed.manifest.children, [digest(1)], "{odd}");
        }
        for (size, bytes) in
            [("20", 20), ("20.0", 20), (r#""20""#, 20), ("-0.0", 0), ("18446744073709551615", u64::MAX)]
        {
            let text = format!("\u{feff}{{\"layers\": [{{\"digest\": \"{layer}\", \"size\": {size}}}]}}");
            let bytes_of: Arc<[u8]> = text.into_bytes().into();
            let raw = RawManifest { digest: Digest::of(&bytes_of), media_type: "x/y".into(), bytes: bytes_of };
            assert_eq!(parse(&raw).unwrap().manifest.blobs[0].size, bytes, "{size}");
        }
        let latin =
            format!("{{\"layers\": [{{\"digest\": \"{layer}\"}}], \"annotations\": {{\"by\": \"M\u{1}nchen\"}}}}");
        let bytes: Arc<[u8]> = latin.into_bytes().iter().map(|byte| if *byte == 1 { 0xfc } else { *byte }).collect();
        assert!(parse(&RawManifest { digest: Digest::of(&bytes), media_type: "x/y".into(), bytes }).is_ok());
        assert_eq!(config_created(br#"{"created": 1700000000, "config": {"Env": 7}}"#), Ok(None));
    }

    #[test]
    fn a_media_type_comes_from_the_header_the_manifest_or_its_fields() {
        let index = br#"{"manifests":[]}"#;
        let own = br#"{"mediaType":"application/vnd.example+json","config":{"digest":"x"}}"#;
        assert_eq!(&*media_type(Some("a/b+json; charset=utf-8"), own), "a/b+json");
        assert_eq!(&*media_type(Some("application/json"), own), "application/vnd.example+json");
        assert_eq!(&*media_type(None, index), "application/vnd.oci.image.index.v1+json");
    }

    #[test]
    fn signed_schema_one_is_named_by_what_was_signed() {
        let payload = b"{\n   \"schemaVersion\": 1\n}";
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let body = &payload[..payload.len() - 2];
        let protected = format!("{{\"formatLength\":{},\"formatTail\":\"{}\"}}", body.len(), engine.encode("\n}"));
        let signed = format!(
            "{},\n   \"signatures\": [{{\"protected\":\"{}\"}}]\n}}",
            std::str::from_utf8(body).unwrap(),
            engine.encode(protected)
        );
        assert!(is_manifest_of(&Digest::of(payload), signed.as_bytes()));
        assert!(is_manifest_of(&Digest::of(signed.as_bytes()), signed.as_bytes()));
        assert!(!is_manifest_of(&Digest::of(b"other"), signed.as_bytes()));
    }
}
