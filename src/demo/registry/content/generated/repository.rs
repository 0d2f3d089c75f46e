//! The current state of a generated repository: rows of its lists, computed on request.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use jiff::Timestamp;

use super::changes::Changes;
use super::digests::DigestTable;
use super::merge;
use super::world::{Formula, GeneratedWorld, Shape, to_index};
use crate::demo::blob::Blob;
use crate::demo::registry::content::{Child, Order, Reference, Tag};
use crate::domain::Digest;

/// One generated repository.
#[derive(Debug)]
pub(in crate::demo::registry) struct GeneratedRepository<'a> {
    pub(super) formula: &'a Formula,
    pub(super) number: u32,
    pub(super) table: Arc<DigestTable>,
    pub(super) changes: Option<&'a Changes>,
}

/// A manifest as lists have it.
#[derive(Debug)]
pub(in crate::demo::registry) struct ManifestRow {
    pub(in crate::demo::registry) digest: Digest,
    pub(in crate::demo::registry) created: Timestamp,
    pub(in crate::demo::registry) updated: Timestamp,
    pub(in crate::demo::registry) media_type: &'static str,
    pub(in crate::demo::registry) image_size: u64,
    pub(in crate::demo::registry) architecture: Option<&'static str>,
    pub(in crate::demo::registry) os: Option<&'static str>,
    /// The tags that name it, in order.
    pub(in crate::demo::registry) tags: Vec<String>,
}

/// The beginning of a page.
struct Cursor<K> {
    order: Order,
    /// The name of the row before it.
    last: Option<K>,
    /// The update time of that row; `None` if it never existed.
    last_time: Option<Timestamp>,
}

impl<K: Ord> Cursor<K> {
    /// Returns true if a row comes after the cursor.
    fn admits(&self, time: Timestamp, name: &K) -> bool {
        let Some(last) = &self.last else { return true };
        match (self.order, self.last_time) {
            (Order::Name, _) => name > last,
            (_, None) => true,
            (Order::OldestFirst, Some(at)) => (time, name) > (at, last),
            (Order::NewestFirst, Some(at)) => (time, name) < (at, last),
        }
    }

    /// Returns the numbers below `total` whose rows come after the cursor, in its order. Rows must ascend with their
    /// numbers.
    fn numbers(&self, total: u32, row: impl Fn(u32) -> (Timestamp, K)) -> Box<dyn Iterator<Item = u32> + Send> {
        let admitted = |number| {
            let (time, name) = row(number);
            self.admits(time, &name)
        };
        if self.order == Order::NewestFirst {
            return Box::new((0..partition_point(total, admitted)).rev());
        }
        Box::new(partition_point(total, |number| !admitted(number))..total)
    }
}

/// Returns the first number below `total` for which `low` is false, given that it is true for all before.
fn partition_point(total: u32, low: impl Fn(u32) -> bool) -> u32 {
    let (mut from, mut until) = (0, total);
    while from < until {
        let middle = from + (until - from) / 2;
        if low(middle) {
            from = middle + 1;
        } else {
            until = middle;
        }
    }
    from
}

/// Returns true if one row comes before another.
fn stands_before<K: Ord>(order: Order, one: (Timestamp, &K), other: (Timestamp, &K)) -> bool {
    match order {
        Order::Name => one.1 < other.1,
        Order::OldestFirst => one < other,
        Order::NewestFirst => one > other,
    }
}

impl<'a> GeneratedRepository<'a> {
    fn world(&self) -> &GeneratedWorld {
        &self.formula.world
    }

    pub(in crate::demo::registry) fn created(&self) -> Timestamp {
        self.world().manifest_time(0)
    }

    pub(in crate::demo::registry) fn updated(&self) -> Timestamp {
        let changed = self.changes.and_then(|changes| changes.updated);
        changed.unwrap_or_else(|| self.world().tag_time(self.world().tags - 1))
    }

    pub(in crate::demo::registry) fn tag_count(&self) -> usize {
        let (replaced, put) = self.changes.map_or((0, 0), |changes| (changes.replaced_tags.len(), changes.tags.len()));
        to_index(self.world().tags) - replaced + put
    }

    pub(in crate::demo::registry) fn manifest_count(&self) -> u32 {
        self.formula.manifest_count()
    }

    /// Returns a tag.
    pub(in crate::demo::registry) fn tag(&self, name: &str) -> Option<Tag> {
        if let Some(put) = self.changes.and_then(|changes| changes.tags.get(name)) {
            return Some(put.clone());
        }
        let number = self.world().tag_number(name)?;
        self.has_generated_tag(number).then(|| self.generated_tag(number))
    }

    /// Returns true if a generated tag was neither removed nor overwritten.
    pub(super) fn has_generated_tag(&self, number: u32) -> bool {
        self.changes.is_none_or(|changes| !changes.replaced_tags.contains(number))
    }

    pub(super) fn generated_tag(&self, number: u32) -> Tag {
        let time = self.world().tag_time(number);
        Tag {
            digest: self.table.digest(self.world().top_position(self.world().image_of(number))).clone(),
            created: time,
            updated: time,
            attributes: self.world().tag_attributes(number),
        }
    }

    /// Returns the tags after `last` in that order; all of them if a list by time does not know `last`.
    pub(in crate::demo::registry) fn tags_after<'s>(
        &'s self,
        order: Order,
        last: Option<&str>,
    ) -> impl Iterator<Item = (String, Tag)> + use<'s, 'a> {
        let put_time = |name: &str| self.changes.and_then(|changes| changes.tags.time_of(name));
        let generated_time = |name: &str| self.world().tag_number(name).map(|number| self.world().tag_time(number));
        let last_time = last.and_then(|name| put_time(name).or_else(|| generated_time(name)));
        let cursor = Cursor { order, last: last.map(str::to_owned), last_time };
        let numbers = cursor
            .numbers(self.world().tags, |number| (self.world().tag_time(number), GeneratedWorld::tag_name(number)));
        let generated = numbers
            .filter(move |number| self.has_generated_tag(*number))
            .map(move |number| (GeneratedWorld::tag_name(number), self.generated_tag(number)));
        let put = self.changes.into_iter().flat_map(move |changes| changes.tags.rows_after::<str>(order, None));
        let put = put.map(|(name, tag)| (name.to_string(), tag.clone()));
        let put = put.filter(move |(name, tag)| cursor.admits(tag.updated, name));
        merge(generated, put, move |one, other| {
            stands_before(order, (one.1.updated, &one.0), (other.1.updated, &other.0))
        })
    }

    /// Returns the positions of the manifests after `last` in that order.
    pub(in crate::demo::registry) fn positions_after<'s>(
        &'s self,
        order: Order,
        last: Option<&Digest>,
    ) -> impl Iterator<Item = u32> + use<'s, 'a> {
        let last_time =
            last.and_then(|digest| self.table.position(digest)).map(|position| self.manifest_updated(position));
        let cursor = Cursor { order, last: last.cloned(), last_time };
        let by_digest = order == Order::Name;
        let table = &self.table;
        let to_position = move |number| if by_digest { table.at_rank(number) } else { number };
        let numbers = cursor.numbers(self.manifest_count(), |number| {
            let position = to_position(number);
            (self.world().manifest_time(position), table.digest(position).clone())
        });
        let generated = numbers
            .map(to_position)
            .filter(move |position| self.changes.is_none_or(|changes| !changes.replaced_manifests.contains(*position)));
        let repushed =
            self.changes.into_iter().flat_map(move |changes| changes.repushed.rows_after::<Digest>(order, None));
        let repushed = repushed.filter(move |(digest, row)| cursor.admits(row.updated, digest));
        let repushed = repushed.map(|(_, row)| row.position);
        merge(generated, repushed, move |one, other| {
            let place = |position: u32| (self.manifest_updated(position), self.table.digest(position));
            stands_before(order, place(*one), place(*other))
        })
    }

    fn manifest_updated(&self, position: u32) -> Timestamp {
        let repushed = self.changes.and_then(|changes| changes.repushed.get(self.table.digest(position)));
        repushed.map_or_else(|| self.world().manifest_time(position), |repushed| repushed.updated)
    }

    /// Returns the position of a manifest.
    pub(in crate::demo::registry) fn position(&self, digest: &Digest) -> Option<u32> {
        self.table.position(digest)
    }

    /// Returns the position of the manifest of a reference.
    pub(in crate::demo::registry) fn resolve(&self, reference: &Reference) -> Option<u32> {
        match reference {
            Reference::Tag(tag) => self.position(&self.tag(tag)?.digest),
            Reference::Digest(digest) => self.position(digest),
        }
    }

    /// Returns the manifest at a position.
    pub(in crate::demo::registry) fn manifest_row(&self, position: u32) -> ManifestRow {
        let Shape { media_type, image_size, architecture, os } = self.formula.shape(position);
        let digest = self.table.digest(position).clone();
        let image = position / self.world().manifests_per_image();
        let top = self.world().top_position(image) == position;
        let generated = top.then(|| self.world().tags_of(image)).into_iter().flatten();
        let generated = generated.filter(|tag| self.has_generated_tag(*tag)).map(GeneratedWorld::tag_name);
        let put = self.changes.and_then(|changes| changes.names.get(&digest)).into_iter().flatten();
        let tags: BTreeSet<String> = generated.chain(put.map(ToString::to_string)).collect();
        ManifestRow {
            created: self.world().manifest_time(position),
            updated: self.manifest_updated(position),
            digest,
            media_type,
            image_size,
            architecture,
            os,
            tags: tags.into_iter().collect(),
        }
    }

    /// Returns the bytes of the manifest at a position.
    pub(in crate::demo::registry) fn manifest_bytes(&self, position: u32) -> Bytes {
        self.formula.manifest(self.number, position).bytes
    }

    /// Returns the media type of the manifest at a position.
    pub(in crate::demo::registry) fn media_type(&self, position: u32) -> &'static str {
        self.formula.shape(position).media_type
    }

    /// Returns the digest of the manifest at a position.
    pub(in crate::demo::registry) fn digest(&self, position: u32) -> &Digest {
        self.table.digest(position)
    }

    /// Returns the children of the index at a position.
    pub(in crate::demo::registry) fn children(&self, position: u32) -> Vec<Child> {
        self.formula.manifest(self.number, position).children
    }

    /// Returns a blob: a configuration, the layer, or the statement of the attestations.
    pub(in crate::demo::registry) fn blob(&self, digest: &Digest) -> Option<Blob> {
        let shared = [&self.formula.layer, &self.formula.statement];
        if let Some(blob) = shared.into_iter().find(|blob| blob.digest() == digest) {
            return Some(blob.clone());
        }
        let position = self.table.position_of_config(self.formula, self.number, digest)?;
        self.formula.manifest(self.number, position).config
    }
}
