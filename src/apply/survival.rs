//! Survival of manifests: whether a registry keeps the manifest of a removed tag, and the reaction if not.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;

use super::{RepositoryContext, absence};
use crate::domain::{Removal, TagName};
use crate::registry::RegistryError;
use crate::state::{StateError, UntagExperience};

/// The knowledge whether manifests of a registry survive the removal of their last tag.
#[derive(Debug)]
pub(super) struct Survival {
    known: AtomicBool,
    /// True if an untag of this run or of an earlier one showed it.
    observed: AtomicBool,
    /// Held by the one removal that may remove an image's last tag while that is unknown.
    pub(super) last_tag_lock: Mutex<()>,
}

impl Survival {
    /// Creates the knowledge, as known if survival was observed, or if nothing can show it: the registry deletes untagged
    /// manifests at once, which the settings accept.
    pub(super) fn new(observed: bool, deleted_at_once: bool) -> Self {
        let known = AtomicBool::new(observed || deleted_at_once);
        Self { known, observed: AtomicBool::new(observed), last_tag_lock: Mutex::default() }
    }

    pub(super) fn is_observed(&self) -> bool {
        self.observed.load(Ordering::Acquire)
    }

    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }
}

/// Checks that a manifest survived the removal of one of its tags; `last` is true if it has no other one. If not,
/// restores its tags and returns what happened.
///
/// # Errors
/// Returns an error if the state cannot be written.
pub(super) async fn verify_survival(
    context: &RepositoryContext<'_>,
    removal: &Removal,
    last: bool,
) -> Result<Option<String>, StateError> {
    let digest = &removal.digest;
    let store = &context.context.store;
    match has_survived(context, removal).await {
        Ok(true) => {
            if last {
                store
                    .record_untag_experience(&context.endpoint, UntagExperience::ManifestSurvives, context.now())
                    .await?;
                context.survival.observed.store(true, Ordering::Release);
                context.survival.known.store(true, Ordering::Release);
            }
            Ok(None)
        }
        Err(error) => {
            let why = format!("it could not be seen whether a manifest survived its untag: {}", error.chain());
            context.breaker.trip(why);
            Ok(None)
        }
        Ok(false) => {
            let settings = context.registry.reader.settings();
            let mut why = format!(
                "an untag in {} destroyed the manifest {digest}: this registry deletes manifests with their tags",
                context.repository.name
            );
            if settings.accepted.retention {
                let name = &settings.name;
                let cleanup =
                    format!("its own cleanup ran in that instant; then run `tagwarden registries forget {name}`");
                why = format!("{why}, or {cleanup}");
            }
            context.breaker.trip(why.clone());
            store.record_untag_experience(&context.endpoint, UntagExperience::ManifestDestroyed, context.now()).await?;
            let journaled = store.last_removal(&removal.registry, &removal.repository, &removal.tag).await?;
            let Some(entry) = journaled else { return Ok(Some(why)) };
            let manifest = store.manifest_of(&entry).await?;
            let tags = context.repository.tags.iter().filter(|tag| tag.digest.as_ref() == Some(digest));
            let tags: Vec<TagName> = tags.map(|tag| tag.name.clone()).collect();
            let missing = context.restore_tags(digest, Some(&manifest), &tags).await?;
            Ok(Some(if missing.is_empty() {
                format!("{why}; it was put back under every tag that it had")
            } else {
                let missing: Vec<&str> = missing.iter().map(TagName::as_str).collect();
                format!("{why}; it could not be put back as {}: see `tagwarden runs show`", missing.join(", "))
            }))
        }
    }
}

/// Returns true if the manifest of a removed tag still exists. One that is not found is looked up again: a mark as
/// destructive is permanent, and a 404 may be transient.
async fn has_survived(context: &RepositoryContext<'_>, removal: &Removal) -> Result<bool, RegistryError> {
    let (reader, repository) = (&*context.registry.reader, &context.repository.name);
    let Removal { tag, digest, .. } = removal;
    if reader.keeps_removed(repository, tag, digest).await? {
        return Ok(true);
    }
    for pause in context.context.retry_policy.pauses(context.context.retry_policy.max_staleness).take(2) {
        context.pause(pause).await;
        if reader.keeps_removed(repository, tag, digest).await? {
            return Ok(true);
        }
    }
    // A repository that does not answer at all proves nothing about a manifest. One that was deleted with its last
    // manifest is missing from the catalogue.
    let gone = absence::is_manifest_absent(reader, repository, digest).await;
    match gone {
        Ok(false) => reader.keeps_removed(repository, tag, digest).await,
        Ok(true) => Ok(false),
        Err(error) => Err(error),
    }
}
