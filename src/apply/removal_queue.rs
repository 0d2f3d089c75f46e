//! The order of removals: one tag of the registry alone, then one of each repository, then the others.
//!
//! The effect of an untag is unknown until one was observed: some registries delete the manifest with the tag, or with
//! its last one. So the first removal is the most informative one, and until its manifest was seen to survive there is
//! no other.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{self, StreamExt as _};

use super::companions::{reachable_from, remove_companions};
use super::untag::{CurrentManifest, remove_tag, settle_missing};
use super::{RegistryContext, RemovalResult, RemovalTask, RepositoryContext};
use crate::domain::{Digest, JournalId, Outcome, Removal, SkipReason, TagName};
use crate::state::StateError;

/// The removals of one repository, in order.
pub(super) struct RemovalQueue<'a> {
    pub(super) context: RepositoryContext<'a>,
    /// Images, the most informative ones first, the tags of an image one after the other.
    images: VecDeque<(Rank, RemovalTask)>,
    /// Signatures and the like.
    companions: Vec<RemovalTask>,
    manifests: CurrentManifest,
    /// The remaining tags of each image, and true if some of them are retained.
    remaining_tags: RemainingTags,
    /// Exclusive removals without success.
    failed_attempts: u32,
    results: Vec<RemovalResult>,
}

/// The information value of a removal, and the possible damage: the lowest rank first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "questions in the order in which they decide")]
struct Rank {
    /// True if the registry refused it in an earlier run.
    was_refused: bool,
    /// True if a retained index contains the image.
    in_retained_index: bool,
    /// True if a tag of it is retained, so that its manifest might survive for that reason alone.
    has_retained_tag: bool,
    /// The tags to be removed before its manifest has none.
    tags_to_remove: usize,
    /// True if it contains other manifests, or if it has a referrer that might be deleted with it.
    has_related_manifests: bool,
}

/// The remaining tags of images.
pub(super) struct RemainingTags {
    counts: Mutex<HashMap<Digest, usize>>,
    /// The retained tags of the images of which others are removed.
    retained: HashMap<Digest, Vec<TagName>>,
    /// The images of which this run removes more than one tag.
    shared: HashSet<Digest>,
    /// Tags of those that were gone when their turn came, with their open entries of the journal.
    pub(super) missing: Mutex<Vec<(JournalId, Arc<Removal>)>>,
    /// True once the removal of a tag was seen to leave a retained tag of the same image. Held by the first such removal.
    pub(super) leaves_others: tokio::sync::Mutex<bool>,
}

impl RemainingTags {
    /// Returns true if this run removes all tags of the image.
    pub(super) fn removes_all(&self, digest: &Digest) -> bool {
        !self.retained.contains_key(digest)
    }

    /// Returns the retained tags of an image.
    pub(super) fn retained_tags(&self, digest: &Digest) -> &[TagName] {
        self.retained.get(digest).map_or(&[], Vec::as_slice)
    }

    /// Keeps the entry of a tag that was gone open until the other removals of its image are over. Returns false if
    /// there are none.
    pub(super) fn defer_missing(&self, entry: JournalId, removal: &Arc<Removal>) -> bool {
        let is_shared = self.shared.contains(&removal.digest);
        if is_shared {
            self.missing.lock().unwrap_or_else(PoisonError::into_inner).push((entry, Arc::clone(removal)));
        }
        is_shared
    }

    /// Records that a tag of the image was removed, and returns true if it was the last one.
    pub(super) fn record_removal(&self, digest: &Digest) -> bool {
        let mut left = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = left.get_mut(digest) else { return false };
        let Some(fewer) = left.checked_sub(1) else { return false };
        *left = fewer;
        fewer == 0 && self.removes_all(digest)
    }
}

impl<'a> RemovalQueue<'a> {
    pub(super) fn new(site: RepositoryContext<'a>, tasks: Vec<RemovalTask>) -> Self {
        let repository = site.repository;
        let going: BTreeSet<&TagName> = tasks.iter().map(|task| &task.removal.tag).collect();
        let mut left: HashMap<Digest, usize> = tasks.iter().map(|task| (task.removal.digest.clone(), 0)).collect();
        let mut staying = BTreeSet::new();
        let mut retained: HashMap<Digest, Vec<TagName>> = HashMap::new();
        for tag in &repository.tags {
            let Some(digest) = &tag.digest else { continue };
            if let Some(left) = left.get_mut(digest) {
                *left += 1;
                if !going.contains(&tag.name) {
                    retained.entry(digest.clone()).or_default().push(tag.name.clone());
                }
            }
            if !going.contains(&tag.name) {
                staying.insert(digest);
            }
        }
        let needed = reachable_from(repository, staying.iter().map(|&digest| digest.clone()).collect());
        let subjects: BTreeSet<&Digest> =
            repository.manifests.values().filter_map(|manifest| manifest.subject.as_deref()).collect();
        let (companions, images): (Vec<RemovalTask>, Vec<RemovalTask>) =
            tasks.into_iter().partition(|task| task.removal.companion_of.is_some());
        let accompanied: BTreeSet<&Digest> =
            companions.iter().filter_map(|task| task.removal.companion_of.as_deref()).collect();
        let (mut firsts, mut shared) = (HashMap::new(), HashSet::new());
        for (position, task) in images.iter().enumerate() {
            let digest = &task.removal.digest;
            if *firsts.entry(digest.clone()).or_insert(position) != position {
                shared.insert(digest.clone());
            }
        }
        let rank = |task: &RemovalTask| {
            let digest = &task.removal.digest;
            let contains = repository.manifests.get(digest).is_some_and(|manifest| !manifest.children.is_empty());
            Rank {
                was_refused: site.refused_tags.find(&task.removal).is_some(),
                in_retained_index: needed.contains(digest) && !retained.contains_key(digest),
                has_retained_tag: retained.contains_key(digest),
                tags_to_remove: left.get(digest).copied().unwrap_or_default(),
                has_related_manifests: contains || subjects.contains(digest) || accompanied.contains(digest),
            }
        };
        let mut ranked: Vec<(Rank, RemovalTask)> = images.into_iter().map(|task| (rank(&task), task)).collect();
        ranked.sort_by_key(|(rank, task)| (*rank, firsts.get(&task.removal.digest).copied()));
        Self {
            images: ranked.into(),
            companions,
            manifests: CurrentManifest::default(),
            remaining_tags: RemainingTags {
                counts: Mutex::new(left),
                retained,
                shared,
                missing: Mutex::default(),
                leaves_others: tokio::sync::Mutex::new(false),
            },
            failed_attempts: 0,
            results: Vec::new(),
            context: site,
        }
    }

    /// Carries out the next task exclusively in the repository. Returns the image if something was removed.
    async fn remove_next(&mut self) -> Result<Option<Digest>, StateError> {
        let Some((_, task)) = self.images.pop_front() else { return Ok(None) };
        let manifest = self.manifests.get(&task.removal.digest);
        let done = remove_tag(&self.context, &self.remaining_tags, task, &manifest).await?;
        let removed = matches!(done.outcome, Outcome::Done(_)).then(|| done.removal.digest.clone());
        if removed.is_none() {
            self.failed_attempts += 1;
        }
        self.results.push(done);
        Ok(removed)
    }

    /// Carries out the remaining tasks: one after the other until one removal succeeded, then many concurrently.
    /// Signatures and the like come last, and only if nothing names their image anymore.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub(super) async fn remove_remaining(mut self) -> Result<Vec<RemovalResult>, StateError> {
        while !self.images.is_empty()
            && self.context.stop_reason().is_none()
            && !self.context.breaker.has_removed_from(&self.context.repository.name)
        {
            self.remove_next().await?;
        }
        let Self {
            context: site, images, companions, mut manifests, remaining_tags: tags, results: mut applied, ..
        } = self;
        // Twice the number of permits: the others fetch their manifests meanwhile, or journal their outcomes.
        let at_once = 2 * site.registry.reader.settings().concurrency.max(1);
        let rest = images.into_iter().map(|(_, task)| {
            let manifest = manifests.get(&task.removal.digest);
            let (site, tags) = (&site, &tags);
            async move { remove_tag(site, tags, task, &manifest).await }
        });
        let mut rest = stream::iter(rest).buffer_unordered(at_once);
        while let Some(done) = rest.next().await {
            applied.push(done?);
        }
        drop(rest);
        settle_missing(&site, &tags, &mut applied).await?;
        remove_companions(&site, &tags, companions, &mut applied).await?;
        Ok(applied)
    }
}

/// Removes one tag of the registry exclusively, until a removal succeeded and, if not known yet, its manifest was seen
/// to survive. After a refusal or failure another one is tried, from another repository if possible.
///
/// # Errors
/// Returns an error if the journal cannot be written.
pub(super) async fn remove_canary(
    registry_context: &RegistryContext<'_>,
    queues: &mut [RemovalQueue<'_>],
) -> Result<(), StateError> {
    loop {
        if registry_context.breaker.skip_reason(registry_context.context).is_some() {
            return Ok(());
        }
        let candidates = queues.iter_mut().filter(|queue| queue.context.stop_reason().is_none());
        let best = candidates
            .filter_map(|queue| Some(((queue.failed_attempts, queue.images.front()?.0), queue)))
            .min_by_key(|(rank, _)| *rank);
        let Some((_, queue)) = best else { return Ok(()) };
        let Some(digest) = queue.remove_next().await? else { continue };
        // The last tag of an image shows what those before it do not.
        while !registry_context.survival.is_known() && queue.is_next(&digest) && queue.context.stop_reason().is_none() {
            queue.remove_next().await?;
        }
        return Ok(());
    }
}

impl RemovalQueue<'_> {
    fn is_next(&self, digest: &Digest) -> bool {
        let front = self.images.front();
        front.is_some_and(|(rank, task)| task.removal.digest == *digest && !rank.has_retained_tag)
    }
}

/// Returns true if a tag does not exist after that outcome.
pub(super) fn leaves_tag_absent(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done(_) | Outcome::Skipped(SkipReason::Missing))
}
