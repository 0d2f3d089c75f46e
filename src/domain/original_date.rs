//! The date of a restored tag.

use super::{CompactTime, Date};

/// The date that a restored tag had when it was removed. It counts instead of the time of the restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OriginalDate {
    /// The original time and its origin.
    Known(CompactTime, DateOrigin),
    /// Unknown: the tag had none, or an older version removed it.
    Unknown,
}

/// The origin of a tag's date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DateOrigin {
    /// The registry: the tag's last push.
    Pushed,
    /// The image: its creation.
    Created,
    /// Tagwarden: the first sight of the tag at its digest.
    FirstSeen,
}

impl DateOrigin {
    /// Returns the label used in the state and in reports: `pushed`, `created` or `first-seen`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Pushed => "pushed",
            Self::Created => "created",
            Self::FirstSeen => "first-seen",
        }
    }

    /// Returns the origin with that label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::Pushed, Self::Created, Self::FirstSeen].into_iter().find(|origin| origin.label() == label)
    }
}

impl From<Date> for OriginalDate {
    fn from(date: Date) -> Self {
        match date {
            Date::Pushed(at) => Self::Known(at.into(), DateOrigin::Pushed),
            Date::Created(at) => Self::Known(at.into(), DateOrigin::Created),
            Date::FirstSeen(at) => Self::Known(at.into(), DateOrigin::FirstSeen),
            Date::Original(at, origin) => Self::Known(at.into(), origin),
            Date::Unknown(_) => Self::Unknown,
        }
    }
}
