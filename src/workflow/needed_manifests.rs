//! Manifests that a decision needs: indexes that may contain a tag's image, and configurations whose digest a
//! workload's image id may be.
//!
//! Deciding is pure and reports the facts that it lacks. This reads them and repeats the decision, until it lacks
//! nothing or nothing more can be read. Unread parts stay undecided, so that a fault in here retains too much and never
//! too little.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;

use super::App;
use crate::domain::{
    Claims, Digest, Gap, GapTarget, IndexReads, Inventory, Repository, RepositoryName, Rules, UnreadCause,
};
use crate::engine::{self, EvaluatedRepository, Evidence, PlacedDigests, UntaggedManifests};
use crate::registry::{self, ContentCache as _, RawManifest, RegistryError, RegistryErrorKind, RegistryReader};

/// Most manifests that one run reads from registries for their configurations: each read is a pull, which registries
/// count as use.
const MAX_READS: usize = 1_000;
/// Most of them for one repository, while others may need fewer.
const MAX_FIRST_READS: usize = 100;
/// Requests in flight at once; the registry's own rate limit applies as well.
const MAX_CONCURRENT_READS: usize = 8;
/// Failures after which the rest of a repository is left unread.
const MOST_FAILURES: usize = 5;

/// The reads that a run may still make, however often it decides. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct ReadBudget(Arc<AtomicUsize>);

impl Default for ReadBudget {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(MAX_READS)))
    }
}

impl ReadBudget {
    fn remaining(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes at most `wanted` reads, and returns the number taken.
    fn take(&self, wanted: usize) -> usize {
        let less = |left: usize| Some(left.saturating_sub(wanted));
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        before.unwrap_or_else(|left| left).min(wanted)
    }
}

/// The pass in which a repository gets the configurations that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The first pass: a repository that needs many is postponed.
    First,
    /// The last pass, after all others.
    Last,
}

/// A repository whose tags were evaluated, or that was postponed because it needs more reads than the first pass
/// allows.
pub(super) enum Evaluation<'e> {
    Done(Box<EvaluatedRepository<'e>>),
    /// It needs this number of configurations that are not cached.
    PutOff(usize),
}

impl App {
    /// Evaluates the tags of one repository, and reads the manifests that this needs. Nothing is requested twice.
    pub(super) async fn evaluate_reading<'e>(
        &self,
        reader: &Arc<dyn RegistryReader>,
        repository: &mut Repository,
        (evidence, placed): (&Evidence<'e>, &mut PlacedDigests),
        (budget, turn): (&ReadBudget, Turn),
        reads: &mut IndexReads,
    ) -> Evaluation<'e> {
        // Reads that just failed with the repository are not repeated at once.
        let mut requested_indexes = failed_manifests(repository);
        let (mut requested, mut requested_texts) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let evaluated = engine::evaluate_repository(repository, evidence, placed);
            let unread = evaluated.verdicts.unread_indexes.iter();
            let needed: BTreeMap<Digest, UnreadCause> = unread
                .filter(|one| !requested_indexes.contains(&one.digest))
                .map(|one| (one.digest.clone(), one.cause))
                .collect();
            if !needed.is_empty() {
                let digests: BTreeSet<Digest> = needed.keys().cloned().collect();
                reader.read_manifests(repository, &digests, &self.store).await;
                // Rebuilding takes the memory of the whole map once more, for what few manifests leave unused.
                if digests.len() > repository.manifests.len() / 8 {
                    repository.compact();
                }
                placed.add(&reader.settings().name, repository);
                let was_read = |digest| repository.manifests.get(digest).is_some_and(|manifest| !manifest.is_unread());
                for (_, cause) in needed.iter().filter(|(digest, _)| was_read(*digest)) {
                    reads.add(*cause);
                }
                requested_indexes.extend(digests);
                continue;
            }
            let unread = evaluated.verdicts.unread_texts.iter().map(|one| (one.digest.clone(), one.kind));
            let needed: Vec<_> = unread.filter(|one| requested_texts.insert(one.clone())).collect();
            if !needed.is_empty() {
                self.read_texts(reader, repository, needed, evidence.rules(), reads).await;
                continue;
            }
            let unread = evaluated.verdicts.unread.iter().map(|one| &one.digest);
            let needed: Vec<Digest> = unread.filter(|digest| requested.insert((*digest).clone())).cloned().collect();
            if needed.is_empty() {
                return Evaluation::Done(Box::new(evaluated));
            }
            if let Err(missing) = self.read_configurations(reader, repository, needed, (budget, turn)).await {
                return Evaluation::PutOff(missing);
            }
        }
    }

    /// Reads what policies need of a whole inventory.
    pub(super) async fn read_needed(&self, inventory: &mut Inventory, claims: &Claims, rules: &Rules, now: Timestamp) {
        let texts = engine::claim_texts(claims);
        let mut placed = PlacedDigests::of(inventory, claims);
        let budget = ReadBudget::default();
        for registry in &mut inventory.registries {
            let Some(reader) = self.readers.get(&registry.name) else { continue };
            let repositories = std::mem::take(&mut registry.repositories);
            let mut reads = IndexReads::default();
            let mut read = Vec::with_capacity(repositories.len());
            let evidence = Evidence::new(rules, registry, (claims, &texts), UntaggedManifests::default(), now);
            for mut repository in repositories {
                let grounds = (&evidence, &mut placed);
                self.evaluate_reading(reader, &mut repository, grounds, (&budget, Turn::Last), &mut reads).await;
                read.push(repository);
            }
            drop(evidence);
            (registry.repositories, registry.index_reads) = (read, reads);
        }
    }

    /// Reads the configurations of manifests of one repository into its facts. If they exceed the remaining reads of
    /// the run, the repository stays undecided, and those read are cached for the next run.
    ///
    /// # Errors
    /// Returns the number of uncached configurations if the repository has to be postponed. Nothing was read then.
    async fn read_configurations(
        &self,
        reader: &Arc<dyn RegistryReader>,
        repository: &mut Repository,
        digests: Vec<Digest>,
        (budget, turn): (&ReadBudget, Turn),
    ) -> Result<(), usize> {
        let (mut read, mut missing) = (Vec::new(), Vec::new());
        for digest in digests {
            match self.store.manifest(&digest).await {
                Some(raw) => read.push((digest, configuration_digest(&raw))),
                None => missing.push(digest),
            }
        }
        if turn == Turn::First && missing.len() > MAX_FIRST_READS.min(budget.remaining()) {
            return Err(missing.len());
        }
        let allowed = budget.take(missing.len());
        let too_many = missing.len() > allowed;
        if too_many {
            tracing::warn!(
                registry = %reader.settings().name, repository = %repository.name, images = missing.len(),
                left = allowed,
                "too many images would have to be read to tell which of them an image id means; they stay undecided"
            );
            missing.truncate(allowed);
        }
        let mut failures = 0;
        for some in missing.chunks(MAX_CONCURRENT_READS) {
            if failures >= MOST_FAILURES {
                break;
            }
            let asking = some.iter().map(|digest| self.read_configuration(&**reader, &repository.name, digest));
            let answers: Vec<_> =
                stream::iter(asking.collect::<Vec<_>>()).buffered(MAX_CONCURRENT_READS).collect().await;
            for (digest, answer) in some.iter().zip(answers) {
                failures += usize::from(answer.is_err());
                read.push((digest.clone(), answer));
            }
        }
        for (digest, answer) in read {
            match answer {
                Ok(config) if !too_many => {
                    if let Some(manifest) = repository.manifests.get_mut(&digest) {
                        manifest.config = config.map(Box::new);
                    }
                }
                Ok(_) => {}
                Err(error) => repository.gaps.push(gap(&error, digest)),
            }
        }
        repository.gaps.sort();
        Ok(())
    }

    async fn read_configuration(
        &self,
        reader: &dyn RegistryReader,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Digest>, RegistryError> {
        let gone = || {
            RegistryError::new(
                RegistryErrorKind::NotFound,
                format!("{repository}: {digest} is listed, but there is no such manifest"),
            )
        };
        let raw = reader.manifest(repository, digest).await?.ok_or_else(gone)?;
        self.store.store_manifest(&raw).await;
        configuration_digest(&raw)
    }
}

/// Returns the manifests that could not be read.
fn failed_manifests(repository: &Repository) -> BTreeSet<Digest> {
    let failed = repository.gaps.iter().filter_map(|gap| match &gap.target {
        GapTarget::Manifest(digest) => Some(digest.clone()),
        _ => None,
    });
    failed.collect()
}

/// Returns the digest of an image's configuration; `None` if its manifest has none, as in Docker's schema 1.
fn configuration_digest(raw: &RawManifest) -> Result<Option<Digest>, RegistryError> {
    match registry::parse_manifest(raw) {
        Ok(parsed) => Ok(parsed.manifest.config.map(|config| *config)),
        Err(why) => {
            let message = format!("manifest {} is not understood", raw.digest);
            Err(RegistryError::new(RegistryErrorKind::Malformed, message).caused_by(why))
        }
    }
}

fn gap(error: &RegistryError, digest: Digest) -> Gap {
    Gap {
        target: GapTarget::Configuration(digest),
        kind: error.kind.label(),
        has_help: error.has_help(),
        message: error.chain().into(),
    }
}
