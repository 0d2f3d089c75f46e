//! Removals that delete the manifest, and with it all of its tags. Opt-in by a person, per registry.

mod later_content;
mod lost_tags;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use tokio::sync::SemaphorePermit;

use super::companions::reachable_from;
use super::skip_log::log_skip;
use super::untag::may_still_execute;
use super::{MAX_DEFERRALS, RemovalResult, RemovalTask, RepositoryContext, absence, intent};
use crate::domain::{Digest, JournaledIntent, Outcome, Removal, RemovalMethod, Repository, SkipReason, TagName};
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind, RemovalResponse};
use crate::state::StateError;
use later_content::LaterContent;
use lost_tags::{SeenTags, report_missing_tags, restore_lost_tags};

/// Carries out all tasks of one repository, manifest by manifest: indexes before their children, images before their
/// signatures.
pub(super) async fn remove_in_repository(
    site: &RepositoryContext<'_>,
    orders: Vec<RemovalTask>,
) -> Result<Vec<RemovalResult>, StateError> {
    let mut groups: BTreeMap<Digest, Vec<RemovalTask>> = BTreeMap::new();
    for task in orders {
        groups.entry(task.removal.digest.clone()).or_default().push(task);
    }
    let mut holders = TaggedParents::of(site.repository);
    let mut waiting: Vec<(Digest, Vec<RemovalTask>)> = groups.into_iter().collect();
    let later = LaterContent::new(site);
    let (mut applied, mut unnamed) = (Vec::new(), BTreeSet::new());
    // In rounds, because a manifest waits for the indexes that contain it and for the image that it refers to.
    loop {
        let round = std::mem::take(&mut waiting);
        let before = round.len();
        for (digest, orders) in round {
            if holders.is_needed(site.repository, &digest, &orders) {
                waiting.push((digest, orders));
                continue;
            }
            let done = delete_manifest(&later, &digest, orders, &mut unnamed).await?;
            let gone = |applied: &RemovalResult| {
                matches!(applied.outcome, Outcome::Done(_) | Outcome::Skipped(SkipReason::Missing))
            };
            if done.iter().all(gone) {
                holders.remove_root(&digest);
            }
            applied.extend(done);
        }
        if waiting.len() == before {
            break;
        }
    }
    for task in waiting.into_iter().flat_map(|(_, orders)| orders) {
        let why = "something that stays shares, contains or refers to its manifest".to_owned();
        let skip = site.stop_reason().unwrap_or(SkipReason::Kept(why));
        applied.push(site.journal_result(task, Outcome::Skipped(skip)).await?);
    }
    if site.registry.reader.names_deleted_tags() {
        report_missing_tags(site, &mut applied, &unnamed).await;
    }
    Ok(applied)
}

/// For each digest, the tagged manifests that lead to it: itself, or indexes that contain it.
struct TaggedParents(BTreeMap<Digest, BTreeSet<Digest>>);

impl TaggedParents {
    fn of(repository: &Repository) -> Self {
        let mut holders: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        let tagged: BTreeSet<&Digest> = repository.tags.iter().filter_map(|tag| tag.digest.as_ref()).collect();
        for root in tagged {
            for reached in reachable_from(repository, vec![root.clone()]) {
                holders.entry(reached).or_default().insert(root.clone());
            }
        }
        Self(holders)
    }

    /// Returns true if another retained manifest contains this one, or if the image that it refers to or accompanies
    /// still exists.
    fn is_needed(&self, repository: &Repository, digest: &Digest, orders: &[RemovalTask]) -> bool {
        let held = |wanted: &Digest| self.0.get(wanted).is_some_and(|roots| roots.iter().any(|root| root != digest));
        let subject = repository.manifests.get(digest).and_then(|manifest| manifest.subject.as_deref());
        let images = orders.iter().filter_map(|task| task.removal.companion_of.as_deref());
        held(digest) || images.chain(subject).any(held)
    }

    fn remove_root(&mut self, root: &Digest) {
        for roots in self.0.values_mut() {
            roots.remove(root);
        }
    }
}

/// Deletes one manifest with all of its tags. Adds its digest to `unnamed` if the registry should have named the tags that
/// went with it, and did not.
async fn delete_manifest(
    later: &LaterContent<'_>,
    digest: &Digest,
    orders: Vec<RemovalTask>,
    unnamed: &mut BTreeSet<Digest>,
) -> Result<Vec<RemovalResult>, StateError> {
    let site = later.context;
    let turn = site.acquire_permit().await;
    let Precheck { manifest, current_tags: tags, .. } =
        match prepare(site, digest, (&orders, &[]), Stage::Journal).await {
            Ok(ready) => ready,
            Err(outcome) => {
                let mut applied = Vec::new();
                for task in orders {
                    applied.push(site.journal_result(task, outcome.clone()).await?);
                }
                return Ok(applied);
            }
        };
    // These were removed externally; the manifest is deleted for the others.
    let (orders, gone): (Vec<RemovalTask>, Vec<RemovalTask>) =
        orders.into_iter().partition(|task| tags.contains(&task.removal.tag));
    let mut noted = Vec::new();
    let absent: Vec<TagName> = gone.iter().map(|task| task.removal.tag.clone()).collect();
    for task in gone {
        noted.push(site.journal_result(task, Outcome::Skipped(SkipReason::Missing)).await?);
    }
    let mut intents: Vec<(JournaledIntent, RemovalTask)> = Vec::new();
    for task in &orders {
        let intent = intent(site.context, task, manifest.media_type.clone());
        match site.context.journal_intent(&intent, &manifest).await? {
            Ok(journaled) => intents.push((journaled, task.clone())),
            Err(skip) => {
                noted.extend(skip_manifest(site, intents, &orders, skip).await?);
                return Ok(noted);
            }
        }
    }
    // Any of them names the manifest; all of them are journaled.
    let Some((intent, _)) = intents.first() else { return Ok(noted) };
    let deletion = ManifestDeletion { context: site, later, intent, tasks: &orders, absent_tags: &absent };
    let mut seen = SeenTags { before: tags, ..SeenTags::default() };
    let (outcome, _turn) = deletion.delete_with_retries(&mut seen, turn).await;
    let mut applied = noted;
    for (journaled, task) in &intents {
        let outcome = match &outcome {
            Ok(Outcome::Done(_)) if seen.gone.contains(&task.removal.tag) => Outcome::Skipped(SkipReason::Missing),
            Ok(outcome) => outcome.clone(),
            Err(error) => match outcome_after_failure(site, task, error.clone()).await {
                ObservedOutcome::Known(outcome) => outcome,
                ObservedOutcome::Unknown(why) => {
                    let outcome = Outcome::Failed(format!("{why}; settled at the next start"));
                    applied.push(RemovalResult { removal: Arc::clone(&task.removal), outcome });
                    continue;
                }
            },
        };
        site.context.store.record_outcome(journaled.id(), &outcome, site.now()).await?;
        log(site, &task.removal, &outcome);
        if matches!(outcome, Outcome::Done(_)) {
            site.refused_tags.forget(site.context, &task.removal).await?;
        }
        applied.push(RemovalResult { removal: Arc::clone(&task.removal), outcome });
    }
    if !applied.iter().any(|applied| matches!(applied.outcome, Outcome::Done(_))) {
        return Ok(applied);
    }
    if !seen.deleted.as_ref().is_some_and(|deleted| seen.before.iter().all(|tag| deleted.contains(tag))) {
        unnamed.insert(digest.clone());
    }
    if let Some(harm) = restore_lost_tags(site, &manifest, &seen, &applied).await? {
        tracing::error!(registry = %site.registry_name(), repository = %site.repository.name, harm, "a tag that stays was lost");
        // The planned tags are removed, as the journal records. The run has failed all the same.
        for applied in &mut applied {
            if matches!(applied.outcome, Outcome::Done(_)) {
                applied.outcome = Outcome::Failed(harm.clone());
            }
        }
    }
    Ok(applied)
}

/// Skips a manifest with all of its tags, some of which are journaled already.
async fn skip_manifest(
    site: &RepositoryContext<'_>,
    begun: Vec<(JournaledIntent, RemovalTask)>,
    orders: &[RemovalTask],
    skip: SkipReason,
) -> Result<Vec<RemovalResult>, StateError> {
    let outcome = Outcome::Skipped(skip);
    let mut applied = Vec::new();
    for task in orders.iter().skip(begun.len()) {
        applied.push(site.journal_result(task.clone(), outcome.clone()).await?);
    }
    for (journaled, task) in begun {
        site.context.store.record_outcome(journaled.id(), &outcome, site.now()).await?;
        applied.push(RemovalResult { removal: task.removal, outcome: outcome.clone() });
    }
    Ok(applied)
}

/// The state after a removal that the registry reported as failed, as read back from the registry.
enum ObservedOutcome {
    /// The outcome is known.
    Known(Outcome),
    /// The registry does not answer; the intent stays open until the next start.
    Unknown(String),
}

async fn outcome_after_failure(
    site: &RepositoryContext<'_>,
    task: &RemovalTask,
    error: RegistryError,
) -> ObservedOutcome {
    let removal = &task.removal;
    let Removal { repository, tag, digest, .. } = &**removal;
    let reader = &*site.registry.reader;
    if error.kind == RegistryErrorKind::Locked {
        site.refused_tags.record_lock(removal, &error);
        return ObservedOutcome::Known(Outcome::Skipped(SkipReason::Locked(error.chain())));
    }
    match reader.resolve(repository, tag).await {
        Ok(None) => match absence::is_tag_absent(reader, repository, tag, digest).await {
            Ok(true) => ObservedOutcome::Known(Outcome::Done(format!("the tag is gone, although: {}", error.chain()))),
            Ok(false) => ObservedOutcome::Unknown(format!("{}; then the repository did not answer", error.chain())),
            Err(second) => {
                ObservedOutcome::Unknown(format!("{}; then looking at it failed: {}", error.chain(), second.chain()))
            }
        },
        Ok(Some(now)) if now.digest == *digest && may_still_execute(&error) => ObservedOutcome::Unknown(error.chain()),
        Ok(Some(now)) if now.digest == *digest => {
            if matches!(error.kind, RegistryErrorKind::Denied | RegistryErrorKind::Unsupported) {
                site.refused_tags.record(removal, &error);
            }
            ObservedOutcome::Known(Outcome::Failed(error.chain()))
        }
        Ok(Some(now)) => ObservedOutcome::Known(Outcome::Skipped(SkipReason::Moved { to: now.digest })),
        Err(second) => {
            ObservedOutcome::Unknown(format!("{}; then looking at the tag failed: {}", error.chain(), second.chain()))
        }
    }
}

/// The facts read right before a removal.
struct Precheck {
    manifest: RawManifest,
    /// The repository's current tags; those of the manifest alone, if its deletion names them all.
    current_tags: Vec<TagName>,
    /// Planned tags that were removed externally after they were journaled.
    gone: Vec<TagName>,
}

/// The step that is about to be taken.
#[derive(Clone, Copy)]
enum Stage<'a> {
    /// The intents are journaled.
    Journal,
    /// The manifest is deleted, unless an index that came later lists it.
    Deletion(&'a LaterContent<'a>),
}

/// Verifies that everything about a manifest is as it was when decided. Planned tags that are `absent` by now do not
/// block it, unless one of them exists again.
async fn prepare(
    site: &RepositoryContext<'_>,
    digest: &Digest,
    (orders, absent): (&[RemovalTask], &[TagName]),
    stage: Stage<'_>,
) -> Result<Precheck, Outcome> {
    if let Some(skip) = site.stop_reason() {
        return Err(Outcome::Skipped(skip));
    }
    if orders.iter().any(|task| task.removal.method != RemovalMethod::DeleteManifest) {
        let why = "it was decided as an untag, and the settings now say `manifest`".to_owned();
        return Err(Outcome::Skipped(SkipReason::Stopped(why)));
    }
    for task in orders {
        if let Some(skip) = site.skip_reason(&task.removal).await {
            return Err(Outcome::Skipped(skip_all_tags(skip, task, orders)));
        }
    }
    let ordered: BTreeSet<&TagName> = orders.iter().map(|task| &task.removal.tag).collect();
    let stays = |tag: &TagName| !ordered.contains(tag) && !absent.contains(tag);
    if let Some(tag) = site.repository.tags.iter().find(|tag| tag.digest.as_ref() == Some(digest) && stays(&tag.name)) {
        return Err(kept(format!("tag {} has the same manifest and is not to be removed", tag.name)));
    }
    let unread = |error: RegistryError| unread_outcome(site, &error);
    let manifest = match site.fetch_manifest(digest).await {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return Err(Outcome::Skipped(SkipReason::Missing)),
        Err(error) => return Err(unread(error)),
    };
    if site.registry.reader.names_deleted_tags() {
        let (current_tags, gone) = match stage {
            Stage::Journal => (orders.iter().map(|task| task.removal.tag.clone()).collect(), Vec::new()),
            Stage::Deletion(later) => {
                later.check(digest, &[]).await?;
                look_at_own_tags(site, digest, &ordered).await?
            }
        };
        return Ok(Precheck { manifest, current_tags, gone });
    }
    let tags = match site.registry.reader.tags(&site.repository.name).await {
        Ok(tags) => tags,
        Err(error) if error.kind == RegistryErrorKind::NotFound => return Err(Outcome::Skipped(SkipReason::Missing)),
        Err(error) => return Err(unread(error)),
    };
    if !tags.iter().any(|tag| ordered.contains(tag)) {
        return Err(Outcome::Skipped(SkipReason::Missing));
    }
    // Before the look at the tags: the repository may take long to read.
    if let Stage::Deletion(later) = stage {
        later.check(digest, &tags).await?;
    }
    match (site.registry.reader.names_all_tags(), stage) {
        (false, _) => look_at_tags(site, digest, &ordered, &tags).await?,
        // The look before the deletion is enough: registries that name all tags may count each look.
        (true, Stage::Journal) => {}
        (true, Stage::Deletion(_)) => {
            let own = look_at_manifest(site, digest, &ordered).await?;
            if let Some(tag) = tags.iter().find(|tag| ordered.contains(tag) && !own.contains(tag)) {
                return Err(kept(format!("tag {tag} has moved away from it")));
            }
        }
    }
    Ok(Precheck { manifest, current_tags: tags, gone: Vec::new() })
}

/// Looks at all tags of the repository: the deletion removes every tag that names the manifest, including a retained one
/// that was moved onto it since.
async fn look_at_tags(
    site: &RepositoryContext<'_>,
    digest: &Digest,
    ordered: &BTreeSet<&TagName>,
    tags: &[TagName],
) -> Result<(), Outcome> {
    let at_once = site.registry.reader.settings().concurrency.max(1);
    let looks = stream::iter(tags.to_vec()).map(|tag| async move {
        let now = site.registry.reader.resolve(&site.repository.name, &tag).await;
        now.map(|now| (tag, now.is_some_and(|now| now.digest == *digest)))
    });
    let mut looks = looks.buffer_unordered(at_once);
    while let Some(look) = looks.next().await {
        match look.map_err(|error| unread_outcome(site, &error))? {
            (tag, false) if ordered.contains(&tag) => return Err(kept(format!("tag {tag} has moved away from it"))),
            (tag, true) if !ordered.contains(&tag) => {
                return Err(kept(format!("tag {tag}, which stays, names the same manifest now")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Looks at the manifest, where the registry names all of its tags: one answer of one instant. Returns these tags, all of
/// which are planned.
async fn look_at_manifest(
    site: &RepositoryContext<'_>,
    digest: &Digest,
    ordered: &BTreeSet<&TagName>,
) -> Result<Vec<TagName>, Outcome> {
    let seen = site.registry.reader.manifest_state(&site.repository.name, digest).await;
    let Some(seen) = seen.map_err(|error| unread_outcome(site, &error))? else {
        return Err(Outcome::Skipped(SkipReason::Missing));
    };
    if let Some(lock) = seen.lock {
        return Err(Outcome::Skipped(SkipReason::Locked(format!("it has a {} lock", lock.label()))));
    }
    match seen.tags.iter().find(|tag| !ordered.contains(tag)) {
        Some(tag) => Err(kept(format!("tag {tag}, which stays, names the same manifest now"))),
        None => Ok(seen.tags),
    }
}

/// Looks at the manifest, and by themselves at the planned tags that it does not have anymore. Returns those that it has, and
/// those that no longer exist.
async fn look_at_own_tags(
    site: &RepositoryContext<'_>,
    digest: &Digest,
    ordered: &BTreeSet<&TagName>,
) -> Result<(Vec<TagName>, Vec<TagName>), Outcome> {
    let own = look_at_manifest(site, digest, ordered).await?;
    let mut gone = Vec::new();
    for &tag in ordered.iter().filter(|tag| !own.contains(tag)) {
        match site.registry.reader.resolve(&site.repository.name, tag).await {
            Ok(None) => gone.push(tag.clone()),
            Ok(Some(_)) => return Err(kept(format!("tag {tag} has moved away from it"))),
            Err(error) => return Err(unread_outcome(site, &error)),
        }
    }
    if own.is_empty() { Err(Outcome::Skipped(SkipReason::Missing)) } else { Ok((own, gone)) }
}

fn kept(why: String) -> Outcome {
    Outcome::Skipped(SkipReason::Kept(why))
}

/// Returns the outcome of a deletion whose preconditions could not be read.
fn unread_outcome(site: &RepositoryContext<'_>, error: &RegistryError) -> Outcome {
    site.record_failure(error);
    Outcome::Failed(format!("the repository could not be read again: {}", error.chain()))
}

/// Converts the skip of one tag into that of all tags of its manifest.
fn skip_all_tags(skip: SkipReason, of: &RemovalTask, orders: &[RemovalTask]) -> SkipReason {
    match skip {
        SkipReason::Kept(why) if orders.len() > 1 => {
            SkipReason::Kept(format!("tag {} of its manifest stays: {why}", of.removal.tag))
        }
        skip => skip,
    }
}

/// The deletion of one manifest, whose tags are journaled.
struct ManifestDeletion<'a> {
    context: &'a RepositoryContext<'a>,
    later: &'a LaterContent<'a>,
    intent: &'a JournaledIntent,
    tasks: &'a [RemovalTask],
    /// The planned tags that were removed externally.
    absent_tags: &'a [TagName],
}

impl<'a> ManifestDeletion<'a> {
    /// Deletes the manifest, however often the registry defers that. After an ambiguous failure there is one more
    /// attempt, not before the request can have been carried out late. The concurrency permit is released during that
    /// pause.
    async fn delete_with_retries(
        &self,
        seen: &mut SeenTags,
        turn: Option<SemaphorePermit<'a>>,
    ) -> (Result<Outcome, RegistryError>, Option<SemaphorePermit<'a>>) {
        let site = self.context;
        let error = match self.delete_when_not_busy(seen).await {
            Err(error) if self.may_repeat(&error) => error,
            outcome => return (self.count_failure(outcome), turn),
        };
        let timeout = site.registry.reader.settings().timeout;
        let (repository, digest) = (&site.repository.name, self.intent.digest());
        tracing::debug!(%repository, %digest, error = error.chain(), pause_ms = timeout.as_millis(), "trying again");
        drop(turn);
        site.pause(timeout).await;
        let turn = site.acquire_permit().await;
        let outcome = match self.delete_when_not_busy(seen).await {
            // Nothing more was sent. The outcome of the first request is determined tag by tag.
            Ok(Outcome::Skipped(SkipReason::Missing)) => Err(error),
            Ok(Outcome::Skipped(skip)) => Err(with_context(&error, &skip.to_string())),
            Ok(Outcome::Failed(why)) => Err(with_context(&error, &why)),
            outcome => outcome,
        };
        (self.count_failure(outcome), turn)
    }

    /// Returns true if a request with that failure may be sent again. An unparsable response would be unparsable again.
    fn may_repeat(&self, error: &RegistryError) -> bool {
        let waiting = &self.context.context.retry_policy;
        let patient = waiting.max_retries > 0 && self.context.registry.reader.settings().timeout <= waiting.max_wait;
        let fails = error.is_ambiguous() && error.kind != RegistryErrorKind::Malformed;
        fails && patient && self.context.may_repeat()
    }

    /// Counts a failed outcome among those of the registry, and returns it.
    fn count_failure(&self, outcome: Result<Outcome, RegistryError>) -> Result<Outcome, RegistryError> {
        outcome.inspect_err(|error| {
            if !error.requires_recheck() {
                self.context.record_failure(error);
            }
        })
    }

    /// Deletes the manifest, once the registry is not too busy for it.
    async fn delete_when_not_busy(&self, seen: &mut SeenTags) -> Result<Outcome, RegistryError> {
        let mut outcome = self.recheck_and_delete(seen).await;
        for _ in 1..MAX_DEFERRALS {
            if !matches!(&outcome, Err(error) if error.requires_recheck()) {
                break;
            }
            outcome = self.recheck_and_delete(seen).await;
        }
        outcome
    }

    /// Checks everything again and deletes the manifest. The checks come after every wait, right before the request.
    async fn recheck_and_delete(&self, seen: &mut SeenTags) -> Result<Outcome, RegistryError> {
        let Self { context: site, later, intent, tasks: orders, absent_tags: absent } = self;
        let digest = intent.digest();
        let clearance = match site.registry.writer.acquire_removal_permit(&site.repository.name).await {
            Ok(clearance) => clearance,
            Err(error) => {
                site.record_failure(&error);
                return Ok(Outcome::Failed(error.chain()));
            }
        };
        if let Some(why) = site.context.lost_lease().await {
            return Err(RegistryError::new(RegistryErrorKind::OutdatedCheck, why));
        }
        match prepare(site, digest, (orders, absent), Stage::Deletion(later)).await {
            Ok(ready) => (seen.before, seen.gone) = (ready.current_tags, ready.gone),
            Err(outcome) => return Ok(outcome),
        }
        // These are as many looks as the repository has tags, which can take longer than one look may be old.
        let look = site.context.begin_look();
        let evidence = match site.registry.writer.delete_manifest(intent, look.bind(clearance)).await? {
            RemovalResponse::Removed { request_id, .. } => request_id,
            RemovalResponse::Deleted { tags } => {
                seen.deleted = Some(tags);
                String::new()
            }
            RemovalResponse::AlreadyMissing
                if site.registry.reader.has_manifest(&site.repository.name, digest).await? =>
            {
                let why = "the registry answered that the manifest does not exist, and still has it".to_owned();
                site.breaker.trip(why.clone());
                return Ok(Outcome::Failed(why));
            }
            RemovalResponse::AlreadyMissing => return Ok(Outcome::Skipped(SkipReason::Missing)),
        };
        // An answer is not a proof. The first one in each repository is held against the registry, and each one whose tags the
        // list of tags still shows.
        let doubted = !site.breaker.has_removed_from(&site.repository.name) || self.shows_removed_tags(seen).await;
        if doubted && self.is_still_present().await {
            let why = "the registry answered that it deleted the manifest, and still has it".to_owned();
            site.breaker.trip(why.clone());
            return Ok(Outcome::Failed(why));
        }
        site.record_success();
        Ok(Outcome::Done(evidence))
    }

    /// Reads the list of tags, where it shows afterwards whether other tags went along. Returns true if a deleted tag is still
    /// in it.
    async fn shows_removed_tags(&self, seen: &mut SeenTags) -> bool {
        let reader = &self.context.registry.reader;
        if reader.names_deleted_tags() {
            return false;
        }
        let after = reader.tags(&self.context.repository.name).await;
        let is_listed =
            |tag: &TagName| !seen.gone.contains(tag) && matches!(&after, Ok(after) if after.binary_search(tag).is_ok());
        let shown = self.tasks.iter().any(|task| is_listed(&task.removal.tag));
        seen.after = Some(after);
        shown
    }

    /// Polls the manifest until it is gone: a read may be stale. Returns true if it is still there after the longest possible
    /// staleness.
    async fn is_still_present(&self) -> bool {
        let (site, digest) = (self.context, self.intent.digest());
        let waiting = &site.context.retry_policy;
        let mut pauses = waiting.pauses(waiting.max_staleness);
        let mut shown = false;
        loop {
            match site.registry.reader.has_manifest(&site.repository.name, digest).await {
                Ok(true) => shown = true,
                Ok(false) => return false,
                // The registry's answer stands until a read contradicts it.
                Err(_) if !shown => return false,
                Err(_) => {}
            }
            match pauses.next() {
                Some(pause) if !*site.context.stop.borrow() => site.pause(pause).await,
                _ => return true,
            }
        }
    }
}

/// Adds the reason against another attempt to a failure.
fn with_context(error: &RegistryError, then: &str) -> RegistryError {
    error.clone().with_help(format!("then {then}"))
}

fn log(site: &RepositoryContext<'_>, removal: &Removal, outcome: &Outcome) {
    let Removal { repository, tag, digest, policy, .. } = removal;
    let registry = site.registry_name();
    match outcome {
        Outcome::Done(evidence) => {
            tracing::info!(%registry, %repository, %tag, %digest, %policy, evidence, "deleted with its manifest");
        }
        Outcome::Skipped(skip) => log_skip(registry, repository, (tag, digest), skip),
        Outcome::Failed(error) => {
            tracing::error!(%registry, %repository, %tag, %digest, error, "could not delete the manifest");
        }
    }
}
