//! Doing what a plan says, or less: journal the intent, look again, act, journal the outcome.
//!
//! Nothing is chosen here. What comes in is a list of [`Order`]s that were decided elsewhere; all that may happen to one
//! of them here is that it is skipped. Whatever cannot be journaled is not done.

mod again;
mod delete;
mod foresee;
mod manifest;
mod restore;
mod settle;
mod untag;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use uuid::Uuid;

use crate::domain::{
    Action, Digest, Intent, Inventory, Outcome, RegistryName, Removal, RemovalMethod, Repository, RepositoryName, Skip,
    TagAt, TagName,
};
use crate::engine::{Verdicts, date};
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind, RegistryReader, RegistryWriter};
use crate::report::ReasonView;
use crate::store::{JournalId, Restoring, Store, StoreError, StoreErrorKind};

pub use delete::{DeleteOrder, Deleted, delete, note_deletions};
pub use foresee::{Foreseen, Outlook, foresee};
use restore::{FirstLook, Put};
pub use restore::{HoldFor, Restored, restore};
pub use settle::settle;

/// The time, as the ways in read it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Failures in a row after which a registry is left alone for the rest of a run.
const MOST_FAILURES_IN_A_ROW: u32 = 8;

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
    let brake = Brake::default();
    let Some(target) = hands.targets.get(&name) else {
        brake.stop(format!("registry {name} is not in the settings"));
        return skip_all(hands, &brake, repositories.into_values().flatten().collect()).await;
    };
    // As many repositories as removals at once: the first removal of each goes alone, and where there are thousands of
    // repositories, most are first ones.
    let at_once = target.reader.settings().concurrency.max(1);
    let turns = Semaphore::new(at_once);
    let work = repositories.into_iter().map(|(repository_name, orders)| {
        let (brake, turns, empty) = (&brake, &turns, Repository::empty(repository_name.clone()));
        let name = &name;
        async move {
            let found =
                inventory.registry(name.as_str()).and_then(|registry| registry.repository(repository_name.as_str()));
            let repository = found.unwrap_or(&empty);
            let site = Site { hands, target, brake, turns, repository };
            let applied = match target.reader.settings().removal {
                RemovalMethod::Untag => untag::repository(&site, orders).await,
                RemovalMethod::DeleteManifest => manifest::repository(&site, orders).await,
            };
            // The other repositories must not go on without a journal either.
            applied.inspect_err(|error| brake.stop(error.message.clone()))
        }
    });
    let results: Vec<Result<Vec<Applied>, StoreError>> = stream::iter(work).buffer_unordered(at_once).collect().await;
    results.into_iter().collect::<Result<Vec<_>, _>>().map(|parts| parts.into_iter().flatten().collect())
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

/// The place where orders are carried out: one repository of one registry.
struct Site<'a> {
    hands: &'a Hands,
    target: &'a Target,
    brake: &'a Brake,
    /// One for each removal at once, so that none waits between its last look and its request.
    turns: &'a Semaphore,
    repository: &'a Repository,
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

    /// Why no further removal may begin here.
    fn stopped(&self) -> Option<Skip> {
        self.brake.reason(self.hands)
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

/// Stops all further removals in one registry.
#[derive(Debug, Default)]
struct Brake {
    why: OnceLock<String>,
    failures: AtomicU32,
}

impl Brake {
    fn stop(&self, why: String) {
        self.why.get_or_init(|| {
            tracing::warn!(why, "no further removals in this registry");
            why
        });
    }

    fn reason(&self, hands: &Hands) -> Option<Skip> {
        match self.why.get() {
            Some(why) => Some(Skip::Stopped(why.clone())),
            None if *hands.stop.borrow() => Some(Skip::Interrupted),
            None => {
                let over = hands.until.as_ref().filter(|until| (hands.clock)() >= until.at)?;
                Some(Skip::Blocked(over.why.clone()))
            }
        }
    }

    fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// What a refused removal says about those that would come next. A lock speaks only of the one tag that has it.
    fn failed(&self, error: &RegistryError) {
        if error.kind == RegistryErrorKind::Locked {
            return;
        }
        if matches!(
            error.kind,
            RegistryErrorKind::Unsupported
                | RegistryErrorKind::Denied
                | RegistryErrorKind::Unauthenticated
                | RegistryErrorKind::Exhausted
        ) {
            self.stop(format!("the registry refused: {}", error.message));
        } else if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_FAILURES_IN_A_ROW {
            self.stop(format!("{MOST_FAILURES_IN_A_ROW} removals in a row failed, the last one: {}", error.message));
        }
    }
}

/// What to do about a removal whose answer said that it failed: the registry is asked what is so now.
enum AfterFailure {
    /// This is known.
    Known(Outcome),
    /// The registry does not say; the intent stays open until the next start.
    Unknown(String),
}

async fn after_failure(site: &Site<'_>, order: &Order, error: RegistryError) -> AfterFailure {
    let removal = &order.removal;
    if error.kind == RegistryErrorKind::Locked {
        return AfterFailure::Known(Outcome::Skipped(Skip::Locked(error.message)));
    }
    match site.target.reader.resolve(&removal.repository, &removal.tag).await {
        Ok(None) => AfterFailure::Known(Outcome::Done(format!("the tag is gone, although: {}", error.message))),
        Ok(Some(now)) if now.digest == removal.digest => AfterFailure::Known(Outcome::Failed(error.message)),
        Ok(Some(now)) => AfterFailure::Known(Outcome::Skipped(Skip::Moved { to: now.digest })),
        Err(second) => {
            AfterFailure::Unknown(format!("{}; then looking at the tag failed: {}", error.message, second.message))
        }
    }
}
