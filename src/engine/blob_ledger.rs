//! The bytes that removals and deletions free in one registry.
//!
//! A registry stores a blob once for all of its repositories, so a blob counts once, for the first removal and the
//! first deletion that need it.

use super::blob_uses::{BlobUse, RepositoryBlobs};
use super::graph::index;
use crate::domain::ReclaimBytes;

/// Records that are collected before those of the same blob are merged for the first time.
const FIRST_MERGE: usize = 1 << 16;

/// The blobs of one registry, in memory.
#[derive(Debug, Default)]
pub struct BlobLedger {
    records: Vec<BlobRecord>,
    figures: Vec<ReclaimFigure>,
    merge_at: usize,
    is_incomplete: bool,
    is_estimated: bool,
}

/// The bytes of a registry's removals and deletions, once all of its repositories are known.
#[derive(Debug, Default)]
pub struct SettledLedger {
    figures: Vec<ReclaimFigure>,
    is_incomplete: bool,
    is_estimated: bool,
}

/// The bytes of the removals and deletions of one repository, in the order of their lists; `None` where unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepositoryReclaim {
    /// Of each removal.
    pub removals: Vec<Option<ReclaimBytes>>,
    /// Of each deletion: the bytes that only it and other deletions need. Also `None` for a manifest that is retained.
    pub deletions: Vec<Option<u64>>,
}

/// The use of a blob by one repository, with the number of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRecord {
    // As bytes, a record takes 40 bytes in memory; with a number of 16 bytes it would take 48.
    blob: [u8; 16],
    size: u64,
    repository: u32,
    /// `NONE` if there is none; so is `deletion`.
    removal: u32,
    deletion: u32,
    kept_by_removals: bool,
    kept_by_deletions: bool,
}

const NONE: u32 = u32::MAX;

/// All uses of one blob.
#[derive(Debug, Clone)]
pub struct BlobTally {
    blob: [u8; 16],
    removal: Option<FirstUse>,
    deletion: Option<FirstUse>,
    kept_by_removals: bool,
    kept_by_deletions: bool,
}

/// The first removal or deletion that needs a blob.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct FirstUse {
    repository: u32,
    position: u32,
    size: u64,
}

/// A part of the bytes of a removal or a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReclaimFigure {
    /// Number of the repository.
    pub repository: u32,
    /// The removal or deletion.
    pub target: ReclaimTarget,
    /// The bytes; `None` makes the sum unknown, too. Those of a deletion are all exclusive.
    pub bytes: Option<ReclaimBytes>,
}

/// A removal or a deletion, by its position in the list of its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReclaimTarget {
    /// A removal.
    Removal(u32),
    /// A deletion.
    Deletion(u32),
}

impl BlobLedger {
    /// Adds the blobs of a repository. Repositories have different numbers and are added in any order.
    pub fn add(&mut self, repository: u32, blobs: &RepositoryBlobs) {
        self.is_incomplete |= !blobs.is_complete;
        self.is_estimated |= blobs.is_estimated;
        if self.is_incomplete {
            (self.records, self.figures) = (Vec::new(), Vec::new());
            return;
        }
        self.figures.extend(ReclaimFigure::unknown(repository, blobs));
        for &found in &blobs.uses {
            self.records.push(BlobRecord::new(repository, found));
            if self.records.len() >= self.merge_at.max(FIRST_MERGE) {
                BlobRecord::merge(&mut self.records);
                self.merge_at = self.records.len().saturating_mul(2);
            }
        }
    }

    /// Attributes each blob to the first removal and the first deletion that need it: by number of the repository, then
    /// by position.
    #[must_use]
    pub fn settle(self) -> SettledLedger {
        let Self { mut records, mut figures, is_incomplete, is_estimated, .. } = self;
        records.sort_unstable_by_key(BlobRecord::blob);
        for same in records.chunk_by(|a, b| a.blob == b.blob) {
            let mut tally = BlobTally::new(&same[0]);
            for record in &same[1..] {
                tally.add(record);
            }
            figures.extend(tally.figures());
        }
        ReclaimFigure::merge(&mut figures);
        SettledLedger { figures, is_incomplete, is_estimated }
    }
}

impl SettledLedger {
    /// Returns the bytes of a repository with these numbers of removals and deletions.
    #[must_use]
    pub fn repository(&self, number: u32, removals: usize, deletions: usize) -> RepositoryReclaim {
        if self.is_incomplete {
            return RepositoryReclaim::unknown(removals, deletions);
        }
        let mut found = RepositoryReclaim::zero(removals, deletions);
        let from = self.figures.partition_point(|figure| figure.repository < number);
        for figure in self.figures[from..].iter().take_while(|figure| figure.repository == number) {
            found.add(figure);
        }
        found
    }

    /// Returns true if any bytes are known and some of them are an estimate.
    #[must_use]
    pub fn is_estimated(&self) -> bool {
        self.is_estimated && !self.is_incomplete
    }
}

impl RepositoryReclaim {
    /// Creates a result with nothing counted yet.
    #[must_use]
    pub fn zero(removals: usize, deletions: usize) -> Self {
        Self { removals: vec![Some(ReclaimBytes::default()); removals], deletions: vec![Some(0); deletions] }
    }

    /// Creates a result with all bytes unknown.
    #[must_use]
    pub fn unknown(removals: usize, deletions: usize) -> Self {
        Self { removals: vec![None; removals], deletions: vec![None; deletions] }
    }

    /// Adds a figure of this repository. A position outside the lists is ignored.
    pub fn add(&mut self, figure: &ReclaimFigure) {
        match figure.target {
            ReclaimTarget::Removal(position) => {
                if let Some(sum) = self.removals.get_mut(index(position)) {
                    *sum = sum.zip(figure.bytes).map(|(sum, bytes)| sum.plus(bytes));
                }
            }
            ReclaimTarget::Deletion(position) => {
                if let Some(sum) = self.deletions.get_mut(index(position)) {
                    *sum = sum.zip(figure.bytes).map(|(sum, bytes)| sum.saturating_add(bytes.exclusive));
                }
            }
        }
    }
}

impl BlobRecord {
    /// Creates a use in the repository with that number.
    #[must_use]
    pub fn new(repository: u32, found: BlobUse) -> Self {
        Self {
            blob: found.blob.to_be_bytes(),
            size: found.size,
            repository,
            removal: found.removal.unwrap_or(NONE),
            deletion: found.deletion.unwrap_or(NONE),
            kept_by_removals: found.kept_by_removals,
            kept_by_deletions: found.kept_by_deletions,
        }
    }

    /// Returns the beginning of the blob's digest.
    #[must_use]
    pub fn blob(&self) -> u128 {
        u128::from_be_bytes(self.blob)
    }

    /// Returns the number of the repository.
    #[must_use]
    pub fn repository(&self) -> u32 {
        self.repository
    }

    /// Returns the use.
    #[must_use]
    pub fn blob_use(&self) -> BlobUse {
        let position = |position| (position != NONE).then_some(position);
        BlobUse {
            blob: self.blob(),
            size: self.size,
            removal: position(self.removal),
            kept_by_removals: self.kept_by_removals,
            deletion: position(self.deletion),
            kept_by_deletions: self.kept_by_deletions,
        }
    }

    /// Sorts records by blob and merges them into at most two for each, without loss.
    pub fn merge(records: &mut Vec<Self>) {
        records.sort_unstable_by_key(Self::blob);
        let (mut at, mut merged) = (0, 0);
        while at < records.len() {
            let mut tally = BlobTally::new(&records[at]);
            at += 1;
            while at < records.len() && records[at].blob == tally.blob {
                tally.add(&records[at]);
                at += 1;
            }
            // Never more than were read: a single record remains one.
            let (first, second) = tally.records();
            for record in std::iter::once(first).chain(second) {
                records[merged] = record;
                merged += 1;
            }
        }
        records.truncate(merged);
    }

    fn first_use(&self, position: u32) -> Option<FirstUse> {
        let found = FirstUse { repository: self.repository, position, size: self.size };
        (position != NONE).then_some(found)
    }
}

impl BlobTally {
    /// Creates the tally of a blob with its first use.
    #[must_use]
    pub fn new(record: &BlobRecord) -> Self {
        Self {
            blob: record.blob,
            removal: record.first_use(record.removal),
            deletion: record.first_use(record.deletion),
            kept_by_removals: record.kept_by_removals,
            kept_by_deletions: record.kept_by_deletions,
        }
    }

    /// Returns true for a use of the same blob.
    #[must_use]
    pub fn is_of(&self, record: &BlobRecord) -> bool {
        self.blob == record.blob
    }

    /// Adds another use of the same blob.
    pub fn add(&mut self, record: &BlobRecord) {
        self.removal = self.removal.into_iter().chain(record.first_use(record.removal)).min();
        self.deletion = self.deletion.into_iter().chain(record.first_use(record.deletion)).min();
        self.kept_by_removals |= record.kept_by_removals;
        self.kept_by_deletions |= record.kept_by_deletions;
    }

    /// Returns the equivalent records; two if the first removal and the first deletion are in different repositories.
    fn records(&self) -> (BlobRecord, Option<BlobRecord>) {
        let record = |first: FirstUse, removal: u32, deletion: u32| BlobRecord {
            blob: self.blob,
            size: first.size,
            repository: first.repository,
            removal,
            deletion,
            kept_by_removals: self.kept_by_removals,
            kept_by_deletions: self.kept_by_deletions,
        };
        match (self.removal, self.deletion) {
            (Some(removal), Some(deletion))
                if (removal.repository, removal.size) == (deletion.repository, deletion.size) =>
            {
                (record(removal, removal.position, deletion.position), None)
            }
            (Some(removal), deletion) => {
                let deletion = deletion.map(|deletion| record(deletion, NONE, deletion.position));
                (record(removal, removal.position, NONE), deletion)
            }
            (None, Some(deletion)) => (record(deletion, NONE, deletion.position), None),
            (None, None) => (record(FirstUse::default(), NONE, NONE), None),
        }
    }

    /// Returns the shares of the first removal and of the first deletion.
    pub fn figures(&self) -> impl Iterator<Item = ReclaimFigure> + use<> {
        let removal = self.removal.map(|first| ReclaimFigure {
            repository: first.repository,
            target: ReclaimTarget::Removal(first.position),
            bytes: Some(if self.kept_by_removals {
                ReclaimBytes { exclusive: 0, shared: first.size }
            } else {
                ReclaimBytes { exclusive: first.size, shared: 0 }
            }),
        });
        let deletion = self.deletion.filter(|_| !self.kept_by_deletions).map(|first| ReclaimFigure {
            repository: first.repository,
            target: ReclaimTarget::Deletion(first.position),
            bytes: Some(ReclaimBytes { exclusive: first.size, shared: 0 }),
        });
        removal.into_iter().chain(deletion)
    }
}

impl ReclaimFigure {
    /// Returns a figure for each removal and each deletion of a repository whose bytes are unknown.
    pub fn unknown(repository: u32, blobs: &RepositoryBlobs) -> impl Iterator<Item = Self> {
        let removals = blobs.unsized_removals.iter().map(|&position| ReclaimTarget::Removal(position));
        let deletions = blobs.unsized_deletions.iter().map(|&position| ReclaimTarget::Deletion(position));
        removals.chain(deletions).map(move |target| Self { repository, target, bytes: None })
    }

    /// Sorts figures by repository and target, and sums those of the same target.
    pub fn merge(figures: &mut Vec<Self>) {
        figures.sort_unstable_by_key(|figure| (figure.repository, figure.target));
        figures.dedup_by(|next, sum| {
            let is_same = (next.repository, next.target) == (sum.repository, sum.target);
            if is_same {
                sum.bytes = sum.bytes.zip(next.bytes).map(|(sum, next)| sum.plus(next));
            }
            is_same
        });
    }
}
