//! Mappings of a document, as paths through it see them.

use crate::sources::document::Node;

/// Keys of a mapping that are looked at for what the others mean. What has more is data.
pub(super) const MOST_KEYS: usize = 1000;

/// An entry of a mapping: the line of its key, the key, its value.
pub(super) type Entry = (u32, String, Node);

/// A mapping and the key of it that a path follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'n> {
    pub(super) key: &'n str,
    pub(super) entries: &'n [Entry],
}
