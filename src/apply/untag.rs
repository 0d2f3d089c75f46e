//! Removals that take the tag alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use tokio::sync::OnceCell;

use super::{AfterFailure, Applied, MOST_TRIES, Order, Site, after_failure, intent};
use crate::domain::{Digest, Moment, Outcome, Removal, RemovalMethod, Repository, Skip, TagName, TagNow};
use crate::registry::{RawManifest, Removed};
use crate::store::StoreError;

/// Carries out all orders of one repository.
///
/// The first goes alone, and then the registry is asked whether the manifest is still there. Only if it is, the others
/// follow. Signatures and the like come last, and only if nothing any more names the image that they accompany.
pub(super) async fn repository(site: &Site<'_>, orders: Vec<Order>) -> Result<Vec<Applied>, StoreError> {
    let (companions, mut images): (Vec<Order>, Vec<Order>) =
        orders.into_iter().partition(|order| order.removal.companion_of.is_some());
    // An image that loses all its tags anyway is the one on which a surprise would do least harm.
    let staying = staying_digests(site.repository, &images);
    // The tags of an image one after the other, so that its manifest is fetched once and held no longer than needed.
    let mut firsts = HashMap::new();
    for (position, order) in images.iter().enumerate() {
        firsts.entry(order.removal.digest.clone()).or_insert(position);
    }
    images.sort_by_key(|order| (staying.contains(&order.removal.digest), firsts.get(&order.removal.digest).copied()));
    let mut images = images.into_iter();
    let mut manifests = Manifests::default();
    let mut applied = Vec::new();
    for order in images.by_ref() {
        let manifest = manifests.of(&order.removal.digest);
        let mut done = one(site, order, &manifest, Trust::Look).await?;
        let removed = matches!(done.outcome, Outcome::Done(_));
        if removed && let Some(why) = verify_survival(site, &done.removal).await? {
            done.outcome = Outcome::Failed(why);
        }
        applied.push(done);
        if removed {
            break;
        }
    }
    // Twice as many as have a turn at once: the others fetch their manifests meanwhile, or write down what came of them.
    let at_once = 2 * site.target.reader.settings().concurrency.max(1);
    let rest = images.map(|order| {
        let manifest = manifests.of(&order.removal.digest);
        async move { one(site, order, &manifest, Trust::Answers).await }
    });
    let mut rest = stream::iter(rest).buffer_unordered(at_once);
    while let Some(done) = rest.next().await {
        applied.push(done?);
    }
    drop(rest);
    companions_last(site, companions, &mut applied).await?;
    Ok(applied)
}

/// The digests of tags that no order removes.
fn staying_digests(repository: &Repository, orders: &[Order]) -> BTreeSet<Digest> {
    let going: BTreeSet<&TagName> = orders.iter().map(|order| &order.removal.tag).collect();
    repository.tags.iter().filter(|tag| !going.contains(&tag.name)).filter_map(|tag| tag.digest.clone()).collect()
}

/// Whether a registry's word that a tag is removed is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// It is: an earlier one was true.
    Answers,
    /// The tag is looked at.
    Look,
}

/// A manifest that is fetched by the first removal that needs it.
type FetchedOnce = Arc<OnceCell<Option<RawManifest>>>;

/// The manifest of the digest that removals were at last.
#[derive(Default)]
struct Manifests(Option<(Digest, FetchedOnce)>);

impl Manifests {
    fn of(&mut self, digest: &Digest) -> FetchedOnce {
        match &self.0 {
            Some((last, fetched)) if last == digest => Arc::clone(fetched),
            _ => Arc::clone(&self.0.insert((digest.clone(), FetchedOnce::default())).1),
        }
    }
}

/// One removal, from intent to outcome.
async fn one(site: &Site<'_>, order: Order, fetched: &FetchedOnce, trust: Trust) -> Result<Applied, StoreError> {
    if let Some(skip) = site.stopped() {
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
            site.brake.failed(&error);
            let why = format!("its manifest could not be read, so the removal could not be undone: {}", error.message);
            return site.note(order, Outcome::Failed(why)).await;
        }
    };
    let turn = site.turn().await;
    // It may have been long in coming.
    if let Some(skip) = site.stopped() {
        return site.note(order, Outcome::Skipped(skip)).await;
    }
    let intent = intent(site.hands, &order, manifest.media_type.clone());
    let id = match site.hands.intend(&intent, manifest).await? {
        Ok(id) => id,
        Err(skip) => return site.note(order, Outcome::Skipped(skip)).await,
    };
    let outcome = untag(site, &order, trust).await;
    drop(turn);
    let outcome = match outcome {
        AfterFailure::Known(outcome) => outcome,
        AfterFailure::Unknown(why) => {
            let outcome = Outcome::Failed(format!("{why}; settled at the next start"));
            return Ok(Applied { removal: order.removal, outcome });
        }
    };
    site.hands.store.settle(id, &outcome, site.now()).await?;
    log(site, &order.removal, &outcome);
    Ok(Applied { removal: order.removal, outcome })
}

/// Looks at the tag and removes it. A tag cannot be removed on the condition that it has not moved, so the look comes
/// right before each request, and again after each pause.
async fn untag(site: &Site<'_>, order: &Order, trust: Trust) -> AfterFailure {
    let Removal { repository, tag, digest, .. } = &*order.removal;
    let mut tries = 1;
    loop {
        let clearance = match site.target.writer.ready(repository).await {
            Ok(clearance) => clearance,
            Err(error) => {
                site.brake.failed(&error);
                return AfterFailure::Known(Outcome::Failed(error.message));
            }
        };
        match site.target.reader.resolve(repository, tag).await {
            Ok(Some(now)) => {
                if let Some(skip) = unlike(site, &order.removal, &now) {
                    return AfterFailure::Known(Outcome::Skipped(skip));
                }
            }
            Ok(None) => return AfterFailure::Known(Outcome::Skipped(Skip::Gone)),
            Err(error) => {
                site.brake.failed(&error);
                let why = format!("the tag could not be read again: {}", error.message);
                return AfterFailure::Known(Outcome::Failed(why));
            }
        }
        return match site.target.writer.untag(repository, tag, clearance).await {
            Ok(Removed::Done { evidence, named }) => {
                site.brake.succeeded();
                if let Some(moved) = named.filter(|named| named != digest) {
                    return put_right(site, order, &moved, &evidence).await;
                }
                if trust == Trust::Look {
                    confirmed(site, order, Outcome::Done(evidence)).await
                } else {
                    AfterFailure::Known(Outcome::Done(evidence))
                }
            }
            Ok(Removed::AlreadyGone) => confirmed(site, order, Outcome::Skipped(Skip::Gone)).await,
            Err(error) if error.wants_another_look() && tries < MOST_TRIES => {
                if let Some(skip) = site.stopped() {
                    return AfterFailure::Known(Outcome::Skipped(skip));
                }
                tries += 1;
                continue;
            }
            Err(error) => {
                site.brake.failed(&error);
                after_failure(site, order, error).await
            }
        };
    }
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
async fn put_right(site: &Site<'_>, order: &Order, moved: &Digest, evidence: &str) -> AfterFailure {
    let Removal { repository, tag, digest, .. } = &*order.removal;
    let what = format!("the tag moved from {digest} to {moved} in the instant of its removal ({evidence})");
    let manifest = match site.target.reader.manifest(repository, moved).await {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return AfterFailure::Known(Outcome::Failed(format!("{what}, and that manifest is not there"))),
        Err(error) => {
            let why = format!("{what}, and it could not be put back: {}", error.message);
            return AfterFailure::Known(Outcome::Failed(why));
        }
    };
    match site.put_back(&manifest, std::slice::from_ref(tag)).await {
        Ok(lost) if lost.is_empty() => AfterFailure::Known(Outcome::Skipped(Skip::PutBack(what))),
        Ok(_) => AfterFailure::Known(Outcome::Failed(format!(
            "{what}, and it could not be put back: push {moved} to {repository}:{tag} again"
        ))),
        Err(error) => AfterFailure::Unknown(format!("{what}; {}", error.message)),
    }
}

/// The outcome that the registry gave, unless the tag is still there all the same.
async fn confirmed(site: &Site<'_>, order: &Order, outcome: Outcome) -> AfterFailure {
    let Removal { repository, tag, digest, .. } = &*order.removal;
    match site.target.reader.resolve(repository, tag).await {
        Ok(Some(now)) if now.digest == *digest => {
            let said =
                if matches!(outcome, Outcome::Done(_)) { "that it removed the tag" } else { "that the tag is gone" };
            let why = format!("the registry said {said}, and {repository}:{tag} is still there");
            site.brake.stop(why.clone());
            AfterFailure::Unknown(why)
        }
        _ => AfterFailure::Known(outcome),
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

/// After the first untag in a repository: is the manifest still there? Some registries delete it with a tag. Says so then,
/// and what became of the tags. Where the settings accept that the registry's retention policy deletes untagged
/// manifests, one that is gone says nothing about untags.
async fn verify_survival(site: &Site<'_>, removal: &Removal) -> Result<Option<String>, StoreError> {
    if site.target.reader.settings().accepts_retention {
        return Ok(None);
    }
    let digest = &removal.digest;
    match site.target.reader.has_manifest(&site.repository.name, digest).await {
        Ok(true) => Ok(None),
        Err(error) => {
            let why = format!("it could not be seen whether a manifest survived its untag: {}", error.message);
            site.brake.stop(why);
            Ok(None)
        }
        Ok(false) => {
            let why = format!(
                "an untag in {} destroyed the manifest {digest}: this registry deletes manifests with their tags",
                site.repository.name
            );
            site.brake.stop(why.clone());
            site.hands.store.mark_destroys(site.registry(), site.now()).await?;
            let journaled = site.hands.store.last_removal(&removal.registry, &removal.repository, &removal.tag).await?;
            let Some(entry) = journaled else { return Ok(Some(why)) };
            let manifest = site.hands.store.manifest_of(&entry).await?;
            let tags = site.repository.tags.iter().filter(|tag| tag.digest.as_ref() == Some(digest));
            let tags: Vec<TagName> = tags.map(|tag| tag.name.clone()).collect();
            let lost = site.put_back(&manifest, &tags).await?;
            Ok(Some(if lost.is_empty() {
                format!("{why}; it was put back under every tag that it had")
            } else {
                let lost: Vec<&str> = lost.iter().map(TagName::as_str).collect();
                format!("{why}; it could not be put back as {}: see `tagwarden runs show`", lost.join(", "))
            }))
        }
    }
}

/// A companion goes once nothing that is left names its image, directly or inside an index.
async fn companions_last(
    site: &Site<'_>,
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
            applied.push(one(site, order, &FetchedOnce::default(), Trust::Answers).await?);
        }
        companions = bound;
    }
    Ok(())
}

/// All digests that tags not known to be gone still reach.
fn reachable(repository: &Repository, applied: &[Applied]) -> BTreeSet<Digest> {
    let gone: BTreeSet<&TagName> = applied
        .iter()
        .filter(|applied| matches!(applied.outcome, Outcome::Done(_) | Outcome::Skipped(Skip::Gone)))
        .map(|applied| &applied.removal.tag)
        .collect();
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
