//! Generated repositories: any number of tags, with rows computed on request instead of stored.
//!
//! Removed tags and repeated pushes are recorded beside the formula. Any other change first loads the repository into
//! memory: see [`Content::materialize`].

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use jiff::Timestamp;

use self::changes::{Changes, Repushed};
use self::digests::DigestTables;
use self::world::Formula;
use super::{Attributes, Content, Reference, Tag};
use crate::domain::Digest;

mod changes;
mod digests;
mod repository;
mod world;

pub(in crate::demo::registry) use repository::{GeneratedRepository, ManifestRow};
pub use world::GeneratedWorld;

/// The generated repositories of a registry.
#[derive(Debug)]
pub(super) struct GeneratedContent {
    formula: Formula,
    /// The numbers of the repositories that are not in memory, by name.
    numbers: BTreeMap<String, u32>,
    changes: BTreeMap<u32, Changes>,
    tables: DigestTables,
}

impl GeneratedContent {
    fn repository(&self, name: &str) -> Option<GeneratedRepository<'_>> {
        let number = *self.numbers.get(name)?;
        let table = self.tables.get(&self.formula, number);
        Some(GeneratedRepository { formula: &self.formula, number, table, changes: self.changes.get(&number) })
    }
}

impl Content {
    /// Adds repositories that are computed on request. Clients see them like any others; the methods of this type do
    /// not until [`Self::materialize`].
    ///
    /// # Panics
    /// If a field of the world is out of its documented range.
    pub fn generate(&mut self, world: GeneratedWorld) {
        let names = (0..world.repositories).map(|number| (GeneratedWorld::repository_name(number), number));
        let numbers = names.collect();
        let formula = Formula::new(world);
        let tables = DigestTables::default();
        self.generated = Some(Box::new(GeneratedContent { formula, numbers, changes: BTreeMap::new(), tables }));
    }

    /// Computes the digests of a generated repository ahead of the first request to it.
    pub fn prepare_generated(&self, repository: &str) {
        drop(self.generated_repository(repository));
    }

    /// Returns true for a generated repository that is not in memory.
    pub(in crate::demo::registry) fn is_generated(&self, name: &str) -> bool {
        self.generated.as_ref().is_some_and(|generated| generated.numbers.contains_key(name))
    }

    /// Returns a generated repository that is not in memory.
    pub(in crate::demo::registry) fn generated_repository(&self, name: &str) -> Option<GeneratedRepository<'_>> {
        self.generated.as_ref()?.repository(name)
    }

    /// Merges the sorted names `held` with the generated ones after `last`.
    pub(in crate::demo::registry) fn with_generated_names<'a>(
        &'a self,
        held: impl Iterator<Item = &'a str>,
        last: &str,
    ) -> impl Iterator<Item = &'a str> {
        let after = (Bound::Excluded(last), Bound::Unbounded);
        let generated: Vec<&'a str> = self.generated.as_ref().map_or_else(Vec::new, |generated| {
            generated.numbers.range::<str, _>(after).map(|(name, _)| name.as_str()).collect()
        });
        merge(held, generated.into_iter(), |one, other| one < other)
    }

    /// Removes a tag of a generated repository. Returns false if the tag does not exist, or if deletion rules apply,
    /// which need the repository in memory.
    pub(in crate::demo::registry) fn remove_generated_tag(&mut self, name: &str, tag: &str) -> bool {
        if self.has_deletion_rules() {
            return false;
        }
        let Some((number, generated)) = self.generated_number(name) else { return false };
        let of_formula = generated.formula.world.tag_number(tag);
        let changes = generated.changes.entry(number).or_default();
        if changes.remove_put_tag(tag) {
            return true;
        }
        let Some(tag) = of_formula.filter(|tag| !changes.replaced_tags.contains(*tag)) else { return false };
        changes.replaced_tags.insert(tag);
        true
    }

    /// Pushes a manifest that a generated repository already has, by digest or tag. Returns false if the manifest does
    /// not exist, or if deletion rules apply, which need the repository in memory.
    pub(in crate::demo::registry) fn put_generated(
        &mut self,
        name: &str,
        reference: &Reference,
        digest: &Digest,
        media_type: &str,
    ) -> bool {
        let now = self.now;
        if self.has_deletion_rules() {
            return false;
        }
        let Some(found) = self.generated_repository(name) else { return false };
        let known = found.position(digest).filter(|position| found.media_type(*position) == media_type);
        let Some(position) = known else { return false };
        let old = match reference {
            Reference::Tag(tag) => found.tag(tag),
            Reference::Digest(_) => None,
        };
        let Some((number, generated)) = self.generated_number(name) else { return false };
        let of_formula = match reference {
            Reference::Tag(tag) => generated.formula.world.tag_number(tag),
            Reference::Digest(_) => None,
        };
        let changes = generated.changes.entry(number).or_default();
        changes.updated = Some(now);
        changes.replaced_manifests.insert(position);
        changes.repushed.insert(digest.clone(), Repushed { position, updated: now });
        if let Reference::Tag(tag) = reference {
            let (created, attributes) =
                old.map_or_else(|| (now, Attributes::default()), |old| (old.created, old.attributes));
            if let Some(replaced) = of_formula {
                changes.replaced_tags.insert(replaced);
            }
            changes.put_tag(tag, Tag { digest: digest.clone(), created, updated: now, attributes });
        }
        true
    }

    fn generated_number(&mut self, name: &str) -> Option<(u32, &mut GeneratedContent)> {
        let generated = self.generated.as_deref_mut()?;
        let number = *generated.numbers.get(name)?;
        Some((number, generated))
    }

    /// Returns true if a retention policy or soft delete is enabled.
    fn has_deletion_rules(&self) -> bool {
        let rules = self.rules();
        rules.retention_days.is_some() || rules.soft_delete_days.is_some()
    }

    /// Loads a generated repository with its changes into memory. Does nothing for any other repository.
    ///
    /// # Panics
    /// If the formula makes an invalid manifest, which would be a bug of this module.
    pub fn materialize(&mut self, name: &str) {
        let Some(mut generated) = self.generated.take() else { return };
        if let Some(number) = generated.numbers.remove(name) {
            let changes = generated.changes.remove(&number).unwrap_or_default();
            let now = self.now;
            self.put_formula(name, number, &generated.formula);
            self.put_changes(name, &generated.formula, &changes);
            self.now = now;
        }
        self.generated = Some(generated);
    }

    /// Stores everything as it was generated.
    fn put_formula(&mut self, name: &str, number: u32, formula: &Formula) {
        let world = &formula.world;
        self.put_blob(name, &formula.layer);
        if world.attestations {
            self.put_blob(name, &formula.statement);
        }
        let images = (0..world.images()).flat_map(|image| formula.manifests(number, image));
        let mut tops: Vec<Digest> = Vec::new();
        for (position, manifest) in (0..).zip(images) {
            self.now = world.manifest_time(position);
            if let Some(config) = &manifest.config {
                self.put_blob(name, config);
            }
            let reference = Reference::Digest(manifest.digest.clone());
            self.put_manifest(name, &reference, manifest.media_type, manifest.bytes)
                .expect("a generated manifest comes after all that it names");
            if world.top_position(position / world.manifests_per_image()) == position {
                tops.push(manifest.digest);
            }
        }
        let repository = self.repository_mut(name);
        let tags = (0..).zip(&tops).flat_map(move |(image, digest)| world.tags_of(image).map(move |tag| (tag, digest)));
        for (tag, digest) in tags {
            let name = GeneratedWorld::tag_name(tag);
            repository.point_tag(&name, digest, world.tag_time(tag));
            if let Some(found) = repository.tags.get_mut(name.as_str()) {
                found.attributes = world.tag_attributes(tag);
            }
        }
        repository.created = world.manifest_time(0);
        repository.updated = world.tag_time(world.tags - 1);
    }

    fn put_changes(&mut self, name: &str, formula: &Formula, changes: &Changes) {
        let repository = self.repository_mut(name);
        for tag in (0..formula.world.tags).filter(|tag| changes.replaced_tags.contains(*tag)) {
            repository.untag(&GeneratedWorld::tag_name(tag));
        }
        for (tag, put) in changes.tags.iter() {
            repository.point_tag(tag, &put.digest, put.updated);
            repository.tags.insert(Arc::clone(tag), put.clone());
        }
        for (digest, repushed) in changes.repushed.iter() {
            if let Some(mut manifest) = repository.manifests.remove(digest) {
                manifest.updated = repushed.updated;
                repository.manifests.insert(digest.clone(), manifest);
            }
        }
        let generated_until: Timestamp = formula.world.tag_time(formula.world.tags - 1);
        repository.updated = changes.updated.unwrap_or(generated_until);
    }
}

/// Merges two sequences that are sorted by `stands_before`.
fn merge<T>(
    one: impl Iterator<Item = T>,
    other: impl Iterator<Item = T>,
    stands_before: impl Fn(&T, &T) -> bool,
) -> impl Iterator<Item = T> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || {
        let from_other = match (one.peek(), other.peek()) {
            (Some(first), Some(second)) => !stands_before(first, second),
            (first, _) => first.is_none(),
        };
        if from_other { other.next() } else { one.next() }
    })
}
