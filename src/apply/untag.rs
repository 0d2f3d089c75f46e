//! Removals that take the tag alone.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt as _};

use super::{AfterFailure, Applied, Order, Site, after_failure, intent};
use crate::domain::{Digest, Outcome, Removal, RemovalMethod, Repository, Skip, TagName};
use crate::registry::Removed;
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
    images.sort_by_key(|order| staying.contains(&order.removal.digest));
    let mut images = images.into_iter();
    let mut applied = Vec::new();
    for order in images.by_ref() {
        let done = one(site, order).await?;
        let removed = matches!(done.outcome, Outcome::Done(_));
        let removal = done.removal.clone();
        applied.push(done);
        if removed {
            verify_survival(site, &removal).await?;
            break;
        }
    }
    let at_once = site.target.reader.settings().concurrency.max(1);
    let mut rest = stream::iter(images.map(|order| one(site, order))).buffer_unordered(at_once);
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

/// One removal, from intent to outcome.
async fn one(site: &Site<'_>, order: Order) -> Result<Applied, StoreError> {
    if let Some(skip) = site.stopped() {
        return site.note(order, Outcome::Skipped(skip)).await;
    }
    if order.removal.method != RemovalMethod::Untag {
        let why = "it was decided as a removal by manifest, and the settings now say `untag`".to_owned();
        return site.note(order, Outcome::Skipped(Skip::Stopped(why))).await;
    }
    let manifest = match site.manifest(&order.removal.digest).await {
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
    let Removal { repository, tag, digest, .. } = &order.removal;
    let intent = intent(&order, manifest.media_type.clone());
    let id = site.hands.store.intend(site.hands.run, &intent, &manifest, site.now()).await?;
    let outcome = match site.target.reader.resolve(repository, tag).await {
        Ok(Some(now)) if now == *digest => match site.target.writer.untag(repository, tag).await {
            Ok(Removed::Done(evidence)) => {
                site.brake.succeeded();
                Outcome::Done(evidence)
            }
            Ok(Removed::AlreadyGone) => Outcome::Skipped(Skip::Gone),
            Err(error) => {
                site.brake.failed(&error);
                match after_failure(site, &order, error).await {
                    AfterFailure::Known(outcome) => outcome,
                    AfterFailure::Unknown(why) => {
                        let why = format!("{why}; settled at the next start");
                        return Ok(Applied { removal: order.removal, outcome: Outcome::Failed(why) });
                    }
                }
            }
        },
        Ok(Some(to)) => Outcome::Skipped(Skip::Moved { to }),
        Ok(None) => Outcome::Skipped(Skip::Gone),
        Err(error) => {
            site.brake.failed(&error);
            Outcome::Failed(format!("the tag could not be read again: {}", error.message))
        }
    };
    site.hands.store.settle(id, &outcome, site.now()).await?;
    log(site, &order.removal, &outcome);
    Ok(Applied { removal: order.removal, outcome })
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

/// After the first untag in a repository: is the manifest still there? Some registries delete it with a tag.
async fn verify_survival(site: &Site<'_>, removal: &Removal) -> Result<(), StoreError> {
    let digest = &removal.digest;
    match site.target.reader.has_manifest(&site.repository.name, digest).await {
        Ok(true) => Ok(()),
        Err(error) => {
            let why = format!("it could not be seen whether a manifest survived its untag: {}", error.message);
            site.brake.stop(why);
            Ok(())
        }
        Ok(false) => {
            let why = format!(
                "an untag in {} destroyed the manifest {digest}: this registry deletes manifests with their tags",
                site.repository.name
            );
            site.brake.stop(why);
            site.hands.store.mark_destroys(site.registry(), site.now()).await?;
            let journaled = site.hands.store.last_removal(&removal.registry, &removal.repository, &removal.tag).await?;
            let Some(entry) = journaled else { return Ok(()) };
            let manifest = site.hands.store.manifest_of(&entry).await?;
            let tags = site.repository.tags.iter().filter(|tag| tag.digest.as_ref() == Some(digest));
            site.put_back(&manifest, tags.map(|tag| &tag.name).collect()).await
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
            applied.push(one(site, order).await?);
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
