//! The order of removals: one tag of the registry alone, then one of each repository, then the others.
//!
//! Nobody knows what an untag does until one was seen: some registries delete the manifest with the tag, or with its last
//! one. So the first removal is one that tells most, and until the manifest was seen to survive there is no other.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use futures::stream::{self, StreamExt as _};

use super::untag::{Manifests, closure, companions_last, one};
use super::{Applied, Course, Order, Site};
use crate::domain::{Digest, Outcome, Skip, TagName};
use crate::store::StoreError;

/// The removals of one repository, in their order.
pub(super) struct Queue<'a> {
    pub(super) site: Site<'a>,
    /// Images, the most telling ones first, the tags of an image one after the other.
    images: VecDeque<(Rank, Order)>,
    /// Signatures and the like.
    companions: Vec<Order>,
    manifests: Manifests,
    /// The tags that each image has left, and whether some of them stay.
    tags: Tags,
    /// Removals that went alone without success.
    tried: u32,
    applied: Vec<Applied>,
}

/// How much a removal tells, and how little harm a surprise would do: the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "questions in the order in which they decide")]
struct Rank {
    /// The registry refused it in an earlier run.
    refused: bool,
    /// An index that stays contains the image.
    needed: bool,
    /// A tag of it stays, so its manifest might survive for that reason alone.
    keeps_a_tag: bool,
    /// The tags to be removed before its manifest has none.
    tags: usize,
    /// It contains other manifests, or something refers to it that might go along.
    has_kin: bool,
}

/// The tags that images have left.
pub(super) struct Tags {
    left: Mutex<HashMap<Digest, usize>>,
    /// Those of the images of which some tags stay.
    keeping: BTreeSet<Digest>,
}

impl Tags {
    /// Whether all tags of the image go in this run.
    pub(super) fn all_go(&self, digest: &Digest) -> bool {
        !self.keeping.contains(digest)
    }

    /// Notes that a tag of the image is gone, and returns whether it was the last one.
    pub(super) fn gone(&self, digest: &Digest) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = left.get_mut(digest) else { return false };
        let Some(fewer) = left.checked_sub(1) else { return false };
        *left = fewer;
        fewer == 0 && self.all_go(digest)
    }
}

impl<'a> Queue<'a> {
    pub(super) fn new(site: Site<'a>, orders: Vec<Order>) -> Self {
        let repository = site.repository;
        let going: BTreeSet<&TagName> = orders.iter().map(|order| &order.removal.tag).collect();
        let mut left: HashMap<Digest, usize> = orders.iter().map(|order| (order.removal.digest.clone(), 0)).collect();
        let mut staying = BTreeSet::new();
        for tag in &repository.tags {
            let Some(digest) = &tag.digest else { continue };
            if let Some(left) = left.get_mut(digest) {
                *left += 1;
            }
            if !going.contains(&tag.name) {
                staying.insert(digest);
            }
        }
        let needed = closure(repository, staying.iter().map(|&digest| digest.clone()).collect());
        let keeping: BTreeSet<Digest> =
            staying.into_iter().filter(|digest| left.contains_key(*digest)).cloned().collect();
        let subjects: BTreeSet<&Digest> =
            repository.manifests.values().filter_map(|manifest| manifest.subject.as_deref()).collect();
        let (companions, images): (Vec<Order>, Vec<Order>) =
            orders.into_iter().partition(|order| order.removal.companion_of.is_some());
        let accompanied: BTreeSet<&Digest> =
            companions.iter().filter_map(|order| order.removal.companion_of.as_deref()).collect();
        let mut firsts = HashMap::new();
        for (position, order) in images.iter().enumerate() {
            firsts.entry(order.removal.digest.clone()).or_insert(position);
        }
        let rank = |order: &Order| {
            let digest = &order.removal.digest;
            let contains = repository.manifests.get(digest).is_some_and(|manifest| !manifest.children.is_empty());
            Rank {
                refused: site.refusals.of(&order.removal).is_some(),
                needed: needed.contains(digest) && !keeping.contains(digest),
                keeps_a_tag: keeping.contains(digest),
                tags: left.get(digest).copied().unwrap_or_default(),
                has_kin: contains || subjects.contains(digest) || accompanied.contains(digest),
            }
        };
        let mut ranked: Vec<(Rank, Order)> = images.into_iter().map(|order| (rank(&order), order)).collect();
        ranked.sort_by_key(|(rank, order)| (*rank, firsts.get(&order.removal.digest).copied()));
        Self {
            images: ranked.into(),
            companions,
            manifests: Manifests::default(),
            tags: Tags { left: Mutex::new(left), keeping },
            tried: 0,
            applied: Vec::new(),
            site,
        }
    }

    /// Carries out the next order while nothing else is under way in the repository. Returns whether something was
    /// removed, and of which image.
    async fn next(&mut self) -> Result<Option<Digest>, StoreError> {
        let Some((_, order)) = self.images.pop_front() else { return Ok(None) };
        let manifest = self.manifests.of(&order.removal.digest);
        let done = one(&self.site, &self.tags, order, &manifest).await?;
        let removed = matches!(done.outcome, Outcome::Done(_)).then(|| done.removal.digest.clone());
        if removed.is_none() {
            self.tried += 1;
        }
        self.applied.push(done);
        Ok(removed)
    }

    /// Carries out all that is left: one order after the other until one removal succeeded, then many at once. Signatures
    /// and the like come last, and only if nothing any more names the image that they accompany.
    ///
    /// # Errors
    /// When the journal could not be written.
    pub(super) async fn rest(mut self) -> Result<Vec<Applied>, StoreError> {
        while !self.images.is_empty()
            && self.site.stopped().is_none()
            && !self.site.brake.has_removed_from(&self.site.repository.name)
        {
            self.next().await?;
        }
        let Self { site, images, companions, mut manifests, tags, mut applied, .. } = self;
        // Twice as many as have a turn at once: the others fetch their manifests meanwhile, or write down what came of them.
        let at_once = 2 * site.target.reader.settings().concurrency.max(1);
        let rest = images.into_iter().map(|(_, order)| {
            let manifest = manifests.of(&order.removal.digest);
            let (site, tags) = (&site, &tags);
            async move { one(site, tags, order, &manifest).await }
        });
        let mut rest = stream::iter(rest).buffer_unordered(at_once);
        while let Some(done) = rest.next().await {
            applied.push(done?);
        }
        drop(rest);
        companions_last(&site, &tags, companions, &mut applied).await?;
        Ok(applied)
    }
}

/// Removes one tag of the registry and nothing else, until a removal succeeded and, where that is not known yet, the
/// manifest was seen to survive it. One that is refused or fails makes place for another one, of another repository
/// where there is one.
///
/// # Errors
/// When the journal could not be written.
pub(super) async fn alone(course: &Course<'_>, queues: &mut [Queue<'_>]) -> Result<(), StoreError> {
    loop {
        if course.brake.reason(course.hands).is_some() {
            return Ok(());
        }
        let candidates = queues.iter_mut().filter(|queue| queue.site.stopped().is_none());
        let best = candidates
            .filter_map(|queue| Some(((queue.tried, queue.images.front()?.0), queue)))
            .min_by_key(|(rank, _)| *rank);
        let Some((_, queue)) = best else { return Ok(()) };
        let Some(digest) = queue.next().await? else { continue };
        // The last tag of an image tells what those before it do not.
        while !course.survival.is_known() && queue.front_is_of(&digest) && queue.site.stopped().is_none() {
            queue.next().await?;
        }
        return Ok(());
    }
}

impl Queue<'_> {
    fn front_is_of(&self, digest: &Digest) -> bool {
        let front = self.images.front();
        front.is_some_and(|(rank, order)| order.removal.digest == *digest && !rank.keeps_a_tag)
    }
}

/// Returns whether a tag is gone by what came of it.
pub(super) fn is_gone(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done(_) | Outcome::Skipped(Skip::Gone))
}
