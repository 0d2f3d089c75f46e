//! Removals that take the tag alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{OnceCell, SemaphorePermit};

use super::first::{Tags, is_gone};
use super::{Applied, MOST_TRIES, Order, Site, absence, intent, survival};
use crate::domain::{Digest, Moment, Outcome, Removal, RemovalMethod, Repository, Skip, TagName, TagNow};
use crate::registry::{RawManifest, RegistryError, RegistryErrorKind, Removed};
use crate::store::StoreError;

/// A manifest that is fetched by the first removal that needs it.
pub(super) type FetchedOnce = Arc<OnceCell<Option<RawManifest>>>;

/// The manifest of the digest that removals were at last.
#[derive(Default)]
pub(super) struct Manifests(Option<(Digest, FetchedOnce)>);

impl Manifests {
    pub(super) fn of(&mut self, digest: &Digest) -> FetchedOnce {
        match &self.0 {
            Some((last, fetched)) if last == digest => Arc::clone(fetched),
            _ => Arc::clone(&self.0.insert((digest.clone(), FetchedOnce::default())).1),
        }
    }
}

/// What came of a request to remove a tag.
enum Came {
    /// This is known.
    Known(Outcome),
    /// The registry does not say; the intent stays open until the next start.
    Unknown(String),
}

impl Came {
    fn failed(why: String) -> Self {
        Self::Known(Outcome::Failed(why))
    }

    fn skipped(skip: Skip) -> Self {
        Self::Known(Outcome::Skipped(skip))
    }
}

/// One removal, from intent to outcome.
///
/// As long as it is not known that the registry leaves a manifest whose last tag goes, each manifest is looked for
/// afterwards, and the removals that may take a last tag go one by one: no more than one image can be lost.
///
/// # Errors
/// When the journal could not be written.
pub(super) async fn one(
    site: &Site<'_>,
    tags: &Tags,
    order: Order,
    fetched: &FetchedOnce,
) -> Result<Applied, StoreError> {
    let digest = order.removal.digest.clone();
    let mut alone = None;
    if !site.survival.is_known() && tags.all_go(&digest) {
        alone = Some(site.survival.last_tag.lock().await);
        if site.survival.is_known() {
            alone = None;
        }
    }
    let mut done = untag_one(site, order, fetched).await?;
    let last = is_gone(&done.outcome) && tags.gone(&digest);
    if matches!(done.outcome, Outcome::Done(_)) {
        site.refusals.removed(site.hands, &done.removal).await?;
        if !site.survival.is_known()
            && let Some(why) = survival::verify(site, &done.removal, last && alone.is_some()).await?
        {
            done.outcome = Outcome::Failed(why);
        }
    }
    drop(alone);
    Ok(done)
}

async fn untag_one(site: &Site<'_>, order: Order, fetched: &FetchedOnce) -> Result<Applied, StoreError> {
    if let Some(skip) = site.against(&order.removal).await {
        return site.note(order, Outcome::Skipped(skip)).await;
    }
    if order.removal.method != RemovalMethod::Untag {
        let why = "it was decided as a removal by manifest, and the settings now say `untag`".to_owned();
        return site.note(order, Outcome::Skipped(Skip::Stopped(why))).await;
    }
    let manifest = match fetched.get_or_try_init(|| site.manifest(&order.removal.digest)).await {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            let why = "its manifest is not there, so the removal could not be undone".to_owned();
            return site.note(order, Outcome::Skipped(Skip::Kept(why))).await;
        }
        Err(error) => {
            site.failed(&error);
            let why = format!("its manifest could not be read, so the removal could not be undone: {}", error.message);
            return site.note(order, Outcome::Failed(why)).await;
        }
    };
    let turn = site.turn().await;
    // It may have been long in coming.
    if let Some(skip) = site.against(&order.removal).await {
        return site.note(order, Outcome::Skipped(skip)).await;
    }
    let intent = intent(site.hands, &order, manifest.media_type.clone());
    let id = match site.hands.intend(&intent, manifest).await? {
        Ok(id) => id,
        Err(skip) => return site.note(order, Outcome::Skipped(skip)).await,
    };
    let came = Attempt { site, order: &order, turn, lost: None, tries: 0, renewed: false, retries: 0 }.untag().await;
    let outcome = match came {
        Came::Known(outcome) => outcome,
        Came::Unknown(why) => {
            let outcome = Outcome::Failed(format!("{why}; settled at the next start"));
            return Ok(Applied { removal: order.removal, outcome });
        }
    };
    site.hands.store.settle(id, &outcome, site.now()).await?;
    log(site, &order.removal, &outcome);
    Ok(Applied { removal: order.removal, outcome })
}

/// A removal whose intent is journaled, with what came of its requests so far.
struct Attempt<'a> {
    site: &'a Site<'a>,
    order: &'a Order,
    /// The turn among the removals at once; given up in pauses, so that others go on.
    turn: Option<SemaphorePermit<'a>>,
    /// The last failure that left it open whether the tag was removed.
    lost: Option<RegistryError>,
    /// Requests that were put off.
    tries: usize,
    /// Whether the token was renewed for it.
    renewed: bool,
    /// Repetitions after a lost answer, or after one that said that the registry failed.
    retries: usize,
}

impl Attempt<'_> {
    /// Looks at the tag and removes it. A tag cannot be removed on the condition that it has not moved, so the look comes
    /// after everything that can be waited for, right before each request.
    async fn untag(mut self) -> Came {
        let (site, removal) = (self.site, &*self.order.removal);
        let Removal { repository, tag, .. } = removal;
        loop {
            let clearance = match site.target.writer.ready(repository).await {
                Ok(clearance) => clearance,
                Err(error) => return self.not_sent(error),
            };
            // The registry's pace may have kept it waiting for long.
            if let Some(skip) = site.against(removal).await {
                return self.ended(skip);
            }
            match site.target.reader.resolve(repository, tag).await {
                Ok(Some(now)) => {
                    if let Some(skip) = unlike(site, removal, &now) {
                        return Came::skipped(skip);
                    }
                }
                Ok(None) => return self.not_there().await,
                Err(mut error) => {
                    error.message = format!("the tag could not be read again: {}", error.message);
                    return self.not_sent(error);
                }
            }
            let error = match site.target.writer.untag(repository, tag, clearance).await {
                Ok(Removed::Done { evidence, named }) => return self.done(evidence, named).await,
                Ok(Removed::AlreadyGone) => return self.said_to_be_gone().await,
                Err(error) => error,
            };
            if error.wants_another_look() {
                let again = error.kind == RegistryErrorKind::Renewed;
                // One new token and one more try; the registry says itself how long to wait where it is busy.
                if again && self.renewed || !again && self.tries + 1 >= MOST_TRIES {
                    site.failed(&error);
                    return self.refused(error).await;
                }
                if again {
                    self.renewed = true;
                } else {
                    self.tries += 1;
                }
                continue;
            }
            if error.leaves_doubt() {
                match self.doubtful(error).await {
                    Some(came) => return came,
                    None => continue,
                }
            }
            site.failed(&error);
            return self.refused(error).await;
        }
    }

    /// Nothing was sent this time.
    fn not_sent(&self, error: RegistryError) -> Came {
        self.site.failed(&error);
        match &self.lost {
            None => Came::failed(error.message),
            Some(lost) => self.unseen(format!("{}; then {}", lost.message, error.message)),
        }
    }

    /// No further request may be sent.
    fn ended(&self, skip: Skip) -> Came {
        match &self.lost {
            None => Came::skipped(skip),
            Some(lost) => Came::Unknown(format!("{}; then {skip}", lost.message)),
        }
    }

    /// The tag is not there when it is looked at before a request.
    async fn not_there(&self) -> Came {
        match &self.lost {
            None => Came::skipped(Skip::Gone),
            Some(lost) => self.gone_although(lost).await,
        }
    }

    /// The tag is not found after a request that failed: it was removed by that if it is really gone.
    async fn gone_although(&self, error: &RegistryError) -> Came {
        let Removal { repository, tag, digest, .. } = &*self.order.removal;
        match absence::tag_is_gone(&*self.site.target.reader, repository, tag, digest).await {
            Ok(true) => {
                self.site.succeeded();
                Came::Known(Outcome::Done(format!("the tag is gone, although: {}", error.message)))
            }
            Ok(false) => self.unseen(format!("{}; then the repository did not answer", error.message)),
            Err(second) => self.unseen(format!("{}; then looking at it failed: {}", error.message, second.message)),
        }
    }

    /// Nobody can say what came of it. Where it is not known what an untag does, nothing else follows in this run: the
    /// manifest may be gone.
    fn unseen(&self, why: String) -> Came {
        if !self.site.survival.is_known() {
            self.site.brake.stop(format!("it could not be seen what came of an untag: {why}"));
        }
        Came::Unknown(why)
    }

    /// The registry said that it removed the tag, and which digest that had, where it says. The first answer of each
    /// repository is not taken on trust.
    async fn done(mut self, evidence: String, named: Option<Digest>) -> Came {
        let site = self.site;
        let Removal { repository, tag, digest, .. } = &*self.order.removal;
        if let Some(named) = named {
            site.names_digests.store(true, Ordering::Relaxed);
            site.succeeded();
            if named != *digest {
                return put_right(site, self.order, &named, &evidence).await;
            }
            // Proof enough, whatever a look at another replica shows.
            return Came::Known(Outcome::Done(evidence));
        }
        let doubted = self.lost.is_some() || !site.brake.has_removed_from(repository);
        if doubted && self.still_there().await {
            let why = format!("the registry said that it removed the tag, and {repository}:{tag} is still there");
            site.brake.stop(why.clone());
            return Came::Unknown(why);
        }
        site.succeeded();
        Came::Known(Outcome::Done(evidence))
    }

    /// The registry said that there is no such tag, which it showed a moment ago.
    async fn said_to_be_gone(mut self) -> Came {
        if self.still_there().await {
            let Removal { repository, tag, .. } = &*self.order.removal;
            let message = format!("the registry said that the tag is gone, and {repository}:{tag} is still there");
            self.site.failed(&RegistryError { kind: RegistryErrorKind::NotFound, message: message.clone() });
            return Came::Unknown(message);
        }
        match &self.lost {
            None => Came::skipped(Skip::Gone),
            Some(lost) => self.gone_although(lost).await,
        }
    }

    /// Looks at the tag until it is gone or has moved, with growing pauses in which others go on: a look behind a cache
    /// or at a replica may show the past. Returns whether it is still there at its digest when that cannot be so any more.
    async fn still_there(&mut self) -> bool {
        self.turn = None;
        let site = self.site;
        let Removal { repository, tag, digest, .. } = &*self.order.removal;
        let mut pauses = site.hands.waiting.pauses(site.hands.waiting.stale);
        let mut shown = false;
        loop {
            match site.target.reader.resolve(repository, tag).await {
                Ok(Some(now)) if now.digest == *digest => shown = true,
                Ok(_) => return false,
                // What the registry said stands until something is seen that speaks against it.
                Err(_) if !shown => return false,
                Err(_) => {}
            }
            match pauses.next() {
                Some(pause) if !*site.hands.stop.borrow() => site.pause(pause).await,
                _ => return true,
            }
        }
    }

    /// A request failed in a way that leaves it open whether the tag was removed. Returns what came of it, or `None`
    /// where the removal may be tried once more: not before the lost request can have been carried out late.
    async fn doubtful(&mut self, error: RegistryError) -> Option<Came> {
        let (site, waiting) = (self.site, &self.site.hands.waiting);
        let Removal { repository, tag, digest, .. } = &*self.order.removal;
        self.turn = None;
        match site.target.reader.resolve(repository, tag).await {
            Ok(None) => return Some(self.gone_although(&error).await),
            Ok(Some(now)) if now.digest != *digest => return Some(Came::skipped(Skip::Moved { to: now.digest })),
            Ok(Some(_)) | Err(_) => {}
        }
        let lost = may_come_late(&error);
        let most = match error.kind {
            _ if lost => self.most_retries(),
            // The registry's own word that it failed, which may have passed by then. What fails twice is left.
            RegistryErrorKind::Status(_) => self.most_retries().min(1),
            _ => 0,
        };
        let timeout = site.target.reader.settings().timeout;
        let pause = waiting.pauses(waiting.total).nth(self.retries).unwrap_or(waiting.longest).max(timeout);
        let spent = timeout.saturating_mul(u32::try_from(self.retries).unwrap_or(u32::MAX));
        let patient = self.retries < most && spent.saturating_add(pause) <= waiting.total;
        if !patient || !site.may_repeat() {
            site.failed(&error);
            return Some(self.left_in_doubt(lost, error).await);
        }
        let Removal { repository, tag, .. } = &*self.order.removal;
        tracing::debug!(%repository, %tag, error = error.message, pause_ms = pause.as_millis(), "trying again");
        self.retries += 1;
        self.lost = Some(error);
        site.pause(pause).await;
        self.turn = site.turn().await;
        None
    }

    /// Where nothing was removed yet, others wait for this one.
    fn most_retries(&self) -> usize {
        let most = self.site.hands.waiting.retries;
        if self.site.brake.has_removed() { most } else { most.min(1) }
    }

    /// What is known of a removal that is given up. One whose request may still be on its way stays open.
    async fn left_in_doubt(&self, lost: bool, error: RegistryError) -> Came {
        let Removal { repository, tag, digest, .. } = &*self.order.removal;
        match self.site.target.reader.resolve(repository, tag).await {
            Ok(None) => self.gone_although(&error).await,
            Ok(Some(now)) if now.digest != *digest => Came::skipped(Skip::Moved { to: now.digest }),
            Ok(Some(_)) if lost => Came::Unknown(error.message),
            Ok(Some(_)) => Came::failed(error.message),
            Err(second) => {
                self.unseen(format!("{}; then looking at the tag failed: {}", error.message, second.message))
            }
        }
    }

    /// The registry refused the removal, or put it off for too long: it is looked up whether the tag is there.
    async fn refused(&self, error: RegistryError) -> Came {
        let Removal { repository, tag, digest, .. } = &*self.order.removal;
        if error.kind == RegistryErrorKind::Locked {
            return Came::skipped(Skip::Locked(error.message));
        }
        match self.site.target.reader.resolve(repository, tag).await {
            Ok(None) => self.gone_although(&error).await,
            Ok(Some(now)) if now.digest != *digest => Came::skipped(Skip::Moved { to: now.digest }),
            Ok(Some(_)) => {
                if matches!(error.kind, RegistryErrorKind::Denied | RegistryErrorKind::Unsupported) {
                    self.site.refusals.meet(&self.order.removal, &error);
                }
                Came::failed(error.message)
            }
            Err(second) => {
                self.unseen(format!("{}; then looking at the tag failed: {}", error.message, second.message))
            }
        }
    }
}

/// Returns whether a request that failed so may still be carried out. Another status than these is the registry's own
/// word: it has failed, and is not about to do it.
pub(super) fn may_come_late(error: &RegistryError) -> bool {
    matches!(error.kind, RegistryErrorKind::Connection | RegistryErrorKind::Status(408 | 502 | 503 | 504))
}

/// What speaks against removing a tag, in what is so of it now: it moved, somebody pushed the same image to it again, or
/// it was locked.
fn unlike(site: &Site<'_>, removal: &Removal, now: &TagNow) -> Option<Skip> {
    if now.digest != removal.digest {
        return Some(Skip::Moved { to: now.digest.clone() });
    }
    if let Some(lock) = now.lock {
        return Some(Skip::Locked(format!("the tag has a {} lock", lock.label())));
    }
    let then = site.repository.tag(removal.tag.as_str()).and_then(|tag| tag.pushed_at).map(Moment::timestamp);
    match (then, now.pushed_at) {
        (Some(then), Some(now)) if now > then => {
            Some(Skip::Kept(format!("the same image was pushed to it again, at {now}")))
        }
        _ => None,
    }
}

/// The tag moved in the instant of its removal, and the registry tells where to: it gets that image back.
async fn put_right(site: &Site<'_>, order: &Order, moved: &Digest, evidence: &str) -> Came {
    let Removal { repository, tag, digest, .. } = &*order.removal;
    let what = format!("the tag moved from {digest} to {moved} in the instant of its removal ({evidence})");
    let manifest = match site.target.reader.manifest(repository, moved).await {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return Came::failed(format!("{what}, and that manifest is not there")),
        Err(error) => return Came::failed(format!("{what}, and it could not be put back: {}", error.message)),
    };
    match site.put_back(&manifest, std::slice::from_ref(tag)).await {
        Ok(lost) if lost.is_empty() => Came::skipped(Skip::PutBack(what)),
        Ok(_) => {
            Came::failed(format!("{what}, and it could not be put back: push {moved} to {repository}:{tag} again"))
        }
        Err(error) => Came::Unknown(format!("{what}; {}", error.message)),
    }
}

fn log(site: &Site<'_>, removal: &Removal, outcome: &Outcome) {
    let Removal { repository, tag, digest, policy, .. } = removal;
    let registry = site.registry();
    match outcome {
        Outcome::Done(evidence) => {
            tracing::info!(%registry, %repository, %tag, %digest, %policy, evidence, "untagged");
        }
        Outcome::Skipped(skip) => tracing::info!(%registry, %repository, %tag, %digest, %skip, "skipped"),
        Outcome::Failed(error) => tracing::error!(%registry, %repository, %tag, %digest, error, "could not untag"),
    }
}

/// A companion goes once nothing that is left names its image, directly or inside an index.
pub(super) async fn companions_last(
    site: &Site<'_>,
    tags: &Tags,
    mut companions: Vec<Order>,
    applied: &mut Vec<Applied>,
) -> Result<(), StoreError> {
    // In rounds, because a signature of an SBOM waits for the SBOM's own tag.
    while !companions.is_empty() {
        let left = reachable(site.repository, applied);
        let (free, bound): (Vec<Order>, Vec<Order>) = companions
            .into_iter()
            .partition(|order| order.removal.companion_of.as_ref().is_none_or(|subject| !left.contains(subject)));
        if free.is_empty() {
            for order in bound {
                let skip = site.stopped().unwrap_or_else(|| {
                    Skip::Kept("the image that it accompanies still has a tag, or is part of one that has".to_owned())
                });
                applied.push(site.note(order, Outcome::Skipped(skip)).await?);
            }
            return Ok(());
        }
        for order in free {
            applied.push(one(site, tags, order, &FetchedOnce::default()).await?);
        }
        companions = bound;
    }
    Ok(())
}

/// All digests that tags not known to be gone still reach.
fn reachable(repository: &Repository, applied: &[Applied]) -> BTreeSet<Digest> {
    let gone: BTreeSet<&TagName> =
        applied.iter().filter(|applied| is_gone(&applied.outcome)).map(|applied| &applied.removal.tag).collect();
    let left = repository.tags.iter().filter(|tag| !gone.contains(&tag.name));
    closure(repository, left.filter_map(|tag| tag.digest.clone()).collect())
}

/// The digests given and everything that their indexes contain.
pub(super) fn closure(repository: &Repository, mut open: Vec<Digest>) -> BTreeSet<Digest> {
    let mut reached = BTreeSet::new();
    while let Some(digest) = open.pop() {
        if let Some(manifest) = repository.manifests.get(&digest) {
            open.extend(manifest.children.iter().filter(|child| !reached.contains(*child)).cloned());
        }
        reached.insert(digest);
    }
    reached
}
