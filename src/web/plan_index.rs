//! Access to plans: a page of a plan with very many tags, without ever loading all of them.
//!
//! A plan is opened by its head and the counts of its chunks. A page then reads only the chunks that contain its tags.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::problem::Problem;
use crate::report::{KeptView, PlanDocument, RemovalView};
use crate::state::{ChunkCounts, PlanChunk, PlanChunkInfo, PlanList, StateStore};

/// The verdicts, in the order of their counts.
pub(super) const VERDICTS: [&str; 5] = ["expired", "protected", "undecided", "retained", "out-of-scope"];

/// The numbers of tags with each verdict, in the order of [`VERDICTS`].
pub(super) type VerdictCounts = [u64; 5];

/// The counts of a plan for one repository.
#[derive(Debug, Clone, Default)]
pub(super) struct RepositoryCounts {
    pub(super) counts: VerdictCounts,
    pub(super) reclaimable_bytes: u64,
    /// Bytes of removed images that remain because a retained manifest needs them.
    pub(super) shared_bytes: u64,
    /// Expired tags whose bytes cannot be known.
    pub(super) unknown_removals: u64,
}

/// An open plan.
#[derive(Debug)]
pub(super) struct OpenPlan {
    store: StateStore,
    run: Uuid,
    /// The plan without its tags.
    pub(super) document: PlanDocument,
    pub(super) counts: VerdictCounts,
    /// By registry and repository.
    pub(super) repositories: BTreeMap<(String, String), RepositoryCounts>,
    chunks: Vec<PlanChunkInfo>,
}

/// A selection of tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TagFilter {
    /// A position in [`VERDICTS`].
    pub(super) verdict: Option<usize>,
    /// A registry and a repository.
    pub(super) repository: Option<(String, String)>,
    /// The one tag of this name.
    pub(super) tag: Option<String>,
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
    /// The number of tags on all pages.
    pub(super) total: u64,
}

/// The part of a retained tag by which it is filtered.
#[derive(Deserialize)]
struct KeptHead<'a> {
    #[serde(borrow)]
    verdict: Cow<'a, str>,
}

/// The name of a tag in either list.
#[derive(Deserialize)]
struct TagHead<'a> {
    #[serde(borrow)]
    tag: Cow<'a, str>,
}

impl OpenPlan {
    /// Opens the plan of a run, if it is still stored.
    pub(super) async fn open(store: &StateStore, run: Uuid) -> Result<Option<Self>, Problem> {
        let Some(head) = store.plan_head(run).await? else { return Ok(None) };
        let document = serde_json::from_str(&head).map_err(|error| Problem::corrupt_plan(&error.into()))?;
        let chunks = store.plan_chunks(run).await?;
        let (mut all, mut repositories) = (VerdictCounts::default(), BTreeMap::new());
        for chunk in &chunks {
            let name = (chunk.registry.clone(), chunk.repository.clone());
            let found: &mut RepositoryCounts = repositories.entry(name).or_default();
            for (verdict, count) in by_verdict(&chunk.counts).into_iter().enumerate() {
                found.counts[verdict] += count;
                all[verdict] += count;
            }
            found.reclaimable_bytes += chunk.counts.reclaimable_bytes;
            found.shared_bytes += chunk.counts.shared_bytes;
            found.unknown_removals += chunk.counts.unknown_bytes_removals;
        }
        Ok(Some(Self { store: store.clone(), run, document, counts: all, repositories, chunks }))
    }

    /// Returns true if its retained tags are still stored, as those of the last full plan are.
    pub(super) fn keeps_kept(&self) -> bool {
        self.chunks.iter().all(|chunk| chunk.has_kept)
    }

    /// Returns the selected tags after the first `skip`, at most `take`: expired ones first, then retained ones, each
    /// by name. Retained tags are omitted if the plan no longer has them.
    pub(super) async fn tags(&self, wanted: &TagFilter, skip: u64, take: usize) -> Result<TagPage, Problem> {
        let (mut found, mut tags) = (0, Vec::new());
        for list in [PlanList::Removals, PlanList::Kept] {
            for chunk in &self.chunks {
                let there = wanted.count_in(chunk, list);
                if there == 0 {
                    continue;
                }
                // The counts tell how many tags fit unless each has to be looked at.
                if wanted.is_countable() && (tags.len() == take || found + there <= skip) {
                    found += there;
                    continue;
                }
                let Some(chunk) = self.store.plan_chunk(self.run, chunk.ordinal).await? else { continue };
                let (wanted, skip, room) = (wanted.clone(), skip.saturating_sub(found), take - tags.len());
                let page = run_blocking(move || wanted.page_of(list, &chunk, skip, room)).await?;
                tags.extend(page.tags);
                found += page.total;
            }
        }
        Ok(TagPage { tags, total: found })
    }
}

impl TagFilter {
    /// Returns true if the counts of a chunk tell how many of its tags fit.
    fn is_countable(&self) -> bool {
        self.words.is_empty() && self.tag.is_none()
    }

    /// The number of tags of a list of a chunk that may fit; where no words are looked for, that do.
    fn count_in(&self, chunk: &PlanChunkInfo, list: PlanList) -> u64 {
        let is_there =
            |(registry, repository): &(String, String)| *registry == chunk.registry && *repository == chunk.repository;
        if !self.repository.as_ref().is_none_or(is_there) {
            return 0;
        }
        let fits = |verdict: usize| self.verdict.is_none_or(|wanted| wanted == verdict);
        let counts = by_verdict(&chunk.counts).into_iter().enumerate().filter(|(verdict, _)| fits(*verdict));
        match list {
            PlanList::Removals => counts.filter(|(verdict, _)| *verdict == 0).map(|(_, count)| count).sum(),
            PlanList::Kept if chunk.has_kept => {
                counts.filter(|(verdict, _)| *verdict != 0).map(|(_, count)| count).sum()
            }
            PlanList::Kept => 0,
        }
    }

    /// Returns the selected tags of one list of a chunk of the right repository: at most `take` after the first `skip`,
    /// and their total number.
    fn page_of(&self, list: PlanList, chunk: &PlanChunk, skip: u64, take: usize) -> io::Result<TagPage> {
        let json = PlanChunk::json(list_of(list, chunk))?;
        let raw: Vec<&RawValue> = serde_json::from_slice(&json)?;
        let (mut page, mut text) = (TagPage { tags: Vec::new(), total: 0 }, String::new());
        for tag in raw {
            if !self.matches(list, tag.get(), &mut text)? {
                continue;
            }
            if page.total >= skip && page.tags.len() < take {
                page.tags.push(PlanTag::read(list, tag.get())?);
            }
            page.total += 1;
        }
        Ok(page)
    }

    fn matches(&self, list: PlanList, raw: &str, text: &mut String) -> io::Result<bool> {
        if let Some(wanted) = &self.tag {
            let head: TagHead<'_> = serde_json::from_str(raw)?;
            if head.tag != wanted.as_str() {
                return Ok(false);
            }
        }
        if !self.words.is_empty() {
            collect_strings(raw.as_bytes(), text);
            if !self.words.iter().all(|word| text.contains(word.as_str())) {
                return Ok(false);
            }
        }
        let Some(wanted) = self.verdict else { return Ok(true) };
        let verdict = match list {
            PlanList::Removals => 0,
            PlanList::Kept => {
                let head: KeptHead<'_> = serde_json::from_str(raw)?;
                VERDICTS.iter().position(|verdict| *verdict == head.verdict).unwrap_or(VERDICTS.len() - 1)
            }
        };
        Ok(verdict == wanted)
    }
}

impl PlanTag {
    fn read(list: PlanList, raw: &str) -> io::Result<Self> {
        Ok(match list {
            PlanList::Removals => Self::Removal(serde_json::from_str(raw)?),
            PlanList::Kept => Self::Kept(serde_json::from_str(raw)?),
        })
    }
}

fn list_of(list: PlanList, chunk: &PlanChunk) -> &[u8] {
    match list {
        PlanList::Removals => &chunk.removals,
        PlanList::Kept => &chunk.kept,
    }
}

/// Returns counts in the order of [`VERDICTS`].
fn by_verdict(counts: &ChunkCounts) -> VerdictCounts {
    [counts.expired, counts.protected, counts.undecided, counts.retained, counts.out_of_scope]
}

/// Collects all strings in a piece of JSON except the keys, in lower case, each on a line. The JSON must have no white
/// space between its tokens.
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

/// Runs long work outside of the event loop.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Problem> {
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
