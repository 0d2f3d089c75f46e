//! The bytes that removing one tag would free. Blobs are shared across repositories, so one repository is not enough:
//! the last full plan counted them.

use std::io;

use serde::Deserialize;

use super::{App, Decision, RunError, TagRef};
use crate::report::{RemovalView, SizeView};
use crate::state::PlanChunk;

/// The fields of a removal in a plan that are read.
#[derive(Deserialize)]
struct RemovalSize {
    tag: String,
    digest: String,
    reclaimable_bytes: Option<u64>,
    #[serde(default)]
    shared_bytes: Option<u64>,
}

impl App {
    /// Returns the bytes that removing a tag would free: by the last full plan, if that has the removal at the same
    /// digest, else by its repository alone. `None` if the tag is not to be removed.
    ///
    /// # Errors
    /// Returns an error if the state cannot be read.
    pub async fn removal_size(&self, decision: &Decision, named: &TagRef) -> Result<Option<SizeView>, RunError> {
        let Some(tag) = &named.tag else { return Ok(None) };
        let place = (named.registry.as_str(), named.repository.as_str(), tag.as_str());
        let removals = decision.document.removals.iter();
        let mut removals = removals.filter(|found| (&*found.registry, &*found.repository, &*found.tag) == place);
        let Some(removal) = removals.next() else { return Ok(None) };
        if let Some(counted) = self.recorded_size(&removal).await? {
            return Ok(Some(counted));
        }
        let RemovalView { reclaimable_bytes, shared_bytes, .. } = *removal;
        Ok(Some(SizeView { reclaimable_bytes, shared_bytes, counted_by: None }))
    }

    /// Returns the size of a removal in the last full plan.
    async fn recorded_size(&self, removal: &RemovalView) -> Result<Option<SizeView>, RunError> {
        let Some(run) = self.store.last_whole_plan().await? else { return Ok(None) };
        for info in self.store.plan_chunks(run).await? {
            if info.registry != removal.registry || info.repository != removal.repository || info.counts.expired == 0 {
                continue;
            }
            let Some(chunk) = self.store.plan_chunk(run, info.ordinal).await? else { continue };
            let read = tokio::task::spawn_blocking(move || {
                Ok::<Vec<RemovalSize>, io::Error>(serde_json::from_slice(&PlanChunk::json(&chunk.removals)?)?)
            });
            // An unreadable plan, such as one of another version, has no sizes.
            let Ok(Ok(removals)) = read.await else { continue };
            let found =
                removals.into_iter().find(|found| (&found.tag, &found.digest) == (&removal.tag, &removal.digest));
            if let Some(RemovalSize { reclaimable_bytes, shared_bytes, .. }) = found {
                let counted_by = Some(run.to_string());
                return Ok(Some(SizeView { reclaimable_bytes, shared_bytes, counted_by }));
            }
        }
        Ok(None)
    }
}
