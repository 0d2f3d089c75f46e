//! Commits of a repository, read from its object files: their committer's time, and which of two came first.
//!
//! No process is started, so it also works in an image without `git`. What cannot be read is `None`: the caller then
//! has less to compare, and never a wrong order.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

/// Larger than any commit.
const MAX_OBJECT_BYTES: usize = 1024 * 1024;
/// Compressed bytes of an object that are read from a pack.
const MAX_PACKED_BYTES: u64 = 1024 * 1024;
/// Most objects that a delta may lead through.
const MAX_DELTA_DEPTH: usize = 60;
/// Most commits that are looked at to find one in the history of another.
const MAX_COMMITS: usize = 20_000;
/// Clocks of committers differ: a commit may be that much older than its parent by its time.
const CLOCK_SLACK_SECONDS: i64 = 7 * 24 * 3600;
/// The kind of a commit in a pack.
const COMMIT: u8 = 1;

/// The order of two commits in the history that a checkout has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOrder {
    /// The first one has the second one in its history.
    Newer,
    /// The second one has the first one in its history.
    Older,
}

/// The relevant parts of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    parents: Vec<String>,
    /// The committer's time.
    pub(super) time: Timestamp,
}

/// The object files of a repository.
#[derive(Debug)]
pub(super) struct GitObjects {
    /// Its own folder, and those from which it borrows.
    folders: Vec<PathBuf>,
}

impl GitObjects {
    /// Creates a reader for the repository whose shared files are in that folder.
    pub(super) fn new(common: &Path) -> Self {
        let own = common.join("objects");
        let alternates = fs::read_to_string(own.join("info/alternates")).unwrap_or_default();
        let others = alternates.lines().filter(|line| !line.is_empty()).map(|line| own.join(line));
        let folders = std::iter::once(own.clone()).chain(others).collect();
        Self { folders }
    }

    /// Reads a commit; `None` if the repository does not have it or it is unreadable.
    pub(super) fn commit(&self, id: &str) -> Option<Commit> {
        let bytes =
            self.loose(id).or_else(|| self.packed(&hex(id)?, 0).filter(|(kind, _)| *kind == COMMIT).map(|o| o.1));
        parse_commit(&String::from_utf8_lossy(&bytes?))
    }

    /// Compares two commits by the history that the repository has; `None` if neither is known to follow the other.
    pub(super) fn compare(&self, first: &str, second: &str) -> Option<CommitOrder> {
        if self.contains(first, second) {
            return Some(CommitOrder::Newer);
        }
        self.contains(second, first).then_some(CommitOrder::Older)
    }

    /// Returns true if a commit is known to have another one in its history.
    fn contains(&self, newer: &str, older: &str) -> bool {
        // Nothing before that time can lead to it.
        let since = self.commit(older).map_or(i64::MIN, |commit| commit.time.as_second() - CLOCK_SLACK_SECONDS);
        let (mut seen, mut open) = (HashSet::new(), VecDeque::from([newer.to_owned()]));
        while let Some(id) = open.pop_front() {
            if id == older {
                return id != newer;
            }
            if seen.len() >= MAX_COMMITS || !seen.insert(id.clone()) {
                continue;
            }
            if let Some(commit) = self.commit(&id).filter(|commit| commit.time.as_second() >= since) {
                open.extend(commit.parents);
            }
        }
        false
    }

    /// Reads a commit from a file of its own.
    fn loose(&self, id: &str) -> Option<Vec<u8>> {
        let (folder, name) = id.split_at_checked(2)?;
        let file = self.folders.iter().find_map(|objects| File::open(objects.join(folder).join(name)).ok())?;
        let mut packed = Vec::new();
        file.take(MAX_PACKED_BYTES).read_to_end(&mut packed).ok()?;
        let bytes = decompress_to_vec_zlib_with_limit(&packed, MAX_OBJECT_BYTES).ok()?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        bytes.starts_with(b"commit ").then(|| bytes.get(end + 1..).map(<[u8]>::to_vec))?
    }

    /// Reads an object from one of the packs, with its kind.
    fn packed(&self, id: &[u8], depth: usize) -> Option<(u8, Vec<u8>)> {
        for objects in &self.folders {
            for entry in fs::read_dir(objects.join("pack")).into_iter().flatten().flatten() {
                let index = entry.path();
                if index.extension().is_some_and(|extension| extension == "idx")
                    && let Ok(Some(offset)) = find_in_index(&index, id)
                    && let Some(found) = self.read_packed(&index.with_extension("pack"), offset, id.len(), depth)
                {
                    return Some(found);
                }
            }
        }
        None
    }

    /// Reads the object at a position of a pack.
    fn read_packed(&self, pack: &Path, offset: u64, hash_length: usize, depth: usize) -> Option<(u8, Vec<u8>)> {
        if depth > MAX_DELTA_DEPTH {
            return None;
        }
        let mut file = File::open(pack).ok()?;
        file.seek(SeekFrom::Start(offset)).ok()?;
        let mut bytes = Vec::new();
        file.take(MAX_PACKED_BYTES).read_to_end(&mut bytes).ok()?;
        let mut rest = bytes.as_slice();
        let first = take(&mut rest)?;
        let kind = (first >> 4) & 7;
        let mut byte = first;
        // The length, which the content tells as well.
        while byte & 0x80 != 0 {
            byte = take(&mut rest)?;
        }
        let base = match kind {
            6 => {
                let back = delta_offset(&mut rest)?;
                Some(self.read_packed(pack, offset.checked_sub(back)?, hash_length, depth + 1)?)
            }
            7 => {
                let (id, content) = rest.split_at_checked(hash_length)?;
                rest = content;
                Some(self.packed(id, depth + 1)?)
            }
            _ => None,
        };
        let content = decompress_to_vec_zlib_with_limit(rest, MAX_OBJECT_BYTES).ok()?;
        match base {
            None => Some((kind, content)),
            Some((kind, base)) => Some((kind, apply_delta(&base, &content)?)),
        }
    }
}

fn take(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

/// Reads the distance to the base of a delta.
fn delta_offset(bytes: &mut &[u8]) -> Option<u64> {
    let mut byte = take(bytes)?;
    let mut offset = u64::from(byte & 0x7f);
    while byte & 0x80 != 0 {
        byte = take(bytes)?;
        offset = (offset.checked_add(1)?.checked_shl(7)?) | u64::from(byte & 0x7f);
    }
    Some(offset)
}

/// Reads a length of a delta.
fn delta_length(bytes: &mut &[u8]) -> Option<usize> {
    let (mut length, mut shift) = (0_usize, 0_u32);
    loop {
        let byte = take(bytes)?;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
}

/// Makes an object of its base and a delta.
fn apply_delta(base: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let mut rest = delta;
    let (from, to) = (delta_length(&mut rest)?, delta_length(&mut rest)?);
    if from != base.len() || to > MAX_OBJECT_BYTES {
        return None;
    }
    let mut made = Vec::with_capacity(to);
    while let Some(code) = take(&mut rest) {
        if code & 0x80 == 0 {
            let (new, others) = rest.split_at_checked(usize::from(code))?;
            made.extend_from_slice(new);
            rest = others;
            continue;
        }
        let mut number = |bits: std::ops::Range<u8>| {
            let mut value = 0;
            for (place, bit) in bits.enumerate() {
                if code & (1 << bit) != 0 {
                    value |= usize::from(take(&mut rest)?) << (8 * place);
                }
            }
            Some(value)
        };
        let (offset, length) = (number(0..4)?, number(4..7)?);
        let length = if length == 0 { 0x1_0000 } else { length };
        made.extend_from_slice(base.get(offset..offset.checked_add(length)?)?);
    }
    (made.len() == to).then_some(made)
}

/// Returns the position of an object in the pack of an index, which is of version 2.
fn find_in_index(index: &Path, id: &[u8]) -> io::Result<Option<u64>> {
    let mut file = File::open(index)?;
    let mut head = [0; 8];
    file.read_exact(&mut head)?;
    if head != *b"\xfftOc\0\0\0\x02" {
        return Ok(None);
    }
    let mut number = |at: u64| {
        let mut bytes = [0; 4];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut bytes)?;
        Ok::<_, io::Error>(u32::from_be_bytes(bytes))
    };
    let Some(&first) = id.first() else { return Ok(None) };
    let mut low = if first == 0 { 0 } else { u64::from(number(8 + 4 * u64::from(first - 1))?) };
    let mut high = u64::from(number(8 + 4 * u64::from(first))?);
    let count = u64::from(number(8 + 4 * 255)?);
    let (names, length) = (8 + 4 * 256, id.len() as u64);
    let mut found = vec![0; id.len()];
    let mut file = File::open(index)?;
    while low < high {
        let middle = u64::midpoint(low, high);
        file.seek(SeekFrom::Start(names + middle * length))?;
        file.read_exact(&mut found)?;
        match found.as_slice().cmp(id) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => {
                let offsets = names + count * (length + 4);
                let offset = number(offsets + 4 * middle)?;
                if offset & 0x8000_0000 == 0 {
                    return Ok(Some(u64::from(offset)));
                }
                let large = offsets + 4 * count + 8 * u64::from(offset & 0x7fff_ffff);
                return Ok(Some(u64::from(number(large)?) << 32 | u64::from(number(large + 4)?)));
            }
        }
    }
    Ok(None)
}

fn hex(id: &str) -> Option<Vec<u8>> {
    let digit = |place: usize| u8::from_str_radix(id.get(place..place + 2)?, 16).ok();
    (0..id.len()).step_by(2).map(digit).collect()
}

fn parse_commit(text: &str) -> Option<Commit> {
    let mut parents = Vec::new();
    for line in text.lines().take_while(|line| !line.is_empty()) {
        if let Some(parent) = line.strip_prefix("parent ") {
            parents.push(parent.to_owned());
        }
        // `committer NAME <MAIL> SECONDS ZONE`
        if let Some(committer) = line.strip_prefix("committer ") {
            let seconds = committer.rsplit(' ').nth(1)?.parse().ok()?;
            return Some(Commit { parents, time: Timestamp::from_second(seconds).ok()? });
        }
    }
    None
}
