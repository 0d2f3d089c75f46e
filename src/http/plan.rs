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

use super::problem::Problem;
use super::split::{List, Splitter};
use crate::report::{KeptView, PlanDocument, RemovalView};
use crate::store::{Store, Unpacker};

/// The verdicts, in the order in which counts of them are kept.
pub(super) const VERDICTS: [&str; 5] = ["expired", "protected", "undecided", "retained", "out-of-scope"];

/// How much of a plan lies between two marks. A mark takes about 45 KB.
const STEP: usize = 1 << 20;

/// How many plans are open at once.
const MOST_OPEN: usize = 2;

/// After so long without a look a plan is let go.
const UNUSED: Duration = Duration::from_mins(3);

/// How many tags have each verdict, in the order of [`VERDICTS`].
pub(super) type Counts = [u64; 5];

/// What a plan holds of one repository.
#[derive(Debug, Clone, Default)]
pub(super) struct OfRepository {
    pub(super) counts: Counts,
    pub(super) reclaimable_bytes: u64,
    /// Bytes of images of removed tags that stay, because something kept uses them.
    pub(super) shared_bytes: u64,
    /// Tags that go whose bytes cannot be known.
    pub(super) unknown_removals: u64,
    /// The marks after which its tags stand.
    marks: Vec<usize>,
}

/// A plan that is open.
#[derive(Debug)]
pub(super) struct Opened {
    /// The plan without its tags.
    pub(super) document: PlanDocument,
    pub(super) counts: Counts,
    /// By registry and repository.
    pub(super) repositories: BTreeMap<(String, String), OfRepository>,
    marks: Vec<Mark>,
}

#[derive(Debug)]
struct Mark {
    walk: Walk,
    /// Of the tags that end before the next mark.
    counts: Counts,
}

/// The way through a plan.
#[derive(Debug, Clone)]
struct Walk {
    unpacker: Unpacker,
    splitter: Splitter,
}

/// Which tags are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// A position in [`VERDICTS`].
    pub(super) verdict: Option<usize>,
    /// A registry and a repository.
    pub(super) repository: Option<(String, String)>,
    /// All of these stand somewhere in what is known of the tag; in lower case.
    pub(super) words: Vec<String>,
}

/// One tag of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tag {
    Goes(Box<RemovalView>),
    Stays(Box<KeptView>),
}

/// A page of tags.
#[derive(Debug)]
pub(super) struct Tags {
    pub(super) tags: Vec<Tag>,
    /// How many there are on all pages.
    pub(super) total: u64,
}

/// What is needed of a tag to count it.
#[derive(Deserialize)]
struct Glance<'a> {
    #[serde(borrow)]
    registry: Cow<'a, str>,
    #[serde(borrow)]
    repository: Cow<'a, str>,
    #[serde(borrow)]
    verdict: Option<Cow<'a, str>>,
    reclaimable_bytes: Option<u64>,
    shared_bytes: Option<u64>,
}

impl Glance<'_> {
    fn verdict(&self, list: List) -> usize {
        let label = match list {
            List::Removals => VERDICTS[0],
            List::Kept => self.verdict.as_deref().unwrap_or_default(),
        };
        VERDICTS.iter().position(|verdict| *verdict == label).unwrap_or(VERDICTS.len() - 1)
    }
}

impl Walk {
    /// Goes on to the next mark. Gives whether there is more.
    fn step(
        &mut self,
        room: &mut [u8],
        head: &mut Vec<u8>,
        mut tag: impl FnMut(List, &[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        let mut done = 0;
        while done < STEP {
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

impl Opened {
    /// Reads a plan once, whole.
    fn open(unpacker: Unpacker) -> io::Result<Self> {
        let mut walk = Walk { unpacker, splitter: Splitter::default() };
        let (mut head, mut room) = (Vec::new(), room());
        let (mut marks, mut repositories) = (Vec::new(), BTreeMap::new());
        let mut all = Counts::default();
        let mut more = true;
        while more {
            let (start, number) = (walk.clone(), marks.len());
            let mut counts = Counts::default();
            more = walk.step(&mut room, &mut head, |list, raw| {
                let glance: Glance = serde_json::from_slice(raw)?;
                let verdict = glance.verdict(list);
                counts[verdict] += 1;
                let name = (glance.registry.into_owned(), glance.repository.into_owned());
                let found: &mut OfRepository = repositories.entry(name).or_default();
                found.counts[verdict] += 1;
                found.reclaimable_bytes += glance.reclaimable_bytes.unwrap_or_default();
                found.shared_bytes += glance.shared_bytes.unwrap_or_default();
                let is_unknown = list == List::Removals && glance.reclaimable_bytes.is_none();
                found.unknown_removals += u64::from(is_unknown);
                if found.marks.last() != Some(&number) {
                    found.marks.push(number);
                }
                Ok(())
            })?;
            for (all, here) in all.iter_mut().zip(counts) {
                *all += here;
            }
            marks.push(Mark { walk: start, counts });
        }
        Ok(Self { document: serde_json::from_slice(&head)?, counts: all, repositories, marks })
    }

    /// The wanted tags after the first `skip` of them, at most `take`: those that go first, then those that stay, each by
    /// name.
    pub(super) fn tags(&self, wanted: &Wanted, skip: u64, take: usize) -> io::Result<Tags> {
        let of_repository = match &wanted.repository {
            Some(name) => match self.repositories.get(name) {
                Some(found) => Some(found),
                None => return Ok(Tags { tags: Vec::new(), total: 0 }),
            },
            None => None,
        };
        let counted = |counts: &Counts| wanted.verdict.map_or_else(|| counts.iter().sum(), |verdict| counts[verdict]);
        let known = wanted.words.is_empty().then(|| counted(of_repository.map_or(&self.counts, |found| &found.counts)));
        let (mut found, mut tags) = (0, Vec::new());
        let (mut room, mut head, mut text) = (room(), Vec::new(), String::new());
        for (number, mark) in self.marks.iter().enumerate() {
            if known.is_some() && tags.len() == take {
                break;
            }
            if counted(&mark.counts) == 0 || of_repository.is_some_and(|found| !found.marks.contains(&number)) {
                continue;
            }
            if known.is_some() && of_repository.is_none() && found + counted(&mark.counts) <= skip {
                found += counted(&mark.counts);
                continue;
            }
            let mut walk = mark.walk.clone();
            walk.step(&mut room, &mut head, |list, raw| {
                if wanted.fits(list, raw, &mut text)? {
                    if found >= skip && tags.len() < take {
                        tags.push(Tag::read(list, raw)?);
                    }
                    found += 1;
                }
                Ok(())
            })?;
            head.clear();
        }
        Ok(Tags { tags, total: known.unwrap_or(found) })
    }
}

impl Wanted {
    fn fits(&self, list: List, raw: &[u8], text: &mut String) -> io::Result<bool> {
        if !self.words.is_empty() {
            values(raw, text);
            if !self.words.iter().all(|word| text.contains(word.as_str())) {
                return Ok(false);
            }
        }
        if self.verdict.is_none() && self.repository.is_none() {
            return Ok(true);
        }
        let glance: Glance = serde_json::from_slice(raw)?;
        let is_there = |(registry, repository): &(String, String)| {
            *registry == glance.registry && *repository == glance.repository
        };
        Ok(self.verdict.is_none_or(|verdict| glance.verdict(list) == verdict)
            && self.repository.as_ref().is_none_or(is_there))
    }
}

impl Tag {
    fn read(list: List, raw: &[u8]) -> io::Result<Self> {
        Ok(match list {
            List::Removals => Self::Goes(serde_json::from_slice(raw)?),
            List::Kept => Self::Stays(serde_json::from_slice(raw)?),
        })
    }
}

fn room() -> Vec<u8> {
    vec![0; 64 << 10]
}

/// All texts in a piece of JSON but the keys, in lower case, each on a line. The JSON has no white space between its
/// tokens.
fn values(raw: &[u8], text: &mut String) {
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
pub(super) struct Plans {
    store: Store,
    open: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    run: Uuid,
    plan: Arc<Opened>,
    used: Instant,
}

impl Plans {
    pub(super) fn new(store: Store) -> Self {
        Self { store, open: Mutex::default() }
    }

    /// The plan of a run, if it has one that is still kept. One is opened at a time, so that many visitors need no more
    /// memory than one.
    pub(super) async fn of(&self, run: Uuid) -> Result<Option<Arc<Opened>>, Problem> {
        let mut open = self.open.lock().await;
        let used = Instant::now();
        if let Some(entry) = open.iter_mut().find(|entry| entry.run == run) {
            entry.used = used;
            return Ok(Some(Arc::clone(&entry.plan)));
        }
        let Some(reader) = self.store.plan_reader(run).await? else { return Ok(None) };
        let plan = Arc::new(blocking(move || Opened::open(reader)).await?);
        if open.len() == MOST_OPEN {
            let oldest = (0..open.len()).min_by_key(|at| open[*at].used);
            oldest.map(|at| open.swap_remove(at));
        }
        open.push(Entry { run, plan: Arc::clone(&plan), used });
        Ok(Some(plan))
    }

    /// Lets go, now and then, what nobody looks at. Never ends.
    pub(super) async fn let_go(&self) {
        loop {
            tokio::time::sleep(UNUSED / 3).await;
            self.open.lock().await.retain(|entry| entry.used.elapsed() < UNUSED);
        }
    }
}

/// Does what takes long beside the event loop.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other).and_then(|done| done).map_err(|error| Problem::damaged(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_searched_and_keys_are_not() {
        let mut text = String::new();
        values(br#"{"tag":"V1","n":3,"reasons":[{"kind":"let-go","holder":{"file":"a \" B"}}],"x":null}"#, &mut text);
        assert_eq!(text, "v1\nlet-go\na \\\" b\n");
        values(br#"{"cut":"off"#, &mut text);
        assert_eq!(text, "off\n");
    }
}
