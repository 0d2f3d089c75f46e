//! Doing what a plan says, or less: journal the intent, look again, act, journal the outcome.
//!
//! Nothing is chosen here. What comes in is a list of [`Order`]s that were decided elsewhere; all that may happen to one
//! of them here is that it is skipped. Whatever cannot be journaled is not done.

mod absence;
mod again;
mod brake;
mod delete;
mod evidence;
mod first;
mod foresee;
mod manifest;
mod refused;
mod restore;
mod settle;
mod survival;
mod untag;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use uuid::Uuid;

use crate::domain::{
    Action, Digest, Intent, Inventory, Outcome, RegistryName, Removal, RemovalMethod, Repository, RepositoryName, Skip,
    TagAt, TagName,
};
use crate::engine::{Verdicts, date};
use crate::registry::{RawManifest, RegistryError, RegistryKind, RegistryReader, RegistryWriter};
use crate::report::ReasonView;
use crate::store::{DeletionAnswer, JournalId, Restoring, Store, StoreError, StoreErrorKind, UntagExperience};
use brake::Brake;
use first::Queue;
use refused::Refusals;
use survival::Survival;

pub use delete::{DeleteOrder, Deleted, delete, note_deletions};
pub use evidence::CurrentEvidence;
pub use foresee::{Foreseen, Outlook, foresee};
use restore::{FirstLook, Put};
pub use restore::{HoldFor, Restored, restore};
pub use settle::settle;
pub use waiting::{Sleep, Waiting};

/// The time, as the ways in read it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How often a removal is tried that the registry puts off because it has too much to do. It says itself how long to wait.
const MOST_TRIES: usize = 20;

/// A registry that may be changed.
#[derive(Clone)]
pub struct Target {
    /// Looks again before and after.
    pub reader: Arc<dyn RegistryReader>,
    /// Changes it.
    pub writer: Arc<dyn RegistryWriter>,
}

/// What it takes to change registries and leave a record of it.
#[derive(Clone)]
pub struct Hands {
    /// Where the journal is.
    pub store: Store,
    /// The run that all of this belongs to.
    pub run: Uuid,
    /// The registries that may be changed.
    pub targets: BTreeMap<RegistryName, Target>,
    /// The time.
    pub clock: Clock,
    /// Becomes true when no further removal may begin.
    pub stop: watch::Receiver<bool>,
    /// From when on none may begin, either.
    pub until: Option<Until>,
    /// How long removals wait for a registry.
    pub waiting: Waiting,
    /// Whether tags that a registry refused to remove wait for their next try.
    pub refused: Refused,
    /// Says why the time cannot be trusted any more at that time: then none may begin, either.
    pub clock_moved: Option<ClockMoved>,
    /// Evidence that is asked again before each removal; `None` where what was decided stands, as in a restore.
    pub evidence: Option<Arc<dyn CurrentEvidence>>,
}

/// What happens to tags that a registry refused to remove in earlier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// They are skipped until their next try is due.
    Wait,
    /// They are tried now: a person asked for exactly these.
    Try,
}

impl Hands {
    /// The address of a registry that may be changed.
    fn address(&self, registry: &RegistryName) -> Option<Arc<str>> {
        self.targets.get(registry).map(|target| target.reader.settings().address().into())
    }

    /// Journals an intent, or returns why it may not be carried out: a hold covers it, or somebody asks for no more
    /// removals.
    async fn intend(&self, intent: &Intent, manifest: &RawManifest) -> Result<Result<JournalId, Skip>, StoreError> {
        match self.store.intend(self.run, intent, manifest, (self.clock)()).await {
            Ok(id) => Ok(Ok(id)),
            Err(error) if error.kind == StoreErrorKind::Held => Ok(Err(Skip::Held(error.message))),
            Err(error) if error.kind == StoreErrorKind::Interrupted => Ok(Err(Skip::Interrupted)),
            Err(error) => Err(error),
        }
    }
}

/// Returns why the wall clock cannot be trusted any more, given the time that it shows.
pub type ClockMoved = Arc<dyn Fn(Timestamp) -> Option<String> + Send + Sync>;

/// The end of the time in which removals may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Until {
    /// That end.
    pub at: Timestamp,
    /// What is so from then on.
    pub why: String,
}

/// One removal to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The removal, as the plan has it.
    pub removal: Arc<Removal>,
    /// Its reasons, for the journal.
    pub proof: Proof,
}

/// The reasons of a removal, as far as they are needed already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// As JSON text.
    Written(Box<str>),
    /// Those of its verdict: their text is made when it is journaled, so that not all of them are held at once.
    Decided(Arc<Verdicts>),
}

impl Proof {
    /// The reasons as JSON text, where they are those of that tag.
    fn text(&self, at: TagAt) -> String {
        match self {
            Self::Written(text) => text.to_string(),
            Self::Decided(verdicts) => {
                let reasons = verdicts.at(at).into_iter().flat_map(|found| &found.reasons).map(ReasonView::from);
                serde_json::to_string(&reasons.collect::<Vec<_>>()).unwrap_or_default()
            }
        }
    }
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The removal, as the plan has it.
    pub removal: Arc<Removal>,
    /// What came of it.
    pub outcome: Outcome,
}

/// Does the orders of one run, registry by registry at once. `inventory` is what they were decided on.
///
/// Results are in the order of the orders.
///
/// # Errors
/// When the journal could not be written. Nothing further is removed then; what was begun is settled at the next start.
pub async fn apply(hands: &Hands, orders: Vec<Order>, inventory: &Inventory) -> Result<Vec<Applied>, StoreError> {
    let mut by_registry: BTreeMap<RegistryName, BTreeMap<RepositoryName, Vec<Order>>> = BTreeMap::new();
    for order in orders {
        let registry = by_registry.entry(order.removal.registry.clone()).or_default();
        registry.entry(order.removal.repository.clone()).or_default().push(order);
    }
    let registries = by_registry.into_iter().map(|(name, orders)| registry(hands, name, orders, inventory));
    let done = futures::future::try_join_all(registries).await?;
    let mut applied: Vec<Applied> = done.into_iter().flatten().collect();
    applied.sort_by_key(|applied| applied.removal.at);
    Ok(applied)
}

async fn registry(
    hands: &Hands,
    name: RegistryName,
    repositories: BTreeMap<RepositoryName, Vec<Order>>,
    inventory: &Inventory,
) -> Result<Vec<Applied>, StoreError> {
    let Some(target) = hands.targets.get(&name) else {
        let brake = Brake::default();
        brake.stop(format!("registry {name} is not in the settings"));
        return skip_all(hands, &brake, repositories.into_values().flatten().collect()).await;
    };
    let found = inventory.registry(name.as_str());
    let course = Course::new(hands, target, found).await?;
    let mut applied = Vec::new();
    let mut queues = Vec::with_capacity(repositories.len());
    let empty: Vec<Repository> = repositories.keys().map(|name| Repository::empty(name.clone())).collect();
    for ((repository, orders), empty) in repositories.into_iter().zip(&empty) {
        let repository = found.and_then(|registry| registry.repository(repository.as_str())).unwrap_or(empty);
        let (orders, waiting) = course.due(orders);
        applied.extend(note_all(hands, waiting).await?);
        queues.push((Site { course: &course, repository }, orders));
    }
    let done = match target.reader.settings().removal {
        RemovalMethod::Untag => {
            let mut queues: Vec<Queue<'_>> =
                queues.into_iter().map(|(site, orders)| Queue::new(site, orders)).collect();
            first::alone(&course, &mut queues).await?;
            course.each(queues, Queue::rest).await?
        }
        RemovalMethod::DeleteManifest => {
            let work = |(site, orders)| async move { manifest::repository(&site, orders).await };
            course.each(queues, work).await?
        }
    };
    applied.extend(done);
    // What was removed is journaled; not knowing more next time is no reason to call that a failure.
    if let Err(error) = course.end().await {
        tracing::warn!(registry = %name, %error, "could not remember what the run showed of the registry");
    }
    Ok(applied)
}

async fn skip_all(hands: &Hands, brake: &Brake, orders: Vec<Order>) -> Result<Vec<Applied>, StoreError> {
    let skip = brake.reason(hands).unwrap_or(Skip::Interrupted);
    note_all(hands, orders.into_iter().map(|order| (order, skip.clone())).collect()).await
}

/// Journals what was not even begun.
///
/// # Errors
/// When the journal could not be written.
pub async fn note_all(hands: &Hands, skipped: Vec<(Order, Skip)>) -> Result<Vec<Applied>, StoreError> {
    let entries: Vec<(Order, Intent, Outcome)> = skipped
        .into_iter()
        .map(|(order, skip)| {
            let intent = intent(hands, &order, "".into());
            (order, intent, Outcome::Skipped(skip))
        })
        .collect();
    let notes: Vec<(&Intent, &Outcome)> = entries.iter().map(|(_, intent, outcome)| (intent, outcome)).collect();
    if !notes.is_empty() {
        hands.store.note_all(hands.run, &notes, (hands.clock)()).await?;
    }
    Ok(entries.into_iter().map(|(order, _, outcome)| Applied { removal: order.removal, outcome }).collect())
}

fn intent(hands: &Hands, order: &Order, media_type: Arc<str>) -> Intent {
    Intent {
        action: Action::Remove(order.removal.method),
        registry: order.removal.registry.clone(),
        endpoint: hands.address(&order.removal.registry),
        repository: order.removal.repository.clone(),
        tag: order.removal.tag.clone(),
        digest: order.removal.digest.clone(),
        media_type,
        policy: Some(order.removal.policy.to_string()),
        proof: order.proof.text(order.removal.at),
        date: Some(order.removal.date),
    }
}

/// The removals of one run in one registry, and what is found out on the way.
struct Course<'a> {
    hands: &'a Hands,
    target: &'a Target,
    endpoint: String,
    brake: Brake,
    /// One for each removal at once, so that none waits between its last look and its request.
    turns: Semaphore,
    survival: Survival,
    refusals: Refusals,
    /// Whether a look may show the past, because the registry has replicas, or nobody knows that it has none.
    looks_may_be_stale: bool,
    /// Whether answers to removals named the digest that the tag had: then a look that was stale is found out.
    names_digests: AtomicBool,
    /// Whether the registry is known to remove: by experience, and in this run once it did.
    able: bool,
}

impl<'a> Course<'a> {
    /// # Errors
    /// When the state could not be read.
    async fn new(
        hands: &'a Hands,
        target: &'a Target,
        found: Option<&crate::domain::Registry>,
    ) -> Result<Self, StoreError> {
        let settings = target.reader.settings();
        let endpoint = settings.endpoint.as_str().trim_end_matches('/').to_owned();
        let experience = hands.store.untag_experience(&endpoint).await?.map(|experience| experience.what);
        let answer = hands.store.deletion_answer(&endpoint, settings.removal, (hands.clock)()).await?;
        let survives = experience == Some(UntagExperience::ManifestSurvives);
        // Where the registry's own retention may delete what is untagged, a manifest that is gone says nothing.
        let survival = Survival::new(survives || settings.accepts_retention);
        let replicated = match found.and_then(|registry| registry.particulars.as_ref()) {
            Some(particulars) => !particulars.replicas.is_empty(),
            None => settings.kind == RegistryKind::Acr,
        };
        Ok(Self {
            brake: Brake::default(),
            turns: Semaphore::new(settings.concurrency.max(1)),
            survival,
            refusals: Refusals::load(hands, &endpoint).await?,
            looks_may_be_stale: replicated,
            names_digests: AtomicBool::new(false),
            able: matches!(answer, Some((DeletionAnswer::Accepted, _))),
            hands,
            target,
            endpoint,
        })
    }

    /// The orders whose turn it is, and those that wait because the registry refused them before.
    fn due(&self, orders: Vec<Order>) -> (Vec<Order>, Vec<(Order, Skip)>) {
        let now = (self.hands.clock)();
        let (mut due, mut waiting) = (Vec::with_capacity(orders.len()), Vec::new());
        for order in orders {
            let refused = self.refusals.of(&order.removal).filter(|_| self.hands.refused == Refused::Wait);
            match refused.filter(|refused| refused.holds(&order.removal.digest, now)) {
                Some(refused) => {
                    let why = format!("{}; its last answer: {}", refused.words(), refused.message);
                    waiting.push((order, Skip::Postponed(why)));
                }
                None => due.push(order),
            }
        }
        (due, waiting)
    }

    /// Works on as many repositories as removals at once: the first removal of each goes before its others, and where
    /// there are thousands of repositories, most are first ones.
    async fn each<T, F: Future<Output = Result<Vec<Applied>, StoreError>>>(
        &self,
        parts: Vec<T>,
        work: impl Fn(T) -> F,
    ) -> Result<Vec<Applied>, StoreError> {
        let at_once = self.target.reader.settings().concurrency.max(1);
        let parts = parts.into_iter().map(|part| {
            let done = work(part);
            // The other repositories must not go on without a journal either.
            async move { done.await.inspect_err(|error| self.brake.stop(error.message.clone())) }
        });
        let results: Vec<Result<Vec<Applied>, StoreError>> =
            stream::iter(parts).buffer_unordered(at_once).collect().await;
        results.into_iter().collect::<Result<Vec<_>, _>>().map(|parts| parts.into_iter().flatten().collect())
    }

    /// Remembers what the run showed.
    ///
    /// # Errors
    /// When the state could not be written.
    async fn end(self) -> Result<(), StoreError> {
        let method = self.target.reader.settings().removal;
        let removed = self.brake.has_removed();
        if removed {
            let (answer, now) = (DeletionAnswer::Accepted, (self.hands.clock)());
            self.hands.store.record_deletion_answer(&self.endpoint, method, answer, now).await?;
        }
        self.refusals.save(self.hands, &self.brake, self.able || removed, method).await
    }

    /// Whether a removal may be repeated whose answer was lost. Where a look may be stale, the tag that it shows may have
    /// been pushed again after the lost request was carried out; only an answer that names the digest tells.
    fn may_repeat(&self) -> bool {
        !self.looks_may_be_stale || self.names_digests.load(Ordering::Relaxed)
    }
}

/// The place where orders are carried out: one repository of one registry.
struct Site<'a> {
    course: &'a Course<'a>,
    repository: &'a Repository,
}

impl<'a> std::ops::Deref for Site<'a> {
    type Target = Course<'a>;

    fn deref(&self) -> &Course<'a> {
        self.course
    }
}

impl Site<'_> {
    fn now(&self) -> Timestamp {
        (self.hands.clock)()
    }

    fn registry(&self) -> &RegistryName {
        &self.target.reader.settings().name
    }

    /// Waits for a turn. Nothing closes the turns; without one, there is only more haste.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    /// Lets time pass, or less where the run is to stop.
    async fn pause(&self, time: Duration) {
        let mut stop = self.hands.stop.clone();
        tokio::select! {
            () = (self.hands.waiting.sleep)(time) => {}
            Ok(_) = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// Why no further removal may begin here.
    fn stopped(&self) -> Option<Skip> {
        self.brake.reason_in(self.hands, &self.repository.name)
    }

    /// Returns why a removal may not begin now, or not be tried once more: no further one may, or the evidence of now keeps
    /// the tag.
    async fn against(&self, removal: &Removal) -> Option<Skip> {
        if let Some(skip) = self.stopped() {
            return Some(skip);
        }
        let kept = self.hands.evidence_against(removal).await;
        // Gathering it may have taken long.
        kept.or_else(|| self.stopped())
    }

    fn succeeded(&self) {
        self.brake.succeeded(&self.repository.name);
    }

    fn failed(&self, error: &RegistryError) {
        self.brake.failed(&self.repository.name, error);
    }

    /// The manifest that undoes a removal, from the cache or the registry.
    async fn manifest(&self, digest: &Digest) -> Result<Option<RawManifest>, RegistryError> {
        use crate::registry::ContentCache as _;
        if let Some(manifest) = self.hands.store.manifest(digest).await {
            return Ok(Some(manifest));
        }
        self.target.reader.manifest(&self.repository.name, digest).await
    }

    async fn note(&self, order: Order, outcome: Outcome) -> Result<Applied, StoreError> {
        self.hands.store.note(self.hands.run, &intent(self.hands, &order, "".into()), &outcome, self.now()).await?;
        Ok(Applied { removal: order.removal, outcome })
    }

    /// Puts a manifest back under tags that it had, and gives those that did not come back.
    ///
    /// Only tags that name nothing now are put back; a tag that somebody pushed meanwhile is theirs. A tag that was at the
    /// manifest when this was decided counts by the time that it had then.
    async fn put_back(&self, manifest: &RawManifest, tags: &[TagName]) -> Result<Vec<TagName>, StoreError> {
        let mut lost = Vec::new();
        for tag in tags {
            let intent = Intent {
                action: Action::Restore,
                registry: self.registry().clone(),
                endpoint: self.hands.address(self.registry()),
                repository: self.repository.name.clone(),
                tag: tag.clone(),
                digest: manifest.digest.clone(),
                media_type: Arc::clone(&manifest.media_type),
                policy: None,
                proof: "[]".to_owned(),
                date: None,
            };
            let before =
                self.repository.tag(tag.as_str()).filter(|facts| facts.digest.as_ref() == Some(&manifest.digest));
            let original = before.map(|facts| date(self.repository, facts, self.now()).into());
            let restoring = Restoring { original, hold: None };
            let id = self.hands.store.intend_restore(self.hands.run, &intent, manifest, restoring, self.now()).await?;
            // Where the registry does not say, the put is tried: what is asked for now was there a moment ago.
            let (outcome, left_at) = match restore::put(self.target, &intent, manifest, FirstLook::IfPossible).await {
                Put::Done(left_at) => (Outcome::Done(String::new()), left_at),
                Put::There => (Outcome::Skipped(Skip::Settled("the tag is there already".to_owned())), None),
                Put::Moved(to) => (Outcome::Skipped(Skip::Moved { to }), None),
                Put::Failed(error) => {
                    lost.push(tag.clone());
                    (Outcome::Failed(error.message), None)
                }
                Put::Unknown(why) => {
                    tracing::warn!(
                        registry = %self.registry(), repository = %self.repository.name, %tag, why,
                        "could not see whether a tag was put back; the next run finds out"
                    );
                    lost.push(tag.clone());
                    continue;
                }
            };
            tracing::warn!(
                registry = %self.registry(), repository = %self.repository.name, %tag, digest = %manifest.digest,
                outcome = outcome.label(), "put back a tag that a removal of another one had taken along"
            );
            self.hands.store.settle_restore(id, &outcome, left_at, self.now()).await?;
        }
        Ok(lost)
    }
}
