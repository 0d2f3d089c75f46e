//! Explanations of a tag or a repository: as it is now, or as a past run saw it.

use jiff::Timestamp;

use super::history::is_removed;
use super::lookup::{LAST_RUN, RECENT_RUNS};
use super::{App, Decision, ManifestRef, RunError, TagRef};
use crate::domain::{Digest, Failure, RegistryName, RepositoryName, TagPosition};
use crate::engine;
use crate::report::{
    self, EntryView, ManifestTraceView, PlanDocument, PlanLoadError, RemovedTagView, RunView, TagTraceView,
    TimelineView, format_minute,
};
use crate::state::{JournalEntry, RunRecord};

/// A past run: its decisions and its actions.
#[derive(Debug)]
pub struct PastRun {
    /// The record of the run.
    pub record: RunRecord,
    /// Its plan; `None` if it is no longer stored, or the run made none.
    pub document: Option<PlanDocument>,
    /// False if the plan is stored without its retained tags, as all but the last full plan are.
    pub keeps_kept: bool,
    /// Its journal.
    pub journal: Vec<JournalEntry>,
    /// Its view, entry by entry.
    pub view: RunView,
}

impl App {
    /// Returns the outcome of each rule for a decided tag, with a forecast.
    #[must_use]
    pub fn rule_trace(&self, decision: &Decision, named: &TagRef) -> Option<TagTraceView> {
        let at = position_of(decision, named)?;
        let (inventory, now) = (&decision.inventory, decision.document.evaluated_at);
        report::rule_trace(&self.rules(), inventory, &decision.claims, now, at)
    }

    /// Returns the timeline of a decided repository.
    #[must_use]
    pub fn timeline(&self, decision: &Decision, named: &TagRef) -> Option<TimelineView> {
        let Decision { inventory, claims, verdicts, document, .. } = decision;
        let place = (&named.registry, &named.repository);
        report::timeline(&self.rules(), inventory, claims, verdicts, document.evaluated_at, place)
    }

    /// Returns the removal of a tag that does not exist, and the state of its manifest; `None` if Tagwarden did not
    /// remove it.
    ///
    /// # Errors
    /// Returns an error if the state or the registry cannot be read.
    pub async fn removed_tag(&self, decision: &Decision, named: &TagRef) -> Result<Option<RemovedTagView>, RunError> {
        let (TagRef { registry, repository, tag: Some(tag) }, now) = (named, decision.document.evaluated_at) else {
            return Ok(None);
        };
        // A tag that was restored and is missing all the same was removed by somebody else.
        if !is_removed(&self.store.journal_of_tag(registry, repository, tag).await?) {
            return Ok(None);
        }
        let Some(entry) = self.last_removal(registry, repository, tag).await? else { return Ok(None) };
        let digest = &entry.intent.digest;
        let eligible = decision.document.deletions.eligible.iter().find(|one| one.digest == digest.to_string());
        let manifest = if let Some(found) = eligible {
            format!("may be deleted since {}: it {}", format_minute(found.eligible_at), found.describe())
        } else if let Some(deleted) = self.store.last_deletion(registry, repository, digest).await? {
            let at = deleted.outcome.as_ref().map(|(_, at)| format_minute(*at)).unwrap_or_default();
            format!("was deleted {at}, in run {}", deleted.run)
        } else if !self.has_manifest(registry, repository, digest).await? {
            "is not in the registry any more, and Tagwarden did not delete it".to_owned()
        } else {
            match self.retained_until(registry, repository, digest, now).await? {
                Some(until) => {
                    format!("stays until {} at least, and then goes if nothing uses it", format_minute(until))
                }
                None => "is still there, and no policy has it deleted".to_owned(),
            }
        };
        Ok(Some(RemovedTagView::new(&entry, manifest)))
    }

    /// What becomes of a manifest of a repository that was decided about, and why.
    #[must_use]
    pub fn manifest_trace(&self, decision: &Decision, named: &ManifestRef) -> ManifestTraceView {
        let ManifestRef { registry, repository, digest } = named;
        let there = decision.inventory.registry(registry.as_str());
        let found = there.and_then(|there| Some((there, there.repository(repository.as_str())?)));
        let trace = found.and_then(|facts| {
            let (rules, at) = (&decision.grounds.rules, decision.grounds.evaluated_at);
            let records = decision.grounds.candidates.records();
            engine::trace_manifest(rules, facts, &decision.claims, records, digest, at)
        });
        ManifestTraceView::new((registry, repository), found.map(|(_, repository)| repository), digest, trace.as_ref())
    }

    async fn has_manifest(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, RunError> {
        let Some(reader) = self.readers.get(registry) else { return Ok(false) };
        Ok(reader.has_manifest(repository, digest).await?)
    }

    /// Returns the last run with a plan, whatever ran since; the last of all where no recent one has any.
    async fn last_deciding_run(&self) -> Result<RunRecord, RunError> {
        let recent = self.store.runs(RECENT_RUNS).await?;
        match recent.into_iter().find(|record| record.plan_id.is_some()) {
            Some(record) => Ok(record),
            None => self.run_record(LAST_RUN).await,
        }
    }

    /// Returns the decisions and actions of a past run. If its plan is no longer stored, the journal shows its actions.
    ///
    /// # Errors
    /// Returns an error if there is no such run, if it made no plan and took no action, or if the state cannot be read.
    pub async fn past_run(&self, id: &str) -> Result<PastRun, RunError> {
        let record = match id {
            LAST_RUN => self.last_deciding_run().await?,
            id => self.run_record(id).await?,
        };
        let run = record.run.id;
        let document = report::load_plan(&self.store, run).await.map_err(|error| match error {
            PlanLoadError::State(error) => error.into(),
            PlanLoadError::Unreadable { run, cause } => {
                let message = format!("the plan of run {run} cannot be read by this version");
                RunError::Usage(Failure::new((), message).caused_by(cause))
            }
        })?;
        let keeps_kept = self.store.plan_chunks(run).await?.iter().all(|chunk| chunk.has_kept);
        let journal = self.store.journal(run).await?;
        let (view, _) = self.run_report(&run.to_string()).await?;
        if document.is_none() && journal.is_empty() && !view.is_plan_pruned() {
            return Err(RunError::usage(format!("run {run} ended before it had a plan, and did nothing")));
        }
        Ok(PastRun { record, document, keeps_kept, journal, view })
    }
}

/// Returns the position of a tag in the inventory.
fn position_of(decision: &Decision, named: &TagRef) -> Option<TagPosition> {
    let inventory = &decision.inventory;
    let position = |at: usize| u32::try_from(at).ok();
    let registry = inventory.registries.iter().position(|registry| registry.name == named.registry)?;
    let repositories = &inventory.registries[registry].repositories;
    let repository = repositories.iter().position(|repository| repository.name == named.repository)?;
    let tag = repositories[repository].tags.iter().position(|tag| Some(&tag.name) == named.tag.as_ref())?;
    Some(TagPosition { registry: position(registry)?, repository: position(repository)?, tag: position(tag)? })
}

impl PastRun {
    /// Returns the time of the decision.
    #[must_use]
    pub fn evaluated_at(&self) -> Timestamp {
        self.document.as_ref().map_or(self.record.run.started_at, |document| document.evaluated_at)
    }

    /// Returns the journal entries for a tag, in order.
    pub fn entries<'a>(&'a self, named: &'a TagRef) -> impl Iterator<Item = &'a EntryView> {
        self.view.entries().iter().filter(|entry| {
            entry.registry == named.registry.as_str()
                && entry.repository == named.repository.as_str()
                && named.tag.as_ref().is_none_or(|tag| tag.as_str() == entry.tag)
        })
    }
}
