//! Changes to a generated repository: removed tags, and repeated pushes of tags and manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::world::to_index;
use crate::demo::registry::content::Tag;
use crate::demo::registry::content::time_ordered_map::{TimeOrderedMap, UpdateTime};
use crate::domain::Digest;

/// A set of numbers with one bit each.
#[derive(Debug, Default)]
pub(super) struct NumberSet {
    words: Vec<u64>,
    count: usize,
}

impl NumberSet {
    pub(super) fn contains(&self, number: u32) -> bool {
        self.words.get(to_index(number / 64)).is_some_and(|word| *word & (1_u64 << (number % 64)) != 0)
    }

    pub(super) fn insert(&mut self, number: u32) {
        if self.contains(number) {
            return;
        }
        let place = to_index(number / 64);
        if self.words.len() <= place {
            self.words.resize(place + 1, 0);
        }
        self.words[place] |= 1_u64 << (number % 64);
        self.count += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }
}

/// A manifest that was pushed again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repushed {
    pub(super) position: u32,
    pub(super) updated: Timestamp,
}

impl UpdateTime for Repushed {
    fn updated(&self) -> Timestamp {
        self.updated
    }
}

/// The changes of one repository.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Generated tags that were removed or overwritten.
    pub(super) replaced_tags: NumberSet,
    /// Tags that were pushed and still exist.
    pub(super) tags: TimeOrderedMap<Arc<str>, Tag>,
    /// The names of those tags, by digest.
    pub(super) names: BTreeMap<Digest, BTreeSet<Arc<str>>>,
    /// The positions of `repushed`.
    pub(super) replaced_manifests: NumberSet,
    pub(super) repushed: TimeOrderedMap<Digest, Repushed>,
    /// The time of the last push.
    pub(super) updated: Option<Timestamp>,
}

impl Changes {
    pub(super) fn put_tag(&mut self, name: &str, tag: Tag) {
        self.remove_put_tag(name);
        let name: Arc<str> = name.into();
        self.names.entry(tag.digest.clone()).or_default().insert(Arc::clone(&name));
        self.tags.insert(name, tag);
    }

    /// Removes a pushed tag. Returns false if it does not exist.
    pub(super) fn remove_put_tag(&mut self, name: &str) -> bool {
        let Some(tag) = self.tags.remove(name) else { return false };
        if let Some(names) = self.names.get_mut(&tag.digest) {
            names.remove(name);
        }
        true
    }
}
