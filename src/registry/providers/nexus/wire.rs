//! The wire format of Nexus' answers.

use jiff::Timestamp;
use serde::Deserialize;

use crate::domain::Digest;

/// A page of components.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireComponents {
    pub(super) items: Vec<WireComponent>,
    /// The continuation; `null` on the last page.
    #[serde(default)]
    pub(super) continuation_token: Option<String>,
}

/// A tag of an image, or a manifest by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct WireComponent {
    pub(super) id: String,
    pub(super) repository: String,
    pub(super) name: String,
    /// The tag, or a digest.
    pub(super) version: String,
    #[serde(default)]
    pub(super) assets: Vec<WireAsset>,
}

/// A file of a component.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireAsset {
    pub(super) path: String,
    #[serde(default)]
    pub(super) content_type: Option<String>,
    #[serde(default)]
    pub(super) checksum: Option<WireChecksum>,
    #[serde(default)]
    pub(super) blob_created: Option<Timestamp>,
    #[serde(default)]
    pub(super) last_modified: Option<Timestamp>,
    /// `null` if it was never downloaded.
    #[serde(default)]
    pub(super) last_downloaded: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct WireChecksum {
    #[serde(default)]
    pub(super) sha256: Option<String>,
}

/// A repository of Nexus.
#[derive(Debug, Deserialize)]
pub(super) struct WireRepository {
    pub(super) name: String,
    pub(super) format: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

impl WireComponent {
    /// Returns true for a tag, and false for a manifest by its digest.
    pub(super) fn is_tag(&self) -> bool {
        self.version.parse::<Digest>().is_err()
    }

    /// Returns the asset that is the manifest, if there is exactly one.
    pub(super) fn manifest(&self) -> Option<&WireAsset> {
        let mut manifests = self.assets.iter().filter(|asset| asset.path.contains("/manifests/"));
        let first = manifests.next();
        first.filter(|_| manifests.next().is_none())
    }
}

impl WireAsset {
    /// Returns the time of the last push, which puts new content.
    pub(super) fn pushed_at(&self) -> Option<Timestamp> {
        self.blob_created.max(self.last_modified)
    }

    /// Returns true if it lists images of several platforms.
    pub(super) fn is_index(&self) -> bool {
        let kind = self.content_type.as_deref().unwrap_or_default();
        kind.contains("manifest.list") || kind.contains("image.index")
    }
}
