//! Plans opened to be looked at: a page of a plan with very many tags, without ever holding all of them.
//!
//! Opening reads a plan once from end to end and keeps its head, the counts of each repository, and a mark at every
//! mebibyte, from which reading can go on. A page then reads from the mark before it. What is open and not looked at is
//! let go.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::plan_stream::{PlanList, PlanSplitter};
use super::problem::Problem;
use crate::report::{KeptView, PlanDocument, RemovalView};
use crate::state::{Decompressor, StateStore};

/// The verdicts, in the order in which counts of them are kept.
pub(super) const VERDICTS: [&str; 5] = ["expired", "protected", "undecided", "retained", "out-of-scope"];

/// How much of a plan lies between two marks. A mark takes about 45 KB.
const CHUNK_BYTES: usize = 1 << 20;

/// How many plans are open at once.
const MAX_CACHED_PLANS: usize = 2;

/// After so long without a look a plan is let go.
const EVICT_AFTER: Duration = Duration::from_mins(3);

/// How many tags have each verdict, in the order of [`VERDICTS`].
pub(super) type VerdictCounts = [u64; 5];

/// What a plan holds of one repository.
#[derive(Debug, Clone, Default)]
pub(super) struct RepositoryCounts {
    pub(super) counts: VerdictCounts,
    pub(super) reclaimable_bytes: u64,
    /// Bytes of images of removed tags that stay, because something kept uses them.
    pub(super) shared_bytes: u64,
    /// Tags that go whose bytes cannot be known.
    pub(super) unknown_removals: u64,
    /// The marks after which its tags stand.
    checkpoints: Vec<usize>,
}

/// A plan that is open.
#[derive(Debug)]
pub(super) struct IndexedPlan {
    /// The plan without its tags.
    pub(super) document: PlanDocument,
    pub(super) counts: VerdictCounts,
    /// By registry and repository.
    pub(super) repositories: BTreeMap<(String, String), RepositoryCounts>,
    checkpoints: Vec<Checkpoint>,
}

#[derive(Debug)]
struct Checkpoint {
    cursor: PlanCursor,
    /// Of the tags that end before the next mark.
    counts: VerdictCounts,
}

/// The way through a plan.
#[derive(Debug, Clone)]
struct PlanCursor {
    unpacker: Decompressor,
    splitter: PlanSplitter,
}

/// Which tags are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TagFilter {
    /// A position in [`VERDICTS`].
    pub(super) verdict: Option<usize>,
    /// A registry and a repository.
    pub(super) repository: Option<(String, String)>,
    /// All of these stand somewhere in what is known of the tag; in lower case.
    pub(super) words: Vec<String>,
}

/// One tag of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PlanTag {
    Removal(Box<RemovalView>),
    Kept(Box<KeptView>),
}

/// A page of tags.
#[derive(Debug)]
pub(super) struct TagPage {
    pub(super) tags: Vec<PlanTag>,
    /// How many there are on all pages.
    pub(super) total: u64,
}

/// What is needed of a tag to count it.
#[derive(Deserialize)]
struct TagHead<'a> {
    #[serde(borrow)]
    registry: Cow<'a, str>,
    #[serde(borrow)]
    repository: Cow<'a, str>,
    #[serde(borrow)]
    verdict: Option<Cow<'a, str>>,
    reclaimable_bytes: Option<u64>,
    shared_bytes: Option<u64>,
}

impl TagHead<'_> {
    fn verdict(&self, list: PlanList) -> usize {
        let label = match list {
            PlanList::Removals => VERDICTS[0],
            PlanList::Kept => self.verdict.as_deref().unwrap_or_default(),
        };
        VERDICTS.iter().position(|verdict| *verdict == label).unwrap_or(VERDICTS.len() - 1)
    }
}

impl PlanCursor {
    /// Goes on to the next mark. Gives whether there is more.
    fn read_chunk(
        &mut self,
        room: &mut [u8],
        head: &mut Vec<u8>,
        mut tag: impl FnMut(PlanList, &[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        let mut done = 0;
        while done < CHUNK_BYTES {
            let read = self.unpacker.read(room)?;
            if read == 0 {
                return Ok(false);
            }
            self.splitter.feed(&room[..read], head, &mut tag)?;
            done += read;
        }
        Ok(true)
    }
}

impl IndexedPlan {
    /// Reads a plan once, whole.
    fn index(unpacker: Decompressor) -> io::Result<Self> {
        let mut walk = PlanCursor { unpacker, splitter: PlanSplitter::default() };
        let (mut head, mut room) = (Vec::new(), read_buffer());
        let (mut marks, mut repositories) = (Vec::new(), BTreeMap::new());
        let mut all = VerdictCounts::default();
        let mut more = true;
        while more {
            let (start, number) = (walk.clone(), marks.len());
            let mut counts = VerdictCounts::default();
            more = walk.read_chunk(&mut room, &mut head, |list, raw| {
                let glance: TagHead = serde_json::from_slice(raw)?;
                let verdict = glance.verdict(list);
                counts[verdict] += 1;
                let name = (glance.registry.into_owned(), glance.repository.into_owned());
                let found: &mut RepositoryCounts = repositories.entry(name).or_default();
                found.counts[verdict] += 1;
                found.reclaimable_bytes += glance.reclaimable_bytes.unwrap_or_default();
                found.shared_bytes += glance.shared_bytes.unwrap_or_default();
                let is_unknown = list == PlanList::Removals && glance.reclaimable_bytes.is_none();
                found.unknown_removals += u64::from(is_unknown);
                if found.checkpoints.last() != Some(&number) {
                    found.checkpoints.push(number);
                }
                Ok(())
            })?;
            for (all, here) in all.iter_mut().zip(counts) {
                *all += here;
            }
            marks.push(Checkpoint { cursor: start, counts });
        }
        Ok(Self { document: serde_json::from_slice(&head)?, counts: all, repositories, checkpoints: marks })
    }

    /// The wanted tags after the first `skip` of them, at most `take`: those that go first, then those that stay, each by
    /// name.
    pub(super) fn tags(&self, wanted: &TagFilter, skip: u64, take: usize) -> io::Result<TagPage> {
        let of_repository = match &wanted.repository {
            Some(name) => match self.repositories.get(name) {
                Some(found) => Some(found),
                None => return Ok(TagPage { tags: Vec::new(), total: 0 }),
            },
            None => None,
        };
        let counted =
            |counts: &VerdictCounts| wanted.verdict.map_or_else(|| counts.iter().sum(), |verdict| counts[verdict]);
        let known = wanted.words.is_empty().then(|| counted(of_repository.map_or(&self.counts, |found| &found.counts)));
        let (mut found, mut tags) = (0, Vec::new());
        let (mut room, mut head, mut text) = (read_buffer(), Vec::new(), String::new());
        for (number, mark) in self.checkpoints.iter().enumerate() {
            if known.is_some() && tags.len() == take {
                break;
            }
            if counted(&mark.counts) == 0 || of_repository.is_some_and(|found| !found.checkpoints.contains(&number)) {
                continue;
            }
            if known.is_some() && of_repository.is_none() && found + counted(&mark.counts) <= skip {
                found += counted(&mark.counts);
                continue;
            }
            let mut walk = mark.cursor.clone();
            walk.read_chunk(&mut room, &mut head, |list, raw| {
                if wanted.matches(list, raw, &mut text)? {
                    if found >= skip && tags.len() < take {
                        tags.push(PlanTag::read(list, raw)?);
                    }
                    found += 1;
                }
                Ok(())
            })?;
            head.clear();
        }
        Ok(TagPage { tags, total: known.unwrap_or(found) })
    }
}

impl TagFilter {
    fn matches(&self, list: PlanList, raw: &[u8], text: &mut String) -> io::Result<bool> {
        if !self.words.is_empty() {
            collect_strings(raw, text);
            if !self.words.iter().all(|word| text.contains(word.as_str())) {
                return Ok(false);
            }
        }
        if self.verdict.is_none() && self.repository.is_none() {
            return Ok(true);
        }
        let glance: TagHead = serde_json::from_slice(raw)?;
        let is_there = |(registry, repository): &(String, String)| {
            *registry == glance.registry && *repository == glance.repository
        };
        Ok(self.verdict.is_none_or(|verdict| glance.verdict(list) == verdict)
            && self.repository.as_ref().is_none_or(is_there))
    }
}

impl PlanTag {
    fn read(list: PlanList, raw: &[u8]) -> io::Result<Self> {
        Ok(match list {
            PlanList::Removals => Self::Removal(serde_json::from_slice(raw)?),
            PlanList::Kept => Self::Kept(serde_json::from_slice(raw)?),
        })
    }
}

fn read_buffer() -> Vec<u8> {
    vec![0; 64 << 10]
}

/// All texts in a piece of JSON but the keys, in lower case, each on a line. The JSON has no white space between its
/// tokens.
fn collect_strings(raw: &[u8], text: &mut String) {
    text.clear();
    let mut rest = raw;
    while let Some(start) = rest.iter().position(|byte| *byte == b'"') {
        rest = &rest[start + 1..];
        let mut end = 0;
        while let Some(byte) = rest.get(end).filter(|byte| **byte != b'"') {
            end += if *byte == b'\\' { 2 } else { 1 };
        }
        let value = &rest[..end.min(rest.len())];
        rest = rest.get(end + 1..).unwrap_or_default();
        if rest.first() != Some(&b':') {
            text.push_str(&String::from_utf8_lossy(value));
            text.push('\n');
        }
    }
    text.make_ascii_lowercase();
}

/// The plans that are open.
#[derive(Debug)]
pub(super) struct PlanCache {
    store: StateStore,
    entries: Mutex<Vec<CachedPlan>>,
}

#[derive(Debug)]
struct CachedPlan {
    run: Uuid,
    plan: Arc<IndexedPlan>,
    last_used: Instant,
}

impl PlanCache {
    pub(super) fn new(store: StateStore) -> Self {
        Self { store, entries: Mutex::default() }
    }

    /// The plan of a run, if it has one that is still kept. One is opened at a time, so that many visitors need no more
    /// memory than one.
    pub(super) async fn get(&self, run: Uuid) -> Result<Option<Arc<IndexedPlan>>, Problem> {
        let mut open = self.entries.lock().await;
        let used = Instant::now();
        if let Some(entry) = open.iter_mut().find(|entry| entry.run == run) {
            entry.last_used = used;
            return Ok(Some(Arc::clone(&entry.plan)));
        }
        let Some(reader) = self.store.plan_reader(run).await? else { return Ok(None) };
        let plan = Arc::new(run_blocking(move || IndexedPlan::index(reader)).await?);
        if open.len() == MAX_CACHED_PLANS {
            let oldest = (0..open.len()).min_by_key(|at| open[*at].last_used);
            oldest.map(|at| open.swap_remove(at));
        }
        open.push(CachedPlan { run, plan: Arc::clone(&plan), last_used: used });
        Ok(Some(plan))
    }

    /// Lets go, now and then, what nobody looks at. Never ends.
    pub(super) async fn evict_unused(&self) {
        loop {
            tokio::time::sleep(EVICT_AFTER / 3).await;
            self.entries.lock().await.retain(|entry| entry.last_used.elapsed() < EVICT_AFTER);
        }
    }
}

/// Does what takes long beside the event loop.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other).and_then(|done| done).map_err(|error| Problem::corrupt_plan(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_searched_and_keys_are_not() {
        let mut text = String::new();
        collect_strings(
            br#"{"tag":"V1","n":3,"reasons":[{"kind":"let-go","holder":{"file":"a \" B"}}],"x":null}"#,
            &mut text,
        );
        assert_eq!(text, "v1\nlet-go\na \\\" b\n");
        collect_strings(br#"{"cut":"off"#, &mut text);
        assert_eq!(text, "off\n");
    }
}
