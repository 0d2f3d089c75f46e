//! What is known of the manifests of a repository that no tag references, from earlier runs and by the registry's word.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Digest, TagName};

/// The past of the manifests that no tag references. Policies with `untagged` decide by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UntaggedHistory {
    /// The time of this look: a series of runs that begins with it begins then.
    pub read_at: Timestamp,
    /// The time since which every run found a manifest free. One without an entry was not found free by the last run.
    pub free_since: BTreeMap<Digest, Timestamp>,
    /// The time at which the registry says that a manifest changed last, where it says so.
    pub changed_at: BTreeMap<Digest, Timestamp>,
    /// The tags that manifests had and that somebody else removed, as far as earlier runs saw them.
    pub former_tags: BTreeMap<Digest, Vec<TagName>>,
}

impl UntaggedHistory {
    /// The beginning of the series of runs that found a manifest free, if this one does: this look, where it is the first.
    #[must_use]
    pub fn series_start(&self, digest: &Digest) -> Timestamp {
        self.free_since.get(digest).copied().unwrap_or(self.read_at)
    }

    /// The tags that a manifest had and that somebody else removed.
    #[must_use]
    pub fn former_tags_of(&self, digest: &Digest) -> &[TagName] {
        self.former_tags.get(digest).map(Vec::as_slice).unwrap_or_default()
    }
}
