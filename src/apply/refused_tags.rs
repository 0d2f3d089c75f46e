//! Tags that a registry refuses to remove: reported, recorded, and retried less and less often.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::{ApplyContext, CircuitBreaker};
use crate::domain::{RefusedTag, Removal, RemovalMethod, RepositoryName, TagName};
use crate::registry::{RegistryError, RegistryErrorKind};
use crate::state::{DeletionResponse, RemovalRefusal, StateError, UntagExperience};

/// The number of tags, all refused as unsupported and none removed, that shows that the registry cannot untag.
const MIN_UNSUPPORTED: usize = 3;

/// The refusals of one registry: those of earlier runs, and those of this run.
#[derive(Debug)]
pub(super) struct RefusedTags {
    endpoint: String,
    known: BTreeMap<(RepositoryName, TagName), RefusedTag>,
    new: Mutex<Vec<(RemovalRefusal, RegistryErrorKind)>>,
    /// Tags that the registry called locked.
    locked: Mutex<Vec<(RemovalRefusal, RegistryErrorKind)>>,
}

impl RefusedTags {
    /// Loads those of earlier runs.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    pub(super) async fn load(context: &ApplyContext, endpoint: &str) -> Result<Self, StateError> {
        let known = context.store.refused_tags(endpoint).await?;
        let known = known.into_iter().map(|tag| ((tag.repository.clone(), tag.tag.clone()), tag)).collect();
        Ok(Self { endpoint: endpoint.to_owned(), known, new: Mutex::default(), locked: Mutex::default() })
    }

    /// Returns the refusal of this removal in an earlier run, at the current digest.
    pub(super) fn find(&self, removal: &Removal) -> Option<&RefusedTag> {
        let known = self.known.get(&(removal.repository.clone(), removal.tag.clone()))?;
        (known.digest == removal.digest).then_some(known)
    }

    /// Records a refusal. Its cause, tag or registry, is determined at the end of the run.
    pub(super) fn record(&self, removal: &Removal, error: &RegistryError) {
        Self::push(&self.new, removal, error);
    }

    /// Records a tag that the registry called locked. It counts as refused if all removals of the run met a lock, so that the
    /// next run begins with others.
    pub(super) fn record_lock(&self, removal: &Removal, error: &RegistryError) {
        Self::push(&self.locked, removal, error);
    }

    fn push(list: &Mutex<Vec<(RemovalRefusal, RegistryErrorKind)>>, removal: &Removal, error: &RegistryError) {
        let refusal = RemovalRefusal {
            repository: removal.repository.clone(),
            tag: removal.tag.clone(),
            digest: removal.digest.clone(),
            message: error.chain(),
            is_tag_specific: false,
        };
        list.lock().unwrap_or_else(PoisonError::into_inner).push((refusal, error.kind));
    }

    /// Drops the refusal of a tag that has now been removed.
    ///
    /// # Errors
    /// Returns an error if that cannot be written.
    pub(super) async fn forget(&self, context: &ApplyContext, removal: &Removal) -> Result<(), StateError> {
        if !self.known.contains_key(&(removal.repository.clone(), removal.tag.clone())) {
            return Ok(());
        }
        context.store.forget_refused_tag(&self.endpoint, &removal.repository, &removal.tag).await
    }

    /// Stores the refusals of this run. `able` is true if the registry is known to remove, now or by experience.
    ///
    /// A refusal is specific to the tag if others are removed from its repository, or from the registry. The second
    /// case requires that neither the repository nor the registry was skipped after consecutive refusals.
    ///
    /// # Errors
    /// Returns an error if they cannot be written.
    pub(super) async fn save(
        self,
        context: &ApplyContext,
        breaker: &CircuitBreaker,
        able: bool,
        method: RemovalMethod,
    ) -> Result<(), StateError> {
        let mut met = self.new.into_inner().unwrap_or_else(PoisonError::into_inner);
        if breaker.is_tripped() && !breaker.has_removed() {
            met.append(&mut self.locked.into_inner().unwrap_or_else(PoisonError::into_inner));
        }
        if met.is_empty() {
            return Ok(());
        }
        let now = (context.clock)();
        let unsupported = met.iter().all(|(_, kind)| *kind == RegistryErrorKind::Unsupported);
        if !breaker.has_removed() && unsupported && met.len() >= MIN_UNSUPPORTED {
            let (store, answer) = (&context.store, DeletionResponse::Unsupported);
            match method {
                RemovalMethod::Untag => {
                    store.record_untag_experience(&self.endpoint, UntagExperience::Unsupported, now).await?;
                }
                RemovalMethod::DeleteManifest => {
                    store.record_deletion_response(&self.endpoint, method, answer, now).await?;
                }
            }
        }
        for (refusal, _) in &mut met {
            let of_the_others = able && !breaker.is_tripped_for(&refusal.repository);
            refusal.is_tag_specific = of_the_others || breaker.has_removed_from(&refusal.repository);
        }
        let met: Vec<RemovalRefusal> = met.into_iter().map(|(refusal, _)| refusal).collect();
        context.store.record_refused_tags(&self.endpoint, &met, now).await
    }
}
