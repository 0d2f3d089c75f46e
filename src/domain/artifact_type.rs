//! Types of artifacts: what a tag names.

use super::{SharedText, is_index_type};

/// A kind of artifact that has a word in policy files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArtifactKind {
    /// A container image for one platform.
    Image,
    /// An index, mostly an image for several platforms.
    Index,
    /// A Helm chart.
    Chart,
    /// A signature.
    Signature,
    /// An attestation.
    Attestation,
    /// A bill of materials.
    Sbom,
    /// A build cache.
    Cache,
    /// A WebAssembly module or component.
    Wasm,
}

/// A type of artifact, as a selector names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactType {
    /// By a word.
    Kind(ArtifactKind),
    /// By a media type: that of the manifest, its `artifactType`, or that of its configuration where it has none.
    MediaType(SharedText),
}

const CACHE: &str = "application/vnd.buildkit.cacheconfig.";

impl ArtifactKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Image,
        Self::Index,
        Self::Chart,
        Self::Signature,
        Self::Attestation,
        Self::Sbom,
        Self::Cache,
        Self::Wasm,
    ];

    /// Returns the word in policy files.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Index => "index",
            Self::Chart => "chart",
            Self::Signature => "signature",
            Self::Attestation => "attestation",
            Self::Sbom => "sbom",
            Self::Cache => "cache",
            Self::Wasm => "wasm",
        }
    }

    /// Returns the own type that most artifacts of this kind have; empty for an index.
    #[must_use]
    pub fn example(self) -> &'static str {
        match self {
            Self::Image => "application/vnd.oci.image.config.v1+json",
            Self::Index => "",
            Self::Chart => "application/vnd.cncf.helm.config.v1+json",
            Self::Signature => "application/vnd.dev.cosign.artifact.sig.v1+json",
            Self::Attestation => "application/vnd.in-toto+json",
            Self::Sbom => "application/spdx+json",
            Self::Cache => "application/vnd.buildkit.cacheconfig.v0",
            Self::Wasm => "application/vnd.wasm.config.v0+json",
        }
    }

    /// Returns the kind of a manifest, or `None` if policy files have no word for it. `own` is its `artifactType`, else the
    /// media type of its configuration, and empty if it has neither.
    #[must_use]
    pub fn of(media_type: &str, own: &str) -> Option<Self> {
        if own.starts_with(CACHE) {
            return Some(Self::Cache);
        }
        if is_index_type(media_type) {
            return Some(Self::Index);
        }
        if is_schema_1(media_type) {
            return Some(Self::Image);
        }
        Some(match own {
            "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json" => {
                Self::Image
            }
            "application/vnd.cncf.helm.config.v1+json" => Self::Chart,
            "application/vnd.dev.cosign.artifact.sig.v1+json"
            | "application/vnd.cncf.notary.signature"
            | "application/vnd.cncf.notary.v2.signature" => Self::Signature,
            "application/vnd.in-toto+json"
            | "application/vnd.dsse.envelope.v1+json"
            | "application/vnd.dev.cosign.artifact.att.v1+json" => Self::Attestation,
            "application/spdx+json"
            | "text/spdx+json"
            | "text/spdx"
            | "application/vnd.syft+json"
            | "application/vnd.dev.cosign.artifact.sbom.v1+json" => Self::Sbom,
            _ if own.starts_with("application/vnd.dev.sigstore.bundle") => Self::Signature,
            _ if own.starts_with("application/vnd.cyclonedx") => Self::Sbom,
            _ if own.starts_with("application/vnd.wasm.") => Self::Wasm,
            _ => return None,
        })
    }
}

/// Docker's first format, which has no configuration: it holds images alone.
fn is_schema_1(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.docker.distribution.manifest.v1+")
}

impl ArtifactType {
    /// Returns the type as policy files write it.
    #[must_use]
    pub fn written(&self) -> &str {
        match self {
            Self::Kind(kind) => kind.label(),
            Self::MediaType(media_type) => media_type,
        }
    }

    /// Returns true if a manifest is of this type, and `None` if that is not known. `media_type` is empty, and `own` is
    /// `None`, where they are unknown.
    #[must_use]
    pub fn matches(&self, media_type: &str, own: Option<&str>) -> Option<bool> {
        match (self, own) {
            (Self::MediaType(wanted), _) if **wanted == *media_type => Some(true),
            (Self::MediaType(wanted), Some(own)) => Some(**wanted == *own),
            (Self::Kind(kind), Some(own)) => Some(ArtifactKind::of(media_type, own) == Some(*kind)),
            (Self::Kind(ArtifactKind::Image), None) if is_schema_1(media_type) => Some(true),
            // What stands in an index tells a cache from others, and nothing else is an index.
            (Self::Kind(ArtifactKind::Index | ArtifactKind::Cache), None) if is_index_type(media_type) => None,
            (Self::Kind(_), None) if is_index_type(media_type) || is_schema_1(media_type) => Some(false),
            (Self::Kind(ArtifactKind::Index), None) if is_manifest_type(media_type) => Some(false),
            (Self::Kind(_) | Self::MediaType(_), None) => None,
        }
    }
}

/// Returns true for the media types of manifests that are certainly not indexes.
fn is_manifest_type(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json"
    ) || is_schema_1(media_type)
}
