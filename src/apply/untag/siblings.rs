//! Other tags of the same image: some registries may remove them along with one.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use tokio::sync::MutexGuard;

use super::confirmation::removed_with;
use super::{log, record_outcome};
use crate::apply::removal_queue::RemainingTags;
use crate::apply::{ApplyContext, RemovalResult, RepositoryContext, absence};
use crate::domain::{Action, Digest, Intent, Outcome, Removal, SkipReason, TagName};
use crate::registry::RegistryError;
use crate::state::StateError;

/// The first removal of a tag in a repository that leaves another tag of the same image. Others of that kind wait for it.
pub(super) struct SharedRemoval<'a> {
    is_verified: MutexGuard<'a, bool>,
    retained: &'a [TagName],
}

impl<'a> SharedRemoval<'a> {
    /// Returns `None` if no other tag of the image is retained, or if such a removal was verified in the repository already.
    pub(super) async fn begin(
        site: &RepositoryContext<'_>,
        tags: &'a RemainingTags,
        removal: &Removal,
    ) -> Option<Self> {
        let retained = tags.retained_tags(&removal.digest);
        if retained.is_empty() || site.stop_reason().is_some() {
            return None;
        }
        let is_verified = tags.leaves_others.lock().await;
        (!*is_verified).then_some(Self { is_verified, retained })
    }

    /// Checks that a retained tag of the image is still there. If not, stops all further removals in the registry, journals the
    /// tags that went along, puts them back, and returns what happened.
    ///
    /// # Errors
    /// Returns an error if the state cannot be written.
    pub(super) async fn verify(
        mut self,
        site: &RepositoryContext<'_>,
        removal: &Removal,
    ) -> Result<Option<String>, StateError> {
        // A registry that names what it removes is believed.
        if site.returns_digests.load(Ordering::Relaxed) {
            return Ok(None);
        }
        for tag in self.retained {
            match is_left(site, removal, tag).await {
                Ok(Some(true)) => {
                    *self.is_verified = true;
                    return Ok(None);
                }
                // Somebody moved it.
                Ok(None) => {}
                Ok(Some(false)) => return put_back(site, removal, tag).await.map(Some),
                Err(error) => {
                    let why = format!(
                        "it could not be seen whether the removal of a tag left the other tags of its image: {}",
                        error.chain()
                    );
                    site.breaker.trip(why);
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }
}

/// Returns true if a retained tag still names the image, false if it is really absent, and `None` if it has moved.
async fn is_left(
    site: &RepositoryContext<'_>,
    removal: &Removal,
    tag: &TagName,
) -> Result<Option<bool>, RegistryError> {
    let reader = &*site.registry.reader;
    let Removal { repository, digest, .. } = removal;
    let mut pauses = site.context.retry_policy.pauses(site.context.retry_policy.max_staleness).take(2);
    loop {
        if let Some(now) = reader.resolve(repository, tag).await? {
            return Ok((now.digest == *digest).then_some(true));
        }
        match pauses.next() {
            Some(pause) => site.pause(pause).await,
            None => return Ok(Some(!absence::is_tag_absent(reader, repository, tag, digest).await?)),
        }
    }
}

/// Puts back every other tag of the image that does not exist any more. Each is journaled as removed before, so that
/// `restore` can bring it back if this fails.
async fn put_back(site: &RepositoryContext<'_>, removal: &Removal, seen: &TagName) -> Result<String, StateError> {
    let Removal { repository, tag, digest, .. } = removal;
    let why = format!(
        "the removal of {repository}:{tag} took {repository}:{seen} along, which stays and names the same image: this registry \
         removes other tags of an image with one"
    );
    site.breaker.trip(why.clone());
    let others =
        site.repository.tags.iter().filter(|other| other.digest.as_ref() == Some(digest) && other.name != *tag);
    let mut gone = Vec::new();
    for other in others {
        // One that cannot be read is put back: that leaves a tag alone that exists.
        if !matches!(site.registry.reader.resolve(repository, &other.name).await, Ok(Some(_))) {
            gone.push(other.name.clone());
        }
    }
    let manifest = match site.fetch_manifest(digest).await {
        Ok(manifest) => manifest,
        Err(error) => {
            tracing::warn!(%repository, %digest, error = error.chain(), "could not read the image of tags that went along");
            None
        }
    };
    let ApplyContext { store, lease, run, .. } = site.context;
    for other in &gone {
        let intent = Intent {
            action: Action::Remove(removal.method),
            registry: site.registry_name().clone(),
            endpoint: site.context.address(site.registry_name()),
            repository: repository.clone(),
            tag: other.clone(),
            digest: digest.clone(),
            media_type: manifest.as_ref().map_or_else(|| "".into(), |manifest| manifest.media_type.clone()),
            policy: None,
            evidence: "[]".to_owned(),
            date: None,
        };
        let outcome = Outcome::Done(format!("the registry removed it with {tag}, which names the same image"));
        store.record_not_attempted(lease, *run, &intent, &outcome, site.now()).await?;
    }
    let lost = site.restore_tags(digest, manifest.as_ref(), &gone).await?;
    if lost.is_empty() {
        return Ok(format!("{why}; what went along was put back"));
    }
    let lost: Vec<&str> = lost.iter().map(TagName::as_str).collect();
    Ok(format!(
        "{why}; it could not be put back as {}; help: grant the right to push, then `tagwarden restore --run {run}`",
        lost.join(", ")
    ))
}

/// Settles the tags that were gone when their turn came, once the other tags of their images are dealt with. If one of
/// those was removed, the registry may have removed both: then this one counts as removed, so that a restore of the
/// run brings it back.
///
/// # Errors
/// Returns an error if the state cannot be written.
pub(in crate::apply) async fn settle_missing(
    site: &RepositoryContext<'_>,
    tags: &RemainingTags,
    applied: &mut [RemovalResult],
) -> Result<(), StateError> {
    let missing = std::mem::take(&mut *tags.missing.lock().unwrap_or_else(PoisonError::into_inner));
    if missing.is_empty() {
        return Ok(());
    }
    let mut removed: HashMap<Digest, TagName> = HashMap::new();
    for result in applied.iter().filter(|result| matches!(result.outcome, Outcome::Done(_))) {
        removed.entry(result.removal.digest.clone()).or_insert_with(|| result.removal.tag.clone());
    }
    let mut outcomes: HashMap<TagName, Outcome> = HashMap::new();
    for (entry, removal) in missing {
        let outcome = match removed.get(&removal.digest) {
            Some(other) => Outcome::Done(removed_with(other)),
            None => Outcome::Skipped(SkipReason::Missing),
        };
        record_outcome(site, entry, &outcome).await?;
        log(site, &removal, &outcome);
        outcomes.insert(removal.tag.clone(), outcome);
    }
    for result in applied {
        if let Some(outcome) = outcomes.remove(&result.removal.tag) {
            result.outcome = outcome;
        }
    }
    Ok(())
}
