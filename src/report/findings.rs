//! Drift and orphans: what a person should look at, although nothing is removed or refused because of it.

use serde::{Deserialize, Serialize};

use super::reason::short;

/// What was found between what sources say and what the registry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// A recorded tag names another digest than the recorded one.
    Drift,
    /// What is used is not in the registry.
    ImageGone,
    /// What is used is in the registry, and no tag leads to it.
    NoTagLeft,
    /// A recorded tag is gone, and its image has other tags.
    TagGone,
    /// What is used by its digest hangs on one last tag that the policies would let go.
    LastTag,
    /// No tag is a version in a range that is used.
    RangeEmpty,
}

impl FindingKind {
    /// The label used in the JSON.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::ImageGone => "image-gone",
            Self::NoTagLeft => "no-tag-left",
            Self::TagGone => "tag-gone",
            Self::LastTag => "last-tag",
            Self::RangeEmpty => "no-version-in-range",
        }
    }

    /// `warning`: something is not as it was recorded or may be lost. `info`: good to know. Neither changes an exit code.
    #[must_use]
    pub fn severity(self) -> &'static str {
        match self {
            Self::Drift | Self::ImageGone | Self::NoTagLeft => "warning",
            Self::TagGone | Self::LastTag | Self::RangeEmpty => "info",
        }
    }
}

/// One thing to look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FindingView {
    /// `warning` or `info`; neither changes an exit code.
    pub severity: String,
    /// `drift`, `image-gone`, `no-tag-left`, `tag-gone`, `last-tag` or `no-version-in-range`.
    pub kind: String,
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag that it is about, where it is about one.
    pub tag: Option<String>,
    /// The digest that is recorded or used, where one is named.
    pub digest: Option<String>,
    /// The range of versions that is used, where one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
    /// For `drift`, what the tag names now.
    pub actual: Option<String>,
    /// The source that says so.
    pub source: String,
    /// Who holds the claim, in words; of several the first, and how many more.
    pub holder: String,
    /// What it is, in one sentence.
    pub message: String,
}

impl FindingView {
    /// The finding with its severity and its sentence, which follow from the rest of it.
    #[must_use]
    pub fn worded(kind: FindingKind, found: Self) -> Self {
        let message = found.sentence(kind);
        Self { kind: kind.label().to_owned(), severity: kind.severity().to_owned(), message, ..found }
    }

    fn sentence(&self, kind: FindingKind) -> String {
        let Self { registry, repository, source, holder, .. } = self;
        let tag = self.tag.as_deref().map_or_else(String::new, |tag| format!(":{tag}"));
        let name = format!("{registry}/{repository}{tag}");
        let digest = self.digest.as_deref().map(short).unwrap_or_default();
        let range = self.range.as_deref().unwrap_or_default();
        match kind {
            FindingKind::Drift => {
                let now = self.actual.as_deref().map(short).unwrap_or_default();
                format!("{name} is now at {now}; {source} recorded {digest}: {holder}. Both images are kept")
            }
            FindingKind::ImageGone if self.digest.is_some() => {
                format!("{name}@{digest} is not in the registry, and is used: {holder} ({source})")
            }
            FindingKind::ImageGone => format!("{name} is not in the registry, and is used: {holder} ({source})"),
            FindingKind::NoTagLeft => format!(
                "no tag leads to {registry}/{repository}@{digest}, which is used: {holder} ({source}). It lasts until the \
                 registry collects untagged manifests; tag it again"
            ),
            FindingKind::TagGone => {
                format!("{name} is gone; {source} recorded it at {digest}, which other tags still name: {holder}")
            }
            FindingKind::LastTag => format!(
                "{name} is the last tag of {digest}, which is used by its digest alone: {holder} ({source}). Only that \
                 keeps the tag"
            ),
            FindingKind::RangeEmpty => {
                format!("no tag of {name} is a version in `{range}`, which is used: {holder} ({source})")
            }
        }
    }
}
