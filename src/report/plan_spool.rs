//! The views of a plan's tags in a temporary file, repository by repository, until the plan as a whole is complete.
//!
//! The bytes that a removal frees, and limits over several repositories, are known only once all repositories are
//! decided. So the views are written twice: as each repository is decided, and once more when the plan is complete.
//! Retained tags are written once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use super::fingerprint::{fingerprint_of, hash_removals};
use super::lazy_list::LazyList;
use super::plan_chunks::ChunkedViews;
use super::plan_id::assign_plan_id_by_hashes;
use super::{KeptView, PlanDocument, RemovalView, RepositoryViews};
use crate::domain::{Digest, ReclaimBytes, RegistryName, RepositoryName};
use crate::state::{ChunkCounts, MAX_CHUNK_TAGS, PlanChunk, compress, compress_fast, decompress};

/// The placeholder for the freed bytes in the view of a removal, until they are known. No text in JSON can contain it.
const UNKNOWN_BYTES: &[u8] = b"\"reclaimable_bytes\":null";

/// The views of a plan, as far as it is decided.
#[derive(Debug)]
pub struct PlanSpool {
    file: Mutex<File>,
    end: u64,
    parts: Vec<SpooledPart>,
}

/// A range in the file.
#[derive(Debug, Clone, Copy, Default)]
struct Piece {
    at: u64,
    bytes: usize,
}

/// Part of a repository's views, as large as a chunk of the plan.
#[derive(Debug, Clone)]
struct SpooledPart {
    /// The repository's number, by which parts are put in order.
    repository_number: u32,
    registry: RegistryName,
    repository: RepositoryName,
    counts: ChunkCounts,
    removals: Piece,
    kept: Piece,
    kept_hash: Digest,
    removal_groups: Groups<RemovalView>,
    kept_groups: Groups<KeptView>,
    /// The hash over what is removed, for the fingerprint.
    removals_hash: Digest,
    /// Empty until the plan as a whole is complete.
    hash: String,
}

/// The first of each group of views, and the size of the group (see [`LazyList::groups`]).
type Groups<V> = Vec<(V, u64)>;

/// The facts about one repository's removals that depend on the whole plan.
#[derive(Debug, Clone, Copy)]
pub struct FinalRemovals<'a> {
    /// The bytes of each removal, by tag.
    pub bytes: &'a [Option<ReclaimBytes>],
    /// The positions of the removals that are not enforced although their policies would.
    pub unenforced: &'a [u32],
}

impl PlanSpool {
    /// Creates an empty spool in the folder for temporary files.
    ///
    /// # Errors
    /// Returns an error if no file can be created there.
    pub fn new() -> io::Result<Self> {
        Ok(Self { file: Mutex::new(tempfile::tempfile()?), end: 0, parts: Vec::new() })
    }

    /// Adds the views of a repository, once. Numbers determine the order of the plan.
    ///
    /// # Errors
    /// Returns an error if the disk is full.
    pub fn add(
        &mut self,
        number: u32,
        (registry, repository): (&RegistryName, &RepositoryName),
        views: RepositoryViews<'_>,
    ) -> io::Result<()> {
        let (mut removals, mut kept) = (views.removals(), views.kept());
        loop {
            let going: Vec<RemovalView> = removals.by_ref().take(MAX_CHUNK_TAGS).collect();
            let staying: Vec<KeptView> = kept.by_ref().take(MAX_CHUNK_TAGS - going.len()).collect();
            if going.is_empty() && staying.is_empty() {
                return Ok(());
            }
            let mut counts = ChunkCounts { expired: going.len() as u64, ..ChunkCounts::default() };
            for view in &staying {
                counts.add_kept(&view.verdict);
            }
            let kept_json = serde_json::to_vec(&staying)?;
            let part = SpooledPart {
                repository_number: number,
                registry: registry.clone(),
                repository: repository.clone(),
                counts,
                removals: if going.is_empty() {
                    Piece::default()
                } else {
                    self.append(&compress_fast(&serde_json::to_vec(&going)?))?
                },
                kept: if staying.is_empty() { Piece::default() } else { self.append(&compress(&kept_json))? },
                kept_hash: Digest::of(&kept_json),
                removal_groups: group_by(&going, is_removed_alike),
                kept_groups: group_by(&staying, |a, b| a.verdict == b.verdict),
                removals_hash: hash_removals(&going),
                hash: String::new(),
            };
            self.parts.push(part);
        }
    }

    /// Completes the views of all removals. `removals` is called for repositories by number, in order, with the number
    /// of their removals.
    ///
    /// # Errors
    /// Returns an error if the disk is full or the file is damaged.
    pub fn finish<F>(mut self, mut removals: F) -> io::Result<SpooledPlan>
    where
        F: FnMut(u32, usize) -> io::Result<(Vec<Option<ReclaimBytes>>, Vec<u32>)>,
    {
        self.parts.sort_by_key(|part| part.repository_number);
        let mut parts = std::mem::take(&mut self.parts);
        for of_repository in parts.chunk_by_mut(|a, b| a.repository_number == b.repository_number) {
            let count = of_repository.iter().map(|part| to_usize(part.counts.expired)).sum();
            let (bytes, unenforced) =
                if count == 0 { Default::default() } else { removals(of_repository[0].repository_number, count)? };
            let mut from = 0;
            for part in of_repository {
                let to = from + to_usize(part.counts.expired);
                let here: Vec<u32> = unenforced
                    .iter()
                    .filter_map(|&at| (at as usize).checked_sub(from).filter(|at| *at < to - from))
                    .filter_map(|at| u32::try_from(at).ok())
                    .collect();
                let known = FinalRemovals { bytes: bytes.get(from..to).unwrap_or_default(), unenforced: &here };
                self.finish_part(part, known)?;
                from = to;
            }
        }
        Ok(SpooledPlan(Arc::new(Self { parts, ..self })))
    }

    fn finish_part(&mut self, part: &mut SpooledPart, known: FinalRemovals<'_>) -> io::Result<()> {
        let mut json = b"[]".to_vec();
        if part.counts.expired > 0 {
            json = complete_removals(&decompress(&self.read(part.removals)?)?, known)?;
            if !known.unenforced.is_empty() {
                let views: Vec<RemovalView> = serde_json::from_slice(&json)?;
                part.removals_hash = hash_removals(&views);
                part.removal_groups = group_by(&views, is_removed_alike);
            }
            part.removals = self.append(&compress(&json))?;
            for bytes in known.bytes {
                let found = bytes.unwrap_or_default();
                part.counts.reclaimable_bytes = part.counts.reclaimable_bytes.saturating_add(found.exclusive);
                part.counts.shared_bytes = part.counts.shared_bytes.saturating_add(found.shared);
                part.counts.unknown_bytes_removals += u64::from(bytes.is_none());
            }
        }
        part.hash = PlanChunk::hash_of(&Digest::of(&json), &part.kept_hash);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<Piece> {
        let file = self.file.get_mut().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.end))?;
        file.write_all(bytes)?;
        let piece = Piece { at: self.end, bytes: bytes.len() };
        self.end += bytes.len() as u64;
        Ok(piece)
    }

    fn read(&self, piece: Piece) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; piece.bytes];
        if piece.bytes > 0 {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(piece.at))?;
            file.read_exact(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// Visits the names of the tags of the wanted repositories, in the order in which they were added, until `visit`
    /// returns true.
    ///
    /// # Errors
    /// Returns an error if the file is damaged.
    pub fn find_tag(
        &self,
        mut wanted: impl FnMut(&RegistryName) -> bool,
        mut visit: impl FnMut(&str) -> bool,
    ) -> io::Result<Option<String>> {
        #[derive(serde::Deserialize)]
        struct Name {
            tag: String,
        }
        let mut parts: Vec<&SpooledPart> = self.parts.iter().filter(|part| wanted(&part.registry)).collect();
        parts.sort_by_key(|part| part.repository_number);
        for of_repository in parts.chunk_by(|a, b| a.repository_number == b.repository_number) {
            let mut names = Vec::new();
            for piece in
                of_repository.iter().flat_map(|part| [part.removals, part.kept]).filter(|piece| piece.bytes > 0)
            {
                names.extend(serde_json::from_slice::<Vec<Name>>(&decompress(&self.read(piece)?)?)?);
            }
            names.sort_by(|a, b| a.tag.cmp(&b.tag));
            if let Some(found) = names.into_iter().find(|name| visit(&name.tag)) {
                return Ok(Some(found.tag));
            }
        }
        Ok(None)
    }
}

/// A whole plan's views in a file.
#[derive(Debug, Clone)]
pub struct SpooledPlan(Arc<PlanSpool>);

impl SpooledPlan {
    /// Returns the tags to be removed.
    #[must_use]
    pub fn removals(&self) -> LazyList<RemovalView> {
        let spool = Arc::clone(&self.0);
        let lengths: Vec<usize> = self.0.parts.iter().map(|part| to_usize(part.counts.expired)).collect();
        let views = ChunkedViews::new(lengths, move |number| {
            let part = spool.parts.get(number).ok_or(io::ErrorKind::NotFound)?;
            Ok(Arc::new(serde_json::from_slice(&decompress(&spool.read(part.removals)?)?)?))
        });
        LazyList::computed(views.with_groups(self.0.parts.iter().flat_map(|part| part.removal_groups.clone())))
    }

    /// Returns the retained tags.
    #[must_use]
    pub fn kept(&self) -> LazyList<KeptView> {
        let spool = Arc::clone(&self.0);
        let lengths: Vec<usize> = self.0.parts.iter().map(|part| to_usize(part.counts.kept())).collect();
        let views = ChunkedViews::new(lengths, move |number| {
            let part = spool.parts.get(number).ok_or(io::ErrorKind::NotFound)?;
            Ok(Arc::new(serde_json::from_slice(&decompress(&spool.read(part.kept)?)?)?))
        });
        LazyList::computed(views.with_groups(self.0.parts.iter().flat_map(|part| part.kept_groups.clone())))
    }

    /// Returns the number of tags of each repository.
    #[must_use]
    pub fn tag_counts(&self) -> BTreeMap<(RegistryName, RepositoryName), u64> {
        let mut counts = BTreeMap::new();
        for part in &self.0.parts {
            let count: &mut u64 = counts.entry((part.registry.clone(), part.repository.clone())).or_default();
            *count += part.counts.expired + part.counts.kept();
        }
        counts
    }

    /// Sets fingerprint and id of a document that has these lists.
    pub fn seal(&self, document: &mut PlanDocument) {
        let parts = self.0.parts.iter().filter(|part| part.counts.expired > 0);
        let parts =
            parts.map(|part| (part.registry.to_string(), part.repository.to_string(), part.removals_hash.clone()));
        document.fingerprint = fingerprint_of(document, parts.collect());
        assign_plan_id_by_hashes(document, self.0.parts.iter().map(|part| part.hash.as_str()));
    }

    /// Returns the plan's chunks for the state, in order.
    pub fn chunks(&self) -> impl Iterator<Item = io::Result<PlanChunk>> + Send + 'static {
        let spool = Arc::clone(&self.0);
        (0..spool.parts.len()).map(move |number| {
            let part = &spool.parts[number];
            Ok(PlanChunk {
                registry: part.registry.to_string(),
                repository: part.repository.to_string(),
                counts: part.counts,
                hash: part.hash.clone(),
                removals: spool.read(part.removals)?,
                kept: spool.read(part.kept)?,
            })
        })
    }
}

/// Returns true for removals of a repository with the same policies and enforcement.
fn is_removed_alike(a: &RemovalView, b: &RemovalView) -> bool {
    a.enforce == b.enforce && a.policies().eq(b.policies())
}

/// Groups the views, in the order of the first of each.
fn group_by<V: Clone>(views: &[V], alike: impl Fn(&V, &V) -> bool) -> Groups<V> {
    let mut groups: Groups<V> = Vec::new();
    for view in views {
        // Neighbours are usually alike.
        match groups.iter_mut().rev().find(|(first, _)| alike(first, view)) {
            Some((_, count)) => *count += 1,
            None => groups.push((view.clone(), 1)),
        }
    }
    groups
}

/// Returns the JSON of removals with the facts known now.
fn complete_removals(json: &[u8], known: FinalRemovals<'_>) -> io::Result<Vec<u8>> {
    if !known.unenforced.is_empty() {
        let mut views: Vec<RemovalView> = serde_json::from_slice(json)?;
        for &at in known.unenforced {
            if let Some(view) = views.get_mut(at as usize) {
                view.enforce = false;
            }
        }
        let changed = serde_json::to_vec(&views)?;
        return complete_removals(&changed, FinalRemovals { unenforced: &[], ..known });
    }
    let finder = memchr::memmem::Finder::new(UNKNOWN_BYTES);
    let mut found = Vec::with_capacity(json.len() + 16 * known.bytes.len());
    let mut rest = json;
    for bytes in known.bytes {
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "a removal was spooled in another shape");
        let at = finder.find(rest).ok_or_else(missing)?;
        let (before, from) = rest.split_at(at);
        found.extend_from_slice(before);
        match bytes {
            Some(ReclaimBytes { exclusive, shared }) => {
                write!(found, "\"reclaimable_bytes\":{exclusive},\"shared_bytes\":{shared}")?;
            }
            None => found.extend_from_slice(UNKNOWN_BYTES),
        }
        rest = &from[UNKNOWN_BYTES.len()..];
    }
    found.extend_from_slice(rest);
    Ok(found)
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
