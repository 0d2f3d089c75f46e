//! Removals of the tag alone.

mod confirmation;
mod siblings;

use std::sync::Arc;

use tokio::sync::{OnceCell, SemaphorePermit};

use super::removal_queue::{RemainingTags, leaves_tag_absent};
use super::skip_log::log_skip;
use super::{
    ApplyContext, MAX_DEFERRALS, RemovalResult, RemovalTask, RepositoryContext, absence, intent, recover, survival,
};
use crate::domain::{
    CompactTime, Digest, JournalId, JournaledIntent, Outcome, Removal, RemovalMethod, SkipReason, TagState,
};
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind, RemovalResponse};
use crate::state::{StateError, StateErrorKind};

pub use confirmation::is_digest_unknown;
pub(super) use siblings::settle_missing;

/// A manifest that is fetched by the first removal that needs it.
pub(super) type LazyManifest = Arc<OnceCell<Option<RawManifest>>>;

/// The manifest of the digest that was processed last.
#[derive(Default)]
pub(super) struct CurrentManifest(Option<(Digest, LazyManifest)>);

impl CurrentManifest {
    pub(super) fn get(&mut self, digest: &Digest) -> LazyManifest {
        match &self.0 {
            Some((last, fetched)) if last == digest => Arc::clone(fetched),
            _ => Arc::clone(&self.0.insert((digest.clone(), LazyManifest::default())).1),
        }
    }
}

/// The state after a request to remove a tag.
enum ObservedOutcome {
    /// The outcome is known.
    Known(Outcome),
    /// The registry does not answer; the intent stays open until the next start.
    Unknown(String),
}

impl ObservedOutcome {
    fn failed(why: String) -> Self {
        Self::Known(Outcome::Failed(why))
    }

    fn skipped(skip: SkipReason) -> Self {
        Self::Known(Outcome::Skipped(skip))
    }
}

/// Carries out one removal, from intent to outcome.
///
/// As long as it is unknown that the registry keeps a manifest without tags, each manifest is looked up afterwards, and
/// removals of possibly last tags are made one by one: no more than one image can be lost.
///
/// # Errors
/// Returns an error if the journal cannot be written.
pub(super) async fn remove_tag(
    site: &RepositoryContext<'_>,
    tags: &RemainingTags,
    order: RemovalTask,
    fetched: &LazyManifest,
) -> Result<RemovalResult, StateError> {
    let digest = order.removal.digest.clone();
    let mut alone = None;
    if !site.survival.is_known() && tags.removes_all(&digest) {
        alone = Some(site.survival.last_tag_lock.lock().await);
        if site.survival.is_known() {
            alone = None;
        }
    }
    let first_shared = siblings::SharedRemoval::begin(site, tags, &order.removal).await;
    let mut done = journal_and_untag(site, tags, order, fetched).await?;
    let last = leaves_tag_absent(&done.outcome) && tags.record_removal(&digest);
    if matches!(done.outcome, Outcome::Done(_)) {
        site.refused_tags.forget(site.context, &done.removal).await?;
        if !site.survival.is_known()
            && let Some(why) = survival::verify_survival(site, &done.removal, last && alone.is_some()).await?
        {
            done.outcome = Outcome::Failed(why);
        } else if let Some(shared) = first_shared
            && let Some(why) = shared.verify(site, &done.removal).await?
        {
            done.outcome = Outcome::Failed(why);
        }
    }
    drop(alone);
    Ok(done)
}

async fn journal_and_untag(
    site: &RepositoryContext<'_>,
    tags: &RemainingTags,
    order: RemovalTask,
    fetched: &LazyManifest,
) -> Result<RemovalResult, StateError> {
    if let Some(skip) = site.skip_reason(&order.removal).await {
        return site.journal_result(order, Outcome::Skipped(skip)).await;
    }
    if order.removal.method != RemovalMethod::Untag {
        let why = "it was decided as a removal by manifest, and the settings now say `untag`".to_owned();
        return site.journal_result(order, Outcome::Skipped(SkipReason::Stopped(why))).await;
    }
    let deferred = match fetched.get() {
        Some(_) => None,
        None => site.deferred_media_type(&order.removal.digest).await,
    };
    // Fetched before the permit is acquired.
    if deferred.is_none()
        && let Err(outcome) = manifest_for_undo(site, &order.removal, fetched).await
    {
        return site.journal_result(order, outcome).await;
    }
    let turn = site.acquire_permit().await;
    // The wait may have been long.
    if let Some(skip) = site.skip_reason(&order.removal).await {
        return site.journal_result(order, Outcome::Skipped(skip)).await;
    }
    let journaled = match journal_untag(site, &order, deferred, fetched).await? {
        Ok(journaled) => journaled,
        Err(outcome) => return site.journal_result(order, outcome).await,
    };
    let came = UntagAttempt {
        context: site,
        task: &order,
        intent: &journaled,
        permit: turn,
        lost_response: None,
        deferrals: 0,
        token_renewed: false,
        retries: 0,
    }
    .untag()
    .await;
    let outcome = match came {
        ObservedOutcome::Known(outcome) => outcome,
        ObservedOutcome::Unknown(why) => {
            let outcome = Outcome::Failed(format!("{why}; settled at the next start"));
            return Ok(RemovalResult { removal: order.removal, outcome });
        }
    };
    if matches!(outcome, Outcome::Skipped(SkipReason::Missing)) && tags.defer_missing(journaled.id(), &order.removal) {
        return Ok(RemovalResult { removal: order.removal, outcome });
    }
    record_outcome(site, journaled.id(), &outcome).await?;
    log(site, &order.removal, &outcome);
    Ok(RemovalResult { removal: order.removal, outcome })
}

/// Records the outcome of an untag. If another process took over and closed the entry meanwhile, a completed removal gets
/// an entry of its own, so that the journal accounts for it at once; the error ends the run all the same.
async fn record_outcome(site: &RepositoryContext<'_>, id: JournalId, outcome: &Outcome) -> Result<(), StateError> {
    let ApplyContext { store, lease, run, .. } = site.context;
    let recorded = store.record_outcome(id, outcome, site.now()).await;
    if let (Err(error), Outcome::Done(evidence)) = (&recorded, outcome)
        && error.kind == StateErrorKind::LeaseLost
    {
        let entry = store.journal_entry(id).await?;
        if matches!(entry.outcome, Some((Outcome::Skipped(SkipReason::Superseded(_)), _))) {
            let outcome = Outcome::Done(recover::attribution(id, evidence));
            store.record_not_attempted(lease, *run, &entry.intent, &outcome, site.now()).await?;
        }
    }
    recorded
}

/// Journals the intent of an untag: with the content of the manifest, or for now with its digest and the type in
/// `deferred`. Returns the outcome if it may not be carried out.
async fn journal_untag(
    site: &RepositoryContext<'_>,
    order: &RemovalTask,
    deferred: Option<Arc<str>>,
    fetched: &LazyManifest,
) -> Result<Result<JournaledIntent, Outcome>, StateError> {
    if let Some(media_type) = deferred {
        let intent = intent(site.context, order, media_type);
        if let Some(journaled) = site.context.journal_intent_without_manifest(&intent).await? {
            return Ok(journaled.map_err(Outcome::Skipped));
        }
    }
    let manifest = match manifest_for_undo(site, &order.removal, fetched).await {
        Ok(manifest) => manifest,
        Err(outcome) => return Ok(Err(outcome)),
    };
    let intent = intent(site.context, order, Arc::clone(&manifest.media_type));
    Ok(site.context.journal_intent(&intent, manifest).await?.map_err(Outcome::Skipped))
}

/// Returns the manifest that undoes a removal, or the outcome if there is none.
async fn manifest_for_undo<'a>(
    site: &RepositoryContext<'_>,
    removal: &Removal,
    fetched: &'a LazyManifest,
) -> Result<&'a RawManifest, Outcome> {
    match fetched.get_or_try_init(|| site.fetch_manifest(&removal.digest)).await {
        Ok(Some(manifest)) => Ok(manifest),
        Ok(None) => {
            let why = "its manifest is not there, so the removal could not be undone".to_owned();
            Err(Outcome::Skipped(SkipReason::Kept(why)))
        }
        Err(error) => {
            site.record_failure(&error);
            let why = format!("its manifest could not be read, so the removal could not be undone: {}", error.chain());
            Err(Outcome::Failed(why))
        }
    }
}

/// A removal whose intent is journaled, with the results of its requests so far.
struct UntagAttempt<'a> {
    context: &'a RepositoryContext<'a>,
    task: &'a RemovalTask,
    intent: &'a JournaledIntent,
    /// The concurrency permit; released in pauses, so that others can proceed.
    permit: Option<SemaphorePermit<'a>>,
    /// The last ambiguous failure.
    lost_response: Option<RegistryError>,
    /// Deferred requests.
    deferrals: usize,
    /// True if the token was renewed for it.
    token_renewed: bool,
    /// Repetitions after a lost response, or after a failure of the registry.
    retries: usize,
}

impl UntagAttempt<'_> {
    /// Checks the tag and removes it. Removals cannot be conditional on the digest, so the check comes after every
    /// possible wait, right before each request.
    async fn untag(mut self) -> ObservedOutcome {
        let (site, removal) = (self.context, &*self.task.removal);
        let Removal { repository, tag, .. } = removal;
        loop {
            let clearance = match site.registry.writer.acquire_removal_permit(repository).await {
                Ok(clearance) => clearance,
                Err(error) => return self.outcome_if_not_sent(&error),
            };
            // The rate limit may have delayed it for long.
            if let Some(skip) = site.skip_reason(removal).await {
                return self.outcome_if_stopped(skip);
            }
            if let Some(why) = site.context.lost_lease().await {
                // Whoever has the lease now says what came of it.
                return ObservedOutcome::Unknown(why);
            }
            let look = site.context.begin_look();
            match site.registry.reader.resolve(repository, tag).await {
                Ok(Some(now)) => {
                    if let Some(skip) = changed_since_plan(site, removal, &now) {
                        return ObservedOutcome::skipped(skip);
                    }
                }
                Ok(None) => return self.outcome_if_absent().await,
                Err(error) => return self.outcome_if_not_sent(&error.within("the tag could not be read again")),
            }
            let error = match site.registry.writer.untag(self.intent, look.bind(clearance)).await {
                Ok(RemovalResponse::Removed { request_id: evidence, digest: named }) => {
                    return self.confirm_removal(evidence, named).await;
                }
                Ok(RemovalResponse::Deleted { .. }) => return self.confirm_removal(String::new(), None).await,
                Ok(RemovalResponse::AlreadyMissing) => return self.confirm_absence().await,
                Err(error) => error,
            };
            if error.requires_recheck() {
                let again = error.kind == RegistryErrorKind::TokenRenewed;
                // One new token and one more attempt; a busy registry determines the pauses itself.
                if again && self.token_renewed || !again && self.deferrals + 1 >= MAX_DEFERRALS {
                    site.record_failure(&error);
                    return self.handle_refusal(error).await;
                }
                if again {
                    self.token_renewed = true;
                } else {
                    self.deferrals += 1;
                }
                continue;
            }
            if error.is_ambiguous() {
                match self.handle_ambiguous_failure(error).await {
                    Some(came) => return came,
                    None => continue,
                }
            }
            site.record_failure(&error);
            return self.handle_refusal(error).await;
        }
    }

    /// Returns the outcome if no request was sent this time.
    fn outcome_if_not_sent(&self, error: &RegistryError) -> ObservedOutcome {
        self.context.record_failure(error);
        match &self.lost_response {
            None => ObservedOutcome::failed(error.chain()),
            Some(lost) => self.outcome_if_unreadable(format!("{}; then {}", lost.chain(), error.chain())),
        }
    }

    /// Returns the outcome if no further request may be sent.
    fn outcome_if_stopped(&self, skip: SkipReason) -> ObservedOutcome {
        match &self.lost_response {
            None => ObservedOutcome::skipped(skip),
            Some(lost) => ObservedOutcome::Unknown(format!("{}; then {skip}", lost.chain())),
        }
    }

    /// Returns the outcome if the tag does not exist at the check before a request.
    async fn outcome_if_absent(&self) -> ObservedOutcome {
        match &self.lost_response {
            None if self.went_with_image().await => ObservedOutcome::Known(Outcome::Done(
                "the registry removed it with the image that it accompanies".into(),
            )),
            None => self.outcome_if_missing(SkipReason::Missing).await,
            Some(lost) => self.outcome_if_absent_after_error(lost).await,
        }
    }

    /// Returns the outcome of a tag that was not found: it is skipped, if its repository answers at all. If not, the
    /// repository is skipped: it was renamed or deleted, or is hidden from the identity by now.
    async fn outcome_if_missing(&self, skip: SkipReason) -> ObservedOutcome {
        let Removal { repository, tag, digest, .. } = &*self.task.removal;
        let reader = &*self.context.registry.reader;
        match absence::unknown_repository(reader, repository, tag, digest).await {
            Ok(None) => ObservedOutcome::skipped(skip),
            Ok(Some(why)) => {
                self.context.breaker.trip_repository(repository, why.clone());
                ObservedOutcome::failed(why)
            }
            Err(error) => {
                self.outcome_if_not_sent(&error.within("the tag was not found, and its repository did not answer"))
            }
        }
    }

    /// Returns true if the registry itself removed a signature or the like when its image lost its last tag, and can
    /// put it back. Then its removal was as planned, and a restore of the run brings it back.
    async fn went_with_image(&self) -> bool {
        let reader = &*self.context.registry.reader;
        let Removal { repository, tag, digest, companion_of, .. } = &*self.task.removal;
        companion_of.is_some()
            && reader.expires_companions()
            && reader.keeps_removed(repository, tag, digest).await.unwrap_or(false)
    }

    /// Returns the outcome if the tag is not found after a failed request: the request removed it if it is really
    /// absent.
    async fn outcome_if_absent_after_error(&self, error: &RegistryError) -> ObservedOutcome {
        let Removal { repository, tag, digest, .. } = &*self.task.removal;
        match absence::is_tag_absent(&*self.context.registry.reader, repository, tag, digest).await {
            Ok(true) => {
                self.context.record_success();
                ObservedOutcome::Known(Outcome::Done(format!("the tag is gone, although: {}", error.chain())))
            }
            Ok(false) => self.outcome_if_unreadable(format!("{}; then the repository did not answer", error.chain())),
            Err(second) => {
                self.outcome_if_unreadable(format!("{}; then looking at it failed: {}", error.chain(), second.chain()))
            }
        }
    }

    /// Returns the outcome if the result is unknown. If the effect of an untag is unknown as well, nothing else follows
    /// in this run: the manifest may be lost.
    fn outcome_if_unreadable(&self, why: String) -> ObservedOutcome {
        if !self.context.survival.is_known() {
            self.context.breaker.trip(format!("it could not be seen what came of an untag: {why}"));
        }
        ObservedOutcome::Unknown(why)
    }

    /// Handles an ambiguous failure of a request. Returns the outcome, or `None` if the removal may be retried: not
    /// before the lost request can have been carried out late.
    async fn handle_ambiguous_failure(&mut self, error: RegistryError) -> Option<ObservedOutcome> {
        let (site, waiting) = (self.context, &self.context.context.retry_policy);
        let Removal { repository, tag, digest, .. } = &*self.task.removal;
        self.permit = None;
        match site.registry.reader.resolve(repository, tag).await {
            Ok(None) => return Some(self.outcome_if_absent_after_error(&error).await),
            Ok(Some(now)) if now.digest != *digest => {
                return Some(ObservedOutcome::skipped(SkipReason::Moved { to: now.digest }));
            }
            Ok(Some(_)) | Err(_) => {}
        }
        let lost = may_still_execute(&error);
        let most = match error.kind {
            _ if lost => self.max_retries(),
            // The registry itself reported a failure, which may have passed by then. After the second one it gives up.
            RegistryErrorKind::Status(_) => self.max_retries().min(1),
            _ => 0,
        };
        let timeout = site.registry.reader.settings().timeout;
        let pause = waiting.pauses(waiting.max_wait).nth(self.retries).unwrap_or(waiting.max_pause).max(timeout);
        let spent = timeout.saturating_mul(u32::try_from(self.retries).unwrap_or(u32::MAX));
        let patient = self.retries < most && spent.saturating_add(pause) <= waiting.max_wait;
        if !patient || !site.may_repeat() {
            site.record_failure(&error);
            return Some(self.give_up(lost, error).await);
        }
        let Removal { repository, tag, .. } = &*self.task.removal;
        tracing::debug!(%repository, %tag, error = error.chain(), pause_ms = pause.as_millis(), "trying again");
        self.retries += 1;
        self.lost_response = Some(error);
        site.pause(pause).await;
        self.permit = site.acquire_permit().await;
        None
    }

    /// Returns the number of retries: few while nothing was removed yet, because others wait for this one.
    fn max_retries(&self) -> usize {
        let most = self.context.context.retry_policy.max_retries;
        if self.context.breaker.has_removed() { most } else { most.min(1) }
    }

    /// Returns the outcome of a removal that is given up. One whose request may still be in flight stays open.
    async fn give_up(&self, lost: bool, error: RegistryError) -> ObservedOutcome {
        let Removal { repository, tag, digest, .. } = &*self.task.removal;
        match self.context.registry.reader.resolve(repository, tag).await {
            Ok(None) => self.outcome_if_absent_after_error(&error).await,
            Ok(Some(now)) if now.digest != *digest => ObservedOutcome::skipped(SkipReason::Moved { to: now.digest }),
            Ok(Some(_)) if lost => ObservedOutcome::Unknown(error.chain()),
            Ok(Some(_)) => ObservedOutcome::failed(error.chain()),
            Err(second) => self.outcome_if_unreadable(format!(
                "{}; then looking at the tag failed: {}",
                error.chain(),
                second.chain()
            )),
        }
    }

    /// Handles a refusal, or too long a deferral, by looking up the tag.
    async fn handle_refusal(&self, error: RegistryError) -> ObservedOutcome {
        let Removal { repository, tag, digest, .. } = &*self.task.removal;
        if error.kind == RegistryErrorKind::Locked {
            self.context.refused_tags.record_lock(&self.task.removal, &error);
            return ObservedOutcome::skipped(SkipReason::Locked(error.chain()));
        }
        match self.context.registry.reader.resolve(repository, tag).await {
            Ok(None) => self.outcome_if_absent_after_error(&error).await,
            Ok(Some(now)) if now.digest != *digest => ObservedOutcome::skipped(SkipReason::Moved { to: now.digest }),
            Ok(Some(_)) => {
                if matches!(error.kind, RegistryErrorKind::Denied | RegistryErrorKind::Unsupported) {
                    self.context.refused_tags.record(&self.task.removal, &error);
                }
                ObservedOutcome::failed(error.chain())
            }
            Err(second) => self.outcome_if_unreadable(format!(
                "{}; then looking at the tag failed: {}",
                error.chain(),
                second.chain()
            )),
        }
    }
}

/// Returns true if a failed request may still be carried out. Any other status is the registry's own answer: the
/// request has failed, and will not be carried out.
pub(super) fn may_still_execute(error: &RegistryError) -> bool {
    matches!(error.kind, RegistryErrorKind::Connection | RegistryErrorKind::Status(408 | 502 | 503 | 504))
}

/// Returns the reason in the tag's current state against its removal: it moved, the same image was pushed to it again,
/// or it was locked.
fn changed_since_plan(site: &RepositoryContext<'_>, removal: &Removal, now: &TagState) -> Option<SkipReason> {
    if now.digest != removal.digest {
        return Some(SkipReason::Moved { to: now.digest.clone() });
    }
    if let Some(lock) = now.lock {
        return Some(SkipReason::Locked(format!("the tag has a {} lock", lock.label())));
    }
    let then = site.repository.tag(removal.tag.as_str()).and_then(|tag| tag.pushed_at).map(CompactTime::timestamp);
    match (then, now.pushed_at) {
        (Some(then), Some(now)) if now > then => {
            Some(SkipReason::Kept(format!("the same image was pushed to it again, at {now}")))
        }
        _ => None,
    }
}

fn log(site: &RepositoryContext<'_>, removal: &Removal, outcome: &Outcome) {
    let Removal { repository, tag, digest, policy, .. } = removal;
    let registry = site.registry_name();
    match outcome {
        Outcome::Done(evidence) => {
            tracing::info!(%registry, %repository, %tag, %digest, %policy, evidence, "untagged");
        }
        Outcome::Skipped(skip) => log_skip(registry, repository, (tag, digest), skip),
        Outcome::Failed(error) => tracing::error!(%registry, %repository, %tag, %digest, error, "could not untag"),
    }
}
