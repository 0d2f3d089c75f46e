//! External sorting: any number of records in little memory.
//!
//! What does not fit is written to a temporary file as sorted runs, which are merged at the end. Records with equal
//! keys may be merged on the way, so a file need not contain everything that was added.

use crate::domain::Failure;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes written at once.
const WRITE_BYTES: usize = 64 << 10;

/// Bytes read ahead for all runs together during a merge.
const READ_BYTES: usize = 8 << 20;

/// Records of one run read at once.
const READ_RECORDS: (usize, usize) = (128, 2048);

/// A record of fixed length.
pub(super) trait Record: Sized {
    /// The order of the records.
    type Key: Ord;

    /// Its length in a file.
    const BYTES: usize;

    /// Returns its key.
    fn key(&self) -> Self::Key;

    /// Appends its bytes, exactly [`Record::BYTES`] of them.
    fn write(&self, to: &mut Vec<u8>);

    /// Reads it from as many bytes.
    fn read(from: &[u8]) -> Self;

    /// Sorts records by key and merges those with equal keys as far as possible.
    fn compact(records: &mut Vec<Self>);
}

/// Records that are being collected.
pub(super) struct RecordSorter<R> {
    directory: PathBuf,
    /// The most records that are kept in memory.
    limit: usize,
    memory: Vec<R>,
    file: Option<RunFile>,
}

/// All records by key. Those with equal keys are adjacent and only partly merged.
pub(super) enum SortedRecords<R: Record> {
    Memory(std::vec::IntoIter<R>),
    File(RunMerge<R>),
}

impl<R: Record> RecordSorter<R> {
    /// Creates a sorter whose file, if it needs one, is in `directory`, or else in the folder for temporary files.
    pub(super) fn new(directory: Option<&Path>, limit: usize) -> Self {
        let directory = directory.map_or_else(tempfile::env::temp_dir, Path::to_path_buf);
        Self { directory, limit, memory: Vec::new(), file: None }
    }

    /// Adds a record.
    pub(super) fn add(&mut self, record: R) -> io::Result<()> {
        self.memory.push(record);
        if self.memory.len() >= self.limit {
            R::compact(&mut self.memory);
            // If compacting frees much space, the file can wait.
            if self.memory.len() > self.limit / 2 {
                self.write_run()?;
            }
        }
        Ok(())
    }

    /// Forgets all records.
    pub(super) fn clear(&mut self) {
        (self.memory, self.file) = (Vec::new(), None);
    }

    /// Sorts the added records.
    pub(super) fn finish(mut self) -> io::Result<SortedRecords<R>> {
        R::compact(&mut self.memory);
        if self.file.is_some() && !self.memory.is_empty() {
            self.write_run()?;
        }
        match self.file {
            None => Ok(SortedRecords::Memory(self.memory.into_iter())),
            Some(file) => {
                // Before the runs are read, not at the end of the function.
                drop(self.memory);
                Ok(SortedRecords::File(RunMerge::new(file)?))
            }
        }
    }

    fn write_run(&mut self) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => RunFile::create(&self.directory)?,
        };
        file.append(&self.memory)?;
        self.memory.clear();
        self.file = Some(file);
        Ok(())
    }
}

impl<R: Record> SortedRecords<R> {
    /// Takes the record with the smallest key.
    pub(super) fn take_next(&mut self) -> io::Result<Option<R>> {
        match self {
            Self::Memory(records) => Ok(records.next()),
            Self::File(runs) => runs.take_next(),
        }
    }
}

/// An unnamed temporary file, which is deleted with its last handle however the process ends.
struct RunFile {
    directory: PathBuf,
    file: File,
    length: u64,
    runs: Vec<Run>,
}

/// Sorted records in a file.
struct Run {
    /// The offset of the unread records.
    offset: u64,
    /// The number of unread records.
    remaining: usize,
}

impl RunFile {
    fn create(directory: &Path) -> io::Result<Self> {
        let file = tempfile::tempfile_in(directory).map_err(|error| file_error(directory, "create", error))?;
        Ok(Self { directory: directory.to_path_buf(), file, length: 0, runs: Vec::new() })
    }

    fn append<R: Record>(&mut self, records: &[R]) -> io::Result<()> {
        let run = Run { offset: self.length, remaining: records.len() };
        let mut bytes = Vec::with_capacity(WRITE_BYTES);
        for records in records.chunks((WRITE_BYTES / R::BYTES).max(1)) {
            bytes.clear();
            for record in records {
                record.write(&mut bytes);
            }
            self.file.write_all(&bytes).map_err(|error| file_error(&self.directory, "write to", error))?;
            self.length += bytes.len() as u64;
        }
        self.runs.push(run);
        Ok(())
    }
}

/// Runs of one file while they are merged.
pub(super) struct RunMerge<R: Record> {
    directory: PathBuf,
    file: File,
    cursors: Vec<Cursor<R>>,
    /// The keys of the runs' next records.
    heads: BinaryHeap<Reverse<(R::Key, usize)>>,
    read_records: usize,
}

/// A position in a run.
struct Cursor<R> {
    run: Run,
    bytes: Vec<u8>,
    position: usize,
    head: Option<R>,
}

impl<R: Record> RunMerge<R> {
    fn new(file: RunFile) -> io::Result<Self> {
        let (least, most) = READ_RECORDS;
        let read_records = (READ_BYTES / R::BYTES / file.runs.len().max(1)).clamp(least, most);
        let cursors = file.runs.into_iter().map(|run| Cursor { run, bytes: Vec::new(), position: 0, head: None });
        let mut merge = Self {
            directory: file.directory,
            file: file.file,
            cursors: cursors.collect(),
            heads: BinaryHeap::new(),
            read_records,
        };
        for run in 0..merge.cursors.len() {
            merge.advance(run)?;
        }
        Ok(merge)
    }

    fn take_next(&mut self) -> io::Result<Option<R>> {
        let Some(Reverse((_, run))) = self.heads.pop() else { return Ok(None) };
        let record = self.cursors[run].head.take();
        self.advance(run)?;
        Ok(record)
    }

    /// Reads the next record of a run.
    fn advance(&mut self, run: usize) -> io::Result<()> {
        let cursor = &mut self.cursors[run];
        if cursor.position == cursor.bytes.len() {
            if cursor.run.remaining == 0 {
                cursor.bytes = Vec::new();
                cursor.position = 0;
                return Ok(());
            }
            let records = cursor.run.remaining.min(self.read_records);
            cursor.bytes.resize(records * R::BYTES, 0);
            self.file
                .seek(SeekFrom::Start(cursor.run.offset))
                .and_then(|_| self.file.read_exact(&mut cursor.bytes))
                .map_err(|error| file_error(&self.directory, "read from", error))?;
            cursor.run.remaining -= records;
            cursor.run.offset += cursor.bytes.len() as u64;
            cursor.position = 0;
        }
        let end = cursor.position + R::BYTES;
        let record = R::read(&cursor.bytes[cursor.position..end]);
        cursor.position = end;
        self.heads.push(Reverse((record.key(), run)));
        cursor.head = Some(record);
        Ok(())
    }
}

fn file_error(directory: &Path, doing: &str, error: io::Error) -> io::Error {
    let hint = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space there",
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "it must exist and be writable"
        }
        _ => "",
    };
    let message = format!("{}: cannot {doing} a temporary file", directory.display());
    io::Error::new(error.kind(), Failure::new((), message).caused_by(error).with_help(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::chain;

    /// A number; duplicates are merged.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Number(u32);

    impl Record for Number {
        type Key = u32;
        const BYTES: usize = 4;

        fn key(&self) -> u32 {
            self.0
        }

        fn write(&self, to: &mut Vec<u8>) {
            to.extend(self.0.to_be_bytes());
        }

        fn read(from: &[u8]) -> Self {
            Self(u32::from_be_bytes(from.try_into().unwrap()))
        }

        fn compact(records: &mut Vec<Self>) {
            records.sort_unstable_by_key(Self::key);
            records.dedup();
        }
    }

    fn sorted(limit: usize, numbers: impl Iterator<Item = u32>) -> (Vec<u32>, bool) {
        let mut sorter = RecordSorter::new(None, limit);
        for number in numbers {
            sorter.add(Number(number)).unwrap();
        }
        let mut records = sorter.finish().unwrap();
        let has_file = matches!(records, SortedRecords::File(_));
        let mut found = Vec::new();
        while let Some(Number(number)) = records.take_next().unwrap() {
            found.push(number);
        }
        (found, has_file)
    }

    /// Each number below 10,007 once.
    fn mixed() -> impl Iterator<Item = u32> {
        (0..10_007).map(|number| number * 4_001 % 10_007)
    }

    #[test]
    fn records_come_in_order_from_memory_and_from_runs() {
        let expected: Vec<u32> = (0..10_007).collect();
        assert_eq!(sorted(20_000, mixed()), (expected.clone(), false));
        // One run of many reads, many runs, runs of a single record.
        for limit in [9_000, 300, 1] {
            assert_eq!(sorted(limit, mixed()), (expected.clone(), true), "{limit}");
        }
        assert_eq!(sorted(10, std::iter::empty()), (Vec::new(), false));
    }

    #[test]
    fn what_merging_makes_small_stays_in_memory() {
        let repeated = || (0..10_000).map(|number| number % 40);
        assert_eq!(sorted(100, repeated()), ((0..40).collect(), false));
    }

    #[test]
    fn a_missing_directory_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none");
        let mut sorter = RecordSorter::new(Some(&missing), 1);
        let error = sorter.add(Number(1)).unwrap_err();
        let text = chain(&error);
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(text.starts_with(&format!("{}: cannot create a temporary file: ", missing.display())), "{text}");
        assert!(text.ends_with("; it must exist and be writable"), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut file = RunFile { directory: "/spool".into(), file: full, length: 0, runs: Vec::new() };
        let text = chain(&file.append(&[Number(1)]).unwrap_err());
        assert!(text.starts_with("/spool: cannot write to a temporary file: "), "{text}");
        assert!(text.ends_with("; free some space there"), "{text}");
    }
}
