//! What it takes to explain a tag or a repository: as it is now, or as a run of the past saw it.

use jiff::Timestamp;

use super::{Decision, House, RunError};
use crate::domain::{ImageReference, RegistryName, RepositoryName, TagAt, TagName};
use crate::registry;
use crate::report::{self, PlanDocument, TimelineView, WeighedView};
use crate::store::{JournalEntry, RunRecord};

/// A repository, or one tag of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The registry.
    pub registry: RegistryName,
    /// The repository.
    pub repository: RepositoryName,
    /// The tag, where one is named.
    pub tag: Option<TagName>,
}

/// A run of the past: what it decided, and what it did.
#[derive(Debug)]
pub struct Recalled {
    /// The record of the run.
    pub record: RunRecord,
    /// Its plan.
    pub document: PlanDocument,
    /// What it did.
    pub journal: Vec<JournalEntry>,
}

impl House {
    /// The repository, or the tag, that an image reference or `REGISTRY/REPOSITORY[:TAG]` names.
    ///
    /// # Errors
    /// When it names none of the configured registries.
    pub fn find_named(&self, text: &str) -> Result<Named, RunError> {
        let usage = |why: String| RunError::Usage(format!("`{text}`: {why}"));
        for settings in &self.settings.registries {
            let by_name = text.strip_prefix(settings.name.as_str()).and_then(|rest| rest.strip_prefix('/'));
            let reference =
                ImageReference::as_written(by_name.unwrap_or(text)).map_err(|error| usage(error.problem))?;
            let here = by_name.is_some() && reference.host.is_none()
                || reference.host.is_some() && reference.may_name_registry(&registry::hosts(settings))
                || reference.host.is_none() && self.settings.registries.len() == 1;
            if here {
                if reference.tag.is_none() && reference.digest.is_some() {
                    return Err(usage("it names a digest; name a tag or a repository".to_owned()));
                }
                let repository = reference.repository.ok_or_else(|| usage("it names no repository".to_owned()))?;
                return Ok(Named { registry: settings.name.clone(), repository, tag: reference.tag });
            }
        }
        let known: Vec<String> = self.settings.registries.iter().flat_map(registry::hosts).collect();
        Err(usage(format!("no configured registry is meant by it; known hosts: {}", known.join(", "))))
    }

    /// What each rule says of a tag that was decided about, and what time alone will make of it.
    #[must_use]
    pub fn weighed(&self, decision: &Decision, named: &Named) -> Option<WeighedView> {
        let at = place(decision, named)?;
        let (inventory, now) = (&decision.inventory, decision.document.evaluated_at);
        report::weighed(&self.rules(), inventory, &decision.claims, now, at)
    }

    /// The timeline of a repository that was decided about.
    #[must_use]
    pub fn timeline(&self, decision: &Decision, named: &Named) -> Option<TimelineView> {
        let Decision { inventory, claims, verdicts, document, .. } = decision;
        let place = (&named.registry, &named.repository);
        report::timeline(&self.rules(), inventory, claims, verdicts, document.evaluated_at, place)
    }

    /// What a run of the past decided and did.
    ///
    /// # Errors
    /// When there is no such run, it made no plan, or the state cannot be read.
    pub async fn recall(&self, id: &str) -> Result<Recalled, RunError> {
        let record = self.run_record(id).await?;
        let run = record.run.id;
        let text = self.store.plan_document(run).await?;
        let none = || RunError::Usage(format!("run {run} has no plan: it ended before it had one, or made none"));
        let text = text.ok_or_else(none)?;
        let document = serde_json::from_str(&text)
            .map_err(|error| RunError::Usage(format!("the plan of run {run} cannot be read: {error}")))?;
        let journal = self.store.journal(run).await?;
        Ok(Recalled { record, document, journal })
    }
}

/// Where a tag stands in what was read.
fn place(decision: &Decision, named: &Named) -> Option<TagAt> {
    let inventory = &decision.inventory;
    let position = |at: usize| u32::try_from(at).ok();
    let registry = inventory.registries.iter().position(|registry| registry.name == named.registry)?;
    let repositories = &inventory.registries[registry].repositories;
    let repository = repositories.iter().position(|repository| repository.name == named.repository)?;
    let tag = repositories[repository].tags.iter().position(|tag| Some(&tag.name) == named.tag.as_ref())?;
    Some(TagAt { registry: position(registry)?, repository: position(repository)?, tag: position(tag)? })
}

impl Recalled {
    /// What was done about a tag, in order.
    pub fn done<'a>(&'a self, named: &'a Named) -> impl Iterator<Item = &'a JournalEntry> {
        self.journal.iter().filter(|entry| {
            entry.intent.registry == named.registry
                && entry.intent.repository == named.repository
                && named.tag.as_ref().is_none_or(|tag| *tag == entry.intent.tag)
        })
    }

    /// When it was decided.
    #[must_use]
    pub fn evaluated_at(&self) -> Timestamp {
        self.document.evaluated_at
    }
}
