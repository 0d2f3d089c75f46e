//! Images as builds and pipelines make them: manifests with their configurations, layers, children and companions.

use std::collections::BTreeMap;

use axum::body::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::blob::Blob;
use crate::domain::Digest;

/// A manifest with everything that must be in the registry before it.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its media type.
    pub media_type: &'static str,
    /// Its exact bytes.
    pub bytes: Bytes,
    /// The blobs that it names.
    pub blobs: Vec<Blob>,
    /// The manifests that it lists.
    pub children: Vec<Image>,
    platform: Option<Platform>,
    artifact_type: Option<String>,
    annotations: BTreeMap<String, String>,
}

/// The family of media types that a manifest is written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// OCI image specification 1.1.
    #[default]
    Oci,
    /// Docker image manifest version 2, schema 2.
    Docker,
}

/// The platform of a manifest in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The operating system, such as `linux`.
    pub os: &'static str,
    /// The architecture, such as `amd64`.
    pub architecture: &'static str,
}

/// Linux on amd64.
pub const AMD64: Platform = Platform { os: "linux", architecture: "amd64" };
/// Linux on arm64.
pub const ARM64: Platform = Platform { os: "linux", architecture: "arm64" };
/// The platform that buildkit writes for its attestations.
pub const NO_PLATFORM: Platform = Platform { os: "unknown", architecture: "unknown" };

/// The specification of an image.
#[derive(Debug, Clone)]
pub struct ImageSpec {
    /// The media types to use.
    pub format: Format,
    /// Its platform.
    pub platform: Platform,
    /// The `created` of its configuration; `None` omits the key.
    pub created: Option<Timestamp>,
    /// Its layers, the base first.
    pub layers: Vec<Blob>,
    /// The labels in its configuration.
    pub labels: BTreeMap<String, String>,
    /// The annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
}

/// Media types, as the OCI image specification and Docker's registry name them.
pub mod media_type {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An uncompressed OCI layer.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// The empty JSON object, used as a placeholder.
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// A Docker image manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// An uncompressed Docker layer.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// An in-toto statement, as buildkit and cosign attach it.
    pub const IN_TOTO: &str = "application/vnd.in-toto+json";
    /// The payload of a cosign signature.
    pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
    /// A Helm chart's configuration.
    pub const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
    /// A Helm chart.
    pub const HELM_CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
    /// An SBOM in SPDX's JSON form.
    pub const SPDX: &str = "application/spdx+json";
}

impl Default for ImageSpec {
    fn default() -> Self {
        Self {
            format: Format::Oci,
            platform: AMD64,
            created: None,
            layers: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }
}

impl ImageSpec {
    /// Creates an OCI image for amd64 with those layers.
    #[must_use]
    pub fn new(created: Timestamp, layers: &[Blob]) -> Self {
        Self { created: Some(created), layers: layers.to_vec(), ..Self::default() }
    }

    /// Builds the image as it is pushed to a registry.
    #[must_use]
    pub fn build(&self) -> Image {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| layer.digest().to_string()).collect();
        let mut config = json!({
            "architecture": self.platform.architecture,
            "os": self.platform.os,
            "config": { "Entrypoint": ["/app/server"], "Labels": self.labels },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": self.layers.iter().map(|_| json!({ "created_by": "COPY" })).collect::<Vec<_>>(),
        });
        if let Some(created) = self.created {
            config["created"] = json!(created.to_string());
        }
        let config = Blob::of(config.to_string());
        let (media_type, config_type, layer_type) = match self.format {
            Format::Oci => (media_type::OCI_MANIFEST, media_type::OCI_CONFIG, media_type::OCI_LAYER),
            Format::Docker => (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG, media_type::DOCKER_LAYER),
        };
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": descriptor(config_type, &config),
            "layers": self.layers.iter().map(|layer| descriptor(layer_type, layer)).collect::<Vec<_>>(),
        });
        annotate(&mut manifest, &self.annotations);
        let blobs = std::iter::once(config).chain(self.layers.iter().cloned()).collect();
        Image {
            platform: Some(self.platform.clone()),
            annotations: self.annotations.clone(),
            ..Image::of(media_type, &manifest, blobs, Vec::new())
        }
    }
}

impl Image {
    fn of(media_type: &'static str, manifest: &Value, blobs: Vec<Blob>, children: Vec<Image>) -> Self {
        let bytes = Bytes::from(manifest.to_string());
        let digest = Digest::of(&bytes);
        let (platform, artifact_type, annotations) = (None, None, BTreeMap::new());
        Self { digest, media_type, bytes, blobs, children, platform, artifact_type, annotations }
    }

    /// Returns the bytes of everything that it needs, its own manifest included; blobs that it names twice count twice.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        let blobs: u64 = self.blobs.iter().map(Blob::length).sum();
        blobs + self.bytes.len() as u64 + self.children.iter().map(Image::total_bytes).sum::<u64>()
    }

    /// Returns its descriptor in an index.
    fn descriptor(&self) -> Value {
        let mut entry =
            json!({ "mediaType": self.media_type, "digest": self.digest.to_string(), "size": self.bytes.len() });
        if let Some(platform) = &self.platform {
            entry["platform"] = json!({ "os": platform.os, "architecture": platform.architecture });
        }
        if let Some(kind) = &self.artifact_type {
            entry["artifactType"] = json!(kind);
        }
        annotate(&mut entry, &self.annotations);
        entry
    }
}

/// Creates an index (or a Docker manifest list) of those manifests, which may include indexes.
#[must_use]
pub fn index(format: Format, children: &[Image]) -> Image {
    let media_type = match format {
        Format::Oci => media_type::OCI_INDEX,
        Format::Docker => media_type::DOCKER_LIST,
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": children.iter().map(Image::descriptor).collect::<Vec<_>>(),
    });
    Image::of(media_type, &manifest, Vec::new(), children.to_vec())
}

/// Creates the result of `docker buildx build --platform linux/amd64,linux/arm64`: an image for each platform and, as
/// buildkit does by default, an attestation for each, listed in the index for the platform `unknown/unknown`.
#[must_use]
pub fn multi_arch(created: Timestamp, layers: impl Fn(&Platform) -> Vec<Blob>) -> Image {
    let images: Vec<Image> = [AMD64, ARM64]
        .into_iter()
        .map(|platform| ImageSpec { layers: layers(&platform), platform, ..ImageSpec::new(created, &[]) }.build())
        .collect();
    let attestations: Vec<Image> = images.iter().map(attestation).collect();
    index(Format::Oci, &[images, attestations].concat())
}

/// Creates the provenance that buildkit puts beside an image in its index.
#[must_use]
pub fn attestation(of: &Image) -> Image {
    let statement = Blob::of(
        json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{ "name": "image", "digest": { "sha256": of.digest.hex() } }],
        })
        .to_string(),
    );
    let spec = ImageSpec { platform: NO_PLATFORM, layers: vec![statement.clone()], ..ImageSpec::default() };
    let config = spec.build().blobs[0].clone();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(media_type::OCI_CONFIG, &config),
        "layers": [descriptor(media_type::IN_TOTO, &statement)],
    });
    let annotations = BTreeMap::from([
        ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
        ("vnd.docker.reference.digest".to_owned(), of.digest.to_string()),
    ]);
    let image = Image::of(media_type::OCI_MANIFEST, &manifest, vec![config, statement], Vec::new());
    Image { platform: Some(NO_PLATFORM), annotations, ..image }
}

/// Creates an artifact of that type with one blob, which refers to `subject` if given.
#[must_use]
pub fn artifact(kind: &str, blob: (&str, Blob), subject: Option<&Image>, annotations: &[(&str, &str)]) -> Image {
    let annotations: BTreeMap<String, String> =
        annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let empty = Blob::of("{}");
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": kind,
        "config": descriptor(media_type::OCI_EMPTY, &empty),
        "layers": [descriptor(blob.0, &blob.1)],
    });
    if let Some(subject) = subject {
        let mut entry = subject.descriptor();
        entry.as_object_mut().map(|entry| entry.remove("annotations"));
        manifest["subject"] = entry;
    }
    annotate(&mut manifest, &annotations);
    let image = Image::of(media_type::OCI_MANIFEST, &manifest, vec![empty, blob.1], Vec::new());
    Image { artifact_type: Some(kind.to_owned()), annotations, ..image }
}

/// Creates a Helm chart as `helm push` does: its only time is an annotation.
#[must_use]
pub fn helm_chart(name: &str, version: &str, created: Timestamp, archive: Blob) -> Image {
    let config = Blob::of(json!({ "apiVersion": "v2", "name": name, "version": version }).to_string());
    let annotations = BTreeMap::from([
        ("org.opencontainers.image.created".to_owned(), created.to_string()),
        ("org.opencontainers.image.title".to_owned(), name.to_owned()),
        ("org.opencontainers.image.version".to_owned(), version.to_owned()),
    ]);
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(media_type::HELM_CONFIG, &config),
        "layers": [descriptor(media_type::HELM_CHART, &archive)],
    });
    annotate(&mut manifest, &annotations);
    Image { annotations, ..Image::of(media_type::OCI_MANIFEST, &manifest, vec![config, archive], Vec::new()) }
}

/// Creates a signature in the format of cosign 2, to be stored under [`companion_tag`]`(digest, ".sig")`.
#[must_use]
pub fn signature(of: &Digest, repository: &str) -> Image {
    let payload = Blob::of(
        json!({
            "critical": {
                "identity": { "docker-reference": repository },
                "image": { "docker-manifest-digest": of.to_string() },
                "type": "cosign container image signature",
            },
            "optional": null,
        })
        .to_string(),
    );
    let spec = ImageSpec { layers: vec![payload.clone()], ..ImageSpec::default() };
    let config = spec.build().blobs[0].clone();
    let mut layer = descriptor(media_type::SIMPLE_SIGNING, &payload);
    let signed = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, of.hex());
    layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": signed });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(media_type::OCI_CONFIG, &config),
        "layers": [layer],
    });
    Image::of(media_type::OCI_MANIFEST, &manifest, vec![config, payload], Vec::new())
}

/// Returns the tag of a companion of an image: `sha256-<hex>` and the ending (`.sig`, `.att`, `.sbom`, or none for the
/// index that replaces a referrers API).
#[must_use]
pub fn companion_tag(of: &Digest, ending: &str) -> String {
    format!("{}-{}{ending}", of.algorithm(), of.hex())
}

fn descriptor(media_type: &str, blob: &Blob) -> Value {
    json!({ "mediaType": media_type, "digest": blob.digest().to_string(), "size": blob.length() })
}

fn annotate(value: &mut Value, annotations: &BTreeMap<String, String>) {
    if !annotations.is_empty() {
        let annotations: Map<String, Value> = annotations.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        value["annotations"] = Value::Object(annotations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_specs_give_equal_digests_and_every_reference_resolves() {
        let created: Timestamp = "2026-11-01T03:00:00Z".parse().unwrap();
        let build =
            || multi_arch(created, |platform| vec![Blob::layer("base", 4096), Blob::layer(platform.architecture, 100)]);
        let image = build();
        assert_eq!(image.digest, build().digest);
        let manifest: Value = serde_json::from_slice(&image.bytes).unwrap();
        let listed: Vec<_> = manifest["manifests"].as_array().unwrap().iter().collect();
        assert_eq!(listed.len(), 4);
        for (entry, child) in listed.iter().zip(&image.children) {
            assert_eq!(entry["digest"], child.digest.to_string());
            assert_eq!(entry["size"], child.bytes.len());
            let inner: Value = serde_json::from_slice(&child.bytes).unwrap();
            assert_eq!(inner["config"]["digest"], child.blobs[0].digest().to_string());
        }
        assert_eq!(listed[2]["platform"]["os"], "unknown");
        assert_eq!(listed[2]["annotations"]["vnd.docker.reference.digest"], image.children[0].digest.to_string());
    }

    #[test]
    fn a_referrer_names_its_subject_and_a_companion_tag_its_image() {
        let image = ImageSpec::default().build();
        let sbom = artifact(media_type::SPDX, (media_type::SPDX, Blob::of("{}")), Some(&image), &[("kind", "sbom")]);
        let manifest: Value = serde_json::from_slice(&sbom.bytes).unwrap();
        assert_eq!(manifest["subject"]["digest"], image.digest.to_string());
        assert_eq!(manifest["artifactType"], media_type::SPDX);
        assert_eq!(companion_tag(&image.digest, ".sig"), format!("sha256-{}.sig", image.digest.hex()));
    }
}
