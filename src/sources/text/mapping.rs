//! Mappings of a document, as steps of a path through it.

use crate::sources::document::Node;

/// Most keys of a mapping whose meanings are related. Larger mappings are data.
pub(super) const MOST_KEYS: usize = 1000;

/// An entry of a mapping: the line of its key, the key, its value.
pub(super) type Entry = (u32, String, Node);

/// A mapping and the key of it that a path follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'n> {
    pub(super) key: &'n str,
    pub(super) entries: &'n [Entry],
}
