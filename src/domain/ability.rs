//! Removal support of a registry: whether tags can be removed from it, and where that is known from.

use std::sync::Arc;

use jiff::Timestamp;

/// The ability of a registry to remove a tag in the chosen way, found out without sending anything that could remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovalAbility {
    /// It can, as far as is known.
    Able,
    /// Nothing says whether it can: the first enforcing run finds out with one tag. Refuses nothing.
    Unknown,
    /// Nobody looked: nothing there could be removed, or the registry is read only for this run.
    NotChecked,
    /// It cannot, for the given reason.
    Impossible(RemovalObstacle),
}

/// Why a registry cannot remove tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovalObstacle {
    /// It refuses to delete by tag, as distribution 2.x does (400 or 405).
    NoUntag,
    /// It refuses deletions of any kind.
    DeletesDisabled,
    /// The settings say so (`can_untag = "no"`).
    Setting,
    /// The registry is a product that cannot delete a tag and leave its manifest.
    Product(Product),
    /// The credentials do not allow it.
    Denied {
        /// What is missing, and what to do about it.
        message: String,
    },
    /// An untag there destroyed the manifest; it was marked at that time.
    DestroysManifest {
        /// When that was seen.
        since: Timestamp,
    },
    /// Asking failed.
    CheckFailed {
        /// What happened.
        message: String,
    },
}

/// The origin of a [`RemovalAbility`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AbilityOrigin {
    /// Nowhere: it is not known.
    #[default]
    Unknown,
    /// The settings (`can_untag`).
    Settings,
    /// Removals that were done there, the last at that time.
    Removals(Timestamp),
    /// The registry's answer to a deletion, at that time: of a tag, or of something that cannot exist
    /// (`tagwarden registries probe`).
    Response(Timestamp),
    /// The registry's own signs: see [`Product`].
    Product,
    /// Its kind in the settings: Azure Container Registry has an operation for it.
    Kind,
}

impl AbilityOrigin {
    /// The label used in reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Settings => "settings",
            Self::Removals(_) => "removals",
            Self::Response(_) => "response",
            Self::Product => "product",
            Self::Kind => "kind",
        }
    }

    /// The time of the removal or answer, where it is known from one.
    #[must_use]
    pub fn at(self) -> Option<Timestamp> {
        match self {
            Self::Removals(at) | Self::Response(at) => Some(at),
            Self::Unknown | Self::Settings | Self::Product | Self::Kind => None,
        }
    }
}

/// A registry product, recognised by what it says of itself in answers to GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Its name, such as `Harbor`.
    pub name: &'static str,
    /// Its version, where it says.
    pub version: Option<Arc<str>>,
    /// The sign that it was recognised by, such as ``the header `X-JFrog-Version` ``.
    pub recognized_by: &'static str,
    /// The effect of a deletion by tag there.
    pub untag: UntagEffect,
    /// The consequence for removals, and what can be done: a sentence without its full stop.
    pub consequence: &'static str,
}

/// The effect of the deletion of a tag on the manifest behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UntagEffect {
    /// The manifest stays, at least until a garbage collection.
    LeavesManifest,
    /// The manifest goes with its last tag.
    DeletesManifest,
    /// There is no such deletion.
    Unsupported,
    /// Nobody knows, or it depends on the version, which is not told.
    Unknown,
}
