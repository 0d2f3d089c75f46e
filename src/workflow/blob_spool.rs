//! The bytes that removals and deletions free in one registry, for any number of blobs.
//!
//! What does not fit into memory is in temporary files. The figures are those of
//! [`BlobLedger`](crate::engine::BlobLedger).
//!
//! Both the blobs and the figures are sorted on disk instead of being partitioned by their first bytes: memory is then
//! bounded whatever the digests are, and each needs a single file.

use std::io;
use std::path::Path;

use super::sorted_runs::{Record, RecordSorter, SortedRecords};
use crate::domain::ReclaimBytes;
use crate::engine::{BlobRecord, BlobTally, BlobUse, ReclaimFigure, ReclaimTarget, RepositoryBlobs, RepositoryReclaim};

/// Records of each kind that are kept in memory: for blobs, these are 8 MB.
const MEMORY_LIMIT: usize = 200_000;

/// The blobs of one registry while its repositories are read.
pub struct BlobSpool {
    uses: RecordSorter<BlobRecord>,
    figures: RecordSorter<ReclaimFigure>,
    is_incomplete: bool,
    is_estimated: bool,
}

/// The bytes of a registry's removals and deletions, read repository by repository.
pub struct SettledBlobs {
    figures: SortedRecords<ReclaimFigure>,
    /// A figure that was read ahead.
    pending: Option<ReclaimFigure>,
    /// The last requested repository.
    latest: Option<u32>,
    is_incomplete: bool,
    is_estimated: bool,
}

impl BlobSpool {
    /// Creates an empty spool. Its files, if it needs any, are unnamed files in `directory`, or else in the folder for
    /// temporary files; their space is free again once the process ends.
    #[must_use]
    pub fn new(directory: Option<&Path>) -> Self {
        Self::with_limit(directory, MEMORY_LIMIT)
    }

    fn with_limit(directory: Option<&Path>, limit: usize) -> Self {
        Self {
            uses: RecordSorter::new(directory, limit),
            figures: RecordSorter::new(directory, limit),
            is_incomplete: false,
            is_estimated: false,
        }
    }

    /// Adds the blobs of a repository. Repositories have different numbers and are added in any order. An incomplete
    /// one, such as `RepositoryBlobs::default()`, makes the bytes of all unknown.
    ///
    /// # Errors
    /// Returns an error if a temporary file cannot be created or written.
    pub fn add(&mut self, repository: u32, blobs: RepositoryBlobs) -> io::Result<()> {
        self.is_incomplete |= !blobs.is_complete;
        self.is_estimated |= blobs.is_estimated;
        if self.is_incomplete {
            self.uses.clear();
            self.figures.clear();
            return Ok(());
        }
        for figure in ReclaimFigure::unknown(repository, &blobs) {
            self.figures.add(figure)?;
        }
        for found in blobs.uses {
            self.uses.add(BlobRecord::new(repository, found))?;
        }
        Ok(())
    }

    /// Attributes each blob to the first removal and the first deletion that need it: by number of the repository, then
    /// by position.
    ///
    /// # Errors
    /// Returns an error if a temporary file cannot be created, written or read.
    pub fn settle(self) -> io::Result<SettledBlobs> {
        let Self { uses, mut figures, is_incomplete, is_estimated } = self;
        let mut records = uses.finish()?;
        let mut tally: Option<BlobTally> = None;
        while let Some(record) = records.take_next()? {
            if let Some(open) = tally.as_mut().filter(|open| open.is_of(&record)) {
                open.add(&record);
                continue;
            }
            let closed = tally.replace(BlobTally::new(&record));
            for figure in closed.iter().flat_map(BlobTally::figures) {
                figures.add(figure)?;
            }
        }
        for figure in tally.iter().flat_map(BlobTally::figures) {
            figures.add(figure)?;
        }
        // The file is no longer needed, and sorting the figures may take as much space.
        drop(records);
        Ok(SettledBlobs { figures: figures.finish()?, pending: None, latest: None, is_incomplete, is_estimated })
    }
}

impl SettledBlobs {
    /// Returns the bytes of a repository with these numbers of removals and deletions. Repository numbers ascend from
    /// call to call; skipped numbers are allowed.
    ///
    /// # Errors
    /// Returns an error if a temporary file cannot be read, or the number does not ascend.
    pub fn next_repository(&mut self, number: u32, removals: usize, deletions: usize) -> io::Result<RepositoryReclaim> {
        if let Some(latest) = self.latest.replace(number).filter(|&latest| latest >= number) {
            let text = format!("bytes of repository {number} were asked for after those of repository {latest}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if self.is_incomplete {
            return Ok(RepositoryReclaim::unknown(removals, deletions));
        }
        let mut found = RepositoryReclaim::zero(removals, deletions);
        loop {
            let next = match self.pending.take() {
                Some(figure) => Some(figure),
                None => self.figures.take_next()?,
            };
            let Some(figure) = next else { break };
            if figure.repository > number {
                self.pending = Some(figure);
                break;
            }
            if figure.repository == number {
                found.add(&figure);
            }
        }
        Ok(found)
    }

    /// Returns true if any bytes are known and some of them are an estimate.
    #[must_use]
    pub fn is_estimated(&self) -> bool {
        self.is_estimated && !self.is_incomplete
    }
}

/// Splits bytes off the beginning of a record.
fn take<const N: usize>(from: &mut &[u8]) -> [u8; N] {
    let (first, rest) = from.split_first_chunk().expect("a record is as long as it was written");
    *from = rest;
    *first
}

/// The position for "none".
const NO_POSITION: u32 = u32::MAX;

/// Bits of the last byte of a record of a blob.
const KEPT_BY_REMOVALS: u8 = 1;
const KEPT_BY_DELETIONS: u8 = 2;

impl Record for BlobRecord {
    type Key = u128;

    const BYTES: usize = 16 + 8 + 3 * 4 + 1;

    fn key(&self) -> u128 {
        self.blob()
    }

    fn write(&self, to: &mut Vec<u8>) {
        let found = self.blob_use();
        to.extend(found.blob.to_be_bytes());
        to.extend(found.size.to_be_bytes());
        to.extend(self.repository().to_be_bytes());
        to.extend(found.removal.unwrap_or(NO_POSITION).to_be_bytes());
        to.extend(found.deletion.unwrap_or(NO_POSITION).to_be_bytes());
        let by_removals = if found.kept_by_removals { KEPT_BY_REMOVALS } else { 0 };
        let by_deletions = if found.kept_by_deletions { KEPT_BY_DELETIONS } else { 0 };
        to.push(by_removals | by_deletions);
    }

    fn read(mut from: &[u8]) -> Self {
        let from = &mut from;
        let blob = u128::from_be_bytes(take(from));
        let size = u64::from_be_bytes(take(from));
        let repository = u32::from_be_bytes(take(from));
        let [removal, deletion] =
            [take(from), take(from)].map(|bytes| Some(u32::from_be_bytes(bytes)).filter(|&at| at != NO_POSITION));
        let [kept] = take(from);
        let found = BlobUse {
            blob,
            size,
            removal,
            kept_by_removals: kept & KEPT_BY_REMOVALS != 0,
            deletion,
            kept_by_deletions: kept & KEPT_BY_DELETIONS != 0,
        };
        Self::new(repository, found)
    }

    fn compact(records: &mut Vec<Self>) {
        Self::merge(records);
    }
}

/// Values of the byte that holds the kind of a figure.
const REMOVAL: u8 = 0;
const DELETION: u8 = 1;

impl Record for ReclaimFigure {
    type Key = (u32, ReclaimTarget);

    const BYTES: usize = 4 + 1 + 4 + 1 + 2 * 8;

    fn key(&self) -> (u32, ReclaimTarget) {
        (self.repository, self.target)
    }

    fn write(&self, to: &mut Vec<u8>) {
        let (kind, position) = match self.target {
            ReclaimTarget::Removal(position) => (REMOVAL, position),
            ReclaimTarget::Deletion(position) => (DELETION, position),
        };
        let ReclaimBytes { exclusive, shared } = self.bytes.unwrap_or_default();
        to.extend(self.repository.to_be_bytes());
        to.push(kind);
        to.extend(position.to_be_bytes());
        to.push(u8::from(self.bytes.is_some()));
        to.extend(exclusive.to_be_bytes());
        to.extend(shared.to_be_bytes());
    }

    fn read(mut from: &[u8]) -> Self {
        let from = &mut from;
        let repository = u32::from_be_bytes(take(from));
        let [kind] = take(from);
        let position = u32::from_be_bytes(take(from));
        let [is_known] = take(from);
        let exclusive = u64::from_be_bytes(take(from));
        let shared = u64::from_be_bytes(take(from));
        let target =
            if kind == DELETION { ReclaimTarget::Deletion(position) } else { ReclaimTarget::Removal(position) };
        Self { repository, target, bytes: (is_known != 0).then_some(ReclaimBytes { exclusive, shared }) }
    }

    fn compact(records: &mut Vec<Self>) {
        Self::merge(records);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::BlobLedger;

    /// The blobs of a repository, with the numbers of its removals and deletions.
    type Repository = (usize, usize, RepositoryBlobs);

    /// A blob of a repository with these numbers of removals and deletions.
    fn blob_use(removals: u32, deletions: u32) -> impl Strategy<Value = BlobUse> {
        // One more than the last position: none.
        (0..1000_u64, 0..=removals, any::<bool>(), 0..=deletions, any::<bool>()).prop_map(
            move |(size, removal, kept_by_removals, deletion, kept_by_deletions)| BlobUse {
                blob: 0,
                size,
                removal: Some(removal).filter(|&at| at < removals),
                kept_by_removals,
                deletion: Some(deletion).filter(|&at| at < deletions),
                kept_by_deletions,
            },
        )
    }

    fn repository() -> impl Strategy<Value = Repository> {
        (0..5_u32, 0..4_u32).prop_flat_map(|(removals, deletions)| {
            let blobs = prop::collection::btree_map(0..40_u64, blob_use(removals, deletions), 0..30);
            let unknown = |count: u32| prop::collection::vec(0..count.max(1), 0..2);
            let is_complete = prop::bool::weighted(0.99);
            (blobs, unknown(removals), unknown(deletions), is_complete, any::<bool>()).prop_map(
                move |(blobs, unsized_removals, unsized_deletions, is_complete, is_estimated)| {
                    let spread = |(number, found): (u64, BlobUse)| BlobUse {
                        blob: (u128::from(number) << 122) | u128::from(number),
                        ..found
                    };
                    let uses = blobs.into_iter().map(spread).collect();
                    let blobs =
                        RepositoryBlobs { is_complete, is_estimated, unsized_removals, unsized_deletions, uses };
                    (removals as usize, deletions as usize, blobs)
                },
            )
        })
    }

    /// Repositories, and the order in which they are read.
    fn registry() -> impl Strategy<Value = (Vec<Repository>, Vec<usize>)> {
        prop::collection::vec(repository(), 1..8).prop_flat_map(|repositories| {
            let order: Vec<usize> = (0..repositories.len()).collect();
            (Just(repositories), Just(order).prop_shuffle())
        })
    }

    /// The bytes, blob by blob, computed by the definition.
    fn counted(repositories: &[Repository]) -> Vec<RepositoryReclaim> {
        let of_all = |bytes: fn(usize, usize) -> RepositoryReclaim| -> Vec<RepositoryReclaim> {
            repositories.iter().map(|(removals, deletions, _)| bytes(*removals, *deletions)).collect()
        };
        if repositories.iter().any(|(.., blobs)| !blobs.is_complete) {
            return of_all(RepositoryReclaim::unknown);
        }
        let mut found = of_all(RepositoryReclaim::zero);
        let mut blobs: BTreeMap<u128, Vec<(usize, BlobUse)>> = BTreeMap::new();
        for (number, (.., here)) in repositories.iter().enumerate() {
            for &one in &here.uses {
                blobs.entry(one.blob).or_default().push((number, one));
            }
        }
        for uses in blobs.values() {
            if let Some((number, one)) = uses.iter().find(|(_, one)| one.removal.is_some()) {
                let bytes = found[*number].removals[one.removal.unwrap() as usize].as_mut().unwrap();
                let is_kept = uses.iter().any(|(_, one)| one.kept_by_removals);
                *(if is_kept { &mut bytes.shared } else { &mut bytes.exclusive }) += one.size;
            }
            if let Some((number, one)) = uses.iter().find(|(_, one)| one.deletion.is_some())
                && !uses.iter().any(|(_, one)| one.kept_by_deletions)
            {
                *found[*number].deletions[one.deletion.unwrap() as usize].as_mut().unwrap() += one.size;
            }
        }
        for (found, (.., blobs)) in found.iter_mut().zip(repositories) {
            for &position in &blobs.unsized_removals {
                if let Some(bytes) = found.removals.get_mut(position as usize) {
                    *bytes = None;
                }
            }
            for &position in &blobs.unsized_deletions {
                if let Some(bytes) = found.deletions.get_mut(position as usize) {
                    *bytes = None;
                }
            }
        }
        found
    }

    fn number(position: usize) -> u32 {
        u32::try_from(position).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn spool_and_ledger_count_what_the_definition_says(
            (repositories, order) in registry(),
            limit in prop_oneof![1..8_usize, 8..100_usize],
        ) {
            let mut ledger = BlobLedger::default();
            let mut spool = BlobSpool::with_limit(None, limit);
            for position in order {
                let blobs = &repositories[position].2;
                ledger.add(number(position), blobs);
                spool.add(number(position), blobs.clone()).unwrap();
            }
            let (ledger, mut spool) = (ledger.settle(), spool.settle().unwrap());
            let is_complete = repositories.iter().all(|(.., blobs)| blobs.is_complete);
            let is_estimated = is_complete && repositories.iter().any(|(.., blobs)| blobs.is_estimated);
            prop_assert_eq!((ledger.is_estimated(), spool.is_estimated()), (is_estimated, is_estimated));
            for (position, expected) in counted(&repositories).into_iter().enumerate() {
                let (removals, deletions, _) = repositories[position];
                let at = number(position);
                prop_assert_eq!(&ledger.repository(at, removals, deletions), &expected);
                prop_assert_eq!(&spool.next_repository(at, removals, deletions).unwrap(), &expected);
            }
        }

        #[test]
        fn records_are_read_as_they_were_written((repositories, _) in registry(), number in any::<u32>()) {
            for (.., blobs) in &repositories {
                let figures = ReclaimFigure::unknown(number, blobs);
                let records: Vec<BlobRecord> =
                    blobs.uses.iter().map(|&found| BlobRecord::new(number, found)).collect();
                let known = records.iter().flat_map(|record| BlobTally::new(record).figures());
                for figure in figures.chain(known) {
                    let mut bytes = Vec::new();
                    figure.write(&mut bytes);
                    prop_assert_eq!(bytes.len(), ReclaimFigure::BYTES);
                    prop_assert_eq!(ReclaimFigure::read(&bytes), figure);
                }
                for record in records {
                    let mut bytes = Vec::new();
                    record.write(&mut bytes);
                    prop_assert_eq!(bytes.len(), BlobRecord::BYTES);
                    prop_assert_eq!(BlobRecord::read(&bytes), record);
                }
            }
        }
    }

    #[test]
    fn repositories_are_skipped_and_never_read_twice() {
        let blobs = |blob: u32| RepositoryBlobs {
            is_complete: true,
            uses: vec![BlobUse {
                blob: blob.into(),
                size: 5,
                removal: Some(0),
                kept_by_removals: false,
                deletion: None,
                kept_by_deletions: true,
            }],
            ..RepositoryBlobs::default()
        };
        let mut spool = BlobSpool::with_limit(None, 1);
        for number in [7_u32, 3, 5] {
            spool.add(number, blobs(number)).unwrap();
        }
        let mut settled = spool.settle().unwrap();
        let bytes = Some(ReclaimBytes { exclusive: 5, shared: 0 });
        assert_eq!(settled.next_repository(3, 1, 0).unwrap().removals, [bytes]);
        assert_eq!(settled.next_repository(7, 1, 0).unwrap().removals, [bytes]);
        let error = settled.next_repository(7, 1, 0).unwrap_err();
        assert_eq!(error.to_string(), "bytes of repository 7 were asked for after those of repository 7");
    }

    #[test]
    fn a_record_of_a_blob_takes_forty_bytes_at_most() {
        assert!(size_of::<BlobRecord>() <= 40);
        const { assert!(BlobRecord::BYTES <= 40) };
    }

    #[test]
    fn a_spool_without_a_folder_says_where_it_should_be() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none");
        let mut spool = BlobSpool::with_limit(Some(&missing), 1);
        let unknown = RepositoryBlobs { is_complete: true, unsized_removals: vec![0], ..RepositoryBlobs::default() };
        let text = spool.add(0, unknown).unwrap_err().to_string();
        assert!(text.starts_with(&missing.display().to_string()), "{text}");
    }
}
