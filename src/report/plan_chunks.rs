//! Conversion of a plan to and from chunks by repository, as the state stores it.

use std::borrow::Cow;
use std::io;
use std::iter::{self, Peekable};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::lazy_list::{LazyList, ViewSource};
use super::{KeptView, PlanDocument, RemovalView};
use crate::domain::{Cause, Digest, Failure};
use crate::state::{ChunkCounts, MAX_CHUNK_TAGS, PlanChunk, StateError, StateStore};

/// The reason why a stored plan cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum PlanLoadError {
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// It is damaged, or of the shape of another version.
    #[error("the plan of run {run} cannot be read by this version")]
    Unreadable {
        /// The run.
        run: Uuid,
        /// The fault in its data.
        #[source]
        cause: Cause,
    },
}

/// Views in chunks that are loaded on demand. The last one stays in memory, so that iteration in order loads each once.
///
/// An unreadable chunk yields no views; the id of its plan then no longer matches.
pub(super) struct ChunkedViews<V> {
    /// Positions at which chunks begin, and the number of all views at the end.
    starts: Vec<usize>,
    load: Box<dyn Fn(usize) -> io::Result<Arc<Vec<V>>> + Send + Sync>,
    /// The groups, if known.
    groups: Option<Vec<(V, u64)>>,
    last: Mutex<Option<(usize, Arc<Vec<V>>)>>,
}

impl<V> ChunkedViews<V> {
    /// Creates the views of chunks with these lengths. `load` returns the views of the chunk at a position.
    pub(super) fn new(
        lengths: impl IntoIterator<Item = usize>,
        load: impl Fn(usize) -> io::Result<Arc<Vec<V>>> + Send + Sync + 'static,
    ) -> Self {
        let mut starts = vec![0];
        let mut total = 0_usize;
        for length in lengths {
            total = total.saturating_add(length);
            starts.push(total);
        }
        Self { starts, load: Box::new(load), groups: None, last: Mutex::default() }
    }

    /// Adds the groups of the views, see [`LazyList::groups`].
    pub(super) fn with_groups(self, groups: impl IntoIterator<Item = (V, u64)>) -> Self {
        Self { groups: Some(groups.into_iter().collect()), ..self }
    }

    fn chunk(&self, number: usize) -> Option<Arc<Vec<V>>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, views)) = &*last
            && *of == number
        {
            return Some(Arc::clone(views));
        }
        let views = (self.load)(number).ok()?;
        *last = Some((number, Arc::clone(&views)));
        Some(views)
    }
}

impl<V: Clone + Send + Sync> ViewSource<V> for ChunkedViews<V> {
    fn count(&self) -> usize {
        self.starts.last().copied().unwrap_or_default()
    }

    fn make(&self, position: usize) -> Option<V> {
        if position >= self.count() {
            return None;
        }
        // The last chunk that begins there: earlier ones at the same position are empty.
        let number = self.starts.partition_point(|start| *start <= position).checked_sub(1)?;
        self.chunk(number)?.get(position - self.starts.get(number)?).cloned()
    }

    fn groups(&self) -> Option<Vec<(V, u64)>> {
        self.groups.clone()
    }
}

/// Returns the JSON of a plan with its two long lists left empty.
///
/// # Errors
/// Returns an error if serialization fails.
pub fn plan_head(document: &PlanDocument) -> io::Result<String> {
    let head =
        PlanDocument { removals: LazyList::from(Vec::new()), kept: LazyList::from(Vec::new()), ..document.clone() };
    Ok(serde_json::to_string(&head)?)
}

/// Returns the tags of a plan in chunks, each computed on demand. In each of the two lists the chunks together have the
/// plan's order.
pub fn plan_chunks(document: &PlanDocument) -> impl Iterator<Item = io::Result<PlanChunk>> {
    chunked(document).map(|(registry, repository, going, staying)| plan_chunk(registry, repository, &going, &staying))
}

/// Returns the hashes of the same chunks.
pub(super) fn chunk_hashes(document: &PlanDocument) -> impl Iterator<Item = io::Result<String>> {
    chunked(document).map(|(_, _, going, staying)| {
        Ok(PlanChunk::hash_of(&Digest::of(&json(&going)?), &Digest::of(&json(&staying)?)))
    })
}

/// Registry, repository, removed tags and retained tags.
type ChunkViews<'d> = (String, String, Vec<Cow<'d, RemovalView>>, Vec<Cow<'d, KeptView>>);

fn chunked(document: &PlanDocument) -> impl Iterator<Item = ChunkViews<'_>> {
    let (mut removals, mut kept) = (document.removals.iter().peekable(), document.kept.iter().peekable());
    iter::from_fn(move || {
        let next_removal = removals.peek().map(|view| (view.registry.clone(), view.repository.clone()));
        let next_kept = kept.peek().map(|view| (view.registry.clone(), view.repository.clone()));
        let (registry, repository) = match (next_removal, next_kept) {
            (Some(removal), Some(kept)) => removal.min(kept),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => return None,
        };
        let gone = take(&mut removals, MAX_CHUNK_TAGS, |view: &RemovalView| {
            view.registry == registry && view.repository == repository
        });
        let stays = take(&mut kept, MAX_CHUNK_TAGS - gone.len(), |view: &KeptView| {
            view.registry == registry && view.repository == repository
        });
        Some((registry, repository, gone, stays))
    })
}

/// Takes the next views, up to the size of a chunk.
fn take<'a, V: Clone + 'a>(
    views: &mut Peekable<impl Iterator<Item = Cow<'a, V>>>,
    limit: usize,
    fits: impl Fn(&V) -> bool,
) -> Vec<Cow<'a, V>> {
    iter::from_fn(|| views.next_if(|view| fits(view))).take(limit).collect()
}

fn plan_chunk(
    registry: String,
    repository: String,
    removals: &[Cow<'_, RemovalView>],
    kept: &[Cow<'_, KeptView>],
) -> io::Result<PlanChunk> {
    let mut counts = ChunkCounts { expired: removals.len() as u64, ..ChunkCounts::default() };
    for view in removals {
        counts.reclaimable_bytes += view.reclaimable_bytes.unwrap_or_default();
        counts.shared_bytes += view.shared_bytes.unwrap_or_default();
        counts.unknown_bytes_removals += u64::from(view.reclaimable_bytes.is_none());
    }
    for view in kept {
        counts.add_kept(&view.verdict);
    }
    Ok(PlanChunk::new(registry, repository, counts, &json(removals)?, &json(kept)?))
}

fn json<V: Clone + Serialize>(views: &[Cow<'_, V>]) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(views)?)
}

/// Loads the plan of a run from the state, if it is still stored. Its chunks stay compressed in memory. Plans older
/// than the last one are stored without retained tags, so their id no longer matches.
///
/// # Errors
/// Returns [`PlanLoadError`] if the state cannot be read, or the plan is not of this version.
pub async fn load_plan(store: &StateStore, run: Uuid) -> Result<Option<PlanDocument>, PlanLoadError> {
    let unreadable = |cause: Cause| PlanLoadError::Unreadable { run, cause };
    let Some(head) = store.plan_head(run).await? else { return Ok(None) };
    let mut document: PlanDocument = serde_json::from_str(&head).map_err(|error| unreadable(error.into()))?;
    let mut chunks = Vec::new();
    for info in store.plan_chunks(run).await? {
        let chunk = store.plan_chunk(run, info.ordinal).await?;
        chunks.push(chunk.ok_or_else(|| unreadable(Failure::new((), "it was forgotten meanwhile").into()))?);
    }
    let read = tokio::task::spawn_blocking(move || {
        // Each chunk is decoded once, so that a damaged one is reported here.
        for chunk in &chunks {
            views::<RemovalView>(&chunk.removals)?;
            views::<KeptView>(&chunk.kept)?;
        }
        Ok::<_, io::Error>(Arc::new(chunks))
    });
    let chunks = read.await.map_err(|error| unreadable(error.into()))?.map_err(|error| unreadable(error.into()))?;
    document.removals = lazy_list(&chunks, |chunk| &chunk.removals, |counts| counts.expired);
    document.kept = lazy_list(&chunks, |chunk| &chunk.kept, ChunkCounts::kept);
    Ok(Some(document))
}

/// Creates one list from all chunks.
fn lazy_list<V: Clone + DeserializeOwned + Send + Sync + 'static>(
    chunks: &Arc<Vec<PlanChunk>>,
    list: fn(&PlanChunk) -> &[u8],
    count: fn(&ChunkCounts) -> u64,
) -> LazyList<V> {
    let length = |chunk: &PlanChunk| if list(chunk).is_empty() { 0 } else { count(&chunk.counts) };
    let lengths: Vec<usize> = chunks.iter().map(|chunk| usize::try_from(length(chunk)).unwrap_or(usize::MAX)).collect();
    let chunks = Arc::clone(chunks);
    LazyList::computed(ChunkedViews::new(lengths, move |number| {
        let chunk = chunks.get(number).ok_or(io::ErrorKind::NotFound)?;
        views(list(chunk)).map(Arc::new)
    }))
}

/// Decodes the views of a compressed list.
fn views<V: DeserializeOwned>(list: &[u8]) -> io::Result<Vec<V>> {
    Ok(serde_json::from_slice(&PlanChunk::json(list)?)?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn views_of_chunks_are_read_once_in_order() {
        let loads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&loads);
        let views = ChunkedViews::new([2, 0, 3, 1, 0], move |number| {
            counted.fetch_add(1, Ordering::Relaxed);
            match number {
                0 => Ok(Arc::new(vec![10, 11])),
                2 => Ok(Arc::new(vec![20, 21, 22])),
                3 => Err(io::Error::other("damaged")),
                other => panic!("chunk {other} is empty"),
            }
        });
        let list = LazyList::computed(views);
        assert_eq!(list.len(), 6);
        assert_eq!(list.iter().map(Cow::into_owned).collect::<Vec<i32>>(), [10, 11, 20, 21, 22]);
        assert_eq!(loads.load(Ordering::Relaxed), 3);
        assert_eq!((list.get(1).as_deref(), list.get(5), list.get(6)), (Some(&11), None, None));
    }
}
