//! What removing one tag would free. Blobs are shared across repositories, so a look at one repository cannot tell: the
//! last plan of everything counted them.

use std::io;

use serde::Deserialize;

use super::{App, Decision, RunError, TagRef};
use crate::report::{RemovalView, SizeView};
use crate::state::PlanChunk;

/// The part of a removal in a plan that is read.
#[derive(Deserialize)]
struct RemovalSize {
    tag: String,
    digest: String,
    reclaimable_bytes: Option<u64>,
    #[serde(default)]
    shared_bytes: Option<u64>,
}

impl App {
    /// What removing a tag would free: by the last plan of everything, where that has the removal at the same digest, else
    /// by its repository alone. `None` where the tag does not go.
    ///
    /// # Errors
    /// When the state cannot be read.
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

    /// What the last plan of everything says of a removal.
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
            // A plan that cannot be read, such as one of another version, counts nothing.
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
