//! Tags that a person, or a restore, protects until a time.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Digest, RegistryName, RepositoryName, TagName};

/// The protection of one tag, and of the digest that it had, until a time.
///
/// It belongs to a registry's endpoint: the name in the settings may come to mean another registry.
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
    /// The reason that was given.
    pub reason: String,
    /// Who set it: `user@host`.
    pub by: String,
    /// When it was set.
    pub since: Timestamp,
    /// When it ends; that instant is no longer part of it.
    pub until: Timestamp,
    /// Whether a person or a restore set it.
    pub origin: HoldOrigin,
}

/// What set a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HoldOrigin {
    /// `tagwarden hold`.
    Person,
    /// A restore, of what it put back.
    Restore,
}

/// A hold and how it reaches a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HoldReason {
    /// How the hold reaches the tag.
    pub by: HoldMatch,
    /// The hold.
    pub hold: Arc<Hold>,
}

/// How a hold reaches a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HoldMatch {
    /// The hold names the tag.
    Tag,
    /// The hold names the tag, which had another digest then (drift). Both stay.
    DriftedTag,
    /// Another tag was held at this tag's digest.
    Digest,
    /// The tag is an index that contains the held digest.
    IndexContains(Digest),
}

impl Hold {
    /// Whether it protects at `now`.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        now < self.until
    }

    /// `registry/repository:tag`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

impl HoldOrigin {
    /// The label used in the state and in reports: `person` or `restore`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Restore => "restore",
        }
    }
}
