//! Indexes and referrers of one repository, collected once for all checks of its removals.

use crate::domain::{Digest, DigestMap, DigestSet, Manifest, Repository};

/// The ties between the manifests of a repository.
pub(super) struct Ties<'a> {
    pub(super) repository: &'a Repository,
    /// The manifests that list or refer to others: there are few among many.
    pub(super) tied: DigestMap<&'a Digest, &'a Manifest>,
    /// Everything that an index lists.
    contained: DigestSet<&'a Digest>,
    pub(super) referrers: DigestMap<&'a Digest, Vec<&'a Digest>>,
}

impl<'a> Ties<'a> {
    pub(super) fn of(repository: &'a Repository) -> Self {
        let (mut tied, mut contained) = (DigestMap::default(), DigestSet::default());
        let mut referrers: DigestMap<&Digest, Vec<&Digest>> = DigestMap::default();
        for (digest, manifest) in &repository.manifests {
            contained.extend(&manifest.children);
            if let Some(subject) = manifest.subject.as_deref() {
                referrers.entry(subject).or_default().push(digest);
            }
            if manifest.subject.is_some() || !manifest.children.is_empty() {
                tied.insert(digest, manifest);
            }
        }
        Self { repository, tied, contained, referrers }
    }

    /// Returns the manifests that a retained manifest keeps: its children, its referrers, and, if whole manifests are
    /// removed, its subject.
    pub(super) fn held_by(&self, digest: &Digest, whole_manifests: bool) -> impl Iterator<Item = &'a Digest> {
        let manifest = self.tied.get(digest).copied();
        let listed = manifest.into_iter().flat_map(|manifest| &manifest.children);
        let subject = manifest.filter(|_| whole_manifests).and_then(|manifest| manifest.subject.as_deref());
        listed.chain(subject).chain(self.referrers.get(digest).into_iter().flatten().copied())
    }

    /// Returns true if something lists the manifest, or it refers to something.
    pub(super) fn bind(&self, digest: &Digest) -> bool {
        self.contained.contains(digest) || self.tied.get(digest).is_some_and(|manifest| manifest.subject.is_some())
    }
}
