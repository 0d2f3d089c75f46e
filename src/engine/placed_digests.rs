//! Claimed digests that were found in the registries.
//!
//! An image id that is a manifest's digest somewhere is not a configuration's, so it names no unread image. That
//! requires reading all repositories: earlier decisions assume that an id not found yet is in none.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{Claims, Digest, DigestSet, Inventory, RegistryName, Repository, SourceOutcome};

/// A claimed digest that was assumed to be absent: from one registry, or, without one, as a manifest anywhere.
pub type AbsentDigest = (Option<RegistryName>, Digest);

/// The claimed digests that were found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlacedDigests {
    /// The searched digests.
    wanted: DigestSet<Digest>,
    /// Digests of manifests, in any registry.
    manifests: DigestSet<Digest>,
    /// Digests of manifests and configurations, by registry.
    known: BTreeMap<RegistryName, DigestSet<Digest>>,
}

impl PlacedDigests {
    /// Creates a search with nothing found yet; every claimed digest is searched.
    #[must_use]
    pub fn new(claims: &Claims) -> Self {
        let claimed = claims.sources.iter().flat_map(SourceOutcome::claims);
        Self { wanted: claimed.filter_map(|claim| claim.image.digest.clone()).collect(), ..Self::default() }
    }

    /// Returns the claimed digests in a whole inventory.
    #[must_use]
    pub fn of(inventory: &Inventory, claims: &Claims) -> Self {
        let mut found = Self::new(claims);
        for registry in &inventory.registries {
            for repository in &registry.repositories {
                found.add(&registry.name, repository);
            }
        }
        found
    }

    /// Searches a repository for them.
    pub fn add(&mut self, registry: &RegistryName, repository: &Repository) {
        if self.wanted.is_empty() {
            return;
        }
        for row in repository.listed.iter().filter(|row| self.wanted.contains(&row.digest)) {
            self.manifests.insert(row.digest.clone());
            self.known.entry(registry.clone()).or_default().insert(row.digest.clone());
        }
        for (digest, manifest) in &repository.manifests {
            let config = manifest.config.as_deref().filter(|config| self.wanted.contains(*config));
            let own = Some(digest).filter(|digest| self.wanted.contains(*digest));
            self.manifests.extend(own.cloned());
            if config.is_some() || own.is_some() {
                let known = self.known.entry(registry.clone()).or_default();
                known.extend(own.into_iter().chain(config).cloned());
            }
        }
    }

    /// Returns the number of digests that were found.
    #[must_use]
    pub fn len(&self) -> usize {
        self.manifests.len() + self.known.values().map(DigestSet::len).sum::<usize>()
    }

    /// Returns true if none was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the findings of others.
    pub fn merge(&mut self, other: Self) {
        self.wanted.extend(other.wanted);
        self.manifests.extend(other.manifests);
        for (registry, known) in other.known {
            self.known.entry(registry).or_default().extend(known);
        }
    }

    /// Returns true if a manifest of some registry has that digest.
    #[must_use]
    pub fn is_manifest(&self, digest: &Digest) -> bool {
        self.manifests.contains(digest)
    }

    /// Returns true if a manifest or configuration of that registry has that digest.
    #[must_use]
    pub fn is_known(&self, registry: &RegistryName, digest: &Digest) -> bool {
        self.known.get(registry).is_some_and(|known| known.contains(digest))
    }

    /// Returns true if one of the digests was found meanwhile.
    #[must_use]
    pub fn has_any(&self, assumed_absent: &BTreeSet<AbsentDigest>) -> bool {
        assumed_absent.iter().any(|(registry, digest)| match registry {
            Some(registry) => self.is_known(registry, digest),
            None => self.is_manifest(digest),
        })
    }

    /// Adapts it to other claims; earlier findings remain.
    #[must_use]
    pub fn for_claims(mut self, claims: &Claims) -> Self {
        self.wanted.extend(Self::new(claims).wanted);
        self
    }
}
