//! Configurations that a decision needs: an image id of a workload may be that of an image that was only listed.
//!
//! Deciding is pure and says what it would have to know. This reads that and has it decided again, until nothing more is
//! needed or nothing more can be read. What stays unread stays undecided, so that a fault in here keeps too much and never
//! too little.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;

use super::App;
use crate::domain::{Claims, Digest, Gap, GapTarget, Inventory, RepositoryName, Rules};
use crate::engine::{self, Verdicts};
use crate::registry::{self, ContentCache as _, RawManifest, RegistryError, RegistryErrorKind, RegistryReader};

/// Most manifests that one run reads from registries for this: each read is a pull, which registries count as use.
const MAX_READS: usize = 1_000;
/// Requests in flight at once; the registry's own pace holds besides.
const MAX_CONCURRENT_READS: usize = 8;
/// After so many failures in one repository the rest of it is left unread.
const MOST_FAILURES: usize = 5;

/// The reads that a run may still make, and those that it has tried.
struct ReadBudget {
    remaining: usize,
    /// By the positions of registry and repository.
    requested: BTreeSet<(u32, u32, Digest)>,
}

impl App {
    /// Decides, and reads the configurations that the decision needs.
    pub(super) async fn evaluate(
        &self,
        rules: &Rules,
        inventory: &mut Inventory,
        claims: &Claims,
        at: Timestamp,
    ) -> Verdicts {
        let mut reading = ReadBudget { remaining: MAX_READS, requested: BTreeSet::new() };
        loop {
            let verdicts = engine::evaluate(rules, inventory, claims, at);
            let mut needed: BTreeMap<(u32, u32), Vec<Digest>> = BTreeMap::new();
            for one in &verdicts.unread {
                let place = (one.registry, one.repository);
                if reading.requested.insert((place.0, place.1, one.digest.clone())) {
                    needed.entry(place).or_default().push(one.digest.clone());
                }
            }
            if needed.is_empty() {
                return verdicts;
            }
            // The smallest first: one large repository must not keep many small ones undecided.
            let mut needed: Vec<_> = needed.into_iter().collect();
            needed.sort_by_key(|(place, digests)| (digests.len(), *place));
            for (place, digests) in needed {
                self.read_configurations(inventory, place, digests, &mut reading).await;
            }
        }
    }

    /// Reads the configurations of manifests of one repository into the inventory. Where they are more than the run may
    /// still read, the repository stays undecided, and what was read is kept for the next run.
    async fn read_configurations(
        &self,
        inventory: &mut Inventory,
        (registry, repository): (u32, u32),
        digests: Vec<Digest>,
        reading: &mut ReadBudget,
    ) {
        let Some(found) = inventory.registries.get_mut(registry as usize) else { return };
        let Some(reader) = self.readers.get(&found.name) else { return };
        let Some(repository) = found.repositories.get_mut(repository as usize) else { return };
        let (mut read, mut missing) = (Vec::new(), Vec::new());
        for digest in digests {
            match self.store.manifest(&digest).await {
                Some(raw) => read.push((digest, configuration_digest(&raw))),
                None => missing.push(digest),
            }
        }
        let too_many = missing.len() > reading.remaining;
        if too_many {
            tracing::warn!(
                registry = %found.name, repository = %repository.name, images = missing.len(), left = reading.remaining,
                "too many images would have to be read to tell which of them an image id means; they stay undecided"
            );
            missing.truncate(reading.remaining);
        }
        reading.remaining -= missing.len();
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
                Err(error) => repository.gaps.push(gap(error, digest)),
            }
        }
        repository.gaps.sort();
    }

    async fn read_configuration(
        &self,
        reader: &dyn RegistryReader,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Digest>, RegistryError> {
        let gone = || RegistryError {
            kind: RegistryErrorKind::NotFound,
            message: format!("{repository}: {digest} is listed, but there is no such manifest"),
        };
        let raw = reader.manifest(repository, digest).await?.ok_or_else(gone)?;
        self.store.store_manifest(&raw).await;
        configuration_digest(&raw)
    }
}

/// The digest of an image's configuration; `None` where its manifest has none, as those of Docker's schema 1.
fn configuration_digest(raw: &RawManifest) -> Result<Option<Digest>, RegistryError> {
    match registry::parse_manifest(raw) {
        Ok(parsed) => Ok(parsed.manifest.config.map(|config| *config)),
        Err(why) => Err(RegistryError {
            kind: RegistryErrorKind::Malformed,
            message: format!("manifest {} is not understood: {why}", raw.digest),
        }),
    }
}

fn gap(error: RegistryError, digest: Digest) -> Gap {
    Gap { target: GapTarget::Configuration(digest), kind: error.kind.label(), message: error.message.into() }
}
