//! The content that came to a repository after it was decided about: an index that was pushed meanwhile may list an image
//! that is still to be deleted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tokio::sync::Mutex;

use super::super::companions::reachable_from;
use super::super::delete_untagged::SNAPSHOT_MAX_AGE;
use super::super::{Outcome, RepositoryContext};
use super::kept;
use crate::domain::{Digest, Gap, Manifest, Repository, TagName, UnreadKind};

/// Reads a repository again before its first deletion, each minute from then on, and as soon as a new tag is listed.
pub(super) struct LaterContent<'a> {
    pub(super) context: &'a RepositoryContext<'a>,
    last: Mutex<Option<Reading>>,
}

/// The repository, as it was read last.
struct Reading {
    at: Timestamp,
    tags: BTreeSet<TagName>,
    /// The images that later content lists, each with a manifest that leads to it.
    listed_by: BTreeMap<Digest, Digest>,
}

impl<'a> LaterContent<'a> {
    pub(super) fn new(context: &'a RepositoryContext<'a>) -> Self {
        Self { context, last: Mutex::default() }
    }

    /// Checks that no later index lists a manifest. `tags` are those that the repository lists now, where they are read.
    /// If later content cannot be read, nothing further is deleted in the repository.
    pub(super) async fn check(&self, digest: &Digest, tags: &[TagName]) -> Result<(), Outcome> {
        let mut last = self.last.lock().await;
        let now = self.context.now();
        let current = last.take().filter(|last| {
            now.duration_since(last.at) < SNAPSHOT_MAX_AGE && tags.iter().all(|tag| last.tags.contains(tag))
        });
        let reading = match current {
            Some(reading) => reading,
            None => self.read(now, tags).await.map_err(|why| self.stop(&why))?,
        };
        let index = reading.listed_by.get(digest).cloned();
        *last = Some(reading);
        match index {
            Some(index) => Err(kept(format!("{index}, which came to the repository meanwhile, lists it"))),
            None => Ok(()),
        }
    }

    /// Stops the deletions in the repository.
    fn stop(&self, why: &str) -> Outcome {
        let repository = &self.context.repository.name;
        let why = format!(
            "{repository} could not be read again, and an image that is still to be deleted may be part of a later index: {why}"
        );
        self.context.breaker.trip_repository(repository, why.clone());
        Outcome::Failed(why)
    }

    async fn read(&self, at: Timestamp, listed: &[TagName]) -> Result<Reading, String> {
        let Self { context: site, .. } = self;
        let (reader, cache) = (&*site.registry.reader, &site.context.store);
        let mut repository = reader.repository(&site.repository.name, &BTreeSet::new(), cache).await;
        let later = self.later_manifests(&repository);
        let mut requested: BTreeSet<Digest> = BTreeSet::new();
        loop {
            let unread = unread_indexes(&repository, &later);
            let open: BTreeSet<Digest> = unread.difference(&requested).cloned().collect();
            if open.is_empty() {
                break;
            }
            reader.read_manifests(&mut repository, &open, cache).await;
            requested.extend(open);
        }
        let is_new =
            |gap: &&Gap| gap.blocks_repository() && !site.repository.gaps.iter().any(|old| old.target == gap.target);
        if let Some(gap) = repository.gaps.iter().find(is_new) {
            return Err(format!("{}: {}", gap.target, gap.message));
        }
        if let Some(digest) = unread_indexes(&repository, &later).first() {
            return Err(format!("{digest} was not given"));
        }
        if let Some(digest) = requested.iter().find(|digest| !repository.manifests.contains_key(*digest)) {
            return Err(format!("{digest} is listed and was not found"));
        }
        let tags: BTreeSet<TagName> =
            repository.tags.iter().filter(|tag| tag.digest.is_some()).map(|tag| tag.name.clone()).collect();
        let known = |tag: &TagName| tags.contains(tag) || site.repository.tag(tag.as_str()).is_some();
        if let Some(tag) = listed.iter().find(|tag| !known(tag)) {
            return Err(format!("tag {tag} is listed and was not found"));
        }
        let tags = tags.into_iter().chain(listed.iter().cloned()).collect();
        let mut listed_by = BTreeMap::new();
        for root in later {
            let mut reached = reachable_from(&repository, vec![root.clone()]);
            reached.remove(&root);
            listed_by.extend(reached.into_iter().map(|digest| (digest, root.clone())));
        }
        Ok(Reading { at, tags, listed_by })
    }

    /// Returns the manifests that the decision did not know, and those that got a tag since.
    fn later_manifests(&self, now: &Repository) -> BTreeSet<Digest> {
        let decided = self.context.repository;
        let known: BTreeSet<&Digest> =
            decided.manifests.keys().chain(decided.listed.iter().map(|row| &row.digest)).collect();
        let stored = now.manifests.keys().chain(now.listed.iter().map(|row| &row.digest));
        let tagged = now.tags.iter().filter_map(|tag| {
            let digest = tag.digest.as_ref()?;
            let before = decided.tag(tag.name.as_str()).and_then(|tag| tag.digest.as_ref());
            (before != Some(digest)).then_some(digest)
        });
        stored.filter(|digest| !known.contains(*digest)).chain(tagged).cloned().collect()
    }
}

/// Returns the manifests that these lead to and that may be indexes, as long as they were not read.
fn unread_indexes(repository: &Repository, from: &BTreeSet<Digest>) -> BTreeSet<Digest> {
    let listed = repository.listed.iter().filter(|row| from.contains(&row.digest));
    let listed = listed.filter(|row| row.kind.unread() == Some(UnreadKind::Index)).map(|row| row.digest.clone());
    let reached = reachable_from(repository, from.iter().cloned().collect());
    let is_unread =
        |digest: &Digest| repository.manifests.get(digest).and_then(Manifest::unread_kind) == Some(UnreadKind::Index);
    reached.into_iter().filter(is_unread).chain(listed).collect()
}
