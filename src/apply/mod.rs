//! Execution of a plan, exactly or less of it: journal the intent, check again, act, journal the outcome.
//!
//! Nothing is decided here. The input is a list of [`RemovalTask`]s that were decided elsewhere; here they can only be
//! skipped. An action that cannot be journaled is not taken.

mod absence;
mod circuit_breaker;
mod companions;
mod current_evidence;
mod delete_tagged;
mod delete_untagged;
mod intents;
mod last_look;
mod missing_manifests;
mod recover;
mod refused_tags;
mod removal_queue;
mod restore;
mod restore_dependents;
mod restore_order;
mod restore_preview;
mod retry_policy;
mod skip_log;
mod survival;
mod untag;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use uuid::Uuid;

use crate::domain::{
    Action, Digest, Intent, Inventory, Manifest, ManifestDetail, Outcome, RegistryName, Removal, RemovalMethod,
    Repository, RepositoryName, RetentionDays, SkipReason, TagName, TagPosition,
};
use crate::engine::{Verdicts, tag_date};
use crate::registry::{ContentCache as _, RawManifest, RegistryError, RegistryReader, RegistryWriter};
use crate::report::ReasonView;
use crate::state::{DeletionResponse, LeaseToken, RestoreRecord, StateError, StateStore, UntagExperience};
use circuit_breaker::CircuitBreaker;
pub use circuit_breaker::CircuitBreakers;
use refused_tags::RefusedTags;
use removal_queue::RemovalQueue;
use survival::Survival;

pub use current_evidence::CurrentEvidence;
pub use delete_untagged::{DeletionResult, DeletionTask, delete, journal_skipped_deletions};
pub use last_look::Uptime;
pub use missing_manifests::fetch_missing_manifests;
pub use recover::recover;
use restore::{ExistenceCheck, PutResult};
pub use restore::{RestoreHold, RestoreResult, restore};
pub use restore_preview::{ExpectedRestore, RestorePreview, preview_restore};
pub use retry_policy::{RemovalRetryPolicy, Sleep};
pub use untag::is_digest_unknown;

/// The wall clock; injected by the entry points.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Most attempts of one removal that a busy registry defers. The registry determines the pauses.
const MAX_DEFERRALS: usize = 20;

/// A registry that may be changed.
#[derive(Clone)]
pub struct RegistryHandle {
    /// Checks its state before and after.
    pub reader: Arc<dyn RegistryReader>,
    /// Changes it.
    pub writer: Arc<dyn RegistryWriter>,
}

/// Everything needed to change registries and to record it.
#[derive(Clone)]
pub struct ApplyContext {
    /// The state, with the journal.
    pub store: StateStore,
    /// The lease that allows it; a dry run has none.
    pub lease: LeaseToken,
    /// The run that the changes belong to.
    pub run: Uuid,
    /// The registries that may be changed.
    pub registries: BTreeMap<RegistryName, RegistryHandle>,
    /// The time.
    pub clock: Clock,
    /// The clock by which looks at tags become outdated.
    pub uptime: Uptime,
    /// Becomes true when no further removal may begin.
    pub stop: watch::Receiver<bool>,
    /// The time for which a removal must remain undoable.
    pub undo_window: Duration,
    /// The time from which no removal may begin, either.
    pub deadline: Option<Deadline>,
    /// The waits and retries of removals.
    pub retry_policy: RemovalRetryPolicy,
    /// The treatment of tags that a registry refused to remove in earlier runs.
    pub retry_refused: RetryRefused,
    /// Returns why the time can no longer be trusted at that time: no removal may begin then, either.
    pub clock_guard: Option<ClockGuard>,
    /// The circuit breakers of the registries, for removals.
    pub breakers: CircuitBreakers,
    /// Those for deletions of untagged manifests: a registry that refuses these may still remove tags.
    pub deletion_breakers: CircuitBreakers,
    /// Evidence that is checked before each removal; `None` if the decision is final, as in a restore.
    pub evidence: Option<Arc<dyn CurrentEvidence>>,
}

/// The treatment of tags that a registry refused to remove in earlier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryRefused {
    /// They are skipped until their next retry is due.
    WhenDue,
    /// They are retried now: a person requested exactly these.
    Always,
}

impl ApplyContext {
    /// Returns why no further removal may begin in a registry, or `None`.
    #[must_use]
    pub fn skip_reason(&self, registry: &RegistryName) -> Option<SkipReason> {
        self.breakers.of(registry).skip_reason(self)
    }

    /// Returns the address of a registry that may be changed.
    fn address(&self, registry: &RegistryName) -> Option<Arc<str>> {
        self.registries.get(registry).map(|target| target.reader.settings().address().into())
    }
}

/// The types of manifests that all registries handle alike.
const STANDARD_MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Returns why the wall clock can no longer be trusted, given its time.
pub type ClockGuard = Arc<dyn Fn(Timestamp) -> Option<String> + Send + Sync>;

/// The end of the period in which removals may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// The end.
    pub at: Timestamp,
    /// The window or freeze that begins then.
    pub reason: String,
}

/// A planned removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovalTask {
    /// The removal, as the plan has it.
    pub removal: Arc<Removal>,
    /// Its reasons, for the journal.
    pub evidence: JournalEvidence,
}

/// The reasons of a removal, rendered or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEvidence {
    /// As JSON text.
    Json(Box<str>),
    /// The reasons of its verdict: their text is rendered when it is journaled, so that not all of them are in memory
    /// at once.
    FromVerdict(Arc<Verdicts>),
}

impl JournalEvidence {
    /// Returns the reasons of the tag at that position as JSON text.
    fn json(&self, at: TagPosition) -> String {
        match self {
            Self::Json(text) => text.to_string(),
            Self::FromVerdict(verdicts) => {
                let reasons = verdicts.at(at).into_iter().flat_map(|found| &found.reasons).map(ReasonView::from);
                serde_json::to_string(&reasons.collect::<Vec<_>>()).unwrap_or_default()
            }
        }
    }
}

/// The result of a removal task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovalResult {
    /// The removal, as the plan has it.
    pub removal: Arc<Removal>,
    /// Its outcome.
    pub outcome: Outcome,
}

/// Carries out the tasks of one run, registries concurrently. `inventory` is the one that they were decided on.
///
/// Results are in the order of the tasks. Manifests may be journaled without their content, which
/// [`fetch_missing_manifests`] reads afterwards.
///
/// # Errors
/// Returns an error if the journal cannot be written. Nothing further is removed then; the next start resolves what was
/// begun.
pub async fn apply(
    hands: &ApplyContext,
    tasks: Vec<RemovalTask>,
    inventory: &Inventory,
) -> Result<Vec<RemovalResult>, StateError> {
    let mut by_registry: BTreeMap<RegistryName, BTreeMap<RepositoryName, Vec<RemovalTask>>> = BTreeMap::new();
    for task in tasks {
        let registry = by_registry.entry(task.removal.registry.clone()).or_default();
        registry.entry(task.removal.repository.clone()).or_default().push(task);
    }
    let registries = by_registry.into_iter().map(|(name, tasks)| apply_in_registry(hands, name, tasks, inventory));
    let done = futures::future::try_join_all(registries).await?;
    let mut applied: Vec<RemovalResult> = done.into_iter().flatten().collect();
    applied.sort_by_key(|applied| applied.removal.position);
    Ok(applied)
}

#[tracing::instrument(name = "removals", skip_all, fields(registry = %name, tags = repositories.values().map(Vec::len).sum::<usize>()))]
async fn apply_in_registry(
    hands: &ApplyContext,
    name: RegistryName,
    repositories: BTreeMap<RepositoryName, Vec<RemovalTask>>,
    inventory: &Inventory,
) -> Result<Vec<RemovalResult>, StateError> {
    let Some(target) = hands.registries.get(&name) else {
        let brake = CircuitBreaker::default();
        brake.trip(format!("registry {name} is not in the settings"));
        return skip_all(hands, &brake, repositories.into_values().flatten().collect()).await;
    };
    let found = inventory.registry(name.as_str());
    let course = RegistryContext::new(hands, target, found).await?;
    let mut applied = Vec::new();
    let mut queues = Vec::with_capacity(repositories.len());
    let empty: Vec<Repository> = repositories.keys().map(|name| Repository::empty(name.clone())).collect();
    for ((repository, tasks), empty) in repositories.into_iter().zip(&empty) {
        let repository = found.and_then(|registry| registry.repository(repository.as_str())).unwrap_or(empty);
        let (tasks, waiting) = course.split_by_retry_time(tasks);
        applied.extend(journal_skipped_removals(hands, waiting).await?);
        queues.push((RepositoryContext { registry_context: &course, repository }, tasks));
    }
    let done = match target.reader.settings().removal {
        RemovalMethod::Untag => {
            let mut queues: Vec<RemovalQueue<'_>> =
                queues.into_iter().map(|(site, tasks)| RemovalQueue::new(site, tasks)).collect();
            removal_queue::remove_canary(&course, &mut queues).await?;
            course.for_each_repository(queues, RemovalQueue::remove_remaining).await?
        }
        RemovalMethod::DeleteManifest => {
            let work = |(site, tasks)| async move { delete_tagged::remove_in_repository(&site, tasks).await };
            course.for_each_repository(queues, work).await?
        }
    };
    applied.extend(done);
    // The removals are journaled; missing experience next time is not a failure.
    if let Err(error) = course.save_experience().await {
        tracing::warn!(registry = %name, error = %error.chain(), "could not remember what the run showed of the registry");
    }
    Ok(applied)
}

async fn skip_all(
    hands: &ApplyContext,
    brake: &CircuitBreaker,
    tasks: Vec<RemovalTask>,
) -> Result<Vec<RemovalResult>, StateError> {
    let skip = brake.skip_reason(hands).unwrap_or(SkipReason::Interrupted);
    journal_skipped_removals(hands, tasks.into_iter().map(|task| (task, skip.clone())).collect()).await
}

/// Journals removals that were not begun.
///
/// # Errors
/// Returns an error if the journal cannot be written.
pub async fn journal_skipped_removals(
    hands: &ApplyContext,
    skipped: Vec<(RemovalTask, SkipReason)>,
) -> Result<Vec<RemovalResult>, StateError> {
    let entries: Vec<(RemovalTask, Intent, Outcome)> = skipped
        .into_iter()
        .map(|(task, skip)| {
            let intent = intent(hands, &task, "".into());
            (task, intent, Outcome::Skipped(skip))
        })
        .collect();
    let notes: Vec<(&Intent, &Outcome)> = entries.iter().map(|(_, intent, outcome)| (intent, outcome)).collect();
    if !notes.is_empty() {
        hands.store.record_all_not_attempted(&hands.lease, hands.run, &notes, (hands.clock)()).await?;
    }
    Ok(entries.into_iter().map(|(task, _, outcome)| RemovalResult { removal: task.removal, outcome }).collect())
}

fn intent(hands: &ApplyContext, task: &RemovalTask, media_type: Arc<str>) -> Intent {
    Intent {
        action: Action::Remove(task.removal.method),
        registry: task.removal.registry.clone(),
        endpoint: hands.address(&task.removal.registry),
        repository: task.removal.repository.clone(),
        tag: task.removal.tag.clone(),
        digest: task.removal.digest.clone(),
        media_type,
        policy: Some(task.removal.policy.to_string()),
        evidence: task.evidence.json(task.removal.position),
        date: Some(task.removal.date),
    }
}

/// The removals of one run in one registry, and the findings on the way.
struct RegistryContext<'a> {
    context: &'a ApplyContext,
    registry: &'a RegistryHandle,
    endpoint: String,
    breaker: Arc<CircuitBreaker>,
    /// One permit for each concurrent removal, so that none waits between its last check and its request.
    permits: Semaphore,
    survival: Survival,
    /// True if the registry's own settings keep untagged manifests for at least the undo window.
    keeps_untagged: bool,
    refused_tags: RefusedTags,
    /// True if a read may be stale, because the registry has replicas, or may have some.
    reads_may_be_stale: bool,
    /// True once responses to removals contained the tag's digest, which reveals a stale read.
    returns_digests: AtomicBool,
    /// True if the registry is known to remove: by experience, or since the first removal of this run.
    can_remove: bool,
}

impl<'a> RegistryContext<'a> {
    /// # Errors
    /// Returns an error if the state cannot be read.
    async fn new(
        hands: &'a ApplyContext,
        target: &'a RegistryHandle,
        found: Option<&crate::domain::Registry>,
    ) -> Result<Self, StateError> {
        let settings = target.reader.settings();
        let endpoint = settings.endpoint.as_str().trim_end_matches('/').to_owned();
        let experience = hands.store.untag_experience(&endpoint).await?.map(|experience| experience.effect);
        let answer = hands.store.deletion_response(&endpoint, settings.removal, (hands.clock)()).await?;
        let info = found.and_then(|registry| registry.info.as_ref());
        let survived = experience == Some(UntagExperience::ManifestSurvives);
        // Any other retention leaves a manifest for longer than the look at it takes.
        let at_once = settings.accepted.retention
            && target.reader.deletes_untagged_at_once()
            && info.is_some_and(|info| info.untagged_retention == RetentionDays::Days(0));
        let survival = Survival::new(survived, at_once);
        let keeps_untagged = match info.map(|info| info.untagged_retention) {
            _ if target.reader.hides_untagged() || target.reader.may_withhold_manifests() => false,
            Some(RetentionDays::Off) => true,
            Some(RetentionDays::Days(days)) => Duration::from_hours(24 * u64::from(days)) >= hands.undo_window,
            Some(RetentionDays::Unknown) | None => false,
        };
        let replicas = || target.reader.known_capabilities().replicas.is_certain();
        let replicated = info.map_or_else(replicas, |info| !info.replicas.is_empty());
        Ok(Self {
            breaker: hands.breakers.of(&settings.name),
            permits: Semaphore::new(settings.concurrency.max(1)),
            survival,
            keeps_untagged,
            refused_tags: RefusedTags::load(hands, &endpoint).await?,
            reads_may_be_stale: replicated,
            returns_digests: AtomicBool::new(false),
            can_remove: matches!(answer, Some((DeletionResponse::Accepted, _))),
            context: hands,
            registry: target,
            endpoint,
        })
    }

    /// Splits the tasks into those that are due, and those that wait because the registry refused them before.
    fn split_by_retry_time(&self, tasks: Vec<RemovalTask>) -> (Vec<RemovalTask>, Vec<(RemovalTask, SkipReason)>) {
        let now = (self.context.clock)();
        let (mut due, mut waiting) = (Vec::with_capacity(tasks.len()), Vec::new());
        for task in tasks {
            let refused =
                self.refused_tags.find(&task.removal).filter(|_| self.context.retry_refused == RetryRefused::WhenDue);
            match refused.filter(|refused| refused.blocks_removal(&task.removal.digest, now)) {
                Some(refused) => {
                    let why = format!("{}; its last answer: {}", refused.describe(), refused.message);
                    waiting.push((task, SkipReason::Postponed(why)));
                }
                None => due.push(task),
            }
        }
        (due, waiting)
    }

    /// Processes as many repositories as concurrent removals: the first removal of each precedes its others, and with
    /// thousands of repositories most removals are first ones.
    async fn for_each_repository<T, F: Future<Output = Result<Vec<RemovalResult>, StateError>>>(
        &self,
        parts: Vec<T>,
        work: impl Fn(T) -> F,
    ) -> Result<Vec<RemovalResult>, StateError> {
        let at_once = self.registry.reader.settings().concurrency.max(1);
        let parts = parts.into_iter().map(|part| {
            let done = work(part);
            // The other repositories must not continue without a journal either.
            async move { done.await.inspect_err(|error| self.breaker.trip(error.chain())) }
        });
        let results: Vec<Result<Vec<RemovalResult>, StateError>> =
            stream::iter(parts).buffer_unordered(at_once).collect().await;
        results.into_iter().collect::<Result<Vec<_>, _>>().map(|parts| parts.into_iter().flatten().collect())
    }

    /// Records the experience of the run.
    ///
    /// # Errors
    /// Returns an error if the state cannot be written.
    async fn save_experience(self) -> Result<(), StateError> {
        let method = self.registry.reader.settings().removal;
        let removed = self.breaker.has_removed();
        if removed {
            let (answer, now) = (DeletionResponse::Accepted, (self.context.clock)());
            self.context.store.record_deletion_response(&self.endpoint, method, answer, now).await?;
        }
        self.refused_tags.save(self.context, &self.breaker, self.can_remove || removed, method).await
    }

    /// Returns true if the manifest of a removed tag certainly remains: the registry's own settings say so, and an
    /// untag has shown it.
    fn manifest_stays(&self) -> bool {
        self.keeps_untagged
            && self.survival.is_observed()
            && self.registry.reader.settings().removal == RemovalMethod::Untag
    }

    /// Returns true if a removal with a lost response may be repeated. With stale reads, the visible tag may have been
    /// pushed again after the lost request was carried out; only a response with the digest shows that.
    fn may_repeat(&self) -> bool {
        !self.reads_may_be_stale || self.returns_digests.load(Ordering::Relaxed)
    }
}

/// The context of tasks: one repository of one registry.
struct RepositoryContext<'a> {
    registry_context: &'a RegistryContext<'a>,
    repository: &'a Repository,
}

impl<'a> std::ops::Deref for RepositoryContext<'a> {
    type Target = RegistryContext<'a>;

    fn deref(&self) -> &RegistryContext<'a> {
        self.registry_context
    }
}

impl RepositoryContext<'_> {
    fn now(&self) -> Timestamp {
        (self.context.clock)()
    }

    fn registry_name(&self) -> &RegistryName {
        &self.registry.reader.settings().name
    }

    /// Acquires a permit. The semaphore is never closed; without a permit, only concurrency would be higher.
    async fn acquire_permit(&self) -> Option<SemaphorePermit<'_>> {
        self.permits.acquire().await.ok()
    }

    /// Sleeps, or less if the run is to stop.
    async fn pause(&self, time: Duration) {
        let mut stop = self.context.stop.clone();
        tokio::select! {
            () = (self.context.retry_policy.sleep)(time) => {}
            Ok(_) = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// Returns why no further removal may begin here, or `None`.
    fn stop_reason(&self) -> Option<SkipReason> {
        self.breaker.skip_reason_in(self.context, &self.repository.name)
    }

    /// Returns why a removal may not begin or be retried now: no further one may, or current evidence retains the tag.
    async fn skip_reason(&self, removal: &Removal) -> Option<SkipReason> {
        if let Some(skip) = self.stop_reason() {
            return Some(skip);
        }
        let kept = self.context.check_removal_evidence(removal).await;
        // Gathering may have taken long.
        kept.or_else(|| self.stop_reason())
    }

    fn record_success(&self) {
        self.breaker.record_success(&self.repository.name);
    }

    fn record_failure(&self, error: &RegistryError) {
        self.breaker.record_failure(&self.repository.name, error);
    }

    /// Returns the manifest that undoes a removal, from the cache or the registry.
    async fn fetch_manifest(&self, digest: &Digest) -> Result<Option<RawManifest>, RegistryError> {
        if let Some(manifest) = self.context.store.manifest(digest).await {
            return Ok(Some(manifest));
        }
        self.registry.reader.manifest(&self.repository.name, digest).await
    }

    /// Returns the type of a manifest whose content need not be journaled before one of its tags is removed: it
    /// certainly remains, and its content is not cached by this run. Content that an earlier run cached is journaled
    /// after the removals: a look for each of a hundred thousand manifests would delay them.
    async fn deferred_media_type(&self, digest: &Digest) -> Option<Arc<str>> {
        if !self.manifest_stays() {
            return None;
        }
        let Manifest { media_type, detail, .. } = self.repository.manifests.get(digest)?;
        // Registries may delete other content by other rules.
        let is_known = STANDARD_MANIFESTS.contains(&&**media_type);
        let was_read = *detail == ManifestDetail::Full;
        let cached = !is_known || was_read && self.context.store.manifest(digest).await.is_some();
        (!cached).then(|| Arc::clone(media_type))
    }

    async fn journal_result(&self, task: RemovalTask, outcome: Outcome) -> Result<RemovalResult, StateError> {
        let ApplyContext { store, lease, run, .. } = self.context;
        let intent = intent(self.context, &task, "".into());
        store.record_not_attempted(lease, *run, &intent, &outcome, self.now()).await?;
        Ok(RemovalResult { removal: task.removal, outcome })
    }

    /// Restores a manifest under its former tags, and returns those that could not be restored. Without `manifest`, the
    /// registry puts them back by the digest alone.
    ///
    /// Only tags that do not exist are restored; one that was pushed meanwhile is left alone. A tag that was at the
    /// manifest at the time of the decision keeps its date of then.
    async fn restore_tags(
        &self,
        digest: &Digest,
        manifest: Option<&RawManifest>,
        tags: &[TagName],
    ) -> Result<Vec<TagName>, StateError> {
        let mut lost = Vec::new();
        for tag in tags {
            let intent = Intent {
                action: Action::Restore,
                registry: self.registry_name().clone(),
                endpoint: self.context.address(self.registry_name()),
                repository: self.repository.name.clone(),
                tag: tag.clone(),
                digest: digest.clone(),
                media_type: manifest.map_or_else(|| "".into(), |manifest| Arc::clone(&manifest.media_type)),
                policy: None,
                evidence: "[]".to_owned(),
                date: None,
            };
            let before = self.repository.tag(tag.as_str()).filter(|facts| facts.digest.as_ref() == Some(digest));
            let original = before.map(|facts| tag_date(self.repository, facts, self.now()).into());
            let restoring = RestoreRecord { original, hold: None };
            let ApplyContext { store, lease, run, .. } = self.context;
            let journaled = match manifest {
                Some(manifest) => store.intend_restore(lease, *run, &intent, manifest, restoring, self.now()).await?,
                // The tag was not at this digest before, so it keeps no date.
                None => store.intend_without_manifest(lease, *run, &intent, self.now()).await?,
            };
            // If the registry does not answer, the put is tried: the tag existed a moment ago.
            let (outcome, left_at) =
                match restore::put_tag(self.registry, &intent, manifest, ExistenceCheck::BestEffort, None).await {
                    PutResult::Done(left_at) => (Outcome::Done(String::new()), left_at),
                    PutResult::AlreadyThere(_) => {
                        (Outcome::Skipped(SkipReason::Present("the tag is there already".to_owned())), None)
                    }
                    PutResult::Moved(to) => (Outcome::Skipped(SkipReason::Moved { to }), None),
                    PutResult::Failed(error) => {
                        lost.push(tag.clone());
                        (Outcome::Failed(error.chain()), None)
                    }
                    PutResult::Unknown(why) => {
                        tracing::warn!(
                            registry = %self.registry_name(), repository = %self.repository.name, %tag, why,
                            "could not see whether a tag was put back; the next run finds out"
                        );
                        lost.push(tag.clone());
                        continue;
                    }
                };
            tracing::warn!(
                registry = %self.registry_name(), repository = %self.repository.name, %tag, %digest,
                outcome = outcome.label(), "put back a tag that a removal had taken along"
            );
            store.record_restore_outcome(journaled.id(), &outcome, left_at, self.now()).await?;
        }
        Ok(lost)
    }
}
