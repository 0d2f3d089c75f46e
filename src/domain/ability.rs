//! Removal support of a registry: the ability to remove its tags, and the origin of that knowledge.

use std::sync::Arc;

use jiff::Timestamp;

/// The ability of a registry to remove a tag in the chosen way, found out without sending anything that could remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovalAbility {
    /// It can, as far as is known.
    Able,
    /// Unknown: the first enforcing run finds out with one tag. Refuses nothing.
    Unknown,
    /// Not checked: no removal was planned there, or the registry is read-only for this run.
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
    /// The product that the settings name has no such removal.
    Kind {
        /// The product's own reason, and the settings that change it, if there are any.
        message: String,
    },
    /// The credentials do not allow it.
    Denied {
        /// The missing permission, and the remedy.
        message: String,
    },
    /// An untag there destroyed the manifest; it was marked at that time.
    DestroysManifest {
        /// Time of the untag that destroyed the manifest.
        since: Timestamp,
    },
    /// Asking failed.
    CheckFailed {
        /// The failure.
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
    /// The product, recognized by signs in its answers: see [`Product`].
    Product,
    /// Its kind in the settings: Azure Container Registry has an operation for it.
    Kind,
}

impl AbilityOrigin {
    /// Returns the label used in reports.
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

    /// Returns the time of the removal or answer, if known from one.
    #[must_use]
    pub fn at(self) -> Option<Timestamp> {
        match self {
            Self::Removals(at) | Self::Response(at) => Some(at),
            Self::Unknown | Self::Settings | Self::Product | Self::Kind => None,
        }
    }
}

/// A registry product, recognized by what it reports about itself in answers to GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Its name, such as `Harbor`.
    pub name: &'static str,
    /// Its version, if reported.
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
    /// The manifest remains, at least until a garbage collection.
    LeavesManifest,
    /// The manifest is deleted with its last tag.
    DeletesManifest,
    /// The product has no deletion by tag.
    Unsupported,
    /// Unknown, or dependent on the version, which the product does not report.
    Unknown,
}
