//! What people name: a run by the beginning of its id, a tag by a reference.

use super::{House, RunError};
use crate::domain::{ImageReference, RegistryName, RepositoryName, TagName};
use crate::registry;
use crate::report::{PlanDocument, RunView};
use crate::store::{RunRecord, StoreErrorKind};

impl House {
    /// The record of the run whose id begins so.
    ///
    /// # Errors
    /// When none or several begin so, or the state cannot be read.
    pub async fn run_record(&self, id: &str) -> Result<RunRecord, RunError> {
        let found = match self.store.run(id).await {
            Err(error) if error.kind == StoreErrorKind::Ambiguous => return Err(RunError::Usage(error.to_string())),
            found => found?,
        };
        found.ok_or_else(|| RunError::Usage(format!("no run {id}; `tagwarden runs` lists them")))
    }

    /// The run whose id begins so with everything it did, and its plan where that is still kept.
    ///
    /// # Errors
    /// When none or several begin so, or the state cannot be read.
    pub async fn run_report(&self, id: &str) -> Result<(RunView, Option<PlanDocument>), RunError> {
        let record = self.run_record(id).await?;
        let journal = self.store.journal(record.run.id).await?;
        let plan = self.store.plan_document(record.run.id).await?;
        // A plan of another version is no reason not to show what was done.
        let plan = plan.and_then(|plan| serde_json::from_str(&plan).ok());
        let circumstances = self.store.circumstances(record.run.id).await?;
        Ok((RunView::new(&record, &journal).under(circumstances), plan))
    }

    /// The registry, repository and tag that an image reference or `REGISTRY/REPOSITORY:TAG` names.
    ///
    /// # Errors
    /// When it names none of the configured registries, or no tag.
    pub fn find_image(&self, image: &str) -> Result<(RegistryName, RepositoryName, TagName), RunError> {
        let usage = |why: String| RunError::Usage(format!("`{image}`: {why}"));
        for settings in &self.settings.registries {
            let by_name = image.strip_prefix(settings.name.as_str()).and_then(|rest| rest.strip_prefix('/'));
            let reference: ImageReference = by_name
                .unwrap_or(image)
                .parse()
                .map_err(|error: crate::domain::InvalidReference| usage(error.to_string()))?;
            let here = by_name.is_some() && reference.host.is_none()
                || reference.host.is_some() && reference.may_name_registry(&registry::hosts(settings))
                || reference.host.is_none() && self.settings.registries.len() == 1;
            if here {
                let repository = reference.repository.ok_or_else(|| usage("it names no repository".to_owned()))?;
                let tag = reference.tag.ok_or_else(|| usage("it names no tag".to_owned()))?;
                return Ok((settings.name.clone(), repository, tag));
            }
        }
        let known: Vec<String> = self.settings.registries.iter().flat_map(registry::hosts).collect();
        Err(usage(format!("no configured registry is meant by it; known hosts: {}", known.join(", "))))
    }
}
