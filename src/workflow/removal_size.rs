//! What removing one tag would free. Blobs are shared across repositories, so a look at one repository cannot tell: the
//! last plan of everything counted them.

use serde::Deserialize;

use super::{App, Decision, RunError, TagRef};
use crate::report::{RemovalView, SizeView};
use crate::state::RunKind;

/// Most runs that are looked through for a plan of everything.
const MAX_RUNS: u32 = 50;

/// What is read of a plan: the sizes of its removals.
#[derive(Deserialize)]
struct PlanSizes {
    hypothetical: bool,
    removals: Vec<RemovalSize>,
}

#[derive(Deserialize)]
struct RemovalSize {
    registry: String,
    repository: String,
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
        for record in self.store.runs(MAX_RUNS).await? {
            if !matches!(record.run.kind, RunKind::Plan | RunKind::Run) || record.plan_id.is_none() {
                continue;
            }
            let Some(reader) = self.store.plan_reader(record.run.id).await? else { continue };
            let read = tokio::task::spawn_blocking(move || {
                serde_json::from_reader::<_, PlanSizes>(std::io::BufReader::with_capacity(64 << 10, reader))
            });
            // A plan that cannot be read, such as one of another version, counts nothing.
            let Ok(Ok(PlanSizes { hypothetical: false, removals })) = read.await else { continue };
            let found = removals.into_iter().find(|found| {
                (&found.registry, &found.repository, &found.tag, &found.digest)
                    == (&removal.registry, &removal.repository, &removal.tag, &removal.digest)
            });
            return Ok(found.map(|RemovalSize { reclaimable_bytes, shared_bytes, .. }| SizeView {
                reclaimable_bytes,
                shared_bytes,
                counted_by: Some(record.run.id.to_string()),
            }));
        }
        Ok(None)
    }
}
