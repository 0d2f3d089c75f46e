//! The digests of a generated repository: hashes cannot be sorted by a formula, so those of the most recently requested
//! repositories are cached.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::world::{Formula, to_index};
use crate::domain::Digest;

/// The number of cached digests, unless one repository alone has more: 1,000 x 1,000 images are one after another.
const MAX_CACHED: usize = 1 << 20;

/// The digests of a repository's manifests.
#[derive(Debug)]
pub(super) struct DigestTable {
    by_position: Vec<Digest>,
    /// Positions in the order of their digests.
    sorted: Vec<u32>,
    /// The configurations with the positions of their manifests, sorted; only if one was requested.
    configs: OnceLock<Vec<(Digest, u32)>>,
}

impl DigestTable {
    fn new(formula: &Formula, repository: u32) -> Self {
        let images = 0..formula.world.images();
        let by_position: Vec<Digest> =
            images.flat_map(|image| formula.manifests(repository, image)).map(|manifest| manifest.digest).collect();
        let mut sorted: Vec<u32> = (0..formula.manifest_count()).collect();
        sorted.sort_unstable_by(|one, other| by_position[to_index(*one)].cmp(&by_position[to_index(*other)]));
        Self { by_position, sorted, configs: OnceLock::new() }
    }

    pub(super) fn digest(&self, position: u32) -> &Digest {
        &self.by_position[to_index(position)]
    }

    /// Returns the position at a rank in the order of digests.
    pub(super) fn at_rank(&self, rank: u32) -> u32 {
        self.sorted[to_index(rank)]
    }

    pub(super) fn position(&self, digest: &Digest) -> Option<u32> {
        let rank = self.sorted.binary_search_by(|position| self.digest(*position).cmp(digest)).ok()?;
        Some(self.sorted[rank])
    }

    /// Returns the position of the manifest with this configuration.
    pub(super) fn position_of_config(&self, formula: &Formula, repository: u32, config: &Digest) -> Option<u32> {
        let configs = self.configs.get_or_init(|| {
            let images = 0..formula.world.images();
            let manifests = images.flat_map(|image| formula.manifests(repository, image)).zip(0..);
            let mut configs: Vec<(Digest, u32)> = manifests
                .filter_map(|(manifest, position)| Some((manifest.config?.digest().clone(), position)))
                .collect();
            configs.sort_unstable();
            configs
        });
        let place = configs.binary_search_by(|(digest, _)| digest.cmp(config)).ok()?;
        Some(configs[place].1)
    }
}

/// The tables of the most recently requested repositories, the latest at the end.
#[derive(Debug, Default)]
pub(super) struct DigestTables(Mutex<VecDeque<(u32, Arc<DigestTable>)>>);

impl DigestTables {
    pub(super) fn get(&self, formula: &Formula, repository: u32) -> Arc<DigestTable> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tables.iter().position(|(number, _)| *number == repository).and_then(|place| tables.remove(place));
        let (_, table) = known.unwrap_or_else(|| (repository, Arc::new(DigestTable::new(formula, repository))));
        tables.push_back((repository, Arc::clone(&table)));
        let per_repository = to_index(formula.manifest_count());
        while tables.len() > 1 && tables.len() * per_repository > MAX_CACHED {
            tables.pop_front();
        }
        table
    }
}
