//! Manifest cleanup: deletes manifests that were untagged before, and their dependents. The repository is read right
//! before its first deletion, and again whenever that is more than a minute ago. Each manifest is checked by itself
//! before it is deleted. A manifest that has changed since the decision is retained.
//!
//! A manifest is journaled with all of its dependents before the first of these is deleted, since a registry may delete
//! its referrers with it. So after a crash the journal shows what is left over.

mod observed_outcome;
mod queue;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use jiff::{SignedDuration, Timestamp};

use super::skip_log::log_skip;
use super::untag::may_still_execute;
use super::{ApplyContext, CircuitBreaker, MAX_DEFERRALS, RegistryHandle};
use crate::domain::{
    Action, Deletion, DependentRole, Digest, Failure, Gap, Intent, Outcome, RegistryName, RepositoryName, SkipReason,
};
use crate::registry::{self, ContentCache as _, RawManifest, RegistryError, RegistryErrorKind, RemovalResponse};
use crate::state::StateError;
use observed_outcome::ObservedOutcome;
use queue::{DeletionQueue, JournaledManifest, ManifestTask};
use snapshot::Snapshot;

/// The maximum age of a snapshot. Pushing an index does not change its children, so only a new snapshot shows it.
pub(super) const SNAPSHOT_MAX_AGE: SignedDuration = SignedDuration::from_mins(1);

/// A planned deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletionTask {
    /// The deletion, as the plan has it.
    pub deletion: Arc<Deletion>,
    /// The reasons for it, as JSON text, for the journal.
    pub evidence: Box<str>,
}

/// The outcome of one manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletionResult {
    /// The deletion that it belongs to.
    pub deletion: Arc<Deletion>,
    /// Its digest.
    pub digest: Digest,
    /// Its role as a dependent; `None` for the deletion's own manifest.
    pub role: Option<DependentRole>,
    /// Its outcome.
    pub outcome: Outcome,
}

/// Carries out the deletions of one run, repository by repository, several concurrently.
///
/// # Errors
/// Returns an error if the journal cannot be written. Deletion stops then; the next start resolves what was begun.
pub async fn delete(hands: &ApplyContext, tasks: Vec<DeletionTask>) -> Result<Vec<DeletionResult>, StateError> {
    let mut by_registry: BTreeMap<RegistryName, BTreeMap<RepositoryName, Vec<DeletionTask>>> = BTreeMap::new();
    for task in tasks {
        let registry = by_registry.entry(task.deletion.registry.clone()).or_default();
        registry.entry(task.deletion.repository.clone()).or_default().push(task);
    }
    let registries = by_registry.into_iter().map(|(name, repositories)| async move {
        let Some(target) = hands.registries.get(&name) else { return Ok(Vec::new()) };
        let brake = hands.deletion_breakers.of(&name);
        let at_once = target.reader.settings().concurrency.max(1);
        let work = repositories.into_iter().map(|(repository, tasks)| {
            let brake = &brake;
            async move {
                let site = DeletionContext { context: hands, target, breaker: brake, repository: &repository };
                let deleted = site.delete_in_order(tasks).await;
                // The other repositories must not continue without a journal either.
                deleted.inspect_err(|error| brake.trip(error.chain()))
            }
        });
        let parts: Vec<Result<Vec<DeletionResult>, StateError>> =
            stream::iter(work).buffer_unordered(at_once).collect().await;
        parts.into_iter().collect::<Result<Vec<_>, _>>()
    });
    let mut deleted: Vec<DeletionResult> =
        futures::future::try_join_all(registries).await?.into_iter().flatten().flatten().collect();
    deleted.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
    Ok(deleted)
}

fn sort_key(deleted: &DeletionResult) -> (&RegistryName, &RepositoryName, &Digest, Option<DependentRole>, &Digest) {
    let Deletion { registry, repository, digest, .. } = &*deleted.deletion;
    (registry, repository, digest, deleted.role, &deleted.digest)
}

/// Journals deletions that were not begun.
///
/// # Errors
/// Returns an error if the journal cannot be written.
pub async fn journal_skipped_deletions(
    hands: &ApplyContext,
    skipped: Vec<(DeletionTask, SkipReason)>,
) -> Result<Vec<DeletionResult>, StateError> {
    let mut noted = Vec::new();
    for (task, skip) in skipped {
        let DeletionTask { deletion, evidence: proof } = task;
        let intent = intent(hands, &deletion, &deletion.digest, "".into(), &proof);
        let outcome = Outcome::Skipped(skip);
        hands.store.record_not_attempted(&hands.lease, hands.run, &intent, &outcome, (hands.clock)()).await?;
        noted.push(DeletionResult { digest: deletion.digest.clone(), deletion, role: None, outcome });
    }
    Ok(noted)
}

fn intent(hands: &ApplyContext, deletion: &Deletion, digest: &Digest, media_type: Arc<str>, proof: &str) -> Intent {
    Intent {
        action: Action::DeleteUntagged,
        registry: deletion.registry.clone(),
        endpoint: hands.address(&deletion.registry),
        repository: deletion.repository.clone(),
        tag: deletion.tag.clone(),
        digest: digest.clone(),
        media_type,
        policy: deletion.policies.first().map(ToString::to_string),
        evidence: proof.to_owned(),
        date: None,
    }
}

/// One repository in which manifests are deleted.
struct DeletionContext<'a> {
    context: &'a ApplyContext,
    target: &'a RegistryHandle,
    breaker: &'a CircuitBreaker,
    repository: &'a RepositoryName,
}

impl DeletionContext<'_> {
    /// Deletes indexes before their children, and images before their referrers.
    async fn delete_in_order(&self, tasks: Vec<DeletionTask>) -> Result<Vec<DeletionResult>, StateError> {
        let mut work = DeletionQueue::new(tasks);
        let meant: BTreeSet<Digest> = work.pending.keys().cloned().collect();
        let mut queue: Vec<Digest> = meant.iter().cloned().collect();
        queue.sort_by_key(|digest| (work.pending[digest].role, digest.clone()));
        let (mut queue, mut passed) = (VecDeque::from(queue), 0);
        let mut now = match self.read_snapshot(&meant, None).await {
            Ok(now) => now,
            Err(skip) => return self.skip_remaining(work, queue, skip).await,
        };
        while let Some(digest) = queue.pop_front() {
            let Some(one) = work.pending.get(&digest) else { continue };
            // A manifest waits for the indexes that contain it and for its subject; if they wait for each other, all
            // are retained.
            if passed <= queue.len() && now.parents(one).any(|above| work.pending.contains_key(above)) {
                queue.push_back(digest);
                passed += 1;
                continue;
            }
            passed = 0;
            // Before the repository is read: the snapshot must not age while evidence is gathered.
            let deletion = Arc::clone(&one.deletion);
            self.refresh_evidence(&deletion).await;
            if self.now().duration_since(now.read_at) >= SNAPSHOT_MAX_AGE {
                now = match self.read_snapshot(&meant, Some(now)).await {
                    Ok(now) => now,
                    Err(skip) => {
                        queue.push_front(digest);
                        return self.skip_remaining(work, queue, skip).await;
                    }
                };
            }
            let Some(one) = work.pending.remove(&digest) else { continue };
            self.delete_with_referrers(&mut work, one, &mut now).await?;
        }
        Ok(work.results)
    }

    fn now(&self) -> Timestamp {
        (self.context.clock)()
    }

    /// Returns why no further deletion may begin here, or `None`.
    fn stop_reason(&self) -> Option<SkipReason> {
        self.breaker.skip_reason_in(self.context, self.repository)
    }

    /// Refreshes old evidence. Its result is checked again right before a deletion begins.
    async fn refresh_evidence(&self, deletion: &Deletion) {
        if self.stop_reason().is_none() {
            self.context.check_deletion_evidence(deletion).await;
        }
    }

    /// Returns why current evidence retains a manifest, or a referrer that may be deleted with it.
    async fn check_evidence(&self, one: &ManifestTask, referrers: &[ManifestTask]) -> Option<SkipReason> {
        for one in std::iter::once(one).chain(referrers) {
            if let Some(skip) = self.context.check_deletion_evidence(&one.deletion).await {
                return Some(skip);
            }
        }
        None
    }

    /// Reads the current state of the repository.
    async fn read_snapshot(&self, meant: &BTreeSet<Digest>, before: Option<Snapshot>) -> Result<Snapshot, SkipReason> {
        if let Some(skip) = self.stop_reason() {
            return Err(skip);
        }
        let at = self.now();
        let repository = snapshot::read_whole(&*self.target.reader, self.repository, meant, &self.context.store).await;
        let unread = repository.gaps.iter().find(|gap| Gap::blocks_repository(gap));
        if let (None, Some((digest, _))) = (unread, repository.unread().next()) {
            return Err(SkipReason::Kept(format!("manifest {digest} could not be read again")));
        }
        match unread {
            Some(gap) => Err(SkipReason::Kept(format!("{} could not be read again: {}", gap.target, gap.message))),
            None => Ok(Snapshot::new(repository, at, before)),
        }
    }

    /// Skips everything that is not done, for one reason.
    async fn skip_remaining(
        &self,
        mut work: DeletionQueue,
        queue: VecDeque<Digest>,
        skip: SkipReason,
    ) -> Result<Vec<DeletionResult>, StateError> {
        for digest in queue {
            if let Some(one) = work.pending.remove(&digest) {
                self.journal_outcome(&mut work, one, ObservedOutcome::Known(Outcome::Skipped(skip.clone()))).await?;
            }
        }
        Ok(work.results)
    }

    /// Deletes one manifest and its referrers, which a registry may delete by itself.
    async fn delete_with_referrers(
        &self,
        work: &mut DeletionQueue,
        one: ManifestTask,
        now: &mut Snapshot,
    ) -> Result<(), StateError> {
        let referrers = now.take_referrers(&one.digest, &mut work.pending);
        let digests: BTreeSet<Digest> =
            referrers.iter().chain(std::iter::once(&one)).map(|one| one.digest.clone()).collect();
        let fate = if let Some(above) = now.possibly_removed_parent(&one) {
            Some(ObservedOutcome::Unknown(format!("it is not known what came of {above}, which it depends on")))
        } else {
            let against = match self.stop_reason().or_else(|| now.keep_reason(&one, &digests)) {
                Some(skip) => Some(skip),
                None => self.check_evidence(&one, &referrers).await,
            };
            against.map(|skip| ObservedOutcome::Known(Outcome::Skipped(skip)))
        };
        let fate = match fate {
            Some(fate) => Some(fate),
            None => self.journal_intents(work, &one, &referrers).await?,
        };
        let fate = match fate {
            Some(fate) => fate,
            None => self.delete(&one, &work.journaled, now).await,
        };
        now.record(&one.digest, &fate);
        self.journal_outcome(work, one, fate).await?;
        for referrer in referrers {
            let subject = now.subject(&referrer.digest).cloned();
            let fate = match subject {
                Some(subject) if now.removed.contains(&subject) => self.delete(&referrer, &work.journaled, now).await,
                Some(subject) if now.possibly_removed.contains(&subject) => {
                    ObservedOutcome::Unknown(format!("it is not known what came of {subject}, which it refers to"))
                }
                _ => ObservedOutcome::kept("what it refers to stays".to_owned()),
            };
            now.record(&referrer.digest, &fate);
            self.journal_outcome(work, referrer, fate).await?;
        }
        Ok(())
    }

    /// Journals a manifest and its dependents with their content, or returns the outcome if that is impossible.
    async fn journal_intents(
        &self,
        work: &mut DeletionQueue,
        one: &ManifestTask,
        referrers: &[ManifestTask],
    ) -> Result<Option<ObservedOutcome>, StateError> {
        let along = work.dependents_of(one);
        for member in std::iter::once(one).chain(referrers).chain(&along) {
            if work.journaled.contains_key(&member.digest) {
                continue;
            }
            let unread = |why: String| ObservedOutcome::Known(Outcome::Failed(why));
            let digest = &member.digest;
            let manifest = match self.fetch_manifest(digest).await {
                Ok(Some(manifest)) => manifest,
                Ok(None) if member.digest == one.digest => return Ok(Some(self.explain_withheld(digest).await)),
                Ok(None) => continue,
                Err(error) => {
                    self.breaker.record_failure(self.repository, &error);
                    let why = format!("{digest} could not be read, so it could not be put back: {}", error.chain());
                    return Ok(Some(unread(why)));
                }
            };
            let subject = match registry::parse_manifest(&manifest) {
                Ok(parsed) => parsed.manifest.subject.map(|subject| *subject),
                Err(why) => {
                    let why = Failure::new((), format!("{digest} could not be understood")).caused_by(why);
                    return Ok(Some(unread(why.chain())));
                }
            };
            let intent =
                intent(self.context, &member.deletion, digest, Arc::clone(&manifest.media_type), &member.evidence);
            let intent = match self.context.journal_intent(&intent, &manifest).await? {
                Ok(journaled) => journaled,
                Err(skip) => return Ok(Some(ObservedOutcome::Known(Outcome::Skipped(skip)))),
            };
            work.journaled.insert(digest.clone(), JournaledManifest { intent, subject });
        }
        Ok(None)
    }

    /// Tells a manifest that is gone from one that the registry has and does not give, as it does with images in quarantine.
    async fn explain_withheld(&self, digest: &Digest) -> ObservedOutcome {
        match self.target.reader.has_manifest(self.repository, digest).await {
            Ok(false) => ObservedOutcome::Known(Outcome::Skipped(SkipReason::Missing)),
            Ok(true) => ObservedOutcome::kept(
                "the registry lists it and does not give its bytes, so it could not be put back; is it in quarantine?"
                    .to_owned(),
            ),
            Err(error) => {
                self.breaker.record_failure(self.repository, &error);
                ObservedOutcome::Known(Outcome::Failed(format!("it could not be looked at: {}", error.chain())))
            }
        }
    }

    /// Journals what came of one. Where the registry does not say, the entry stays open until the next start.
    async fn journal_outcome(
        &self,
        work: &mut DeletionQueue,
        one: ManifestTask,
        fate: ObservedOutcome,
    ) -> Result<(), StateError> {
        let ApplyContext { store, lease, run, .. } = self.context;
        let begun = work.journaled.remove(&one.digest);
        let outcome = match (begun, fate) {
            (Some(JournaledManifest { intent, .. }), ObservedOutcome::Known(outcome)) => {
                store.record_outcome(intent.id(), &outcome, self.now()).await?;
                outcome
            }
            (Some(_), ObservedOutcome::Unknown(why)) => Outcome::Failed(format!("{why}; settled at the next start")),
            (None, fate) => {
                let outcome = match fate {
                    ObservedOutcome::Known(outcome) => outcome,
                    ObservedOutcome::Unknown(why) => Outcome::Failed(why),
                };
                let intent = intent(self.context, &one.deletion, &one.digest, "".into(), &one.evidence);
                store.record_not_attempted(lease, *run, &intent, &outcome, self.now()).await?;
                outcome
            }
        };
        self.log(&one, &outcome);
        work.results.push(DeletionResult { deletion: one.deletion, digest: one.digest, role: one.role, outcome });
        Ok(())
    }

    /// Determines the outcome of a failed request by reading from the registry.
    async fn outcome_after_failure(&self, one: &ManifestTask, error: RegistryError) -> ObservedOutcome {
        self.breaker.record_failure(self.repository, &error);
        match self.target.reader.has_manifest(self.repository, &one.digest).await {
            Ok(true) if error.kind == RegistryErrorKind::Locked => {
                ObservedOutcome::Known(Outcome::Skipped(SkipReason::Locked(error.chain())))
            }
            // The request may still be in flight.
            Ok(true) if may_still_execute(&error) => ObservedOutcome::Unknown(error.chain()),
            Ok(true) => ObservedOutcome::Known(Outcome::Failed(error.chain())),
            Ok(false) => ObservedOutcome::Known(Outcome::Done(format!("it is gone, although: {}", error.chain()))),
            Err(second) => {
                ObservedOutcome::Unknown(format!("{}; then looking at it failed: {}", error.chain(), second.chain()))
            }
        }
    }

    /// Returns the exact content, for the journal.
    async fn fetch_manifest(&self, digest: &Digest) -> Result<Option<RawManifest>, RegistryError> {
        if let Some(manifest) = self.context.store.manifest(digest).await {
            return Ok(Some(manifest));
        }
        self.target.reader.manifest(self.repository, digest).await
    }

    async fn delete(
        &self,
        one: &ManifestTask,
        begun: &HashMap<Digest, JournaledManifest>,
        now: &Snapshot,
    ) -> ObservedOutcome {
        let fate = self.try_delete(one, begun, now).await.unwrap_or_else(|error| {
            self.breaker.record_failure(self.repository, &error);
            ObservedOutcome::Known(Outcome::Failed(format!("it could not be looked at: {}", error.chain())))
        });
        let subject = begun.get(&one.digest).and_then(|begun| begun.subject.as_ref());
        match fate {
            ObservedOutcome::Known(Outcome::Skipped(SkipReason::Missing))
                if subject.is_some_and(|subject| now.removed.contains(subject)) =>
            {
                ObservedOutcome::Known(Outcome::Done("it went with what it refers to".to_owned()))
            }
            fate => fate,
        }
    }

    /// Checks the manifest and deletes it. The checks come right before each request.
    async fn try_delete(
        &self,
        one: &ManifestTask,
        begun: &HashMap<Digest, JournaledManifest>,
        now: &Snapshot,
    ) -> Result<ObservedOutcome, RegistryError> {
        let RegistryHandle { reader, writer } = self.target;
        let Some(JournaledManifest { intent, .. }) = begun.get(&one.digest) else {
            return Ok(if reader.has_manifest(self.repository, &one.digest).await? {
                ObservedOutcome::kept("it was not there when it was to be journaled".to_owned())
            } else {
                ObservedOutcome::Known(Outcome::Skipped(SkipReason::Missing))
            });
        };
        for _ in 0..MAX_DEFERRALS {
            let clearance = writer.acquire_removal_permit(self.repository).await?;
            if let Some(skip) = self.stop_reason() {
                return Ok(ObservedOutcome::Known(Outcome::Skipped(skip)));
            }
            if let Some(skip) = self.context.check_deletion_evidence(&one.deletion).await {
                // It may have been deleted with its subject.
                let there = reader.has_manifest(self.repository, &one.digest).await?;
                return Ok(ObservedOutcome::Known(Outcome::Skipped(if there { skip } else { SkipReason::Missing })));
            }
            // Gathering may have taken long.
            if let Some(skip) = self.stop_reason() {
                return Ok(ObservedOutcome::Known(Outcome::Skipped(skip)));
            }
            if let Some(skip) = self.kept_by_subject(one, begun, now).await? {
                return Ok(ObservedOutcome::Known(Outcome::Skipped(skip)));
            }
            if let Some(skip) = self.kept_by_referrer(&one.digest, begun).await? {
                return Ok(ObservedOutcome::Known(Outcome::Skipped(skip)));
            }
            if let Some(why) = self.context.lost_lease().await {
                return Ok(ObservedOutcome::Unknown(why));
            }
            // Last of all, because tags change most easily.
            let look = self.context.begin_look();
            let Some(seen) = reader.manifest_state(self.repository, &one.digest).await? else {
                return Ok(ObservedOutcome::Known(Outcome::Skipped(SkipReason::Missing)));
            };
            if let Some(tag) = seen.tags.first() {
                return Ok(ObservedOutcome::kept(format!("tag {tag} names it")));
            }
            if let Some(lock) = seen.lock {
                return Ok(ObservedOutcome::Known(Outcome::Skipped(SkipReason::Locked(format!(
                    "it has a {} lock",
                    lock.label()
                )))));
            }
            // Everything known when the undo time was computed is older than its end.
            let known =
                now.changed_at(&one.digest).map_or(one.deletion.eligible_at, |then| then.min(one.deletion.eligible_at));
            if one.role.is_none() && seen.changed_at.is_some_and(|seen| seen > known) {
                return Ok(ObservedOutcome::kept("it was changed meanwhile".to_owned()));
            }
            match writer.delete_manifest(intent, look.bind(clearance)).await {
                Ok(RemovalResponse::Removed { request_id: evidence, .. }) => {
                    self.breaker.record_success(self.repository);
                    return Ok(self.confirm_deletion(one, evidence).await);
                }
                Ok(RemovalResponse::Deleted { .. }) => {
                    self.breaker.record_success(self.repository);
                    return Ok(self.confirm_deletion(one, String::new()).await);
                }
                Ok(RemovalResponse::AlreadyMissing) => {
                    return Ok(ObservedOutcome::Known(Outcome::Skipped(SkipReason::Missing)));
                }
                Err(error) if error.requires_recheck() => {}
                Err(error) => return Ok(self.outcome_after_failure(one, error).await),
            }
        }
        Ok(ObservedOutcome::Known(Outcome::Failed("the registry puts deletions off again and again".to_owned())))
    }

    /// Returns why a manifest is retained as the referrer of a retained manifest. A list may not show an image's
    /// subject, but its content does.
    async fn kept_by_subject(
        &self,
        one: &ManifestTask,
        begun: &HashMap<Digest, JournaledManifest>,
        now: &Snapshot,
    ) -> Result<Option<SkipReason>, RegistryError> {
        let subject = begun.get(&one.digest).and_then(|begun| begun.subject.as_ref());
        let Some(subject) = subject.filter(|subject| !now.removed.contains(*subject)) else { return Ok(None) };
        let there = self.target.reader.has_manifest(self.repository, subject).await?;
        Ok(there.then(|| SkipReason::Kept(format!("{subject}, which it refers to, stays"))))
    }

    /// Returns why a manifest is retained because of its direct or indirect referrers. Registries delete all of these
    /// with it, so all must be planned, be journaled, and have neither tag nor lock.
    async fn kept_by_referrer(
        &self,
        digest: &Digest,
        begun: &HashMap<Digest, JournaledManifest>,
    ) -> Result<Option<SkipReason>, RegistryError> {
        let reader = &self.target.reader;
        let (mut seen, mut open) = (BTreeSet::new(), vec![digest.clone()]);
        while let Some(next) = open.pop() {
            for referrer in reader.referrers(self.repository, &next).await? {
                if !seen.insert(referrer.clone()) {
                    continue;
                }
                if !begun.contains_key(&referrer) {
                    return Ok(Some(SkipReason::Kept(format!("{referrer} refers to it, and is not to be deleted"))));
                }
                let Some(facts) = reader.manifest_state(self.repository, &referrer).await? else { continue };
                if let Some(tag) = facts.tags.first() {
                    return Ok(Some(SkipReason::Kept(format!("tag {tag} names {referrer}, which refers to it"))));
                }
                if let Some(lock) = facts.lock {
                    let why = format!("{referrer}, which refers to it, has a {} lock", lock.label());
                    return Ok(Some(SkipReason::Locked(why)));
                }
                open.push(referrer);
            }
        }
        Ok(None)
    }

    /// Confirms a deletion, because a response alone is not a proof.
    async fn confirm_deletion(&self, one: &ManifestTask, evidence: String) -> ObservedOutcome {
        match self.target.reader.has_manifest(self.repository, &one.digest).await {
            Ok(false) => ObservedOutcome::Known(Outcome::Done(evidence)),
            Ok(true) => {
                let why = format!("the registry said that it deleted {}, and it is still there", one.digest);
                self.breaker.trip(why.clone());
                // It may only be delayed.
                ObservedOutcome::Unknown(why)
            }
            Err(error) => self.outcome_after_failure(one, error).await,
        }
    }

    fn log(&self, one: &ManifestTask, outcome: &Outcome) {
        let (registry, repository, digest, tag) =
            (&one.deletion.registry, self.repository, &one.digest, &one.deletion.tag);
        match outcome {
            Outcome::Done(evidence) => {
                tracing::info!(%registry, %repository, %digest, %tag, evidence, "deleted an untagged manifest");
            }
            Outcome::Skipped(skip) => log_skip(registry, self.repository, (tag, digest), skip),
            Outcome::Failed(error) => {
                tracing::error!(%registry, %repository, %digest, %tag, error, "could not delete an untagged manifest");
            }
        }
    }
}
