//! Tags that a person, or a restore, protects until a time.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Digest, RegistryName, RepositoryName, TagName};

/// The protection of one tag, and of the digest that it had, until a given time.
///
/// A hold belongs to a registry's endpoint, because the name in the settings may later refer to another registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hold {
    /// The registry's name in the settings when it was set.
    pub registry: RegistryName,
    /// The registry's address, as in [`Registry::endpoint`](super::Registry::endpoint).
    pub endpoint: Arc<str>,
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: TagName,
    /// The digest that the tag had, or `None` if there was no such tag.
    pub digest: Option<Digest>,
    /// The reason given.
    pub reason: String,
    /// Its author: `user@host`.
    pub by: String,
    /// Time at which it was set.
    pub since: Timestamp,
    /// End of the protection, exclusive.
    pub until: Timestamp,
    /// Its origin: a person or a restore.
    pub origin: HoldOrigin,
}

/// A hold that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedHold {
    /// The hold.
    pub hold: Hold,
    /// Time at which it ended: its own, or earlier if a person ended it.
    pub ended_at: Timestamp,
    /// The person who ended it; `None` if its time was over.
    pub ended_by: Option<String>,
}

/// The origin of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HoldOrigin {
    /// The command `tagwarden hold`.
    Person,
    /// A restore, for the tags that it restored.
    Restore,
}

/// A hold and the way in which it matches a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HoldReason {
    /// The way in which the hold matches the tag.
    pub by: HoldMatch,
    /// The hold.
    pub hold: Arc<Hold>,
}

/// The way in which a hold matches a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HoldMatch {
    /// The hold names the tag.
    Tag,
    /// The hold names the tag, which had another digest then (drift). Both are protected.
    DriftedTag,
    /// Another tag was held at this tag's digest.
    Digest,
    /// The tag is an index that contains the held digest.
    IndexContains(Digest),
}

impl Hold {
    /// Returns true if it protects at `now`.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        now < self.until
    }

    /// Returns `registry/repository:tag`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

impl HoldOrigin {
    /// Returns the label used in the state and in reports: `person` or `restore`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Restore => "restore",
        }
    }
}
