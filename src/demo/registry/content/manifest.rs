//! The parts of a manifest that a registry uses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use super::time_ordered_map::UpdateTime;
use super::{Attributes, ManifestError};
use crate::demo::blob::Blob;
use crate::demo::image::media_type;
use crate::domain::Digest;

/// A manifest as it was pushed.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Its media type.
    pub media_type: String,
    /// Its exact bytes.
    pub bytes: Bytes,
    /// The manifest that it refers to.
    pub subject: Option<Digest>,
    /// The type of artifact that it is: its `artifactType`, else its configuration's media type.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Time of its first push.
    pub created: Timestamp,
    /// Time of its last push.
    pub updated: Timestamp,
    /// Its attributes.
    pub attributes: Attributes,
    /// Its own bytes with those of its configuration and layers, or of all its children; shared content is counted
    /// every time.
    pub image_size: u64,
    /// The architecture that its configuration names.
    pub architecture: Option<String>,
    /// The operating system that its configuration names.
    pub os: Option<String>,
    /// The manifests that it lists.
    pub children: Vec<Child>,
    /// The tags that name it.
    pub(in crate::demo::registry) tags: BTreeSet<Arc<str>>,
    /// Time at which it lost its last tag, if that was under a retention policy.
    pub(super) untagged_at: Option<Timestamp>,
    /// The blobs that it names and that are stored here.
    pub(super) blobs: Vec<Digest>,
    config: Option<Digest>,
}

/// A manifest as an index lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Its digest.
    pub digest: Digest,
    /// The architecture in the index.
    pub architecture: Option<String>,
    /// The operating system in the index.
    pub os: Option<String>,
}

impl UpdateTime for Manifest {
    fn updated(&self) -> Timestamp {
        self.updated
    }
}

/// The fields of manifests and indexes of every kind that a registry uses.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireManifest {
    media_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    urls: Vec<String>,
    platform: Option<Platform>,
}

/// The platform in the descriptors of an index, and in the configuration of an image.
#[derive(Deserialize)]
struct Platform {
    architecture: Option<String>,
    os: Option<String>,
}

impl Descriptor {
    fn digest(&self) -> Result<Digest, ManifestError> {
        self.digest.parse().map_err(|error: crate::domain::InvalidDigest| ManifestError::Invalid(error.to_string()))
    }

    fn child(&self) -> Result<Child, ManifestError> {
        let (architecture, os) = self.platform.as_ref().map_or((None, None), |platform| {
            let Platform { architecture, os } = platform;
            (architecture.clone(), os.clone())
        });
        Ok(Child { digest: self.digest()?, architecture, os })
    }
}

impl Manifest {
    pub(super) fn read(media_type: &str, bytes: Bytes, now: Timestamp) -> Result<Self, ManifestError> {
        let shape: WireManifest =
            serde_json::from_slice(&bytes).map_err(|error| ManifestError::Invalid(error.to_string()))?;
        if let Some(own) = shape.media_type.filter(|own| own != media_type) {
            return Err(ManifestError::Invalid(format!("its mediaType is {own}, its Content-Type {media_type}")));
        }
        let stored = shape.config.iter().chain(&shape.layers).filter(|descriptor| descriptor.urls.is_empty());
        let image = shape.config.as_ref().filter(|config| is_image(&config.media_type));
        Ok(Self {
            media_type: media_type.to_owned(),
            blobs: stored.map(Descriptor::digest).collect::<Result<_, _>>()?,
            config: image.map(Descriptor::digest).transpose()?,
            children: shape.manifests.iter().map(Descriptor::child).collect::<Result<_, _>>()?,
            subject: shape.subject.as_ref().map(Descriptor::digest).transpose()?,
            artifact_type: shape.artifact_type.or_else(|| shape.config.map(|config| config.media_type)),
            annotations: shape.annotations,
            created: now,
            updated: now,
            attributes: Attributes::default(),
            image_size: bytes.len() as u64,
            architecture: None,
            os: None,
            tags: BTreeSet::new(),
            untagged_at: None,
            bytes,
        })
    }

    /// Fills in the fields from its configuration, and the total size.
    pub(super) fn measure<'a>(
        &mut self,
        blob: impl Fn(&Digest) -> Option<&'a Blob>,
        child: impl Fn(&Digest) -> Option<&'a Self>,
    ) {
        let blobs: u64 = self.blobs.iter().filter_map(&blob).map(Blob::length).sum();
        let children: u64 =
            self.children.iter().filter_map(|listed| child(&listed.digest)).map(|child| child.image_size).sum();
        self.image_size = self.bytes.len() as u64 + blobs + children;
        let config = self.config.as_ref().and_then(blob).filter(|config| config.length() <= MAX_CONFIG_BYTES);
        let config = config.map(|config| config.chunks().flatten().collect::<Vec<u8>>());
        if let Some(Platform { architecture, os }) = config.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            (self.architecture, self.os) = (architecture, os);
        }
    }
}

/// Larger configurations are not parsed.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

fn is_image(config: &str) -> bool {
    matches!(config, media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
}
