//! The evidence about one registry, prepared for its repositories one after another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::check::RegistryChecker;
use super::evaluate::RegistryEvaluation;
use super::mentions::find_in_repository;
use crate::domain::{
    Claims, Digest, Drift, Mention, Registry, RegistryName, Repository, RepositoryName, Rules, SourceName,
    UntaggedManifest,
};

/// The facts about untagged manifests before a registry is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct UntaggedManifests<'a> {
    /// Manifests whose waiting period may be over.
    pub candidates: &'a [UntaggedManifest],
    /// Other manifests from which tags were removed.
    pub others: Option<&'a BTreeSet<(RegistryName, RepositoryName, Digest)>>,
}

/// Rules and evidence for one registry at one time.
pub struct Evidence<'a> {
    pub(super) rules: &'a Rules,
    pub(super) registry: &'a Registry,
    pub(super) claims: &'a Claims,
    pub(super) at: Timestamp,
    pub(super) evaluation: RegistryEvaluation<'a>,
    pub(super) checker: RegistryChecker<'a>,
    pub(super) untagged: HashMap<&'a RepositoryName, Vec<&'a UntaggedManifest>>,
    pub(super) others: Option<&'a BTreeSet<(RegistryName, RepositoryName, Digest)>>,
}

impl<'a> Evidence<'a> {
    /// Prepares the sources' evidence on a registry as of `at`. The repositories in `registry` are not used. `texts`
    /// are the displayed claims, see [`claim_texts`](super::claim_texts).
    #[must_use]
    pub fn new(
        rules: &'a Rules,
        registry: &'a Registry,
        (claims, texts): (&'a Claims, &'a [Arc<str>]),
        untagged: UntaggedManifests<'a>,
        at: Timestamp,
    ) -> Self {
        let mut by_repository: HashMap<_, Vec<_>> = HashMap::new();
        for one in untagged.candidates.iter().filter(|one| one.registry == registry.name) {
            by_repository.entry(&one.repository).or_default().push(one);
        }
        Self {
            rules,
            registry,
            claims,
            at,
            evaluation: RegistryEvaluation::new(rules, registry, (claims, texts), at),
            checker: RegistryChecker::new(rules, registry, claims, at),
            untagged: by_repository,
            others: untagged.others,
        }
    }

    /// Returns the rules.
    #[must_use]
    pub fn rules(&self) -> &'a Rules {
        self.rules
    }

    /// Returns the records of repositories that the registry does not have, given the names of those that it has.
    #[must_use]
    pub fn missing_repositories<'r>(&self, names: impl Iterator<Item = &'r str>) -> Vec<Drift> {
        let mut drift = Vec::new();
        self.evaluation.claims.add_missing_repositories(self.registry, names, &mut drift);
        drift
    }

    /// Returns the untagged manifests of one repository, by digest.
    pub(super) fn untagged_in(&self, repository: &RepositoryName) -> BTreeMap<&'a Digest, &'a UntaggedManifest> {
        self.untagged.get(repository).into_iter().flatten().map(|&one| (&one.digest, one)).collect()
    }

    /// Returns the mentions in texts whose mentions are only reported.
    pub(super) fn reported_mentions(&self, repository: &Repository) -> Vec<(SourceName, Mention)> {
        let former = self.untagged.get(&repository.name).map(Vec::as_slice).unwrap_or_default();
        let sources = self.claims.sources.iter().filter(|source| source.covers(&self.registry.name));
        let texts = sources.filter_map(|source| {
            let texts = self.claims.texts.get(&source.name)?;
            (!texts.report_only.is_empty()).then_some((&source.name, &texts.report_only))
        });
        let found = texts.flat_map(|(source, texts)| {
            let found = find_in_repository(self.registry, repository, former, texts);
            found.into_iter().map(move |mention| (source.clone(), mention))
        });
        found.collect()
    }
}
