//! Tag names in texts that were read but not understood as references.

use std::sync::Arc;

use super::{Digest, Holder, RegistryName, RepositoryName, TagName};

/// The name of a tag, or the beginning of a digest, in a source that names the tag's repository, too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mention {
    /// The registry.
    pub registry: RegistryName,
    /// The repository.
    pub repository: RepositoryName,
    /// The image that it names.
    pub image: MentionedImage,
    /// The word as it was found.
    pub text: Arc<str>,
    /// The place where it occurs.
    pub holder: Arc<Holder>,
}

/// The image that a mention names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MentionedImage {
    /// A tag.
    Tag(TagName),
    /// A manifest, by at least twelve digits of its digest.
    Digest(Digest),
}
