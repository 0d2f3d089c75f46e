//! Drift and orphans: findings for a person to check, although nothing is removed or refused because of them.

use serde::{Deserialize, Serialize};

use super::notation::short_digest;

/// The kinds of differences between the sources' claims and the registry's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DriftKind {
    /// A recorded tag names another digest than the recorded one.
    DigestChanged,
    /// An image in use is not in the registry.
    ImageMissing,
    /// An image in use is in the registry, but no tag leads to it.
    Untagged,
    /// A recorded tag does not exist anymore, and its image has other tags.
    TagMissing,
    /// An image used by its digest has one last tag that the policies would expire.
    LastTag,
    /// No tag is a version in a range in use.
    NoVersionInRange,
}

impl DriftKind {
    /// Returns the label used in the JSON.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::DigestChanged => "drift",
            Self::ImageMissing => "image-missing",
            Self::Untagged => "untagged",
            Self::TagMissing => "tag-missing",
            Self::LastTag => "last-tag",
            Self::NoVersionInRange => "no-version-in-range",
        }
    }

    /// Returns `warning` if something differs from its record or may be lost, and `info` otherwise. Neither changes an
    /// exit code.
    #[must_use]
    pub fn severity(self) -> &'static str {
        match self {
            Self::DigestChanged | Self::ImageMissing | Self::Untagged => "warning",
            Self::TagMissing | Self::LastTag | Self::NoVersionInRange => "info",
        }
    }
}

/// A finding to check.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DriftView {
    /// `warning` or `info`; neither changes an exit code.
    pub severity: String,
    /// `drift`, `image-missing`, `untagged`, `tag-missing`, `last-tag` or `no-version-in-range`.
    pub kind: String,
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag concerned, if any.
    pub tag: Option<String>,
    /// The recorded or used digest, if one is named.
    pub digest: Option<String>,
    /// The range of versions in use, if one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
    /// For `drift`, the tag's current digest.
    pub actual: Option<String>,
    /// The source that claims it.
    pub source: String,
    /// The holder of the claim; of several, the first and the number of others.
    pub holder: String,
    /// The finding in one sentence.
    pub message: String,
}

impl DriftView {
    /// Fills in the severity and the sentence of a finding, which follow from its other fields.
    #[must_use]
    pub fn with_message(kind: DriftKind, found: Self) -> Self {
        let message = found.sentence(kind);
        Self { kind: kind.label().to_owned(), severity: kind.severity().to_owned(), message, ..found }
    }

    fn sentence(&self, kind: DriftKind) -> String {
        let Self { registry, repository, source, holder, .. } = self;
        let tag = self.tag.as_deref().map_or_else(String::new, |tag| format!(":{tag}"));
        let name = format!("{registry}/{repository}{tag}");
        let digest = self.digest.as_deref().map(short_digest).unwrap_or_default();
        let range = self.range.as_deref().unwrap_or_default();
        match kind {
            DriftKind::DigestChanged => {
                let now = self.actual.as_deref().map(short_digest).unwrap_or_default();
                format!("{name} is now at {now}; {source} recorded {digest}: {holder}. Both images are kept")
            }
            DriftKind::ImageMissing if self.digest.is_some() => {
                format!("{name}@{digest} is not in the registry, and is used: {holder} ({source})")
            }
            DriftKind::ImageMissing => format!("{name} is not in the registry, and is used: {holder} ({source})"),
            DriftKind::Untagged => format!(
                "no tag leads to {registry}/{repository}@{digest}, which is used: {holder} ({source}). It lasts until the \
                 registry collects untagged manifests; tag it again"
            ),
            DriftKind::TagMissing => {
                format!("{name} is gone; {source} recorded it at {digest}, which other tags still name: {holder}")
            }
            DriftKind::LastTag => format!(
                "{name} is the last tag of {digest}, which is used by its digest alone: {holder} ({source}). Only that \
                 keeps the tag"
            ),
            DriftKind::NoVersionInRange => {
                format!("no tag of {name} is a version in `{range}`, which is used: {holder} ({source})")
            }
        }
    }
}
